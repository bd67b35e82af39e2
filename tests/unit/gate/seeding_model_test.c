/*
 * The protocol of gate/seeding as a model, every interleaving of it: two hosts with two workers each, a memcached that
 * may forget any key or all of them at any moment, workers and bookkeepers that may die at any moment. What is proved:
 *
 *  - what was spent, and what calls that are under way may spend at most, never passes the limit;
 *  - a counter that counts never says less than that;
 *  - when all is quiet, a counter that counts says exactly what the ledgers say, and they say no less than the truth.
 *
 * Each order that the protocol depends on can be broken (enum mutant), and then one of the three fails: so the model
 * sees what it is there to see. Generations that no longer count are not kept apart: nobody ever reads them again.
 */
#include "../unit.h"

enum { HOSTS = 2, WORKERS = 2, RESERVED = 2, REAL = 1, LIMIT = 3, QUEUE = 7, GENERATIONS = 5, MISSING = -1 };

enum mutant {
	AS_IT_IS,
	NO_SECOND_LOOK,      /* a worker does not look which generation counts behind its counting */
	TOLD_TOO_LATE,       /* it tells its reservation only then */
	NO_CATCHING_UP,      /* a share is taken without booking what was told before */
	NO_HOLDS_IN_SHARE,   /* a share is what is spent, without what is reserved */
	NOT_ALL_SHARES,      /* a counter is made before all hosts have brought theirs */
	NO_WINNER,           /* whoever sees all shares makes the counter, ready or not */
	REFUND_TO_ANYBODY,   /* a refund goes to a generation that did not know the reservation */
	GIVEN_BACK_TWICE,    /* a worker gives back what is left, and tells that it counts in full */
	REFUND_TWICE,        /* a share's reservation is given back by the share and by its worker's counting */
	TAKEN_BEFORE_BOOKED, /* a message is taken out before it is booked */
	TOLD_AGAIN,          /* a bookkeeper that comes back tells memcached again what may have been told */
	DROPPED_IF_MISSING,  /* what is told of a ready generation's counter that is missing is forgotten */
	DEAD_SPEND_NOTHING,  /* who died has spent nothing */
	MUTANTS
};

enum kind { HOLD, SETTLE, DEAD };

struct message {
	uint8_t kind : 2, worker : 1, generation : 3, real : 2;
};

enum worker_phase {
	READY,   /* nothing done yet; has seen a generation if `generation` */
	TOLD,    /* HOLD is in the queue */
	COUNTED, /* added to its generation */
	CALLING,
	REFUSED,  /* has added, and takes it back */
	SETTLING, /* the call is over, and what it did not take is given back */
	RETIRING, /* has to tell that it took nothing */
	DONE,
	GONE
};

struct worker {
	uint8_t phase : 4, generation : 3, over : 1;
};

enum seeding { NOT_SEEDING, CATCHING_UP, TAKING_STOCK, BRINGING, FINISHING, MAKING };

struct host {
	struct message queue[QUEUE];
	struct worker workers[WORKERS];
	uint8_t queued, booked; /* booked: the first message is, and was not taken out */
	/* the ledger */
	int8_t spent;
	uint8_t held, row, through; /* held, through: a bit for each worker; row: the generation of the last share */
	int8_t share;
	uint8_t untold; /* something settled of which memcached may not know */
	/* what the bookkeeper remembers */
	int8_t pending; /* correction to `row` */
	uint8_t doubtful, seeding, seeds, to_book;
	int8_t sum;
};

struct state {
	uint8_t generation, ready; /* pv:g:… */
	int8_t counter, shares[HOSTS];
	int8_t truth;                          /* really spent by calls that are over */
	uint8_t made, losses, deaths, crashes; /* generations made; failures that may still happen */
	struct host hosts[HOSTS];
};

struct model {
	enum mutant mutant;
	struct state *states; /* in the order in which they were found */
	size_t count, room;
	uint32_t *table; /* hash → 1 + index */
	size_t mask;
	const char *broken;
};

/* ---- states that were seen ---- */

static uint64_t hash_of(const struct state *s)
{
	uint64_t words[(sizeof(*s) + 7) / 8] = {0}, hash = 0;
	size_t i;

	memcpy(words, s, sizeof(*s));
	for (i = 0; i < COUNT(words); i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 32;
	}
	return hash;
}

