/*
 * What memcached adds decides, and this host's own count (edge/calls) is never less than it: a memcached that has
 * forgotten everything lets no host make more calls than the limit has.
 */
#include "gate/slots.h"

#include "base/clock.h"
#include "base/hash.h"
#include "edge/calls.h"
#include "gate/coalesce.h"
#include "gate/limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SLOT_S = 10,
	RENEW_US = 3000000,
	FIRST_LOOK = 32, /* slots that are looked at together, when the one that chance has chosen is taken; … */
	LOOK = 256,      /* … and from then on */
	VALUE_BYTES = 2 * 17 + 12,
	SLOT_KEY = TXN_KEY + 12
};

struct slot {
	struct limit_use *use;
	uint64_t identity; /* for edge/calls */
	int64_t number;    /* which of the limit's */
	uint64_t cas;      /* of what was added; 0 = not ours, as far as is known */
	char key[SLOT_KEY];
};

struct slots {
	uint64_t nonce;
	char value[VALUE_BYTES]; /* whose they are: nonce, host, worker */
	int64_t renew_us;
	size_t count;
	struct slot slot[STATS_CALL_LIMITS];
};

enum outcome { TAKEN, FULL, UNKNOWN /* memcached does not answer: it may be ours, and counts as that */ };

static struct store_item item_of(const struct txn *t, const struct slots *s, enum store_op op, const struct slot *slot)
{
	return (struct store_item){.op = op,
		.pool = STORE_COUNTERS,
		.key = slot->key,
		.server = store_server_of(t->worker->store, STORE_COUNTERS, slot->use->key),
		.ttl_s = SLOT_S,
		.value = s->value,
		.value_len = strlen(s->value),
		.cas = op == STORE_DELETE ? slot->cas : 0};
}

static void print_key(const struct slot *slot, int64_t number, char *key, size_t room)
{
	snprintf(key, room, "%s:%d", slot->use->key, (int)number);
}

/* Slot `number`, if there are so many: they go round. */
static void choose(struct slot *slot, uint64_t number)
{
	slot->number = (int64_t)(number % (uint64_t)slot->use->limit->amount);
	slot->cas = 0;
	print_key(slot, slot->number, slot->key, sizeof(slot->key));
}

static void choose_any(struct slot *slot)
{
	uint64_t random;

	hash_random(&random, sizeof(random));
	choose(slot, random);
}

static enum outcome outcome_of(struct txn *t, struct slot *slot, const struct store_item *add)
{
	if (add->result == STORE_OK)
		slot->cas = add->cas;
	if (add->result == STORE_OK || add->result == STORE_EXISTS)
		return add->result == STORE_OK ? TAKEN : FULL;
	t->store_down |= add->result == STORE_DOWN;
	return UNKNOWN;
}

/* ---- looking for a free one ---- */

/* Whether a worker of this host has left it behind. */
static bool is_dead(const struct txn *t, const struct store_item *item)
{
	const struct stats *stats = t->worker->stats;
	char value[VALUE_BYTES], *end;
	uint64_t nonce, host;

	if (item->value_len >= sizeof(value))
		return false;
	memcpy(value, item->value, item->value_len);
	value[item->value_len] = '\0';
	nonce = strtoull(value, &end, 16);
	host = strtoull(end, &end, 16);
	return nonce && host == stats->host && !calls_alive(stats, atoi(end), nonce);
}

/* Whoever was faster has it: the next, then. */
static enum outcome claim(struct txn *t, const struct slots *s, struct slot *slot, int64_t number, uint64_t dead)
{
	struct store_item items[2];
	size_t n = 0;

	choose(slot, (uint64_t)number);
	slot->cas = dead;
	if (dead)
		items[n++] = item_of(t, s, STORE_DELETE, slot);
	slot->cas = 0;
	items[n++] = item_of(t, s, STORE_ADD, slot);
	store_run(t->worker->store, items, n);
	return outcome_of(t, slot, &items[n - 1]);
}

struct look {
	struct store_item items[LOOK];
	char keys[LOOK][SLOT_KEY];
	int64_t free[LOOK];  /* their numbers, … */
	uint64_t dead[LOOK]; /* … and what a dead worker left there */
};

/* How many of `count` slots are free, from `first` on; -1: nobody knows. */
static int look_at(
	struct txn *t, const struct slots *s, const struct slot *slot, struct look *l, int64_t first, int count)
{
	int64_t amount = slot->use->limit->amount;
	int i, n = 0;

