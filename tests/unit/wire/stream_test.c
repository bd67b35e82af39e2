/*
 * Recorded streams: what they are put together to, and that the whole of it can be played again. Streams by chance:
 * stream_chance_test.c; streams that are odd, incomplete or too large: stream_odd_test.c.
 */
#include "../stream_unit.h"

static const struct recorded streams[] = {
	{"text",
		{DELTA(0, "{'role':'assistant','content':'','refusal':null}"), DELTA(0, "{'content':'Hel'}"),
			DELTA(0, "{'content':'lo'}"), DELTA(0, "{'content':' world'}"), END(0, "stop")},
		ONE("{'role':'assistant','content':'Hello world','refusal':null}", "stop")},
	{"multi-byte text, escapes, a NUL",
		{DELTA(0, "{'role':'assistant','content':'\xc3\xa9'}"), DELTA(0, "{'content':'\xf0\x9f\x98\x80'}"),
			DELTA(0, "{'content':'\\n\\t\\\\\\' \\u0000'}"), DELTA(0, "{'content':'\xe2\x82\xac'}"),
			DELTA(0, "{'content':'a\xe2\x82\xac'}"), END(0, "stop")},
		ONE("{'role':'assistant','content':'\xc3\xa9\xf0\x9f\x98\x80\\n\\t\\\\\\' \\u0000\xe2\x82\xac"
		    "a\xe2\x82\xac'}",
			"stop")},
	{"one tool call, content null",
		{DELTA(0, "{'role':'assistant','content':null,'tool_calls':[{'index':0,'id':'call_1','type':'function',"
			  "'function':{'name':'get_weather','arguments':''}}],'refusal':null}"),
			DELTA(0, "{'tool_calls':[{'index':0,'function':{'arguments':'{\\'ci'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':0,'function':{'arguments':'ty\\':\\'Oslo\\'}'}}]}"),
			END(0, "tool_calls")},
		ONE("{'role':'assistant','content':null,'tool_calls':[{'id':'call_1','type':'function',"
		    "'function':{'name':'get_weather','arguments':'{\\'city\\':\\'Oslo\\'}'}}],'refusal':null}",
			"tool_calls")},
	{"parallel tool calls, fragments interleaved",
		{DELTA(0, "{'role':'assistant','content':'Let me see.'}"),
			DELTA(0, "{'tool_calls':[{'index':0,'id':'call_a','type':'function',"
				 "'function':{'name':'f','arguments':''}}]}"),
			DELTA(0, "{'tool_calls':[{'index':1,'id':'call_b','type':'function',"
				 "'function':{'name':'g','arguments':'['}}]}"),
			DELTA(0, "{'tool_calls':[{'index':0,'function':{'arguments':'{'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':1,'function':{'arguments':'1'}},"
				 "{'index':0,'function':{'arguments':'}'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':2,'id':'call_c','type':'function',"
				 "'function':{'name':'h','arguments':'null'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':1,'function':{'arguments':']'}}]}"), END(0, "tool_calls")},
		ONE("{'role':'assistant','content':'Let me see.','tool_calls':["
		    "{'id':'call_a','type':'function','function':{'name':'f','arguments':'{}'}},"
		    "{'id':'call_b','type':'function','function':{'name':'g','arguments':'[1]'}},"
		    "{'id':'call_c','type':'function','function':{'name':'h','arguments':'null'}}]}",
			"tool_calls")},
	{"id, type, name and role said again in every piece",
		{DELTA(0, "{'role':'assistant','tool_calls':[{'index':0,'id':'c','type':'function',"
			  "'function':{'name':'f','arguments':'{'}}]}"),
			DELTA(0, "{'role':'assistant','tool_calls':[{'index':0,'id':'c','type':'function',"
				 "'function':{'name':'f','arguments':'}'}}]}"),
			END(0, "tool_calls")},
		ONE("{'role':'assistant','content':null,'tool_calls':[{'id':'c','type':'function',"
		    "'function':{'name':'f','arguments':'{}'}}]}",
			"tool_calls")},
	{"a tool call in one piece",
		{DELTA(0, "{'role':'assistant','content':null,'tool_calls':[]}"),
			DELTA(0, "{'tool_calls':[{'index':0,'id':'c','type':'function',"
				 "'function':{'name':'f','arguments':'{}'}}]}"),
			END(0, "tool_calls")},
		ONE("{'role':'assistant','content':null,'tool_calls':[{'id':'c','type':'function',"
		    "'function':{'name':'f','arguments':'{}'}}]}",
			"tool_calls")},
	{"refusal",
		{DELTA(0, "{'role':'assistant','content':null,'refusal':''}"), DELTA(0, "{'refusal':'I can'}"),
			DELTA(0, "{'refusal':'not'}"), END(0, "stop")},
		ONE("{'role':'assistant','content':null,'refusal':'I cannot'}", "stop")},
	{"a legacy function_call",
		{DELTA(0, "{'role':'assistant','content':null,'function_call':{'name':'f','arguments':''}}"),
			DELTA(0, "{'function_call':{'arguments':'{\\'a\\''}}"),
			DELTA(0, "{'function_call':{'arguments':':1}'}}"), END(0, "function_call")},
		ONE("{'role':'assistant','content':null,'function_call':{'name':'f','arguments':'{\\'a\\':1}'}}",
			"function_call")},
	{"reasoning_content, then content, in one delta once",
		{DELTA(0, "{'role':'assistant','content':null,'reasoning_content':''}"),
			DELTA(0, "{'reasoning_content':'Hm','content':null}"), DELTA(0, "{'reasoning_content':'m.'}"),
			DELTA(0, "{'reasoning_content':' So','content':'4'}"),
			DELTA(0, "{'reasoning_content':null,'content':'2'}"), END(0, "stop")},
		ONE("{'role':'assistant','content':'42','reasoning_content':'Hmm. So'}", "stop")},
	{"fields that nobody knows, nested",
		{DELTA(0,
			 "{'role':'assistant','content':'a','x_trace':{'note':'be','n':1,'deep':{'t':'x','on':true}}}"),
			DELTA(0, "{'x_trace':{'note':'gin','deep':{'t':'y','none':null}}}"),
			DELTA(0, "{'annotations':[{'kind':'link','url':'u'}],'score':0.25}"),
			DELTA(0, "{'annotations':[null,7,'s'],'x_list':[]}"),
			DELTA(0, "{'reasoning_details':[{'index':0,'type':'reasoning.text','text':'Be'}]}"),
			DELTA(0, "{'reasoning_details':[{'index':0,'type':'reasoning.text','text':'cause'}]}"),
			DELTA(0, "{'content':'b'}"), END(0, "stop")},
		ONE("{'role':'assistant','content':'ab',"
		    "'x_trace':{'note':'begin','n':1,'deep':{'t':'xy','on':true,'none':null}},"
		    "'annotations':[{'kind':'link','url':'u'},null,7,'s'],'score':0.25,'x_list':[],"
		    "'reasoning_details':[{'index':0,'type':'reasoning.text','text':'Because'}]}",
			"stop")},
	{"empty deltas and empty pieces",
		{DELTA(0, "{}"), DELTA(0, "{'role':'assistant'}"), DELTA(0, "{'content':''}"), DELTA(0, "{}"),
			DELTA(0, "{'content':'a'}"), DELTA(0, "{'content':''}"), DELTA(0, "{'content':''}"),
			DELTA(0, "{}"), END(0, "length")},
		ONE("{'role':'assistant','content':'a'}", "length")},
	{"obfuscation is of the stream, not of the answer",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':''},'finish_reason':null}],"
		       "'obfuscation':'aK3'}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'Hi'},'finish_reason':null}],'obfuscation':"
			      "'x'}",
			CHUNK "'choices':[{'index':0,'delta':{},'finish_reason':'stop'}],'obfuscation':'Zq8mN'}"},
		ONE("{'role':'assistant','content':'Hi'}", "stop")},
	{"so is Mistral's padding",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':''},'finish_reason':null}],"
		       "'p':'abc'}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'Hi'},'finish_reason':null}],'p':'abcdef'}",
			CHUNK "'choices':[{'index':0,'delta':{'content':''},'finish_reason':'stop'}]," USAGE
			      ",'p':'a'}"},
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'Hi'}", "stop") "]," USAGE "}"},
	{"usage: null until the chunk that has it",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':'Hi'},'logprobs':null,"
		       "'finish_reason':null}],'usage':null}",
			CHUNK "'choices':[{'index':0,'delta':{},'logprobs':null,'finish_reason':'stop'}],'usage':null}",
			CHUNK "'choices':[]," USAGE "}"},
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'Hi'}", "stop") "]," USAGE "}"},
	{"usage beside the last delta; a first chunk without choices",
		{CHUNK "'choices':[],'prompt_filter_results':[{'prompt_index':0}]}",
			DELTA(0, "{'role':'assistant','content':'Hi'}"),
			CHUNK "'choices':[{'index':0,'delta':{},'logprobs':null,'finish_reason':'stop'}]," USAGE "}"},
		COMPLETION "'prompt_filter_results':[{'prompt_index':0}],'choices':[" CHOICE(
			0, "{'role':'assistant','content':'Hi'}", "stop") "]," USAGE "}"},
	{"logprobs",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':'','refusal':null},"
		       "'logprobs':{'content':[],'refusal':null},'finish_reason':null}]}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'Hi'},'logprobs':{'content':[{'token':'Hi',"
			      "'logprob':-0.5,'bytes':[72,105],'top_logprobs':[{'token':'Hi','logprob':-0.5}]}],"
			      "'refusal':null},'finish_reason':null}]}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'!?'},'logprobs':{'content':[{'token':'!',"
			      "'logprob':-1},{'token':'?','logprob':-2.5}],'refusal':null},'finish_reason':null}]}",
			END(0, "stop")},
		COMPLETION "'choices':[{'index':0,'message':{'role':'assistant','content':'Hi!?','refusal':null},"
			   "'logprobs':{'content':[{'token':'Hi','logprob':-0.5,'bytes':[72,105],'top_logprobs':"
			   "[{'token':'Hi','logprob':-0.5}]},{'token':'!','logprob':-1},{'token':'?','logprob':-2.5}],"
			   "'refusal':null},'finish_reason':'stop'}]}"},
	{"three choices, interleaved, the last one first",
		{DELTA(2, "{'role':'assistant','content':'c'}"), DELTA(0, "{'role':'assistant','content':'a'}"),
			DELTA(1, "{'role':'assistant','content':'b'}"), DELTA(0, "{'content':'A'}"),
			DELTA(0, "{'content':'0'}"), DELTA(2, "{'content':'C'}"), END(2, "length"),
			DELTA(1, "{'content':'B'}"), END(0, "stop"), DELTA(1, "{'content':'1'}"), END(1, "stop")},
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'aA0'}", "stop") "," CHOICE(1,
			"{'role':'assistant','content':'bB1'}",
			"stop") "," CHOICE(2, "{'role':'assistant','content':'cC'}", "length") "]}"},
	{"two choices in one chunk",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':'a'}},"
		       "{'index':1,'delta':{'role':'assistant','content':'b'}}]}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'A'}},{'index':1,'delta':{'content':'B'}}]}",
			CHUNK "'choices':[{'index':0,'delta':{},'finish_reason':'stop'},"
			      "{'index':1,'delta':{},'finish_reason':'length'}]}"},
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'aA'}", "stop") "," CHOICE(
			1, "{'role':'assistant','content':'bB'}", "length") "]}"},
	{"finish_reason with the last text; members of a choice that nobody knows",
		{DELTA(0, "{'role':'assistant','content':'a'}"),
			CHUNK "'choices':[{'index':0,'delta':{'content':'b'},'logprobs':null,'finish_reason':'stop',"
			      "'stop_reason':null,'content_filter_results':{'hate':{'filtered':false}}}]}"},
		COMPLETION "'choices':[{'index':0,'message':{'role':'assistant','content':'ab'},'logprobs':null,"
			   "'finish_reason':'stop','stop_reason':null,"
			   "'content_filter_results':{'hate':{'filtered':false}}}]}"},
};

