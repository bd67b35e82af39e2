/*
 * ledger — what was spent, by whom, on what: the record on disk that outlives memcached and every process (SQLite lives
 * here and nowhere else).
 *
 * One process writes it, any number may read it meanwhile. A writer's changes are one transaction: write freely, ask
 * ledger_commit() whether all of it is there. Times are whole seconds since 1970 (UTC), money is picodollars.
 *
 * `spend` is what has been spent, summed up by hour. `held` is what may still be: reservations, each numbered in the
 * order in which they were made known. `counts` says of each budget's counter in memcached which generation of it knows
 * what stands here, and which reservations that includes (gate/seeding).
 */
#ifndef PAVISE_EDGE_LEDGER_H
#define PAVISE_EDGE_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEDGER_WHY = 512, LEDGER_HOUR_S = 3600 };

struct ledger;

/* For who writes: makes the file if there is none. NULL with *why filled. */
struct ledger *ledger_open(const char *path, char why[LEDGER_WHY]);
/* For who only reads: NULL with *why filled, also when there is none. */
struct ledger *ledger_open_to_read(const char *path, char why[LEDGER_WHY]);
void ledger_close(struct ledger *l);

/* Whether the file lies where SQLite's write-ahead log does not work: on a network file system. */
bool ledger_on_network(const char *path);

void ledger_begin(struct ledger *l);
/* False: nothing has changed, and ledger_why() says why not. */
bool ledger_commit(struct ledger *l);
const char *ledger_why(const struct ledger *l);

/* ---- what has been spent ---- */

struct ledger_who {
	const char *key, *team, *user, *ip, *model; /* "": none. Of a counter, NULL: whoever it is */
};

struct ledger_amounts {
	int64_t requests, calls, input_tokens, cached_tokens, output_tokens;
	int64_t tokens; /* what limits of tokens count: more than the three say where a bound had to do */
	int64_t cost_pusd, saved_pusd;
	int64_t estimated; /* calls whose cost is a bound, since nobody said what they took */
};

/* Adds to what was spent in the hour of `at_s`. */
void ledger_spend(struct ledger *l, int64_t at_s, const struct ledger_who *who, const struct ledger_amounts *a);

/* ---- what is reserved ---- */

/* A reservation's name: whose, and its own number. */
struct ledger_id {
	uint64_t life, number;
};

struct ledger_hold {
	int64_t order; /* in which it was made known; filled by the ledger */
	struct ledger_id id;
	int64_t at_s; /* it counts in the windows of this moment, whenever it is settled */
	struct ledger_who who;
	int64_t tokens, pusd; /* at most */
	bool settled;         /* it is in `spend`, and memcached's counters may not know yet */
};

void ledger_hold(struct ledger *l, const struct ledger_hold *h);
/* Marks it as settled, and counts the rest as spent by ledger_spend() (the caller's). */
void ledger_settle(struct ledger *l, int64_t order);
/* The counters know. */
void ledger_forget(struct ledger *l, int64_t order);

/* Strings are good within the call. The ledger must not be asked for others meanwhile. */
typedef void ledger_on_hold(void *ctx, const struct ledger_hold *h);
void ledger_find(struct ledger *l, const struct ledger_id *id, ledger_on_hold *on, void *ctx);
void ledger_holds(struct ledger *l, ledger_on_hold *on, void *ctx);
/* The order of the last one that there ever was. */
int64_t ledger_last(struct ledger *l);

/* ---- what counters know ---- */

struct ledger_count {
	const char *counter; /* its name, less the generation */
	bool usd;            /* else tokens */
	struct ledger_who who;
	int64_t from_s, to_s; /* its window */
	uint64_t generation;
	int64_t through;        /* the reservations up to this one are in `counted` */
	int64_t counted, spent; /* this ledger's share of the generation; of that, what is not only reserved */
};

/* What this ledger knows of a counter's window: fills counted, spent and through as of now. */
void ledger_sum(struct ledger *l, struct ledger_count *c);
void ledger_save_count(struct ledger *l, const struct ledger_count *c);

typedef void ledger_on_count(void *ctx, const struct ledger_count *c);
void ledger_find_count(struct ledger *l, const char *counter, ledger_on_count *on, void *ctx);
/* Those that count somebody's spending of this moment. */
void ledger_counts_of(struct ledger *l, const struct ledger_who *who, int64_t at_s, ledger_on_count *on, void *ctx);
/* Forgets counters whose window ended before this. */
void ledger_prune(struct ledger *l, int64_t before_s);

/* ---- messages ---- */

/* The last message that has been booked: who was killed before it was taken out of its queue finds it again. */
void ledger_set_booked(struct ledger *l, const struct ledger_id *message);
struct ledger_id ledger_booked(struct ledger *l);

/* ---- reports ---- */

enum ledger_by { LEDGER_BY_KEY, LEDGER_BY_TEAM, LEDGER_BY_USER, LEDGER_BY_MODEL, LEDGER_BY_DAY, LEDGER_BY_HOUR };

struct ledger_query {
	enum ledger_by by;
	int64_t since_s, until_s;              /* whole hours */
	const char *key, *team, *user, *model; /* NULL: whichever */
};

/* `name` is whose or which; for days and hours its beginning, as in "2026-11-23" and "2026-11-23T15:00Z". */
typedef void ledger_on_spend(void *ctx, const char *name, const struct ledger_amounts *a);
/* By what it cost, the most first; days and hours in their order. False: ledger_why(). */
bool ledger_report(struct ledger *l, const struct ledger_query *q, ledger_on_spend *on, void *ctx);

#endif
