/* A value is what was put under its key, to the bit, or it is a miss: small, packed, cut and sealed alike. */
#include "../memcached_unit.h"

#include "base/seal.h"
#include "base/zstd.h"
#include "gate/value.h"

enum { MAX = 8 << 20, LARGE = 2500 * 1000 };

struct bench {
	struct memcached server;
	char folder[FOLDER_PATH];
	struct config config;
	struct worker worker;
	struct arena arena;
	struct txn t;
	struct seal *seal, *stranger;
};

static struct bench b;

static int set_up(void **state)
{
	const char *const servers[] = {b.server.path, NULL};

	(void)state;
	make_folder(b.folder);
	snprintf(b.server.path, sizeof(b.server.path), "%s/1.sock", b.folder);
	memcached_start(&b.server);
	b.config = (struct config){.memcached.prefix = "pv", .cache.max_entry = MAX};
	b.worker = (struct worker){.store = store_of(servers, 5000, new_stats())};
	b.t = (struct txn){.config = &b.config, .worker = &b.worker, .arena = &b.arena};
	b.seal = seal_new("a secret of some bytes");
	b.stranger = seal_new("another secret of some");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	memcached_end(&b.server);
	arena_release(&b.arena);
	store_free(b.worker.store);
	seal_free(b.seal);
	seal_free(b.stranger);
	remove_folder(b.folder);
	return 0;
}

/* Bytes that no compression gets smaller, or that any does. */
static struct buf make(size_t len, bool chaos)
{
	struct buf bytes = BUF_INIT(MAX + 1);
	uint64_t seed = 1 + len;

	while (bytes.len < len)
		buf_addc(&bytes, chaos ? (char)chance(&seed) : "abcdefghijklmnop"[chance(&seed) >> 60]);
	return bytes;
}

static struct store_item found(const char *key, const void *bytes, size_t len)
{
	return (struct store_item){.op = STORE_GET, .key = key, .value = bytes, .value_len = len};
}

/* `expected` NULL: whatever it is. */
static bool opens(const struct store_item *item, const struct buf *expected)
{
	char *copy = exact_copy(item->value, item->value_len);
	struct store_item got = found(item->key, copy, item->value_len);
	struct hash_part bytes;
	bool good = value_open(&b.t, &got, true, &bytes);

	if (good && expected) {
		assert_int_equal(bytes.len, expected->len);
		assert_memory_equal(bytes.bytes, expected->data, expected->len);
	}
	free(copy);
	return good;
}

static void pack(const char *key, const struct buf *bytes, struct value *v)
{
	assert_true(value_pack(&b.t, key, 60, bytes, v));
	assert_string_equal(v->head.key, key);
	assert_int_equal(v->head.ttl_s, 60);
}

static void check_damage(const struct value *v, const struct buf *bytes)
{
	char *copy = exact_copy(v->head.value, v->head.value_len);
	size_t len = v->head.value_len, i;
	struct store_item item = found("pv:a:key", copy, len), foreign = found("pv:a:kez", copy, len);

	assert_true(opens(&item, bytes));
	for (i = 0; i < len * 8; i++) {
		copy[i / 8] ^= (char)(1 << i % 8);
		if (opens(&item, NULL))
			fail_msg("bit %zu of byte %zu", i % 8, i / 8);
		copy[i / 8] ^= (char)(1 << i % 8);
	}
	for (item.value_len = 0; item.value_len < len; item.value_len++)
		assert_false(opens(&item, NULL));
	for (i = 1; i < len; i++)
		assert_false(opens(
			&(struct store_item){.op = STORE_GET, .key = item.key, .value = copy + i, .value_len = len - i},
			NULL));
	assert_false(opens(&foreign, NULL));
	item.value_len = len;
	assert_true(opens(&item, bytes)); /* all of that was not because of something else */
	item.result = STORE_MISS;
	assert_false(value_open(&b.t, &item, true, &(struct hash_part){0}));
	free(copy);
	arena_reset(&b.arena);
}

static void test_any_change_is_a_miss(void **state)
{
	struct buf small = make(200, true), packed = make(40000, false), none = BUF_INIT(1);
	struct value v;
	int sealed;

	(void)state;
	for (sealed = 0; sealed < 2; sealed++) {
		b.config.cache.sealed = sealed ? b.seal : NULL;
		pack("pv:a:key", &small, &v);
		assert_int_equal(v.head.value_len, 200 + (sealed ? 2 + SEAL_OVERHEAD : 22));
		assert_true(sealed == !memmem(v.head.value, v.head.value_len, small.data, small.len));
		check_damage(&v, &small);
		pack("pv:a:key", &none, &v);
		assert_true(opens(&v.head, &none));
	}
	b.config.cache.sealed = NULL;
	pack("pv:a:key", &packed, &v);
	assert_in_range(v.head.value_len, 10000, 25000);
	assert_true(opens(&v.head, &packed));
	b.config.cache.sealed = b.seal;
	pack("pv:a:key", &packed, &v);
	assert_true(opens(&v.head, &packed));
	b.config.cache.sealed = NULL;
	arena_reset(&b.arena);
	buf_release(&small);
	buf_release(&packed);
}

