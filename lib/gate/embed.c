/*
 * An entry holds an item of `data`, less its index, and its share of the tokens that its batch used: usage comes for a
 * batch as a whole, so it is divided by the inputs' lengths, to the token.
 */
#include "gate/embed.h"

#include "base/clock.h"
#include "base/hash.h"
#include "gate/answer.h"
#include "gate/cache.h"
#include "gate/epoch.h"
#include "gate/price.h"
#include "wire/embeddings.h"

#include <stdio.h>
#include <string.h>

struct embed_input {
	char key[TXN_KEY];
	uint8_t hash[SHA256_BYTES];
	struct store_item *item;
	size_t weight;         /* bytes of the input in our spelling */
	const char *item_json; /* the item of data, less its index; NULL = not known yet */
	size_t item_len;
	const struct embed_input *twin; /* the same text earlier in this batch: bought once */
	int64_t tokens;
	uint64_t epochs[TXN_EPOCHS];
	bool remember; /* its server is there to take it */
};

struct embed {
	size_t count, known, twins;
	size_t refused, expired; /* entries that were there and not to be served */
	int64_t known_tokens;
	struct embed_input *inputs;
};

size_t embed_entries(const struct txn *t)
{
	return embeddings_count(t->body);
}

void embed_prepare(struct txn *t)
{
	struct embed *e = t->embed = arena_alloc(t->arena, sizeof(*e));
	struct buf question = BUF_INIT(CACHE_QUESTION_MAX(t->config->server.max_body)), input = BUF_INIT(question.max);
	struct json_object *all = json_object_get(json_get(t->body, "input"));
	struct embed_input *in;
	size_t i;
	int server;

	e->count = embeddings_count(t->body);
	e->inputs = arena_alloc(t->arena, e->count * sizeof(*e->inputs));
	json_set(t->body, "input", NULL); /* what the inputs have in common */
	cache_question(t, &question);
	json_set(t->body, "input", all);
	for (i = 0; i < e->count; i++) {
		in = &e->inputs[i];
		buf_reset(&input);
		json_print(&input, embeddings_input(t->body, i));
		in->weight = input.len;
		hash_sha256_parts(
			(struct hash_part[]){{question.data, question.len}, {input.data, input.len}}, 2, in->hash);
		cache_key_name(t, in->hash, in->key);
		server = store_server_of(t->worker->store, STORE_CACHE, in->key);
		epoch_prepare(t, server);
		in->item = &t->batch[t->batch_count++];
		*in->item = (struct store_item){.op = STORE_GET, .pool = STORE_CACHE, .key = in->key, .server = server};
	}
	buf_release(&question);
	buf_release(&input);
}

/* Whether there is an entry that may be served, and if not, why not. */
static bool look(struct txn *t, struct embed *e, struct embed_input *in, struct cache_entry *entry, int64_t now)
{
	const struct store_item *item = in->item;

	t->store_down |= item->result == STORE_DOWN || item->result == STORE_FAIL;
	in->remember = epoch_read(t, item->server, in->epochs);
	t->store_down |= !in->remember;
	if (!in->remember || item->result != STORE_OK || !cache_decode(entry, item->value, item->value_len, in->hash) ||
		!epoch_fits(entry, in->epochs))
		return false;
	if (entry->expires_ms <= now)
		return e->expired++, false;
	if (!controls_allow(&t->controls, now - entry->stored_ms))
		return e->refused++, false;
	return true;
}

static void take_entry(struct txn *t, struct embed *e, struct embed_input *in)
{
	int64_t now = clock_real_ms();
	struct cache_entry entry;

	if (!look(t, e, in, &entry, now))
		return;
	in->item_json = arena_strndup(t->arena, entry.json, entry.json_len); /* kept beyond the next batch */
	in->item_len = entry.json_len;
	in->tokens = entry.input_tokens;
	e->known++;
	e->known_tokens += in->tokens > 0 ? in->tokens : 0;
	snprintf(t->facts.model, sizeof(t->facts.model), "%s", entry.model);
	if (now - entry.stored_ms > t->cache_age_ms)
		t->cache_age_ms = now - entry.stored_ms;
	if (!t->cache_ttl_ms || entry.expires_ms - now < t->cache_ttl_ms)
		t->cache_ttl_ms = entry.expires_ms - now;
}

