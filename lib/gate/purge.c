/*
 * POST /admin/purge: gives scopes and models a new epoch on every server that holds entries. Nothing is searched or
 * deleted, so it costs the same whatever there is, and whatever is on its way to the cache is purged before it is
 * there.
 */
#include "base/clock.h"
#include "gate/answer.h"
#include "gate/epoch.h"
#include "gate/keys.h"

#include <stdio.h>
#include <string.h>

enum { LIST_MAX = 16 << 20, EPOCH_TEXT = 24, NAMES_SHOWN = 200 };

#define WHAT \
	"{\"scope\": {\"key\": \"alice\"}}, {\"scope\": {\"team\": \"red\"}}, {\"scope\": \"everyone\"}, " \
	"{\"model\": \"gpt-4o-mini\"}, a scope and a model together, or {\"all\": true}"

/* What is to be purged: names of epochs, and the same for people. */
struct purge {
	const char **keys;
	size_t count, room;
	struct buf scopes, models; /* JSON arrays less their brackets */
	struct buf words;          /* for the log: the first names */
	size_t unnamed;
};

static void release_purge(void *purge)
{
	struct purge *p = purge;

	buf_release(&p->scopes);
	buf_release(&p->models);
	buf_release(&p->words);
}

static void add(struct txn *t, struct purge *p, const char *key, struct buf *list, const char *name)
{
	const char **larger;

	if (p->count == p->room) {
		p->room = p->room ? p->room * 2 : 64;
		larger = arena_alloc(t->arena, p->room * sizeof(*larger));
		if (p->count)
			memcpy(larger, p->keys, p->count * sizeof(*larger));
		p->keys = larger;
	}
	p->keys[p->count++] = key;
	if (list->len)
		buf_addc(list, ',');
	json_print_string(list, name, strlen(name));
	if (p->words.len < NAMES_SHOWN)
		buf_printf(&p->words, "%s%s%.100s", p->words.len ? ", " : "", list == &p->models ? "model " : "", name);
	else
		p->unnamed++;
}

static void add_scope(struct txn *t, struct purge *p, const struct key *key, int scope)
{
	const char *name = cache_scope(t->arena, key, scope);

	add(t, p, epoch_key_of_scope(t->arena, t->config, name), &p->scopes, name);
}

static void add_model(struct txn *t, struct purge *p, const struct model *m)
{
	add(t, p, epoch_key_of_model(t->arena, t->config, m), &p->models, m->name);
}

/* Whether some of the answers that this key is given are shared in this scope. */
static bool shares(const struct txn *t, const struct key *key, int scope)
{
	const struct model *m = t->config->models.items;
	size_t i;

	for (i = 0; i < t->config->models.count; i++)
		if (m[i].cache.scope == scope && key_may_call(key, &m[i]))
			return true;
	return false;
}

static enum verdict add_key(struct txn *t, struct purge *p, const char *name)
{
	const struct key *k = t->config->keys.items;
	size_t i;

	for (i = 0; i < t->config->keys.count && strcmp(k[i].name, name) != 0; i++)
		;
	if (i == t->config->keys.count)
		return txn_fail(t, ERR_SCOPE_NOT_FOUND, "scope.key", "There is no key '%.100s' here.", name);
	add_scope(t, p, &k[i], SCOPE_KEY);
	if (k[i].team && shares(t, &k[i], SCOPE_TEAM))
		add_scope(t, p, &k[i], SCOPE_TEAM);
	if (shares(t, &k[i], SCOPE_EVERYONE))
		add_scope(t, p, &k[i], SCOPE_EVERYONE);
	return NEXT;
}

/* The team's own scope, and whatever else its keys are answered from. */
static enum verdict add_team(struct txn *t, struct purge *p, const char *name)
{
	const struct key *k = t->config->keys.items, *member = NULL;
	bool everyone = false;
	size_t i;

	for (i = 0; i < t->config->keys.count; i++) {
		if (!k[i].team || strcmp(k[i].team, name) != 0)
			continue;
		member = &k[i];
		add_scope(t, p, member, SCOPE_KEY);
		everyone = everyone || shares(t, member, SCOPE_EVERYONE);
	}
	if (!member)
		return txn_fail(t, ERR_SCOPE_NOT_FOUND, "scope.team", "There is no key of a team '%.100s' here.", name);
	add_scope(t, p, member, SCOPE_TEAM);
	if (everyone)
		add_scope(t, p, NULL, SCOPE_EVERYONE);
	return NEXT;
}

static enum verdict wrong_type(struct txn *t, const char *param, const char *expected, struct json_object *found)
{
	return txn_fail(t, ERR_INVALID_TYPE, param, "Invalid type for '%s': expected %s, but got %s instead.", param,
		expected, json_type_word(found));
}

static enum verdict read_scope(struct txn *t, struct purge *p, struct json_object *scope)
{
	static const char expected[] = "\"everyone\", {\"key\": \"NAME\"} or {\"team\": \"NAME\"}";
	const char *key = json_get_str(scope, "key"), *team = json_get_str(scope, "team"),
		   *word = json_get_str(t->body, "scope");

	if (word && strcmp(word, "everyone") == 0) {
		add_scope(t, p, NULL, SCOPE_EVERYONE);
		return NEXT;
	}
	if (word)
		return txn_fail(t, ERR_INVALID_VALUE, "scope", "Invalid value for 'scope': '%.100s'. Expected %s.",
			word, expected);
	if (!json_object_is_type(scope, json_type_object))
		return wrong_type(t, "scope", expected, scope);
	if (json_object_object_length(scope) != 1 || (!key && !team))
		return txn_fail(t, ERR_INVALID_VALUE, "scope", "Invalid value for 'scope': expected %s.", expected);
	return key ? add_key(t, p, key) : add_team(t, p, team);
}

