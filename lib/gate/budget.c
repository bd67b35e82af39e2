/* Nothing is held where something was refused; what memcached may have counted in spite of its silence counts. */
#include "gate/budget.h"

#include "base/clock.h"
#include "gate/generation.h"
#include "gate/limit.h"
#include "gate/tell.h"

#include <string.h>
#include <time.h>

enum {
	TRIES = 3,          /* to count in a generation that is there */
	SEEDING_MS = 500,   /* how long a request waits for a counter to be made, … */
	MEETING_MS = 100,   /* … and one that may not need it */
	WANT_AGAIN_MS = 200 /* and how often it says so */
};

/* ---- counters ---- */

/* "pv:c:…" counts what is settled and reserved, "pv:s:…" what is settled. */
static const char *key_of(struct txn *t, const struct limit_use *use, char letter, uint64_t generation)
{
	char *key = arena_alloc(t->arena, GENERATION_KEY);

	generation_key(t->config->memcached.prefix, use->key, letter, generation, key);
	return key;
}

/* Counted in generations. */
static bool lasts(const struct txn *t, const struct limit_use *use)
{
	return t->worker->teller && budget_lasts(use->limit);
}

static struct store_item item_of(struct txn *t, const struct limit_use *use, enum store_op op, char letter)
{
	return (struct store_item){.op = op,
		.pool = STORE_COUNTERS,
		.key = key_of(t, use, letter, use->generation),
		.server = lasts(t, use) ? store_server_of(t->worker->store, STORE_COUNTERS, use->key) : 0,
		.ttl_s = (uint32_t)limit_ttl_s(use)};
}

/* In one trip with the generation, if this worker has seen which it is. */
void budget_prepare(struct txn *t, struct limit_use *use)
{
	struct limit_use whole = *use;

	use->look = &t->batch[t->batch_count];
	whole.generation = 0;
	use->generation = 0;
	if (lasts(t, use)) {
		t->batch[t->batch_count++] = item_of(t, &whole, STORE_GET, 'g');
		use->generation = teller_guess(t->worker->teller, use->key, 0);
		if (!use->generation)
			return;
	}
	t->batch[t->batch_count++] = item_of(t, use, STORE_GET, 'c');
	t->batch[t->batch_count++] = item_of(t, use, STORE_GET, 's');
}

static int64_t count_of(const struct store_item *item)
{
	return item->result == STORE_OK ? store_number(item) : item->result == STORE_MISS ? 0 : -1;
}

/* What the look has told, if its generation is the one that counts, and its counter is there. */
static void read_generation(struct txn *t, struct limit_use *use)
{
	struct generation g = generation_read(&use->look[0]);
	uint64_t guess = use->generation;

	use->used = use->settled = -1;
	use->generation = g.ready ? g.number : 0;
	if (!g.ready)
		return;
	teller_guess(t->worker->teller, use->key, g.number);
	if (g.number != guess)
		return;
	if (use->look[1].result == STORE_MISS)
		use->generation = 0; /* memcached has lost it */
	if (use->look[1].result != STORE_OK)
		return;
	use->used = store_number(&use->look[1]);
	use->settled = count_of(&use->look[2]);
}

static void read_look(struct txn *t, struct limit_use *use)
{
	use->silent = use->look[0].result == STORE_DOWN;
	t->store_down |= use->silent;
	if (lasts(t, use)) {
		read_generation(t, use);
		return;
	}
	use->used = count_of(&use->look[0]);
	use->settled = count_of(&use->look[1]);
}

/* Of one that is missing whoever comes next knows more: they look for its generation first, and ask for one. */
void budget_read(struct txn *t, struct limit_use *use)
{
	read_look(t, use);
	if (!lasts(t, use) || use->generation || use->silent)
		return;
	if (generation_read(&use->look[0]).ready && teller_may_ask(t->worker->teller, use->key))
		tell_want(t, use, 0);
	teller_forget(t->worker->teller, use->key);
}

/* A look at all of them, or at those whose generation is not known. */
static void look(struct txn *t, bool unknown_only)
{
	struct store_item items[BUDGET_ITEMS * TXN_LIMITS], *before = t->batch;
	bool asked[TXN_LIMITS] = {false};
	size_t i, count = t->batch_count;
	struct limit_use *use;

	t->batch = items;
	t->batch_count = 0;
	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		asked[i] = budget_counts(use->limit) && (!unknown_only || (lasts(t, use) && use->used < 0));
		if (asked[i])
			budget_prepare(t, use);
	}
	store_run(t->worker->store, items, t->batch_count);
	for (i = 0; i < t->limit_count; i++)
		if (asked[i])
			read_look(t, &t->limits[i]);
	t->batch = before;
	t->batch_count = count;
}

