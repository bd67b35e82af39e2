/* What may come in: RFC 8259 to the letter, and a refusal that says where. What goes out: json_print_test.c. */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct text {
	const char *bytes;
	size_t len;
};

#define TEXT(literal) \
	{ \
		literal, sizeof(literal) - 1 \
	}
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A copy that ends where the text ends, so that AddressSanitizer sees a byte too far. */
static char *exact_copy(const char *bytes, size_t len)
{
	char *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return copy;
}

/* What reaches a client must itself be well-formed, without controls, and say where. */
static void check_words(const char *words)
{
	struct buf quoted = BUF_INIT(4096);
	struct err again;
	const char *p;

	for (p = words; *p; p++)
		assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
	json_print_string(&quoted, words, strlen(words));
	assert_int_equal(json_scan(quoted.data, quoted.len, &again), 0);
	buf_release(&quoted);
}

static int scan(const char *bytes, size_t len, struct err *e)
{
	char *copy = exact_copy(bytes, len);
	int rc;

	*e = (struct err){0};
	rc = json_scan(copy, len, e);
	free(copy);
	if (rc) {
		assert_int_not_equal(e->code, ERR_NONE);
		assert_string_not_equal(e->message, "");
		check_words(e->message);
		check_words(e->param);
	} else {
		assert_int_equal(e->code, ERR_NONE);
	}
	return rc;
}

static struct json_object *parse(const char *bytes, size_t len)
{
	char *copy = exact_copy(bytes, len);
	struct err e = {0};
	struct json_object *value = json_parse(copy, len, &e);

	free(copy);
	if (!value)
		fail_msg("%.*s: %s", (int)len, bytes, e.message);
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

static const struct text accepted[] = {TEXT("{}"), TEXT("[]"), TEXT("0"), TEXT("null"), TEXT("true"), TEXT("false"),
	TEXT("\"\""), TEXT("[null]"), TEXT(" \t\r\n[ \t\r\n1 \t\r\n, \t\r\n2 \t\r\n] \t\r\n"),
	TEXT("{ \"a\" : { } , \"b\" : [ ] }\n"), TEXT("{\"\":0}"), TEXT("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}"),
	TEXT("[{\"a\":1},{\"a\":2}]"), TEXT("{\"a\":1,\"A\":2,\"a \":3,\"aa\":4}"), TEXT("[[],[[]],{}]"),
	/* numbers */
	TEXT("-0"), TEXT("-1"), TEXT("10"), TEXT("1.0"), TEXT("1e2"), TEXT("1E2"), TEXT("1e+2"), TEXT("1E-2"),
	TEXT("0e0"), TEXT("0.0"), TEXT("-0.0"), TEXT("0E+1"), TEXT("1e007"), TEXT("123.456e78"),
	TEXT("1.7976931348623157e308"), TEXT("-1.7976931348623157e308"), TEXT("17976931348623157e292"),
	TEXT("0.00017976931348623157e312"), TEXT("4.9e-324"), TEXT("5e-324"), TEXT("2.5e-324"), TEXT("-4.9e-324"),
	TEXT("2.2250738585072014e-308"), TEXT("0e999999999999999999999"), TEXT("0.000e-999999999999999999999"),
	TEXT("0.00000000000000000000000000000000000000000000000000000000000001e370"),
	TEXT("100000000000000000000000000000000000000000e-350"), TEXT("9223372036854775807"),
	TEXT("9223372036854775808"), TEXT("18446744073709551615"), TEXT("-9223372036854775808"),
	TEXT("1000000000000000000"), TEXT("100000000000000000000e0"), TEXT("100000000000000000000.0"),
	/* strings */
	TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), TEXT("\"\\u0000\""), TEXT("\"\\u00e9\\u00E9\\uABCD\\uabcd\""),
	TEXT("\"\\ud83d\\ude00\""), TEXT("\"\\uD800\\uDC00\\uDBFF\\uDFFF\""), TEXT("\"\\ud7ff\\ue000\\uffff\\ufffe\""),
	TEXT("\"\x7f\""), TEXT("\"/\""), TEXT("\"\xc2\x80\xdf\xbf\""),
	TEXT("\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\""), TEXT("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""),
	TEXT("\"\xe2\x80\xa8\xe2\x80\xa9\""), TEXT("\"\xef\xbb\xbf\""), TEXT("\"12345678\xc3\xa9zzzzzzzz\\n1234567\""),
	TEXT("{\"\\ud83d\\ude00\":1,\"\xc3\xa9\":2}")};

static void test_accepts(void **state)
{
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(accepted); i++) {
		if (scan(accepted[i].bytes, accepted[i].len, &e))
			fail_msg("%s: %s", accepted[i].bytes, e.message);
		if (strcmp(accepted[i].bytes, "null") != 0)
			json_release(parse(accepted[i].bytes, accepted[i].len));
	}
}

