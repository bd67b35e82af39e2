/* Texts that are JSON to somebody else, and trees that would be too large. */
#include "../unit.h"

#include "base/json_scan.h"

enum { WEIGHT = 1 << 20 };

static struct json_object *lenient(const char *text, size_t len, size_t max_weight)
{
	char *copy = exact_copy(text, len);
	struct json_object *value = json_parse_leniently(copy, len, max_weight);

	free(copy);
	return value;
}

/* What becomes of it when it is printed, which json_parse() accepts again. NULL: it is none. */
static const struct {
	const char *text, *printed;
} texts[] = {
	/* refused by json_parse() */
	{"{\"a\":\"\\ud800\"}", "{\"a\":\"\xef\xbf\xbd\"}"},
	{"{\"a\":\"\\udc00x\"}", "{\"a\":\"\xef\xbf\xbdx\"}"},
	{"{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}"},
	{"{\"a\":123456789012345678901234567890}", "{\"a\":18446744073709551615}"},
	{"[-123456789012345678901234567890]", "[-9223372036854775808]"},
	{"[1e999,-1e999,NaN,-Infinity]", "[null,null,null,null]"},
	{"[1e-999]", "[0]"},
	/* and accepted */
	{"{}", "{}"},
	{"[]", "[]"},
	{" { \"a\" : [ 1.50 , null ] } ", "{\"a\":[1.5,null]}"},
	/* nobody's JSON, or no object */
	{"", NULL},
	{" ", NULL},
	{"null", NULL},
	{"7", NULL},
	{"<html>", NULL},
	{"{", NULL},
	{"{\"a\":1", NULL},
	{"{\"a\":1,}", NULL},
	{"[1,]", NULL},
	{"{} {}", NULL},
	{"{}x", NULL},
	{"{a:1}", NULL},
	{"{\"a\":tru}", NULL},
	{"{} // comment", NULL},
	{"{\"a\":\"\xff\"}", NULL},
	{"{\"a\":\"\xc3\"}", NULL},
};

static void test_lenient(void **state)
{
	struct buf out = BUF_INIT(4096);
	struct json_object *value;
	struct err err;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(texts); i++) {
		value = lenient(texts[i].text, strlen(texts[i].text), WEIGHT);
		if (!value != !texts[i].printed)
			fail_msg("%s: %s", texts[i].text, value ? "accepted" : "refused");
		if (!value)
			continue;
		buf_reset(&out);
		json_print(&out, value);
		assert_string_equal(out.data, texts[i].printed);
		assert_int_equal(json_scan(out.data, out.len, &err), 0);
		json_release(value);
	}
	buf_release(&out);
}

static void repeat(struct buf *out, const char *text, size_t times)
{
	while (times--)
		buf_adds(out, text);
}

static void test_lenient_depth(void **state)
{
	struct buf text = BUF_INIT(4096);
	struct json_object *value;

	(void)state;
	repeat(&text, "[", JSON_MAX_DEPTH);
	repeat(&text, "]", JSON_MAX_DEPTH);
	value = lenient(text.data, text.len, WEIGHT);
	assert_non_null(value);
	json_release(value);
	buf_reset(&text);
	repeat(&text, "[", JSON_MAX_DEPTH + 2);
	repeat(&text, "]", JSON_MAX_DEPTH + 2);
	assert_null(lenient(text.data, text.len, WEIGHT));
	buf_release(&text);
}

/* {} is two bytes of text: so many of them as could outweigh the bound are not even looked at. */
static void test_bounds(void **state)
{
	struct buf text = BUF_INIT(1 << 20);
	struct json_object *value;
	struct err err;
	size_t count;

	(void)state;
	for (count = 10; count <= 10000; count *= 10) {
		buf_reset(&text);
		buf_adds(&text, "[{}");
		repeat(&text, ",{}", count - 1);
		buf_adds(&text, "]");
		value = json_parse_within(text.data, text.len, count * WEIGHT_OBJECT + WEIGHT_ARRAY, &err);
		assert_non_null(value);
		json_release(value);
		assert_null(json_parse_within(text.data, text.len, count * WEIGHT_OBJECT + WEIGHT_ARRAY - 1, &err));
		assert_int_equal(err.code, ERR_BODY_TOO_LARGE);
		value = lenient(text.data, text.len, text.len * WEIGHT_PER_BYTE);
		assert_non_null(value);
		json_release(value);
		assert_null(lenient(text.data, text.len, count * WEIGHT_OBJECT));
		assert_null(lenient(text.data, text.len, text.len * WEIGHT_PER_BYTE - 1));
	}
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lenient),
		cmocka_unit_test(test_lenient_depth),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
