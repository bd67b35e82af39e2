/* What is a chat request, and how a client is told that something is not. */
#include "../unit.h"

#include "wire/chat.h"

#define MESSAGES         "'messages':[{'role':'user','content':'a'}]"
#define CHAT(more)       "{'model':'m'," MESSAGES "," more "}"
#define MESSAGE(members) "{'model':'m','messages':[{'role':'user','content':'a'},{" members "}]}"
#define PART(members)    MESSAGE("'role':'user','content':[{'type':'text','text':'a'},{" members "}]")

static int read_body(const char *body, struct chat *chat, struct json_object **value, struct err *err)
{
	*err = (struct err){0};
	*value = parse_json(body);
	return chat_read(chat, *value, err);
}

static void check_accepted(const char *body)
{
	struct json_object *value;
	struct chat chat;
	struct err err;

	if (read_body(body, &chat, &value, &err) != 0)
		fail_msg("%s\n%s: %s", body, err.param, err.message);
	assert_ptr_equal(chat.body, value);
	json_release(value);
}

static void check_refused(const char *body, enum err_code code, const char *param)
{
	struct json_object *value;
	struct chat chat;
	struct err err;

	if (read_body(body, &chat, &value, &err) != -1)
		fail_msg("accepted: %s", body);
	if (err.code != code || strcmp(err.param, param) != 0)
		fail_msg("%s\n%s at '%s': %s", body, err_kind(err.code)->code, err.param, err.message);
	assert_string_not_equal(err.message, "");
	if (*param)
		check_contains(err.message, param);
	json_release(value);
}

/* name, JSON values that are accepted, of the wrong type, and out of range. */
static const struct {
	const char *name;
	const char *good[7], *wrong_type[6], *out_of_range[4];
} fields[] = {
	{"stream", {"true", "false"}, {"1", "'true'", "[]", "{}"}, {NULL}},
	{"temperature", {"0", "2", "0.7", "1e0", "3", "1e9"}, {"'1'", "true", "[]"}, {"-0.1"}},
	{"top_p", {"0", "1", "0.95"}, {"'1'", "{}"}, {"-1", "1.01"}},
	{"n", {"1", "128"}, {"1.5", "'1'", "true"}, {"0", "-1", "129"}},
	{"max_tokens", {"1", "4096", "0", "-1"}, {"1.5", "'1'", "[1]"}, {"-2", "-5", "2e9"}},
	{"max_completion_tokens", {"1", "100000", "0", "-1"}, {"1.5", "'1'"}, {"-2", "-5"}},
	{"presence_penalty", {"-2", "2", "0.5"}, {"'0'", "false"}, {"-2.1", "2.1"}},
	{"frequency_penalty", {"-2", "2", "0"}, {"'0'", "{}"}, {"-3", "3"}},
	{"seed", {"0", "-1", "9223372036854775807", "-9223372036854775808"}, {"'1'", "1.5", "true"}, {NULL}},
	{"stop", {"'a'", "['a','b']", "[]"}, {"1", "true", "{}"}, {NULL}},
	{"logprobs", {"true", "false", "1", "5", "0"}, {"1.5", "'true'", "[]"}, {"-1"}},
	{"top_logprobs", {"0", "0.0"}, {"'1'", "true", "1.5"}, {"-1"}},
	{"logit_bias", {"{}", "{'50256':-100}"}, {"[]", "'x'", "1"}, {NULL}},
	{"tools",
		{"[]", "[{'type':'function','function':{'name':'f'}}]", "[{'type':'new'}]",
			"[{'function':{'name':'f'}}]"},
		{"{}", "'x'", "1"}, {NULL}},
	{"tool_choice",
		{"'none'", "'auto'", "{'type':'function','function':{'name':'f'}}", "{'function':{'name':'f'}}"},
		{"1", "true", "[]"}, {NULL}},
	{"parallel_tool_calls", {"true", "false"}, {"'true'", "0"}, {NULL}},
	{"functions", {"[]", "[{'name':'f'}]"}, {"{}", "'x'"}, {NULL}},
	{"function_call", {"'auto'", "{'name':'f'}"}, {"1", "[]"}, {NULL}},
	{"response_format",
		{"{'type':'text'}", "{'type':'json_object'}",
			"{'type':'json_schema','json_schema':{'name':'n','schema':{}}}", "{'type':'new'}",
			"{'type':'json_schema','json_schema':{'schema':{}}}", "{'type':'json_schema','schema':{}}",
			"{'type':'json_object','schema':{}}"},
		{"'json_object'", "[]", "1"}, {NULL}},
	{"prediction", {"{'type':'content','content':'a'}"}, {"'x'", "[]"}, {NULL}},
	{"modalities", {"['text']", "['text','audio']"}, {"'text'", "{}"}, {NULL}},
	{"audio", {"{'voice':'alloy','format':'wav'}"}, {"'x'", "[]"}, {NULL}},
	{"web_search_options", {"{}"}, {"true", "[]"}, {NULL}},
	{"metadata", {"{}", "{'a':'b'}", "{'a':1,'b':['c'],'d':null}"}, {"'x'", "[]"}, {NULL}},
	{"store", {"true", "false"}, {"'true'", "1"}, {NULL}},
	{"user", {"''", "'u'"}, {"1", "{}"}, {NULL}},
	{"safety_identifier", {"'u'"}, {"1", "[]"}, {NULL}},
	{"prompt_cache_key", {"'k'"}, {"1", "true"}, {NULL}},
	{"reasoning_effort", {"'low'", "'new'", "1024", "-1", "0.5", "false", "true"}, {"[]", "{}"}, {NULL}},
	{"verbosity", {"'low'"}, {"1", "[]"}, {NULL}},
	{"service_tier", {"'auto'"}, {"1", "true"}, {NULL}},
};

