/* What the inputs of a request are, and which embedding of an answer belongs to which. */
#include "../unit.h"

#include "wire/embeddings.h"

static const struct {
	const char *input; /* NULL: there is none */
	size_t count;      /* 0: it is refused */
	enum err_code code;
	const char *param;
} inputs[] = {
	{"'a'", 1, ERR_NONE, ""},
	{"''", 1, ERR_NONE, ""},
	{"['a']", 1, ERR_NONE, ""},
	{"['a','b','a']", 3, ERR_NONE, ""},
	{"[1]", 1, ERR_NONE, ""},
	{"[1,2,3]", 1, ERR_NONE, ""},
	{"[[1,2,3]]", 1, ERR_NONE, ""},
	{"[[1],[2,3]]", 2, ERR_NONE, ""},
	{"['a',[2,3]]", 2, ERR_NONE, ""},
	{NULL, 0, ERR_MISSING_PARAMETER, "input"},
	{"null", 0, ERR_MISSING_PARAMETER, "input"},
	{"7", 0, ERR_INVALID_TYPE, "input"},
	{"{}", 0, ERR_INVALID_TYPE, "input"},
	{"true", 0, ERR_INVALID_TYPE, "input"},
	{"[]", 0, ERR_INVALID_VALUE, "input"},
	{"[null]", 0, ERR_INVALID_TYPE, "input[0]"},
	{"['a',1]", 0, ERR_INVALID_TYPE, "input[1]"},
	{"[1,'a']", 0, ERR_INVALID_TYPE, "input[1]"},
	{"[1,2,[3]]", 0, ERR_INVALID_TYPE, "input[2]"},
	{"[1.5]", 0, ERR_INVALID_TYPE, "input[0]"},
	{"[[1],{}]", 0, ERR_INVALID_TYPE, "input[1]"},
};

static struct json_object *body_of(const char *input)
{
	char text[256];

	snprintf(text, sizeof(text), "{'model':'m','user':'u'%s%s}", input ? ",'input':" : "", input ? input : "");
	return parse_json(text);
}

static void test_inputs(void **state)
{
	struct json_object *body;
	struct chat chat;
	struct err err;
	size_t i;
	int result;

	(void)state;
	for (i = 0; i < COUNT(inputs); i++) {
		err = (struct err){0};
		body = body_of(inputs[i].input);
		result = embeddings_read(&chat, body, &err);
		if (result != (inputs[i].count ? 0 : -1) || err.code != inputs[i].code ||
			strcmp(err.param, inputs[i].param) != 0)
			fail_msg("%s: %d at '%s': %s", inputs[i].input, (int)err.code, err.param, err.message);
		if (result == 0) {
			assert_int_equal(embeddings_count(body), inputs[i].count);
			assert_string_equal(chat.model, "m");
			assert_string_equal(chat.user, "u");
			assert_ptr_equal(chat.body, body);
			assert_false(chat.stream || chat.include_usage || chat.side_effect);
		}
		json_release(body);
	}
}

static struct json_object *many(size_t count, const char *input)
{
	struct buf text = BUF_INIT(1 << 20);
	struct json_object *body;
	size_t i;

	buf_adds(&text, "{'model':'m','input':[");
	for (i = 0; i < count; i++)
		buf_printf(&text, "%s%s", i ? "," : "", input);
	buf_adds(&text, "]}");
	body = parse_json(text.data);
	buf_release(&text);
	return body;
}

static void test_how_many(void **state)
{
	struct json_object *body = many(EMBEDDINGS_MAX, "'a'");
	struct chat chat;
	struct err err;

	(void)state;
	assert_int_equal(embeddings_read(&chat, body, &err), 0);
	assert_int_equal(embeddings_count(body), EMBEDDINGS_MAX);
	json_release(body);
	body = many(EMBEDDINGS_MAX + 1, "'a'");
	assert_int_equal(embeddings_read(&chat, body, &err), -1);
	assert_int_equal(err.code, ERR_INVALID_VALUE);
	assert_string_equal(err.param, "input");
	json_release(body);
	body = many(EMBEDDINGS_MAX + 1, "7"); /* the tokens of one input */
	assert_int_equal(embeddings_read(&chat, body, &err), 0);
	assert_int_equal(embeddings_count(body), 1);
	json_release(body);
}

static void check_prints(struct json_object *value, const char *single_quoted)
{
	struct buf got = BUF_INIT(1 << 16), wanted = BUF_INIT(1 << 16);

	add_json_text(&wanted, single_quoted);
	json_print(&got, value);
	assert_string_equal(got.data ? got.data : "", wanted.data);
	buf_release(&got);
	buf_release(&wanted);
}

static void test_each_input(void **state)
{
	struct json_object *body = body_of("['a',[1,2],'b']");

	(void)state;
	check_prints(embeddings_input(body, 0), "'a'");
	check_prints(embeddings_input(body, 1), "[1,2]");
	check_prints(embeddings_input(body, 2), "'b'");
	json_release(body);
	body = body_of("[1,2]");
	check_prints(embeddings_input(body, 0), "[1,2]");
	json_release(body);
	body = body_of("'a'");
	check_prints(embeddings_input(body, 0), "'a'");
	json_release(body);
}

