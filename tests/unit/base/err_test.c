/* The table keeps what it promises to clients and logs, and the two ways to give up say why. */
#include "../unit.h"

#include "base/err.h"

#include <signal.h>
#include <sys/wait.h>

static void test_table_is_whole(void **state)
{
	static const char *const faults[] = {"caller_", "policy_", "provider_", "store_", "internal_"};
	const struct err_kind *kind;
	size_t i;
	int code;

	(void)state;
	for (code = ERR_NONE + 1; code < ERR_COUNT; code++) {
		kind = err_kind((enum err_code)code);
		assert_string_not_equal(kind->code, "");
		assert_string_not_equal(kind->type, "");
		assert_in_range(kind->status, 400, 599);
		for (i = 0; i < COUNT(faults) && strncmp(kind->log_type, faults[i], strlen(faults[i])) != 0; i++)
			;
		if (i == COUNT(faults))
			fail_msg("%s: error.type %s does not say who was at fault", kind->code, kind->log_type);
		/* an SDK that is told to repeat what was wrong would do so for ever */
		if (kind->status < 500 && kind->status != 408 && kind->status != 409 && kind->status != 429 &&
			kind->status != 499)
			assert_int_equal(kind->retry, RETRY_NO);
	}
}

static void check_kind(enum err_code code, const char *word, int status, const char *type)
{
	assert_string_equal(err_kind(code)->code, word);
	assert_int_equal(err_kind(code)->status, status);
	assert_string_equal(err_kind(code)->type, type);
}

/* What the SDKs of OpenAI's clients look at. */
static void test_openai_codes(void **state)
{
	(void)state;
	check_kind(ERR_INVALID_API_KEY, "invalid_api_key", 401, "invalid_request_error");
	check_kind(ERR_MODEL_NOT_FOUND, "model_not_found", 404, "invalid_request_error");
	check_kind(ERR_MODEL_NOT_ALLOWED, "model_not_allowed", 403, "invalid_request_error");
	check_kind(ERR_RATE_LIMIT, "rate_limit_exceeded", 429, "rate_limit_error");
	check_kind(ERR_OVERLOADED, "server_is_overloaded", 503, "server_error");
	check_kind(ERR_DRAINING, "server_is_overloaded", 503, "server_error");
	assert_int_equal(err_kind(ERR_BODY_TOO_LARGE)->status, 413);
	assert_int_equal(err_kind(ERR_MEDIA_TYPE)->status, 415);
	assert_int_equal(err_kind(ERR_METHOD_NOT_ALLOWED)->status, 405);
	assert_int_equal(err_kind(ERR_PROVIDER_UNREACHABLE)->status, 502);
	assert_int_equal(err_kind(ERR_PROVIDER_TIMEOUT)->status, 504);
}

static void test_set(void **state)
{
	char longest[1000];
	struct err e = {0};

	(void)state;
	assert_int_equal(err_set(&e, ERR_INVALID_VALUE, "messages[0].role", "found %d, expected %s", 7, "a word"), -1);
	assert_int_equal(e.code, ERR_INVALID_VALUE);
	assert_string_equal(e.param, "messages[0].role");
	assert_string_equal(e.message, "found 7, expected a word");
	assert_int_equal(err_set(&e, ERR_INTERNAL, NULL, "x"), -1);
	assert_int_equal(e.code, ERR_INTERNAL);
	assert_string_equal(e.param, "");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	err_set(&e, ERR_INVALID_VALUE, longest, "%s", longest);
	assert_int_equal(strlen(e.param), sizeof(e.param) - 1);
	assert_int_equal(strlen(e.message), sizeof(e.message) - 1);
}

/* Runs f in a child; its wait status, and what it wrote to fd 2. */
static int in_child(void (*f)(void), char *said, size_t room)
{
	int fds[2], status;
	ssize_t n, used = 0;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		f();
		_exit(0);
	}
	close(fds[1]);
	while ((n = read(fds[0], said + used, room - 1 - (size_t)used)) > 0)
		used += n;
	said[used] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void give_up(void)
{
	die("cannot listen on %s: %d", "a socket", 7);
}

static void trip(void)
{
	BUG_ON(sizeof(char) == 1);
}

static void do_not_trip(void)
{
	BUG_ON(sizeof(char) == 2);
}

static void test_die_and_bug(void **state)
{
	char said[4096];
	int status = in_child(give_up, said, sizeof(said));

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	check_contains(said, "cannot listen on a socket: 7\n");
	status = in_child(trip, said, sizeof(said));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	check_contains(said, "err_test.c:");
	check_contains(said, "sizeof(char) == 1");
	assert_int_equal(in_child(do_not_trip, said, sizeof(said)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_is_whole),
		cmocka_unit_test(test_openai_codes),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_die_and_bug),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
