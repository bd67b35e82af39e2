/* A table of fields, one line each; adding a field is adding a line. */
#include "wire/chat.h"

#include "wire/fields.h"

#include <stdio.h>
#include <string.h>

#define ANY .min = -9.3e18, .max = 9.3e18

static const struct field chat_fields[] = {
	{"model", FIELD_STRING, 0, 256},
	{"messages", FIELD_ARRAY, 0, 0},
	{"stream", FIELD_BOOLEAN, 0, 0},
	{"stream_options", FIELD_OBJECT, 0, 0},
	{"temperature", FIELD_NUMBER, 0, 2},
	{"top_p", FIELD_NUMBER, 0, 1},
	{"n", FIELD_INTEGER, 1, 128},
	{"max_tokens", FIELD_INTEGER, 1, 1e9},
	{"max_completion_tokens", FIELD_INTEGER, 1, 1e9},
	{"presence_penalty", FIELD_NUMBER, -2, 2},
	{"frequency_penalty", FIELD_NUMBER, -2, 2},
	{"seed", FIELD_INTEGER, ANY},
	{"stop", FIELD_STRING_OR_ARRAY, 0, 0},
	{"logprobs", FIELD_BOOLEAN, 0, 0},
	{"top_logprobs", FIELD_INTEGER, 0, 20},
	{"logit_bias", FIELD_OBJECT, 0, 0},
	{"tools", FIELD_ARRAY, 0, 0},
	{"tool_choice", FIELD_STRING_OR_OBJECT, 0, 0},
	{"parallel_tool_calls", FIELD_BOOLEAN, 0, 0},
	{"functions", FIELD_ARRAY, 0, 0},
	{"function_call", FIELD_STRING_OR_OBJECT, 0, 0},
	{"response_format", FIELD_OBJECT, 0, 0},
	{"prediction", FIELD_OBJECT, 0, 0},
	{"modalities", FIELD_ARRAY, 0, 0},
	{"audio", FIELD_OBJECT, 0, 0},
	{"web_search_options", FIELD_OBJECT, 0, 0},
	{"metadata", FIELD_OBJECT, 0, 0},
	{"store", FIELD_BOOLEAN, 0, 0},
	{"user", FIELD_STRING, 0, 0},
	{"safety_identifier", FIELD_STRING, 0, 0},
	{"prompt_cache_key", FIELD_STRING, 0, 0},
	{"reasoning_effort", FIELD_STRING, 0, 0},
	{"verbosity", FIELD_STRING, 0, 0},
	{"service_tier", FIELD_STRING, 0, 0},
};

static const struct field text_fields[] = {
	{"model", FIELD_STRING, 0, 256},
	{"prompt", FIELD_STRING_OR_ARRAY, 0, 0},
	{"stream", FIELD_BOOLEAN, 0, 0},
	{"stream_options", FIELD_OBJECT, 0, 0},
	{"suffix", FIELD_STRING, 0, 0},
	{"max_tokens", FIELD_INTEGER, 0, 1e9},
	{"temperature", FIELD_NUMBER, 0, 2},
	{"top_p", FIELD_NUMBER, 0, 1},
	{"n", FIELD_INTEGER, 1, 128},
	{"best_of", FIELD_INTEGER, 0, 20},
	{"logprobs", FIELD_INTEGER, 0, 5},
	{"echo", FIELD_BOOLEAN, 0, 0},
	{"stop", FIELD_STRING_OR_ARRAY, 0, 0},
	{"presence_penalty", FIELD_NUMBER, -2, 2},
	{"frequency_penalty", FIELD_NUMBER, -2, 2},
	{"logit_bias", FIELD_OBJECT, 0, 0},
	{"seed", FIELD_INTEGER, ANY},
	{"user", FIELD_STRING, 0, 0},
};

