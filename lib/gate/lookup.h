/* lookup — serving what is remembered, also for who was told of it by another. */
#ifndef PAVISE_GATE_LOOKUP_H
#define PAVISE_GATE_LOOKUP_H

#include "gate/cache.h"

/* Looks once more, with a batch of its own: another may have asked in the meantime. NEXT: still nothing. */
enum verdict lookup_again(struct txn *t);

/*
 * Answers with an entry, in the form that was asked for; t->cache is `as` then. NEXT: it cannot be played, and nothing
 * has been sent.
 */
enum verdict lookup_serve(struct txn *t, const struct cache_entry *e, enum cache_state as);

#endif