static const struct text refused[] = {TEXT(""), TEXT(" "), TEXT("\n"), TEXT("[1] 2"), TEXT("{} {}"), TEXT("1 1"),
	TEXT("\"a\" x"), TEXT("[]]"), TEXT("{}}"), TEXT("\xef\xbb\xbf{}"), TEXT("\xef\xbb\xbf"), TEXT("{}\xef\xbb\xbf"),
	TEXT("\xff\xfe{\0}\0"), TEXT("{}\0"), TEXT("\0"), TEXT("[\0]"), TEXT("\f[]"), TEXT("\v[]"), TEXT("[1\f]"),
	TEXT("\xc2\xa0[]"), TEXT("[\xe2\x81\xa0]"),
	/* words */
	TEXT("nul"), TEXT("nulL"), TEXT("nulll"), TEXT("tru"), TEXT("True"), TEXT("fals"), TEXT("FALSE"),
	TEXT("undefined"), TEXT("[t"), TEXT("NaN"), TEXT("-NaN"), TEXT("Infinity"), TEXT("-Infinity"), TEXT("nan"),
	TEXT("inf"), TEXT("None"),
	/* arrays and objects */
	TEXT("["), TEXT("]"), TEXT("{"), TEXT("}"), TEXT("[1"), TEXT("[1,"), TEXT("[1,]"), TEXT("[,1]"), TEXT("[,]"),
	TEXT("[1,,2]"), TEXT("[1 2]"), TEXT("[1:2]"), TEXT("[1;2]"), TEXT("[1}"), TEXT("[}"), TEXT("{]"), TEXT("{,}"),
	TEXT("{\"a\"}"), TEXT("{\"a\":}"), TEXT("{\"a\":1,}"), TEXT("{\"a\":1]"), TEXT("{\"a\" 1}"),
	TEXT("{\"a\":1 \"b\":2}"), TEXT("{\"a\"::1}"), TEXT("{\"a\",\"b\"}"), TEXT("{a:1}"), TEXT("{1:1}"),
	TEXT("{null:1}"), TEXT("{'a':1}"), TEXT("{:1}"), TEXT("{\"a\":1,,\"b\":2}"), TEXT("{\"a\":1:2}"),
	TEXT("{\"a\""), TEXT("{\"a\":"), TEXT("{\"a\":1"), TEXT("{\"a\":1,"), TEXT("{\"a\":1,1}"), TEXT("[\"a\":1]"),
	TEXT("{{}:1}"),
	/* comments */
	TEXT("// x\n1"), TEXT("/* x */1"), TEXT("1 // x"), TEXT("1 /* x */"), TEXT("[1,/**/2]"), TEXT("# x\n1"),
	/* numbers */
	TEXT("-"), TEXT("+1"), TEXT("--1"), TEXT("-+1"), TEXT("01"), TEXT("-01"), TEXT("00"), TEXT("-00"), TEXT("012"),
	TEXT("00.5"), TEXT("1."), TEXT("-1."), TEXT(".5"), TEXT("-.5"), TEXT("1.e1"), TEXT("1e"), TEXT("1E"),
	TEXT("1e+"), TEXT("1e-"), TEXT("1e1.5"), TEXT("1e+-1"), TEXT("1.2.3"), TEXT("0x10"), TEXT("1_000"),
	TEXT("1,000"), TEXT("1a"), TEXT("0e"), TEXT("0.e1"), TEXT("e1"), TEXT("- 1"), TEXT("1 e1"), TEXT("1.-1"),
	TEXT("\xef\xbc\x91"),
	/* strings */
	TEXT("\""), TEXT("\"a"), TEXT("'a'"), TEXT("\"a\\"), TEXT("\"a\\\""), TEXT("\"\\x\""), TEXT("\"\\'\""),
	TEXT("\"\\\0\""), TEXT("\"\\U0041\""), TEXT("\"\\a\""), TEXT("\"\\u\""), TEXT("\"\\u1\""), TEXT("\"\\u12\""),
	TEXT("\"\\u123\""), TEXT("\"\\u123g\""), TEXT("\"\\u 123\""), TEXT("\"\\u-123\""), TEXT("\"\\u12"),
	TEXT("\"\\u1234"), TEXT("\"\n\""), TEXT("\"\t\""), TEXT("\"\0\""), TEXT("\"\x1f\""), TEXT("\"1234567\x01\""),
	/* UTF-8: stray, cut, overlong, surrogates, beyond U+10FFFF */
	TEXT("\"\x80\""), TEXT("\"\xbf\""), TEXT("\"\xc3\""), TEXT("\"\xc3"), TEXT("\"\xe2\x82\""), TEXT("\"\xe2\x82"),
	TEXT("\"\xf0\x9f\x98\""), TEXT("\"\xf0\x9f\x98"), TEXT("\"\xc0\x80\""), TEXT("\"\xc1\xbf\""),
	TEXT("\"\xe0\x80\x80\""), TEXT("\"\xe0\x9f\xbf\""), TEXT("\"\xf0\x80\x80\x80\""), TEXT("\"\xf0\x8f\xbf\xbf\""),
	TEXT("\"\xed\xa0\x80\""), TEXT("\"\xed\xbf\xbf\""), TEXT("\"\xf4\x90\x80\x80\""), TEXT("\"\xf5\x80\x80\x80\""),
	TEXT("\"\xf8\x88\x80\x80\x80\""), TEXT("\"\xfe\""), TEXT("\"\xff\""), TEXT("\"\xe2\x28\xa1\""),
	TEXT("\"\xe2\x82\x28\""), TEXT("\"\xf0\x28\x8c\xbc\""), TEXT("\"\xf0\x9f\x28\xbc\""), TEXT("\xc3\xa9")};

