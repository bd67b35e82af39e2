/*
 * The leader's side. Until somebody follows, events are only kept; from then on they go out in small batches, the first
 * one at once. Publishing to nobody costs one look at memcached for the first event, one a second, and two at the end.
 */
#include "base/clock.h"
#include "gate/cache.h"
#include "gate/coalesce.h"
#include "gate/published.h"
#include "gate/value.h"
#include "wire/usage.h"

#include <poll.h>
#include <stdio.h>

enum {
	BATCH_EVERY_US = 25000, /* a thousand followers are woken so often at most */
	RETRY_US = 100000,      /* a batch that memcached has not taken is offered again */
	PATIENCE_US = 2000000,  /* … and the end: a memcached that is thought down is asked again every second */
	BATCH_BYTES = 512 * 1024,
	PIECE_MIN = 4 * 1024,    /* what a full memcached refuses in one size, it may have room for in another */
	RENEW_SLACK_US = 250000, /* an event that comes within it saves waking up for the lease alone */
	KEPT_MAX = 4 << 20,      /* of events that nobody has wanted yet; beyond it, who comes late waits for the end */
	EVENTS_MAX = 64 << 20,   /* in one go */
	SHARED_S = 60,           /* an answer that is not remembered, for those who wait for it */
	END_BODY_MAX = 64 * 1024 /* of a provider's error, within the end */
};

struct lead {
	struct lease lease;
	struct stats_channel *channel;
	char name[COALESCE_NAME];
	struct buf kept; /* records of what has come and is not published */
	struct buf batch, framed, text;
	uint32_t batches;
	size_t piece_max; /* bytes of one */
	bool waiting;     /* the batch was offered in vain. It may have arrived all the same: nothing is added to it */
	bool remote;      /* other hosts follow */
	bool lost;        /* events that cannot be followed any more: only the end can */
	int64_t renew_us, batch_us;
	struct usage_view asking, others;
};

static void release(void *lead)
{
	struct lead *l = lead;

	buf_release(&l->kept);
	buf_release(&l->batch);
	buf_release(&l->framed);
	buf_release(&l->text);
	usage_release(&l->asking);
	usage_release(&l->others);
}

void lead_begin(struct txn *t, const struct lease *lease, struct stats_channel *channel)
{
	struct lead *l = arena_alloc(t->arena, sizeof(*l));

	*l = (struct lead){.lease = *lease,
		.channel = channel,
		.piece_max = BATCH_BYTES,
		.kept = BUF_INIT(EVENTS_MAX),
		.batch = BUF_INIT(2 * EVENTS_MAX),
		.framed = BUF_INIT(2 * EVENTS_MAX),
		.text = BUF_INIT(2 * EVENTS_MAX),
		.renew_us = clock_mono_us() + LEASE_RENEW_US,
		.asking = {.asked = true, .choices = t->chat.choices},
		.others = {.choices = t->chat.choices}};
	coalesce_name(t, lease->nonce, l->name);
	arena_defer(t->arena, release, l);
	t->lead = l;
	channel_lead(t->worker->stats, t->worker->slot_index, coalesce_hash(t));
	channel_open(channel, t->worker->slot_index, lease->nonce);
}

/* ---- events ---- */

/* As a client of one kind sees it. */
static void add_view(struct lead *l, struct usage_view *view, enum published_for whom, const char *data, size_t len)
{
	struct json_object *chunk = json_parse(data, len, &(struct err){0});

	if (!chunk) { /* not ours to judge */
		published_add(&l->batch, whom, data, len);
		return;
	}
	switch (usage_show(view, chunk)) {
	case USAGE_AS_IT_IS: published_add(&l->batch, whom, data, len); break;
	case USAGE_CHANGED:
		buf_reset(&l->text);
		json_print(&l->text, chunk);
		published_add(&l->batch, whom, l->text.data, l->text.len);
		break;
	case USAGE_UNSEEN: break;
	}
	json_object_put(chunk);
}

/* The views count what has finished, and change what was used. */
static bool concerns_usage(const char *data, size_t len)
{
	return memmem(data, len, "\"usage\"", 7) || memmem(data, len, "finish_reason", 13);
}

/* Of providers that speak of usage at the end only, most events are the same for everybody, and not looked into. */
static void add_event(struct lead *l, const char *data, size_t len)
{
	if (!concerns_usage(data, len)) {
		published_add(&l->batch, FOR_ALL, data, len);
		return;
	}
	add_view(l, &l->asking, FOR_ASKING, data, len);
	add_view(l, &l->others, FOR_OTHERS, data, len);
}

static enum store_result put(struct txn *t, const char *key, struct hash_part payload)
{
	struct lead *l = t->lead;
	struct store_item item = coalesce_item(t, STORE_SET, key);

	buf_reset(&l->framed);
	value_frame(t, key, payload, &l->framed);
	item.value = l->framed.data;
	item.value_len = l->framed.len;
	if (l->lost)
		store_again(t->worker->store);
	else
		store_begin(t->worker->store); /* a late answer to something else is no reason to lose the followers */
	store_run(t->worker->store, &item, 1);
	return item.result;
}

