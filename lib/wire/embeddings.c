/* An array of numbers is one input, an array of anything else is many. */
#include "wire/embeddings.h"

#include "wire/fields.h"

#include <math.h>

/* An answer in another format ("bytes") could not be taken apart. */
static const char *const formats[] = {"float", "base64", NULL};

static const struct field embeddings_fields[] = {
	FIELD("model", STRING, LONGEST(256), REQUIRED),
	FIELD("input", STRING_OR_ARRAY, REQUIRED),
	FIELD("encoding_format", STRING, WORDS(formats)),
	FIELD("dimensions", INTEGER, RANGE(1, 1e6)),
	FIELD("user", STRING),
	FIELDS_END,
};

static bool is_one(struct json_object *input)
{
	return !field_is(input, FIELD_ARRAY) || field_is(json_object_array_get_idx(input, 0), FIELD_INTEGER);
}

int embeddings_read(struct chat *chat, struct json_object *body, struct err *err)
{
	if (fields_check(embeddings_fields, body, err) != 0 || fields_check_texts(body, "input", true, err) != 0)
		return -1;
	if (embeddings_count(body) > EMBEDDINGS_MAX)
		return field_wrong_value(
			err, "input", "%zu inputs, but at most %d are allowed", embeddings_count(body), EMBEDDINGS_MAX);
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

static bool is_finite_number(struct json_object *v)
{
	return field_is(v, FIELD_NUMBER) && isfinite(json_object_get_double(v));
}

/* Numbers, or base64. */
static bool is_vector(struct json_object *v)
{
	size_t i, n;

	if (field_is(v, FIELD_STRING))
		return json_object_get_string_len(v) > 0;
	n = field_is(v, FIELD_ARRAY) ? json_object_array_length(v) : 0;
	for (i = 0; i < n && is_finite_number(json_object_array_get_idx(v, i)); i++)
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
