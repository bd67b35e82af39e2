/* Whoever counts honestly counts no more tokens than we measured, and what cannot be measured is named. */
#include "../unit.h"

#include "wire/chat.h"
#include "wire/measure.h"

#include <dirent.h>

static struct measure measured(void (*measure)(struct measure *m, struct json_object *body), const char *text)
{
	struct json_object *body = parse_json(text);
	struct measure m;

	measure(&m, body);
	json_release(body);
	return m;
}

#define CHAT(more)  "{'model':'m','messages':[{'role':'user','content':'Hello'}]" more "}"
#define PARTS(list) "{'model':'m','messages':[{'role':'system','content':'s'},{'role':'user','content':[" list "]}]}"

/* ---- an honest provider, with the worst of tokenizers: a token for every byte ---- */

static int64_t bytes_of(struct json_object *v)
{
	return json_object_is_type(v, json_type_string) ? json_object_get_string_len(v) : 0;
}

/* As JSON for people: a line for each member, which some templates ask for. A run of white space is one token. */
static int64_t indented(struct json_object *v)
{
	struct buf text = BUF_INIT(1 << 20);
	int64_t sum = 2;
	size_t i;

	if (json_object_is_type(v, json_type_object)) {
		json_each_member (v, m)
			sum += 1 + (int64_t)strlen(m.name) + 3 + 1 + indented(m.value) + 1;
	} else if (json_object_is_type(v, json_type_array)) {
		for (i = 0; i < json_object_array_length(v); i++)
			sum += 1 + indented(json_object_array_get_idx(v, i)) + 1;
	} else {
		json_print(&text, v);
		sum = (int64_t)text.len;
	}
	buf_release(&text);
	return sum;
}

static int64_t content_tokens(struct json_object *content)
{
	int64_t sum = bytes_of(content);
	size_t i;

	for (i = 0; json_object_is_type(content, json_type_array) && i < json_object_array_length(content); i++)
		sum += bytes_of(json_get(json_object_array_get_idx(content, i), "text")) +
		       bytes_of(json_get(json_object_array_get_idx(content, i), "refusal"));
	return sum;
}

/* OpenAI's cookbook says three tokens a message and one for a name, and three in front of the answer; templates of open
 * models take more. */
static int64_t honest(struct json_object *body)
{
	struct json_object *messages = json_get_array(body, "messages"), *m, *calls, *call;
	int64_t sum = 3 + 100; /* a preamble: "Cutting Knowledge Date: …", reasoning, channels */
	size_t i, k;

	for (i = 0; i < json_object_array_length(messages); i++) {
		m = json_object_array_get_idx(messages, i);
		calls = json_get_array(m, "tool_calls");
		sum += 7 + bytes_of(json_get(m, "role")) + content_tokens(json_get(m, "content")) + 1 +
		       bytes_of(json_get(m, "name")) + bytes_of(json_get(m, "tool_call_id"));
		for (k = 0; calls && k < json_object_array_length(calls); k++) {
			call = json_get(json_object_array_get_idx(calls, k), "function");
			sum += 4 + bytes_of(json_get(call, "name")) + bytes_of(json_get(call, "arguments"));
		}
	}
	if (json_get(body, "tools"))
		sum += 700 + indented(json_get(body, "tools"));
	if (json_get(body, "response_format"))
		sum += 100 + indented(json_get(body, "response_format"));
	return sum;
}

static void check_honest(struct json_object *body)
{
	struct measure m;

	measure_chat(&m, body);
	if (m.text < honest(body))
		fail_msg("%lld for what counts %lld: %s", (long long)m.text, (long long)honest(body),
			json_get_str(body, "model"));
}

/* ---- chance ---- */

static uint64_t seed = 20261124;

