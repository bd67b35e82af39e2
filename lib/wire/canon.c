/* The wrappers are a table: an object that is not named here is printed as it came. */
#include "wire/canon.h"

#include <stdlib.h>
#include <string.h>

/* Cannot change the answer, so they are not hashed; `model` is hashed in its resolved form instead, by the caller. */
static const char *const excluded[] = {"model", "stream", "stream_options", "user", "metadata", "safety_identifier"};

enum wrapper { OPAQUE, REQUEST, MESSAGE, PART, PART_BODY, TOOL_CALL, TOOL, FUNCTION, FORMAT, FORMAT_SCHEMA, CHOICE };

/* In an object of kind `in`, the member `name` (or each element of it, if it is an array) is of kind `is`. */
static const struct {
	enum wrapper in;
	const char *name;
	enum wrapper is;
} members[] = {
	{REQUEST, "messages", MESSAGE},
	{REQUEST, "tools", TOOL},
	{REQUEST, "tool_choice", CHOICE},
	{REQUEST, "response_format", FORMAT},
	{MESSAGE, "content", PART},
	{MESSAGE, "tool_calls", TOOL_CALL},
	{MESSAGE, "function_call", FUNCTION},
	{PART, "image_url", PART_BODY},
	{PART, "input_audio", PART_BODY},
	{PART, "file", PART_BODY},
	{TOOL_CALL, "function", FUNCTION},
	{TOOL, "function", FUNCTION},
	{CHOICE, "function", FUNCTION},
	{FORMAT, "json_schema", FORMAT_SCHEMA},
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct json_member *)a)->name, ((const struct json_member *)b)->name);
}

static enum wrapper member_kind(enum wrapper in, const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (members[i].in == in && strcmp(members[i].name, name) == 0)
			return members[i].is;
	return OPAQUE;
}

static bool is_excluded(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(excluded) / sizeof(excluded[0]); i++)
		if (strcmp(excluded[i], name) == 0)
			return true;
	return false;
}

static void print(struct buf *out, struct json_object *v, enum wrapper kind);

static void print_array(struct buf *out, struct json_object *array, enum wrapper kind)
{
	size_t i, n = json_object_array_length(array);

	buf_addc(out, '[');
	for (i = 0; i < n; i++) {
		if (i)
			buf_addc(out, ',');
		print(out, json_object_array_get_idx(array, i), kind);
	}
	buf_addc(out, ']');
}

static void print_sorted(struct buf *out, struct json_object *object, enum wrapper kind)
{
	int n = json_object_object_length(object), count = 0, i;
	struct json_member *list = calloc(n > 0 ? (size_t)n : 1, sizeof(*list));

	if (!list)
		die("out of memory");
	json_each_member (object, m)
		if (kind != REQUEST || !is_excluded(m.name))
			list[count++] = m;
	qsort(list, (size_t)count, sizeof(*list), by_name);
	buf_addc(out, '{');
	for (i = 0; i < count; i++) {
		if (i)
			buf_addc(out, ',');
		json_print_string(out, list[i].name, strlen(list[i].name));
		buf_addc(out, ':');
		print(out, list[i].value, member_kind(kind, list[i].name));
	}
	buf_addc(out, '}');
	free(list);
}

static void print(struct buf *out, struct json_object *v, enum wrapper kind)
{
	if (kind != OPAQUE && json_object_is_type(v, json_type_object))
		print_sorted(out, v, kind);
	else if (kind != OPAQUE && json_object_is_type(v, json_type_array))
		print_array(out, v, kind);
	else
		json_print(out, v);
}

void canon_hashed(struct buf *out, struct json_object *body)
{
	print(out, body, REQUEST);
}

static void cap_output(struct json_object *body, const struct canon_edits *edits)
{
	static const char *const names[] = {"max_completion_tokens", "max_tokens"};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], edits->cap_field) != 0) /* OpenAI refuses both together */
			json_unset(body, names[i]);
	json_set_int(body, edits->cap_field, edits->cap);
}

void canon_sent(struct buf *out, struct json_object *body, const struct canon_edits *edits)
{
	struct json_object *options;

	json_set_str(body, "model", edits->model);
	if (edits->no_stream_options)
		json_unset(body, "stream_options");
	if (edits->include_usage) {
		options = json_get_object(body, "stream_options");
		if (!options)
			json_set(body, "stream_options", options = json_object_new_object());
		json_set_bool(options, "include_usage", true);
	}
	if (edits->cap)
		cap_output(body, edits);
	json_print(out, body);
}
