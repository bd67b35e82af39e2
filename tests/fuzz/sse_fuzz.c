/* Whatever the bytes are, and however they are cut: the same events; and what is written of them is read back. */
#include "edge/sse.h"

#include "base/err.h"

#include <stdint.h>

enum { HEARD_MAX = 1 << 26 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Name and data of each event, with their lengths, so that no two lists look the same. */
static int hear(void *heard, const char *event, const char *data, size_t len)
{
	buf_printf(heard, "%zu %zu\n", strlen(event), len);
	buf_adds(heard, event);
	buf_add(heard, data, len);
	return 0;
}

static int write_again(void *out, const char *event, const char *data, size_t len)
{
	(void)event;
	sse_write_data(out, data, len);
	sse_write_comment(out, "between");
	return 0;
}

/* As hear(), without the names, which sse_write_data() does not write. */
static int hear_data(void *heard, const char *event, const char *data, size_t len)
{
	(void)event;
	return hear(heard, "", data, len);
}

/* Reads in pieces of `step` bytes. */
static void read_in_steps(const char *bytes, size_t len, size_t step, sse_event_fn fn, struct buf *heard)
{
	struct sse_reader r = SSE_READER_INIT;
	size_t at, piece;

	for (at = 0; at < len; at += piece) {
		piece = len - at < step ? len - at : step;
		BUG_ON(sse_read(&r, bytes + at, piece, fn, heard) != 0);
	}
	sse_reader_release(&r);
}

static void check_same(const struct buf *a, const struct buf *b)
{
	BUG_ON(a->overflow || b->overflow || a->len != b->len || (a->len && memcmp(a->data, b->data, a->len) != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct buf whole = BUF_INIT(HEARD_MAX), cut = BUF_INIT(HEARD_MAX), written = BUF_INIT(HEARD_MAX);
	const char *text = (const char *)bytes;
	size_t step;

	read_in_steps(text, len, len + 1, hear, &whole);
	for (step = 1; step < 8; step++) {
		buf_reset(&cut);
		read_in_steps(text, len, step, hear, &cut);
		check_same(&whole, &cut);
	}
	read_in_steps(text, len, len + 1, write_again, &written);
	buf_reset(&whole);
	buf_reset(&cut);
	read_in_steps(text, len, len + 1, hear_data, &whole);
	read_in_steps(written.data ? written.data : "", written.len, 3, hear_data, &cut);
	check_same(&whole, &cut);
	buf_release(&whole);
	buf_release(&cut);
	buf_release(&written);
	return 0;
}