static void test_sealed_and_not(void **state)
{
	struct buf bytes = make(200, true);
	struct value plain, sealed, strange;

	(void)state;
	pack("pv:a:key", &bytes, &plain);
	b.config.cache.sealed = b.seal;
	pack("pv:a:key", &bytes, &sealed);
	assert_false(opens(&plain.head, NULL));
	assert_true(opens(&sealed.head, &bytes));
	b.config.cache.sealed = b.stranger;
	assert_false(opens(&sealed.head, NULL));
	pack("pv:a:key", &bytes, &strange);
	b.config.cache.sealed = NULL;
	assert_false(opens(&sealed.head, NULL));
	assert_false(opens(&strange.head, NULL));
	assert_true(opens(&plain.head, &bytes));
	arena_reset(&b.arena);
	buf_release(&bytes);
}

static void check_max(size_t len, bool chaos)
{
	struct buf bytes = make(len, chaos), more = make(len + 1, chaos);
	struct value v;
	int64_t max = b.config.cache.max_entry;

	b.config.cache.max_entry = (int64_t)len;
	pack("pv:a:key", &bytes, &v);
	assert_false(value_pack(&b.t, "pv:a:key", 60, &more, &(struct value){0}));
	assert_true(opens(&v.head, &bytes));
	b.config.cache.max_entry = (int64_t)len - 1; /* now it would unpack to too much */
	assert_true(opens(&v.head, &bytes) == chaos);
	b.config.cache.max_entry = max;
	more.overflow = true;
	assert_false(value_pack(&b.t, "pv:a:key", 60, &more, &(struct value){0}));
	arena_reset(&b.arena);
	buf_release(&bytes);
	buf_release(&more);
}

static void test_max_entry(void **state)
{
	(void)state;
	check_max(3000, true);
	check_max(100000, false);
}

/* A frame of the test's own: the check and the kind are right, and what they vouch for is not. */
static bool opens_framed(const char *kind, const void *payload, size_t len)
{
	static const char key[] = "pv:a:key";
	struct hash_part parts[] = {{key, sizeof(key)}, {"\x02", 1}, {kind, 1}, {payload, len}};
	uint8_t check[SHA256_BYTES];
	struct buf out = BUF_INIT(1 << 20);
	struct store_item item;
	bool good;

	hash_sha256_parts(parts, 4, check);
	buf_adds(&out, "PVCV");
	buf_add(&out, check, 16);
	buf_adds(&out, "\x02");
	buf_add(&out, kind, 1);
	buf_add(&out, payload, len);
	item = found(key, out.data, out.len);
	good = opens(&item, NULL);
	buf_release(&out);
	arena_reset(&b.arena);
	return good;
}

static void test_bombs(void **state)
{
	char *zeros = calloc(1, MAX + 1);
	struct buf packed = BUF_INIT(1 << 20);
	char list[28] = "sixteen bytes id";

	(void)state;
	assert_non_null(zeros);
	assert_true(opens_framed("\0", "plain", 5));
	assert_true(zstd_pack(&packed, zeros, MAX, 1 << 19));
	assert_true(opens_framed("\1", packed.data, packed.len));
	buf_reset(&packed);
	assert_true(zstd_pack(&packed, zeros, MAX + 1, 1 << 19));
	assert_false(opens_framed("\1", packed.data, packed.len));
	assert_false(opens_framed("\1", "no frame", 8));
	assert_false(opens_framed("\3", "of no kind", 10));
	assert_false(opens_framed("\2", list, sizeof(list) - 1));
	assert_false(opens_framed("\2", list, sizeof(list))); /* of nothing */
	memset(list + 16, 0xff, 12);                          /* 16 EiB in four thousand million pieces */
	assert_false(opens_framed("\2", list, sizeof(list)));
	memset(list + 16, 0, 12);
	list[24] = 1; /* one piece of no bytes, which is not there */
	assert_false(opens_framed("\2", list, sizeof(list)));
	buf_release(&packed);
	free(zeros);
}

/* ---- cut ---- */

static bool get(const char *key, bool alone, const struct buf *expected)
{
	struct store_item item = {.op = STORE_GET, .key = key};
	struct hash_part bytes;
	bool good;

	run_one(b.worker.store, &item);
	good = value_open(&b.t, &item, alone, &bytes);
	if (good) {
		assert_int_equal(bytes.len, expected->len);
		assert_memory_equal(bytes.bytes, expected->data, bytes.len);
	}
	return good;
}

static void set(const struct store_item *item)
{
	struct store_item again = *item;

	assert_int_equal(run_one(b.worker.store, &again), STORE_OK);
}

