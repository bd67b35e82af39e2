/* SHA-256 against FIPS 180-4's examples, hexadecimal both ways, and time as RFC 3339 writes it. */
#include "base/clock.h"
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void check_sha256(const char *bytes, size_t len, const char *expected)
{
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];

	hash_sha256(bytes, len, digest);
	hash_hex(digest, sizeof(digest), hex);
	assert_string_equal(hex, expected);
}

static void test_sha256(void **state)
{
	char *million = malloc(1000000);

	(void)state;
	assert_non_null(million);
	memset(million, 'a', 1000000);
	check_sha256("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_sha256("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
		"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	check_sha256(million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}

static void test_sha256_parts(void **state)
{
	const struct hash_part parts[] = {{"a", 1}, {"", 0}, {NULL, 0}, {"bc", 2}};
	uint8_t whole[SHA256_BYTES], cut[SHA256_BYTES];

	(void)state;
	hash_sha256("abc", 3, whole);
	hash_sha256_parts(parts, 4, cut);
	assert_memory_equal(whole, cut, SHA256_BYTES);
	hash_sha256_parts(parts, 1, cut);
	assert_memory_not_equal(whole, cut, SHA256_BYTES);
	hash_sha256("", 0, whole);
	hash_sha256_parts(NULL, 0, cut);
	assert_memory_equal(whole, cut, SHA256_BYTES);
}

static void test_hex(void **state)
{
	static const char *const refused[] = {
		"", "0", "00", "0001f", "0001fff", "0001fg", "0001f ", " 001ff", "0x01ff", "0001f\xc3"};
	uint8_t bytes[3] = {0x00, 0x01, 0xff}, back[3];
	char hex[7];
	size_t i;

	(void)state;
	hash_hex(bytes, 3, hex);
	assert_string_equal(hex, "0001ff");
	assert_true(hash_unhex("0001ff", back, 3));
	assert_memory_equal(back, bytes, 3);
	assert_true(hash_unhex("aBcDeF", back, 3));
	assert_memory_equal(back, "\xab\xcd\xef", 3);
	assert_true(hash_unhex("", back, 0));
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (hash_unhex(refused[i], back, 3))
			fail_msg("accepted: %s", refused[i]);
	hash_hex(bytes, 0, hex);
	assert_string_equal(hex, "");
}

static void test_equal_and_random(void **state)
{
	uint8_t a[64] = {0}, b[64] = {0};

	(void)state;
	assert_true(hash_equal("same", "same", 4));
	assert_true(hash_equal("samX", "samY", 3));
	assert_false(hash_equal("Xame", "same", 4));
	assert_false(hash_equal("samX", "same", 4));
	assert_true(hash_equal(a, b, sizeof(a)));
	hash_random(a, sizeof(a));
	hash_random(b, sizeof(b));
	assert_false(hash_equal(a, b, sizeof(a)));
	hash_random(a, 0);
}

static const struct {
	const char *text;
	int64_t ms;
} times[] = {
	{"1970-01-01T00:00:00Z", 0},
	{"2027-01-01T00:00:00Z", 1798761600000},
	{"2027-01-01T00:00:00z", 1798761600000},
	{"2027-01-01T00:00:00.5Z", 1798761600500},
	{"2027-01-01T00:00:00.123456789Z", 1798761600123},
	{"2027-01-01T02:30:00+02:30", 1798761600000},
	{"2026-12-31T16:00:00-08:00", 1798761600000},
	{"2027-01-01T00:00:00+00:00", 1798761600000},
	{"2027-01-01T00:00:00.25-00:00", 1798761600250},
	{"2024-02-29T12:00:00Z", 1709208000000},
	{"2000-02-29T00:00:00Z", 951782400000},
	{"2016-12-31T23:59:60Z", 1483228800000},
	{"2026-11-23T15:43:41Z", 1795448621000},
	{"9999-12-31T23:59:59Z", 253402300799000},
};

static const char *const no_times[] = {
	"",
	"x",
	"2027",
	"2027-01-01",
	"2027-01-01T00:00:00",
	"2027-01-01 00:00:00Z",
	"2027-01-01T00:00Z",
	"2027-01-01T00:00:00ZZ",
	"2027-01-01T00:00:00Z ",
	" 2027-01-01T00:00:00Z",
	"2027-13-01T00:00:00Z",
	"2027-00-01T00:00:00Z",
	"2027-01-00T00:00:00Z",
	"2027-01-32T00:00:00Z",
	"2027-01-01T24:00:00Z",
	"2027-01-01T00:60:00Z",
	"2027-01-01T00:00:61Z",
	"2027-1-1T00:00:00Z",
	"27-01-01T00:00:00Z",
	"2027-01-01T00:00:00+0200",
	"2027-01-01T00:00:00+02",
	"2027-01-01T00:00:00+2:00",
	"2027-01-01T00:00:00+02:00x",
	"2027-01-01T00:00:00UTC",
	"2027-01-01T00:00:00.Z",
	"2027-02-30T00:00:00Z",
	"2027-02-29T00:00:00Z",
	"2027-04-31T00:00:00Z",
	"2027-01-01T00:00:00+24:00",
	"2027-01-01T00:00:00+01:60",
	"2027-01-01T 1:00:00Z",
	"+027-01-01T00:00:00Z",
	"2027--1-01T00:00:00Z",
	"2027-01-01T00:00:00+-1:00",
};

static void test_clock_parse(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (clock_parse(times[i].text) != times[i].ms)
			fail_msg("%s: %lld", times[i].text, (long long)clock_parse(times[i].text));
	for (i = 0; i < sizeof(no_times) / sizeof(no_times[0]); i++)
		if (clock_parse(no_times[i]) != -1)
			fail_msg("accepted: %s", no_times[i]);
}

static void test_clock_text(void **state)
{
	char text[CLOCK_TEXT];
	int64_t now = clock_real_ms();

	(void)state;
	clock_text(0, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000Z");
	clock_text(1795448621042, text);
	assert_string_equal(text, "2026-11-23T15:43:41.042Z");
	clock_text(253402300799999, text);
	assert_string_equal(text, "9999-12-31T23:59:59.999Z");
	clock_text(now, text);
	assert_true(clock_parse(text) == now);
}

static void test_clocks_run_forward(void **state)
{
	int64_t us = clock_mono_us(), ms = clock_mono_ms();

	(void)state;
	assert_true(ms >= us / 1000);
	assert_true(clock_mono_us() >= us);
	assert_true(clock_mono_ms() <= clock_mono_us() / 1000);
	assert_true(clock_real_ms() > 1704067200000); /* 2024 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256),
		cmocka_unit_test(test_sha256_parts),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_equal_and_random),
		cmocka_unit_test(test_clock_parse),
		cmocka_unit_test(test_clock_text),
		cmocka_unit_test(test_clocks_run_forward),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