/* In as many items as it takes: a large event is cut, and finer where memcached has no room. */
static void send_batch(struct txn *t)
{
	struct lead *l = t->lead;
	char key[COALESCE_NAME + 16];
	enum store_result result;
	size_t len;

	l->lost |= l->batch.overflow;
	l->waiting = false;
	while (l->batch.len && !l->lost) {
		len = l->batch.len < l->piece_max ? l->batch.len : l->piece_max;
		snprintf(key, sizeof(key), "%s:%u", l->name, l->batches);
		result = put(t, key, (struct hash_part){l->batch.data, len});
		l->waiting = result == STORE_DOWN;
		if (l->waiting)
			break;
		if (result != STORE_OK) {
			l->lost = len <= PIECE_MIN;
			l->piece_max = len / 2;
			continue;
		}
		l->batches++;
		buf_drop(&l->batch, len);
	}
	channel_published(l->channel, t->worker->slot_index, l->batches, false);
}

/* What has come since the last batch, or that one again. */
static void publish_kept(struct txn *t)
{
	struct lead *l = t->lead;
	const char *bytes, *data;
	enum published_for whom;
	size_t left, len;

	if (l->waiting)
		send_batch(t);
	bytes = l->kept.data;
	left = l->kept.len;
	while (!l->waiting && published_next(&bytes, &left, &whom, &data, &len)) {
		add_event(l, data, len);
		if (l->batch.len >= BATCH_BYTES)
			send_batch(t);
	}
	buf_drop(&l->kept, l->kept.len - left);
	if (!l->waiting)
		send_batch(t);
	l->batch_us = clock_mono_us() + (l->waiting ? RETRY_US : BATCH_EVERY_US);
}

static bool has_events(const struct lead *l)
{
	return (l->kept.len || l->waiting) && !l->lost;
}

/* ---- who follows ---- */

/* Hosts that watch say so under the stream's name, for a few seconds each time. While it is asked for, the lease is
 * renewed: one round trip is nearly all that a stream which nobody follows pays for being led. False: memcached does
 * not answer. */
static bool look_for_others(struct txn *t)
{
	struct lead *l = t->lead;
	char key[COALESCE_NAME + 16];
	struct store_item item;

	snprintf(key, sizeof(key), "%s:wanted", l->name);
	item = coalesce_item(t, STORE_GET, key);
	store_again(t->worker->store);
	lease_renew(t, &l->lease, &item);
	if (item.result != STORE_DOWN)
		l->remote = item.result == STORE_OK;
	channel_touch(l->channel, t->worker->slot_index);
	l->renew_us = clock_mono_us() + LEASE_RENEW_US;
	return item.result != STORE_DOWN;
}

static bool wants(const struct lead *l, unsigned what)
{
	return l->remote || (atomic_load(&l->channel->wanted) & what);
}

/* Another host may have come since the last look. */
static bool end_is_wanted(struct txn *t)
{
	if (!wants(t->lead, CHANNEL_EVENTS | CHANNEL_END))
		look_for_others(t);
	return wants(t->lead, CHANNEL_EVENTS | CHANNEL_END);
}

bool lead_followed(struct txn *t)
{
	return t->lead && (t->lead->remote || channel_followers(t->worker->stats, t->lead->lease.nonce) > 0);
}

bool lead_goes_on(struct txn *t)
{
	if (t->lead && !lead_followed(t)) /* another host may have come since the last look */
		look_for_others(t);
	return lead_followed(t);
}

void lead_event(struct txn *t, const char *data, size_t len)
{
	struct lead *l = t->lead;

	if (!l || l->lost)
		return;
	if (!l->kept.len && !l->batches && !l->batch_us) {
		l->batch_us = clock_mono_us(); /* the first one: is there somebody already? */
		look_for_others(t);
	}
	published_add(&l->kept, FOR_ALL, data, len);
	if (l->kept.len >= BATCH_BYTES && wants(l, CHANNEL_EVENTS))
		publish_kept(t);
	if (l->kept.overflow || l->kept.len > KEPT_MAX) {
		l->lost = true;
		buf_release(&l->kept);
	}
}

void lead_pump(struct txn *t)
{
	struct lead *l = t->lead;
	int64_t now = clock_mono_us();

	if (!l)
		return;
	if (now >= l->renew_us)
		look_for_others(t);
	if (has_events(l) && now >= l->batch_us && wants(l, CHANNEL_EVENTS))
		publish_kept(t);
}

int64_t lead_next_us(const struct txn *t)
{
	const struct lead *l = t->lead;
	int64_t renew_us;

	if (!l)
		return INT64_MAX;
	renew_us = l->renew_us + RENEW_SLACK_US;
	return has_events(l) && wants(l, CHANNEL_EVENTS) && l->batch_us < renew_us ? l->batch_us : renew_us;
}

/* ---- the end ---- */

void lead_leave(struct txn *t)
{
	struct lead *l = t->lead;

	if (!l)
		return;
	store_again(t->worker->store);
	lease_give_back(t, &l->lease);
	channel_lead(t->worker->stats, t->worker->slot_index, 0);
	channel_leave(t->worker->stats, t->worker->slot_index);
	t->lead = NULL;
}

