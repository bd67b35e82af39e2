/* The table of everything that can be configured. */
#include "gate/config.h"

#include "base/log.h"
#include "edge/stats.h"
#include "gate/config_check.h"
#include "gate/config_price.h"
#include "gate/keys.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WORKERS_MAX = 4000, FORWARD_MAX = 32 };

#define AT(type, member) .offset = offsetof(struct type, member)
#define MS_US            1000
#define S_US             1000000
#define D_US             (86400LL * S_US)
#define AMOUNT_MAX       (1000000000000LL * 1000000)

static const char *const dialects[] = {"openai", NULL};
static const char *const counts[] = {"requests", "tokens", "usd", "concurrent", NULL};
static const char *const months[] = {"month", NULL};
static const char *const store_downs[] = {"open", "closed", "local", NULL};
static const char *const scopes[] = {"key", "team", "everyone", NULL};
static const char *const cap_fields[] = {"max_completion_tokens", "max_tokens", NULL};
static const char *const log_tos[] = {"fastcgi", "stderr", NULL};
static const char *const addresses[] = {"full", "truncated", "off", NULL};
static const char *const levels[] = {"debug", "info", "warn", "error", NULL};

static const struct config_field workers_fields[] = {
	{"min", CONFIG_INT, AT(config, server.workers.min), "4", .min = 1, .max = WORKERS_MAX,
		.doc = "workers that are always there"},
	{"max", CONFIG_INT, AT(config, server.workers.max), "256", .min = 1, .max = WORKERS_MAX,
		.doc = "requests in flight at most"},
	{"spare", CONFIG_INT, AT(config, server.workers.spare), "4", .min = 1, .max = WORKERS_MAX,
		.doc = "idle workers kept ready"},
	{"reserve", CONFIG_INT, AT(config, server.workers.reserve), "2", .min = 0, .max = WORKERS_MAX,
		.doc = "of max: workers that never call a provider, so that hits and refusals stay instant"},
};
static const struct config_table workers_table = CONFIG_TABLE(workers_fields, config);

static const struct config_field cors_fields[] = {
	{"origins", CONFIG_STRINGS, AT(config, server.cors.origins), "[]", .min = 0, .max = 256,
		.doc = "pages that may call from a browser: \"https://example.org\", or \"*\" for all; none: off"},
	{"max_age", CONFIG_DURATION, AT(config, server.cors.max_age), "\"10m\"", .min = 0, .max = D_US,
		.doc = "for how long a browser may remember a preflight"},
};
static const struct config_table cors_table = CONFIG_TABLE(cors_fields, config);

static const struct config_field server_fields[] = {
	{"workers", CONFIG_GROUP, .table = &workers_table, .doc = "the pool of processes"},
	{"max_body", CONFIG_BYTES, AT(config, server.max_body), "\"32MiB\"", .min = 1024, .max = 1 << 30,
		.doc = "the largest request body"},
	{"body_timeout", CONFIG_DURATION, AT(config, server.body_timeout), "\"1m\"", .min = S_US, .max = D_US,
		.doc = "how long a request body may take to arrive: a slow upload holds a worker"},
	{"shutdown_grace", CONFIG_DURATION, AT(config, server.shutdown_grace), "\"5m\"", .min = 0, .max = D_US,
		.doc = "how long a drain may take"},
	{"run_dir", CONFIG_STRING, AT(config, server.run_dir), "\"${RUN_DIR:-/run/pavise}\"",
		.doc = "folder of the shared file"},
	{"base_path", CONFIG_STRING, AT(config, server.base_path), "\"\"",
		.doc = "where the program is mounted: \"/llm\""},
	{"trusted_proxies", CONFIG_STRINGS, AT(config, server.trusted_proxies), "[]", .min = 0, .max = 256,
		.doc = "who may say for whom they ask (X-Forwarded-For, user_header): addresses, or networks such as "
		       "\"10.0.0.0/8\""},
	{"user_header", CONFIG_STRING, AT(config, server.user_header),
		.doc = "a header in which they name the end user, instead of the body's safety_identifier or user"},
	{"cors", CONFIG_GROUP, .table = &cors_table, .doc = "browsers"},
};
static const struct config_table server_table = CONFIG_TABLE(server_fields, config);