static void grow(struct model *m)
{
	size_t i, at;

	m->mask = m->mask ? m->mask * 2 + 1 : (1 << 16) - 1;
	free(m->table);
	m->table = calloc(m->mask + 1, sizeof(*m->table));
	assert_non_null(m->table);
	for (i = 0; i < m->count; i++) {
		for (at = hash_of(&m->states[i]) & m->mask; m->table[at]; at = (at + 1) & m->mask)
			;
		m->table[at] = (uint32_t)i + 1;
	}
}

/* Nothing of a generation that no longer counts, nor of what is over, tells two states apart. */
static void forget(struct state *s)
{
	int h, w;

	if (!s->generation)
		s->ready = 0;
	if (!s->generation || !s->ready)
		s->counter = MISSING;
	if (!s->generation || s->ready)
		s->shares[0] = s->shares[1] = MISSING;
	for (h = 0; h < HOSTS; h++) {
		if (s->hosts[h].seeding == NOT_SEEDING)
			s->hosts[h].seeds = 0;
		if (s->hosts[h].seeding != MAKING)
			s->hosts[h].sum = 0;
		s->hosts[h].through &= s->hosts[h].held;
		for (w = 0; w < WORKERS; w++)
			if (s->hosts[h].workers[w].phase >= RETIRING)
				s->hosts[h].workers[w].generation = s->hosts[h].workers[w].over = 0;
		memset(s->hosts[h].queue + s->hosts[h].queued, 0,
			(QUEUE - s->hosts[h].queued) * sizeof(struct message));
	}
}

static void check(struct model *m, const struct state *s)
{
	int h, w, flying = 0, spent = 0;
	bool quiet = s->ready && s->counter != MISSING;

	for (h = 0; h < HOSTS; h++) {
		spent += s->hosts[h].spent;
		quiet = quiet && s->hosts[h].queued == 0 && s->hosts[h].pending == 0 && !s->hosts[h].doubtful &&
			s->hosts[h].seeding == NOT_SEEDING && !s->hosts[h].booked;
		for (w = 0; w < WORKERS; w++) {
			flying += s->hosts[h].workers[w].phase == CALLING ? RESERVED : 0;
			quiet = quiet &&
				(s->hosts[h].workers[w].phase == READY || s->hosts[h].workers[w].phase >= DONE);
		}
	}
	if (s->truth + flying > LIMIT)
		m->broken = "the limit was passed";
	else if (s->ready && s->counter != MISSING && s->counter < s->truth + flying)
		m->broken = "a counter says too little";
	else if (quiet && s->counter != spent)
		m->broken = "a counter is not what was spent";
	else if (quiet && spent < s->truth)
		m->broken = "the ledgers know too little";
}

static void reach(struct model *m, struct state next)
{
	size_t at;

	forget(&next);
	if (m->count * 2 >= m->mask)
		grow(m);
	for (at = hash_of(&next) & m->mask; m->table[at]; at = (at + 1) & m->mask)
		if (memcmp(&m->states[m->table[at] - 1], &next, sizeof(next)) == 0)
			return;
	if (m->count == m->room) {
		m->room = m->room ? m->room * 2 : 1 << 16;
		m->states = realloc(m->states, m->room * sizeof(*m->states));
		assert_non_null(m->states);
	}
	m->states[m->count++] = next;
	m->table[at] = (uint32_t)m->count;
	check(m, &next);
}

/* ---- workers ---- */

static void put(struct host *h, enum kind kind, int worker, int generation, int real)
{
	assert_true(h->queued < QUEUE);
	h->queue[h->queued++] =
		(struct message){(uint8_t)kind & 3, (uint8_t)worker & 1, (uint8_t)generation & 7, (uint8_t)real & 3};
}

