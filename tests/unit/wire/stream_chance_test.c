/*
 * Streams by chance. Sane ones are made by cutting a completion up, so that what must come out is known; wild ones are
 * any JSON at all: put together and played exactly, or not put together.
 */
#include "../stream_teller.h"

#ifdef __SANITIZE_ADDRESS__
enum { ROUNDS = 200 }; /* five times as slow */
#else
enum { ROUNDS = 1000 };
#endif

/* ---- sane streams ---- */

static void test_sane(void **state)
{
	struct json_object *chunks, *completion, *found;
	uint64_t seed = 20240601;
	struct tape tape;
	char what[32];
	bool good;
	int i;

	(void)state;
	for (i = 0; i < ROUNDS; i++) {
		snprintf(what, sizeof(what), "stream %d", i);
		make_sane(&seed, &chunks, &completion);
		if (!record(&tape, chunks, STREAM_UNIT_MAX))
			fail_msg("%s: not a whole answer", what);
		found = parse_bytes(tape.completion.data, tape.completion.len);
		good = same_json(what, found, completion) && plays_true(what, &tape, chunks);
		json_release(found);
		json_release(chunks);
		json_release(completion);
		tape_release(&tape);
		assert_true(good);
	}
}

/* ---- wild streams ---- */

static struct json_object *any_value(uint64_t *seed, int depth);

static struct json_object *any_object(uint64_t *seed, int depth)
{
	static const char *const names[] = {
		"content", "role", "tool_calls", "index", "id", "x", "y", "\n\"", "message"};
	struct json_object *o = json_object_new_object();
	size_t n;

	for (n = chance_below(seed, 4); n > 0; n--)
		json_set(o, names[chance_below(seed, COUNT(names))], any_value(seed, depth - 1));
	return o;
}

static struct json_object *any_array(uint64_t *seed, int depth)
{
	struct json_object *a = json_object_new_array(), *element;
	bool indexed = chance_below(seed, 2);
	size_t n;

	for (n = chance_below(seed, 4); n > 0; n--) {
		element = indexed ? any_object(seed, depth - 1) : any_value(seed, depth - 1);
		if (indexed && chance_below(seed, 8))
			json_set_int(element, "index", (int64_t)chance_below(seed, 3));
		json_object_array_add(a, element);
	}
	return a;
}

static struct json_object *any_value(uint64_t *seed, int depth)
{
	switch (chance_below(seed, depth > 0 ? 9 : 5)) {
	case 0: return NULL;
	case 1: return json_object_new_int64((int64_t)chance_below(seed, 2));
	case 2: return json_object_new_boolean(chance_below(seed, 2) == 0);
	case 3:
	case 4: return some_text(seed, 2);
	case 5:
	case 6: return any_array(seed, depth);
	default: return any_object(seed, depth);
	}
}

static void say_wild_head(uint64_t *seed, struct json_object *chunk)
{
	static const char *const names[] = {"x", "y", "\n\"", "service_tier", "system_fingerprint"};

	if (chance_below(seed, 4) == 0)
		json_set(chunk, names[chance_below(seed, COUNT(names))], any_value(seed, 2));
	if (chance_below(seed, 4) == 0)
		json_set(chunk, "usage", chance_below(seed, 2) ? NULL : usage_of((int)chance_below(seed, 3)));
}

static struct json_object *make_wild(uint64_t *seed)
{
	struct json_object *chunks = json_object_new_array(), *chunk, *choice, *list;
	size_t n, choices = 1 + chance_below(seed, 2), i;

	for (n = 1 + chance_below(seed, 5) + choices; n > 0; n--) {
		chunk = envelope("chat.completion.chunk");
		say_wild_head(seed, chunk);
		list = json_object_new_array();
		choice = chance_below(seed, 8) ? json_object_new_object() : any_object(seed, 2);
		i = n <= choices ? n - 1 : chance_below(seed, choices);
		json_set_int(choice, "index", (int64_t)i);
		if (chance_below(seed, 8))
			json_set(choice, "delta", any_object(seed, 3));
		if (n <= choices)
			json_set_str(choice, "finish_reason", "stop");
		json_object_array_add(list, choice);
		json_set(chunk, "choices", list);
		json_object_array_add(chunks, chunk);
	}
	return chunks;
}

