/* The completion is a tape: each string and each array remembers how much of it has been played. */
#include "wire/stream_parts.h"
#include "wire/usage.h"

#include <stdlib.h>

struct player {
	const struct replay *r;
	struct json_object
		*head; /* what chunks say: id, created, model, …; `choices` is not null where they have some */
	struct json_object *choice;  /* what choices say beside their deltas */
	struct json_object *choices; /* of the chunk in the making; NULL = none yet */
	struct json_object *extra;   /* what only the first one says; NULL behind it */
	struct usage_view usage;
	struct buf out;
};

/* ---- how much has been played of a value: kept as its userdata ---- */

static void free_cursor(struct json_object *v, void *cursor)
{
	(void)v;
	free(cursor);
}

static size_t *cursor_of(struct json_object *v)
{
	size_t *cursor = json_object_get_userdata(v);

	if (!cursor) {
		cursor = calloc(1, sizeof(*cursor));
		if (!cursor)
			die("out of memory");
		json_object_set_userdata(v, cursor, free_cursor);
	}
	return cursor;
}

static bool inside_character(const char *text, size_t at)
{
	return ((unsigned char)text[at] & 0xc0) == 0x80;
}

/* The next `bytes` of a string; NULL if there are not so many left, or they do not end where a character does. */
static struct json_object *next_text(struct json_object *string, size_t bytes)
{
	size_t *played, len = (size_t)json_object_get_string_len(string);
	const char *text = json_object_get_string(string);

	played = cursor_of(string);
	if (bytes > len - *played || inside_character(text, *played + bytes))
		return NULL;
	text += *played;
	*played += bytes;
	return json_object_new_string_len(text, (int)bytes);
}

static struct json_object *next_elements(struct json_object *array, size_t count)
{
	size_t i, *played = cursor_of(array);
	struct json_object *piece;

	if (count > json_object_array_length(array) - *played)
		return NULL;
	piece = json_object_new_array();
	for (i = 0; i < count; i++)
		json_object_array_add(piece, json_object_get(json_object_array_get_idx(array, *played + i)));
	*played += count;
	return piece;
}

/* ---- from a shape to a delta ---- */

static struct json_object *play_object(struct json_object *from, struct json_object *shape);

/* [[place, shape], [place, shape, index], …]: elements of an array that was merged by index. */
static struct json_object *play_elements(struct json_object *array, struct json_object *shape)
{
	struct json_object *out = json_object_new_array(), *step, *element;
	size_t i, at, length;

	for (i = 0; i < json_object_array_length(shape); i++) {
		step = json_object_array_get_idx(shape, i);
		length = json_object_is_type(step, json_type_array) ? json_object_array_length(step) : 0;
		if (length != 2 && length != 3)
			break;
		at = (size_t)json_object_get_int64(json_object_array_get_idx(step, 0));
		element = play_object(json_object_array_get_idx(array, at), json_object_array_get_idx(step, 1));
		if (!element)
			break;
		json_set_int(
			element, "index", json_object_get_int64(json_object_array_get_idx(step, length == 3 ? 2 : 0)));
		json_object_array_add(out, element);
	}
	if (i == json_object_array_length(shape))
		return out;
	json_object_put(out);
	return NULL;
}

/* False: the shape asks for what the value does not have. */
static bool play_value(struct json_object *v, struct json_object *shape, struct json_object **out)
{
	int64_t amount;

	*out = NULL;
	switch (json_object_get_type(shape)) {
	case json_type_null: return true;
	case json_type_boolean: *out = json_object_get(v); return true;
	case json_type_object: *out = play_object(v, shape); break;
	case json_type_array:
		if (json_object_is_type(v, json_type_array))
			*out = play_elements(v, shape);
		break;
	case json_type_int:
		amount = json_object_get_int64(shape);
		if (amount >= 0 && json_object_is_type(v, json_type_string))
			*out = next_text(v, (size_t)amount);
		else if (amount >= 0 && json_object_is_type(v, json_type_array))
			*out = next_elements(v, (size_t)amount);
		break;
	default: break;
	}
	return *out != NULL;
}

static struct json_object *play_object(struct json_object *from, struct json_object *shape)
{
	struct json_object *out, *value;

