/*
 * sse — server-sent events as the WHATWG defines them (HTML Living Standard, 9.2): reading whatever bytes come in
 * whatever pieces, and writing whole events.
 */
#ifndef PAVISE_EDGE_SSE_H
#define PAVISE_EDGE_SSE_H

#include "base/buf.h"

enum { SSE_EVENT_MAX = 16 << 20 /* bytes of one event's data */ };

struct sse_reader {
	struct buf line, data, event; /* event: its name */
	bool after_cr, has_data, started;
};

#define SSE_READER_INIT \
	((struct sse_reader){.line = BUF_INIT(SSE_EVENT_MAX), .data = BUF_INIT(SSE_EVENT_MAX), .event = BUF_INIT(256)})

void sse_reader_release(struct sse_reader *r);

/* Called for every event that has data; `event` is its name or "". Anything but 0 stops the reading. */
typedef int (*sse_event_fn)(void *ctx, const char *event, const char *data, size_t len);

/* Reads more bytes. 0; what the callback returned if it was not 0; -1 for an event larger than SSE_EVENT_MAX. */
int sse_read(struct sse_reader *r, const char *bytes, size_t len, sse_event_fn fn, void *ctx);

/* Appends "data: …\n\n"; a line break in `data` begins another data line. */
void sse_write_data(struct buf *out, const char *data, size_t len);
/* Appends a comment, which clients ignore: ": …\n\n". */
void sse_write_comment(struct buf *out, const char *text);

#endif