static void test_wild(void **state)
{
	struct json_object *chunks;
	uint64_t seed = 77;
	struct tape tape;
	char what[32];
	int i, used = 0;

	(void)state;
	for (i = 0; i < 3 * ROUNDS; i++) {
		snprintf(what, sizeof(what), "wild stream %d", i);
		chunks = make_wild(&seed);
		if (record(&tape, chunks, STREAM_UNIT_MAX)) {
			used++;
			if (!plays_true(what, &tape, chunks))
				fail();
		}
		json_release(chunks);
		tape_release(&tape);
	}
	assert_in_range(used, ROUNDS / 3, 3 * ROUNDS);
}

/* ---- legacy completions: text beside what says nothing ---- */

static struct json_object *next_text_choice(uint64_t *seed, const struct manner *m, int64_t index, struct buf *text)
{
	struct json_object *choice = json_object_new_object(), *piece = some_text(seed, 4);

	append(text, piece);
	json_set_int(choice, "index", index);
	json_set(choice, "text", piece);
	if (m->logprobs && !(m->moody && chance_below(seed, 2)))
		json_set(choice, "logprobs", NULL);
	json_set(choice, "finish_reason", NULL);
	if (m->stop_reason && !(m->moody && chance_below(seed, 2)))
		json_set(choice, "stop_reason", NULL);
	return choice;
}

static void make_text(uint64_t *seed, struct json_object **chunks, struct buf *texts, int choices)
{
	struct manner m = some_manner(seed);
	struct json_object *chunk, *list, *choice;
	int left = choices, i;

	*chunks = json_object_new_array();
	while (left) {
		chunk = envelope("text_completion");
		list = json_object_new_array();
		i = choices - left; /* one after the other, some of the next in between */
		if (left > 1 && chance_below(seed, 3) == 0)
			i++;
		choice = next_text_choice(seed, &m, i, &texts[i]);
		if (i == choices - left && chance_below(seed, 6) == 0) {
			json_set_str(choice, "finish_reason", "stop");
			left--;
		}
		json_object_array_add(list, choice);
		json_set(chunk, "choices", list);
		say_head(&m, seed, chunk, left == 0);
		json_object_array_add(*chunks, chunk);
	}
}

static void test_texts(void **state)
{
	struct json_object *chunks, *found, *choice, *whole;
	struct buf texts[CHOICES];
	uint64_t seed = 31337;
	struct tape tape;
	char what[32];
	int i, j, choices;
	bool good;

	(void)state;
	for (i = 0; i < ROUNDS; i++) {
		snprintf(what, sizeof(what), "text %d", i);
		choices = 1 + (int)chance_below(&seed, CHOICES);
		for (j = 0; j < choices; j++)
			texts[j] = (struct buf)BUF_INIT(1 << 16);
		make_text(&seed, &chunks, texts, choices);
		if (!record_as(&tape, &stream_text, chunks, STREAM_UNIT_MAX))
			fail_msg("%s: not a whole answer", what);
		found = parse_bytes(tape.completion.data, tape.completion.len);
		good = plays_true(what, &tape, chunks);
		for (j = 0; j < choices; j++) {
			choice = json_object_array_get_idx(json_get_array(found, "choices"), (size_t)j);
			whole = string_of(&texts[j]);
			good &= json_object_equal(json_get(choice, "text"), whole);
			json_release(whole);
			buf_release(&texts[j]);
		}
		json_release(found);
		json_release(chunks);
		tape_release(&tape);
		assert_true(good);
	}
}

/* ---- scripts that are not what they were ---- */

static int count_chunk(void *count, const char *chunk, size_t len)
{
	struct err err;

	if (json_scan(chunk, len, &err) != 0)
		fail_msg("%.*s: %s", (int)len, chunk, err.message);
	++*(int *)count;
	return 0;
}

