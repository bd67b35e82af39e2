/* What was sealed under a name opens under that name with that secret, to the bit, and nothing else does. */
#include "../unit.h"

#include "base/seal.h"

#define SECRET "sixteen bytes or more"

static const struct hash_part parts[] = {{"an ", 3}, {"", 0}, {"answer", 6}};

static bool opens(const struct seal *s, const char *name, const char *bytes, size_t len)
{
	char *copy = exact_copy(bytes, len);
	struct buf out = BUF_INIT(1000);
	bool good;

	buf_adds(&out, "before"); /* it appends */
	good = seal_open(s, name, copy, len, &out);
	assert_string_equal(out.data, good ? "beforean answer" : "before");
	assert_int_equal(out.len, good ? 15 : 6);
	buf_release(&out);
	free(copy);
	return good;
}

static void test_round_trip(void **state)
{
	struct seal *s = seal_new(SECRET), *again = seal_new(SECRET);
	struct buf sealed = BUF_INIT(1000), other = BUF_INIT(1000);

	(void)state;
	seal_wrap(s, "name", parts, 3, &sealed);
	assert_int_equal(sealed.len, 9 + SEAL_OVERHEAD);
	assert_null(memmem(sealed.data, sealed.len, "answer", 6));
	assert_true(opens(s, "name", sealed.data, sealed.len));
	assert_true(opens(again, "name", sealed.data, sealed.len)); /* another process, another host */
	seal_wrap(s, "name", parts, 3, &other);
	assert_int_equal(other.len, sealed.len);
	assert_memory_not_equal(other.data, sealed.data, 12); /* a nonce of its own */
	assert_memory_not_equal(other.data + 12, sealed.data + 12, 9);
	buf_reset(&other);
	seal_wrap(s, "name", NULL, 0, &other);
	assert_int_equal(other.len, SEAL_OVERHEAD);
	buf_reset(&sealed);
	assert_true(seal_open(s, "name", other.data, other.len, &sealed));
	assert_int_equal(sealed.len, 0);
	buf_release(&sealed);
	buf_release(&other);
	seal_free(s);
	seal_free(again);
}

static void test_forgery(void **state)
{
	struct seal *s = seal_new(SECRET), *stranger = seal_new(SECRET " ");
	struct buf sealed = BUF_INIT(1000);
	size_t i, len;

	(void)state;
	seal_wrap(s, "name", parts, 3, &sealed);
	len = sealed.len;
	assert_false(opens(stranger, "name", sealed.data, len));
	assert_false(opens(s, "nam", sealed.data, len));
	assert_false(opens(s, "names", sealed.data, len));
	for (i = 0; i < len * 8; i++) {
		sealed.data[i / 8] ^= (char)(1 << i % 8);
		if (opens(s, "name", sealed.data, len))
			fail_msg("bit %zu of byte %zu", i % 8, i / 8);
		sealed.data[i / 8] ^= (char)(1 << i % 8);
	}
	for (i = 0; i < len; i++) {
		assert_false(opens(s, "name", sealed.data, i));
		assert_false(opens(s, "name", sealed.data + len - i, i));
	}
	buf_addc(&sealed, '\0');
	assert_false(opens(s, "name", sealed.data, len + 1));
	assert_true(opens(s, "name", sealed.data, len)); /* whatever was tried in between */
	buf_release(&sealed);
	seal_free(s);
	seal_free(stranger);
}

static void test_room(void **state)
{
	struct seal *s = seal_new(SECRET);
	struct buf sealed = BUF_INIT(1000), small = BUF_INIT(9 + SEAL_OVERHEAD - 1), out = BUF_INIT(8);

	(void)state;
	seal_wrap(s, "name", parts, 3, &small);
	assert_true(small.overflow);
	seal_wrap(s, "name", parts, 3, &sealed);
	assert_false(seal_open(s, "name", sealed.data, sealed.len, &out));
	buf_release(&sealed);
	buf_release(&small);
	buf_release(&out);
	seal_free(s);
}

static void test_names(void **state)
{
	struct seal *s = seal_new(SECRET), *stranger = seal_new(SECRET " ");
	uint8_t a[SHA256_BYTES], b[SHA256_BYTES], plain[SHA256_BYTES];

	(void)state;
	seal_name(s, "question", 8, a);
	seal_name(s, "another", 7, b);
	assert_memory_not_equal(a, b, SHA256_BYTES);
	seal_name(s, "question", 8, b);
	assert_memory_equal(a, b, SHA256_BYTES);
	seal_name(stranger, "question", 8, b);
	assert_memory_not_equal(a, b, SHA256_BYTES);
	hash_sha256("question", 8, plain);
	assert_memory_not_equal(a, plain, SHA256_BYTES);
	seal_free(s);
	seal_free(stranger);
}

/* What is stored must be read by the next version: the same secret, the same names and keys. */
static void test_derivation_stays(void **state)
{
	static const char was[] = "000102030405060708090a0b940c6e82b5d4ce4e390f48afdfdd2021adbdb3657a77a5f555";
	struct seal *s = seal_new(SECRET);
	uint8_t name[SHA256_BYTES], sealed[9 + SEAL_OVERHEAD];
	char hex[SHA256_HEX + 1];

	(void)state;
	seal_name(s, "question", 8, name);
	hash_hex(name, sizeof(name), hex);
	assert_string_equal(hex, "a629f5d099f03e0faf0b4d555a6016c6daa5bff69fb18540d06a5c9b66d55a38");
	assert_true(hash_unhex(was, sealed, sizeof(sealed)));
	assert_true(opens(s, "name", (const char *)sealed, sizeof(sealed)));
	seal_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_forgery),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_derivation_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
