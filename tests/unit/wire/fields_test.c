/* One table of fields, and everything that a member can be instead. */
#include "../unit.h"

#include "wire/fields.h"

static const struct field table[] = {
	{"model", FIELD_STRING, 0, 8},
	{"text", FIELD_STRING, 0, 0},
	{"flag", FIELD_BOOLEAN, 0, 0},
	{"count", FIELD_INTEGER, 1, 10},
	{"big", FIELD_INTEGER, -9.3e18, 9.3e18},
	{"share", FIELD_NUMBER, -0.5, 2},
	{"object", FIELD_OBJECT, 0, 0},
	{"array", FIELD_ARRAY, 0, 0},
	{"either", FIELD_STRING_OR_OBJECT, 0, 0},
	{"words", FIELD_STRING_OR_ARRAY, 0, 0},
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
	{"'either':{}", ERR_NONE, ""}, {"'words':'x'", ERR_NONE, ""}, {"'words':[7]", ERR_NONE, ""},
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
	{"'text':'x','flag':1,'count':'x'", ERR_INVALID_TYPE, "flag"}, /* the first that is wrong */
};

static void check(const char *body, enum err_code code, const char *param)
{
	struct json_object *value = parse_json(body);
	struct err err = {0};
	int result = fields_check(table, COUNT(table), value, &err);

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

static void check_elements(const char *body, enum field_kind kind, const char *param)
{
	struct json_object *value = parse_json(body);
	struct err err = {0};
	int result = fields_check_elements(value, "list", kind, &err);

	if (result != (param ? -1 : 0) || strcmp(err.param, param ? param : "") != 0)
		fail_msg("%s: %d at '%s': %s", body, (int)err.code, err.param, err.message);
	assert_int_equal(err.code, param ? ERR_INVALID_TYPE : ERR_NONE);
	json_release(value);
}

static void test_elements(void **state)
{
	(void)state;
	check_elements("{'list':['a','']}", FIELD_STRING, NULL);
	check_elements("{'list':[]}", FIELD_STRING, NULL);
	check_elements("{'list':'a'}", FIELD_STRING, NULL); /* no array: somebody else's business */
	check_elements("{'list':null}", FIELD_STRING, NULL);
	check_elements("{}", FIELD_STRING, NULL);
	check_elements("{'list':['a',7]}", FIELD_STRING, "list[1]");
	check_elements("{'list':[null]}", FIELD_STRING, "list[0]");
	check_elements("{'list':[1,2.5]}", FIELD_INTEGER, "list[1]");
	check_elements("{'list':[{},{}]}", FIELD_OBJECT, NULL);
	check_elements("{'list':[{},[]]}", FIELD_OBJECT, "list[1]");
	check_elements("{'list':[0,0,0,0,0,0,0,0,0,0,'x']}", FIELD_NUMBER, "list[10]");
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
	assert_int_equal(field_wrong_kind(&err, "a", FIELD_STRING_OR_OBJECT, NULL), -1);
	assert_string_equal(err.message, "Invalid type for 'a': expected a string or an object, but got null instead.");
	json_release(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_body_and_model),
		cmocka_unit_test(test_whole_numbers_in_any_spelling),
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
