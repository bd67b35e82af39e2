/*
 * Reads a schema once, before it is applied: every keyword must have the shape that the draft gives it, every
 * expression must compile, every reference must lead somewhere. So the verdict on a malformed schema does not depend on
 * the instance, and what applies it need not check.
 */
#include "wire/schema_run.h"

#include <stdio.h>
#include <stdlib.h>

/* What reading a schema or a member costs, against a step of applying it: memory goes with it. */
enum { NODE_STEPS = 16, MEMBER_STEPS = 4 };

static const char malformed[] = "is not what this keyword takes";

static struct schema_node *read_schema(
	struct schema_run *run, struct json_object *json, const struct schema_node *where);

static bool is_type(struct json_object *value, enum json_type type)
{
	return json_object_is_type(value, type);
}

static bool is_count(struct json_object *value)
{
	return schema_is_number(value) && schema_is_integer(value) && schema_compare_count(0, value) <= 0;
}

struct schema_node *schema_node_of(struct schema_run *run, struct json_object *json)
{
	void *found = NULL;

	lh_table_lookup_ex(run->nodes, json, &found);
	return found;
}

/* ── The shapes: each is called with a rule whose value may be anything; false: malformed, or stuck ──────────────── */

static bool check_any(struct schema_run *run, struct schema_rule *rule)
{
	(void)run;
	(void)rule;
	return true;
}

static bool check_child(
	struct schema_run *run, const struct schema_rule *rule, struct json_object *json, const char *name, int index)
{
	struct schema_node where = {.parent = rule->node,
		.keyword = rule->keyword->name,
		.name = name,
		.index = index,
		.base = rule->node->base};

	return read_schema(run, json, &where) != NULL;
}

static bool check_schema(struct schema_run *run, struct schema_rule *rule)
{
	return check_child(run, rule, rule->value, NULL, -1);
}

static bool check_schema_list(struct schema_run *run, struct schema_rule *rule)
{
	size_t n, i;

	if (!is_type(rule->value, json_type_array) || json_object_array_length(rule->value) == 0)
		return false;
	n = json_object_array_length(rule->value);
	for (i = 0; i < n; i++)
		if (!check_child(run, rule, json_object_array_get_idx(rule->value, i), NULL, (int)i))
			return false;
	return true;
}

static bool check_schema_or_list(struct schema_run *run, struct schema_rule *rule)
{
	return is_type(rule->value, json_type_array) ? check_schema_list(run, rule) : check_schema(run, rule);
}

static bool check_schema_map(struct schema_run *run, struct schema_rule *rule)
{
	json_each_member (rule->value, m)
		if (!check_child(run, rule, m.value, m.name, -1))
			return false;
	return is_type(rule->value, json_type_object);
}

static bool check_expression(struct schema_run *run, const struct schema_rule *rule, const char *text, size_t len)
{
	const char *wrong = schema_pattern_add(run, text, len);

	return wrong ? schema_stuck(run, rule->node, rule->keyword->name, wrong) : !run->stuck;
}

static bool check_pattern(struct schema_run *run, struct schema_rule *rule)
{
	return is_type(rule->value, json_type_string) &&
	       check_expression(
		       run, rule, json_object_get_string(rule->value), (size_t)json_object_get_string_len(rule->value));
}

static bool check_pattern_map(struct schema_run *run, struct schema_rule *rule)
{
	json_each_member (rule->value, m)
		if (!check_expression(run, rule, m.name, strlen(m.name)))
			return false;
	return check_schema_map(run, rule);
}

static bool is_string_list(struct schema_run *run, struct json_object *value)
{
	size_t n, i;

	if (!is_type(value, json_type_array))
		return false;
	n = json_object_array_length(value);
	for (i = 0; i < n; i++)
		if (!is_type(json_object_array_get_idx(value, i), json_type_string))
			return false;
	return schema_charge(run, n);
}

static bool check_string_list(struct schema_run *run, struct schema_rule *rule)
{
	return is_string_list(run, rule->value);
}

