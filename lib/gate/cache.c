/* Layout of an entry: a fixed head in little-endian, then model, finish_reasons (each with its NUL), JSON and script.
 */
#include "gate/cache.h"

#include "base/clock.h"
#include "base/hash.h"
#include "wire/canon.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

enum { VERSION = 2, CHECK_BYTES = 16, HEAD_BYTES = 4 + 4 + CHECK_BYTES + 5 * 8 + 4 * 4, KEY_FORMAT = 1 };
enum { EPOCHS_BYTES = TXN_EPOCHS * 8 /* behind the head since version 2 */ };

static const char MAGIC[4] = {'P', 'V', 'C', 'E'};

const char *cache_scope(struct arena *arena, const struct key *key, int scope)
{
	if (scope == SCOPE_EVERYONE)
		return "everyone";
	if (scope == SCOPE_TEAM && key->team)
		return arena_printf(arena, "team %s", key->team);
	return arena_printf(arena, "key %s", key->name);
}

static void part(struct buf *out, const char *text)
{
	json_print_string(out, text, strlen(text)); /* quoted: no value can look like two */
	buf_addc(out, '\n');
}

void cache_question(struct txn *t, struct buf *out)
{
	const char **h;

	buf_printf(out, "%d\n", KEY_FORMAT);
	part(out, cache_scope(t->arena, t->key, t->model->cache.scope));
	part(out, t->endpoint->operation->name);
	part(out, t->model->provider->name);
	part(out, t->model->provider->base_url);
	part(out, t->model->model);
	for (h = t->config->forward_headers; *h; h++) {
		part(out, *h);
		part(out, http_header(*h) ? http_header(*h) : "");
	}
	canon_hashed(out, t->body);
	BUG_ON(out->overflow);
}

void cache_key_name(const struct txn *t, const uint8_t hash[32], char key[TXN_KEY])
{
	char hex[SHA256_HEX + 1];

	hash_hex(hash, SHA256_BYTES, hex);
	snprintf(key, TXN_KEY, "%s:a:%s", t->config->memcached.prefix, hex);
}

void cache_key(struct txn *t)
{
	struct buf question = BUF_INIT(CACHE_QUESTION_MAX(t->config->server.max_body));

	cache_question(t, &question);
	hash_sha256(question.data, question.len, t->cache_hash);
	buf_release(&question);
	cache_key_name(t, t->cache_hash, t->cache_key);
}

static void put64(struct buf *out, int64_t v)
{
	uint64_t le = htole64((uint64_t)v);

	buf_add(out, &le, sizeof(le));
}

static void put32(struct buf *out, size_t v)
{
	uint32_t le = htole32((uint32_t)v);

	buf_add(out, &le, sizeof(le));
}

static void check_of(const char *bytes, size_t len, const uint8_t hash[32], uint8_t out[SHA256_BYTES])
{
	struct hash_part parts[] = {{hash, SHA256_BYTES}, {bytes, len}};

	hash_sha256_parts(parts, 2, out);
}

void cache_encode(struct buf *out, const struct cache_entry *e, const uint8_t hash[32])
{
	size_t start = out->len, model_len = strlen(e->model) + 1, reasons_len = strlen(e->finish_reasons) + 1;
	static const char zeros[CHECK_BYTES];
	uint8_t check[SHA256_BYTES];

	buf_add(out, MAGIC, sizeof(MAGIC));
	put32(out, VERSION);
	buf_add(out, zeros, CHECK_BYTES);
	put64(out, e->stored_ms);
	put64(out, e->expires_ms);
	put64(out, e->input_tokens);
	put64(out, e->output_tokens);
	put64(out, e->cached_tokens);
	put32(out, model_len);
	put32(out, reasons_len);
	put32(out, e->json_len);
	put32(out, e->script_len);
	put64(out, (int64_t)e->epochs[0]);
	put64(out, (int64_t)e->epochs[1]);
	buf_add(out, e->model, model_len);
	buf_add(out, e->finish_reasons, reasons_len);
	buf_add(out, e->json, e->json_len);
	buf_add(out, e->script, e->script_len);
	if (out->overflow)
		return;
	check_of(out->data + start, out->len - start, hash, check);
	memcpy(out->data + start + 8, check, CHECK_BYTES);
}

static int64_t get64(const char *p)
{
	uint64_t le;

	memcpy(&le, p, sizeof(le));
	return (int64_t)le64toh(le);
}

static size_t get32(const char *p)
{
	uint32_t le;

	memcpy(&le, p, sizeof(le));
	return le32toh(le);
}

