/* Who is asking: decided before the body is read, so that nobody without a key can make us parse anything. */
#include "base/clock.h"
#include "base/hash.h"
#include "gate/txn.h"

#include <string.h>
#include <strings.h>

/* Authorization: Bearer …, else api-key (Azure's clients) or x-api-key (Anthropic's). */
static const char *presented(void)
{
	const char *value = http_header("authorization");

	if (value) {
		if (strncasecmp(value, "Bearer", 6) != 0 || (value[6] != ' ' && value[6] != '\t'))
			return NULL;
		value += 6;
		return value + strspn(value, " \t");
	}
	value = http_header("api-key");
	return value ? value : http_header("x-api-key");
}

static bool has_hash(const struct key *k, const uint8_t hash[SHA256_BYTES])
{
	bool found = false;
	size_t i;

	for (i = 0; i < k->sha256_count; i++)
		found |= hash_equal(k->sha256[i], hash, SHA256_BYTES);
	return found;
}

enum verdict stage_auth(struct txn *t)
{
	const struct key *keys = t->config->keys.items, *key = NULL;
	const char *secret = presented();
	uint8_t hash[SHA256_BYTES];
	size_t i;

	if (!secret || !*secret)
		return txn_fail(t, ERR_INVALID_API_KEY, NULL,
			"You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer KEY'.");
	hash_sha256(secret, strlen(secret), hash);
	for (i = 0; i < t->config->keys.count; i++)
		if (has_hash(&keys[i], hash))
			key = &keys[i];
	if (!key)
		return txn_fail(
			t, ERR_INVALID_API_KEY, NULL, "Incorrect API key provided. This gateway does not know it.");
	t->key = key;
	if (key->disabled)
		return txn_fail(t, ERR_API_KEY_DISABLED, NULL, "The API key '%s' is disabled.", key->name);
	if (key->expires_ms && clock_real_ms() >= key->expires_ms)
		return txn_fail(
			t, ERR_API_KEY_EXPIRED, NULL, "The API key '%s' expired at %s.", key->name, key->expires);
	return NEXT;
}

/* Loopback is no key: whoever may change what others are served has a name in the log. */
enum verdict stage_admin(struct txn *t)
{
	if (t->key->admin)
		return NEXT;
	return txn_fail(t, ERR_ADMIN_ONLY, NULL,
		"The API key '%s' may not do this: it takes one with \"admin\": true in the keys file.", t->key->name);
}