/* The members that a content part of a known type must have. */
static const struct part {
	const char *type, *member;
	enum field_kind kind;
	const char *inner; /* a string that the member, an object, must have */
} parts[] = {
	{"text", "text", FIELD_STRING, NULL},
	{"refusal", "refusal", FIELD_STRING, NULL},
	{"image_url", "image_url", FIELD_OBJECT, "url"},
	{"input_audio", "input_audio", FIELD_OBJECT, "data"},
	{"file", "file", FIELD_OBJECT, NULL},
};

static int check_part(struct json_object *part, const char *at, struct err *err)
{
	const char *type = json_get_str(part, "type");
	struct json_object *v;
	char param[FIELD_PATH + 64];
	size_t i;

	if (!field_is(part, FIELD_OBJECT))
		return field_wrong_type(err, at, "an object", part);
	snprintf(param, sizeof(param), "%s.type", at);
	if (!json_get(part, "type"))
		return field_missing(err, param);
	if (!type)
		return field_wrong_type(err, param, "a string", json_get(part, "type"));
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strcmp(type, parts[i].type) != 0)
			continue;
		snprintf(param, sizeof(param), "%s.%s", at, parts[i].member);
		v = json_get(part, parts[i].member);
		if (!v)
			return field_missing(err, param);
		if (!field_is(v, parts[i].kind))
			return field_wrong_kind(err, param, parts[i].kind, v);
		if (!parts[i].inner)
			return 0;
		snprintf(param, sizeof(param), "%s.%s.%s", at, parts[i].member, parts[i].inner);
		if (!json_get(v, parts[i].inner))
			return field_missing(err, param);
		if (!json_get_str(v, parts[i].inner))
			return field_wrong_type(err, param, "a string", json_get(v, parts[i].inner));
	}
	return 0; /* a type that we do not know is the provider's business */
}

static int check_content(struct json_object *message, const char *at, const char *role, struct err *err)
{
	struct json_object *content = json_get(message, "content");
	char param[FIELD_PATH];
	size_t i, n;

	snprintf(param, sizeof(param), "%s.content", at);
	if (!content) /* an assistant may have called tools, refused or spoken instead */
		return strcmp(role, "assistant") == 0 || strcmp(role, "function") == 0 ? 0 : field_missing(err, param);
	if (field_is(content, FIELD_STRING))
		return 0;
	if (!field_is(content, FIELD_ARRAY))
		return field_wrong_type(err, param, "a string or an array of content parts", content);
	n = json_object_array_length(content);
	for (i = 0; i < n; i++) {
		snprintf(param, sizeof(param), "%s.content[%zu]", at, i);
		if (check_part(json_object_array_get_idx(content, i), param, err) != 0)
			return -1;
	}
	return 0;
}

static int check_tool_calls(struct json_object *message, const char *at, struct err *err)
{
	struct json_object *calls = json_get(message, "tool_calls"), *call, *function;
	char param[FIELD_PATH];
	size_t i;

	snprintf(param, sizeof(param), "%s.tool_calls", at);
	if (!calls)
		return 0;
	if (!field_is(calls, FIELD_ARRAY))
		return field_wrong_type(err, param, "an array", calls);
	for (i = 0; i < json_object_array_length(calls); i++) {
		call = json_object_array_get_idx(calls, i);
		snprintf(param, sizeof(param), "%s.tool_calls[%zu]", at, i);
		if (!field_is(call, FIELD_OBJECT))
			return field_wrong_type(err, param, "an object", call);
		function = json_get(call, "function");
		snprintf(param, sizeof(param), "%s.tool_calls[%zu].function", at, i);
		if (function && !field_is(function, FIELD_OBJECT))
			return field_wrong_type(err, param, "an object", function);
	}
	return 0;
}

