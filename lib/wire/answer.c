/* Providers differ in what they leave out; nothing here may stumble over what is missing. */
#include "wire/answer.h"

#include <stdio.h>
#include <string.h>

enum { TOKENS_MAX = 1000000000 };

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
	f->input_tokens = tokens(usage, "prompt_tokens", f->input_tokens);
	f->output_tokens = tokens(usage, "completion_tokens", f->output_tokens);
	f->cached_tokens = tokens(json_get_object(usage, "prompt_tokens_details"), "cached_tokens", f->cached_tokens);
}

void answer_facts_read(struct answer_facts *f, struct json_object *answer)
{
	struct json_object *choices = json_get_array(answer, "choices");
	const char *reason;
	size_t i, used;

	take(f->model, sizeof(f->model), json_get_str(answer, "model"));
	take(f->id, sizeof(f->id), json_get_str(answer, "id"));
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

void answer_error_body(
	struct buf *out, struct json_object *body, const char *message, const char *type, const char *code)
{
	struct json_object *said = json_get(body, "error"), *error = json_object_new_object();

	if (json_object_is_type(said, json_type_string))
		message = json_object_get_string(said);
	else if (!said && json_get_str(body, "message")) /* vLLM */
		message = json_get_str(body, "message");
	else if (!said && json_get_str(body, "detail")) /* FastAPI */
		message = json_get_str(body, "detail");
	json_set_str(error, "message", message);
	json_set_str(error, "type", type);
	json_set(error, "param", NULL);
	json_set_str(error, "code", code);
	if (json_object_is_type(said, json_type_object)) {
		json_set(error, "code", NULL);
		json_each_member (said, m)
			if (m.value || !json_has(error, m.name))
				json_set(error, m.name, json_object_get(m.value));
	}
	buf_adds(out, "{\"error\":");
	json_print(out, error);
	buf_addc(out, '}');
	json_object_put(error);
}
