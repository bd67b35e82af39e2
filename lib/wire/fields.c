/* One mechanism for the tables of chat, completions and embeddings. Where a value stands is only spelled when it is
 * wrong. */
#include "wire/fields.h"

#include <stdio.h>
#include <string.h>

enum { STRING = 1, BOOLEAN = 2, INTEGER = 4, NUMBER = 8, OBJECT = 16, ARRAY = 32, ANY = 64 };

/* What a value of each kind is, and what each element is if it is an array. */
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
	[FIELD_STRINGS] = {"an array", ARRAY, STRING},
	[FIELD_OBJECTS] = {"an array", ARRAY, OBJECT},
	[FIELD_STRING_OR_OBJECT] = {"a string or an object", STRING | OBJECT, 0},
	[FIELD_STRING_OR_ARRAY] = {"a string or an array", STRING | ARRAY, ANY},
	[FIELD_STRING_OR_STRINGS] = {"a string or an array of strings", STRING | ARRAY, STRING},
	[FIELD_STRING_OR_OBJECTS] = {"a string or an array of objects", STRING | ARRAY, OBJECT},
};

/* A member of what stands at `outer`, or an element if it has no name. */
struct place {
	const struct place *outer;
	const char *name;
	size_t index;
};

enum { TOKEN_MAX_BITS = 53, NAME_SHOWN_BYTES = 40 };

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

static void spell(struct buf *out, const struct place *at)
{
	if (at->outer)
		spell(out, at->outer);
	if (at->name)
		buf_printf(out, "%s%.*s", at->outer ? "." : "", at->outer ? NAME_SHOWN_BYTES : INT32_MAX, at->name);
	else
		buf_printf(out, "[%zu]", at->index);
}

/* The path of a place, as far as there is room for it. */
static const char *path_of(const struct place *at, struct err *err, struct buf *path)
{
	*path = BUF_INIT(sizeof(err->param) - 1);
	spell(path, at);
	return path->data ? path->data : "";
}

static int wrong_type(struct err *err, const struct place *at, const char *expected, struct json_object *found)
{
	struct buf path;
	int result = field_wrong_type(err, path_of(at, err, &path), expected, found);

	buf_release(&path);
	return result;
}

static int missing(struct err *err, const struct place *at)
{
	struct buf path;
	int result = field_missing(err, path_of(at, err, &path));

	buf_release(&path);
	return result;
}

static int wrong_value(struct err *err, const struct place *at, const char *what)
{
	struct buf path;

	path_of(at, err, &path);
	err_set(err, ERR_INVALID_VALUE, path.data, "Invalid value for '%s': %s.", path.data, what);
	buf_release(&path);
	return -1;
}

int field_wrong_type(struct err *err, const char *param, const char *expected, struct json_object *found)
{
	return err_set(err, ERR_INVALID_TYPE, param, "Invalid type for '%s': expected %s, but got %s instead.", param,
		expected, json_type_word(found));
}

int field_missing(struct err *err, const char *param)
{
	return err_set(err, ERR_MISSING_PARAMETER, param, "Missing required parameter: '%s'.", param);
}
