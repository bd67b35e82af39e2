/*
 * The window's start is part of a counter's key, so windows need no resetting, and hosts need only agree on the time
 * (UTC). A refusal leaves its own counter above the amount, which changes nothing.
 */
#include "gate/limit.h"

#include "base/clock.h"
#include "base/hash.h"
#include "edge/fcgi.h"
#include "gate/answer.h"
#include "gate/budget.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	SLACK_S = 10,     /* a counter outlives its window by this, for hosts whose clocks differ */
	IDENTITY_MAX = 61 /* a name of the longest prefix, limit and generation fits a key of memcached */
};

/* Who is counted, readable in the key where it can be: "key=alice,model=gpt-4o". */
static void identity(const struct txn *t, const struct limit *l, char out[IDENTITY_MAX])
{
	struct buf text = BUF_INIT(4096);
	uint8_t hash[SHA256_BYTES];

	if (l->per & PER_KEY)
		buf_printf(&text, "key=%s", t->key->name);
	if (l->per & PER_TEAM) /* a key without a team is a team of its own */
		buf_printf(&text, "%s%s=%s", text.len ? "," : "", t->key->team ? "team" : "alone",
			t->key->team ? t->key->team : t->key->name);
	if (l->per & PER_USER) /* who names none is one with all others who do not */
		buf_printf(&text, "%suser=%s", text.len ? "," : "", t->chat.user ? t->chat.user : "");
	if (l->per & PER_IP)
		buf_printf(&text, "%sip=%s", text.len ? "," : "", fcgi_param("REMOTE_ADDR"));
	if (l->per & PER_MODEL)
		buf_printf(&text, "%smodel=%s", text.len ? "," : "", t->model->name);
	if (text.len == 0) {
		snprintf(out, IDENTITY_MAX, "everyone");
	} else if (text.len < IDENTITY_MAX &&
		   strspn(text.data, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-=,") ==
			   text.len) {
		memcpy(out, text.data, text.len + 1);
	} else {
		hash_sha256(text.data, text.len, hash);
		hash_hex(hash, 16, out);
	}
	buf_release(&text);
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

void limit_use(struct txn *t, const struct limit *l, int64_t now_ms, struct limit_use *use)
{
	int64_t start;
	char who[IDENTITY_MAX];

	identity(t, l, who);
	*use = (struct limit_use){.limit = l, .used = -1, .settled = -1};
	limit_window(l, now_ms, &start, &use->end_ms);
	snprintf(use->key, sizeof(use->key), "%s:c:%s:%s:%s%lld:%lld", t->config->memcached.prefix, l->name, who,
		l->window == LIMIT_MONTH ? "month" : "",
		l->window == LIMIT_MONTH ? 0LL : (long long)l->window / 1000000, (long long)start / 1000);
}

int64_t limit_ttl_s(const struct limit_use *use)
{
	int64_t left = (use->end_ms - clock_real_ms()) / 1000;

	return (left > 0 ? left : 0) + SLACK_S;
}

/* Without a model, those that are not per model. */
static void use_all(struct txn *t)
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

	use_all(t);
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

	use_all(t);
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
}

int64_t limit_count_locally(struct txn *t, const struct limit_use *use, uint64_t delta)
{
	uint8_t hash[SHA256_BYTES];
	uint64_t id;

	hash_sha256(use->key, strlen(use->key), hash);
	memcpy(&id, hash, sizeof(id));
	return (int64_t)stats_local_add(t->worker->stats, id | 2, use->end_ms, delta);
}

static void give_back(struct txn *t)
{
	struct store_item items[TXN_LIMITS];
	size_t i, n = 0;

	for (i = 0; i < t->limit_count; i++) {
		if (t->limits[i].limit->count != COUNT_REQUESTS || !t->limits[i].charged ||
			&t->limits[i] == t->refused_by || !t->limits[i].limit->enforce)
			continue;
		items[n++] = (struct store_item){
			.op = STORE_DECR, .pool = STORE_COUNTERS, .key = t->limits[i].key, .delta = 1};
		t->limits[i].used--;
	}
	if (n)
		store_run(t->worker->store, items, n);
}

static enum verdict refuse(struct txn *t, const struct limit_use *use)
{
	const struct limit *l = use->limit;
	char reset[32], window[32];
	int64_t left = use->end_ms - clock_real_ms();

	t->refused_by = use;
	t->retry_after_ms = left > 1 ? left : 1;
	give_back(t);
	answer_reset_text(t->retry_after_ms, reset, sizeof(reset));
	if (l->window == LIMIT_MONTH)
		snprintf(window, sizeof(window), "month");
	else
		answer_reset_text(l->window / 1000, window, sizeof(window));
	return txn_fail(t, ERR_RATE_LIMIT, NULL,
		"Rate limit '%s' reached: %lld requests per %s. Its window ends in %s; try again then.", l->name,
		(long long)l->amount, window, reset);
}

static enum verdict store_is_down(struct txn *t, const struct limit_use *use)
{
	t->refused_by = use;
	t->retry_after_ms = 1000;
	give_back(t);
	return txn_fail(t, ERR_LIMIT_STORE_DOWN, NULL,
		"The limit '%s' cannot be checked at the moment, and it is set to refuse then. Try again soon.",
		use->limit->name);
}

enum verdict limit_decide(struct txn *t)
{
	struct limit_use *use, *over = NULL, *closed = NULL;
	size_t i;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (budget_counts(use->limit))
			budget_read(t, use);
		if (use->limit->count != COUNT_REQUESTS)
			continue;
		use->charged = use->look->result == STORE_OK;
		t->store_down |= !use->charged;
		if (use->charged)
			use->used = (int64_t)use->look->number;
		else if (use->limit->on_store_down == STORE_DOWN_LOCAL)
			use->used = limit_count_locally(t, use, 1);
		if (use->used < 0 && use->limit->on_store_down == STORE_DOWN_CLOSED && use->limit->enforce && !closed)
			closed = use;
		if (use->used <= use->limit->amount)
			continue;
		if (!use->limit->enforce)
			t->would_refuse = use->limit->name;
		else if (!over)
			over = use;
	}
	if (over)
		return refuse(t, over);
	return closed ? store_is_down(t, closed) : NEXT;
}

const struct limit_use *limit_tightest(const struct txn *t)
{
	const struct limit_use *use, *tightest = t->refused_by;
	size_t i;

	for (i = 0; i < t->limit_count && !t->refused_by; i++) {
		use = &t->limits[i];
		if (!use->limit->enforce || use->limit->count != COUNT_REQUESTS)
			continue;
		if (!tightest || use->limit->amount - use->used < tightest->limit->amount - tightest->used)
			tightest = use;
	}
	return tightest;
}