	for (i = 0; i < count; i++) {
		print_key(slot, (first + i) % amount, l->keys[i], sizeof(l->keys[i]));
		l->items[i] = item_of(t, s, STORE_GET, slot);
		l->items[i].key = l->keys[i];
	}
	store_run(t->worker->store, l->items, (size_t)count);
	for (i = 0; i < count; i++) {
		if (l->items[i].result == STORE_DOWN)
			return -1;
		if (l->items[i].result == STORE_OK && !is_dead(t, &l->items[i]))
			continue;
		l->free[n] = (first + i) % amount;
		l->dead[n++] = l->items[i].result == STORE_OK ? l->items[i].cas : 0;
	}
	return n;
}

/* The one that chance has chosen is taken. */
static enum outcome search(struct txn *t, const struct slots *s, struct slot *slot)
{
	int64_t looked, amount = slot->use->limit->amount, first = slot->number;
	struct look *l = arena_alloc(t->arena, sizeof(*l));
	int i, n, count = FIRST_LOOK;
	enum outcome outcome = FULL;

	for (looked = 0; looked < amount; looked += count, count = LOOK) {
		if (count > amount - looked)
			count = (int)(amount - looked);
		n = look_at(t, s, slot, l, first + looked, count);
		if (n < 0)
			return UNKNOWN;
		for (i = 0; i < n && outcome == FULL; i++)
			outcome = claim(t, s, slot, l->free[i], l->dead[i]);
		if (outcome != FULL)
			return outcome;
	}
	return FULL;
}

/* ---- all or none ---- */

static void give_back(struct txn *t, const struct slots *s)
{
	struct store_item items[STATS_CALL_LIMITS];
	size_t i, n = 0;

	for (i = 0; i < s->count; i++)
		if (s->slot[i].cas)
			items[n++] = item_of(t, s, STORE_DELETE, &s->slot[i]);
	store_run(t->worker->store, items, n);
}

static enum verdict refuse(struct txn *t, const struct limit_use *use)
{
	t->refused_by = use;
	t->retry_after_ms = 1000;
	return txn_fail(t, ERR_RATE_LIMIT, NULL,
		"Limit '%s' reached: %lld calls at the same time. Try again when one of them has ended.",
		use->limit->name, (long long)use->limit->amount);
}

/* What is known of this one; on this host it counts before it is asked for how many there are. */
static enum outcome decide(struct txn *t, struct slot *slot, enum outcome outcome)
{
	const struct limit *l = slot->use->limit;
	int index = t->worker->slot_index;

	slot->use->unknown = outcome == UNKNOWN;
	if (outcome == FULL)
		return FULL;
	calls_count(t->worker->stats, index, slot->identity);
	if (outcome == UNKNOWN && l->on_store_down != STORE_DOWN_LOCAL)
		return l->on_store_down == STORE_DOWN_OPEN ? TAKEN : UNKNOWN;
	return calls_of(t->worker->stats, slot->identity) > l->amount ? FULL : TAKEN;
}

/* A limit that does not enforce has none for this call, which goes on without. */
static void leave_out(struct txn *t, struct slots *s, size_t i, bool counted)
{
	struct slots one = {.count = 1, .slot = {s->slot[i]}};

	s->slot[i].use->would_refuse = true;
	if (counted)
		calls_uncount(t->worker->stats, t->worker->slot_index);
	give_back(t, &one);
	memmove(&s->slot[i], &s->slot[i + 1], (s->count - i - 1) * sizeof(s->slot[0]));
	s->count--;
}

static struct slots *slots_of(struct txn *t)
{
	struct slots *s = NULL;
	uint8_t hash[SHA256_BYTES];
	struct slot *slot;
	size_t i;

	for (i = 0; i < t->limit_count; i++) {
		if (t->limits[i].limit->count != COUNT_CONCURRENT)
			continue;
		s = s ? s : arena_alloc(t->arena, sizeof(*s));
		BUG_ON(s->count == STATS_CALL_LIMITS);
		slot = &s->slot[s->count++];
		slot->use = &t->limits[i];
		hash_sha256(slot->use->key, strlen(slot->use->key), hash);
		memcpy(&slot->identity, hash, sizeof(slot->identity));
		choose_any(slot);
	}
	return s;
}