static struct json_object *some_text(size_t most)
{
	static const char *const pieces[] = {"a", " ", "\n", "the ", "\xc3\xa9", "\xe6\xbc\xa2", "\xf0\x9f\x98\x80",
		"\"", "\\", "<|im_end|>", "\t", "0"};
	struct buf text = BUF_INIT(1 << 20);
	struct json_object *v;
	size_t n = chance_below(&seed, most);

	buf_adds(&text, "");
	while (n--)
		buf_adds(&text, pieces[chance_below(&seed, COUNT(pieces))]);
	v = json_object_new_string_len(text.data ? text.data : "", (int)text.len);
	buf_release(&text);
	return v;
}

static struct json_object *some_schema(int depth)
{
	struct json_object *schema = json_object_new_object(), *inner = json_object_new_object();
	size_t i, n = depth ? chance_below(&seed, 4) : 0;
	char name[16];

	json_set_str(schema, "type", "object");
	if (chance_below(&seed, 2))
		json_set(schema, "description", some_text(40));
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "p%zu", i);
		json_set(inner, name, some_schema(depth - 1));
	}
	json_set(schema, "properties", inner);
	return schema;
}

static struct json_object *some_message(void)
{
	struct json_object *m = json_object_new_object(), *parts, *part;
	size_t i, n = chance_below(&seed, 4);

	json_set_str(m, "role", chance_below(&seed, 2) ? "user" : "assistant");
	if (n == 0) {
		json_set(m, "content", some_text(200));
		return m;
	}
	parts = json_object_new_array();
	for (i = 0; i < n; i++) {
		part = json_object_new_object();
		json_set_str(part, "type", "text");
		json_set(part, "text", some_text(60));
		json_object_array_add(parts, part);
	}
	json_set(m, "content", parts);
	if (chance_below(&seed, 2))
		json_set(m, "name", some_text(10));
	return m;
}

static struct json_object *some_request(void)
{
	struct json_object *body = json_object_new_object(), *list = json_object_new_array(), *tool, *function;
	size_t i, n = 1 + chance_below(&seed, 6);

	json_set_str(body, "model", "m");
	for (i = 0; i < n; i++)
		json_object_array_add(list, some_message());
	json_set(body, "messages", list);
	n = chance_below(&seed, 4);
	list = json_object_new_array();
	for (i = 0; i < n; i++) {
		tool = json_object_new_object();
		function = json_object_new_object();
		json_set(function, "name", some_text(8));
		json_set(function, "description", some_text(80));
		json_set(function, "parameters", some_schema(3));
		json_set_str(tool, "type", "function");
		json_set(tool, "function", function);
		json_object_array_add(list, tool);
	}
	json_set(body, "tools", list);
	if (chance_below(&seed, 2)) {
		function = json_object_new_object();
		json_set(function, "schema", some_schema(4));
		json_set(body, "response_format", function);
	}
	return body;
}

static void test_no_honest_count_is_larger(void **state)
{
	struct json_object *body;
	int i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		body = some_request();
		check_honest(body);
		json_release(body);
	}
}

/* The requests that the fuzzers begin with. */
static void test_the_corpus(void **state)
{
	DIR *dir = opendir("tests/fuzz/corpus/chat");
	struct dirent *entry;
	struct json_object *body;
	struct chat chat;
	struct err err;
	char path[512], text[65536];
	int fd, checked = 0;
	ssize_t n;

	(void)state;
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "tests/fuzz/corpus/chat/%s", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
		close(fd);
		body = n > 0 ? json_parse(text, (size_t)n, &err) : NULL;
		if (body && chat_read(&chat, body, &err) == 0) {
			check_honest(body);
			checked++;
		}
		json_release(body);
	}
	closedir(dir);
	assert_true(checked >= 5);
}

/* ---- what is no text ---- */

