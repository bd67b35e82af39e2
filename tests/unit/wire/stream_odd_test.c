/* Streams that nobody should send, and some do: what comes of them is right, or it is not kept. */
#include "../stream_unit.h"

/*
 * What a provider may also do. It can be put together or not; what must never happen is that it is kept wrong: that
 * its playback differs from what was seen, or that a client of the stream and one of the JSON form see two answers.
 */
static const struct recorded odd[] = {
	{"a name in pieces",
		{DELTA(0, "{'role':'assistant','tool_calls':[{'index':0,'id':'c','type':'function',"
			  "'function':{'name':'get_','arguments':''}}]}"),
			DELTA(0, "{'tool_calls':[{'index':0,'function':{'name':'weather','arguments':'{}'}}]}"),
			END(0, "tool_calls")},
		ONE("{'role':'assistant','content':null,'tool_calls':[{'id':'c','type':'function',"
		    "'function':{'name':'get_weather','arguments':'{}'}}]}",
			"tool_calls")},
	{"tool calls that begin at 1",
		{DELTA(0, "{'role':'assistant','content':null,'tool_calls':[{'index':1,'id':'c','type':'function',"
			  "'function':{'name':'f','arguments':'{'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':1,'function':{'arguments':'}'}}]}"), END(0, "tool_calls")},
		ONE("{'role':'assistant','content':null,'tool_calls':[{'id':'c','type':'function',"
		    "'function':{'name':'f','arguments':'{}'}}]}",
			"tool_calls")},
	{"the second tool call first",
		{DELTA(0, "{'role':'assistant','content':null,'tool_calls':[{'index':1,'id':'b','type':'function',"
			  "'function':{'name':'g','arguments':'{}'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':0,'id':'a','type':'function',"
				 "'function':{'name':'f','arguments':'{}'}}]}"),
			END(0, "tool_calls")},
		ONE("{'role':'assistant','content':null,'tool_calls':["
		    "{'id':'a','type':'function','function':{'name':'f','arguments':'{}'}},"
		    "{'id':'b','type':'function','function':{'name':'g','arguments':'{}'}}]}",
			"tool_calls")},
	{"two tool calls of one index",
		{DELTA(0, "{'role':'assistant','content':null,'tool_calls':[{'index':0,'id':'a','type':'function',"
			  "'function':{'name':'f','arguments':'{}'}}]}"),
			DELTA(0, "{'tool_calls':[{'index':0,'id':'b','type':'function',"
				 "'function':{'name':'g','arguments':'{}'}}]}"),
			END(0, "tool_calls")},
		NULL},
	{"an index beyond all bounds",
		{DELTA(0, "{'role':'assistant','content':'a','x':[{'index':9223372036854775807,'type':'a'}]}"),
			DELTA(0, "{'x':[{'index':9223372036854775807,'type':'b'}]}"), END(0, "stop")},
		NULL},
	{"an index that is none",
		{DELTA(0, "{'role':'assistant','content':'a','tool_calls':[{'index':false,'id':'a'},{'id':'b'}]}"),
			END(0, "stop")},
		ONE("{'role':'assistant','content':'a','tool_calls':[{'index':false,'id':'a'},{'id':'b'}]}", "stop")},
	{"a number that changes",
		{DELTA(0, "{'role':'assistant','content':'a','tokens':1}"), DELTA(0, "{'content':'b','tokens':2}"),
			END(0, "stop")},
		ONE("{'role':'assistant','content':'ab','tokens':2}", "stop")},
	{"text that becomes a number",
		{DELTA(0, "{'role':'assistant','content':'a','x':'one'}"), DELTA(0, "{'x':1}"), END(0, "stop")}, NULL},
	{"a number that becomes text",
		{DELTA(0, "{'role':'assistant','content':'a','x':1}"), DELTA(0, "{'x':'one'}"), END(0, "stop")}, NULL},
	{"text that becomes an object",
		{DELTA(0, "{'role':'assistant','content':'a'}"), DELTA(0, "{'content':{'a':1}}"), END(0, "stop")},
		NULL},
	{"an object that becomes an array",
		{DELTA(0, "{'role':'assistant','content':'a','x':{}}"), DELTA(0, "{'x':[]}"), END(0, "stop")}, NULL},
	{"elements without an index, then with one",
		{DELTA(0, "{'role':'assistant','content':'a','x':['s',{'k':1}]}"),
			DELTA(0, "{'x':[{'index':0,'k':2}]}"), END(0, "stop")},
		NULL},
	{"elements with an index, then without",
		{DELTA(0, "{'role':'assistant','content':'a','x':[{'index':0,'k':2}]}"), DELTA(0, "{'x':['s',null]}"),
			END(0, "stop")},
		NULL},
	{"an index below 0",
		{DELTA(0, "{'role':'assistant','content':'a','x':[{'k':'1'}]}"),
			DELTA(0, "{'x':[{'index':-1,'k':'2'}]}"), END(0, "stop")},
		NULL},
	{"elements with and without an index in one delta",
		{DELTA(0, "{'role':'assistant','content':'a','x':[{'index':0,'k':'1'},'s']}"), END(0, "stop")}, NULL},
	{"the message so far beside every delta",
		{CHUNK "'choices':[{'index':0,'message':{'role':'assistant','content':'a'},"
		       "'delta':{'role':'assistant','content':'a'},'finish_reason':null}]}",
			CHUNK "'choices':[{'index':0,'message':{'role':'assistant','content':'ab'},"
			      "'delta':{'content':'b'},'finish_reason':'stop'}]}"},
		ONE("{'role':'assistant','content':'ab'}", "stop")},
	{"field names that are no words",
		{DELTA(0, "{'role':'assistant','content':'a'}"), DELTA(0, "{'\\n':'b'}"),
			DELTA(0, "{'\\u0001\\'':'c'}"), DELTA(0, "{'\\\\':'d'}"), DELTA(0, "{'\\\\':'e'}"),
			DELTA(0, "{'':'f'}"), DELTA(0, "{'':'g'}"), DELTA(0, "{'\xc3\xa9\x7f':'h'}"), END(0, "stop")},
		ONE("{'role':'assistant','content':'a','\\n':'b','\\u0001\\'':'c','\\\\':'de','':'fg','\xc3\xa9\x7f':'h'}",
			"stop")},
	{"a field name of 100 bytes",
		{DELTA(0, "{'role':'assistant','content':'a'}"),
			DELTA(0,
				"{'x123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
				"12345678':'b'}"),
			END(0, "stop")},
		NULL},
	{"a finish_reason that changes",
		{DELTA(0, "{'role':'assistant','content':'a'}"), END(0, "stop"), END(0, "length")}, NULL},
	{"a choice of 1,000",
		{DELTA(0, "{'role':'assistant','content':'a'}"), END(0, "stop"), DELTA(1000, "{'content':'b'}"),
			END(1000, "stop")},
		NULL},
	{"no delta",
		{DELTA(0, "{'role':'assistant','content':'a'}"), DELTA(0, "null"), DELTA(0, "'text'"),
			CHUNK "'choices':[{'index':0,'finish_reason':'stop'}]}"},
		NULL},
};

