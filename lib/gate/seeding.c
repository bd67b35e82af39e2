/*
 * How a counter that is missing is made anew. The order of the steps is what makes it safe (tests/unit/gate/
 * seeding_model_test.c tries every interleaving of it):
 *
 *  - A worker tells its reservation to the bookkeeper before it looks at which generation counts, adds to that one, and
 *    looks again: still the same, and ready? Then every generation that comes later is made by a bookkeeper that knows
 *    the reservation. Otherwise it was not made, and the worker takes it back.
 *  - A bookkeeper brings its share only after the new generation can be seen, and after it has booked everything that
 *    was told before that. The share is what was spent and, in full, what is reserved; it is written down in the ledger
 *    with the reservations that it includes, so that settling one of them later corrects this generation and no other.
 *  - A generation becomes ready by one change that only one host makes; that host alone makes the counter, once.
 */
#include "gate/books.h"

#include "base/clock.h"
#include "gate/generation.h"
#include "gate/note.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLACK_S = 10, ATTEMPTS = 4, PAY_AGAIN_US = 20 * 1000, MISSING_US = 200 * 1000, AMOUNTS_TEXT = 48 };

/* A counter that is being worked on. */
struct seed {
	struct books *b;
	struct ledger_count count; /* its generation: that of this host's last share; 0 = none */
	const char *prefix;
	int server;
	uint32_t ttl_s;
	struct generation now;
	uint64_t cas; /* of what says `now` */
};

static struct store_item item_of(const struct seed *s, enum store_op op, const char *key)
{
	return (struct store_item){
		.op = op, .pool = STORE_COUNTERS, .key = key, .server = s->server, .ttl_s = s->ttl_s};
}

static void on_share(void *ctx, const struct ledger_count *c)
{
	struct ledger_count *to = ctx;

	to->generation = c->generation;
	to->counted = c->counted;
	to->spent = c->spent;
	to->through = c->through;
}

static void begin(struct seed *s, struct books *b, const struct errand *e)
{
	int64_t left = e->to_s - clock_real_ms() / 1000;
	struct ledger_who who = {e->who[0], e->who[1], e->who[2], e->who[3], e->who[4]};

	*s = (struct seed){.b = b,
		.count = {.counter = e->counter, .usd = e->usd, .who = who, .from_s = e->from_s, .to_s = e->to_s},
		.prefix = b->config->memcached.prefix,
		.server = store_server_of(b->store, STORE_COUNTERS, e->counter)};
	left = (left > 0 ? left : 0) + SLACK_S;
	s->ttl_s = (uint32_t)left;
	ledger_find_count(b->ledger, e->counter, on_share, &s->count);
}

/* Which generation counts, and whether its counter is there. */
static enum store_result look(struct seed *s, bool *counter_there)
{
	char state_key[GENERATION_KEY], counter_key[GENERATION_KEY];
	struct store_item item;

	generation_key(s->prefix, s->count.counter, 'g', 0, state_key);
	item = item_of(s, STORE_GET, state_key);
	store_run(s->b->store, &item, 1);
	s->now = generation_read(&item);
	s->cas = item.cas;
	if (item.result != STORE_OK || !s->now.ready)
		return item.result;
	generation_key(s->prefix, s->count.counter, 'c', s->now.number, counter_key);
	item = item_of(s, STORE_GET, counter_key);
	store_run(s->b->store, &item, 1);
	*counter_there = item.result == STORE_OK;
	return item.result == STORE_MISS ? STORE_OK : item.result;
}

/* A new generation in the place of what was seen. */
static enum store_result replace(struct seed *s, bool there_is_one)
{
	struct generation fresh = {generation_new(), false};
	char key[GENERATION_KEY], state[GENERATION_STATE];
	struct store_item item;

	generation_key(s->prefix, s->count.counter, 'g', 0, key);
	item = item_of(s, there_is_one ? STORE_SET : STORE_ADD, key);
	item.cas = there_is_one ? s->cas : 0;
	item.value = state;
	item.value_len = generation_print(&fresh, state);
	store_run(s->b->store, &item, 1);
	return item.result;
}

enum standing { STANDS, IN_THE_MAKING, NOT_NOW };

