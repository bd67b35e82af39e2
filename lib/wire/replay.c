/* The completion is a tape: each string and each array remembers how much of it has been played. */
#include "wire/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct player {
	const struct replay *r;
	struct json_object *head;    /* what every chunk says: id, created, model, … */
	struct json_object *choices; /* of the chunk in the making; NULL = none yet */
	struct json_object *extra;   /* what only the first one says; NULL behind it */
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

/* [[position, shape], …]: elements of an array that was merged by index. */
static struct json_object *play_elements(struct json_object *array, struct json_object *shape)
{
	struct json_object *out = json_object_new_array(), *step, *element;
	size_t i, at;

	for (i = 0; i < json_object_array_length(shape); i++) {
		step = json_object_array_get_idx(shape, i);
		if (!json_object_is_type(step, json_type_array) || json_object_array_length(step) != 2)
			break;
		at = (size_t)json_object_get_int64(json_object_array_get_idx(step, 0));
		element = play_object(json_object_array_get_idx(array, at), json_object_array_get_idx(step, 1));
		if (!element)
			break;
		json_set_int(element, "index", (int64_t)at);
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

/* Prints head + choices (given away) + usage (borrowed) and hands the chunk out. */
static int emit(struct player *p, struct json_object *choices, struct json_object *usage)
{
	json_set(p->head, "choices", choices);
	if (p->r->include_usage)
		json_set(p->head, "usage", json_object_get(usage));
	json_each_member (p->extra, m)
		json_set(p->head, m.name, json_object_get(m.value));
	buf_reset(&p->out);
	json_print(&p->out, p->head);
	json_each_member (p->extra, m)
		json_unset(p->head, m.name);
	json_object_put(p->extra);
	p->extra = NULL;
	return p->r->emit(p->r->ctx, p->out.data, p->out.len);
}

/* Adds a choice to the chunk in the making, and hands it out unless there is more to come. */
static int emit_choice(struct player *p, int64_t index, struct json_object *delta, struct json_object *rest, bool more)
{
	struct json_object *choice = json_object_new_object(), *choices;

	json_set_int(choice, "index", index);
	if (p->r->form->message)
		json_set(choice, "delta", delta);
	else
		json_object_put(delta);
	json_set(choice, "logprobs", NULL);
	json_set(choice, "finish_reason", NULL);
	json_each_member (rest, m)
		json_set(choice, m.name, json_object_get(m.value));
	if (!p->choices)
		p->choices = json_object_new_array();
	json_object_array_add(p->choices, choice);
	if (more)
		return 0;
	choices = p->choices;
	p->choices = NULL;
	return emit(p, choices, NULL);
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

/* [choice, "name", bytes, bytes, …] */
static int play_run(struct player *p, struct json_object *run)
{
	int64_t index = json_object_get_int64(json_object_array_get_idx(run, 0)), bytes;
	const char *name = json_object_get_string(json_object_array_get_idx(run, 1));
	struct json_object *text = name ? json_get(json_get(find_choice(p->r, index), "message"), name) : NULL, *delta,
			   *piece;
	size_t i;
	int verdict;

	if (!json_object_is_type(text, json_type_string))
		return -1;
	for (i = 2; i < json_object_array_length(run); i++) {
		bytes = json_object_get_int64(json_object_array_get_idx(run, i));
		piece = bytes < 0 ? NULL : next_text(text, (size_t)bytes);
		if (!piece)
			return -1;
		delta = json_object_new_object();
		json_set(delta, name, piece);
		verdict = emit_choice(p, index, delta, NULL, false);
		if (verdict)
			return verdict;
	}
	return 0;
}

/* {"c":choice,"d":shape of the delta,"r":shape of the rest} */
static int play_step(struct player *p, struct json_object *step)
{
	int64_t index = json_get_int(step, "c", -1);
	struct json_object *choice = find_choice(p->r, index), *delta, *rest;
	int verdict;

	delta = p->r->form->message ? play_object(json_get(choice, "message"), json_get(step, "d"))
				    : json_object_new_object();
	if (!delta)
		return -1;
	rest = play_object(choice, json_get(step, "r"));
	if (!rest) {
		json_object_put(delta);
		return -1;
	}
	verdict = emit_choice(p, index, delta, rest, json_get_int(step, "m", 0) == 1);
	json_object_put(rest);
	return verdict;
}

static int play_script(struct player *p, struct json_object *script)
{
	struct json_object *step;
	size_t i;
	int verdict = 0;

	for (i = 0; i < json_object_array_length(script) && verdict == 0; i++) {
		step = json_object_array_get_idx(script, i);
		verdict = json_object_is_type(step, json_type_array) ? play_run(p, step) : play_step(p, step);
	}
	return verdict;
}

/* ---- an answer that came as JSON ---- */

/* tool_calls of a message have no index; those of a delta must. */
static struct json_object *with_indexes(struct json_object *calls)
{
	struct json_object *out, *copy;
	size_t i;

	for (i = 0; i < json_object_array_length(calls); i++)
		if (!json_object_is_type(json_object_array_get_idx(calls, i), json_type_object))
			return json_object_get(calls); /* not what tool calls are: as it is */
	out = json_object_new_array();
	for (i = 0; i < json_object_array_length(calls); i++) {
		copy = json_object_new_object();
		json_set_int(copy, "index", (int64_t)i);
		json_each_member (json_object_array_get_idx(calls, i), m)
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

static int play_message(struct player *p, struct json_object *choice, int64_t index)
{
	struct json_object *message = json_get(choice, "message"), *rest = json_object_new_object();
	int verdict = 0;

	json_each_member (choice, m)
		if (strcmp(m.name, "message") != 0 && strcmp(m.name, "index") != 0 &&
			strcmp(m.name, "finish_reason") != 0)
			json_set(rest, m.name, json_object_get(m.value));
	if (p->r->form->message)
		verdict = emit_choice(p, index, opening(message), NULL, false);
	if (verdict == 0)
		verdict = emit_choice(p, index, said(message), rest, false);
	json_object_put(rest);
	if (verdict)
		return verdict;
	rest = json_object_new_object();
	if (!p->r->form->message)
		json_set_str(rest, "text", "");
	json_set(rest, "finish_reason", json_object_get(json_get(choice, "finish_reason")));
	verdict = emit_choice(p, index, json_object_new_object(), rest, false);
	json_object_put(rest);
	return verdict;
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

/* OpenAI says these in every chunk; what else stands beside the choices, a provider says once (Azure:
 * prompt_filter_results). */
static bool said_again(const char *name)
{
	static const char *const names[] = {"id", "object", "created", "model", "service_tier", "system_fingerprint"};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

int stream_replay(const struct replay *r)
{
	struct player p = {
		.r = r, .head = json_object_new_object(), .extra = json_object_new_object(), .out = BUF_INIT(64 << 20)};
	struct json_object *script = NULL;
	struct err err;
	int verdict;

	json_each_member (r->completion, m)
		if (strcmp(m.name, "choices") != 0 && strcmp(m.name, "usage") != 0)
			json_set(said_again(m.name) ? p.head : p.extra, m.name, json_object_get(m.value));
	json_set_str(p.head, "object", r->form->chunk);
	if (r->script_len)
		script = json_parse(r->script, r->script_len, &err);
	if (r->script_len && !json_object_is_type(script, json_type_array))
		verdict = -1;
	else
		verdict = script ? play_script(&p, script) : play_whole(&p);
	if (verdict == 0 && r->include_usage && json_get(r->completion, "usage"))
		verdict = emit(&p, json_object_new_array(), json_get(r->completion, "usage"));
	json_object_put(script);
	json_object_put(p.head);
	json_object_put(p.extra);
	json_object_put(p.choices);
	buf_release(&p.out);
	return verdict;
}
