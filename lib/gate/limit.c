/*
 * The window's start is part of a counter's key, so windows need no resetting, and hosts need only agree on the time
 * (UTC). A refusal leaves its own counter above the amount, which changes nothing.
 */
#include "gate/limit.h"

#include "base/clock.h"
#include "base/hash.h"
#include "gate/answer.h"

#include <stdio.h>
#include <string.h>

enum { SLACK_S = 10 /* a counter outlives its window by this, for hosts whose clocks differ */, IDENTITY_MAX = 100 };

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

/* The limit's window of this moment, for whoever asks. */
static void use_limit(struct txn *t, const struct limit *l, int64_t now, struct limit_use *use)
{
	int64_t window = l->window / 1000, start = now - now % window;
	char who[IDENTITY_MAX];

	identity(t, l, who);
	*use = (struct limit_use){.limit = l, .end_ms = start + window, .used = -1};
	snprintf(use->key, sizeof(use->key), "%s:c:%s:%s:%lld:%lld", t->config->memcached.prefix, l->name, who,
		(long long)(window / 1000), (long long)(start / 1000));
}

void limit_prepare(struct txn *t)
{
	const struct limit *limits = t->config->limits.items;
	int64_t now = clock_real_ms();
	struct limit_use *use;
	size_t i;

	for (i = 0; i < t->config->limits.count; i++) {
		if ((limits[i].per & PER_MODEL) && !t->model)
			continue;
		use = &t->limits[t->limit_count++];
		use_limit(t, &limits[i], now, use);
		t->batch[t->batch_count++] = (struct store_item){.op = STORE_INCR,
			.pool = STORE_COUNTERS,
			.key = use->key,
			.ttl_s = (uint32_t)((use->end_ms - now) / 1000 + SLACK_S),
			.delta = 1};
	}
}

/* A counter as GET gives it: digits, with spaces behind them after a DECR. */
static int64_t number_of(const struct store_item *item)
{
	const char *digits = item->value;
	int64_t n = 0;
	size_t i;

	for (i = 0; i < item->value_len && i < 18 && digits[i] >= '0' && digits[i] <= '9'; i++)
		n = n * 10 + (digits[i] - '0');
	return n;
}

void limit_peek(struct txn *t)
{
	const struct limit *limits = t->config->limits.items;
	struct store_item items[TXN_LIMITS];
	struct limit_use *use;
	size_t i, n = 0;

	for (i = 0; i < t->config->limits.count; i++) {
		if ((limits[i].per & PER_MODEL) && !t->model)
			continue;
		use = &t->limits[n];
		use_limit(t, &limits[i], clock_real_ms(), use);
		items[n++] = (struct store_item){.op = STORE_GET, .pool = STORE_COUNTERS, .key = use->key};
	}
	t->limit_count = n;
	store_run(t->worker->store, items, n);
	for (i = 0; i < n; i++) {
		if (items[i].result == STORE_MISS)
			t->limits[i].used = 0;
		else if (items[i].result == STORE_OK)
			t->limits[i].used = number_of(&items[i]);
	}
}

/* This host alone, in shared memory. */
static int64_t count_locally(struct txn *t, const struct limit_use *use)
{
	uint8_t hash[SHA256_BYTES];
	uint64_t id;

	hash_sha256(use->key, strlen(use->key), hash);
	memcpy(&id, hash, sizeof(id));
	return (int64_t)stats_local_add(t->worker->stats, id | 2, use->end_ms, 1);
}

static void give_back(struct txn *t)
{
	struct store_item items[TXN_LIMITS];
	size_t i, n = 0;

	for (i = 0; i < t->limit_count; i++) {
		if (!t->limits[i].charged || &t->limits[i] == t->refused_by || !t->limits[i].limit->enforce)
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
		use->charged = t->batch[i].result == STORE_OK;
		t->store_down |= !use->charged;
		if (use->charged)
			use->used = (int64_t)t->batch[i].number;
		else if (use->limit->on_store_down == STORE_DOWN_LOCAL)
			use->used = count_locally(t, use);
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
		if (!use->limit->enforce)
			continue;
		if (!tightest || use->limit->amount - use->used < tightest->limit->amount - tightest->used)
			tightest = use;
	}
	return tightest;
}