static const struct config_field memcached_fields[] = {
	{"servers", CONFIG_STRINGS, AT(config, memcached.servers), "[\"${RUN_DIR:-/run/pavise}/memcached.sock\"]",
		.min = 1, .max = STATS_STORE_SERVERS / 2,
		.doc = "servers for answers: a socket's path, host or host:port"},
	{"counters", CONFIG_STRINGS, AT(config, memcached.counters), .min = 1, .max = STATS_STORE_SERVERS / 2,
		.doc = "servers for counters; by default the same"},
	{"timeout", CONFIG_DURATION, AT(config, memcached.timeout), "\"50ms\"", .min = MS_US, .max = 10 * S_US,
		.doc = "what a request may lose to memcached at most"},
	{"prefix", CONFIG_STRING, AT(config, memcached.prefix), "\"pv\"", .doc = "begins every key"},
};
static const struct config_table memcached_table = CONFIG_TABLE(memcached_fields, config);

static const struct config_field timeout_fields[] = {
	{"connect", CONFIG_DURATION, AT(provider, timeout.connect), "\"5s\"", .min = MS_US, .max = D_US,
		.doc = "name, TCP and TLS"},
	{"first_byte", CONFIG_DURATION, AT(provider, timeout.first_byte), "\"2m\"", .min = MS_US, .max = D_US,
		.doc = "from the start to the answer's head"},
	{"between_bytes", CONFIG_DURATION, AT(provider, timeout.between_bytes), "\"1m\"", .min = MS_US, .max = D_US,
		.doc = "silence in the middle of an answer"},
	{"total", CONFIG_DURATION, AT(provider, timeout.total), "\"10m\"", .min = MS_US, .max = D_US,
		.doc = "the whole call"},
};
static const struct config_table timeout_table = CONFIG_TABLE(timeout_fields, provider);

static const struct config_field provider_fields[] = {
	{"dialect", CONFIG_WORD, AT(provider, dialect), "\"openai\"", .words = dialects, .doc = "what it speaks"},
	{"base_url", CONFIG_STRING, AT(provider, base_url), .required = true, .doc = "\"https://…/v1\""},
	{"api_key", CONFIG_SECRET, AT(provider, api_key),
		.doc = "\"${NAME}\" or {\"file\": \"path\"}; none: no Authorization header"},
	{"ca_file", CONFIG_STRING, AT(provider, ca_file), .doc = "certificates to trust, PEM; by default the system's"},
	{"stream_options", CONFIG_BOOL, AT(provider, stream_options), "true",
		.doc = "it understands stream_options.include_usage"},
	{"timeout", CONFIG_GROUP, .table = &timeout_table, .doc = "time limits"},
	{"max_response", CONFIG_BYTES, AT(provider, max_response), "\"64MiB\"", .min = 1024, .max = 1 << 30,
		.doc = "the largest answer"},
};
static const struct config_table provider_table = CONFIG_TABLE(provider_fields, provider);

static const struct config_field part_tokens_fields[] = {
	{"image", CONFIG_INT, AT(model, part_tokens.image), "0", .min = 0, .max = 1 << 30,
		.doc = "tokens of an image in a message at most; 0: unknown, so none where tokens or money are limited"},
	{"audio", CONFIG_INT, AT(model, part_tokens.audio), "0", .min = 0, .max = 1 << 30, .doc = "of a recording"},
	{"file", CONFIG_INT, AT(model, part_tokens.file), "0", .min = 0, .max = 1 << 30, .doc = "of a file"},
};
static const struct config_table part_tokens_table = CONFIG_TABLE(part_tokens_fields, model);