static void test_refuses(void **state)
{
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(refused); i++) {
		if (!scan(refused[i].bytes, refused[i].len, &e))
			fail_msg("accepted: %s", refused[i].bytes);
		assert_int_equal(e.code, ERR_INVALID_JSON);
		assert_non_null(strstr(e.message, "at line "));
	}
}

static const char *const beyond[] = {
	"18446744073709551616",
	"99999999999999999999",
	"-9223372036854775809",
	"-18446744073709551615",
	"100000000000000000000000000000000000000000000",
	"1e309",
	"-1e309",
	"1.7976931348623159e308",
	"179769313486231590000e289",
	"1e99999999999999999999",
	"0.001e312",
	"1e-324",
	"2.4e-324",
	"-1e-400",
	"0.0000000000000001e-310",
	"1e-99999999999999999999",
	"[1e400]",
	"{\"a\":1e400}",
	/* integers that would arrive as others */
	"9007199254740993.0",
	"-9007199254740993.0",
	"9007199254740993e0",
	"99999999999999999999e0",
	"99999999999999999999.0",
	"900719925474099.3e1",
	"90071992547409930e-1",
	"12345678901234567890.0",
	"0.000012345678901234567890e24",
	"1.7976931348623158e308",
};

/* Integers that a double holds, or that are spelled as they were; and what is no integer. */
static const char *const within[] = {"9007199254740992.0", "9007199254740993", "9007199254740994.0",
	"1152921504606846976.0", "-1152921504606846976e0", "1e23", "1E+23", "100000000000000000000000.0", "1e308",
	"3.402823466e+38", "1.8446744073709552e19", "123456789012345.0", "0.1", "0.30000000000000004",
	"3.141592653589793238", "0.12345678901234567890123", "9007199254740993.5", "12345678901234567890.5", "0.0",
	"0e99", "1.7976931348623157e308"};

static void test_number_range(void **state)
{
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(beyond); i++) {
		if (!scan(beyond[i], strlen(beyond[i]), &e))
			fail_msg("accepted: %s", beyond[i]);
		assert_int_equal(e.code, ERR_NUMBER_RANGE);
		assert_null(json_parse(beyond[i], strlen(beyond[i]), &e));
	}
	for (i = 0; i < COUNT(within); i++)
		if (scan(within[i], strlen(within[i]), &e))
			fail_msg("%s: %s", within[i], e.message);
}

