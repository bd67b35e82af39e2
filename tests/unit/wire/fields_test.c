/* One table of fields, and everything that a member can be instead. */
#include "../unit.h"

#include "wire/fields.h"

static const char *const colours[] = {"red", "green", "blue", NULL};

static const struct field scores[] = {
	FIELD("total", INTEGER, RANGE(0, 10)),
	FIELD("*", NUMBER, RANGE(-1, 1)),
	FIELDS_END,
};

static const struct field things[] = {
	FIELD("type", STRING, REQUIRED),
	FIELD("ball", OBJECT, REQUIRED, OF_TYPE("ball"), WITHIN(scores)),
	FIELD("text", STRING, REQUIRED, OF_TYPE("text")),
	FIELD("size", INTEGER, RANGE(1, 9)),
	FIELDS_END,
};

static const struct field perhaps[] = {
	FIELD("cube", OBJECT, REQUIRED, OF_TYPE("cube")),
	FIELDS_END,
};

static const struct field table[] = {
	FIELD("model", STRING, LONGEST(8), REQUIRED),
	FIELD("text", STRING),
	FIELD("flag", BOOLEAN),
	FIELD("count", INTEGER, RANGE(1, 10)),
	FIELD("big", INTEGER, RANGE(-9.3e18, 9.3e18)),
	FIELD("share", NUMBER, RANGE(-0.5, 2)),
	FIELD("object", OBJECT),
	FIELD("array", ARRAY),
	FIELD("either", STRING_OR_OBJECT, WITHIN(perhaps)),
	FIELD("texts", STRING_OR_ARRAY),
	FIELD("words", STRING_OR_STRINGS),
	FIELD("names", STRINGS),
	FIELD("colour", STRING, WORDS(colours)),
	FIELD("things", OBJECTS, WITHIN(things)),
	FIELD("parts", STRING_OR_OBJECTS, WITHIN(things)),
	FIELD("scores", OBJECT, WITHIN(scores)),
	FIELDS_END,
};