static void test_recorded(void **state)
{
	struct json_object *chunks, *found, *expected;
	struct tape tape;
	int wrong = 0;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(streams); i++) {
		chunks = chunks_of(streams[i].chunks);
		if (!record(&tape, chunks, STREAM_UNIT_MAX))
			fail_msg("%s: not a whole answer", streams[i].name);
		found = parse_bytes(tape.completion.data, tape.completion.len);
		expected = parse_json(streams[i].completion);
		wrong += !same_json(streams[i].name, found, expected) || !plays_true(streams[i].name, &tape, chunks);
		json_release(found);
		json_release(expected);
		json_release(chunks);
		tape_release(&tape);
	}
	assert_int_equal(wrong, 0);
}

/* A completion that came as JSON: no script, few chunks, nothing lost. */
static void test_json_as_a_stream(void **state)
{
	struct json_object *played, *first;
	struct tape tape;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(streams); i++) {
		tape = (struct tape){BUF_INIT(STREAM_UNIT_MAX), BUF_INIT(1), &stream_chat};
		add_json_text(&tape.completion, streams[i].completion);
		assert_int_equal(play_back(&tape, "", 0, true, &played), 0);
		assert_true(same_again(streams[i].name, played, &tape));
		first = json_object_array_get_idx(played, 0);
		assert_string_equal(json_get_str(first, "object"), "chat.completion.chunk");
		assert_string_equal(json_get_str(first, "id"), "chatcmpl-1");
		assert_int_equal(json_get_int(first, "created", 0), 1700000000);
		json_release(played);
		tape_release(&tape);
	}
}