static enum verdict read_model(struct txn *t, struct purge *p, struct json_object *model)
{
	const char *name = json_get_str(t->body, "model");
	const struct model *m = name ? config_model(t->config, name) : NULL;

	if (!name)
		return wrong_type(t, "model", "a string without U+0000", model);
	if (!m)
		return txn_fail(t, ERR_MODEL_NOT_FOUND, "model", "The model '%.100s' does not exist here.", name);
	add_model(t, p, m);
	return NEXT;
}

static enum verdict read_all(struct txn *t, struct purge *p, struct json_object *all)
{
	const struct model *m = t->config->models.items;
	size_t i;

	if (!json_object_is_type(all, json_type_boolean))
		return wrong_type(t, "all", "a boolean", all);
	if (!json_object_get_boolean(all))
		return NEXT;
	if (json_get(t->body, "scope") || json_get(t->body, "model"))
		return txn_fail(t, ERR_INVALID_VALUE, "all", "With 'all' there is no 'scope' and no 'model'.");
	for (i = 0; i < t->config->models.count; i++)
		add_model(t, p, &m[i]);
	return NEXT;
}

static enum verdict read_body(struct txn *t, struct purge *p)
{
	static const struct {
		const char *name;
		enum verdict (*read)(struct txn *t, struct purge *p, struct json_object *v);
	} members[] = {{"scope", read_scope}, {"model", read_model}, {"all", read_all}};
	enum verdict verdict = NEXT;
	size_t i;

	if (!json_object_is_type(t->body, json_type_object))
		return txn_fail(t, ERR_INVALID_TYPE, NULL, "The body must be a JSON object such as " WHAT ".");
	json_each_member (t->body, m) {
		for (i = 0; i < 3 && strcmp(members[i].name, m.name) != 0; i++)
			;
		if (i == 3)
			return txn_fail(
				t, ERR_INVALID_VALUE, m.name, "Unknown parameter: '%.60s'. Send " WHAT ".", m.name);
		if (m.value && verdict == NEXT)
			verdict = members[i].read(t, p, m.value);
	}
	if (verdict == NEXT && p->count == 0)
		return txn_fail(t, ERR_MISSING_PARAMETER, NULL, "This purges nothing. Send " WHAT ".");
	return verdict;
}

/* Which servers have every epoch now: how many, and the names of the others. */
static int count_servers(
	struct txn *t, const struct purge *p, const struct store_item *items, int servers, struct buf *missing)
{
	int server, good = 0, shown = 0;
	size_t i;

	for (server = 0; server < servers; server++, items += p->count) {
		for (i = 0; i < p->count && items[i].result == STORE_OK; i++)
			;
		if (i == p->count) {
			good++;
		} else if (missing->len < NAMES_SHOWN) {
			buf_printf(missing, "%s%.100s", missing->len ? ", " : "",
				store_server_name(t->worker->store, STORE_CACHE, server + 1));
			shown++;
		}
	}
	if (servers - good > shown)
		buf_printf(missing, " and %d more", servers - good - shown);
	return good;
}

/* All in one batch: a server that does not answer holds up no other. */
static int purge_everywhere(struct txn *t, const struct purge *p, struct buf *missing)
{
	int servers = store_servers(t->worker->store, STORE_CACHE), server;
	struct store_item *items = arena_alloc(t->arena, p->count * (size_t)servers * sizeof(*items)), *item = items;
	char epoch[EPOCH_TEXT];
	size_t i;

	snprintf(epoch, sizeof(epoch), "%llu", (unsigned long long)epoch_of_purge());
	for (server = 1; server <= servers; server++)
		for (i = 0; i < p->count; i++)
			*item++ = (struct store_item){.op = STORE_SET,
				.pool = STORE_CACHE,
				.key = p->keys[i],
				.server = server,
				.value = epoch,
				.value_len = strlen(epoch)};
	store_run(t->worker->store, items, p->count * (size_t)servers);
	return count_servers(t, p, items, servers, missing);
}

static enum verdict answer(struct txn *t, const struct purge *p, int servers)
{
	struct buf body = BUF_INIT(2 * LIST_MAX);
	enum verdict verdict;

	buf_printf(&body, "{\"object\":\"purge\",\"scopes\":[");
	buf_add(&body, p->scopes.data, p->scopes.len);
	buf_adds(&body, "],\"models\":[");
	buf_add(&body, p->models.data, p->models.len);
	buf_printf(&body, "],\"servers\":%d}", servers);
	verdict = answer_json(t, 200, &body);
	buf_release(&body);
	return verdict;
}

enum verdict stage_purge(struct txn *t)
{
	struct purge *p = arena_alloc(t->arena, sizeof(*p));
	struct buf missing = BUF_INIT(1024);
	int servers = store_servers(t->worker->store, STORE_CACHE), good;

	p->scopes = p->models = p->words = BUF_INIT(LIST_MAX);
	arena_defer(t->arena, release_purge, p);
	if (read_body(t, p) == FAILED)
		return FAILED;
	if (p->unnamed)
		buf_printf(&p->words, " and %zu more", p->unnamed);
	good = purge_everywhere(t, p, &missing);
	t->purged = arena_printf(t->arena, "%s; on %d of %d servers%s%s", p->words.data, good, servers,
		missing.len ? ", not on " : "", missing.len ? missing.data : "");
	if (missing.len) {
		t->retry_after_ms = 1000;
		txn_fail(t, ERR_PURGE_INCOMPLETE, NULL,
			"Purged on %d of %d memcached servers, but not on %s. What they hold is served again when they "
			"answer: send the same again until it is a 200.",
			good, servers, missing.data);
		buf_release(&missing);
		return FAILED;
	}
	return answer(t, p, good);
}
