/* A table of fields, one line each; adding a field is adding a line. */
#include "wire/chat.h"

#include <stdio.h>
#include <string.h>

enum { PATH_MAX_BYTES = 96 };

enum kind { STRING, BOOLEAN, INTEGER, NUMBER, OBJECT, ARRAY, STRING_OR_OBJECT, STRING_OR_ARRAY };

struct field {
	const char *name;
	enum kind kind;
	double min, max; /* INTEGER and NUMBER: range; STRING: longest in bytes is max, 0 = any */
};

#define ANY .min = -9.3e18, .max = 9.3e18

static const struct field fields[] = {
	{"model", STRING, 0, 256},
	{"messages", ARRAY, 0, 0},
	{"stream", BOOLEAN, 0, 0},
	{"stream_options", OBJECT, 0, 0},
	{"temperature", NUMBER, 0, 2},
	{"top_p", NUMBER, 0, 1},
	{"n", INTEGER, 1, 128},
	{"max_tokens", INTEGER, 1, 1e9},
	{"max_completion_tokens", INTEGER, 1, 1e9},
	{"presence_penalty", NUMBER, -2, 2},
	{"frequency_penalty", NUMBER, -2, 2},
	{"seed", INTEGER, ANY},
	{"stop", STRING_OR_ARRAY, 0, 0},
	{"logprobs", BOOLEAN, 0, 0},
	{"top_logprobs", INTEGER, 0, 20},
	{"logit_bias", OBJECT, 0, 0},
	{"tools", ARRAY, 0, 0},
	{"tool_choice", STRING_OR_OBJECT, 0, 0},
	{"parallel_tool_calls", BOOLEAN, 0, 0},
	{"functions", ARRAY, 0, 0},
	{"function_call", STRING_OR_OBJECT, 0, 0},
	{"response_format", OBJECT, 0, 0},
	{"prediction", OBJECT, 0, 0},
	{"modalities", ARRAY, 0, 0},
	{"audio", OBJECT, 0, 0},
	{"web_search_options", OBJECT, 0, 0},
	{"metadata", OBJECT, 0, 0},
	{"store", BOOLEAN, 0, 0},
	{"user", STRING, 0, 0},
	{"safety_identifier", STRING, 0, 0},
	{"prompt_cache_key", STRING, 0, 0},
	{"reasoning_effort", STRING, 0, 0},
	{"verbosity", STRING, 0, 0},
	{"service_tier", STRING, 0, 0},
};

static const char *const kind_words[] = {"a string", "a boolean", "an integer", "a number", "an object", "an array",
	"a string or an object", "a string or an array of strings"};

static bool is_kind(struct json_object *v, enum kind kind)
{
	switch (kind) {
	case STRING: return json_object_is_type(v, json_type_string);
	case BOOLEAN: return json_object_is_type(v, json_type_boolean);
	case INTEGER: return json_object_is_type(v, json_type_int);
	case NUMBER: return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
	case OBJECT: return json_object_is_type(v, json_type_object);
	case ARRAY: return json_object_is_type(v, json_type_array);
	case STRING_OR_OBJECT: return is_kind(v, STRING) || is_kind(v, OBJECT);
	case STRING_OR_ARRAY: return is_kind(v, STRING) || is_kind(v, ARRAY);
	}
	return false;
}

static int wrong_type(struct err *err, const char *param, const char *expected, struct json_object *found)
{
	return err_set(err, ERR_INVALID_TYPE, param, "Invalid type for '%s': expected %s, but got %s instead.", param,
		expected, json_type_word(found));
}

static int missing(struct err *err, const char *param)
{
	return err_set(err, ERR_MISSING_PARAMETER, param, "Missing required parameter: '%s'.", param);
}