static int64_t price_of_input(const struct txn *t, int64_t tokens)
{
	return price_of(t->model, &(struct answer_facts){.input_tokens = tokens});
}

/* Everything is known by now; bought_tokens -1: the provider did not say. */
static enum verdict answer_all(struct txn *t, int64_t bought_tokens)
{
	const struct embed *e = t->embed;
	const struct embed_input *in;
	struct buf out = BUF_INIT((size_t)t->model->provider->max_response * 2);
	enum verdict verdict;
	size_t i;

	t->facts.input_tokens = e->known_tokens + (bought_tokens > 0 ? bought_tokens : 0);
	t->facts.output_tokens = 0;
	t->cost_pusd = price_of_input(t, bought_tokens);
	t->saved_pusd = e->known ? price_of_input(t, e->known_tokens) : -1;
	buf_adds(&out, "{\"object\":\"list\",\"data\":[");
	for (i = 0; i < e->count; i++) {
		in = e->inputs[i].twin ? e->inputs[i].twin : &e->inputs[i];
		buf_printf(&out, "%s{\"index\":%zu,", i ? "," : "", i);
		buf_add(&out, in->item_json + 1, in->item_len - 1);
	}
	buf_adds(&out, "],\"model\":");
	json_print_string(&out, t->facts.model, strlen(t->facts.model));
	buf_printf(&out, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}", (long long)t->facts.input_tokens,
		(long long)t->facts.input_tokens);
	verdict = out.overflow ? txn_fail(t, ERR_PROVIDER_TOO_LARGE, NULL, "The embeddings together are too large.")
			       : answer_json(t, 200, &out);
	buf_release(&out);
	return verdict;
}

static bool to_be_bought(const struct embed_input *in)
{
	return !in->item_json && !in->twin;
}

static void find_twin(struct embed *e, size_t i)
{
	size_t j;

	for (j = 0; j < i && !e->inputs[i].item_json && !e->inputs[i].twin; j++)
		if (to_be_bought(&e->inputs[j]) && memcmp(e->inputs[j].hash, e->inputs[i].hash, SHA256_BYTES) == 0)
			e->inputs[i].twin = &e->inputs[j];
	e->twins += e->inputs[i].twin != NULL;
}

enum verdict embed_lookup(struct txn *t)
{
	struct embed *e = t->embed;
	bool *wanted;
	size_t i;

	if (!e)
		return NEXT;
	wanted = arena_alloc(t->arena, e->count * sizeof(*wanted));
	for (i = 0; i < e->count; i++) {
		take_entry(t, e, &e->inputs[i]);
		find_twin(e, i);
		wanted[i] = to_be_bought(&e->inputs[i]);
	}
	if (e->known == e->count) {
		t->cache = CACHE_HIT;
		return answer_all(t, 0);
	}
	t->cache = e->known ? CACHE_PARTIAL : e->refused ? CACHE_REFUSED : e->expired ? CACHE_EXPIRED : CACHE_MISS;
	embeddings_keep(t->body, wanted);
	return NEXT;
}

/* Divides what was bought among those who needed it, by their lengths; the shares add up to it. */
static void share(struct embed *e, int64_t tokens)
{
	__int128 weight = 0, total = 0, given = 0, due;
	size_t i;

	for (i = 0; i < e->count; i++)
		total += to_be_bought(&e->inputs[i]) ? (__int128)e->inputs[i].weight : 0;
	for (i = 0; i < e->count; i++) {
		if (!to_be_bought(&e->inputs[i]))
			continue;
		weight += (__int128)e->inputs[i].weight;
		due = total ? tokens * weight / total : 0;
		e->inputs[i].tokens = (int64_t)(due - given);
		given = due;
	}
}

