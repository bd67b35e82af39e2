/*
 * lookup — the entry for this request's question: asked for, read, and served in the form that the client wants; also
 * for who was told of it by another.
 */
#ifndef PAVISE_GATE_LOOKUP_H
#define PAVISE_GATE_LOOKUP_H

#include "gate/cache.h"

/* Adds the entry and its epochs to the transaction's batch. */
void lookup_ask(struct txn *t);
/* After the batch. False: there is none for this question, or it has been purged. Good until the next store_run(). */
bool lookup_read(struct txn *t, struct cache_entry *e);
/* Both, in a batch of their own. */
bool lookup_reread(struct txn *t, struct cache_entry *e);

/* Looks once more, and answers: another may have asked in the meantime. NEXT: still nothing. */
enum verdict lookup_again(struct txn *t);

/*
 * Answers with an entry, in the form that was asked for; t->cache is `as` then. NEXT: it cannot be played, and nothing
 * has been sent.
 */
enum verdict lookup_serve(struct txn *t, const struct cache_entry *e, enum cache_state as);

#endif
