/* What workers say of their calls, and what remains of it when they are gone. */
#include "../memcached_unit.h"

#include "edge/calls.h"

#include <sched.h>

enum { WORKERS = 8, ROUNDS = 2000, AMOUNT = 3 };

static pid_t gone(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	return pid;
}

static int slot_of(struct stats *s, pid_t pid)
{
	int slot = stats_claim_slot(s);

	assert_true(slot >= 0);
	atomic_store(&s->slots[slot].pid, pid);
	return slot;
}

static void test_one_call(void **state)
{
	struct stats *s = new_stats();
	int slot = slot_of(s, getpid());

	(void)state;
	assert_false(calls_alive(s, slot, 7));
	calls_begin(s, slot, 7);
	assert_true(calls_alive(s, slot, 7));
	assert_false(calls_alive(s, slot, 8));
	assert_int_equal(calls_of(s, 70), 0);
	calls_count(s, slot, 70);
	calls_count(s, slot, 71);
	assert_int_equal(calls_of(s, 70), 1);
	assert_int_equal(calls_of(s, 71), 1);
	calls_uncount(s, slot);
	assert_int_equal(calls_of(s, 70), 1);
	assert_int_equal(calls_of(s, 71), 0);
	calls_end(s, slot);
	assert_int_equal(calls_of(s, 70), 0);
	assert_false(calls_alive(s, slot, 7));
	calls_begin(s, slot, 9); /* the next one begins with nothing */
	assert_int_equal(calls_of(s, 70), 0);
	assert_false(calls_alive(s, -1, 9));
	assert_false(calls_alive(s, STATS_SLOTS, 9));
}

/* Reaped by the supervisor (no pid), or not (a pid that nobody has). */
static void test_the_dead_do_not_count(void **state)
{
	struct stats *s = new_stats();
	int reaped = slot_of(s, getpid()), lost = slot_of(s, gone()), alive = slot_of(s, getpid());
	int i, slots[] = {reaped, lost, alive};

	(void)state;
	for (i = 0; i < 3; i++) {
		calls_begin(s, slots[i], (uint64_t)i + 1);
		calls_count(s, slots[i], 70);
	}
	atomic_store(&s->slots[reaped].pid, 0);
	assert_int_equal(calls_of(s, 70), 1);
	assert_false(calls_alive(s, reaped, 1));
	assert_false(calls_alive(s, lost, 2));
	assert_true(calls_alive(s, alive, 3));
}

/* Each counts itself first, and goes on only if there are not too many: so there never are. */
static void race(struct stats *s, int slot, _Atomic int *inside, _Atomic int *most, _Atomic int *passed)
{
	int i, now, seen;

	for (i = 1; i <= ROUNDS; i++) {
		calls_begin(s, slot, (uint64_t)i);
		calls_count(s, slot, 70);
		if (calls_of(s, 70) <= AMOUNT) {
			now = atomic_fetch_add(inside, 1) + 1;
			atomic_fetch_add(passed, 1);
			seen = atomic_load(most);
			while (seen < now && !atomic_compare_exchange_weak(most, &seen, now))
				;
			sched_yield();
			atomic_fetch_sub(inside, 1);
		}
		calls_end(s, slot);
	}
	_exit(0);
}

static void test_never_too_many(void **state)
{
	struct stats *s = new_stats();
	/* counters that all of them share, and nobody else uses */
	_Atomic int *inside = &s->store[0].down, *most = &s->store[1].down, *passed = &s->store[2].down;
	pid_t children[WORKERS];
	int i, slot;

	(void)state;
	for (i = 0; i < WORKERS; i++) {
		slot = slot_of(s, getpid());
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (children[i] == 0)
			race(s, slot, inside, most, passed);
	}
	for (i = 0; i < WORKERS; i++)
		waitpid(children[i], NULL, 0);
	assert_in_range(atomic_load(most), 1, AMOUNT);
	assert_true(atomic_load(passed) > 0);
	assert_int_equal(calls_of(s, 70), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_call),
		cmocka_unit_test(test_the_dead_do_not_count),
		cmocka_unit_test(test_never_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
