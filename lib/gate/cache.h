/*
 * cache — what an answer is remembered under, and how it is written down.
 *
 * The key is a SHA-256 over everything that can change the answer. One entry serves both forms: it holds the answer as
 * JSON (less id and created, which are made anew for each answer) and the script of the boundaries at which it
 * streamed.
 */
#ifndef PAVISE_GATE_CACHE_H
#define PAVISE_GATE_CACHE_H

#include "base/buf.h"
#include "gate/txn.h"
#include "wire/canon.h"

struct cache_entry {
	int64_t stored_ms, expires_ms;                      /* clock_real_ms() */
	int64_t input_tokens, output_tokens, cached_tokens; /* -1 = unknown */
	uint64_t epochs[TXN_EPOCHS];                        /* as they were before the question was asked; 0 = none */
	const char *model, *finish_reasons;                 /* of the answer; NUL-terminated */
	const char *json;                                   /* an object without id and created */
	size_t json_len;
	const char *script; /* "" = none */
	size_t script_len;
};

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
/* For store_run(): remembers an encoded entry for so long. */
struct store_item cache_set_item(const struct txn *t, const char *key, const struct buf *bytes);

/* Appends the entry as bytes, bound to the hash it is stored under. */
void cache_encode(struct buf *out, const struct cache_entry *e, const uint8_t hash[32]);

/* Reads what cache_encode() wrote; false for anything else: cut, changed, of another key or version. Points into bytes.
 */
bool cache_decode(struct cache_entry *e, const char *bytes, size_t len, const uint8_t hash[32]);

/* Remembers a whole answer under t->cache_key. False if it could not be. */
bool cache_put(struct txn *t, struct json_object *completion, const char *script, size_t script_len);

#endif
