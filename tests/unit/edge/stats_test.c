/* What processes share must be right while they all write, and when some of them are no more. */
#include "../folder_unit.h"

#include "base/clock.h"
#include "edge/stats.h"

#include <signal.h>
#include <sys/wait.h>

enum { WRITERS = 24, ROUNDS = 5000, SHARED_COUNTERS = 7 };

static struct stats *create(void)
{
	const char *why;
	struct stats *s = stats_create(folder, &why);

	assert_null(why);
	return s;
}

/* Each of SHARED_COUNTERS in turn; identities that share places in the table. */
static uint64_t counter(uint64_t i)
{
	i %= SHARED_COUNTERS;
	return 1000 + i / 2 * STATS_LOCAL_COUNTERS + i % 2;
}

static void wait_for(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_counters_are_exact(void **state)
{
	int64_t expires = clock_real_ms() + 60000;
	struct stats *s = create();
	uint64_t sum = 0, i;
	pid_t writers[WRITERS];
	int w;

	(void)state;
	for (w = 0; w < WRITERS; w++) {
		writers[w] = fork();
		assert_true(writers[w] >= 0);
		if (writers[w] == 0) {
			for (i = 0; i < ROUNDS; i++)
				stats_local_add(s, counter(i + (uint64_t)w), expires, 1 + i % 3);
			_exit(0);
		}
	}
	for (w = 0; w < WRITERS; w++)
		wait_for(writers[w]);
	for (i = 0; i < ROUNDS; i++)
		sum += WRITERS * (1 + i % 3);
	for (i = 0; i < SHARED_COUNTERS; i++)
		sum -= stats_local_add(s, counter(i), expires, 0);
	assert_int_equal(sum, 0);
}

/* The number that comes back is this caller's own: a limit of N lets exactly N through. */
static void test_every_number_once(void **state)
{
	int64_t expires = clock_real_ms() + 60000;
	struct stats *s = create();
	pid_t writers[WRITERS];
	int w, i, through = 0, status;

	(void)state;
	for (w = 0; w < WRITERS; w++) {
		writers[w] = fork();
		assert_true(writers[w] >= 0);
		if (writers[w] == 0) {
			for (i = 0; i < 50; i++)
				through += stats_local_add(s, 77, expires, 1) <= 100;
			_exit(through);
		}
	}
	for (w = 0; w < WRITERS; w++) {
		assert_int_equal(waitpid(writers[w], &status, 0), writers[w]);
		through += WEXITSTATUS(status);
	}
	assert_int_equal(through, 100);
}

static void test_counters_end(void **state)
{
	struct stats *s = create();
	int64_t now = clock_real_ms();
	uint64_t i;

	(void)state;
	assert_int_equal(stats_local_add(s, 5, now + 60000, 3), 3);
	assert_int_equal(stats_local_add(s, 5, now + 60000, 4), 7);
	assert_int_equal(stats_local_add(s, 6, now + 60000, 1), 1);
	/* a table full of counters that have ended has room, and they do not come back */
	for (i = 0; i < 3 * STATS_LOCAL_COUNTERS; i++)
		stats_local_add(s, 1000000 + i, now - 1000, 1);
	assert_int_equal(stats_local_add(s, 2000000, now + 60000, 2), 2);
	assert_int_equal(stats_local_add(s, 5, now + 60000, 0), 7);
	/* a full one counts too much rather than too little */
	for (i = 0; i < 3 * STATS_LOCAL_COUNTERS; i++)
		stats_local_add(s, 3000000 + i * 7, now + 60000, 1);
	for (i = 0; i < 100; i++)
		assert_true(stats_local_add(s, 9000000 + i, now + 60000, 5) >= 5);
	assert_true(stats_local_add(s, 5, now + 60000, 0) >= 7);
}

static void test_slots(void **state)
{
	struct stats *s = create();
	int first = stats_claim_slot(s), second, theirs;
	pid_t pid;

	(void)state;
	second = stats_claim_slot(s);
	assert_int_not_equal(first, second);
	assert_true(first >= 0 && second >= 0);
	assert_int_equal(s->slots[first].pid, getpid());
	assert_int_equal(s->slots[first].state, WORKER_STARTING);
	assert_true(s->slots_used > first && s->slots_used > second);

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		theirs = stats_claim_slot(s);
		s->slots[theirs].state = WORKER_CALLING;
		s->slots[theirs].requests = 9;
		_exit(theirs);
	}
	assert_int_equal(waitpid(pid, &theirs, 0), pid);
	theirs = WEXITSTATUS(theirs);
	assert_true(theirs != first && theirs != second);
	/* its process is gone: whoever comes next has it, as new */
	assert_int_equal(stats_claim_slot(s), theirs);
	assert_int_equal(s->slots[theirs].pid, getpid());
	assert_int_equal(s->slots[theirs].state, WORKER_STARTING);
	assert_int_equal(s->slots[theirs].requests, 0);
}

