/*
 * schema — does an answer fit the JSON Schema that its request gave? Only then it may be remembered.
 *
 * JSON Schema draft 2020-12, with what older drafts spell otherwise and 2020-12 leaves free: `definitions`,
 * `dependencies`, `items` as a list, `additionalItems`. `format` is judged where it is one of those that OpenAI's
 * strict mode enforces (the table in schema_format.c); any other is an annotation, as the draft has it by default, and
 * so is every name that is no keyword. References stay within the schema. Schema and instance may both come from an
 * enemy: depth, steps, and with them time and memory, are bounded, inside regular expressions too.
 */
#ifndef PAVISE_WIRE_SCHEMA_H
#define PAVISE_WIRE_SCHEMA_H

#include "base/json.h"

enum {
	SCHEMA_MAX_DEPTH = 1024,     /* schemas applied within one another; a level of the instance often takes three */
	SCHEMA_MAX_STEPS = 2000000,  /* a rule, a comparison, a step of an expression …: a tenth of a second, about */
	SCHEMA_MAX_PATTERN = 4096,   /* bytes of one expression */
	SCHEMA_MAX_URI = 1024,       /* bytes of an $id or a $ref when it is resolved */
	SCHEMA_HEAP_BYTES = 32 << 20 /* for matching one expression once */
};

enum schema_verdict {
	SCHEMA_FITS,
	SCHEMA_MISFIT,
	/*
	 * The schema is malformed or beyond us (a reference that leads out of it or nowhere, $dynamicRef, unevaluated…,
	 * an expression that means something else outside ECMAScript), or a bound was reached.
	 */
	SCHEMA_UNJUDGED,
};

/* Why it is not SCHEMA_FITS: one line of well-formed UTF-8, with names from the schema, nothing from the instance. */
struct schema_report {
	/*
	 * A JSON pointer: into the instance for a misfit ("/steps/0/name"; a star stands for a name that the schema
	 * does not know), into the schema for one that could not be judged ("#/$defs/step"; "" for a bound).
	 */
	char place[128];
	char reason[160]; /* goes on after the place: "is a string, where type wants integer" */
};

/*
 * Both are trees as json_parse() makes them, and stay as they are; a NULL instance is JSON's null. Preparing the schema
 * and applying it takes from *steps, which several instances may share, and stops when they are spent.
 */
enum schema_verdict schema_judge(
	struct json_object *schema, struct json_object *instance, size_t *steps, struct schema_report *report);

#endif