static const char *with_field(char *text, size_t room, const char *name, const char *value)
{
	snprintf(text, room, CHAT("'%s':%s"), name, value);
	return text;
}

static void test_fields(void **state)
{
	char text[1024];
	size_t i, j;

	(void)state;
	for (i = 0; i < COUNT(fields); i++) {
		check_accepted(with_field(text, sizeof(text), fields[i].name, "null"));
		for (j = 0; j < COUNT(fields[i].good) && fields[i].good[j]; j++)
			check_accepted(with_field(text, sizeof(text), fields[i].name, fields[i].good[j]));
		for (j = 0; j < COUNT(fields[i].wrong_type) && fields[i].wrong_type[j]; j++)
			check_refused(with_field(text, sizeof(text), fields[i].name, fields[i].wrong_type[j]),
				ERR_INVALID_TYPE, fields[i].name);
		for (j = 0; j < COUNT(fields[i].out_of_range) && fields[i].out_of_range[j]; j++)
			check_refused(with_field(text, sizeof(text), fields[i].name, fields[i].out_of_range[j]),
				ERR_INVALID_VALUE, fields[i].name);
	}
}

static void test_model_and_messages(void **state)
{
	struct buf text = BUF_INIT(4096);
	int i;

	(void)state;
	check_refused("[]", ERR_INVALID_TYPE, "");
	check_refused("'x'", ERR_INVALID_TYPE, "");
	check_refused("7", ERR_INVALID_TYPE, "");
	check_refused("{}", ERR_MISSING_PARAMETER, "model");
	check_refused("{" MESSAGES "}", ERR_MISSING_PARAMETER, "model");
	check_refused("{'model':null," MESSAGES "}", ERR_MISSING_PARAMETER, "model");
	check_refused("{'model':1," MESSAGES "}", ERR_INVALID_TYPE, "model");
	check_refused("{'model':['m']," MESSAGES "}", ERR_INVALID_TYPE, "model");
	check_refused("{'model':'m'}", ERR_MISSING_PARAMETER, "messages");
	check_refused("{'model':'m','messages':null}", ERR_MISSING_PARAMETER, "messages");
	check_refused("{'model':'m','messages':'hello'}", ERR_INVALID_TYPE, "messages");
	check_refused("{'model':'m','messages':{}}", ERR_INVALID_TYPE, "messages");
	check_refused("{'model':'m','messages':[]}", ERR_INVALID_VALUE, "messages");
	check_refused("{'model':'m','messages':['hello']}", ERR_INVALID_TYPE, "messages[0]");
	check_refused("{'model':'m','messages':[null]}", ERR_INVALID_TYPE, "messages[0]");
	buf_adds(&text, "{'model':'");
	for (i = 0; i < 300; i++)
		buf_adds(&text, "x");
	buf_adds(&text, "'," MESSAGES "}");
	check_refused(text.data, ERR_INVALID_VALUE, "model");
	buf_release(&text);
}

