/*
 * fields — what a request's members may be: a table says name, kind and range, and the messages are OpenAI's.
 *
 * What is refused here, the provider never sees: so a type is checked always, but a range or a list of words only where
 * OpenAI's reference states one and no provider that speaks its dialect goes beyond it (efforts, voices, formats,
 * details, tiers and kinds of parts grow from month to month).
 */
#ifndef PAVISE_WIRE_FIELDS_H
#define PAVISE_WIRE_FIELDS_H

#include "base/json.h"

#include <math.h>

enum field_kind {
	FIELD_STRING,
	FIELD_BOOLEAN,
	FIELD_INTEGER,
	FIELD_NUMBER,
	FIELD_OBJECT,
	FIELD_ARRAY,
	FIELD_STRINGS, /* an array of them, as the next */
	FIELD_OBJECTS,
	FIELD_BOOLEAN_OR_INTEGER,
	FIELD_SCALAR, /* a string, a number or a boolean */
	FIELD_STRING_OR_OBJECT,
	FIELD_STRING_OR_ARRAY,
	FIELD_STRING_OR_STRINGS,
	FIELD_STRING_OR_OBJECTS
};

struct field {
	const char *name; /* "*": every member that no line before it names */
	enum field_kind kind;
	double min, max;            /* of a number: range; STRING: longest in bytes is max, 0 = any */
	const struct field *within; /* of an object, or of each object in an array */
	bool required;
	const char *unless;       /* this member is there instead: not required then */
	const char *type;         /* only in an object whose `type` is this, or that has none */
	const char *const *words; /* a string's values, if there are no others; ends with NULL */
};

/* A line of a table: FIELD("n", INTEGER, RANGE(1, 128)). */
#define FIELD(field_name, field_kind, ...) \
	{ \
		.name = (field_name), .kind = FIELD_##field_kind, __VA_ARGS__ \
	}
#define FIELDS_END \
	{ \
		.name = NULL \
	}
#define REQUIRED           .required = true
#define RANGE(least, most) .min = (least), .max = (most)
#define AT_LEAST(least)    .min = (least), .max = INFINITY
#define ANY_NUMBER         .min = -INFINITY, .max = INFINITY
#define UNLESS(name)       .unless = (name)
#define LONGEST(bytes)     .max = (bytes)
#define WITHIN(table)      .within = (table)
#define OF_TYPE(name)      .type = (name)
#define WORDS(list)        .words = (list)

/* The body is an object, and each member that the table names is what it says. A null is as good as nothing. */
int fields_check(const struct field *fields, struct json_object *body, struct err *err);

bool field_is(struct json_object *value, enum field_kind kind);

/*
 * What a model may be asked: `name` is a string, an array of token numbers, or an array of strings or of arrays of
 * token numbers; both together only if `mixed`.
 */
int fields_check_texts(struct json_object *body, const char *name, bool mixed, struct err *err);

/* "Invalid type for 'x': expected …, but got … instead.", "Missing required parameter: 'x'." and
 * "Invalid value for 'x': … ."; all return -1. */
int field_wrong_type(struct err *err, const char *param, const char *expected, struct json_object *found);
int field_missing(struct err *err, const char *param);
int field_wrong_value(struct err *err, const char *param, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
