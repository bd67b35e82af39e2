/*
 * A follower's side: it sees what the leader has published, passes on what its client asked for, and answers from the
 * end. Whatever goes missing on the way (a batch that memcached forgot, a leader that died), the client gets a whole
 * answer or an error, and never a part that looks whole.
 */
#include "base/clock.h"
#include "edge/fcgi.h"
#include "edge/sse.h"
#include "gate/answer.h"
#include "gate/coalesce.h"
#include "gate/epoch.h"
#include "gate/follow.h"
#include "gate/lookup.h"
#include "gate/price.h"
#include "gate/published.h"
#include "gate/relay.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
	SLEEP_US = 500000,     /* how soon a client that has gone is noticed */
	ANSWER_US = 1000000,   /* a thousand who ask at once must not take each other for a dead memcached */
	PATIENCE_US = 3000000, /* a memcached that is busy is no reason to buy the answer again, nor to break off; one
				  that stays away is. More than a leader's */
	ENDLESS_US = 60000000, /* behind the longest that the call may take: nobody follows for ever */
	EVENTS_MAX = 64 << 20
};

/* ---- memcached ---- */

enum step follow_run(struct follow *f, struct store_item *items, size_t count)
{
	bool down = false;
	size_t i;

	store_begin_patient(f->t->worker->store, ANSWER_US);
	store_run(f->t->worker->store, items, count);
	for (i = 0; i < count; i++)
		down |= items[i].result == STORE_DOWN;
	if (!down)
		f->unheard_us = 0;
	else if (!f->unheard_us)
		f->unheard_us = clock_mono_us();
	return down ? UNHEARD : ON;
}

/* Who has seen nothing yet can do without a server that is known to be down. */
static bool is_patient(const struct follow *f)
{
	if (!f->begun && store_server_down(f->t->worker->store, STORE_CACHE, f->t->entry->server))
		return false;
	return clock_mono_us() - f->unheard_us < PATIENCE_US;
}

const char *follow_key_of(struct follow *f, char key[FOLLOW_NAME], const char *what)
{
	snprintf(key, FOLLOW_NAME, "%s:%s", f->name, what);
	return key;
}

void follow_batch_key(const struct follow *f, char key[FOLLOW_NAME], uint32_t i)
{
	snprintf(key, FOLLOW_NAME, "%s:%u", f->name, i);
}

enum step follow_look_for_end(struct follow *f)
{
	char key[FOLLOW_NAME];
	struct store_item item = coalesce_item(f->t, STORE_GET, follow_key_of(f, key, "end"));
	enum step step = follow_run(f, &item, 1);
	struct hash_part text;

	buf_reset(&f->plain);
	if (step == ON && item.result == STORE_OK &&
		value_unframe(f->t, key, (struct hash_part){item.value, item.value_len}, &f->plain, &text))
		f->end = json_parse(text.bytes, text.len, &(struct err){0});
	return step;
}

/* ---- the client ---- */

static bool client_left(const struct follow *f)
{
	struct pollfd p = {fcgi_fd(), 0, 0};

	return f->t->client_gone || (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)));
}

static enum step write_out(struct follow *f)
{
	struct txn *t = f->t;

	if (!f->out.len)
		return ON;
	if (!t->head_sent)
		answer_begin(t, 200, "text/event-stream; charset=utf-8");
	answer_piece(t, f->out.data, f->out.len, true);
	buf_reset(&f->out);
	f->written_us = clock_mono_us();
	return t->client_gone ? GONE : ON;
}

/* As relay does: silence is filled, and a head that does not come is not waited for too long. */
static int64_t next_comment_us(const struct follow *f)
{
	const struct config *c = f->t->config;

	if (!f->t->chat.stream)
		return INT64_MAX;
	return f->t->head_sent ? f->written_us + c->stream.heartbeat : f->t->started_us + c->stream.commit_after;
}

static enum step comment(struct follow *f)
{
	struct txn *t = f->t;

	if (clock_mono_us() < next_comment_us(f))
		return ON;
	if (!t->head_sent)
		answer_begin(t, 200, "text/event-stream; charset=utf-8");
	f->written_us = clock_mono_us();
	return answer_comment(t, "keep-alive") ? ON : GONE;
}

/* ---- events ---- */

