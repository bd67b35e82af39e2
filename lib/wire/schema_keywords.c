/* What each keyword asks of an instance; the table at the end lists them. What is not in it is an annotation. */
#include "wire/schema_run.h"

/* `json` has been read as a schema. */
static bool apply_json(struct schema_run *run, struct json_object *json, const struct schema_spot *spot)
{
	const struct schema_node *node = schema_node_of(run, json);

	BUG_ON(!node);
	return schema_apply(run, node, spot);
}

/* Where a misfit is not yet one of the whole. */
static bool try_json(struct schema_run *run, struct json_object *json, const struct schema_spot *spot)
{
	bool fits;

	run->trying++;
	fits = apply_json(run, json, spot);
	run->trying--;
	return fits;
}

/* ── Any value ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_of_type(struct json_object *value, const char *type)
{
	switch (json_object_get_type(value)) {
	case json_type_null: return strcmp(type, "null") == 0;
	case json_type_boolean: return strcmp(type, "boolean") == 0;
	case json_type_string: return strcmp(type, "string") == 0;
	case json_type_array: return strcmp(type, "array") == 0;
	case json_type_object: return strcmp(type, "object") == 0;
	default: return strcmp(type, "number") == 0 || (strcmp(type, "integer") == 0 && schema_is_integer(value));
	}
}

static bool fits_type(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	bool list = json_object_is_type(rule->value, json_type_array);
	size_t n = list ? json_object_array_length(rule->value) : 1, i;
	struct json_object *type;

	for (i = 0; i < n && schema_charge(run, 1); i++) {
		type = list ? json_object_array_get_idx(rule->value, i) : rule->value;
		if (is_of_type(spot->value, json_object_get_string(type)))
			return true;
	}
	return schema_misfit(run, spot, "is %s, which type does not allow", json_type_word(spot->value));
}

static bool fits_enum(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	size_t n = json_object_array_length(rule->value), i;

	for (i = 0; i < n && !run->stuck; i++)
		if (schema_equal(run, json_object_array_get_idx(rule->value, i), spot->value))
			return true;
	return schema_misfit(run, spot, "is none of the values of enum", "");
}

static bool fits_const(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_equal(run, rule->value, spot->value) || schema_misfit(run, spot, "is not the value of const", "");
}

static bool fits_ref(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_apply(run, rule->target, spot);
}

static bool fits_all(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	size_t n = json_object_array_length(rule->value), i;

	for (i = 0; i < n; i++)
		if (!apply_json(run, json_object_array_get_idx(rule->value, i), spot))
			return false;
	return true;
}

/* How many of the list fit, but no more than `enough`. */
static int count_fitting(struct schema_run *run, struct json_object *list, const struct schema_spot *spot, int enough)
{
	size_t n = json_object_array_length(list), i;
	int found = 0;

	for (i = 0; i < n && found < enough && !run->stuck; i++)
		found += try_json(run, json_object_array_get_idx(list, i), spot);
	return found;
}

static bool fits_any(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return count_fitting(run, rule->value, spot, 1) || schema_misfit(run, spot, "fits no schema of anyOf", "");
}

static bool fits_one(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	int found = count_fitting(run, rule->value, spot, 2);

	return found == 1 ||
	       schema_misfit(run, spot, found ? "fits several schemas of oneOf" : "fits no schema of oneOf", "");
}

static bool fits_not(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return !try_json(run, rule->value, spot) || schema_misfit(run, spot, "fits what not excludes", "");
}

static bool fits_if(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	struct json_object *branch = json_get(rule->node->json, try_json(run, rule->value, spot) ? "then" : "else");

	return !branch || apply_json(run, branch, spot);
}

/* ── Objects ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The value that `obj` has for a name; false if it has none. */
static bool look_up(struct schema_run *run, struct json_object *obj, const char *name, struct json_object **value)
{
	return schema_charge_text(run, strlen(name)) && json_object_object_get_ex(obj, name, value);
}

/* What is applied to a member of the instance; `known`: the schema has its name. */
static bool apply_to_member(struct schema_run *run, struct json_object *json, const struct schema_spot *spot,
	const struct json_member *m, bool known)
{
	struct schema_spot member = {m->value, spot, known ? m->name : "*", 0};

	return apply_json(run, json, &member);
}

