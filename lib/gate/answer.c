/* One place for the headers that every answer has, so that no path can forget one. */
#include "gate/answer.h"

#include "base/log.h"
#include "edge/fcgi.h"
#include "edge/sse.h"
#include "gate/cache_status.h"
#include "gate/coalesce.h"
#include "gate/cors.h"
#include "gate/limit_headers.h"
#include "gate/stale.h"

#include <stdio.h>
#include <string.h>

enum {
	WAITING_MAX = 16 << 20,          /* of one slow client, in memory; then it is waited for */
	WAITING_MAX_FOLLOWED = 64 << 20, /* … or while others follow, given up */
	HEAD_MAX = 16 * 1024,
	BODY_MAX = 64 * 1024,
	ID_BYTES = 12
};

const char *answer_fresh_id(struct txn *t)
{
	uint8_t random[ID_BYTES];
	char hex[2 * ID_BYTES + 1];

	hash_random(random, sizeof(random));
	hash_hex(random, sizeof(random), hex);
	snprintf(t->facts.id, sizeof(t->facts.id), "%s%s", t->endpoint->operation->id_prefix, hex);
	return t->facts.id;
}

void answer_reset_text(int64_t ms, char *out, size_t room)
{
	int64_t s = ms / 1000;

	if (ms < 1000)
		snprintf(out, room, "%lldms", (long long)ms);
	else if (s < 60)
		snprintf(out, room, "%llds", (long long)s);
	else if (s < 3600)
		snprintf(out, room, "%lldm%llds", (long long)(s / 60), (long long)(s % 60));
	else
		snprintf(out, room, "%lldh%lldm%llds", (long long)(s / 3600), (long long)(s / 60 % 60),
			(long long)(s % 60));
}

static void add_usd(struct buf *head, const char *name, int64_t pusd)
{
	char text[LOG_USD_TEXT];

	if (pusd < 0)
		return;
	log_usd_text(pusd, text);
	http_head_add(head, name, "%s", text);
}

static void add_common(struct txn *t, struct buf *head, int status, const char *content_type)
{
	http_head_status(head, status);
	if (content_type)
		http_head_add(head, "Content-Type", "%s", content_type);
	http_head_add(head, "x-request-id", "%s", t->request_id);
	if (*t->upstream_request_id)
		http_head_add(head, "x-pavise-upstream-request-id", "%s", t->upstream_request_id);
	limit_headers_add(t, head);
	cache_status_add(t, head, status);
	add_usd(head, "x-pavise-cost-usd", t->cost_pusd);
	add_usd(head, "x-pavise-saved-usd", t->saved_pusd);
	if (t->schema)
		http_head_add(head, "X-Pavise-Schema", "%s", t->schema);
	cors_add(t, head);
	t->status = status;
	t->head_sent = true;
}

/* While others depend on this worker, it does not wait for its own client. */
static bool may_offer(struct txn *t)
{
	if (!t->lead && !t->watching)
		return false;
	return fcgi_waiting() < WAITING_MAX || (fcgi_waiting() < WAITING_MAX_FOLLOWED && lead_followed(t));
}

static bool send(struct txn *t, const char *bytes, size_t len, bool flush)
{
	if (t->behind)
		return true;
	if (t->client_gone)
		return false;
	if (flush && may_offer(t))
		t->client_gone = fcgi_offer(bytes, len) != 0;
	else if (flush && lead_followed(t))
		t->client_gone = true; /* too slow for the others */
	else if (fcgi_write(bytes, len) != 0 || (flush && fcgi_flush() != 0))
		t->client_gone = true;
	return !t->client_gone;
}

bool answer_push(struct txn *t)
{
	if (!t->behind && !t->client_gone && fcgi_push() != 0)
		t->client_gone = true;
	return !t->client_gone;
}

bool answer_begin(struct txn *t, int status, const char *content_type)
{
	struct buf head = BUF_INIT(HEAD_MAX);
	bool ok;

	if (t->behind)
		return t->head_sent = true;
	add_common(t, &head, status, content_type);
	http_head_add(&head, "Cache-Control", "no-cache");
	http_head_add(&head, "X-Accel-Buffering", "no"); /* nginx in front would collect the stream otherwise */
	http_head_end(&head);
	ok = send(t, head.data, head.len, false);
	buf_release(&head);
	return ok;
}

