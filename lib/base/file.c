/* The lock is on the file itself, so that none stays behind; who gets that of a file which is gone takes the next. */
#include "base/file.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool stands_at(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

int file_lock(const char *path)
{
	int fd, got, saved;

	for (;;) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -1;
		do
			got = flock(fd, LOCK_EX);
		while (got != 0 && errno == EINTR);
		if (got == 0 && stands_at(fd, path))
			return fd;
		saved = errno;
		close(fd);
		errno = saved;
		if (got != 0)
			return -1;
	}
}

static bool write_all(int fd, const char *bytes, size_t len)
{
	ssize_t n;

	for (; len; bytes += n, len -= (size_t)n) {
		n = write(fd, bytes, len);
		if (n < 0 && errno == EINTR)
			n = 0;
		if (n < 0)
			return false;
	}
	return true;
}

/* Before anything stands in it: nobody must read what they could not read before. */
static bool take_after(int fd, int old)
{
	struct stat from, to;

	if (fstat(old, &from) != 0 || fstat(fd, &to) != 0)
		return false;
	if ((from.st_uid != to.st_uid || from.st_gid != to.st_gid) && fchown(fd, from.st_uid, from.st_gid) != 0)
		return false;
	return fchmod(fd, from.st_mode & 07777) == 0;
}

/* So that a crash does not undo the rename. What fails here is the disk's business: the new file stands. */
static void sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(folder);
}

bool file_replace(int old, const char *path, const void *bytes, size_t len, const char **why)
{
	char *fresh;
	bool good;
	int fd;

	if (asprintf(&fresh, "%s.XXXXXX", path) < 0)
		die("out of memory");
	fd = mkostemp(fresh, O_CLOEXEC);
	good = fd >= 0 && take_after(fd, old) && write_all(fd, bytes, len) && fsync(fd) == 0 &&
	       rename(fresh, path) == 0;
	if (!good)
		*why = strerror(errno);
	if (!good && fd >= 0)
		unlink(fresh);
	if (fd >= 0)
		close(fd);
	if (good)
		sync_folder(path);
	free(fresh);
	return good;
}