static bool fits_properties(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	struct json_object *schema;

	json_each_member (spot->value, m)
		if (look_up(run, rule->value, m.name, &schema) && !apply_to_member(run, schema, spot, &m, true))
			return false;
	return !run->stuck;
}

static bool fits_pattern_properties(
	struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	struct json_object *properties = json_get(rule->node->json, "properties"), *schema;

	json_each_member (spot->value, m)
		json_each_member (rule->value, pattern)
			if (schema_pattern_matches(run, pattern.name, m.name, strlen(m.name)) &&
				!apply_to_member(
					run, pattern.value, spot, &m, look_up(run, properties, m.name, &schema)))
				return false;
	return !run->stuck;
}

static bool is_additional(struct schema_run *run, struct json_object *schema, const char *name)
{
	struct json_object *found;

	if (look_up(run, json_get(schema, "properties"), name, &found))
		return false;
	json_each_member (json_get(schema, "patternProperties"), pattern)
		if (schema_pattern_matches(run, pattern.name, name, strlen(name)))
			return false;
	return !run->stuck;
}

static bool fits_additional_properties(
	struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	json_each_member (spot->value, m)
		if (is_additional(run, rule->node->json, m.name) && !apply_to_member(run, rule->value, spot, &m, false))
			return false;
	return !run->stuck;
}

static bool fits_property_names(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	struct schema_spot name = {NULL, spot, "*", 0};
	bool fits = true;

	json_each_member (spot->value, m) {
		name.value = json_object_new_string(m.name);
		if (!name.value)
			die("out of memory");
		fits = try_json(run, rule->value, &name);
		json_object_put(name.value);
		if (!fits)
			return schema_misfit(run, spot, "has a name that does not fit propertyNames", "");
	}
	return true;
}

/* Names of members have no NUL: what has one is a name that is missing. */
static bool has_all(struct schema_run *run, struct json_object *names, const struct schema_spot *spot)
{
	size_t n = json_object_array_length(names), i;
	struct json_object *name, *value;
	const char *text;

	for (i = 0; i < n; i++) {
		name = json_object_array_get_idx(names, i);
		text = json_object_get_string(name);
		if (!look_up(run, spot->value, text, &value) ||
			strlen(text) != (size_t)json_object_get_string_len(name))
			return schema_misfit(run, spot, "lacks the member \"%s\"", text);
	}
	return true;
}

static bool fits_required(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return has_all(run, rule->value, spot);
}

/* dependentRequired has lists, dependentSchemas has schemas, and dependencies has both. */
static bool fits_dependencies(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	struct json_object *value;

	json_each_member (rule->value, m) {
		if (!look_up(run, spot->value, m.name, &value))
			continue;
		if (json_object_is_type(m.value, json_type_array) ? !has_all(run, m.value, spot)
								  : !apply_json(run, m.value, spot))
			return false;
	}
	return !run->stuck;
}

static bool fits_min_properties(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare_count((size_t)json_object_object_length(spot->value), rule->value) >= 0 ||
	       schema_misfit(run, spot, "has fewer members than minProperties", "");
}

static bool fits_max_properties(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare_count((size_t)json_object_object_length(spot->value), rule->value) <= 0 ||
	       schema_misfit(run, spot, "has more members than maxProperties", "");
}

/* ── Arrays ──────────────────────────────────────────────────────────────────────────────────────────────────────── */

static struct schema_spot element_of(const struct schema_spot *spot, size_t i)
{
	return (struct schema_spot){json_object_array_get_idx(spot->value, i), spot, NULL, i};
}

static bool fits_prefix(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	size_t n = json_object_array_length(spot->value), known = json_object_array_length(rule->value), i;
	struct schema_spot element;

	for (i = 0; i < n && i < known; i++) {
		element = element_of(spot, i);
		if (!apply_json(run, json_object_array_get_idx(rule->value, i), &element))
			return false;
	}
	return true;
}

/* What stands behind those elements that have schemas of their own, in `prefix`. */
static bool fits_rest(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot,
	struct json_object *prefix)
{
	size_t n = json_object_array_length(spot->value), i = prefix ? json_object_array_length(prefix) : 0;
	struct schema_spot element;

