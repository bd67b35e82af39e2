/* An entry is not kept while a provider is called, but looked for again: it may have been purged meanwhile. */
#include "gate/stale.h"

#include "base/clock.h"
#include "edge/fcgi.h"
#include "gate/budget.h"
#include "gate/coalesce.h"
#include "gate/limit.h"
#include "gate/lookup.h"

#include <string.h>

static bool within(const struct txn *t, const struct cache_entry *e, int64_t window_us)
{
	return controls_allow_stale(&t->controls) && clock_real_ms() < e->expires_ms + window_us / 1000;
}

/* Where the next client would wait for this very process, the refresh is made in front. */
bool stale_while_revalidate(const struct txn *t, const struct cache_entry *e)
{
	return t->worker->supervised && !fcgi_kept() && within(t, e, t->model->cache.stale_while_revalidate);
}

/* ---- if error ---- */

bool stale_if_error(const struct txn *t, const struct cache_entry *e)
{
	return within(t, e, t->model->cache.stale_if_error);
}

/* The provider's fault, or that it may not be called. */
static bool excuses(enum err_code code)
{
	return code == ERR_PROVIDER_OFF || code == ERR_OVERLOADED ||
	       strncmp(err_kind(code)->log_type, "provider_", strlen("provider_")) == 0;
}

bool stale_answer(struct txn *t)
{
	struct cache_entry e;

	if (!t->stale_if_error || t->body_sent || !excuses(t->err.code))
		return false;
	t->collapsed = t->cache == CACHE_COLLAPSED;
	return lookup_reread(t, &e) && stale_if_error(t, &e) && lookup_serve(t, &e, CACHE_STALE) == ANSWERED;
}

/* ---- while revalidate ---- */

/* A request that is not to be remembered has nothing to refresh, and one that wants no call makes none. */
void stale_refresh_later(struct txn *t)
{
	t->refresh = t->remember && !t->controls.only_if_cached;
	if (t->refresh)
		t->call_headers = relay_headers(t);
}

/* The same question, asked by nobody. */
static struct txn refresh_of(const struct txn *t)
{
	struct txn r = {.worker = t->worker,
		.config = t->config,
		.arena = t->arena,
		.started_us = clock_mono_us(),
		.endpoint = t->endpoint,
		.method = t->endpoint->method,
		.path = t->path,
		.trace = t->trace,
		.key = t->key,
		.client = {.counted = t->client.counted},
		.body = t->body,
		.chat = t->chat,
		.model = t->model,
		.controls = CACHE_CONTROLS_INIT,
		.cache = CACHE_EXPIRED,
		.remember = true,
		.cost_pusd = -1,
		.saved_pusd = -1,
		.behind = true,
		.call_headers = t->call_headers};

	r.controls.ttl_us = t->controls.ttl_us;
	memcpy(r.cache_key, t->cache_key, sizeof(r.cache_key));
	memcpy(r.cache_hash, t->cache_hash, sizeof(r.cache_hash));
	memcpy(r.epochs, t->epochs, sizeof(r.epochs));
	answer_facts_init(&r.facts);
	return r;
}

/* Whoever led before may have been faster; and what has been purged is for the next client to ask. */
static bool still_expired(struct txn *r)
{
	struct cache_entry e;

	return lookup_reread(r, &e) && e.expires_ms <= clock_real_ms();
}

/* It is one of as many calls, and for the same budgets to pay for. */
static bool admitted(struct txn *r)
{
	limit_uses(r);
	budget_look(r);
	return stage_slots(r) == NEXT && stage_admit(r) == NEXT;
}

void stale_refresh(struct txn *t)
{
	struct txn r = refresh_of(t);

	if (atomic_load(&t->worker->stats->draining))
		return;
	store_begin(t->worker->store);
	if (!coalesce_alone(&r))
		return;
	if (still_expired(&r) && stage_route(&r) == NEXT && admitted(&r)) {
		stage_relay(&r);
		account_refresh(&r);
	}
	lead_leave(&r); /* if it has not ended */
	t->called |= r.called;
}
