/*
 * A claim is one word, so that whose channel it is changes in one step: 50 bits of the question, 14 of the owner's slot
 * counted from 1. A channel that nobody owns keeps its question until another takes the place.
 */
#include "edge/channel.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OWNER_BITS = 14, PROBES = 16, ATTEMPTS = 100 };

_Static_assert(STATS_SLOTS < 1 << OWNER_BITS, "an owner's slot fits its bits");

static uint64_t tag_of(uint64_t question)
{
	uint64_t tag = question >> OWNER_BITS;

	return tag ? tag : 1;
}

static uint64_t claim_of(uint64_t question, int slot)
{
	return tag_of(question) << OWNER_BITS | (uint64_t)(slot + 1);
}

static int owner_of(uint64_t claim)
{
	return (int)(claim & ((1 << OWNER_BITS) - 1)) - 1;
}

static void wake(struct stats_channel *c)
{
	atomic_fetch_add(&c->seq, 1);
	syscall(SYS_futex, &c->seq, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static bool is_stale(const struct stats_channel *c)
{
	return clock_mono_ms() - atomic_load(&c->touched_ms) > CHANNEL_STALE_MS;
}

static void clear(struct stats_channel *c)
{
	atomic_store(&c->stream, 0);
	atomic_store(&c->batches, 0);
	atomic_store(&c->wanted, 0);
	atomic_store(&c->ended, 0);
}

/* True if it is ours now. It is touched before: a claim that somebody sees is never a stale one. */
static bool claim(struct stats *s, struct stats_channel *c, uint64_t seen, uint64_t question, int slot)
{
	atomic_store(&c->touched_ms, clock_mono_ms());
	if (!atomic_compare_exchange_strong(&c->claim, &seen, claim_of(question, slot)))
		return false;
	atomic_store(&s->slots[slot].channel, (int)(c - s->channels) + 1);
	if (owner_of(seen) >= 0) /* who left has cleared it */
		clear(c);
	wake(c);
	return true;
}

static struct stats_channel *probe(struct stats *s, uint64_t question, unsigned i)
{
	return &s->channels[(tag_of(question) + i) % STATS_CHANNELS];
}

/* The question's channel, or else one that nobody owns. */
static struct stats_channel *find(struct stats *s, uint64_t question, const struct stats_channel *but, uint64_t *seen)
{
	struct stats_channel *c, *free = NULL;
	uint64_t claim, free_seen = 0;
	unsigned i;

	for (i = 0; i < PROBES; i++) {
		c = probe(s, question, i);
		claim = atomic_load(&c->claim);
		if (c == but)
			continue;
		if (claim >> OWNER_BITS == tag_of(question) && owner_of(claim) >= 0) {
			*seen = claim;
			return c;
		}
		if (owner_of(claim) < 0 && !free) {
			free = c;
			free_seen = claim;
		}
	}
	*seen = free_seen;
	return but ? NULL : free;
}

struct stats_channel *channel_join(struct stats *s, uint64_t question, int slot, bool *mine)
{
	struct stats_channel *c;
	uint64_t seen, other;
	int attempt;

	for (attempt = 0; attempt < ATTEMPTS; attempt++) {
		*mine = false;
		c = find(s, question, NULL, &seen);
		if (!c)
			return NULL;
		if (owner_of(seen) >= 0 && !is_stale(c))
			return c;
		if (!claim(s, c, seen, question, slot))
			continue;
		*mine = true;
		if (!find(s, question, c, &other)) /* nobody took another place for it in the same moment */
			return c;
		channel_leave(s, slot);
		sched_yield();
	}
	return NULL;
}

/* A worker that was stopped for long may find that another one has taken over. */
static bool owns(const struct stats_channel *c, int slot)
{
	return owner_of(atomic_load(&c->claim)) == slot;
}

void channel_open(struct stats_channel *c, int slot, uint64_t stream)
{
	if (!owns(c, slot))
		return;
	atomic_store(&c->touched_ms, clock_mono_ms());
	atomic_store(&c->stream, stream);
	wake(c);
}

void channel_published(struct stats_channel *c, int slot, uint32_t batches, bool ended)
{
	if (!owns(c, slot))
		return;
	atomic_store(&c->batches, batches);
	atomic_store(&c->ended, ended);
	wake(c);
}

void channel_touch(struct stats_channel *c, int slot)
{
	if (owns(c, slot))
		atomic_store(&c->touched_ms, clock_mono_ms());
}

void channel_leave(struct stats *s, int slot)
{
	int index = atomic_exchange(&s->slots[slot].channel, 0) - 1;
	struct stats_channel *c = &s->channels[index < 0 ? 0 : index];
	uint64_t claimed;

	if (index < 0)
		return;
	claimed = atomic_load(&c->claim);
	if (owner_of(claimed) == slot) {
		clear(c);
		atomic_compare_exchange_strong(&c->claim, &claimed, claimed >> OWNER_BITS << OWNER_BITS);
	}
	wake(c);
}

void channel_lead(struct stats *s, int slot, uint64_t hash)
{
	atomic_store(&s->slots[slot].leading, hash);
}

bool channel_led(const struct stats *s, uint64_t hash)
{
	int i, used = atomic_load(&s->slots_used);

	for (i = 0; i < used; i++)
		if (atomic_load_explicit(&s->slots[i].leading, memory_order_relaxed) == hash)
			return true;
	return false;
}

int channel_followers(const struct stats *s, uint64_t stream)
{
	int i, n = 0, used = atomic_load(&s->slots_used);

	for (i = 0; i < used; i++)
		n += atomic_load_explicit(&s->slots[i].following, memory_order_relaxed) == stream;
	return n;
}

void channel_follow(struct stats *s, struct stats_channel *c, int slot, uint64_t stream, unsigned wanted)
{
	atomic_store(&s->slots[slot].following, stream);
	atomic_fetch_or(&c->wanted, wanted);
}

void channel_unfollow(struct stats *s, int slot)
{
	atomic_store(&s->slots[slot].following, 0);
}

bool channel_owned(const struct stats_channel *c, uint64_t question)
{
	uint64_t claimed = atomic_load(&c->claim);

	return claimed >> OWNER_BITS == tag_of(question) && owner_of(claimed) >= 0 && !is_stale(c);
}

bool channel_alive(const struct stats_channel *c, uint64_t question, uint64_t stream)
{
	return channel_owned(c, question) && atomic_load(&c->stream) == stream;
}

void channel_wait(struct stats_channel *c, uint32_t seen, int64_t timeout_us)
{
	struct timespec t = {timeout_us / 1000000, timeout_us % 1000000 * 1000};

	if (timeout_us > 0)
		syscall(SYS_futex, &c->seq, FUTEX_WAIT, seen, &t, NULL, 0);
}
