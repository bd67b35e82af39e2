/* An entry is what was put there, for the question it was put there for, or it is a miss. */
#include "../memcached_unit.h"

#include "gate/cache.h"

enum { ENTRY_MAX = 1 << 20 };

static const uint8_t hash[32] = {1, 2, 3, 4, 5, 6, 7, 8}, other_hash[32] = {1, 2, 3, 4, 5, 6, 7, 9};

static const struct cache_entry entry = {.stored_ms = 1700000000123,
	.expires_ms = 1700003600123,
	.input_tokens = 9,
	.output_tokens = 12,
	.cached_tokens = -1,
	.epochs = {1700000000000000, 1700000000000001},
	.model = "gpt-4o-mini-2024-07-18",
	.finish_reasons = "stop,length",
	.json = "{\"choices\":[]}",
	.json_len = 14,
	.script = "[[0,\"content\",1,2]]",
	.script_len = 19};

static void check_same(const struct cache_entry *a, const struct cache_entry *b)
{
	assert_true(a->stored_ms == b->stored_ms);
	assert_true(a->expires_ms == b->expires_ms);
	assert_true(a->input_tokens == b->input_tokens);
	assert_true(a->output_tokens == b->output_tokens);
	assert_true(a->cached_tokens == b->cached_tokens);
	assert_memory_equal(a->epochs, b->epochs, sizeof(a->epochs));
	assert_string_equal(a->model, b->model);
	assert_string_equal(a->finish_reasons, b->finish_reasons);
	assert_int_equal(a->json_len, b->json_len);
	assert_memory_equal(a->json, b->json, b->json_len);
	assert_int_equal(a->script_len, b->script_len);
	assert_memory_equal(a->script, b->script, b->script_len);
}

static bool decode(struct cache_entry *e, const char *bytes, size_t len, const uint8_t of[32])
{
	char *copy = exact_copy(bytes, len);
	bool good = cache_decode(e, copy, len, of);

	if (good)
		check_same(e, &entry);
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
	struct cache_entry e;

	(void)state;
	cache_encode(&bytes, &entry, hash);
	assert_true(decode(&e, bytes.data, bytes.len, hash));
	buf_reset(&bytes);
	buf_adds(&bytes, "before"); /* it appends */
	cache_encode(&bytes, &entry, hash);
	assert_true(decode(&e, bytes.data + 6, bytes.len - 6, hash));
	buf_reset(&bytes);
	cache_encode(&bytes, &bare, hash);
	assert_true(cache_decode(&e, bytes.data, bytes.len, hash));
	check_same(&e, &bare);
	buf_release(&bytes);
}

static void test_any_change_is_a_miss(void **state)
{
	struct buf bytes = BUF_INIT(ENTRY_MAX);
	struct cache_entry e;
	size_t i;

	(void)state;
	cache_encode(&bytes, &entry, hash);
	for (i = 0; i < bytes.len * 8; i++) {
		bytes.data[i / 8] ^= (char)(1 << i % 8);
		if (decode(&e, bytes.data, bytes.len, hash))
			fail_msg("bit %zu of byte %zu", i % 8, i / 8);
		bytes.data[i / 8] ^= (char)(1 << i % 8);
	}
	for (i = 0; i < bytes.len; i++)
		assert_false(decode(&e, bytes.data, i, hash));
	for (i = 1; i < bytes.len; i++)
		assert_false(decode(&e, bytes.data + i, bytes.len - i, hash));
	assert_false(decode(&e, bytes.data, bytes.len, other_hash));
	assert_true(decode(&e, bytes.data, bytes.len, hash));
	buf_addc(&bytes, '\0');
	assert_false(decode(&e, bytes.data, bytes.len, hash));
	buf_release(&bytes);
}

static void test_too_large(void **state)
{
	struct cache_entry large = entry;
	struct buf bytes = BUF_INIT(1000);
	char *json = calloc(1, 2000);

	(void)state;
	assert_non_null(json);
	large.json = json;
	large.json_len = 2000;
	cache_encode(&bytes, &large, hash);
	assert_true(bytes.overflow);
	buf_release(&bytes);
	free(json);
}

/* ---- the key ---- */

struct question {
	int scope;
	const char *key, *team, *operation, *provider, *base_url, *model, *body;
};

static const struct question usual = {SCOPE_KEY, "alice", "red", "chat", "p", "http://h/v1", "real",
	"{'model':'m','messages':[{'role':'user','content':'a'}]}"};

