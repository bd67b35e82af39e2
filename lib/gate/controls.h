/*
 * controls — what a client asks of the cache for this one request: Cache-Control (RFC 9111, 5.2.1) and
 * X-Pavise-Cache-TTL.
 */
#ifndef PAVISE_GATE_CONTROLS_H
#define PAVISE_GATE_CONTROLS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct cache_controls {
	bool no_cache;       /* a call of its own, which is remembered */
	bool no_store;       /* nothing of it is remembered; an answer that is there will do */
	bool only_if_cached; /* no call: 504 rather than that */
	int64_t max_age_s;   /* only an entry that is younger; -1 = of any age */
	int64_t ttl_us;      /* for how long this answer is remembered; -1 = as configured */
};

#define CACHE_CONTROLS_INIT ((struct cache_controls){.max_age_s = -1, .ttl_us = -1})

/* From the values of the two headers, each NULL if it was not sent. -1 with *err filled for a TTL that is none. */
int controls_read(struct cache_controls *c, const char *cache_control, const char *ttl, struct err *err);

/* Whether an entry that is so old may be served. */
bool controls_allow(const struct cache_controls *c, int64_t age_ms);

/* Whether one that has expired may be. */
bool controls_allow_stale(const struct cache_controls *c);

/* As the log line shows them ("no-cache, ttl=60s"); "" if nothing was asked for. */
enum { CONTROLS_TEXT = 128 };
void controls_text(const struct cache_controls *c, char out[CONTROLS_TEXT]);

#endif
