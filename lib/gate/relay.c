/* A stream is asked for as a stream and a JSON answer as JSON: what the client sees is what the provider said. */
#include "gate/relay.h"

#include "base/clock.h"
#include "edge/fcgi.h"
#include "gate/admit.h"
#include "gate/answer.h"
#include "gate/coalesce.h"
#include "gate/slots.h"
#include "wire/canon.h"

#include <stdio.h>
#include <string.h>

enum { ERROR_BODY_MAX = 1 << 20, HEADERS = 8 };

static int on_head(void *ctx, const struct upstream_head *head)
{
	struct relay *r = ctx;
	struct txn *t = r->t;

	r->status = t->upstream_status = head->status;
	snprintf(t->upstream_request_id, sizeof(t->upstream_request_id), "%s", head->request_id);
	r->mode = head->status == 200 && t->chat.stream && http_media_type_is(head->content_type, "text/event-stream")
			  ? RELAY_STREAM
			  : RELAY_BODY;
	r->body = BUF_INIT(head->status == 200 ? (size_t)t->model->provider->max_response : ERROR_BODY_MAX);
	return 0;
}

static int on_data(void *ctx, const char *bytes, size_t len)
{
	struct relay *r = ctx;

	if (r->mode == RELAY_STREAM)
		return relay_stream_data(r, bytes, len);
	buf_add(&r->body, bytes, len);
	return r->body.overflow ? -1 : 0;
}

/* Those who follow come first: nobody waits for our client. */
static int on_read(void *ctx)
{
	struct relay *r = ctx;

	lead_pump(r->t);
	slots_pump(r->t);
	return relay_stream_flush(r);
}

static bool wants_out(void *ctx)
{
	(void)ctx;
	return fcgi_waiting() > 0;
}

static bool goes_on(void *ctx)
{
	struct relay *r = ctx;

	r->t->client_gone = true;
	return lead_goes_on(r->t);
}

static int on_tick(void *ctx)
{
	struct relay *r = ctx;

	lead_pump(r->t);
	slots_pump(r->t);
	if (r->t->client_gone && !lead_goes_on(r->t))
		return -1;
	return clock_mono_us() >= relay_stream_next_tick(r) ? relay_stream_tick(r) : 0;
}

static int64_t next_tick_us(void *ctx)
{
	struct relay *r = ctx;
	int64_t times[] = {relay_stream_next_tick(r), lead_next_us(r->t), slots_next_us(r->t)}, next = times[0];
	size_t i;

	for (i = 1; i < sizeof(times) / sizeof(times[0]); i++)
		next = times[i] < next ? times[i] : next;
	return next;
}

/* ---- the call ---- */

const char **relay_headers(struct txn *t)
{
	const struct provider *p = t->model->provider;
	const char **list, **h, **name = t->config->forward_headers;
	char traceparent[HTTP_TRACEPARENT];

	while (*name)
		name++;
	list = h = arena_alloc(t->arena, (HEADERS + (size_t)(name - t->config->forward_headers)) * sizeof(*list));
	http_trace_print(&t->trace, traceparent);
	*h++ = "Content-Type: application/json";
	*h++ = t->chat.stream ? "Accept: text/event-stream" : "Accept: application/json";
	*h++ = "User-Agent: pavise/" PAVISE_VERSION;
	*h++ = arena_printf(t->arena, "traceparent: %s", traceparent);
	if (p->api_key.value)
		*h++ = arena_printf(t->arena, "Authorization: Bearer %s", p->api_key.value);
	for (name = t->config->forward_headers; *name; name++)
		if (http_header(*name))
			*h++ = arena_printf(t->arena, "%s: %s", *name, http_header(*name));
	return list;
}

static void call(struct relay *r, struct upstream_report *report)
{
	struct txn *t = r->t;
	const struct provider *p = t->model->provider;
	struct buf body = BUF_INIT(CANON_MAX_BYTES(t->config->server.max_body));
	struct canon_edits edits = {.model = t->model->model,
		.no_stream_options = !p->stream_options,
		.include_usage = t->chat.stream && p->stream_options,
		.cap = t->admission ? t->admission->cap : 0,
		.cap_field = t->admission ? t->admission->cap_field : NULL};
	struct upstream_call c = {.url = arena_printf(t->arena, "%s%s", p->base_url, t->endpoint->operation->url),
		.headers = t->call_headers ? t->call_headers : relay_headers(t),
		.trust = p->trust,
		.connect_us = p->timeout.connect,
		.first_byte_us = p->timeout.first_byte,
		.between_bytes_us = p->timeout.between_bytes,
		.total_us = p->timeout.total,
		.on_head = on_head,
		.on_data = on_data,
		.on_read = on_read,
		.on_tick = on_tick,
		.next_tick_us = next_tick_us,
		.watch_fd = t->behind ? -1 : fcgi_fd(),
		.wants_out = wants_out,
		.goes_on = goes_on,
		.ctx = r};

	canon_sent(&body, t->body, &edits);
	BUG_ON(body.overflow);
	c.body = body.data;
	c.body_len = body.len;
	t->called = true;
	upstream_run(&c, report);
	buf_release(&body);
	t->upstream_us = report->duration_us;
	snprintf(t->upstream_detail, sizeof(t->upstream_detail), "%s", report->detail);
}

/* ---- how it ended ---- */

static enum verdict failed(struct txn *t, enum upstream_end end)
{
	const char *name = t->model->provider->name;

