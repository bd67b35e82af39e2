/*
 * bookkeeper — the one process of a host that writes the ledger: it reads what workers tell, books it, and tells
 * memcached's counters.
 *
 * What it does is in this order, whatever it is killed in between: look at messages, book them (one transaction), take
 * them out of the queue, then correct the counters. A correction of which nobody knows whether memcached made it is
 * never made again: the counter gets a new generation instead.
 */
#ifndef PAVISE_GATE_BOOKKEEPER_H
#define PAVISE_GATE_BOOKKEEPER_H

#include "edge/queue.h"
#include "edge/stats.h"
#include "edge/store.h"
#include "gate/config.h"

/* Until told to stop, and then until the queue is empty. The exit status. */
int bookkeeper_run(const struct config *c, struct stats *stats, struct store *store, const struct queue *queue);

/* For the supervisor: this worker is gone. False: ask again soon. */
bool bookkeeper_bury(const struct queue *queue, struct stats_slot *slot);

#endif