static int check_message(struct json_object *message, size_t index, struct err *err)
{
	static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function"};
	char at[32], param[64];
	const char *role;
	size_t i;

	snprintf(at, sizeof(at), "messages[%zu]", index);
	if (!field_is(message, FIELD_OBJECT))
		return field_wrong_type(err, at, "an object", message);
	snprintf(param, sizeof(param), "%s.role", at);
	if (!json_get(message, "role"))
		return field_missing(err, param);
	role = json_get_str(message, "role");
	if (!role)
		return field_wrong_type(err, param, "a string without U+0000", json_get(message, "role"));
	for (i = 0; i < sizeof(roles) / sizeof(roles[0]) && strcmp(role, roles[i]) != 0; i++)
		;
	if (i == sizeof(roles) / sizeof(roles[0]))
		return err_set(err, ERR_INVALID_VALUE, param,
			"Invalid value for '%s': '%.64s'. Supported values are: 'system', 'developer', 'user', "
			"'assistant', 'tool' and 'function'.",
			param, role);
	if (check_content(message, at, role, err) != 0 || check_tool_calls(message, at, err) != 0)
		return -1;
	snprintf(param, sizeof(param), "%s.name", at);
	if (json_get(message, "name") && !field_is(json_get(message, "name"), FIELD_STRING))
		return field_wrong_kind(err, param, FIELD_STRING, json_get(message, "name"));
	snprintf(param, sizeof(param), "%s.tool_call_id", at);
	if (json_get(message, "tool_call_id") && !field_is(json_get(message, "tool_call_id"), FIELD_STRING))
		return field_wrong_kind(err, param, FIELD_STRING, json_get(message, "tool_call_id"));
	if (strcmp(role, "tool") == 0 && !json_get(message, "tool_call_id"))
		return field_missing(err, param);
	return 0;
}

/* A function needs a name; what another type of tool needs, its provider knows. */
static int check_tools(struct json_object *body, struct err *err)
{
	struct json_object *tools = json_get_array(body, "tools"), *function;
	char param[FIELD_PATH];
	const char *type;
	size_t i;

	if (fields_check_elements(body, "tools", FIELD_OBJECT, err) != 0)
		return -1;
	for (i = 0; tools && i < json_object_array_length(tools); i++) {
		type = json_get_str(json_object_array_get_idx(tools, i), "type");
		function = json_get(json_object_array_get_idx(tools, i), "function");
		snprintf(param, sizeof(param), "tools[%zu].%s", i, type ? "function" : "type");
		if (!type || (strcmp(type, "function") == 0 && !function))
			return field_missing(err, param);
		if (strcmp(type, "function") != 0)
			continue;
		if (!field_is(function, FIELD_OBJECT))
			return field_wrong_kind(err, param, FIELD_OBJECT, function);
		snprintf(param, sizeof(param), "tools[%zu].function.name", i);
		if (!json_get(function, "name"))
			return field_missing(err, param);
		if (!json_get_str(function, "name"))
			return field_wrong_kind(err, param, FIELD_STRING, json_get(function, "name"));
	}
	return 0;
}

static int check_logit_bias(struct json_object *body, struct err *err)
{
	char param[FIELD_PATH];

	json_each_member (json_get(body, "logit_bias"), m) {
		snprintf(param, sizeof(param), "logit_bias.%.40s", m.name);
		if (!field_is(m.value, FIELD_NUMBER))
			return field_wrong_kind(err, param, FIELD_NUMBER, m.value);
	}
	return 0;
}

static int check_response_format(struct json_object *body, struct err *err)
{
	struct json_object *format = json_get_object(body, "response_format"), *schema;

	if (!format)
		return 0;
	if (!json_get(format, "type"))
		return field_missing(err, "response_format.type");
	if (!json_get_str(format, "type"))
		return field_wrong_type(err, "response_format.type", "a string", json_get(format, "type"));
	if (strcmp(json_get_str(format, "type"), "json_schema") != 0)
		return 0;
	schema = json_get(format, "json_schema");
	if (!schema)
		return field_missing(err, "response_format.json_schema");
	if (!field_is(schema, FIELD_OBJECT))
		return field_wrong_type(err, "response_format.json_schema", "an object", schema);
	return 0;
}