/* Looks, tells, counts, looks again. */
static void step_worker(struct model *m, const struct state *s, int host, int i)
{
	struct state n = *s;
	struct host *h = &n.hosts[host];
	struct worker *w = &h->workers[i];
	bool late = m->mutant == TOLD_TOO_LATE, counts = s->ready && s->generation == w->generation;

	switch (w->phase) {
	case READY:
		if (!w->generation && !s->ready)
			return; /* it waits for one */
		if (!w->generation) {
			w->generation = s->generation & 7;
		} else {
			if (!late)
				put(h, HOLD, i, 0, 0);
			w->phase = TOLD;
		}
		break;
	case TOLD:
		w->phase = COUNTED;
		if (counts && s->counter != MISSING) {
			n.counter = (int8_t)(n.counter + RESERVED);
			w->over = n.counter > LIMIT;
			break;
		}
		if (!counts)
			reach(m, n); /* the counter of a generation that no longer counts may be there all the same */
		w->phase = late ? READY : RETIRING;
		w->generation = 0;
		break;
	case COUNTED:
		w->phase = !w->over && (counts || m->mutant == NO_SECOND_LOOK) ? CALLING : REFUSED;
		if (late)
			put(h, HOLD, i, 0, 0);
		break;
	case REFUSED:
		if (counts && n.counter != MISSING)
			n.counter = (int8_t)(n.counter - RESERVED);
		w->phase = RETIRING;
		break;
	case RETIRING:
		put(h, SETTLE, i, 0, 0);
		w->phase = DONE;
		break;
	case CALLING:
		n.truth = (int8_t)(n.truth + REAL);
		w->phase = SETTLING;
		if (counts && n.counter != MISSING)
			n.counter = (int8_t)(n.counter - (RESERVED - REAL));
		else
			w->generation = 0;
		break;
	case SETTLING:
		put(h, SETTLE, i, w->generation, REAL);
		w->phase = DONE;
		break;
	default: return;
	}
	reach(m, n);
}

static void kill_worker(struct model *m, const struct state *s, int host, int i)
{
	struct state n = *s;
	struct worker *w = &n.hosts[host].workers[i];

	if (!s->deaths || w->phase == READY || w->phase >= DONE)
		return;
	n.deaths--;
	if (w->phase == CALLING)
		n.truth = (int8_t)(n.truth + RESERVED); /* nobody knows: the worst */
	w->phase = GONE;
	put(&n.hosts[host], DEAD, i, 0, 0);
	reach(m, n);
}

/* ---- bookkeepers ---- */

static void take(struct host *h)
{
	memmove(h->queue, h->queue + 1, --h->queued * sizeof(h->queue[0]));
	h->booked = 0;
	if (h->to_book)
		h->to_book--;
}

static void correct(const struct model *m, struct host *h, const struct message *msg)
{
	int bit = 1 << msg->worker, has = 0, counted = m->mutant == GIVEN_BACK_TWICE ? RESERVED : REAL;

	if (!h->row)
		return;
	if (h->through & bit)
		has += RESERVED;
	if (msg->generation == h->row && !(m->mutant == REFUND_TWICE && has))
		has += counted;
	if (m->mutant == REFUND_TWICE && (h->through & bit) && msg->generation)
		has += counted; /* wherever it was that it counted */
	if (m->mutant == REFUND_TO_ANYBODY)
		has = RESERVED;
	h->pending = (int8_t)(h->pending + msg->real - has);
	h->untold = 1;
}

/* One transaction. */
static void book(const struct model *m, struct host *h, const struct message *msg)
{
	int bit = 1 << msg->worker;

	if (msg->kind == HOLD) {
		h->held |= (uint8_t)bit;
		return;
	}
	if (!(h->held & bit))
		return;
	h->spent = (int8_t)(h->spent + (msg->kind == SETTLE                      ? msg->real
					       : m->mutant == DEAD_SPEND_NOTHING ? 0
										 : RESERVED));
	h->held &= (uint8_t)~bit;
	if (msg->kind == SETTLE) {
		correct(m, h, msg);
	} else {
		h->doubtful = 1;
		h->untold = 1;
	}
	h->through &= (uint8_t)~bit;
}

/* Dies, and another one comes: what it remembers is gone. What memcached may not have been told is in doubt. */
static void crash(const struct model *m, struct host *h)
{
	int8_t pending = h->pending;

	h->doubtful = h->untold;
	h->pending = 0;
	if (m->mutant == TOLD_AGAIN) {
		h->doubtful = 0;
		h->pending = pending;
	}
	h->seeding = NOT_SEEDING;
	h->to_book = 0;
}

