/*
 * worker — a plain process that takes one request at a time from top to bottom.
 */
#ifndef PAVISE_GATE_WORKER_H
#define PAVISE_GATE_WORKER_H

#include "gate/txn.h"

/* What a configuration needs that is made before fork: the store's rings. NULL-safe counterpart: store_free(). */
struct store *worker_store(const struct config *c, struct stats *stats);

/*
 * Serves until told to stop; the exit status. `before` (may be NULL) runs ahead of every request: a worker without a
 * supervisor looks after its configuration there.
 */
int worker_run(struct worker *w, void (*before)(struct worker *w));

#endif