static bool check_string_list_map(struct schema_run *run, struct schema_rule *rule)
{
	json_each_member (rule->value, m)
		if (!schema_charge(run, 1) || !is_string_list(run, m.value))
			return false;
	return is_type(rule->value, json_type_object);
}

/* The older drafts' keyword, which is two today. */
static bool check_dependency_map(struct schema_run *run, struct schema_rule *rule)
{
	json_each_member (rule->value, m)
		if (is_type(m.value, json_type_array) ? !is_string_list(run, m.value)
						      : !check_child(run, rule, m.value, m.name, -1))
			return false;
	return is_type(rule->value, json_type_object);
}

static bool is_type_name(struct json_object *value)
{
	static const char *const names[] = {"null", "boolean", "object", "array", "number", "integer", "string"};
	size_t len = (size_t)json_object_get_string_len(value), i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (len == strlen(names[i]) && strcmp(json_object_get_string(value), names[i]) == 0)
			return true;
	return false;
}

static bool check_types(struct schema_run *run, struct schema_rule *rule)
{
	size_t n, i;

	if (!is_type(rule->value, json_type_array))
		return is_type_name(rule->value);
	n = json_object_array_length(rule->value);
	for (i = 0; i < n; i++)
		if (!schema_charge(run, 1) || !is_type_name(json_object_array_get_idx(rule->value, i)))
			return false;
	return n > 0;
}

static bool check_list(struct schema_run *run, struct schema_rule *rule)
{
	(void)run;
	return is_type(rule->value, json_type_array);
}

static bool check_count(struct schema_run *run, struct schema_rule *rule)
{
	(void)run;
	return is_count(rule->value);
}

static bool check_number(struct schema_run *run, struct schema_rule *rule)
{
	(void)run;
	return schema_is_number(rule->value);
}

static bool check_positive(struct schema_run *run, struct schema_rule *rule)
{
	(void)run;
	return schema_is_number(rule->value) && schema_compare_count(0, rule->value) < 0;
}

static bool check_bool(struct schema_run *run, struct schema_rule *rule)
{
	(void)run;
	return is_type(rule->value, json_type_boolean);
}

/* It waits until all that it may lead to is known. */
static bool check_ref(struct schema_run *run, struct schema_rule *rule)
{
	if (!is_type(rule->value, json_type_string))
		return false;
	rule->next_ref = run->refs;
	run->refs = rule;
	return true;
}

static bool check_beyond_us(struct schema_run *run, struct schema_rule *rule)
{
	return schema_stuck(run, rule->node, rule->keyword->name, "is a keyword that is not judged here");
}

static bool (*const checks[SHAPE_COUNT_OF_SHAPES])(struct schema_run *run, struct schema_rule *rule) = {
	[SHAPE_ANY] = check_any,
	[SHAPE_SCHEMA] = check_schema,
	[SHAPE_SCHEMA_LIST] = check_schema_list,
	[SHAPE_SCHEMA_OR_LIST] = check_schema_or_list,
	[SHAPE_SCHEMA_MAP] = check_schema_map,
	[SHAPE_PATTERN_MAP] = check_pattern_map,
	[SHAPE_STRING_LIST] = check_string_list,
	[SHAPE_STRING_LIST_MAP] = check_string_list_map,
	[SHAPE_DEPENDENCY_MAP] = check_dependency_map,
	[SHAPE_TYPES] = check_types,
	[SHAPE_LIST] = check_list,
	[SHAPE_COUNT] = check_count,
	[SHAPE_NUMBER] = check_number,
	[SHAPE_POSITIVE] = check_positive,
	[SHAPE_BOOL] = check_bool,
	[SHAPE_PATTERN] = check_pattern,
	[SHAPE_REF] = check_ref,
	[SHAPE_BEYOND_US] = check_beyond_us,
};

