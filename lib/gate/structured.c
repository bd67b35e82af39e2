/* A refusal or a call of tools is no structured output, and an answer that was cut short says so in its finish_reason.
 */
#include "gate/structured.h"

#include "gate/relay.h"
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
	if (strcmp(type, "json_schema") != 0 && strcmp(type, "json_object") != 0)
		return false;
	*schema = json_get(json_get_object(format, "json_schema"), "schema");
	if (!*schema) /* Together, llama.cpp */
		*schema = json_get(format, "schema");
	return *schema || strcmp(type, "json_object") == 0;
}

/* What the parser says of a text that is no value to it. */
static const struct {
	enum err_code code;
	enum schema_verdict verdict;
	const char *detail;
} unread[] = {
	{ERR_INVALID_JSON, SCHEMA_MISFIT, "the answer is not JSON"},
	{ERR_UNREADABLE_JSON, SCHEMA_UNJUDGED,
		"the answer has a lone surrogate, a name with a NUL, or more levels than can be read"},
	{ERR_DUPLICATE_NAME, SCHEMA_UNJUDGED, "a name stands twice in the answer"},
	{ERR_NUMBER_RANGE, SCHEMA_UNJUDGED, "a number in the answer does not fit 64 bits"},
	{ERR_BODY_TOO_LARGE, SCHEMA_UNJUDGED, "the answer has more values than can be held"},
};

static enum schema_verdict no_value(enum err_code code, const char **detail)
{
	size_t i;

	for (i = 0; unread[i].code != code; i++)
		BUG_ON(i + 1 == sizeof(unread) / sizeof(unread[0]));
	*detail = unread[i].detail;
	return unread[i].verdict;
}

/* What was asked for, and what is left for judging all of the answer's choices. */
struct asked {
	struct txn *t;
	struct json_object *schema; /* NULL: any JSON object */
	size_t steps;
	size_t max_weight;
	bool misfit; /* one of them is */
	bool silent; /* one of them was cut short before it said anything */
};

/* A NULL value is JSON's null. */
static enum schema_verdict check_value(struct asked *a, struct json_object *value, const char **detail)
{
	struct schema_report report = {"", "is no object"};
	enum schema_verdict verdict;
	const char *place;

	if (a->schema)
		verdict = schema_judge(a->schema, value, &a->steps, &report);
	else
		verdict = json_object_is_type(value, json_type_object) ? SCHEMA_FITS : SCHEMA_MISFIT;
	place = *report.place ? report.place : verdict == SCHEMA_MISFIT ? "the answer" : "the schema";
	if (verdict != SCHEMA_FITS)
		*detail = arena_printf(a->t->arena, "%s %s", place, report.reason);
	return verdict;
}

static enum schema_verdict check_text(struct asked *a, const char *text, size_t len, const char **detail)
{
	struct json_object *value;
	enum schema_verdict verdict;
	struct err err;

	value = json_parse_within(text, len, a->max_weight, &err);
	if (!value && err.code != ERR_INVALID_TYPE) /* which is the parser's word for null */
		return no_value(err.code, detail);
	verdict = check_value(a, value, detail);
	json_object_put(value);
	return verdict;
}

static bool add_text(struct buf *out, struct json_object *text)
{
	if (!json_object_is_type(text, json_type_string))
		return false;
	buf_add(out, json_object_get_string(text), (size_t)json_object_get_string_len(text));
	return true;
}

/* Of a content in parts (Mistral's) the texts together are the answer, and thoughts are not. False: there is none. */
static bool text_of(struct json_object *content, struct buf *out)
{
	struct json_object *part;
	const char *type;
	bool any = add_text(out, content);
	size_t i;

	for (i = 0; json_object_is_type(content, json_type_array) && i < json_object_array_length(content); i++) {
		part = json_object_array_get_idx(content, i);
		type = json_get_str(part, "type");
		if (type && strcmp(type, "text") == 0)
			any |= add_text(out, json_get(part, "text"));
	}
	return any;
}

/* A refusal, or a call; several providers send these members empty with every answer. */
static bool says_otherwise(struct json_object *message)
{
	const char *refusal = json_get_str(message, "refusal");
	struct json_object *calls = json_get_array(message, "tool_calls");

	return (refusal && *refusal) || (calls && json_object_array_length(calls) > 0) ||
	       json_get_str(json_get_object(message, "function_call"), "name");
}

static bool cut_short(struct json_object *choice)
{
	const char *reason = json_get_str(choice, "finish_reason");

	return reason && (strcmp(reason, "length") == 0 || strcmp(reason, "content_filter") == 0);
}

/* A misfit says more than what could not be judged, wherever they stand. */
static void check_choice(struct asked *a, struct json_object *choice, struct json_object *message)
{
	struct buf text = BUF_INIT((size_t)a->t->model->provider->max_response + 1);
	bool said = text_of(json_get(message, "content"), &text);
	enum schema_verdict verdict = SCHEMA_MISFIT;
	const char *detail = "there is no answer";

	if (said)
		verdict = check_text(a, text.data ? text.data : "", text.len, &detail);
	buf_release(&text);
	if (!said && cut_short(choice)) {
		a->silent = true;
		return;
	}
	if (verdict == SCHEMA_FITS || (verdict == SCHEMA_UNJUDGED && a->t->schema))
		return;
	a->t->schema = verdict == SCHEMA_MISFIT ? "invalid" : "unjudged";
	a->t->schema_detail = detail;
	a->misfit = verdict == SCHEMA_MISFIT;
}

bool structured_check(struct txn *t, struct json_object *completion)
{
	struct json_object *choices = json_get_array(completion, "choices"), *choice, *message;
	struct asked asked = {.t = t,
		.steps = SCHEMA_MAX_STEPS,
		.max_weight = RELAY_TREE_GROWTH * (size_t)t->model->provider->max_response};
	size_t i;

	if (!t->endpoint->operation->form->message || !asked_for(t, &asked.schema))
		return true;
	for (i = 0; choices && i < json_object_array_length(choices) && !asked.misfit; i++) {
		choice = json_object_array_get_idx(choices, i);
		message = json_get_object(choice, "message");
		if (!says_otherwise(message))
			check_choice(&asked, choice, message);
	}
	return !t->schema && !asked.silent;
}
