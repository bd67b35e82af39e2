/* Against a real memcached that is well; store_down_test.c has those that are not. */
#include "../memcached_unit.h"

enum { PATIENT_MS = 5000, LARGE = 999000 };

static char folder[FOLDER_PATH];
static struct memcached first, second;
static struct store *store;

static struct store_item number(enum store_op op, const char *key, uint64_t delta)
{
	return (struct store_item){.op = op, .pool = STORE_COUNTERS, .key = key, .delta = delta, .ttl_s = 60};
}

static void test_get_set_delete(void **state)
{
	struct store_item item = {.op = STORE_DELETE, .key = "a"};
	char text[64];

	(void)state;
	assert_int_equal(get_text(store, "a", text, sizeof(text)), STORE_MISS);
	assert_int_equal(run_one(store, &item), STORE_MISS);
	assert_int_equal(set_text(store, "a", "one"), STORE_OK);
	assert_int_equal(get_text(store, "a", text, sizeof(text)), STORE_OK);
	assert_string_equal(text, "one");
	assert_int_equal(set_text(store, "a", "two"), STORE_OK);
	get_text(store, "a", text, sizeof(text));
	assert_string_equal(text, "two");
	assert_int_equal(run_one(store, &item), STORE_OK);
	assert_int_equal(get_text(store, "a", text, sizeof(text)), STORE_MISS);
}

static void check_number(enum store_op op, const char *key, uint64_t delta, enum store_result result, uint64_t expected)
{
	struct store_item item = number(op, key, delta);

	assert_int_equal(run_one(store, &item), result);
	if (result == STORE_OK)
		assert_int_equal(item.number, expected);
}

static void test_counters(void **state)
{
	(void)state;
	check_number(STORE_DECR, "n", 1, STORE_MISS, 0);
	check_number(STORE_INCR, "n", 5, STORE_OK, 5); /* made with what is added */
	check_number(STORE_INCR, "n", 1, STORE_OK, 6);
	check_number(STORE_DECR, "n", 2, STORE_OK, 4);
	check_number(STORE_DECR, "n", 100, STORE_OK, 0); /* stops there */
	check_number(STORE_INCR, "n", 1, STORE_OK, 1);
	check_number(STORE_INCR, "big", 9007199254740993, STORE_OK, 9007199254740993);
	check_number(STORE_INCR, "big", 9007199254740993, STORE_OK, 18014398509481986);
	assert_int_equal(set_text(store, "word", "word"), STORE_OK);
	check_number(STORE_INCR, "word", 1, STORE_FAIL, 0);
	check_number(STORE_INCR, "n", 1, STORE_OK, 2); /* and nothing is out of step */
}

static void check_value(const char *key, const char *bytes, size_t len)
{
	struct store_item set = {.op = STORE_SET, .key = key, .ttl_s = 60, .value = bytes, .value_len = len},
			  get = {.op = STORE_GET, .key = key};

	assert_int_equal(run_one(store, &set), STORE_OK);
	assert_int_equal(run_one(store, &get), STORE_OK);
	assert_int_equal(get.value_len, len);
	assert_memory_equal(get.value, bytes, len);
}

static void test_values_of_any_bytes(void **state)
{
	static const char protocol[] = "EN\r\nVA 3 v\r\nabc\r\n\0HD\r\n";
	char bytes[256], key[STORE_KEY_MAX + 1];
	int i;

	(void)state;
	for (i = 0; i < 256; i++)
		bytes[i] = (char)i;
	check_value("bytes", bytes, sizeof(bytes));
	check_value("protocol", protocol, sizeof(protocol) - 1);
	check_value("empty", "", 0);
	memset(key, 'k', STORE_KEY_MAX);
	key[STORE_KEY_MAX] = '\0';
	check_value(key, "v", 1);
}

static void test_large_values(void **state)
{
	char *bytes = malloc(2 * LARGE), text[64];
	struct store_item set = {.op = STORE_SET, .key = "large", .ttl_s = 60, .value = bytes, .value_len = 2 * LARGE};
	size_t i;

	(void)state;
	assert_non_null(bytes);
	for (i = 0; i < 2 * LARGE; i++)
		bytes[i] = (char)(i * 31 + i / 251);
	check_value("large", bytes, LARGE);
	check_value("larger", bytes, STORE_VALUE_MAX);
	check_value("small", "s", 1);
	/* more than memcached takes: it says so, and the connection is of use */
	assert_int_equal(run_one(store, &set), STORE_FAIL);
	assert_int_equal(get_text(store, "small", text, sizeof(text)), STORE_OK);
	assert_string_equal(text, "s");
	free(bytes);
}