/* ── One schema ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Makes the node known as uri#anchor. Where two have one name, a reference to it means neither. */
static bool add_place(struct schema_run *run, struct schema_node *node, const char *uri, const char *anchor)
{
	const char *key = arena_printf(&run->arena, "%s#%s", uri, anchor);
	struct lh_entry *entry = lh_table_lookup_entry(run->places, key);

	if (entry && lh_entry_v(entry) != node)
		lh_entry_set_val(entry, NULL);
	else if (!entry && lh_table_insert(run->places, key, node))
		die("out of memory");
	return schema_charge_text(run, strlen(key));
}

/* A member that is a string without NUL; NULL if it is anything else. */
static const char *plain_string(struct json_object *obj, const char *name)
{
	const char *s = json_get_str(obj, name);

	return s && strlen(s) == (size_t)json_object_get_string_len(json_get(obj, name)) ? s : NULL;
}

#define ANCHOR_FIRST "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"

static bool read_anchor(struct schema_run *run, struct schema_node *node, const char *keyword)
{
	const char *anchor = plain_string(node->json, keyword);

	if (!json_has(node->json, keyword))
		return true;
	if (!anchor || !strspn(anchor, ANCHOR_FIRST) || anchor[strspn(anchor, ANCHOR_FIRST "0123456789-.")])
		return schema_stuck(run, node, keyword, malformed);
	return add_place(run, node, node->base, anchor);
}

/* Resolving goes over both a byte at a time. */
static bool charge_uris(struct schema_run *run, const char *base, const char *ref)
{
	return schema_charge(run, (strlen(base) + strlen(ref)) / 8);
}

/* An $id begins a resource of its own; it has no fragment, but for an empty one. */
static bool read_id(struct schema_run *run, struct schema_node *node)
{
	const char *id = plain_string(node->json, "$id");
	char own[SCHEMA_MAX_URI], base[SCHEMA_MAX_URI];
	size_t len;

	if (!json_has(node->json, "$id"))
		return true;
	len = id ? strcspn(id, "#") : 0;
	if (!id || (id[len] && id[len + 1]))
		return schema_stuck(run, node, "$id", malformed);
	if (len >= sizeof(own))
		return schema_stuck(run, node, "$id", "is too long");
	memcpy(own, id, len);
	own[len] = '\0';
	if (!charge_uris(run, node->base, own))
		return false;
	if (schema_uri_resolve(base, node->base, own))
		return schema_stuck(run, node, "$id", "is too long");
	node->base = arena_strdup(&run->arena, base);
	return add_place(run, node, base, "");
}

static bool read_rules(struct schema_run *run, struct schema_node *node)
{
	size_t n = (size_t)json_object_object_length(node->json);
	const struct schema_keyword *keyword;
	struct schema_rule *rule;

	if (!schema_charge(run, MEMBER_STEPS * n))
		return false;
	node->rules = arena_alloc(&run->arena, n * sizeof(*node->rules));
	json_each_member (node->json, m) {
		keyword = schema_keyword(m.name);
		if (!keyword)
			continue;
		rule = &node->rules[node->rule_count++];
		*rule = (struct schema_rule){.keyword = keyword, .value = m.value, .node = node};
		if (!checks[keyword->shape](run, rule))
			return schema_stuck(run, node, keyword->name, malformed);
	}
	return true;
}

/* `where` says how to get there; NULL if stuck. */
static struct schema_node *read_schema(
	struct schema_run *run, struct json_object *json, const struct schema_node *where)
{
	struct schema_node *node;

	if (!is_type(json, json_type_object) && !is_type(json, json_type_boolean)) {
		schema_stuck(run, where, NULL, "is no schema: it is neither an object nor a boolean");
		return NULL;
	}
	node = schema_node_of(run, json);
	if (node)
		return node;
	if (!schema_charge(run, NODE_STEPS))
		return NULL;
	node = arena_alloc(&run->arena, sizeof(*node));
	*node = *where;
	node->json = json;
	if (lh_table_insert(run->nodes, json, node))
		die("out of memory");
	if (is_type(json, json_type_boolean))
		return node;
	return read_id(run, node) && read_anchor(run, node, "$anchor") && read_anchor(run, node, "$dynamicAnchor") &&
			       read_rules(run, node)
		       ? node
		       : NULL;
}

