/* Providers differ in what they leave out; nothing here may stumble over what is missing. */
#include "wire/answer.h"

#include <stdio.h>
#include <string.h>

enum { TOKENS_MAX = 1000000000, MESSAGE_MAX = 64 * 1024 };

void answer_facts_init(struct answer_facts *f)
{
	*f = (struct answer_facts){.input_tokens = -1, .output_tokens = -1, .cached_tokens = -1};
}

static void take(char *to, size_t room, const char *value)
{
	if (value && *value)
		snprintf(to, room, "%s", value);
}

/* A count that no model can have is as good as none. */
static int64_t tokens(struct json_object *usage, const char *name, int64_t before)
{
	int64_t n = json_get_int(usage, name, before);

	return n >= 0 && n <= TOKENS_MAX ? n : before;
}

static void read_usage(struct answer_facts *f, struct json_object *usage)
{
	struct json_object *input = json_get_object(usage, "prompt_tokens_details"),
			   *output = json_get_object(usage, "completion_tokens_details");

	f->input_tokens = tokens(usage, "prompt_tokens", f->input_tokens);
	f->output_tokens = tokens(usage, "completion_tokens", f->output_tokens);
	f->cached_tokens = tokens(usage, "prompt_cache_hit_tokens", f->cached_tokens); /* DeepSeek */
	f->cached_tokens = tokens(input, "cached_tokens", f->cached_tokens);
	f->cache_write_tokens = tokens(input, "cache_write_tokens", f->cache_write_tokens);
	f->audio_input_tokens = tokens(input, "audio_tokens", f->audio_input_tokens);
	f->audio_output_tokens = tokens(output, "audio_tokens", f->audio_output_tokens);
}

void answer_facts_read(struct answer_facts *f, struct json_object *answer)
{
	struct json_object *choices = json_get_array(answer, "choices");
	const char *reason;
	size_t i, used;

	take(f->model, sizeof(f->model), json_get_str(answer, "model"));
	take(f->id, sizeof(f->id), json_get_str(answer, "id"));
	take(f->tier, sizeof(f->tier), json_get_str(answer, "service_tier"));
	read_usage(f, json_get_object(answer, "usage"));
	for (i = 0; choices && i < json_object_array_length(choices); i++) {
		reason = json_get_str(json_object_array_get_idx(choices, i), "finish_reason");
		used = strlen(f->finish_reasons);
		if (reason && used < sizeof(f->finish_reasons))
			snprintf(f->finish_reasons + used, sizeof(f->finish_reasons) - used, "%s%s", used ? "," : "",
				reason);
	}
}

bool answer_complete(struct json_object *completion)
{
	struct json_object *choices = json_get_array(completion, "choices"), *choice;
	const char *reason;
	size_t i;

	for (i = 0; choices && i < json_object_array_length(choices); i++) {
		choice = json_object_array_get_idx(choices, i);
		reason = json_get_str(choice, "finish_reason");
		if (!json_get_object(choice, "message") &&
			!json_object_is_type(json_get(choice, "text"), json_type_string))
			return false;
		if (!reason || !*reason || strcmp(reason, "error") == 0 || json_get(choice, "error"))
			return false;
	}
	return i > 0;
}

bool answer_cut(struct json_object *completion)
{
	static const char *const words[] = {"length", "model_length", "max_tokens"};
	struct json_object *choices = json_get_array(completion, "choices");
	const char *reason;
	size_t i, k;

	for (i = 0; choices && i < json_object_array_length(choices); i++) {
		reason = json_get_str(json_object_array_get_idx(choices, i), "finish_reason");
		for (k = 0; reason && k < sizeof(words) / sizeof(words[0]); k++)
			if (strcmp(reason, words[k]) == 0)
				return true;
	}
	return false;
}

/* ---- errors ---- */

static struct json_object *first_of(struct json_object *v)
{
	return json_object_is_type(v, json_type_array) ? json_object_array_get_idx(v, 0) : v;
}

static bool is_empty(struct json_object *v)
{
	switch (json_object_get_type(v)) {
	case json_type_string: return json_object_get_string_len(v) == 0;
	case json_type_object: return json_object_object_length(v) == 0;
	case json_type_array: return json_object_array_length(v) == 0;
	case json_type_boolean: return !json_object_get_boolean(v);
	default: return !v;
	}
}

bool answer_is_error(struct json_object *answer)
{
	const char *object = json_get_str(first_of(answer), "object");
	struct json_object *error = json_get(first_of(answer), "error");
	bool answers = json_get_array(answer, "choices") || json_get_array(answer, "data");

	return (object && strcmp(object, "error") == 0) || (error && !(answers && is_empty(error)));
}

/*
 * What speaks of the error: {"error":…} is OpenAI's, a list with it Gemini's; {"errors":[…]} others'. vLLM and FastAPI
 * say it in the body itself (*bare).
 */
static struct json_object *error_of(struct json_object *body, bool *bare)
{
	struct json_object *top = first_of(body), *errors = json_get(top, "errors");

	*bare = false;
	if (json_get(top, "error"))
		return json_get(top, "error");
	if (!is_empty(first_of(errors)))
		return first_of(errors);
	*bare = true;
	return top;
}

static void take_message(struct json_object *error, struct json_object *message)
{
	struct buf text = BUF_INIT(MESSAGE_MAX);

	if (is_empty(message))
		return;
	if (json_object_is_type(message, json_type_string)) {
		json_set(error, "message", json_object_get(message));
	} else {
		json_print(&text, message);
		if (!text.overflow)
			json_set_str(error, "message", text.data);
		buf_release(&text);
	}
}

void answer_error_body(
	struct buf *out, struct json_object *body, const char *message, const char *type, const char *code)
{
	static const char *const known[] = {"type", "param", "code"};
	struct json_object *error = json_object_new_object(), *said;
	bool bare;
	size_t i;

	said = error_of(body, &bare);
	json_set_str(error, "message", message);
	json_set_str(error, "type", type);
	json_set(error, "param", NULL);
	json_set_str(error, "code", code);
	for (i = 0; bare && i < sizeof(known) / sizeof(known[0]); i++)
		if (json_get(said, known[i]))
			json_set(error, known[i], json_object_get(json_get(said, known[i])));
	if (!bare && json_object_is_type(said, json_type_object)) {
		json_set(error, "code", NULL);
		json_each_member (said, m)
			if (strcmp(m.name, "message") != 0 && (m.value || !json_has(error, m.name)))
				json_set(error, m.name, json_object_get(m.value));
	}
	take_message(error, json_object_is_type(said, json_type_string) ? said : json_get(said, "message"));
	if (bare && !json_get(said, "message")) /* FastAPI */
		take_message(error, json_get(said, "detail"));
	buf_adds(out, "{\"error\":");
	json_print(out, error);
	buf_addc(out, '}');
	json_object_put(error);
}
