/*
 * Deltas are merged by their nature, not by their names, so that a field that a provider invents tomorrow survives:
 * text is appended, objects are merged, array elements that carry an index are merged by it, other elements are
 * appended.
 */
#include "wire/stream.h"

#include <stdlib.h>
#include <string.h>

enum { CHOICES_MAX = 128 /* OpenAI's bound for n */ };

/* Strings that are said once, or again in full, and never in pieces. */
static const char *const whole_strings[] = {"id", "type", "role", "name", "format", "status"};

/* In a chunk, but not of the answer: OpenAI's padding against side channels. */
static const char *const stream_only[] = {"obfuscation"};

/* Of a choice in a chunk, what is not merged beside the delta; `message` is some providers' sum of the deltas so far.
 */
static const char *const choice_apart[] = {"index", "delta", "message"};

static bool listed(const char *name, const char *const *list, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

#define LISTED(name, list) listed(name, list, sizeof(list) / sizeof((list)[0]))

const struct stream_form stream_chat = {"chat.completion", "chat.completion.chunk", true};
const struct stream_form stream_text = {"text_completion", "text_completion", false};

void assembly_init(struct assembly *a, const struct stream_form *form, size_t max_bytes)
{
	*a = (struct assembly){.form = form,
		.completion = json_object_new_object(),
		.script = BUF_INIT(max_bytes),
		.run_choice = -1,
		.max_bytes = max_bytes};
	json_set(a->completion, "choices", json_object_new_array());
	buf_addc(&a->script, '[');
}

void assembly_release(struct assembly *a)
{
	json_object_put(a->completion);
	a->completion = NULL;
	buf_release(&a->script);
}

/* ---- growing strings: json-c copies a string at every change, so the text grows beside it until the end ---- */

static void free_text(struct json_object *string, void *text)
{
	(void)string;
	buf_release(text);
	free(text);
}

static void append_text(struct assembly *a, struct json_object *string, struct json_object *more)
{
	struct buf *text = json_object_get_userdata(string);

	if (!text) {
		text = malloc(sizeof(*text));
		if (!text)
			die("out of memory");
		*text = BUF_INIT(a->max_bytes);
		json_object_set_userdata(string, text, free_text);
		buf_add(text, json_object_get_string(string), (size_t)json_object_get_string_len(string));
	}
	buf_add(text, json_object_get_string(more), (size_t)json_object_get_string_len(more));
	a->lost |= text->overflow;
}

/* Puts the grown texts into their strings and takes the indexes out of merged arrays. */
static void settle(struct json_object *v)
{
	struct json_object *element;
	struct buf *text;
	size_t i;

	switch (json_object_get_type(v)) {
	case json_type_string:
		text = json_object_get_userdata(v);
		if (text) {
			json_object_set_string_len(v, text->data ? text->data : "", (int)text->len);
			json_object_set_userdata(v, NULL, NULL);
		}
		break;
	case json_type_array:
		for (i = 0; i < json_object_array_length(v); i++) {
			element = json_object_array_get_idx(v, i);
			if (json_object_get_userdata(v)) /* merged by index */
				json_unset(element, "index");
			settle(element);
		}
		json_object_set_userdata(v, NULL, NULL);
		break;
	case json_type_object:
		json_each_member (v, m)
			settle(m.value);
		break;
	default: break;
	}
}

/* ---- merging, and noting the shape of what was merged ---- */

static void shape_name(struct buf *shape, const char *name, bool *first)
{
	if (!*first)
		buf_addc(shape, ',');
	*first = false;
	json_print_string(shape, name, strlen(name));
	buf_addc(shape, ':');
}

static void merge_object(struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape);

static bool has_index(struct json_object *element)
{
	return json_object_is_type(json_get(element, "index"), json_type_int);
}

/* About how much a value adds to the completion, in bytes. */
static size_t weight(struct json_object *v)
{
	size_t sum = 8, i;

	if (json_object_is_type(v, json_type_string))
		return (size_t)json_object_get_string_len(v);
	for (i = 0; json_object_is_type(v, json_type_array) && i < json_object_array_length(v); i++)
		sum += weight(json_object_array_get_idx(v, i));
	json_each_member (v, m)
		sum += strlen(m.name) + weight(m.value);
	return sum;
}

/*
 * Array elements that carry an index are merged by it; it must be their position, as everybody counts them. An array is
 * of that kind or plain, and stays so. False: this one is neither, and cannot be put together.
 */
static bool array_kind(struct json_object *to, struct json_object *from, bool *by_index)
{
	static char mark; /* its address, as userdata, marks arrays that are merged by index */
	size_t i, n = json_object_array_length(from), known = json_object_array_length(to);

	*by_index = n > 0 && has_index(json_object_array_get_idx(from, 0));
	for (i = 0; i < n; i++)
		if (has_index(json_object_array_get_idx(from, i)) != *by_index)
			return false;
	if (n && known && (json_object_get_userdata(to) != NULL) != *by_index)
		return false;
	if (*by_index)
		json_object_set_userdata(to, &mark, NULL);
	return true;
}

static void merge_array(struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape)
{
	size_t i, n = json_object_array_length(from);
	struct json_object *element;
	bool by_index;
	int64_t at;

	if (!array_kind(to, from, &by_index)) {
		a->lost = true;
		return;
	}
	if (!by_index) {
		for (i = 0; i < n; i++) {
			element = json_object_array_get_idx(from, i);
			a->bytes += weight(element);
			json_object_array_add(to, json_object_get(element));
		}
		a->lost |= a->bytes > a->max_bytes;
		buf_printf(shape, "%zu", n);
		return;
	}
	buf_addc(shape, '[');
	for (i = 0; i < n; i++) {
		element = json_object_array_get_idx(from, i);
		at = json_get_int(element, "index", -1);
		if (at < 0 || at > (int64_t)json_object_array_length(to)) {
			a->lost = true;
			return;
		}
		if (at == (int64_t)json_object_array_length(to))
			json_object_array_add(to, json_object_new_object());
		buf_printf(shape, "%s[%lld,", i ? "," : "", (long long)at);
		merge_object(a, json_object_array_get_idx(to, (size_t)at), element, shape);
		buf_addc(shape, ']');
	}
	buf_addc(shape, ']');
}

/* What is said once, or again the same. Anything else could not be played back as it came. */
static void merge_whole(
	struct assembly *a, struct json_object *to, const char *name, struct json_object *v, struct buf *shape)
{
	struct json_object *old = json_get(to, name);

	if (!old)
		json_set(to, name, json_object_get(v));
	else if (!json_object_equal(old, v))
		a->lost = true;
	buf_adds(shape, "true");
}

static void merge_string(
	struct assembly *a, struct json_object *to, const char *name, struct json_object *v, struct buf *shape)
{
	struct json_object *old = json_get(to, name);

	a->bytes += (size_t)json_object_get_string_len(v);
	a->lost |= a->bytes > a->max_bytes;
	if (LISTED(name, whole_strings) && json_object_get_string_len(v) == 0 &&
		json_object_is_type(old, json_type_string)) {
		buf_addc(shape, '0'); /* said before, and not again: Qwen sends empty ids with later pieces */
		return;
	}
	if (LISTED(name, whole_strings) || (a->beside_delta && strcmp(name, "text") != 0)) {
		merge_whole(a, to, name, v, shape);
		return;
	}
	if (json_object_is_type(old, json_type_string))
		append_text(a, old, v);
	else if (!old)
		json_set(
			to, name, json_object_new_string_len(json_object_get_string(v), json_object_get_string_len(v)));
	else
		a->lost = true;
	buf_printf(shape, "%d", json_object_get_string_len(v));
}

static void merge_member(
	struct assembly *a, struct json_object *to, const char *name, struct json_object *v, struct buf *shape)
{
	struct json_object *old = json_get(to, name);

	switch (json_object_get_type(v)) {
	case json_type_null:
		if (!json_has(to, name))
			json_set(to, name, NULL);
		buf_adds(shape, "null");
		break;
	case json_type_string: merge_string(a, to, name, v, shape); break;
	case json_type_object:
		if (!old)
			json_set(to, name, old = json_object_new_object());
		if (!json_object_is_type(old, json_type_object))
			a->lost = true;
		else
			merge_object(a, old, v, shape);
		break;
	case json_type_array:
		if (!old)
			json_set(to, name, old = json_object_new_array());
		if (!json_object_is_type(old, json_type_array))
			a->lost = true;
		else
			merge_array(a, old, v, shape);
		break;
	default: merge_whole(a, to, name, v, shape); break;
	}
}

static void merge_object(struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape)
{
	bool first = true;

	buf_addc(shape, '{');
	json_each_member (from, m) {
		shape_name(shape, m.name, &first);
		merge_member(a, to, m.name, m.value, shape);
	}
	buf_addc(shape, '}');
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

/* A delta of nothing but some text of one string joins a run: two bytes in the script instead of thirty. */
static bool joins_run(struct json_object *choice, const char **name)
{
	struct json_object *text = only_member(json_get(choice, "delta"), name);

	if (!json_object_is_type(text, json_type_string) || LISTED(*name, whole_strings) ||
		strlen(*name) >= sizeof(((struct assembly *)0)->run_path) ||
		(*name)[strspn(*name, "abcdefghijklmnopqrstuvwxyz_")])
		return false;
	json_each_member (choice, m)
		if (!LISTED(m.name, choice_apart) && m.value)
			return false;
	return true;
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

/* ---- chunks ---- */

static struct json_object *choice_at(struct assembly *a, int64_t index)
{
	struct json_object *list = json_get_array(a->completion, "choices"), *choice;
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++) {
		choice = json_object_array_get_idx(list, i);
		if (json_get_int(choice, "index", -1) == index)
			return choice;
	}
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
	json_object_array_add(list, choice);
	a->choices++;
	return choice;
}

static bool finished(struct json_object *choice)
{
	const char *reason = json_get_str(choice, "finish_reason");

	return reason && *reason;
}

/* Everything of a choice but its delta: finish_reason, logprobs, and what else a provider says there. */
static void add_choice_rest(struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape)
{
	bool first = true, ended = finished(to);

	a->beside_delta = true; /* text comes in the delta; here, things are said again and again */
	json_each_member (from, m) {
		if (LISTED(m.name, choice_apart) || (!m.value && json_has(to, m.name)))
			continue;
		if (strcmp(m.name, "finish_reason") == 0 && json_object_is_type(m.value, json_type_string) &&
			json_object_get_string_len(m.value) == 0)
			continue; /* as good as null */
		shape_name(shape, m.name, &first);
		if (strcmp(m.name, "finish_reason") == 0)
			merge_whole(a, to, m.name, m.value, shape);
		else
			merge_member(a, to, m.name, m.value, shape);
	}
	a->beside_delta = false;
	if (!ended && finished(to))
		a->finished++;
}

/* alone: it is the only one of its chunk; more: another one of the same chunk follows. */
static void add_choice(struct assembly *a, struct json_object *choice, bool alone, bool more)
{
	int64_t index = json_get_int(choice, "index", 0);
	struct json_object *to = choice_at(a, index), *delta = json_get_object(choice, "delta");
	struct buf ignored = BUF_INIT(256), *shape = &a->script;
	const char *name;

	if (json_has(choice, "delta") && !delta)
		a->lost = true; /* not what a chunk is */
	if (!to || a->lost)
		return;
	if (alone && a->form->message && joins_run(choice, &name)) {
		note_run(a, (int)index, name, (size_t)json_object_get_string_len(json_get(delta, name)));
		merge_object(a, json_get(to, "message"), delta, &ignored);
		buf_release(&ignored);
		return;
	}
	end_run(a);
	next_step(a);
	buf_printf(shape, "{\"c\":%d,%s\"d\":", (int)index, more ? "\"m\":1," : "");
	if (a->form->message && delta)
		merge_object(a, json_get(to, "message"), delta, shape);
	else
		buf_adds(shape, "{}");
	buf_adds(shape, ",\"r\":{");
	add_choice_rest(a, to, choice, shape);
	buf_adds(shape, "}}");
}

void assembly_add(struct assembly *a, struct json_object *chunk)
{
	struct json_object *choices = json_get_array(chunk, "choices");
	size_t i, n;

	if (a->lost)
		return;
	json_each_member (chunk, m) {
		if (strcmp(m.name, "choices") == 0 || LISTED(m.name, stream_only) ||
			(!m.value && json_has(a->completion, m.name)))
			continue;
		json_set(a->completion, m.name, json_object_get(m.value));
	}
	n = choices ? json_object_array_length(choices) : 0;
	for (i = 0; i < n; i++)
		add_choice(a, json_object_array_get_idx(choices, i), n == 1, i + 1 < n);
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

	end_run(a);
	buf_addc(&a->script, ']');
	if (a->lost || a->script.overflow || a->choices == 0 || a->finished < a->choices)
		return NULL;
	settle(a->completion);
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
