/*
 * zstd — compression for what is worth it, bounded both ways.
 */
#ifndef PAVISE_BASE_ZSTD_H
#define PAVISE_BASE_ZSTD_H

#include "base/buf.h"

/* Appends bytes[0..len) as one frame of at most max bytes; false, and nothing is added, if they do not get that small.
 */
bool zstd_pack(struct buf *out, const void *bytes, size_t len, size_t max);

/*
 * Appends what one frame holds. False, and nothing is added, for anything else: a frame that is cut or changed, says no
 * size, or holds another size than it says. The size is believed as far as out->max, and no further.
 */
bool zstd_unpack(struct buf *out, const void *bytes, size_t len);

#endif
