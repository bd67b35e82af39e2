/* A batch of messages is one transaction: a busy ledger is a longer queue, and never a slower answer. */
#include "gate/bookkeeper.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "edge/super.h"
#include "gate/books.h"
#include "gate/note.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	BATCH = 256,
	MAIL_US = 100 * 1000,
	TROUBLE_MS = 1000,
	DOUBT_US = 1000 * 1000, /* what memcached may still make of a command that it did not answer */
	DAY_S = 86400
};

/* ---- trouble ---- */

bool books_kept(struct books *b, bool good)
{
	if (!good && !b->in_trouble)
		log_event(LOG_WARN, "ledger_down",
			"the ledger %s cannot be written: %s; what is spent waits in memory, and limits do as their "
			"on_store_down says when that is full",
			b->config->ledger.path, ledger_why(b->ledger));
	if (good && b->in_trouble)
		log_event(LOG_INFO, "ledger_up", "the ledger %s can be written again", b->config->ledger.path);
	b->in_trouble = !good;
	return good;
}

/* ---- one batch ---- */

/* A hold that is over, copied out of the ledger. */
struct over {
	struct over *next;
	struct ledger_hold hold;
	char *who[5];
};

/* One message's settling: what it took, and where its worker has counted it. */
struct settling {
	struct books *b;
	const struct ledger_hold *hold; /* NULL: nobody had reserved it */
	const struct ledger_amounts *real;
	const struct note *note;
};

static void add_settled(struct books *b, int64_t order)
{
	if (b->settled_count == b->settled_room) {
		b->settled_room = b->settled_room ? b->settled_room * 2 : BATCH;
		b->settled = realloc(b->settled, b->settled_room * sizeof(*b->settled));
		if (!b->settled)
			die("out of memory");
	}
	b->settled[b->settled_count++] = order;
}

/*
 * Of a counter that counts this: what this generation has of it (this host's share, and what its worker has added
 * itself) becomes what it took.
 */
static void correct(void *ctx, const struct ledger_count *c)
{
	const struct settling *s = ctx;
	int64_t real = c->usd ? s->real->cost_pusd : s->real->tokens, has = 0, spent = 0;
	size_t i;

	if (s->hold && s->hold->order <= c->through)
		has += c->usd ? s->hold->pusd : s->hold->tokens;
	for (i = 0; s->note && i < s->note->counted_count; i++) {
		if (strcmp(s->note->counted[i].counter, c->counter) != 0 ||
			s->note->counted[i].generation != c->generation)
			continue;
		if (s->note->counted[i].doubtful)
			books_doubt(s->b, c, DOUBT_US);
		else
			has += s->note->counted[i].amount;
		spent += s->note->counted[i].spent;
	}
	books_correct(&s->b->fresh, c->counter, c->generation, real - has, real - spent);
}

/* Whether its worker had added it to the counter nobody can tell. */
static void doubt(void *ctx, const struct ledger_count *c)
{
	const struct settling *s = ctx;

	books_doubt(s->b, c, 0);
}

static void settle(
	struct books *b, const struct ledger_hold *h, const struct ledger_amounts *real, const struct note *note)
{
	struct settling s = {b, h, real, note};

	ledger_spend(b->ledger, h->at_s, &h->who, real);
	ledger_settle(b->ledger, h->order);
	add_settled(b, h->order);
	ledger_counts_of(b->ledger, &h->who, h->at_s, note ? correct : doubt, &s);
}

static void on_over(void *ctx, const struct ledger_hold *h)
{
	struct over **list = ctx, *o = calloc(1, sizeof(*o));
	const char *who[] = {h->who.key, h->who.team, h->who.user, h->who.ip, h->who.model};
	int i;

	if (!o)
		die("out of memory");
	for (i = 0; i < 5; i++)
		o->who[i] = strdup(who[i] ? who[i] : "");
	o->hold = *h;
	o->hold.who = (struct ledger_who){o->who[0], o->who[1], o->who[2], o->who[3], o->who[4]};
	o->next = *list;
	*list = o;
}

