/* A structured answer has to fit its schema, or every SDK that parses it would call the demo broken. */
#include "demo_schema.h"

#include "base/json.h"
#include "demo_pattern.h"

#include <json-c/linkhash.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How deep and how large an example may get; a schema may refer to itself, and DEEP is where it should stop to. */
enum { DEEP = 6, MAX_DEPTH = 32, MAX_VALUES = 4096, MAX_ELEMENTS = 64, MAX_STRING = 4096 };

struct maker {
	struct json_object *root;
	bool only_required;
	int values;
};

static struct json_object *make(struct maker *m, struct json_object *schema, int depth);

/* One step of a JSON pointer (RFC 6901), of which nothing but ~0 and ~1 needs undoing. */
static struct json_object *step(struct json_object *at, const char *name, size_t len)
{
	char key[256];
	size_t i, n = 0;

	for (i = 0; i < len && n + 1 < sizeof(key); i++, n++) {
		key[n] = name[i];
		if (name[i] == '~' && i + 1 < len && (name[i + 1] == '0' || name[i + 1] == '1'))
			key[n] = name[++i] == '0' ? '~' : '/';
	}
	key[n] = '\0';
	if (json_object_is_type(at, json_type_array))
		return json_object_array_get_idx(at, strtoul(key, NULL, 10));
	return json_get(at, key);
}

/* "#/$defs/Name" → that schema; NULL where there is none. */
static struct json_object *resolve(struct maker *m, const char *ref)
{
	struct json_object *at = m->root;
	size_t len;

	if (*ref++ != '#')
		return NULL;
	while (at && *ref == '/') {
		ref++;
		len = strcspn(ref, "/");
		at = step(at, ref, len);
		ref += len;
	}
	return at;
}

static double number(struct json_object *schema, const char *name, double fallback)
{
	struct json_object *v = json_get(schema, name);

	if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
		return fallback;
	return json_object_get_double(v);
}

/* 1 where that fits, else the middle of the bounds or the first whole number inside them. */
static struct json_object *make_number(struct json_object *schema, bool integer)
{
	double above = number(schema, "exclusiveMinimum", -INFINITY),
	       below = number(schema, "exclusiveMaximum", INFINITY);
	double least = number(schema, "minimum", -INFINITY), most = number(schema, "maximum", INFINITY);
	double unit = number(schema, "multipleOf", 0), v = 1;

	if (integer) {
		v = fmin(v, fmin(floor(most), ceil(below) - 1));
		v = fmax(v, fmax(ceil(least), floor(above) + 1));
	} else {
		least = fmax(least, above);
		most = fmin(most, below);
		if (v <= least || v >= most)
			v = isinf(least) ? most - 1 : isinf(most) ? least + 1 : (least + most) / 2;
	}
	if (unit > 0)
		v = ceil(v / unit) * unit <= most ? ceil(v / unit) * unit : floor(v / unit) * unit;
	if (v == floor(v) && fabs(v) < 9e15)
		return json_object_new_int64((int64_t)v);
	return json_object_new_double(v);
}

/* NULL: none is known. */
static struct json_object *make_matching(const char *pattern, int64_t least, int64_t most)
{
	struct buf text = BUF_INIT(MAX_STRING);
	struct json_object *found = NULL;
	size_t before = SIZE_MAX;
	int more;

	for (more = 0; !found; more++) {
		buf_reset(&text);
		if (!pattern_example(&text, pattern, more) || text.len == before || (int64_t)text.len > most)
			break;
		before = text.len;
		if ((int64_t)text.len >= least)
			found = json_object_new_string_len(text.data ? text.data : "", (int)text.len);
	}
	buf_release(&text);
	return found;
}

static struct json_object *make_string(struct json_object *schema)
{
	static const struct {
		const char *format, *text;
	} formats[] = {
		{"date-time", "2026-01-01T12:00:00Z"},
		{"date", "2026-01-01"},
		{"time", "12:00:00Z"},
		{"duration", "P1D"},
		{"email", "someone@example.com"},
		{"hostname", "example.com"},
		{"ipv4", "192.0.2.1"},
		{"ipv6", "2001:db8::1"},
		{"uri", "https://example.com/"},
		{"uuid", "00000000-0000-4000-8000-000000000000"},
	};
	const char *format = json_get_str(schema, "format"), *pattern = json_get_str(schema, "pattern");
	int64_t least = json_get_int(schema, "minLength", 0), most = json_get_int(schema, "maxLength", MAX_STRING);
	struct json_object *matching = pattern ? make_matching(pattern, least, most) : NULL;
	char text[MAX_STRING + 1] = "example";
	int64_t len;
	size_t i;

	if (matching)
		return matching;
	for (i = 0; format && i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (strcmp(format, formats[i].format) == 0)
			return json_object_new_string(formats[i].text);
	}
	for (len = (int64_t)strlen(text); len < least && len < MAX_STRING; len++)
		text[len] = '.';
	if (most >= 0 && most < len)
		text[most] = '\0';
	return json_object_new_string(text);
}

