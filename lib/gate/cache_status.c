/*
 * RFC 9211 knows two things: an answer came out of the cache (hit), or the request went forward (fwd) and why. What we
 * say ourselves, refusals and 504 among it, is neither and has no Cache-Status (its section 2).
 */
#include "gate/cache_status.h"

#include "edge/http.h"

static const struct {
	const char *log, *people, *fwd;
} words[] = {
	[CACHE_NONE] = {NULL, "BYPASS", "bypass"},
	[CACHE_HIT] = {"hit", "HIT", NULL},
	[CACHE_MISS] = {"miss", "MISS", "uri-miss"},
	[CACHE_PARTIAL] = {"partial", "MISS", "partial"},
	[CACHE_EXPIRED] = {"miss", "MISS", "stale"},
	[CACHE_REFUSED] = {"bypass", "BYPASS", "request"},
	[CACHE_BYPASS] = {"bypass", "BYPASS", "bypass"},
	[CACHE_STALE] = {"stale", "STALE", "stale"},
	[CACHE_COLLAPSED] = {"collapsed", "COLLAPSED", NULL}, /* forwarded for the reason that it went to be asked */
};

const char *cache_status_word(const struct txn *t)
{
	return words[t->cache].log;
}

bool cache_status_aged(const struct txn *t)
{
	return t->cache == CACHE_HIT || t->cache == CACHE_STALE;
}

/* Whole seconds, rounded down: what has been stale for half a second is not fresh. */
static long long seconds(int64_t ms)
{
	return (long long)(ms / 1000 - (ms % 1000 < 0));
}

static void add_forwarded(const struct txn *t, struct buf *head, int status)
{
	struct buf value = BUF_INIT(256);

	buf_printf(&value, "pavise; fwd=%s", words[t->cache == CACHE_COLLAPSED ? t->looked_up : t->cache].fwd);
	if (t->upstream_status && t->upstream_status != status) /* the same is what nothing means */
		buf_printf(&value, "; fwd-status=%d", t->upstream_status);
	if (t->stored)
		buf_adds(&value, "; stored");
	if (t->cache == CACHE_COLLAPSED || t->collapsed)
		buf_adds(&value, "; collapsed");
	if (t->store_down)
		buf_adds(&value, "; detail=store-down");
	http_head_add(head, "Cache-Status", "%s", value.data);
	buf_release(&value);
}

void cache_status_add(const struct txn *t, struct buf *head, int status)
{
	if (t->called || t->cache == CACHE_COLLAPSED || t->collapsed)
		add_forwarded(t, head, status);
	else if (cache_status_aged(t))
		http_head_add(head, "Cache-Status", "pavise; hit; ttl=%lld", seconds(t->cache_ttl_ms));
	http_head_add(head, "X-Cache", "%s", words[t->cache].people);
	if (cache_status_aged(t)) /* RFC 9111, 5.1: it would say that the provider was not asked */
		http_head_add(head, "Age", "%lld", seconds(t->cache_age_ms));
}
