/*
 * published — how the events of a stream that others follow stand in its batches, which are one run of bytes that is
 * cut anywhere. A record: whom it is for, its length in four bytes (little-endian), and the event's data. Part of
 * coalesce.
 */
#ifndef PAVISE_GATE_PUBLISHED_H
#define PAVISE_GATE_PUBLISHED_H

#include "base/buf.h"

#include <stdint.h>

enum published_for {
	FOR_ALL = '*',
	FOR_ASKING = 'u', /* who asked for usage (stream_options.include_usage) */
	FOR_OTHERS = 'n'
};

enum { PUBLISHED_HEAD = 5 };

static inline void published_add(struct buf *out, enum published_for whom, const void *data, size_t len)
{
	const unsigned char head[PUBLISHED_HEAD] = {(unsigned char)whom, (unsigned char)len, (unsigned char)(len >> 8),
		(unsigned char)(len >> 16), (unsigned char)(len >> 24)};

	buf_add(out, head, sizeof(head));
	buf_add(out, data, len);
}

/* The record at *bytes, which moves behind it; false where there is no whole one. */
static inline bool published_next(
	const char **bytes, size_t *left, enum published_for *whom, const char **data, size_t *len)
{
	const unsigned char *head = (const unsigned char *)*bytes;

	if (*left < PUBLISHED_HEAD)
		return false;
	*whom = (enum published_for)head[0];
	*len = head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;
	if (*len > *left - PUBLISHED_HEAD)
		return false;
	*data = *bytes + PUBLISHED_HEAD;
	*bytes = *data + *len;
	*left -= PUBLISHED_HEAD + *len;
	return true;
}

#endif
