/*
 * Budgets that outlive memcached, a worker, and the bookkeeper: with a real memcached, real bookkeepers of one host or
 * two, and workers that reserve and settle. What the ledger and the counters say in the end is what was spent.
 */
#include "../memcached_unit.h"

#include "base/log.h"
#include "gate/bookkeeper.h"
#include "gate/budget.h"
#include "gate/limit.h"
#include "gate/tell.h"

#include <sys/mman.h>

enum { AMOUNT = 100000, PATIENCE_MS = 20000 };

struct host {
	char path[FILE_PATH];
	struct config config;
	struct queue queue;
	struct stats *stats;
	pid_t bookkeeper;
};

static char folder[FOLDER_PATH];
static struct memcached server;
static struct limit limit = {.name = "month",
	.count = COUNT_USD,
	.per = PER_KEY,
	.amount = AMOUNT,
	.window = LIMIT_MONTH,
	.on_store_down = STORE_DOWN_CLOSED,
	.enforce = true};
static struct key alice = {.name = "alice"};
static struct model model = {.name = "m"};
static const char *names[] = {"a", "b", NULL};
static int made;

static struct store *connect_store(struct host *h)
{
	static const char *servers[2];

	servers[0] = server.path;
	return store_of(servers, 5000, h->stats);
}

static void hire(struct host *h)
{
	h->bookkeeper = fork();
	assert_true(h->bookkeeper >= 0);
	if (h->bookkeeper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(bookkeeper_run(&h->config, h->stats, connect_store(h), &h->queue));
	}
}