static void step_book(struct model *m, const struct state *s, int host)
{
	struct state n = *s;
	struct host *h = &n.hosts[host];
	struct message first = h->queue[0];

	if (!h->queued)
		return;
	if (h->booked) { /* by who was here before */
		take(h);
		reach(m, n);
		return;
	}
	if (m->mutant == TAKEN_BEFORE_BOOKED) {
		take(h);
		if (s->crashes) {
			n.crashes--;
			crash(m, h);
			reach(m, n);
			n = *s;
			take(h);
		}
		book(m, h, &first);
		reach(m, n);
		return;
	}
	book(m, h, &first);
	if (s->crashes) {
		struct state dead = n;

		dead.crashes--;
		dead.hosts[host].booked = 1;
		crash(m, &dead.hosts[host]);
		reach(m, dead);
	}
	take(h);
	reach(m, n);
}

static void step_tell(struct model *m, const struct state *s, int host)
{
	struct state n = *s;
	struct host *h = &n.hosts[host];
	bool counts = s->generation == h->row;

	if (!h->untold || (counts && !s->ready && h->pending))
		return; /* owed to one that is being made */
	if (counts && n.counter != MISSING) {
		n.counter = (int8_t)(n.counter + h->pending);
		if (n.counter < 0)
			n.counter = 0;
		h->pending = 0;
		if (s->crashes) {
			struct state dead = n;

			dead.crashes--;
			dead.hosts[host].pending = s->hosts[host].pending;
			crash(m, &dead.hosts[host]);
			reach(m, dead);
		}
	} else if (counts && s->ready && m->mutant != DROPPED_IF_MISSING) {
		h->doubtful = 1; /* lost, or not made yet */
	}
	h->pending = 0;
	h->untold = h->doubtful;
	reach(m, n);
}

/* A new generation where there is none, where its counter is missing, or where it is in doubt. */
static void step_begin(struct model *m, const struct state *s, int host)
{
	struct state n = *s;
	struct host *h = &n.hosts[host];
	bool doubt = h->doubtful && h->row == s->generation;

	if (h->seeding != NOT_SEEDING)
		return;
	if (h->doubtful && !s->generation) {
		h->doubtful = 0; /* what was in doubt is gone */
		reach(m, n);
		n = *s;
	}
	if (!s->generation || doubt || (s->ready && s->counter == MISSING)) {
		if (s->made == GENERATIONS)
			return;
		n.generation = ++n.made;
		n.ready = 0;
		n.shares[0] = n.shares[1] = MISSING;
	} else if (s->ready) {
		if (!h->doubtful)
			return;
		h->doubtful = 0; /* it was of a generation before */
		reach(m, n);
		return;
	}
	h->seeding = CATCHING_UP;
	h->seeds = n.generation;
	h->to_book = m->mutant == NO_CATCHING_UP ? 0 : h->queued;
	reach(m, n);
}

static void step_seed(struct model *m, const struct state *s, int host)
{
	struct state n = *s;
	struct host *h = &n.hosts[host];
	bool all, counts = s->generation == h->seeds && !s->ready;
	int w;

	switch (h->seeding) {
	case CATCHING_UP:
		if (h->to_book)
			return;
		h->seeding = TAKING_STOCK;
		break;
	case TAKING_STOCK:
		if (h->row != h->seeds) {
			h->row = h->seeds;
			h->through = h->held;
			h->share = h->spent;
			for (w = 0; w < WORKERS && m->mutant != NO_HOLDS_IN_SHARE; w++)
				h->share = (int8_t)(h->share + (h->held >> w & 1) * RESERVED);
			h->pending = 0;
			h->doubtful = 0;
			h->untold = 0;
		}
		h->seeding = BRINGING;
		break;
	case BRINGING:
		if (counts && n.shares[host] == MISSING)
			n.shares[host] = h->share;
		h->seeding = FINISHING;
		break;
	case FINISHING:
		all = s->shares[0] != MISSING && s->shares[1] != MISSING;
		h->seeding = NOT_SEEDING;
		if (counts && (all || m->mutant == NOT_ALL_SHARES)) {
			h->sum =
				(int8_t)((s->shares[0] > 0 ? s->shares[0] : 0) + (s->shares[1] > 0 ? s->shares[1] : 0));
			n.ready = m->mutant != NO_WINNER;
			h->seeding = MAKING;
		}
		break;
	case MAKING:
		if (m->mutant == NO_WINNER && s->generation == h->seeds)
			n.ready = 1;
		if (s->generation == h->seeds && n.ready && n.counter == MISSING)
			n.counter = h->sum;
		h->seeding = NOT_SEEDING;
		break;
	default: return;
	}
	reach(m, n);
}