static const struct {
	const char *member; /* beside a good model */
	enum err_code code; /* ERR_NONE: it is fine */
	const char *param;
} cases[] = {
	{"'unknown':[{}]", ERR_NONE, ""}, {"'text':''", ERR_NONE, ""}, {"'text':null", ERR_NONE, ""},
	{"'text':'a\\u0000b'", ERR_NONE, ""}, /* a name may not have one, a text may */

	{"'flag':false", ERR_NONE, ""}, {"'count':1", ERR_NONE, ""}, {"'count':10", ERR_NONE, ""},
	{"'big':9223372036854775807", ERR_NONE, ""}, {"'big':-9223372036854775808", ERR_NONE, ""},
	{"'share':-0.5", ERR_NONE, ""}, {"'share':2", ERR_NONE, ""}, {"'share':1e0", ERR_NONE, ""},
	{"'object':{}", ERR_NONE, ""}, {"'array':[]", ERR_NONE, ""}, {"'either':'x'", ERR_NONE, ""},
	{"'either':{}", ERR_NONE, ""}, {"'texts':'x'", ERR_NONE, ""}, {"'texts':[7,null]", ERR_NONE, ""},
	{"'words':'x'", ERR_NONE, ""}, {"'words':[]", ERR_NONE, ""}, {"'array':[1,null,{}]", ERR_NONE, ""},
	{"'Text':7", ERR_NONE, ""}, /* another name */
	{"'text':7", ERR_INVALID_TYPE, "text"}, {"'flag':'true'", ERR_INVALID_TYPE, "flag"},
	{"'flag':0", ERR_INVALID_TYPE, "flag"}, {"'count':'1'", ERR_INVALID_TYPE, "count"},
	{"'count':true", ERR_INVALID_TYPE, "count"}, {"'count':1.5", ERR_INVALID_TYPE, "count"},
	{"'count':[1]", ERR_INVALID_TYPE, "count"}, {"'count':0", ERR_INVALID_VALUE, "count"},
	{"'count':11", ERR_INVALID_VALUE, "count"}, {"'count':-9223372036854775808", ERR_INVALID_VALUE, "count"},
	{"'count':18446744073709551615", ERR_INVALID_VALUE, "count"},
	{"'big':18446744073709551615", ERR_INVALID_VALUE, "big"}, {"'share':'1'", ERR_INVALID_TYPE, "share"},
	{"'share':-0.51", ERR_INVALID_VALUE, "share"}, {"'share':2.0000001", ERR_INVALID_VALUE, "share"},
	{"'share':1e300", ERR_INVALID_VALUE, "share"}, {"'object':[]", ERR_INVALID_TYPE, "object"},
	{"'array':{}", ERR_INVALID_TYPE, "array"}, {"'either':[]", ERR_INVALID_TYPE, "either"},
	{"'words':{}", ERR_INVALID_TYPE, "words"}, {"'words':7", ERR_INVALID_TYPE, "words"},
	{"'words':['a',7]", ERR_INVALID_TYPE, "words[1]"}, {"'words':[null]", ERR_INVALID_TYPE, "words[0]"},
	{"'texts':{}", ERR_INVALID_TYPE, "texts"}, {"'names':'x'", ERR_INVALID_TYPE, "names"},
	{"'names':['','',[]]", ERR_INVALID_TYPE, "names[2]"},

	{"'colour':'red'", ERR_NONE, ""}, {"'colour':'blue'", ERR_NONE, ""}, {"'colour':null", ERR_NONE, ""},
	{"'colour':7", ERR_INVALID_TYPE, "colour"}, {"'colour':''", ERR_INVALID_VALUE, "colour"},
	{"'colour':'Red'", ERR_INVALID_VALUE, "colour"}, {"'colour':'re'", ERR_INVALID_VALUE, "colour"},
	{"'colour':'red\\u0000'", ERR_INVALID_VALUE, "colour"},

	/* within, to any depth */
	{"'things':[]", ERR_NONE, ""}, {"'things':[{'type':'text','text':''}]", ERR_NONE, ""},
	{"'things':{}", ERR_INVALID_TYPE, "things"}, {"'things':[{'type':'new'},7]", ERR_INVALID_TYPE, "things[1]"},
	{"'things':[null]", ERR_INVALID_TYPE, "things[0]"}, {"'parts':'x'", ERR_NONE, ""},
	{"'parts':[{'type':'new'},[]]", ERR_INVALID_TYPE, "parts[1]"},
	{"'parts':[{'type':'new','size':10}]", ERR_INVALID_VALUE, "parts[0].size"},
	{"'things':[{}]", ERR_MISSING_PARAMETER, "things[0].type"},
	{"'things':[{'type':null}]", ERR_MISSING_PARAMETER, "things[0].type"},
	{"'things':[{'type':7}]", ERR_INVALID_TYPE, "things[0].type"},
	{"'things':[{'type':'text'}]", ERR_MISSING_PARAMETER, "things[0].text"},
	{"'things':[{'type':'ball','ball':{'total':11}}]", ERR_INVALID_VALUE, "things[0].ball.total"},

	/* of another type: another table's business, or nobody's */
	{"'things':[{'type':'new','text':7,'ball':7}]", ERR_NONE, ""},
	{"'things':[{'type':'ball','ball':{},'text':7}]", ERR_NONE, ""}, {"'either':{'cube':{}}", ERR_NONE, ""},
	{"'either':{'type':'cube'}", ERR_MISSING_PARAMETER, "either.cube"},
	{"'either':{'cube':7}", ERR_INVALID_TYPE, "either.cube"}, /* without a type, it is what it looks like */
	{"'either':{'type':'sphere','cube':7}", ERR_NONE, ""},

	/* any name */
	{"'scores':{'total':10,'a':-1,'b':0.5,'c':null}", ERR_NONE, ""},
	{"'scores':{'a':1.5}", ERR_INVALID_VALUE, "scores.a"}, {"'scores':{'':'x'}", ERR_INVALID_TYPE, "scores."},
	{"'scores':{'*':'x'}", ERR_INVALID_TYPE, "scores.*"},
	{"'scores':{'0123456789012345678901234567890123456789 and more':7}", ERR_INVALID_VALUE,
		"scores.0123456789012345678901234567890123456789"},
	{"'text':'x','flag':1,'count':'x'", ERR_INVALID_TYPE, "flag"}, /* the first that is wrong */
};

