/* What a question is called, and that its answer is found under that name and nowhere else. */
#include "../memcached_unit.h"

#include "base/seal.h"
#include "gate/cache.h"

static const uint8_t hash[32] = {1, 2, 3, 4, 5, 6, 7, 8}, other_hash[32] = {1, 2, 3, 4, 5, 6, 7, 9};

/* ---- the key ---- */

struct question {
	int scope;
	struct seal *sealed;
	const char *key, *team, *operation, *provider, *base_url, *model, *body;
};

static const struct question usual = {SCOPE_KEY, NULL, "alice", "red", "chat", "p", "http://h/v1", "real",
	"{'model':'m','messages':[{'role':'user','content':'a'}]}"};

static void key_of(const struct question *q, char out[TXN_KEY])
{
	static const char *no_headers[] = {NULL};
	struct config c = {.server.max_body = 65536,
		.memcached.prefix = "pv",
		.cache.sealed = q->sealed,
		.forward_headers = no_headers};
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

static void test_keyed_names(void **state)
{
	struct question a = usual, b = usual;

	(void)state;
	a.sealed = seal_new("a secret of some bytes");
	assert_false(share(&a, &usual));
	b.sealed = seal_new("a secret of some bytes");
	assert_true(share(&a, &b)); /* on all hosts */
	b.model = "other";
	assert_false(share(&a, &b));
	seal_free(b.sealed);
	b = usual;
	b.sealed = seal_new("another secret of some");
	assert_false(share(&a, &b));
	seal_free(a.sealed);
	seal_free(b.sealed);
}

/* ---- remembering ---- */

#define LASTING "{\"model\":\"m\",\"choices\":[],\"usage\":null}"

static void check_found(struct txn *t, const char *key)
{
	struct store_item get = {.op = STORE_GET, .key = key};
	struct cache_entry e;
	int64_t now = clock_real_ms();

	assert_int_equal(run_one(t->worker->store, &get), STORE_OK);
	assert_true(cache_read(t, &get, true, hash, &e));
	assert_int_equal(e.json_len, strlen(LASTING));
	assert_memory_equal(e.json, LASTING, e.json_len);
	assert_int_equal(e.script_len, 2);
	assert_int_equal(e.input_tokens, 3);
	assert_true(e.epochs[0] == 2 && e.epochs[1] == 4);
	assert_in_range(now - e.stored_ms, 0, 10000);
	assert_true(e.expires_ms - e.stored_ms == 3600000);
	get.key = "pv:a:other"; /* another key's content */
	assert_false(cache_read(t, &get, true, hash, &e));
}

static void check_put(struct txn *t, struct json_object *completion)
{
	assert_true(cache_put(t, completion, "[]", 2));
	check_found(t, t->cache_key);
	assert_true(cache_put_under(t, "pv:e:nonce", 60, completion, "[]", 2));
	check_found(t, "pv:e:nonce");
}

static void test_put(void **state)
{
	static struct memcached server;
	char folder[FOLDER_PATH];
	const char *const servers[] = {server.path, NULL};
	struct config c = {.memcached.prefix = "pv", .cache.max_entry = 1000};
	struct model m = {.name = "m", .cache.ttl = 3600000000};
	struct worker w = {0};
	struct arena arena = ARENA_INIT;
	struct txn t = {.config = &c,
		.worker = &w,
		.model = &m,
		.arena = &arena,
		.controls = CACHE_CONTROLS_INIT,
		.cache_key = "pv:a:key",
		.epochs = {2, 4}};
	struct json_object *completion =
		parse_json("{'id':'chatcmpl-1','created':1,'model':'m','choices':[],'usage':null}");

	(void)state;
	make_folder(folder);
	snprintf(server.path, sizeof(server.path), "%s/1.sock", folder);
	memcached_start(&server);
	w.store = store_of(servers, 5000, new_stats());
	memcpy(t.cache_hash, hash, sizeof(hash));
	answer_facts_init(&t.facts);
	t.facts.input_tokens = 3;
	check_put(&t, completion);
	c.cache.sealed = seal_new("a secret of some bytes");
	check_put(&t, completion);
	c.cache.max_entry = 100; /* less than it takes */
	assert_false(cache_put(&t, completion, "[]", 2));
	c.cache.max_entry = 1000;
	memcached_end(&server);
	unlink(server.path);
	store_begin(w.store);
	assert_false(cache_put(&t, completion, "[]", 2)); /* and nobody is worse off */
	json_release(completion);
	seal_free(c.cache.sealed);
	arena_release(&arena);
	store_free(w.store);
	remove_folder(folder);
}

static void test_how_long(void **state)
{
	struct model m = {.cache.ttl = 1500000};
	struct txn t = {.model = &m, .controls = CACHE_CONTROLS_INIT};

	(void)state;
	assert_int_equal(cache_ttl_s(&t), 2);
	assert_int_equal(cache_kept_s(&t), 2);
	m.cache.stale_if_error = 60000000;
	assert_int_equal(cache_kept_s(&t), 62); /* 61.5, and memcached has whole ones */
	m.cache.stale_while_revalidate = 70000000;
	assert_int_equal(cache_kept_s(&t), 72);
	t.controls.ttl_us = 30000000;
	assert_int_equal(cache_kept_s(&t), 100);
	assert_int_equal(cache_ttl_s(&t), 30);
	m.cache.stale_if_error = 40 * 86400000000; /* memcached would take it for a date */
	assert_int_equal(cache_kept_s(&t), STORE_TTL_MAX);
}

/* {"choices":[]} as version 0.1.0 remembered it for `hash`. */
static void test_format_before(void **state)
{
	static const char format_1[] =
		"50564345010000008869e86d83cbb6327e30fbc294dcffbd7b68e5cf8b010000fb561cd08b01000009000000000000000c00000000000000"
		"ffffffffffffffff170000000c0000000e000000130000006770742d346f2d6d696e692d323032342d30372d31380073746f702c6c656e67"
		"7468007b2263686f69636573223a5b5d7d5b5b302c22636f6e74656e74222c312c325d5d";
	uint8_t bytes[(sizeof(format_1) - 1) / 2];
	struct config c = {.memcached.prefix = "pv", .cache.max_entry = 1000};
	struct arena arena = ARENA_INIT;
	struct txn t = {.config = &c, .arena = &arena};
	struct store_item got = {
		.op = STORE_GET, .key = "pv:a:key", .value = bytes, .value_len = sizeof(bytes), .result = STORE_OK};
	struct cache_entry e;

	(void)state;
	assert_true(hash_unhex(format_1, bytes, sizeof(bytes)));
	assert_true(cache_read(&t, &got, true, hash, &e));
	assert_int_equal(e.json_len, 14);
	assert_memory_equal(e.json, "{\"choices\":[]}", 14);
	assert_false(cache_read(&t, &got, true, other_hash, &e));
	c.cache.sealed = seal_new("a secret of some bytes");
	assert_false(cache_read(&t, &got, true, hash, &e)); /* anybody could have written it */
	seal_free(c.cache.sealed);
	c.cache.sealed = NULL;
	got.result = STORE_DOWN;
	assert_false(cache_read(&t, &got, true, hash, &e));
	arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_scope),
		cmocka_unit_test(test_keyed_names),
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_how_long),
		cmocka_unit_test(test_format_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
