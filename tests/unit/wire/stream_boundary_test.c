/*
 * What stands at a boundary, as providers are known to send it: each chunk is played as it was recorded, member for
 * member. And scripts as they were written before chunks' heads were noted: what is remembered is not lost.
 */
#include "../stream_unit.h"

#include "wire/usage.h"

#define USED(tokens) "'usage':{'prompt_tokens':9,'completion_tokens':" #tokens "}"

static const struct recorded chats[] = {
	{"usage beside the finish_reason (Mistral, DeepSeek)",
		{DELTA(0, "{'role':'assistant','content':''}"), DELTA(0, "{'content':'Hi'}"),
			CHUNK "'choices':[{'index':0,'delta':{'content':''},'finish_reason':'stop'}]," USAGE "}"},
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'Hi'}", "stop") "]," USAGE "}"},
	{"usage in every chunk (Perplexity; vLLM's continuous_usage_stats)",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':'H'},'finish_reason':null}]," USED(
			 1) "}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'i'},'finish_reason':null}]," USED(2) "}",
			CHUNK "'choices':[{'index':0,'delta':{'content':''},'finish_reason':'stop'}]," USED(2) "}",
			CHUNK "'choices':[]," USED(2) "}"},
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'Hi'}", "stop") "]," USED(2) "}"},
	{"usage before the end, and not again",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':'H'}}]," USED(1) "}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'i'}}]," USED(2) "}", END(0, "stop")},
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'Hi'}", "stop") "]," USED(2) "}"},
	{"usage behind an empty delta (OpenRouter)",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':'Hi'},'finish_reason':null,"
		       "'native_finish_reason':null}]}",
			CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':''},"
			      "'finish_reason':'stop','native_finish_reason':'completed'}]}",
			CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':''},'finish_reason':null,"
			      "'native_finish_reason':null}]," USAGE "}"},
		COMPLETION "'choices':[{'index':0,'message':{'role':'assistant','content':'Hi'},'logprobs':null,"
			   "'finish_reason':'stop','native_finish_reason':'completed'}]," USAGE "}"},
	{"a null here and not there (vLLM)",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':''},'logprobs':null,"
		       "'finish_reason':null}],'usage':null}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'H'},'logprobs':null,'finish_reason':null,"
			      "'token_ids':null}]}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'i'},'finish_reason':null,'token_ids':null}]}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'!'},'logprobs':null,'finish_reason':'stop',"
			      "'stop_reason':null,'token_ids':null}]}"},
		COMPLETION "'choices':[{'index':0,'message':{'role':'assistant','content':'Hi!'},'logprobs':null,"
			   "'finish_reason':'stop','stop_reason':null,'token_ids':null}]}"},
	{"finish_reason '' while there is none",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':'H'},'finish_reason':''}]}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'i'},'finish_reason':''}]}",
			CHUNK "'choices':[{'index':0,'delta':{'content':'!'},'finish_reason':'stop'}]}"},
		ONE("{'role':'assistant','content':'Hi!'}", "stop")},
	{"something of the provider's own in the first chunk and the last (Groq)",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':''},'finish_reason':null}],"
		       "'x_groq':{'id':'req_1'}}",
			DELTA(0, "{'content':'Hi'}"),
			CHUNK "'choices':[{'index':0,'delta':{},'finish_reason':'stop'}],"
			      "'x_groq':{'id':'req_1','usage':{'total_tokens':7}}}"},
		COMPLETION "'x_groq':{'id':'req_1','usage':{'total_tokens':7}},'choices':[" CHOICE(
			0, "{'role':'assistant','content':'Hi'}", "stop") "]}"},
	{"a service_tier that comes late, a fingerprint that changes, one that goes",
		{"{'id':'i','object':'chat.completion.chunk','system_fingerprint':'a','x':1,'choices':[{'index':0,"
		 "'delta':{'role':'assistant','content':'H'},'finish_reason':null}]}",
			"{'id':'i','object':'chat.completion.chunk','system_fingerprint':'b','x':1,'choices':[{"
			"'index':0,'delta':{'content':'i'},'finish_reason':null}]}",
			"{'id':'i','object':'chat.completion.chunk','system_fingerprint':'b','service_tier':'default',"
			"'choices':[{'index':0,'delta':{'content':'!'},'finish_reason':'stop'}]}"},
		"{'id':'i','object':'chat.completion','system_fingerprint':'b','service_tier':'default','x':1,"
		"'choices':[" CHOICE(0, "{'role':'assistant','content':'Hi!'}", "stop") "]}"},
	{"a first chunk that says nothing (Azure)",
		{"{'id':'','object':'','created':0,'model':'','choices':[],'prompt_filter_results':[{'prompt_index':0}]"
		 "}",
			"{'id':'','object':'chat.completion.chunk','created':0,'model':'gpt-4o','choices':[{'index':0,"
			"'delta':{'role':'assistant','content':'Hi'},'finish_reason':'stop',"
			"'content_filter_results':{'hate':{'filtered':false}}}]}"},
		"{'id':'','object':'chat.completion','created':0,'model':'gpt-4o','prompt_filter_results':[{"
		"'prompt_index':0}],'choices':[{'index':0,'message':{'role':'assistant','content':'Hi'},'logprobs':"
		"null,'finish_reason':'stop','content_filter_results':{'hate':{'filtered':false}}}]}"},
	{"a model that is said once, and then empty",
		{DELTA(0, "{'role':'assistant','content':'Hi'}"),
			"{'id':'chatcmpl-1','object':'chat.completion.chunk','created':1700000000,'model':'','choices':[{"
			"'index':0,'delta':{},'finish_reason':'stop'}]}"},
		ONE("{'role':'assistant','content':'Hi'}", "stop")},
	{"chunks without choices in between, and without the member",
		{DELTA(0, "{'role':'assistant','content':'Hi'}"), CHUNK "'choices':[]}", CHUNK "'ping':true}",
			CHUNK "'choices':null}", END(0, "stop")},
		COMPLETION "'ping':true,'choices':[" CHOICE(0, "{'role':'assistant','content':'Hi'}", "stop") "]}"},
	{"choices without a delta",
		{DELTA(0, "{'role':'assistant','content':'Hi'}"), CHUNK "'choices':[{'index':0,'delta':null}]}",
			CHUNK "'choices':[{'index':0,'finish_reason':'stop'}]}"},
		ONE("{'role':'assistant','content':'Hi'}", "stop")},
	{"two choices of one chunk that say different nothings",
		{CHUNK "'choices':[{'index':0,'delta':{'role':'assistant','content':'a'},'logprobs':null},"
		       "{'index':1,'delta':{'role':'assistant','content':'b'},'finish_reason':null}]}",
			CHUNK "'choices':[{'index':1,'finish_reason':'stop'},{'index':0,'delta':{},"
			      "'finish_reason':'stop'}]}"},
		COMPLETION "'choices':[" CHOICE(0, "{'role':'assistant','content':'a'}", "stop") "," CHOICE(
			1, "{'role':'assistant','content':'b'}", "stop") "]}"},
	{"tool calls that begin at 1, and leave one out",
		{DELTA(0, "{'role':'assistant','content':'Let me see.'}"),
			DELTA(0, "{'tool_calls':[{'index':1,'id':'a','type':'function',"
				 "'function':{'name':'f','arguments':'{'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':1,'function':{'arguments':'}'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':3,'id':'b','type':'function',"
				 "'function':{'name':'g','arguments':''}}]}"),
			DELTA(0, "{'tool_calls':[{'index':3,'function':{'arguments':'[]'}}]}"), END(0, "tool_calls")},
		ONE("{'role':'assistant','content':'Let me see.','tool_calls':["
		    "{'id':'a','type':'function','function':{'name':'f','arguments':'{}'}},"
		    "{'id':'b','type':'function','function':{'name':'g','arguments':'[]'}}]}",
			"tool_calls")},
	{"tool calls that all have index 0, told by their ids (Ollama)",
		{DELTA(0, "{'role':'assistant','content':'','tool_calls':[{'id':'a','index':0,'type':'function',"
			  "'function':{'name':'f','arguments':'{}'}}]}"),
			DELTA(0, "{'role':'assistant','content':'','tool_calls':[{'id':'b','index':0,"
				 "'type':'function','function':{'name':'f','arguments':'[1'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':0,'function':{'arguments':']'}}]}"),
			DELTA(0, "{'tool_calls':[{'id':'b','index':0,'function':{'arguments':' '}}]}"),
			END(0, "tool_calls")},
		ONE("{'role':'assistant','content':'','tool_calls':["
		    "{'id':'a','type':'function','function':{'name':'f','arguments':'{}'}},"
		    "{'id':'b','type':'function','function':{'name':'f','arguments':'[1] '}}]}",
			"tool_calls")},
	{"the same in one delta (Gemini)",
		{DELTA(0, "{'role':'assistant','tool_calls':[{'index':0,'id':'a','type':'function',"
			  "'function':{'name':'f','arguments':'{}'}},{'index':0,'id':'b','type':'function',"
			  "'function':{'name':'g','arguments':'{}'}}]}"),
			END(0, "tool_calls")},
		ONE("{'role':'assistant','content':null,'tool_calls':["
		    "{'id':'a','type':'function','function':{'name':'f','arguments':'{}'}},"
		    "{'id':'b','type':'function','function':{'name':'g','arguments':'{}'}}]}",
			"tool_calls")},
	{"reasoning_details, signed at the end (OpenRouter, Anthropic)",
		{DELTA(0, "{'role':'assistant','content':'','reasoning_details':[{'type':'reasoning.text','text':'Be',"
			  "'format':'anthropic-claude-v1','index':0}]}"),
			DELTA(0, "{'reasoning_details':[{'type':'reasoning.text','text':'cause',"
				 "'format':'anthropic-claude-v1','index':0}]}"),
			DELTA(0, "{'reasoning_details':[{'type':'reasoning.text','signature':'Et8B',"
				 "'format':'anthropic-claude-v1','index':0}]}"),
			DELTA(0, "{'content':'4'}"), END(0, "stop")},
		ONE("{'role':'assistant','content':'4','reasoning_details':[{'type':'reasoning.text','text':'Because',"
		    "'format':'anthropic-claude-v1','index':0,'signature':'Et8B'}]}",
			"stop")},
	{"reasoning_details that all have index 0 in the stream, and count in JSON (OpenRouter, OpenAI)",
		{DELTA(0, "{'role':'assistant','content':'','reasoning_details':[{'type':'reasoning.summary',"
			  "'summary':'Be','format':'openai-responses-v1','index':0}]}"),
			DELTA(0, "{'reasoning_details':[{'type':'reasoning.summary','summary':'cause',"
				 "'format':'openai-responses-v1','index':0}]}"),
			DELTA(0, "{'reasoning_details':[{'type':'reasoning.encrypted','data':'gA','id':'rs_1',"
				 "'format':'openai-responses-v1','index':0}]}"),
			DELTA(0, "{'reasoning_details':[{'type':'reasoning.encrypted','data':'gB','id':'rs_2',"
				 "'format':'openai-responses-v1','index':0}]}"),
			DELTA(0, "{'content':'4'}"), END(0, "stop")},
		ONE("{'role':'assistant','content':'4','reasoning_details':[{'type':'reasoning.summary',"
		    "'summary':'Because','format':'openai-responses-v1','index':0},"
		    "{'type':'reasoning.encrypted','data':'gA','id':'rs_1','format':'openai-responses-v1','index':1},"
		    "{'type':'reasoning.encrypted','data':'gB','id':'rs_2','format':'openai-responses-v1','index':2}]}",
			"stop")},
};

