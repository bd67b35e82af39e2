/* A pretend provider refuses what the real one would, so that mistakes are found before they cost anything. */
#include "demo_ask.h"

#include "base/hash.h"
#include "base/json.h"
#include "demo.h"
#include "demo_schema.h"
#include "demo_speech.h"
#include "wire/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How much of the question an answer repeats. */
enum { QUOTE_BYTES = 120, QUOTE_WORDS = 12 };

/* Takes the buffer's memory; an empty one gives "". */
static char *text_of(struct buf *b)
{
	if (!b->data)
		buf_adds(b, "");
	if (b->overflow || !b->data)
		die("out of memory");
	return b->data;
}

static char *copy(const char *text)
{
	char *own = strdup(text);

	if (!own)
		die("out of memory");
	return own;
}

static void add_part(struct buf *text, struct json_object *value)
{
	if (text->len)
		buf_addc(text, ' ');
	buf_add(text, json_object_get_string(value), (size_t)json_object_get_string_len(value));
}

/* A message's text: a string, or the text parts of an array. */
static void add_content(struct buf *text, struct json_object *message)
{
	struct json_object *content = json_get(message, "content"), *part;
	size_t i, n;

	if (json_object_is_type(content, json_type_string)) {
		add_part(text, content);
	} else if (json_object_is_type(content, json_type_array)) {
		n = json_object_array_length(content);
		for (i = 0; i < n; i++) {
			part = json_get(json_object_array_get_idx(content, i), "text");
			if (json_object_is_type(part, json_type_string))
				add_part(text, part);
		}
	}
}

/* The first few words, in one line; never half a character. */
static void add_quote(struct buf *out, const struct buf *text)
{
	const char *s = text->data ? text->data : "";
	size_t end = out->len + QUOTE_BYTES, len;
	int words;

	for (words = 0; words < QUOTE_WORDS && out->len < end; words++) {
		s += strspn(s, " \t\r\n");
		len = strcspn(s, " \t\r\n");
		if (!len)
			break;
		if (len > end - out->len)
			len = end - out->len;
		while (len && ((unsigned char)s[len] & 0xc0) == 0x80)
			len--;
		if (words)
			buf_addc(out, ' ');
		buf_add(out, s, len);
		s += len;
	}
	if (s[strspn(s, " \t\r\n")])
		buf_adds(out, "…");
}

static bool is_role(struct json_object *message, const char *role)
{
	const char *is = json_get_str(message, "role");

	return is && strcmp(is, role) == 0;
}

static struct json_object *last_message(struct json_object *messages)
{
	return json_object_array_get_idx(messages, json_object_array_length(messages) - 1);
}

/* What the answer is about: a tool's result, else what the user said last, else whatever was said last. */
static struct json_object *subject(struct json_object *messages)
{
	struct json_object *last = last_message(messages), *message;
	size_t i = json_object_array_length(messages);

	if (is_role(last, "tool"))
		return last;
	while (i--) {
		message = json_object_array_get_idx(messages, i);
		if (is_role(message, "user"))
			return message;
	}
	return last;
}

static char *opening(struct json_object *messages, uint64_t seed)
{
	static const char *const before[] = {
		"You ask about \"", "Thank you for asking: \"", "A good question: \"", "So, \""};
	struct json_object *about = subject(messages);
	struct buf text = BUF_INIT(DEMO_MAX_BYTES), out = BUF_INIT(DEMO_MAX_BYTES);

	add_content(&text, about);
	if (is_role(about, "tool"))
		buf_adds(&out, "The tool answered \"");
	else
		buf_adds(&out, before[seed % (sizeof(before) / sizeof(before[0]))]);
	add_quote(&out, &text);
	buf_adds(&out, strchr("?!.", out.data[out.len - 1]) ? "\"" : "\".");
	buf_release(&text);
	return text_of(&out);
}

static char *print(struct json_object *value)
{
	struct buf out = BUF_INIT(DEMO_MAX_BYTES);

	json_print(&out, value);
	json_object_put(value);
	return text_of(&out);
}

