/*
 * unit — what the unit tests share: cmocka, JSON that can be read in C, exact copies, folders, seeded chance.
 */
#ifndef PAVISE_TESTS_UNIT_H
#define PAVISE_TESTS_UNIT_H

#include "base/json.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A copy that ends where the text ends, so that AddressSanitizer sees a byte too far. The caller frees it. */
static inline char *exact_copy(const void *bytes, size_t len)
{
	char *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return copy;
}

/* In the tests' JSON ' stands for ", which C would have escaped. */
static inline void add_json_text(struct buf *out, const char *single_quoted)
{
	for (; *single_quoted; single_quoted++)
		buf_addc(out, *single_quoted == '\'' ? '"' : *single_quoted);
}

static inline struct json_object *parse_bytes(const char *text, size_t len)
{
	char *copy = exact_copy(text, len);
	struct err e = {0};
	struct json_object *value = json_parse(copy, len, &e);

	if (!value)
		fprintf(stderr, "%.*s: %s\n", (int)len, text, e.message);
	assert_non_null(value);
	free(copy);
	return value;
}

/* The caller releases it. */
static inline struct json_object *parse_json(const char *single_quoted)
{
	struct buf text = BUF_INIT(64 << 20);
	struct json_object *value;

	add_json_text(&text, single_quoted);
	value = parse_bytes(text.data, text.len);
	buf_release(&text);
	return value;
}

static inline bool contains(const char *text, const char *part)
{
	return strstr(text, part) != NULL;
}

static inline void check_contains(const char *text, const char *part)
{
	if (!contains(text, part))
		fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* xorshift64*: the same numbers for the same seed, which is never 0. */
static inline uint64_t chance(uint64_t *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * 2685821657736338717u;
}

static inline size_t chance_below(uint64_t *seed, size_t n)
{
	return (size_t)(chance(seed) >> 33) % n;
}

/* ---- folders ---- */

enum { FOLDER_PATH = 64, FILE_PATH = 128 };

static inline void make_folder(char folder[FOLDER_PATH])
{
	snprintf(folder, FOLDER_PATH, "/tmp/pavise-unit-XXXXXX");
	assert_non_null(mkdtemp(folder));
}

static inline int remove_visited(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static inline void remove_folder(const char *folder)
{
	assert_int_equal(nftw(folder, remove_visited, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline void write_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

#endif
