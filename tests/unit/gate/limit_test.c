/* A limit of N lets exactly N through, whoever asks at once, and says what it will do when nobody can count. */
#include "../memcached_unit.h"

#include "gate/answer.h"
#include "gate/limit.h"

enum { WORKERS = 8, TRIES = 40, AMOUNT = 100, WINDOW_US = 1000000 };

static char folder[FOLDER_PATH];
static struct memcached server;

static struct limit limits[3];
static struct config config = {.memcached.prefix = "pv"};
static struct key alice = {.name = "alice", .team = "red"}, bob = {.name = "bob", .team = "red"},
		  loner = {.name = "red"};
static struct model model = {.name = "m"}, other_model = {.name = "n"};
static struct worker worker;

static struct limit limit_of(const char *name, unsigned per, int64_t amount)
{
	return (struct limit){
		.name = name, .per = per, .amount = amount, .window = 86400LL * WINDOW_US, .enforce = true};
}

static void use_limits(size_t count, struct limit a, struct limit b)
{
	limits[0] = a;
	limits[1] = b;
	config.limits = (struct config_items){limits, count};
}

static const struct limit none;

static void begin(struct txn *t, const struct key *key, const struct model *m)
{
	static struct store_item batch[2][LIMIT_ITEMS]; /* for two transactions side by side */
	static int turn;

	*t = (struct txn){.worker = &worker, .config = &config, .key = key, .model = m, .batch = batch[turn++ % 2]};
	store_begin(worker.store);
	limit_prepare(t);
}

/* One request against the limits, with what memcached says. */
static enum verdict ask(struct txn *t, const struct key *key, const struct model *m)
{
	begin(t, key, m);
	store_run(worker.store, t->batch, t->batch_count);
	return limit_decide(t);
}

/* One request against the limits while memcached says nothing. */
static enum verdict ask_down(struct txn *t, const struct key *key)
{
	size_t i;

	begin(t, key, &model);
	for (i = 0; i < t->batch_count; i++)
		t->batch[i].result = STORE_DOWN;
	return limit_decide(t);
}

static void test_exactly_so_many(void **state)
{
	struct txn t;
	int i;

	(void)state;
	use_limits(1, limit_of("exact", PER_KEY, 3), none);
	for (i = 0; i < 3; i++) {
		assert_int_equal(ask(&t, &alice, &model), NEXT);
		assert_int_equal(t.limits[0].used, i + 1);
		assert_null(t.refused_by);
	}
	assert_int_equal(ask(&t, &alice, &model), FAILED);
	assert_int_equal(t.err.code, ERR_RATE_LIMIT);
	assert_ptr_equal(t.refused_by, &t.limits[0]);
	check_contains(t.err.message, "exact");
	check_contains(t.err.message, "3 requests");
	assert_in_range(t.retry_after_ms, 1, 86400000);
	assert_int_equal(ask(&t, &bob, &model), NEXT); /* another key has its own */
}

static void test_many_at_once(void **state)
{
	pid_t children[WORKERS];
	int i, j, status, through = 0;
	struct txn t;

	(void)state;
	use_limits(1, limit_of("crowd", 0, AMOUNT), none);
	for (i = 0; i < WORKERS; i++) {
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (children[i] == 0) {
			const char *const servers[] = {server.path, NULL};

			worker.store = store_of(servers, 5000, worker.stats);
			for (j = 0; j < TRIES; j++)
				through += ask(&t, &alice, &model) == NEXT;
			_exit(through);
		}
	}
	for (i = 0; i < WORKERS; i++) {
		waitpid(children[i], &status, 0);
		through += WEXITSTATUS(status);
	}
	assert_int_equal(through, AMOUNT);
}

/* Whether b's request counts on the same counter as a's. */
static bool same_counter(
	unsigned per, const struct key *a, const struct model *ma, const struct key *b, const struct model *mb)
{
	struct txn x, y;

	use_limits(1, limit_of("who", per, 1), none);
	begin(&x, a, ma);
	begin(&y, b, mb);
	assert_in_range(strlen(x.limits[0].key), 1, STORE_KEY_MAX);
	assert_int_equal(strcspn(x.limits[0].key, " \r\n\t"), strlen(x.limits[0].key));
	return strcmp(x.limits[0].key, y.limits[0].key) == 0;
}

