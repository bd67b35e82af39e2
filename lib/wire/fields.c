/* One mechanism for the tables of chat, completions and embeddings. */
#include "wire/fields.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_words[] = {"a string", "a boolean", "an integer", "a number", "an object", "an array",
	"a string or an object", "a string or an array of strings"};

/* A double that is an integer, and small enough to be that one and no other. */
static bool is_whole(struct json_object *v)
{
	double d = json_object_is_type(v, json_type_double) ? json_object_get_double(v) : 0.5;

	return d >= -9007199254740992.0 && d <= 9007199254740992.0 && d == (double)(int64_t)d;
}

bool field_is(struct json_object *v, enum field_kind kind)
{
	switch (kind) {
	case FIELD_STRING: return json_object_is_type(v, json_type_string);
	case FIELD_BOOLEAN: return json_object_is_type(v, json_type_boolean);
	case FIELD_INTEGER: return json_object_is_type(v, json_type_int) || is_whole(v); /* 1.0 and 1e0 are 1 */
	case FIELD_NUMBER: return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
	case FIELD_OBJECT: return json_object_is_type(v, json_type_object);
	case FIELD_ARRAY: return json_object_is_type(v, json_type_array);
	case FIELD_STRING_OR_OBJECT: return field_is(v, FIELD_STRING) || field_is(v, FIELD_OBJECT);
	case FIELD_STRING_OR_ARRAY: return field_is(v, FIELD_STRING) || field_is(v, FIELD_ARRAY);
	}
	return false;
}

int field_wrong_type(struct err *err, const char *param, const char *expected, struct json_object *found)
{
	return err_set(err, ERR_INVALID_TYPE, param, "Invalid type for '%s': expected %s, but got %s instead.", param,
		expected, json_type_word(found));
}

int field_wrong_kind(struct err *err, const char *param, enum field_kind expected, struct json_object *found)
{
	return field_wrong_type(err, param, kind_words[expected], found);
}

int field_missing(struct err *err, const char *param)
{
	return err_set(err, ERR_MISSING_PARAMETER, param, "Missing required parameter: '%s'.", param);
}

static int check_field(const struct field *f, struct json_object *v, struct err *err)
{
	double d;

	if (!field_is(v, f->kind))
		return field_wrong_type(err, f->name, kind_words[f->kind], v);
	if (f->kind == FIELD_INTEGER || f->kind == FIELD_NUMBER) {
		d = json_object_get_double(v);
		if (d < f->min || d > f->max)
			return err_set(err, ERR_INVALID_VALUE, f->name,
				"Invalid value for '%s': expected %s from %.15g to %.15g, but got %.15g.", f->name,
				kind_words[f->kind], f->min, f->max, d);
	}
	if (f->kind == FIELD_STRING && f->max > 0 &&
		strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v))
		return err_set(err, ERR_INVALID_VALUE, f->name, "Invalid value for '%s': it contains U+0000.", f->name);
	if (f->kind == FIELD_STRING && f->max > 0 && json_object_get_string_len(v) > (int)f->max)
		return err_set(err, ERR_INVALID_VALUE, f->name, "Invalid value for '%s': at most %d bytes are allowed.",
			f->name, (int)f->max);
	return 0;
}

int fields_check(const struct field *fields, size_t count, struct json_object *body, struct err *err)
{
	size_t i;

	if (!field_is(body, FIELD_OBJECT))
		return err_set(err, ERR_INVALID_TYPE, NULL, "The body must be a JSON object, but it is %s.",
			json_type_word(body));
	if (!json_get(body, "model"))
		return field_missing(err, "model");
	json_each_member (body, m) { /* a body has few members, the table has many */
		for (i = 0; i < count && strcmp(fields[i].name, m.name) != 0; i++)
			;
		if (i < count && m.value && check_field(&fields[i], m.value, err) != 0)
			return -1; /* but a null is fine: several SDKs send it for "not set" */
	}
	return 0;
}

int fields_check_elements(struct json_object *body, const char *name, enum field_kind kind, struct err *err)
{
	struct json_object *array = json_get_array(body, name), *v;
	char param[FIELD_PATH];
	size_t i;

	for (i = 0; array && i < json_object_array_length(array); i++) {
		v = json_object_array_get_idx(array, i);
		snprintf(param, sizeof(param), "%s[%zu]", name, i);
		if (!field_is(v, kind))
			return field_wrong_kind(err, param, kind, v);
	}
	return 0;
}
