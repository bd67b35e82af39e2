/*
 * The window's start is part of a counter's key, so windows need no resetting, and hosts need only agree on the time
 * (UTC). A refusal gives back what it has counted everywhere, so that it takes nothing from those who come after it.
 */
#include "gate/limit.h"

#include "base/clock.h"
#include "base/hash.h"
#include "gate/answer.h"
#include "gate/budget.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	ATTEMPTS = 3,
	PATIENCE_MS = 120000, /* the official clients wait so long (Python) or for as long as they are told (Node) */
	SLACK_S = 10,         /* a counter outlives its window by this, for hosts whose clocks differ */
	IDENTITY_MAX = 60     /* a name of the longest prefix, limit and generation fits a key of memcached */
};

/* The parts one behind the other; whether all are short and plain, so that they cannot be taken for one another. */
struct who {
	struct buf text;
	bool plain;
};

static void add_who(struct who *w, const char *name, const char *value)
{
	size_t len = strlen(value);

	if (w->text.len)
		buf_add(&w->text, "", 1);
	buf_printf(&w->text, "%s=", name);
	buf_add(&w->text, value, len);
	w->plain &= strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

bool limit_is_own(const struct txn *t, const struct limit *l)
{
	const struct limit *own = t->key ? t->key->limits.items : NULL;

	return own && l >= own && l < own + t->key->limits.count;
}

/* Who is counted, readable in the key where it can be: "key=alice,model=gpt-4o". */
static void identity(const struct txn *t, const struct limit *l, char out[IDENTITY_MAX])
{
	struct who w = {.text = BUF_INIT(INT_MAX), .plain = true};
	uint8_t hash[SHA256_BYTES];
	size_t i;

	if (l->per & PER_KEY || limit_is_own(t, l))
		add_who(&w, "key", t->key->name);
	if (l->per & PER_TEAM) /* a key without a team is a team of its own */
		add_who(&w, t->key->team ? "team" : "alone", t->key->team ? t->key->team : t->key->name);
	if (l->per & PER_USER) /* who names none is one with all others who do not */
		add_who(&w, t->chat.user ? "user" : "nobody", t->chat.user ? t->chat.user : "");
	if (l->per & PER_IP)
		add_who(&w, "ip", t->client.counted ? t->client.counted : "");
	if (l->per & PER_MODEL)
		add_who(&w, "model", t->model->name);
	if (w.text.len == 0) {
		snprintf(out, IDENTITY_MAX, "everyone");
	} else if (w.plain && w.text.len < IDENTITY_MAX) {
		for (i = 0; i <= w.text.len; i++)
			out[i] = w.text.data[i] || i == w.text.len ? w.text.data[i] : ',';
	} else {
		hash_sha256(w.text.data, w.text.len, hash);
		hash_hex(hash, 16, out);
	}
	buf_release(&w.text);
}

static void month_of(int64_t now_ms, int64_t *start_ms, int64_t *end_ms)
{
	time_t now = (time_t)(now_ms / 1000);
	struct tm tm;

	gmtime_r(&now, &tm);
	tm.tm_mday = 1;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	*start_ms = (int64_t)timegm(&tm) * 1000;
	tm.tm_mon++;
	*end_ms = (int64_t)timegm(&tm) * 1000;
}

void limit_window(const struct limit *l, int64_t now_ms, int64_t *start_ms, int64_t *end_ms)
{
	int64_t window = l->window / 1000;

	if (l->window == LIMIT_MONTH) {
		month_of(now_ms, start_ms, end_ms);
		return;
	}
	*start_ms = window ? now_ms - now_ms % window : 0;
	*end_ms = *start_ms + window;
}

/* "pv:c:rpm:key=alice:60:1764547200"; calls at the same time have no window, and slots below the name instead. */
void limit_use(struct txn *t, const struct limit *l, int64_t now_ms, struct limit_use *use)
{
	/* a limit may count something else after a reload */
	static const char *const counted_as[] = {[COUNT_REQUESTS] = "", [COUNT_TOKENS] = "t", [COUNT_USD] = "u"};
	const char *prefix = t->config->memcached.prefix, *own = limit_is_own(t, l) ? "@" : "";
	int64_t start;
	char who[IDENTITY_MAX];

	identity(t, l, who);
	*use = (struct limit_use){.limit = l, .used = -1, .settled = -1};
	limit_window(l, now_ms, &start, &use->end_ms);
	if (l->count == COUNT_CONCURRENT)
		snprintf(use->key, sizeof(use->key), "%s:t:%s%s:%s", prefix, own, l->name, who);
	else
		snprintf(use->key, sizeof(use->key), "%s:c:%s%s:%s:%s%s%lld:%lld", prefix, own, l->name, who,
			counted_as[l->count], l->window == LIMIT_MONTH ? "month" : "",
			l->window == LIMIT_MONTH ? 0LL : (long long)l->window / 1000000, (long long)start / 1000);
}

int64_t limit_ttl_s(const struct limit_use *use)
{
	int64_t left = (use->end_ms - clock_real_ms()) / 1000;

	return (left > 0 ? left : 0) + SLACK_S;
}

void limit_uses(struct txn *t)
{
	const struct config_items *lists[] = {&t->config->limits, t->key ? &t->key->limits : NULL};
	int64_t now = clock_real_ms();
	const struct limit *l;
	size_t i, k;

	t->limit_count = 0;
	for (k = 0; k < 2; k++)
		for (i = 0; lists[k] && i < lists[k]->count; i++) {
			l = (const struct limit *)lists[k]->items + i;
			if (!(l->per & PER_MODEL) || t->model)
				limit_use(t, l, now, &t->limits[t->limit_count++]);
		}
}

void limit_prepare(struct txn *t)
{
	struct limit_use *use;
	size_t i;

	limit_uses(t);
	budget_meet(t);
	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (budget_counts(use->limit))
			budget_prepare(t, use);
		if (use->limit->count != COUNT_REQUESTS)
			continue;
		use->look = &t->batch[t->batch_count++];
		*use->look = (struct store_item){.op = STORE_INCR,
			.pool = STORE_COUNTERS,
			.key = use->key,
			.ttl_s = (uint32_t)limit_ttl_s(use),
			.delta = 1};
	}
}

