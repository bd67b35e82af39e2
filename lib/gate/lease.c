/* What is deleted or renewed is what was seen to be ours: everything between two looks may be somebody else's. */
#include "gate/lease.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_BYTES = 2 * 16 + 1, ATTEMPTS = 3 };

uint64_t lease_question(const struct txn *t)
{
	struct hash_part parts[] = {{t->cache_hash, sizeof(t->cache_hash)}, {t->epochs, sizeof(t->epochs)}};
	uint8_t hash[SHA256_BYTES];
	uint64_t question;

	hash_sha256_parts(parts, 2, hash);
	memcpy(&question, hash, sizeof(question));
	return question;
}

void lease_init(const struct txn *t, struct lease *l)
{
	snprintf(l->key, sizeof(l->key), "%.140s:%016llx", t->cache_key, (unsigned long long)lease_question(t));
	l->key[strlen(t->config->memcached.prefix) + 1] = 'l'; /* "pv:a:…" is the answer, "pv:l:…" who asks for it */
	l->host = t->worker->stats->host;
	do
		hash_random((uint8_t *)&l->nonce, sizeof(l->nonce));
	while (l->nonce == 0);
}

static void print(const struct lease *l, char value[VALUE_BYTES + 1])
{
	snprintf(value, VALUE_BYTES + 1, "%016llx %016llx", (unsigned long long)l->nonce, (unsigned long long)l->host);
}

static bool parse(const struct store_item *item, struct lease *holder)
{
	char value[VALUE_BYTES + 1], *end;

	if (item->value_len != VALUE_BYTES)
		return false;
	memcpy(value, item->value, VALUE_BYTES);
	value[VALUE_BYTES] = '\0';
	holder->nonce = strtoull(value, &end, 16);
	if (*end != ' ')
		return false;
	holder->host = strtoull(end + 1, &end, 16);
	return *end == '\0' && holder->nonce;
}

static void run(struct txn *t, struct store_item *items, size_t count)
{
	items[0].pool = STORE_COUNTERS;
	store_run(t->worker->store, items, count);
	t->store_down |= items[0].result == STORE_DOWN;
}

static enum store_result add(struct txn *t, struct lease *l)
{
	char value[VALUE_BYTES + 1];
	struct store_item item = {
		.op = STORE_ADD, .key = l->key, .ttl_s = LEASE_S, .value = value, .value_len = VALUE_BYTES};

	print(l, value);
	run(t, &item, 1);
	l->cas = item.cas;
	return item.result;
}

/* Who has it, from what memcached says. */
static enum store_result read_holder(const struct store_item *item, struct lease *holder)
{
	snprintf(holder->key, sizeof(holder->key), "%s", item->key);
	holder->nonce = holder->host = 0;
	holder->cas = item->cas;
	return item->result == STORE_OK && !parse(item, holder) ? STORE_FAIL : item->result;
}

static enum store_result look(struct txn *t, const struct lease *l, struct lease *holder)
{
	struct store_item item = {.op = STORE_GET, .key = l->key};

	run(t, &item, 1);
	return read_holder(&item, holder);
}

static void drop(struct txn *t, const struct lease *l, uint64_t cas)
{
	struct store_item item = {.op = STORE_DELETE, .key = l->key, .cas = cas};

	run(t, &item, 1);
}

enum lease_verdict lease_take(struct txn *t, struct lease *l, bool alone, struct lease *holder)
{
	enum store_result result;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		result = add(t, l);
		if (result == STORE_OK)
			return LEASE_OURS;
		if (result != STORE_EXISTS)
			return LEASE_UNKNOWN;
		result = look(t, l, holder);
		if (result == STORE_MISS)
			continue;
		if (result != STORE_OK)
			return LEASE_UNKNOWN;
		if (holder->host != l->host || !alone)
			return LEASE_THEIRS;
		drop(t, l, holder->cas);
	}
	return LEASE_UNKNOWN;
}

enum lease_verdict lease_look(struct txn *t, const struct lease *l, struct lease *holder)
{
	enum store_result result = look(t, l, holder);

	if (result == STORE_MISS)
		return LEASE_NOBODYS;
	if (result != STORE_OK)
		return LEASE_UNKNOWN;
	return holder->nonce == l->nonce ? LEASE_OURS : LEASE_THEIRS;
}

bool lease_renew(struct txn *t, struct lease *l, struct store_item *besides)
{
	struct store_item items[] = {{.op = STORE_GAT, .key = l->key, .ttl_s = LEASE_S}, *besides};
	enum store_result result;
	struct lease holder;

	run(t, items, 2);
	*besides = items[1];
	result = read_holder(items, &holder);
	if (result == STORE_MISS)
		return add(t, l) == STORE_OK;
	l->cas = result == STORE_OK && holder.nonce == l->nonce ? holder.cas : 0;
	return l->cas != 0;
}

void lease_give_back(struct txn *t, const struct lease *l)
{
	struct lease holder = *l;

	if (l->cas || (look(t, l, &holder) == STORE_OK && holder.nonce == l->nonce))
		drop(t, l, holder.cas);
}
