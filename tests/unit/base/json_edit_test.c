/* Editing a text that people write: what is asked for happens, and nothing else does. */
#include "../unit.h"

#include "base/json_edit.h"

#define PATH(...) \
	(const char *const[]) \
	{ \
		__VA_ARGS__, NULL \
	}

static struct buf text_of(const char *single_quoted)
{
	struct buf text = BUF_INIT(1 << 20);

	add_json_text(&text, single_quoted);
	return text;
}

static void check_text(struct buf *text, const char *single_quoted)
{
	struct buf expected = text_of(single_quoted);

	assert_string_equal(text->data, expected.data);
	buf_release(&expected);
	buf_release(text);
}

struct set_case {
	const char *before, *value, *after;
};

/* What becomes of a text when its member "n" gets this value. */
static const struct set_case sets[] = {
	/* there is none yet */
	{"{}", "1", "{\n\t'n': 1\n}"},
	{"{}\n", "1", "{\n\t'n': 1\n}\n"},
	{"{\n}\n", "1", "{\n\t'n': 1\n}\n"},
	{"{\r\n}\r\n", "1", "{\r\n\t'n': 1\r\n}\r\n"},
	{"{ /* none */ }", "1", "{ /* none */\n\t'n': 1\n}"},
	{"// all\n{\n\t// none yet\n}\n", "1", "// all\n{\n\t// none yet\n\t'n': 1\n}\n"},
	/* behind the last, in its layout */
	{"{'a':1}", "2", "{'a':1, 'n': 2}"},
	{"{ 'a': 1 }", "2", "{ 'a': 1, 'n': 2 }"},
	{"{\n  'a': 1\n}", "2", "{\n  'a': 1,\n  'n': 2\n}"},
	{"{\n\t'a': {\n\t\t'b': 1\n\t}\n}\n", "2", "{\n\t'a': {\n\t\t'b': 1\n\t},\n\t'n': 2\n}\n"},
	{"{\r\n  'a': 1\r\n}\r\n", "2", "{\r\n  'a': 1,\r\n  'n': 2\r\n}\r\n"},
	{"{\n  'a': 1 }", "2", "{\n  'a': 1,\n  'n': 2 }"},
	{"{\n\n\n'a'\n:\n1\n\n}", "2", "{\n\n\n'a'\n:\n1,\n'n': 2\n\n}"},
	{"{'a': 1,\n 'b': 2}", "3", "{'a': 1,\n 'b': 2,\n 'n': 3}"},
	/* a remark stays with what it stands behind */
	{"{\n  'a': 1 // the first\n}", "2", "{\n  'a': 1, // the first\n  'n': 2\n}"},
	{"{\n  'a': 1 // the first\r\n}", "2", "{\n  'a': 1, // the first\r\n  'n': 2\r\n}"},
	{"{\n  'a': 1 /* two\n lines */ /* more */\n}", "2", "{\n  'a': 1, /* two\n lines */ /* more */\n  'n': 2\n}"},
	{"{\n  'a': 1 /* x */ }", "2", "{\n  'a': 1, /* x */\n  'n': 2 }"},
	{"{\n  /* x */ 'a': 1\n  // 'b': 2\n}", "2", "{\n  /* x */ 'a': 1,\n  'n': 2\n  // 'b': 2\n}"},
	{"{'a': 1 // the only\n}", "2", "{'a': 1, 'n': 2 // the only\n}"},
	{"{'a': 1 /* it */}", "2", "{'a': 1, 'n': 2 /* it */}"},
	/* brackets, commas, comments and names that are none */
	{"{'a':'}, // \\\\\\' /* n'}", "2", "{'a':'}, // \\\\\\' /* n', 'n': 2}"},
	{"{'a':{'n':1}, 'b':['n',{'n':1}]}", "2", "{'a':{'n':1}, 'b':['n',{'n':1}], 'n': 2}"},
	{"{/*'n':1,*/'a':1}", "2", "{/*'n':1,*/'a':1, 'n': 2}"},
	/* it is there */
	{"{'n':1}", "22", "{'n':22}"},
	{"{'n':null/*x*/,'a':1}", "2", "{'n':2/*x*/,'a':1}"},
	{"{'a':'n','\\u006e' /*x*/ :\n [1, {'n':2}] // y\n, 'b':1}", "2",
		"{'a':'n','\\u006e' /*x*/ :\n 2 // y\n, 'b':1}"},
	{"{'n':'a\\'}'}", "''", "{'n':''}"},
	{"{'n':-1.5e3\n}", "[]", "{'n':[]\n}"},
};

