/*
 * fields — what a request's members may be: a table says name, kind and range, and the messages are OpenAI's.
 */
#ifndef PAVISE_WIRE_FIELDS_H
#define PAVISE_WIRE_FIELDS_H

#include "base/json.h"

enum { FIELD_PATH = 96 };

enum field_kind {
	FIELD_STRING,
	FIELD_BOOLEAN,
	FIELD_INTEGER,
	FIELD_NUMBER,
	FIELD_OBJECT,
	FIELD_ARRAY,
	FIELD_STRING_OR_OBJECT,
	FIELD_STRING_OR_ARRAY
};

struct field {
	const char *name;
	enum field_kind kind;
	double min, max; /* INTEGER and NUMBER: range; STRING: longest in bytes is max, 0 = any */
};

/* The body is an object, has a `model`, and each member that the table names is what it says. A null is as good as
 * nothing. */
int fields_check(const struct field *fields, size_t count, struct json_object *body, struct err *err);

bool field_is(struct json_object *value, enum field_kind kind);
/* Every element of the array `name` is of one kind. No such array is fine. */
int fields_check_elements(struct json_object *body, const char *name, enum field_kind kind, struct err *err);

/* "Invalid type for 'x': expected …, but got … instead." and "Missing required parameter: 'x'."; both return -1. */
int field_wrong_type(struct err *err, const char *param, const char *expected, struct json_object *found);
int field_wrong_kind(struct err *err, const char *param, enum field_kind expected, struct json_object *found);
int field_missing(struct err *err, const char *param);

#endif
