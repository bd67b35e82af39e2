/* What grows stops where it said it would, and what a request took is given back at its end, in order. */
#include "base/arena.h"
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_buf_grows(void **state)
{
	struct buf b = BUF_INIT(100000);
	int i;

	(void)state;
	assert_null(b.data);
	for (i = 0; i < 10000; i++)
		buf_addc(&b, (char)('a' + i % 26));
	for (i = 0; i < 1000; i++)
		buf_adds(&b, "0123456789");
	buf_add(&b, "\0x", 2);
	assert_false(b.overflow);
	assert_int_equal(b.len, 20002);
	assert_int_equal(b.data[9999], 'a' + 9999 % 26);
	assert_memory_equal(b.data + 10000, "01234567890", 11);
	assert_memory_equal(b.data + 20000, "\0x\0", 3);
	buf_release(&b);
	assert_null(b.data);
	assert_int_equal(b.max, 100000);
	buf_adds(&b, "again");
	assert_string_equal(b.data, "again");
	buf_reset(&b);
	assert_int_equal(b.len, 0);
	assert_string_equal(b.data, "");
	buf_release(&b);
}

/* Byte by byte, piece by piece and by printf, a buffer holds exactly its maximum. */
static void check_max(size_t max)
{
	struct buf b = BUF_INIT(max);
	size_t i;

	for (i = 0; i < max; i++)
		buf_addc(&b, 'x');
	assert_false(b.overflow);
	assert_int_equal(b.len, max);
	buf_addc(&b, 'y');
	assert_true(b.overflow);
	assert_int_equal(b.len, max);
	buf_release(&b);

	b = BUF_INIT(max);
	for (i = 0; i < max; i++)
		buf_add(&b, "x", 1);
	assert_false(b.overflow);
	buf_add(&b, "", 0);
	assert_false(b.overflow);
	buf_printf(&b, "%d", 1);
	assert_true(b.overflow);
	assert_int_equal(b.len, max);
	buf_release(&b);
}

static void test_buf_max(void **state)
{
	static const size_t sizes[] = {1, 8, 62, 63, 64, 65, 94, 95, 96, 97, 100, 1000, 8191};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		check_max(sizes[i]);
}

static void test_buf_overflow_is_sticky(void **state)
{
	struct buf b = BUF_INIT(10);

	(void)state;
	buf_adds(&b, "12345");
	buf_adds(&b, "too long");
	assert_true(b.overflow);
	assert_string_equal(b.data, "12345");
	buf_addc(&b, '6');
	buf_adds(&b, "7");
	buf_printf(&b, "%d", 8);
	assert_null(buf_reserve(&b, 1));
	assert_true(b.overflow);
	assert_string_equal(b.data, "12345");
	buf_release(&b);
	assert_false(b.overflow);

	b = BUF_INIT(10);
	buf_add(&b, "x", 1);
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_int_equal(b.len, 1);
	buf_release(&b);

	b = BUF_INIT(0);
	buf_add(&b, "", 0);
	assert_false(b.overflow);
	buf_addc(&b, 'x');
	assert_true(b.overflow);
	buf_release(&b);
}

static void test_buf_reserve(void **state)
{
	struct buf b = BUF_INIT(5000);
	char *to;

	(void)state;
	buf_adds(&b, "head");
	to = buf_reserve(&b, 4000);
	assert_ptr_equal(to, b.data + 4);
	memset(to, 'x', 4000);
	b.len += 4000;
	buf_adds(&b, "tail");
	assert_memory_equal(b.data, "headx", 5);
	assert_string_equal(b.data + 4003, "xtail");
	buf_release(&b);
}

static void test_buf_drop(void **state)
{
	struct buf b = BUF_INIT(100);

	(void)state;
	buf_drop(&b, 3);
	buf_adds(&b, "hello world");
	buf_drop(&b, 0);
	buf_drop(&b, 6);
	assert_string_equal(b.data, "world");
	assert_int_equal(b.len, 5);
	buf_drop(&b, 99);
	assert_string_equal(b.data, "");
	assert_int_equal(b.len, 0);
	buf_adds(&b, "on");
	assert_string_equal(b.data, "on");
	buf_release(&b);
}

