/* What is JSON by its grammar and not for us is told from what is none: answers are judged by it. */
#include "../unit.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

struct text {
	const char *bytes;
	size_t len;
};

#define TEXT(literal) \
	{ \
		literal, sizeof(literal) - 1 \
	}

/* Scans a copy that ends where the text ends, so that AddressSanitizer sees a byte too far. */
static enum err_code code_of(const struct text *text, struct err *e)
{
	char *copy = malloc(text->len);

	assert_non_null(copy);
	memcpy(copy, text->bytes, text->len);
	assert_int_equal(json_scan(copy, text->len, e), -1);
	free(copy);
	return e->code;
}

/* JSON by its grammar. */
static const struct text unreadable[] = {TEXT("\"\\ud800\""), TEXT("\"\\udbff\""), TEXT("\"\\udc00\""),
	TEXT("\"\\udfff\""), TEXT("\"\\ud800\\ud800\""), TEXT("\"\\ud800a\""), TEXT("\"\\ud800\\n\""),
	TEXT("\"\\ud800\\u0041\""), TEXT("\"\\udc00\\ud800\""), TEXT("\"\\ud800 \\udc00\""),
	TEXT("\"\\ud800\\ud83d\\ude00\""), TEXT("{\"\\ud800\":1}"), TEXT("{\"\\ud800\":1,\"\\ud801\":1}"),
	TEXT("[\"\\ud800\",1e999,{\"a\":1,\"a\":1}]"), TEXT("{\"\\u0000\":1}"), TEXT("{\"a\\u0000b\":1}"),
	TEXT("{\"a\":{\"b\\u0000\":1}}"), TEXT("{\"\\u0000\":[{\"a\":\"\\ud800\"}]}")};

static void test_unreadable(void **state)
{
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(unreadable); i++) {
		if (code_of(&unreadable[i], &e) != ERR_UNREADABLE_JSON)
			fail_msg("%s: %s", unreadable[i].bytes, e.message);
		assert_non_null(strstr(e.message, "at line 1, column "));
		assert_string_equal(err_kind(e.code)->code, err_kind(ERR_INVALID_JSON)->code);
	}
}

/* What is weighed is the whole, however strange it is: a lenient reader has no bound of its own. */
static void test_weighs_what_it_refuses(void **state)
{
	struct buf text = BUF_INIT(1 << 20);
	struct err e;
	int i;

	(void)state;
	buf_adds(&text, "[\"\\ud800\"");
	for (i = 0; i < 1000; i++)
		buf_adds(&text, ",{}");
	buf_adds(&text, "]");
	assert_null(json_parse_within(text.data, text.len, 1 << 20, &e));
	assert_int_equal(e.code, ERR_UNREADABLE_JSON);
	assert_null(json_parse_within(text.data, text.len, 1 << 19, &e));
	assert_int_equal(e.code, ERR_BODY_TOO_LARGE);
	buf_release(&text);
}

/* Behind something that is only strange. */
static const struct text broken[] = {TEXT("\"\\ud800"), TEXT("\"\\ud800\\udc0\""), TEXT("\"\\ud800\\"),
	TEXT("[\"\\ud83d\","), TEXT("[\"\\ud83d\\x\"]"), TEXT("{\"\\u0000\":}"), TEXT("{\"\\u0000\" 1}"),
	TEXT("{\"a\":1,\"a\":}"), TEXT("{\"a\":1,\"a\":2"), TEXT("[{\"\\ud800\":1,\"\\udc00\":2},nul]"), TEXT("1e999x"),
	TEXT("[99999999999999999999"), TEXT("[1e999,]"),
	TEXT("{\"0\":0,\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"a\":0,\"b\":0,\"c\":0,"
	     "\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"g\":0}}")};

static void test_broken(void **state)
{
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(broken); i++) {
		if (code_of(&broken[i], &e) != ERR_INVALID_JSON)
			fail_msg("%s: %s", broken[i].bytes, e.message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_weighs_what_it_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
