/* What is read out of a provider's answer, and what its errors become. */
#include "../unit.h"

#include "wire/answer.h"

static void read_facts(struct answer_facts *f, const char *answer)
{
	struct json_object *value = parse_json(answer);

	answer_facts_read(f, value);
	json_release(value);
}

static void test_completion(void **state)
{
	struct answer_facts f;

	(void)state;
	answer_facts_init(&f);
	assert_string_equal(f.model, "");
	assert_string_equal(f.finish_reasons, "");
	assert_int_equal(f.input_tokens, -1);
	assert_int_equal(f.output_tokens, -1);
	assert_int_equal(f.cached_tokens, -1);
	read_facts(&f,
		"{'id':'chatcmpl-1','model':'m-2024','choices':[{'finish_reason':'stop'},{'finish_reason':'length'}],"
		"'usage':{'prompt_tokens':9,'completion_tokens':12,'total_tokens':21,"
		"'prompt_tokens_details':{'cached_tokens':4}}}");
	assert_string_equal(f.id, "chatcmpl-1");
	assert_string_equal(f.model, "m-2024");
	assert_string_equal(f.finish_reasons, "stop,length");
	assert_int_equal(f.input_tokens, 9);
	assert_int_equal(f.output_tokens, 12);
	assert_int_equal(f.cached_tokens, 4);
}

static void test_chunks(void **state)
{
	struct answer_facts f;

	(void)state;
	answer_facts_init(&f);
	read_facts(
		&f, "{'id':'a','model':'m','choices':[{'delta':{'content':'x'},'finish_reason':null}],'usage':null}");
	assert_int_equal(f.input_tokens, -1);
	assert_string_equal(f.finish_reasons, "");
	read_facts(&f, "{'id':'','model':null,'choices':[{'delta':{},'finish_reason':'stop'}]}");
	read_facts(&f, "{'choices':[],'usage':{'prompt_tokens':3,'completion_tokens':5}}");
	read_facts(&f, "{'choices':[]}");
	/* what is not said stays as it is */
	assert_string_equal(f.id, "a");
	assert_string_equal(f.model, "m");
	assert_string_equal(f.finish_reasons, "stop");
	assert_int_equal(f.input_tokens, 3);
	assert_int_equal(f.output_tokens, 5);
	assert_int_equal(f.cached_tokens, -1);
}

/* Nothing that a provider sends is too odd, or too long. */
static void test_odd_answers(void **state)
{
	static const char *const odd[] = {"[]", "7", "'x'", "{}", "{'choices':7}",
		"{'choices':[null,7,{'finish_reason':7}]}", "{'usage':'x'}",
		"{'usage':{'prompt_tokens':'9','completion_tokens':null}}", "{'usage':{'prompt_tokens_details':[]}}",
		"{'id':7,'model':{}}"};
	struct answer_facts f;
	struct buf text = BUF_INIT(1 << 20);
	size_t i;

	(void)state;
	answer_facts_init(&f);
	for (i = 0; i < COUNT(odd); i++)
		read_facts(&f, odd[i]);
	assert_int_equal(f.input_tokens, -1);
	assert_int_equal(f.output_tokens, -1);
	assert_string_equal(f.finish_reasons, "");
	buf_adds(&text, "{'model':'");
	for (i = 0; i < 1000; i++)
		buf_addc(&text, 'm');
	buf_adds(&text, "','choices':[");
	for (i = 0; i < 200; i++)
		buf_printf(&text, "%s{'finish_reason':'stop'}", i ? "," : "");
	buf_adds(&text, "]}");
	read_facts(&f, text.data);
	assert_int_equal(strlen(f.model), sizeof(f.model) - 1);
	assert_in_range(strlen(f.finish_reasons), 1, sizeof(f.finish_reasons) - 1);
	assert_int_equal(strncmp(f.finish_reasons, "stop,stop,", 10), 0);
	buf_release(&text);
}

