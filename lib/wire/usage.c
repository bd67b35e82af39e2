/* Whether a count is the last one is known when all choices have finished: by then it is shown; before, only held. */
#include "wire/usage.h"

#include <string.h>

static bool says_choices(struct json_object *chunk)
{
	struct json_object *choices = json_get_array(chunk, "choices");

	return choices && json_object_array_length(choices) > 0;
}

static void count_finished(struct usage_view *v, struct json_object *chunk)
{
	struct json_object *choices = json_get_array(chunk, "choices"), *choice;
	const char *reason;
	int64_t index;
	size_t i;

	for (i = 0; choices && i < json_object_array_length(choices); i++) {
		choice = json_object_array_get_idx(choices, i);
		index = json_get_int(choice, "index", 0);
		if (index >= v->choices && index < INT32_MAX)
			v->choices = index + 1;
		reason = json_get_str(choice, "finish_reason");
		v->finished += reason && *reason;
	}
}

static void hold(struct usage_view *v, struct json_object *chunk)
{
	struct json_object *held = json_object_new_object();

	json_each_member (chunk, m)
		json_set(held, m.name, json_object_get(m.value));
	json_set(held, "choices", json_object_new_array());
	json_object_put(v->held);
	v->held = held;
}

static void see(struct usage_view *v, struct json_object *usage)
{
	json_object_put(v->shown);
	v->shown = json_object_get(usage);
}

/* Groq's is not changed in itself: others hold it. */
static bool hide_groq(struct json_object *chunk)
{
	struct json_object *groq = json_get(chunk, "x_groq"), *rest;

	if (!json_has(groq, "usage"))
		return false;
	rest = json_object_new_object();
	json_each_member (groq, m)
		if (strcmp(m.name, "usage") != 0)
			json_set(rest, m.name, json_object_get(m.value));
	json_set(chunk, "x_groq", rest);
	return true;
}

static enum usage_sight hide(struct json_object *chunk)
{
	bool changed = hide_groq(chunk);

	if (json_get(chunk, "usage") && !says_choices(chunk))
		return USAGE_UNSEEN;
	if (!json_has(chunk, "usage"))
		return changed ? USAGE_CHANGED : USAGE_AS_IT_IS;
	json_unset(chunk, "usage");
	return USAGE_CHANGED;
}

enum usage_sight usage_show(struct usage_view *v, struct json_object *chunk)
{
	struct json_object *usage = json_get(chunk, "usage");

	count_finished(v, chunk);
	if (!v->asked)
		return hide(chunk);
	if (!usage)
		return USAGE_AS_IT_IS;
	if (v->running || (v->finished >= v->choices && !json_object_equal(usage, v->shown))) {
		see(v, usage);
		return USAGE_AS_IT_IS;
	}
	if (v->finished >= v->choices && !says_choices(chunk))
		return USAGE_UNSEEN; /* said again */
	hold(v, chunk);
	json_set(chunk, "usage", NULL);
	return USAGE_CHANGED;
}

struct json_object *usage_owed(struct usage_view *v)
{
	return v->shown ? NULL : v->held;
}

void usage_release(struct usage_view *v)
{
	json_object_put(v->shown);
	json_object_put(v->held);
	v->shown = v->held = NULL;
}
