/*
 * calls — which calls to providers this host's workers make now, and against which limits they count: what memcached
 * says of them may be late or lost, and a worker that is gone can no longer say anything.
 *
 * A worker writes its own entry alone (stats.calls[slot]); what it says ends with it.
 */
#ifndef PAVISE_EDGE_CALLS_H
#define PAVISE_EDGE_CALLS_H

#include "edge/stats.h"

/* This worker's call under a number that no other has; it counts against nothing yet. */
void calls_begin(struct stats *s, int slot, uint64_t nonce);
/* It counts against one more limit, at most STATS_CALL_LIMITS; identity: 64 bits of a hash, never 0. */
void calls_count(struct stats *s, int slot, uint64_t identity);
/* Not against the one that was counted last. */
void calls_uncount(struct stats *s, int slot);
void calls_end(struct stats *s, int slot);

/* Whether a slot's worker lives and makes the call with this number. */
bool calls_alive(const struct stats *s, int slot, uint64_t nonce);
/* How many calls of this host count against it. */
int calls_of(const struct stats *s, uint64_t identity);

#endif
