/*
 * An entry holds an item of `data`, less its index, its share of what its batch used (usage comes for a batch as a
 * whole, so it is divided by the inputs' lengths, to the token), and in the script's place whatever else the answer
 * said.
 */
#include "gate/embed.h"

#include "base/clock.h"
#include "base/hash.h"
#include "gate/answer.h"
#include "gate/cache.h"
#include "gate/epoch.h"
#include "gate/price.h"
#include "gate/settle.h"
#include "wire/embeddings.h"
#include "wire/batch_usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REST_MAX = 4096 /* bytes of it in each entry: more is not remembered */ };

struct embed_input {
	char key[TXN_KEY];
	uint8_t hash[SHA256_BYTES];
	struct store_item *item;
	uint64_t weight;       /* bytes of the input in our spelling */
	uint64_t before;       /* bytes of those before it that are to be bought */
	const char *item_json; /* the item of data, less its index; NULL = not known yet */
	size_t item_len;
	const struct embed_input *twin; /* the same text earlier in this batch: bought, and counted, once */
	int64_t tokens;
	uint64_t epochs[TXN_EPOCHS];
	bool remember; /* its server is there to take it */
};

struct embed {
	size_t count, known, twins; /* of those that are known, no one is another's twin */
	size_t refused, expired;    /* entries that were there and not to be served */
	int64_t known_tokens, newest_ms;
	uint64_t weight;           /* of all that are to be bought */
	struct json_object *usage; /* of all inputs together */
	struct json_object *rest;  /* what the newest answer among them said besides; NULL = nothing */
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

