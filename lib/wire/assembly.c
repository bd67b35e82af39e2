/* Chunks go into the completion, and into the script goes only what the completion does not say: where they ended. */
#include "wire/stream_parts.h"

enum { CHOICES_MAX = 128 /* OpenAI's bound for n */ };

const struct stream_form stream_chat = {"chat.completion", "chat.completion.chunk", true};
const struct stream_form stream_text = {"text_completion", "text_completion", false};

void assembly_init(struct assembly *a, const struct stream_form *form, size_t max_bytes)
{
	*a = (struct assembly){.form = form,
		.completion = json_object_new_object(),
		.script = BUF_INIT(max_bytes),
		.run_choice = -1,
		.max_bytes = max_bytes};
	standing_init(&a->standing);
	a->changes = json_object_new_array();
	json_set(a->completion, "choices", json_object_new_array());
	buf_addc(&a->script, '[');
}

void assembly_release(struct assembly *a)
{
	json_object_put(a->completion);
	json_object_put(a->changes);
	standing_release(&a->standing);
	a->completion = a->changes = NULL;
	buf_release(&a->script);
}

/* ---- the script ---- */

static void end_run(struct assembly *a)
{
	if (a->run_choice >= 0)
		buf_addc(&a->script, ']');
	a->run_choice = -1;
}

static void next_step(struct assembly *a)
{
	if (a->script.len > 1)
		buf_addc(&a->script, ',');
}

/* The only member of an object, or NULL. */
static struct json_object *only_member(struct json_object *object, const char **name)
{
	*name = "";
	if (!json_object_is_type(object, json_type_object) || json_object_object_length(object) != 1)
		return NULL;
	*name = json_first_member(object).name;
	return json_first_member(object).value;
}

static bool fits_run(struct json_object *text, const char *name)
{
	return json_object_is_type(text, json_type_string) && !merge_is_whole(name) &&
	       strlen(name) < sizeof(((struct assembly *)0)->run_path) &&
	       !name[strspn(name, "abcdefghijklmnopqrstuvwxyz_")];
}

/* A chunk of nothing but some text of one string joins a run: two bytes in the script instead of thirty. */
static struct json_object *run_text(struct assembly *a, struct json_object *choice, const char **name)
{
	struct json_object *text = NULL;

	if (a->form->message)
		text = only_member(json_get(choice, "delta"), name);
	else
		text = json_get(choice, *name = "text");
	if (!fits_run(text, *name))
		return NULL;
	json_each_member (choice, m)
		if (!standing_apart(m.name) && !standing_quiet(m.name, m.value) && m.value != text)
			return NULL;
	return text;
}

static void note_run(struct assembly *a, int index, const char *name, size_t bytes)
{
	if (a->run_choice != index || strcmp(a->run_path, name) != 0) {
		end_run(a);
		next_step(a);
		buf_printf(&a->script, "[%d,\"%s\"", index, name);
		a->run_choice = index;
		memcpy(a->run_path, name, strlen(name) + 1);
	}
	buf_printf(&a->script, ",%zu", bytes);
}

/* What a head says will be known at the end: until then a 0 keeps its place. */
static void note_head(struct assembly *a, struct json_object *chunk, bool last)
{
	struct json_object *change = standing_head(&a->standing, chunk, last), *place;

	if (!change && a->script.len > 1)
		return;
	if (!change)
		change = json_object_new_object();
	a->bytes += merge_weight(change);
	a->lost |= a->bytes > a->max_bytes;
	end_run(a);
	next_step(a);
	place = json_object_new_array();
	json_object_array_add(place, json_object_new_int64((int64_t)a->script.len));
	json_object_array_add(place, change);
	json_object_array_add(a->changes, place);
	buf_addc(&a->script, '0');
}

static void note_choice(struct assembly *a, struct json_object *choice)
{
	struct json_object *now = standing_choice(&a->standing, choice);

	if (!now)
		return;
	end_run(a);
	next_step(a);
	buf_adds(&a->script, "{\"choice\":");
	json_print(&a->script, now);
	buf_addc(&a->script, '}');
}

