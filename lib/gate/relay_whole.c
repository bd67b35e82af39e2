/* An answer in one body is passed on to the byte; only its copy for the cache is taken apart. */
#include "gate/admit.h"
#include "gate/answer.h"
#include "gate/cache.h"
#include "gate/coalesce.h"
#include "gate/embed.h"
#include "gate/relay.h"
#include "gate/structured.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add_event(void *out, const char *chunk, size_t len)
{
	sse_write_data(out, chunk, len);
	return 0;
}

bool relay_whole_events(const struct txn *t, struct json_object *completion, struct buf *out)
{
	struct replay replay = {.form = t->endpoint->operation->form,
		.completion = completion,
		.script = "",
		.include_usage = t->chat.include_usage,
		.emit = add_event,
		.ctx = out};

	if (stream_replay(&replay) != 0)
		return false;
	sse_write_data(out, "[DONE]", 6);
	return !out->overflow;
}

/* A stream was asked for, but the provider answered in one piece: it is played as a stream. */
static enum verdict play(struct relay *r, struct json_object *completion)
{
	if (!relay_whole_events(r->t, completion, &r->out))
		return txn_fail(r->t, ERR_PROVIDER_INVALID, NULL,
			"The provider '%s' answered with something that is not a chat "
			"completion.",
			r->t->model->provider->name);
	if (relay_stream_begin(r) == 0)
		answer_piece(r->t, r->out.data, r->out.len, true);
	return ANSWERED;
}

enum verdict relay_whole_answer(struct relay *r)
{
	struct txn *t = r->t;
	size_t max_weight = RELAY_TREE_GROWTH * (size_t)t->model->provider->max_response;
	struct json_object *completion;
	bool strange = false;
	struct err err;

	completion = json_parse_within(r->body.data ? r->body.data : "", r->body.len, max_weight, &err);
	if (!completion && err.code == ERR_BODY_TOO_LARGE)
		return txn_fail(t, ERR_PROVIDER_TOO_LARGE, NULL,
			"The provider '%s' answered with more values than can be held.", t->model->provider->name);
	if (!completion && r->body.len) { /* not JSON as we want it, but perhaps as the client's library does */
		completion = json_parse_leniently(r->body.data, r->body.len, max_weight);
		strange = completion != NULL;
	}
	if (answer_is_error(completion)) { /* with the wrong status */
		json_object_put(completion);
		r->status = 502;
		settle_refused(t);
		return relay_whole_error(r, &(struct upstream_head){0});
	}
	if (!completion || !json_get_array(completion, t->endpoint->operation->form ? "choices" : "data")) {
		json_object_put(completion);
		return txn_fail(t, ERR_PROVIDER_INVALID, NULL,
			"The provider '%s' answered 200 with something that is no answer to this.",
			t->model->provider->name);
	}
	arena_defer(t->arena, json_release, completion);
	if (strange)
		t->remember = false; /* passed on as it is */
	if (!t->endpoint->operation->form)
		return embed_answer(t, &r->body, completion);
	answer_facts_read(&t->facts, completion);
	r->heard.whole = true;
	if (settle_measures(t))
		r->heard.tokens = measure_answer(completion, &r->heard.reasoned);
	settle_answer(t, &r->heard);
	if (structured_check(t, completion) && t->remember && answer_complete(completion) &&
		!(admit_shortened(t) && answer_cut(completion)))
		t->stored = cache_put(t, completion, "", 0);
	lead_end(t, &(struct lead_answer){.completion = strange ? NULL : completion, .script = "", .raw = &r->body});
	if (t->chat.stream)
		return play(r, completion);
	return answer_json(t, 200, &r->body);
}

/* In ms. Retry-After's other form, a date, is not passed on. */
static int64_t retry_after(const struct upstream_head *head)
{
	double ms = *head->retry_after_ms ? strtod(head->retry_after_ms, NULL) : strtod(head->retry_after, NULL) * 1000;

	return ms > 0 && ms <= 86400e3 ? (int64_t)ms : 0;
}

enum verdict relay_whole_error(struct relay *r, const struct upstream_head *head)
{
	struct txn *t = r->t;
	const struct err_kind *kind = err_kind(ERR_PROVIDER_ERROR);
	struct json_object *body;
	struct buf out = BUF_INIT(2 << 20);
	struct err err;

	txn_fail(t, ERR_PROVIDER_ERROR, NULL, "The provider '%s' answered with status %d.", t->model->provider->name,
		r->status);
	if (r->status < 400 || r->status > 599) { /* a redirect is not followed; 204 has no answer */
		t->err.code = ERR_PROVIDER_INVALID;
		return FAILED;
	}
	t->retry_after_ms = retry_after(head);
	if (strcmp(head->should_retry, "true") == 0)
		t->should_retry = RETRY_YES;
	else if (strcmp(head->should_retry, "false") == 0)
		t->should_retry = RETRY_NO;
	body = json_parse(r->body.data ? r->body.data : "", r->body.len, &err);
	answer_error_body(
		&out, body, t->err.message, r->status < 500 ? "invalid_request_error" : kind->type, kind->code);
	json_object_put(body);
	lead_end_failed(t, r->status, &out);
	answer_provider_error(t, r->status, &out);
	buf_release(&out);
	return ANSWERED;
}
