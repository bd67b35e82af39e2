/*
 * epoch — what was asked for before a purge is a miss, on every host at once.
 *
 * A scope and a model each have a number in memcached, on every server that holds entries: a time in µs, even when it
 * was made because there was none, odd when a purge wrote it. Both are read in the batch that looks for the entry, from
 * the entry's own server, and an entry is served only if it says the same two. What memcached forgets is made anew as
 * now, which no older entry can say; so a lost epoch loses answers, and never brings one back.
 */
#ifndef PAVISE_GATE_EPOCH_H
#define PAVISE_GATE_EPOCH_H

#include "gate/cache.h"

/* How many items epoch_prepare() may add to a request's batch. */
size_t epoch_items_max(const struct txn *t);

/* Adds the epochs to the transaction's batch, as the server (of the entries' pool) knows them. Once for each server. */
void epoch_prepare(struct txn *t, int server);

/* After the batch. False: nobody knows, so nothing of that server may be served, nor anything be stored there. */
bool epoch_read(const struct txn *t, int server, uint64_t epochs[TXN_EPOCHS]);

/* Whether nothing that the entry belongs to has been purged since it was asked for. */
bool epoch_fits(const struct cache_entry *e, const uint64_t epochs[TXN_EPOCHS]);

/* The names of epochs in memcached. */
const char *epoch_key_of_scope(struct arena *arena, const struct config *c, const char *scope);
const char *epoch_key_of_model(struct arena *arena, const struct config *c, const struct model *m);

/* What a purge writes now. */
uint64_t epoch_of_purge(void);

#endif
