/* An array of numbers is one input, an array of anything else is many. */
#include "wire/embeddings.h"

#include "wire/fields.h"

#include <stdio.h>

static const struct field embeddings_fields[] = {
	{"model", FIELD_STRING, 0, 256},
	{"input", FIELD_STRING_OR_ARRAY, 0, 0},
	{"encoding_format", FIELD_STRING, 0, 0},
	{"dimensions", FIELD_INTEGER, 1, 1e6},
	{"user", FIELD_STRING, 0, 0},
};

static bool is_one(struct json_object *input)
{
	return !field_is(input, FIELD_ARRAY) || field_is(json_object_array_get_idx(input, 0), FIELD_INTEGER);
}

static int check_tokens(struct json_object *tokens, const char *at, struct err *err)
{
	char param[2 * FIELD_PATH];
	size_t i, n = json_object_array_length(tokens);

	if (n == 0)
		return err_set(err, ERR_INVALID_VALUE, at,
			"Invalid '%s': empty array. Expected at least one token number.", at);
	for (i = 0; i < n; i++)
		if (!field_is(json_object_array_get_idx(tokens, i), FIELD_INTEGER)) {
			snprintf(param, sizeof(param), "%s[%zu]", at, i);
			return field_wrong_kind(err, param, FIELD_INTEGER, json_object_array_get_idx(tokens, i));
		}
	return 0;
}

static int check_input(struct json_object *body, struct err *err)
{
	struct json_object *input = json_get(body, "input"), *v;
	char param[FIELD_PATH];
	size_t i, n;

	if (!input)
		return field_missing(err, "input");
	if (!field_is(input, FIELD_ARRAY))
		return 0;
	n = json_object_array_length(input);
	if (n == 0)
		return err_set(
			err, ERR_INVALID_VALUE, "input", "Invalid 'input': empty array. Expected at least one input.");
	if (is_one(input))
		return fields_check_elements(body, "input", FIELD_INTEGER, err);
	if (n > EMBEDDINGS_MAX)
		return err_set(err, ERR_INVALID_VALUE, "input",
			"Invalid 'input': %zu inputs, but at most %d are allowed.", n, EMBEDDINGS_MAX);
	for (i = 0; i < n; i++) {
		v = json_object_array_get_idx(input, i);
		snprintf(param, sizeof(param), "input[%zu]", i);
		if (!field_is(v, FIELD_STRING) && !field_is(v, FIELD_ARRAY))
			return field_wrong_type(err, param, "a string or an array of token numbers", v);
		if (field_is(v, FIELD_ARRAY) && check_tokens(v, param, err) != 0)
			return -1;
	}
	return 0;
}

int embeddings_read(struct chat *chat, struct json_object *body, struct err *err)
{
	if (fields_check(embeddings_fields, sizeof(embeddings_fields) / sizeof(embeddings_fields[0]), body, err) != 0 ||
		check_input(body, err) != 0)
		return -1;
	*chat = (struct chat){.body = body, .model = json_get_str(body, "model"), .user = json_get_str(body, "user")};
	return 0;
}

size_t embeddings_count(struct json_object *body)
{
	struct json_object *input = json_get(body, "input");

	return is_one(input) ? 1 : json_object_array_length(input);
}

struct json_object *embeddings_input(struct json_object *body, size_t i)
{
	struct json_object *input = json_get(body, "input");

	return is_one(input) ? input : json_object_array_get_idx(input, i);
}

void embeddings_keep(struct json_object *body, const bool *wanted)
{
	struct json_object *input = json_get(body, "input"), *kept;
	size_t i;

	if (is_one(input))
		return;
	kept = json_object_new_array();
	for (i = 0; i < json_object_array_length(input); i++)
		if (wanted[i])
			json_object_array_add(kept, json_object_get(json_object_array_get_idx(input, i)));
	json_set(body, "input", kept);
}

/* Numbers, or base64. */
static bool is_vector(struct json_object *v)
{
	size_t i, n;

	if (field_is(v, FIELD_STRING))
		return json_object_get_string_len(v) > 0;
	n = field_is(v, FIELD_ARRAY) ? json_object_array_length(v) : 0;
	for (i = 0; i < n && field_is(json_object_array_get_idx(v, i), FIELD_NUMBER); i++)
		;
	return n > 0 && i == n;
}

struct json_object *embeddings_of(struct json_object *answer, size_t i, size_t count)
{
	struct json_object *data = json_get_array(answer, "data"), *item;
	size_t at;

	if (!data || json_object_array_length(data) != count)
		return NULL;
	item = json_object_array_get_idx(data, i); /* where it stands, unless its index says otherwise */
	for (at = 0; at < count && json_get_int(item, "index", (int64_t)i) != (int64_t)i; at++)
		item = json_object_array_get_idx(data, at);
	if (json_get_int(item, "index", (int64_t)i) != (int64_t)i)
		return NULL;
	return is_vector(json_get(item, "embedding")) ? item : NULL;
}