/* The bookkeepers are asked for what is missing. Whether anything is, and memcached can be asked again. */
static bool want_missing(struct txn *t, bool say_so, int64_t timeout_us)
{
	const struct limit_use *use;
	bool missing = false;
	size_t i;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (!lasts(t, use) || use->used >= 0)
			continue;
		if (use->silent || (!use->generation && say_so && !tell_want(t, use, timeout_us)))
			continue;
		missing = true;
	}
	return missing;
}

/* Waits for counters that are being made: milliseconds, unless another host has to bring its share. */
static void find_generations(struct txn *t, int64_t patience_ms, int64_t timeout_us)
{
	int64_t started_ms = clock_mono_ms(), said_ms = 0, now_ms;
	long pause_us = 1000;

	for (;;) {
		now_ms = clock_mono_ms();
		if (!want_missing(t, now_ms - said_ms >= WANT_AGAIN_MS, timeout_us) ||
			now_ms - started_ms >= patience_ms)
			return;
		if (now_ms - said_ms >= WANT_AGAIN_MS)
			said_ms = now_ms;
		look(t, true);
		nanosleep(&(struct timespec){.tv_nsec = 1000 * pause_us}, NULL);
		pause_us = pause_us < 16000 ? pause_us * 2 : pause_us;
	}
}

void budget_look(struct txn *t)
{
	look(t, false);
	find_generations(t, SEEDING_MS, t->config->memcached.timeout);
}

static bool unknown(const struct txn *t, const struct limit_use *use)
{
	return lasts(t, use) && use->used < 0 && !use->silent;
}

/* Looks, and waits for those that have to be made: but not again soon, and where the answer may be in the cache, not
 * for long. */
static void find_unknown(struct txn *t)
{
	const struct limit_use *use;
	bool ask = false;
	size_t i;

	look(t, true);
	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (unknown(t, use) && !use->generation)
			ask |= teller_may_ask(t->worker->teller, use->key);
	}
	if (ask)
		find_generations(t, t->model ? MEETING_MS : SEEDING_MS, 0);
}

void budget_meet(struct txn *t)
{
	bool strange = false;
	size_t i;

	for (i = 0; i < t->limit_count; i++)
		strange |= lasts(t, &t->limits[i]) && !teller_guess(t->worker->teller, t->limits[i].key, 0);
	if (strange)
		find_unknown(t);
}

void budget_look_again(struct txn *t)
{
	size_t i;

	for (i = 0; i < t->limit_count && !unknown(t, &t->limits[i]); i++)
		;
	if (i < t->limit_count)
		find_unknown(t);
}

/* ---- reserving ---- */

/* One limit's counting: its answer, and for one that lasts the generation as it is behind it. */
struct count {
	struct store_item *item, *state;
};

/* The last moment that is in the windows of them all, or now. */
static int64_t moment_of(const struct txn *t)
{
	int64_t at_ms = clock_real_ms();
	size_t i;

	for (i = 0; i < t->limit_count; i++)
		if (lasts(t, &t->limits[i]) && t->limits[i].end_ms - 1 < at_ms)
			at_ms = t->limits[i].end_ms - 1;
	return at_ms / 1000;
}

/* Told before it is counted, so that a counter that is made anew knows of it. */
static bool hold(struct txn *t)
{
	int64_t tokens = 0, pusd = 0, *most;
	bool any = false;
	size_t i;

	for (i = 0; i < t->limit_count; i++) {
		if (!budget_counts(t->limits[i].limit))
			continue;
		any |= lasts(t, &t->limits[i]);
		most = t->limits[i].limit->count == COUNT_USD ? &pusd : &tokens;
		if (t->limits[i].reserved > *most)
			*most = t->limits[i].reserved;
	}
	return !any || tell_hold(t, moment_of(t), tokens, pusd);
}

