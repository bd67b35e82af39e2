/* Nothing is held where something was refused; what memcached may have counted in spite of its silence counts. */
#include "gate/budget.h"

#include "gate/limit.h"

#include <string.h>

/* ---- counters ---- */

/* "pv:c:…" counts what is settled and reserved, "pv:s:…" what is settled. */
static const char *settled_key(struct txn *t, const struct limit_use *use)
{
	char *key = arena_strdup(t->arena, use->key);

	key[strlen(t->config->memcached.prefix) + 1] = 's';
	return key;
}

static uint32_t ttl_of(const struct limit_use *use)
{
	int64_t s = limit_ttl_s(use);

	return s > STORE_TTL_MAX ? STORE_TTL_MAX : (uint32_t)s;
}

void budget_prepare(struct txn *t, struct limit_use *use)
{
	use->look = &t->batch[t->batch_count];
	t->batch[t->batch_count++] = (struct store_item){.op = STORE_GET, .pool = STORE_COUNTERS, .key = use->key};
	t->batch[t->batch_count++] =
		(struct store_item){.op = STORE_GET, .pool = STORE_COUNTERS, .key = settled_key(t, use)};
}

static int64_t count_of(const struct store_item *item)
{
	return item->result == STORE_OK ? store_number(item) : item->result == STORE_MISS ? 0 : -1;
}

void budget_read(struct txn *t, struct limit_use *use)
{
	use->used = count_of(&use->look[0]);
	use->settled = count_of(&use->look[1]);
	t->store_down |= use->used < 0;
}

void budget_look(struct txn *t)
{
	struct store_item items[BUDGET_ITEMS * TXN_LIMITS], *before = t->batch;
	size_t i, count = t->batch_count;

	t->batch = items;
	t->batch_count = 0;
	for (i = 0; i < t->limit_count; i++)
		if (budget_counts(t->limits[i].limit))
			budget_prepare(t, &t->limits[i]);
	store_run(t->worker->store, items, t->batch_count);
	for (i = 0; i < t->limit_count; i++)
		if (budget_counts(t->limits[i].limit))
			budget_read(t, &t->limits[i]);
	t->batch = before;
	t->batch_count = count;
}

/* ---- reserving ---- */

static void give_back(struct txn *t)
{
	struct store_item items[TXN_LIMITS];
	size_t i, n = 0;

	for (i = 0; i < t->limit_count; i++) {
		struct limit_use *use = &t->limits[i];

		if (!budget_counts(use->limit) || !use->charged)
			continue;
		items[n++] = (struct store_item){
			.op = STORE_DECR, .pool = STORE_COUNTERS, .key = use->key, .delta = (uint64_t)use->reserved};
		use->used -= use->reserved;
		use->charged = false;
	}
	store_run(t->worker->store, items, n);
}

/* What a counter said of this reservation; false: nobody said anything. */
static bool read_count(struct txn *t, struct limit_use *use, const struct store_item *item)
{
	use->charged = item->result == STORE_OK;
	t->store_down |= !use->charged;
	use->used = -1;
	if (use->charged)
		use->used = (int64_t)item->number;
	else if (use->limit->on_store_down == STORE_DOWN_LOCAL)
		use->used = limit_count_locally(t, use, (uint64_t)use->reserved);
	return use->used >= 0;
}

enum budget_verdict budget_reserve(struct txn *t, const struct limit_use **by)
{
	struct store_item items[TXN_LIMITS];
	enum budget_verdict verdict = BUDGET_TAKEN;
	size_t i, n = 0;

	*by = NULL;
	for (i = 0; i < t->limit_count; i++)
		if (budget_counts(t->limits[i].limit))
			items[n++] = (struct store_item){.op = STORE_INCR,
				.pool = STORE_COUNTERS,
				.key = t->limits[i].key,
				.ttl_s = ttl_of(&t->limits[i]),
				.delta = (uint64_t)t->limits[i].reserved};
	store_run(t->worker->store, items, n);
	for (i = n = 0; i < t->limit_count; i++) {
		struct limit_use *use = &t->limits[i];
		enum budget_verdict one = BUDGET_TAKEN;

		if (!budget_counts(use->limit))
			continue;
		if (!read_count(t, use, &items[n++]))
			one = use->limit->on_store_down == STORE_DOWN_OPEN ? BUDGET_TAKEN : BUDGET_UNKNOWN;
		else if (use->used > use->limit->amount)
			one = BUDGET_OVER;
		if (one != BUDGET_TAKEN && !use->limit->enforce)
			t->would_refuse = use->limit->name;
		else if (one != BUDGET_TAKEN && !*by) {
			*by = use;
			verdict = one;
		}
	}
	if (*by)
		give_back(t);
	return verdict;
}

/* ---- settling ---- */

void budget_settle(struct txn *t, int64_t tokens, int64_t pusd)
{
	struct store_item items[2 * TXN_LIMITS];
	size_t i, n = 0;

	for (i = 0; i < t->limit_count; i++) {
		struct limit_use *use = &t->limits[i];
		int64_t real = use->limit->count == COUNT_TOKENS ? tokens : pusd, rest = use->reserved - real;

		if (!budget_counts(use->limit) || !use->charged)
			continue;
		if (rest)
			items[n++] = (struct store_item){.op = rest > 0 ? STORE_DECR : STORE_INCR,
				.pool = STORE_COUNTERS,
				.key = use->key,
				.ttl_s = ttl_of(use),
				.delta = (uint64_t)(rest > 0 ? rest : -rest)};
		if (real)
			items[n++] = (struct store_item){.op = STORE_INCR,
				.pool = STORE_COUNTERS,
				.key = settled_key(t, use),
				.ttl_s = ttl_of(use),
				.delta = (uint64_t)real};
		use->used -= rest;
		use->settled = use->settled < 0 ? -1 : use->settled + real;
		use->charged = false;
	}
	store_run(t->worker->store, items, n);
}
