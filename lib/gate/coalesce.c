/* Who leads is decided twice: on this host in shared memory, so that a thousand twins are one, and between hosts by the
 * lease. */
#include "gate/coalesce.h"

#include "base/clock.h"
#include "edge/fcgi.h"
#include "gate/cache.h"
#include "gate/lookup.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
	ATTEMPTS = 1000, /* leaders that died one after the other */
	NAMELESS = 3,    /* times that nobody knew a stream's number, as when memcached does not answer */
	NAME_WAIT_US = CHANNEL_STALE_MS * 1000,
	LATE_US = 3000000, /* so long a memcached that has not answered may be late, if somebody leads here */
	LATE_AGAIN_US = 50000
};

void coalesce_name(const struct txn *t, uint64_t stream, char name[COALESCE_NAME])
{
	snprintf(name, COALESCE_NAME, "%.140s:%016llx", t->cache_key, (unsigned long long)stream);
	name[strlen(t->config->memcached.prefix) + 1] = 's';
}

struct store_item coalesce_item(struct txn *t, enum store_op op, const char *key)
{
	return (struct store_item){
		.op = op, .pool = STORE_CACHE, .key = key, .server = t->entry->server, .ttl_s = COALESCE_TTL_S};
}

uint64_t coalesce_hash(const struct txn *t)
{
	uint64_t hash;

	memcpy(&hash, t->cache_hash, sizeof(hash));
	return hash ? hash : 1;
}

static bool may_coalesce(const struct txn *t)
{
	return t->config->cache.coalesce && t->entry && t->remember && t->worker->slot && !t->controls.no_cache &&
	       t->entry->result != STORE_DOWN;
}

/*
 * Nobody looked up anything, and so nobody knows of a purge. But who leads here has had an answer of memcached's: it is
 * late because many ask, and each call that is made for that is one too many. Not NEXT: it is answered.
 */
static enum verdict look_again(struct txn *t)
{
	int64_t end_us = clock_mono_us() + LATE_US;
	enum verdict verdict = NEXT;

	if (!t->config->cache.coalesce || !t->entry || !t->worker->slot || t->controls.no_cache ||
		t->controls.no_store || cache_ttl_ms(t) <= 0)
		return NEXT;
	while (t->entry->result == STORE_DOWN && clock_mono_us() < end_us &&
		channel_led(t->worker->stats, coalesce_hash(t))) {
		poll(NULL, 0, LATE_AGAIN_US / 1000);
		store_begin_patient(t->worker->store, LATE_US / 3);
		t->remember = true; /* unless nobody answers this time, either */
		verdict = lookup_again(t);
	}
	return verdict;
}

/* The channel is ours: lead, if no other host does. */
static enum followed begin(struct txn *t, struct stats_channel *channel, enum verdict *verdict)
{
	struct lease lease, holder;

	lease_init(t, &lease);
	switch (lease_take(t, &lease, true, &holder)) {
	case LEASE_OURS: break;
	case LEASE_THEIRS:
		channel_open(channel, t->worker->slot_index, holder.nonce);
		return follow(t, channel, holder.nonce, true, verdict);
	default: break; /* nobody knows of other hosts: on this one it is one call all the same */
	}
	lead_begin(t, &lease, channel);
	store_again(t->worker->store);
	*verdict = lookup_again(t); /* whoever led before has remembered its answer before it gave its lease back */
	if (*verdict != NEXT)
		lead_leave(t);
	return FOLLOW_DONE;
}

bool coalesce_alone(struct txn *t)
{
	int slot = t->worker->slot_index;
	struct stats_channel *channel;
	struct lease lease, holder;
	bool mine;

	channel = channel_join(t->worker->stats, lease_question(t), slot, &mine);
	if (!channel || !mine)
		return false;
	lease_init(t, &lease);
	if (lease_take(t, &lease, true, &holder) == LEASE_OURS)
		lead_begin(t, &lease, channel);
	else
		channel_leave(t->worker->stats, slot);
	return t->lead;
}

/* The number of the stream that the channel's owner leads or watches; 0: it does not know one, or has left. */
static uint64_t stream_of(const struct txn *t, struct stats_channel *channel)
{
	int64_t deadline_us = clock_mono_us() + NAME_WAIT_US;
	uint64_t stream;
	uint32_t seen;

	for (;;) {
		seen = atomic_load(&channel->seq);
		stream = atomic_load(&channel->stream);
		if (stream || clock_mono_us() >= deadline_us || !channel_owned(channel, lease_question(t)))
			return stream;
		channel_wait(channel, seen, deadline_us - clock_mono_us());
	}
}

enum verdict stage_coalesce(struct txn *t)
{
	int attempt, nameless = 0, slot = t->worker->slot_index;
	struct stats *stats = t->worker->stats;
	enum followed how = FOLLOW_AGAIN;
	struct stats_channel *channel;
	enum verdict verdict = NEXT;
	uint64_t stream;
	bool mine;

	verdict = look_again(t);
	t->looked_up = t->cache;
	if (verdict != NEXT || !may_coalesce(t))
		return verdict;
	for (attempt = 0; how == FOLLOW_AGAIN && attempt < ATTEMPTS && nameless < NAMELESS; attempt++) {
		channel = channel_join(stats, lease_question(t), slot, &mine);
		if (!channel)
			return NEXT;
		store_again(t->worker->store);
		if (mine) {
			how = begin(t, channel, &verdict);
			if (!t->lead)
				channel_leave(stats, slot);
			continue;
		}
		stream = stream_of(t, channel);
		nameless += stream == 0;
		if (stream)
			how = follow(t, channel, stream, false, &verdict);
		if (how == FOLLOW_AGAIN && (verdict = lookup_again(t)) != NEXT) /* not one after the other */
			return verdict;
	}
	if (how == FOLLOW_DONE)
		return verdict;
	t->cache = t->looked_up;
	return NEXT;
}
