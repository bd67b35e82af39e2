/* Whatever is not known by name is text: it is counted, if only because it is there. */
#include "wire/measure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	REQUEST_TOKENS = 256, /* what a provider says in front: its template's preamble, a date, a role to play */
	MESSAGE_TOKENS = 16,  /* a message's frame */
	TOOLS_TOKENS = 1024,  /* how to call tools; Anthropic's takes 346 to 700 */
	SCHEMA_TOKENS = 512,  /* that an answer is to be JSON */
	SPELLINGS = 2,      /* tools and schemas are spelled anew: indented, escaped, or as another language's types */
	SCALAR_BYTES = 24,  /* the longest number */
	CHOICE_TOKENS = 16, /* of an answer, besides its text: where it begins and ends, and that it calls */
	CHUNK_TOKENS = 1    /* one that shows nothing may stand for a token */
};

/* Its bytes as JSON, at least; but of strings those that they stand for. */
static int64_t weight(struct json_object *v)
{
	int64_t sum = 2;
	size_t i, n;

	switch (json_object_get_type(v)) {
	case json_type_string: return json_object_get_string_len(v) + 2;
	case json_type_array:
		n = json_object_array_length(v);
		for (i = 0; i < n; i++)
			sum += weight(json_object_array_get_idx(v, i)) + 1;
		return sum;
	case json_type_object:
		json_each_member (v, m)
			sum += (int64_t)strlen(m.name) + 4 + weight(m.value);
		return sum;
	default: return SCALAR_BYTES;
	}
}

static void name_first(char param[MEASURE_PARAM], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void name_first(char param[MEASURE_PARAM], const char *fmt, ...)
{
	va_list ap;

	if (*param)
		return;
	va_start(ap, fmt);
	vsnprintf(param, MEASURE_PARAM, fmt, ap);
	va_end(ap);
}

/* false, 0, "", [] and {} ask for nothing. */
static bool says_something(struct json_object *v)
{
	switch (json_object_get_type(v)) {
	case json_type_boolean: return json_object_get_boolean(v);
	case json_type_int: return json_object_get_int64(v) != 0;
	case json_type_string: return json_object_get_string_len(v) > 0;
	case json_type_array: return json_object_array_length(v) > 0;
	case json_type_null: return false;
	default: return true; /* web_search_options may be {} */
	}
}

/* ---- parts of messages ---- */

static const struct {
	const char *type;
	enum measure_part part; /* MEASURE_PARTS: it is text */
} part_kinds[] = {
	{"text", MEASURE_PARTS},
	{"refusal", MEASURE_PARTS},
	{"image_url", MEASURE_IMAGE},
	{"input_audio", MEASURE_AUDIO},
	{"file", MEASURE_FILE},
};

static void take_part(struct measure *m, struct json_object *part, size_t message, size_t at)
{
	const char *type = json_get_str(part, "type");
	enum measure_part kind;
	size_t i;

	for (i = 0; i < sizeof(part_kinds) / sizeof(part_kinds[0]); i++)
		if (type && strcmp(part_kinds[i].type, type) == 0)
			break;
	if (i == sizeof(part_kinds) / sizeof(part_kinds[0])) {
		name_first(m->unmeasured, "messages[%zu].content[%zu]", message, at);
		return;
	}
	kind = part_kinds[i].part;
	if (kind == MEASURE_PARTS)
		return;
	m->text -= weight(part);
	m->parts[kind]++;
	name_first(m->part_param[kind], "messages[%zu].content[%zu]", message, at);
}

static void take_message(struct measure *m, struct json_object *message, size_t at)
{
	struct json_object *content = json_get_array(message, "content");
	size_t i, n = content ? json_object_array_length(content) : 0;

	m->text += MESSAGE_TOKENS;
	for (i = 0; i < n; i++)
		take_part(m, json_object_array_get_idx(content, i), at, i);
	if (json_get_object(message, "audio")) { /* what the model has said before, by its id */
		m->parts[MEASURE_AUDIO]++;
		name_first(m->part_param[MEASURE_AUDIO], "messages[%zu].audio", at);
	}
}

/* ---- options ---- */

/* Each can take any part of the model's context. */
static const struct {
	const char *name;
	bool billed; /* with more than tokens */
} options[] = {
	{"prediction", false}, /* what is rejected of it is billed as output, and OpenAI allows no cap beside it */
	{"web_search_options", true},
	{"search_parameters", true}, /* xAI */
	{"enable_search", true},     /* Qwen */
	{"plugins", true},           /* OpenRouter */
	{"models", true},            /* OpenRouter: others, at their own prices */
	{"n_predict", false},        /* caps of other names, which come before ours: llama.cpp */
	{"max_new_tokens", false},   /* TGI */
	{"max_output_tokens", false},
};

static void take_options(struct measure *m, struct json_object *body)
{
	size_t i;

	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (!says_something(json_get(body, options[i].name)))
			continue;
		name_first(m->unmeasured, "%s", options[i].name);
		if (options[i].billed)
			name_first(m->unpriced, "%s", options[i].name);
	}
}

/* Those of the provider's own are called behind our back, and billed by the call. */
static void take_tools(struct measure *m, struct json_object *body)
{
	struct json_object *tools = json_get_array(body, "tools");
	size_t i, n = tools ? json_object_array_length(tools) : 0;
	const char *type;

	for (i = 0; i < n; i++) {
		type = json_get_str(json_object_array_get_idx(tools, i), "type");
		if (!type || strcmp(type, "function") == 0 || strcmp(type, "custom") == 0)
			continue;
		name_first(m->unmeasured, "tools[%zu]", i);
		name_first(m->unpriced, "tools[%zu]", i);
	}
	if (tools || json_get(body, "functions"))
		m->text += TOOLS_TOKENS + (SPELLINGS - 1) * (weight(tools) + weight(json_get(body, "functions")));
	if (json_get(body, "response_format"))
		m->text += SCHEMA_TOKENS + (SPELLINGS - 1) * weight(json_get(body, "response_format"));
}

