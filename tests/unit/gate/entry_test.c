/* An entry comes back as it was, those of format 1 too. */
#include "../unit.h"

#include "gate/entry.h"

enum { ENTRY_MAX = 1 << 20 };

static const uint8_t hash[SHA256_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8}, other_hash[SHA256_BYTES] = {1, 2, 3, 4, 5, 6, 7, 9};

static const struct cache_entry entry = {.stored_ms = 1700000000123,
	.expires_ms = 1700003600123,
	.input_tokens = 9,
	.output_tokens = 12,
	.cached_tokens = -1,
	.epochs = {1700000000000000, UINT64_MAX},
	.model = "gpt-4o-mini-2024-07-18",
	.finish_reasons = "stop,length",
	.json = "{\"choices\":[]}",
	.json_len = 14,
	.script = "[[0,\"content\",1,2]]",
	.script_len = 19};

/* `entry` as version 0.1.0 wrote it, for `hash`. */
static const char format_1[] =
	"50564345010000008869e86d83cbb6327e30fbc294dcffbd7b68e5cf8b010000fb561cd08b01000009000000000000000c00000000000000"
	"ffffffffffffffff170000000c0000000e000000130000006770742d346f2d6d696e692d323032342d30372d31380073746f702c6c656e67"
	"7468007b2263686f69636573223a5b5d7d5b5b302c22636f6e74656e74222c312c325d5d";

static void check_same(const struct cache_entry *a, const struct cache_entry *b)
{
	assert_true(a->stored_ms == b->stored_ms);
	assert_true(a->expires_ms == b->expires_ms);
	assert_true(a->input_tokens == b->input_tokens);
	assert_true(a->output_tokens == b->output_tokens);
	assert_true(a->cached_tokens == b->cached_tokens);
	assert_true(a->epochs[0] == b->epochs[0]);
	assert_true(a->epochs[1] == b->epochs[1]);
	assert_string_equal(a->model, b->model);
	assert_string_equal(a->finish_reasons, b->finish_reasons);
	assert_int_equal(a->json_len, b->json_len);
	assert_memory_equal(a->json, b->json, b->json_len);
	assert_int_equal(a->script_len, b->script_len);
	assert_memory_equal(a->script, b->script, b->script_len);
}

static void check_decodes(const char *bytes, size_t len, const struct cache_entry *expected)
{
	char *copy = exact_copy(bytes, len);
	struct cache_entry e;

	assert_true(entry_decode(&e, copy, len));
	check_same(&e, expected);
	free(copy);
}

static bool decodes(const char *bytes, size_t len)
{
	char *copy = exact_copy(bytes, len);
	struct cache_entry e;
	bool good = entry_decode(&e, copy, len);

	free(copy);
	return good;
}

static void test_round_trip(void **state)
{
	static const struct cache_entry bare = {.input_tokens = -1,
		.output_tokens = -1,
		.cached_tokens = -1,
		.model = "",
		.finish_reasons = "",
		.json = "{}",
		.json_len = 2,
		.script = ""};
	struct buf bytes = BUF_INIT(ENTRY_MAX);

	(void)state;
	buf_adds(&bytes, "before"); /* it appends */
	entry_encode(&bytes, &entry);
	check_decodes(bytes.data + 6, bytes.len - 6, &entry);
	buf_reset(&bytes);
	entry_encode(&bytes, &bare);
	check_decodes(bytes.data, bytes.len, &bare);
	buf_release(&bytes);
}

/* Lengths that do not add up, at least; that nothing was changed is for the value around it to say. */
static void test_no_entry(void **state)
{
	struct cache_entry no_object = entry;
	struct buf bytes = BUF_INIT(ENTRY_MAX);
	size_t i;

	(void)state;
	entry_encode(&bytes, &entry);
	for (i = 0; i < bytes.len; i++)
		assert_false(decodes(bytes.data, i));
	for (i = 0; i < 28; i++) { /* magic, format, lengths */
		bytes.data[i] ^= 64;
		assert_false(decodes(bytes.data, bytes.len));
		bytes.data[i] ^= 64;
	}
	buf_addc(&bytes, '\0');
	assert_false(decodes(bytes.data, bytes.len));
	no_object.json = "[\"choices\",[]]";
	buf_reset(&bytes);
	entry_encode(&bytes, &no_object);
	assert_false(decodes(bytes.data, bytes.len));
	buf_release(&bytes);
}

/* The head of a later version knows more, and that of an earlier one less. */
static void test_growth(void **state)
{
	enum { HEAD_LEN_AT = 8, HEAD = 28 + 7 * 8 };
	struct cache_entry expected = entry;
	struct buf bytes = BUF_INIT(ENTRY_MAX), changed = BUF_INIT(ENTRY_MAX);

	(void)state;
	entry_encode(&bytes, &entry);
	assert_int_equal(bytes.data[HEAD_LEN_AT], HEAD);
	buf_add(&changed, bytes.data, HEAD);
	buf_adds(&changed, "something new");
	buf_add(&changed, bytes.data + HEAD, bytes.len - HEAD);
	changed.data[HEAD_LEN_AT] = HEAD + 13;
	check_decodes(changed.data, changed.len, &expected);
	buf_reset(&changed);
	buf_add(&changed, bytes.data, HEAD - 8);
	buf_add(&changed, bytes.data + HEAD, bytes.len - HEAD);
	changed.data[HEAD_LEN_AT] = HEAD - 8;
	expected.epochs[1] = 0;
	check_decodes(changed.data, changed.len, &expected);
	buf_release(&bytes);
	buf_release(&changed);
}

static void test_overflow(void **state)
{
	struct buf bytes = BUF_INIT(100);

	(void)state;
	entry_encode(&bytes, &entry);
	assert_true(bytes.overflow);
	buf_release(&bytes);
}

static bool decodes_1(struct cache_entry *e, const uint8_t *bytes, size_t len, const uint8_t of[SHA256_BYTES])
{
	char *copy = exact_copy(bytes, len);
	bool good = entry_decode_1(e, copy, len, of);
	struct cache_entry expected = entry;

	expected.epochs[0] = expected.epochs[1] = 0; /* not known then */
	if (good)
		check_same(e, &expected);
	free(copy);
	return good;
}

static void test_format_1(void **state)
{
	enum { LEN = (sizeof(format_1) - 1) / 2 };
	uint8_t bytes[LEN + 1] = {0};
	struct cache_entry e;
	struct buf now = BUF_INIT(ENTRY_MAX);
	size_t i;

	(void)state;
	assert_true(hash_unhex(format_1, bytes, LEN));
	assert_true(decodes_1(&e, bytes, LEN, hash));
	assert_false(decodes_1(&e, bytes, LEN, other_hash));
	for (i = 0; i < LEN * 8; i++) {
		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
		if (decodes_1(&e, bytes, LEN, hash))
			fail_msg("bit %zu of byte %zu", i % 8, i / 8);
		bytes[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (i = 0; i < LEN; i++) {
		assert_false(decodes_1(&e, bytes, i, hash));
		assert_false(decodes_1(&e, bytes + LEN - i, i, hash));
	}
	assert_false(decodes_1(&e, bytes, LEN + 1, hash));
	assert_false(decodes((const char *)bytes, LEN)); /* each by its own door */
	entry_encode(&now, &entry);
	assert_false(entry_decode_1(&e, now.data, now.len, hash));
	buf_release(&now);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_no_entry),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_format_1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