static void test_messages(void **state)
{
	static const char *const roles[] = {"system", "developer", "user"};
	char text[256];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(roles); i++) {
		snprintf(text, sizeof(text), MESSAGE("'role':'%s','content':'a'"), roles[i]);
		check_accepted(text);
		snprintf(text, sizeof(text), MESSAGE("'role':'%s','content':null"), roles[i]);
		check_refused(text, ERR_MISSING_PARAMETER, "messages[1].content");
	}
	check_refused(MESSAGE("'content':'a'"), ERR_MISSING_PARAMETER, "messages[1].role");
	check_refused(MESSAGE("'role':null,'content':'a'"), ERR_MISSING_PARAMETER, "messages[1].role");
	check_refused(MESSAGE("'role':1,'content':'a'"), ERR_INVALID_TYPE, "messages[1].role");
	check_refused(MESSAGE("'role':'','content':'a'"), ERR_INVALID_VALUE, "messages[1].role");
	check_refused(MESSAGE("'role':'a\\u0000','content':'a'"), ERR_INVALID_VALUE, "messages[1].role");
	check_refused(MESSAGE("'role':['user'],'content':'a'"), ERR_INVALID_TYPE, "messages[1].role");
	check_accepted(MESSAGE("'role':'control','content':'thinking'"));
	check_accepted(MESSAGE("'role':'user_system'"));
	check_refused(MESSAGE("'role':'control','content':7"), ERR_INVALID_TYPE, "messages[1].content");
	check_refused(MESSAGE("'role':'user'"), ERR_MISSING_PARAMETER, "messages[1].content");
	check_refused(MESSAGE("'role':'user','content':1"), ERR_INVALID_TYPE, "messages[1].content");
	check_refused(MESSAGE("'role':'user','content':{}"), ERR_INVALID_TYPE, "messages[1].content");
	check_accepted(MESSAGE("'role':'user','content':''"));
	check_accepted(MESSAGE("'role':'user','content':'a','name':'n','unknown':{'x':[1]}"));
	/* an assistant that called tools, refused, or spoke */
	check_accepted(MESSAGE("'role':'assistant','content':null,'tool_calls':[{'id':'c','type':'function',"
			       "'function':{'name':'f','arguments':'{}'}}]"));
	check_accepted(MESSAGE("'role':'assistant','refusal':'no'"));
	check_accepted(MESSAGE("'role':'assistant','content':'a','tool_calls':null,'refusal':null,'audio':null"));
	check_refused(MESSAGE("'role':'assistant','tool_calls':{}"), ERR_INVALID_TYPE, "messages[1].tool_calls");
	check_refused(MESSAGE("'role':'assistant','tool_calls':['x']"), ERR_INVALID_TYPE, "messages[1].tool_calls[0]");
	check_refused(MESSAGE("'role':'assistant','tool_calls':[{},{'function':'f'}]"), ERR_INVALID_TYPE,
		"messages[1].tool_calls[1].function");
	check_accepted(MESSAGE("'role':'assistant','tool_calls':[{'id':'c','type':'custom','custom':{'input':'x'}}]"));
	check_accepted(
		MESSAGE("'role':'assistant','tool_calls':[{'id':'c','function':{'name':'f','arguments':{'a':1}}}]"));
	check_refused(MESSAGE("'role':'assistant','tool_calls':[{'function':{'name':'f','arguments':7}}]"),
		ERR_INVALID_TYPE, "messages[1].tool_calls[0].function.arguments");
	/* a tool says which call it answers */
	check_accepted(MESSAGE("'role':'tool','content':'a','tool_call_id':'c'"));
	check_accepted(MESSAGE("'role':'tool','content':[{'type':'text','text':'a'}],'tool_call_id':'c'"));
	check_refused(MESSAGE("'role':'tool','content':'a'"), ERR_MISSING_PARAMETER, "messages[1].tool_call_id");
	check_refused(MESSAGE("'role':'tool','tool_call_id':'c'"), ERR_MISSING_PARAMETER, "messages[1].content");
	check_accepted(MESSAGE("'role':'function','name':'f','content':null"));
}

