/*
 * lookup — the entry for this request's question: asked for, read, and served in the form that the client wants.
 */
#ifndef PAVISE_GATE_LOOKUP_H
#define PAVISE_GATE_LOOKUP_H

#include "gate/cache.h"

/* Adds the entry and its epochs to the transaction's batch. */
void lookup_ask(struct txn *t);

/* After the batch. False: there is none for this question, or it has been purged. Good until the next store_run(). */
bool lookup_read(struct txn *t, struct cache_entry *e);

/* Both at once, in a batch of their own: for who has done something else since. */
bool lookup_again(struct txn *t, struct cache_entry *e);

/* `state` is what it will be in the log. NEXT: it cannot be played, and nothing has been sent. */
enum verdict lookup_serve(struct txn *t, const struct cache_entry *e, enum cache_state state);

#endif