static void check(const char *body, enum err_code code, const char *param)
{
	struct json_object *value = parse_json(body);
	struct err err = {0};
	int result = fields_check(table, value, &err);

	if (result != (code ? -1 : 0) || err.code != code || strcmp(err.param, param) != 0)
		fail_msg("%s: %d at '%s': %s", body, (int)err.code, err.param, err.message);
	if (code)
		check_contains(err.message, param);
	json_release(value);
}

static void test_members(void **state)
{
	char body[256];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		snprintf(body, sizeof(body), "{'model':'m',%s}", cases[i].member);
		check(body, cases[i].code, cases[i].param);
	}
}

static void test_body_and_model(void **state)
{
	(void)state;
	check("[]", ERR_INVALID_TYPE, "");
	check("'model'", ERR_INVALID_TYPE, "");
	check("{}", ERR_MISSING_PARAMETER, "model");
	check("{'model':null}", ERR_MISSING_PARAMETER, "model");
	check("{'model':'12345678'}", ERR_NONE, "");
	check("{'model':'m\\u0000'}", ERR_INVALID_VALUE, "model");
	check("{'model':'123456789'}", ERR_INVALID_VALUE, "model");
	check("{'model':'üüüüü'}", ERR_INVALID_VALUE, "model"); /* bytes are counted */
}

/* RFC 8259 has one kind of number: how it is spelled says nothing about what it is. */
static void test_whole_numbers_in_any_spelling(void **state)
{
	static const char *const whole[] = {"1e0", "1.0", "10E-1", "1.0e+1", "10.000"};
	char body[64];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(whole); i++) {
		snprintf(body, sizeof(body), "{'model':'m','count':%s}", whole[i]);
		check(body, ERR_NONE, "");
	}
	check("{'model':'m','big':-0.0}", ERR_NONE, "");
	check("{'model':'m','big':1e15}", ERR_NONE, "");
	check("{'model':'m','count':1.1e1}", ERR_INVALID_VALUE, "count");
	check("{'model':'m','count':15e-1}", ERR_INVALID_TYPE, "count");
}

/* ---- texts ---- */

static void check_texts(const char *texts, bool mixed, enum err_code code, const char *param)
{
	struct json_object *value;
	struct err err = {0};
	char body[256];
	int result;

	snprintf(body, sizeof(body), "{'list':%s}", texts);
	value = parse_json(body);
	result = fields_check_texts(value, "list", mixed, &err);
	if (result != (code ? -1 : 0) || err.code != code || strcmp(err.param, param) != 0)
		fail_msg("%s: %d at '%s': %s", body, (int)err.code, err.param, err.message);
	json_release(value);
}

static const struct {
	const char *texts;
	enum err_code code;
	const char *param;
} texts[] = {
	{"'x'", ERR_NONE, ""},
	{"['']", ERR_NONE, ""},
	{"['a','b']", ERR_NONE, ""},
	{"[0,1,2.0,1e5]", ERR_NONE, ""},
	{"[[1,2],[3]]", ERR_NONE, ""},
	{"[]", ERR_INVALID_VALUE, "list"},
	{"[null]", ERR_INVALID_TYPE, "list[0]"},
	{"[true]", ERR_INVALID_TYPE, "list[0]"},
	{"[1.5]", ERR_INVALID_TYPE, "list[0]"},
	{"[-1]", ERR_INVALID_VALUE, "list[0]"},
	{"[1,-1]", ERR_INVALID_VALUE, "list[1]"},
	{"[1,18446744073709551615]", ERR_INVALID_VALUE, "list[1]"},
	{"[1,'a']", ERR_INVALID_TYPE, "list[1]"},
	{"[1,[2]]", ERR_INVALID_TYPE, "list[1]"},
	{"['a',1]", ERR_INVALID_TYPE, "list[1]"},
	{"['a','b',null]", ERR_INVALID_TYPE, "list[2]"},
	{"[[]]", ERR_INVALID_VALUE, "list[0]"},
	{"[[1],[]]", ERR_INVALID_VALUE, "list[1]"},
	{"[[1],[2,'a']]", ERR_INVALID_TYPE, "list[1][1]"},
	{"[[1],[2,-2]]", ERR_INVALID_VALUE, "list[1][1]"},
	{"[[1],[[2]]]", ERR_INVALID_TYPE, "list[1][0]"},
};