	e->usage = json_object_new_object();
	arena_defer(t->arena, json_release, e->usage);
	json_set_int(e->usage, "prompt_tokens", 0);
	json_set_int(e->usage, "total_tokens", 0);
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

/* An entry of a version before says nothing but its tokens. */
static void add_usage(struct embed *e, struct json_object *share, int64_t tokens)
{
	struct json_object *all = share ? json_object_get(share) : json_object_new_object();

	if (!json_has(all, "total_tokens"))
		json_set_int(all, "total_tokens", tokens > 0 ? tokens : 0);
	usage_add(e->usage, all);
	json_object_put(all);
}

static void take_rest(struct txn *t, struct embed *e, const struct cache_entry *entry)
{
	struct json_object *rest =
		entry->script_len ? json_parse(entry->script, entry->script_len, &(struct err){0}) : NULL;

	arena_defer(t->arena, json_release, rest);
	add_usage(e, json_get_object(rest, "usage"), entry->input_tokens);
	if (entry->stored_ms < e->newest_ms)
		return;
	e->newest_ms = entry->stored_ms;
	e->rest = rest;
	snprintf(t->facts.model, sizeof(t->facts.model), "%s", entry->model);
}

/* Whether there is an entry that may be served, and if not, why not. */
static bool look(struct txn *t, struct embed *e, struct embed_input *in, struct cache_entry *entry, int64_t now)
{
	const struct store_item *item = in->item;

	t->store_down |= item->result == STORE_DOWN || item->result == STORE_FAIL;
	in->remember = epoch_read(t, item->server, in->epochs);
	t->store_down |= !in->remember;
	if (!in->remember || !cache_read(t, item, false, in->hash, entry) || !epoch_fits(entry, in->epochs))
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
	take_rest(t, e, &entry);
	if (now - entry.stored_ms > t->cache_age_ms)
		t->cache_age_ms = now - entry.stored_ms;
	if (!t->cache_ttl_ms || entry.expires_ms - now < t->cache_ttl_ms)
		t->cache_ttl_ms = entry.expires_ms - now;
}

static int64_t price_of_input(const struct txn *t, int64_t tokens)
{
	return price_of(t->model, &(struct answer_facts){.input_tokens = tokens});
}

/* What belongs to one answer alone is made anew, as it is for chats. */
static void print_rest(struct txn *t, struct buf *out)
{
	bool hit = t->cache == CACHE_HIT;

	json_each_member (t->embed->rest, m) {
		if (strcmp(m.name, "usage") == 0)
			continue;
		buf_addc(out, ',');
		json_print_string(out, m.name, strlen(m.name));
		buf_addc(out, ':');
		if (hit && strcmp(m.name, "id") == 0)
			buf_printf(out, "\"%s\"", answer_fresh_id(t));
		else if (hit && strcmp(m.name, "created") == 0)
			buf_printf(out, "%lld", (long long)(clock_real_ms() / 1000));
		else
			json_print(out, m.value);
	}
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
	if (!t->called)
		t->cost_pusd = 0;
	t->saved_pusd = e->known ? price_of_input(t, e->known_tokens) : -1;
	buf_adds(&out, "{\"object\":\"list\",\"data\":[");
	for (i = 0; i < e->count; i++) {
		in = e->inputs[i].twin ? e->inputs[i].twin : &e->inputs[i];
		buf_printf(&out, "%s{\"index\":%zu,", i ? "," : "", i);
		buf_add(&out, in->item_json + 1, in->item_len - 1);
	}
	buf_adds(&out, "],\"model\":");
	json_print_string(&out, t->facts.model, strlen(t->facts.model));
	json_set_int(e->usage, "prompt_tokens", t->facts.input_tokens);
	buf_adds(&out, ",\"usage\":");
	json_print(&out, e->usage);
	print_rest(t, &out);
	buf_addc(&out, '}');
	verdict = out.overflow ? txn_fail(t, ERR_PROVIDER_TOO_LARGE, NULL, "The embeddings together are too large.")
			       : answer_json(t, 200, &out);
	buf_release(&out);
	return verdict;
}

static bool to_be_bought(const struct embed_input *in)
{
	return !in->item_json && !in->twin;
}

static int by_hash(const void *a, const void *b)
{
	const struct embed_input *x = *(struct embed_input *const *)a, *y = *(struct embed_input *const *)b;
	int order = memcmp(x->hash, y->hash, SHA256_BYTES);

	return order ? order : x < y ? -1 : x > y;
}

static void find_twins(struct txn *t, struct embed *e)
{
	struct embed_input **sorted = arena_alloc(t->arena, e->count * sizeof(struct embed_input *)), *first;
	size_t i;

	for (i = 0; i < e->count; i++)
		sorted[i] = &e->inputs[i];
	qsort(sorted, e->count, sizeof(struct embed_input *), by_hash);
	first = sorted[0];
	for (i = 1; i < e->count; i++) {
		if (memcmp(first->hash, sorted[i]->hash, SHA256_BYTES) != 0) {
			first = sorted[i];
			continue;
		}
		sorted[i]->twin = first;
		e->twins++;
	}
}

enum verdict embed_lookup(struct txn *t)
{
	struct embed *e = t->embed;
	bool *wanted;
	size_t i;

	if (!e)
		return NEXT;
	wanted = arena_alloc(t->arena, e->count * sizeof(*wanted));
	find_twins(t, e);
	for (i = 0; i < e->count; i++) {
		if (!e->inputs[i].twin)
			take_entry(t, e, &e->inputs[i]);
		wanted[i] = to_be_bought(&e->inputs[i]);
	}
	if (e->known + e->twins == e->count) {
		t->cache = CACHE_HIT;
		return answer_all(t, 0);
	}
	t->cache = e->known ? CACHE_PARTIAL : e->refused ? CACHE_REFUSED : e->expired ? CACHE_EXPIRED : CACHE_MISS;
	embeddings_keep(t->body, wanted);
	return NEXT;
}

/* Weighs what is bought: the tokens are divided among those who needed them, and the shares add up to them. */
static void weigh(struct embed *e, int64_t tokens)
{
	size_t i;

	for (i = 0; i < e->count; i++) {
		if (!to_be_bought(&e->inputs[i]))
			continue;
		e->inputs[i].before = e->weight;
		e->weight += e->inputs[i].weight;
	}
	for (i = 0; i < e->count; i++)
		if (to_be_bought(&e->inputs[i]))
			e->inputs[i].tokens = usage_part(
				tokens, e->inputs[i].before, e->inputs[i].before + e->inputs[i].weight, e->weight);
}

/* What an answer says besides its data. */
static struct json_object *rest_of(struct txn *t, struct json_object *answer)
{
	static const char *const ours[] = {"data", "model", "object"};
	struct json_object *rest = json_object_new_object();
	size_t i;