static void end_script(struct assembly *a)
{
	struct buf script = BUF_INIT(a->max_bytes);
	struct json_object *place, *change;
	size_t i, from = 0, at;

	end_run(a);
	buf_addc(&a->script, ']');
	for (i = 0; i < json_object_array_length(a->changes); i++, from = at + 1) {
		place = json_object_array_get_idx(a->changes, i);
		at = (size_t)json_object_get_int64(json_object_array_get_idx(place, 0));
		change = json_object_array_get_idx(place, 1);
		standing_close(change, a->completion, a->form);
		buf_add(&script, a->script.data + from, at - from);
		buf_adds(&script, "{\"head\":");
		json_print(&script, change);
		buf_addc(&script, '}');
	}
	buf_add(&script, a->script.data + from, a->script.len - from);
	buf_release(&a->script);
	a->script = script;
}

/* ---- chunks ---- */

static struct json_object *find_choice(struct assembly *a, int64_t index)
{
	struct json_object *list = json_get_array(a->completion, "choices"), *choice;
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++) {
		choice = json_object_array_get_idx(list, i);
		if (json_get_int(choice, "index", -1) == index)
			return choice;
	}
	return NULL;
}

static struct json_object *choice_at(struct assembly *a, int64_t index)
{
	struct json_object *choice = find_choice(a, index);

	if (choice)
		return choice;
	if (index < 0 || index >= CHOICES_MAX) {
		a->lost = true;
		return NULL;
	}
	choice = json_object_new_object();
	json_set_int(choice, "index", index);
	if (a->form->message)
		json_set(choice, "message", json_object_new_object());
	json_set(choice, "logprobs", NULL);
	json_set(choice, "finish_reason", NULL);
	json_object_array_add(json_get_array(a->completion, "choices"), choice);
	a->choices++;
	return choice;
}

static bool finished(struct json_object *choice)
{
	const char *reason = json_get_str(choice, "finish_reason");

	return reason && *reason;
}

/* Whether all choices have finished when this chunk's are added. */
static bool finishes(struct assembly *a, struct json_object *choices)
{
	struct json_object *choice, *known;
	int left = a->choices - a->finished;
	size_t i;

	for (i = 0; i < json_object_array_length(choices); i++) {
		choice = json_object_array_get_idx(choices, i);
		known = find_choice(a, json_get_int(choice, "index", 0));
		left += !known;
		left -= finished(choice) && !(known && finished(known));
	}
	return left <= 0;
}

/* Everything of a choice but its delta: finish_reason, logprobs, and what else a provider says there. */
static void add_choice_rest(struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape)
{
	bool first = true, ended = finished(to);

	a->beside_delta = true; /* text comes in the delta; here, things are said again and again */
	json_each_member (from, m) {
		if (standing_apart(m.name))
			continue;
		if (standing_quiet(m.name, m.value)) {
			if (!json_has(to, m.name))
				json_set(to, m.name, NULL);
			continue;
		}
		buf_adds(shape, first ? "" : ",");
		first = false;
		json_print_string(shape, m.name, strlen(m.name));
		buf_addc(shape, ':');
		if (strcmp(m.name, "finish_reason") == 0)
			merge_whole(a, to, m.name, m.value, shape);
		else
			merge_member(a, to, m.name, m.value, shape);
	}
	a->beside_delta = false;
	if (!ended && finished(to))
		a->finished++;
}

/* False: it is not what a choice of a chunk is. */
static bool is_choice(struct assembly *a, struct json_object *choice)
{
	struct json_object *delta = json_get(choice, "delta");

	if (!json_object_is_type(choice, json_type_object) || (delta && !json_object_is_type(delta, json_type_object)))
		return false;
	return !a->form->message || json_has(choice, "delta") || !json_has(choice, "message");
}

static void add_step(struct assembly *a, struct json_object *to, struct json_object *choice, bool more)
{
	struct json_object *delta = json_get(choice, "delta");
	struct buf *shape = &a->script;

	end_run(a);
	next_step(a);
	buf_printf(shape, "{\"c\":%lld,%s", (long long)json_get_int(to, "index", 0), more ? "\"m\":1," : "");
	if (a->form->message && delta) {
		buf_adds(shape, "\"d\":");
		merge_object(a, json_get(to, "message"), delta, shape);
		buf_addc(shape, ',');
	} else if (a->form->message && json_has(choice, "delta")) {
		buf_adds(shape, "\"d\":null,");
	}
	buf_adds(shape, "\"r\":{");
	add_choice_rest(a, to, choice, shape);
	buf_adds(shape, "}}");
}