void limit_peek(struct txn *t)
{
	struct store_item items[LIMIT_ITEMS], *before = t->batch;
	struct limit_use *use;
	size_t i, count = t->batch_count;

	limit_uses(t);
	budget_meet(t);
	t->batch = items;
	t->batch_count = 0;
	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (budget_counts(use->limit))
			budget_prepare(t, use);
		if (use->limit->count != COUNT_REQUESTS)
			continue;
		use->look = &t->batch[t->batch_count++];
		*use->look = (struct store_item){.op = STORE_GET, .pool = STORE_COUNTERS, .key = use->key};
	}
	store_run(t->worker->store, items, t->batch_count);
	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (budget_counts(use->limit))
			budget_read(t, use);
		else if (use->look && use->look->result == STORE_MISS)
			use->used = 0;
		else if (use->look && use->look->result == STORE_OK)
			use->used = store_number(use->look);
	}
	t->batch = before;
	t->batch_count = count;
	budget_look_again(t);
}

static int64_t count_locally(struct txn *t, const struct limit_use *use, uint64_t kind, int64_t delta)
{
	uint8_t hash[SHA256_BYTES];
	uint64_t id;

	hash_sha256(use->key, strlen(use->key), hash);
	memcpy(&id, hash, sizeof(id));
	return (int64_t)stats_local_add(t->worker->stats, (id & ~(uint64_t)1) | 2 | kind, use->end_ms, (uint64_t)delta);
}

int64_t limit_count_locally(struct txn *t, const struct limit_use *use, int64_t delta)
{
	return count_locally(t, use, 0, delta);
}

int64_t limit_settle_locally(struct txn *t, const struct limit_use *use, int64_t delta)
{
	return count_locally(t, use, 1, delta);
}