bool answer_piece(struct txn *t, const char *bytes, size_t len, bool flush)
{
	t->body_sent = true;
	t->body_bytes += (int64_t)len;
	return send(t, bytes, len, flush);
}

bool answer_comment(struct txn *t, const char *text)
{
	struct buf comment = BUF_INIT(1024);
	bool ok;

	sse_write_comment(&comment, text);
	t->body_bytes += (int64_t)comment.len;
	ok = send(t, comment.data, comment.len, true);
	buf_release(&comment);
	return ok;
}

static enum verdict whole(struct txn *t, struct buf *head, const struct hash_part *parts, size_t count)
{
	bool head_only = strcmp(t->method, "HEAD") == 0;
	size_t i, len = 0;

	for (i = 0; i < count; i++)
		len += parts[i].len;
	if (t->status != 204) /* RFC 9110, 8.6 */
		http_head_add(head, "Content-Length", "%zu", len);
	http_head_end(head);
	send(t, head->data, head->len, false);
	buf_release(head);
	for (i = 0; i < count && !head_only; i++)
		answer_piece(t, parts[i].bytes, parts[i].len, false);
	return ANSWERED;
}

enum verdict answer_whole(
	struct txn *t, int status, const char *content_type, const struct hash_part *parts, size_t count)
{
	struct buf head = BUF_INIT(HEAD_MAX);

	if (t->behind)
		return ANSWERED;
	add_common(t, &head, status, content_type);
	return whole(t, &head, parts, count);
}

enum verdict answer_json(struct txn *t, int status, const struct buf *body)
{
	return answer_whole(t, status, "application/json", &(struct hash_part){body->data, body->len}, 1);
}

/* ---- errors ---- */

static void error_body(struct buf *out, const struct err *err)
{
	const struct err_kind *kind = err_kind(err->code);

	buf_adds(out, "{\"error\":{\"message\":");
	json_print_string(out, err->message, strlen(err->message));
	buf_adds(out, ",\"type\":");
	json_print_string(out, kind->type, strlen(kind->type));
	buf_adds(out, ",\"param\":");
	if (*err->param)
		json_print_string(out, err->param, strlen(err->param));
	else
		buf_adds(out, "null");
	buf_adds(out, ",\"code\":");
	json_print_string(out, kind->code, strlen(kind->code));
	buf_adds(out, "}}");
}

static void add_retry(struct txn *t, struct buf *head)
{
	enum err_retry retry = t->should_retry != RETRY_UNSAID ? t->should_retry : err_kind(t->err.code)->retry;

	if (t->retry_after_ms > 0) {
		http_head_add(head, "Retry-After", "%lld", (long long)((t->retry_after_ms + 999) / 1000));
		http_head_add(head, "retry-after-ms", "%lld", (long long)t->retry_after_ms);
	}
	if (retry != RETRY_UNSAID)
		http_head_add(head, "x-should-retry", retry == RETRY_YES ? "true" : "false");
}

static void send_error(struct txn *t, int status, const struct buf *body)
{
	struct buf head = BUF_INIT(HEAD_MAX), event = BUF_INIT(BODY_MAX + 64);

	if (t->behind)
		return;
	if (t->head_sent) { /* in mid-stream: the last event, and no [DONE] behind it */
		sse_write_data(&event, body->data, body->len);
		answer_piece(t, event.data, event.len, true);
		buf_release(&event);
		return;
	}
	add_common(t, &head, status, "application/json");
	add_retry(t, &head);
	if (t->allow)
		http_head_add(&head, "Allow", "%s", t->allow); /* RFC 9110, 15.5.6 */
	if (status == 401)
		http_head_add(&head, "WWW-Authenticate", "Bearer"); /* RFC 9110, 11.6.1 */
	whole(t, &head, &(struct hash_part){body->data, body->len}, 1);
}

void answer_error(struct txn *t)
{
	struct buf body = BUF_INIT(BODY_MAX);

	if (t->client_gone || t->err.code == ERR_CLIENT_GONE || stale_answer(t))
		return;
	error_body(&body, &t->err);
	send_error(t, err_kind(t->err.code)->status, &body);
	buf_release(&body);
}

void answer_provider_error(struct txn *t, int status, const struct buf *body)
{
	if (t->client_gone || (status >= 500 && stale_answer(t)))
		return;
	send_error(t, status, body);
}