static void store_large(const char *key, const struct buf *bytes, struct value *v)
{
	pack(key, bytes, v);
	assert_int_equal(v->piece_count, 3);
	assert_in_range(v->head.value_len, 28, 100);
	assert_true(value_store(&b.t, v));
}

static void check_pieces(struct value *v, const struct buf *bytes)
{
	struct store_item piece, swapped[2] = {v->pieces[0], v->pieces[1]};
	char *copy;
	size_t i;

	for (i = 0; i < v->piece_count; i++) {
		piece = (struct store_item){.op = STORE_DELETE, .key = v->pieces[i].key};
		assert_int_equal(run_one(b.worker.store, &piece), STORE_OK);
		assert_false(get(v->head.key, true, bytes));
		copy = exact_copy(v->pieces[i].value, v->pieces[i].value_len);
		piece = v->pieces[i];
		piece.value = copy;
		copy[piece.value_len / 2] ^= 1;
		set(&piece);
		assert_false(get(v->head.key, true, bytes));
		copy[piece.value_len / 2] ^= 1;
		piece.value_len--;
		set(&piece);
		assert_false(get(v->head.key, true, bytes));
		piece.value_len++;
		set(&piece);
		assert_true(get(v->head.key, true, bytes));
		free(copy);
	}
	swapped[0] = v->pieces[0];
	swapped[1] = v->pieces[1];
	swapped[0].value = v->pieces[1].value;
	swapped[1].value = v->pieces[0].value;
	set(&swapped[0]);
	set(&swapped[1]);
	assert_false(get(v->head.key, true, bytes));
	set(&v->pieces[0]);
	set(&v->pieces[1]);
	assert_true(get(v->head.key, true, bytes));
}

static void test_cut(void **state)
{
	struct buf bytes = make(LARGE, true), packed = make(MAX, false);
	struct value v;
	int sealed;

	(void)state;
	for (sealed = 0; sealed < 2; sealed++) {
		b.config.cache.sealed = sealed ? b.seal : NULL;
		store_large("pv:a:key", &bytes, &v);
		assert_true(get("pv:a:key", true, &bytes));
		assert_false(get("pv:a:key", false, &bytes)); /* there is more to read of its batch */
		check_pieces(&v, &bytes);
		check_damage(&v, &bytes);
		pack("pv:a:packed", &packed, &v); /* packed, and cut all the same */
		assert_in_range(v.piece_count, 3, 6);
		assert_true(value_store(&b.t, &v));
		assert_true(get("pv:a:packed", true, &packed));
		arena_reset(&b.arena);
	}
	b.config.cache.sealed = NULL;
	buf_release(&bytes);
	buf_release(&packed);
}

/* Two writers of one key, their pieces and heads in any order. */
static void test_two_writers(void **state)
{
	struct buf mine = make(LARGE, true), yours = make(LARGE - 1, true);
	struct value a, c;
	size_t i;

	(void)state;
	pack("pv:a:key", &mine, &a);
	pack("pv:a:key", &yours, &c);
	for (i = 0; i < 3; i++) {
		assert_string_not_equal(a.pieces[i].key, c.pieces[i].key);
		set(&a.pieces[i]);
		set(&c.pieces[i]);
	}
	set(&a.head);
	assert_true(get("pv:a:key", true, &mine));
	set(&c.head);
	assert_true(get("pv:a:key", true, &yours));
	c.pieces[1].value = a.pieces[1].value; /* cannot happen, and is found out */
	set(&c.pieces[1]);
	assert_false(get("pv:a:key", true, &yours));
	set(&a.head);
	assert_true(get("pv:a:key", true, &mine));
	for (i = 0; i < 3; i++) { /* all of another value's, under these names */
		c.pieces[i].key = a.pieces[i].key;
		set(&c.pieces[i]);
	}
	assert_false(get("pv:a:key", true, &mine));
	arena_reset(&b.arena);
	buf_release(&mine);
	buf_release(&yours);
}

static void test_store_refuses(void **state)
{
	struct buf bytes = make(LARGE, true), before = make(100, true);
	struct value old, v;

	(void)state;
	pack("pv:a:key", &before, &old);
	assert_true(value_store(&b.t, &old));
	pack("pv:a:key", &bytes, &v);
	v.pieces[2].value = v.pieces[0].value;
	v.pieces[2].value_len = 1200 * 1000; /* memcached takes no such item */
	assert_false(value_store(&b.t, &v));
	assert_true(get("pv:a:key", true, &before)); /* what was there still is */
	arena_reset(&b.arena);
	buf_release(&bytes);
	buf_release(&before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_change_is_a_miss),
		cmocka_unit_test(test_sealed_and_not),
		cmocka_unit_test(test_max_entry),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_two_writers),
		cmocka_unit_test(test_store_refuses),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
