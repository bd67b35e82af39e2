/* Two requests share an answer exactly when the model cannot tell them apart; what is sent is what the client said. */
#include "../unit.h"

#include "wire/canon.h"

enum { TEXT_MAX = 1 << 20 };

static struct buf hashed(const char *body)
{
	struct json_object *value = parse_json(body);
	struct buf out = BUF_INIT(TEXT_MAX);

	canon_hashed(&out, value);
	json_release(value);
	return out;
}

static void compare(const char *a, const char *b, bool same)
{
	struct buf x = hashed(a), y = hashed(b);

	if ((strcmp(x.data, y.data) == 0) != same)
		fail_msg("%s:\n%s\n%s", same ? "not the same" : "the same", x.data, y.data);
	buf_release(&x);
	buf_release(&y);
}

struct pair {
	const char *a, *b;
};

static const struct pair same[] = {
	/* white space, escapes, the spelling of numbers */
	{"{'messages':[{'role':'user','content':'a'}]}", " {\n'messages' : [ {'role':'user' ,\t'content':'a'} ] } "},
	{"{'x':'\xc3\xa9/\xf0\x9f\x98\x80'}", "{'\\u0078':'\\u00e9\\/\\ud83d\\ude00'}"},
	{"{'temperature':1,'top_p':0.5,'x':100}", "{'temperature':1.0,'top_p':5e-1,'x':1E2}"},
	/* order in the wrappers that we know */
	{"{'temperature':1,'messages':[],'zz':1}", "{'zz':1,'messages':[],'temperature':1}"},
	{"{'messages':[{'role':'user','content':'a','name':'n'}]}",
		"{'messages':[{'name':'n','content':'a','role':'user'}]}"},
	{"{'messages':[{'content':[{'type':'text','text':'a'}]}]}",
		"{'messages':[{'content':[{'text':'a','type':'text'}]}]}"},
	{"{'messages':[{'content':[{'type':'image_url','image_url':{'url':'u','detail':'low'}}]}]}",
		"{'messages':[{'content':[{'image_url':{'detail':'low','url':'u'},'type':'image_url'}]}]}"},
	{"{'messages':[{'content':[{'type':'input_audio','input_audio':{'data':'d','format':'wav'}}]}]}",
		"{'messages':[{'content':[{'type':'input_audio','input_audio':{'format':'wav','data':'d'}}]}]}"},
	{"{'messages':[{'tool_calls':[{'id':'i','type':'function','function':{'name':'f','arguments':'{}'}}]}]}",
		"{'messages':[{'tool_calls':[{'function':{'arguments':'{}','name':'f'},'type':'function','id':'i'}]}]}"},
	{"{'tools':[{'type':'function','function':{'name':'f','strict':true,'parameters':{'a':1,'b':2}}}]}",
		"{'tools':[{'function':{'parameters':{'a':1,'b':2},'strict':true,'name':'f'},'type':'function'}]}"},
	{"{'tool_choice':{'type':'function','function':{'name':'f'}}}",
		"{'tool_choice':{'function':{'name':'f'},'type':'function'}}"},
	{"{'response_format':{'type':'json_schema','json_schema':{'name':'n','strict':true,'schema':{'a':1,'b':2}}}}",
		"{'response_format':{'json_schema':{'schema':{'a':1,'b':2},'strict':true,'name':'n'},'type':'json_schema'}}"},
	/* what cannot change the answer */
	{"{'messages':[]}", "{'messages':[],'stream':true,'stream_options':{'include_usage':true},'user':'u',"
			    "'metadata':{'k':'v'},'safety_identifier':'s','model':'m'}"},
	{"{'model':'a','user':'x'}", "{'user':'y','model':'b','stream':false}"},
};

