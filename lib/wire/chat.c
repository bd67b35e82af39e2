/* Tables of fields, one line each; adding a field is adding a line. */
#include "wire/chat.h"

#include "wire/fields.h"

#include <stdio.h>
#include <string.h>

/* ---- tools ---- */

static const struct field function_fields[] = {
	FIELD("name", STRING, REQUIRED),
	FIELD("description", STRING),
	FIELD("parameters", OBJECT),
	FIELD("strict", BOOLEAN),
	FIELDS_END,
};

static const struct field grammar_fields[] = {
	FIELD("definition", STRING, REQUIRED),
	FIELD("syntax", STRING, REQUIRED),
	FIELDS_END,
};

static const struct field custom_format_fields[] = {
	FIELD("type", STRING, REQUIRED),
	FIELD("grammar", OBJECT, REQUIRED, OF_TYPE("grammar"), WITHIN(grammar_fields)),
	FIELDS_END,
};

static const struct field custom_fields[] = {
	FIELD("name", STRING, REQUIRED),
	FIELD("description", STRING),
	FIELD("format", OBJECT, WITHIN(custom_format_fields)),
	FIELDS_END,
};

static const struct field tool_fields[] = {
	/* a function is Mistral's default; of other types, the provider knows what they need */
	FIELD("type", STRING, REQUIRED, UNLESS("function")),
	FIELD("function", OBJECT, REQUIRED, OF_TYPE("function"), WITHIN(function_fields)),
	FIELD("custom", OBJECT, REQUIRED, OF_TYPE("custom"), WITHIN(custom_fields)),
	FIELDS_END,
};

static const struct field named_fields[] = {
	FIELD("name", STRING, REQUIRED),
	FIELDS_END,
};

static const struct field allowed_tools_fields[] = {
	FIELD("mode", STRING, REQUIRED),
	FIELD("tools", OBJECTS, REQUIRED),
	FIELDS_END,
};

static const struct field tool_choice_fields[] = {
	FIELD("type", STRING, REQUIRED, UNLESS("function")),
	FIELD("function", OBJECT, REQUIRED, OF_TYPE("function"), WITHIN(named_fields)),
	FIELD("custom", OBJECT, REQUIRED, OF_TYPE("custom"), WITHIN(named_fields)),
	FIELD("allowed_tools", OBJECT, REQUIRED, OF_TYPE("allowed_tools"), WITHIN(allowed_tools_fields)),
	FIELDS_END,
};

/* ---- messages ---- */

static const struct field image_fields[] = {
	FIELD("url", STRING, REQUIRED),
	FIELD("detail", STRING),
	FIELDS_END,
};

static const struct field audio_part_fields[] = {
	FIELD("data", STRING, REQUIRED),
	FIELD("format", STRING), /* not all need it: some take a URL as data */
	FIELDS_END,
};

static const struct field file_fields[] = {
	FIELD("file_id", STRING),
	FIELD("file_data", STRING),
	FIELD("filename", STRING),
	FIELDS_END,
};

static const struct field part_fields[] = {
	FIELD("type", STRING, REQUIRED),
	FIELD("text", STRING, REQUIRED, OF_TYPE("text")),
	FIELD("refusal", STRING, REQUIRED, OF_TYPE("refusal")),
	/* Mistral takes them as strings, and a file by its id beside the type */
	FIELD("image_url", STRING_OR_OBJECT, REQUIRED, OF_TYPE("image_url"), WITHIN(image_fields)),
	FIELD("input_audio", STRING_OR_OBJECT, REQUIRED, OF_TYPE("input_audio"), WITHIN(audio_part_fields)),
	FIELD("file", OBJECT, REQUIRED, OF_TYPE("file"), UNLESS("file_id"), WITHIN(file_fields)),
	FIELD("file_id", STRING, OF_TYPE("file")),
	FIELDS_END,
};

/* A client sends back what a provider has said, and providers leave things out: what is there must be of its type. */
static const struct field called_function_fields[] = {
	FIELD("name", STRING),
	FIELD("arguments", STRING_OR_OBJECT), /* Mistral and TGI have objects */
	FIELDS_END,
};

static const struct field called_custom_fields[] = {
	FIELD("name", STRING),
	FIELD("input", STRING),
	FIELDS_END,
};

static const struct field tool_call_fields[] = {
	FIELD("id", STRING),
	FIELD("type", STRING),
	FIELD("function", OBJECT, OF_TYPE("function"), WITHIN(called_function_fields)),
	FIELD("custom", OBJECT, OF_TYPE("custom"), WITHIN(called_custom_fields)),
	FIELDS_END,
};

static const struct field spoken_fields[] = {
	FIELD("id", STRING),
	FIELDS_END,
};

static const struct field message_fields[] = {
	FIELD("role", STRING, REQUIRED, LONGEST(64)), /* models have more of them than OpenAI's (Granite's "control") */
	FIELD("content", STRING_OR_OBJECTS, WITHIN(part_fields)),
	FIELD("name", STRING),
	FIELD("refusal", STRING),
	FIELD("audio", OBJECT, WITHIN(spoken_fields)),
	FIELD("tool_calls", OBJECTS, WITHIN(tool_call_fields)),
	FIELD("function_call", OBJECT, WITHIN(called_function_fields)),
	FIELD("tool_call_id", STRING),
	FIELDS_END,
};

