/* Two small reads more in a batch that goes out anyway: what a purge costs a hit. */
#include "gate/epoch.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdio.h>
#include <string.h>

enum { HASH_BYTES = 16, WORDS = 4 };

/* A name of several words, each hashed with its NUL: no two can look like one. */
static const char *key_of(struct arena *arena, const struct config *c, const char *const *words, size_t count)
{
	struct hash_part parts[WORDS];
	uint8_t hash[SHA256_BYTES];
	char key[TXN_KEY];
	size_t i;

	for (i = 0; i < count; i++)
		parts[i] = (struct hash_part){words[i], strlen(words[i]) + 1};
	hash_sha256_parts(parts, count, hash);
	i = (size_t)snprintf(key, sizeof(key), "%s:e:", c->memcached.prefix);
	hash_hex(hash, HASH_BYTES, key + i);
	return arena_strdup(arena, key);
}

const char *epoch_key_of_scope(struct arena *arena, const struct config *c, const char *scope)
{
	return key_of(arena, c, (const char *[]){"scope", scope}, 2);
}

/* Of the resolved model: what two names for it share, they lose together. */
const char *epoch_key_of_model(struct arena *arena, const struct config *c, const struct model *m)
{
	return key_of(arena, c, (const char *[]){"model", m->provider->name, m->provider->base_url, m->model}, 4);
}

size_t epoch_items_max(const struct txn *t)
{
	return TXN_EPOCHS * (size_t)store_servers(t->worker->store, STORE_CACHE);
}

static void begin(struct txn *t)
{
	size_t servers = (size_t)store_servers(t->worker->store, STORE_CACHE);

	t->epoch_items = arena_alloc(t->arena, servers * sizeof(*t->epoch_items));
	t->epoch_keys[0] =
		epoch_key_of_scope(t->arena, t->config, cache_scope(t->arena, t->key, t->model->cache.scope));
	t->epoch_keys[1] = epoch_key_of_model(t->arena, t->config, t->model);
}

void epoch_prepare(struct txn *t, int server)
{
	uint64_t now = (uint64_t)clock_real_us() & ~1ull;
	int i;

	if (!t->epoch_items)
		begin(t);
	if (t->epoch_items[server - 1])
		return;
	t->epoch_items[server - 1] = &t->batch[t->batch_count];
	for (i = 0; i < TXN_EPOCHS; i++)
		t->batch[t->batch_count++] = (struct store_item){.op = STORE_INCR,
			.pool = STORE_CACHE,
			.key = t->epoch_keys[i],
			.server = server,
			.delta = 0,
			.initial = now};
}

bool epoch_read(const struct txn *t, int server, uint64_t epochs[TXN_EPOCHS])
{
	const struct store_item *items = t->epoch_items[server - 1];
	int i;

	for (i = 0; i < TXN_EPOCHS; i++) {
		if (items[i].result != STORE_OK)
			return false;
		epochs[i] = items[i].number;
	}
	return true;
}

bool epoch_fits(const struct cache_entry *e, const uint64_t epochs[TXN_EPOCHS])
{
	bool fits = true;
	int i;

	for (i = 0; i < TXN_EPOCHS; i++) {
		if (e->epochs[i]) /* equal, not "not later": clocks differ between hosts */
			fits &= e->epochs[i] == epochs[i];
		else /* of a version that wrote none: only a purge is known to be one */
			fits &= !(epochs[i] & 1) || (int64_t)(epochs[i] / 1000) <= e->stored_ms;
	}
	return fits;
}

uint64_t epoch_of_purge(void)
{
	return (uint64_t)clock_real_us() | 1;
}