static void test_parts(void **state)
{
	static const char image[] = "{'type':'image_url','image_url':{'url':'data:image/png;base64,%s'}}";
	struct buf big = BUF_INIT(1 << 22), text = BUF_INIT(1 << 22);
	struct measure m =
		measured(measure_chat, PARTS("{'type':'text','text':'a'},{'type':'image_url','image_url':'u'},"
					     "{'type':'input_audio','input_audio':{'data':'d'}},"
					     "{'type':'file','file':{'file_id':'f'}},"
					     "{'type':'image_url','image_url':{'url':'v'}}"));

	(void)state;
	assert_int_equal(m.parts[MEASURE_IMAGE], 2);
	assert_int_equal(m.parts[MEASURE_AUDIO], 1);
	assert_int_equal(m.parts[MEASURE_FILE], 1);
	assert_string_equal(m.part_param[MEASURE_IMAGE], "messages[1].content[1]");
	assert_string_equal(m.part_param[MEASURE_AUDIO], "messages[1].content[2]");
	assert_string_equal(m.part_param[MEASURE_FILE], "messages[1].content[3]");
	assert_string_equal(m.unmeasured, "");

	/* a megabyte of pixels is not a million tokens */
	while (big.len < 1 << 20)
		buf_adds(&big, "QUJD");
	buf_printf(&text, image, big.data);
	buf_reset(&big);
	buf_printf(&big, PARTS("%s"), text.data);
	m = measured(measure_chat, big.data);
	assert_in_range(m.text, 1, 2000);
	assert_int_equal(m.parts[MEASURE_IMAGE], 1);
	buf_release(&big);
	buf_release(&text);

	m = measured(measure_chat, PARTS("{'type':'video_url','video_url':'u'}"));
	assert_string_equal(m.unmeasured, "messages[1].content[0]");
	assert_string_equal(m.unpriced, "");
	m = measured(
		measure_chat, "{'messages':[{'role':'user','content':'a'},{'role':'assistant','audio':{'id':'x'}}]}");
	assert_int_equal(m.parts[MEASURE_AUDIO], 1);
	assert_string_equal(m.part_param[MEASURE_AUDIO], "messages[1].audio");
}

static void check_option(const char *text, const char *unmeasured, const char *unpriced)
{
	struct measure m = measured(measure_chat, text);

	assert_string_equal(m.unmeasured, unmeasured);
	assert_string_equal(m.unpriced, unpriced);
}

static void test_options(void **state)
{
	(void)state;
	check_option(CHAT(",'temperature':1,'reasoning_effort':'high','anything':{'x':1}"), "", "");
	check_option(CHAT(",'prediction':{'type':'content','content':'x'}"), "prediction", "");
	check_option(CHAT(",'web_search_options':{}"), "web_search_options", "web_search_options");
	check_option(CHAT(",'web_search_options':null,'enable_search':false,'plugins':[],'n_predict':null"), "", "");
	check_option(CHAT(",'enable_search':true"), "enable_search", "enable_search");
	check_option(CHAT(",'models':['x','y']"), "models", "models");
	check_option(CHAT(",'n_predict':-1"), "n_predict", "");
	check_option(
		CHAT(",'tools':[{'type':'function','function':{'name':'f'}},{'function':{'name':'f'}},{'type':'custom',"
		     "'custom':{'name':'c'}}]"),
		"", "");
	check_option(CHAT(",'tools':[{'type':'function','function':{'name':'f'}},{'type':'web_search'}]"), "tools[1]",
		"tools[1]");
	check_option(CHAT(",'service_tier':'auto'"), "", "");
	check_option(CHAT(",'service_tier':'priority'"), "", ""); /* has a price, or not: the model's to say */
	check_option(CHAT(",'service_tier':'ultrafast'"), "", "service_tier");
	assert_string_equal(measured(measure_chat, CHAT(",'service_tier':'priority'")).tier, "priority");
	assert_true(measured(measure_chat, CHAT(",'modalities':['text','audio'],'audio':{'voice':'v'}")).speaks);
	assert_false(measured(measure_chat, CHAT(",'modalities':['text']")).speaks);
}

