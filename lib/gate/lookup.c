/* A hit is the whole answer with a fresh id and created, in the form that was asked for, whatever form it came in. */
#include "base/clock.h"
#include "base/hash.h"
#include "edge/sse.h"
#include "gate/answer.h"
#include "gate/cache.h"
#include "gate/embed.h"
#include "gate/epoch.h"
#include "gate/price.h"
#include "wire/stream.h"

#include <stdio.h>
#include <string.h>

enum { STREAM_MAX = 64 << 20, ID_BYTES = 12 };

/* {"id":"chatcmpl-…","created":…, in front of what the entry holds behind its brace */
static const char *fresh_head(struct txn *t, const struct cache_entry *e)
{
	uint8_t random[ID_BYTES];
	char hex[2 * ID_BYTES + 1];

	hash_random(random, sizeof(random));
	hash_hex(random, sizeof(random), hex);
	snprintf(t->facts.id, sizeof(t->facts.id), "%s%s", t->endpoint->operation->id_prefix, hex);
	return arena_printf(t->arena, "{\"id\":\"%s\",\"created\":%lld%s", t->facts.id,
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

/* CACHE_HIT with *e filled, or why there is none. */
static enum cache_state look(struct txn *t, struct cache_entry *e)
{
	const struct store_item *item = t->entry;
	int64_t now = clock_real_ms();

	t->store_down |= item->result == STORE_DOWN || item->result == STORE_FAIL;
	if (!epoch_read(t, item->server, t->epochs)) {
		t->store_down = true;
		t->remember = false;
		return CACHE_MISS;
	}
	if (item->result != STORE_OK || !cache_decode(e, item->value, item->value_len, t->cache_hash) ||
		!epoch_fits(e, t->epochs))
		return CACHE_MISS;
	if (e->expires_ms <= now)
		return CACHE_EXPIRED;
	return controls_allow(&t->controls, now - e->stored_ms) ? CACHE_HIT : CACHE_REFUSED;
}

static enum verdict entry_lookup(struct txn *t)
{
	struct cache_entry e;

	if (!t->entry)
		return NEXT;
	t->cache = look(t, &e);
	if (t->cache != CACHE_HIT)
		return NEXT;
	t->cache = CACHE_MISS; /* until it has turned out that it can be played */
	return serve(t, &e);
}

enum verdict stage_lookup(struct txn *t)
{
	enum verdict verdict = t->embed ? embed_lookup(t) : entry_lookup(t);

	if (verdict == NEXT && t->controls.only_if_cached)
		return txn_fail(t, ERR_NOT_CACHED, NULL,
			"There is no cached answer that this request may have, and its Cache-Control says "
			"only-if-cached.");
	return verdict;
}
