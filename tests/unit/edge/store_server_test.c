/* Who waits for whom, who is believed to be alive, and which of a host's addresses is used. */
#include "../folder_unit.h"
#include "../memcached_unit.h"
#include "edge/store_server.h"

#include <poll.h>

enum { TIMEOUT_MS = 200, DRIPS = 8, FILLERS = 4 };

static struct memcached server;
static struct stats *shared;

/* A process of its own, as far as the store can tell. */
static struct store *new_worker(void)
{
	const char *const servers[] = {server.path, NULL};

	return store_of(servers, TIMEOUT_MS, shared);
}

static enum store_result get(struct store *s)
{
	store_begin(s);
	return run_one(s, &(struct store_item){.op = STORE_GET, .key = "a"});
}

/* ---- who knows what when ---- */

static int listen_at(const char *path)
{
	struct sockaddr_un un = unix_address(path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(path);
	assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(listener, 16), 0);
	return listener;
}

/* Another worker's GET; its exit status is the result. */
static pid_t get_elsewhere(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(get(new_worker()));
	return pid;
}

/* What it said before it died is no sign of life, however late it is read. */
static void test_last_words(void **state)
{
	int listener = listen_at(server.path), fd, status;
	char request[64];
	struct store *s;
	pid_t other;

	(void)state;
	other = get_elsewhere();
	fd = accept(listener, NULL, NULL);
	assert_true(read(fd, request, sizeof(request)) > 0);
	unlink(server.path);
	s = new_worker();
	assert_int_equal(get(s), STORE_DOWN);
	assert_int_equal(write(fd, "VA 1 c1\r\nx\r\n", 12), 12);
	waitpid(other, &status, 0);
	assert_int_equal(WEXITSTATUS(status), STORE_OK);
	assert_int_equal(shared->store[0].down, 1);
	close(fd);
	close(listener);
	store_free(s);
}

/* One that goes on talking is waited for, and its neighbour that says nothing is not. */
static void test_a_talkative_neighbour(void **state)
{
	char quiet[FILE_PATH + 8];
	const char *const servers[] = {server.path, quiet, NULL};
	struct store_item items[] = {
		{.op = STORE_GET, .key = "a", .server = 1}, {.op = STORE_GET, .key = "a", .server = 2}};
	int listener = listen_at(server.path), silent, fd, i;
	char request[64];
	struct store *s;
	pid_t pid;

	(void)state;
	snprintf(quiet, sizeof(quiet), "%s.quiet", server.path);
	silent = listen_at(quiet);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fd = accept(listener, NULL, NULL);
		i = read(fd, request, sizeof(request)) > 0 && write(fd, "VA 8 c1\r\n", 9) == 9;
		for (; i > 0 && i <= DRIPS; i++) {
			usleep(TIMEOUT_MS * 1000 / 2);
			/* the second is given up before the first has said half of it */
			if (i == DRIPS / 2 && shared->store[1].timeouts != 1)
				_exit(1);
			if (write(fd, "x", 1) != 1)
				_exit(2);
		}
		_exit(write(fd, "\r\n", 2) != 2);
	}
	s = store_of(servers, TIMEOUT_MS, shared);
	store_run(s, items, COUNT(items));
	assert_int_equal(items[0].result, STORE_OK);
	assert_int_equal(items[1].result, STORE_DOWN);
	waitpid(pid, &i, 0);
	assert_int_equal(WEXITSTATUS(i), 0);
	store_free(s);
	close(listener);
	close(silent);
}

/* A request that lasts goes on without the one that let it wait, and not without the others. */
static void test_again(void **state)
{
	char quiet[FILE_PATH + 8];
	const char *const servers[] = {quiet, server.path, NULL};
	struct store_item late = {.op = STORE_GET, .key = "a", .server = 1},
			  good = {.op = STORE_GET, .key = "a", .server = 2};
	struct store *s;
	int silent, i;

	(void)state;
	snprintf(quiet, sizeof(quiet), "%s.quiet", server.path);
	silent = listen_at(quiet);
	memcached_start(&server);
	s = store_of(servers, TIMEOUT_MS, shared);
	store_begin(s);
	assert_int_equal(run_one(s, &good), STORE_MISS);
	assert_int_equal(run_one(s, &late), STORE_DOWN);
	assert_int_equal(run_one(s, &good), STORE_DOWN); /* a short one has waited enough */
	for (i = 0; i < 3; i++) {
		store_again(s);
		assert_int_equal(run_one(s, &late), STORE_DOWN);
		assert_int_equal(run_one(s, &good), STORE_MISS);
	}
	assert_int_equal(shared->store[0].timeouts, 1);
	assert_false(store_server_down(s, STORE_CACHE, 1));
	for (i = 1; i < STORE_TIMEOUTS; i++) {
		store_begin(s);
		run_one(s, &late);
	}
	assert_true(store_server_down(s, STORE_CACHE, 1));
	assert_false(store_server_down(s, STORE_CACHE, 2));
	store_free(s);
	close(silent);
	memcached_end(&server);
}