static struct json_object *make_array(struct maker *m, struct json_object *schema, int depth)
{
	struct json_object *array = json_object_new_array(), *items = json_get(schema, "items");
	struct json_object *first = json_get_array(schema, "prefixItems");
	int64_t fixed = first ? (int64_t)json_object_array_length(first) : 0;
	int64_t least = json_get_int(schema, "minItems", 0), most = json_get_int(schema, "maxItems", MAX_ELEMENTS);
	int64_t count = depth < DEEP ? 1 : 0, i;

	if (count < least)
		count = least;
	if (count < fixed)
		count = fixed;
	if (count > most)
		count = most;
	for (i = 0; i < count && i < MAX_ELEMENTS; i++)
		json_object_array_add(
			array, make(m, i < fixed ? json_object_array_get_idx(first, (size_t)i) : items, depth + 1));
	return array;
}

static bool is_required(struct json_object *schema, const char *name)
{
	struct json_object *required = json_get_array(schema, "required"), *item;
	size_t i, n = required ? json_object_array_length(required) : 0;

	for (i = 0; i < n; i++) {
		item = json_object_array_get_idx(required, i);
		if (json_object_is_type(item, json_type_string) && strcmp(json_object_get_string(item), name) == 0)
			return true;
	}
	return false;
}

static struct json_object *make_object(struct maker *m, struct json_object *schema, int depth)
{
	struct json_object *object = json_object_new_object(), *properties = json_get_object(schema, "properties");
	struct json_object *required = json_get_array(schema, "required"), *item;
	size_t i, n = required ? json_object_array_length(required) : 0;

	if (properties) {
		json_object_object_foreach(properties, name, property)
		{
			if (!m->only_required || is_required(schema, name))
				json_set(object, name, make(m, property, depth + 1));
		}
	}
	for (i = 0; i < n; i++) { /* required, and not described */
		item = json_object_array_get_idx(required, i);
		if (json_object_is_type(item, json_type_string) && !json_has(object, json_object_get_string(item)))
			json_set_str(object, json_object_get_string(item), "example");
	}
	return object;
}

static bool allows_null(struct json_object *schema)
{
	const char *type = json_get_str(schema, "type");

	return type && strcmp(type, "null") == 0;
}

/* The first one; deep inside a schema that refers to itself, the one that ends it. */
static struct json_object *choose(struct json_object *options, int depth)
{
	size_t i, n = json_object_array_length(options);

	for (i = 0; depth >= DEEP && i < n; i++) {
		if (allows_null(json_object_array_get_idx(options, i)))
			return json_object_array_get_idx(options, i);
	}
	return json_object_array_get_idx(options, 0);
}

/* The type's name, the first of several that is not "null", or what the other keywords let one guess. */
static const char *type_of(struct json_object *schema)
{
	struct json_object *type = json_get(schema, "type"), *one;
	size_t i, n;

	if (json_object_is_type(type, json_type_string))
		return json_object_get_string(type);
	if (json_object_is_type(type, json_type_array)) {
		n = json_object_array_length(type);
		for (i = 0; i < n; i++) {
			one = json_object_array_get_idx(type, i);
			if (json_object_is_type(one, json_type_string) &&
				strcmp(json_object_get_string(one), "null") != 0)
				return json_object_get_string(one);
		}
		return "null";
	}
	if (json_get_object(schema, "properties"))
		return "object";
	return json_has(schema, "items") || json_has(schema, "prefixItems") ? "array" : "string";
}

static struct json_object *make_typed(struct maker *m, struct json_object *schema, int depth)
{
	const char *type = type_of(schema);

	if (strcmp(type, "object") == 0)
		return make_object(m, schema, depth);
	if (strcmp(type, "array") == 0)
		return make_array(m, schema, depth);
	if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0)
		return make_number(schema, type[0] == 'i');
	if (strcmp(type, "boolean") == 0)
		return json_object_new_boolean(true);
	if (strcmp(type, "null") == 0)
		return NULL;
	return make_string(schema);
}

static struct json_object *make(struct maker *m, struct json_object *schema, int depth)
{
	static const char *const choices[] = {"anyOf", "oneOf", "allOf"};
	struct json_object *options;
	const char *ref = json_get_str(schema, "$ref");
	size_t i;

	if (depth > MAX_DEPTH || ++m->values > MAX_VALUES)
		return NULL;
	if (ref)
		return make(m, resolve(m, ref), depth + 1);
	if (json_has(schema, "const"))
		return json_object_get(json_get(schema, "const"));
	options = json_get_array(schema, "enum");
	if (options && json_object_array_length(options))
		return json_object_get(json_object_array_get_idx(options, 0));
	for (i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		options = json_get_array(schema, choices[i]);
		if (options && json_object_array_length(options))
			return make(m, choose(options, depth), depth + 1);
	}
	return make_typed(m, schema, depth);
}

struct json_object *schema_example(struct json_object *schema, bool only_required)
{
	struct maker m = {.root = schema, .only_required = only_required};
	struct json_object *value = make(&m, schema, 0);

	if (json_object_is_type(value, json_type_object))
		return value;
	json_object_put(value);
	return json_object_new_object();
}