static void kill_bookkeeper(struct model *m, const struct state *s, int host)
{
	struct state n = *s;

	if (!s->crashes)
		return;
	n.crashes--;
	crash(m, &n.hosts[host]);
	reach(m, n);
}

/* ---- memcached ---- */

static void lose(struct model *m, const struct state *s)
{
	struct state n = *s;
	int i;

	if (!s->losses || !s->generation)
		return;
	n.losses--;
	n.generation = 0; /* with it, whatever else there is of it */
	reach(m, n);
	n.generation = s->generation;
	if (s->counter != MISSING) {
		n.counter = MISSING;
		reach(m, n);
		n.counter = s->counter;
	}
	for (i = 0; i < HOSTS; i++)
		if (s->shares[i] != MISSING) {
			n.shares[i] = MISSING;
			reach(m, n);
			n.shares[i] = s->shares[i];
		}
}

/* ---- all of it ---- */

struct scenario {
	int losses, deaths, crashes;
	int absent; /* workers that do nothing, to keep it small */
};

static const char *explore(enum mutant mutant, const struct scenario *o, size_t *states)
{
	static const struct {
		int host, worker;
	} absent[] = {{1, 1}, {0, 1}, {1, 0}};
	struct model m = {.mutant = mutant};
	struct state first, s;
	size_t at;
	int h, w;

	memset(&first, 0, sizeof(first));
	first.counter = first.shares[0] = first.shares[1] = MISSING;
	first.losses = (uint8_t)o->losses;
	first.deaths = (uint8_t)o->deaths;
	first.crashes = (uint8_t)o->crashes;
	for (w = 0; w < o->absent; w++)
		first.hosts[absent[w].host].workers[absent[w].worker].phase = DONE;
	reach(&m, first);
	for (at = 0; at < m.count && !m.broken; at++) {
		s = m.states[at]; /* a copy: finding others moves them */
		lose(&m, &s);
		for (h = 0; h < HOSTS; h++) {
			step_book(&m, &s, h);
			step_tell(&m, &s, h);
			step_begin(&m, &s, h);
			step_seed(&m, &s, h);
			kill_bookkeeper(&m, &s, h);
			for (w = 0; w < WORKERS; w++) {
				step_worker(&m, &s, h, w);
				kill_worker(&m, &s, h, w);
			}
		}
	}
	*states = m.count;
	free(m.states);
	free(m.table);
	return m.broken;
}

/* As many failures at once as can be tried within seconds; three workers that are absent leave one. */
static const struct scenario scenarios[] = {{.losses = 2, .absent = 3}, {.losses = 1, .deaths = 1, .absent = 3},
	{.losses = 1, .crashes = 1, .absent = 3}, {.deaths = 1, .crashes = 1, .absent = 3}, {.deaths = 1, .absent = 2},
	{.losses = 1, .absent = 2}};

static const char *explore_all(enum mutant mutant, size_t *states)
{
	const char *broken = NULL;
	size_t i, n;

	*states = 0;
	for (i = 0; i < COUNT(scenarios) && !broken; i++) {
		broken = explore(mutant, &scenarios[i], &n);
		*states += n;
	}
	return broken;
}

static void test_holds_in_every_order_of_things(void **state)
{
	size_t states;
	const char *broken = explore_all(AS_IT_IS, &states);

	(void)state;
	if (broken)
		fail_msg("%s", broken);
	assert_true(states > 1000000);
}

static void test_each_order_matters(void **state)
{
	size_t states;
	int mutant;

	(void)state;
	for (mutant = AS_IT_IS + 1; mutant < MUTANTS; mutant++)
		if (!explore_all(mutant, &states))
			fail_msg("nothing breaks without step %d", mutant);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holds_in_every_order_of_things),
		cmocka_unit_test(test_each_order_matters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
