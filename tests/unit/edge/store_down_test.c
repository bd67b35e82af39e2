/* A memcached that is stopped, killed, absent or mad costs a request one timeout, and nobody else anything. */
#include "../folder_unit.h"
#include "../memcached_unit.h"

/* STORE_TIMEOUTS: so many in a row are an outage, one is a busy machine. */
enum { TIMEOUT_MS = 200, AT_ONCE_MS = 150, STORE_TIMEOUTS = 3, RING = 3, KEYS = 60 };

static struct memcached server;
static struct stats *shared;

/* A process of its own, as far as the store can tell. */
static struct store *new_worker(void)
{
	const char *const servers[] = {server.path, NULL};

	return store_of(servers, TIMEOUT_MS, shared);
}

/* The result of a GET, and how long it took. */
static enum store_result timed_get(struct store *s, const char *key, int64_t *took_ms)
{
	struct store_item item = {.op = STORE_GET, .key = key};
	int64_t begun = clock_mono_ms();

	run_one(s, &item);
	*took_ms = clock_mono_ms() - begun;
	return item.result;
}

static void check_down_at_once(struct store *s)
{
	int64_t took;

	assert_int_equal(timed_get(s, "a", &took), STORE_DOWN);
	assert_in_range(took, 0, AT_ONCE_MS);
}

/* Tries as requests do until it is answered; how many of them had to wait. */
static int recover(struct store *s)
{
	int64_t deadline = clock_mono_ms() + 5000, took;
	int waited = 0;

	for (;;) {
		store_begin(s);
		if (timed_get(s, "a", &took) != STORE_DOWN)
			return waited;
		waited += took > AT_ONCE_MS;
		if (clock_mono_ms() > deadline)
			fail_msg("it does not come back");
		usleep(10000);
	}
}

static void check_waits_once(struct store *s)
{
	int64_t took;

	store_begin(s);
	assert_int_equal(timed_get(s, "a", &took), STORE_DOWN);
	assert_in_range(took, TIMEOUT_MS - 5, TIMEOUT_MS + AT_ONCE_MS);
	check_down_at_once(s);
	check_down_at_once(s);
}

static void test_stopped(void **state)
{
	struct store *mine, *other;
	int64_t took, since;
	int i;

	(void)state;
	memcached_start(&server);
	mine = new_worker();
	other = new_worker();
	assert_int_equal(set_text(mine, "a", "x"), STORE_OK);
	assert_int_equal(set_text(other, "a", "x"), STORE_OK);
	memcached_stop(&server);
	/* each of the first requests, whoever's they are, waits once; then everybody knows */
	for (i = 0; i < STORE_TIMEOUTS; i++)
		check_waits_once(i % 2 ? other : mine);
	since = clock_mono_ms();
	do {
		store_begin(mine);
		check_down_at_once(mine);
		store_begin(other);
		check_down_at_once(other);
		usleep(50000);
	} while (clock_mono_ms() - since < 900);
	/* then one of them tries, and the others do not wait for it */
	usleep(400000);
	check_waits_once(other);
	store_begin(mine);
	check_down_at_once(mine);

	kill(server.pid, SIGCONT);
	recover(mine);
	assert_int_equal(timed_get(mine, "a", &took), STORE_OK);
	store_begin(other);
	assert_int_equal(timed_get(other, "a", &took), STORE_OK);
	store_free(mine);
	store_free(other);
	memcached_end(&server);
}

/* One late answer is forgotten with the next one that is in time. */
static void test_late_once(void **state)
{
	struct store *s;
	int64_t took;
	int i;

	(void)state;
	memcached_start(&server);
	s = new_worker();
	for (i = 0; i < STORE_TIMEOUTS + 1; i++) {
		memcached_stop(&server);
		check_waits_once(s);
		kill(server.pid, SIGCONT);
		store_begin(s);
		assert_int_equal(timed_get(s, "a", &took), STORE_MISS);
	}
	store_free(s);
	memcached_end(&server);
}

/* However many operations: one round trip, one deadline. */
static void test_one_deadline_for_a_batch(void **state)
{
	struct store_item items[20];
	struct store *s;
	int64_t begun;
	size_t i;

	(void)state;
	memcached_start(&server);
	s = new_worker();
	assert_int_equal(set_text(s, "a", "x"), STORE_OK);
	memcached_stop(&server);
	for (i = 0; i < COUNT(items); i++)
		items[i] =
			(struct store_item){.op = i % 2 ? STORE_INCR : STORE_GET, .key = "b", .delta = 1, .ttl_s = 60};
	store_begin(s);
	begun = clock_mono_ms();
	store_run(s, items, COUNT(items));
	assert_in_range(clock_mono_ms() - begun, TIMEOUT_MS - 5, TIMEOUT_MS + AT_ONCE_MS);
	for (i = 0; i < COUNT(items); i++)
		assert_int_equal(items[i].result, STORE_DOWN);
	store_free(s);
	memcached_end(&server);
}

