/*
 * limit — fixed windows, counted in memcached: the number that the counter returns decides, so a limit of N lets
 * exactly N through however many ask at once.
 */
#ifndef PAVISE_GATE_LIMIT_H
#define PAVISE_GATE_LIMIT_H

#include "gate/txn.h"

/* Room that they take in a batch. */
enum { LIMIT_ITEMS = 3 * TXN_LIMITS };

/* The limit's window of this moment, for whoever asks. */
void limit_use(struct txn *t, const struct limit *l, int64_t now_ms, struct limit_use *use);
/* When a window that began is over (or will be), and when the one of now_ms began: aligned to the clock, in UTC. */
void limit_window(const struct limit *l, int64_t now_ms, int64_t *start_ms, int64_t *end_ms);

/* Fills t->limits: all that count this request; without a model, those that are not per model. */
void limit_uses(struct txn *t);

/* Whether it stands in the key's entry of the keys file, and counts that key alone. Its name may be that of one for
 * everybody. */
bool limit_is_own(const struct txn *t, const struct limit *l);

/* For how long its counter is kept: longer than the window, for hosts whose clocks differ. */
int64_t limit_ttl_s(const struct limit_use *use);
/* Counts `delta` on this host alone, in shared memory; returns the new count. The second one: of a budget, what is
 * settled. */
int64_t limit_count_locally(struct txn *t, const struct limit_use *use, int64_t delta);
int64_t limit_settle_locally(struct txn *t, const struct limit_use *use, int64_t delta);

/* limit_uses(), and adds what asks for each to the transaction's batch. */
void limit_prepare(struct txn *t);

/* After the batch has run: NEXT, or FAILED with the limit that refuses. What other limits had counted is given back. */
enum verdict limit_decide(struct txn *t);

/*
 * For an answer to a request that has not been counted (it was no valid one, or asks for no model): how its key's
 * limits stand. Costs a round trip.
 */
void limit_peek(struct txn *t);

/* Of the limits of one kind that bind this request, the one with the least left; NULL if there is none. */
const struct limit_use *limit_tightest(const struct txn *t, enum limit_count count);

/* Nobody can count for it now, and it is set to refuse then. */
enum verdict limit_store_down(struct txn *t, const struct limit_use *use);

#endif
