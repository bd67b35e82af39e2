/* A hit is the whole answer with a fresh id and created, in the form that was asked for, whatever form it came in. */
#include "base/clock.h"
#include "edge/sse.h"
#include "gate/answer.h"
#include "gate/cache.h"
#include "gate/embed.h"
#include "gate/epoch.h"
#include "gate/lookup.h"
#include "gate/price.h"
#include "gate/stale.h"
#include "wire/stream.h"

#include <stdio.h>
#include <string.h>

enum { PIECE_BYTES = 1 << 20 /* of a stream, held back until it is known to be playable */ };

/* {"id":"chatcmpl-…","created":…, in front of what the entry holds behind its brace */
static const char *fresh_head(struct txn *t, const struct cache_entry *e)
{
	return arena_printf(t->arena, "{\"id\":\"%s\",\"created\":%lld%s", answer_fresh_id(t),
		(long long)(clock_real_ms() / 1000), e->json_len > 2 ? "," : "");
}

static void take_facts(struct txn *t, const struct cache_entry *e, enum cache_state as)
{
	int64_t now = clock_real_ms();

	t->cache = as;
	t->cache_age_ms = now > e->stored_ms ? now - e->stored_ms : 0;
	t->cache_ttl_ms = e->expires_ms - now;
	t->facts.input_tokens = e->input_tokens;
	t->facts.output_tokens = e->output_tokens;
	t->facts.cached_tokens = e->cached_tokens;
	snprintf(t->facts.model, sizeof(t->facts.model), "%s", e->model);
	snprintf(t->facts.finish_reasons, sizeof(t->facts.finish_reasons), "%s", e->finish_reasons);
	if (!t->called) /* what a call costs that failed is known already, or never */
		t->cost_pusd = 0;
	t->saved_pusd = price_of(t->model, &t->facts);
}

struct player {
	struct txn *t;
	const struct cache_entry *entry;
	enum cache_state as;
	struct buf out;
	bool begun, gone;
};

static void send(struct player *p)
{
	if (!p->begun) {
		take_facts(p->t, p->entry, p->as);
		if (!p->t->head_sent) /* the provider failed late */
			answer_begin(p->t, 200, "text/event-stream; charset=utf-8");
	}
	p->begun = true;
	p->gone = !answer_piece(p->t, p->out.data, p->out.len, true);
	buf_reset(&p->out);
}

static int add_event(void *ctx, const char *chunk, size_t len)
{
	struct player *p = ctx;

	sse_write_data(&p->out, chunk, len);
	if (p->out.len >= PIECE_BYTES)
		send(p);
	return p->out.overflow || p->gone ? -1 : 0;
}

/* The answer as a stream, in one piece unless it is a long one. False: the entry is not what it says it is. */
static bool play(struct player *p, const char *head)
{
	struct txn *t = p->t;
	const struct cache_entry *e = p->entry;
	struct buf text = BUF_INIT(strlen(head) + e->json_len);
	struct replay replay = {.form = t->endpoint->operation->form,
		.script = e->script,
		.script_len = e->script_len,
		.include_usage = t->chat.include_usage,
		.emit = add_event,
		.ctx = p};
	int verdict;

	buf_adds(&text, head);
	buf_add(&text, e->json + 1, e->json_len - 1);
	replay.completion = text.overflow ? NULL : json_parse(text.data, text.len, &(struct err){0});
	buf_release(&text);
	if (!replay.completion)
		return false;
	verdict = stream_replay(&replay);
	json_object_put(replay.completion);
	sse_write_data(&p->out, "[DONE]", 6);
	return verdict == 0 && !p->out.overflow;
}

static enum verdict serve_stream(struct txn *t, const struct cache_entry *e, const char *head, enum cache_state as)
{
	/* an event holds at most the answer; what it says of itself is in the answer too */
	struct player p = {.t = t, .entry = e, .as = as, .out = BUF_INIT(PIECE_BYTES + 2 * e->json_len + PIECE_BYTES)};
	bool good = play(&p, head);
	enum verdict verdict = ANSWERED;

	if (good)
		send(&p);
	else if (!p.begun)
		verdict = NEXT;
	else if (!p.gone)
		verdict = txn_fail(t, ERR_INTERNAL, NULL, "The remembered answer cannot be played to its end.");
	buf_release(&p.out);
	return verdict;
}

enum verdict lookup_serve(struct txn *t, const struct cache_entry *e, enum cache_state as)
{
	const char *head = fresh_head(t, e);

	if (t->chat.stream)
		return serve_stream(t, e, head, as);
	take_facts(t, e, as);
	return answer_whole(t, 200, "application/json",
		(struct hash_part[]){{head, strlen(head)}, {e->json + 1, e->json_len - 1}}, 2);
}

void lookup_ask(struct txn *t)
{
	int server = store_server_of(t->worker->store, STORE_CACHE, t->cache_key);

	epoch_prepare(t, server);
	t->entry = &t->batch[t->batch_count++];
	*t->entry = (struct store_item){.op = STORE_GET, .pool = STORE_CACHE, .key = t->cache_key, .server = server};
}

bool lookup_read(struct txn *t, struct cache_entry *e)
{
	const struct store_item *item = t->entry;

	t->store_down |= item->result == STORE_DOWN || item->result == STORE_FAIL;
	if (!epoch_read(t, item->server, t->epochs)) {
		t->store_down = true;
		t->remember = false;
		return false;
	}
	return cache_read(t, item, true, t->cache_hash, e) && epoch_fits(e, t->epochs);
}

bool lookup_reread(struct txn *t, struct cache_entry *e)
{
	if (!t->batch)
		t->batch = arena_alloc(t->arena, (epoch_items_max(t) + 1) * sizeof(*t->batch));
	t->batch_count = 0;
	if (t->epoch_items)
		t->epoch_items[t->entry->server - 1] = NULL;
	lookup_ask(t);
	store_run(t->worker->store, t->batch, t->batch_count);
	return lookup_read(t, e);
}

/* Whether an entry may be served, and if not, why not. */
static enum cache_state judge(struct txn *t, const struct cache_entry *e)
{
	int64_t now = clock_real_ms();

	if (e->expires_ms > now)
		return controls_allow(&t->controls, now - e->stored_ms) ? CACHE_HIT : CACHE_REFUSED;
	if (stale_while_revalidate(t, e))
		return CACHE_STALE;
	t->stale_if_error = stale_if_error(t, e);
	return CACHE_EXPIRED;
}

/* NULL: there is none. */
static enum verdict answer_with(struct txn *t, const struct cache_entry *e)
{
	enum cache_state state = e ? judge(t, e) : CACHE_MISS;
	enum verdict verdict;

	t->cache = state;
	if (state != CACHE_HIT && state != CACHE_STALE)
		return NEXT;
	t->cache = CACHE_MISS; /* until it has turned out that it can be played */
	verdict = lookup_serve(t, e, state);
	if (t->cache == CACHE_STALE)
		stale_refresh_later(t);
	return verdict;
}

static enum verdict entry_lookup(struct txn *t)
{
	struct cache_entry e;

	return t->entry ? answer_with(t, lookup_read(t, &e) ? &e : NULL) : NEXT;
}

enum verdict lookup_again(struct txn *t)
{
	struct cache_entry e;

	return answer_with(t, lookup_reread(t, &e) ? &e : NULL);
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
