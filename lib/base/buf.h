/*
 * buf — a byte buffer that grows up to a declared maximum, with a sticky error: write freely, check once.
 *
 * Past `max` bytes (or out of memory for a buffer that big) nothing more is added and `overflow` is set.
 * The content is always followed by a NUL that does not count.
 */
#ifndef PAVISE_BASE_BUF_H
#define PAVISE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct buf {
	char *data; /* owned; NULL until the first byte */
	size_t len, cap, max;
	bool overflow;
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})

/* Frees the memory; the buffer may be used again. */
void buf_release(struct buf *b);
/* Empties the buffer and keeps its memory. */
void buf_reset(struct buf *b);
/* Makes room for `more` bytes behind `len`, for a reader that fills it itself; NULL on overflow. */
char *buf_reserve(struct buf *b, size_t more);

void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);

static inline void buf_adds(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

static inline void buf_addc(struct buf *b, char c)
{
	if (b->len + 1 < b->cap && b->len < b->max && !b->overflow) {
		b->data[b->len++] = c;
		b->data[b->len] = '\0';
	} else {
		buf_add(b, &c, 1);
	}
}

#endif