/* What is lost may end all the same. */
static void count_finish(struct assembly *a, struct json_object *choice)
{
	struct json_object *to = choice_at(a, json_get_int(choice, "index", 0));

	if (!to || !finished(choice) || finished(to))
		return;
	json_set_str(to, "finish_reason", "lost");
	a->finished++;
}

/* alone: it is the only one of its chunk; more: another one of the same chunk follows. */
static void add_choice(struct assembly *a, struct json_object *choice, bool alone, bool more)
{
	int64_t index = json_get_int(choice, "index", 0);
	struct json_object *to = is_choice(a, choice) ? choice_at(a, index) : NULL, *text;
	struct buf ignored = BUF_INIT(256);
	const char *name;

	a->lost |= !to;
	if (a->lost) {
		count_finish(a, choice);
		return;
	}
	note_choice(a, choice);
	text = alone ? run_text(a, choice, &name) : NULL;
	if (!text) {
		add_step(a, to, choice, more);
		return;
	}
	note_run(a, (int)index, name, (size_t)json_object_get_string_len(text));
	if (a->form->message)
		merge_object(a, json_get(to, "message"), json_get(choice, "delta"), &ignored);
	add_choice_rest(a, to, choice, &ignored);
	buf_release(&ignored);
}

/* The last value counts, but none is not one: Azure's first chunk has "" for an id and a model. */
static void add_head(struct assembly *a, struct json_object *chunk)
{
	bool empty;

	json_each_member (chunk, m) {
		empty = !m.value ||
			(json_object_is_type(m.value, json_type_string) && json_object_get_string_len(m.value) == 0);
		if (strcmp(m.name, "choices") != 0 && !standing_unsaid(m.name) &&
			!(empty && json_has(a->completion, m.name)))
			json_set(a->completion, m.name, json_object_get(m.value));
	}
}

/* Some gateways fill silence with {"type":"ping"}: not of the answer. */
static bool is_chunk(struct json_object *chunk)
{
	return json_has(chunk, "choices") || json_has(chunk, "object") || json_has(chunk, "usage");
}

static void add_no_choice(struct assembly *a)
{
	end_run(a);
	next_step(a);
	buf_adds(&a->script, "[]");
}

void assembly_add(struct assembly *a, struct json_object *chunk)
{
	struct json_object *choices = json_get_array(chunk, "choices");
	size_t i, n = choices ? json_object_array_length(choices) : 0;

	a->lost |= !json_object_is_type(chunk, json_type_object) || (!choices && json_get(chunk, "choices"));
	if (!a->lost && !is_chunk(chunk))
		return;
	if (!a->lost) {
		add_head(a, chunk);
		note_head(a, chunk, n == 0 || finishes(a, choices));
	}
	for (i = 0; i < n; i++)
		add_choice(a, json_object_array_get_idx(choices, i), n == 1, i + 1 < n);
	if (n == 0 && !a->lost)
		add_no_choice(a);
	a->lost |= a->script.overflow;
}

static int by_index(const void *x, const void *y)
{
	int64_t a = json_get_int(*(struct json_object *const *)x, "index", 0);
	int64_t b = json_get_int(*(struct json_object *const *)y, "index", 0);

	return a < b ? -1 : a > b;
}

struct json_object *assembly_finish(struct assembly *a)
{
	struct json_object *choices = json_get_array(a->completion, "choices"), *message;
	size_t i;

	if (a->lost || a->choices == 0 || a->finished < a->choices)
		return NULL;
	end_script(a);
	if (a->script.overflow)
		return NULL;
	merge_settle(a->completion);
	json_set_str(a->completion, "object", a->form->whole);
	if (!json_get(a->completion, "usage")) /* null in every chunk, and never said */
		json_unset(a->completion, "usage");
	json_object_array_sort(choices, by_index);
	for (i = 0; a->form->message && i < json_object_array_length(choices); i++) {
		message = json_get(json_object_array_get_idx(choices, i), "message");
		if (!json_has(message, "role"))
			json_set_str(message, "role", "assistant");
		if (!json_has(message, "content")) /* the SDKs expect the member, empty or not */
			json_set(message, "content", NULL);
	}
	return a->completion;
}
