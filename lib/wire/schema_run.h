/*
 * schema_run — what the parts of the validator share: schema_compile.c (reads the schema), schema.c (applies it),
 * schema_keywords.c, schema_value.c, schema_pattern.c, schema_format.c, schema_uri.c and schema_report.c. Private to
 * them; others include schema.h.
 */
#ifndef PAVISE_WIRE_SCHEMA_RUN_H
#define PAVISE_WIRE_SCHEMA_RUN_H

#include "base/arena.h"
#include "wire/schema.h"

struct schema_run;
struct schema_rule;
struct schema_node;

/* A value of the instance and the way to it. */
struct schema_spot {
	struct json_object *value;
	const struct schema_spot *up; /* NULL at the top */
	const char *name;             /* in an object: a name that the schema knows, or "*"; NULL in an array */
	size_t index;                 /* in an array */
};

/* What a keyword's value must be; checks[] in schema_compile.c. */
enum schema_shape {
	SHAPE_ANY,
	SHAPE_SCHEMA,
	SHAPE_SCHEMA_LIST,
	SHAPE_SCHEMA_OR_LIST,
	SHAPE_SCHEMA_MAP,
	SHAPE_PATTERN_MAP,
	SHAPE_STRING_LIST,
	SHAPE_STRING_LIST_MAP,
	SHAPE_DEPENDENCY_MAP,
	SHAPE_TYPES,
	SHAPE_LIST,
	SHAPE_COUNT,
	SHAPE_NUMBER,
	SHAPE_POSITIVE,
	SHAPE_BOOL,
	SHAPE_PATTERN,
	SHAPE_REF,
	SHAPE_BEYOND_US,
	SHAPE_COUNT_OF_SHAPES,
};

enum schema_kind { KIND_ANY, KIND_OBJECT, KIND_ARRAY, KIND_STRING, KIND_NUMBER };

/* One line of the table in schema_keywords.c. */
struct schema_keyword {
	const char *name;
	enum schema_shape shape;
	enum schema_kind kind; /* it has a say about values of this kind only */
	bool (*fits)(
		struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot); /* or NULL */
};

/* A keyword in a schema. */
struct schema_rule {
	const struct schema_keyword *keyword;
	struct json_object *value;
	const struct schema_node *node;   /* that it stands in */
	const struct schema_node *target; /* of a $ref */
	struct schema_rule *next_ref;     /* while it waits to be resolved */
};

/* A schema, and the way to it for messages: parent/keyword/name or parent/keyword/index. */
struct schema_node {
	struct json_object *json;
	const struct schema_node *parent; /* NULL: the outermost, or one that only a reference knows */
	const char *keyword;              /* without a parent: the reference */
	const char *name;                 /* NULL: none, or an index */
	int index;                        /* -1: none */
	const char *base;                 /* URI that its references are relative to */
	struct schema_rule *rules;
	size_t rule_count;
};

struct schema_run {
	struct schema_report *report;
	struct arena arena;
	size_t steps; /* that are left */
	int depth;
	int trying;                /* > 0: a misfit here is not yet one of the whole, and not worth a report */
	bool stuck;                /* the verdict is SCHEMA_UNJUDGED; everything ends as fast as it can */
	struct lh_table *nodes;    /* struct json_object * → struct schema_node * */
	struct lh_table *places;   /* "uri#" or "uri#anchor" → struct schema_node * */
	struct lh_table *patterns; /* const char *text → its compiled form */
	struct schema_rule *refs;
	struct schema_matcher *matcher; /* schema_pattern.c's */
};

const struct schema_keyword *schema_keyword(const char *name);

/* NULL if stuck. */
const struct schema_node *schema_compile(struct schema_run *run, struct json_object *schema);
/* NULL for what was not read as a schema. */
struct schema_node *schema_node_of(struct schema_run *run, struct json_object *json);
/* False, too, if stuck: ask run->stuck before a misfit is taken for anything else. */
bool schema_apply(struct schema_run *run, const struct schema_node *node, const struct schema_spot *spot);

/* ── The budget: false, and stuck, when it is spent. A text costs as if it were read 64 bytes at a time. ── */
bool schema_charge(struct schema_run *run, size_t steps);
bool schema_charge_text(struct schema_run *run, size_t len);

/* ── Reports; both return false. The text may hold one %s, for a word from the schema. ── */
bool schema_misfit(struct schema_run *run, const struct schema_spot *spot, const char *text, const char *word);
/* `node` may be NULL, and keyword too. */
bool schema_stuck(struct schema_run *run, const struct schema_node *node, const char *keyword, const char *text);

/* ── Values ── */
bool schema_is_number(struct json_object *value);
/* An integer is a number without a fraction: 1.0 too. */
bool schema_is_integer(struct json_object *value);
/* <0, 0, >0, as numbers, exactly. */
int schema_compare(struct json_object *a, struct json_object *b);
int schema_compare_count(size_t count, struct json_object *b);
/* As decimals, as they are written: 19.99 is a multiple of 0.01. `of` > 0. False, too, if stuck. */
bool schema_is_multiple(struct schema_run *run, struct json_object *value, struct json_object *of);
/* False, too, if stuck. */
bool schema_equal(struct schema_run *run, struct json_object *a, struct json_object *b);
bool schema_unique(struct schema_run *run, struct json_object *array);

/* ── Regular expressions, known by where their text stands in the schema ── */
/* NULL, or what is wrong with it. */
const char *schema_pattern_add(struct schema_run *run, const char *pattern, size_t len);
/* False, too, if stuck. */
bool schema_pattern_matches(struct schema_run *run, const char *pattern, const char *text, size_t len);

/* ── Formats: of a string; true for what is no format that is judged. False, too, if stuck ── */
bool schema_format_fits(struct schema_run *run, struct json_object *format, struct json_object *string);

/* ── RFC 3986 §5.2: `ref`, without a fragment, as seen from base. -1 if it is longer than SCHEMA_MAX_URI. ── */
int schema_uri_resolve(char out[SCHEMA_MAX_URI], const char *base, const char *ref);
/* Undoes %XX in place. -1 if one is broken or stands for NUL. */
int schema_uri_decode(char *text);

#endif