static void test_identities(void **state)
{
	static struct model strange = {.name = "a model/with spaces\r\nand \xc3\xa9"},
			    stranger = {.name = "a model/with spaces"};
	static struct model endless = {
		.name = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};

	(void)state;
	assert_true(same_counter(0, &alice, &model, &loner, &other_model));
	assert_false(same_counter(PER_KEY, &alice, &model, &bob, &model));
	assert_true(same_counter(PER_KEY, &alice, &model, &alice, &other_model));
	assert_true(same_counter(PER_TEAM, &alice, &model, &bob, &other_model));
	assert_false(same_counter(PER_TEAM, &alice, &model, &loner, &model));
	assert_false(same_counter(PER_MODEL, &alice, &model, &alice, &other_model));
	assert_true(same_counter(PER_MODEL, &alice, &model, &bob, &model));
	assert_false(same_counter(PER_KEY | PER_MODEL, &alice, &model, &alice, &other_model));
	assert_false(same_counter(PER_KEY | PER_MODEL, &alice, &model, &bob, &model));
	assert_false(same_counter(PER_MODEL, &alice, &strange, &alice, &stranger));
	assert_true(same_counter(PER_MODEL, &alice, &strange, &bob, &strange));
	assert_true(same_counter(PER_USER | PER_IP, &alice, &model, &bob, &model)); /* nobody knows any */
	assert_true(same_counter(PER_KEY | PER_TEAM | PER_MODEL, &alice, &endless, &alice, &endless));
	assert_false(same_counter(PER_MODEL, &alice, &endless, &alice, &stranger));
}

/* What another limit had counted is given back. */
static void test_refusal_gives_back(void **state)
{
	struct txn t;
	int i;

	(void)state;
	use_limits(2, limit_of("wide", 0, 1000), limit_of("narrow", PER_KEY, 1));
	assert_int_equal(ask(&t, &alice, &model), NEXT);
	for (i = 0; i < 5; i++)
		assert_int_equal(ask(&t, &alice, &model), FAILED);
	assert_string_equal(t.refused_by->limit->name, "narrow");
	assert_int_equal(ask(&t, &bob, &model), NEXT);
	assert_int_equal(t.limits[0].used, 2); /* alice's first and this one */
	assert_ptr_equal(limit_tightest(&t, COUNT_REQUESTS), &t.limits[1]);
}

/* What is on its way back is no reason to refuse, and what a refusal counted is gone when it is said. */
static void test_no_false_refusal(void **state)
{
	struct txn narrow, other;

	(void)state;
	use_limits(2, limit_of("both", 0, 2), limit_of("mine", PER_KEY, 1));
	assert_int_equal(ask(&narrow, &alice, &model), NEXT);
	begin(&narrow, &alice, &model);
	store_run(worker.store, narrow.batch, narrow.batch_count); /* 2 of both, 2 of alice's */
	begin(&other, &bob, &model);
	store_run(worker.store, other.batch, other.batch_count); /* 3 of both */
	assert_int_equal(limit_decide(&narrow), FAILED);
	assert_string_equal(narrow.refused_by->limit->name, "mine");
	assert_int_equal(limit_decide(&other), NEXT);
	assert_int_equal(other.limits[0].used, 2);
	assert_int_equal(ask(&other, &loner, &model), FAILED); /* and now it is full */
	assert_string_equal(other.refused_by->limit->name, "both");
}

