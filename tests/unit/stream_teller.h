/*
 * stream_teller — streams by chance, made by cutting a completion into pieces, so that what must come out is known.
 */
#ifndef PAVISE_TESTS_STREAM_TELLER_H
#define PAVISE_TESTS_STREAM_TELLER_H

#include "stream_unit.h"

enum { TRACKS = 16, CHOICES = 3 };

static const char *const letters[] = {
	"a", "b ", " the", "\\", "\"", "\n", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "{", "\x01", "0"};

/* What is still to be said of one member, piece by piece, each as it stands in a delta. */
struct track {
	const char *name;
	struct json_object *pieces;
	size_t at;
	bool rest; /* of the choice rather than of its delta */
};

/* How a provider speaks: what else it says, and where. */
struct manner {
	bool logprobs, stop_reason;    /* null, where they say nothing */
	bool moody;                    /* … now and then only */
	const char *reason;            /* while there is none: NULL for null */
	bool no_delta, null_delta;     /* where a delta would be empty */
	bool no_choices, null_choices; /* where there would be none */
	bool tier, changes;            /* says a service_tier late, and something that changes */
	bool usage_null, usage_running, usage_beside, usage_apart, usage_corrected;
	int index_base, index_step; /* of tool calls */
	int said;                   /* so many chunks */
};

struct teller {
	const struct manner *manner;
	struct track tracks[TRACKS];
	int count;
	struct json_object *choice; /* as it must be in the completion */
	const char *reason;
	bool ended;
};

static inline struct json_object *some_text(uint64_t *seed, size_t most)
{
	struct buf text = BUF_INIT(4096);
	struct json_object *s;
	size_t n = chance_below(seed, most + 1);

	while (n--)
		buf_adds(&text, letters[chance_below(seed, COUNT(letters))]);
	s = json_object_new_string_len(text.data ? text.data : "", (int)text.len);
	buf_release(&text);
	return s;
}

static inline struct track *new_track(struct teller *t, const char *name, bool rest)
{
	struct track *track = &t->tracks[t->count++];

	assert_true(t->count <= TRACKS);
	*track = (struct track){.name = name, .pieces = json_object_new_array(), .rest = rest};
	return track;
}

static inline void append(struct buf *whole, struct json_object *piece)
{
	buf_add(whole, json_object_get_string(piece), (size_t)json_object_get_string_len(piece));
}

/* Text in pieces; the whole of it goes to `whole`. */
static inline struct json_object *text_pieces(uint64_t *seed, struct buf *whole)
{
	struct json_object *pieces = json_object_new_array(), *piece;
	size_t n = 1 + chance_below(seed, 8);

	while (n--) {
		piece = some_text(seed, 4);
		append(whole, piece);
		json_object_array_add(pieces, piece);
	}
	return pieces;
}

static inline struct json_object *string_of(const struct buf *b)
{
	return json_object_new_string_len(b->data ? b->data : "", (int)b->len);
}

static inline void tell_text(struct teller *t, uint64_t *seed, const char *name)
{
	struct track *track = new_track(t, name, false);
	struct buf whole = BUF_INIT(4096);

	json_object_put(track->pieces);
	track->pieces = text_pieces(seed, &whole);
	json_set(json_get(t->choice, "message"), name, string_of(&whole));
	buf_release(&whole);
}

/* Plain elements, some at a time, none now and then. */
static inline void tell_list(struct teller *t, uint64_t *seed, struct json_object *to, const char *name,
	struct track *track, const char *inside)
{
	struct json_object *whole = json_object_new_array(), *piece, *wrapped, *element;
	size_t n = 1 + chance_below(seed, 4), k;

	(void)t;
	while (n--) {
		piece = json_object_new_array();
		for (k = chance_below(seed, 3); k > 0; k--) {
			element = json_object_new_object();
			json_set(element, "token", some_text(seed, 3));
			json_set(element, "logprob", json_object_new_double((double)chance_below(seed, 100) / -8));
			json_object_array_add(piece, json_object_get(element));
			json_object_array_add(whole, element);
		}
		wrapped = piece;
		if (inside) {
			wrapped = json_object_new_object();
			json_set(wrapped, inside, piece);
		}
		json_object_array_add(track->pieces, wrapped);
	}
	json_set(to, name, whole);
}

static inline struct json_object *call_piece(size_t index, struct json_object *arguments)
{
	struct json_object *call = json_object_new_object(), *function = json_object_new_object();

	json_set_int(call, "index", (int64_t)index);
	json_set(function, "arguments", json_object_get(arguments));
	json_set(call, "function", function);
	return call;
}

