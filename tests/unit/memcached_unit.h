/*
 * memcached_unit — a memcached of the test's own on a UNIX socket, and one that only pretends; both ended by pid.
 */
#ifndef PAVISE_TESTS_MEMCACHED_UNIT_H
#define PAVISE_TESTS_MEMCACHED_UNIT_H

#include "unit.h"

#include "base/clock.h"
#include "edge/store.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

struct memcached {
	char path[FILE_PATH];
	pid_t pid; /* 0 = not running */
};

static inline struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	assert_true(strlen(path) < sizeof(un.sun_path));
	memcpy(un.sun_path, path, strlen(path) + 1);
	return un;
}

/* Listening is not enough: a busy machine may take its time until the first answer. */
static inline bool answers(const char *path)
{
	struct sockaddr_un un = unix_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char word[2] = "";
	bool ok = connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0 && write(fd, "mn\r\n", 4) == 4 &&
		  read(fd, word, 2) == 2 && memcmp(word, "MN", 2) == 0;

	close(fd);
	return ok;
}

static inline void memcached_start(struct memcached *m)
{
	int waited;

	unlink(m->path);
	m->pid = fork();
	assert_true(m->pid >= 0);
	if (m->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		if (geteuid() == 0)
			execlp("memcached", "memcached", "-s", m->path, "-m", "64", "-t", "1", "-u", "root", NULL);
		else
			execlp("memcached", "memcached", "-s", m->path, "-m", "64", "-t", "1", NULL);
		_exit(127);
	}
	for (waited = 0; !answers(m->path); waited++) {
		if (waited == 5000)
			fail_msg("memcached does not answer on %s", m->path);
		usleep(1000);
	}
}

/* Comes back when it has stopped. */
static inline void memcached_stop(struct memcached *m)
{
	int status;

	kill(m->pid, SIGSTOP);
	assert_int_equal(waitpid(m->pid, &status, WUNTRACED), m->pid);
	assert_true(WIFSTOPPED(status));
}

static inline void memcached_end(struct memcached *m)
{
	if (m->pid == 0)
		return;
	kill(m->pid, SIGKILL);
	waitpid(m->pid, NULL, 0);
	m->pid = 0;
}

/*
 * A server that answers whatever comes with `answers` in turn, one for each piece that it reads, and then closes the
 * connection; a new connection goes on where the last one ended, and the last answer is said for ever.
 */
struct answer_bytes {
	const char *bytes;
	bool close;
};

static inline void pretend(int listener, const struct answer_bytes *answers, int count)
{
	char request[4096];
	int at = 0, fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		while (read(fd, request, sizeof(request)) > 0) {
			if (write(fd, answers[at].bytes, strlen(answers[at].bytes)) < 0)
				break;
			if (answers[at < count - 1 ? at++ : at].close)
				break;
		}
		close(fd);
	}
	_exit(0);
}

static inline void pretender_start(struct memcached *m, const struct answer_bytes *answers, int count)
{
	struct sockaddr_un un = unix_address(m->path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(m->path);
	assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(listener, 16), 0);
	m->pid = fork();
	assert_true(m->pid >= 0);
	if (m->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		pretend(listener, answers, count);
	}
	close(listener);
}

/* A store whose both pools are these servers (NULL-terminated). */
static inline struct store *store_of(const char *const *servers, int64_t timeout_ms, struct stats *shared)
{
	struct store_options o = {.servers = {servers, servers}, .timeout_us = timeout_ms * 1000};

	return store_new(&o, shared);
}

static inline struct stats *new_stats(void)
{
	const char *why;

	return stats_create("/nonexistent", &why); /* this test's alone */
}

static inline enum store_result run_one(struct store *s, struct store_item *item)
{
	store_run(s, item, 1);
	return item->result;
}

static inline enum store_result set_text(struct store *s, const char *key, const char *value)
{
	return run_one(
		s, &(struct store_item){
			   .op = STORE_SET, .key = key, .ttl_s = 60, .value = value, .value_len = strlen(value)});
}

/* The text goes to `text`, "" if there is none. */
static inline enum store_result get_text(struct store *s, const char *key, char *text, size_t room)
{
	struct store_item item = {.op = STORE_GET, .key = key};

	text[0] = '\0';
	if (run_one(s, &item) == STORE_OK)
		snprintf(text, room, "%.*s", (int)item.value_len, (const char *)item.value);
	return item.result;
}

#endif
