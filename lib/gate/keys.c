/* Patterns are the shell's (fnmatch), which everybody can read. */
#include "gate/keys.h"

#include "base/clock.h"
#include "base/hash.h"
#include "gate/config_check.h"

#include <fnmatch.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(type, member) .offset = offsetof(struct type, member)

static const struct config_field key_fields[] = {
	{"sha256", CONFIG_STRINGS, AT(key, sha256_hex), .required = true, .min = 1, .max = KEY_HASHES,
		.doc = "the key's SHA-256 in hexadecimal, or two while it is changed"},
	{"team", CONFIG_STRING, AT(key, team), .doc = "who shares its limits `per` team"},
	{"models", CONFIG_STRINGS, AT(key, models), "[\"*\"]", .min = 0, .max = 256,
		.doc = "patterns of models that it may call"},
	{"expires", CONFIG_STRING, AT(key, expires), .doc = "a time such as 2027-01-01T00:00:00Z"},
	{"disabled", CONFIG_BOOL, AT(key, disabled), "false", .doc = "refuse it"},
	{"admin", CONFIG_BOOL, AT(key, admin), "false", .doc = "may use /admin and /metrics"},
	{"limits", CONFIG_LIST, AT(key, limits), "[]", .min = 0, .max = KEY_LIMITS, .table = &limit_table,
		.doc = "limits of its own, beside those that hold for all"},
};
const struct config_table key_table = CONFIG_TABLE(key_fields, key);
static const struct config_field key_map = {"", CONFIG_MAP, .max = 1000000, .table = &key_table, .doc = "name → key"};

/* ---- the file ---- */

static bool check_key(struct config_reader *r, struct key *k)
{
	size_t i;

	if (!config_name_valid(k->name))
		return config_fail(r, k->name, "a key's name is expected to be 1 to 64 of A-Z a-z 0-9 . _ -");
	while (k->sha256_hex[k->sha256_count])
		k->sha256_count++;
	k->sha256 = arena_alloc(r->arena, k->sha256_count * sizeof(*k->sha256));
	for (i = 0; i < k->sha256_count; i++)
		if (!hash_unhex(k->sha256_hex[i], k->sha256[i], sizeof(k->sha256[i])))
			return config_fail(r, arena_printf(r->arena, "%s.sha256", k->name),
				"found \"%.80s\", expected 64 hexadecimal digits", k->sha256_hex[i]);
	if (k->expires && (k->expires_ms = clock_parse(k->expires)) < 0)
		return config_fail(r, arena_printf(r->arena, "%s.expires", k->name),
			"found \"%.80s\", expected a time such as \"2027-01-01T00:00:00Z\"", k->expires);
	return config_check_limits(r, &k->limits, arena_printf(r->arena, "%s.limits", k->name), true);
}

struct owned_hash {
	const uint8_t *sha256;
	const struct key *key;
};

static int by_hash(const void *a, const void *b)
{
	const struct owned_hash *x = a, *y = b;
	int order = memcmp(x->sha256, y->sha256, SHA256_BYTES);

	return order ? order : (x->key > y->key) - (x->key < y->key);
}

/* One secret with two names would spend which one's budget? */
static bool check_owners(struct config_reader *r, const struct config_items *keys)
{
	const struct key *k = keys->items;
	struct owned_hash *all = calloc(keys->count * KEY_HASHES + 1, sizeof(*all));
	size_t i, j, n = 0;
	bool good = true;

	if (!all)
		die("out of memory");
	for (i = 0; i < keys->count; i++)
		for (j = 0; j < k[i].sha256_count; j++)
			all[n++] = (struct owned_hash){k[i].sha256[j], &k[i]};
	qsort(all, n, sizeof(*all), by_hash);
	for (i = 1; i < n && good; i++)
		if (memcmp(all[i - 1].sha256, all[i].sha256, SHA256_BYTES) == 0)
			good = config_fail(r, arena_printf(r->arena, "%s.sha256", all[i].key->name),
				"found a hash that stands in \"%s\" too, expected one that is nobody else's",
				all[i - 1].key->name);
	free(all);
	return good;
}

bool keys_read(struct config_reader *r, struct json_object *object, struct config_items *to)
{
	size_t i;

	if (!config_read_map(r, &key_map, object, to))
		return false;
	for (i = 0; i < to->count; i++)
		if (!check_key(r, (struct key *)to->items + i))
			return false;
	return check_owners(r, to);
}

const char *keys_file_of(struct config_reader *r, const char *config_path)
{
	struct json_object *object = config_parse_file(r, config_path), *file;
	const char *name, *unset;
	bool expanded;

	if (!object)
		return NULL;
	file = json_get(object, "keys_file");
	if (!json_object_is_type(file, json_type_string)) {
		config_fail(r, "keys_file", "found %s, expected the file of API keys",
			file ? json_type_word(file) : "nothing");
		return NULL;
	}
	snprintf(r->path, sizeof(r->path), "keys_file");
	name = config_expand(r, file, &expanded, &unset);
	if (!name && unset)
		config_fail(r, r->path, "the environment variable %s is not set", unset);
	r->path[0] = '\0';
	return name ? config_beside(r, name) : NULL;
}

/* ---- what a key may do ---- */

static bool has_hash(const struct key *k, const uint8_t hash[SHA256_BYTES])
{
	bool found = false;
	size_t i;

	for (i = 0; i < k->sha256_count; i++)
		found |= hash_equal(k->sha256[i], hash, SHA256_BYTES);
	return found;
}

const struct key *keys_find(const struct config_items *keys, const char *secret)
{
	const struct key *k = keys->items, *found = NULL;
	uint8_t hash[SHA256_BYTES];
	size_t i;

	hash_sha256(secret, strlen(secret), hash);
	for (i = 0; i < keys->count; i++)
		if (has_hash(&k[i], hash))
			found = &k[i];
	return found;
}

bool key_expired(const struct key *key, int64_t real_ms)
{
	return key->expires_ms && real_ms >= key->expires_ms;
}

bool key_may_call(const struct key *key, const struct model *model)
{
	const char **pattern;

	for (pattern = key->models; *pattern; pattern++)
		if (fnmatch(*pattern, model->name, 0) == 0)
			return true;
	return false;
}