/* In the order in which a follower must see them: the events, what the end speaks of, the end, and nobody leads. */
static void say_end(struct txn *t, struct json_object *end)
{
	struct lead *l = t->lead;
	char key[COALESCE_NAME + 16];

	json_set_bool(end, "stream", t->chat.stream);
	json_set_int(end, "batches", l->lost || l->waiting ? -1 : (int64_t)l->batches);
	buf_reset(&l->text);
	json_print(&l->text, end);
	snprintf(key, sizeof(key), "%s:end", l->name);
	put(t, key, (struct hash_part){l->text.data, l->text.len});
	channel_published(l->channel, t->worker->slot_index, l->batches, true);
	lead_leave(t);
}

/* Those who follow would lose all of it to a memcached that does not answer for a moment. Where it is known to be down,
 * only those who have begun to read are waited for: the others go on without. */
static void wait_for_store(struct txn *t)
{
	int64_t end_us = clock_mono_us() + PATIENCE_US;

	if (!t->lead->batches && store_server_down(t->worker->store, STORE_CACHE, t->entry->server))
		return;
	store_begin(t->worker->store);
	while (!look_for_others(t) && clock_mono_us() < end_us) {
		poll(NULL, 0, RETRY_US / 1000);
		store_begin(t->worker->store);
	}
}

static void flush_events(struct txn *t)
{
	struct lead *l = t->lead;

	if (!wants(l, CHANNEL_EVENTS) || l->lost)
		return;
	publish_kept(t);
	if (!l->waiting && usage_owed(&l->asking)) {
		buf_reset(&l->text);
		json_print(&l->text, usage_owed(&l->asking));
		published_add(&l->batch, FOR_ASKING, l->text.data, l->text.len);
		send_batch(t);
	}
}

static bool put_raw(struct txn *t, const char *key, const struct buf *raw)
{
	struct value v;

	t->value_max = (size_t)t->model->provider->max_response;
	return value_pack(t, key, SHARED_S, raw, &v) && value_store(t, &v);
}

static const char *answer_key(const struct txn *t)
{
	return arena_printf(t->arena, "%s:answer", t->lead->name);
}

/* What has become of the answer: "stored" under the question; "shared" or as it is ("raw") under the stream's name,
 * however large; or "streamed" only. */
static const char *share(struct txn *t, const struct lead_answer *a)
{
	if (t->stored)
		return "stored";
	store_again(t->worker->store);
	t->value_max = (size_t)t->model->provider->max_response;
	if (a->completion && cache_put_under(t, answer_key(t), SHARED_S, a->completion, a->script, a->script_len))
		return "shared";
	return a->raw && put_raw(t, answer_key(t), a->raw) ? "raw" : "streamed";
}

void lead_end(struct txn *t, const struct lead_answer *answer)
{
	const struct answer_facts *f = &t->facts;
	struct json_object *end;

	if (!t->lead)
		return;
	if (!end_is_wanted(t)) {
		lead_leave(t);
		return;
	}
	wait_for_store(t);
	flush_events(t);
	end = json_object_new_object();
	json_set_str(end, "end", share(t, answer));
	json_set_str(end, "model", f->model);
	json_set_str(end, "id", f->id);
	json_set_str(end, "upstream_request_id", t->upstream_request_id);
	if (t->schema)
		json_set_str(end, "schema", t->schema);
	if (t->schema_detail)
		json_set_str(end, "schema_detail", t->schema_detail);
	json_set_str(end, "finish_reasons", f->finish_reasons);
	json_set_int(end, "input_tokens", f->input_tokens);
	json_set_int(end, "output_tokens", f->output_tokens);
	json_set_int(end, "cached_tokens", f->cached_tokens);
	say_end(t, end);
	json_object_put(end);
}

/* The provider's own words: a large body lies where a whole answer would. */
static void add_body(struct txn *t, struct json_object *end, int status, const struct buf *body)
{
	json_set_int(end, "status", status);
	if (body->len > END_BODY_MAX && put_raw(t, answer_key(t), body))
		json_set_bool(end, "body_apart", true);
	else
		json_set(end, "body", json_object_new_string_len(body->data, (int)body->len));
}

void lead_end_failed(struct txn *t, int status, const struct buf *body)
{
	struct json_object *end;

	if (!t->lead)
		return;
	if (!end_is_wanted(t)) {
		lead_leave(t);
		return;
	}
	wait_for_store(t);
	flush_events(t);
	end = json_object_new_object();
	json_set_str(end, "end", "failed");
	json_set_int(end, "error", t->err.code);
	json_set_str(end, "param", t->err.param);
	json_set_str(end, "message", t->err.message);
	json_set_int(end, "retry_after_ms", t->retry_after_ms);
	json_set_int(end, "should_retry", t->should_retry);
	json_set_int(end, "upstream_status", t->upstream_status);
	json_set_str(end, "upstream_request_id", t->upstream_request_id);
	if (body)
		add_body(t, end, status, body);
	say_end(t, end);
	json_object_put(end);
}