/* The check was made over the entry with zeros in its place. */
static bool check_fits(const char *bytes, size_t len, const uint8_t hash[32])
{
	static const char zeros[CHECK_BYTES];
	struct hash_part parts[] = {{hash, SHA256_BYTES}, {bytes, 8}, {zeros, CHECK_BYTES},
		{bytes + 8 + CHECK_BYTES, len - 8 - CHECK_BYTES}};
	uint8_t check[SHA256_BYTES];

	hash_sha256_parts(parts, 4, check);
	return hash_equal(check, bytes + 8, CHECK_BYTES);
}

bool cache_decode(struct cache_entry *e, const char *bytes, size_t len, const uint8_t hash[32])
{
	const char *p = bytes + 8 + CHECK_BYTES;
	size_t model_len, reasons_len, head = HEAD_BYTES;

	if (len < HEAD_BYTES || memcmp(bytes, MAGIC, sizeof(MAGIC)) != 0 || !check_fits(bytes, len, hash))
		return false;
	if (get32(bytes + 4) == VERSION)
		head += EPOCHS_BYTES;
	else if (get32(bytes + 4) != 1)
		return false;
	if (len < head)
		return false;
	*e = (struct cache_entry){.stored_ms = get64(p),
		.expires_ms = get64(p + 8),
		.input_tokens = get64(p + 16),
		.output_tokens = get64(p + 24),
		.cached_tokens = get64(p + 32)};
	model_len = get32(p + 40);
	reasons_len = get32(p + 44);
	e->json_len = get32(p + 48);
	e->script_len = get32(p + 52);
	if (head > HEAD_BYTES) {
		e->epochs[0] = (uint64_t)get64(p + 56);
		e->epochs[1] = (uint64_t)get64(p + 64);
	}
	if ((uint64_t)head + model_len + reasons_len + e->json_len + e->script_len != len || !model_len || !reasons_len)
		return false;
	e->model = bytes + head;
	e->finish_reasons = e->model + model_len;
	e->json = e->finish_reasons + reasons_len;
	e->script = e->json + e->json_len;
	return e->model[model_len - 1] == '\0' && e->finish_reasons[reasons_len - 1] == '\0' && e->json_len >= 2 &&
	       e->json[0] == '{';
}

/* Less what is made anew for each answer. */
static void print_lasting(struct buf *out, struct json_object *completion)
{
	struct json_object *lasting = json_object_new_object();

	json_each_member (completion, m)
		if (strcmp(m.name, "id") != 0 && strcmp(m.name, "created") != 0)
			json_set(lasting, m.name, json_object_get(m.value));
	json_print(out, lasting);
	json_object_put(lasting);
}

int64_t cache_ttl_ms(const struct txn *t)
{
	return (t->controls.ttl_us >= 0 ? t->controls.ttl_us : t->model->cache.ttl) / 1000;
}

struct store_item cache_set_item(const struct txn *t, const char *key, const struct buf *bytes)
{
	int64_t ttl_s = (cache_ttl_ms(t) + 999) / 1000; /* 0 would be for ever */

	return (struct store_item){.op = STORE_SET,
		.pool = STORE_CACHE,
		.key = key,
		.ttl_s = ttl_s < STORE_TTL_MAX ? (uint32_t)ttl_s : STORE_TTL_MAX,
		.value = bytes->data,
		.value_len = bytes->len};
}

bool cache_put(struct txn *t, struct json_object *completion, const char *script, size_t script_len)
{
	struct buf json = BUF_INIT(STORE_VALUE_MAX), bytes = BUF_INIT(STORE_VALUE_MAX);
	int64_t now = clock_real_ms(), ttl_ms = cache_ttl_ms(t);
	struct cache_entry e = {.stored_ms = now,
		.expires_ms = now + ttl_ms,
		.input_tokens = t->facts.input_tokens,
		.output_tokens = t->facts.output_tokens,
		.cached_tokens = t->facts.cached_tokens,
		.epochs = {t->epochs[0], t->epochs[1]},
		.model = t->facts.model,
		.finish_reasons = t->facts.finish_reasons,
		.script = script,
		.script_len = script_len};
	struct store_item item = {.result = STORE_FAIL};

	print_lasting(&json, completion);
	e.json = json.data;
	e.json_len = json.len;
	if (!json.overflow)
		cache_encode(&bytes, &e, t->cache_hash);
	if (!json.overflow && !bytes.overflow) {
		item = cache_set_item(t, t->cache_key, &bytes);
		store_run(t->worker->store, &item, 1);
	}
	buf_release(&json);
	buf_release(&bytes);
	return item.result == STORE_OK;
}