static void test_slots_run_out(void **state)
{
	struct stats *s = create();
	int i;

	(void)state;
	for (i = 0; i < STATS_SLOTS - 1; i++)
		s->slots[i].pid = getpid();
	assert_int_equal(stats_claim_slot(s), STATS_SLOTS - 1);
	assert_int_equal(stats_claim_slot(s), -1);
	assert_int_equal(s->slots_used, STATS_SLOTS);
}

/* Many at once: no two get the same. */
static void test_slots_are_claimed_once(void **state)
{
	struct stats *s = create();
	pid_t writers[WRITERS];
	int w, i, fds[2], mine = 0;
	char go;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	for (w = 0; w < WRITERS; w++) {
		writers[w] = fork();
		assert_true(writers[w] >= 0);
		if (writers[w] == 0) {
			close(fds[1]);
			for (i = 0; i < 20; i++)
				stats_claim_slot(s);
			for (i = 0; i < STATS_SLOTS; i++)
				mine += s->slots[i].pid == getpid();
			i = (int)read(fds[0], &go, 1); /* alive until all have claimed, so that nothing is taken over */
			_exit(mine == 20 ? 0 : 1);
		}
	}
	for (i = 0, w = 0; w < STATS_SLOTS && i < 5000; i++) {
		for (w = 0; w < WRITERS * 20 && s->slots[w].pid; w++)
			;
		if (w == WRITERS * 20)
			break;
		usleep(1000);
	}
	close(fds[0]);
	close(fds[1]);
	for (w = 0; w < WRITERS; w++)
		wait_for(writers[w]);
}

static void test_calling(void **state)
{
	struct stats *s = create();
	int i, slot[4];

	(void)state;
	assert_int_equal(stats_calling(s), 0);
	for (i = 0; i < 4; i++) {
		slot[i] = stats_claim_slot(s);
		s->slots[slot[i]].state = WORKER_CALLING;
	}
	assert_int_equal(stats_calling(s), 4);
	s->slots[slot[1]].state = WORKER_IDLE;
	assert_int_equal(stats_calling(s), 3);
}

/* A fresh start does not see, or disturb, what older processes still share. */
static void test_create_is_fresh(void **state)
{
	struct stats *old = create(), *fresh;

	(void)state;
	old->draining = 1;
	fresh = create();
	assert_int_equal(fresh->draining, 0);
	fresh->can_grow = 1;
	assert_int_equal(old->draining, 1);
	assert_int_equal(old->can_grow, 0);
}

static void test_join_shares(void **state)
{
	const char *why;
	struct stats *a = stats_join(folder, &why), *b;

	(void)state;
	assert_null(why);
	b = stats_join(folder, &why);
	assert_null(why);
	assert_ptr_not_equal(a, b);
	a->store[3].down = 1;
	assert_int_equal(b->store[3].down, 1);
	assert_int_equal(stats_local_add(a, 9, clock_real_ms() + 60000, 1), 1);
	assert_int_equal(stats_local_add(b, 9, clock_real_ms() + 60000, 1), 2);
	/* and it is not the supervisor's */
	assert_int_equal(create()->store[3].down, 0);
}

/* A folder that cannot be written: memory of this process and its children. */
static void test_without_a_folder(void **state)
{
	char file[FILE_PATH], longest[8192];
	const char *why = NULL, *places[3] = {"/nonexistent/folder", file, longest};
	struct stats *s;
	pid_t pid;
	size_t i;

	(void)state;
	snprintf(file, sizeof(file), "%s/a-file", folder);
	write_file(file, "x", 0600);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (i = 0; i < 6; i++) {
		s = i < 3 ? stats_create(places[i], &why) : stats_join(places[i - 3], &why);
		assert_non_null(s);
		assert_non_null(why);
		assert_string_not_equal(why, "");
		assert_string_not_equal(why, strerror(0));
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			s->idle = 3;
			_exit(0);
		}
		wait_for(pid);
		assert_int_equal(s->idle, 3);
		assert_true(stats_claim_slot(s) >= 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_are_exact),
		cmocka_unit_test(test_every_number_once),
		cmocka_unit_test(test_counters_end),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_slots_run_out),
		cmocka_unit_test(test_slots_are_claimed_once),
		cmocka_unit_test(test_calling),
		cmocka_unit_test(test_create_is_fresh),
		cmocka_unit_test(test_join_shares),
		cmocka_unit_test(test_without_a_folder),
	};

	return cmocka_run_group_tests(tests, folder_begin, folder_end);
}