static void test_complete(void **state)
{
	static const char *const whole[] = {"{'choices':[{'message':{},'finish_reason':'stop'}]}",
		"{'choices':[{'message':{'content':null},'finish_reason':'stop'},{'message':{},'finish_reason':'length'}]}"};
	static const char *const not_whole[] = {"{}", "[]", "7", "{'choices':[]}", "{'choices':null}", "{'choices':{}}",
		"{'choices':[{'finish_reason':'stop'}]}", "{'choices':[{'message':{}}]}",
		"{'choices':[{'message':{},'finish_reason':null}]}",
		"{'choices':[{'message':null,'finish_reason':'stop'}]}",
		"{'choices':[{'message':'x','finish_reason':'stop'}]}",
		"{'choices':[{'message':{},'finish_reason':7}]}",
		"{'choices':[{'message':{},'finish_reason':'stop'},{'message':{}}]}", "{'choices':[null]}",
		"{'error':{'message':'x'}}"};
	struct json_object *value;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(whole); i++) {
		value = parse_json(whole[i]);
		if (!answer_complete(value))
			fail_msg("not complete: %s", whole[i]);
		json_release(value);
	}
	for (i = 0; i < COUNT(not_whole); i++) {
		value = parse_json(not_whole[i]);
		if (answer_complete(value))
			fail_msg("complete: %s", not_whole[i]);
		json_release(value);
	}
	assert_false(answer_complete(NULL));
}

static const struct {
	const char *body; /* NULL: it was no JSON */
	const char *message, *type, *param, *code;
} errors[] = {
	{"{'error':{'message':'No.','type':'requests','param':'n','code':'c'}}", "No.", "requests", "n", "c"},
	{"{'error':{'message':'No.','type':'requests','param':null,'code':null}}", "No.", "requests", NULL, NULL},
	{"{'error':{'message':'No.'}}", "No.", "our_type", NULL, NULL},
	{"{'error':{}}", "ours", "our_type", NULL, NULL},
	{"{'error':{'message':null,'type':null}}", "ours", "our_type", NULL, NULL},
	{"{'error':'No.'}", "No.", "our_type", NULL, "our_code"},
	{"{'error':7}", "ours", "our_type", NULL, "our_code"},
	{"{'message':'elsewhere'}", "elsewhere", "our_type", NULL, "our_code"},
	{"[]", "ours", "our_type", NULL, "our_code"},
	/* Gemini */
	{"[{'error':{'code':'400','message':'API key not valid','status':'INVALID_ARGUMENT'}}]", "API key not valid",
		"our_type", NULL, "400"},
	/* vLLM, Mistral */
	{"{'object':'error','message':'too long','type':'BadRequestError','param':'messages','code':'400'}", "too long",
		"BadRequestError", "messages", "400"},
	{"{'object':'error','message':{'detail':[{'msg':'Field required'}]},'type':'t','param':null,'code':null}",
		"{\"detail\":[{\"msg\":\"Field required\"}]}", "t", NULL, "our_code"},
	/* FastAPI */
	{"{'detail':'Not Found'}", "Not Found", "our_type", NULL, "our_code"},
	{"{'detail':[{'loc':['body','x'],'msg':'field required'}]}",
		"[{\"loc\":[\"body\",\"x\"],\"msg\":\"field required\"}]", "our_type", NULL, "our_code"},
	{"{'errors':[{'message':'x','type':'t'},{'message':'y'}]}", "x", "t", NULL, NULL},
	{"{'errors':['x']}", "x", "our_type", NULL, "our_code"},
	{"{'errors':[]}", "ours", "our_type", NULL, "our_code"},
	{"{'error':{'message':{'a':1},'type':'t','code':'c'}}", "{\"a\":1}", "t", NULL, "c"},
	{"{'error':{'message':'','type':'t'}}", "ours", "t", NULL, NULL},
	{NULL, "ours", "our_type", NULL, "our_code"},
};

static void check_member(struct json_object *error, const char *name, const char *expected)
{
	assert_true(json_has(error, name));
	if (expected)
		assert_string_equal(json_get_str(error, name), expected);
	else
		assert_null(json_get(error, name));
}