#define TEXT_CHUNK "{'id':'cmpl-1','object':'text_completion','created':1700000000,'model':'m','choices':[{'index':"

static const struct recorded texts[] = {
	{"nulls beside the text (vLLM)",
		{TEXT_CHUNK "0,'text':'Hel','logprobs':null,'finish_reason':null,'stop_reason':null}],'usage':null}",
			TEXT_CHUNK "0,'text':'lo','logprobs':null,'finish_reason':null,'stop_reason':null}],"
				   "'usage':null}",
			TEXT_CHUNK "0,'text':'','logprobs':null,'finish_reason':'length','stop_reason':null}],"
				   "'usage':null}",
			"{'id':'cmpl-1','object':'text_completion','created':1700000000,'model':'m','choices':[]," USAGE
			"}"},
		TEXT_CHUNK "0,'text':'Hello','logprobs':null,'finish_reason':'length','stop_reason':null}]," USAGE "}"},
	{"two texts, logprobs, no null at all",
		{TEXT_CHUNK "1,'text':'x'}]}",
			TEXT_CHUNK "0,'text':'a','logprobs':{'tokens':['a'],'token_logprobs':[-1]}}]}",
			TEXT_CHUNK "1,'text':'y','finish_reason':'stop'}]}", TEXT_CHUNK "0,'text':'b'}]}",
			TEXT_CHUNK "0,'text':'','finish_reason':'stop'}]}"},
		TEXT_CHUNK "0,'text':'ab','logprobs':{'tokens':['a'],'token_logprobs':[-1]},'finish_reason':'stop'},"
			   "{'index':1,'text':'xy','logprobs':null,'finish_reason':'stop'}]}"},
};

