/* A provider's stream arrives in any pieces: the reader's whole state is in the struct, byte by byte. */
#include "edge/sse.h"

void sse_reader_release(struct sse_reader *r)
{
	buf_release(&r->line);
	buf_release(&r->data);
	buf_release(&r->event);
}

/* An empty line: hand the event out, unless it has no data. */
static int dispatch(struct sse_reader *r, sse_event_fn fn, void *ctx)
{
	int verdict = 0;

	if (r->has_data)
		verdict = fn(ctx, r->event.data ? r->event.data : "", r->data.data ? r->data.data : "", r->data.len);
	r->has_data = false;
	buf_reset(&r->data);
	buf_reset(&r->event);
	return verdict;
}

static void field(struct sse_reader *r)
{
	const char *line = r->line.data, *colon = memchr(line, ':', r->line.len), *value;
	size_t name_len = colon ? (size_t)(colon - line) : r->line.len, len = 0;

	value = line + r->line.len;
	if (colon) {
		value = colon + 1;
		len = r->line.len - name_len - 1;
		if (len && *value == ' ') {
			value++;
			len--;
		}
	}
	if (name_len == 4 && memcmp(line, "data", 4) == 0) {
		if (r->has_data)
			buf_addc(&r->data, '\n');
		buf_add(&r->data, value, len);
		r->has_data = true;
	} else if (name_len == 5 && memcmp(line, "event", 5) == 0) {
		buf_reset(&r->event);
		buf_add(&r->event, value, len);
	} /* id and retry serve reconnection, which this protocol does not have; a comment has an empty name */
}

static int end_line(struct sse_reader *r, sse_event_fn fn, void *ctx)
{
	static const char bom[] = "\xef\xbb\xbf";
	int verdict = 0;

	if (!r->started) {
		r->started = true;
		if (r->line.len >= 3 && memcmp(r->line.data, bom, 3) == 0)
			buf_drop(&r->line, 3);
	}
	if (r->line.len == 0)
		verdict = dispatch(r, fn, ctx);
	else
		field(r);
	buf_reset(&r->line);
	return verdict;
}

int sse_read(struct sse_reader *r, const char *bytes, size_t len, sse_event_fn fn, void *ctx)
{
	size_t i = 0, run;
	int verdict;

	while (i < len) {
		if (r->after_cr && bytes[i] == '\n') { /* the second half of a CRLF */
			r->after_cr = false;
			i++;
			continue;
		}
		r->after_cr = false;
		for (run = i; run < len && bytes[run] != '\n' && bytes[run] != '\r'; run++)
			;
		buf_add(&r->line, bytes + i, run - i);
		if (r->line.overflow || r->data.overflow)
			return -1;
		if (run == len)
			return 0;
		r->after_cr = bytes[run] == '\r';
		i = run + 1;
		verdict = end_line(r, fn, ctx);
		if (verdict)
			return verdict;
	}
	return 0;
}

/* The end of the line at s: a CR, an LF or the end of all. */
static const char *line_end(const char *s, const char *end)
{
	while (s < end && *s != '\n' && *s != '\r')
		s++;
	return s;
}

void sse_write_data(struct buf *out, const char *data, size_t len)
{
	const char *end = data + len, *stop;

	for (;;) {
		stop = line_end(data, end);
		buf_add(out, "data: ", 6);
		buf_add(out, data, (size_t)(stop - data));
		buf_addc(out, '\n');
		if (stop == end)
			break;
		data = stop + (*stop == '\r' && stop + 1 < end && stop[1] == '\n' ? 2 : 1);
	}
	buf_addc(out, '\n');
}

void sse_write_comment(struct buf *out, const char *text)
{
	buf_add(out, ": ", 2);
	buf_adds(out, text);
	buf_add(out, "\n\n", 2);
}