/* Sees to it that there is a generation, and whether this host has still to do something for it. */
static enum standing establish(struct seed *s, bool doubtful)
{
	enum store_result result;
	bool there = false, of_ours;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		result = look(s, &there);
		if (result != STORE_OK && result != STORE_MISS)
			return NOT_NOW;
		of_ours = doubtful && s->now.number == s->count.generation;
		if (result == STORE_OK && s->now.number && !of_ours && !s->now.ready)
			return IN_THE_MAKING;
		if (result == STORE_OK && s->now.number && !of_ours && there)
			return STANDS;
		if (result == STORE_MISS && doubtful)
			return STANDS; /* what was in doubt is gone */
		result = replace(s, result == STORE_OK);
		if (result == STORE_DOWN || result == STORE_FAIL)
			return NOT_NOW;
	}
	return NOT_NOW;
}

/* Books everything that was told before now. */
static bool catch_up(struct books *b)
{
	int64_t now_us = clock_mono_us();
	enum booked booked;
	bool passed = false;

	do
		booked = books_round(b, now_us, &passed);
	while (booked == BOOKED_SOME && !passed);
	return booked != BOOKED_FAILED;
}

/* This host's share of the generation, as it will ever be: written down first. */
static bool take_stock(struct seed *s)
{
	struct ledger *l = s->b->ledger;

	if (s->count.generation == s->now.number)
		return true;
	if (!catch_up(s->b))
		return false;
	ledger_begin(l);
	s->count.generation = s->now.number;
	ledger_sum(l, &s->count);
	ledger_save_count(l, &s->count);
	if (!books_kept(s->b, ledger_commit(l))) {
		s->count.generation = 0;
		return false;
	}
	books_drop_owed(s->b, s->count.counter); /* what older generations were owed is in the ledger */
	return true;
}

static bool bring_share(struct seed *s)
{
	char key[GENERATION_KEY], amounts[AMOUNTS_TEXT];
	struct store_item item;

	generation_share_key(s->prefix, s->count.counter, s->now.number, s->b->config->cluster.host, key);
	item = item_of(s, STORE_ADD, key);
	item.value = amounts;
	item.value_len = (size_t)snprintf(
		amounts, sizeof(amounts), "%lld %lld", (long long)s->count.counted, (long long)s->count.spent);
	store_run(s->b->store, &item, 1);
	return item.result == STORE_OK || item.result == STORE_EXISTS;
}

static void post(struct seed *s, const char *host)
{
	struct note n = {.kind = NOTE_WANT, .count = s->count};
	char key[GENERATION_KEY], message[QUEUE_MESSAGE + sizeof(uint32_t)];
	uint32_t len = (uint32_t)note_print(&n, message + sizeof(len));
	struct store_item item = {.op = STORE_APPEND, .pool = STORE_COUNTERS, .key = key, .ttl_s = SLACK_S};

	memcpy(message, &len, sizeof(len));
	item.value = message;
	item.value_len = len + sizeof(len);
	snprintf(key, sizeof(key), "%s:m:%s", s->prefix, host);
	store_run(s->b->store, &item, 1);
	if (item.result == STORE_MISS) {
		item.op = STORE_ADD;
		store_run(s->b->store, &item, 1);
	}
}

/* The sums of all hosts; false: not all have brought theirs, and the others have been told. */
static bool add_up(struct seed *s, int64_t *counted, int64_t *spent)
{
	const char **host;
	char key[GENERATION_KEY], amounts[AMOUNTS_TEXT];
	struct store_item item;
	long long c, p;
	bool all = true;

	*counted = *spent = 0;
	for (host = s->b->config->cluster.hosts; *host; host++) {
		generation_share_key(s->prefix, s->count.counter, s->now.number, *host, key);
		item = item_of(s, STORE_GET, key);
		store_run(s->b->store, &item, 1);
		snprintf(amounts, sizeof(amounts), "%.*s", item.result == STORE_OK ? (int)item.value_len : 0,
			(const char *)item.value);
		if (sscanf(amounts, "%lld %lld", &c, &p) == 2) {
			*counted += c;
			*spent += p;
			continue;
		}
		all = false;
		if (item.result == STORE_MISS && strcmp(*host, s->b->config->cluster.host) != 0)
			post(s, *host);
	}
	return all;
}