static void test_odd_streams_are_exact_or_unused(void **state)
{
	struct json_object *chunks, *found, *expected;
	struct tape tape;
	int wrong = 0;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(odd); i++) {
		chunks = chunks_of(odd[i].chunks);
		if (record(&tape, chunks, STREAM_UNIT_MAX)) {
			found = parse_bytes(tape.completion.data, tape.completion.len);
			expected = parse_json(odd[i].completion ? odd[i].completion : tape.completion.data);
			wrong += !same_json(odd[i].name, found, expected) || !plays_true(odd[i].name, &tape, chunks);
			json_release(found);
			json_release(expected);
		}
		json_release(chunks);
		tape_release(&tape);
	}
	assert_int_equal(wrong, 0);
}

/* ---- what is no answer ---- */

static const struct recorded incomplete[] = {
	{"nothing", {NULL}, NULL},
	{"no choices", {CHUNK "'choices':[]}", CHUNK "'choices':[]," USAGE "}"}, NULL},
	{"no finish_reason", {DELTA(0, "{'role':'assistant','content':'a'}"), DELTA(0, "{'content':'b'}")}, NULL},
	{"one of two without a finish_reason",
		{DELTA(0, "{'role':'assistant','content':'a'}"), DELTA(1, "{'role':'assistant','content':'b'}"),
			END(1, "stop")},
		NULL},
	{"finished twice, the other not at all",
		{DELTA(0, "{'role':'assistant','content':'a'}"), DELTA(1, "{'role':'assistant','content':'b'}"),
			END(1, "stop"), END(1, "stop")},
		NULL},
	{"something else", {"{'error':{'message':'overloaded'}}", "[]", "7", "'x'", "{'choices':7}"}, NULL},
	{"something else behind it",
		{DELTA(0, "{'role':'assistant','content':'a'}"), END(0, "stop"), CHUNK "'choices':7}"}, NULL},
	{"a choice that is none",
		{DELTA(0, "{'role':'assistant','content':'a'}"), CHUNK "'choices':['x']}", END(0, "stop")}, NULL},
	{"a whole message instead of a delta",
		{CHUNK "'choices':[{'index':0,'message':{'role':'assistant','content':'a'},'finish_reason':'stop'}]}"},
		NULL},
};

static void test_incomplete(void **state)
{
	struct json_object *chunks;
	struct tape tape;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(incomplete); i++) {
		chunks = chunks_of(incomplete[i].chunks);
		if (record(&tape, chunks, STREAM_UNIT_MAX))
			fail_msg("%s: %s", incomplete[i].name, tape.completion.data);
		json_release(chunks);
		tape_release(&tape);
	}
}

