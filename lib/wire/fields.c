/* One mechanism for the tables of chat, completions and embeddings. Where a value stands is spelled when it is wrong.
 */
#include "wire/fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { STRING = 1, BOOLEAN = 2, INTEGER = 4, NUMBER = 8, OBJECT = 16, ARRAY = 32, ANY = 64 };
enum { PARAM_BYTES = sizeof(((struct err *)0)->param), NAME_SHOWN_BYTES = 40 };

#define TOKEN_MAX 0x1p53 /* no vocabulary is nearly so large */

/* What a value of each kind is and, if that is an array, what its elements are. */
static const struct {
	const char *words;
	unsigned is, elements;
} kinds[] = {
	[FIELD_STRING] = {"a string", STRING, 0},
	[FIELD_BOOLEAN] = {"a boolean", BOOLEAN, 0},
	[FIELD_INTEGER] = {"an integer", INTEGER, 0},
	[FIELD_NUMBER] = {"a number", NUMBER, 0},
	[FIELD_OBJECT] = {"an object", OBJECT, 0},
	[FIELD_ARRAY] = {"an array", ARRAY, ANY},
	[FIELD_STRINGS] = {"an array of strings", ARRAY, STRING},
	[FIELD_OBJECTS] = {"an array of objects", ARRAY, OBJECT},
	[FIELD_BOOLEAN_OR_INTEGER] = {"a boolean or an integer", BOOLEAN | INTEGER, 0},
	[FIELD_SCALAR] = {"a string, a number or a boolean", STRING | NUMBER | BOOLEAN, 0},
	[FIELD_STRING_OR_OBJECT] = {"a string or an object", STRING | OBJECT, 0},
	[FIELD_STRING_OR_ARRAY] = {"a string or an array", STRING | ARRAY, ANY},
	[FIELD_STRING_OR_STRINGS] = {"a string or an array of strings", STRING | ARRAY, STRING},
	[FIELD_STRING_OR_OBJECTS] = {"a string or an array of objects", STRING | ARRAY, OBJECT},
};

/* A member of what stands at `outer`; one without a name is an element. */
struct place {
	const struct place *outer;
	const char *name;
	size_t index;
};

/* A double that is an integer, and small enough to be that one and no other. */
static bool is_whole(double d)
{
	return d >= -9007199254740992.0 && d <= 9007199254740992.0 && d == (double)(int64_t)d;
}

static unsigned types_of(struct json_object *v)
{
	switch (json_object_get_type(v)) {
	case json_type_string: return ANY | STRING;
	case json_type_boolean: return ANY | BOOLEAN;
	case json_type_int: return ANY | NUMBER | INTEGER;
	case json_type_double: /* 1.0 and 1e0 are 1 */
		return ANY | NUMBER | (is_whole(json_object_get_double(v)) ? INTEGER : 0);
	case json_type_object: return ANY | OBJECT;
	case json_type_array: return ANY | ARRAY;
	case json_type_null: break;
	}
	return ANY;
}

bool field_is(struct json_object *v, enum field_kind kind)
{
	return types_of(v) & kinds[kind].is;
}

/* ---- what is said ---- */

int field_wrong_type(struct err *err, const char *param, const char *expected, struct json_object *found)
{
	return err_set(err, ERR_INVALID_TYPE, param, "Invalid type for '%s': expected %s, but got %s instead.", param,
		expected, json_type_word(found));
}

int field_missing(struct err *err, const char *param)
{
	return err_set(err, ERR_MISSING_PARAMETER, param, "Missing required parameter: '%s'.", param);
}

int field_wrong_value(struct err *err, const char *param, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(err, ERR_INVALID_VALUE, param, "Invalid value for '%s': %s.", param, what);
}

/* Its path, as far as there is room; returns what was spelled. */
static const char *spell(const struct place *at, char param[PARAM_BYTES])
{
	size_t used = at->outer ? strlen(spell(at->outer, param)) : 0;

	if (at->name)
		snprintf(param + used, PARAM_BYTES - used, "%s%.*s", used ? "." : "", NAME_SHOWN_BYTES, at->name);
	else
		snprintf(param + used, PARAM_BYTES - used, "[%zu]", at->index);
	return param;
}

/* ---- checking ---- */

static int check_members(
	const struct field *fields, struct json_object *object, const struct place *at, struct err *err);

static int check_words(const struct field *f, const char *s, const char *param, struct err *err)
{
	struct buf list = BUF_INIT(200);
	size_t i;

	for (i = 0; f->words[i] && strcmp(f->words[i], s) != 0; i++)
		buf_printf(&list, "%s'%s'", !i ? "" : f->words[i + 1] ? ", " : " and ", f->words[i]);
	if (!f->words[i])
		field_wrong_value(err, param, "'%.64s'. Supported values are: %s", s, list.data);
	buf_release(&list);
	return f->words[i] ? 0 : -1;
}

static int check_string(const struct field *f, struct json_object *v, const struct place *at, struct err *err)
{
	const char *s = json_object_get_string(v);
	int len = json_object_get_string_len(v);
	char param[PARAM_BYTES];

	if (f->max <= 0 && !f->words)
		return 0;
	spell(at, param);
	if (strlen(s) != (size_t)len)
		return field_wrong_value(err, param, "it contains U+0000");
	if (f->max > 0 && len > (int)f->max)
		return field_wrong_value(err, param, "at most %d bytes are allowed", (int)f->max);
	return f->words ? check_words(f, s, param, err) : 0;
}

