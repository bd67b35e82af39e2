/* Two questions share an answer only if nothing that a model could see, and nobody whom they must not meet, differs. */
#include "gate/cache.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/seal.h"

#include <stdio.h>
#include <string.h>

enum { KEY_FORMAT = 1 };

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
	uint8_t name[SHA256_BYTES];

	memcpy(name, hash, sizeof(name));
	if (t->config->cache.sealed)
		seal_name(t->config->cache.sealed, hash, SHA256_BYTES, name);
	hash_hex(name, sizeof(name), hex);
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

static uint32_t whole_seconds(int64_t ms)
{
	int64_t s = (ms + 999) / 1000; /* 0 would be for ever */

	return s < STORE_TTL_MAX ? (uint32_t)s : STORE_TTL_MAX;
}

uint32_t cache_ttl_s(const struct txn *t)
{
	return whole_seconds(cache_ttl_ms(t));
}

uint32_t cache_kept_s(const struct txn *t)
{
	int64_t meanwhile = t->model->cache.stale_while_revalidate, error = t->model->cache.stale_if_error;

	return whole_seconds(cache_ttl_ms(t) + (meanwhile > error ? meanwhile : error) / 1000);
}

bool cache_pack(struct txn *t, const char *key, uint32_t ttl_s, const struct cache_entry *e, struct value *v)
{
	struct buf bytes = BUF_INIT(value_max(t));
	bool fits;

	entry_encode(&bytes, e);
	fits = value_pack(t, key, ttl_s, &bytes, v);
	buf_release(&bytes);
	return fits;
}

bool cache_read(struct txn *t, const struct store_item *got, bool alone, const uint8_t hash[SHA256_BYTES],
	struct cache_entry *e)
{
	struct hash_part bytes;

	if (!t->config->cache.sealed && got->result == STORE_OK && entry_decode_1(e, got->value, got->value_len, hash))
		return true;
	return value_open(t, got, alone, &bytes) && entry_decode(e, bytes.bytes, bytes.len);
}

bool cache_put_under(struct txn *t, const char *key, uint32_t ttl_s, struct json_object *completion, const char *script,
	size_t script_len)
{
	struct buf json = BUF_INIT(value_max(t));
	int64_t now = clock_real_ms();
	struct cache_entry e = {.stored_ms = now,
		.expires_ms = now + cache_ttl_ms(t),
		.input_tokens = t->facts.input_tokens,
		.output_tokens = t->facts.output_tokens,
		.cached_tokens = t->facts.cached_tokens,
		.epochs = {t->epochs[0], t->epochs[1]},
		.model = t->facts.model,
		.finish_reasons = t->facts.finish_reasons,
		.script = script,
		.script_len = script_len};
	struct value v;
	bool stored;

	print_lasting(&json, completion);
	e.json = json.data;
	e.json_len = json.len;
	stored = !json.overflow && cache_pack(t, key, ttl_s, &e, &v) && value_store(t, &v);
	buf_release(&json);
	return stored;
}

bool cache_put(struct txn *t, struct json_object *completion, const char *script, size_t script_len)
{
	return cache_put_under(t, t->cache_key, cache_kept_s(t), completion, script, script_len);
}
