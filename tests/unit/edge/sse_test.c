/* The WHATWG's rules for an event stream (HTML Living Standard, 9.2.6), however the bytes are cut. */
#include "../unit.h"

#include "edge/sse.h"

/* Events as text: each is [name|data] behind the other, a line feed in the data shown as "\n". */
struct heard {
	struct buf text;
	int stop_at, count; /* stop_at 0: never */
};

static int hear(void *ctx, const char *event, const char *data, size_t len)
{
	struct heard *h = ctx;
	size_t i;

	assert_int_equal(data[len], '\0');
	buf_printf(&h->text, "[%s|", event);
	for (i = 0; i < len; i++)
		buf_adds(&h->text, data[i] == '\n' ? "\\n" : data[i] ? (char[]){data[i], '\0'} : "\\0");
	buf_adds(&h->text, "]");
	return ++h->count == h->stop_at ? 42 : 0;
}

/* Reads the bytes in the pieces that end at `cuts` (ascending, at most len). */
static void check_cut(const char *bytes, size_t len, const size_t *cuts, size_t count, const char *expected)
{
	struct sse_reader r = SSE_READER_INIT;
	struct heard h = {.text = BUF_INIT(1 << 20)};
	size_t i, from = 0, to;
	char *piece;

	for (i = 0; i <= count; i++) {
		to = i < count ? cuts[i] : len;
		piece = exact_copy(bytes + from, to - from);
		assert_int_equal(sse_read(&r, piece, to - from, hear, &h), 0);
		free(piece);
		from = to;
	}
	if (strcmp(h.text.data ? h.text.data : "", expected) != 0)
		fail_msg("found %s, expected %s", h.text.data ? h.text.data : "", expected);
	buf_release(&h.text);
	sse_reader_release(&r);
}

#define BOM "\xef\xbb\xbf"

static const struct {
	const char *bytes;
	size_t len;
	const char *events;
} streams[] = {
#define STREAM(bytes, events) \
	{ \
		bytes, sizeof(bytes) - 1, events \
	}
	STREAM("data: a\n\n", "[|a]"),
	STREAM("data: a\r\n\r\n", "[|a]"),
	STREAM("data: a\r\r", "[|a]"),
	STREAM("data: a\n\r\n", "[|a]"),
	STREAM("data: a\r\n\n", "[|a]"),
	STREAM("data: a\r\n\rdata: b\n\r", "[|a][|b]"),
	STREAM("data:a\n\n", "[|a]"),
	STREAM("data:  a \n\n", "[| a ]"),
	STREAM("data:\ta\n\n", "[|\ta]"),
	STREAM("data: a\ndata: b\n\n", "[|a\\nb]"),
	STREAM("data: a\rdata: b\r\ndata:\n\n", "[|a\\nb\\n]"),
	STREAM("data\n\n", "[|]"),
	STREAM("data:\n\n", "[|]"),
	STREAM("data: \n\n", "[|]"),
	STREAM("data\ndata\n\n", "[|\\n]"),
	STREAM("data:a:b: c\n\n", "[|a:b: c]"),
	STREAM(": comment\n\ndata: a\n: in the middle\ndata: b\n\n:\n\n", "[|a\\nb]"),
	STREAM("event: x\ndata: a\n\ndata: b\n\n", "[x|a][|b]"),
	STREAM("event:x\nevent: y\ndata: a\n\n", "[y|a]"),
	STREAM("event: x\nevent\ndata: a\n\n", "[|a]"),
	STREAM("data: a\nevent: late\n\n", "[late|a]"),
	STREAM("event: x\n\ndata: a\n\n", "[|a]"),
	STREAM("id: 7\nretry: 1000\ndata: a\n\nid\n\nretry\n\n", "[|a]"),
	STREAM("dat: a\ndataa: b\nDATA: c\n data: d\n\n", ""),
	STREAM("data : a\n\n", ""),
	STREAM("\n\n\n\r\r\n\r\n", ""),
	STREAM("", ""),
	STREAM("data: a", ""),
	STREAM("data: a\n", ""),
	STREAM("data: a\n\ndata: b\n", "[|a]"),
	STREAM("data: a\r\n\r\ndata: b", "[|a]"),
	STREAM(BOM "data: a\n\n", "[|a]"),
	STREAM(BOM "\ndata: a\n\n", "[|a]"),
	STREAM(BOM BOM "data: a\n\n", ""),
	STREAM("data: a\n\n" BOM "data: b\n\n", "[|a]"),
	STREAM(BOM, ""),
	STREAM("data: " BOM "\n\n", "[|" BOM "]"),
	STREAM("data: \xc3\xa9\xf0\x9f\x98\x80\n\n", "[|\xc3\xa9\xf0\x9f\x98\x80]"),
	STREAM("data: a\0b\n\n", "[|a\\0b]"),
	STREAM("data: {\"a\":1}\n\ndata: [DONE]\n\n", "[|{\"a\":1}][|[DONE]]"),
	STREAM("\r\ndata: a\r\n\r\n", "[|a]"),
#undef STREAM
};