/* ── References ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* RFC 6901 §4: ~1 is a slash and ~0 a tilde; undone in place. */
static bool unescape_token(char *token)
{
	char *out = token, *p;

	for (p = token; *p; p++) {
		*out = *p;
		if (*p == '~') {
			p++;
			if (*p != '0' && *p != '1')
				return false;
			*out = *p == '0' ? '~' : '/';
		}
		out++;
	}
	*out = '\0';
	return true;
}

static bool step_down(struct json_object **json, char *token)
{
	size_t digits = strspn(token, "0123456789");

	if (!unescape_token(token))
		return false;
	if (is_type(*json, json_type_object))
		return json_object_object_get_ex(*json, token, json);
	if (!is_type(*json, json_type_array) || !digits || digits > 9 || token[digits] || (digits > 1 && *token == '0'))
		return false;
	digits = (size_t)atoi(token);
	if (digits >= json_object_array_length(*json))
		return false;
	*json = json_object_array_get_idx(*json, digits);
	return true;
}

/*
 * Follows a JSON pointer from `node`. What it leads to may stand where no keyword is and be read as a schema only now;
 * its base is that of the last schema on the way.
 */
static struct schema_node *follow(struct schema_run *run, struct schema_node *node, char *pointer, const char *ref)
{
	struct json_object *json = node->json;
	struct schema_node where = {.keyword = ref, .index = -1}, *known;
	char *token;

	known = node;
	strsep(&pointer, "/");
	while (pointer) {
		token = strsep(&pointer, "/");
		if (!schema_charge_text(run, strlen(token)) || !step_down(&json, token))
			return NULL;
		node = schema_node_of(run, json);
		if (node)
			known = node;
	}
	where.base = known->base;
	return read_schema(run, json, &where);
}

static struct schema_node *find_target(struct schema_run *run, const struct schema_rule *rule, char *ref)
{
	char uri[SCHEMA_MAX_URI], key[2 * SCHEMA_MAX_URI], *fragment = ref + strcspn(ref, "#");
	const char *text = json_object_get_string(rule->value);
	void *found = NULL;
	bool pointer;

	if (*fragment)
		*fragment++ = '\0';
	if (!charge_uris(run, rule->node->base, ref) || schema_uri_resolve(uri, rule->node->base, ref) ||
		schema_uri_decode(fragment))
		return NULL;
	pointer = !*fragment || *fragment == '/';
	snprintf(key, sizeof(key), "%s#%s", uri, pointer ? "" : fragment);
	lh_table_lookup_ex(run->places, key, &found);
	if (!schema_charge_text(run, strlen(key)) || !found)
		return NULL;
	return pointer ? follow(run, found, fragment, text) : found;
}

static bool resolve(struct schema_run *run, struct schema_rule *rule)
{
	const char *text = json_object_get_string(rule->value);
	size_t len = (size_t)json_object_get_string_len(rule->value);
	char ref[SCHEMA_MAX_URI];

	if (!schema_charge(run, NODE_STEPS))
		return false;
	if (len >= sizeof(ref))
		return schema_stuck(run, rule->node, rule->keyword->name, "is too long");
	memcpy(ref, text, len + 1);
	rule->target = strlen(ref) == len ? find_target(run, rule, ref) : NULL;
	return rule->target ? true
			    : schema_stuck(run, rule->node, rule->keyword->name, "leads nowhere within the schema");
}

const struct schema_node *schema_compile(struct schema_run *run, struct json_object *schema)
{
	struct schema_node where = {.keyword = "#", .index = -1, .base = ""}, *root;
	struct schema_rule *rule;

	root = read_schema(run, schema, &where);
	if (!root || (!json_has(schema, "$id") && !add_place(run, root, "", "")))
		return NULL;
	while (run->refs) {
		rule = run->refs;
		run->refs = rule->next_ref;
		if (!resolve(run, rule))
			return NULL;
	}
	return root;
}