static void check_cap(const char *text, int64_t cap, const char *name)
{
	struct measure m = measured(measure_chat, text);

	assert_int_equal(m.cap, cap);
	if (name)
		assert_string_equal(m.cap_name, name);
	else
		assert_null(m.cap_name);
}

static void test_caps(void **state)
{
	(void)state;
	check_cap(CHAT(""), 0, NULL);
	check_cap(CHAT(",'max_tokens':100"), 100, "max_tokens");
	check_cap(CHAT(",'max_completion_tokens':100.0"), 100, "max_completion_tokens");
	check_cap(CHAT(",'max_tokens':50,'max_completion_tokens':100"), 50, "max_completion_tokens");
	check_cap(CHAT(",'max_tokens':-1"), 0, "max_tokens");
	check_cap(CHAT(",'max_tokens':0"), 0, "max_tokens");
	check_cap(CHAT(",'max_tokens':null"), 0, "max_tokens");
	check_cap(CHAT(",'max_tokens':-1,'max_completion_tokens':7"), 7, "max_completion_tokens");
}

static void test_how_many(void **state)
{
	(void)state;
	assert_int_equal(measured(measure_chat, CHAT("")).answers, 1);
	assert_int_equal(measured(measure_chat, CHAT(",'n':5")).answers, 5);
	assert_int_equal(measured(measure_chat, CHAT(",'n':2.0")).answers, 2);
	assert_int_equal(measured(measure_chat, CHAT(",'n':2,'best_of':3")).answers, 3);
	assert_int_equal(measured(measure_completion, "{'prompt':'a'}").answers, 1);
	assert_int_equal(measured(measure_completion, "{'prompt':['a','b','c'],'n':2}").answers, 6);
	assert_int_equal(measured(measure_completion, "{'prompt':['a','b'],'n':2,'best_of':5}").answers, 10);
	assert_int_equal(measured(measure_completion, "{'prompt':[1,2,3]}").answers, 1);
	assert_int_equal(measured(measure_completion, "{'prompt':[[1,2],[3]]}").answers, 2);
	assert_int_equal(measured(measure_embeddings, "{'input':['a','b']}").answers, 0);
	assert_true(measured(measure_completion, "{'prompt':[1,2,3,4,5,6,7,8,9,10]}").text >= 10);
	assert_true(measured(measure_embeddings, "{'input':[[1,2,3],[4,5]]}").text >= 5);
}

/* ---- answers ---- */

static int64_t heard(const char *text, bool *reasoned)
{
	struct json_object *answer = parse_json(text);
	int64_t tokens = measure_answer(answer, reasoned);

	json_release(answer);
	return tokens;
}

static void test_answers(void **state)
{
	bool reasoned = false;

	(void)state;
	assert_true(heard("{'choices':[{'delta':{'content':'12345'}}]}", &reasoned) >= 5);
	assert_true(heard("{'choices':[{'delta':{}}]}", &reasoned) >= 1);
	assert_true(heard("{'choices':[{'text':'12345'}]}", &reasoned) >= 5);
	assert_true(
		heard("{'choices':[{'message':{'content':'12345'}},{'message':{'refusal':'12'}}]}", &reasoned) >= 7);
	assert_true(
		heard("{'choices':[{'delta':{'tool_calls':[{'index':0,'function':{'name':'abc','arguments':'{}'}}]}}]}",
			&reasoned) >= 5);
	assert_int_equal(heard("{'choices':[],'usage':{'prompt_tokens':1}}", &reasoned), 0);
	assert_int_equal(heard("{'data':[]}", &reasoned), 0);
	assert_false(reasoned);
	heard("{'choices':[{'delta':{'reasoning_content':''}}]}", &reasoned);
	assert_false(reasoned);
	heard("{'choices':[{'delta':{'reasoning_content':'hm'}}]}", &reasoned);
	assert_true(reasoned);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_honest_count_is_larger),
		cmocka_unit_test(test_the_corpus),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_how_many),
		cmocka_unit_test(test_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
