/* The way through a schema and an instance, and the budget for it; the keywords are in schema_keywords.c. */
#include "wire/schema_run.h"

bool schema_charge(struct schema_run *run, size_t steps)
{
	if (run->stuck)
		return false;
	if (steps > run->steps)
		return schema_stuck(run, NULL, NULL, "takes too many steps to judge");
	run->steps -= steps;
	return true;
}

bool schema_charge_text(struct schema_run *run, size_t len)
{
	return schema_charge(run, 1 + len / 64);
}

static bool concerns(enum schema_kind kind, struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_object: return kind == KIND_OBJECT || kind == KIND_ANY;
	case json_type_array: return kind == KIND_ARRAY || kind == KIND_ANY;
	case json_type_string: return kind == KIND_STRING || kind == KIND_ANY;
	case json_type_int:
	case json_type_double: return kind == KIND_NUMBER || kind == KIND_ANY;
	default: return kind == KIND_ANY;
	}
}

static bool apply_rules(struct schema_run *run, const struct schema_node *node, const struct schema_spot *spot)
{
	const struct schema_rule *rule = node->rules, *end = rule + node->rule_count;

	for (; rule < end; rule++)
		if (!schema_charge(run, 1) || (rule->keyword->fits && concerns(rule->keyword->kind, spot->value) &&
						      !rule->keyword->fits(run, rule, spot)))
			return false;
	return true;
}

bool schema_apply(struct schema_run *run, const struct schema_node *node, const struct schema_spot *spot)
{
	bool fits;

	if (!schema_charge(run, 1))
		return false;
	if (json_object_is_type(node->json, json_type_boolean))
		return json_object_get_boolean(node->json) ||
		       schema_misfit(run, spot, "is not allowed: false at %s", node->keyword);
	if (run->depth == SCHEMA_MAX_DEPTH)
		return schema_stuck(run, NULL, NULL, "takes too many levels to judge");
	run->depth++;
	fits = apply_rules(run, node, spot);
	run->depth--;
	return fits;
}

enum schema_verdict schema_judge(
	struct json_object *schema, struct json_object *instance, size_t *steps, struct schema_report *report)
{
	struct schema_run run = {.report = report,
		.steps = *steps,
		.nodes = lh_kptr_table_new(16, NULL),
		.patterns = lh_kptr_table_new(16, NULL),
		.places = lh_kchar_table_new(16, NULL)};
	struct schema_spot top = {.value = instance};
	const struct schema_node *root;
	bool fits;

	if (!run.nodes || !run.patterns || !run.places)
		die("out of memory");
	*report = (struct schema_report){"", ""};
	root = schema_compile(&run, schema);
	fits = root && schema_apply(&run, root, &top);
	*steps = run.steps;
	lh_table_free(run.nodes);
	lh_table_free(run.patterns);
	lh_table_free(run.places);
	arena_release(&run.arena);
	if (run.stuck)
		return SCHEMA_UNJUDGED;
	return fits ? SCHEMA_FITS : SCHEMA_MISFIT;
}
