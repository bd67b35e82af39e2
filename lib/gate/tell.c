/*
 * Hits are summed up in memory, so that a thousand of them are one message and none of them waits for it. A worker that
 * waits in accept() can tell nothing, and when it gets the next request nobody knows: a thread of its own tells what is
 * due then. Nothing but this file is touched by it, under the lock.
 */
#include "gate/tell.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "gate/budget.h"
#include "gate/limit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	EVERY_US = 1000 * 1000, /* sums are told */
	AGAIN_US = 200 * 1000,  /* a queue that was full is tried */
	ASK_AGAIN_US = 2000 * 1000,
	SUMS = 32, /* at the same time */
	GUESSES = 512,
	WAYS = 8,
	LAST_WAIT_US = 2000 * 1000
};

/* A message that found no room. */
struct letter {
	struct letter *next;
	size_t len;
	char bytes[];
};

/* What somebody has spent and saved within an hour and the last second. */
struct sum {
	int64_t at_s;
	char *names[5];
	struct ledger_amounts amounts;
};

struct teller {
	const struct queue *queue;
	struct stats_slot *slot;
	uint64_t life, number;
	struct letter *letters, **last; /* in order */
	struct sum sums[SUMS];
	size_t sum_count;
	int64_t due_us; /* when the sums are to be told */
	pthread_mutex_t lock;
	int wake;         /* an eventfd; -1 = there is no thread yet */
	int64_t wakes_us; /* when the thread looks by itself */
	struct guess {
		uint64_t counter, generation;
		int64_t asked_us; /* when a request that could do without it has last asked for it */
	} guesses[GUESSES];
	unsigned evicted;
};

struct teller *teller_new(const struct queue *queue, struct stats_slot *slot)
{
	struct teller *r = calloc(1, sizeof(*r));

	if (!r)
		die("out of memory");
	r->queue = queue;
	r->slot = slot;
	r->last = &r->letters;
	pthread_mutex_init(&r->lock, NULL);
	r->wake = -1;
	r->wakes_us = INT64_MAX;
	do
		hash_random(&r->life, sizeof(r->life));
	while (r->life == 0);
	return r;
}

/* ---- messages ---- */

/* What is told must be told in order: nothing overtakes what waits. */
static bool deliver_waiting(struct teller *r, int64_t timeout_us)
{
	struct letter *l;

	while ((l = r->letters)) {
		if (!queue_put(r->queue, l->bytes, l->len, timeout_us))
			return false;
		r->letters = l->next;
		if (!l->next)
			r->last = &r->letters;
		free(l);
	}
	return true;
}

static void keep(struct teller *r, const char *message, size_t len)
{
	struct letter *l = malloc(sizeof(*l) + len);

	if (!l)
		die("out of memory");
	l->next = NULL;
	l->len = len;
	memcpy(l->bytes, message, len);
	*r->last = l;
	r->last = &l->next;
}

/* False: it did not find room in time. With patience 0 it is then kept. */
static bool send_note(struct teller *r, struct note *n, int64_t timeout_us, bool or_keep)
{
	char message[QUEUE_MESSAGE];
	size_t len;

	atomic_store(&r->slot->life, r->life); /* before the first of its messages: whoever buries us will ask */
	n->id = (struct ledger_id){r->life, ++r->number};
	n->sent_us = clock_mono_us();
	len = note_print(n, message);
	BUG_ON(len == 0);
	if (deliver_waiting(r, timeout_us) && queue_put(r->queue, message, len, timeout_us))
		return true;
	if (or_keep)
		keep(r, message, len);
	return or_keep;
}

static bool send_locked(struct teller *r, struct note *n, int64_t timeout_us, bool or_keep)
{
	bool sent;

	pthread_mutex_lock(&r->lock);
	sent = send_note(r, n, timeout_us, or_keep);
	pthread_mutex_unlock(&r->lock);
	return sent;
}

/* ---- who ---- */

static const char *short_name(struct txn *t, const char *name)
{
	uint8_t hash[SHA256_BYTES];
	char hex[SHA256_HEX + 1];

	if (!name)
		return "";
	if (strlen(name) < NOTE_NAME)
		return name;
	hash_sha256(name, strlen(name), hash);
	hash_hex(hash, sizeof(hash), hex);
	return arena_printf(t->arena, "sha256:%s", hex);
}

static bool any_per_ip(const struct txn *t)
{
	size_t i;

	for (i = 0; i < t->limit_count; i++)
		if (budget_lasts(t->limits[i].limit) && (t->limits[i].limit->per & PER_IP))
			return true;
	return false;
}