static void test_set(void **state)
{
	struct buf text, value;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(sets); i++) {
		text = text_of(sets[i].before);
		value = text_of(sets[i].value);
		assert_true(json_edit_set(&text, PATH("n"), value.data));
		check_text(&text, sets[i].after);
		buf_release(&value);
	}
}

static void test_set_inside(void **state)
{
	struct buf text = text_of("{'b':{'n':0},\n'a':{'x': {}, 'n':1}}");

	(void)state;
	assert_true(json_edit_set(&text, PATH("a", "n"), "2"));
	assert_true(json_edit_set(&text, PATH("a", "x", "y"), "true"));
	assert_true(json_edit_set(&text, PATH("a", "m"), "3"));
	assert_true(json_edit_set(&text, PATH("b", "a\"b\n"), "4"));
	check_text(&text, "{'b':{'n':0, 'a\\'b\\n': 4},\n'a':{'x': {'y': true}, 'n':2, 'm': 3}}");
}

static void test_what_leads_nowhere(void **state)
{
	static const char same[] = "{'a':{'b':[1]},'c':7,'d':'a','e':[]}";
	struct buf text = text_of(same);

	(void)state;
	assert_false(json_edit_set(&text, PATH("x", "n"), "1"));
	assert_false(json_edit_set(&text, PATH("c", "n"), "1"));
	assert_false(json_edit_set(&text, PATH("a", "b", "n"), "1"));
	assert_false(json_edit_set(&text, PATH("d", "a", "b"), "1"));
	assert_false(json_edit_append(&text, PATH("a"), "1"));
	assert_false(json_edit_append(&text, PATH("c"), "1"));
	assert_false(json_edit_append(&text, PATH("b"), "1"));
	assert_false(json_edit_drop_first(&text, PATH("a", "b")));
	assert_false(json_edit_drop_first(&text, PATH("e")));
	assert_false(json_edit_drop_first(&text, PATH("a")));
	check_text(&text, same);
}

static void test_arrays(void **state)
{
	struct buf text = text_of("{'a': [ 'x' ], 'b': [\n\t'x' // old\n], 'c': []}");

	(void)state;
	assert_true(json_edit_append(&text, PATH("a"), "1"));
	assert_true(json_edit_append(&text, PATH("b"), "2"));
	assert_true(json_edit_append(&text, PATH("c"), "3"));
	check_text(&text, "{'a': [ 'x', 1 ], 'b': [\n\t'x', // old\n\t2\n], 'c': [3]}");
	text = text_of("{'a': [ 'x', 'y' ], 'b': [\n\t'x', // old\n\t2 // new\n], 'c': [[1,2],{'d':3},4]}");
	assert_true(json_edit_drop_first(&text, PATH("a")));
	assert_true(json_edit_drop_first(&text, PATH("b")));
	assert_true(json_edit_drop_first(&text, PATH("c")));
	check_text(&text, "{'a': [ 'y' ], 'b': [\n\t2 // new\n], 'c': [{'d':3},4]}");
}

static void test_no_room(void **state)
{
	struct buf text = BUF_INIT(8);

	(void)state;
	buf_adds(&text, "{\"a\":1}");
	assert_false(json_edit_set(&text, PATH("n"), "2"));
	buf_release(&text);
}

/* ---- by chance ---- */

static uint64_t seed = 20261123;
static int remarks; /* so far in this text: each has a number of its own */

static void add_gap(struct buf *out, const char *end_of_line)
{
	switch (chance_below(&seed, 8)) {
	case 0: buf_adds(out, " "); break;
	case 1: buf_adds(out, end_of_line); break;
	case 2: buf_printf(out, "%s\t", end_of_line); break;
	case 3: buf_printf(out, " /* #%d, \"}%s] */ ", ++remarks, end_of_line); break;
	case 4: buf_printf(out, " // #%d {\"n\": [%s  ", ++remarks, end_of_line); break;
	default: break;
	}
}

static void add_value(struct buf *out, const char *end_of_line, int depth);