static void fire(struct host *h, int signal)
{
	int status;

	kill(h->bookkeeper, signal);
	assert_int_equal(waitpid(h->bookkeeper, &status, 0), h->bookkeeper);
	if (signal == SIGTERM)
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Each test has counters of its own. */
static void open_host(struct host *h, int index, bool alone)
{
	static char prefix[16];

	if (index == 0)
		snprintf(prefix, sizeof(prefix), "t%d", ++made);
	*h = (struct host){
		.config = {.memcached = {.prefix = prefix, .timeout = 5000000},
			.limits = {&limit, 1},
			.cluster = {.hosts = alone ? names + 1 : names, .host = alone ? "b" : names[index]}}};
	snprintf(h->path, sizeof(h->path), "%s/%d-%d.db", folder, made, index);
	h->config.ledger.path = h->path;
	h->stats = new_stats();
	atomic_store(&h->stats->slots_used, 8);
	assert_true(queue_open(&h->queue));
	hire(h);
}

static void close_host(struct host *h)
{
	fire(h, SIGTERM);
	close(h->queue.in);
	close(h->queue.out);
}

/* A worker of this host, in this process. */
static struct worker work_at(struct host *h, int slot)
{
	return (struct worker){.config = &h->config,
		.stats = h->stats,
		.slot = &h->stats->slots[slot],
		.store = connect_store(h),
		.arena = ARENA_INIT,
		.teller = teller_new(&h->queue, &h->stats->slots[slot])};
}

/* Without a word, as if it were killed. */
static void leave(struct worker *w)
{
	free(w->teller);
	store_free(w->store);
	arena_release(&w->arena);
}

static void begin(struct txn *t, struct worker *w)
{
	arena_reset(&w->arena);
	*t = (struct txn){
		.worker = w, .config = w->config, .arena = &w->arena, .key = &alice, .model = &model, .called = true};
	answer_facts_init(&t->facts);
	t->limit_count = 1;
	limit_use(t, &limit, clock_real_ms(), &t->limits[0]);
	store_begin(w->store);
}

static enum budget_verdict reserve(struct txn *t, struct worker *w, int64_t amount)
{
	const struct limit_use *by;

	begin(t, w);
	budget_look(t);
	t->limits[0].reserved = amount;
	return budget_reserve(t, &by);
}

/* What the counter says, when the bookkeeper has done what it was told. */
static void check_counter(struct worker *w, int64_t used, int64_t settled)
{
	int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
	struct txn t;

	for (;;) {
		begin(&t, w);
		budget_look(&t);
		if (t.limits[0].used == used && t.limits[0].settled == settled)
			return;
		if (clock_mono_ms() > until_ms)
			fail_msg("used %lld, settled %lld; expected %lld and %lld", (long long)t.limits[0].used,
				(long long)t.limits[0].settled, (long long)used, (long long)settled);
		usleep(1000);
	}
}

static void flush(struct host *h)
{
	struct sockaddr_un un = unix_address(server.path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char ok[4];

	(void)h;
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(write(fd, "flush_all\r\n", 11), 11);
	assert_int_equal(read(fd, ok, sizeof(ok)), 4);
	close(fd);
}

static void on_sum(void *ctx, const char *name, const struct ledger_amounts *a)
{
	(void)name;
	*(struct ledger_amounts *)ctx = *a;
}

static struct ledger_amounts in_ledger(struct host *h)
{
	struct ledger_query q = {.by = LEDGER_BY_KEY, .until_s = 1LL << 40};
	struct ledger_amounts a = {0};
	char why[LEDGER_WHY];
	struct ledger *l = ledger_open_to_read(h->path, why);

	assert_non_null(l);
	assert_true(ledger_report(l, &q, on_sum, &a));
	ledger_close(l);
	return a;
}

static void test_reserves_settles_and_outlives_memcached(void **state)
{
	struct host h;
	struct worker w;
	struct txn t;

	(void)state;
	open_host(&h, 0, true);
	w = work_at(&h, 0);
	assert_int_equal(reserve(&t, &w, 40000), BUDGET_TAKEN);
	assert_int_equal(t.limits[0].used, 40000);
	flush(&h);
	check_counter(&w, 40000, 0); /* what is reserved is not forgotten either */
	budget_settle(&t, 0, 15000);
	check_counter(&w, 15000, 15000);
	flush(&h);
	check_counter(&w, 15000, 15000);
	assert_int_equal(reserve(&t, &w, AMOUNT - 15000 + 1), BUDGET_OVER);
	assert_int_equal(t.limits[0].settled, 15000);
	check_counter(&w, 15000, 15000);
	assert_int_equal(reserve(&t, &w, AMOUNT - 15000), BUDGET_TAKEN);
	budget_settle(&t, 0, AMOUNT - 15000);
	flush(&h);
	check_counter(&w, AMOUNT, AMOUNT);
	assert_int_equal(in_ledger(&h).cost_pusd, AMOUNT);
	assert_int_equal(in_ledger(&h).calls, 2); /* the refused one took nothing */
	leave(&w);
	close_host(&h);
}

static void test_a_worker_that_dies_has_spent_what_it_reserved(void **state)
{
	struct host h;
	struct worker dead, w;
	struct txn t;

	(void)state;
	open_host(&h, 0, true);
	dead = work_at(&h, 0);
	w = work_at(&h, 1);
	assert_int_equal(reserve(&t, &dead, 700), BUDGET_TAKEN);
	check_counter(&w, 700, 0);
	assert_true(bookkeeper_bury(&h.queue, &h.stats->slots[0]));
	check_counter(&w, 700, 700);
	flush(&h);
	check_counter(&w, 700, 700);
	assert_int_equal(in_ledger(&h).estimated, 1);
	leave(&dead);
	leave(&w);
	close_host(&h);
}

static void test_a_bookkeeper_that_dies_loses_nothing_and_doubles_nothing(void **state)
{
	struct host h;
	struct worker w;
	struct txn t, other;
	int i;

	(void)state;
	open_host(&h, 0, true);
	w = work_at(&h, 0);
	check_counter(&w, 0, 0);
	for (i = 0; i < 20; i++) {
		assert_int_equal(reserve(&t, &w, 100), BUDGET_TAKEN);
		assert_int_equal(reserve(&other, &w, 100), BUDGET_TAKEN);
		fire(&h, SIGKILL);
		budget_settle(&t, 0, 10);
		hire(&h);
		budget_settle(&other, 0, 20);
	}
	check_counter(&w, 600, 600);
	flush(&h);
	check_counter(&w, 600, 600);
	assert_int_equal(in_ledger(&h).cost_pusd, 600);
	leave(&w);
	close_host(&h);
}

static void test_who_was_gone_when_it_came_has_spent_what_it_reserved(void **state)
{
	struct host h;
	struct worker w;
	struct txn t;

	(void)state;
	open_host(&h, 0, true);
	w = work_at(&h, 0);
	assert_int_equal(reserve(&t, &w, 700), BUDGET_TAKEN);
	flush(&h);
	check_counter(&w, 700, 0); /* it is in the ledger */
	fire(&h, SIGKILL);
	atomic_store(&h.stats->slots[0].life, 0); /* the supervisor is another one, too: nobody tells */
	leave(&w);
	w = work_at(&h, 1);
	hire(&h);
	check_counter(&w, 700, 700);
	leave(&w);
	close_host(&h);
}

/* As behind a full disk: it does not read. */
static void test_where_nothing_can_be_told_on_store_down_decides(void **state)
{
	int room = 1, calls = 0;
	const struct limit_use *by;
	struct host h;
	struct worker w;
	struct txn t;

	(void)state;
	open_host(&h, 0, true);
	w = work_at(&h, 0);
	assert_int_equal(reserve(&t, &w, 100), BUDGET_TAKEN);
	budget_settle(&t, 0, 10);
	kill(h.bookkeeper, SIGSTOP);
	assert_int_equal(setsockopt(h.queue.in, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	h.config.memcached.timeout = 10000;
	for (; reserve(&t, &w, 100) == BUDGET_TAKEN; calls++)
		budget_settle(&t, 0, 10);
	assert_true(calls > 0);
	limit.on_store_down = STORE_DOWN_OPEN;
	begin(&t, &w);
	t.limits[0].reserved = 100;
	assert_int_equal(budget_reserve(&t, &by), BUDGET_TAKEN);
	budget_settle(&t, 0, 10); /* counted nowhere */
	limit.on_store_down = STORE_DOWN_CLOSED;
	kill(h.bookkeeper, SIGCONT);
	teller_end(w.teller);
	check_counter(&w, 10 * (calls + 1), 10 * (calls + 1));
	leave(&w);
	close_host(&h);
}

static void test_two_hosts_bring_their_shares(void **state)
{
	struct host a, b;
	struct worker wa, wb;
	struct txn t;

	(void)state;
	open_host(&a, 0, false);
	open_host(&b, 1, false);
	wa = work_at(&a, 0);
	wb = work_at(&b, 0);
	check_counter(&wa, 0, 0);
	assert_int_equal(reserve(&t, &wa, 500), BUDGET_TAKEN);
	budget_settle(&t, 0, 300);
	assert_int_equal(reserve(&t, &wb, 5000), BUDGET_TAKEN);
	check_counter(&wa, 5300, 300);
	flush(&a);
	check_counter(&wa, 5300, 300);
	fire(&b, SIGTERM);
	flush(&a);
	begin(&t, &wa); /* without b nobody knows */
	budget_look(&t);
	assert_int_equal(t.limits[0].used, -1);
	assert_int_equal(reserve(&t, &wa, 1), BUDGET_UNKNOWN);
	hire(&b);
	check_counter(&wa, 5300, 300);
	leave(&wa);
	leave(&wb);
	close_host(&a);
	close_host(&b);
}

/* ---- everything at once ---- */

struct tally {
	_Atomic int64_t spent, flying; /* what was really spent, and what may be, at most */
	_Atomic int over, taken, refused, unknown;
};

enum { CROWD = 4, CALLS = 150 };

static void work(struct host *h, int slot, struct tally *tally)
{
	struct worker w = work_at(h, slot);
	uint64_t seed = (uint64_t)slot * 77 + (uint64_t)getpid();
	int64_t bound, real;
	struct txn t;
	int i;

	for (i = 0; i < CALLS; i++) {
		bound = 1 + (int64_t)chance_below(&seed, 3000);
		real = (int64_t)chance_below(&seed, (size_t)bound + 1);
		switch (reserve(&t, &w, bound)) {
		case BUDGET_OVER: atomic_fetch_add(&tally->refused, 1); continue;
		case BUDGET_UNKNOWN: atomic_fetch_add(&tally->unknown, 1); continue;
		case BUDGET_TAKEN: break;
		}
		atomic_fetch_add(&tally->taken, 1);
		if (atomic_fetch_add(&tally->flying, bound) + bound + atomic_load(&tally->spent) > AMOUNT)
			atomic_fetch_add(&tally->over, 1);
		usleep((useconds_t)chance_below(&seed, 2000));
		atomic_fetch_sub(&tally->flying, bound - real); /* first down, then over: never less than the truth */
		atomic_fetch_add(&tally->spent, real);
		atomic_fetch_sub(&tally->flying, real);
		budget_settle(&t, 0, real);
	}
	teller_end(w.teller);
	_exit(0);
}

static void test_never_overshoots_whatever_fails(void **state)
{
	struct tally *tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct host hosts[2];
	pid_t crowd[CROWD];
	struct worker w;
	uint64_t seed = 5;
	int i, left = CROWD, status;

	(void)state;
	open_host(&hosts[0], 0, false);
	open_host(&hosts[1], 1, false);
	for (i = 0; i < CROWD; i++)
		if ((crowd[i] = fork()) == 0)
			work(&hosts[i % 2], 1 + i, tally);
	while (left) {
		usleep(20000 + (useconds_t)chance_below(&seed, 30000));
		i = (int)chance_below(&seed, 2);
		if (chance_below(&seed, 3) == 0) {
			fire(&hosts[i], SIGKILL);
			hire(&hosts[i]);
		} else {
			flush(&hosts[i]);
		}
		for (i = 0; i < CROWD; i++)
			if (crowd[i] && waitpid(crowd[i], &status, WNOHANG) == crowd[i]) {
				crowd[i] = 0;
				left--;
			}
	}
	assert_int_equal(atomic_load(&tally->over), 0);
	assert_true(atomic_load(&tally->taken) > 20);
	w = work_at(&hosts[0], 0);
	check_counter(&w, tally->spent, tally->spent);
	flush(&hosts[0]);
	check_counter(&w, tally->spent, tally->spent);
	assert_int_equal(in_ledger(&hosts[0]).cost_pusd + in_ledger(&hosts[1]).cost_pusd, tally->spent);
	leave(&w);
	close_host(&hosts[0]);
	close_host(&hosts[1]);
	munmap(tally, sizeof(*tally));
}

static int setup(void **state)
{
	(void)state;
	make_folder(folder);
	snprintf(server.path, sizeof(server.path), "%s/memcached.sock", folder);
	memcached_start(&server);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	memcached_end(&server);
	remove_folder(folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserves_settles_and_outlives_memcached),
		cmocka_unit_test(test_a_worker_that_dies_has_spent_what_it_reserved),
		cmocka_unit_test(test_a_bookkeeper_that_dies_loses_nothing_and_doubles_nothing),
		cmocka_unit_test(test_who_was_gone_when_it_came_has_spent_what_it_reserved),
		cmocka_unit_test(test_where_nothing_can_be_told_on_store_down_decides),
		cmocka_unit_test(test_two_hosts_bring_their_shares),
		cmocka_unit_test(test_never_overshoots_whatever_fails),
	};

	log_init(LOG_ERROR);
	return cmocka_run_group_tests(tests, setup, teardown);
}
