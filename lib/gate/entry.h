/*
 * entry — an answer as it is remembered, to bytes and back.
 *
 * One entry serves both forms: it holds the answer as JSON (less id and created, which are made anew for each answer)
 * and the script of the boundaries at which it streamed. That its bytes are those that were written is for the value
 * around it to say (gate/value).
 */
#ifndef PAVISE_GATE_ENTRY_H
#define PAVISE_GATE_ENTRY_H

#include "base/buf.h"
#include "base/hash.h"

struct cache_entry {
	int64_t stored_ms, expires_ms;                      /* clock_real_ms() */
	int64_t input_tokens, output_tokens, cached_tokens; /* -1 = unknown */
	uint64_t epochs[2];                 /* the scope's and the model's, when the answer was asked for */
	const char *model, *finish_reasons; /* of the answer; NUL-terminated */
	const char *json;                   /* an object without id and created */
	size_t json_len;
	const char *script; /* "" = none */
	size_t script_len;
};

/* Appends the entry as bytes. */
void entry_encode(struct buf *out, const struct cache_entry *e);

/* Reads what entry_encode() wrote; false if it cannot be that. Points into bytes. */
bool entry_decode(struct cache_entry *e, const char *bytes, size_t len);

/*
 * Reads format 1, which stood alone in memcached with a check of its own, bound to the hash of its question; false for
 * anything else: cut, changed, of another question or format.
 */
bool entry_decode_1(struct cache_entry *e, const char *bytes, size_t len, const uint8_t hash[SHA256_BYTES]);

#endif