/* Without memcached, too, a refusal takes nothing. */
static void test_refusal_gives_back_locally(void **state)
{
	struct txn t;
	int i;

	(void)state;
	use_limits(2, limit_of("host", 0, 2), limit_of("hers", PER_KEY, 1));
	limits[0].on_store_down = limits[1].on_store_down = STORE_DOWN_LOCAL;
	assert_int_equal(ask_down(&t, &alice), NEXT);
	for (i = 0; i < 5; i++)
		assert_int_equal(ask_down(&t, &alice), FAILED);
	assert_int_equal(ask_down(&t, &bob), NEXT);
	assert_true(t.limits[0].unknown && t.limits[1].unknown);
	assert_int_equal(ask_down(&t, &loner), FAILED);
	assert_string_equal(t.refused_by->limit->name, "host");
}

static void test_all_that_would_refuse(void **state)
{
	struct limit a = limit_of("a", PER_KEY, 1), b = limit_of("b", 0, 1);
	struct txn t;

	(void)state;
	a.enforce = b.enforce = false;
	use_limits(2, a, b);
	assert_int_equal(ask(&t, &alice, &model), NEXT);
	assert_false(t.limits[0].would_refuse || t.limits[1].would_refuse);
	assert_int_equal(ask(&t, &alice, &model), NEXT);
	assert_true(t.limits[0].would_refuse && t.limits[1].would_refuse);
	limits[0].on_store_down = STORE_DOWN_CLOSED;
	assert_int_equal(ask_down(&t, &alice), NEXT);
	assert_true(t.limits[0].would_refuse);
	assert_false(t.limits[1].would_refuse);
}

/* A limit in the keys file counts apart from one of the same name for everybody. */
static void test_a_keys_own(void **state)
{
	static struct limit own;
	struct key rich = {.name = "rich", .limits = {&own, 1}};
	struct txn t, u;

	(void)state;
	own = limit_of("both", 0, 5);
	use_limits(1, limit_of("both", PER_KEY, 7), none);
	assert_int_equal(ask(&t, &rich, &model), NEXT);
	assert_int_equal(t.limit_count, 2);
	assert_int_equal(t.limits[0].used, 1);
	assert_int_equal(t.limits[1].used, 1);
	rich.name = "richer";
	begin(&u, &rich, &model);
	assert_string_not_equal(t.limits[1].key, u.limits[1].key);
	assert_int_equal(ask(&t, &alice, &model), NEXT);
	assert_int_equal(t.limit_count, 1);
}

static void test_dry_run(void **state)
{
	struct limit dry = limit_of("dry", PER_KEY, 1);
	struct txn t;

	(void)state;
	dry.enforce = false;
	use_limits(1, dry, none);
	assert_int_equal(ask(&t, &alice, &model), NEXT);
	assert_false(t.limits[0].would_refuse);
	assert_int_equal(ask(&t, &alice, &model), NEXT);
	assert_true(t.limits[0].would_refuse);
	assert_null(t.refused_by);
	assert_null(limit_tightest(&t, COUNT_REQUESTS));
}

static void test_store_down(void **state)
{
	struct limit l = limit_of("down", PER_KEY, 2);
	struct txn t;

	(void)state;
	use_limits(1, l, none);
	limits[0].on_store_down = STORE_DOWN_OPEN;
	assert_int_equal(ask_down(&t, &alice), NEXT);
	assert_int_equal(t.limits[0].used, -1);
	limits[0].on_store_down = STORE_DOWN_CLOSED;
	assert_int_equal(ask_down(&t, &alice), FAILED);
	assert_int_equal(t.err.code, ERR_LIMIT_STORE_DOWN);
	check_contains(t.err.message, "down");
	assert_true(t.retry_after_ms > 0);
	limits[0].enforce = false;
	assert_int_equal(ask_down(&t, &alice), NEXT);
	/* this host alone, exactly */
	limits[0].enforce = true;
	limits[0].on_store_down = STORE_DOWN_LOCAL;
	assert_int_equal(ask_down(&t, &alice), NEXT);
	assert_int_equal(ask_down(&t, &alice), NEXT);
	assert_int_equal(ask_down(&t, &alice), FAILED);
	assert_int_equal(t.err.code, ERR_RATE_LIMIT);
	assert_int_equal(ask_down(&t, &bob), NEXT);
}