static void count(struct txn *t, struct count counts[TXN_LIMITS], struct store_item items[2 * TXN_LIMITS], bool held)
{
	struct limit_use *use, whole;
	size_t i, n = 0;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		counts[i] = (struct count){NULL, NULL};
		if (!budget_counts(use->limit) || (lasts(t, use) && (!held || !use->generation)))
			continue;
		counts[i].item = &items[n++];
		*counts[i].item = item_of(t, use, lasts(t, use) ? STORE_COUNT : STORE_INCR, 'c');
		counts[i].item->delta = (uint64_t)use->reserved;
		if (!lasts(t, use))
			continue;
		whole = *use;
		whole.generation = 0;
		counts[i].state = &items[n++];
		*counts[i].state = item_of(t, &whole, STORE_GET, 'g');
	}
	store_run(t->worker->store, items, n);
}

static void count_locally(struct txn *t, struct limit_use *use)
{
	use->local = true;
	use->used = limit_count_locally(t, use, use->reserved);
	use->settled = limit_settle_locally(t, use, 0);
}

/* Whatever was not needed. */
static void settle_locally(struct txn *t, struct limit_use *use, int64_t real)
{
	use->local = false;
	use->used = limit_count_locally(t, use, real - use->reserved);
	use->settled = limit_settle_locally(t, use, real);
}

enum counted { COUNTED, UNCOUNTED, OUTDATED /* in a generation that no longer counts */ };

/* What a counter said of this reservation. With the last try what is outdated has not been counted. */
static enum counted read_count(struct txn *t, struct limit_use *use, const struct count *c, bool last)
{
	struct generation g;

	use->used = -1;
	use->charged = c->item && c->item->result == STORE_OK;
	use->doubtful = c->item && c->item->result == STORE_DOWN;
	t->store_down |= use->doubtful;
	if (c->state) {
		g = generation_read(c->state);
		if (c->item->result == STORE_MISS || (use->charged && (!g.ready || g.number != use->generation))) {
			use->doubtful = use->charged && last;
			use->charged = use->charged && !last;
			if (!last)
				return OUTDATED;
		}
	}
	use->unknown = !use->charged;
	if (use->charged)
		use->used = (int64_t)c->item->number;
	else if (use->limit->on_store_down == STORE_DOWN_LOCAL)
		count_locally(t, use);
	return use->used >= 0 ? COUNTED : UNCOUNTED;
}

/* Of what the bookkeeper holds: where it may be counted. */
static size_t list_doubtful(const struct txn *t, struct note_counted list[NOTE_COUNTED])
{
	const struct limit_use *use;
	size_t i, n = 0;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (lasts(t, use) && use->generation && use->doubtful)
			list[n++] = (struct note_counted){
				.counter = use->key, .generation = use->generation, .doubtful = true};
	}
	return n;
}

/* To each generation what was added to it; the bookkeeper, who may have counted it elsewhere, learns that it is over.
 */
static void give_back(struct txn *t)
{
	struct store_item items[TXN_LIMITS];
	struct limit_use *given[TXN_LIMITS];
	struct note_counted list[NOTE_COUNTED];
	struct ledger_amounts nothing = {0};
	struct limit_use *use;
	size_t i, n = 0;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (use->local)
			settle_locally(t, use, 0);
		if (!budget_counts(use->limit) || !use->charged)
			continue;
		items[n] = item_of(t, use, STORE_DECR, 'c');
		items[n].delta = (uint64_t)use->reserved;
		given[n++] = use;
		use->used -= use->used >= 0 ? use->reserved : 0;
		use->charged = false;
	}
	store_run(t->worker->store, items, n);
	for (i = 0; i < n; i++)
		given[i]->doubtful = items[i].result == STORE_DOWN;
	if (t->held)
		tell_settle(t, moment_of(t), &nothing, list, list_doubtful(t, list));
}

/* One try; OUTDATED: nothing is held, and the generations have to be looked for. */
static enum counted try_to_reserve(struct txn *t, bool last, const struct limit_use **by, enum budget_verdict *verdict)
{
	struct store_item items[2 * TXN_LIMITS];
	struct count counts[TXN_LIMITS];
	enum counted worst = COUNTED, counted;
	struct limit_use *use;
	enum budget_verdict one;
	size_t i;

