/* What was asked for before a purge is never served after it, whatever memcached has forgotten since. */
#include "../memcached_unit.h"

#include "gate/epoch.h"

enum { SERVERS = 3, BATCH = SERVERS * TXN_EPOCHS };

static struct memcached servers[SERVERS];
static struct worker worker;
static const char *no_headers[] = {NULL};
static struct config config = {.memcached.prefix = "pv", .forward_headers = no_headers};
static const struct provider provider = {.name = "p", .base_url = "http://h/v1"};
static const struct model model = {.name = "m", .model = "real", .provider = &provider};
static const struct key alice = {.name = "alice", .team = "red"};
static struct arena arena = ARENA_INIT;

/* A request that reads the epochs of these servers in one batch. */
static void read_epochs(struct txn *t, int first, int last)
{
	static struct store_item batch[2][BATCH];
	static int turn;
	int i;

	*t = (struct txn){.worker = &worker,
		.config = &config,
		.arena = &arena,
		.key = &alice,
		.model = &model,
		.batch = batch[turn++ % 2]};
	store_begin(worker.store);
	assert_int_equal(epoch_items_max(t), BATCH);
	for (i = first; i <= last; i++) {
		epoch_prepare(t, i);
		epoch_prepare(t, i); /* once is enough */
	}
	assert_int_equal(t->batch_count, (size_t)(last - first + 1) * TXN_EPOCHS);
	store_run(worker.store, t->batch, t->batch_count);
}

static bool epochs_of(int server, uint64_t epochs[TXN_EPOCHS])
{
	struct txn t;

	read_epochs(&t, server, server);
	return epoch_read(&t, server, epochs);
}

static void run_on(int server, enum store_op op, const char *key, const char *value)
{
	struct store_item item = {.op = op,
		.pool = STORE_CACHE,
		.key = key,
		.server = server,
		.value = value,
		.value_len = value ? strlen(value) : 0};

	assert_int_equal(run_one(worker.store, &item), STORE_OK);
}

static const char *scope_key(void)
{
	return epoch_key_of_scope(&arena, &config, "key alice");
}

static const char *model_key(void)
{
	return epoch_key_of_model(&arena, &config, &model);
}

static void purge(int server, const char *key)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)epoch_of_purge());
	run_on(server, STORE_SET, key, text);
}

static struct cache_entry entry_of(const uint64_t epochs[TXN_EPOCHS])
{
	return (struct cache_entry){.stored_ms = clock_real_ms(), .epochs = {epochs[0], epochs[1]}};
}

static void test_made_once_and_even(void **state)
{
	uint64_t first[TXN_EPOCHS], again[TXN_EPOCHS];
	int64_t before = clock_real_us();

	(void)state;
	assert_true(epochs_of(1, first) && epochs_of(1, again));
	assert_memory_equal(first, again, sizeof(first));
	assert_int_equal((first[0] | first[1]) & 1, 0);
	assert_true((int64_t)first[0] >= before - 1 && (int64_t)first[0] <= clock_real_us());
}

static void check_dead_for_ever(int server, const char *key)
{
	uint64_t epochs[TXN_EPOCHS];
	struct cache_entry e;

	assert_true(epochs_of(server, epochs));
	e = entry_of(epochs);
	assert_true(epoch_fits(&e, epochs));
	purge(server, key);
	assert_true(epochs_of(server, epochs));
	assert_false(epoch_fits(&e, epochs));
	run_on(server, STORE_DELETE, key, NULL); /* as memcached does when it needs the room */
	assert_true(epochs_of(server, epochs));
	assert_false(epoch_fits(&e, epochs));
	e = entry_of(epochs);
	assert_true(epoch_fits(&e, epochs));
	run_on(server, STORE_DELETE, key, NULL);
	assert_true(epochs_of(server, epochs));
	assert_false(epoch_fits(&e, epochs)); /* it may have been purged in the meantime: who knows */
}

static void test_purged_is_dead(void **state)
{
	(void)state;
	check_dead_for_ever(1, scope_key());
	check_dead_for_ever(2, model_key());
}

/* An entry of the version before says no epochs: it lives until it is purged. */
static void test_entries_without_epochs(void **state)
{
	uint64_t epochs[TXN_EPOCHS];
	struct cache_entry e = {.stored_ms = clock_real_ms() - 1000}, later;

	(void)state;
	assert_true(epochs_of(3, epochs));
	assert_true(epoch_fits(&e, epochs));
	purge(3, model_key());
	assert_true(epochs_of(3, epochs) && epochs[1] & 1);
	assert_false(epoch_fits(&e, epochs));
	later = (struct cache_entry){
		.stored_ms = clock_real_ms() + 1000}; /* by a host that has not been upgraded yet */
	assert_true(epoch_fits(&later, epochs));
}

static void test_a_dead_server_says_nothing_of_its_own(void **state)
{
	uint64_t epochs[TXN_EPOCHS];
	struct txn t;

	(void)state;
	memcached_end(&servers[1]);
	unlink(servers[1].path);
	read_epochs(&t, 1, SERVERS);
	assert_true(epoch_read(&t, 1, epochs) && epoch_read(&t, 3, epochs));
	assert_false(epoch_read(&t, 2, epochs));
}

static void test_names(void **state)
{
	const struct provider other_provider = {.name = "p", .base_url = "http://other/v1"};
	struct model alias = {.name = "alias", .model = "real", .provider = &provider}, other = alias;
	const char *team = epoch_key_of_scope(&arena, &config, cache_scope(&arena, &alice, SCOPE_TEAM));

	(void)state;
	assert_int_equal(strncmp(scope_key(), "pv:e:", 5), 0);
	assert_string_equal(scope_key(), epoch_key_of_scope(&arena, &config, cache_scope(&arena, &alice, SCOPE_KEY)));
	assert_string_not_equal(scope_key(), team);
	assert_string_not_equal(scope_key(), model_key());
	assert_string_equal(
		epoch_key_of_model(&arena, &config, &alias), model_key()); /* what shares is purged together */
	other.model = "other";
	assert_string_not_equal(epoch_key_of_model(&arena, &config, &other), model_key());
	other = alias;
	other.provider = &other_provider;
	assert_string_not_equal(epoch_key_of_model(&arena, &config, &other), model_key());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made_once_and_even),
		cmocka_unit_test(test_purged_is_dead),
		cmocka_unit_test(test_entries_without_epochs),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_a_dead_server_says_nothing_of_its_own),
	};
	const char *paths[SERVERS + 1] = {servers[0].path, servers[1].path, servers[2].path, NULL};
	char folder[FOLDER_PATH];
	int i, failed;

	make_folder(folder);
	for (i = 0; i < SERVERS; i++) {
		snprintf(servers[i].path, sizeof(servers[i].path), "%s/%d.sock", folder, i);
		memcached_start(&servers[i]);
	}
	worker.store = store_of(paths, 5000, new_stats());
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	store_free(worker.store);
	for (i = 0; i < SERVERS; i++)
		memcached_end(&servers[i]);
	arena_release(&arena);
	remove_folder(folder);
	return failed;
}
