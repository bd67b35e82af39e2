/*
 * demo_schema — the smallest value that fits a JSON schema, for tool calls and structured answers.
 *
 * Knows what the SDKs write: type (also several), properties and required, items, prefixItems, enum, const, anyOf,
 * oneOf, allOf, local $ref, formats, patterns as far as demo_pattern knows them, and the bounds of numbers, strings and
 * arrays. What it makes of others may not fit.
 */
#ifndef PAVISE_DEMO_SCHEMA_H
#define PAVISE_DEMO_SCHEMA_H

#include <stdbool.h>

struct json_object;

/*
 * An object that fits `schema` (NULL = {}): its properties in the schema's order, all of them or only the required
 * ones. The caller owns it.
 */
struct json_object *schema_example(struct json_object *schema, bool only_required);

#endif