/* Wherever a delta's calls stand, a client finds its place by their index. */
static void test_json_tool_calls_get_an_index(void **state)
{
	struct json_object *played, *delta, *calls;
	struct tape tape = {BUF_INIT(4096), BUF_INIT(1), &stream_chat};

	(void)state;
	add_json_text(&tape.completion, ONE("{'role':'assistant','content':null,'tool_calls':[{'id':'a','type':"
					    "'function','function':{'name':'f','arguments':'{}'}},{'id':'b','type':"
					    "'function','function':{'name':'g','arguments':'{}'}}]}",
						"tool_calls"));
	assert_int_equal(play_back(&tape, "", 0, true, &played), 0);
	delta = json_get(
		json_object_array_get_idx(json_get_array(json_object_array_get_idx(played, 0), "choices"), 0), "delta");
	assert_string_equal(json_get_str(delta, "role"), "assistant"); /* as OpenAI begins */
	assert_true(json_has(delta, "content"));
	assert_int_equal(json_object_object_length(delta), 2);
	delta = json_get(
		json_object_array_get_idx(json_get_array(json_object_array_get_idx(played, 1), "choices"), 0), "delta");
	calls = json_get_array(delta, "tool_calls");
	assert_int_equal(json_object_array_length(calls), 2);
	assert_int_equal(json_get_int(json_object_array_get_idx(calls, 0), "index", -1), 0);
	assert_int_equal(json_get_int(json_object_array_get_idx(calls, 1), "index", -1), 1);
	assert_string_equal(json_get_str(json_object_array_get_idx(calls, 1), "id"), "b");
	json_release(played);
	tape_release(&tape);
}

