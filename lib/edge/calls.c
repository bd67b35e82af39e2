/* Written before it is counted: two that race may both find that they are too many, but never both that they are not.
 */
#include "edge/calls.h"

#include "base/err.h"

#include <errno.h>
#include <signal.h>

/* The supervisor clears a dead worker's pid; without one the kernel must be asked. */
static bool lives(const struct stats_slot *slot)
{
	int pid = atomic_load(&slot->pid);

	return pid && (kill(pid, 0) == 0 || errno == EPERM);
}

void calls_begin(struct stats *s, int slot, uint64_t nonce)
{
	BUG_ON(!nonce);
	atomic_store(&s->calls[slot].count, 0);
	atomic_store(&s->calls[slot].nonce, nonce);
}

void calls_count(struct stats *s, int slot, uint64_t identity)
{
	struct stats_calls *c = &s->calls[slot];
	int n = atomic_load(&c->count);

	BUG_ON(n == STATS_CALL_LIMITS);
	atomic_store(&c->identities[n], identity);
	atomic_store(&c->count, n + 1);
}

void calls_uncount(struct stats *s, int slot)
{
	atomic_fetch_sub(&s->calls[slot].count, 1);
}

void calls_end(struct stats *s, int slot)
{
	atomic_store(&s->calls[slot].count, 0);
	atomic_store(&s->calls[slot].nonce, 0);
}

bool calls_alive(const struct stats *s, int slot, uint64_t nonce)
{
	return slot >= 0 && slot < STATS_SLOTS && atomic_load(&s->calls[slot].nonce) == nonce && lives(&s->slots[slot]);
}

static bool counts(const struct stats_calls *c, uint64_t identity)
{
	int i, n = atomic_load(&c->count);

	for (i = 0; i < n; i++)
		if (atomic_load(&c->identities[i]) == identity)
			return true;
	return false;
}

int calls_of(const struct stats *s, uint64_t identity)
{
	int i, n = 0, used = atomic_load(&s->slots_used);

	for (i = 0; i < used; i++)
		n += counts(&s->calls[i], identity) && lives(&s->slots[i]);
	return n;
}
