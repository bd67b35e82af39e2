/*
 * super — the supervisor: the only file that forks, waits or kills.
 *
 * It keeps between `min` and `max` workers, `spare` of them idle; replaces those that die, with a growing pause while
 * they die young; brings up new ones with a new configuration before it lets the old ones go; and on TERM waits for
 * every request in flight.
 */
#ifndef PAVISE_EDGE_SUPER_H
#define PAVISE_EDGE_SUPER_H

#include "edge/stats.h"

struct super_limits {
	int min, max, spare;
	int64_t grace_ms; /* how long a drain may take */
};

struct super {
	struct stats *stats;
	struct super_limits limits;

	/* Has a file of the configuration changed since it was last loaded? Asked several times a second. */
	bool (*changed)(void);
	/* Loads and validates. True: in force now, *limits filled. False: logged, and nothing has changed. */
	bool (*reload)(struct super_limits *limits);
	/* A worker's whole life, in the child; its return value is the exit status. */
	int (*worker)(int slot);
	/* A process beside the workers, of which there is always one: it is there before them, gets a new configuration
	 * by being started anew, and ends after them. NULL: none. Asked for whenever it would be started; false: there
	 * is nothing for it to do. */
	int (*helper)(void);
	const char *helper_name; /* as ps and the log call it, at most 15 bytes */
	bool (*helper_wanted)(void);
	/* A worker is gone, and its slot is free when this is true; asked again soon if not. May be NULL. */
	bool (*bury)(int slot);
};

/* Until told to stop. Returns the exit status of the process; in a child it does not return. */
int super_run(struct super *s);

/* For a worker: tells the supervisor that it is busy now and that fewer are idle than should be. */
void super_nudge(struct stats *stats);

/* Makes TERM mean "finish what you hold, then leave" and INT nothing. `stop` must be async-signal-safe. */
void super_worker_signals(void (*stop)(void));

#endif
