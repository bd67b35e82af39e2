/*
 * Events go out as they come in: one read from the provider, one write to the client, never a timer. Silence is filled
 * with comments, because only a write tells us that the client has gone.
 */
#include "base/clock.h"
#include "gate/admit.h"
#include "gate/answer.h"
#include "gate/cache.h"
#include "gate/coalesce.h"
#include "gate/relay.h"
#include "gate/slots.h"
#include "gate/structured.h"

#include <string.h>

enum {
	EVENT_TREE_MAX = 256 << 20 /* of memory, for one event */,
	LINGER_US = 100000 /* after [DONE] the provider may end its response properly, which saves the connection */
};

int relay_stream_begin(struct relay *r)
{
	if (r->t->head_sent)
		return 0;
	return answer_begin(r->t, 200, "text/event-stream; charset=utf-8") ? 0 : -1;
}

static void write_chunk(struct relay *r, struct json_object *chunk)
{
	struct buf text = BUF_INIT(64 << 20);

	json_print(&text, chunk);
	sse_write_data(&r->out, text.data, text.len);
	buf_release(&text);
}

/* Usage is asked for on our account: the client sees of it what it asked for itself. */
static void pass_on(struct relay *r, struct json_object *chunk, const char *data, size_t len)
{
	switch (usage_show(&r->usage, chunk)) {
	case USAGE_AS_IT_IS: sse_write_data(&r->out, data, len); break;
	case USAGE_CHANGED: write_chunk(r, chunk); break;
	case USAGE_UNSEEN: break;
	}
}

/* The end of the client's stream. */
static void write_done(struct relay *r)
{
	if (usage_owed(&r->usage))
		write_chunk(r, usage_owed(&r->usage));
	sse_write_data(&r->out, "[DONE]", 6);
}

/* An error in mid-stream: the answer is over, and it is not one. event NULL: its words are no JSON. */
static int error_event(struct relay *r, struct json_object *event)
{
	const struct err_kind *kind = err_kind(ERR_PROVIDER_ERROR);

	if (r->heard.tokens == 0) /* instead of an answer */
		settle_refused(r->t);
	txn_fail(r->t, ERR_PROVIDER_ERROR, NULL, "The provider '%s' reported an error in the middle of its answer.",
		r->t->model->provider->name);
	answer_error_body(&r->body, event, r->t->err.message, kind->type, kind->code);
	return -1;
}

/* As it is, or with spaces behind it. */
static bool is_done(const char *data, size_t len)
{
	while (len > 6 && (data[len - 1] == ' ' || data[len - 1] == '\t'))
		len--;
	return len == 6 && memcmp(data, "[DONE]", 6) == 0;
}

static int on_event(void *ctx, const char *name, const char *data, size_t len)
{
	struct relay *r = ctx;
	struct txn *t = r->t;
	struct json_object *chunk;
	struct err err;
	int verdict = 0;

	if (r->done)
		return 0;
	if (!t->first_chunk_us)
		t->first_chunk_us = clock_mono_us() - t->started_us;
	if (is_done(data, len)) {
		r->done = true;
		r->done_us = clock_mono_us();
		r->heard.whole = true;
		settle_answer(t, &r->heard);
		slots_release(t);
		write_done(r);
		return 0;
	}
	chunk = json_parse_within(data, len, EVENT_TREE_MAX, &err);
	if (strcmp(name, "error") == 0 || answer_is_error(chunk)) {
		verdict = error_event(r, chunk);
	} else {
		lead_event(t, data, len);
		answer_facts_read(&t->facts, chunk);
		r->heard.tokens += !settle_measures(t) ? 0
				   : chunk             ? measure_answer(chunk, &r->heard.reasoned)
						       : (int64_t)len;
		if (chunk)
			assembly_add(&r->assembly, chunk);
		else /* not ours to judge, but not to be remembered either */
			r->assembly.lost = true;
		pass_on(r, chunk, data, len);
	}
	json_object_put(chunk);
	return verdict;
}

int relay_stream_flush(struct relay *r)
{
	bool ok = true;

	if (r->out.len) {
		relay_stream_begin(r);
		ok = answer_piece(r->t, r->out.data, r->out.len, true);
		r->written_us = clock_mono_us();
	} else {
		ok = answer_push(r->t);
	}
	buf_reset(&r->out);
	return ok || lead_goes_on(r->t) ? 0 : -1;
}

int relay_stream_data(struct relay *r, const char *bytes, size_t len)
{
	int verdict;

	r->received += len;
	if (r->received > (uint64_t)r->t->model->provider->max_response)
		r->assembly.lost = true; /* passed on without end, but not collected */
	verdict = sse_read(&r->reader, bytes, len, on_event, r);

	if (verdict == -1 && !r->t->err.code)
		txn_fail(r->t, ERR_PROVIDER_TOO_LARGE, NULL, "The provider '%s' sent an event of more than %d bytes.",
			r->t->model->provider->name, SSE_EVENT_MAX);
	return verdict;
}

int64_t relay_stream_next_tick(struct relay *r)
{
	const struct config *c = r->t->config;

	if (!r->t->chat.stream || r->t->client_gone)
		return r->done ? r->done_us + LINGER_US : INT64_MAX;
	if (r->done)
		return r->done_us + LINGER_US;
	if (!r->t->head_sent)
		return r->t->started_us + c->stream.commit_after;
	return r->written_us + c->stream.heartbeat;
}

int relay_stream_tick(struct relay *r)
{
	if (r->done)
		return -1;
	if (relay_stream_begin(r) != 0)
		return lead_goes_on(r->t) ? 0 : -1;
	r->written_us = clock_mono_us();
	return answer_comment(r->t, "keep-alive") || lead_goes_on(r->t) ? 0 : -1;
}

/* A stream that is whole, but does not say so, is not remembered. */
static void remember(struct relay *r)
{
	struct json_object *completion = assembly_finish(&r->assembly);
	const struct buf *script = &r->assembly.script;

	if (completion && r->done && structured_check(r->t, completion) && r->t->remember &&
		answer_complete(completion) && !(admit_shortened(r->t) && answer_cut(completion)))
		r->t->stored = cache_put(r->t, completion, script->data, script->len);
	lead_end(r->t, &(struct lead_answer){completion, script->data, script->len, NULL});
}

bool relay_stream_whole(const struct relay *r)
{
	return r->mode == RELAY_STREAM && r->assembly.choices >= r->t->chat.choices &&
	       r->assembly.finished == r->assembly.choices;
}

enum verdict relay_stream_end(struct relay *r)
{
	struct txn *t = r->t;

	if (r->done) {
		remember(r);
		return ANSWERED;
	}
	if (relay_stream_whole(r)) {
		remember(r);
		write_done(r); /* whole, but its provider does not say it */
		relay_stream_flush(r);
		return ANSWERED;
	}
	return txn_fail(t, ERR_PROVIDER_BROKEN, NULL, "The provider '%s' ended its stream in the middle of the answer.",
		t->model->provider->name);
}