static const struct {
	const char *text;
	enum err_code code;
	const char *param, *message;
} failures[] = {
	{"{\n \"messages\": [{\"role\": \"user\",\n  \"content\": \"\xc3\xa9\\ud800\"}]}", ERR_UNREADABLE_JSON,
		"messages[0].content",
		"Invalid JSON at line 3, column 16: a lone surrogate \\ud800 is not a character."},
	{"{\"messages\":[{},{\"role\":\"a\", \"role\":\"b\"}]}", ERR_DUPLICATE_NAME, "messages[1].role",
		"The name \"role\" stands twice in messages[1] (line 1, column 30)."},
	{"{\"\\u0061\":1,\"b\":2,\"a\":3}", ERR_DUPLICATE_NAME, "a",
		"The name \"a\" stands twice in the outermost object (line 1, column 19)."},
	{"{\"a\":[1,2,1e999]}", ERR_NUMBER_RANGE, "a[2]",
		"Number out of range at line 1, column 11: a 64-bit floating-point number cannot hold it."},
	{"99999999999999999999", ERR_NUMBER_RANGE, "",
		"Number out of range at line 1, column 1: an integer must fit 64 bits; write it as a string."},
	{"[1,2,3,x]", ERR_INVALID_JSON, "[3]", "Invalid JSON at line 1, column 8: expected a value, found \"x\"."},
	{"{\"odd name\":{\"$ref\":[x]}}", ERR_INVALID_JSON, "[\"odd name\"].$ref[0]", NULL},
	{"{\"x\":{\"gpt-4o\":[[],[x]]}}", ERR_INVALID_JSON, "x[\"gpt-4o\"][1][0]", NULL},
	{"{\"\":x}", ERR_INVALID_JSON, "[\"\"]", NULL},
	{"{\"2a\":x}", ERR_INVALID_JSON, "[\"2a\"]", NULL},
	{"{\"\xc3\xa9\\\"\\\\\\u0007\x7f\xc2\x85\":x}", ERR_INVALID_JSON, "[\"\xc3\xa9\\\"\\\\\\u0007\\u007f\\u0085\"]",
		NULL},
	{"{\"a\":{\"b\":1} \"c\":2}", ERR_INVALID_JSON, "",
		"Invalid JSON at line 1, column 14: expected \",\" or \"}\", found a string."},
	{"{\"a\":{\"b\":1,}}", ERR_INVALID_JSON, "a",
		"Invalid JSON at line 1, column 13: expected a name in double quotes, found \"}\"; take away the comma before it."},
	{"[1, ]", ERR_INVALID_JSON, "[1]",
		"Invalid JSON at line 1, column 5: expected a value, found \"]\"; take away the comma before it."},
	{"{'a':1}", ERR_INVALID_JSON, "",
		"Invalid JSON at line 1, column 2: expected a name in double quotes, found \"'\"; strings stand in double quotes."},
	{"\xef\xbb\xbf{}", ERR_INVALID_JSON, "",
		"Invalid JSON at line 1, column 1: expected a value, found the byte 0xEF (a byte order mark); send the text without it."},
	{"", ERR_INVALID_JSON, "", "Invalid JSON at line 1, column 1: expected a value, found the end of the text."},
	{"{\"a\":[\"b\nc\"]}", ERR_INVALID_JSON, "a[0]",
		"Invalid JSON at line 1, column 9: a control character in a string must be written \\u000a."},
	{"[\"a\", \"\xff\"]", ERR_INVALID_JSON, "[1]",
		"Invalid JSON at line 1, column 8: the byte 0xFF is not well-formed UTF-8 here."},
	{"{\"a\":{\"b\\u0000\":1}}", ERR_UNREADABLE_JSON, "a",
		"Invalid JSON at line 1, column 7: \\u0000 must not stand in a name."},
};

static void test_says_where(void **state)
{
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(failures); i++) {
		assert_int_equal(scan(failures[i].text, strlen(failures[i].text), &e), -1);
		assert_int_equal(e.code, failures[i].code);
		assert_string_equal(e.param, failures[i].param);
		if (failures[i].message)
			assert_string_equal(e.message, failures[i].message);
	}
}

