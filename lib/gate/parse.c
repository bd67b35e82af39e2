/* From bytes to a request that is known to be one, for a model that this key may call. */
#include "base/clock.h"
#include "edge/fcgi.h"
#include "gate/keys.h"
#include "gate/txn.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

enum { PIECE = 64 * 1024, TREE_GROWTH = 6, TREE_FLOOR = 64 << 20 };

static void release_buf(void *b)
{
	buf_release(b);
}

/* The announced length; -1: none, the body goes to its end. False: it is no length. */
static bool content_length(int64_t *length)
{
	const char *text = http_header("content-length");
	char *end;

	*length = -1;
	if (!text || !*text)
		return true;
	errno = 0;
	*length = strtoll(text, &end, 10);
	return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
}

static enum verdict check_headers(struct txn *t, int64_t *length)
{
	const char *type = http_header("content-type"), *encoding = http_header("content-encoding");

	if (!http_media_type_is(type, "application/json"))
		return txn_fail(t, ERR_MEDIA_TYPE, NULL,
			"Unsupported Content-Type: %s%.80s%s. Send 'Content-Type: application/json'.",
			type && *type ? "'" : "", type && *type ? type : "none was sent", type && *type ? "'" : "");
	if (encoding && *encoding && strcasecmp(encoding, "identity") != 0)
		return txn_fail(t, ERR_MEDIA_TYPE, NULL,
			"Unsupported Content-Encoding: '%.80s'. Send the body as it is.", encoding);
	if (!content_length(length))
		return txn_fail(t, ERR_INVALID_HEADER, NULL, "The Content-Length header is not a number of bytes.");
	return NEXT;
}

static enum verdict read_body(struct txn *t, struct buf *body, int64_t length)
{
	int64_t limit = t->config->server.max_body;
	size_t want;
	int64_t deadline_us = clock_mono_us() + t->config->server.body_timeout;
	ssize_t n = 0;
	char *to;

	while (length <= limit && (length < 0 || (int64_t)body->len < length)) {
		want = length < 0 || length - (int64_t)body->len > PIECE ? PIECE
									 : (size_t)(length - (int64_t)body->len);
		to = buf_reserve(body, want);
		n = to ? fcgi_read(to, want, deadline_us) : 0;
		if (n <= 0)
			break;
		body->len += (size_t)n;
	}
	if (length > limit || body->overflow || (int64_t)body->len > limit)
		return txn_fail(t, ERR_BODY_TOO_LARGE, NULL,
			"The request body is too large: at most %lld bytes are allowed.", (long long)limit);
	if (n == -2)
		return txn_fail(t, ERR_BODY_TIMEOUT, NULL, "The request body did not arrive within %lld s.",
			(long long)(t->config->server.body_timeout / 1000000));
	if (n < 0 || (length >= 0 && (int64_t)body->len < length))
		return txn_fail(t, ERR_BODY_INCOMPLETE, NULL,
			"The request body ended after %zu bytes, but its Content-Length says %lld.", body->len,
			(long long)length);
	if (body->len == 0)
		return txn_fail(t, ERR_INVALID_JSON, NULL, "The request body is empty; expected a JSON object.");
	return NEXT;
}

/* What a parsed body may take of memory. */
static size_t tree_max(const struct txn *t)
{
	return TREE_FLOOR + TREE_GROWTH * (size_t)t->config->server.max_body;
}

static enum verdict check_model(struct txn *t)
{
	t->model = config_model(t->config, t->chat.model);
	if (t->model && !key_may_call(t->key, t->model))
		return txn_fail(t, ERR_MODEL_NOT_ALLOWED, "model", "The API key '%s' may not call the model '%.100s'.",
			t->key->name, t->chat.model);
	if (!t->model)
		return txn_fail(t, ERR_MODEL_NOT_FOUND, "model",
			"The model '%.100s' does not exist here. GET /v1/models lists those that do.", t->chat.model);
	return NEXT;
}

enum verdict stage_body(struct txn *t)
{
	struct buf *body = arena_alloc(t->arena, sizeof(*body));
	int64_t length = -1;

	*body = BUF_INIT((size_t)t->config->server.max_body + PIECE);
	arena_defer(t->arena, release_buf, body);
	if (check_headers(t, &length) == FAILED || read_body(t, body, length) == FAILED)
		return FAILED;
	t->body = json_parse_within(body->data, body->len, tree_max(t), &t->err);
	if (!t->body)
		return FAILED;
	arena_defer(t->arena, json_release, t->body);
	buf_release(body); /* a large body need not wait for the provider twice */
	return NEXT;
}

enum verdict stage_parse(struct txn *t)
{
	const char *user = t->chat.user; /* a trusted header's word counts more than the body's */

	if (stage_body(t) == FAILED)
		return FAILED;
	if (t->endpoint->operation->read(&t->chat, t->body, &t->err) != 0)
		return FAILED;
	/* the body is edited before it is sent, and these outlive the edit */
	t->chat.model = arena_strdup(t->arena, t->chat.model);
	if (user || t->chat.user)
		t->chat.user = user ? user : arena_strdup(t->arena, t->chat.user);
	return check_model(t);
}