static void test_texts(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(texts); i++) {
		check_texts(texts[i].texts, false, texts[i].code, texts[i].param);
		check_texts(texts[i].texts, true, texts[i].code, texts[i].param);
	}
	check_texts("['a',[1]]", true, ERR_NONE, "");
	check_texts("['a',[1]]", false, ERR_INVALID_TYPE, "list[1]");
	check_texts("[[1],'a']", true, ERR_NONE, "");
	check_texts("[[1],'a']", false, ERR_INVALID_TYPE, "list[1]");
	check_texts("['a',[1,-1]]", true, ERR_INVALID_VALUE, "list[1][1]");
}

static void test_kinds(void **state)
{
	static const char *const values[] = {"'x'", "true", "7", "0.5", "{}", "[]"};
	static const struct {
		enum field_kind kind;
		const char *yes; /* of each value, in their order */
	} kinds[] = {
		{FIELD_STRING, "x....."},
		{FIELD_BOOLEAN, ".x...."},
		{FIELD_INTEGER, "..x..."},
		{FIELD_NUMBER, "..xx.."},
		{FIELD_OBJECT, "....x."},
		{FIELD_ARRAY, ".....x"},
		{FIELD_STRING_OR_OBJECT, "x...x."},
		{FIELD_STRING_OR_ARRAY, "x....x"},
		{FIELD_STRINGS, ".....x"},
		{FIELD_OBJECTS, ".....x"},
		{FIELD_STRING_OR_STRINGS, "x....x"},
		{FIELD_STRING_OR_OBJECTS, "x....x"},
	};
	struct json_object *value;
	size_t i, j;

	(void)state;
	for (i = 0; i < COUNT(values); i++) {
		value = parse_json(values[i]);
		for (j = 0; j < COUNT(kinds); j++)
			if (field_is(value, kinds[j].kind) != (kinds[j].yes[i] == 'x'))
				fail_msg("%s is wrongly judged for kind %d", values[i], (int)kinds[j].kind);
		json_release(value);
	}
	for (j = 0; j < COUNT(kinds); j++)
		assert_false(field_is(NULL, kinds[j].kind)); /* JSON's null */
}

/* The messages are OpenAI's. */
static void test_messages(void **state)
{
	struct json_object *value = parse_json("[]");
	struct err err;

	(void)state;
	assert_int_equal(field_missing(&err, "a.b"), -1);
	assert_int_equal(err.code, ERR_MISSING_PARAMETER);
	assert_string_equal(err.message, "Missing required parameter: 'a.b'.");
	assert_int_equal(field_wrong_type(&err, "a", "a thing", value), -1);
	assert_int_equal(err.code, ERR_INVALID_TYPE);
	assert_string_equal(err.message, "Invalid type for 'a': expected a thing, but got an array instead.");
	assert_int_equal(field_wrong_value(&err, "a", "%d is too much", 7), -1);
	assert_int_equal(err.code, ERR_INVALID_VALUE);
	assert_string_equal(err.message, "Invalid value for 'a': 7 is too much.");
	json_release(value);
	value = parse_json("{'model':'m','either':[]}");
	assert_int_equal(fields_check(table, value, &err), -1);
	assert_string_equal(
		err.message, "Invalid type for 'either': expected a string or an object, but got an array instead.");
	json_release(value);
	value = parse_json("{'model':'m','colour':'grey'}");
	assert_int_equal(fields_check(table, value, &err), -1);
	assert_string_equal(
		err.message, "Invalid value for 'colour': 'grey'. Supported values are: 'red', 'green' and 'blue'.");
	json_release(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_body_and_model),
		cmocka_unit_test(test_whole_numbers_in_any_spelling),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