static void test_windows(void **state)
{
	struct txn t, next;
	int64_t now;

	(void)state;
	use_limits(1, limit_of("second", PER_KEY, 1), none);
	limits[0].window = WINDOW_US;
	now = clock_real_ms();
	begin(&t, &alice, &model);
	assert_int_equal(t.limits[0].end_ms % 1000, 0); /* aligned to the clock */
	assert_in_range(t.limits[0].end_ms - now, 0, 2000);
	assert_in_range(t.batch[0].ttl_s, 1, 20);
	usleep(1001000);
	begin(&next, &alice, &model);
	assert_string_not_equal(t.limits[0].key, next.limits[0].key);
	limits[0].window = 86400LL * WINDOW_US;
	begin(&t, &alice, &model);
	assert_int_equal(t.limits[0].end_ms % 86400000, 0);
	assert_in_range(t.batch[0].ttl_s, 1, 86400 + 60);
}

static void test_months(void **state)
{
	static const struct {
		const char *now, *start, *end;
	} months[] = {{"2026-11-23T15:43:41Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		{"2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"},
		{"2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"2100-02-28T23:59:59Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"}};
	struct limit l = limit_of("m", PER_KEY, 1);
	int64_t start, end;
	struct txn t;
	size_t i;

	(void)state;
	l.window = LIMIT_MONTH;
	for (i = 0; i < COUNT(months); i++) {
		limit_window(&l, clock_parse(months[i].now), &start, &end);
		assert_int_equal(start, clock_parse(months[i].start));
		assert_int_equal(end, clock_parse(months[i].end));
	}
	use_limits(1, l, none);
	assert_int_equal(ask(&t, &alice, &model), NEXT);
	assert_int_equal(ask(&t, &alice, &model), FAILED);
	check_contains(t.err.message, "1 requests per month");
	assert_in_range(t.batch[0].ttl_s, 1, 31 * 86400 + 60);
	assert_int_equal(t.should_retry, t.retry_after_ms > 120000 ? RETRY_NO : RETRY_UNSAID);
}

/* More than 30 days: memcached would take the number for a date in 1970, and forget at once. */
static void test_a_long_time(void **state)
{
	struct store_item incr = {
		.op = STORE_INCR, .pool = STORE_COUNTERS, .key = "long", .ttl_s = STORE_TTL_MAX + 86400, .delta = 1};

	(void)state;
	assert_int_equal(run_one(worker.store, &incr), STORE_OK);
	assert_int_equal(run_one(worker.store, &incr), STORE_OK);
	assert_int_equal(incr.number, 2);
}

static void test_reset_text(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} texts[] = {{0, "0ms"}, {12, "12ms"}, {999, "999ms"}, {1000, "1s"}, {59999, "59s"}, {60000, "1m0s"},
		{360000, "6m0s"}, {3599000, "59m59s"}, {3600000, "1h0m0s"}, {86399999, "23h59m59s"},
		{90061000, "25h1m1s"}};
	char out[32];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(texts); i++) {
		answer_reset_text(texts[i].ms, out, sizeof(out));
		assert_string_equal(out, texts[i].text);
	}
}

static int set_up(void **state)
{
	const char *const servers[] = {server.path, NULL};

	(void)state;
	make_folder(folder);
	snprintf(server.path, sizeof(server.path), "%s/1.sock", folder);
	memcached_start(&server);
	worker.stats = new_stats();
	worker.store = store_of(servers, 5000, worker.stats);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	store_free(worker.store);
	memcached_end(&server);
	remove_folder(folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exactly_so_many),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_identities),
		cmocka_unit_test(test_refusal_gives_back),
		cmocka_unit_test(test_no_false_refusal),
		cmocka_unit_test(test_refusal_gives_back_locally),
		cmocka_unit_test(test_all_that_would_refuse),
		cmocka_unit_test(test_a_keys_own),
		cmocka_unit_test(test_dry_run),
		cmocka_unit_test(test_store_down),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_months),
		cmocka_unit_test(test_a_long_time),
		cmocka_unit_test(test_reset_text),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
