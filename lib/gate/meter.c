/* Counting and looking up travel together: one write to memcached, one answer. What it says of the cache is lookup's.
 */
#include "gate/budget.h"
#include "gate/cache.h"
#include "gate/embed.h"
#include "gate/epoch.h"
#include "gate/limit.h"
#include "gate/lookup.h"

static bool may_be_cached(const struct txn *t)
{
	bool sure = t->chat.temperature_zero || !t->endpoint->operation->form; /* embeddings have no temperature */

	return t->config->cache.enabled && !t->model->cache.off && !t->chat.side_effect &&
	       (sure || !t->model->cache.temperature_zero_only);
}

static void lookup_prepare(struct txn *t)
{
	t->cache = CACHE_BYPASS;
	if (!may_be_cached(t))
		return;
	t->remember = !t->controls.no_store && cache_ttl_ms(t) > 0;
	if (!t->endpoint->operation->form) {
		embed_prepare(t);
		return;
	}
	cache_key(t);
	lookup_ask(t);
}

static size_t entries(const struct txn *t)
{
	return t->endpoint->operation->form ? 1 : embed_entries(t);
}

enum verdict stage_meter(struct txn *t)
{
	bool asks = t->model != NULL; /* and not what models there are */

	t->batch =
		arena_alloc(t->arena, (LIMIT_ITEMS + (asks ? epoch_items_max(t) + entries(t) : 0)) * sizeof(*t->batch));
	limit_prepare(t);
	if (asks)
		lookup_prepare(t);
	store_run(t->worker->store, t->batch, t->batch_count);
	if (limit_decide(t) != NEXT)
		return FAILED;
	if (!asks) /* of an entry, another look would lose what this one has found */
		budget_look_again(t);
	return NEXT;
}