/* ---- a host with several addresses ---- */

/* A listener on a port of its own, and its address. */
static int listen_tcp(struct sockaddr_in *in, int backlog)
{
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*in);

	*in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(listener, (struct sockaddr *)in, len), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)in, &len), 0);
	if (backlog >= 0)
		assert_int_equal(listen(listener, backlog), 0);
	return listener;
}

static void add_address(struct store_server *v, const struct sockaddr_in *in)
{
	memcpy(&v->addrs[v->addr_count].addr, in, sizeof(*in));
	v->addrs[v->addr_count++].len = sizeof(*in);
}

/* As edge/store does it. */
static void run_alone(struct store_server *v, struct store_item *item, int listener)
{
	struct pollfd fds[2];
	int accepted = -1;

	assert_true(store_server_usable(v));
	store_server_queue(v, item);
	store_server_send(v);
	while (v->pending) {
		fds[0] = (struct pollfd){v->fd, store_server_events(v), 0};
		fds[1] = (struct pollfd){accepted < 0 ? listener : -1, POLLIN, 0};
		if (poll(fds, 2, TIMEOUT_MS) == 0) {
			store_server_timed_out(v);
		} else if (fds[1].revents) {
			accepted = accept(listener, NULL, NULL);
			assert_int_equal(write(accepted, "HD\r\n", 4), 4);
		} else {
			store_server_progress(v);
		}
	}
	store_server_collect(v);
	close(accepted);
}

/* A host whose first address is of no use. */
static void begin_with(struct store_server *v, const struct sockaddr_in *first, const struct sockaddr_in *second)
{
	const char *why;

	assert_true(store_server_parse(v, "localhost", &why));
	v->health = &shared->store[0];
	add_address(v, first);
	add_address(v, second);
}

static enum store_result delete_at(struct store_server *v, int listener)
{
	struct store_item item = {.op = STORE_DELETE, .key = "a", .result = STORE_DOWN};

	run_alone(v, &item, listener);
	return item.result;
}

static void test_an_address_that_refuses(void **state)
{
	struct sockaddr_in refuses, listens;
	int closed = listen_tcp(&refuses, -1), listener = listen_tcp(&listens, 16), i;
	struct store_server v;

	(void)state;
	begin_with(&v, &refuses, &listens);
	for (i = 0; i < 2; i++) { /* the connection is closed each time, and the next one made where it was */
		assert_int_equal(delete_at(&v, listener), STORE_OK);
		assert_int_equal(v.addr, 1);
	}
	store_server_release(&v);
	close(closed);
	close(listener);
}

/* Costs one request its time, and is not tried first again. */
static void test_an_address_that_swallows(void **state)
{
	struct sockaddr_in swallows, listens;
	int full = listen_tcp(&swallows, 0), listener = listen_tcp(&listens, 16), fillers[FILLERS], i;
	struct store_server v;

	(void)state;
	for (i = 0; i < FILLERS; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		connect(fillers[i], (struct sockaddr *)&swallows, sizeof(swallows));
	}
	begin_with(&v, &swallows, &listens);
	assert_int_equal(delete_at(&v, listener), STORE_DOWN);
	assert_int_equal(delete_at(&v, listener), STORE_OK);
	assert_int_equal(shared->store[0].down, 0);
	store_server_release(&v);
	for (i = 0; i < FILLERS; i++)
		close(fillers[i]);
	close(full);
	close(listener);
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
		cmocka_unit_test_setup(test_last_words, before_each),
		cmocka_unit_test_setup(test_a_talkative_neighbour, before_each),
		cmocka_unit_test_setup(test_again, before_each),
		cmocka_unit_test_setup(test_an_address_that_refuses, before_each),
		cmocka_unit_test_setup(test_an_address_that_swallows, before_each),
	};

	return cmocka_run_group_tests(tests, folder_begin, folder_end);
}
