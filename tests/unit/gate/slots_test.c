/* Never more calls than slots, whoever asks, dies or forgets; and never fewer, when somebody asks for the last one. */
#include "../memcached_unit.h"

#include "edge/calls.h"
#include "gate/limit.h"
#include "gate/slots.h"

enum { WORKERS = 8, ROUNDS = 300, OTHERS = 400 };

static char folder[FOLDER_PATH];
static struct memcached server;

static struct limit limits[2];
static struct config config = {.memcached.prefix = "pv"};
static struct key alice = {.name = "alice"}, bob = {.name = "bob"};
static struct model model = {.name = "m"};
static struct stats *host, *far;
static struct worker workers[OTHERS];

static struct limit limit_of(const char *name, unsigned per, int64_t amount)
{
	return (struct limit){.name = name,
		.count = COUNT_CONCURRENT,
		.per = per,
		.amount = amount,
		.on_store_down = STORE_DOWN_CLOSED,
		.enforce = true};
}

static const struct limit none;

static void use_limits(size_t count, struct limit a, struct limit b)
{
	limits[0] = a;
	limits[1] = b;
	config.limits = (struct config_items){limits, count};
}

/* Of one host or the other, with a slot and a connection of its own; it lives as long as this process. */
static struct worker *worker_of(struct worker *w, struct stats *stats)
{
	const char *const servers[] = {server.path, NULL};

	if (w->store && w->stats == stats)
		return w;
	store_free(w->store);
	w->stats = stats;
	w->store = store_of(servers, 5000, stats);
	w->slot_index = stats_claim_slot(stats);
	w->slot = &stats->slots[w->slot_index];
	return w;
}

static void begin(struct txn *t, struct worker *w, const struct key *key)
{
	*t = (struct txn){.worker = w, .config = &config, .arena = &w->arena, .key = key, .model = &model};
	store_begin(w->store);
	limit_uses(t);
}

static enum verdict take(struct txn *t, struct worker *w, const struct key *key)
{
	begin(t, w, key);
	return slots_take(t);
}

/* So many calls by workers of their own that go on; how many could begin. */
static int take_many(struct txn *t, int count, struct stats *stats, const struct key *key)
{
	int i, taken = 0;

	for (i = 0; i < count; i++)
		taken += take(&t[i], worker_of(&workers[i], stats), key) == NEXT;
	return taken;
}

static void release_all(struct txn *t, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		slots_release(&t[i]);
		arena_reset(&workers[i].arena);
	}
}

