/*
 * The meta protocol (memcached's doc/protocol.txt): one command, one answer, in order; so a batch needs no marks and
 * the answers are matched by counting.
 */
#include "edge/store.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "edge/store_server.h"

#include <libmemcached/memcached.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { AGAIN_US = 1000000 };

struct pool {
	memcached_st *ring;              /* NULL with a single server */
	int server[STATS_STORE_SERVERS]; /* the ring's index → index in store.servers */
	int count;
};

struct store {
	struct store_server servers[STATS_STORE_SERVERS];
	int count;
	struct pool pools[STORE_POOLS];
	int64_t timeout_us, wait_us; /* as configured, and of this request */
	bool given_up;               /* this request has waited in vain once */
};

bool store_server_valid(const char *server, const char **why)
{
	struct store_server probe;

	return store_server_parse(&probe, server, why);
}

/* By name, since the next configuration may list other servers in another order. */
static struct stats_store_server *health_of(const char *name, struct stats *shared)
{
	uint64_t hash = 0xcbf29ce484222325u, seen; /* FNV-1a */
	const char *c;
	int i;

	for (c = name; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
	for (i = 0; i < STATS_STORE_SERVERS; i++) {
		seen = 0;
		if (atomic_compare_exchange_strong(&shared->store[i].name, &seen, hash) || seen == hash)
			return &shared->store[i];
	}
	return &shared->store[hash % STATS_STORE_SERVERS]; /* many reloads later: shared with somebody */
}

static int server_index(struct store *s, const char *name, struct stats *shared)
{
	const char *why;
	int i;

	for (i = 0; i < s->count; i++)
		if (strcmp(s->servers[i].name, name) == 0)
			return i;
	BUG_ON(s->count == STATS_STORE_SERVERS); /* the configuration bounds their number */
	if (!store_server_parse(&s->servers[s->count], name, &why))
		die("memcached server \"%s\": %s", name, why);
	s->servers[s->count].health = health_of(name, shared);
	store_server_resolve(&s->servers[s->count]);
	return s->count++;
}

/* Consistent hashing (ketama), so that a server that goes away moves only its own share of the keys. */
static void ring_build(struct store *s, struct pool *pool)
{
	const struct store_server *server;
	int i;

	pool->ring = memcached_create(NULL);
	if (!pool->ring)
		die("out of memory");
	memcached_behavior_set(pool->ring, MEMCACHED_BEHAVIOR_KETAMA, 1);
	for (i = 0; i < pool->count; i++) {
		server = &s->servers[pool->server[i]];
		if (server->is_unix)
			memcached_server_add_unix_socket(pool->ring, server->host);
		else
			memcached_server_add(pool->ring, server->host, server->port);
	}
}

struct store *store_new(const struct store_options *o, struct stats *shared)
{
	struct store *s = calloc(1, sizeof(*s));
	const char *const *name;
	struct pool *pool;
	int i;