/* `pieces` deltas of `bytes` each go to the members of `names` in turn; whether a limit of max_bytes lets them pass. */
static bool fits(const char *format, int pieces, int bytes, size_t max_bytes)
{
	struct json_object *chunks = json_object_new_array();
	struct buf chunk = BUF_INIT(1 << 20), text = BUF_INIT(1 << 20);
	struct tape tape;
	bool fitted;
	int i;

	for (i = 0; i < bytes; i++)
		buf_addc(&text, 'x');
	for (i = 0; i < pieces; i++) {
		buf_reset(&chunk);
		buf_printf(&chunk, format, text.data, i % 2);
		json_object_array_add(chunks, parse_json(chunk.data));
	}
	json_object_array_add(chunks, parse_json(END(0, "stop")));
	fitted = record(&tape, chunks, max_bytes);
	tape_release(&tape);
	json_release(chunks);
	buf_release(&chunk);
	buf_release(&text);
	return fitted;
}

/* Gateways fill silence with events that are no chunks. */
static void test_pings(void **state)
{
	static const char *const plain[] = {DELTA(0, "{'role':'assistant','content':'a'}"), END(0, "stop"), NULL};
	static const char *const pings[] = {"{'type':'ping'}", DELTA(0, "{'role':'assistant','content':'a'}"),
		"{'type':'ping'}", END(0, "stop"), "{'type':'ping','time':1}", NULL};
	struct json_object *chunks = chunks_of(plain), *pinged = chunks_of(pings);
	struct tape expected, found;

	(void)state;
	assert_true(record(&expected, chunks, STREAM_UNIT_MAX));
	assert_true(record(&found, pinged, STREAM_UNIT_MAX));
	assert_string_equal(found.completion.data, expected.completion.data);
	assert_string_equal(found.script.data, expected.script.data);
	json_release(chunks);
	json_release(pinged);
	tape_release(&expected);
	tape_release(&found);
}

static const struct {
	const char *chunks[6];
	int choices, finished;
} lost[] = {
	{{DELTA(0, "{'role':'assistant','x':1}"), DELTA(0, "{'x':2}"), END(0, "stop"), END(0, "stop")}, 1, 1},
	{{DELTA(0, "{'x':1}"), DELTA(0, "{'x':2}"), DELTA(0, "{'content':'a'}")}, 1, 0},
	{{DELTA(0, "{'x':1}"), CHUNK "'choices':7}", DELTA(1, "{}"), END(0, "stop")}, 2, 1},
	{{DELTA(0, "{'x':1}"), CHUNK "'choices':[{'index':0,'delta':{'x':2},'finish_reason':'stop'},"
				     "{'index':1,'delta':{'x':2},'finish_reason':'stop'}]}"},
		2, 2},
	{{CHUNK "'choices':['x']}", END(0, "stop")}, 1, 1},
	{{CHUNK "'choices':['x']}", END(1000, "stop")}, 1, 0},
};

/* What cannot be put together is not used, but one knows whether it has ended. */
static void test_lost_and_still_counted(void **state)
{
	struct json_object *chunks;
	struct assembly a;
	size_t i, j;

	(void)state;
	for (i = 0; i < COUNT(lost); i++) {
		chunks = chunks_of(lost[i].chunks);
		assembly_init(&a, &stream_chat, STREAM_UNIT_MAX);
		for (j = 0; j < json_object_array_length(chunks); j++)
			assembly_add(&a, json_object_array_get_idx(chunks, j));
		assert_true(a.lost);
		assert_int_equal(a.choices, lost[i].choices);
		assert_int_equal(a.finished, lost[i].finished);
		assert_null(assembly_finish(&a));
		assembly_release(&a);
		json_release(chunks);
	}
}

static void test_too_large(void **state)
{
	static const char one[] = DELTA(0, "{'content':'%s','even':null}"),
			  two[] = "{'choices':[{'index':0,'delta':{'text%2$d':'%1$s'}}]}",
			  array[] = DELTA(0, "{'list':['%s',%d]}"), inner[] = DELTA(0, "{'x':{'a':{'b':'%s'}}}");

	(void)state;
	assert_true(fits(one, 10, 100, 10000));
	assert_true(fits(two, 10, 100, 10000));
	assert_true(fits(array, 10, 100, 10000));
	assert_true(fits(inner, 10, 100, 10000));
	assert_false(fits(one, 110, 100, 10000));
	assert_false(fits(inner, 110, 100, 10000));
	assert_false(fits(one, 1, 10001, 10000));
	assert_false(fits(array, 1, 10001, 10000));
	assert_false(fits(array, 110, 100, 10000));
	assert_false(fits(two, 2, 9000, 10000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_odd_streams_are_exact_or_unused),
		cmocka_unit_test(test_incomplete),
		cmocka_unit_test(test_pings),
		cmocka_unit_test(test_lost_and_still_counted),
		cmocka_unit_test(test_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