static void add_inside(struct buf *out, const char *end_of_line, int depth, bool named)
{
	size_t i, n = chance_below(&seed, 4);

	for (i = 0; i < n; i++) {
		add_gap(out, end_of_line);
		if (named) {
			buf_printf(out, "\"m%zu\"", i);
			add_gap(out, end_of_line);
			buf_addc(out, ':');
			add_gap(out, end_of_line);
		}
		add_value(out, end_of_line, depth + 1);
		add_gap(out, end_of_line);
		if (i + 1 < n)
			buf_addc(out, ',');
	}
	if (n == 0)
		add_gap(out, end_of_line);
}

static void add_value(struct buf *out, const char *end_of_line, int depth)
{
	static const char *const scalars[] = {"1", "-2.5e7", "true", "null", "\"\"", "\"// }\\\"\\\\\"", "\"/* ]ä\""};
	size_t kind = chance_below(&seed, depth < 3 ? 4 : 2);

	if (kind < 2) {
		buf_adds(out, scalars[chance_below(&seed, COUNT(scalars))]);
		return;
	}
	buf_addc(out, kind == 2 ? '{' : '[');
	add_inside(out, end_of_line, depth, kind == 2);
	buf_addc(out, kind == 2 ? '}' : ']');
}

static struct json_object *must_parse(const struct buf *text)
{
	char *copy = exact_copy(text->data, text->len);
	struct err err;
	struct json_object *value = json_parse_with_comments(copy, text->len, &err);

	if (!value)
		fail_msg("%s\n%s", text->data, err.message);
	free(copy);
	return value;
}

static void check_same(struct json_object *expected, const struct buf *text, const struct buf *before)
{
	struct json_object *found = must_parse(text);
	struct buf a = BUF_INIT(1 << 20), b = BUF_INIT(1 << 20);

	json_print(&a, expected);
	json_print(&b, found);
	if (strcmp(a.data, b.data) != 0)
		fail_msg("%s\nbecame\n%s\nwhich is %s", before->data, text->data, b.data);
	buf_release(&a);
	buf_release(&b);
	json_object_put(found);
}

/* Every remark of before is still there, in their order. */
static void check_remarks(const struct buf *before, const struct buf *text)
{
	const char *at = text->data;
	char mark[16];
	int i;

	for (i = 1; i <= remarks; i++) {
		snprintf(mark, sizeof(mark), "#%d", i);
		at = strstr(at, mark);
		if (!at)
			fail_msg("%s\nlost #%d:\n%s", before->data, i, text->data);
	}
}

/* A new member at the top, and in each member that is an object; a new element in each that is an array. */
static void check_edits(const struct buf *before)
{
	struct json_object *expected = must_parse(before);
	struct buf text = BUF_INIT(1 << 20);

	buf_add(&text, before->data, before->len);
	json_each_member (expected, m) {
		if (json_object_is_type(m.value, json_type_object)) {
			assert_true(json_edit_set(&text, PATH(m.name, "n"), "[\"new\"]"));
			json_set(m.value, "n", parse_json("['new']"));
		} else if (json_object_is_type(m.value, json_type_array)) {
			assert_true(json_edit_append(&text, PATH(m.name), "\"new\""));
			json_object_array_add(m.value, json_object_new_string("new"));
		} else {
			assert_true(json_edit_set(&text, PATH(m.name), "{}"));
			json_set(expected, m.name, json_object_new_object());
		}
		check_same(expected, &text, before);
	}
	assert_true(json_edit_set(&text, PATH("n"), "0"));
	json_set_int(expected, "n", 0);
	check_same(expected, &text, before);
	check_remarks(before, &text);
	json_object_put(expected);
	buf_release(&text);
}

static void test_by_chance(void **state)
{
	struct buf before = BUF_INIT(1 << 20);
	const char *end_of_line;
	int i;

	(void)state;
	for (i = 0; i < 20000; i++) {
		end_of_line = i % 3 ? "\n" : "\r\n";
		remarks = 0;
		buf_reset(&before);
		add_gap(&before, end_of_line);
		buf_addc(&before, '{');
		add_inside(&before, end_of_line, 0, true);
		buf_addc(&before, '}');
		add_gap(&before, end_of_line);
		check_edits(&before);
	}
	buf_release(&before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_set_inside),
		cmocka_unit_test(test_what_leads_nowhere),
		cmocka_unit_test(test_arrays),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_by_chance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
