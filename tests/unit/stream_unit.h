/*
 * stream_unit — a recorded stream as a JSON array of its chunks, put together and played back, for the tests of
 * wire/stream.
 */
#ifndef PAVISE_TESTS_STREAM_UNIT_H
#define PAVISE_TESTS_STREAM_UNIT_H

#include "unit.h"

#include "wire/stream.h"

enum { STREAM_UNIT_MAX = 1 << 24 };

#define HEAD       "'id':'chatcmpl-1','created':1700000000,'model':'gpt-4o-mini-2024-07-18','system_fingerprint':'fp_1'"
#define CHUNK      "{" HEAD ",'object':'chat.completion.chunk',"
#define COMPLETION "{" HEAD ",'object':'chat.completion',"

/* A chunk's only choice, with a delta and with a delta's end. */
#define DELTA(index, delta) \
	CHUNK "'choices':[{'index':" #index ",'delta':" delta ",'logprobs':null,'finish_reason':null}]}"
#define END(index, reason) \
	CHUNK "'choices':[{'index':" #index ",'delta':{},'logprobs':null,'finish_reason':'" reason "'}]}"
/* A completion's choice. */
#define CHOICE(index, message, reason) \
	"{'index':" #index ",'message':" message ",'logprobs':null,'finish_reason':'" reason "'}"
#define ONE(message, reason) COMPLETION "'choices':[" CHOICE(0, message, reason) "]}"

#define USAGE \
	"'usage':{'prompt_tokens':9,'completion_tokens':2,'total_tokens':11,'prompt_tokens_details':{'cached_tokens':0}}"

enum { CHUNKS = 16 };

struct recorded {
	const char *name;
	const char *chunks[CHUNKS];
	const char *completion;
};

/* The caller releases it. */
static inline struct json_object *chunks_of(const char *const *list)
{
	struct json_object *chunks = json_object_new_array();

	for (; *list; list++)
		json_object_array_add(chunks, parse_json(*list));
	return chunks;
}

/* A completion and the script of its boundaries, as text. */
struct tape {
	struct buf completion, script;
};

static inline void tape_release(struct tape *t)
{
	buf_release(&t->completion);
	buf_release(&t->script);
}

/* False: the stream was not a whole answer. The caller releases the tape in any case. */
static inline bool record(struct tape *t, struct json_object *chunks, size_t max_bytes)
{
	struct json_object *completion, *copy = NULL;
	struct assembly a;
	size_t i;

	assert_int_equal(json_object_deep_copy(chunks, &copy, NULL), 0); /* the assembly may keep parts of a chunk */
	*t = (struct tape){BUF_INIT(STREAM_UNIT_MAX), BUF_INIT(STREAM_UNIT_MAX)};
	assembly_init(&a, &stream_chat, max_bytes);
	for (i = 0; i < json_object_array_length(copy); i++)
		assembly_add(&a, json_object_array_get_idx(copy, i));
	completion = assembly_finish(&a);
	if (completion) {
		json_print(&t->completion, completion);
		buf_add(&t->script, a.script.data, a.script.len);
	}
	assembly_release(&a);
	json_release(copy);
	return completion != NULL;
}

static inline int keep_chunk(void *chunks, const char *chunk, size_t len)
{
	json_object_array_add(chunks, parse_bytes(chunk, len));
	return 0;
}

/* The chunks go to *chunks, which the caller releases. What stream_replay() returned. */
static inline int play_back(const struct tape *t, const char *script, size_t script_len, struct json_object **chunks)
{
	struct replay r = {.form = &stream_chat,
		.completion = parse_bytes(t->completion.data, t->completion.len),
		.script = script,
		.script_len = script_len,
		.emit = keep_chunk};
	int verdict;

	*chunks = r.ctx = json_object_new_array();
	r.include_usage = json_has(r.completion, "usage");
	verdict = stream_replay(&r);
	json_release(r.completion);
	return verdict;
}

/*
 * What a client sees happen: an array of choices, one for each delta, in order. Members that are null are as good as
 * absent in a choice (not in its delta), no delta is an empty one, and a `message` (what has been said so far, beside
 * the delta) is no part of the answer.
 */
static inline struct json_object *deltas_of(struct json_object *chunks)
{
	struct json_object *deltas = json_object_new_array(), *list, *choice, *seen;
	size_t i, j;

	for (i = 0; i < json_object_array_length(chunks); i++) {
		list = json_get_array(json_object_array_get_idx(chunks, i), "choices");
		for (j = 0; list && j < json_object_array_length(list); j++) {
			choice = json_object_array_get_idx(list, j);
			seen = json_object_new_object();
			json_set_int(seen, "index", 0);
			json_set(seen, "delta", json_object_new_object());
			json_each_member (choice, m)
				if (m.value && strcmp(m.name, "message") != 0)
					json_set(seen, m.name, json_object_get(m.value));
			json_object_array_add(deltas, seen);
		}
	}
	return deltas;
}

/* As they are when printed: 3.0 is 3 then. */
static inline bool same_json(const char *what, struct json_object *found, struct json_object *expected)
{
	struct buf a = BUF_INIT(STREAM_UNIT_MAX), b = BUF_INIT(STREAM_UNIT_MAX);
	struct json_object *x, *y;
	bool same;

	json_print(&a, found);
	json_print(&b, expected);
	x = parse_bytes(a.data, a.len);
	y = parse_bytes(b.data, b.len);
	same = json_object_equal(x, y);
	if (!same)
		fprintf(stderr, "%s\n  found    %s\n  expected %s\n", what, a.data, b.data);
	json_release(x);
	json_release(y);
	buf_release(&a);
	buf_release(&b);
	return same;
}

static inline bool same_deltas(const char *what, struct json_object *found, struct json_object *expected)
{
	struct json_object *a = deltas_of(found), *b = deltas_of(expected);
	bool same = same_json(what, a, b);

	json_release(a);
	json_release(b);
	return same;
}

/* Whether the chunks assemble to what the tape holds. */
static inline bool same_again(const char *what, struct json_object *chunks, const struct tape *t)
{
	struct json_object *found, *expected;
	struct tape again;
	bool same = record(&again, chunks, STREAM_UNIT_MAX);

	if (same) {
		found = parse_bytes(again.completion.data, again.completion.len);
		expected = parse_bytes(t->completion.data, t->completion.len);
		same = same_json(what, found, expected);
		json_release(found);
		json_release(expected);
	} else {
		fprintf(stderr, "%s: what was played is not a whole answer\n", what);
	}
	tape_release(&again);
	return same;
}

/* Whether the tape plays back the deltas of `chunks`, and, with and without its script, makes the completion again. */
static inline bool plays_true(const char *what, const struct tape *t, struct json_object *chunks)
{
	struct json_object *played;
	bool good = play_back(t, t->script.data, t->script.len, &played) == 0;

	if (!good)
		fprintf(stderr, "%s: the script %s does not fit\n", what, t->script.data);
	good = good && same_deltas(what, played, chunks) && same_again(what, played, t);
	json_release(played);
	if (!good)
		return false;
	good = play_back(t, "", 0, &played) == 0 && same_again(what, played, t);
	json_release(played);
	return good;
}

#endif
