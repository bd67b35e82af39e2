/*
 * The leader's side. Until somebody follows, events are only kept; from then on they go out in small batches, the first
 * one at once. Publishing to nobody costs one look at memcached for the first event and two a second.
 */
#include "base/clock.h"
#include "gate/cache.h"
#include "gate/coalesce.h"
#include "gate/published.h"
#include "wire/usage.h"

#include <stdio.h>

enum {
	BATCH_EVERY_US = 25000, /* a thousand followers are woken so often at most */
	BATCH_BYTES = 512 * 1024,
	KEPT_MAX = 4 << 20,    /* of events that nobody has wanted yet; beyond it, who comes late waits for the end */
	EVENTS_MAX = 64 << 20, /* in one go */
	SHARED_S = 60          /* an answer that is not remembered, for those who wait for it */
};

struct lead {
	struct lease lease;
	struct stats_channel *channel;
	char name[COALESCE_NAME];
	struct buf kept; /* records of what has come and is not published */
	struct buf batch, framed, text;
	uint32_t batches;
	bool remote; /* other hosts follow */
	bool lost;   /* events that cannot be followed any more: only the end can */
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

static void put(struct txn *t, struct store_item item)
{
	if (t->lead->lost)
		store_again(t->worker->store);
	else
		store_begin(t->worker->store); /* a late answer to something else is no reason to lose the followers */
	store_run(t->worker->store, &item, 1);
	if (item.result != STORE_OK)
		t->lead->lost = true;
}

static void put_framed(struct txn *t, const char *key, struct hash_part payload)
{
	struct lead *l = t->lead;
	struct store_item item = coalesce_item(t, STORE_SET, key);

	buf_reset(&l->framed);
	value_frame(t, key, payload, &l->framed);
	item.value = l->framed.data;
	item.value_len = l->framed.len;
	put(t, item);
}

/* In as many items as it takes: a large event is cut. */
static void send_batch(struct txn *t)
{
	struct lead *l = t->lead;
	char key[COALESCE_NAME + 16];
	size_t sent, len;

	l->lost |= l->batch.overflow;
	for (sent = 0; sent < l->batch.len && !l->lost; sent += len) {
		len = l->batch.len - sent < BATCH_BYTES ? l->batch.len - sent : BATCH_BYTES;
		snprintf(key, sizeof(key), "%s:%u", l->name, l->batches);
		put_framed(t, key, (struct hash_part){l->batch.data + sent, len});
		l->batches += !l->lost;
	}
	buf_reset(&l->batch);
	channel_published(l->channel, t->worker->slot_index, l->batches, false);
}

/* What has come since the last batch. */
static void publish_kept(struct txn *t)
{
	struct lead *l = t->lead;
	const char *bytes = l->kept.data, *data;
	size_t left = l->kept.len, len;
	enum published_for whom;

	while (published_next(&bytes, &left, &whom, &data, &len)) {
		add_event(l, data, len);
		if (l->batch.len >= BATCH_BYTES)
			send_batch(t);
	}
	buf_reset(&l->kept);
	send_batch(t);
	l->batch_us = clock_mono_us() + BATCH_EVERY_US;
}

/* ---- who follows ---- */

/* Hosts that watch say so under the stream's name, for a few seconds each time. */
static void look_for_others(struct txn *t)
{
	char key[COALESCE_NAME + 16];
	struct store_item item;

	snprintf(key, sizeof(key), "%s:wanted", t->lead->name);
	item = coalesce_item(t, STORE_GET, key);
	store_again(t->worker->store);
	store_run(t->worker->store, &item, 1);
	t->lead->remote = item.result == STORE_OK;
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
	if (now >= l->renew_us) {
		store_again(t->worker->store);
		lease_renew(t, &l->lease);
		look_for_others(t);
		channel_touch(l->channel, t->worker->slot_index);
		l->renew_us = now + LEASE_RENEW_US;
	}
	if (l->kept.len && now >= l->batch_us && !l->lost && wants(l, CHANNEL_EVENTS))
		publish_kept(t);
}

int64_t lead_next_us(const struct txn *t)
{
	const struct lead *l = t->lead;

	if (!l)
		return INT64_MAX;
	return l->kept.len && !l->lost && wants(l, CHANNEL_EVENTS) && l->batch_us < l->renew_us ? l->batch_us
												: l->renew_us;
}

/* ---- the end ---- */

void lead_leave(struct txn *t)
{
	struct lead *l = t->lead;

	if (!l)
		return;
	store_again(t->worker->store);
	lease_give_back(t, &l->lease);
	channel_leave(t->worker->stats, t->worker->slot_index);
	t->lead = NULL;
}

/* In the order in which a follower must see them: the events, what the end speaks of, the end, and nobody leads. */
static void say_end(struct txn *t, struct json_object *end)
{
	struct lead *l = t->lead;
	char key[COALESCE_NAME + 16];

	json_set_int(end, "batches", l->lost ? -1 : (int64_t)l->batches);
	buf_reset(&l->text);
	json_print(&l->text, end);
	snprintf(key, sizeof(key), "%s:end", l->name);
	put_framed(t, key, (struct hash_part){l->text.data, l->text.len});
	channel_published(l->channel, t->worker->slot_index, l->batches, true);
	lead_leave(t);
}

static void flush_events(struct txn *t)
{
	struct lead *l = t->lead;

	if (!wants(l, CHANNEL_EVENTS) || l->lost)
		return;
	publish_kept(t);
	if (usage_owed(&l->asking)) {
		buf_reset(&l->text);
		json_print(&l->text, usage_owed(&l->asking));
		published_add(&l->batch, FOR_ASKING, l->text.data, l->text.len);
		send_batch(t);
	}
}

/* What has become of the answer: "stored" under the question, "shared" under the stream's name, or "streamed" only. */
static const char *share(struct txn *t, struct json_object *completion, const char *script, size_t script_len)
{
	char key[COALESCE_NAME + 16];

	if (t->stored)
		return "stored";
	snprintf(key, sizeof(key), "%s:answer", t->lead->name);
	return completion && cache_put_under(t, arena_strdup(t->arena, key), SHARED_S, completion, script, script_len)
		       ? "shared"
		       : "streamed";
}

void lead_end(struct txn *t, struct json_object *completion, const char *script, size_t script_len)
{
	const struct answer_facts *f = &t->facts;
	struct json_object *end;

	if (!t->lead)
		return;
	if (!end_is_wanted(t)) {
		lead_leave(t);
		return;
	}
	store_again(t->worker->store);
	flush_events(t);
	end = json_object_new_object();
	json_set_str(end, "end", share(t, completion, script, script_len));
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

void lead_end_failed(struct txn *t, int status, const struct buf *body)
{
	struct json_object *end;

	if (!t->lead)
		return;
	if (!end_is_wanted(t)) {
		lead_leave(t);
		return;
	}
	store_again(t->worker->store);
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
		json_set_int(end, "status", status);
	if (body)
		json_set(end, "body", json_object_new_string_len(body->data, (int)body->len));
	say_end(t, end);
	json_object_put(end);
}