static const struct config_field model_cache_fields[] = {
	{"off", CONFIG_BOOL, AT(model, cache.off), "false", .doc = "never remember this model's answers"},
	{"ttl", CONFIG_DURATION, AT(model, cache.ttl), .min = S_US, .max = CACHE_TTL_MAX,
		.doc = "instead of cache.ttl"},
	{"stale_while_revalidate", CONFIG_DURATION, AT(model, cache.stale_while_revalidate), .min = 0,
		.max = CACHE_TTL_MAX, .doc = "instead of cache.stale_while_revalidate"},
	{"stale_if_error", CONFIG_DURATION, AT(model, cache.stale_if_error), .min = 0, .max = CACHE_TTL_MAX,
		.doc = "instead of cache.stale_if_error"},
	{"scope", CONFIG_WORD, AT(model, cache.scope), .words = scopes, .doc = "instead of cache.scope"},
	{"temperature_zero_only", CONFIG_BOOL, AT(model, cache.temperature_zero_only), "false",
		.doc = "remember only answers to requests with temperature 0 (a request without one has 1)"},
};
static const struct config_table model_cache_table = CONFIG_TABLE(model_cache_fields, model);

static const struct config_field model_fields[] = {
	{"provider", CONFIG_STRING, AT(model, provider_name), .required = true, .doc = "one of `providers`"},
	{"model", CONFIG_STRING, AT(model, model), .doc = "the provider's name for it; by default the same"},
	{"context", CONFIG_INT, AT(model, context), "0", .min = 0, .max = 1LL << 40, .doc = "tokens of its window"},
	{"max_output", CONFIG_INT, AT(model, max_output), "0", .min = 0, .max = 1LL << 40,
		.doc = "tokens of an answer at most"},
	{"price", CONFIG_GROUP, .table = &config_price_table, .doc = "what it costs; by default as prices_file says"},
	{"part_tokens", CONFIG_GROUP, .table = &part_tokens_table, .doc = "what bounds that which is no text"},
	{"cap_field", CONFIG_WORD, AT(model, cap_field), .words = cap_fields,
		.doc = "where it is told how long an answer may be; by default where the client says so, else "
		       "\"max_completion_tokens\" for chats with api.openai.com and \"max_tokens\" for all others"},
	{"reasoning", CONFIG_BOOL, AT(model, reasoning), "false",
		.doc = "it thinks unseen: an answer that breaks off costs what was reserved for it"},
	{"cache", CONFIG_GROUP, .table = &model_cache_table, .doc = "what is remembered of it"},
};
static const struct config_table model_table = CONFIG_TABLE(model_fields, model);

static const struct config_field cache_fields[] = {
	{"enabled", CONFIG_BOOL, AT(config, cache.enabled), "true", .doc = "remember answers"},
	{"coalesce", CONFIG_BOOL, AT(config, cache.coalesce), "true",
		.doc = "one call for all who ask the same at the same time"},
	{"ttl", CONFIG_DURATION, AT(config, cache.ttl), "\"1h\"", .min = S_US, .max = CACHE_TTL_MAX,
		.doc = "for how long"},
	{"stale_while_revalidate", CONFIG_DURATION, AT(config, cache.stale_while_revalidate), "\"0s\"", .min = 0,
		.max = CACHE_TTL_MAX,
		.doc = "for how long after that it is still given at once, while a fresh one is fetched behind it"},
	{"stale_if_error", CONFIG_DURATION, AT(config, cache.stale_if_error), "\"0s\"", .min = 0, .max = CACHE_TTL_MAX,
		.doc = "for how long after that it is given where the provider fails"},
	{"scope", CONFIG_WORD, AT(config, cache.scope), "\"key\"", .words = scopes, .doc = "who shares answers"},
	{"max_entry", CONFIG_BYTES, AT(config, cache.max_entry), "\"16MiB\"", .min = 1024, .max = 128 << 20,
		.doc = "the largest answer that is remembered; what one item of memcached cannot hold is cut"},
	{"seal", CONFIG_SECRET, AT(config, cache.seal),
		.doc = "\"${NAME}\" or {\"file\": \"path\"}: encrypts and authenticates what is remembered"},
};
static const struct config_table cache_table = CONFIG_TABLE(cache_fields, config);