/* Paths and names that are too long to show whole, cut at every place where a character can be cut. */
static void test_cuts_long_paths(void **state)
{
	struct buf name = BUF_INIT(1 << 20), text = BUF_INIT(1 << 20);
	struct err e;
	int pad, i;

	(void)state;
	for (pad = 0; pad < 8; pad++) {
		buf_reset(&name);
		buf_printf(&name, "\"%.*s", pad, "xxxxxxxx");
		for (i = 0; i < 200; i++)
			buf_adds(&name, i % 3 ? "\xf0\x9f\x98\x80" : "\xc2\x85");
		buf_adds(&name, "\"");
		buf_reset(&text);
		buf_printf(&text, "{%s:1,%s:2}", name.data, name.data);
		assert_int_equal(scan(text.data, text.len, &e), -1);
		assert_int_equal(e.code, ERR_DUPLICATE_NAME);
		assert_true(strlen(e.param) > sizeof(e.param) - 8);
		assert_non_null(strstr(e.message, "…\" stands twice in the outermost object (line 1, column "));
	}
	buf_release(&name);
	buf_release(&text);
}

static void fill(struct buf *b, const char *piece, int count)
{
	for (; count > 0; count--)
		buf_adds(b, piece);
}

static void check_depth(const char *open, const char *inner, const char *close, int depth, bool fits)
{
	struct buf text = BUF_INIT(1 << 20);
	struct err e;

	fill(&text, open, depth);
	buf_adds(&text, inner);
	fill(&text, close, depth);
	assert_int_equal(scan(text.data, text.len, &e), fits ? 0 : -1);
	if (fits)
		json_release(parse(text.data, text.len));
	else
		assert_non_null(strstr(e.message, "nested more than 128 deep"));
	buf_release(&text);
}

static void test_depth(void **state)
{
	struct err e;
	char *open = malloc(1000000);

	(void)state;
	check_depth("[", "", "]", 128, true);
	check_depth("[", "1", "]", 128, true);
	check_depth("[", "\"a\"", "]", 128, true);
	check_depth("{\"a\":", "null", "}", 128, true);
	check_depth("[{\"a\":", "1", "}]", 64, true);
	check_depth("[", "", "]", 129, false);
	check_depth("{\"a\":", "1", "}", 129, false);
	check_depth("[{\"a\":", "[]", "}]", 64, false);
	assert_non_null(open);
	memset(open, '[', 1000000);
	assert_int_equal(scan(open, 1000000, &e), -1);
	free(open);
}

/* An object of so many names in no order, the one at `again` (if any) standing once more at its end. */
static int scan_names(int count, int again, const char *again_format, struct err *e)
{
	struct buf text = BUF_INIT(64 << 20);
	int i, rc;

	buf_adds(&text, "{\"in\":[0,{");
	for (i = 0; i < count; i++)
		buf_printf(&text, "\"k%u\":{\"k1\":0},", (unsigned)i * 2654435761u);
	if (again >= 0)
		buf_printf(&text, again_format, (unsigned)again * 2654435761u);
	buf_adds(&text, "\"last\":0}]}");
	rc = scan(text.data, text.len, e);
	buf_release(&text);
	return rc;
}

static void test_duplicate_names(void **state)
{
	static const int counts[] = {1, 2, 15, 16, 17, 18, 40, 5000};
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(counts); i++) {
		assert_int_equal(scan_names(counts[i], -1, "", &e), 0);
		assert_int_equal(scan_names(counts[i], 0, "\"k%u\":0,", &e), -1);
		assert_int_equal(e.code, ERR_DUPLICATE_NAME);
		assert_string_equal(e.param, "in[1].k0");
		assert_non_null(strstr(e.message, "The name \"k0\" stands twice in in[1] (line 1, column "));
		assert_int_equal(scan_names(counts[i], counts[i] - 1, "\"\\u006B%u\":0,", &e), -1);
		assert_int_equal(e.code, ERR_DUPLICATE_NAME);
	}
	/* pair by pair this would take minutes */
	assert_int_equal(scan_names(200000, -1, "", &e), 0);
	assert_int_equal(scan_names(200000, 199999, "\"k%u\":0,", &e), -1);
}