	arena_defer(t->arena, json_release, rest);
	json_each_member (answer, m) {
		for (i = 0; i < sizeof(ours) / sizeof(ours[0]) && strcmp(m.name, ours[i]) != 0; i++)
			;
		if (i == sizeof(ours) / sizeof(ours[0]))
			json_set(rest, m.name, json_object_get(m.value));
	}
	return rest;
}

/* The same with one input's share of the usage; nothing if it is too long. */
static void print_share(struct buf *out, const struct embed *e, const struct embed_input *in)
{
	struct json_object *one;

	buf_reset(out);
	json_print(out, e->rest);
	if (out->overflow) /* of which not even shares are to be made for two thousand inputs */
		return;
	buf_reset(out);
	one = json_object_new_object();
	json_each_member (e->rest, m)
		json_set(one, m.name,
			strcmp(m.name, "usage") == 0
				? usage_share(m.value, in->before, in->before + in->weight, e->weight)
				: json_object_get(m.value));
	json_print(out, one);
	json_object_put(one);
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
	struct buf json = BUF_INIT(STORE_VALUE_MAX), share = BUF_INIT(REST_MAX);
	int64_t now = clock_real_ms(), ttl_ms = cache_ttl_ms(t);
	struct cache_entry entry = {.stored_ms = now,
		.expires_ms = now + ttl_ms,
		.output_tokens = 0,
		.cached_tokens = -1,
		.model = t->facts.model,
		.finish_reasons = ""};
	struct value value;
	size_t i, n = 0, stored = 0;

	for (i = 0; i < e->count; i++) {
		if (!bought[i] || !e->inputs[i].remember)
			continue;
		buf_reset(&json);
		print_item(&json, bought[i]);
		entry.json = json.data;
		entry.json_len = json.len;
		entry.input_tokens = e->inputs[i].tokens;
		print_share(&share, e, &e->inputs[i]);
		entry.script = share.overflow ? "" : share.data;
		entry.script_len = strlen(entry.script);
		memcpy(entry.epochs, e->inputs[i].epochs, sizeof(entry.epochs));
		if (!json.overflow && cache_pack(t, e->inputs[i].key, cache_ttl_s(t), &entry, &value) &&
			!value.piece_count) /* a vector of a megabyte is none */
			items[n++] = value.head;
	}
	store_run(t->worker->store, items, n);
	for (i = 0; i < n; i++)
		stored += items[i].result == STORE_OK;
	t->stored = stored == e->count - e->known - e->twins;
	buf_release(&json);
	buf_release(&share);
}

/* Every input is known or bought by now. */
static enum verdict answer_bought(struct txn *t, struct json_object *answer, struct json_object **bought)
{
	struct embed *e = t->embed;
	struct json_object *used = usage_share(json_get(answer, "usage"), 0, 1, 1);
	size_t i;

	for (i = 0; i < e->count; i++) {
		struct buf one = BUF_INIT((size_t)t->model->provider->max_response);

		if (!bought[i])
			continue;
		print_item(&one, bought[i]);
		e->inputs[i].item_json = arena_strndup(t->arena, one.data, one.len);
		e->inputs[i].item_len = one.len;
		buf_release(&one);
	}
	add_usage(e, used, t->facts.input_tokens);
	json_object_put(used);
	return answer_all(t, t->facts.input_tokens);
}

enum verdict embed_answer(struct txn *t, const struct buf *text, struct json_object *answer)
{
	struct embed *e = t->embed;
	struct json_object **bought;
	size_t i, at = 0;

	answer_facts_read(&t->facts, answer);
	t->facts.output_tokens = 0;
	t->bought_tokens = t->facts.input_tokens;
	settle_answer(t, &(struct heard){.whole = true});
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
	weigh(e, t->facts.input_tokens > 0 ? t->facts.input_tokens : 0);
	e->rest = rest_of(t, answer);
	if (t->remember)
		remember(t, bought);
	return e->known + e->twins ? answer_bought(t, answer, bought) : answer_json(t, 200, text);
}