static inline void tell_call(struct teller *t, uint64_t *seed, size_t index, struct json_object *calls)
{
	struct track *track = new_track(t, "tool_calls", false);
	struct buf whole = BUF_INIT(4096);
	struct json_object *texts = text_pieces(seed, &whole), *piece, *call, *function;
	char id[16];
	size_t i;
	bool again = chance_below(seed, 4) == 0; /* says its id and type with every piece */

	snprintf(id, sizeof(id), "call_%zu", index);
	for (i = 0; i < json_object_array_length(texts); i++) {
		piece = call_piece((size_t)t->manner->index_base + index * (size_t)t->manner->index_step,
			json_object_array_get_idx(texts, i));
		if (i == 0 || again) {
			json_set_str(piece, "id", id);
			json_set_str(piece, "type", "function");
			json_set_str(json_get(piece, "function"), "name", "f");
		}
		json_object_array_add(track->pieces, piece);
	}
	json_object_put(texts);
	call = json_object_new_object();
	function = json_object_new_object();
	json_set_str(call, "id", id);
	json_set_str(call, "type", "function");
	json_set_str(function, "name", "f");
	json_set(function, "arguments", string_of(&whole));
	json_set(call, "function", function);
	json_object_array_add(calls, call);
	buf_release(&whole);
}

/* {"x_trace":{"note":…}}: an object that grows inside. */
static inline void tell_object(struct teller *t, uint64_t *seed)
{
	struct track *track = new_track(t, "x_trace", false);
	struct buf whole = BUF_INIT(4096);
	struct json_object *texts = text_pieces(seed, &whole), *piece, *inner;
	size_t i;

	for (i = 0; i < json_object_array_length(texts); i++) {
		piece = json_object_new_object();
		json_set(piece, "note", json_object_get(json_object_array_get_idx(texts, i)));
		if (chance_below(seed, 2) || i == 0)
			json_set_int(piece, "n", 7);
		json_object_array_add(track->pieces, piece);
	}
	json_object_put(texts);
	inner = json_object_new_object();
	json_set(inner, "note", string_of(&whole));
	json_set_int(inner, "n", 7);
	json_set(json_get(t->choice, "message"), "x_trace", inner);
	buf_release(&whole);
}

/* As OpenRouter does: a summary and its encrypted twin share an index in the stream, and not in JSON. */
static inline void tell_details(struct teller *t, uint64_t *seed)
{
	static const char *const types[] = {"reasoning.summary", "reasoning.encrypted", "reasoning.text"},
				 *const names[] = {"summary", "data", "text"};
	struct track *track = new_track(t, "reasoning_details", false);
	struct json_object *details = json_object_new_array(), *texts, *piece, *list, *whole;
	size_t i, j, kinds = 1 + chance_below(seed, 3);

	for (i = 0; i < kinds; i++) {
		struct buf text = BUF_INIT(4096);

		texts = text_pieces(seed, &text);
		for (j = 0; j < json_object_array_length(texts); j++) {
			piece = json_object_new_object();
			json_set_int(piece, "index", 0);
			json_set_str(piece, "type", types[i]);
			json_set(piece, names[i], json_object_get(json_object_array_get_idx(texts, j)));
			list = json_object_new_array();
			json_object_array_add(list, piece);
			json_object_array_add(track->pieces, list);
		}
		whole = json_object_new_object();
		json_set_int(whole, "index", (int64_t)i);
		json_set_str(whole, "type", types[i]);
		json_set(whole, names[i], string_of(&text));
		json_object_array_add(details, whole);
		json_object_put(texts);
		buf_release(&text);
	}
	json_set(json_get(t->choice, "message"), "reasoning_details", details);
}

static inline void tell_calls(struct teller *t, uint64_t *seed)
{
	struct json_object *calls = json_object_new_array();
	size_t i, n = 1 + chance_below(seed, 3);

	for (i = 0; i < n; i++)
		tell_call(t, seed, i, calls);
	json_set(json_get(t->choice, "message"), "tool_calls", calls);
}