	if (!json_object_is_type(from, json_type_object) || !json_object_is_type(shape, json_type_object))
		return NULL;
	out = json_object_new_object();
	json_each_member (shape, m) {
		if (!play_value(json_get(from, m.name), m.value, &value)) {
			json_object_put(out);
			return NULL;
		}
		json_set(out, m.name, value);
	}
	return out;
}

/* ---- chunks ---- */

/* Hands out a chunk with these choices (given away), unless the client must not see it. */
static int emit(struct player *p, struct json_object *choices)
{
	struct json_object *usage = json_object_get(json_get(p->head, "usage"));
	struct json_object *groq = json_object_get(json_get(p->head, "x_groq"));
	bool has_usage = json_has(p->head, "usage");
	enum usage_sight sight;
	int verdict = 0;

	if (json_get(p->head, "choices"))
		json_set(p->head, "choices", choices);
	else
		json_object_put(choices);
	json_each_member (p->extra, m)
		json_set(p->head, m.name, json_object_get(m.value));
	sight = usage_show(&p->usage, p->head);
	if (sight != USAGE_UNSEEN) {
		buf_reset(&p->out);
		json_print(&p->out, p->head);
		verdict = p->r->emit(p->r->ctx, p->out.data, p->out.len);
	}
	if (has_usage) /* what was changed was so for this client, in this chunk */
		json_set(p->head, "usage", json_object_get(usage));
	if (groq)
		json_set(p->head, "x_groq", json_object_get(groq));
	json_object_put(usage);
	json_object_put(groq);
	json_each_member (p->extra, m)
		json_unset(p->head, m.name);
	json_object_put(p->extra);
	p->extra = NULL;
	return verdict;
}

/* Adds a choice to the chunk in the making, and hands it out unless there is more to come. */
static int emit_choice(struct player *p, struct json_object *choice, struct json_object *rest, bool more)
{
	struct json_object *choices;

	json_each_member (p->choice, m)
		json_set(choice, m.name, json_object_get(m.value));
	json_each_member (rest, m)
		json_set(choice, m.name, json_object_get(m.value));
	if (!p->choices)
		p->choices = json_object_new_array();
	json_object_array_add(p->choices, choice);
	if (more)
		return 0;
	choices = p->choices;
	p->choices = NULL;
	return emit(p, choices);
}

/* A choice without a delta. */
static struct json_object *bare_choice(int64_t index)
{
	struct json_object *choice = json_object_new_object();

	json_set_int(choice, "index", index);
	return choice;
}

static struct json_object *find_choice(const struct replay *r, int64_t index)
{
	struct json_object *choices = json_get_array(r->completion, "choices"), *choice;
	size_t i;

	for (i = 0; choices && i < json_object_array_length(choices); i++) {
		choice = json_object_array_get_idx(choices, i);
		if (json_get_int(choice, "index", (int64_t)i) == index)
			return choice;
	}
	return NULL;
}

/* [choice, "name", bytes, bytes, …]; [] is a chunk without choices. */
static int play_run(struct player *p, struct json_object *run)
{
	bool message = p->r->form->message;
	int64_t index = json_object_get_int64(json_object_array_get_idx(run, 0)), bytes;
	const char *name = json_object_get_string(json_object_array_get_idx(run, 1));
	struct json_object *choice = find_choice(p->r, index), *text, *piece, *said, *out;
	size_t i;
	int verdict = 0;

	if (json_object_array_length(run) == 0)
		return emit(p, json_object_new_array());
	text = name ? json_get(message ? json_get(choice, "message") : choice, name) : NULL;
	if (!json_object_is_type(text, json_type_string))
		return -1;
	for (i = 2; i < json_object_array_length(run) && verdict == 0; i++) {
		bytes = json_object_get_int64(json_object_array_get_idx(run, i));
		piece = bytes < 0 ? NULL : next_text(text, (size_t)bytes);
		if (!piece)
			return -1;
		said = json_object_new_object();
		json_set(said, name, piece);
		out = bare_choice(index);
		if (message)
			json_set(out, "delta", json_object_get(said));
		verdict = emit_choice(p, out, message ? NULL : said, false);
		json_object_put(said);
	}
	return verdict;
}

