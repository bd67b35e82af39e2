/*
 * Most of a chunk is what the chunk before said: only what changes is written down. Providers say things late (Groq's
 * x_groq), once (Azure's prompt_filter_results) or differently from chunk to chunk, and null here and there; a client
 * of the replay shall see each where it stood.
 */
#include "wire/stream_parts.h"

/* Of a choice in a chunk, what is not merged beside the delta; `message` is some providers' sum of the deltas so far.
 */
static const char *const apart[] = {"index", "delta", "message", NULL};

/* Padding against side channels: OpenAI's and Mistral's. */
static const char *const unsaid[] = {"obfuscation", "p", NULL};

/* Made anew for each answer, or for each chunk. */
static const char *const made_anew[] = {"id", "created", "choices", NULL};

bool standing_apart(const char *name)
{
	return stream_listed(name, apart);
}

bool standing_unsaid(const char *name)
{
	return stream_listed(name, unsaid);
}

bool standing_quiet(const char *name, struct json_object *value)
{
	return !value || (strcmp(name, "finish_reason") == 0 && json_object_is_type(value, json_type_string) &&
				 json_object_get_string_len(value) == 0);
}

void standing_init(struct standing *s)
{
	*s = (struct standing){.head = json_object_new_object(), .choice = json_object_new_object()};
}

void standing_release(struct standing *s)
{
	json_object_put(s->head);
	json_object_put(s->choice);
	*s = (struct standing){0};
}

/* ---- beside the choices ---- */

/* A chunk's members, less what no replay could or should say again. */
static struct json_object *head_of(struct json_object *chunk, bool last)
{
	struct json_object *head = json_object_new_object();

	json_each_member (chunk, m) {
		if (standing_unsaid(m.name))
			continue;
		if (stream_listed(m.name, made_anew) && m.value)
			json_set_bool(head, m.name, true);
		else
			json_set(head, m.name, strcmp(m.name, "usage") == 0 && !last ? NULL : json_object_get(m.value));
	}
	return head;
}

static struct json_object *wrapped(struct json_object *value)
{
	struct json_object *list = json_object_new_array();

	json_object_array_add(list, json_object_get(value));
	return list;
}

static void note_change(struct json_object **change, const char *name, struct json_object *value)
{
	if (!*change)
		*change = json_object_new_object();
	json_set(*change, name, value);
}

struct json_object *standing_head(struct standing *s, struct json_object *chunk, bool last)
{
	struct json_object *head = head_of(chunk, last), *change = NULL;

	json_each_member (head, m) {
		if (json_has(s->head, m.name) && json_object_equal(json_get(s->head, m.name), m.value))
			continue;
		if (stream_listed(m.name, made_anew))
			note_change(&change, m.name, json_object_get(m.value));
		else
			note_change(&change, m.name, m.value ? wrapped(m.value) : NULL);
	}
	json_each_member (s->head, m)
		if (!json_has(head, m.name))
			note_change(&change, m.name, json_object_new_boolean(false));
	json_object_put(s->head);
	s->head = head;
	return change;
}

/* What stands in the completion under a name that chunks have, too. */
static bool stands(
	struct json_object *value, const char *name, struct json_object *completion, const struct stream_form *form)
{
	if (strcmp(name, "object") == 0)
		return json_object_is_type(value, json_type_string) &&
		       strcmp(json_object_get_string(value), form->chunk) == 0;
	return value && json_object_equal(value, json_get(completion, name));
}

void standing_close(struct json_object *change, struct json_object *completion, const struct stream_form *form)
{
	json_each_member (change, m)
		if (json_object_is_type(m.value, json_type_array) &&
			stands(json_object_array_get_idx(m.value, 0), m.name, completion, form))
			json_set_bool(change, m.name, true);
}

static bool play_member(struct json_object *head, const char *name, struct json_object *how,
	struct json_object *completion, const struct stream_form *form)
{
	switch (json_object_get_type(how)) {
	case json_type_null: json_set(head, name, NULL); return true;
	case json_type_array: json_set(head, name, json_object_get(json_object_array_get_idx(how, 0))); return true;
	case json_type_boolean: break;
	default: return false;
	}
	if (!json_object_get_boolean(how))
		json_unset(head, name);
	else if (strcmp(name, "object") == 0)
		json_set_str(head, name, form->chunk);
	else
		json_set(head, name, json_object_get(json_get(completion, name)));
	return !json_object_get_boolean(how) || json_has(completion, name);
}

bool standing_play(struct json_object *head, struct json_object *change, struct json_object *completion,
	const struct stream_form *form)
{
	json_each_member (change, m)
		if (!play_member(head, m.name, m.value, completion, form))
			return false;
	return true;
}

/* ---- beside the delta ---- */

static bool choice_fits(struct json_object *standing, struct json_object *choice)
{
	json_each_member (choice, m)
		if (!standing_apart(m.name) && standing_quiet(m.name, m.value) &&
			(!json_has(standing, m.name) || !json_object_equal(json_get(standing, m.name), m.value)))
			return false;
	json_each_member (standing, m)
		if (!json_has(choice, m.name))
			return false;
	return true;
}

struct json_object *standing_choice(struct standing *s, struct json_object *choice)
{
	struct json_object *now;

	if (choice_fits(s->choice, choice))
		return NULL;
	now = json_object_new_object();
	json_each_member (choice, m)
		if (!standing_apart(m.name) && standing_quiet(m.name, m.value))
			json_set(now, m.name, json_object_get(m.value));
	json_each_member (s->choice, m) /* the next one may be quiet again */
		if (json_has(choice, m.name) && !json_has(now, m.name))
			json_set(now, m.name, json_object_get(m.value));
	json_object_put(s->choice);
	s->choice = now;
	return now;
}