static const struct config_field limit_fields[] = {
	{"name", CONFIG_STRING, AT(limit, name), .required = true,
		.doc = "a name for the log and for the refused client"},
	{"count", CONFIG_WORD, AT(limit, count), "\"requests\"", .words = counts, .doc = "what is counted"},
	{"per", CONFIG_STRINGS, AT(limit, per_names), .min = 0, .max = 5,
		.doc = "any of \"key\", \"team\", \"user\", \"ip\", \"model\"; [] = everyone together; by default "
		       "[\"key\"], which a limit in a key's own entry always is"},
	{"amount", CONFIG_AMOUNT, AT(limit, amount), .required = true, .min = 1, .max = AMOUNT_MAX,
		.doc = "more than 0: so many requests or tokens in a window, \"5.00\" dollars, or calls at the same time"},
	{"window", CONFIG_DURATION, AT(limit, window), .min = S_US, .max = D_US, .words = months,
		.doc = "\"1s\" to \"1d\", or \"month\"; for \"concurrent\" there is none"},
	{"on_store_down", CONFIG_WORD, AT(limit, on_store_down), .words = store_downs,
		.doc = "without memcached: \"open\" (let through; by default for requests), \"closed\" (refuse; by "
		       "default for all else), or \"local\" (count on this host alone)"},
	{"enforce", CONFIG_BOOL, AT(limit, enforce), "true", .doc = "false: count and log, but refuse nobody"},
};
const struct config_table limit_table = CONFIG_TABLE(limit_fields, limit);

static const struct config_field ledger_fields[] = {
	{"path", CONFIG_STRING, AT(config, ledger.path),
		.doc = "the record of what was spent, on a disk of this host; by default ledger.db in server.run_dir; \"\": "
		       "none, so that a budget is forgotten where memcached forgets it"},
};
static const struct config_table ledger_table = CONFIG_TABLE(ledger_fields, config);

static const struct config_field cluster_fields[] = {
	{"hosts", CONFIG_STRINGS, AT(config, cluster.hosts), .min = 1, .max = 64,
		.doc = "names of all hosts that share these counters; by default this one"},
	{"host", CONFIG_STRING, AT(config, cluster.host), .doc = "this one's name; by default the machine's"},
};
static const struct config_table cluster_table = CONFIG_TABLE(cluster_fields, config);

static const struct config_field stream_fields[] = {
	{"commit_after", CONFIG_DURATION, AT(config, stream.commit_after), "\"5s\"", .min = 0, .max = D_US,
		.doc = "how long a stream waits for the provider's status before it says 200"},
	{"heartbeat", CONFIG_DURATION, AT(config, stream.heartbeat), "\"1s\"", .min = 100 * MS_US, .max = 60 * S_US,
		.doc = "silence after which a comment is sent"},
};
static const struct config_table stream_table = CONFIG_TABLE(stream_fields, config);

static const struct config_field log_fields[] = {
	{"to", CONFIG_WORD, AT(config, log.to), "\"fastcgi\"", .words = log_tos,
		.doc = "the web server's error log, or our own stderr"},
	{"level", CONFIG_WORD, AT(config, log.level), "\"info\"", .words = levels, .doc = "the least that is written"},
	{"client_address", CONFIG_WORD, AT(config, log.client_address), "\"full\"", .words = addresses,
		.doc = "\"full\", \"truncated\" (to a /24 of IPv4, a /48 of IPv6) or \"off\""},
};
static const struct config_table log_table = CONFIG_TABLE(log_fields, config);

static const struct config_field top_fields[] = {
	{"server", CONFIG_GROUP, .table = &server_table, .doc = "processes and requests"},
	{"memcached", CONFIG_GROUP, .table = &memcached_table, .doc = "where answers and counters live"},
	{"providers", CONFIG_MAP, AT(config, providers), .required = true, .min = 1, .max = 256,
		.table = &provider_table, .doc = "whom we call"},
	{"models", CONFIG_MAP, AT(config, models), .required = true, .min = 1, .max = 4096, .table = &model_table,
		.doc = "what clients may ask for"},
	{"cache", CONFIG_GROUP, .table = &cache_table, .doc = "remembered answers"},
	{"limits", CONFIG_LIST, AT(config, limits), "[]", .min = 0, .max = 16, .table = &limit_table,
		.doc = "who may do how much"},
	{"ledger", CONFIG_GROUP, .table = &ledger_table, .doc = "what was spent, by whom, on what"},
	{"cluster", CONFIG_GROUP, .table = &cluster_table, .doc = "several hosts, one budget"},
	{"prices_file", CONFIG_STRING, AT(config, prices_file),
		.doc = "a list of prices by the providers' names for models, beside this one"},
	{"stream", CONFIG_GROUP, .table = &stream_table, .doc = "server-sent events"},
	{"forward_headers", CONFIG_STRINGS, AT(config, forward_headers), "[\"OpenAI-Beta\"]", .min = 0,
		.max = FORWARD_MAX, .doc = "headers of the client that go to the provider, and into the cache key"},
	{"keys_file", CONFIG_STRING, AT(config, keys_file), .required = true,
		.doc = "the file of API keys, beside this one"},
	{"log", CONFIG_GROUP, .table = &log_table, .doc = "one line a request"},
};
const struct config_table config_table = CONFIG_TABLE(top_fields, config);

