/* For load balancers: alive, and ready. Neither needs memcached or a provider, and neither needs a key. */
#include "gate/answer.h"

static enum verdict say(struct txn *t, int status, const char *word)
{
	struct buf body = BUF_INIT(64);
	enum verdict verdict;

	buf_printf(&body, "{\"status\":\"%s\"}", word);
	verdict = answer_json(t, status, &body);
	buf_release(&body);
	return verdict;
}

enum verdict stage_healthz(struct txn *t)
{
	return say(t, 200, "ok");
}

/* Ready: a configuration is in force, its workers are up, and nobody has said stop. */
enum verdict stage_readyz(struct txn *t)
{
	if (atomic_load(&t->worker->stats->draining))
		return say(t, 503, "draining");
	if (!atomic_load(&t->worker->stats->config_loaded))
		return say(t, 503, "starting");
	return say(t, 200, "ready");
}