static int check_messages(struct json_object *body, struct err *err)
{
	struct json_object *messages = json_get_array(body, "messages");
	size_t i, n;

	if (!messages)
		return field_missing(err, "messages");
	n = json_object_array_length(messages);
	if (n == 0)
		return err_set(err, ERR_INVALID_VALUE, "messages",
			"Invalid 'messages': empty array. Expected an array with at least one message.");
	for (i = 0; i < n; i++)
		if (check_message(json_object_array_get_idx(messages, i), i, err) != 0)
			return -1;
	return 0;
}

/* Whatever they say, unless it is false or null: the provider keeps something, or answers behind our back. */
static bool has_side_effect(struct json_object *body)
{
	static const char *const names[] = {"store", "background", "conversation"};
	struct json_object *v;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		v = json_get(body, names[i]);
		if (v && !(field_is(v, FIELD_BOOLEAN) && !json_get_bool(body, names[i], false)))
			return true;
	}
	return false;
}

/* What both operations have. */
static int take_facts(struct chat *chat, struct json_object *body, struct err *err)
{
	struct json_object *options = json_get_object(body, "stream_options"),
			   *usage = json_get(options, "include_usage"), *temperature = json_get(body, "temperature");

	if (usage && !field_is(usage, FIELD_BOOLEAN))
		return field_wrong_kind(err, "stream_options.include_usage", FIELD_BOOLEAN, usage);
	*chat = (struct chat){
		.body = body,
		.model = json_get_str(body, "model"),
		.choices = (int)json_get_int(body, "n", 1),
		.stream = json_get_bool(body, "stream", false),
		.include_usage = json_get_bool(options, "include_usage", false),
		.side_effect = has_side_effect(body),
		.temperature_zero = temperature && json_object_get_double(temperature) == 0,
		.user = json_get_str(body, "safety_identifier"),
	};
	if (!chat->user)
		chat->user = json_get_str(body, "user");
	if (options && !chat->stream)
		return err_set(err, ERR_INVALID_VALUE, "stream_options",
			"The 'stream_options' parameter is only allowed when 'stream' is enabled.");
	return 0;
}

int chat_read(struct chat *chat, struct json_object *body, struct err *err)
{
	if (fields_check(chat_fields, sizeof(chat_fields) / sizeof(chat_fields[0]), body, err) != 0 ||
		check_messages(body, err) != 0 || check_tools(body, err) != 0 || check_logit_bias(body, err) != 0 ||
		fields_check_elements(body, "modalities", FIELD_STRING, err) != 0 ||
		fields_check_elements(body, "stop", FIELD_STRING, err) != 0 || check_response_format(body, err) != 0)
		return -1;
	return take_facts(chat, body, err);
}

/* A string, an array of strings, of token numbers, or of arrays of token numbers. */
static int check_prompt(struct json_object *body, struct err *err)
{
	struct json_object *prompt = json_get(body, "prompt"), *first;

	if (!prompt)
		return field_missing(err, "prompt");
	if (!field_is(prompt, FIELD_ARRAY))
		return 0;
	if (json_object_array_length(prompt) == 0)
		return err_set(err, ERR_INVALID_VALUE, "prompt", "Invalid 'prompt': empty array.");
	first = json_object_array_get_idx(prompt, 0);
	if (!field_is(first, FIELD_STRING) && !field_is(first, FIELD_INTEGER) && !field_is(first, FIELD_ARRAY))
		return field_wrong_type(
			err, "prompt[0]", "a string, a token number or an array of token numbers", first);
	return fields_check_elements(body, "prompt",
		field_is(first, FIELD_STRING)    ? FIELD_STRING
		: field_is(first, FIELD_INTEGER) ? FIELD_INTEGER
						 : FIELD_ARRAY,
		err);
}

int completion_read(struct chat *chat, struct json_object *body, struct err *err)
{
	if (fields_check(text_fields, sizeof(text_fields) / sizeof(text_fields[0]), body, err) != 0 ||
		check_prompt(body, err) != 0 || fields_check_elements(body, "stop", FIELD_STRING, err) != 0)
		return -1;
	return take_facts(chat, body, err);
}