static void take_speech(struct measure *m, struct json_object *body)
{
	struct json_object *modalities = json_get_array(body, "modalities");
	size_t i, n = modalities ? json_object_array_length(modalities) : 0;

	m->speaks = json_get_object(body, "audio") != NULL;
	for (i = 0; i < n; i++)
		m->speaks |= strcmp(json_object_get_string(json_object_array_get_idx(modalities, i)), "audio") == 0;
}

static void take_tier(struct measure *m, struct json_object *body)
{
	/* that are not dearer than what a price list says */
	static const char *const usual[] = {
		"auto", "default", "flex", "priority", "scale", "standard", "standard_only", "on_demand", NULL};
	const char *tier = json_get_str(body, "service_tier"), *const * known;

	if (!tier)
		return;
	snprintf(m->tier, sizeof(m->tier), "%s", tier);
	for (known = usual; *known && strcmp(*known, tier) != 0; known++)
		;
	if (!*known)
		name_first(m->unpriced, "service_tier");
}

/* 2.0 is an integer, too. */
static int64_t number_of(struct json_object *body, const char *name, int64_t fallback)
{
	struct json_object *v = json_get(body, name);

	if (!json_object_is_type(v, json_type_double))
		return json_get_int(body, name, fallback);
	return json_object_get_double(v) < 0x1p62 ? (int64_t)json_object_get_double(v) : INT64_MAX;
}

/* -1, 0 and null are no caps. Two are one: the smaller. */
static void take_cap(struct measure *m, struct json_object *body, const char *name)
{
	int64_t cap = number_of(body, name, 0);

	if (!json_has(body, name))
		return;
	if (!m->cap_name)
		m->cap_name = name;
	if (cap > 0 && (m->cap == 0 || cap < m->cap))
		m->cap = cap;
}

static int64_t at_least_one(int64_t n)
{
	return n > 1 ? n : 1;
}

/* Of best_of answers all are billed. */
static int64_t answers_of(struct json_object *body)
{
	int64_t n = at_least_one(number_of(body, "n", 1)), best_of = number_of(body, "best_of", 1);

	return best_of > n ? best_of : n;
}

static void begin(struct measure *m, struct json_object *body)
{
	*m = (struct measure){.text = REQUEST_TOKENS + weight(body), .inputs = 1};
	take_options(m, body);
	take_tier(m, body);
}

/* ---- requests ---- */

void measure_chat(struct measure *m, struct json_object *body)
{
	struct json_object *messages = json_get_array(body, "messages");
	size_t i, n = json_object_array_length(messages);

	begin(m, body);
	for (i = 0; i < n; i++)
		take_message(m, json_object_array_get_idx(messages, i), i);
	take_tools(m, body);
	take_speech(m, body);
	take_cap(m, body, "max_completion_tokens");
	take_cap(m, body, "max_tokens");
	m->answers = answers_of(body);
}

/* A prompt that is an array of numbers is one. */
static int64_t prompts(struct json_object *prompt)
{
	if (!json_object_is_type(prompt, json_type_array) ||
		json_object_is_type(json_object_array_get_idx(prompt, 0), json_type_int))
		return 1;
	return at_least_one((int64_t)json_object_array_length(prompt));
}

/* Each of the prompts has its answers. */
void measure_completion(struct measure *m, struct json_object *body)
{
	begin(m, body);
	m->inputs = prompts(json_get(body, "prompt"));
	m->text += m->inputs * MESSAGE_TOKENS;
	take_cap(m, body, "max_tokens");
	if (__builtin_mul_overflow(m->inputs, answers_of(body), &m->answers))
		m->answers = INT64_MAX;
}

void measure_embeddings(struct measure *m, struct json_object *body)
{
	begin(m, body);
	m->inputs = prompts(json_get(body, "input"));
	m->text += m->inputs * MESSAGE_TOKENS;
}

/* ---- answers ---- */

static int64_t texts(struct json_object *v)
{
	int64_t sum = 0;
	size_t i, n;

	switch (json_object_get_type(v)) {
	case json_type_string: return json_object_get_string_len(v);
	case json_type_array:
		n = json_object_array_length(v);
		for (i = 0; i < n; i++)
			sum += texts(json_object_array_get_idx(v, i));
		return sum;
	case json_type_object:
		json_each_member (v, m)
			sum += texts(m.value);
		return sum;
	default: return 0;
	}
}

static bool thinks(struct json_object *said)
{
	static const char *const names[] = {"reasoning", "reasoning_content", "reasoning_details", "thinking"};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (says_something(json_get(said, names[i])))
			return true;
	return false;
}

int64_t measure_answer(struct json_object *answer, bool *reasoned)
{
	struct json_object *choices = json_get_array(answer, "choices"), *choice, *said;
	size_t i, n = choices ? json_object_array_length(choices) : 0;
	int64_t sum = n ? CHUNK_TOKENS : 0;

	for (i = 0; i < n; i++) {
		choice = json_object_array_get_idx(choices, i);
		said = json_get_object(choice, "delta");
		if (!said)
			said = json_get_object(choice, "message");
		sum += texts(said ? said : json_get(choice, "text"));
		sum += json_get(choice, "finish_reason") ? CHOICE_TOKENS : 0;
		*reasoned |= thinks(said);
	}
	return sum;
}
