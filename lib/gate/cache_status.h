/*
 * cache_status — what the cache did for a request, in the words of RFC 9211, of people and of the log.
 */
#ifndef PAVISE_GATE_CACHE_STATUS_H
#define PAVISE_GATE_CACHE_STATUS_H

#include "gate/txn.h"

/* Cache-Status, X-Cache and Age of an answer with this status. */
void cache_status_add(const struct txn *t, struct buf *head, int status);

/* For the log: "hit", "miss", …; NULL if the cache was not asked. */
const char *cache_status_word(const struct txn *t);

/* Whether the answer comes from an entry that has an age. */
bool cache_status_aged(const struct txn *t);

#endif