/* One batch, both pools, every operation: each item has its own result. */
static void test_batch(void **state)
{
	struct store_item items[] = {number(STORE_INCR, "batch-n", 3),
		{.op = STORE_GET, .pool = STORE_CACHE, .key = "batch-none"},
		{.op = STORE_SET, .pool = STORE_CACHE, .key = "batch-a", .ttl_s = 60, .value = "one", .value_len = 3},
		{.op = STORE_GET, .pool = STORE_CACHE, .key = "batch-a"}, number(STORE_INCR, "batch-n", 4),
		{.op = STORE_SET, .pool = STORE_CACHE, .key = "batch-b", .ttl_s = 60, .value = "three", .value_len = 5},
		{.op = STORE_GET, .pool = STORE_CACHE, .key = "batch-b"}, number(STORE_DECR, "batch-n", 1),
		{.op = STORE_DELETE, .pool = STORE_CACHE, .key = "batch-a"},
		{.op = STORE_GET, .pool = STORE_CACHE, .key = "batch-a"}, number(STORE_DECR, "batch-none", 1)};
	static const enum store_result results[] = {STORE_OK, STORE_MISS, STORE_OK, STORE_OK, STORE_OK, STORE_OK,
		STORE_OK, STORE_OK, STORE_OK, STORE_MISS, STORE_MISS};
	size_t i;

	(void)state;
	store_run(store, items, COUNT(items));
	for (i = 0; i < COUNT(items); i++)
		assert_int_equal(items[i].result, results[i]);
	assert_int_equal(items[0].number, 3);
	assert_int_equal(items[4].number, 7);
	assert_int_equal(items[7].number, 6);
	/* both values are still there */
	assert_int_equal(items[3].value_len, 3);
	assert_memory_equal(items[3].value, "one", 3);
	assert_int_equal(items[6].value_len, 5);
	assert_memory_equal(items[6].value, "three", 5);
	store_run(store, NULL, 0);
}

/* Each pool has its own servers. */
static void test_pools_are_apart(void **state)
{
	const char *const a[] = {first.path, NULL}, *const b[] = {second.path, NULL};
	struct stats *shared = new_stats();
	struct store_options o = {.servers = {a, b}, .timeout_us = PATIENT_MS * 1000};
	struct store *both = store_new(&o, shared), *only_second = store_of(b, PATIENT_MS, shared);
	struct store_item items[] = {
		{.op = STORE_SET, .pool = STORE_CACHE, .key = "pool", .ttl_s = 60, .value = "text", .value_len = 4},
		{.op = STORE_INCR, .pool = STORE_COUNTERS, .key = "pool", .delta = 7, .ttl_s = 60},
		{.op = STORE_GET, .pool = STORE_CACHE, .key = "pool"}};
	char text[64];

	(void)state;
	store_run(both, items, COUNT(items));
	assert_int_equal(items[1].number, 7);
	assert_memory_equal(items[2].value, "text", 4);
	assert_int_equal(get_text(store, "pool", text, sizeof(text)), STORE_OK);
	assert_string_equal(text, "text");
	assert_int_equal(get_text(only_second, "pool", text, sizeof(text)), STORE_OK);
	assert_string_equal(text, "7");
	store_free(both);
	store_free(only_second);
}