/* Nobody will ever say what they took: all that was reserved. note NULL: its worker is gone. */
static void settle_all(struct books *b, struct over *list, bool (*which)(void *ctx, const struct ledger_hold *h),
	void *ctx, const struct note *note)
{
	struct ledger_amounts bound;
	struct over *o;
	int i;

	while ((o = list)) {
		list = o->next;
		bound = (struct ledger_amounts){
			.calls = 1, .tokens = o->hold.tokens, .cost_pusd = o->hold.pusd, .estimated = 1};
		if (which(ctx, &o->hold))
			settle(b, &o->hold, note ? &note->amounts : &bound, note);
		for (i = 0; i < 5; i++)
			free(o->who[i]);
		free(o);
	}
}

static bool whichever(void *ctx, const struct ledger_hold *h)
{
	(void)ctx;
	(void)h;
	return true;
}

static bool of_life(void *ctx, const struct ledger_hold *h)
{
	return !h->settled && h->id.life == *(const uint64_t *)ctx;
}

static void book(struct books *b, const struct note *n)
{
	struct ledger_id id = {n->id.life, n->hold};
	struct settling s = {b, NULL, &n->amounts, n};
	struct over *over = NULL;
	uint64_t life = n->hold;

	switch (n->kind) {
	case NOTE_HOLD:
		ledger_hold(b->ledger, &(struct ledger_hold){.id = id,
					       .at_s = n->at_s,
					       .who = n->who,
					       .tokens = n->amounts.tokens,
					       .pusd = n->amounts.cost_pusd});
		break;
	case NOTE_SETTLE:
		ledger_find(b->ledger, &id, on_over, &over);
		settle_all(b, over, whichever, NULL, n);
		break;
	case NOTE_SPENT:
		ledger_spend(b->ledger, n->at_s, &n->who, &n->amounts);
		if (n->amounts.calls)
			ledger_counts_of(b->ledger, &n->who, n->at_s, correct, &s);
		break;
	case NOTE_DEAD:
		ledger_holds(b->ledger, on_over, &over);
		settle_all(b, over, of_life, &life, NULL);
		break;
	case NOTE_WANT: books_want(b, &n->count); break;
	}
}

/* Whether memcached has been told of all that was settled. Until then, should we be killed, it says what is in doubt.
 */
static bool told(const struct books *b)
{
	const struct errand *e;

	for (e = b->errands; e && !e->doubtful; e = e->next)
		;
	return !e && !b->owed;
}

static void drop_all(struct correction **list)
{
	struct correction *c;

	while ((c = *list)) {
		*list = c->next;
		free(c->counter);
		free(c);
	}
}

/* Books as many as there are, up to BATCH, in a transaction that is not yet over; how many. */
static size_t book_batch(struct books *b, int64_t until_us, bool *passed)
{
	char message[QUEUE_MESSAGE];
	struct ledger_id last = {0, 0};
	struct note n;
	size_t len, count;

	for (count = 0; count < BATCH && (len = queue_peek(b->queue, message, sizeof(message))); count++) {
		BUG_ON(!note_read(&n, message, len));
		book(b, &n);
		last = n.id;
		*passed = *passed || n.sent_us > until_us;
	}
	if (count)
		ledger_set_booked(b->ledger, &last);
	return count;
}

enum booked books_round(struct books *b, int64_t until_us, bool *passed)
{
	size_t before = b->settled_count, forget = told(b) ? before : 0, count, i;
	char byte;