	if (!s)
		die("out of memory");
	s->timeout_us = s->wait_us = o->timeout_us;
	for (i = 0; i < STORE_POOLS; i++) {
		pool = &s->pools[i];
		for (name = o->servers[i]; *name; name++)
			pool->server[pool->count++] = server_index(s, *name, shared);
		if (pool->count > 1)
			ring_build(s, pool);
	}
	return s;
}

void store_free(struct store *s)
{
	int i;

	if (!s)
		return;
	for (i = 0; i < s->count; i++)
		store_server_release(&s->servers[i]);
	for (i = 0; i < STORE_POOLS; i++)
		if (s->pools[i].ring)
			memcached_free(s->pools[i].ring);
	free(s);
}

void store_begin(struct store *s)
{
	int i;

	s->given_up = false;
	s->wait_us = s->timeout_us;
	for (i = 0; i < s->count; i++)
		s->servers[i].late_us = 0;
}

void store_begin_patient(struct store *s, int64_t wait_us)
{
	store_begin(s);
	if (s->wait_us < wait_us)
		s->wait_us = wait_us;
}

void store_again(struct store *s)
{
	int64_t since = clock_mono_us() - AGAIN_US;
	int i;

	s->given_up = false;
	for (i = 0; i < s->count; i++)
		if (s->servers[i].late_us <= since)
			s->servers[i].late_us = 0;
}

void store_end(struct store *s)
{
	int i;

	for (i = 0; i < s->count; i++) {
		store_server_forget(&s->servers[i]);
		if (s->servers[i].stale)
			store_server_resolve(&s->servers[i]);
	}
}

int store_server_of(const struct store *s, enum store_pool pool, const char *key)
{
	const struct pool *p = &s->pools[pool];

	return p->ring ? (int)memcached_generate_hash(p->ring, key, strlen(key)) + 1 : 1;
}

int store_servers(const struct store *s, enum store_pool pool)
{
	return s->pools[pool].count;
}

bool store_server_down(const struct store *s, enum store_pool pool, int server)
{
	BUG_ON(server < 1 || server > s->pools[pool].count);
	return atomic_load(&s->servers[s->pools[pool].server[server - 1]].health->down);
}

const char *store_server_name(const struct store *s, enum store_pool pool, int server)
{
	BUG_ON(server < 1 || server > s->pools[pool].count);
	return s->servers[s->pools[pool].server[server - 1]].name;
}

static struct store_server *server_of(struct store *s, const struct store_item *item)
{
	int server = item->server ? item->server : store_server_of(s, item->pool, item->key);

	BUG_ON(server < 1 || server > s->pools[item->pool].count);
	return &s->servers[s->pools[item->pool].server[server - 1]];
}

/* A batch of many megabytes takes its time: as long as some of it gets through, it is waited for. */
static void progress(struct store *s, struct store_server *server)
{
	if (store_server_progress(server))
		server->deadline_us = clock_mono_us() + s->wait_us;
}

/* One look at all who have not answered yet; false: there is nobody. */
static bool wait_some(struct store *s)
{
	struct pollfd fds[STATS_STORE_SERVERS];
	struct store_server *waiting[STATS_STORE_SERVERS];
	int64_t now = clock_mono_us(), deadline_us = INT64_MAX;
	int i, n = 0;

	for (i = 0; i < s->count; i++) {
		if (!s->servers[i].pending)
			continue;
		waiting[n] = &s->servers[i];
		fds[n] = (struct pollfd){waiting[n]->fd, store_server_events(waiting[n]), 0};
		if (waiting[n]->deadline_us < deadline_us)
			deadline_us = waiting[n]->deadline_us;
		n++;
	}
	if (n == 0)
		return false;
	if (poll(fds, (nfds_t)n, deadline_us > now ? (int)((deadline_us - now + 999) / 1000) : 0) < 0)
		return true; /* a signal */
	for (i = 0; i < n; i++) {
		if (fds[i].revents) {
			progress(s, waiting[i]);
		} else if (waiting[i]->deadline_us <= now) {
			/* looked at once more when its time was over: it might have been we who had to wait */
			store_server_timed_out(waiting[i]);
			waiting[i]->late_us = now;
			s->given_up = true;
		}
	}
	return true;
}

void store_run(struct store *s, struct store_item *items, size_t count)
{
	struct store_server *server;
	int64_t deadline_us;
	size_t i;
	int j;

	for (i = 0; i < count; i++) {
		items[i].result = STORE_DOWN;
		server = server_of(s, &items[i]);
		if (!s->given_up && !server->late_us && store_server_usable(server))
			store_server_queue(server, &items[i]);
	}
	for (j = 0; j < s->count; j++)
		if (s->servers[j].pending)
			store_server_send(&s->servers[j]);
	deadline_us = clock_mono_us() + s->wait_us;
	for (j = 0; j < s->count; j++)
		s->servers[j].deadline_us = deadline_us;
	while (wait_some(s))
		;
	for (j = 0; j < s->count; j++)
		store_server_collect(&s->servers[j]);
}

/* Digits, with spaces behind them after a DECR. */
int64_t store_number(const struct store_item *item)
{
	const char *digits = item->value;
	int64_t n = 0;
	size_t i;

	for (i = 0; i < item->value_len && digits[i] >= '0' && digits[i] <= '9'; i++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, digits[i] - '0', &n))
			return INT64_MAX;
	return n;
}