static bool is_for(const struct follow *f, enum published_for whom)
{
	return whom == FOR_ALL || (whom == FOR_ASKING) == f->t->chat.include_usage;
}

static enum step pass_on(struct follow *f, struct hash_part records)
{
	enum published_for whom;
	const char *bytes, *data;
	size_t left, len;

	buf_add(&f->tail, records.bytes, records.len);
	bytes = f->tail.data;
	left = f->tail.len;
	while (published_next(&bytes, &left, &whom, &data, &len)) {
		if (!is_for(f, whom))
			continue;
		if (!f->t->first_chunk_us)
			f->t->first_chunk_us = clock_mono_us() - f->t->started_us;
		sse_write_data(&f->out, data, len);
	}
	buf_drop(&f->tail, f->tail.len - left);
	f->begun |= f->out.len > 0;
	return f->tail.overflow ? LOST : write_out(f);
}

static enum step take_batches(struct follow *f, struct store_item *items, int count)
{
	struct hash_part records;
	enum step step = ON;
	int i;

	f->t->cache = CACHE_COLLAPSED;
	for (i = 0; i < count && step == ON; i++) {
		buf_reset(&f->plain);
		if (items[i].result != STORE_OK ||
			!value_unframe(f->t, items[i].key, (struct hash_part){items[i].value, items[i].value_len},
				&f->plain, &records))
			return LOST;
		f->next++;
		step = pass_on(f, records);
	}
	return step;
}

/* All batches up to this number. */
static enum step deliver(struct follow *f, uint32_t upto)
{
	struct store_item items[FOLLOW_FETCH];
	char keys[FOLLOW_FETCH][FOLLOW_NAME];
	enum step step = ON;
	int i, count;

	while (f->live && f->next < upto && step == ON) {
		count = upto - f->next < FOLLOW_FETCH ? (int)(upto - f->next) : FOLLOW_FETCH;
		for (i = 0; i < count; i++) {
			follow_batch_key(f, keys[i], f->next + (uint32_t)i);
			items[i] = coalesce_item(f->t, STORE_GET, keys[i]);
		}
		step = follow_run(f, items, (size_t)count);
		if (step == ON)
			step = take_batches(f, items, count);
	}
	if (step == LOST && !f->begun) { /* what has been seen of it may still come from the end */
		f->live = false;
		return ON;
	}
	return step;
}

/* ---- the end ---- */

static void take_facts(struct txn *t, struct json_object *end)
{
	struct answer_facts *facts = &t->facts;

	snprintf(
		facts->model, sizeof(facts->model), "%s", json_get_str(end, "model") ? json_get_str(end, "model") : "");
	snprintf(facts->id, sizeof(facts->id), "%s", json_get_str(end, "id") ? json_get_str(end, "id") : "");
	snprintf(facts->finish_reasons, sizeof(facts->finish_reasons), "%s",
		json_get_str(end, "finish_reasons") ? json_get_str(end, "finish_reasons") : "");
	facts->input_tokens = json_get_int(end, "input_tokens", -1);
	facts->output_tokens = json_get_int(end, "output_tokens", -1);
	facts->cached_tokens = json_get_int(end, "cached_tokens", -1);
	t->cost_pusd = 0;
	t->saved_pusd = price_of(t->model, facts);
}

static enum followed done(struct follow *f, enum verdict verdict)
{
	f->verdict = verdict;
	return FOLLOW_DONE;
}

/* Of the call, however it ended. */
static void take_call(struct txn *t, struct json_object *end)
{
	const char *id = json_get_str(end, "upstream_request_id"), *schema = json_get_str(end, "schema"),
		   *detail = json_get_str(end, "schema_detail");

	snprintf(t->upstream_request_id, sizeof(t->upstream_request_id), "%s", id ? id : "");
	t->schema = schema ? arena_strdup(t->arena, schema) : NULL;
	t->schema_detail = detail ? arena_strdup(t->arena, detail) : NULL;
}

/* Waits for a memcached that is late. False: in vain. */
static bool fetch(struct follow *f, struct store_item *item)
{
	while (follow_run(f, item, 1) != ON) {
		if (!is_patient(f))
			return false;
		channel_wait(f->channel, atomic_load(&f->channel->seq), FOLLOW_WATCH_US);
	}
	return true;
}

/* What lies apart from the end, because it can be large. */
static struct store_item answer_item(struct follow *f)
{
	char key[FOLLOW_NAME];