static void begin(struct txn *t, struct slots *s)
{
	do
		hash_random(&s->nonce, sizeof(s->nonce));
	while (s->nonce == 0);
	snprintf(s->value, sizeof(s->value), "%016llx %016llx %d", (unsigned long long)s->nonce,
		(unsigned long long)t->worker->stats->host, t->worker->slot_index);
	s->renew_us = clock_mono_us() + RENEW_US;
	calls_begin(t->worker->stats, t->worker->slot_index, s->nonce);
	t->slots = s;
}

/* One round trip, unless chance chooses one that is taken. */
enum verdict slots_take(struct txn *t)
{
	struct store_item items[STATS_CALL_LIMITS];
	enum outcome outcome, first[STATS_CALL_LIMITS];
	struct slots *s = slots_of(t);
	struct limit_use *use;
	size_t i, at;

	if (!s)
		return NEXT;
	begin(t, s);
	for (i = 0; i < s->count; i++)
		items[i] = item_of(t, s, STORE_ADD, &s->slot[i]);
	store_run(t->worker->store, items, s->count);
	for (i = 0; i < s->count; i++)
		first[i] = outcome_of(t, &s->slot[i], &items[i]);
	for (i = at = 0; at < s->count; i++) {
		use = s->slot[at].use;
		if (first[i] == FULL)
			first[i] = search(t, s, &s->slot[at]);
		outcome = decide(t, &s->slot[at], first[i]);
		if (outcome == TAKEN) {
			at++;
		} else if (!use->limit->enforce) {
			leave_out(t, s, at, first[i] != FULL);
		} else {
			slots_release(t);
			return outcome == FULL ? refuse(t, use) : limit_store_down(t, use);
		}
	}
	return NEXT;
}

void slots_release(struct txn *t)
{
	if (!t->slots)
		return;
	calls_end(t->worker->stats, t->worker->slot_index);
	store_again(t->worker->store);
	give_back(t, t->slots);
	t->slots = NULL;
}

enum verdict stage_slots(struct txn *t)
{
	enum verdict verdict = slots_take(t);

	if (verdict != NEXT)
		lead_leave(t); /* it is this client's refusal, and not that of those who follow */
	return verdict;
}

/* ---- while the call lasts ---- */

static bool is_ours(const struct slots *s, const struct store_item *item)
{
	return item->value_len == strlen(s->value) && memcmp(item->value, s->value, item->value_len) == 0;
}

/* What was not ours, or no longer is: another one, if it is free. The call goes on in any case. */
static void add_again(struct txn *t, struct slots *s)
{
	struct store_item items[STATS_CALL_LIMITS];
	struct slot *which[STATS_CALL_LIMITS];
	size_t i, n = 0;

	for (i = 0; i < s->count; i++) {
		if (s->slot[i].cas)
			continue;
		which[n] = &s->slot[i];
		items[n++] = item_of(t, s, STORE_ADD, &s->slot[i]);
	}
	if (!n)
		return;
	store_run(t->worker->store, items, n);
	for (i = 0; i < n; i++)
		if (outcome_of(t, which[i], &items[i]) == FULL)
			choose_any(which[i]);
}

static void renew(struct txn *t, struct slots *s)
{
	struct store_item items[STATS_CALL_LIMITS];
	struct slot *which[STATS_CALL_LIMITS];
	size_t i, n = 0;

	for (i = 0; i < s->count; i++) {
		if (!s->slot[i].cas)
			continue;
		which[n] = &s->slot[i];
		items[n++] = item_of(t, s, STORE_GAT, &s->slot[i]);
	}
	store_run(t->worker->store, items, n);
	for (i = 0; i < n; i++) {
		if (items[i].result == STORE_MISS)
			which[i]->cas = 0;
		else if (items[i].result == STORE_OK && !is_ours(s, &items[i]))
			choose_any(which[i]);
	}
	add_again(t, s);
}

void slots_pump(struct txn *t)
{
	int64_t now = clock_mono_us();

	if (!t->slots || now < t->slots->renew_us)
		return;
	store_again(t->worker->store);
	renew(t, t->slots);
	t->slots->renew_us = now + RENEW_US;
}

int64_t slots_next_us(const struct txn *t)
{
	return t->slots ? t->slots->renew_us : INT64_MAX;
}