static int check_recorded(const struct stream_form *form, const struct recorded *r)
{
	struct json_object *chunks = chunks_of(r->chunks), *found, *expected;
	struct tape tape;
	bool good;

	if (!record_as(&tape, form, chunks, STREAM_UNIT_MAX))
		fail_msg("%s: not a whole answer", r->name);
	found = parse_bytes(tape.completion.data, tape.completion.len);
	good = plays_true(r->name, &tape, chunks);
	if (r->completion) {
		expected = parse_json(r->completion);
		good &= same_json(r->name, found, expected);
		json_release(expected);
	}
	json_release(found);
	json_release(chunks);
	tape_release(&tape);
	return !good;
}

static void test_recorded(void **state)
{
	int wrong = 0;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(chats); i++)
		wrong += check_recorded(&stream_chat, &chats[i]);
	for (i = 0; i < COUNT(texts); i++)
		wrong += check_recorded(&stream_text, &texts[i]);
	assert_int_equal(wrong, 0);
}

/* The answer has a fresh id and creation time: in every chunk, whatever the provider's chunks had. */
static void test_made_anew(void **state)
{
	static const char *const list[] = {
		"{'id':'a','created':1,'model':'m','object':'chat.completion.chunk','choices':[{'index':0,'delta':{"
		"'content':'a'}}]}",
		"{'id':'b','created':2,'model':'m','object':'chat.completion.chunk','choices':[{'index':0,'delta':{"
		"'content':'b'},'finish_reason':'stop'}]}",
		NULL};
	struct json_object *chunks = chunks_of(list), *completion, *played, *chunk;
	struct tape tape;
	size_t i;

	(void)state;
	assert_true(record(&tape, chunks, STREAM_UNIT_MAX));
	completion = parse_bytes(tape.completion.data, tape.completion.len);
	json_set_str(completion, "id", "fresh");
	json_set_int(completion, "created", 3);
	buf_reset(&tape.completion);
	json_print(&tape.completion, completion);
	assert_int_equal(play_back(&tape, tape.script.data, tape.script.len, false, &played), 0);
	assert_int_equal(json_object_array_length(played), 2);
	for (i = 0; i < 2; i++) {
		chunk = json_object_array_get_idx(played, i);
		assert_string_equal(json_get_str(chunk, "id"), "fresh");
		assert_int_equal(json_get_int(chunk, "created", 0), 3);
	}
	json_release(played);
	json_release(completion);
	json_release(chunks);
	tape_release(&tape);
}

