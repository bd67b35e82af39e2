/* A hit is the whole answer with a fresh id and created, in the form that was asked for, whatever form it came in. */
#include "base/clock.h"
#include "edge/sse.h"
#include "gate/answer.h"
#include "gate/cache.h"
#include "gate/embed.h"
#include "gate/price.h"
#include "wire/stream.h"

#include <stdio.h>
#include <string.h>

enum { STREAM_MAX = 64 << 20 };

/* {"id":"chatcmpl-…","created":…, in front of what the entry holds behind its brace */
static const char *fresh_head(struct txn *t, const struct cache_entry *e)
{
	return arena_printf(t->arena, "{\"id\":\"%s\",\"created\":%lld%s", answer_fresh_id(t),
		(long long)(clock_real_ms() / 1000), e->json_len > 2 ? "," : "");
}

static int add_event(void *out, const char *chunk, size_t len)
{
	sse_write_data(out, chunk, len);
	return ((struct buf *)out)->overflow ? -1 : 0;
}

/* The answer as a stream, in one piece. False: the entry is not what it says it is. */
static bool play(struct txn *t, const struct cache_entry *e, const char *head, struct buf *out)
{
	struct replay replay = {.form = t->endpoint->operation->form,
		.script = e->script,
		.script_len = e->script_len,
		.include_usage = t->chat.include_usage,
		.emit = add_event,
		.ctx = out};
	struct buf text = BUF_INIT(STREAM_MAX);
	int verdict;

	buf_adds(&text, head);
	buf_add(&text, e->json + 1, e->json_len - 1);
	replay.completion = text.overflow ? NULL : json_parse(text.data, text.len, &(struct err){0});
	buf_release(&text);
	if (!replay.completion)
		return false;
	verdict = stream_replay(&replay);
	json_object_put(replay.completion);
	sse_write_data(out, "[DONE]", 6);
	return verdict == 0 && !out->overflow;
}

static void take_facts(struct txn *t, const struct cache_entry *e, int64_t now)
{
	t->cache = CACHE_HIT;
	t->cache_age_ms = now > e->stored_ms ? now - e->stored_ms : 0;
	t->cache_ttl_ms = e->expires_ms - now;
	t->facts.input_tokens = e->input_tokens;
	t->facts.output_tokens = e->output_tokens;
	t->facts.cached_tokens = e->cached_tokens;
	snprintf(t->facts.model, sizeof(t->facts.model), "%s", e->model);
	snprintf(t->facts.finish_reasons, sizeof(t->facts.finish_reasons), "%s", e->finish_reasons);
	t->cost_pusd = 0;
	t->saved_pusd = price_of(t->model, &t->facts);
}

static enum verdict serve(struct txn *t, const struct cache_entry *e)
{
	const char *head = fresh_head(t, e);
	struct buf stream = BUF_INIT(STREAM_MAX);
	enum verdict verdict = NEXT;

	if (!t->chat.stream) {
		take_facts(t, e, clock_real_ms());
		return answer_whole(t, 200, "application/json",
			(struct hash_part[]){{head, strlen(head)}, {e->json + 1, e->json_len - 1}}, 2);
	}
	if (play(t, e, head, &stream)) {
		take_facts(t, e, clock_real_ms());
		answer_begin(t, 200, "text/event-stream; charset=utf-8");
		answer_piece(t, stream.data, stream.len, true);
		verdict = ANSWERED;
	}
	buf_release(&stream);
	return verdict;
}

enum verdict stage_lookup(struct txn *t)
{
	struct cache_entry e;

	if (t->embed)
		return embed_lookup(t);
	if (!t->entry)
		return NEXT;
	t->cache = CACHE_MISS;
	t->store_down |= t->entry->result == STORE_DOWN || t->entry->result == STORE_FAIL;
	if (t->entry->result != STORE_OK || !cache_decode(&e, t->entry->value, t->entry->value_len, t->cache_hash))
		return NEXT;
	if (e.expires_ms <= clock_real_ms())
		return NEXT;
	return serve(t, &e);
}