static const struct pair different[] = {
	{"{'messages':[{'content':'a'}]}", "{'messages':[{'content':'a '}]}"},
	{"{'x':1}", "{'x':'1'}"},
	{"{'x':9007199254740993}", "{'x':9007199254740992}"},
	{"{'x':null}", "{}"},
	{"{'x':''}", "{'x':null}"},
	{"{'x':[]}", "{'x':{}}"},
	{"{'x':0.1}", "{'x':0.10000000000000002}"},
	{"{'x':'\xc3\xa9'}", "{'x':'e\xcc\x81'}"},
	/* the order of elements, everywhere */
	{"{'messages':[{'content':'a'},{'content':'b'}]}", "{'messages':[{'content':'b'},{'content':'a'}]}"},
	{"{'tools':[{'type':'a'},{'type':'b'}]}", "{'tools':[{'type':'b'},{'type':'a'}]}"},
	{"{'stop':['a','b']}", "{'stop':['b','a']}"},
	/* the order of members where a model sees it, or might */
	{"{'response_format':{'json_schema':{'schema':{'properties':{'a':{},'b':{}}}}}}",
		"{'response_format':{'json_schema':{'schema':{'properties':{'b':{},'a':{}}}}}}"},
	{"{'tools':[{'function':{'parameters':{'properties':{'a':{},'b':{}}}}}]}",
		"{'tools':[{'function':{'parameters':{'properties':{'b':{},'a':{}}}}}]}"},
	{"{'tools':[{'function':{'parameters':{'type':'object','properties':{}}}}]}",
		"{'tools':[{'function':{'parameters':{'properties':{},'type':'object'}}}]}"},
	{"{'functions':[{'name':'f','parameters':{}}]}", "{'functions':[{'parameters':{},'name':'f'}]}"},
	{"{'unknown':{'a':1,'b':2}}", "{'unknown':{'b':2,'a':1}}"},
	{"{'messages':[{'unknown':{'a':1,'b':2}}]}", "{'messages':[{'unknown':{'b':2,'a':1}}]}"},
	{"{'messages':[{'content':[{'type':'x','x':{'a':1,'b':2}}]}]}",
		"{'messages':[{'content':[{'type':'x','x':{'b':2,'a':1}}]}]}"},
	{"{'logit_bias':{'1':1,'2':2}}", "{'logit_bias':{'2':2,'1':1}}"},
	/* every field that is not on the short list, known or not */
	{"{'temperature':0}", "{}"},
	{"{'n':1}", "{}"},
	{"{'store':false}", "{}"},
	{"{'seed':1}", "{'seed':2}"},
	{"{'max_tokens':1}", "{'max_completion_tokens':1}"},
	{"{'prompt_cache_key':'a'}", "{'prompt_cache_key':'b'}"},
	{"{'x_new':1}", "{'x_new':2}"},
	/* the excluded names are those of the request, not those of anything inside */
	{"{'messages':[{'user':'a'}]}", "{'messages':[{'user':'b'}]}"},
	{"{'messages':[{'content':[{'type':'text','metadata':1}]}]}",
		"{'messages':[{'content':[{'type':'text','metadata':2}]}]}"},
	{"{'tools':[{'function':{'parameters':{'properties':{'model':{}}}}}]}",
		"{'tools':[{'function':{'parameters':{'properties':{}}}}]}"},
	{"{'x':{'stream':true}}", "{'x':{}}"},
};

static void test_same(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(same); i++)
		compare(same[i].a, same[i].b, true);
}

static void test_different(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(different); i++)
		compare(different[i].a, different[i].b, false);
}

/* Hashing looks; it appends, and the body stays as it was. */
static void test_hashing_changes_nothing(void **state)
{
	static const char text[] =
		"{'zz':1,'stream':true,'messages':[{'role':'user','content':[{'type':'text','text':'a'}]}],"
		"'model':'m'}";
	struct json_object *body = parse_json(text);
	struct buf out = BUF_INIT(TEXT_MAX), before = BUF_INIT(TEXT_MAX), after = BUF_INIT(TEXT_MAX);

	(void)state;
	json_print(&before, body);
	buf_adds(&out, "key ");
	canon_hashed(&out, body);
	json_print(&after, body);
	assert_string_equal(before.data, after.data);
	assert_int_equal(strncmp(out.data, "key {", 5), 0);
	buf_release(&out);
	buf_release(&before);
	buf_release(&after);
	json_release(body);
}

/* ---- what is sent ---- */