static void test_parts(void **state)
{
	(void)state;
	check_refused(MESSAGE("'role':'user','content':[]"), ERR_INVALID_VALUE, "messages[1].content");
	check_refused(
		MESSAGE("'role':'tool','tool_call_id':'c','content':[]"), ERR_INVALID_VALUE, "messages[1].content");
	check_accepted(MESSAGE("'role':'assistant','content':[],'tool_calls':[{'id':'c'}]"));
	check_accepted(PART("'type':'text','text':''"));
	check_accepted(PART("'type':'image_url','image_url':{'url':'https://x/y.png','detail':'low'}"));
	check_accepted(PART("'type':'input_audio','input_audio':{'data':'AAAA','format':'wav'}"));
	check_accepted(PART("'type':'file','file':{'file_id':'f'}"));
	check_accepted(PART("'type':'refusal','refusal':'no'"));
	check_accepted(PART("'type':'video_url','video_url':7")); /* the provider's business */
	check_accepted(PART("'type':'image_url','image_url':'https://x/y.png'"));
	check_accepted(PART("'type':'input_audio','input_audio':'AAAA'"));
	check_accepted(PART("'type':'file','file_id':'f'"));
	check_refused(PART("'type':'file','file_id':7"), ERR_INVALID_TYPE, "messages[1].content[1].file_id");
	check_refused(PART("'type':'input_audio','input_audio':['AAAA']"), ERR_INVALID_TYPE,
		"messages[1].content[1].input_audio");
	check_refused(MESSAGE("'role':'user','content':['text']"), ERR_INVALID_TYPE, "messages[1].content[0]");
	check_refused(MESSAGE("'role':'user','content':[null]"), ERR_INVALID_TYPE, "messages[1].content[0]");
	check_refused(PART("'text':'a'"), ERR_MISSING_PARAMETER, "messages[1].content[1].type");
	check_refused(PART("'type':null"), ERR_MISSING_PARAMETER, "messages[1].content[1].type");
	check_refused(PART("'type':7"), ERR_INVALID_TYPE, "messages[1].content[1].type");
	check_refused(PART("'type':'text'"), ERR_MISSING_PARAMETER, "messages[1].content[1].text");
	check_refused(PART("'type':'text','text':7"), ERR_INVALID_TYPE, "messages[1].content[1].text");
	check_refused(PART("'type':'image_url'"), ERR_MISSING_PARAMETER, "messages[1].content[1].image_url");
	check_refused(PART("'type':'image_url','image_url':7"), ERR_INVALID_TYPE, "messages[1].content[1].image_url");
	check_refused(PART("'type':'image_url','image_url':{}"), ERR_MISSING_PARAMETER,
		"messages[1].content[1].image_url.url");
	check_refused(PART("'type':'image_url','image_url':{'url':7}"), ERR_INVALID_TYPE,
		"messages[1].content[1].image_url.url");
	check_refused(PART("'type':'input_audio','input_audio':{}"), ERR_MISSING_PARAMETER,
		"messages[1].content[1].input_audio.data");
	check_refused(PART("'type':'file','file':'x'"), ERR_INVALID_TYPE, "messages[1].content[1].file");
}

static void test_inside_fields(void **state)
{
	(void)state;
	check_refused(CHAT("'tools':[{'type':'new'},'x']"), ERR_INVALID_TYPE, "tools[1]");
	check_refused(CHAT("'tools':[null]"), ERR_INVALID_TYPE, "tools[0]");
	check_refused(CHAT("'stop':['a',7]"), ERR_INVALID_TYPE, "stop[1]");
	check_refused(CHAT("'response_format':{}"), ERR_MISSING_PARAMETER, "response_format.type");
	check_refused(CHAT("'response_format':{'type':1}"), ERR_INVALID_TYPE, "response_format.type");
	check_refused(
		CHAT("'response_format':{'type':'json_schema'}"), ERR_MISSING_PARAMETER, "response_format.json_schema");
	check_refused(CHAT("'response_format':{'type':'json_schema','json_schema':'x'}"), ERR_INVALID_TYPE,
		"response_format.json_schema");
	check_refused(CHAT("'response_format':{'type':'json_schema','schema':'x'}"), ERR_INVALID_TYPE,
		"response_format.schema");
	check_refused(CHAT("'response_format':{'type':'json_object','schema':[]}"), ERR_INVALID_TYPE,
		"response_format.schema");
	check_refused(CHAT("'tools':[{'function':'f'}]"), ERR_INVALID_TYPE, "tools[0].function");
	check_refused(CHAT("'tools':[{'function':{}}]"), ERR_MISSING_PARAMETER, "tools[0].function.name");
	check_refused(CHAT("'tools':[{'type':'function'}]"), ERR_MISSING_PARAMETER, "tools[0].function");
	check_accepted(CHAT("'logprobs':true,'top_logprobs':20"));
	check_accepted(CHAT("'logprobs':true,'top_logprobs':200"));
	check_accepted(CHAT("'logprobs':5,'top_logprobs':5"));
	check_refused(CHAT("'logprobs':0,'top_logprobs':1"), ERR_INVALID_VALUE, "top_logprobs");
	check_accepted(CHAT("'logprobs':false,'top_logprobs':0"));
	check_refused(CHAT("'top_logprobs':1"), ERR_INVALID_VALUE, "top_logprobs");
	check_refused(CHAT("'logprobs':false,'top_logprobs':2e0"), ERR_INVALID_VALUE, "top_logprobs");
	check_refused(CHAT("'stream':true,'stream_options':7"), ERR_INVALID_TYPE, "stream_options");
	check_refused(CHAT("'stream':true,'stream_options':{'include_usage':'yes'}"), ERR_INVALID_TYPE,
		"stream_options.include_usage");
	check_refused(CHAT("'stream_options':{'include_usage':true}"), ERR_INVALID_VALUE, "stream_options");
	check_refused(CHAT("'stream':false,'stream_options':{}"), ERR_INVALID_VALUE, "stream_options");
	check_accepted(CHAT("'stream_options':null"));
	check_accepted(CHAT("'stream':true,'stream_options':{'include_usage':null,'new':1}"));
	check_accepted(CHAT("'unknown':{'deep':[1,{'x':null}]},'another':null,'top_k':40"));
}

