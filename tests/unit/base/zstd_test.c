/* What is not one whole frame is nothing, however large it says to be. */
#include "../unit.h"

#include "base/zstd.h"

enum { TEXT = 40000 };

static void make_text(char text[TEXT])
{
	uint64_t seed = 7;
	size_t i;

	for (i = 0; i < TEXT; i++)
		text[i] = "the cat sat on a mat"[chance_below(&seed, 20)];
}

static bool unpacks(const void *bytes, size_t len, size_t max, const char *expected)
{
	char *copy = exact_copy(bytes, len);
	struct buf out = BUF_INIT(max);
	bool good = zstd_unpack(&out, copy, len);

	if (good)
		assert_memory_equal(out.data, expected, TEXT);
	assert_int_equal(out.len, good ? TEXT : 0);
	buf_release(&out);
	free(copy);
	return good;
}

static void test_round_trip(void **state)
{
	char text[TEXT];
	struct buf packed = BUF_INIT(TEXT + 6), out = BUF_INIT(TEXT + 6);

	(void)state;
	make_text(text);
	buf_adds(&packed, "before"); /* it appends */
	assert_true(zstd_pack(&packed, text, TEXT, TEXT * 9 / 10));
	assert_in_range(packed.len, 1000, TEXT * 9 / 10);
	assert_memory_equal(packed.data, "before", 6);
	buf_adds(&out, "before");
	assert_true(zstd_unpack(&out, packed.data + 6, packed.len - 6));
	assert_int_equal(out.len, TEXT + 6);
	assert_memory_equal(out.data + 6, text, TEXT);
	buf_release(&packed);
	buf_release(&out);
}

static void test_what_does_not_pay(void **state)
{
	char text[TEXT];
	struct buf out = BUF_INIT(TEXT);

	(void)state;
	make_text(text);
	assert_false(zstd_pack(&out, text, TEXT, TEXT / 10));
	assert_int_equal(out.len, 0);
	assert_true(zstd_pack(&out, text, TEXT, TEXT * 9 / 10)); /* and the next one is none the worse */
	buf_release(&out);
}

static void test_broken(void **state)
{
	char text[TEXT];
	struct buf packed = BUF_INIT(3 * TEXT);
	size_t len, i;

	(void)state;
	make_text(text);
	assert_true(zstd_pack(&packed, text, TEXT, TEXT));
	len = packed.len;
	assert_true(unpacks(packed.data, len, TEXT, text));
	assert_false(unpacks(packed.data, len, TEXT - 1, text)); /* never more than is wanted */
	for (i = 0; i < len; i += i < 64 ? 1 : 97)
		assert_false(unpacks(packed.data, i, TEXT, text));
	buf_addc(&packed, '\0');
	assert_false(unpacks(packed.data, len + 1, TEXT, text));
	buf_reset(&packed);
	assert_true(zstd_pack(&packed, text, TEXT, TEXT));
	assert_true(zstd_pack(&packed, text, 1, 100)); /* a second frame */
	assert_false(unpacks(packed.data, packed.len, 2 * TEXT, text));
	buf_release(&packed);
}

/* A megabyte of zeros in a few bytes, which says one thing and holds another. */
static void test_bomb(void **state)
{
	enum { ZEROS = 1 << 20 };
	char *zeros = calloc(1, ZEROS);
	struct buf packed = BUF_INIT(ZEROS), out = BUF_INIT(ZEROS - 1);
	static const char endless[] = "\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00";

	(void)state;
	assert_non_null(zeros);
	assert_true(zstd_pack(&packed, zeros, ZEROS, 1000));
	assert_false(zstd_unpack(&out, packed.data, packed.len));
	assert_null(out.data); /* not even tried */
	assert_false(zstd_unpack(&out, endless, sizeof(endless) - 1));
	assert_null(out.data);
	/* its size is in bytes 6 to 9: says less than it holds */
	assert_int_equal(packed.data[8], 0x10);
	packed.data[8] = 8;
	assert_false(zstd_unpack(&out, packed.data, packed.len));
	assert_int_equal(out.len, 0);
	buf_release(&packed);
	buf_release(&out);
	free(zeros);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_what_does_not_pay),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_bomb),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
