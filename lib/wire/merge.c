/*
 * Deltas are merged by their nature, not by their names, so that a field that a provider invents tomorrow survives:
 * text is appended, objects are merged, array elements that carry an index are merged by it, other elements are
 * appended.
 */
#include "wire/stream_parts.h"

#include <stdlib.h>

enum { ELEMENTS_MAX = 1024 /* that carry an index: each is looked for among the others */ };

/* Strings that are said once, or again in full, and never in pieces. */
static const char *const whole_strings[] = {"id", "type", "role", "name", "format", "status", NULL};

bool merge_is_whole(const char *name)
{
	return stream_listed(name, whole_strings);
}

static bool are_calls(const char *name)
{
	return strcmp(name, "tool_calls") == 0;
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

static void settle(const char *name, struct json_object *v);

/*
 * In JSON, a tool call's place is its index. What else has indexes keeps them, each above the one before: OpenRouter
 * streams a summary and its encrypted twin with the same one, and counts them in JSON.
 */
static void settle_elements(const char *name, struct json_object *array)
{
	struct json_object *element;
	int64_t index, before = -1;
	size_t i;

	for (i = 0; i < json_object_array_length(array); i++) {
		element = json_object_array_get_idx(array, i);
		if (json_object_get_userdata(array) && are_calls(name)) {
			json_unset(element, "index");
		} else if (json_object_get_userdata(array)) {
			index = json_get_int(element, "index", 0);
			if (index <= before)
				json_set_int(element, "index", index = before + 1);
			before = index;
		}
		settle("", element);
	}
	json_object_set_userdata(array, NULL, NULL);
}

/* Puts the grown texts into their strings and the indexes of merged arrays in order. */
static void settle(const char *name, struct json_object *v)
{
	struct buf *text;

	switch (json_object_get_type(v)) {
	case json_type_string:
		text = json_object_get_userdata(v);
		if (text) {
			json_object_set_string_len(v, text->data ? text->data : "", (int)text->len);
			json_object_set_userdata(v, NULL, NULL);
		}
		break;
	case json_type_array: settle_elements(name, v); break;
	case json_type_object:
		json_each_member (v, m)
			settle(m.name, m.value);
		break;
	default: break;
	}
}

void merge_settle(struct json_object *completion)
{
	settle("", completion);
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

static bool has_index(struct json_object *element)
{
	return json_object_is_type(json_get(element, "index"), json_type_int);
}

size_t merge_weight(struct json_object *v)
{
	size_t sum = 8, i;

	if (json_object_is_type(v, json_type_string))
		return (size_t)json_object_get_string_len(v);
	for (i = 0; json_object_is_type(v, json_type_array) && i < json_object_array_length(v); i++)
		sum += merge_weight(json_object_array_get_idx(v, i));
	json_each_member (v, m)
		sum += strlen(m.name) + merge_weight(m.value);
	return sum;
}

/*
 * An array's elements all carry an index, and are merged by it, or none does; and so it stays. False: this one is
 * neither, and cannot be put together.
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

static bool may_be_same(struct json_object *known, struct json_object *element, const char *name)
{
	const char *a = json_get_str(known, name), *b = json_get_str(element, name);

	return !a || !b || !*a || !*b || strcmp(a, b) == 0;
}

/* A call with an id of its own and a function's name: a later piece has neither, or says the id again. */
static bool begins_call(struct json_object *known, struct json_object *element)
{
	const char *name = json_get_str(json_get_object(element, "function"), "name");

	return !may_be_same(known, element, "id") && name && *name;
}

/*
 * Whether it is more of the last one of its index. Some count all calls 0 and tell them by their ids (Ollama, Gemini).
 */
static bool goes_on(struct json_object *known, struct json_object *element, bool calls)
{
	if (calls)
		return !begins_call(known, element);
	return may_be_same(known, element, "type") && may_be_same(known, element, "id");
}

/*
 * Where an element belongs: to the last one of its index if it goes on with that, or behind all others. Indexes begin
 * anywhere (some gateways count a text before the first call), but do not go back. SIZE_MAX: it cannot be put together.
 */
static size_t place_of(struct json_object *to, struct json_object *element, bool calls)
{
	size_t i, n = json_object_array_length(to);
	int64_t index = json_get_int(element, "index", -1), its = -1;
	struct json_object *known = NULL;

	for (i = n; i > 0; i--) {
		known = json_object_array_get_idx(to, i - 1);
		its = json_get_int(known, "index", -1);
		if (its <= index)
			break;
	}
	if (i > 0 && its == index && goes_on(known, element, calls))
		return i - 1;
	if (i < n || index < 0 || index > INT32_MAX || n >= ELEMENTS_MAX)
		return SIZE_MAX;
	json_object_array_add(to, json_object_new_object());
	return n;
}

static void merge_elements(
	struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape, bool calls)
{
	struct json_object *element;
	int64_t index;
	size_t i, at;

	buf_addc(shape, '[');
	for (i = 0; i < json_object_array_length(from); i++) {
		element = json_object_array_get_idx(from, i);
		at = place_of(to, element, calls);
		if (at == SIZE_MAX) {
			a->lost = true;
			return;
		}
		index = json_get_int(element, "index", -1);
		buf_printf(shape, "%s[%zu,", i ? "," : "", at);
		merge_object(a, json_object_array_get_idx(to, at), element, shape);
		if (index != (int64_t)at)
			buf_printf(shape, ",%lld", (long long)index);
		buf_addc(shape, ']');
	}
	buf_addc(shape, ']');
}

static void merge_array(
	struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape, bool calls)
{
	size_t i, n = json_object_array_length(from);
	bool by_index;

	if (!array_kind(to, from, &by_index)) {
		a->lost = true;
		return;
	}
	if (by_index) {
		merge_elements(a, to, from, shape, calls);
		return;
	}
	a->bytes += merge_weight(from);
	a->lost |= a->bytes > a->max_bytes;
	for (i = 0; i < n; i++)
		json_object_array_add(to, json_object_get(json_object_array_get_idx(from, i)));
	buf_printf(shape, "%zu", n);
}

/* Anything else could not be played back as it came. */
void merge_whole(struct assembly *a, struct json_object *to, const char *name, struct json_object *v, struct buf *shape)
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
	if (merge_is_whole(name) && json_object_get_string_len(v) == 0 && json_object_is_type(old, json_type_string)) {
		buf_addc(shape, '0'); /* said before, and not again: Qwen sends empty ids with later pieces */
		return;
	}
	if (merge_is_whole(name) || (a->beside_delta && strcmp(name, "text") != 0)) {
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

void merge_member(
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
			merge_array(a, old, v, shape, are_calls(name));
		break;
	default: merge_whole(a, to, name, v, shape); break;
	}
}

void merge_object(struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape)
{
	bool first = true;

	buf_addc(shape, '{');
	json_each_member (from, m) {
		shape_name(shape, m.name, &first);
		merge_member(a, to, m.name, m.value, shape);
	}
	buf_addc(shape, '}');
}