static void print_item(struct buf *out, struct json_object *item)
{
	struct json_object *lasting = json_object_new_object();

	json_each_member (item, m)
		if (strcmp(m.name, "index") != 0)
			json_set(lasting, m.name, json_object_get(m.value));
	json_print(out, lasting);
	json_object_put(lasting);
}

/* One SET each, together in one round trip. */
static void remember(struct txn *t, struct json_object **bought)
{
	struct embed *e = t->embed;
	struct store_item *items = arena_alloc(t->arena, e->count * sizeof(*items));
	struct buf *bytes = arena_alloc(t->arena, e->count * sizeof(*bytes)), json = BUF_INIT(STORE_VALUE_MAX);
	int64_t now = clock_real_ms(), ttl_ms = cache_ttl_ms(t);
	struct cache_entry entry = {.stored_ms = now,
		.expires_ms = now + ttl_ms,
		.output_tokens = 0,
		.cached_tokens = -1,
		.model = t->facts.model,
		.finish_reasons = "",
		.script = ""};
	size_t i, n = 0, stored = 0;

	for (i = 0; i < e->count; i++) {
		bytes[i] = BUF_INIT(STORE_VALUE_MAX);
		if (!bought[i] || !e->inputs[i].remember)
			continue;
		buf_reset(&json);
		print_item(&json, bought[i]);
		entry.json = json.data;
		entry.json_len = json.len;
		entry.input_tokens = e->inputs[i].tokens;
		memcpy(entry.epochs, e->inputs[i].epochs, sizeof(entry.epochs));
		if (!json.overflow)
			cache_encode(&bytes[i], &entry, e->inputs[i].hash);
		if (bytes[i].len && !bytes[i].overflow)
			items[n++] = cache_set_item(t, e->inputs[i].key, &bytes[i]);
	}
	store_run(t->worker->store, items, n);
	for (i = 0; i < n; i++)
		stored += items[i].result == STORE_OK;
	t->stored = stored == e->count - e->known - e->twins;
	for (i = 0; i < e->count; i++)
		buf_release(&bytes[i]);
	buf_release(&json);
}

enum verdict embed_answer(struct txn *t, const struct buf *text, struct json_object *answer)
{
	struct embed *e = t->embed;
	struct json_object **bought;
	size_t i, at = 0;

	answer_facts_read(&t->facts, answer);
	t->facts.output_tokens = 0;
	t->cost_pusd = price_of_input(t, t->facts.input_tokens);
	if (!e || (!t->remember && e->known + e->twins == 0))
		return answer_json(t, 200, text); /* not remembered: passed on as it is */
	bought = arena_alloc(t->arena, e->count * sizeof(struct json_object *));
	for (i = 0; i < e->count; i++) {
		if (!to_be_bought(&e->inputs[i]))
			continue;
		bought[i] = embeddings_of(answer, at++, e->count - e->known - e->twins);
		if (!bought[i] && e->known + e->twins)
			return txn_fail(t, ERR_PROVIDER_INVALID, NULL,
				"The provider '%s' did not answer with one embedding for each input.",
				t->model->provider->name);
		if (!bought[i])
			return answer_json(t, 200, text);
	}
	share(e, t->facts.input_tokens > 0 ? t->facts.input_tokens : 0);
	if (t->remember)
		remember(t, bought);
	if (e->known + e->twins == 0)
		return answer_json(t, 200, text);
	for (i = 0; i < e->count; i++) {
		struct buf one = BUF_INIT((size_t)t->model->provider->max_response);

		if (!bought[i])
			continue;
		print_item(&one, bought[i]);
		e->inputs[i].item_json = arena_strndup(t->arena, one.data, one.len);
		e->inputs[i].item_len = one.len;
		buf_release(&one);
	}
	return answer_all(t, t->facts.input_tokens);
}
