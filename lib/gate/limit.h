/*
 * limit — fixed windows, counted in memcached: the number that the counter returns decides, so a limit of N lets
 * exactly N through however many ask at once.
 */
#ifndef PAVISE_GATE_LIMIT_H
#define PAVISE_GATE_LIMIT_H

#include "gate/txn.h"

/* Adds one counter for each limit to the transaction's batch; without a model, for each that is not per model. */
void limit_prepare(struct txn *t);

/* After the batch has run: NEXT, or FAILED with the limit that refuses. What other limits had counted is given back. */
enum verdict limit_decide(struct txn *t);

/*
 * For an answer to a request that has not been counted (it was no valid one, or asks for no model): how its key's
 * limits stand. Costs a round trip.
 */
void limit_peek(struct txn *t);

/* Of the limits that count this request, the one with the least left; NULL if there is none. */
const struct limit_use *limit_tightest(const struct txn *t);

#endif