static inline void teller_init(struct teller *t, const struct manner *manner, uint64_t *seed, int index)
{
	static const char *const reasons[] = {"stop", "length", "tool_calls", "content_filter"};
	struct json_object *message = json_object_new_object(), *logprobs;

	*t = (struct teller){.manner = manner,
		.choice = json_object_new_object(),
		.reason = reasons[chance_below(seed, COUNT(reasons))]};
	json_set_int(t->choice, "index", index);
	json_set(t->choice, "message", message);
	json_set(t->choice, "logprobs", NULL);
	json_set_str(t->choice, "finish_reason", t->reason);
	json_set_str(message, "role", "assistant");
	json_set(message, "content", NULL);
	if (chance_below(seed, 4))
		tell_text(t, seed, "content");
	if (chance_below(seed, 4) == 0)
		tell_text(t, seed, "refusal");
	if (chance_below(seed, 4) == 0)
		tell_text(t, seed, "reasoning_content");
	if (chance_below(seed, 3) == 0)
		tell_calls(t, seed);
	if (chance_below(seed, 4) == 0)
		tell_list(t, seed, message, "annotations", new_track(t, "annotations", false), NULL);
	if (chance_below(seed, 4) == 0)
		tell_object(t, seed);
	if (chance_below(seed, 4) == 0)
		tell_details(t, seed);
	if (chance_below(seed, 3) == 0) {
		logprobs = json_object_new_object();
		json_set(t->choice, "logprobs", logprobs);
		tell_list(t, seed, logprobs, "content", new_track(t, "logprobs", true), "content");
	}
}

/* A call begins after the ones before it have begun. */
static inline bool may_go_on(const struct teller *t, int track)
{
	const struct track *now = &t->tracks[track], *before = now - 1;

	if (now->at == json_object_array_length(now->pieces))
		return false;
	return now->at > 0 || track == 0 || strcmp(now->name, "tool_calls") != 0 ||
	       strcmp(before->name, "tool_calls") != 0 || before->at > 0;
}

static inline void say(struct track *track, struct json_object *delta, struct json_object *choice)
{
	struct json_object *piece = json_object_array_get_idx(track->pieces, track->at++), *list;

	if (track->rest) {
		json_set(choice, track->name, json_object_get(piece));
	} else if (strcmp(track->name, "tool_calls") == 0) {
		list = json_get_array(delta, "tool_calls");
		if (!list)
			json_set(delta, "tool_calls", list = json_object_new_array());
		json_object_array_add(list, json_object_get(piece));
	} else {
		json_set(delta, track->name, json_object_get(piece));
	}
}

/* What stands beside the delta, and says nothing. */
static inline void say_nothing(struct teller *t, uint64_t *seed, struct json_object *choice)
{
	const struct manner *m = t->manner;

	if (m->logprobs && !(m->moody && chance_below(seed, 3) == 0))
		json_set(choice, "logprobs", NULL);
	if (!m->moody || chance_below(seed, 3))
		json_set(choice, "finish_reason", m->reason ? json_object_new_string(m->reason) : NULL);
	if (m->stop_reason && !(m->moody && chance_below(seed, 2))) {
		json_set(choice, "stop_reason", NULL);
		json_set(t->choice, "stop_reason", NULL);
	}
}

/* The choice of one chunk: a few members, none, or the end. */
static inline struct json_object *next_choice(struct teller *t, uint64_t *seed, int index)
{
	struct json_object *choice = json_object_new_object(), *delta = json_object_new_object();
	bool more = false;
	int i;

	json_set_int(choice, "index", index);
	json_set(choice, "delta", delta);
	say_nothing(t, seed, choice);
	if (chance_below(seed, 6) == 0)
		json_set_str(delta, "role", "assistant");
	if (chance_below(seed, 12) == 0)
		json_set(delta, "content", NULL);
	for (i = 0; i < t->count; i++) {
		if (chance_below(seed, 3) == 0 && may_go_on(t, i))
			say(&t->tracks[i], delta, choice);
		more |= t->tracks[i].at < json_object_array_length(t->tracks[i].pieces);
	}
	if (!more && chance_below(seed, 2)) {
		json_set_str(choice, "finish_reason", t->reason);
		t->ended = true;
	}
	if (json_object_object_length(delta) == 0 && t->manner->no_delta)
		json_unset(choice, "delta");
	else if (json_object_object_length(delta) == 0 && t->manner->null_delta)
		json_set(choice, "delta", NULL);
	return choice;
}

static inline struct json_object *envelope(const char *object)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "id", "chatcmpl-1");
	json_set_str(o, "object", object);
	json_set_int(o, "created", 1700000000);
	json_set_str(o, "model", "m");
	return o;
}

static inline struct json_object *usage_of(int tokens)
{
	struct json_object *usage = json_object_new_object();

	json_set_int(usage, "prompt_tokens", 3);
	json_set_int(usage, "completion_tokens", tokens);
	return usage;
}