/* Addresses are remembered only where a budget is per address. */
static struct ledger_who who_of(struct txn *t)
{
	return (struct ledger_who){.key = short_name(t, t->key->name),
		.team = short_name(t, t->key->team),
		.user = short_name(t, t->chat.user),
		.ip = any_per_ip(t) ? short_name(t, t->client.counted) : "",
		.model = t->model ? short_name(t, t->model->name) : ""};
}

/* ---- reservations ---- */

bool tell_hold(struct txn *t, int64_t at_s, int64_t tokens, int64_t pusd)
{
	struct teller *r = t->worker->teller;
	struct note n = {
		.kind = NOTE_HOLD, .at_s = at_s, .who = who_of(t), .amounts = {.tokens = tokens, .cost_pusd = pusd}};

	bool sent;

	pthread_mutex_lock(&r->lock);
	n.hold = r->number + 1; /* which is what the message will be */
	sent = send_note(r, &n, t->config->memcached.timeout, false);
	pthread_mutex_unlock(&r->lock);
	if (sent)
		t->held = n.hold;
	return sent;
}

void tell_settle(
	struct txn *t, int64_t at_s, const struct ledger_amounts *a, const struct note_counted *counted, size_t count)
{
	struct note n = {.kind = NOTE_SETTLE, .hold = t->held, .at_s = at_s, .amounts = *a, .counted_count = count};

	memcpy(n.counted, counted, count * sizeof(*counted));
	send_locked(t->worker->teller, &n, 0, true);
	t->held = 0;
}

bool tell_want(struct txn *t, const struct limit_use *use, int64_t timeout_us)
{
	const struct limit *l = use->limit;
	struct ledger_who who = who_of(t);
	struct note n = {.kind = NOTE_WANT, .count = {.counter = use->key, .usd = l->count == COUNT_USD}};
	int64_t from_ms, to_ms;
	bool alone = (l->per & PER_TEAM) && !t->key->team; /* limit.c: a key without a team is a team of its own */
	bool per_key = (l->per & PER_KEY) || alone || limit_is_own(t, l);

	limit_window(l, use->end_ms - 1, &from_ms, &to_ms);
	n.count.from_s = from_ms / 1000;
	n.count.to_s = to_ms / 1000;
	n.count.who = (struct ledger_who){.key = per_key ? who.key : NULL,
		.team = l->per & PER_TEAM ? who.team : NULL,
		.user = l->per & PER_USER ? who.user : NULL,
		.ip = l->per & PER_IP ? who.ip : NULL,
		.model = l->per & PER_MODEL ? who.model : NULL};
	return send_locked(t->worker->teller, &n, timeout_us, false);
}

/* ---- sums ---- */

static void tell_sums(struct teller *r)
{
	size_t i, k;

	for (i = 0; i < r->sum_count; i++) {
		struct sum *s = &r->sums[i];
		struct note n = {.kind = NOTE_SPENT,
			.at_s = s->at_s,
			.who = {s->names[0], s->names[1], s->names[2], s->names[3], s->names[4]},
			.amounts = s->amounts};

		send_note(r, &n, 0, true);
		for (k = 0; k < 5; k++)
			free(s->names[k]);
	}
	r->sum_count = 0;
}

static struct sum *sum_of(struct teller *r, int64_t at_s, const struct ledger_who *who)
{
	const char *names[] = {who->key, who->team, who->user, who->ip, who->model};
	struct sum *s;
	size_t i, k;

	for (i = 0; i < r->sum_count; i++) {
		s = &r->sums[i];
		for (k = 0; k < 5 && strcmp(s->names[k], names[k]) == 0; k++)
			;
		if (k == 5 && s->at_s / LEDGER_HOUR_S == at_s / LEDGER_HOUR_S)
			return s;
	}
	if (r->sum_count == SUMS)
		tell_sums(r);
	if (r->sum_count == 0)
		r->due_us = clock_mono_us() + EVERY_US;
	s = &r->sums[r->sum_count++];
	*s = (struct sum){.at_s = at_s};
	for (k = 0; k < 5; k++)
		if (!(s->names[k] = strdup(names[k])))
			die("out of memory");
	return s;
}

static int64_t known(int64_t n)
{
	return n > 0 ? n : 0;
}