/* A long text costs a few bytes a chunk, nulls and running counts or not. */
static void test_scripts_are_short(void **state)
{
	struct json_object *chunks = json_object_new_array();
	struct buf chunk = BUF_INIT(4096);
	struct tape tape;
	int i;

	(void)state;
	for (i = 0; i < 1000; i++) {
		buf_reset(&chunk);
		buf_printf(&chunk,
			CHUNK "'choices':[{'index':0,'delta':{'content':'word'},'logprobs':null,'finish_reason':null,"
			      "'stop_reason':null}],'usage':{'completion_tokens':%d}}",
			i);
		json_object_array_add(chunks, parse_json(chunk.data));
	}
	json_object_array_add(chunks, parse_json(END(0, "stop")));
	assert_true(record(&tape, chunks, STREAM_UNIT_MAX));
	assert_in_range(tape.script.len, 2000, 2400);
	tape_release(&tape);
	json_release(chunks);
	buf_release(&chunk);
}

/* ---- as scripts were written before ---- */

static void test_scripts_of_old(void **state)
{
	static const char *const expected[] = {CHUNK
		"'choices':[{'index':0,'delta':{'role':'assistant','content':''},'logprobs':null,"
		"'finish_reason':null}],'usage':null,'x_groq':{'id':'r'}}",
		CHUNK "'choices':[{'index':0,'delta':{'content':'Hel'},'logprobs':null,'finish_reason':null}],"
		      "'usage':null}",
		CHUNK "'choices':[{'index':0,'delta':{'content':'lo'},'logprobs':null,'finish_reason':null}],"
		      "'usage':null}",
		CHUNK "'choices':[{'index':0,'delta':{'tool_calls':[{'index':1,'id':'b','function':{'arguments':'{}'}},"
		      "{'index':0,'id':'a','function':{'arguments':''}}]},'logprobs':null,'finish_reason':null},"
		      "{'index':1,'delta':{},'logprobs':null,'finish_reason':'stop'}],'usage':null}",
		CHUNK "'choices':[{'index':0,'delta':{},'logprobs':null,'finish_reason':'tool_calls'}],'usage':null}",
		CHUNK "'choices':[]," USAGE "}", NULL};
	struct tape tape = {BUF_INIT(4096), BUF_INIT(4096), &stream_chat};
	struct json_object *played, *chunks = chunks_of(expected);

	(void)state;
	add_json_text(&tape.completion, COMPLETION
		"'x_groq':{'id':'r'},'choices':[{'index':0,'message':{'role':'assistant','content':'Hello',"
		"'tool_calls':[{'id':'a','function':{'arguments':''}},{'id':'b','function':{'arguments':"
		"'{}'}}]},'finish_reason':'tool_calls'},{'index':1,'message':{},'finish_reason':'stop'}]," USAGE "}");
	add_json_text(&tape.script, "[{'c':0,'d':{'role':true,'content':0},'r':{}},[0,'content',3,2],"
				    "{'c':0,'m':1,'d':{'tool_calls':[[1,{'index':true,'id':true,'function':{'arguments'"
				    ":2}}],[0,{'index':true,'id':true,'function':{'arguments':0}}]]},'r':{}},"
				    "{'c':1,'d':{},'r':{'finish_reason':true}},"
				    "{'c':0,'d':{},'r':{'finish_reason':true}}]");
	assert_int_equal(play_back(&tape, tape.script.data, tape.script.len, true, &played), 0);
	assert_true(same_json("a script of old", played, chunks));
	json_release(played);
	json_release(chunks);
	tape_release(&tape);
}