static int check_range(const struct field *f, struct json_object *v, const struct place *at, struct err *err)
{
	double d = json_object_get_double(v);
	char param[PARAM_BYTES];

	if (d >= f->min && d <= f->max)
		return 0;
	if (isinf(f->max))
		return field_wrong_value(err, spell(at, param), "expected %s of at least %.15g, but got %.15g",
			kinds[f->kind].words, f->min, d);
	return field_wrong_value(err, spell(at, param), "expected %s from %.15g to %.15g, but got %.15g",
		kinds[f->kind].words, f->min, f->max, d);
}

static int check_elements(const struct field *f, struct json_object *array, const struct place *at, struct err *err)
{
	struct place here = {.outer = at};
	char param[PARAM_BYTES];
	struct json_object *v;

	for (; here.index < json_object_array_length(array); here.index++) {
		v = json_object_array_get_idx(array, here.index);
		if (!(types_of(v) & kinds[f->kind].elements))
			return field_wrong_type(err, spell(&here, param),
				kinds[f->kind].elements == STRING ? "a string" : "an object", v);
		if (f->within && check_members(f->within, v, &here, err) != 0)
			return -1;
	}
	return 0;
}

static int check_value(const struct field *f, struct json_object *v, const struct place *at, struct err *err)
{
	char param[PARAM_BYTES];
	unsigned is = types_of(v);

	if (!(is & kinds[f->kind].is))
		return field_wrong_type(err, spell(at, param), kinds[f->kind].words, v);
	if (is & STRING) /* of others, max is a number's */
		return f->kind == FIELD_STRING ? check_string(f, v, at, err) : 0;
	if (is & NUMBER)
		return check_range(f, v, at, err);
	if (is & ARRAY)
		return check_elements(f, v, at, err);
	return is & OBJECT && f->within ? check_members(f->within, v, at, err) : 0;
}

/* Whether the line is about an object of this type. */
static bool applies(const struct field *f, const char *type)
{
	return !f->type || !type || strcmp(f->type, type) == 0;
}

static const struct field *find(const struct field *fields, const char *name, const char *type)
{
	while (fields->name && strcmp(fields->name, "*") != 0 &&
		(strcmp(fields->name, name) != 0 || !applies(fields, type)))
		fields++;
	return fields->name ? fields : NULL;
}

static bool is_missing(const struct field *f, struct json_object *object, const char *type)
{
	if (!f->required || json_get(object, f->name) || (f->type && (!type || strcmp(f->type, type) != 0)))
		return false;
	return !f->unless || !json_get(object, f->unless);
}

static int check_members(
	const struct field *fields, struct json_object *object, const struct place *at, struct err *err)
{
	const char *type = json_get_str(object, "type");
	struct place here = {.outer = at};
	char param[PARAM_BYTES];
	const struct field *f;

	for (f = fields; f->name; f++) {
		here.name = f->name;
		if (is_missing(f, object, type))
			return field_missing(err, spell(&here, param));
	}
	json_each_member (object, m) { /* an object has few members, its table may have many */
		here.name = m.name;
		f = find(fields, m.name, type);
		if (f && m.value && check_value(f, m.value, &here, err) != 0)
			return -1; /* but a null is fine: several SDKs send it for "not set" */
	}
	return 0;
}

int fields_check(const struct field *fields, struct json_object *body, struct err *err)
{
	if (!field_is(body, FIELD_OBJECT))
		return err_set(err, ERR_INVALID_TYPE, NULL, "The body must be a JSON object, but it is %s.",
			json_type_word(body));
	return check_members(fields, body, NULL, err);
}

/* ---- texts ---- */

static int check_tokens(struct json_object *tokens, const struct place *at, struct err *err)
{
	const struct field token = {.kind = FIELD_INTEGER, .max = TOKEN_MAX};
	struct place here = {.outer = at};
	char param[PARAM_BYTES];

	if (json_object_array_length(tokens) == 0)
		return err_set(err, ERR_INVALID_VALUE, spell(at, param),
			"Invalid '%s': empty array. Expected at least one token number.", param);
	for (; here.index < json_object_array_length(tokens); here.index++)
		if (check_value(&token, json_object_array_get_idx(tokens, here.index), &here, err) != 0)
			return -1;
	return 0;
}

int fields_check_texts(struct json_object *body, const char *name, bool mixed, struct err *err)
{
	struct json_object *texts = json_get_array(body, name), *v;
	struct place whole = {.name = name}, here = {.outer = &whole};
	unsigned may_be = STRING | ARRAY;
	char param[PARAM_BYTES];

	if (!texts)
		return 0;
	if (json_object_array_length(texts) == 0)
		return err_set(err, ERR_INVALID_VALUE, name,
			"Invalid '%s': empty array. Expected at least one element.", name);
	if (field_is(json_object_array_get_idx(texts, 0), FIELD_INTEGER))
		return check_tokens(texts, &whole, err);
	for (; here.index < json_object_array_length(texts); here.index++) {
		v = json_object_array_get_idx(texts, here.index);
		if (!(types_of(v) & may_be))
			return field_wrong_type(err, spell(&here, param),
				may_be == STRING  ? "a string"
				: may_be == ARRAY ? "an array of token numbers"
						  : "a string or an array of token numbers",
				v);
		if (field_is(v, FIELD_ARRAY) && check_tokens(v, &here, err) != 0)
			return -1;
		if (!mixed)
			may_be = types_of(v) & (STRING | ARRAY);
	}
	return 0;
}
