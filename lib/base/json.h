/*
 * json — the one door through which JSON comes in and goes out.
 *
 * In: a scanner of our own checks the bytes first, because json-c lets far too much pass (RFC 8259 to the letter,
 * Unicode's well-formed UTF-8, depth 128, duplicate names, lone surrogates, NUL in names, integers beyond 64 bits, and
 * with a fraction or an exponent: what overflows, vanishes, or is an integer that would arrive as another one, as
 * 9007199254740993.0 does and 1e23 does not). Out: one spelling, no white space, strings and numbers as RFC 8785 writes
 * them, but integers keep their digits and members keep their order. json-c objects may travel between files; only
 * json.c and json_scan.c parse and print them.
 */
#ifndef PAVISE_BASE_JSON_H
#define PAVISE_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

#include <json-c/json_object.h>
#include <json-c/linkhash.h>
#include <stdbool.h>
#include <stdint.h>

enum { JSON_MAX_DEPTH = 128 };

/*
 * Checks that text[0..len) is one JSON value. 0, or -1 with err->code (INVALID_JSON; or, where it is JSON to others,
 * UNREADABLE_JSON, NUMBER_RANGE, DUPLICATE_NAME), err->param (the path: "messages[0].content"; "" at the top) and a
 * message that says what is wrong and at which line and column.
 */
int json_scan(const char *text, size_t len, struct err *err);

/*
 * Scans, then parses. NULL with *err filled on failure; a bare null is one (INVALID_TYPE), since json-c has no object
 * for it. The caller owns the object: json_object_put(), or arena_defer().
 */
struct json_object *json_parse(const char *text, size_t len, struct err *err);

/*
 * As json_parse(), for text from a stranger: BODY_TOO_LARGE if the tree would take more than about max_weight bytes of
 * memory, in json_parse_leniently() too. Two bytes of text ({}) can become seven hundred.
 */
struct json_object *json_parse_within(const char *text, size_t len, size_t max_weight, struct err *err);

/*
 * What json-c makes of a text that json_parse() refuses but that is JSON to others (a lone surrogate, a name that
 * stands twice, a number beyond 64 bits, NaN): to be looked at, never to be remembered. NULL if it is no object or
 * array, or so long that it could take more than max_weight bytes: nobody has weighed it.
 */
struct json_object *json_parse_leniently(const char *text, size_t len, size_t max_weight);

/* As json_parse(), after blanking comments (double slash to the end of the line, slash-star to star-slash). */
struct json_object *json_parse_with_comments(const char *text, size_t len, struct err *err);

/* Prints in our spelling, which json_parse() always accepts; members in the object's own order. NaN becomes null. */
void json_print(struct buf *out, struct json_object *value);
/* s is UTF-8. */
void json_print_string(struct buf *out, const char *s, size_t len);
/*
 * A finite double. One difference from RFC 8785: where that would spell an integer beyond 64 bits (1e+20), which
 * json_scan() refuses, the exponent stays.
 */
void json_print_double(struct buf *out, double d);

/* Reading: each returns NULL, or the fallback, where the member is missing or of another type. `obj` may be NULL. */
struct json_object *json_get(struct json_object *obj, const char *name); /* any type; a JSON null is NULL */
bool json_has(struct json_object *obj, const char *name);                /* also true for a null */
/* NUL-terminated, owned by obj; one with a NUL inside is none. */
const char *json_get_str(struct json_object *obj, const char *name);
int64_t json_get_int(struct json_object *obj, const char *name, int64_t fallback); /* INT64_MAX for more than that */
bool json_get_bool(struct json_object *obj, const char *name, bool fallback);
struct json_object *json_get_array(struct json_object *obj, const char *name);
struct json_object *json_get_object(struct json_object *obj, const char *name);

/* The members of an object in their order: json_each_member(obj, m) { … m.name, m.value … }. None if it is no object.
 */
struct json_member {
	const char *name;
	struct json_object *value;
	struct lh_entry *entry;
};

static inline struct json_member json_member_at(struct lh_entry *e)
{
	if (!e)
		return (struct json_member){NULL, NULL, NULL};
	return (struct json_member){lh_entry_k(e), lh_entry_v(e), e};
}

static inline struct json_member json_first_member(struct json_object *obj)
{
	return json_member_at(
		json_object_is_type(obj, json_type_object) ? lh_table_head(json_object_get_object(obj)) : NULL);
}

#define json_each_member(obj, m) \
	for (struct json_member m = json_first_member(obj); m.name; m = json_member_at(lh_entry_next(m.entry)))

/* Building: `value` is given away to `obj`. A name that is there already keeps its place and gets the new value. */
void json_set(struct json_object *obj, const char *name, struct json_object *value);
void json_set_str(struct json_object *obj, const char *name, const char *value);
void json_set_int(struct json_object *obj, const char *name, int64_t value);
void json_set_bool(struct json_object *obj, const char *name, bool value);
void json_unset(struct json_object *obj, const char *name);

/* For arena_defer(). */
void json_release(void *value);

/* The word for a value's type, for messages: "an object", "an array", "a string", "an integer", "a number", … */
const char *json_type_word(struct json_object *value);

#endif