/* What leases are made of: added once, touched with its value seen, deleted only while it is ours. */
static void test_add_touch_and_delete_ours(void **state)
{
	struct store_item add = {.op = STORE_ADD, .key = "lease", .ttl_s = 60, .value = "mine", .value_len = 4},
			  touch = {.op = STORE_GAT, .key = "lease", .ttl_s = 60}, drop;

	(void)state;
	assert_int_equal(run_one(store, &touch), STORE_MISS);
	assert_int_equal(run_one(store, &add), STORE_OK);
	assert_int_equal(run_one(store, &add), STORE_EXISTS);
	assert_int_equal(run_one(store, &touch), STORE_OK);
	assert_int_equal(touch.value_len, 4);
	assert_memory_equal(touch.value, "mine", 4);
	assert_true(touch.cas != 0 && touch.cas == add.cas);
	drop = (struct store_item){.op = STORE_DELETE, .key = "lease", .cas = touch.cas};
	assert_int_equal(set_text(store, "lease", "theirs"), STORE_OK);
	assert_int_equal(run_one(store, &drop), STORE_EXISTS);
	assert_int_equal(run_one(store, &touch), STORE_OK);
	drop.cas = touch.cas;
	assert_int_equal(run_one(store, &drop), STORE_OK);
	assert_int_equal(run_one(store, &drop), STORE_MISS);
	assert_int_equal(run_one(store, &add), STORE_OK);
}

/* A touch that shortens a life, seen by its end. */
static void test_touch_sets_the_ttl(void **state)
{
	struct store_item touch = {.op = STORE_GAT, .key = "touched", .ttl_s = 1};
	int64_t deadline = clock_mono_ms() + 4000;
	char text[8];

	(void)state;
	assert_int_equal(set_text(store, "touched", "x"), STORE_OK); /* for a minute */
	assert_int_equal(run_one(store, &touch), STORE_OK);
	while (get_text(store, "touched", text, sizeof(text)) == STORE_OK && clock_mono_ms() < deadline)
		usleep(20000);
	assert_int_equal(get_text(store, "touched", text, sizeof(text)), STORE_MISS);
}

/* What epochs are made of: read, or made as told, in one operation. */
static void test_a_counter_made_with_a_value(void **state)
{
	struct store_item first_look = {.op = STORE_INCR, .key = "epoch", .initial = 1700000000000001},
			  second_look = {.op = STORE_INCR, .key = "epoch", .initial = 5};

	(void)state;
	assert_int_equal(run_one(store, &first_look), STORE_OK);
	assert_int_equal(first_look.number, 1700000000000001);
	assert_int_equal(run_one(store, &second_look), STORE_OK);
	assert_int_equal(second_look.number, 1700000000000001);
}

/* Kept together on one server, wherever the ring would put each. */
static void test_a_server_of_ones_choice(void **state)
{
	const char *const servers[] = {first.path, second.path, NULL}, *const alone[] = {second.path, NULL};
	struct store *ring = store_of(servers, PATIENT_MS, new_stats()),
		     *only = store_of(alone, PATIENT_MS, new_stats());
	struct store_item set = {.op = STORE_SET, .ttl_s = 60, .value = "x", .value_len = 1, .server = 2};
	char key[32], text[8];
	int i, by_ring = 0;

	(void)state;
	assert_int_equal(store_servers(ring, STORE_CACHE), 2);
	assert_string_equal(store_server_name(ring, STORE_CACHE, 2), second.path);
	for (i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "placed-%d", i);
		by_ring += store_server_of(ring, STORE_CACHE, key) == 2;
		set.key = key;
		assert_int_equal(run_one(ring, &set), STORE_OK);
		assert_int_equal(get_text(only, key, text, sizeof(text)), STORE_OK);
	}
	assert_in_range(by_ring, 1, 39);
	store_free(ring);
	store_free(only);
}

static void test_ttl(void **state)
{
	struct store_item set = {.op = STORE_SET, .key = "short", .ttl_s = 1, .value = "x", .value_len = 1},
			  month = {.op = STORE_SET,
				  .key = "month",
				  .ttl_s = STORE_TTL_MAX,
				  .value = "x",
				  .value_len = 1},
			  count = {.op = STORE_INCR, .key = "short-n", .ttl_s = 1, .delta = 5};
	int64_t deadline = clock_mono_ms() + 4000;
	char text[8];

	(void)state;
	assert_int_equal(run_one(store, &set), STORE_OK);
	assert_int_equal(run_one(store, &month), STORE_OK);
	assert_int_equal(run_one(store, &count), STORE_OK);
	while (get_text(store, "short", text, sizeof(text)) == STORE_OK && clock_mono_ms() < deadline)
		usleep(20000);
	assert_int_equal(get_text(store, "short", text, sizeof(text)), STORE_MISS);
	assert_int_equal(get_text(store, "month", text, sizeof(text)), STORE_OK);
	usleep(100000);
	assert_int_equal(run_one(store, &count), STORE_OK); /* a new window: it begins with what is added */
	assert_int_equal(count.number, 5);
}