static void test_whole(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(streams); i++)
		check_cut(streams[i].bytes, streams[i].len, NULL, 0, streams[i].events);
}

static void test_every_cut(void **state)
{
	size_t i, cuts[2];

	(void)state;
	for (i = 0; i < COUNT(streams); i++)
		for (cuts[0] = 0; cuts[0] <= streams[i].len; cuts[0]++)
			for (cuts[1] = cuts[0]; cuts[1] <= streams[i].len; cuts[1]++)
				check_cut(streams[i].bytes, streams[i].len, cuts, 2, streams[i].events);
}

static void test_byte_by_byte(void **state)
{
	size_t i, j, cuts[256];

	(void)state;
	for (j = 0; j < COUNT(cuts); j++)
		cuts[j] = j;
	for (i = 0; i < COUNT(streams); i++)
		check_cut(streams[i].bytes, streams[i].len, cuts, streams[i].len, streams[i].events);
}

/* Lines by chance: the same events whole as in any pieces. */
static void test_cuts_by_chance(void **state)
{
	static const char *const lines[] = {"data: a", "data", "data:", "data:  b", "event: x", "event", ": c", "id: 1",
		"", "", "\xc3\xa9", "data: \xf0\x9f\x98\x80"};
	static const char *const ends[] = {"\n", "\r", "\r\n"};
	struct buf text = BUF_INIT(1 << 16);
	struct sse_reader whole;
	struct heard h;
	uint64_t seed = 99;
	size_t cuts[12], count, i, j, events = 0;
	int round;

	(void)state;
	for (round = 0; round < 2000; round++) {
		buf_reset(&text);
		for (i = 1 + chance_below(&seed, 12); i > 0; i--) {
			buf_adds(&text, lines[chance_below(&seed, COUNT(lines))]);
			buf_adds(&text, ends[chance_below(&seed, COUNT(ends))]);
		}
		whole = SSE_READER_INIT;
		h = (struct heard){.text = BUF_INIT(1 << 16)};
		assert_int_equal(sse_read(&whole, text.data, text.len, hear, &h), 0);
		events += (size_t)h.count;
		count = chance_below(&seed, COUNT(cuts));
		for (i = 0; i < count; i++) {
			size_t cut = chance_below(&seed, text.len + 1);

			for (j = i; j > 0 && cuts[j - 1] > cut; j--)
				cuts[j] = cuts[j - 1];
			cuts[j] = cut;
		}
		check_cut(text.data, text.len, cuts, count, h.text.data ? h.text.data : "");
		buf_release(&h.text);
		sse_reader_release(&whole);
	}
	assert_true(events > 1000);
	buf_release(&text);
}

static void test_callback_stops(void **state)
{
	static const char bytes[] = "data: a\n\ndata: b\n\ndata: c\n\n";
	struct sse_reader r = SSE_READER_INIT;
	struct heard h = {.text = BUF_INIT(4096), .stop_at = 2};

	(void)state;
	assert_int_equal(sse_read(&r, bytes, sizeof(bytes) - 1, hear, &h), 42);
	assert_string_equal(h.text.data, "[|a][|b]");
	buf_release(&h.text);
	sse_reader_release(&r);
}

static int measure(void *ctx, const char *event, const char *data, size_t len)
{
	(void)event;
	(void)data;
	*(size_t *)ctx = len;
	return 0;
}

