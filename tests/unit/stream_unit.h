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
	const struct stream_form *form;
};

static inline void tape_release(struct tape *t)
{
	buf_release(&t->completion);
	buf_release(&t->script);
}

/* False: the stream was not a whole answer. The caller releases the tape in any case. */
static inline bool record_as(
	struct tape *t, const struct stream_form *form, struct json_object *chunks, size_t max_bytes)
{
	struct json_object *completion, *copy = NULL;
	struct assembly a;
	size_t i;

	assert_int_equal(json_object_deep_copy(chunks, &copy, NULL), 0); /* the assembly may keep parts of a chunk */
	*t = (struct tape){BUF_INIT(STREAM_UNIT_MAX), BUF_INIT(STREAM_UNIT_MAX), form};
	assembly_init(&a, form, max_bytes);
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

static inline bool record(struct tape *t, struct json_object *chunks, size_t max_bytes)
{
	return record_as(t, &stream_chat, chunks, max_bytes);
}

static inline int keep_chunk(void *chunks, const char *chunk, size_t len)
{
	json_object_array_add(chunks, parse_bytes(chunk, len));
	return 0;
}

/* The chunks go to *chunks, which the caller releases. What stream_replay() returned. */
static inline int play_back(
	const struct tape *t, const char *script, size_t script_len, bool include_usage, struct json_object **chunks)
{
	struct replay r = {.form = t->form,
		.completion = parse_bytes(t->completion.data, t->completion.len),
		.script = script,
		.script_len = script_len,
		.include_usage = include_usage,
		.emit = keep_chunk};
	int verdict;

	*chunks = r.ctx = json_object_new_array();
	verdict = stream_replay(&r);
	json_release(r.completion);
	return verdict;
}

/* ---- what a client of the replay must see ---- */

/* How many choices there are, and (if `finished`) how many have said how they ended in chunks[0..count). */
static inline size_t count_choices(struct json_object *chunks, size_t count, bool finished)
{
	bool seen[128] = {false};
	struct json_object *list, *choice;
	const char *reason;
	size_t i, j, sum = 0;
	int64_t index;

	for (i = 0; i < count; i++) {
		list = json_get_array(json_object_array_get_idx(chunks, i), "choices");
		for (j = 0; list && j < json_object_array_length(list); j++) {
			choice = json_object_array_get_idx(list, j);
			index = json_get_int(choice, "index", 0);
			reason = json_get_str(choice, "finish_reason");
			if (seen[index] || (finished && (!reason || !*reason)))
				continue;
			seen[index] = true;
			sum++;
		}
	}
	return sum;
}

/* A chunk as it came, less padding and the message so far beside a delta, and with every choice's index. */
static inline struct json_object *plain_chunk(struct json_object *chunk)
{
	struct json_object *copy = NULL, *list, *choice;
	size_t i;

	assert_int_equal(json_object_deep_copy(chunk, &copy, NULL), 0);
	json_unset(copy, "obfuscation");
	json_unset(copy, "p");
	list = json_get_array(copy, "choices");
	for (i = 0; list && i < json_object_array_length(list); i++) {
		choice = json_object_array_get_idx(list, i);
		json_unset(choice, "message");
		json_set_int(choice, "index", json_get_int(choice, "index", 0));
	}
	return copy;
}

static inline bool has_choices(struct json_object *chunk)
{
	struct json_object *list = json_get_array(chunk, "choices");

	return list && json_object_array_length(list) > 0;
}

/* The chunks that came, with the usage that this client may see: all of it once the last choice has ended, and once. */
static inline struct json_object *seen_chunks(struct json_object *chunks, bool include_usage)
{
	struct json_object *seen = json_object_new_array(), *chunk, *usage, *last = NULL, *shown = NULL;
	size_t i, n = json_object_array_length(chunks), choices = count_choices(chunks, n, false);

	for (i = 0; i < n; i++) {
		chunk = plain_chunk(json_object_array_get_idx(chunks, i));
		usage = json_get(chunk, "usage");
		last = usage ? json_get(json_object_array_get_idx(chunks, i), "usage") : last;
		if (usage && !has_choices(chunk) &&
			(!include_usage ||
				(json_object_equal(usage, shown) && count_choices(chunks, i + 1, true) == choices))) {
			json_release(chunk);
			continue;
		}
		if (!include_usage) {
			json_unset(chunk, "usage");
			if (json_get_object(chunk, "x_groq"))
				json_unset(json_get(chunk, "x_groq"), "usage"); /* Groq's second place for it */
		} else if (usage && (json_object_equal(usage, shown) || count_choices(chunks, i + 1, true) < choices))
			json_set(chunk, "usage", NULL);
		else if (usage)
			shown = last;
		json_object_array_add(seen, chunk);
	}
	if (include_usage && last && !shown) {
		chunk = plain_chunk(json_object_array_get_idx(chunks, n - 1));
		json_set(chunk, "choices", json_object_new_array());
		json_set(chunk, "usage", json_object_get(last));
		json_object_array_add(seen, chunk);
	}
	return seen;
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

/* Whether the chunks assemble to what the tape holds. */
static inline bool same_again(const char *what, struct json_object *chunks, const struct tape *t)
{
	struct json_object *found, *expected;
	struct tape again;
	bool same = record_as(&again, t->form, chunks, STREAM_UNIT_MAX);

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

static inline bool plays_chunks(const char *what, const struct tape *t, struct json_object *chunks, bool include_usage)
{
	struct json_object *played, *seen = seen_chunks(chunks, include_usage);
	bool good = play_back(t, t->script.data, t->script.len, include_usage, &played) == 0;

	if (!good)
		fprintf(stderr, "%s: the script %s does not fit\n", what, t->script.data);
	good = good && same_json(what, played, seen) && (!include_usage || same_again(what, played, t));
	json_release(played);
	json_release(seen);
	return good;
}

/* Whether the tape plays back the very chunks, and, with and without its script, makes the completion again. */
static inline bool plays_true(const char *what, const struct tape *t, struct json_object *chunks)
{
	struct json_object *played;
	bool good;

	if (!plays_chunks(what, t, chunks, true) || !plays_chunks(what, t, chunks, false))
		return false;
	good = play_back(t, "", 0, true, &played) == 0 && same_again(what, played, t);
	json_release(played);
	return good;
}

#endif
