/*
 * cache — what an answer is remembered under, and the way there and back: an entry (gate/entry) in a value
 * (gate/value).
 *
 * The key is a SHA-256 over everything that can change the answer, or with cache.seal a name that says nothing of it.
 */
#ifndef PAVISE_GATE_CACHE_H
#define PAVISE_GATE_CACHE_H

#include "base/buf.h"
#include "gate/entry.h"
#include "gate/txn.h"
#include "gate/value.h"
#include "wire/canon.h"

/* The most bytes of a question: the body, and the headers that go to the provider, however they are spelled. */
#define CACHE_QUESTION_MAX(max_body) (CANON_MAX_BYTES(max_body) + (8 << 20))

/*
 * Who shares the answers that a key is given under a scope: "key alice", "team red" or "everyone". A key without a team
 * shares with nobody.
 */
const char *cache_scope(struct arena *arena, const struct key *key, int scope);

/*
 * Appends all that the hash covers: everything that can change the answer. Call before the body is edited. It is, each
 * in a line of its own and all but the first and the last as a JSON string: the format's version, 1; the scope; the
 * operation; the provider's name and base_url; its name for the model; then each of forward_headers, its name and what
 * the client says ("" if nothing); and last, without a line feed, the body as canon_hashed() prints it. (An input of
 * embeddings is hashed as the question with "input":null, and the input behind it.)
 */
void cache_question(struct txn *t, struct buf *out);
/* The name of an entry in memcached. */
void cache_key_name(const struct txn *t, const uint8_t hash[32], char key[TXN_KEY]);
/* Fills t->cache_hash and t->cache_key. */
void cache_key(struct txn *t);

/* For how long this request's answer is remembered, in ms; 0 = not at all. */
int64_t cache_ttl_ms(const struct txn *t);
/* The same for memcached: whole seconds, and no more than it takes. */
uint32_t cache_ttl_s(const struct txn *t);
/* For how long memcached keeps it: it may be of use when it is stale. */
uint32_t cache_kept_s(const struct txn *t);

/* Makes an entry ready to be stored; false: it is larger than value_max(). The key must live until then. */
bool cache_pack(struct txn *t, const char *key, uint32_t ttl_s, const struct cache_entry *e, struct value *v);

/*
 * What a GET has found under a key of ours, for the question with this hash. False, a miss, for anything that was not
 * put there: cut, changed, of another key. `alone` and how long it is good are value_open()'s.
 */
bool cache_read(struct txn *t, const struct store_item *got, bool alone, const uint8_t hash[32], struct cache_entry *e);

/* Remembers a whole answer under t->cache_key, or under another key for as long as one likes. False if it could not be.
 */
bool cache_put(struct txn *t, struct json_object *completion, const char *script, size_t script_len);
bool cache_put_under(struct txn *t, const char *key, uint32_t ttl_s, struct json_object *completion, const char *script,
	size_t script_len);

#endif
