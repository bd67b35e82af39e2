/* No threads, no locks, no event loop: that is the design's great simplicity. */
#include "gate/worker.h"

#include "base/heap.h"
#include "base/log.h"
#include "edge/calls.h"
#include "edge/fcgi.h"
#include "edge/super.h"
#include "gate/tell.h"

struct store *worker_store(const struct config *c, struct stats *stats)
{
	struct store_options o = {
		.servers = {[STORE_CACHE] = c->memcached.servers, [STORE_COUNTERS] = c->memcached.counters},
		.timeout_us = c->memcached.timeout};

	return store_new(&o, stats);
}

static void become_idle(struct worker *w)
{
	atomic_store(&w->slot->state, WORKER_IDLE);
	atomic_fetch_add(&w->stats->idle, 1);
}

static void become_busy(struct worker *w)
{
	atomic_store(&w->slot->state, WORKER_BUSY);
	atomic_fetch_add(&w->slot->requests, 1);
	if (atomic_fetch_sub(&w->stats->idle, 1) <= atomic_load_explicit(&w->stats->spare, memory_order_relaxed))
		super_nudge(w->stats);
}

int worker_run(struct worker *w, void (*before)(struct worker *w))
{
	if (fcgi_init() != 0) {
		log_event(LOG_ERROR, "no_socket",
			"file descriptor 0 is no listening socket: start pavise through spawn-fcgi, "
			"or with --worker from a web server");
		return 1;
	}
	super_worker_signals(fcgi_stop_accepting);
	heap_keep();
	calls_end(w->stats, w->slot_index); /* whoever had the slot before may have died in a call */
	for (;;) {
		become_idle(w);
		if (w->teller)
			teller_idle(w->teller);
		if (!fcgi_accept())
			break;
		become_busy(w);
		if (before)
			before(w);
		txn_run(w);
	}
	if (w->teller)
		teller_end(w->teller);
	return 0;
}