/* The function that tool_choice names, else the first one; NULL where no tool is to be called. */
static struct json_object *choose_function(struct json_object *body)
{
	struct json_object *tools = json_get_array(body, "tools"), *function;
	const char *how = json_get_str(body, "tool_choice"), *name;
	const char *named = json_get_str(json_get_object(json_get_object(body, "tool_choice"), "function"), "name");
	size_t i, n = tools ? json_object_array_length(tools) : 0;

	if (how && strcmp(how, "none") == 0)
		return NULL;
	for (i = 0; i < n; i++) {
		function = json_get_object(json_object_array_get_idx(tools, i), "function");
		name = json_get_str(function, "name");
		if (name && (!named || strcmp(name, named) == 0))
			return function;
	}
	return NULL;
}

/* An answer that fits, or the admission that there is none. */
static int read_schema(struct ask *a, struct json_object *schema, struct err *err)
{
	static const char param[] = "response_format.json_schema.schema";
	struct schema_report report;
	size_t steps = SCHEMA_MAX_STEPS;
	struct json_object *example;
	enum schema_verdict verdict;

	if (!schema)
		return err_set(err, ERR_MISSING_PARAMETER, param, "Missing required parameter: '%s'.", param);
	example = schema_example(schema, false);
	verdict = schema_judge(schema, example, &steps, &report);
	a->say = print(example);
	a->script = true;
	if (verdict == SCHEMA_FITS)
		return 0;
	return err_set(err, ERR_INVALID_VALUE, param, "The demo cannot make up an answer that fits this schema: %s %s.",
		*report.place              ? report.place
		: verdict == SCHEMA_MISFIT ? "the answer"
					   : "the schema",
		report.reason);
}

/* What is said, and how: a tool's arguments, a structured answer, or prose. */
static int read_kind(struct ask *a, struct json_object *body, struct json_object *messages, struct err *err)
{
	struct json_object *function = choose_function(body), *format = json_get_object(body, "response_format"),
			   *object;
	const char *type = json_get_str(format, "type");

	if (function && !is_role(last_message(messages), "tool")) {
		a->tool = copy(json_get_str(function, "name"));
		a->say = print(schema_example(json_get_object(function, "parameters"), true));
		a->script = true;
	} else if (!format || (type && strcmp(type, "text") == 0)) {
		a->say = opening(messages, a->seed);
	} else if (type && strcmp(type, "json_schema") == 0) {
		return read_schema(a, json_get_object(json_get_object(format, "json_schema"), "schema"), err);
	} else if (type && strcmp(type, "json_object") == 0) {
		char *answer = opening(messages, a->seed);

		object = json_object_new_object();
		json_set_str(object, "answer", answer);
		free(answer);
		a->say = print(object);
		a->script = true;
	} else {
		return err_set(err, ERR_INVALID_VALUE, "response_format.type",
			"Invalid value: supported values are 'text', 'json_object' and 'json_schema'.");
	}
	return 0;
}

/* An integer from `least` to `most`; *to stays as it is where there is none. */
static int read_int(
	struct json_object *body, const char *name, int64_t least, int64_t most, int64_t *to, struct err *err)
{
	struct json_object *value = json_get(body, name);
	int64_t n;

	if (!value)
		return 0;
	if (!json_object_is_type(value, json_type_int))
		return err_set(err, ERR_INVALID_TYPE, name,
			"Invalid type for '%s': expected an integer, but got %s instead.", name, json_type_word(value));
	n = json_object_get_int64(value);
	if (n < least || n > most)
		return err_set(err, ERR_INVALID_VALUE, name, "Invalid '%s': expected a value from %lld to %lld.", name,
			(long long)least, (long long)most);
	*to = n;
	return 0;
}

static int read_numbers(struct ask *a, struct json_object *body, struct err *err)
{
	int64_t choices = 1;

	if (read_int(body, "n", 1, ASK_MAX_CHOICES, &choices, err) ||
		read_int(body, "max_tokens", 1, INT32_MAX, &a->max_tokens, err) ||
		read_int(body, "max_completion_tokens", 1, INT32_MAX, &a->max_tokens, err))
		return -1;
	a->choices = (int)choices;
	return 0;
}

