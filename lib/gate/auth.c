/* Who is asking: decided before the body is read, so that nobody without a key can make us parse anything. */
#include "base/clock.h"
#include "gate/keys.h"
#include "gate/txn.h"

#include <string.h>
#include <strings.h>

/* What follows "Bearer"; NULL: another scheme, or nothing follows. */
static const char *bearer(const char *value)
{
	if (!value || strncasecmp(value, "Bearer", 6) != 0 || (value[6] != ' ' && value[6] != '\t'))
		return NULL;
	value += 6;
	value += strspn(value, " \t");
	return *value ? value : NULL;
}

/*
 * The first that says something of Authorization: Bearer …, api-key (Azure's clients) and x-api-key (Anthropic's); it
 * stands or falls alone, so that a client which sends two cannot be two. Another scheme than Bearer is no key: it may
 * be meant for a web server in front.
 */
static const char *presented(void)
{
	static const char *const names[] = {"api-key", "x-api-key"};
	const char *value = bearer(http_header("authorization"));
	size_t i;

	for (i = 0; !value && i < sizeof(names) / sizeof(names[0]); i++) {
		value = http_header(names[i]);
		if (value && !*value)
			value = NULL;
	}
	return value;
}

enum verdict stage_auth(struct txn *t)
{
	const char *secret = presented();
	const struct key *key;

	if (!secret)
		return txn_fail(t, ERR_INVALID_API_KEY, NULL,
			"You didn't provide an API key. Send it in an Authorization header: 'Authorization: Bearer KEY'.");
	key = keys_find(&t->config->keys, secret);
	if (!key)
		return txn_fail(
			t, ERR_INVALID_API_KEY, NULL, "Incorrect API key provided. This gateway does not know it.");
	t->key = key;
	if (key->disabled)
		return txn_fail(t, ERR_API_KEY_DISABLED, NULL, "The API key '%s' is disabled.", key->name);
	if (key_expired(key, clock_real_ms()))
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
