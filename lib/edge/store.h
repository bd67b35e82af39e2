/*
 * store — memcached: many operations, one round trip, one deadline.
 *
 * A batch goes out as one write of meta commands to each server that it concerns, and its answers are read together
 * (libmemcached gives the ring; a round trip for each operation would halve the throughput of a hit). The deadline
 * belongs to the request: after one timeout the rest of the request does without the store, and one that lasts (a
 * stream that others follow) without that server for a second. Which servers are down
 * (three timeouts in a row, or nobody listens) is known once per host: one worker a second tries again, the others do
 * not even ask, and there is one warning for all.
 */
#ifndef PAVISE_EDGE_STORE_H
#define PAVISE_EDGE_STORE_H

#include "edge/stats.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	STORE_KEY_MAX = 200,
	STORE_VALUE_MAX = 1000 * 1000 /* memcached's default item size is 1 MiB, header included */
};

/* Two rings: answers may vanish, counters should not (DESIGN: memcached.servers, memcached.counters). */
enum store_pool { STORE_CACHE, STORE_COUNTERS, STORE_POOLS };

enum store_op {
	STORE_GET,    /* → value, cas */
	STORE_GAT,    /* get and touch: gives it ttl_s from now on → value, cas */
	STORE_INCR,   /* by `delta`; if it is not there, made with `initial` (0: `delta`) and `ttl_s` → number */
	STORE_COUNT,  /* INCR, but a missing key stays missing → number */
	STORE_DECR,   /* by `delta`, stops at 0, a missing key stays missing → number */
	STORE_SET,    /* value, ttl_s; with `cas`: only if nobody has changed it since */
	STORE_ADD,    /* the same, but only if there is no such key → cas */
	STORE_APPEND, /* value, behind what is there */
	STORE_DELETE  /* with `cas`: only if nobody has changed it since */
};

enum store_result {
	STORE_OK,
	STORE_MISS,   /* GET, GAT, COUNT, DECR, APPEND, DELETE, SET with cas: there is no such key */
	STORE_EXISTS, /* ADD: there is one; DELETE, SET: it is not the one with this cas */
	STORE_FAIL,   /* the server understood and would not (too large, out of memory) */
	STORE_DOWN    /* no answer: not asked, or asked in vain. An INCR may have counted all the same */
};

struct store_item {
	enum store_op op;
	enum store_pool pool;
	const char *key; /* printable ASCII without spaces, at most STORE_KEY_MAX bytes */
	int server;      /* 0: where the ring puts the key; else of the pool's servers, counted from 1 */
	uint32_t ttl_s;  /* 0 = for ever; more than STORE_TTL_MAX goes by the clock of memcached's host */
	uint64_t delta, initial;
	uint64_t cas;      /* DELETE: 0 = whatever it is; GET, GAT, ADD: filled */
	const void *value; /* SET: read; GET: filled with memory of the store's, valid until the next store_run()
				or store_end() */
	size_t value_len;
	/* filled */
	enum store_result result;
	uint64_t number;
};

enum { STORE_TTL_MAX = 2592000 };

struct store;

struct store_options {
	const char *const
		*servers[STORE_POOLS]; /* "/path/to.sock", "host", "host:port", "[v6]:port"; NULL-terminated */
	int64_t timeout_us;
};

/* Whether a server's name can be used; *why is a phrase for a message if not. */
bool store_server_valid(const char *server, const char **why);

/* Reads the names and makes the rings; looks up their hosts; connects to nothing. Call before fork:
 * connections are made by each process. */
struct store *store_new(const struct store_options *o, struct stats *shared);
void store_free(struct store *s);

/* A new request: it may wait for the store again. */
void store_begin(struct store *s);
/* The same for who has nothing better to do than to wait: for so long, if that is more than the timeout. */
void store_begin_patient(struct store *s, int64_t wait_us);
/* A request that lasts and needs the store again: it may wait for the servers that have not let it wait in vain within
 * the last second. */
void store_again(struct store *s);
/* Behind a request, when nobody waits and no value is looked at any more: gives back the memory of large ones, and
 * looks up again the names of servers that could not be reached. */
void store_end(struct store *s);

/* For store_item.server: where the ring puts a key, so that what belongs together can be kept together. */
int store_server_of(const struct store *s, enum store_pool pool, const char *key);
/* How many servers a pool has. */
int store_servers(const struct store *s, enum store_pool pool);
/* Whether it is known on this host that the server does not answer. */
bool store_server_down(const struct store *s, enum store_pool pool, int server);
/* As configured; for messages. */
const char *store_server_name(const struct store *s, enum store_pool pool, int server);

/* A counter as GET gives it. */
int64_t store_number(const struct store_item *item);

/* Runs all items; each has its result. */
void store_run(struct store *s, struct store_item *items, size_t count);

#endif
