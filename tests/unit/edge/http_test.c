/* Header fields in and out: nobody's value becomes two headers, and what is malformed is not believed. */
#include "../unit.h"

#include "edge/http.h"

static void test_reason(void **state)
{
	(void)state;
	assert_string_equal(http_reason(200), "OK");
	assert_string_equal(http_reason(429), "Too Many Requests");
	assert_string_equal(http_reason(503), "Service Unavailable");
	assert_string_equal(http_reason(599), "");
	assert_string_equal(http_reason(0), "");
	assert_string_equal(http_reason(-1), "");
}

static void test_head(void **state)
{
	struct buf head = BUF_INIT(4096);

	(void)state;
	http_head_status(&head, 404);
	http_head_add(&head, "Content-Type", "%s", "application/json");
	http_head_add(&head, "Age", "%d", 7);
	http_head_add(&head, "X-Empty", "%s", "");
	http_head_end(&head);
	assert_string_equal(
		head.data, "Status: 404 Not Found\r\nContent-Type: application/json\r\nAge: 7\r\nX-Empty: \r\n\r\n");
	buf_release(&head);
}

static int count_lines(const char *head)
{
	int n = 0;

	for (; *head; head++)
		n += *head == '\n' || *head == '\r';
	return n;
}

static void test_injection(void **state)
{
	struct buf head = BUF_INIT(64 * 1024);
	char value[2], longest[5000];
	int c;

	(void)state;
	http_head_add(&head, "x-request-id", "%s", "a\r\nSet-Cookie: x=1\r\n\r\n<html>\n\t\x7f");
	assert_int_equal(count_lines(head.data), 2);
	assert_int_equal(strncmp(head.data, "x-request-id: a", 15), 0);
	assert_int_equal(strcmp(head.data + head.len - 2, "\r\n"), 0);
	for (c = 1; c < 256; c++) {
		buf_reset(&head);
		value[0] = (char)c;
		value[1] = '\0';
		http_head_add(&head, "x", "%s", value);
		assert_int_equal(head.len, 6);
		assert_int_equal(count_lines(head.data), 2);
		if (c >= 0x20 && c != 0x7f)
			assert_int_equal((unsigned char)head.data[3], c);
		else
			assert_true((unsigned char)head.data[3] > 0x20 && head.data[3] != 0x7f);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	buf_reset(&head);
	http_head_add(&head, "x", "%s", longest);
	http_head_end(&head);
	assert_int_equal(count_lines(head.data), 4);
	assert_string_equal(head.data + head.len - 4, "\r\n\r\n");
	buf_release(&head);
}

static void test_request_id(void **state)
{
	static const char *const refused[] = {"", " ", "a b", "a\n", "a\r\nb", "a\"b", "a,b", "a;b", "<a>", "\xc3\xa9",
		"a\x7f", "a'b", "a%20b", "a#b"};
	char id[130];
	size_t i;

	(void)state;
	assert_true(http_request_id_valid("a"));
	assert_true(http_request_id_valid("req_0123456789abcdefABCDEF-._:/+=@"));
	assert_true(http_request_id_valid("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"));
	for (i = 0; i < COUNT(refused); i++)
		if (http_request_id_valid(refused[i]))
			fail_msg("accepted: %s", refused[i]);
	memset(id, 'x', sizeof(id));
	id[128] = '\0';
	assert_true(http_request_id_valid(id));
	id[128] = 'x';
	id[129] = '\0';
	assert_false(http_request_id_valid(id));
}

static void test_media_type(void **state)
{
	static const char *const json[] = {"application/json", "Application/JSON", "application/json; charset=utf-8",
		"application/json;charset=utf-8", "application/json ;x", "application/json\t"};
	static const char *const other[] = {"", "application/jsonl", "application/json+x",
		"application/json-patch+json", "application", "text/json", " application/jso", "xapplication/json",
		"application/json, text/plain"};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(json); i++)
		if (!http_media_type_is(json[i], "application/json"))
			fail_msg("refused: %s", json[i]);
	for (i = 0; i < COUNT(other); i++)
		if (http_media_type_is(other[i], "application/json"))
			fail_msg("accepted: %s", other[i]);
	assert_false(http_media_type_is(NULL, "application/json"));
	assert_true(http_media_type_is("text/event-stream; charset=utf-8", "text/event-stream"));
}

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"