/* Paths longer than anybody's: the place is still named, and nothing overflows. */
static void test_far_away(void **state)
{
	struct buf text = BUF_INIT(1 << 20);
	int i;

	(void)state;
	buf_adds(&text, "{'model':'m','messages':[");
	for (i = 0; i < 12345; i++)
		buf_adds(&text, "{'role':'user','content':'a'},");
	buf_adds(&text, "{'role':'user','content':[");
	for (i = 0; i < 2345; i++)
		buf_adds(&text, "{'type':'text','text':'a'},");
	buf_adds(&text, "{'type':'image_url','image_url':{'url':1}}]}]}");
	check_refused(text.data, ERR_INVALID_TYPE, "messages[12345].content[2345].image_url.url");
	buf_release(&text);
}

static void test_facts(void **state)
{
	struct json_object *value;
	struct chat chat;
	struct err err;

	(void)state;
	assert_int_equal(read_body(CHAT("'stream':true,'stream_options':{'include_usage':true},'store':true,'user':'u',"
					"'safety_identifier':'s'"),
				 &chat, &value, &err),
		0);
	assert_string_equal(chat.model, "m");
	assert_true(chat.stream);
	assert_true(chat.include_usage);
	assert_true(chat.side_effect);
	assert_string_equal(chat.user, "s");
	json_release(value);
	assert_int_equal(read_body(CHAT("'user':'u','store':false"), &chat, &value, &err), 0);
	assert_false(chat.stream);
	assert_false(chat.include_usage);
	assert_false(chat.side_effect);
	assert_string_equal(chat.user, "u");
	json_release(value);
	assert_int_equal(read_body(CHAT("'stream':null,'store':null,'user':null"), &chat, &value, &err), 0);
	assert_false(chat.stream);
	assert_false(chat.side_effect);
	assert_null(chat.user);
	assert_int_equal(chat.choices, 1);
	json_release(value);
	assert_int_equal(read_body(CHAT("'n':20e-1"), &chat, &value, &err), 0);
	assert_int_equal(chat.choices, 2);
	json_release(value);
}

static void test_what_bypasses(void **state)
{
	static const struct {
		const char *more;
		bool side_effect, temperature_zero;
	} cases[] = {
		{"'x':1", false, false},
		{"'store':true", true, false},
		{"'store':false,'background':false,'conversation':null", false, false},
		{"'background':true", true, false},
		{"'background':'yes'", true, false},
		{"'background':0", true, false}, /* not ours to interpret */
		{"'conversation':'conv_1'", true, false},
		{"'conversation':{'id':'conv_1'}", true, false},
		{"'temperature':0", false, true},
		{"'temperature':0.0", false, true},
		{"'temperature':-0", false, true},
		{"'temperature':0e9", false, true},
		{"'temperature':1e-9", false, false},
		{"'temperature':1", false, false},
		{"'temperature':null", false, false},
	};
	struct json_object *value;
	struct chat chat;
	struct err err;
	char body[256];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		snprintf(body, sizeof(body), "{'model':'m','messages':[{'role':'user','content':'a'}],%s}",
			cases[i].more);
		assert_int_equal(read_body(body, &chat, &value, &err), 0);
		if (chat.side_effect != cases[i].side_effect || chat.temperature_zero != cases[i].temperature_zero)
			fail_msg("%s", cases[i].more);
		json_release(value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_model_and_messages),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_inside_fields),
		cmocka_unit_test(test_far_away),
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_what_bypasses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