	for (; i < n; i++) {
		element = element_of(spot, i);
		if (!apply_json(run, rule->value, &element))
			return false;
	}
	return true;
}

/* A list is the older drafts' prefixItems. */
static bool fits_items(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	if (json_object_is_type(rule->value, json_type_array))
		return fits_prefix(run, rule, spot);
	return fits_rest(run, rule, spot, json_get_array(rule->node->json, "prefixItems"));
}

static bool fits_additional_items(
	struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	struct json_object *prefix = json_get_array(rule->node->json, "items");

	return !prefix || fits_rest(run, rule, spot, prefix);
}

static bool fits_contains(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	struct json_object *min = json_get(rule->node->json, "minContains");
	struct json_object *max = json_get(rule->node->json, "maxContains");
	size_t n = json_object_array_length(spot->value), found = 0, i;
	struct schema_spot element;

	for (i = 0; i < n && !run->stuck; i++) {
		element = element_of(spot, i);
		found += try_json(run, rule->value, &element);
	}
	if (min ? schema_compare_count(found, min) < 0 : found == 0)
		return schema_misfit(run, spot, "has too few elements that fit contains", "");
	if (max && schema_compare_count(found, max) > 0)
		return schema_misfit(run, spot, "has too many elements that fit contains", "");
	return true;
}

static bool fits_min_items(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare_count(json_object_array_length(spot->value), rule->value) >= 0 ||
	       schema_misfit(run, spot, "has fewer elements than minItems", "");
}

static bool fits_max_items(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare_count(json_object_array_length(spot->value), rule->value) <= 0 ||
	       schema_misfit(run, spot, "has more elements than maxItems", "");
}

static bool fits_unique(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return !json_object_get_boolean(rule->value) || schema_unique(run, spot->value) ||
	       schema_misfit(run, spot, "has equal elements, against uniqueItems", "");
}

/* ── Numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool fits_minimum(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare(spot->value, rule->value) >= 0 || schema_misfit(run, spot, "is below minimum", "");
}

static bool fits_maximum(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare(spot->value, rule->value) <= 0 || schema_misfit(run, spot, "is above maximum", "");
}

static bool fits_above(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare(spot->value, rule->value) > 0 ||
	       schema_misfit(run, spot, "is not above exclusiveMinimum", "");
}

static bool fits_below(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare(spot->value, rule->value) < 0 ||
	       schema_misfit(run, spot, "is not below exclusiveMaximum", "");
}

static bool fits_multiple(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_is_multiple(run, spot->value, rule->value) ||
	       schema_misfit(run, spot, "is no multiple of multipleOf", "");
}

/* ── Strings ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* RFC 8259's characters: code points. */
static size_t length_of(struct schema_run *run, struct json_object *string)
{
	size_t len = (size_t)json_object_get_string_len(string), characters = 0;
	const char *s = json_object_get_string(string), *end = s + len;

	schema_charge_text(run, len);
	for (; s < end; s++)
		characters += (*s & 0xc0) != 0x80;
	return characters;
}

static bool fits_min_length(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare_count(length_of(run, spot->value), rule->value) >= 0 ||
	       schema_misfit(run, spot, "is shorter than minLength", "");
}

static bool fits_max_length(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_compare_count(length_of(run, spot->value), rule->value) <= 0 ||
	       schema_misfit(run, spot, "is longer than maxLength", "");
}

static bool fits_pattern(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_pattern_matches(run, json_object_get_string(rule->value), json_object_get_string(spot->value),
		       (size_t)json_object_get_string_len(spot->value)) ||
	       schema_misfit(run, spot, "does not match pattern", "");
}

static bool fits_format(struct schema_run *run, const struct schema_rule *rule, const struct schema_spot *spot)
{
	return schema_format_fits(run, rule->value, spot->value) ||
	       schema_misfit(run, spot, "is not of the format \"%s\"", json_object_get_string(rule->value));
}

/* ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct schema_keyword keywords[] = {
	{"type", SHAPE_TYPES, KIND_ANY, fits_type},
	{"enum", SHAPE_LIST, KIND_ANY, fits_enum},
	{"const", SHAPE_ANY, KIND_ANY, fits_const},
	{"$ref", SHAPE_REF, KIND_ANY, fits_ref},
	{"$defs", SHAPE_SCHEMA_MAP, KIND_ANY, NULL},
	{"definitions", SHAPE_SCHEMA_MAP, KIND_ANY, NULL},
	{"allOf", SHAPE_SCHEMA_LIST, KIND_ANY, fits_all},
	{"anyOf", SHAPE_SCHEMA_LIST, KIND_ANY, fits_any},
	{"oneOf", SHAPE_SCHEMA_LIST, KIND_ANY, fits_one},
	{"not", SHAPE_SCHEMA, KIND_ANY, fits_not},
	{"if", SHAPE_SCHEMA, KIND_ANY, fits_if},
	{"then", SHAPE_SCHEMA, KIND_ANY, NULL},
	{"else", SHAPE_SCHEMA, KIND_ANY, NULL},
	{"properties", SHAPE_SCHEMA_MAP, KIND_OBJECT, fits_properties},
	{"patternProperties", SHAPE_PATTERN_MAP, KIND_OBJECT, fits_pattern_properties},
	{"additionalProperties", SHAPE_SCHEMA, KIND_OBJECT, fits_additional_properties},
	{"propertyNames", SHAPE_SCHEMA, KIND_OBJECT, fits_property_names},
	{"required", SHAPE_STRING_LIST, KIND_OBJECT, fits_required},
	{"dependentRequired", SHAPE_STRING_LIST_MAP, KIND_OBJECT, fits_dependencies},
	{"dependentSchemas", SHAPE_SCHEMA_MAP, KIND_OBJECT, fits_dependencies},
	{"dependencies", SHAPE_DEPENDENCY_MAP, KIND_OBJECT, fits_dependencies},
	{"minProperties", SHAPE_COUNT, KIND_OBJECT, fits_min_properties},
	{"maxProperties", SHAPE_COUNT, KIND_OBJECT, fits_max_properties},
	{"prefixItems", SHAPE_SCHEMA_LIST, KIND_ARRAY, fits_prefix},
	{"items", SHAPE_SCHEMA_OR_LIST, KIND_ARRAY, fits_items},
	{"additionalItems", SHAPE_SCHEMA, KIND_ARRAY, fits_additional_items},
	{"contains", SHAPE_SCHEMA, KIND_ARRAY, fits_contains},
	{"minContains", SHAPE_COUNT, KIND_ARRAY, NULL},
	{"maxContains", SHAPE_COUNT, KIND_ARRAY, NULL},
	{"minItems", SHAPE_COUNT, KIND_ARRAY, fits_min_items},
	{"maxItems", SHAPE_COUNT, KIND_ARRAY, fits_max_items},
	{"uniqueItems", SHAPE_BOOL, KIND_ARRAY, fits_unique},
	{"minimum", SHAPE_NUMBER, KIND_NUMBER, fits_minimum},
	{"maximum", SHAPE_NUMBER, KIND_NUMBER, fits_maximum},
	{"exclusiveMinimum", SHAPE_NUMBER, KIND_NUMBER, fits_above},
	{"exclusiveMaximum", SHAPE_NUMBER, KIND_NUMBER, fits_below},
	{"multipleOf", SHAPE_POSITIVE, KIND_NUMBER, fits_multiple},
	{"minLength", SHAPE_COUNT, KIND_STRING, fits_min_length},
	{"maxLength", SHAPE_COUNT, KIND_STRING, fits_max_length},
	{"pattern", SHAPE_PATTERN, KIND_STRING, fits_pattern},
	{"format", SHAPE_ANY, KIND_STRING, fits_format},
	{"unevaluatedProperties", SHAPE_BEYOND_US, KIND_ANY, NULL},
	{"unevaluatedItems", SHAPE_BEYOND_US, KIND_ANY, NULL},
	{"$dynamicRef", SHAPE_BEYOND_US, KIND_ANY, NULL},
	{"$recursiveRef", SHAPE_BEYOND_US, KIND_ANY, NULL},
};

const struct schema_keyword *schema_keyword(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
		if (strcmp(keywords[i].name, name) == 0)
			return &keywords[i];
	return NULL;
}