static bool make_one(struct seed *s, char letter, int64_t amount)
{
	char key[GENERATION_KEY], digits[24];
	struct store_item item;

	generation_key(s->prefix, s->count.counter, letter, s->now.number, key);
	item = item_of(s, STORE_ADD, key);
	item.value = digits;
	item.value_len = (size_t)snprintf(digits, sizeof(digits), "%lld", (long long)amount);
	store_run(s->b->store, &item, 1);
	return item.result == STORE_OK;
}

/* Once in a generation's life: who changes its state makes its counter, and tries neither again. */
static bool finish(struct seed *s)
{
	struct generation ready = {s->now.number, true};
	char key[GENERATION_KEY], state[GENERATION_STATE];
	struct store_item item;
	int64_t counted, spent;

	if (!add_up(s, &counted, &spent))
		return true; /* the last one of them will */
	generation_key(s->prefix, s->count.counter, 'g', 0, key);
	item = item_of(s, STORE_SET, key);
	item.cas = s->cas;
	item.value = state;
	item.value_len = generation_print(&ready, state);
	store_run(s->b->store, &item, 1);
	if (item.result != STORE_OK)
		return item.result == STORE_EXISTS || item.result == STORE_MISS; /* somebody else, or the next errand */
	return make_one(s, 's', spent) && make_one(s, 'c', counted);
}

bool seeding_run(struct books *b, struct errand *e)
{
	struct seed s;
	enum standing standing;

	if (e->to_s <= clock_real_ms() / 1000)
		return true;
	begin(&s, b, e);
	if (e->doubtful && s.count.generation == 0)
		return true;
	standing = establish(&s, e->doubtful);
	if (standing != IN_THE_MAKING)
		return standing == STANDS;
	return take_stock(&s) && bring_share(&s) && finish(&s);
}

/* ---- what is owed ---- */

static void on_missing(void *ctx, const struct ledger_count *c)
{
	books_doubt(ctx, c, MISSING_US);
}

/* True: it is paid, or nobody will ever want it. */
static bool pay(struct books *b, const struct correction *c)
{
	struct ledger_count count = {.counter = c->counter};
	struct seed s = {.b = b,
		.count = count,
		.prefix = b->config->memcached.prefix,
		.server = store_server_of(b->store, STORE_COUNTERS, c->counter)};
	enum store_result result;
	bool there = false;

	result = look(&s, &there);
	if (result != STORE_OK && result != STORE_MISS)
		return false;
	if (result == STORE_MISS || s.now.number != c->generation)
		return true;
	if (!s.now.ready)
		return false;
	if (!there) { /* lost, or not made yet by who made it ready */
		ledger_find_count(b->ledger, c->counter, on_missing, b);
		return true;
	}
	books_correct(&b->fresh, c->counter, c->generation, c->counted, c->spent);
	return true;
}

void seeding_pay(struct books *b)
{
	struct correction **at = &b->owed, *c;

	if (!b->owed || clock_mono_us() < b->owed_at_us)
		return;
	b->owed_at_us = clock_mono_us() + PAY_AGAIN_US;
	while ((c = *at)) {
		if (!pay(b, c)) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		free(c->counter);
		free(c);
	}
	books_tell(b);
}

/* ---- mail ---- */

static void read_mail(struct books *b, const char *mail, size_t len)
{
	struct note n;
	uint32_t size;

	while (len > sizeof(size)) {
		memcpy(&size, mail, sizeof(size));
		mail += sizeof(size);
		len -= sizeof(size);
		if (size > len || !note_read(&n, mail, size) || n.kind != NOTE_WANT)
			return;
		books_want(b, &n.count);
		mail += size;
		len -= size;
	}
}

void seeding_mail(struct books *b)
{
	char key[GENERATION_KEY];
	struct store_item item = {.op = STORE_GET, .pool = STORE_COUNTERS, .key = key};

	snprintf(key, sizeof(key), "%s:m:%s", b->config->memcached.prefix, b->config->cluster.host);
	store_run(b->store, &item, 1);
	if (item.result != STORE_OK)
		return;
	read_mail(b, item.value, item.value_len);
	item.op = STORE_DELETE; /* what has come since stays, and is read again with it */
	store_run(b->store, &item, 1);
}