static void check_kept(const char *input, const char *wanted, const char *left)
{
	struct json_object *body = body_of(input);
	bool flags[8];
	size_t i;

	for (i = 0; wanted[i]; i++)
		flags[i] = wanted[i] == 'x';
	embeddings_keep(body, flags);
	check_prints(json_get(body, "input"), left);
	assert_int_equal(json_object_object_length(body), 3);
	json_release(body);
}

static void test_keep(void **state)
{
	(void)state;
	check_kept("['a','b','c']", "xxx", "['a','b','c']");
	check_kept("['a','b','c']", "x.x", "['a','c']");
	check_kept("['a','b','c']", "..x", "['c']");
	check_kept("[[1],'b',[2,3]]", "x.x", "[[1],[2,3]]");
	check_kept("['a','a']", ".x", "['a']");
	check_kept("'a'", "x", "'a'");
	check_kept("[1,2]", "x", "[1,2]");
}

static const struct {
	const char *answer;
	size_t count;
	const char *embeddings[3]; /* NULL: the answer is not whole for this one */
} answers[] = {
	{"{'data':[{'index':0,'embedding':[1]}]}", 1, {"[1]"}},
	{"{'data':[{'index':0,'embedding':[1]},{'index':1,'embedding':[2]}]}", 2, {"[1]", "[2]"}},
	{"{'data':[{'index':1,'embedding':[2]},{'index':0,'embedding':[1]}]}", 2, {"[1]", "[2]"}},
	{"{'data':[{'index':2,'embedding':[3]},{'index':0,'embedding':[1]},{'index':1,'embedding':'AAA='}]}", 3,
		{"[1]", "'AAA='", "[3]"}},
	{"{'data':[{'embedding':[1]},{'embedding':[2]}]}", 2, {"[1]", "[2]"}},
	{"{'data':[{'index':0,'embedding':[1]}]}", 2, {NULL, NULL}},
	{"{'data':[{'index':0,'embedding':[1]},{'index':1,'embedding':[2]}]}", 1, {NULL}},
	{"{'data':[{'index':0,'embedding':[1]},{'index':0,'embedding':[2]}]}", 2, {"[1]", NULL}},
	{"{'data':[{'index':1,'embedding':[1]},{'index':2,'embedding':[2]}]}", 2, {NULL, "[1]"}},
	{"{'data':[{'index':-1,'embedding':[1]}]}", 1, {NULL}},
	{"{'data':[{'index':0,'embedding':null}]}", 1, {NULL}},
	{"{'data':[{'index':0}]}", 1, {NULL}},
	{"{'data':[{'index':0,'embedding':7}]}", 1, {NULL}},
	{"{'data':[{'index':0,'embedding':{'a':1}}]}", 1, {NULL}},
	{"{'data':[7]}", 1, {NULL}},
	{"{'data':[null]}", 1, {NULL}},
	{"{'data':{}}", 1, {NULL}},
	{"{'data':[]}", 1, {NULL}},
	{"{}", 1, {NULL}},
	{"[]", 1, {NULL}},
	{"7", 1, {NULL}},
};

static void test_answers(void **state)
{
	struct json_object *answer, *embedding;
	size_t i, j;

	(void)state;
	for (i = 0; i < COUNT(answers); i++) {
		answer = parse_json(answers[i].answer);
		for (j = 0; j < answers[i].count; j++) {
			embedding = embeddings_of(answer, j, answers[i].count);
			if (!embedding != !answers[i].embeddings[j])
				fail_msg("%s: input %zu", answers[i].answer, j);
			if (embedding)
				check_prints(json_get(embedding, "embedding"), answers[i].embeddings[j]);
		}
		json_release(answer);
	}
	assert_null(embeddings_of(NULL, 0, 1));
}

/* What json_parse_leniently() lets in: a vector with what is no number is none. */
static void test_odd_answers(void **state)
{
	static const struct {
		const char *answer, *embedding;
	} odd[] = {
		{"{\"data\":[{\"index\":0,\"embedding\":[0.5],\"x\":\"\\ud800\"}]}", "[0.5]"},
		{"{\"data\":[{\"index\":7,\"index\":0,\"embedding\":[0.5]}]}", "[0.5]"},
		{"{\"data\":[{\"index\":0,\"embedding\":[0.5],\"x\":NaN}]}", "[0.5]"},
		{"{\"data\":[{\"index\":0,\"embedding\":[0.5,NaN]}]}", NULL},
		{"{\"data\":[{\"index\":0,\"embedding\":[-Infinity]}]}", NULL},
		{"{\"data\":[{\"index\":0,\"embedding\":[1,1e999]}]}", NULL},
	};
	struct json_object *answer, *item;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(odd); i++) {
		answer = json_parse_leniently(odd[i].answer, strlen(odd[i].answer), 1 << 20);
		assert_non_null(answer);
		item = embeddings_of(answer, 0, 1);
		if (!item != !odd[i].embedding)
			fail_msg("%s", odd[i].answer);
		if (item)
			check_prints(json_get(item, "embedding"), odd[i].embedding);
		json_release(answer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inputs),
		cmocka_unit_test(test_how_many),
		cmocka_unit_test(test_each_input),
		cmocka_unit_test(test_keep),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_odd_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