	if (!forget && !queue_peek(b->queue, &byte, 1))
		return BOOKED_NOTHING;
	queue_rewind(b->queue);
	ledger_begin(b->ledger);
	for (i = 0; i < forget; i++)
		ledger_forget(b->ledger, b->settled[i]);
	count = book_batch(b, until_us, passed);
	if (!books_kept(b, ledger_commit(b->ledger))) {
		queue_rewind(b->queue);
		b->settled_count = before;
		drop_all(&b->fresh);
		return BOOKED_FAILED;
	}
	b->settled_count -= forget;
	if (forget)
		memmove(b->settled, b->settled + forget, b->settled_count * sizeof(*b->settled));
	queue_take(b->queue, count);
	books_tell(b);
	return count ? BOOKED_SOME : BOOKED_NOTHING;
}

/* ---- coming and going ---- */

/* Who was here before was killed behind a transaction, and before it had taken all of it out. */
static void skip_booked(struct books *b)
{
	struct ledger_id booked = ledger_booked(b->ledger);
	char message[QUEUE_MESSAGE];
	struct note n;
	size_t len, count, known = 0;

	queue_rewind(b->queue);
	for (count = 1; count <= BATCH && (len = queue_peek(b->queue, message, sizeof(message))); count++)
		if (note_read(&n, message, len) && n.id.life == booked.life && n.id.number == booked.number)
			known = count;
	queue_rewind(b->queue);
	queue_take(b->queue, known);
}

struct roll {
	uint64_t lives[STATS_SLOTS];
	size_t count;
	int64_t last; /* reservations behind this one are of somebody who came later */
};

static bool of_nobody(void *ctx, const struct ledger_hold *h)
{
	const struct roll *r = ctx;
	size_t i;

	for (i = 0; i < r->count && r->lives[i] != h->id.life; i++)
		;
	return !h->settled && h->order <= r->last && i == r->count;
}

static void doubt_settled(struct books *b, struct over *list)
{
	struct settling s = {.b = b};
	struct over *o;

	for (o = list; o; o = o->next)
		if (o->hold.settled) {
			ledger_counts_of(b->ledger, &o->hold.who, o->hold.at_s, doubt, &s);
			add_settled(b, o->hold.order);
		}
}

/*
 * What was left by who was here before: reservations of workers that are gone are settled in full (behind what they
 * may have told themselves), and where it was killed between booking and telling memcached, the counters are in doubt.
 */
static bool take_over(struct books *b)
{
	struct roll *roll = calloc(1, sizeof(*roll));
	struct over *over = NULL;
	uint64_t life;
	int64_t now_us = clock_mono_us();
	bool passed = false, good;
	int i, used = atomic_load(&b->stats->slots_used);

	if (!roll)
		die("out of memory");
	skip_booked(b);
	for (i = 0; i < used; i++)
		if ((life = atomic_load(&b->stats->slots[i].life)))
			roll->lives[roll->count++] = life;
	roll->last = ledger_last(b->ledger);
	ledger_holds(b->ledger, on_over, &over);
	doubt_settled(b, over);
	settle_all(b, over, of_nobody, &(struct roll){.last = -1}, NULL); /* frees them */
	while (!passed && books_round(b, now_us, &passed) == BOOKED_SOME)
		;
	over = NULL;
	ledger_holds(b->ledger, on_over, &over);
	ledger_begin(b->ledger);
	settle_all(b, over, of_nobody, roll, NULL);
	good = books_kept(b, ledger_commit(b->ledger));
	free(roll);
	return good;
}

static int stop_fd = -1;

static void stop(void)
{
	uint64_t one = 1;
	ssize_t n = write(stop_fd, &one, sizeof(one));

	(void)n;
}

/* ---- the loop ---- */

static void run_errands(struct books *b)
{
	struct errand **at = &b->errands, *e;
	int64_t now_us = clock_mono_us();
	bool done;
	int i;

	while ((e = *at)) {
		if (e->due_us > now_us) {
			at = &e->next;
			continue;
		}
		*at = e->next;
		done = seeding_run(b, e);
		if (!done && e->doubtful) {
			e->due_us = clock_mono_us() + DOUBT_US;
			e->next = *at;
			*at = e;
			at = &e->next;
			continue;
		}
		for (i = 0; i < 5; i++)
			free(e->who[i]);
		free(e->counter);
		free(e);
	}
}