/* ---- options ---- */

static const struct field json_schema_fields[] = {
	FIELD("name", STRING), /* Perplexity needs none */
	FIELD("description", STRING),
	FIELD("schema", OBJECT),
	FIELD("strict", BOOLEAN),
	FIELDS_END,
};

static const struct field response_format_fields[] = {
	FIELD("type", STRING, REQUIRED),
	FIELD("json_schema", OBJECT, REQUIRED, OF_TYPE("json_schema"), UNLESS("schema"), WITHIN(json_schema_fields)),
	FIELD("schema", OBJECT), /* Together, llama.cpp */
	FIELDS_END,
};

static const struct field prediction_fields[] = {
	FIELD("type", STRING, REQUIRED),
	FIELD("content", STRING_OR_OBJECTS, REQUIRED, OF_TYPE("content"), WITHIN(part_fields)),
	FIELDS_END,
};

static const struct field audio_fields[] = {
	FIELD("voice", STRING_OR_OBJECT), /* an object names a voice of one's own */
	FIELD("format", STRING),
	FIELDS_END,
};

static const struct field stream_options_fields[] = {
	FIELD("include_usage", BOOLEAN),
	FIELD("include_obfuscation", BOOLEAN),
	FIELDS_END,
};

static const struct field approximate_fields[] = {
	FIELD("city", STRING),
	FIELD("country", STRING),
	FIELD("region", STRING),
	FIELD("timezone", STRING),
	FIELDS_END,
};

static const struct field user_location_fields[] = {
	FIELD("type", STRING),
	FIELD("approximate", OBJECT, WITHIN(approximate_fields)),
	FIELDS_END,
};

static const struct field web_search_fields[] = {
	FIELD("search_context_size", STRING),
	FIELD("user_location", OBJECT, WITHIN(user_location_fields)),
	FIELDS_END,
};

static const struct field logit_bias_fields[] = {
	FIELD("*", NUMBER, RANGE(-100, 100)),
	FIELDS_END,
};

static const struct field chat_fields[] = {
	FIELD("model", STRING, LONGEST(256), REQUIRED),
	FIELD("messages", OBJECTS, REQUIRED, WITHIN(message_fields)),
	FIELD("stream", BOOLEAN),
	FIELD("stream_options", OBJECT, WITHIN(stream_options_fields)),
	FIELD("temperature", NUMBER, AT_LEAST(0)),
	FIELD("top_p", NUMBER, RANGE(0, 1)),
	FIELD("n", INTEGER, RANGE(1, 128)),
	FIELD("max_tokens", INTEGER, RANGE(-1, 1e9)), /* -1: as many as there may be (llama.cpp, LM Studio) */
	FIELD("max_completion_tokens", INTEGER, RANGE(-1, 1e9)),
	FIELD("presence_penalty", NUMBER, RANGE(-2, 2)),
	FIELD("frequency_penalty", NUMBER, RANGE(-2, 2)),
	FIELD("seed", INTEGER, RANGE(-0x1p63, 0x1p63)),
	FIELD("stop", STRING_OR_STRINGS),                   /* OpenAI takes four, DeepSeek sixteen, others any number */
	FIELD("logprobs", BOOLEAN_OR_INTEGER, AT_LEAST(0)), /* Together counts */
	FIELD("top_logprobs", INTEGER, AT_LEAST(0)),        /* vLLM takes what it is told to */
	FIELD("logit_bias", OBJECT, WITHIN(logit_bias_fields)),
	FIELD("tools", OBJECTS, WITHIN(tool_fields)),
	FIELD("tool_choice", STRING_OR_OBJECT, WITHIN(tool_choice_fields)),
	FIELD("parallel_tool_calls", BOOLEAN),
	FIELD("functions", OBJECTS, WITHIN(function_fields)),
	FIELD("function_call", STRING_OR_OBJECT, WITHIN(named_fields)),
	FIELD("response_format", OBJECT, WITHIN(response_format_fields)),
	FIELD("prediction", OBJECT, WITHIN(prediction_fields)),
	FIELD("modalities", STRINGS),
	FIELD("audio", OBJECT, WITHIN(audio_fields)),
	FIELD("web_search_options", OBJECT, WITHIN(web_search_fields)),
	FIELD("metadata", OBJECT),
	FIELD("store", BOOLEAN),
	FIELD("user", STRING),
	FIELD("safety_identifier", STRING),
	FIELD("prompt_cache_key", STRING),
	FIELD("prompt_cache_retention", STRING),
	FIELD("reasoning_effort", SCALAR, ANY_NUMBER), /* Fireworks takes a number of tokens, or false */
	FIELD("verbosity", STRING),
	FIELD("service_tier", STRING),
	FIELDS_END,
};