/* What a chunk says beside its choices. */
static inline void say_head(struct manner *m, uint64_t *seed, struct json_object *chunk, bool last)
{
	m->said++;
	if (chance_below(seed, 3) == 0)
		json_set(chunk, "obfuscation", some_text(seed, 3));
	if (m->tier && m->said > 3)
		json_set_str(chunk, "service_tier", "default");
	if (m->changes && chance_below(seed, 3))
		json_set_int(chunk, "x_step", (int64_t)chance_below(seed, 3));
	else if (m->changes && chance_below(seed, 2))
		json_set(chunk, "x_step", NULL);
	if (m->changes && last)
		json_set(chunk, "x_groq", usage_of(m->said));
	if (m->usage_null)
		json_set(chunk, "usage", NULL);
	if (last ? m->usage_beside : m->usage_running)
		json_set(chunk, "usage", usage_of(last ? 1000 : m->said));
}

/* Some of the choices that have not ended. */
static inline struct json_object *next_choices(struct teller *tellers, int choices, uint64_t *seed, int *left)
{
	struct json_object *list = json_object_new_array();
	int i;

	for (i = 0; i < choices; i++)
		if (!tellers[i].ended && chance_below(seed, (size_t)choices) == 0) {
			json_object_array_add(list, next_choice(&tellers[i], seed, i));
			*left -= tellers[i].ended;
		}
	return list;
}

static inline void tell_all(
	struct manner *m, struct teller *tellers, int choices, uint64_t *seed, struct json_object *chunks)
{
	struct json_object *chunk, *list;
	int left = choices;

	while (left) {
		chunk = envelope("chat.completion.chunk");
		list = next_choices(tellers, choices, seed, &left);
		json_set(chunk, "choices", list);
		if (json_object_array_length(list) == 0 && m->no_choices)
			json_unset(chunk, "choices");
		else if (json_object_array_length(list) == 0 && m->null_choices)
			json_set(chunk, "choices", NULL);
		say_head(m, seed, chunk, left == 0);
		json_object_array_add(chunks, chunk);
	}
	if (m->usage_apart) {
		chunk = envelope("chat.completion.chunk");
		json_set(chunk, "choices", json_object_new_array());
		json_set(chunk, "usage", usage_of(m->usage_corrected ? 1001 : 1000));
		json_object_array_add(chunks, chunk);
	}
}

/* The last thing that was said under each name. */
static inline void take_heads(struct json_object *completion, struct json_object *chunks)
{
	size_t i;

	for (i = 0; i < json_object_array_length(chunks); i++)
		json_each_member (json_object_array_get_idx(chunks, i), m)
			if (strcmp(m.name, "choices") != 0 && strcmp(m.name, "object") != 0 &&
				strcmp(m.name, "obfuscation") != 0 && (m.value || !json_has(completion, m.name)))
				json_set(completion, m.name, json_object_get(m.value));
	if (!json_get(completion, "usage"))
		json_unset(completion, "usage");
}

static inline bool now_and_then(uint64_t *seed)
{
	return chance_below(seed, 3) == 0;
}

static inline struct manner some_manner(uint64_t *seed)
{
	return (struct manner){.logprobs = !now_and_then(seed),
		.stop_reason = now_and_then(seed),
		.moody = now_and_then(seed),
		.reason = now_and_then(seed) ? "" : NULL,
		.no_delta = now_and_then(seed),
		.null_delta = now_and_then(seed),
		.no_choices = now_and_then(seed),
		.null_choices = now_and_then(seed),
		.tier = now_and_then(seed),
		.changes = now_and_then(seed),
		.usage_null = now_and_then(seed),
		.usage_running = now_and_then(seed),
		.usage_beside = now_and_then(seed),
		.usage_apart = now_and_then(seed),
		.usage_corrected = now_and_then(seed),
		.index_base = (int)chance_below(seed, 3),
		.index_step = 1 + (int)chance_below(seed, 2)};
}

/* Makes a stream, and the completion that it is a stream of. */
static inline void make_sane(uint64_t *seed, struct json_object **chunks, struct json_object **completion)
{
	struct manner manner = some_manner(seed);
	struct teller tellers[CHOICES];
	int choices = 1 + (int)chance_below(seed, CHOICES), i, j;
	struct json_object *list = json_object_new_array();

	*completion = envelope("chat.completion");
	*chunks = json_object_new_array();
	for (i = 0; i < choices; i++)
		teller_init(&tellers[i], &manner, seed, i);
	tell_all(&manner, tellers, choices, seed, *chunks);
	for (i = 0; i < choices; i++) {
		json_object_array_add(list, tellers[i].choice);
		for (j = 0; j < tellers[i].count; j++)
			json_object_put(tellers[i].tracks[j].pieces);
	}
	take_heads(*completion, *chunks);
	json_set(*completion, "choices", list);
}

#endif