static void test_killed_and_absent(void **state)
{
	struct store *s;
	int64_t took;

	(void)state;
	memcached_start(&server);
	s = new_worker();
	assert_int_equal(set_text(s, "a", "x"), STORE_OK);
	memcached_end(&server);
	store_begin(s);
	check_down_at_once(s); /* a closed door need not be waited for */
	store_begin(s);
	check_down_at_once(s);
	unlink(server.path);
	usleep(1050000);
	store_begin(s);
	check_down_at_once(s);
	memcached_start(&server);
	assert_int_equal(recover(s), 0);
	assert_int_equal(timed_get(s, "a", &took), STORE_MISS);
	store_free(s);
	memcached_end(&server);
}

static int read_all(int fd, char *said, size_t room)
{
	ssize_t n = read(fd, said, room - 1);
	int lines = 0;
	char *c;

	said[n > 0 ? n : 0] = '\0';
	for (c = said; *c; c++)
		lines += *c == '\n';
	return lines;
}

/* One warning when it goes and one line when it is back, however many processes see it. */
static void test_one_warning(void **state)
{
	int fds[2], saved = dup(STDERR_FILENO), i, lines, status;
	struct store *s[4];
	char said[8192];
	pid_t pid;

	(void)state;
	unlink(server.path);
	assert_int_equal(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	for (i = 0; i < 4; i++) {
		s[i] = new_worker();
		timed_get(s[i], "a", &(int64_t){0});
	}
	pid = fork();
	if (pid == 0) {
		store_begin(s[0]);
		timed_get(s[0], "a", &(int64_t){0});
		_exit(0);
	}
	waitpid(pid, &status, 0);
	memcached_start(&server);
	for (i = 0; i < 4; i++)
		recover(s[i]);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	lines = read_all(fds[0], said, sizeof(said));
	close(fds[0]);
	check_contains(said, "\"event\":\"memcached_down\"");
	check_contains(said, server.path);
	check_contains(said, "\"event\":\"memcached_up\"");
	assert_int_equal(lines, 2);
	for (i = 0; i < 4; i++)
		store_free(s[i]);
	memcached_end(&server);
}

/* ---- mad ones ---- */

static const struct {
	const char *name;
	struct answer_bytes answer;
} mad[] = {
	{"closes at once", {"", true}},
	{"closes in the head", {"VA 1", true}},
	{"closes in the value", {"VA 10 \r\nabc", true}},
	{"closes between value and end", {"VA 3 \r\nabc", true}},
	{"is silent", {"", false}},
	{"stops in the value", {"VA 10 \r\nabc", false}},
	{"promises more than there can be", {"VA 99999999999999999999 \r\nabc\r\n", false}},
	{"promises less than nothing", {"VA -1 \r\nabc\r\n", false}},
	{"speaks HTTP", {"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", true}},
	{"says no size", {"VA abc\r\nabc\r\n", false}},
	{"says another size", {"VA 2 \r\nabc\r\n", false}},
	{"stored what was to be got", {"HD\r\n", false}},
	{"is out of memory", {"SERVER_ERROR out of memory\r\n", false}},
	{"does not know the command", {"ERROR\r\n", false}},
	{"says bytes", {"\x01\xff\x80\n", false}},
};

/* It is not believed, and what it said is not taken for the answer to what is asked later. */
static void check_mad(const char *name, const struct answer_bytes *answer)
{
	struct answer_bytes answers[] = {*answer, {"VA 4 \r\ntrue\r\n", false}};
	enum store_result result;
	struct store *s;
	int64_t took;
	char text[64];

	shared = new_stats();
	pretender_start(&server, answers, COUNT(answers));
	s = new_worker();
	result = timed_get(s, "a", &took);
	if (result != STORE_DOWN && result != STORE_FAIL)
		fail_msg("one that %s: result %d", name, result);
	assert_in_range(took, 0, TIMEOUT_MS + AT_ONCE_MS);
	store_begin(s);
	result = get_text(s, "b", text, sizeof(text));
	if (result == STORE_OK && strcmp(text, "true") != 0)
		fail_msg("one that %s: then \"%s\"", name, text);
	store_free(s);
	memcached_end(&server);
}

static void test_mad(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(mad); i++)
		check_mad(mad[i].name, &mad[i].answer);
}

