/* Decisions are rare, so each has a counter of its own in shared memory, found by the hash of what it is called. */
#include "gate/metrics.h"

#include "base/hash.h"
#include "edge/fcgi.h"
#include "edge/http.h"
#include "gate/answer.h"
#include "gate/limit.h"

#include <string.h>

enum { METRICS_MAX = 64 << 20 };

enum decision { REFUSED, WOULD_REFUSE, STORE_OPEN, STORE_CLOSED, STORE_LOCAL, DECISIONS };

static const char *const words[DECISIONS] = {"refused", "would_refuse", "store_open", "store_closed", "store_local"};

/* ---- counting ---- */

static uint64_t identity_of(const char *key, const char *limit, enum decision decision)
{
	const struct hash_part parts[] = {{"decision", sizeof("decision")}, {key, strlen(key) + 1},
		{limit, strlen(limit) + 1}, {words[decision], strlen(words[decision])}};
	uint8_t hash[SHA256_BYTES];
	uint64_t identity;

	hash_sha256_parts(parts, sizeof(parts) / sizeof(parts[0]), hash);
	memcpy(&identity, hash, sizeof(identity));
	return identity | 2;
}

static void count(const struct txn *t, const struct limit_use *use, enum decision decision)
{
	const char *key = limit_is_own(t, use->limit) ? t->key->name : "";

	stats_local_add(t->worker->stats, identity_of(key, use->limit->name, decision), INT64_MAX, 1);
}

void metrics_count(const struct txn *t)
{
	static const enum decision without_store[] = {
		[STORE_DOWN_OPEN] = STORE_OPEN, [STORE_DOWN_CLOSED] = STORE_CLOSED, [STORE_DOWN_LOCAL] = STORE_LOCAL};
	const struct limit_use *use;
	size_t i;

	for (i = 0; i < t->limit_count; i++) {
		use = &t->limits[i];
		if (t->refused_by == use)
			count(t, use, REFUSED);
		if (use->would_refuse)
			count(t, use, WOULD_REFUSE);
		if (use->unknown)
			count(t, use, without_store[use->limit->on_store_down]);
	}
}

/* ---- telling ---- */

/* Names are plain (config_name_valid()): nothing has to be escaped. */
static void add(struct buf *out, const struct txn *t, const char *key, const struct limit *l, bool zeros)
{
	uint64_t n;
	int i;

	for (i = 0; i < DECISIONS; i++) {
		n = stats_local_get(t->worker->stats, identity_of(key, l->name, (enum decision)i));
		if (!n && !zeros)
			continue;
		buf_printf(out, "pavise_limit_decisions_total{limit=\"%s\",key=\"%s\",decision=\"%s\"} %llu\n", l->name,
			key, words[i], (unsigned long long)n);
	}
}

static void add_limits(struct buf *out, const struct txn *t)
{
	const struct config *c = t->config;
	const struct key *keys = c->keys.items;
	size_t i, k;

	buf_adds(out,
		"# HELP pavise_limit_decisions_total What limits have refused, would have refused, or decided without "
		"memcached.\n# TYPE pavise_limit_decisions_total counter\n");
	for (i = 0; i < c->limits.count; i++)
		add(out, t, "", (const struct limit *)c->limits.items + i, true);
	for (k = 0; k < c->keys.count; k++)
		for (i = 0; i < keys[k].limits.count; i++)
			add(out, t, keys[k].name, (const struct limit *)keys[k].limits.items + i, false);
}

/* Whoever is on this machine, unless it asks for somebody else. */
static bool is_here(void)
{
	const char *peer = fcgi_param("REMOTE_ADDR");

	return peer && (strncmp(peer, "127.", 4) == 0 || strcmp(peer, "::1") == 0) && !http_header("x-forwarded-for") &&
	       !http_header("forwarded") && !http_header("x-real-ip");
}

enum verdict stage_metrics(struct txn *t)
{
	struct buf out = BUF_INIT(METRICS_MAX);
	enum verdict verdict;

	if (!is_here() && (stage_auth(t) != NEXT || stage_admin(t) != NEXT))
		return FAILED;
	add_limits(&out, t);
	verdict = answer_whole(
		t, 200, "text/plain; version=0.0.4; charset=utf-8", (struct hash_part[]){{out.data, out.len}}, 1);
	buf_release(&out);
	return verdict;
}