static void test_buf_printf(void **state)
{
	struct buf b = BUF_INIT(1000);
	char expected[400];
	int width;

	(void)state;
	for (width = 250; width < 260; width++) {
		buf_reset(&b);
		buf_adds(&b, "<");
		buf_printf(&b, "%*d|", width - 1, 42);
		snprintf(expected, sizeof(expected), "<%*d|", width - 1, 42);
		assert_string_equal(b.data, expected);
		assert_int_equal(b.len, width + 1);
	}
	buf_printf(&b, "%900d", 1);
	assert_true(b.overflow);
	assert_string_equal(b.data, expected);
	buf_release(&b);
}

static void test_arena_aligns_and_zeroes(void **state)
{
	static const size_t sizes[] = {1, 3, 0, 17, 100, 2048, 2049, 8191, 8192, 8193, 100000, 5};
	struct arena a = ARENA_INIT;
	size_t i, k;
	int round;
	char *p;

	(void)state;
	for (round = 0; round < 3; round++) {
		for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			p = arena_alloc(&a, sizes[i]);
			assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
			for (k = 0; k < sizes[i]; k++)
				assert_int_equal(p[k], 0);
			memset(p, 0xee, sizes[i]);
		}
		arena_reset(&a);
	}
	arena_release(&a);
	assert_null(a.chunks);
	assert_non_null(arena_alloc(&a, 10));
	arena_release(&a);
	arena_release(&a);
}

/* Large chunks between small ones: nothing overlaps, whichever was first. */
static void check_pieces(bool large_first)
{
	enum { PIECES = 300 };
	struct arena a = ARENA_INIT;
	unsigned char *pieces[PIECES];
	size_t sizes[PIECES], i, k;

	for (i = 0; i < PIECES; i++) {
		sizes[i] = i % 7 == (large_first ? 0 : 3) ? 5000 + 100 * i : 1 + i;
		pieces[i] = arena_alloc(&a, sizes[i]);
		memset(pieces[i], (int)(i % 251), sizes[i]);
	}
	for (i = 0; i < PIECES; i++)
		for (k = 0; k < sizes[i]; k++)
			assert_int_equal(pieces[i][k], i % 251);
	arena_reset(&a);
	arena_alloc(&a, 64);
	arena_release(&a);
}

static void test_arena_large_between_small(void **state)
{
	(void)state;
	check_pieces(true);
	check_pieces(false);
}

static void test_arena_strings(void **state)
{
	struct arena a = ARENA_INIT;
	char wide[9001];

	(void)state;
	assert_string_equal(arena_strdup(&a, "hello"), "hello");
	assert_string_equal(arena_strdup(&a, ""), "");
	assert_string_equal(arena_strndup(&a, "hello", 4), "hell");
	assert_string_equal(arena_strndup(&a, NULL, 0), "");
	assert_memory_equal(arena_strndup(&a, "a\0b", 3), "a\0b", 4);
	assert_string_equal(arena_printf(&a, "%s-%d", "x", 7), "x-7");
	memset(wide, ' ', 8999);
	memcpy(wide + 8999, "7", 2);
	assert_string_equal(arena_printf(&a, "%9000d", 7), wide);
	arena_release(&a);
}

static char released[8];

static void note(void *thing)
{
	strcat(released, thing);
}

static void test_arena_releases_in_reverse(void **state)
{
	struct arena a = ARENA_INIT;
	char one[] = "1", two[] = "2", four[] = "4";

	(void)state;
	released[0] = '\0';
	arena_defer(&a, note, one);
	arena_alloc(&a, 20000);
	arena_defer(&a, note, two);
	arena_defer(&a, note, arena_strdup(&a, "3"));
	arena_defer(&a, free, malloc(10));
	arena_reset(&a);
	assert_string_equal(released, "321");
	arena_reset(&a);
	assert_string_equal(released, "321");
	arena_defer(&a, note, four);
	arena_release(&a);
	assert_string_equal(released, "3214");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf_grows),
		cmocka_unit_test(test_buf_max),
		cmocka_unit_test(test_buf_overflow_is_sticky),
		cmocka_unit_test(test_buf_reserve),
		cmocka_unit_test(test_buf_drop),
		cmocka_unit_test(test_buf_printf),
		cmocka_unit_test(test_arena_aligns_and_zeroes),
		cmocka_unit_test(test_arena_large_between_small),
		cmocka_unit_test(test_arena_strings),
		cmocka_unit_test(test_arena_releases_in_reverse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