static void check_sent(const char *body, const char *model, bool include_usage, const char *expected)
{
	struct json_object *value = parse_json(body);
	struct canon_edits edits = {.model = model, .include_usage = include_usage};
	struct buf out = BUF_INIT(TEXT_MAX), text = BUF_INIT(TEXT_MAX), edited = BUF_INIT(TEXT_MAX);

	canon_sent(&out, value, &edits);
	add_json_text(&text, expected);
	assert_string_equal(out.data, text.data);
	json_print(&edited, value); /* "makes the edits in body itself" */
	assert_string_equal(edited.data, text.data);
	buf_release(&out);
	buf_release(&text);
	buf_release(&edited);
	json_release(value);
}

static void test_sent(void **state)
{
	(void)state;
	/* the client's order, our spelling, the model's name in its place */
	check_sent(
		" { 'zz' : 1.0 , 'model':'alias', 'messages':[ {'role':'user','content':'\\u00e9\\/'} ],'aa':{'b':2,'a':1} }",
		"real", false,
		"{'zz':1,'model':'real','messages':[{'role':'user','content':'\xc3\xa9/'}],'aa':{'b':2,'a':1}}");
	/* nothing else: what is not hashed is sent all the same */
	check_sent("{'model':'m','user':'u','metadata':{'k':'v'},'safety_identifier':'s','stream':false,'n':null}", "m",
		false, "{'model':'m','user':'u','metadata':{'k':'v'},'safety_identifier':'s','stream':false,'n':null}");
	/* usage is asked for, whatever the client said, and its other options stay */
	check_sent("{'model':'m','stream':true,'messages':[]}", "m", true,
		"{'model':'m','stream':true,'messages':[],'stream_options':{'include_usage':true}}");
	check_sent(
		"{'stream_options':{'include_obfuscation':false,'include_usage':false,'x':1},'model':'m','stream':true}",
		"m", true,
		"{'stream_options':{'include_obfuscation':false,'include_usage':true,'x':1},'model':'m','stream':true}");
	check_sent("{'stream_options':null,'model':'m','stream':true}", "m", true,
		"{'stream_options':{'include_usage':true},'model':'m','stream':true}");
	check_sent("{'stream_options':{},'model':'m','stream':true}", "m", false,
		"{'stream_options':{},'model':'m','stream':true}");
	check_sent("{'model':'m','messages':[]}", "name/with \"quotes\"", false,
		"{'model':'name/with \\'quotes\\'','messages':[]}");
}

static void check_cap(const char *body, const char *field, const char *expected)
{
	struct json_object *value = parse_json(body);
	struct buf out = BUF_INIT(TEXT_MAX), text = BUF_INIT(TEXT_MAX);

	canon_sent(&out, value, &(struct canon_edits){.model = "m", .cap = 50, .cap_field = field});
	add_json_text(&text, expected);
	assert_string_equal(out.data, text.data);
	json_release(value);
	buf_release(&out);
	buf_release(&text);
}

static void test_cap(void **state)
{
	(void)state;
	check_cap("{'model':'m'}", "max_tokens", "{'model':'m','max_tokens':50}");
	check_cap("{'max_tokens':null,'model':'m'}", "max_tokens", "{'max_tokens':50,'model':'m'}");
	check_cap("{'max_tokens':90,'model':'m'}", "max_completion_tokens", "{'model':'m','max_completion_tokens':50}");
	check_cap("{'max_completion_tokens':9,'max_tokens':90,'model':'m'}", "max_tokens",
		"{'max_tokens':50,'model':'m'}");
}

/* The two views differ in nothing but the named edits and exclusions. */
static void test_edits_do_not_change_the_hash(void **state)
{
	struct json_object *body =
		parse_json("{'model':'alias','stream':true,'messages':[{'role':'user','content':'a'}],'x':7}");
	struct canon_edits edits = {.model = "real", .include_usage = true};
	struct buf before = BUF_INIT(TEXT_MAX), sent = BUF_INIT(TEXT_MAX), after = BUF_INIT(TEXT_MAX);

	(void)state;
	canon_hashed(&before, body);
	canon_sent(&sent, body, &edits);
	canon_hashed(&after, body);
	assert_string_equal(before.data, after.data);
	buf_release(&before);
	buf_release(&sent);
	buf_release(&after);
	json_release(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_different),
		cmocka_unit_test(test_hashing_changes_nothing),
		cmocka_unit_test(test_sent),
		cmocka_unit_test(test_cap),
		cmocka_unit_test(test_edits_do_not_change_the_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