static const struct field text_fields[] = {
	FIELD("model", STRING, LONGEST(256), REQUIRED),
	FIELD("prompt", STRING_OR_ARRAY, REQUIRED),
	FIELD("stream", BOOLEAN),
	FIELD("stream_options", OBJECT, WITHIN(stream_options_fields)),
	FIELD("suffix", STRING),
	FIELD("max_tokens", INTEGER, RANGE(-1, 1e9)),
	FIELD("temperature", NUMBER, AT_LEAST(0)),
	FIELD("top_p", NUMBER, RANGE(0, 1)),
	FIELD("n", INTEGER, RANGE(1, 128)),
	FIELD("best_of", INTEGER, RANGE(0, 128)),
	FIELD("logprobs", INTEGER, AT_LEAST(0)),
	FIELD("echo", BOOLEAN),
	FIELD("stop", STRING_OR_STRINGS),
	FIELD("presence_penalty", NUMBER, RANGE(-2, 2)),
	FIELD("frequency_penalty", NUMBER, RANGE(-2, 2)),
	FIELD("logit_bias", OBJECT, WITHIN(logit_bias_fields)),
	FIELD("seed", INTEGER, RANGE(-0x1p63, 0x1p63)),
	FIELD("user", STRING),
	FIELDS_END,
};

/* ---- what no table of members can say ---- */

static bool is_one_of(const char *word, const char *const *list)
{
	while (*list && strcmp(*list, word) != 0)
		list++;
	return *list != NULL;
}

/* An assistant may have called tools, refused or spoken instead of saying something; of other roles we know nothing. */
static int check_content(struct json_object *message, size_t i, const char *role, struct err *err)
{
	static const char *const speak[] = {"system", "developer", "user", "tool", NULL};
	struct json_object *content = json_get(message, "content");
	char param[64];

	snprintf(param, sizeof(param), "messages[%zu].content", i);
	if (!is_one_of(role, speak))
		return 0;
	if (!content)
		return field_missing(err, param);
	if (field_is(content, FIELD_ARRAY) && json_object_array_length(content) == 0)
		return err_set(err, ERR_INVALID_VALUE, param,
			"Invalid '%s': empty array. Expected an array with at least one content part.", param);
	return 0;
}

static int check_messages(struct json_object *body, struct err *err)
{
	struct json_object *messages = json_get_array(body, "messages"), *message;
	size_t i, n = json_object_array_length(messages);
	const char *role;
	char param[64];

	if (n == 0)
		return err_set(err, ERR_INVALID_VALUE, "messages",
			"Invalid 'messages': empty array. Expected an array with at least one message.");
	for (i = 0; i < n; i++) {
		message = json_object_array_get_idx(messages, i);
		role = json_get_str(message, "role");
		snprintf(param, sizeof(param), "messages[%zu].role", i);
		if (!*role)
			return field_wrong_value(err, param, "it is empty");
		if (check_content(message, i, role, err) != 0)
			return -1;
		snprintf(param, sizeof(param), "messages[%zu].tool_call_id", i);
		if (strcmp(role, "tool") == 0 && !json_get(message, "tool_call_id"))
			return field_missing(err, param);
	}
	return 0;
}

static double number_of(struct json_object *body, const char *name, double fallback)
{
	struct json_object *v = json_get(body, name);

	return v ? json_object_get_double(v) : fallback;
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
	struct json_object *options = json_get_object(body, "stream_options");

	*chat = (struct chat){
		.body = body,
		.model = json_get_str(body, "model"),
		.choices = (int64_t)number_of(body, "n", 1),
		.stream = json_get_bool(body, "stream", false),
		.include_usage = json_get_bool(options, "include_usage", false),
		.running_usage = json_get_bool(options, "continuous_usage_stats", false),
		.side_effect = has_side_effect(body),
		.temperature_zero = number_of(body, "temperature", 1) == 0,
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
	if (fields_check(chat_fields, body, err) != 0 || check_messages(body, err) != 0)
		return -1;
	if (number_of(body, "top_logprobs", 0) > 0 && number_of(body, "logprobs", 0) <= 0)
		return field_wrong_value(err, "top_logprobs", "'logprobs' must be true if it is used");
	return take_facts(chat, body, err);
}

/* Each has its own answers. */
static size_t prompts(struct json_object *body)
{
	struct json_object *prompt = json_get_array(body, "prompt");
	size_t n = prompt ? json_object_array_length(prompt) : 1;

	return n && prompt && json_object_is_type(json_object_array_get_idx(prompt, 0), json_type_int) ? 1 : n;
}

int completion_read(struct chat *chat, struct json_object *body, struct err *err)
{
	double n;

	if (fields_check(text_fields, body, err) != 0 || fields_check_texts(body, "prompt", false, err) != 0)
		return -1;
	n = number_of(body, "n", 1);
	if (number_of(body, "best_of", n) < n)
		return field_wrong_value(err, "best_of", "it must not be less than 'n', which is %.15g", n);
	if (take_facts(chat, body, err) != 0)
		return -1;
	chat->choices *= (int64_t)prompts(body);
	return 0;
}
