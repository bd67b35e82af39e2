/* Checks that look at more than one value, or know what a value is for. */
#include "gate/config_check.h"

#include "edge/store.h"
#include "gate/config_price.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define MILLION 1000000LL

enum { CALLS_MAX = 10000 /* slots that must be looked through to find that none is free */ };

static const char *const pers[] = {
	"key", "team", "user", "ip", "model", NULL}; /* in the order of enum limit_per's bits */

bool config_name_valid(const char *name)
{
	size_t n = strlen(name);

	return n >= 1 && n <= 64 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

/* One that may be believed, passed on or written down. */
static bool check_header(struct config_reader *r, const char *path, const char *name)
{
	/* what is ours to say to a provider, or to the web server, or a secret */
	static const char *const ours[] = {"authorization", "api-key", "x-api-key", "content-type", "content-length",
		"host", "accept", "accept-encoding", "user-agent", "connection", "transfer-encoding", "te", "upgrade",
		"expect", "cookie", "traceparent", NULL};
	size_t i;

	if (!config_name_valid(name) || strpbrk(name, "_."))
		return config_fail(r, path, "found \"%.80s\", expected a header's name", name);
	for (i = 0; ours[i]; i++)
		if (strcasecmp(ours[i], name) == 0)
			return config_fail(r, path, "found \"%s\", which is not the client's to choose", name);
	return true;
}

static bool check_proxies(struct config_reader *r, struct config *c)
{
	const char **p;

	for (p = c->server.trusted_proxies; *p; p++)
		c->server.proxy_count++;
	c->server.proxies = arena_alloc(r->arena, c->server.proxy_count * sizeof(*c->server.proxies) + 1);
	for (p = c->server.trusted_proxies; *p; p++)
		if (!ip_parse_net(*p, &c->server.proxies[p - c->server.trusted_proxies]))
			return config_fail(r,
				arena_printf(r->arena, "server.trusted_proxies[%td]", p - c->server.trusted_proxies),
				"found \"%.80s\", expected an address or a network such as \"192.0.2.1\", "
				"\"10.0.0.0/8\" or \"2001:db8::/32\"",
				*p);
	if (!c->server.user_header)
		return true;
	if (!c->server.proxy_count)
		return config_fail(
			r, "server.user_header", "it is believed only from server.trusted_proxies, and there are none");
	return check_header(r, "server.user_header", c->server.user_header);
}

static bool check_server(struct config_reader *r, struct config *c)
{
	size_t len = strlen(c->server.base_path);

	if (c->server.workers.min > c->server.workers.max)
		return config_fail(r, "server.workers.min", "found %lld, expected at most server.workers.max (%lld)",
			(long long)c->server.workers.min, (long long)c->server.workers.max);
	if (c->server.workers.reserve >= c->server.workers.max)
		return config_fail(r, "server.workers.reserve",
			"found %lld, expected less than server.workers.max (%lld)",
			(long long)c->server.workers.reserve, (long long)c->server.workers.max);
	if (!check_proxies(r, c))
		return false;
	if (len && (c->server.base_path[0] != '/' || c->server.base_path[len - 1] == '/'))
		return config_fail(r, "server.base_path", "found \"%s\", expected \"\" or a path such as \"/llm\"",
			c->server.base_path);
	return true;
}

static bool check_forward_headers(struct config_reader *r, struct config *c)
{
	const char **name, **other;

	for (name = c->forward_headers; *name; name++) {
		if (!check_header(r, "forward_headers", *name))
			return false;
		for (other = c->forward_headers; other < name; other++)
			if (strcasecmp(*other, *name) == 0)
				return config_fail(r, "forward_headers", "found \"%s\" twice", *name);
	}
	return true;
}

static bool check_memcached(struct config_reader *r, struct config *c)
{
	const char **lists[] = {c->memcached.servers, c->memcached.counters};
	static const char *const names[] = {"memcached.servers", "memcached.counters"};
	const char **s, *why;
	int i;

	if (!config_name_valid(c->memcached.prefix) || strlen(c->memcached.prefix) > 32)
		return config_fail(r, "memcached.prefix", "found \"%s\", expected 1 to 32 of A-Z a-z 0-9 . _ -",
			c->memcached.prefix);
	for (i = 0; i < 2; i++)
		for (s = lists[i]; *s; s++)
			if (!store_server_valid(*s, &why))
				return config_fail(r, names[i], "found \"%s\", %s", *s, why);
	return true;
}

/* Every host must be known to all others by its own name: without one's share no counter is made. */
static bool check_cluster(struct config_reader *r, struct config *c)
{
	const char **host, **other;
	char name[256] = "";

	if (!c->cluster.host) {
		gethostname(name, sizeof(name) - 1);
		c->cluster.host = arena_strdup(r->arena, name);
	}
	if (!config_name_valid(c->cluster.host))
		return config_fail(
			r, "cluster.host", "found \"%.80s\", expected 1 to 64 of A-Z a-z 0-9 . _ -", c->cluster.host);
	if (!c->cluster.hosts) {
		c->cluster.hosts = arena_alloc(r->arena, 2 * sizeof(*c->cluster.hosts));
		c->cluster.hosts[0] = c->cluster.host;
	}
	for (host = c->cluster.hosts; *host; host++) {
		if (!config_name_valid(*host))
			return config_fail(r, "cluster.hosts", "found \"%.80s\", expected names of hosts", *host);
		for (other = c->cluster.hosts; other < host; other++)
			if (strcmp(*other, *host) == 0)
				return config_fail(r, "cluster.hosts", "found \"%s\" twice", *host);
	}
	for (host = c->cluster.hosts; *host && strcmp(*host, c->cluster.host) != 0; host++)
		;
	return *host || config_fail(r, "cluster.hosts", "expected this host, \"%s\" (cluster.host), among them",
				c->cluster.host);
}

/* Never silently unsealed: who names a secret wants one. */
static bool check_seal(struct config_reader *r, struct config *c)
{
	const struct config_secret *s = &c->cache.seal;

	if (!s->given)
		return true;
	if (s->unset)
		return config_fail(r, "cache.seal",
			"the environment variable %s is not set: set it, or take the setting out to store answers "
			"that can be read",
			s->unset);
	if (!s->value || strlen(s->value) < SEAL_SECRET_MIN)
		return config_fail(r, "cache.seal",
			"found %zu bytes, expected at least %d, such as `openssl rand -base64 32` prints",
			s->value ? strlen(s->value) : 0, SEAL_SECRET_MIN);
	c->cache.sealed = seal_new(s->value);
	arena_defer(r->arena, (void (*)(void *))seal_free, c->cache.sealed);
	return true;
}

/* The system's certificates are the same for all, and http:// needs none. */
static bool check_trust(struct config_reader *r, struct config *c, struct provider *p)
{
	bool own = p->ca_file && *p->ca_file;
	const char *why;

	if (!own && (strncmp(p->base_url, "https:", 6) != 0 || c->system_trust)) {
		p->trust = c->system_trust;
		return true;
	}
	p->trust = upstream_trust_new(own ? p->ca_file : NULL, &why);
	if (!p->trust)
		return config_fail(r, arena_printf(r->arena, "providers.%s.ca_file", p->name), "found \"%s\", but %s",
			own ? p->ca_file : "the system's", why);
	arena_defer(r->arena, (void (*)(void *))upstream_trust_free, p->trust);
	if (!own)
		c->system_trust = p->trust;
	return true;
}

static bool check_provider(struct config_reader *r, struct config *c, struct provider *p)
{
	const char *path = arena_printf(r->arena, "providers.%s", p->name), *host;
	size_t len = strlen(p->base_url);

	host = strncmp(p->base_url, "http://", 7) == 0    ? p->base_url + 7
	       : strncmp(p->base_url, "https://", 8) == 0 ? p->base_url + 8
							  : "";
	if (!*host || *host == '/' || strpbrk(host, " \t\r\n?#@"))
		return config_fail(r, arena_printf(r->arena, "%s.base_url", path),
			"found \"%s\", expected http://host/path or https://host/path without a query or a password",
			p->base_url);
	if (p->base_url[len - 1] == '/')
		p->base_url = arena_strndup(r->arena, p->base_url, len - 1);
	if (p->api_key.value && strpbrk(p->api_key.value, "\r\n"))
		return config_fail(r, arena_printf(r->arena, "%s.api_key", path), "it contains a line break");
	if (p->ca_file && *p->ca_file)
		p->ca_file = config_beside(r, p->ca_file);
	if (p->api_key.unset)
		p->off = arena_printf(r->arena, "the environment variable %s is not set", p->api_key.unset);
	return check_trust(r, c, p);
}

static bool check_model(struct config_reader *r, struct config *c, struct model *m)
{
	struct provider *p = c->providers.items;
	size_t i;

	for (i = 0; i < c->providers.count && strcmp(p[i].name, m->provider_name) != 0; i++)
		;
	if (i == c->providers.count)
		return config_fail(r, arena_printf(r->arena, "models.%s.provider", m->name),
			"found \"%s\", expected the name of one of `providers`", m->provider_name);
	m->provider = &p[i];
	if (!m->model)
		m->model = m->name;
	if (m->cache.ttl < 0)
		m->cache.ttl = c->cache.ttl;
	if (m->cache.stale_while_revalidate < 0)
		m->cache.stale_while_revalidate = c->cache.stale_while_revalidate;
	if (m->cache.stale_if_error < 0)
		m->cache.stale_if_error = c->cache.stale_if_error;
	if (m->cache.scope < 0)
		m->cache.scope = c->cache.scope;
	return config_price_of(r, c, m);
}

/* From millionths to what it counts. */
static bool check_amount(struct config_reader *r, struct limit *l, const char *path)
{
	if (l->count == COUNT_USD) {
		if (l->amount > 1000000 * MILLION || l->amount == 0)
			return config_fail(r, path, "expected dollars from \"0.000001\" to \"1000000\"");
		l->amount *= MILLION;
		return true;
	}
	if (l->count == COUNT_CONCURRENT && l->amount > CALLS_MAX * MILLION)
		return config_fail(r, path, "expected at most %d calls at the same time", CALLS_MAX);
	if (l->amount % MILLION || l->amount == 0)
		return config_fail(r, path, "expected a whole number, 1 or more");
	l->amount /= MILLION;
	return true;
}

static bool check_window(struct config_reader *r, struct limit *l, const char *path)
{
	if (l->count == COUNT_CONCURRENT) {
		if (l->window != -1)
			return config_fail(r, path, "calls at the same time have no window: take it out");
		l->window = 0;
		return true;
	}
	if (l->window == -1)
		return config_fail(r, path, "it is missing, expected \"1s\" to \"1d\", or \"month\"");
	if (l->window != LIMIT_MONTH && l->window % MILLION)
		return config_fail(r, path, "expected whole seconds");
	return true;
}

/* A limit in a key's entry counts that key alone, so `per` narrows it further. */
static bool check_per(struct config_reader *r, struct limit *l, const char *path, bool of_key)
{
	const unsigned implied = PER_KEY | PER_TEAM;
	const char **name;
	size_t i;

	if (!l->per_names || of_key)
		l->per = PER_KEY;
	for (name = l->per_names; name && *name; name++) {
		for (i = 0; pers[i] && strcmp(pers[i], *name) != 0; i++)
			;
		if (!pers[i])
			return config_fail(r, path,
				"found \"%.80s\", expected \"key\", \"team\", \"user\", \"ip\" or \"model\"", *name);
		if (of_key && (implied & 1u << i))
			return config_fail(r, path,
				"found \"%s\", which the key implies; expected \"user\", \"ip\" or \"model\"", *name);
		l->per |= 1u << i;
	}
	return true;
}

static bool check_limit(
	struct config_reader *r, const struct config_items *limits, size_t index, const char *in, bool of_key)
{
	struct limit *l = (struct limit *)limits->items + index;
	const char *path = arena_printf(r->arena, "%s[%zu]", in, index);
	size_t i;

	if (!config_name_valid(l->name))
		return config_fail(r, arena_printf(r->arena, "%s.name", path),
			"found \"%.80s\", expected 1 to 64 of A-Z a-z 0-9 . _ -", l->name);
	for (i = 0; i < index; i++)
		if (strcmp(l->name, l[(ptrdiff_t)i - (ptrdiff_t)index].name) == 0)
			return config_fail(r, arena_printf(r->arena, "%s.name", path),
				"found \"%s\" a second time, expected a name of its own", l->name);
	if (!check_amount(r, l, arena_printf(r->arena, "%s.amount", path)) ||
		!check_window(r, l, arena_printf(r->arena, "%s.window", path)))
		return false;
	if (l->on_store_down < 0)
		l->on_store_down = l->count == COUNT_REQUESTS ? STORE_DOWN_OPEN : STORE_DOWN_CLOSED;
	return check_per(r, l, arena_printf(r->arena, "%s.per", path), of_key);
}

bool config_check_limits(struct config_reader *r, const struct config_items *limits, const char *in, bool of_key)
{
	const struct limit *l = limits->items;
	size_t i, calls = 0;

	for (i = 0; i < limits->count; i++) {
		if (!check_limit(r, limits, i, in, of_key))
			return false;
		calls += l[i].count == COUNT_CONCURRENT;
		if (calls > STATS_CALL_LIMITS / 2) /* the other half is a key's own, or everyone's */
			return config_fail(r, arena_printf(r->arena, "%s[%zu]", in, i),
				"at most %d limits may count \"concurrent\"", STATS_CALL_LIMITS / 2);
	}
	return true;
}

bool config_check_own_limits(struct config_reader *r, const struct config *c)
{
	const struct key *k = c->keys.items;
	const struct limit *own, *all = c->limits.items;
	size_t i, j, n;

	for (i = 0; i < c->keys.count; i++)
		for (j = 0; j < k[i].limits.count; j++)
			for (n = 0; n < c->limits.count; n++) {
				own = (const struct limit *)k[i].limits.items + j;
				if (strcmp(own->name, all[n].name) == 0)
					return config_fail(r,
						arena_printf(r->arena, "%s.limits[%zu].name", k[i].name, j),
						"found \"%s\", expected another name than those of `limits` in %s",
						own->name, c->path);
			}
	return true;
}

bool config_check(struct config_reader *r, struct config *c)
{
	size_t i;

	if (!check_server(r, c) || !check_forward_headers(r, c) || !check_memcached(r, c) || !check_seal(r, c) ||
		!check_cluster(r, c))
		return false;
	for (i = 0; i < c->providers.count; i++)
		if (!check_provider(r, c, (struct provider *)c->providers.items + i))
			return false;
	for (i = 0; i < c->models.count; i++)
		if (!check_model(r, c, (struct model *)c->models.items + i))
			return false;
	return config_check_limits(r, &c->limits, "limits", false);
}