static void mutate(uint64_t *seed, struct buf *script)
{
	static const char *const inserts[] = {"9", "-", "0", "99999999999999999999", "[", "]", "{", "}", "null", "true",
		",", "\"", "\"content\"", ":", "1e9", "[0,\"content\",1]",
		"{\"c\":0,\"d\":{\"content\":true},\"r\":{}}", "{\"head\":{\"usage\":true,\"x\":[1],\"id\":false}}",
		"{\"choice\":{\"x\":null}}", "[]", "false"};
	size_t at = chance_below(seed, script->len + 1), n;
	char *tail = exact_copy(script->data + at, script->len - at);
	size_t tail_len = script->len - at;

	script->len = at;
	switch (chance_below(seed, 4)) {
	case 0: buf_adds(script, inserts[chance_below(seed, COUNT(inserts))]); break;
	case 1:
		buf_addc(script, (char)chance(seed));
		n = tail_len > 0;
		memmove(tail, tail + n, tail_len - n);
		tail_len -= n;
		break;
	case 2:
		n = chance_below(seed, 6) < tail_len ? 1 + chance_below(seed, 5) : 0;
		n = n < tail_len ? n : tail_len;
		memmove(tail, tail + n, tail_len - n);
		tail_len -= n;
		break;
	default: /* another digit where one is */
		for (n = 0; n < tail_len && (tail[n] < '0' || tail[n] > '9'); n++)
			;
		if (n < tail_len)
			tail[n] = (char)('0' + chance_below(seed, 10));
	}
	buf_add(script, tail, tail_len);
	free(tail);
}

static void test_corrupted_scripts(void **state)
{
	struct json_object *chunks, *completion;
	uint64_t seed = 4711;
	struct tape tape;
	struct replay r;
	char *script;
	int i, j, verdict, count, played = 0, refused = 0;

	(void)state;
	for (i = 0; i < ROUNDS / 4; i++) {
		make_sane(&seed, &chunks, &completion);
		assert_true(record(&tape, chunks, STREAM_UNIT_MAX));
		for (j = 0; j < 8; j++) {
			mutate(&seed, &tape.script);
			script = exact_copy(tape.script.data, tape.script.len);
			r = (struct replay){.form = &stream_chat,
				.completion = parse_bytes(tape.completion.data, tape.completion.len),
				.script = script,
				.script_len = tape.script.len,
				.include_usage = true,
				.emit = count_chunk,
				.ctx = &count};
			verdict = stream_replay(&r);
			assert_in_range(verdict + 1, 0, 1);
			played += verdict == 0;
			refused += verdict == -1;
			json_release(r.completion);
			free(script);
		}
		json_release(chunks);
		json_release(completion);
		tape_release(&tape);
	}
	assert_true(played > 0 && refused > 0);
}

/* ---- scripts that ask for what is not there ---- */

static void test_scripts_that_do_not_fit(void **state)
{
	static const char *const scripts[] = {"{}", "7", "null", "[", "[[0,'content',4]]", "[[0,'content',-1]]",
		"[[0,'content',1,3]]", "[[1,'content',1]]", "[[0,'nothing',1]]", "[[0,'tool_calls',1]]", "[[0]]", "[7]",
		"[null]", "[{'c':0}]", "[{'c':0,'d':{'content':4},'r':{}}]",
		"[{'c':0,'d':{'content':1},'r':{'nothing':1}}]", "[{'c':0,'d':{'tool_calls':[[2,{}]]},'r':{}}]",
		"[{'c':0,'d':{'tool_calls':[[-1,{}]]},'r':{}}]", "[{'c':0,'d':{'tool_calls':[[0]]},'r':{}}]",
		"[{'c':0,'d':{'tool_calls':3},'r':{}}]", "[{'c':0,'d':{'content':'text'},'r':{}}]",
		"[{'c':0,'d':{'content':[]},'r':{}}]", "[{'c':0,'d':{'content':{}},'r':{}}]"};
	struct json_object *completion;
	struct buf text = BUF_INIT(4096);
	struct replay r;
	int count;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(scripts); i++) {
		completion = parse_json("{'id':'i','choices':[{'index':0,'message':{'role':'assistant','content':'abc',"
					"'tool_calls':[{'id':'a'},{'id':'b'}]},'finish_reason':'stop'}]}");
		buf_reset(&text);
		add_json_text(&text, scripts[i]);
		r = (struct replay){.form = &stream_chat,
			.completion = completion,
			.script = text.data,
			.script_len = text.len,
			.emit = count_chunk,
			.ctx = &count};
		if (stream_replay(&r) != -1)
			fail_msg("played: %s", text.data);
		json_release(completion);
	}
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sane),
		cmocka_unit_test(test_wild),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_corrupted_scripts),
		cmocka_unit_test(test_scripts_that_do_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