	f->t->value_max = (size_t)f->t->model->provider->max_response;
	return (struct store_item){.op = STORE_GET,
		.pool = STORE_CACHE,
		.key = arena_strdup(f->t->arena, follow_key_of(f, key, "answer"))};
}

/* The provider's own words. False: there are none, or they cannot be had. */
static bool take_body(struct follow *f, struct buf *text)
{
	const char *body = json_get_str(f->end, "body");
	struct store_item item;
	struct hash_part bytes;

	if (body) {
		buf_adds(text, body);
		return true;
	}
	if (!json_get_bool(f->end, "body_apart", false))
		return false;
	item = answer_item(f);
	if (!fetch(f, &item) || !value_open(f->t, &item, true, &bytes))
		return false;
	buf_add(text, bytes.bytes, bytes.len);
	return true;
}

static enum followed leader_failed(struct follow *f)
{
	struct txn *t = f->t;
	const char *message = json_get_str(f->end, "message");
	int64_t code = json_get_int(f->end, "error", ERR_INTERNAL);
	struct buf text = BUF_INIT(EVENTS_MAX);

	t->cache = CACHE_COLLAPSED;
	take_call(t, f->end);
	t->retry_after_ms = json_get_int(f->end, "retry_after_ms", 0);
	t->should_retry = (enum err_retry)json_get_int(f->end, "should_retry", RETRY_UNSAID);
	t->upstream_status = (int)json_get_int(f->end, "upstream_status", 0);
	txn_fail(t, code > ERR_NONE && code < ERR_COUNT ? (enum err_code)code : ERR_INTERNAL,
		json_get_str(f->end, "param"), "%s", message ? message : "");
	if (!take_body(f, &text))
		return done(f, FAILED);
	answer_provider_error(t, (int)json_get_int(f->end, "status", 502), &text);
	buf_release(&text);
	return done(f, ANSWERED);
}

/* As the leader does whose provider does not know what a stream is. */
static bool play_raw(struct follow *f, struct hash_part bytes)
{
	size_t max_weight = RELAY_TREE_GROWTH * (size_t)f->t->model->provider->max_response;
	struct json_object *completion = json_parse_leniently(bytes.bytes, bytes.len, max_weight);
	bool good = completion && relay_whole_events(f->t, completion, &f->out);

	json_object_put(completion);
	return good;
}

/* What the provider said in one body that is no entry. */
static enum followed serve_raw(struct follow *f, const struct store_item *item)
{
	struct txn *t = f->t;
	struct hash_part bytes;

	if (!value_open(t, item, true, &bytes) || (t->chat.stream && !play_raw(f, bytes)))
		return FOLLOW_AGAIN;
	t->cache = CACHE_COLLAPSED;
	take_facts(t, f->end);
	take_call(t, f->end);
	if (t->chat.stream) {
		write_out(f);
		return done(f, ANSWERED);
	}
	return done(f, answer_whole(t, 200, "application/json", &bytes, 1));
}

/*
 * The whole answer, from where the end says that it is. Where it is nowhere in this form, one of those who want it
 * asks, and the others follow that one.
 */
static enum followed serve_whole(struct follow *f, const char *where)
{
	struct txn *t = f->t;
	struct store_item item = {.op = STORE_GET, .pool = STORE_CACHE, .key = t->cache_key};
	struct cache_entry e;
	enum verdict verdict;

	if (strcmp(where, "streamed") == 0)
		return FOLLOW_AGAIN;
	if (strcmp(where, "stored") != 0)
		item = answer_item(f);
	if (!fetch(f, &item))
		return FOLLOW_ALONE;
	if (strcmp(where, "raw") == 0)
		return serve_raw(f, &item);
	if (!cache_read(t, &item, true, t->cache_hash, &e) || !epoch_fits(&e, t->epochs))
		return FOLLOW_AGAIN;
	take_call(t, f->end);
	verdict = lookup_serve(t, &e, CACHE_COLLAPSED);
	if (verdict != NEXT)
		return done(f, verdict);
	t->schema = NULL;
	return FOLLOW_ALONE;
}

static enum followed broken(struct follow *f)
{
	return done(f, txn_fail(f->t, ERR_PROVIDER_BROKEN, NULL,
			       "The call that this answer was shared with ended in the middle of it."));
}

