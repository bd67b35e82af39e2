/* A file that is replaced keeps what is not its content, and whoever waits for its lock gets that of the new one. */
#include "../folder_unit.h"

#include "base/file.h"

#include <errno.h>
#include <sys/wait.h>

static void path_of(char path[FILE_PATH], const char *name)
{
	snprintf(path, FILE_PATH, "%s/%s", folder, name);
}

static void check_content(const char *path, const char *expected)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) >= 0);
	assert_string_equal(text, expected);
	close(fd);
}

static void replace(const char *path, const char *text)
{
	const char *why;
	int lock = file_lock(path);

	assert_true(lock >= 0);
	assert_true(file_replace(lock, path, text, strlen(text), &why));
	close(lock);
}

static void test_replace(void **state)
{
	char path[FILE_PATH];
	struct stat before, after;

	(void)state;
	path_of(path, "kept");
	write_file(path, "old and long", 0640);
	if (geteuid() == 0)
		assert_int_equal(chown(path, 12, 34), 0);
	assert_int_equal(stat(path, &before), 0);
	replace(path, "new");
	check_content(path, "new");
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_mode, before.st_mode);
	assert_int_equal(after.st_uid, before.st_uid);
	assert_int_equal(after.st_gid, before.st_gid);
	assert_int_not_equal(after.st_ino, before.st_ino); /* who had it open still reads the old one */
	unlink(path);
}

/* Nothing of an attempt stays behind. */
static void test_what_cannot_be_replaced(void **state)
{
	char path[FILE_PATH], target[FILE_PATH];
	const char *why = NULL;
	int lock;

	(void)state;
	path_of(path, "nothing");
	assert_int_equal(file_lock(path), -1);
	assert_int_equal(errno, ENOENT);
	write_file(path, "old", 0600);
	path_of(target, "folder");
	assert_int_equal(mkdir(target, 0700), 0);
	lock = file_lock(path);
	assert_false(file_replace(lock, target, "new", 3, &why)); /* a folder cannot be replaced by a file */
	assert_non_null(why);
	path_of(target, "no/such/folder");
	assert_false(file_replace(lock, target, "new", 3, &why));
	assert_string_equal(why, "No such file or directory");
	close(lock);
	check_content(path, "old");
	unlink(path);
	path_of(target, "folder");
	assert_int_equal(rmdir(target), 0);
	assert_int_equal(rmdir(folder), 0); /* it is empty */
	assert_int_equal(mkdir(folder, 0700), 0);
}

/* Counts one up in the file, many times. */
static void count_up(const char *path, int times)
{
	char text[32];
	const char *why;
	int lock, n;

	for (; times; times--) {
		lock = file_lock(path);
		n = lock < 0 ? -1 : (int)read(lock, text, sizeof(text) - 1);
		if (n < 0)
			_exit(1);
		text[n] = '\0';
		n = snprintf(text, sizeof(text), "%d", atoi(text) + 1);
		if (!file_replace(lock, path, text, (size_t)n, &why))
			_exit(1);
		close(lock);
	}
	_exit(0);
}

static void test_nobody_loses_a_change(void **state)
{
	char path[FILE_PATH];
	pid_t pids[8];
	size_t i;
	int status;

	(void)state;
	path_of(path, "count");
	write_file(path, "0", 0600);
	for (i = 0; i < COUNT(pids); i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			count_up(path, 25);
	}
	for (i = 0; i < COUNT(pids); i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	check_content(path, "200");
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_what_cannot_be_replaced),
		cmocka_unit_test(test_nobody_loses_a_change),
	};

	return cmocka_run_group_tests(tests, folder_begin, folder_end);
}