/* Not an outage: the worker finds a new connection, and nobody notices. */
static void test_restart_is_not_noticed(void **state)
{
	struct stats *shared = new_stats();
	const char *const servers[] = {second.path, NULL};
	struct store *s = store_of(servers, PATIENT_MS, shared);
	struct store_item items[] = {number(STORE_INCR, "r", 1), {.op = STORE_GET, .key = "r2"}};
	char text[8];
	int i;

	(void)state;
	assert_int_equal(set_text(s, "r2", "x"), STORE_OK);
	for (i = 0; i < 3; i++) {
		memcached_end(&second);
		memcached_start(&second);
		store_begin(s);
		store_run(s, items, 2);
		assert_int_equal(items[0].result, STORE_OK);
		assert_int_equal(items[0].number, 1);
		assert_int_equal(items[1].result, STORE_MISS);
		assert_int_equal(get_text(s, "r", text, sizeof(text)), STORE_OK);
	}
	store_free(s);
}

/* Processes have connections of their own, also when the store was made before fork. */
static void test_after_fork(void **state)
{
	const char *const servers[] = {first.path, NULL};
	struct store *s = store_of(servers, PATIENT_MS, new_stats());
	struct store_item item;
	pid_t children[8];
	int i, j, status;

	(void)state;
	for (i = 0; i < 8; i++) {
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (children[i] == 0) {
			for (j = 0; j < 100; j++) {
				item = number(STORE_INCR, "forked", 1);
				if (run_one(s, &item) != STORE_OK)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (i = 0; i < 8; i++) {
		waitpid(children[i], &status, 0);
		assert_int_equal(status, 0);
	}
	item = number(STORE_INCR, "forked", 1);
	assert_int_equal(run_one(s, &item), STORE_OK);
	assert_int_equal(item.number, 801);
	store_free(s);
}

static void test_server_names(void **state)
{
	static const char *const valid[] = {"/run/pavise/memcached.sock", "localhost", "10.0.0.1:11211",
		"cache.example:1", "[::1]", "[::1]:11212", "host:65535"};
	static const char *const invalid[] = {"", ":11211", "host:", "host:0", "host:65536", "host:x", "host:1x",
		"[::1", "[::1]x", "[]:1", "a host", "host/path", "host:-1"};
	char path[200];
	const char *why;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(valid); i++)
		if (!store_server_valid(valid[i], &why))
			fail_msg("refused: %s: %s", valid[i], why);
	for (i = 0; i < COUNT(invalid); i++) {
		why = NULL;
		if (store_server_valid(invalid[i], &why))
			fail_msg("accepted: %s", invalid[i]);
		assert_non_null(why);
	}
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[107] = '\0';
	assert_true(store_server_valid(path, &why));
	path[107] = 'x';
	path[108] = '\0';
	assert_false(store_server_valid(path, &why));
	check_contains(why, "107");
}

static int set_up(void **state)
{
	const char *const servers[] = {first.path, NULL};

	(void)state;
	make_folder(folder);
	snprintf(first.path, sizeof(first.path), "%s/1.sock", folder);
	snprintf(second.path, sizeof(second.path), "%s/2.sock", folder);
	memcached_start(&first);
	memcached_start(&second);
	store = store_of(servers, PATIENT_MS, new_stats());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	store_free(store);
	memcached_end(&first);
	memcached_end(&second);
	remove_folder(folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get_set_delete),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_values_of_any_bytes),
		cmocka_unit_test(test_large_values),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_pools_are_apart),
		cmocka_unit_test(test_add_touch_and_delete_ours),
		cmocka_unit_test(test_touch_sets_the_ttl),
		cmocka_unit_test(test_a_counter_made_with_a_value),
		cmocka_unit_test(test_a_server_of_ones_choice),
		cmocka_unit_test(test_ttl),
		cmocka_unit_test(test_restart_is_not_noticed),
		cmocka_unit_test(test_after_fork),
		cmocka_unit_test(test_server_names),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