	switch (end) {
	case UPSTREAM_UNREACHABLE:
		return txn_fail(t, ERR_PROVIDER_UNREACHABLE, NULL, "The provider '%s' cannot be reached.", name);
	case UPSTREAM_TLS:
		return txn_fail(
			t, ERR_PROVIDER_TLS, NULL, "No secure connection to the provider '%s' could be made.", name);
	case UPSTREAM_CONNECT_TIMEOUT:
		return txn_fail(t, ERR_PROVIDER_CONNECT_TIMEOUT, NULL,
			"The provider '%s' did not accept a connection in time.", name);
	case UPSTREAM_FIRST_BYTE_TIMEOUT:
		return txn_fail(
			t, ERR_PROVIDER_TIMEOUT, NULL, "The provider '%s' did not begin to answer in time.", name);
	case UPSTREAM_TOTAL_TIMEOUT:
		return txn_fail(
			t, ERR_PROVIDER_TIMEOUT, NULL, "The provider '%s' did not finish its answer in time.", name);
	case UPSTREAM_BETWEEN_BYTES_TIMEOUT:
		return txn_fail(t, ERR_PROVIDER_STALLED, NULL,
			"The provider '%s' fell silent in the middle of its answer.", name);
	default: return txn_fail(t, ERR_PROVIDER_BROKEN, NULL, "The connection to the provider '%s' broke.", name);
	}
}

static enum verdict judge(struct relay *r, const struct upstream_report *report)
{
	struct txn *t = r->t;

	if (t->client_gone && !r->done && !t->err.code && !r->body.overflow &&
		(report->end == UPSTREAM_GONE || report->end == UPSTREAM_STOPPED))
		return txn_fail(t, ERR_CLIENT_GONE, NULL, "The client left before the answer was complete.");
	if (t->err.code && r->body.len) { /* the provider's own words, in mid-stream */
		lead_end_failed(t, err_kind(t->err.code)->status, &r->body);
		answer_provider_error(t, err_kind(t->err.code)->status, &r->body);
		return ANSWERED;
	}
	if (t->err.code)
		return FAILED;                      /* found while the answer was coming in */
	if (r->body.overflow && r->status != 200) { /* an error that nobody can want to read: its status is enough */
		buf_release(&r->body);
		return relay_whole_error(r, &report->head);
	}
	if (r->body.overflow)
		return txn_fail(t, ERR_PROVIDER_TOO_LARGE, NULL,
			"The provider '%s' answered with more than %lld bytes.", t->model->provider->name,
			(long long)t->model->provider->max_response);
	if (r->mode == RELAY_STREAM && (r->done || report->end == UPSTREAM_DONE))
		return relay_stream_end(r);
	if (report->end != UPSTREAM_DONE)
		return failed(t, report->end);
	return r->status == 200 ? relay_whole_answer(r) : relay_whole_error(r, &report->head);
}

/* A gateway's timeout is no refusal: what it did not wait for may have worked. */
static bool refused(const struct relay *r)
{
	return r->status >= 300 && r->status != 504 && r->status != 524;
}

static bool timed_out(enum upstream_end end)
{
	return end == UPSTREAM_FIRST_BYTE_TIMEOUT || end == UPSTREAM_BETWEEN_BYTES_TIMEOUT ||
	       end == UPSTREAM_TOTAL_TIMEOUT;
}

/* Before anything is said of how it ended. A body with an answer settles itself (relay_whole_answer). */
static void settle(struct relay *r, const struct upstream_report *report)
{
	enum upstream_end end = report->end;

	if (end == UPSTREAM_UNREACHABLE || end == UPSTREAM_TLS || end == UPSTREAM_CONNECT_TIMEOUT)
		settle_refused(r->t);
	else if (r->mode == RELAY_STREAM && !timed_out(end))
		settle_answer(r->t, &r->heard);
	else if (r->mode == RELAY_BODY && refused(r))
		settle_refused(r->t);
	else if (r->mode != RELAY_BODY || r->status != 200 || end != UPSTREAM_DONE || r->body.overflow)
		settle_unknown(r->t);
}

static void relay_release(struct relay *r)
{
	buf_release(&r->body);
	buf_release(&r->out);
	sse_reader_release(&r->reader);
	assembly_release(&r->assembly);
	usage_release(&r->usage);
}

enum verdict stage_relay(struct txn *t)
{
	struct relay r = {.t = t, .reader = SSE_READER_INIT, .out = BUF_INIT(64 << 20), .written_us = clock_mono_us()};
	struct upstream_report report;
	enum verdict verdict;

	r.usage = (struct usage_view){
		.asked = t->chat.include_usage, .running = t->chat.running_usage, .choices = t->chat.choices};
	assembly_init(&r.assembly, t->endpoint->operation->form, (size_t)t->config->cache.max_entry);
	call(&r, &report);
	slots_release(t);
	store_again(t->worker->store); /* what would not answer before the call may answer now */
	r.heard.whole |= report.end == UPSTREAM_DONE && relay_stream_whole(&r);
	settle(&r, &report);
	verdict = judge(&r, &report);
	settle_unknown(t); /* if nothing has been said: it was no answer */
	if (t->err.code == ERR_CLIENT_GONE)
		lead_leave(t);
	else
		lead_end_failed(t, 0, NULL);                  /* if nothing else has been said */
	if (t->client_gone && t->err.code != ERR_CLIENT_GONE) /* it went on for others */
		verdict = txn_fail(t, ERR_CLIENT_GONE, NULL, "The client left before the answer was complete.");
	relay_release(&r);
	return verdict;
}