/* {"c":choice,"d":shape of the delta,"r":shape of the rest} */
static int play_step(struct player *p, struct json_object *step)
{
	int64_t index = json_get_int(step, "c", -1);
	struct json_object *choice = find_choice(p->r, index), *delta = NULL, *rest, *out;
	bool said = p->r->form->message && json_has(step, "d");
	int verdict;

	if (said && json_get(step, "d")) {
		delta = play_object(json_get(choice, "message"), json_get(step, "d"));
		if (!delta)
			return -1;
	}
	rest = play_object(choice, json_get(step, "r"));
	if (!rest) {
		json_object_put(delta);
		return -1;
	}
	out = bare_choice(index);
	if (said)
		json_set(out, "delta", delta);
	verdict = emit_choice(p, out, rest, json_get_int(step, "m", 0) == 1);
	json_object_put(rest);
	return verdict;
}

/* {"head":…} or {"choice":…}: what chunks say from here on. */
static int play_standing(struct player *p, struct json_object *head, struct json_object *choice)
{
	if (choice) {
		json_object_put(p->choice);
		p->choice = json_object_get(choice);
	}
	return standing_play(p->head, head, p->r->completion, p->r->form) ? 0 : -1;
}

/* A script with a head says itself what chunks say. */
static void begin_bare(struct player *p)
{
	json_object_put(p->head);
	json_object_put(p->choice);
	json_object_put(p->extra);
	p->head = json_object_new_object();
	p->choice = json_object_new_object();
	p->extra = NULL;
}

static int play_script(struct player *p, struct json_object *script)
{
	struct json_object *step, *head, *choice;
	size_t i;
	int verdict = 0;

	if (json_has(json_object_array_get_idx(script, 0), "head"))
		begin_bare(p);
	for (i = 0; i < json_object_array_length(script) && verdict == 0; i++) {
		step = json_object_array_get_idx(script, i);
		head = json_get_object(step, "head");
		choice = json_get_object(step, "choice");
		if (json_object_is_type(step, json_type_array))
			verdict = play_run(p, step);
		else if (head || choice)
			verdict = play_standing(p, head, choice);
		else
			verdict = play_step(p, step);
	}
	return verdict;
}

/* ---- an answer that came as JSON ---- */

/*
 * tool_calls of a message have no index, or one that does not tell them apart (0 in each, null); those of a delta are
 * put together by it: where they do not count upwards, it is their place.
 */
static struct json_object *with_indexes(struct json_object *calls)
{
	struct json_object *out, *copy, *index;
	int64_t before = -1, now;
	bool counted = true;
	size_t i;

	for (i = 0; i < json_object_array_length(calls); i++, before = now) {
		copy = json_object_array_get_idx(calls, i);
		index = json_get(copy, "index");
		now = json_get_int(copy, "index", -1);
		counted &= now > before;
		if (!json_object_is_type(copy, json_type_object) ||
			(index && !json_object_is_type(index, json_type_int)))
			return json_object_get(calls); /* not what tool calls are: as it is */
	}
	if (counted)
		return json_object_get(calls);
	out = json_object_new_array();
	for (i = 0; i < json_object_array_length(calls); i++) {
		copy = json_object_new_object();
		json_set_int(copy, "index", (int64_t)i);
		json_each_member (json_object_array_get_idx(calls, i), m)
			if (strcmp(m.name, "index") != 0)
				json_set(copy, m.name, json_object_get(m.value));
		json_object_array_add(out, copy);
	}
	return out;
}

/* As OpenAI begins: who speaks, and nothing said yet. The SDKs count on a first chunk that says no more. */
static struct json_object *opening(struct json_object *message)
{
	struct json_object *delta = json_object_new_object();

	json_each_member (message, m) {
		if (strcmp(m.name, "role") == 0)
			json_set(delta, m.name, json_object_get(m.value));
		else if (!m.value)
			json_set(delta, m.name, NULL);
		else if (strcmp(m.name, "content") == 0 && json_object_is_type(m.value, json_type_string))
			json_set_str(delta, m.name, "");
	}
	return delta;
}

/* Everything that the message says. */
static struct json_object *said(struct json_object *message)
{
	struct json_object *delta = json_object_new_object();
	bool calls;

