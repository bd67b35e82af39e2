/*
 * The contexts are made for each use: kept, they would be most of what an idle worker holds.
 *
 * Level 1: the third makes an answer hardly smaller (0.30 of it for 0.31) and takes half as long again.
 */
#include "base/zstd.h"

#include <zstd.h>

enum { LEVEL = 1 };

bool zstd_pack(struct buf *out, const void *bytes, size_t len, size_t max)
{
	char *to = buf_reserve(out, max);
	size_t size = to ? ZSTD_compress(to, max, bytes, len, LEVEL) : 0;

	if (!to || ZSTD_isError(size))
		return false;
	out->len += size;
	out->data[out->len] = '\0';
	return true;
}

bool zstd_unpack(struct buf *out, const void *bytes, size_t len)
{
	unsigned long long says = ZSTD_getFrameContentSize(bytes, len);
	char *to;

	/* ZSTD_decompress() would take more frames behind it; the errors and "unknown" are numbers beyond any size */
	if (says > out->max - out->len || ZSTD_findFrameCompressedSize(bytes, len) != len)
		return false;
	to = buf_reserve(out, (size_t)says);
	if (!to || ZSTD_decompress(to, (size_t)says, bytes, len) != says)
		return false;
	out->len += (size_t)says;
	out->data[out->len] = '\0';
	return true;
}
