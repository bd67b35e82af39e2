/* Lists of what is to be done, and telling memcached. */
#include "gate/books.h"

#include "base/clock.h"
#include "base/err.h"
#include "gate/generation.h"

#include <stdlib.h>
#include <string.h>

enum { TELL_AT_ONCE = 256, AGAIN_US = 20 * 1000, DOUBT_US = 1000 * 1000 };

static char *copy(const char *text)
{
	char *c = text ? strdup(text) : NULL;

	if (text && !c)
		die("out of memory");
	return c;
}

static void add_errand(struct books *b, const struct ledger_count *c, bool doubtful, int64_t due_us)
{
	struct errand **end = &b->errands, *e;
	const char *who[] = {c->who.key, c->who.team, c->who.user, c->who.ip, c->who.model};
	int i;

	for (; *end; end = &(*end)->next)
		if ((*end)->doubtful == doubtful && strcmp((*end)->counter, c->counter) == 0)
			return;
	e = calloc(1, sizeof(*e));
	if (!e)
		die("out of memory");
	*e = (struct errand){.counter = copy(c->counter),
		.usd = c->usd,
		.from_s = c->from_s,
		.to_s = c->to_s,
		.doubtful = doubtful,
		.due_us = due_us};
	for (i = 0; i < 5; i++)
		e->who[i] = copy(who[i]);
	*end = e;
}

void books_want(struct books *b, const struct ledger_count *c)
{
	add_errand(b, c, false, 0);
}

void books_doubt(struct books *b, const struct ledger_count *c, int64_t delay_us)
{
	add_errand(b, c, true, clock_mono_us() + delay_us);
}

void books_correct(struct correction **list, const char *counter, uint64_t generation, int64_t counted, int64_t spent)
{
	struct correction *c;

	if (!counted && !spent) /* its worker has done it */
		return;
	for (c = *list; c; c = c->next)
		if (c->generation == generation && strcmp(c->counter, counter) == 0)
			break;
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			die("out of memory");
		*c = (struct correction){.next = *list, .counter = copy(counter), .generation = generation};
		*list = c;
	}
	c->counted += counted;
	c->spent += spent;
}

static void release(struct correction *c)
{
	free(c->counter);
	free(c);
}

void books_drop_owed(struct books *b, const char *counter)
{
	struct correction **at = &b->owed, *c;

	while ((c = *at)) {
		if (strcmp(c->counter, counter) != 0) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		release(c);
	}
}

static struct store_item item_of(const struct books *b, const char *key, int server, int64_t amount)
{
	(void)b;
	return (struct store_item){.op = amount < 0 ? STORE_DECR : STORE_COUNT,
		.pool = STORE_COUNTERS,
		.key = key,
		.server = server,
		.delta = (uint64_t)(amount < 0 ? -amount : amount)};
}

static void on_doubt(void *ctx, const struct ledger_count *c)
{
	books_doubt(ctx, c, DOUBT_US);
}

/* The counter is told first of what is spent, and then of what is no longer reserved: never of too little. */
static void tell_some(struct books *b, struct correction **list, size_t count)
{
	struct store_item items[2 * TELL_AT_ONCE];
	char keys[2 * TELL_AT_ONCE][GENERATION_KEY];
	const char *prefix = b->config->memcached.prefix;
	size_t i;
	int server;

	for (i = 0; i < count; i++) {
		server = store_server_of(b->store, STORE_COUNTERS, list[i]->counter);
		generation_key(prefix, list[i]->counter, 's', list[i]->generation, keys[2 * i]);
		generation_key(prefix, list[i]->counter, 'c', list[i]->generation, keys[2 * i + 1]);
		items[2 * i] = item_of(b, keys[2 * i], server, list[i]->spent);
		items[2 * i + 1] = item_of(b, keys[2 * i + 1], server, list[i]->counted);
	}
	store_run(b->store, items, 2 * count);
	for (i = 0; i < count; i++) {
		if (items[2 * i + 1].result == STORE_MISS)
			books_correct(
				&b->owed, list[i]->counter, list[i]->generation, list[i]->counted, list[i]->spent);
		else if (items[2 * i + 1].result != STORE_OK || items[2 * i].result != STORE_OK)
			ledger_find_count(b->ledger, list[i]->counter, on_doubt, b);
	}
}

void books_tell(struct books *b)
{
	struct correction *list[TELL_AT_ONCE], *c;
	size_t count;

	while (b->fresh) {
		for (count = 0; count < TELL_AT_ONCE && (c = b->fresh); count++) {
			b->fresh = c->next;
			list[count] = c;
		}
		tell_some(b, list, count);
		while (count > 0)
			release(list[--count]);
	}
	if (b->owed && b->owed_at_us < clock_mono_us())
		b->owed_at_us = clock_mono_us() + AGAIN_US;
}