static void test_texts_of_old(void **state)
{
	static const char *const expected[] = {TEXT_CHUNK "0,'text':'Hel','logprobs':null,'finish_reason':null}]}",
		TEXT_CHUNK "0,'text':'lo','logprobs':null,'finish_reason':'stop'}]}", NULL};
	struct tape tape = {BUF_INIT(4096), BUF_INIT(4096), &stream_text};
	struct json_object *played, *chunks = chunks_of(expected);

	(void)state;
	add_json_text(&tape.completion, TEXT_CHUNK "0,'text':'Hello','finish_reason':'stop'}]," USAGE "}");
	add_json_text(&tape.script, "[{'c':0,'d':{},'r':{'text':3}},"
				    "{'c':0,'d':{},'r':{'text':2,'finish_reason':true}}]");
	assert_int_equal(play_back(&tape, tape.script.data, tape.script.len, false, &played), 0);
	assert_true(same_json("a text of old", played, chunks));
	json_release(played);
	json_release(chunks);
	tape_release(&tape);
}

/* ---- live: the chunks of chats[], as they pass ---- */

static struct json_object *show_all(struct usage_view v, struct json_object *chunks)
{
	struct json_object *seen = json_object_new_array(), *chunk, *owed;
	size_t i;

	for (i = 0; i < json_object_array_length(chunks); i++) {
		chunk = plain_chunk(json_object_array_get_idx(chunks, i));
		if (usage_show(&v, chunk) == USAGE_UNSEEN)
			json_release(chunk);
		else
			json_object_array_add(seen, chunk);
	}
	owed = usage_owed(&v);
	if (owed)
		json_object_array_add(seen, json_object_get(owed));
	usage_release(&v);
	return seen;
}

/* How often a count is seen. */
static int counts_in(struct json_object *chunks)
{
	int counts = 0;
	size_t i;

	for (i = 0; i < json_object_array_length(chunks); i++)
		counts += json_get(json_object_array_get_idx(chunks, i), "usage") != NULL;
	return counts;
}

static void test_live_usage(void **state)
{
	struct json_object *chunks, *seen;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(chats); i++) {
		chunks = chunks_of(chats[i].chunks);
		seen = show_all((struct usage_view){.choices = 1}, chunks);
		assert_int_equal(counts_in(seen), 0);
		json_release(seen);
		seen = show_all((struct usage_view){.choices = 1, .asked = true}, chunks);
		if (counts_in(seen) != (counts_in(chunks) > 0))
			fail_msg("%s: %d counts are seen", chats[i].name, counts_in(seen));
		json_release(seen);
		seen = show_all((struct usage_view){.choices = 1, .asked = true, .running = true}, chunks);
		assert_true(same_json(chats[i].name, seen, chunks));
		json_release(seen);
		json_release(chunks);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded),
		cmocka_unit_test(test_made_anew),
		cmocka_unit_test(test_scripts_are_short),
		cmocka_unit_test(test_scripts_of_old),
		cmocka_unit_test(test_texts_of_old),
		cmocka_unit_test(test_live_usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