/* ---- files ---- */

static bool check_mode(struct config_reader *r)
{
	struct stat st;

	if (!*r->literal_secret || stat(r->file, &st) != 0 || !(st.st_mode & S_IROTH))
		return true;
	return config_fail(r, r->literal_secret,
		"a secret stands in a file that every user of this machine can read (mode %03o): chmod 600 it, or use "
		"\"${NAME}\" or {\"file\": \"path\"}",
		st.st_mode & 0777);
}

static bool load_keys(struct config_reader *r, struct config *c)
{
	struct json_object *object = config_parse_file(r, config_beside(r, c->keys_file));

	return object && keys_read(r, object, &c->keys) && config_check_own_limits(r, c);
}

static void remember_files(struct config_watch *watch, const struct config_reader *r)
{
	size_t i;

	arena_release(&watch->arena);
	watch->files = arena_alloc(&watch->arena, (r->file_count + 1) * sizeof(*watch->files));
	for (i = 0; i < r->file_count; i++)
		watch->files[i] = arena_strdup(&watch->arena, r->files[i]);
	watch->fingerprint = watch->last = r->fingerprint;
}

static bool load(struct config_reader *r, struct config *c, const char *path)
{
	struct json_object *object = config_parse_file(r, path);

	if (!object || !config_read(r, &config_table, object, c) || !check_mode(r))
		return false;
	if (!c->memcached.counters)
		c->memcached.counters = c->memcached.servers;
	if (!c->ledger.path)
		c->ledger.path = arena_printf(&c->arena, "%s/ledger.db", c->server.run_dir);
	else if (!*c->ledger.path)
		c->ledger.path = NULL;
	return config_prices_load(r, c) && config_check(r, c) && load_keys(r, c) && config_prices_check(r, c);
}

struct config *config_load(const char *path, struct config_watch *watch, char message[CONFIG_MESSAGE])
{
	struct config *c = calloc(1, sizeof(*c));
	struct config_reader r = {.arena = &c->arena};
	bool good;

	if (!c)
		die("out of memory");
	c->path = arena_strdup(&c->arena, path);
	good = load(&r, c, path);
	remember_files(watch, &r);
	if (good)
		return c;
	snprintf(message, CONFIG_MESSAGE, "%s", r.message);
	config_free(c);
	return NULL;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	arena_release(&c->arena);
	free(c);
}

void config_warn(const struct config *c)
{
	const struct provider *p = c->providers.items;
	size_t i;

	for (i = 0; i < c->providers.count; i++)
		if (p[i].off)
			log_event(LOG_WARN, "provider_off", "%s: provider \"%s\" is switched off: %s", c->path,
				p[i].name, p[i].off);
	if (c->keys.count == 0)
		log_event(LOG_WARN, "no_keys", "%s has no keys: every request will be refused", c->keys_file);
}

bool config_changed(struct config_watch *watch)
{
	uint64_t now = config_fingerprint(watch->files);
	bool settled = now == watch->last || config_quiet(watch->files);

	watch->last = now;
	return settled && now != watch->fingerprint;
}

const struct model *config_model(const struct config *c, const char *name)
{
	const struct model *m = c->models.items;
	size_t i;

	for (i = 0; i < c->models.count; i++)
		if (strcmp(m[i].name, name) == 0)
			return &m[i];
	return NULL;
}