static int wait_ms(const struct books *b)
{
	int64_t now_us = clock_mono_us(), at_us = INT64_MAX;
	const struct errand *e;

	for (e = b->errands; e; e = e->next)
		if (e->due_us < at_us)
			at_us = e->due_us;
	if (b->owed && b->owed_at_us < at_us)
		at_us = b->owed_at_us;
	if (b->config->cluster.hosts[1] && b->mail_at_us < at_us)
		at_us = b->mail_at_us;
	if (at_us == INT64_MAX)
		return -1;
	return at_us > now_us ? (int)((at_us - now_us + 999) / 1000) : 0;
}

/* Until told to stop; then until the queue is empty. */
static void keep(struct books *b)
{
	struct pollfd fds[2] = {{stop_fd, POLLIN, 0}, {queue_reader_fd(b->queue), POLLIN, 0}};
	enum booked booked;
	bool passed = false;
	int64_t now_s;

	for (;;) {
		store_begin(b->store);
		booked = books_round(b, INT64_MAX, &passed);
		run_errands(b);
		seeding_pay(b);
		if (b->config->cluster.hosts[1] && clock_mono_us() >= b->mail_at_us) {
			seeding_mail(b);
			b->mail_at_us = clock_mono_us() + MAIL_US;
		}
		now_s = clock_real_ms() / 1000;
		if (booked == BOOKED_SOME && now_s - b->pruned_s > DAY_S) {
			ledger_prune(b->ledger, now_s - DAY_S);
			b->pruned_s = now_s;
		}
		store_end(b->store);
		if (booked == BOOKED_SOME)
			continue;
		if (fds[0].revents)
			return;
		if (booked == BOOKED_FAILED)
			poll(fds, 1, TROUBLE_MS);
		else
			poll(fds, 2, wait_ms(b));
	}
}

/* True when told to stop. */
static bool pause_for_trouble(void)
{
	struct pollfd fd = {stop_fd, POLLIN, 0};

	return poll(&fd, 1, TROUBLE_MS) > 0;
}

/* Messages wait until it can; false: told to stop. */
static bool open_ledger(struct books *b)
{
	const char *path = b->config->ledger.path;
	char why[LEDGER_WHY];

	if (ledger_on_network(path))
		log_event(LOG_WARN, "ledger_network",
			"the ledger %s lies on a network file system, where what is written can be lost or spoiled: "
			"give ledger.path a disk of this host",
			path);
	while (!(b->ledger = ledger_open(path, why))) {
		if (!b->in_trouble)
			log_event(LOG_ERROR, "ledger_down",
				"the ledger %s cannot be opened: %s; what is spent waits in memory, and limits do as "
				"their on_store_down says when that is full",
				path, why);
		b->in_trouble = true;
		if (pause_for_trouble())
			return false;
	}
	return true;
}

int bookkeeper_run(const struct config *c, struct stats *stats, struct store *store, const struct queue *queue)
{
	struct books b = {.config = c, .stats = stats, .store = store, .queue = queue};
	bool stopped;

	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (stop_fd < 0)
		return 1;
	super_worker_signals(stop);
	stopped = !open_ledger(&b);
	store_begin(store);
	while (!stopped && !take_over(&b))
		stopped = pause_for_trouble();
	if (!stopped)
		keep(&b);
	ledger_close(b.ledger);
	return 0;
}

bool bookkeeper_bury(const struct queue *queue, struct stats_slot *slot)
{
	struct note n = {.kind = NOTE_DEAD, .hold = atomic_load(&slot->life), .sent_us = clock_mono_us()};
	char message[QUEUE_MESSAGE];
	size_t len;

	if (!n.hold)
		return true;
	hash_random(&n.id, sizeof(n.id));
	len = note_print(&n, message);
	if (!queue_put(queue, message, len, 0))
		return false;
	atomic_store(&slot->life, 0);
	return true;
}