/* One call for each, whatever the provider counts: what has an index of its own keeps it where it can be told by it. */
static void test_json_indexes_tell_calls_apart(void **state)
{
	static const struct {
		const char *first, *second;
		int64_t played[2];
	} cases[] = {{"0", "0", {0, 1}}, {"null", "null", {0, 1}}, {"1", "0", {0, 1}}, {"0", "null", {0, 1}},
		{"-1", "0", {0, 1}}, {"0", "1", {0, 1}}, {"1", "3", {1, 3}}};
	struct json_object *played, *choice, *calls;
	struct tape tape;
	char text[600];
	size_t i, j;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		tape = (struct tape){BUF_INIT(4096), BUF_INIT(1), &stream_chat};
		snprintf(text, sizeof(text),
			ONE("{'role':'assistant','content':null,'tool_calls':[{'id':'a','index':%s},{'id':'b','index':%s}]}",
				"tool_calls"),
			cases[i].first, cases[i].second);
		add_json_text(&tape.completion, text);
		assert_int_equal(play_back(&tape, "", 0, true, &played), 0);
		choice = json_object_array_get_idx(json_get_array(json_object_array_get_idx(played, 1), "choices"), 0);
		calls = json_get_array(json_get(choice, "delta"), "tool_calls");
		assert_int_equal(json_object_array_length(calls), 2);
		for (j = 0; j < 2; j++)
			assert_int_equal(
				json_get_int(json_object_array_get_idx(calls, j), "index", -1), cases[i].played[j]);
		json_release(played);
		tape_release(&tape);
	}
}

