/*
 * What comes out of memcached: a value that is not what was put there is a miss, and one that is can be played or says
 * that it cannot. The input is taken for an item as it is, for an entry of each format (of the first behind its hash),
 * for the kind and the payload of a value, plain and sealed, and for a completion and a script between which stands a
 * line feed.
 */
#include "base/log.h"
#include "base/seal.h"
#include "gate/cache.h"
#include "gate/worker.h"
#include "wire/stream.h"

enum { ENTRY_MAX = 1 << 26, MAX_ENTRY = 1 << 20 };

static const char key[] = "pv:a:key";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static int check_chunk(void *count, const char *chunk, size_t len)
{
	struct err e;

	BUG_ON(json_scan(chunk, len, &e) != 0);
	return ++*(int *)count > 1000; /* enough seen */
}

static void play(const struct cache_entry *entry)
{
	struct err e;
	int count = 0, verdict;
	struct replay r = {.form = &stream_chat,
		.completion = json_parse(entry->json, entry->json_len, &e),
		.script = entry->script,
		.script_len = entry->script_len,
		.include_usage = entry->script_len % 2,
		.emit = check_chunk,
		.ctx = &count};

	if (!r.completion)
		return;
	verdict = stream_replay(&r);
	BUG_ON(verdict < -1 || verdict > 1);
	json_release(r.completion);
}

static void check_same(const struct cache_entry *a, const struct cache_entry *b)
{
	BUG_ON(a->json_len != b->json_len || memcmp(a->json, b->json, a->json_len) != 0);
	BUG_ON(a->script_len != b->script_len || memcmp(a->script, b->script, a->script_len) != 0);
	BUG_ON(strcmp(a->model, b->model) != 0 || strcmp(a->finish_reasons, b->finish_reasons) != 0);
	BUG_ON(memcmp(a, b, offsetof(struct cache_entry, model)) != 0);
}

static void check_entry(const struct cache_entry *entry)
{
	struct buf again = BUF_INIT(ENTRY_MAX);
	struct cache_entry back;

	entry_encode(&again, entry);
	BUG_ON(!entry_decode(&back, again.data, again.len));
	check_same(entry, &back);
	play(entry);
	buf_release(&again);
}

static void check_bytes(const char *bytes, size_t len)
{
	static const uint8_t zeros[SHA256_BYTES];
	struct cache_entry entry;

	if (entry_decode(&entry, bytes, len))
		check_entry(&entry);
	if (entry_decode_1(&entry, bytes, len, zeros))
		check_entry(&entry);
	if (len >= 32 && entry_decode_1(&entry, bytes + 32, len - 32, (const uint8_t *)bytes))
		check_entry(&entry);
}

/* ---- values ---- */

static bool opens(struct txn *t, const char *bytes, size_t len, struct hash_part *out)
{
	struct store_item got = {.op = STORE_GET, .key = key, .value = bytes, .value_len = len, .result = STORE_OK};

	return value_open(t, &got, true, out);
}

/* What value_pack() would make of it, if it made such things. */
static void frame(const struct seal *seal, const char *bytes, size_t len, struct buf *out)
{
	const uint8_t head[] = {2, (uint8_t)bytes[0] % 4};
	struct hash_part parts[] = {{key, sizeof(key)}, {head, 2}, {bytes + 1, len - 1}};
	uint8_t check[SHA256_BYTES];

	if (seal) {
		seal_wrap(seal, key, parts + 1, 2, out);
		return;
	}
	hash_sha256_parts(parts, 3, check);
	buf_adds(out, "PVCV");
	buf_add(out, check, 16);
	buf_add(out, head, 2);
	buf_add(out, bytes + 1, len - 1);
}

static bool check_value(struct txn *t, const char *bytes, size_t len)
{
	struct buf framed = BUF_INIT(ENTRY_MAX);
	struct hash_part value;
	struct cache_entry entry;
	bool good;

	BUG_ON(t->config->cache.sealed && opens(t, bytes, len, &value)); /* nobody guesses that */
	opens(t, bytes, len, &value);
	frame(t->config->cache.sealed, bytes, len, &framed);
	good = opens(t, framed.data, framed.len, &value);
	BUG_ON(good && value.len > len && value.len > MAX_ENTRY);
	BUG_ON(!good && bytes[0] % 4 == 0);
	if (good && entry_decode(&entry, value.bytes, value.len))
		check_entry(&entry);
	buf_release(&framed);
	arena_reset(t->arena);
	return good;
}

static void check_values(const char *bytes, size_t len)
{
	static const char *servers[] = {"/nonexistent/memcached.sock", NULL};
	static struct config config = {
		.memcached = {.prefix = "pv", .servers = servers, .counters = servers}, .cache.max_entry = MAX_ENTRY};
	static struct arena arena;
	static struct worker worker;
	static struct seal *seal;
	struct txn t = {.config = &config, .worker = &worker, .arena = &arena};
	const char *why;
	bool plain;

	if (!seal) {
		log_init(LOG_ERROR);
		seal = seal_new("a secret of some bytes");
		worker.store = worker_store(&config, stats_create("/nonexistent", &why));
	}
	config.cache.sealed = NULL;
	plain = check_value(&t, bytes, len);
	config.cache.sealed = seal;
	BUG_ON(check_value(&t, bytes, len) != plain);
}

/* ---- parts ---- */

static void check_parts(const char *bytes, size_t len)
{
	const char *cut = memchr(bytes, '\n', len);
	size_t json_len = cut ? (size_t)(cut - bytes) : len;
	struct cache_entry entry = {.model = "m",
		.finish_reasons = "stop",
		.epochs = {1, 2},
		.json = bytes,
		.json_len = json_len,
		.script = cut ? cut + 1 : "",
		.script_len = cut ? len - json_len - 1 : 0};
	struct buf encoded = BUF_INIT(ENTRY_MAX);
	struct cache_entry back;

	entry_encode(&encoded, &entry);
	if (entry_decode(&back, encoded.data, encoded.len)) {
		check_same(&entry, &back);
		play(&back);
	} else {
		BUG_ON(json_len >= 2 && bytes[0] == '{'); /* what has no object to serve is no entry */
	}
	buf_release(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	check_bytes((const char *)bytes, len);
	if (len)
		check_values((const char *)bytes, len);
	check_parts((const char *)bytes, len);
	return 0;
}