static void flush(void)
{
	struct sockaddr_un un = unix_address(server.path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char ok[4];

	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(write(fd, "flush_all\r\n", 11), 11);
	assert_int_equal(read(fd, ok, 4), 4);
	close(fd);
}

static void test_all_of_them_and_no_more(void **state)
{
	struct txn t[12];

	(void)state;
	use_limits(1, limit_of("all", PER_KEY, 8), none);
	assert_int_equal(take_many(t, 10, host, &alice), 8);
	assert_int_equal(t[9].err.code, ERR_RATE_LIMIT);
	check_contains(t[9].err.message, "'all'");
	check_contains(t[9].err.message, "8 calls at the same time");
	assert_int_equal(t[9].retry_after_ms, 1000);
	assert_null(t[9].slots);
	assert_int_equal(take(&t[10], worker_of(&workers[10], host), &bob), NEXT); /* another key has its own */
	slots_release(&t[3]);
	slots_release(&t[3]); /* once */
	assert_int_equal(take(&t[9], &workers[9], &alice), NEXT);
	assert_int_equal(take(&t[11], worker_of(&workers[11], host), &alice), FAILED);
	release_all(t, 12);
	assert_int_equal(take_many(t, 10, far, &alice), 8); /* nothing was left behind */
	release_all(t, 10);
}

/* Whichever it is, in few round trips. */
static void test_the_last_one_is_found(void **state)
{
	static struct txn t[OTHERS];
	int i, last = OTHERS - 1;

	(void)state;
	use_limits(1, limit_of("many", 0, OTHERS - 1), none);
	assert_int_equal(take_many(t, last, host, &alice), last);
	assert_int_equal(take(&t[last], worker_of(&workers[last], host), &alice), FAILED);
	for (i = 0; i < last; i += 57) {
		slots_release(&t[i]);
		assert_int_equal(take(&t[last], &workers[last], &alice), NEXT);
		assert_int_equal(take(&t[i], &workers[i], &alice), FAILED);
		slots_release(&t[last]);
		assert_int_equal(take(&t[i], &workers[i], &alice), NEXT);
	}
	release_all(t, OTHERS);
}

static void test_all_or_none(void **state)
{
	struct txn t[8];

	(void)state;
	use_limits(2, limit_of("wide", 0, 4), limit_of("narrow", PER_KEY, 1));
	assert_int_equal(take_many(t, 5, host, &alice), 1);
	assert_string_equal(t[4].refused_by->limit->name, "narrow");
	assert_int_equal(take(&t[1], &workers[1], &bob), NEXT);
	use_limits(1, limit_of("wide", 0, 4), none); /* what the refused had of it is there again */
	assert_int_equal(take(&t[2], &workers[2], &bob), NEXT);
	assert_int_equal(take(&t[3], &workers[3], &bob), NEXT);
	assert_int_equal(take(&t[4], &workers[4], &bob), FAILED);
	release_all(t, 5);
}

static void test_dry_run(void **state)
{
	struct limit dry = limit_of("dry", 0, 1);
	struct txn t[4];

	(void)state;
	dry.enforce = false;
	use_limits(2, dry, limit_of("wet", 0, 3));
	assert_int_equal(take_many(t, 4, host, &alice), 3);
	assert_false(t[0].limits[0].would_refuse);
	assert_true(t[1].limits[0].would_refuse && t[2].limits[0].would_refuse);
	slots_release(&t[1]); /* one that would not have been */
	assert_int_equal(take(&t[1], &workers[1], &alice), NEXT);
	assert_true(t[1].limits[0].would_refuse);
	slots_release(&t[0]);
	assert_int_equal(take(&t[0], &workers[0], &alice), NEXT);
	assert_false(t[0].limits[0].would_refuse);
	release_all(t, 4);
}

/* A worker of this host that is gone leaves its slots to whoever wants them, those of another host end by themselves.
 */
static void test_the_dead(void **state)
{
	struct txn t[4];

	(void)state;
	use_limits(1, limit_of("dead", 0, 2), none);
	assert_int_equal(take_many(t, 2, host, &alice), 2);
	atomic_store(&workers[1].slot->pid, 0); /* as the supervisor does */
	assert_int_equal(take(&t[2], worker_of(&workers[2], host), &alice), NEXT);
	assert_int_equal(take(&t[3], worker_of(&workers[3], host), &alice), FAILED);
	slots_release(&t[1]); /* what is not ours any more stays */
	assert_int_equal(take(&t[3], &workers[3], &alice), FAILED);
	atomic_store(&workers[1].slot->pid, getpid());
	release_all(t, 4);

	assert_int_equal(take_many(t, 2, far, &alice), 2);
	atomic_store(&workers[1].slot->pid, 0);
	assert_int_equal(take(&t[2], worker_of(&workers[2], host), &alice), FAILED);
	atomic_store(&workers[1].slot->pid, getpid());
	release_all(t, 3);
}

static void test_forgotten_and_renewed(void **state)
{
	struct txn t[4];
	int i;

	(void)state;
	use_limits(1, limit_of("flushed", 0, 2), none);
	assert_int_equal(take_many(t, 2, host, &alice), 2);
	flush();
	assert_int_equal(take(&t[2], worker_of(&workers[2], host), &alice), FAILED); /* this host knows */
	assert_true(slots_next_us(&t[0]) > clock_mono_us());
	assert_true(slots_next_us(&t[2]) == INT64_MAX);
	for (i = 0; i < 2; i++) /* each takes its own again when it is time */
		while (clock_mono_us() <= slots_next_us(&t[i]))
			usleep(10000);
	slots_pump(&t[0]);
	slots_pump(&t[1]);
	assert_int_equal(take(&t[2], worker_of(&workers[2], far), &alice), FAILED); /* and other hosts, too */
	release_all(t, 3);
}

static void ask_down(enum on_store_down how, enum verdict first, enum verdict second)
{
	const char *const nowhere[] = {"/nonexistent/memcached.sock", NULL};
	struct worker w[2] = {{.stats = host}, {.stats = host}};
	struct txn t[2];
	int i;

	use_limits(1, limit_of("down", 0, 1), none);
	limits[0].on_store_down = how;
	for (i = 0; i < 2; i++) {
		w[i].store = store_of(nowhere, 100, host);
		w[i].slot_index = stats_claim_slot(host);
		assert_int_equal(take(&t[i], &w[i], &alice), i ? second : first);
		assert_true(t[i].store_down && t[i].limits[0].unknown);
	}
	assert_true(how != STORE_DOWN_CLOSED || t[0].err.code == ERR_LIMIT_STORE_DOWN);
	assert_true(how != STORE_DOWN_LOCAL || t[1].err.code == ERR_RATE_LIMIT);
	for (i = 0; i < 2; i++) {
		slots_release(&t[i]);
		atomic_store(&host->slots[w[i].slot_index].pid, 0);
		store_free(w[i].store);
		arena_release(&w[i].arena);
	}
}

static void test_store_down(void **state)
{
	(void)state;
	ask_down(STORE_DOWN_OPEN, NEXT, NEXT);
	ask_down(STORE_DOWN_CLOSED, FAILED, FAILED);
	ask_down(STORE_DOWN_LOCAL, NEXT, FAILED);
}

/* ---- a crowd ---- */

struct crowd {
	_Atomic int inside, most, passed;
};

static void crowd_enter(struct crowd *c)
{
	int now = atomic_fetch_add(&c->inside, 1) + 1, seen = atomic_load(&c->most);

	atomic_fetch_add(&c->passed, 1);
	while (seen < now && !atomic_compare_exchange_weak(&c->most, &seen, now))
		;
}

/* Two hosts that know nothing of each other but what memcached says. */
static void test_many_at_once(void **state)
{
	struct crowd *crowd = (struct crowd *)&new_stats()->store[0];
	pid_t children[WORKERS];
	struct txn t;
	int i, j;

	(void)state;
	use_limits(1, limit_of("crowd", 0, 3), none);
	for (i = 0; i < WORKERS; i++) {
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (children[i])
			continue;
		workers[0] = (struct worker){.arena = ARENA_INIT};
		worker_of(&workers[0], i % 2 ? host : far);
		for (j = 0; j < ROUNDS; j++) {
			if (take(&t, &workers[0], &alice) == NEXT) {
				crowd_enter(crowd);
				usleep(100);
				atomic_fetch_sub(&crowd->inside, 1);
			}
			slots_release(&t);
			arena_reset(&workers[0].arena);
		}
		_exit(0);
	}
	for (i = 0; i < WORKERS; i++)
		waitpid(children[i], NULL, 0);
	assert_int_equal(crowd->most, 3);
	assert_true(crowd->passed > ROUNDS);
}

static int set_up(void **state)
{
	(void)state;
	make_folder(folder);
	snprintf(server.path, sizeof(server.path), "%s/1.sock", folder);
	memcached_start(&server);
	host = new_stats();
	far = new_stats();
	return 0;
}

static int tear_down(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < OTHERS; i++) {
		store_free(workers[i].store);
		arena_release(&workers[i].arena);
	}
	memcached_end(&server);
	remove_folder(folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_of_them_and_no_more),
		cmocka_unit_test(test_the_last_one_is_found),
		cmocka_unit_test(test_all_or_none),
		cmocka_unit_test(test_dry_run),
		cmocka_unit_test(test_the_dead),
		cmocka_unit_test(test_forgotten_and_renewed),
		cmocka_unit_test(test_store_down),
		cmocka_unit_test(test_many_at_once),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
