/* A refusal or a call of tools is no structured output, and an answer that was cut short says so in its finish_reason.
 */
#include "gate/structured.h"

#include "wire/schema.h"

#include <string.h>

/* What was asked for: false, nothing; *schema NULL: any JSON object. */
static bool asked_for(const struct txn *t, struct json_object **schema)
{
	struct json_object *format = json_get_object(t->body, "response_format");
	const char *type = json_get_str(format, "type");

	*schema = NULL;
	if (!type)
		return false;
	if (strcmp(type, "json_schema") == 0)
		*schema = json_get(json_get_object(format, "json_schema"), "schema");
	return *schema || strcmp(type, "json_object") == 0;
}

static enum schema_verdict check_text(struct txn *t, struct json_object *schema, struct json_object *content)
{
	struct json_object *value;
	struct schema_report report;
	enum schema_verdict verdict;
	struct err err;

	if (!json_object_is_type(content, json_type_string)) {
		t->schema_detail = "there is no answer";
		return SCHEMA_MISFIT;
	}
	value = json_parse(json_object_get_string(content), (size_t)json_object_get_string_len(content), &err);
	if (!value) {
		t->schema_detail = "the answer is not JSON";
		return err.code == ERR_INVALID_JSON ? SCHEMA_MISFIT : SCHEMA_UNJUDGED; /* null, or beyond our numbers */
	}
	if (schema) {
		verdict = schema_judge(schema, value, &report);
	} else {
		verdict = json_object_is_type(value, json_type_object) ? SCHEMA_FITS : SCHEMA_MISFIT;
		report = (struct schema_report){"", "it is no object"};
	}
	if (verdict != SCHEMA_FITS)
		t->schema_detail = arena_printf(t->arena, "%s %s", report.place, report.reason);
	json_object_put(value);
	return verdict;
}

/* A refusal, or a call of tools; several providers send both members empty with every answer. */
static bool says_otherwise(struct json_object *message)
{
	const char *refusal = json_get_str(message, "refusal");
	struct json_object *calls = json_get_array(message, "tool_calls");

	return (refusal && *refusal) || (calls && json_object_array_length(calls) > 0);
}

bool structured_check(struct txn *t, struct json_object *completion)
{
	struct json_object *choices = json_get_array(completion, "choices"), *schema, *message, *content;
	enum schema_verdict verdict;
	size_t i;

	if (!t->endpoint->operation->form->message || !asked_for(t, &schema))
		return true;
	for (i = 0; choices && i < json_object_array_length(choices); i++) {
		message = json_get_object(json_object_array_get_idx(choices, i), "message");
		content = json_get(message, "content");
		if (says_otherwise(message))
			continue;
		verdict = check_text(t, schema, content);
		if (verdict == SCHEMA_MISFIT)
			t->schema = "invalid";
		else if (verdict == SCHEMA_UNJUDGED && !t->schema)
			t->schema = "unjudged";
	}
	return !t->schema;
}