static void test_is_error(void **state)
{
	static const char *const are[] = {"{'error':{'message':'x'}}", "{'error':'x','choices':[]}", "{'error':''}",
		"{'error':{}}", "[{'error':{'message':'x'}}]", "{'object':'error','message':'x'}",
		"{'error':{'message':''},'choices':[{}]}"};
	static const char *const are_not[] = {"{}", "[]", "7", "{'choices':[]}", "{'error':null}",
		"{'error':'','choices':[{}]}", "{'error':{},'choices':[{}]}", "{'error':[],'data':[]}",
		"{'error':false,'choices':[]}", "{'object':'list','data':[]}", "{'object':7}"};
	struct json_object *value;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(are) + COUNT(are_not); i++) {
		value = parse_json(i < COUNT(are) ? are[i] : are_not[i - COUNT(are)]);
		if (answer_is_error(value) != (i < COUNT(are)))
			fail_msg("%s", i < COUNT(are) ? are[i] : are_not[i - COUNT(are)]);
		json_release(value);
	}
	assert_false(answer_is_error(NULL));
}

/* Always the four keys; what the provider says itself is kept. */
static void test_error_body(void **state)
{
	struct json_object *body, *made, *error;
	struct buf out;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(errors); i++) {
		out = BUF_INIT(4096);
		body = errors[i].body ? parse_json(errors[i].body) : NULL;
		answer_error_body(&out, body, "ours", "our_type", "our_code");
		json_release(body);
		made = parse_bytes(out.data, out.len);
		error = json_get_object(made, "error");
		check_member(error, "message", errors[i].message);
		check_member(error, "type", errors[i].type);
		check_member(error, "param", errors[i].param);
		check_member(error, "code", errors[i].code);
		json_release(made);
		buf_release(&out);
	}
}

static void test_error_extras(void **state)
{
	struct json_object *body = parse_json(
				   "{'error':{'message':'\\'x\\' \\u0000','metadata':{'raw':[1]},'code':429}}"),
			   *made;
	struct buf out = BUF_INIT(4096);

	(void)state;
	answer_error_body(&out, body, "ours", "our_type", "our_code");
	made = parse_bytes(out.data, out.len);
	assert_int_equal(json_get_int(json_get(made, "error"), "code", 0), 429);
	assert_non_null(json_get_array(json_get(json_get(made, "error"), "metadata"), "raw"));
	json_release(made);
	json_release(body);
	buf_release(&out);
}

static void test_what_usage_says_besides(void **state)
{
	struct answer_facts f;

	(void)state;
	answer_facts_init(&f);
	assert_int_equal(f.cache_write_tokens, 0);
	assert_string_equal(f.tier, "");
	read_facts(&f, "{'service_tier':'priority','usage':{'prompt_tokens':9,'completion_tokens':12,"
		       "'prompt_tokens_details':{'cached_tokens':4,'cache_write_tokens':3,'audio_tokens':2},"
		       "'completion_tokens_details':{'audio_tokens':5,'rejected_prediction_tokens':6}}}");
	assert_string_equal(f.tier, "priority");
	assert_int_equal(f.cache_write_tokens, 3);
	assert_int_equal(f.audio_input_tokens, 2);
	assert_int_equal(f.audio_output_tokens, 5);
	assert_int_equal(f.output_tokens, 12); /* rejected ones are among them */
	answer_facts_init(&f);
	read_facts(&f, "{'service_tier':null,'usage':{'prompt_tokens':9,'prompt_cache_hit_tokens':8}}");
	assert_string_equal(f.tier, "");
	assert_int_equal(f.cached_tokens, 8);
}

static void check_cut(const char *choices, bool expected)
{
	struct json_object *value = parse_json(choices);

	assert_int_equal(answer_cut(value), expected);
	json_release(value);
}

static void test_cut(void **state)
{
	(void)state;
	check_cut("{'choices':[{'finish_reason':'stop'},{'finish_reason':'length'}]}", true);
	check_cut("{'choices':[{'finish_reason':'model_length'}]}", true);
	check_cut("{'choices':[{'finish_reason':'stop'},{'finish_reason':null},{}]}", false);
	check_cut("{'choices':[]}", false);
	check_cut("{}", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_completion),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_odd_answers),
		cmocka_unit_test(test_what_usage_says_besides),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_is_error),
		cmocka_unit_test(test_error_body),
		cmocka_unit_test(test_error_extras),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
