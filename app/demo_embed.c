/* Vectors that mean nothing, but are the same every time: enough to test whoever stores or compares them. */
#include "demo_embed.h"

#include "base/hash.h"
#include "base/json.h"
#include "demo.h"
#include "demo_hold.h"
#include "demo_http.h"
#include "demo_speech.h"

#include <event2/http.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { DIMENSIONS = 1536, MAX_DIMENSIONS = 4096, MAX_INPUTS = 2048 };
enum { BASE64_BYTES = (MAX_DIMENSIONS * (int)sizeof(float) + 2) / 3 * 4 + 1 };

struct embedding {
	struct held held;
	struct buf body; /* the whole answer, made at once and sent when it is due */
};

struct shape {
	int dimensions;
	bool base64;
};

/* A hash of block number and input fills eight components at a time. */
static void make_vector(const char *input, size_t len, float *vector, int dimensions)
{
	uint8_t digest[SHA256_BYTES], block[SHA256_BYTES + 2];
	double sum = 0, length;
	uint32_t word;
	int i;

	hash_sha256(input, len, block + 2);
	for (i = 0; i < dimensions; i++) {
		if (i % 8 == 0) {
			block[0] = (uint8_t)(i >> 8);
			block[1] = (uint8_t)i;
			hash_sha256(block, sizeof(block), digest);
		}
		memcpy(&word, digest + i % 8 * 4, sizeof(word));
		vector[i] = (float)((double)word / 2147483648.0 - 1);
		sum += (double)vector[i] * (double)vector[i];
	}
	length = sqrt(sum);
	for (i = 0; i < dimensions; i++)
		vector[i] = (float)(vector[i] / length);
}

static void add_vector(struct buf *b, const float *vector, const struct shape *shape)
{
	unsigned char text[BASE64_BYTES];
	int i;

	if (shape->base64) {
		EVP_EncodeBlock(text, (const unsigned char *)vector, shape->dimensions * (int)sizeof(float));
		buf_printf(b, "\"%s\"", (const char *)text);
		return;
	}
	for (i = 0; i < shape->dimensions; i++)
		buf_printf(b, "%c%.9g", i ? ',' : '[', (double)vector[i]);
	buf_addc(b, ']');
}

static void add_embedding(struct buf *b, int index, struct json_object *input, const struct shape *shape)
{
	float vector[MAX_DIMENSIONS];
	struct buf text = BUF_INIT(DEMO_MAX_BYTES);

	json_print(&text, input);
	make_vector(text.data, text.len, vector, shape->dimensions);
	buf_release(&text);
	buf_printf(b, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", index ? "," : "", index);
	add_vector(b, vector, shape);
	buf_addc(b, '}');
}

static bool is_tokens(struct json_object *input)
{
	size_t i, n;

	if (!json_object_is_type(input, json_type_array) || !(n = json_object_array_length(input)))
		return false;
	for (i = 0; i < n; i++) {
		if (!json_object_is_type(json_object_array_get_idx(input, i), json_type_int))
			return false;
	}
	return true;
}

/* Of one input: a text, or an array of token numbers. -1 where it is neither. */
static int64_t count_tokens(struct json_object *input)
{
	if (is_tokens(input))
		return (int64_t)json_object_array_length(input);
	if (!json_object_is_type(input, json_type_string) || !json_object_get_string_len(input))
		return -1;
	return speech_words(json_object_get_string(input), (size_t)json_object_get_string_len(input));
}

static int read_shape(struct shape *s, struct json_object *body, struct err *err)
{
	const char *format = json_get_str(body, "encoding_format");
	int64_t dimensions = json_get_int(body, "dimensions", json_has(body, "dimensions") ? 0 : DIMENSIONS);

	if (dimensions < 1 || dimensions > MAX_DIMENSIONS)
		return err_set(err, ERR_INVALID_VALUE, "dimensions",
			"Invalid 'dimensions': expected an integer from 1 to %d.", MAX_DIMENSIONS);
	if (format && strcmp(format, "float") != 0 && strcmp(format, "base64") != 0)
		return err_set(
			err, ERR_INVALID_VALUE, "encoding_format", "Invalid 'encoding_format': 'float' or 'base64'.");
	*s = (struct shape){(int)dimensions, format && format[0] == 'b'};
	return 0;
}

/* The data and the number of tokens; a lone text or array of tokens is one input. */
static int add_inputs(
	struct buf *b, struct json_object *input, const struct shape *shape, int64_t *tokens, struct err *err)
{
	bool several = json_object_is_type(input, json_type_array) && !is_tokens(input);
	size_t i, n = several ? json_object_array_length(input) : 1;
	struct json_object *one;
	int64_t count;

	if (!input)
		return err_set(err, ERR_MISSING_PARAMETER, "input", "Missing required parameter: 'input'.");
	if (!n || n > MAX_INPUTS)
		return err_set(
			err, ERR_INVALID_VALUE, "input", "Invalid 'input': expected 1 to %d of them.", MAX_INPUTS);
	for (i = 0; i < n; i++) {
		one = several ? json_object_array_get_idx(input, i) : input;
		count = count_tokens(one);
		if (count < 0)
			return err_set(err, ERR_INVALID_VALUE, "input",
				"Invalid 'input': expected a text that is not empty, an array of such texts, or token numbers.");
		*tokens += count;
		add_embedding(b, (int)i, one, shape);
	}
	return 0;
}

static int make_body(struct buf *b, struct json_object *body, struct err *err)
{
	const char *model = json_get_str(body, "model");
	struct shape shape;
	int64_t tokens = 0;

	if (!json_object_is_type(body, json_type_object))
		return err_set(
			err, ERR_INVALID_TYPE, NULL, "The body must be an object, but it is %s.", json_type_word(body));
	if (!model || !*model)
		return err_set(err, ERR_MISSING_PARAMETER, "model", "You must provide a model parameter.");
	buf_adds(b, "{\"object\":\"list\",\"data\":[");
	if (read_shape(&shape, body, err) || add_inputs(b, json_get(body, "input"), &shape, &tokens, err))
		return -1;
	buf_adds(b, "],\"model\":");
	json_print_string(b, model, strlen(model));
	buf_printf(
		b, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}", (long long)tokens, (long long)tokens);
	return 0;
}

static void embed_fire(struct held *held)
{
	struct embedding *e = (struct embedding *)held;
	struct evhttp_request *req = held->req;
	struct buf body = e->body;

	e->body = BUF_INIT(DEMO_MAX_BYTES);
	demo_note(held->demo, "demo-llm: /v1/embeddings: %zu bytes\n", body.len);
	hold_end(held);
	reply_json(req, 200, &body);
}

static void embed_release(struct held *held)
{
	struct embedding *e = (struct embedding *)held;

	buf_release(&e->body);
	free(e);
}

void embed_answer(struct demo *demo, struct evhttp_request *req, const struct demo_pace *pace, struct json_object *body)
{
	struct embedding *e = calloc(1, sizeof(*e));
	struct err err;

	if (!e)
		die("out of memory");
	*e = (struct embedding){.held.fire = embed_fire, .held.release = embed_release};
	e->body = BUF_INIT(DEMO_MAX_BYTES);
	if (make_body(&e->body, body, &err)) {
		embed_release(&e->held);
		reply_err(req, &err);
		return;
	}
	hold_begin(&e->held, demo, req, pace->first_ms);
}
