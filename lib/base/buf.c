/* The only growing buffer in the program; everything that grows says here how far it may. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_release(struct buf *b)
{
	free(b->data);
	*b = BUF_INIT(b->max);
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->overflow = false;
	if (b->data)
		b->data[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t more)
{
	size_t cap;
	char *data;

	if (b->overflow)
		return NULL;
	if (more > b->max || b->len > b->max - more) {
		b->overflow = true;
		return NULL;
	}
	if (b->len + more + 1 > b->cap) {
		cap = b->cap ? b->cap : more + 1; /* a first piece is often all of it */
		if (cap < 64)
			cap = 64;
		while (cap < b->len + more + 1)
			cap += cap / 2;
		data = realloc(b->data, cap);
		if (!data) {
			b->overflow = true;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
	}
	return b->data + b->len;
}

void buf_add(struct buf *b, const void *bytes, size_t len)
{
	char *to = buf_reserve(b, len);

	if (!to)
		return;
	if (len)
		memcpy(to, bytes, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	char small[256], *to;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n < sizeof(small)) {
		buf_add(b, small, (size_t)n);
		return;
	}
	to = buf_reserve(b, (size_t)n);
	if (!to)
		return;
	va_start(ap, fmt);
	vsnprintf(to, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void buf_drop(struct buf *b, size_t n)
{
	if (n > b->len)
		n = b->len;
	if (!n)
		return;
	memmove(b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}