	json_each_member (message, m) {
		if (!m.value || strcmp(m.name, "role") == 0)
			continue;
		calls = strcmp(m.name, "tool_calls") == 0 && json_object_is_type(m.value, json_type_array);
		json_set(delta, m.name, calls ? with_indexes(m.value) : json_object_get(m.value));
	}
	return delta;
}

/* A chunk of the only choice `index`; delta and rest are given away. */
static int emit_said(struct player *p, int64_t index, struct json_object *delta, struct json_object *rest)
{
	struct json_object *out = bare_choice(index);
	int verdict;

	if (p->r->form->message)
		json_set(out, "delta", delta);
	else
		json_object_put(delta);
	verdict = emit_choice(p, out, rest, false);
	json_object_put(rest);
	return verdict;
}

static int play_message(struct player *p, struct json_object *choice, int64_t index)
{
	struct json_object *message = json_get(choice, "message"), *rest;
	int verdict = 0;

	if (p->r->form->message)
		verdict = emit_said(p, index, opening(message), NULL);
	if (verdict)
		return verdict;
	rest = json_object_new_object();
	json_each_member (choice, m)
		if (strcmp(m.name, "message") != 0 && strcmp(m.name, "index") != 0 &&
			strcmp(m.name, "finish_reason") != 0)
			json_set(rest, m.name, json_object_get(m.value));
	verdict = emit_said(p, index, said(message), rest);
	if (verdict)
		return verdict;
	rest = json_object_new_object();
	if (!p->r->form->message)
		json_set_str(rest, "text", "");
	json_set(rest, "finish_reason", json_object_get(json_get(choice, "finish_reason")));
	return emit_said(p, index, json_object_new_object(), rest);
}

static int play_whole(struct player *p)
{
	struct json_object *choices = json_get_array(p->r->completion, "choices"), *choice;
	size_t i;
	int verdict = 0;

	for (i = 0; choices && i < json_object_array_length(choices) && verdict == 0; i++) {
		choice = json_object_array_get_idx(choices, i);
		if (!json_object_is_type(choice, json_type_object))
			return -1;
		verdict = play_message(p, choice, json_get_int(choice, "index", (int64_t)i));
	}
	return verdict;
}

/* As OpenAI does: these in every chunk. What else stands beside the choices, a provider says once. */
static void begin(struct player *p)
{
	static const char *const again[] = {
		"id", "object", "created", "model", "service_tier", "system_fingerprint", NULL};

	p->head = json_object_new_object();
	p->choice = json_object_new_object();
	p->extra = json_object_new_object();
	json_each_member (p->r->completion, m)
		if (strcmp(m.name, "choices") != 0 && strcmp(m.name, "usage") != 0)
			json_set(stream_listed(m.name, again) ? p->head : p->extra, m.name, json_object_get(m.value));
	json_set_str(p->head, "object", p->r->form->chunk);
	json_set_bool(p->head, "choices", true);
	json_set(p->head, "usage", NULL);
	json_set(p->choice, "logprobs", NULL);
	json_set(p->choice, "finish_reason", NULL);
}

/* Who asked for the usage has seen it, or sees it now. */
static int end(struct player *p)
{
	struct json_object *usage = json_get(p->r->completion, "usage");

	if (!p->r->include_usage || p->usage.shown || !usage)
		return 0;
	json_set_bool(p->head, "choices", true);
	json_set(p->head, "usage", json_object_get(usage));
	p->usage.choices = 0; /* whatever they say */
	return emit(p, json_object_new_array());
}

int stream_replay(const struct replay *r)
{
	struct json_object *script = NULL, *choices = json_get_array(r->completion, "choices");
	struct player p = {.r = r,
		.usage = {.asked = r->include_usage, .choices = choices ? json_object_array_length(choices) : 0},
		.out = BUF_INIT(64 << 20)};
	struct err err;
	int verdict;

	begin(&p);
	if (r->script_len)
		script = json_parse(r->script, r->script_len, &err);
	if (r->script_len && !json_object_is_type(script, json_type_array))
		verdict = -1;
	else
		verdict = script ? play_script(&p, script) : play_whole(&p);
	if (verdict == 0)
		verdict = end(&p);
	json_object_put(script);
	json_object_put(p.head);
	json_object_put(p.choice);
	json_object_put(p.extra);
	json_object_put(p.choices);
	usage_release(&p.usage);
	buf_release(&p.out);
	return verdict;
}