static void test_same_name_in_any_spelling(void **state)
{
	static const char *const same[] = {
		"{\"\\n\":1,\"\\u000a\":2}",
		"{\"\\/\":1,\"/\":2}",
		"{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}",
		"{\"\\u00E9\":1,\"\\u00e9\":2}",
		"{\"\\u00e9\":1,\"\xc3\xa9\":2}",
		"{\"\\u20ac\":1,\"\xe2\x82\xac\":2}",
		"{\"\":1,\"\":2}",
		"{\"\\b\\f\\r\\t\\\"\\\\\":1,\"\\u0008\\u000c\\u000d\\u0009\\u0022\\u005c\":2}",
		"{\"a\":{\"x\":[{}]},\"b\":0,\"a\":1}",
	};
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(same); i++) {
		assert_int_equal(scan(same[i], strlen(same[i]), &e), -1);
		assert_int_equal(e.code, ERR_DUPLICATE_NAME);
	}
}

static void test_parse(void **state)
{
	static const char text[] = "{\"s\":\"a\\u0000b\",\"u\":18446744073709551615,\"z\":-0,\"e\":1e2,\"d\":1.0}";
	struct json_object *value = parse(text, sizeof(text) - 1);
	struct err e = {0};

	(void)state;
	assert_int_equal(json_object_get_string_len(json_get(value, "s")), 3);
	assert_memory_equal(json_object_get_string(json_get(value, "s")), "a\0b", 3);
	assert_true(json_object_get_uint64(json_get(value, "u")) == UINT64_MAX);
	assert_true(json_object_is_type(json_get(value, "e"), json_type_double));
	assert_true(json_object_is_type(json_get(value, "d"), json_type_double));
	check_print(value, "{\"s\":\"a\\u0000b\",\"u\":18446744073709551615,\"z\":0,\"e\":100,\"d\":1}");
	json_release(value);
	assert_null(json_parse(" null ", 6, &e));
	assert_int_equal(e.code, ERR_INVALID_TYPE);
	assert_null(json_parse("[1", 2, &e));
	assert_int_equal(e.code, ERR_INVALID_JSON);
}

static const struct {
	const char *text, *printed;
} commented[] = {
	{"// a\n{ // b\n\"x\": 1, /* c\n \" */ \"y\": 2 } // d", "{\"x\":1,\"y\":2}"},
	{"{\"url\":\"http://x/*y*/\",\"q\":\"\\\"//\\\\\"/*z*/}", "{\"url\":\"http://x/*y*/\",\"q\":\"\\\"//\\\\\"}"},
	{"[1/**/,/***/2/* / * // */]", "[1,2]"},
	{"7//", "7"},
	{"/*\xff*/7", "7"},
};

static const struct {
	const char *text, *place;
} badly_commented[] = {
	{"{\n/* two\n lines */ \"a\": x }", "line 3, column 16: expected a value, found \"x\"."},
	{"/* \xc3\xa9\xe2\x82\xac */ x", "line 1, column 10: "},
	{"{} /* no end",
		"line 1, column 4: expected the end of the text, found \"/\"; a comment begins here and does not end."},
	{"[1, /*/ 2]", "line 1, column 5: expected a value, found \"/\"; a comment begins here and does not end."},
	{"/*", "line 1, column 1: "},
	{"4 / 2", "line 1, column 3: "},
	{"1 /", "line 1, column 3: "},
	{"", "line 1, column 1: "},
	{"// only", "line 1, column 8: "},
	{"\"a // b", "line 1, column 1: a string begins here and does not end."},
	{"\"a\\", "line 1, column 4: "},
	{"tr/**/ue", "line 1, column 1: "},
};

static void test_comments(void **state)
{
	struct json_object *value;
	struct err e;
	size_t i;
	char *copy;

	(void)state;
	for (i = 0; i < COUNT(commented); i++) {
		copy = exact_copy(commented[i].text, strlen(commented[i].text));
		value = json_parse_with_comments(copy, strlen(commented[i].text), &e);
		free(copy);
		assert_non_null(value);
		check_print(value, commented[i].printed);
		json_release(value);
	}
	for (i = 0; i < COUNT(badly_commented); i++) {
		copy = exact_copy(badly_commented[i].text, strlen(badly_commented[i].text));
		assert_null(json_parse_with_comments(copy, strlen(badly_commented[i].text), &e));
		free(copy);
		assert_int_equal(e.code, ERR_INVALID_JSON);
		if (!strstr(e.message, badly_commented[i].place))
			fail_msg("%s: %s", badly_commented[i].text, e.message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepts),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_number_range),
		cmocka_unit_test(test_says_where),
		cmocka_unit_test(test_cuts_long_paths),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_duplicate_names),
		cmocka_unit_test(test_same_name_in_any_spelling),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_comments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