static int read_messages(struct ask *a, struct json_object *messages, struct err *err)
{
	struct buf text = BUF_INIT(DEMO_MAX_BYTES);
	struct json_object *message;
	uint8_t digest[SHA256_BYTES];
	char param[64];
	size_t i, n = messages ? json_object_array_length(messages) : 0;

	if (!n)
		return err_set(err, messages ? ERR_INVALID_VALUE : ERR_MISSING_PARAMETER, "messages",
			messages ? "Invalid 'messages': empty array. Expected an array with at least one message."
				 : "Missing required parameter: 'messages', an array.");
	for (i = 0; i < n; i++) {
		message = json_object_array_get_idx(messages, i);
		if (!json_get_str(message, "role")) {
			snprintf(param, sizeof(param), "messages[%zu].role", i);
			buf_release(&text);
			return err_set(err, ERR_MISSING_PARAMETER, param, "Missing required parameter: '%s'.", param);
		}
		add_content(&text, message);
	}
	a->prompt_tokens = speech_words(text.data, text.len);
	buf_reset(&text);
	json_print(&text, messages);
	hash_sha256(text.data, text.len, digest);
	buf_release(&text);
	memcpy(&a->seed, digest, sizeof(a->seed));
	return 0;
}

static int read_common(struct ask *a, struct json_object *body, struct err *err)
{
	const char *model = json_get_str(body, "model");

	*a = (struct ask){.stream = json_get_bool(body, "stream", false)};
	a->include_usage = json_get_bool(json_get_object(body, "stream_options"), "include_usage", false);
	if (!json_object_is_type(body, json_type_object))
		return err_set(
			err, ERR_INVALID_TYPE, NULL, "The body must be an object, but it is %s.", json_type_word(body));
	if (!model || !*model)
		return err_set(err, ERR_MISSING_PARAMETER, "model", "You must provide a model parameter.");
	a->model = copy(model);
	return read_numbers(a, body, err);
}

int ask_read(struct ask *a, struct json_object *body, struct err *err)
{
	struct json_object *messages = json_get_array(body, "messages");

	if (read_common(a, body, err) || read_messages(a, messages, err) || read_kind(a, body, messages, err))
		return -1;
	return 0;
}

/* The prompts as what users said: a string is one, and so is an array of token numbers; any other array is several. */
static struct json_object *prompts_as_messages(struct json_object *prompt)
{
	struct json_object *messages = json_object_new_array(), *message, *one;
	bool several = json_object_is_type(prompt, json_type_array) && json_object_array_length(prompt) &&
		       !json_object_is_type(json_object_array_get_idx(prompt, 0), json_type_int);
	size_t i, n = several ? json_object_array_length(prompt) : 1;
	struct buf text = BUF_INIT(DEMO_MAX_BYTES);

	for (i = 0; i < n; i++) {
		one = several ? json_object_array_get_idx(prompt, i) : prompt;
		buf_reset(&text);
		if (json_object_is_type(one, json_type_string))
			add_part(&text, one);
		else if (one)
			json_print(&text, one);
		message = json_object_new_object();
		json_set_str(message, "role", "user");
		json_set_str(message, "content", text.len ? text.data : "");
		json_object_array_add(messages, message);
	}
	buf_release(&text);
	return messages;
}

int ask_read_legacy(struct ask *a, struct json_object *body, struct err *err)
{
	struct json_object *messages = prompts_as_messages(json_get(body, "prompt"));
	int failed = read_common(a, body, err) || read_messages(a, messages, err);

	a->legacy = true;
	if (!failed) {
		a->say = opening(messages, a->seed);
		a->choices *= (int)json_object_array_length(messages);
	}
	json_object_put(messages);
	if (!failed && a->choices > ASK_MAX_CHOICES)
		failed = err_set(err, ERR_INVALID_VALUE, "prompt", "Too many prompts: at most %d answers are made.",
			ASK_MAX_CHOICES);
	return failed ? -1 : 0;
}

void ask_release(struct ask *a)
{
	free(a->model);
	free(a->tool);
	free(a->say);
}
