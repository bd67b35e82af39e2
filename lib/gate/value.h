/*
 * value — bytes of any size under one key of memcached, and back: verified, or a miss.
 *
 * What is larger than a little is compressed where that pays, all of it is sealed where cache.seal says so, and what is
 * too large for one item is cut: its key then holds a list that names the pieces, which lie on the same server.
 */
#ifndef PAVISE_GATE_VALUE_H
#define PAVISE_GATE_VALUE_H

#include "base/hash.h"
#include "gate/txn.h"

/* Ready to be stored. All that the items point to is the arena's, but for the key. */
struct value {
	struct store_item head; /* under the value's key */
	struct store_item *pieces;
	size_t piece_count; /* 0: not cut */
};

/* Bytes that a value may have. */
static inline size_t value_max(const struct txn *t)
{
	return t->value_max ? t->value_max : (size_t)t->config->cache.max_entry;
}

/* False: it is larger. */
bool value_pack(struct txn *t, const char *key, uint32_t ttl_s, const struct buf *bytes, struct value *v);

/* The pieces, and when all of them are there, the head: never one that promises what is not. False: not stored. */
bool value_store(struct txn *t, struct value *v);

/*
 * What a GET has found under its key. False: nothing, or not what value_pack() made under this key. Points into the
 * store's buffer, so it is good until the next store_run(), or into the arena. A value that is cut takes a batch of its
 * own; `alone` says that nothing else of the last one is still to be read. If it is not, a cut value is a miss.
 */
bool value_open(struct txn *t, const struct store_item *got, bool alone, struct hash_part *bytes);

/*
 * One item of a stream that is published while it is made: bound to its name (and sealed) as values are, but neither
 * packed nor cut. Appended to `out`; read from `framed` itself or, if it was sealed, from what is appended to `plain`.
 */
void value_frame(const struct txn *t, const char *name, struct hash_part payload, struct buf *out);
bool value_unframe(
	const struct txn *t, const char *name, struct hash_part framed, struct buf *plain, struct hash_part *payload);

#endif