static void test_trace_parse(void **state)
{
	static const char *const refused[] = {"", "00", "00-" TRACE "-" PARENT, "00-" TRACE "-" PARENT "-0",
		"00-" TRACE "-" PARENT "-01-x", "00-" TRACE "-" PARENT "-011", "ff-" TRACE "-" PARENT "-01",
		"FF-" TRACE "-" PARENT "-01", "0-" TRACE "-" PARENT "-01x", "00-" TRACE "_" PARENT "-01",
		"00-00000000000000000000000000000000-" PARENT "-01", "00-" TRACE "-0000000000000000-01",
		"00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01", "00-" TRACE "-B7AD6B7169203331-01",
		"00-" TRACE "-" PARENT "-zz", "00-" TRACE "-" PARENT "-0A", "0g-" TRACE "-" PARENT "-01",
		"00-0af7651916cd43dd8448eb211c80319g-" PARENT "-01", "00-" TRACE "-b7ad6b716920333g-01",
		" 00-" TRACE "-" PARENT "-01", "01-" TRACE "-" PARENT "-011"};
	struct http_trace t = {0};
	size_t i;

	(void)state;
	assert_true(http_trace_parse("00-" TRACE "-" PARENT "-01", &t));
	assert_string_equal(t.trace_id, TRACE);
	assert_string_equal(t.parent_id, PARENT);
	assert_int_equal(t.flags, 1);
	assert_true(http_trace_parse("00-" TRACE "-" PARENT "-00", &t));
	assert_int_equal(t.flags, 0);
	assert_true(http_trace_parse("00-" TRACE "-" PARENT "-ff", &t));
	assert_int_equal(t.flags & 1, 1);
	/* 3.2.4: of a later version what is known is read */
	assert_true(http_trace_parse("01-" TRACE "-" PARENT "-01", &t));
	assert_true(http_trace_parse("cc-" TRACE "-" PARENT "-01-what-may-come", &t));
	assert_string_equal(t.trace_id, TRACE);
	for (i = 0; i < COUNT(refused); i++)
		if (http_trace_parse(refused[i], &t))
			fail_msg("accepted: %s", refused[i]);
	assert_false(http_trace_parse(NULL, &t));
}

static void test_trace_print(void **state)
{
	char out[HTTP_TRACEPARENT], again[HTTP_TRACEPARENT];
	struct http_trace t, other, back;

	(void)state;
	http_trace_begin(&t);
	http_trace_begin(&other);
	assert_string_not_equal(t.trace_id, other.trace_id);
	http_trace_print(&t, out);
	assert_int_equal(strlen(out), HTTP_TRACEPARENT - 1);
	assert_true(http_trace_parse(out, &back));
	assert_string_equal(back.trace_id, t.trace_id);
	http_trace_print(&t, again);
	assert_string_not_equal(out, again); /* a span of its own for every call */
	assert_true(http_trace_parse("00-" TRACE "-" PARENT "-00", &t));
	http_trace_print(&t, out);
	assert_int_equal(strncmp(out, "00-" TRACE "-", 36), 0);
	assert_null(strstr(out, PARENT));
	assert_string_equal(out + 52, "-00"); /* not sampled stays so */
}

static void test_path(void **state)
{
	(void)state;
	assert_int_equal(http_path_len("/v1/models"), 10);
	assert_int_equal(http_path_len("/v1/models?a=b?c#d"), 10);
	assert_int_equal(http_path_len("/v1/models#x?y"), 10);
	assert_int_equal(http_path_len("?x"), 0);
	assert_int_equal(http_path_len(""), 0);
	assert_int_equal(http_path_len("/a//b/../c%3Fd?"), 14);
}

static void check_directives(const char *text, const char *expected)
{
	struct buf found = BUF_INIT(4096);
	struct http_directive d;

	while (http_directive_next(&text, &d))
		buf_printf(&found, "[%s|%s]", d.name, d.value);
	assert_string_equal(found.len ? found.data : "", expected);
	buf_release(&found);
}

static void test_directives(void **state)
{
	(void)state;
	check_directives("", "");
	check_directives(" ,,\t, ", "");
	check_directives("a", "[a|]");
	check_directives("a,b=1 ,c=\"x, y\" , d", "[a|][b|1][c|x, y][d|]");
	check_directives("a=\"\\\"\\\\,\",b", "[a|\"\\,][b|]");
	check_directives("a=\"x", "[a|x]");
	check_directives("a=\"x\\", "[a|x\\]");
	check_directives("a = 1, b;c=\"d,e\", f g", "[a|][b|][f|]");
	check_directives("=x, \"a,b\", =\"y", "[|x][|][|y]");
	/* too long to be one of ours, and not cut to what is */
	check_directives("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1,b", "[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|1][b|]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reason),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_injection),
		cmocka_unit_test(test_request_id),
		cmocka_unit_test(test_media_type),
		cmocka_unit_test(test_trace_parse),
		cmocka_unit_test(test_trace_print),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_directives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