static void key_of(const struct question *q, char out[TXN_KEY])
{
	static const char *no_headers[] = {NULL};
	struct config c = {.server.max_body = 65536, .memcached.prefix = "pv", .forward_headers = no_headers};
	struct provider p = {.name = q->provider, .base_url = q->base_url};
	struct model m = {.name = "m", .model = q->model, .provider = &p, .cache.scope = q->scope};
	struct operation o = {.name = q->operation};
	struct endpoint e = {.operation = &o};
	struct key k = {.name = q->key, .team = q->team};
	struct arena arena = ARENA_INIT;
	struct txn t = {
		.config = &c, .arena = &arena, .endpoint = &e, .key = &k, .model = &m, .body = parse_json(q->body)};

	cache_key(&t);
	snprintf(out, TXN_KEY, "%s", t.cache_key);
	assert_int_equal(strncmp(out, "pv:", 3), 0);
	assert_in_range(strlen(out), 64, STORE_KEY_MAX);
	json_release(t.body);
	arena_release(&arena);
}

static bool share(const struct question *a, const struct question *b)
{
	char x[TXN_KEY], y[TXN_KEY];

	key_of(a, x);
	key_of(b, y);
	return strcmp(x, y) == 0;
}

static void test_key(void **state)
{
	struct question q = usual;

	(void)state;
	assert_true(share(&usual, &q));
	q.operation = "embeddings", assert_false(share(&usual, &q)), q = usual;
	q.provider = "q", assert_false(share(&usual, &q)), q = usual;
	q.base_url = "http://other/v1", assert_false(share(&usual, &q)), q = usual;
	q.model = "other", assert_false(share(&usual, &q)), q = usual;
	q.body = "{'model':'m','messages':[{'role':'user','content':'b'}]}", assert_false(share(&usual, &q)), q = usual;
	/* one entry serves both forms, whoever is behind the key */
	q.body = "{'stream':true,'user':'u','messages':[{'content':'a','role':'user'}],'model':'alias'}";
	assert_true(share(&usual, &q));
	/* no value can look like two */
	q = usual;
	q.provider = "p\"\n\"http://h/v1", assert_false(share(&usual, &q));
}

static void test_scope(void **state)
{
	struct question a = usual, b = usual;

	(void)state;
	b.key = "bob";
	assert_false(share(&a, &b));
	a.scope = b.scope = SCOPE_TEAM;
	assert_true(share(&a, &b));
	b.team = "blue";
	assert_false(share(&a, &b));
	a.team = b.team = NULL; /* those without a team share with nobody */
	assert_false(share(&a, &b));
	b.team = "alice";
	assert_false(share(&a, &b));
	a.scope = b.scope = SCOPE_EVERYONE;
	assert_true(share(&a, &b));
	b.scope = SCOPE_KEY;
	assert_false(share(&a, &b));
}

/* ---- remembering ---- */

static void test_put(void **state)
{
	static struct memcached server;
	char folder[FOLDER_PATH];
	const char *const servers[] = {server.path, NULL};
	struct model m = {.name = "m", .cache.ttl = 3600000000};
	struct worker w = {0};
	struct txn t = {
		.worker = &w, .model = &m, .controls = CACHE_CONTROLS_INIT, .cache_key = "pv:a:key", .epochs = {2, 4}};
	struct json_object *completion =
		parse_json("{'id':'chatcmpl-1','created':1,'model':'m','choices':[],'usage':null}");
	struct store_item get = {.op = STORE_GET, .key = t.cache_key};
	struct cache_entry e;
	int64_t now = clock_real_ms();

	(void)state;
	make_folder(folder);
	snprintf(server.path, sizeof(server.path), "%s/1.sock", folder);
	memcached_start(&server);
	w.store = store_of(servers, 5000, new_stats());
	memcpy(t.cache_hash, hash, sizeof(hash));
	answer_facts_init(&t.facts);
	t.facts.input_tokens = 3;
	assert_true(cache_put(&t, completion, "[]", 2));
	assert_int_equal(run_one(w.store, &get), STORE_OK);
	assert_true(cache_decode(&e, get.value, get.value_len, hash));
	assert_int_equal(e.json_len, strlen("{\"model\":\"m\",\"choices\":[],\"usage\":null}"));
	assert_memory_equal(e.json, "{\"model\":\"m\",\"choices\":[],\"usage\":null}", e.json_len);
	assert_int_equal(e.script_len, 2);
	assert_int_equal(e.input_tokens, 3);
	assert_in_range(e.stored_ms - now, 0, 10000);
	assert_true(e.expires_ms - e.stored_ms == 3600000);
	assert_true(e.epochs[0] == 2 && e.epochs[1] == 4);
	assert_false(cache_decode(&e, get.value, get.value_len, other_hash));
	memcached_end(&server);
	unlink(server.path);
	store_begin(w.store);
	assert_false(cache_put(&t, completion, "[]", 2)); /* and nobody is worse off */
	json_release(completion);
	store_free(w.store);
	remove_folder(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_any_change_is_a_miss),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_scope),
		cmocka_unit_test(test_put),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
