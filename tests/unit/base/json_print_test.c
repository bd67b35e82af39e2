/* What goes out, byte by byte, and that it is always let in again. What comes in: json_test.c. */
#include "base/json.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct json_object *parse(const char *text)
{
	struct err e = {0};
	struct json_object *value = json_parse(text, strlen(text), &e);

	if (!value)
		fail_msg("%s: %s", text, e.message);
	return value;
}

static void check_print(struct json_object *value, const char *expected)
{
	struct buf out = BUF_INIT(1 << 20);

	json_print(&out, value);
	assert_false(out.overflow);
	assert_string_equal(out.data, expected);
	buf_release(&out);
}

static void check_string(const char *s, size_t len, const char *expected)
{
	struct buf out = BUF_INIT(1024);

	json_print_string(&out, s, len);
	assert_string_equal(out.data, expected);
	buf_release(&out);
}

static void test_print_string(void **state)
{
	(void)state;
	check_string("", 0, "\"\"");
	check_string("plain / text, long enough for a run", 35, "\"plain / text, long enough for a run\"");
	check_string("\b\t\n\f\r\"\\", 7, "\"\\b\\t\\n\\f\\r\\\"\\\\\"");
	check_string("\0\x01\x0b\x0e\x1f", 5, "\"\\u0000\\u0001\\u000b\\u000e\\u001f\"");
	check_string("\x7f\xc2\x85\xe2\x80\xa8\xf0\x9f\x98\x80", 10, "\"\x7f\xc2\x85\xe2\x80\xa8\xf0\x9f\x98\x80\"");
	check_string("12345678\n12345678\"\xc3\xa9", 20, "\"12345678\\n12345678\\\"\xc3\xa9\"");
	/* RFC 8785 §3.2.2.2 */
	check_string("\xe2\x82\xac$\x0f\nA'B\"\\\\\"/", 14, "\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"");
}

static void check_reprint(const char *text, const char *expected)
{
	struct json_object *value = parse(text);

	check_print(value, expected);
	json_release(value);
}

static void test_reprint(void **state)
{
	(void)state;
	check_reprint(" 12 ", "12");
	check_reprint("true", "true");
	check_reprint("false\n", "false");
	check_reprint("\t\"a\"", "\"a\"");
	check_reprint("-9223372036854775808", "-9223372036854775808");
	check_reprint("9223372036854775807", "9223372036854775807");
	check_reprint("9223372036854775808", "9223372036854775808");
	check_reprint("[ -0.0, 1E3, 0.1, 1e-7, 123456789.125e-3 ]", "[0,1000,0.1,1e-7,123456.789125]");
	check_reprint("{\"b\":1,\"a\":{\"d\":null,\"c\":[]},\"\":{}}", "{\"b\":1,\"a\":{\"d\":null,\"c\":[]},\"\":{}}");
	/* what json-c by itself takes for surrogates, and an escaped backslash that begins no pair */
	check_reprint("[\"\\ud836\\udc00\\ud837\\udfff\\uD877\\uDE34x\"]",
		"[\"\xf0\x9d\xa0\x80\xf0\x9d\xbf\xbf\xf0\xad\xb8\xb4x\"]");
	check_reprint("{\"\\ud836\\udc00\":\"\\\\ud836\\\\udc00\"}", "{\"\xf0\x9d\xa0\x80\":\"\\\\ud836\\\\udc00\"}");
	check_reprint("\"\\u00e9\\ud83d\\ude00\\/\"", "\"\xc3\xa9\xf0\x9f\x98\x80/\"");
}

static void test_overflow_is_sticky(void **state)
{
	struct json_object *value = parse("[\"0123456789\",1,2.5,{\"a\":null}]");
	struct buf out = BUF_INIT(8);

	(void)state;
	json_print(&out, value);
	assert_true(out.overflow);
	assert_true(out.len <= 8);
	buf_release(&out);
	json_release(value);
}

static void test_getters(void **state)
{
	struct json_object *o = parse("{\"s\":\"x\",\"i\":7,\"d\":7.0,\"b\":true,\"n\":null,\"a\":[1],\"o\":{},"
				      "\"big\":18446744073709551615}");

	(void)state;
	assert_string_equal(json_get_str(o, "s"), "x");
	assert_null(json_get_str(o, "i"));
	assert_null(json_get_str(o, "missing"));
	assert_int_equal(json_get_int(o, "i", -1), 7);
	assert_int_equal(json_get_int(o, "d", -1), -1);
	assert_int_equal(json_get_int(o, "s", -1), -1);
	assert_int_equal(json_get_int(o, "n", -1), -1);
	assert_true(json_get_int(o, "big", -1) == INT64_MAX);
	assert_true(json_get_bool(o, "b", false));
	assert_true(json_get_bool(o, "i", true));
	assert_false(json_get_bool(o, "missing", false));
	assert_non_null(json_get_array(o, "a"));
	assert_null(json_get_array(o, "o"));
	assert_non_null(json_get_object(o, "o"));
	assert_null(json_get_object(o, "a"));
	assert_non_null(json_get(o, "d"));
	assert_null(json_get(o, "n"));
	assert_true(json_has(o, "n"));
	assert_false(json_has(o, "missing"));
	assert_null(json_get(NULL, "s"));
	assert_false(json_has(NULL, "s"));
	assert_null(json_get_str(NULL, "s"));
	assert_int_equal(json_get_int(NULL, "i", 3), 3);
	assert_null(json_get(json_get(o, "a"), "s"));
	assert_false(json_has(json_get(o, "s"), "s"));
	json_release(o);
	json_release(NULL);
}

static void test_builders(void **state)
{
	struct json_object *o = json_object_new_object();

	(void)state;
	json_set_str(o, "first", "\"1\"");
	json_set_int(o, "second", INT64_MIN);
	json_set_bool(o, "third", false);
	json_set(o, "fourth", json_object_new_array());
	json_set(o, "fifth", NULL);
	check_print(o,
		"{\"first\":\"\\\"1\\\"\",\"second\":-9223372036854775808,\"third\":false,\"fourth\":[],\"fifth\":null}");
	json_set_str(o, "second", "again");
	json_set_bool(o, "first", true);
	json_unset(o, "third");
	json_unset(o, "missing");
	json_set_int(o, "third", 3);
	check_print(o, "{\"first\":true,\"second\":\"again\",\"fourth\":[],\"fifth\":null,\"third\":3}");
	json_release(o);
}

static void test_type_word(void **state)
{
	static const char *const words[] = {
		"null", "a boolean", "an integer", "a number", "a string", "an object", "an array"};
	struct json_object *a = parse("[null,true,1,1.5,\"\",{},[]]");
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(words); i++)
		assert_string_equal(json_type_word(json_object_array_get_idx(a, i)), words[i]);
	json_release(a);
}