static int check_field(const struct field *f, struct json_object *v, struct err *err)
{
	double d;

	if (!is_kind(v, f->kind))
		return wrong_type(err, f->name, kind_words[f->kind], v);
	if (f->kind == INTEGER || f->kind == NUMBER) {
		d = json_object_get_double(v);
		if (d < f->min || d > f->max)
			return err_set(err, ERR_INVALID_VALUE, f->name,
				"Invalid value for '%s': expected %s from %.15g to %.15g, but got %.15g.", f->name,
				kind_words[f->kind], f->min, f->max, d);
	}
	if (f->kind == STRING && strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v))
		return err_set(err, ERR_INVALID_VALUE, f->name, "Invalid value for '%s': it contains U+0000.", f->name);
	if (f->kind == STRING && f->max > 0 && json_object_get_string_len(v) > (int)f->max)
		return err_set(err, ERR_INVALID_VALUE, f->name, "Invalid value for '%s': at most %d bytes are allowed.",
			f->name, (int)f->max);
	return 0;
}

static int check_fields(struct json_object *body, struct err *err)
{
	struct json_object *v;
	size_t i;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		v = json_get(
			body, fields[i].name); /* a null is as good as nothing: several SDKs send it for "not set" */
		if (v && check_field(&fields[i], v, err) != 0)
			return -1;
	}
	return 0;
}

/* The members that a content part of a known type must have. */
static const struct part {
	const char *type, *member;
	enum kind kind;
	const char *inner; /* a string that the member, an object, must have */
} parts[] = {
	{"text", "text", STRING, NULL},
	{"refusal", "refusal", STRING, NULL},
	{"image_url", "image_url", OBJECT, "url"},
	{"input_audio", "input_audio", OBJECT, "data"},
	{"file", "file", OBJECT, NULL},
};

static int check_part(struct json_object *part, const char *at, struct err *err)
{
	const char *type = json_get_str(part, "type");
	struct json_object *v;
	char param[PATH_MAX_BYTES + 64];
	size_t i;

	if (!is_kind(part, OBJECT))
		return wrong_type(err, at, "an object", part);
	snprintf(param, sizeof(param), "%s.type", at);
	if (!json_get(part, "type"))
		return missing(err, param);
	if (!type)
		return wrong_type(err, param, "a string", json_get(part, "type"));
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strcmp(type, parts[i].type) != 0)
			continue;
		snprintf(param, sizeof(param), "%s.%s", at, parts[i].member);
		v = json_get(part, parts[i].member);
		if (!v)
			return missing(err, param);
		if (!is_kind(v, parts[i].kind))
			return wrong_type(err, param, kind_words[parts[i].kind], v);
		if (!parts[i].inner)
			return 0;
		snprintf(param, sizeof(param), "%s.%s.%s", at, parts[i].member, parts[i].inner);
		if (!json_get(v, parts[i].inner))
			return missing(err, param);
		if (!json_get_str(v, parts[i].inner))
			return wrong_type(err, param, "a string", json_get(v, parts[i].inner));
	}
	return 0; /* a type that we do not know is the provider's business */
}

