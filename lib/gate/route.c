/* The model is resolved; whether its provider may be called now is decided here. */
#include "gate/txn.h"

/*
 * The hit lane: of workers.max, `reserve` never call a provider, so that hits, health checks and refusals stay instant
 * while everybody else waits for a slow one. The state is set before it is counted: two that race may both be refused,
 * but the reserve is never used up.
 */
static bool lane_is_free(struct txn *t)
{
	struct worker *w = t->worker;
	int64_t allowed = t->config->server.workers.max - t->config->server.workers.reserve;

	if (!w->slot)
		return true;
	atomic_store(&w->slot->state, WORKER_CALLING);
	if (!w->supervised || stats_calling(w->stats) <= allowed)
		return true;
	atomic_store(&w->slot->state, WORKER_BUSY);
	return false;
}

enum verdict stage_route(struct txn *t)
{
	const struct provider *p = t->model->provider;

	if (p->off)
		return txn_fail(t, ERR_PROVIDER_OFF, "model",
			"The model '%s' is not available: its provider '%s' is switched off here.", t->model->name,
			p->name);
	if (!lane_is_free(t)) {
		t->retry_after_ms = 1000;
		return txn_fail(t, ERR_OVERLOADED, NULL,
			"Too many requests are waiting for providers at the moment. Try again soon.");
	}
	return NEXT;
}