/* ── Whatever can be said ────────────────────────────────────────────────────────────────────────────────────────── */

/* xorshift64: the same values on every machine. */
static uint64_t random_next(void)
{
	static uint64_t x = 20261123;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static unsigned random_below(unsigned n)
{
	return (unsigned)((random_next() >> 33) % n);
}

static void random_string(struct buf *out, bool with_nul)
{
	static const char *const pieces[] = {"a", "Z", "0", " ", "/", "\"", "\\", "\b", "\n", "\x01", "\x1f", "\x7f",
		"plain words that run on", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf",
		"\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xe2\x80\xa8"};
	unsigned n;

	buf_reset(out);
	buf_adds(out, "");
	for (n = random_below(12); n; n--)
		if (with_nul && random_below(20) == 0)
			buf_addc(out, '\0');
		else
			buf_adds(out, pieces[random_below(COUNT(pieces))]);
}

static double random_double(void)
{
	uint64_t bits;
	double d;

	switch (random_below(4)) {
	case 0: return (double)(int64_t)random_next() / (1 << random_below(31));
	case 1: return (double)random_below(100000) / 1000;
	case 2: return ldexp((double)random_next(), (int)random_below(40) - 20);
	default:
		do {
			bits = random_next();
			memcpy(&d, &bits, sizeof(d));
		} while (!isfinite(d));
		return d;
	}
}

static struct json_object *random_value(int depth)
{
	struct buf s = BUF_INIT(4096);
	struct json_object *value;
	unsigned n;

	switch (random_below(depth ? 8 : 6)) {
	case 0: return NULL;
	case 1: return json_object_new_boolean(random_below(2));
	case 2: return json_object_new_int64((int64_t)random_next() >> random_below(64));
	case 3: return json_object_new_uint64(random_next());
	case 4: return json_object_new_double(random_double());
	case 5:
		random_string(&s, true);
		value = json_object_new_string_len(s.data, (int)s.len);
		break;
	case 6:
		value = json_object_new_array();
		for (n = random_below(6); n; n--)
			json_object_array_add(value, random_value(depth - 1));
		break;
	default:
		value = json_object_new_object();
		for (n = random_below(random_below(10) ? 6 : 40); n; n--) {
			random_string(&s, false);
			json_set(value, s.data, random_value(depth - 1));
		}
	}
	buf_release(&s);
	return value;
}

static void check_fixed_point(const char *text, size_t len)
{
	struct buf again = BUF_INIT(1 << 20);
	struct err e = {0};
	struct json_object *value = json_parse(text, len, &e);

	if (!value && e.code != ERR_INVALID_TYPE)
		fail_msg("%s: %s", text, e.message);
	json_print(&again, value);
	assert_int_equal(again.len, len);
	assert_memory_equal(again.data, text, len);
	json_release(value);
	buf_release(&again);
}

static void test_print_is_a_fixed_point(void **state)
{
	struct buf text = BUF_INIT(1 << 20);
	struct json_object *value;
	int i;

	(void)state;
	for (i = 0; i < 5000; i++) {
		value = random_value(5);
		buf_reset(&text);
		json_print(&text, value);
		check_fixed_point(text.data, text.len);
		json_release(value);
	}
	buf_release(&text);
}

static void mutate(char *text, size_t len)
{
	static const char likely[] = "\"\\{}[],:0123456789-+.eEu \n\tdDtfn";
	unsigned n;

	for (n = 1 + random_below(3); n; n--)
		text[random_below((unsigned)len)] =
			random_below(3) ? likely[random_below(sizeof(likely))] : (char)random_next();
}

/* A text that passed the scan and that json-c does not read is a BUG, which would end the test. */
static void test_mutations(void **state)
{
	struct buf text = BUF_INIT(1 << 20), printed = BUF_INIT(1 << 20);
	struct json_object *value;
	struct err e;
	int i, passed = 0;
	char *copy;

	(void)state;
	for (i = 0; i < 20000; i++) {
		value = random_value(3);
		buf_reset(&text);
		json_print(&text, value);
		json_release(value);
		copy = malloc(text.len);
		assert_non_null(copy);
		memcpy(copy, text.data, text.len);
		mutate(copy, text.len);
		value = json_parse(copy, text.len, &e);
		free(copy);
		if (!value)
			continue;
		passed++;
		buf_reset(&printed);
		json_print(&printed, value);
		check_fixed_point(printed.data, printed.len);
		json_release(value);
	}
	assert_in_range(passed, 1000, 19000);
	buf_release(&text);
	buf_release(&printed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_print_string),
		cmocka_unit_test(test_reprint),
		cmocka_unit_test(test_overflow_is_sticky),
		cmocka_unit_test(test_getters),
		cmocka_unit_test(test_builders),
		cmocka_unit_test(test_type_word),
		cmocka_unit_test(test_print_is_a_fixed_point),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