/* ---- playing ---- */

static int stop_at_third(void *count, const char *chunk, size_t len)
{
	(void)chunk;
	(void)len;
	return ++*(int *)count == 3 ? 77 : 0;
}

static void test_emit_stops(void **state)
{
	struct json_object *chunks = chunks_of(streams[0].chunks);
	struct tape tape;
	struct replay r = {.form = &stream_chat, .emit = stop_at_third};
	int count = 0;

	(void)state;
	assert_true(record(&tape, chunks, STREAM_UNIT_MAX));
	r.completion = parse_bytes(tape.completion.data, tape.completion.len);
	r.script = tape.script.data;
	r.script_len = tape.script.len;
	r.ctx = &count;
	assert_int_equal(stream_replay(&r), 77);
	assert_int_equal(count, 3);
	json_release(r.completion);
	json_release(chunks);
	tape_release(&tape);
}

/* The usage chunk is for those who asked: the others do not see the member at all. */
static void test_usage_when_asked_for(void **state)
{
	struct json_object *played = json_object_new_array(), *chunk;
	struct replay r = {.form = &stream_chat, .script = "", .emit = keep_chunk, .ctx = played};
	size_t i, n;

	(void)state;
	r.completion = parse_json(
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'a'}", "stop") "]," USAGE "}");
	assert_int_equal(stream_replay(&r), 0);
	for (i = 0; i < json_object_array_length(played); i++)
		assert_false(json_has(json_object_array_get_idx(played, i), "usage"));
	json_release(r.completion);
	json_release(played);

	r.ctx = played = json_object_new_array();
	r.include_usage = true;
	r.completion = parse_json(
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'a'}", "stop") "]," USAGE "}");
	assert_int_equal(stream_replay(&r), 0);
	n = json_object_array_length(played);
	for (i = 0; i + 1 < n; i++) {
		chunk = json_object_array_get_idx(played, i);
		assert_true(json_has(chunk, "usage"));
		assert_null(json_get(chunk, "usage"));
	}
	chunk = json_object_array_get_idx(played, n - 1);
	assert_int_equal(json_object_array_length(json_get_array(chunk, "choices")), 0);
	assert_int_equal(json_get_int(json_get(chunk, "usage"), "total_tokens", 0), 11);
	json_release(r.completion);
	json_release(played);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded),
		cmocka_unit_test(test_json_as_a_stream),
		cmocka_unit_test(test_json_tool_calls_get_an_index),
		cmocka_unit_test(test_json_indexes_tell_calls_apart),
		cmocka_unit_test(test_emit_stops),
		cmocka_unit_test(test_usage_when_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
