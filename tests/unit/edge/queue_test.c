/* A queue outlives its reader: what was looked at is still there until it is taken out. */
#include "../unit.h"

#include "edge/queue.h"

#include <sys/socket.h>
#include <sys/wait.h>

static void put(const struct queue *q, const char *text)
{
	assert_true(queue_put(q, text, strlen(text), 0));
}

static void check_peek(const struct queue *q, const char *expected)
{
	char message[QUEUE_MESSAGE];
	size_t n = queue_peek(q, message, sizeof(message));

	assert_int_equal(n, strlen(expected));
	assert_memory_equal(message, expected, n);
}

static void close_queue(const struct queue *q)
{
	close(queue_writers_fd(q));
	close(queue_reader_fd(q));
}

static void test_looks_past_the_first_and_takes_whole_messages(void **state)
{
	struct queue q;

	(void)state;
	assert_true(queue_open(&q));
	check_peek(&q, "");
	put(&q, "one");
	put(&q, "the second");
	put(&q, "3");
	check_peek(&q, "one");
	check_peek(&q, "the second");
	queue_take(&q, 2);
	check_peek(&q, "3");
	put(&q, "fourth");
	check_peek(&q, "fourth");
	check_peek(&q, "");
	queue_rewind(&q);
	check_peek(&q, "3");
	queue_take(&q, 1);
	check_peek(&q, "fourth");
	queue_take(&q, 9);
	check_peek(&q, "");
	close_queue(&q);
}

static void test_a_reader_that_is_killed_loses_nothing(void **state)
{
	char message[QUEUE_MESSAGE];
	struct queue q;
	int status;
	pid_t pid;

	(void)state;
	assert_true(queue_open(&q));
	put(&q, "one");
	put(&q, "two");
	put(&q, "three");
	pid = fork();
	if (pid == 0) {
		queue_peek(&q, message, sizeof(message));
		queue_peek(&q, message, sizeof(message));
		queue_take(&q, 1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	queue_rewind(&q);
	check_peek(&q, "two");
	check_peek(&q, "three");
	check_peek(&q, "");
	close_queue(&q);
}

static void test_a_full_queue_says_so_and_has_room_again(void **state)
{
	static const char text[2000] = "x";
	struct queue q;
	size_t n = 0;
	int room = 64 * 1024;

	(void)state;
	assert_true(queue_open(&q));
	assert_int_equal(setsockopt(queue_writers_fd(&q), SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	while (queue_put(&q, text, sizeof(text), 0))
		n++;
	assert_true(n > 10);
	assert_false(queue_put(&q, text, sizeof(text), 2000));
	queue_take(&q, n);
	assert_true(queue_put(&q, text, sizeof(text), 0));
	close_queue(&q);
}

static void test_nobody_there_is_no_room(void **state)
{
	struct queue q;

	(void)state;
	assert_true(queue_open(&q));
	close(queue_reader_fd(&q));
	assert_false(queue_put(&q, "x", 1, 1000000));
	close(queue_writers_fd(&q));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_looks_past_the_first_and_takes_whole_messages),
		cmocka_unit_test(test_a_reader_that_is_killed_loses_nothing),
		cmocka_unit_test(test_a_full_queue_says_so_and_has_room_again),
		cmocka_unit_test(test_nobody_there_is_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