/* An event of so many bytes in so many data lines; what sse_read() returned at the last. */
static int read_large(size_t lines, size_t line_bytes, const char *field, size_t *heard)
{
	struct sse_reader r = SSE_READER_INIT;
	char *line = malloc(line_bytes);
	int verdict = 0;

	assert_non_null(line);
	memset(line, 'x', line_bytes);
	*heard = 0;
	for (; lines > 0 && verdict == 0; lines--) {
		verdict = sse_read(&r, field, strlen(field), measure, heard);
		if (verdict == 0)
			verdict = sse_read(&r, line, line_bytes, measure, heard);
		if (verdict == 0)
			verdict = sse_read(&r, "\n", 1, measure, heard);
	}
	if (verdict == 0)
		verdict = sse_read(&r, "\n", 1, measure, heard);
	free(line);
	sse_reader_release(&r);
	return verdict;
}

static void test_too_large(void **state)
{
	size_t heard;

	(void)state;
	assert_int_equal(read_large(1, SSE_EVENT_MAX - 16, "data: ", &heard), 0);
	assert_int_equal(heard, SSE_EVENT_MAX - 16);
	assert_int_equal(read_large(15, 1 << 20, "data: ", &heard), 0);
	assert_int_equal(heard, 15 * ((1 << 20) + 1) - 1);
	assert_int_equal(read_large(1, SSE_EVENT_MAX + 1, "data: ", &heard), -1);
	assert_int_equal(heard, 0);
	assert_int_equal(read_large(17, 1 << 20, "data: ", &heard), -1);
	assert_int_equal(heard, 0);
	assert_int_equal(read_large(1, SSE_EVENT_MAX + 1, "unknown: ", &heard), -1);
	/* what goes by does not add up */
	assert_int_equal(read_large(40, 1 << 20, ": ", &heard), 0);
}

/* ---- writing ---- */

static void check_written(const char *data, size_t len, const char *written, const char *read_back)
{
	struct buf out = BUF_INIT(1 << 16);

	sse_write_data(&out, data, len);
	assert_string_equal(out.data, written);
	check_cut(out.data, out.len, NULL, 0, read_back);
	buf_release(&out);
}

static void test_write(void **state)
{
	struct buf out = BUF_INIT(4096);

	(void)state;
	check_written("a", 1, "data: a\n\n", "[|a]");
	check_written("", 0, "data: \n\n", "[|]");
	check_written(" a", 2, "data:  a\n\n", "[| a]");
	check_written("a\nb", 3, "data: a\ndata: b\n\n", "[|a\\nb]");
	check_written("\n", 1, "data: \ndata: \n\n", "[|\\n]");
	check_written("a\n", 2, "data: a\ndata: \n\n", "[|a\\n]");
	check_written("a\n\nb", 4, "data: a\ndata: \ndata: b\n\n", "[|a\\n\\nb]");
	check_written("[DONE]x", 6, "data: [DONE]\n\n", "[|[DONE]]");
	sse_write_comment(&out, "keep-alive");
	assert_string_equal(out.data, ": keep-alive\n\n");
	sse_write_data(&out, "a", 1);
	sse_write_comment(&out, "x");
	check_cut(out.data, out.len, NULL, 0, "[|a]");
	buf_release(&out);
}

/* "A line break in `data` begins another data line": also the other two that an event stream knows. */
static void test_write_any_line_break(void **state)
{
	static const char *const hostile[] = {
		"a\rdata: forged", "a\r\ndata: forged", "a\r\r\n\ndata: forged", "\r", "a\r"};
	struct buf out = BUF_INIT(4096);
	struct sse_reader r;
	struct heard h;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(hostile); i++) {
		r = SSE_READER_INIT;
		h = (struct heard){.text = BUF_INIT(4096)};
		buf_reset(&out);
		sse_write_data(&out, hostile[i], strlen(hostile[i]));
		assert_int_equal(sse_read(&r, out.data, out.len, hear, &h), 0);
		if (h.count != 1)
			fail_msg("one event was written, %s was read", h.text.data);
		if (strstr(hostile[i], "forged"))
			check_contains(h.text.data, "data: forged");
		buf_release(&h.text);
		sse_reader_release(&r);
	}
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_cuts_by_chance),
		cmocka_unit_test(test_callback_stops),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_write_any_line_break),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