/* Whether there is room now: what others have given back may have been all that was missing. */
static bool give_back(struct txn *t, const struct limit_use *by)
{
	struct store_item items[TXN_LIMITS], *own = NULL;
	struct limit_use *use;
	bool room = false;
	size_t i, n = 0;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (use->limit->count != COUNT_REQUESTS || use->used < 0)
			continue;
		use->used--;
		if (!use->charged) {
			limit_count_locally(t, use, -1);
			continue;
		}
		if (use == by)
			own = &items[n];
		items[n++] = (struct store_item){.op = STORE_DECR, .pool = STORE_COUNTERS, .key = use->key, .delta = 1};
		use->charged = false;
	}
	store_run(t->worker->store, items, n);
	if (own)
		room = own->result == STORE_OK && (int64_t)own->number < by->limit->amount;
	return room;
}

/* How a window is spoken of: "1m0s", "month". */
static void window_text(const struct limit *l, char *out, size_t room)
{
	if (l->window == LIMIT_MONTH)
		snprintf(out, room, "month");
	else
		answer_reset_text(l->window / 1000, out, room);
}

static enum verdict refuse(struct txn *t, const struct limit_use *use)
{
	const struct limit *l = use->limit;
	char reset[32], window[32], end[CLOCK_TEXT];
	int64_t left = use->end_ms - clock_real_ms();

	t->refused_by = use;
	t->retry_after_ms = left > 1 ? left : 1;
	if (left > PATIENCE_MS)
		t->should_retry = RETRY_NO;
	answer_reset_text(t->retry_after_ms, reset, sizeof(reset));
	window_text(l, window, sizeof(window));
	clock_text(use->end_ms, end);
	return txn_fail(t, ERR_RATE_LIMIT, NULL,
		"Rate limit '%s' reached: %lld requests per %s. Its window ends in %s, at %s; try again then.", l->name,
		(long long)l->amount, window, reset, end);
}

enum verdict limit_store_down(struct txn *t, const struct limit_use *use)
{
	t->refused_by = use;
	t->retry_after_ms = 1000;
	return txn_fail(t, ERR_LIMIT_STORE_DOWN, NULL,
		"The limit '%s' cannot be checked at the moment, and it is set to refuse then. Try again soon.",
		use->limit->name);
}

/* What the counter said, or this host's own; -1 in `used` when there is none. */
static void read_count(struct txn *t, struct limit_use *use)
{
	use->charged = use->look->result == STORE_OK;
	use->unknown = !use->charged;
	use->used = -1;
	t->store_down |= use->unknown;
	if (use->charged)
		use->used = (int64_t)use->look->number;
	else if (use->limit->on_store_down == STORE_DOWN_LOCAL)
		use->used = limit_count_locally(t, use, 1);
}

/* The first that refuses; before one that cannot be checked, one that is reached. */
static const struct limit_use *judge(struct txn *t)
{
	const struct limit_use *over = NULL, *closed = NULL;
	struct limit_use *use;
	bool blind;
	size_t i;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (budget_counts(use->limit))
			budget_read(t, use);
		if (use->limit->count != COUNT_REQUESTS)
			continue;
		read_count(t, use);
		blind = use->used < 0 && use->limit->on_store_down == STORE_DOWN_CLOSED;
		use->would_refuse = !use->limit->enforce && (blind || use->used > use->limit->amount);
		if (!use->limit->enforce)
			continue;
		if (use->used > use->limit->amount && !over)
			over = use;
		if (blind && !closed)
			closed = use;
	}
	return over ? over : closed;
}

/* Everything is asked for again: who looks at the batch behind us must find its values. */
enum verdict limit_decide(struct txn *t)
{
	const struct limit_use *by = judge(t);
	int attempt;

	for (attempt = 1; by && give_back(t, by) && attempt < ATTEMPTS; attempt++) {
		store_run(t->worker->store, t->batch, t->batch_count);
		by = judge(t);
	}
	if (!by)
		return NEXT;
	return by->used < 0 ? limit_store_down(t, by) : refuse(t, by);
}

const struct limit_use *limit_tightest(const struct txn *t, enum limit_count count)
{
	const struct limit_use *use, *tightest = NULL;
	size_t i;

	if (t->refused_by && t->refused_by->limit->count == (int)count)
		return t->refused_by;
	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (!use->limit->enforce || use->limit->count != (int)count)
			continue;
		if (!tightest || use->limit->amount - use->used < tightest->limit->amount - tightest->used)
			tightest = use;
	}
	return tightest;
}
