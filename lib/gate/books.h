/*
 * books — what the bookkeeper knows while it is at work. Of gate/bookkeeper and gate/seeding; nothing else includes
 * this.
 */
#ifndef PAVISE_GATE_BOOKS_H
#define PAVISE_GATE_BOOKS_H

#include "edge/ledger.h"
#include "edge/queue.h"
#include "edge/stats.h"
#include "edge/store.h"
#include "gate/config.h"

#include <stdbool.h>

/* A correction of a counter's generation. */
struct correction {
	struct correction *next;
	char *counter;
	uint64_t generation;
	int64_t counted, spent; /* to be added */
};

/* Work on a counter that stands in line. */
struct errand {
	struct errand *next;
	char *counter;
	bool usd;
	char *who[5]; /* in the order of struct ledger_who */
	int64_t from_s, to_s;
	bool doubtful;  /* not wanted: its generation is in doubt, and to be replaced */
	int64_t due_us; /* clock_mono_us() */
};

struct books {
	const struct config *config;
	struct stats *stats;
	struct store *store;
	const struct queue *queue;
	struct ledger *ledger;
	struct errand *errands;   /* in the order in which they came */
	struct correction *owed;  /* to generations that are still being made */
	struct correction *fresh; /* of what was just booked */
	int64_t *settled;         /* reservations that the counters may not know of yet, by their order */
	size_t settled_count, settled_room;
	bool in_trouble;    /* the ledger cannot be written, and the warning has been given */
	int64_t owed_at_us; /* when to look at them again */
	int64_t mail_at_us;
	int64_t pruned_s;
};

enum booked { BOOKED_NOTHING, BOOKED_SOME, BOOKED_FAILED };

/*
 * Books what is in the queue, at most one batch, and corrects the counters. *passed: a message that was sent after
 * this moment (clock_mono_us()) was among them.
 */
enum booked books_round(struct books *b, int64_t until_us, bool *passed);

/* The ledger's answer to a transaction: one warning when it begins to fail, one line when it is good again. */
bool books_kept(struct books *b, bool good);

/* Adds work, unless the same stands in line. */
void books_want(struct books *b, const struct ledger_count *c);
void books_doubt(struct books *b, const struct ledger_count *c, int64_t delay_us);
/* To be added to a generation of a counter, with others of the same. */
void books_correct(struct correction **list, const char *counter, uint64_t generation, int64_t counted, int64_t spent);
/* Tells memcached what is in `fresh`. */
void books_tell(struct books *b);
void books_drop_owed(struct books *b, const char *counter);

/* Does one errand: makes the counter, or this host's share of it. False: try again later. */
bool seeding_run(struct books *b, struct errand *e);
/* Corrections of what was being made, and is now. */
void seeding_pay(struct books *b);
/* What other hosts want of this one. */
void seeding_mail(struct books *b);

#endif