	count(t, counts, items, hold(t));
	*by = NULL;
	*verdict = BUDGET_TAKEN;
	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		one = BUDGET_TAKEN;
		if (!budget_counts(use->limit))
			continue;
		counted = read_count(t, use, &counts[i], last);
		if (counted == OUTDATED)
			worst = OUTDATED;
		if (counted != COUNTED)
			one = use->limit->on_store_down == STORE_DOWN_OPEN ? BUDGET_TAKEN : BUDGET_UNKNOWN;
		else if (use->used > use->limit->amount)
			one = BUDGET_OVER;
		use->would_refuse = one != BUDGET_TAKEN && !use->limit->enforce;
		if (one != BUDGET_TAKEN && use->limit->enforce && !*by) {
			*by = use;
			*verdict = one;
		}
	}
	if (*by || worst == OUTDATED)
		give_back(t);
	return worst;
}

enum budget_verdict budget_reserve(struct txn *t, const struct limit_use **by)
{
	enum budget_verdict verdict = BUDGET_UNKNOWN;
	int i;

	for (i = 0; i < TRIES; i++) {
		if (want_missing(t, false, 0))
			find_generations(t, SEEDING_MS, t->config->memcached.timeout);
		if (try_to_reserve(t, i == TRIES - 1, by, &verdict) != OUTDATED)
			return verdict;
		look(t, false);
	}
	return verdict;
}

/* ---- settling ---- */

static int64_t known(int64_t n)
{
	return n > 0 ? n : 0;
}

static void tell(
	struct txn *t, int64_t tokens, int64_t pusd, const struct note_counted list[NOTE_COUNTED], size_t count)
{
	struct ledger_amounts a = {.calls = t->called,
		.input_tokens = known(t->facts.input_tokens),
		.cached_tokens = known(t->facts.cached_tokens),
		.output_tokens = known(t->facts.output_tokens),
		.tokens = tokens,
		.cost_pusd = pusd,
		.estimated = t->cost_estimated};

	tell_settle(t, moment_of(t), &a, list, count);
	t->booked = true;
}

/* One limit's settling: what it really took goes to the one, the rest comes off the other. NULL: nothing. */
struct settling {
	struct store_item *spent, *counter;
};

static size_t settle_one(
	struct txn *t, struct limit_use *use, int64_t real, struct settling *s, struct store_item *items)
{
	enum store_op add = lasts(t, use) ? STORE_COUNT : STORE_INCR;
	int64_t rest = use->reserved - real;
	size_t n = 0;

	if (real) {
		s->spent = &items[n++];
		*s->spent = item_of(t, use, add, 's');
		s->spent->delta = (uint64_t)real;
	}
	if (rest) {
		s->counter = &items[n++];
		*s->counter = item_of(t, use, rest > 0 ? STORE_DECR : add, 'c');
		s->counter->delta = (uint64_t)(rest > 0 ? rest : -rest);
	}
	return n;
}

static bool is(const struct store_item *item, enum store_result result)
{
	return item && item->result == result;
}

/* What there is of it now in a generation, where it is still there. */
static size_t note_one(const struct limit_use *use, int64_t real, const struct settling *s, struct note_counted *out)
{
	if (is(s->counter, STORE_MISS))
		return 0;
	*out = (struct note_counted){.counter = use->key,
		.generation = use->generation,
		.amount = real,
		.spent = is(s->spent, STORE_OK) ? real : 0,
		.doubtful = is(s->spent, STORE_DOWN) || is(s->counter, STORE_DOWN)};
	return 1;
}

/* Before it is told: a bookkeeper that comes to know of it later corrects what is still wrong, wherever it counts. */
void budget_settle(struct txn *t, int64_t tokens, int64_t pusd)
{
	struct store_item items[2 * TXN_LIMITS];
	struct settling settlings[TXN_LIMITS] = {{NULL, NULL}};
	struct note_counted list[NOTE_COUNTED];
	size_t i, n = 0, counted = list_doubtful(t, list);
	struct limit_use *use;
	int64_t real;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		real = use->limit->count == COUNT_TOKENS ? tokens : pusd;
		if (use->local)
			settle_locally(t, use, real);
		if (budget_counts(use->limit) && use->charged)
			n += settle_one(t, use, real, &settlings[i], &items[n]);
	}
	store_run(t->worker->store, items, n);
	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		real = use->limit->count == COUNT_TOKENS ? tokens : pusd;
		if (!budget_counts(use->limit) || !use->charged)
			continue;
		if (lasts(t, use))
			counted += note_one(use, real, &settlings[i], &list[counted]);
		use->used -= use->reserved - real;
		use->settled = use->settled < 0 ? -1 : use->settled + real;
		use->charged = false;
	}
	if (t->held)
		tell(t, tokens, pusd, list, counted);
}
