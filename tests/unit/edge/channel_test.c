/* One question on one host has one owner, whoever comes, stops or dies, and whoever sleeps on it is woken. */
#include "../unit.h"

#include "edge/channel.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { WORKERS = 16, ROUNDS = 200, LONG_US = 60000000 };

static const uint64_t QUESTION = 0x123456789abcdef0, STREAM = 42;

/* Shared with children, as the file is, with so many slots in use. */
static struct stats *shared(int slots)
{
	const char *why;
	struct stats *s = stats_create("/nonexistent", &why);

	atomic_store(&s->slots_used, slots);
	return s;
}

static struct stats_channel *join(struct stats *s, uint64_t question, int slot, bool expect_mine)
{
	bool mine = !expect_mine;
	struct stats_channel *c = channel_join(s, question, slot, &mine);

	assert_non_null(c);
	assert_int_equal(mine, expect_mine);
	return c;
}

static void wait_for(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* As one that has been stopped, and has not touched it for too long. */
static void make_stale(struct stats_channel *c)
{
	atomic_fetch_sub(&c->touched_ms, CHANNEL_STALE_MS + 1000);
}

static void test_first_owns(void **state)
{
	struct stats *s = shared(2);
	struct stats_channel *c;

	(void)state;
	c = join(s, QUESTION, 0, true);
	assert_ptr_equal(join(s, QUESTION, 1, false), c);
	assert_false(channel_alive(c, QUESTION, STREAM)); /* it has no name yet */
	channel_open(c, 0, STREAM);
	assert_true(channel_alive(c, QUESTION, STREAM));
	assert_false(channel_alive(c, QUESTION, STREAM + 1));
	channel_published(c, 0, 3, false);
	assert_int_equal(atomic_load(&c->batches), 3);
	assert_false(atomic_load(&c->ended));
	channel_published(c, 0, 4, true);
	assert_true(atomic_load(&c->ended));
	channel_leave(s, 0);
	assert_false(channel_alive(c, QUESTION, STREAM));
	channel_leave(s, 0); /* it has none any more */
	c = join(s, QUESTION, 1, true);
	assert_int_equal(atomic_load(&c->stream), 0); /* nothing of the one before is left */
	assert_int_equal(atomic_load(&c->batches), 0);
	assert_false(atomic_load(&c->ended));
	channel_leave(s, 1);
}

static void test_two_questions(void **state)
{
	struct stats *s = shared(2);
	const uint64_t neighbour = QUESTION + (uint64_t)STATS_CHANNELS * (1 << 14); /* that begins at the same place */
	struct stats_channel *a = join(s, QUESTION, 0, true), *b = join(s, neighbour, 1, true);

	(void)state;
	assert_ptr_not_equal(a, b);
	channel_open(a, 0, 1);
	channel_open(b, 1, 2);
	assert_true(channel_alive(a, QUESTION, 1) && channel_alive(b, neighbour, 2));
	assert_false(channel_alive(a, neighbour, 1));
	channel_leave(s, 0);
	assert_ptr_equal(join(s, neighbour, 0, false), b); /* a place that is free before it hides it from nobody */
}

static void test_no_room(void **state)
{
	struct stats *s = shared(STATS_SLOTS);
	struct stats_channel *c = NULL;
	bool mine = true;
	int slot;

	(void)state;
	for (slot = 0; slot < STATS_SLOTS && mine; slot++) { /* all of them want the same few places */
		c = channel_join(s, QUESTION + (uint64_t)slot * STATS_CHANNELS * (1 << 14), slot, &mine);
		if (!c)
			break;
	}
	assert_null(c);
	assert_in_range(slot, 2, 64);
	channel_leave(s, 0);
	join(s, QUESTION, 0, true);
}

static void test_one_that_stopped_is_taken_over(void **state)
{
	struct stats *s = shared(2);
	struct stats_channel *c = join(s, QUESTION, 0, true);

	(void)state;
	channel_open(c, 0, STREAM);
	make_stale(c);
	channel_touch(c, 0);
	assert_true(channel_alive(c, QUESTION, STREAM));
	make_stale(c);
	assert_false(channel_alive(c, QUESTION, STREAM));
	assert_ptr_equal(join(s, QUESTION, 1, true), c);
	channel_open(c, 1, STREAM + 1);
	channel_published(c, 1, 5, false);

	channel_open(c, 0, STREAM); /* it wakes up, and disturbs nobody */
	channel_published(c, 0, 9, true);
	channel_leave(s, 0);
	assert_true(channel_alive(c, QUESTION, STREAM + 1));
	assert_int_equal(atomic_load(&c->batches), 5);
	assert_false(atomic_load(&c->ended));
	make_stale(c);
	channel_touch(c, 0);
	assert_false(channel_alive(c, QUESTION, STREAM + 1));
}

static void test_who_follows_and_who_leads(void **state)
{
	struct stats *s = shared(4);
	struct stats_channel *c = join(s, QUESTION, 0, true);

	(void)state;
	channel_open(c, 0, STREAM);
	assert_int_equal(channel_followers(s, STREAM), 0);
	channel_follow(s, c, 1, STREAM, CHANNEL_END);
	assert_int_equal(atomic_load(&c->wanted), CHANNEL_END);
	channel_follow(s, c, 2, STREAM, CHANNEL_END | CHANNEL_EVENTS);
	channel_follow(s, c, 3, STREAM + 1, CHANNEL_END);
	assert_int_equal(atomic_load(&c->wanted), CHANNEL_END | CHANNEL_EVENTS);
	assert_int_equal(channel_followers(s, STREAM), 2);
	channel_unfollow(s, 1);
	assert_int_equal(channel_followers(s, STREAM), 1);
	assert_false(channel_led(s, QUESTION));
	channel_lead(s, 2, QUESTION);
	assert_true(channel_led(s, QUESTION));
	assert_false(channel_led(s, QUESTION + 1));
	channel_lead(s, 2, 0);
	assert_false(channel_led(s, QUESTION));
	channel_lead(s, 2, QUESTION);
	atomic_store(&s->slots[2].pid, 0); /* it has died, and its slot goes to somebody else */
	while (stats_claim_slot(s) < 2)
		;
	assert_int_equal(channel_followers(s, STREAM), 0);
	assert_false(channel_led(s, QUESTION));
}

/* Whoever waits sees what has changed before it slept, or is woken: a wake that went missing would take a minute. */
static void test_waiters_are_woken(void **state)
{
	struct stats *s = shared(WORKERS);
	struct stats_channel *c = join(s, QUESTION, 0, true);
	pid_t waiters[WORKERS];
	int i;

	(void)state;
	channel_open(c, 0, STREAM);
	for (i = 0; i < WORKERS; i++) {
		waiters[i] = fork();
		assert_true(waiters[i] >= 0);
		if (waiters[i] == 0) {
			alarm(30);
			for (;;) {
				uint32_t seen = atomic_load(&c->seq);

				if (!channel_alive(c, QUESTION, STREAM))
					_exit(0);
				channel_wait(c, seen, LONG_US);
			}
		}
	}
	for (i = 1; i <= ROUNDS; i++) {
		channel_published(c, 0, (uint32_t)i, i == ROUNDS);
		sched_yield();
	}
	channel_leave(s, 0);
	for (i = 0; i < WORKERS; i++)
		wait_for(waiters[i]);
	channel_wait(c, atomic_load(&c->seq) - 1, LONG_US); /* what was seen has changed already */
	channel_wait(c, atomic_load(&c->seq), 1000);        /* nothing comes */
	channel_wait(c, atomic_load(&c->seq), -1);          /* it is too late already */
}

/* All at once, again and again: never two at a time. */
static void test_one_owner_at_a_time(void **state)
{
	struct stats *s = shared(WORKERS);
	_Atomic int *owners =
		mmap(NULL, 2 * sizeof(*owners), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[WORKERS];
	int i, round;

	(void)state;
	assert_ptr_not_equal(owners, MAP_FAILED);
	for (i = 0; i < WORKERS; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] != 0)
			continue;
		for (round = 0; round < ROUNDS; round++) {
			bool mine = false;

			while (!channel_join(s, QUESTION, i, &mine) || !mine)
				sched_yield();
			if (atomic_fetch_add(&owners[0], 1) != 0)
				_exit(1);
			sched_yield();
			atomic_fetch_add(&owners[1], 1);
			atomic_fetch_sub(&owners[0], 1);
			channel_leave(s, i);
		}
		_exit(0);
	}
	for (i = 0; i < WORKERS; i++)
		wait_for(pids[i]);
	assert_int_equal(atomic_load(&owners[1]), WORKERS * ROUNDS);
	munmap(owners, 2 * sizeof(*owners));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_owns),
		cmocka_unit_test(test_two_questions),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_one_that_stopped_is_taken_over),
		cmocka_unit_test(test_who_follows_and_who_leads),
		cmocka_unit_test(test_waiters_are_woken),
		cmocka_unit_test(test_one_owner_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
