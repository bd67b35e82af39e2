/*
 * config — one file says what the gateway does; here it becomes structs that every stage reads and nobody changes.
 *
 * Everything is checked when it is loaded: a configuration that exists is one that works.
 */
#ifndef PAVISE_GATE_CONFIG_H
#define PAVISE_GATE_CONFIG_H

#include "base/arena.h"
#include "base/ip.h"
#include "base/seal.h"
#include "edge/upstream.h"
#include "gate/config_table.h"

#include <stdbool.h>
#include <stdint.h>

struct provider {
	const char *name;
	int dialect;          /* index in the table's words: only "openai" so far */
	const char *base_url; /* no slash at its end */
	struct config_secret api_key;
	const char *ca_file;
	bool stream_options; /* understands stream_options.include_usage */
	struct {
		int64_t connect, first_byte, between_bytes, total; /* µs */
	} timeout;
	int64_t max_response; /* bytes of an answer */
	struct upstream_trust *trust;
	const char *off; /* why it cannot be called; NULL if it can */
};

/* Picodollars a token; -1 = not given. Input that is neither cached, nor written to the provider's cache, nor audio is
 * at `input`. */
struct rates {
	int64_t input, cached_input, cache_write, output, audio_input, audio_output;
};

enum cap_field { CAP_MAX_COMPLETION_TOKENS, CAP_MAX_TOKENS };

struct model {
	const char *name; /* the one that clients use */
	const char *provider_name;
	const struct provider *provider;
	const char *model;           /* the provider's name for it */
	int64_t context, max_output; /* tokens; 0 = unknown */
	struct rates price;
	struct rates priority, flex; /* service tiers */
	struct rates large;          /* of requests whose input is more than large_above tokens */
	int64_t large_above;
	struct {
		int64_t image, audio, file; /* tokens that one part of a message may be at most; 0 = unknown */
	} part_tokens;
	int cap_field;  /* enum cap_field: where it is told how long an answer may be; -1 = not given */
	bool reasoning; /* it thinks unseen: what has come of an answer says nothing of what it used */
	struct {
		bool off, temperature_zero_only;
		int64_t ttl, stale_while_revalidate, stale_if_error; /* µs */
		int scope;                                           /* enum cache_scope */
	} cache;
};

enum limit_count { COUNT_REQUESTS, COUNT_TOKENS, COUNT_USD, COUNT_CONCURRENT };
enum limit_per { PER_KEY = 1, PER_TEAM = 2, PER_USER = 4, PER_IP = 8, PER_MODEL = 16 };
enum on_store_down { STORE_DOWN_OPEN, STORE_DOWN_CLOSED, STORE_DOWN_LOCAL };

enum { LIMIT_MONTH = CONFIG_FIRST_WORD };

struct limit {
	const char *name;
	int count; /* enum limit_count */
	const char **per_names;
	unsigned per;   /* PER_… together; 0 = everyone together */
	int64_t amount; /* requests, tokens, picodollars, or calls at the same time */
	int64_t window; /* µs, whole seconds; LIMIT_MONTH; 0 for calls at the same time, which have none */
	int on_store_down;
	bool enforce;
};

enum { KEY_HASHES = 2 /* the second while a key is changed for another */, KEY_LIMITS = 16 };

struct key {
	const char *name;
	const char **sha256_hex;
	uint8_t (*sha256)[32];
	size_t sha256_count;
	const char *team;
	const char **models; /* globs over the names that clients use */
	const char *expires;
	int64_t expires_ms; /* 0 = never */
	bool disabled, admin;
	struct config_items limits; /* struct limit, of this key alone; each is per key */
};

enum log_to { LOG_TO_FASTCGI, LOG_TO_STDERR };
enum client_address { ADDRESS_FULL, ADDRESS_TRUNCATED, ADDRESS_OFF };
enum cache_scope { SCOPE_KEY, SCOPE_TEAM, SCOPE_EVERYONE };

/* The longest that an answer may be remembered, in µs. */
#define CACHE_TTL_MAX (366 * 86400LL * 1000000)

struct config {
	struct arena arena;
	const char *path;
	struct {
		struct {
			int64_t min, max, spare, reserve;
		} workers;
		int64_t max_body, body_timeout, shutdown_grace;
		const char *run_dir, *base_path;
		const char **trusted_proxies;
		struct ip_net *proxies; /* the same */
		size_t proxy_count;
		const char *user_header; /* NULL: none */
		struct {
			const char **origins; /* none: off */
			int64_t max_age;      /* µs */
		} cors;
	} server;
	struct {
		const char **servers, **counters;
		int64_t timeout; /* µs */
		const char *prefix;
	} memcached;
	struct config_items providers; /* struct provider */
	struct config_items models;    /* struct model */
	struct {
		bool enabled, coalesce;
		int64_t ttl, stale_while_revalidate, stale_if_error; /* µs */
		int scope;
		int64_t max_entry; /* bytes of an answer that is remembered, before it is compressed */
		struct config_secret seal;
		struct seal *sealed; /* NULL: what is remembered can be read */
	} cache;
	struct config_items limits; /* struct limit */
	const char *prices_file;    /* NULL = none */
	struct config_items prices; /* struct model: a name and its prices, from prices_file */
	struct {
		const char *path; /* NULL: none is kept */
	} ledger;
	struct {
		const char **hosts, *host; /* host is one of hosts */
	} cluster;
	struct {
		int64_t commit_after, heartbeat; /* µs */
	} stream;
	const char **forward_headers; /* of the client that go to the provider, and into the cache key */
	const char *keys_file;
	struct {
		int to, level, client_address;
	} log;
	struct config_items keys;            /* struct key, from keys_file */
	struct upstream_trust *system_trust; /* of the providers without a ca_file; NULL if none is https */
};

/* The files that the last attempt to load has read or tried to read, as they were then. Owned by whoever declares it.
 */
struct config_watch {
	struct arena arena;
	const char **files; /* NULL-terminated; NULL before the first attempt */
	uint64_t fingerprint;
	uint64_t last; /* what the last look saw */
};

/* Everything that may stand in the file. */
extern const struct config_table config_table;

/* NULL with *message filled: file, path, what was found, what was expected. Reads ${NAME}s from the environment. */
struct config *config_load(const char *path, struct config_watch *watch, char message[CONFIG_MESSAGE]);
void config_free(struct config *c);

/* One warning a line for what works but is probably not meant: a provider without its secret, say. */
void config_warn(const struct config *c);

/*
 * Whether one of the files is no longer what the last attempt saw, good or bad, and has been left alone since the last
 * look, or for CONFIG_QUIET_MS (so that a file that is being written is not read in the middle).
 */
bool config_changed(struct config_watch *watch);

const struct model *config_model(const struct config *c, const char *name);

#endif
