/*
 * demo_speech — what one choice says, a piece of about one word at a time, without ever holding the whole of it.
 *
 * Prose is an opening and then sentences until exactly the wanted number of pieces, so that an answer of any length
 * ends in a full stop. A script is a text that is there already (JSON) and is cut where a tokenizer might cut it.
 * The same seed says the same words.
 */
#ifndef PAVISE_DEMO_SPEECH_H
#define PAVISE_DEMO_SPEECH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Owns nothing: may be copied, to look ahead. */
struct speech {
	const char *text; /* what is left of the sentence or the script */
	bool prose;
	uint64_t random;
	int left; /* prose: pieces to the end */
	size_t last;
};

/* A piece: bytes, not NUL-terminated. Pieces of prose begin with the space that parts them from the one before. */
struct piece {
	const char *text;
	size_t len;
};

/* `opening` (kept by the caller) is left out where it has more than `pieces` words. */
void speech_prose(struct speech *s, const char *opening, uint64_t seed, int pieces);
void speech_script(struct speech *s, const char *script);

/* False at the end. */
bool speech_next(struct speech *s, struct piece *piece);
bool speech_over(const struct speech *s);

/* How many words a text has: what we call tokens. */
int64_t speech_words(const char *text, size_t len);

#endif