static int check_content(struct json_object *message, const char *at, const char *role, struct err *err)
{
	struct json_object *content = json_get(message, "content");
	char param[PATH_MAX_BYTES];
	size_t i, n;

	snprintf(param, sizeof(param), "%s.content", at);
	if (!content) /* an assistant may have called tools, refused or spoken instead */
		return strcmp(role, "assistant") == 0 || strcmp(role, "function") == 0 ? 0 : missing(err, param);
	if (is_kind(content, STRING))
		return 0;
	if (!is_kind(content, ARRAY))
		return wrong_type(err, param, "a string or an array of content parts", content);
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
	char param[PATH_MAX_BYTES];
	size_t i;

	snprintf(param, sizeof(param), "%s.tool_calls", at);
	if (!calls)
		return 0;
	if (!is_kind(calls, ARRAY))
		return wrong_type(err, param, "an array", calls);
	for (i = 0; i < json_object_array_length(calls); i++) {
		call = json_object_array_get_idx(calls, i);
		snprintf(param, sizeof(param), "%s.tool_calls[%zu]", at, i);
		if (!is_kind(call, OBJECT))
			return wrong_type(err, param, "an object", call);
		function = json_get(call, "function");
		snprintf(param, sizeof(param), "%s.tool_calls[%zu].function", at, i);
		if (function && !is_kind(function, OBJECT))
			return wrong_type(err, param, "an object", function);
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
	if (!is_kind(message, OBJECT))
		return wrong_type(err, at, "an object", message);
	snprintf(param, sizeof(param), "%s.role", at);
	if (!json_get(message, "role"))
		return missing(err, param);
	role = json_get_str(message, "role");
	if (!role)
		return wrong_type(err, param, "a string without U+0000", json_get(message, "role"));
	for (i = 0; i < sizeof(roles) / sizeof(roles[0]) && strcmp(role, roles[i]) != 0; i++)
		;
	if (i == sizeof(roles) / sizeof(roles[0]))
		return err_set(err, ERR_INVALID_VALUE, param,
			"Invalid value for '%s': '%.64s'. Supported values are: 'system', 'developer', 'user', "
			"'assistant', 'tool' and 'function'.",
			param, role);
	if (check_content(message, at, role, err) != 0 || check_tool_calls(message, at, err) != 0)
		return -1;
	snprintf(param, sizeof(param), "%s.tool_call_id", at);
	if (strcmp(role, "tool") == 0 && !json_get(message, "tool_call_id"))
		return missing(err, param);
	return 0;
}

/* Every element of an array must be of one kind. */
static int check_elements(struct json_object *body, const char *name, enum kind kind, struct err *err)
{
	struct json_object *array = json_get_array(body, name), *v;
	char param[64];
	size_t i;

	for (i = 0; array && i < json_object_array_length(array); i++) {
		v = json_object_array_get_idx(array, i);
		snprintf(param, sizeof(param), "%s[%zu]", name, i);
		if (!is_kind(v, kind))
			return wrong_type(err, param, kind_words[kind], v);
	}
	return 0;
}

static int check_response_format(struct json_object *body, struct err *err)
{
	struct json_object *format = json_get_object(body, "response_format"), *schema;

	if (!format)
		return 0;
	if (!json_get(format, "type"))
		return missing(err, "response_format.type");
	if (!json_get_str(format, "type"))
		return wrong_type(err, "response_format.type", "a string", json_get(format, "type"));
	if (strcmp(json_get_str(format, "type"), "json_schema") != 0)
		return 0;
	schema = json_get(format, "json_schema");
	if (!schema)
		return missing(err, "response_format.json_schema");
	if (!is_kind(schema, OBJECT))
		return wrong_type(err, "response_format.json_schema", "an object", schema);
	return 0;
}

static int check_messages(struct json_object *body, struct err *err)
{
	struct json_object *messages = json_get_array(body, "messages");
	size_t i, n;

	if (!messages)
		return missing(err, "messages");
	n = json_object_array_length(messages);
	if (n == 0)
		return err_set(err, ERR_INVALID_VALUE, "messages",
			"Invalid 'messages': empty array. Expected an array with at least one message.");
	for (i = 0; i < n; i++)
		if (check_message(json_object_array_get_idx(messages, i), i, err) != 0)
			return -1;
	return 0;
}

int chat_read(struct chat *chat, struct json_object *body, struct err *err)
{
	struct json_object *options;

	if (!is_kind(body, OBJECT))
		return err_set(err, ERR_INVALID_TYPE, NULL, "The body must be a JSON object, but it is %s.",
			json_type_word(body));
	if (!json_get(body, "model"))
		return missing(err, "model");
	if (check_fields(body, err) != 0 || check_messages(body, err) != 0 ||
		check_elements(body, "tools", OBJECT, err) != 0 || check_elements(body, "stop", STRING, err) != 0 ||
		check_response_format(body, err) != 0)
		return -1;
	options = json_get_object(body, "stream_options");
	if (json_get(options, "include_usage") && !is_kind(json_get(options, "include_usage"), BOOLEAN))
		return wrong_type(err, "stream_options.include_usage", "a boolean", json_get(options, "include_usage"));
	*chat = (struct chat){
		.body = body,
		.model = json_get_str(body, "model"),
		.stream = json_get_bool(body, "stream", false),
		.include_usage = json_get_bool(options, "include_usage", false),
		.side_effect = json_get_bool(body, "store", false),
		.user = json_get_str(body, "safety_identifier"),
	};
	if (!chat->user)
		chat->user = json_get_str(body, "user");
	if (options && !chat->stream)
		return err_set(err, ERR_INVALID_VALUE, "stream_options",
			"The 'stream_options' parameter is only allowed when 'stream' is enabled.");
	return 0;
}