/* An answer too many, later than the one that was asked for: nobody must be given it. */
static void test_answers_too_many(void **state)
{
	const struct answer_bytes answers[] = {
		{"VA 3 \r\none\r\nVA 5 \r\nstray\r\n", false}, {"VA 3 \r\ntwo\r\n", false}};
	struct store *s;
	char text[64];

	(void)state;
	shared = new_stats();
	pretender_start(&server, answers, 2);
	s = new_worker();
	assert_int_equal(get_text(s, "a", text, sizeof(text)), STORE_OK);
	assert_string_equal(text, "one");
	get_text(s, "b", text, sizeof(text));
	assert_string_not_equal(text, "stray");
	store_free(s);
	memcached_end(&server);
}

/* ---- a ring ---- */

static struct memcached ring[RING];

/* Which server has the key, asked one by one. */
static int owner_of(struct store *const *single, const char *key)
{
	char text[64];
	int i, owner = -1;

	for (i = 0; i < RING; i++)
		if (get_text(single[i], key, text, sizeof(text)) == STORE_OK) {
			assert_int_equal(owner, -1);
			assert_string_equal(text, key);
			owner = i;
		}
	return owner;
}

static void run_keys(struct store *s, enum store_op op, char keys[KEYS][16], struct store_item *items)
{
	int i;

	for (i = 0; i < KEYS; i++)
		items[i] = (struct store_item){
			.op = op, .key = keys[i], .ttl_s = 60, .value = keys[i], .value_len = strlen(keys[i])};
	store_begin(s);
	store_run(s, items, KEYS);
}

static void test_ring(void **state)
{
	const char *servers[RING + 1] = {NULL}, *alone[RING][2] = {{NULL}};
	struct store *all, *again, *single[RING];
	struct store_item items[KEYS];
	char keys[KEYS][16];
	int i, owner[KEYS], share[RING] = {0};

	(void)state;
	shared = new_stats();
	for (i = 0; i < RING; i++) {
		snprintf(ring[i].path, sizeof(ring[i].path), "%s/ring%d.sock", folder, i);
		memcached_start(&ring[i]);
		servers[i] = alone[i][0] = ring[i].path;
		single[i] = store_of(alone[i], 5000, new_stats());
	}
	all = store_of(servers, 5000, shared);
	again = store_of(servers, 5000, shared);
	for (i = 0; i < KEYS; i++)
		snprintf(keys[i], sizeof(keys[i]), "key-%d", i);
	run_keys(all, STORE_SET, keys, items);
	for (i = 0; i < KEYS; i++) {
		assert_int_equal(items[i].result, STORE_OK);
		owner[i] = owner_of(single, keys[i]);
		assert_in_range(owner[i], 0, RING - 1);
		share[owner[i]]++;
	}
	for (i = 0; i < RING; i++)
		assert_in_range(share[i], KEYS / RING / 4, KEYS / RING * 2);
	run_keys(again, STORE_GET, keys, items); /* another process finds all of them */
	for (i = 0; i < KEYS; i++) {
		assert_int_equal(items[i].result, STORE_OK);
		assert_memory_equal(items[i].value, keys[i], strlen(keys[i]));
	}
	memcached_end(&ring[1]);
	run_keys(all, STORE_GET, keys, items); /* only its share is gone, and nothing moves to its neighbours */
	for (i = 0; i < KEYS; i++)
		assert_int_equal(items[i].result, owner[i] == 1 ? STORE_DOWN : STORE_OK);
	run_keys(again, STORE_SET, keys, items);
	for (i = 0; i < KEYS; i++)
		assert_int_equal(items[i].result, owner[i] == 1 ? STORE_DOWN : STORE_OK);
	store_free(all);
	store_free(again);
	for (i = 0; i < RING; i++) {
		store_free(single[i]);
		memcached_end(&ring[i]);
	}
}

static int before_each(void **state)
{
	(void)state;
	snprintf(server.path, sizeof(server.path), "%s/1.sock", folder);
	shared = new_stats();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_stopped, before_each),
		cmocka_unit_test_setup(test_late_once, before_each),
		cmocka_unit_test_setup(test_one_deadline_for_a_batch, before_each),
		cmocka_unit_test_setup(test_killed_and_absent, before_each),
		cmocka_unit_test_setup(test_one_warning, before_each),
		cmocka_unit_test_setup(test_mad, before_each),
		cmocka_unit_test_setup(test_answers_too_many, before_each),
		cmocka_unit_test_setup(test_ring, before_each),
	};

	return cmocka_run_group_tests(tests, folder_begin, folder_end);
}