/* 0 where they cannot be followed to the end. */
static uint32_t batches_of(struct json_object *end)
{
	int64_t batches = json_get_int(end, "batches", -1);

	return batches > 0 ? (uint32_t)batches : 0;
}

/* A stream in which there was nothing for this client to see. */
static bool saw_all(const struct follow *f, const char *how, enum step step)
{
	return strcmp(how, "streamed") == 0 && f->live && step == ON && json_get_bool(f->end, "stream", false) &&
	       f->next == json_get_int(f->end, "batches", -1);
}

/* With all that the end speaks of delivered; `step`: or not. */
static enum followed finish(struct follow *f, enum step step)
{
	const char *how = json_get_str(f->end, "end");

	if (!how)
		return f->begun ? broken(f) : FOLLOW_ALONE;
	if (strcmp(how, "failed") == 0)
		return leader_failed(f);
	if (f->begun && (step != ON || f->next != json_get_int(f->end, "batches", -1)))
		return broken(f);
	if (!f->begun && !saw_all(f, how, step))
		return serve_whole(f, how);
	take_facts(f->t, f->end);
	take_call(f->t, f->end);
	sse_write_data(&f->out, "[DONE]", 6);
	write_out(f);
	return done(f, ANSWERED);
}

/* ---- the loop ---- */

/* True while there is more to come; else *how. */
static bool look(struct follow *f, enum followed *how)
{
	bool led = true, alive;
	enum step step = ON;

	if (fcgi_waiting())
		answer_push(f->t);
	if (f->watching && !f->end)
		step = follow_watch(f, &led);
	alive = led && channel_alive(f->channel, lease_question(f->t), f->stream);
	if (step == ON && alive)
		step = deliver(f, atomic_load(&f->channel->batches));
	if (step == ON && !f->end && (!alive || atomic_load(&f->channel->ended)))
		step = follow_look_for_end(f);
	if (step == ON && f->end)
		step = deliver(f, batches_of(f->end));
	if (step == ON)
		step = comment(f);
	if (step == ON && !f->end && clock_mono_us() >= f->deadline_us)
		step = LOST;
	*how = FOLLOW_DONE;
	if (step == GONE || client_left(f))
		f->verdict = txn_fail(f->t, ERR_CLIENT_GONE, NULL, "The client left before the answer was complete.");
	else if (step == UNHEARD && is_patient(f))
		return true;
	else if (f->end)
		*how = finish(f, step);
	else if (step != ON)
		*how = f->begun ? broken(f) : FOLLOW_ALONE;
	else if (alive || (!f->watching && f->begun && follow_stands_in(f)))
		return true;
	else
		*how = f->begun ? broken(f) : FOLLOW_AGAIN;
	return false;
}

static int64_t patience_us(const struct follow *f)
{
	int64_t left = next_comment_us(f) - clock_mono_us(),
		patience = f->watching || f->unheard_us ? FOLLOW_WATCH_US : SLEEP_US;

	return left < patience ? left : patience;
}

enum followed follow(
	struct txn *t, struct stats_channel *channel, uint64_t stream, bool watching, enum verdict *verdict)
{
	struct follow f = {.t = t,
		.channel = channel,
		.stream = stream,
		.watching = watching,
		.live = t->chat.stream,
		.out = BUF_INIT(EVENTS_MAX),
		.plain = BUF_INIT(EVENTS_MAX),
		.tail = BUF_INIT(EVENTS_MAX),
		.written_us = clock_mono_us(),
		.deadline_us = clock_mono_us() + t->model->provider->timeout.total + ENDLESS_US,
		.verdict = FAILED};
	enum followed how;
	uint32_t seen;

	coalesce_name(t, stream, f.name);
	channel_follow(
		t->worker->stats, channel, t->worker->slot_index, stream, CHANNEL_END | (f.live ? CHANNEL_EVENTS : 0));
	for (;;) {
		t->watching = f.watching;
		seen = atomic_load(&f.channel->seq);
		if (!look(&f, &how))
			break;
		channel_wait(f.channel, seen, patience_us(&f));
	}
	t->watching = false;
	channel_unfollow(t->worker->stats, t->worker->slot_index);
	*verdict = f.verdict;
	buf_release(&f.out);
	buf_release(&f.plain);
	buf_release(&f.tail);
	json_object_put(f.end);
	return how;
}