static void add_spent(const struct txn *t, struct ledger_amounts *a)
{
	int64_t input = t->bought_tokens ? t->bought_tokens : t->facts.input_tokens;

	a->calls++;
	a->input_tokens += known(input);
	a->cached_tokens += known(t->facts.cached_tokens);
	a->output_tokens += known(t->facts.output_tokens);
	a->tokens += known(input) + known(t->facts.output_tokens);
	a->cost_pusd += known(t->cost_pusd);
	a->estimated += t->cost_estimated;
}

void tell_spent(struct txn *t)
{
	struct teller *r = t->worker->teller;
	struct ledger_who who;
	struct sum *s;

	if (!r || !t->key || !t->model)
		return;
	who = who_of(t);
	pthread_mutex_lock(&r->lock);
	s = sum_of(r, clock_real_ms() / 1000, &who);
	s->amounts.requests += !t->behind;
	s->amounts.saved_pusd += known(t->saved_pusd);
	if (t->called && !t->booked) {
		add_spent(t, &s->amounts);
		r->due_us = 0; /* money that is spent is told at once */
	}
	pthread_mutex_unlock(&r->lock);
}

/* ---- generations ---- */

/* Of more than WAYS counters in one place some are not known. */
static struct guess *guess_of(struct teller *r, const char *counter)
{
	uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, whose upper bits are the better ones */
	struct guess *set, *g;
	const char *c;

	for (c = counter; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
	set = &r->guesses[(hash >> 40) % (GUESSES / WAYS) * WAYS];
	for (g = set; g < set + WAYS && g->counter != hash; g++)
		;
	if (g < set + WAYS)
		return g;
	g = &set[r->evicted++ % WAYS];
	*g = (struct guess){.counter = hash};
	return g;
}

uint64_t teller_guess(struct teller *r, const char *counter, uint64_t seen)
{
	struct guess *g = guess_of(r, counter);

	if (seen)
		g->generation = seen;
	return g->generation;
}

void teller_forget(struct teller *r, const char *counter)
{
	guess_of(r, counter)->generation = 0;
}

bool teller_may_ask(struct teller *r, const char *counter)
{
	struct guess *g = guess_of(r, counter);
	int64_t now_us = clock_mono_us();

	if (g->asked_us && now_us - g->asked_us < ASK_AGAIN_US)
		return false;
	g->asked_us = now_us;
	return true;
}

/* ---- between two requests ---- */

static void tell_what_is_due(struct teller *r)
{
	if (!deliver_waiting(r, 0))
		return; /* sums that cannot be told go on growing, in place of letters */
	if (r->sum_count && clock_mono_us() >= r->due_us)
		tell_sums(r);
}

/* When there is something to do for whoever is awake then. */
static int64_t next_us(const struct teller *r)
{
	if (r->letters)
		return clock_mono_us() + AGAIN_US;
	return r->sum_count ? r->due_us : INT64_MAX;
}

static void *keep_telling(void *teller)
{
	struct teller *r = teller;
	struct pollfd wake = {r->wake, POLLIN, 0};
	int64_t left_us;
	uint64_t count;
	int ms;

	for (;;) {
		pthread_mutex_lock(&r->lock);
		tell_what_is_due(r);
		r->wakes_us = next_us(r);
		left_us = r->wakes_us - clock_mono_us();
		ms = r->wakes_us == INT64_MAX ? -1 : (int)(left_us / 1000) + 1;
		pthread_mutex_unlock(&r->lock);
		if (poll(&wake, 1, ms) > 0 && read(r->wake, &count, sizeof(count)) < 0)
			continue;
	}
	return NULL;
}

/* Signals are for the thread that accepts: they end its accept(). */
static void begin_to_keep(struct teller *r)
{
	sigset_t all, before;
	pthread_t thread;

	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (r->wake < 0 || pthread_create(&thread, NULL, keep_telling, r) != 0)
		die("a thread: %s", strerror(errno));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_detach(thread);
}

void teller_idle(struct teller *r)
{
	const uint64_t one = 1;
	bool wake;

	pthread_mutex_lock(&r->lock);
	tell_what_is_due(r);
	wake = next_us(r) < r->wakes_us;
	pthread_mutex_unlock(&r->lock);
	if (!wake)
		return;
	if (r->wake < 0)
		begin_to_keep(r);
	else if (write(r->wake, &one, sizeof(one)) < 0)
		return; /* it is awake */
}

void teller_end(struct teller *r)
{
	pthread_mutex_lock(&r->lock);
	tell_sums(r);
	deliver_waiting(r, LAST_WAIT_US);
	pthread_mutex_unlock(&r->lock);
}
