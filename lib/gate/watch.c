/* Another host's stream is seen in memcached only: one follower of this host looks there, and tells the others. */
#include "base/clock.h"
#include "gate/follow.h"

enum {
	LOOK_US = 1000000,  /* how often it is asked whether the leader still has its lease */
	NOBODY_US = 1500000 /* a lease that memcached has forgotten, its leader takes again within a second */
};

/* A lease that nobody holds may be one that memcached has lost; and where nobody can say, the stream itself does. */
static bool is_led(struct follow *f)
{
	struct lease ours, holder;

	lease_init(f->t, &ours);
	switch (lease_look(f->t, &ours, &holder)) {
	case LEASE_UNKNOWN: return true;
	case LEASE_THEIRS: f->nobody_us = 0; return holder.nonce == f->stream;
	default: break;
	}
	if (!f->nobody_us)
		f->nobody_us = clock_mono_us();
	return clock_mono_us() - f->nobody_us < NOBODY_US;
}

/* Tells the leader that it is followed from here, and asks whether there is one. */
static enum step look_for_leader(struct follow *f, bool *led)
{
	char key[FOLLOW_NAME];
	struct store_item item = coalesce_item(f->t, STORE_SET, follow_key_of(f, key, "wanted"));

	*led = true;
	if (clock_mono_us() < f->look_us)
		return ON;
	f->look_us = clock_mono_us() + (f->nobody_us ? NOBODY_US / 4 : LOOK_US);
	channel_touch(f->channel, f->t->worker->slot_index);
	item.ttl_s = COALESCE_FLAG_S;
	item.value = "1";
	item.value_len = 1;
	if (follow_run(f, &item, 1) != ON)
		return UNHEARD;
	*led = is_led(f);
	return ON;
}

/* What has been published since, for all of this host. */
static enum step look_for_batches(struct follow *f)
{
	uint32_t known = atomic_load(&f->channel->batches);
	struct store_item items[FOLLOW_FETCH];
	char keys[FOLLOW_FETCH][FOLLOW_NAME];
	enum step step;
	int i;

	for (i = 0; i < FOLLOW_FETCH; i++) {
		follow_batch_key(f, keys[i], known + (uint32_t)i);
		items[i] = coalesce_item(f->t, STORE_GET, keys[i]);
	}
	step = follow_run(f, items, FOLLOW_FETCH);
	for (i = 0; step == ON && i < FOLLOW_FETCH && items[i].result == STORE_OK; i++)
		known++;
	if (i && step == ON)
		channel_published(f->channel, f->t->worker->slot_index, known, false);
	return step;
}

enum step follow_watch(struct follow *f, bool *led)
{
	enum step step = look_for_leader(f, led);

	if (step == ON)
		step = look_for_batches(f);
	if (step == ON)
		step = follow_look_for_end(f);
	if (f->end) { /* nobody joins any more, however slowly our client takes its answer */
		channel_published(f->channel, f->t->worker->slot_index, atomic_load(&f->channel->batches), true);
		channel_leave(f->t->worker->stats, f->t->worker->slot_index);
	}
	return step;
}

bool follow_stands_in(struct follow *f)
{
	struct txn *t = f->t;
	struct lease ours, holder;
	bool mine;

	f->channel = channel_join(t->worker->stats, lease_question(t), t->worker->slot_index, &mine);
	if (!f->channel)
		return false;
	if (!mine)
		return atomic_load(&f->channel->stream) == f->stream || atomic_load(&f->channel->stream) == 0;
	lease_init(t, &ours);
	store_begin(t->worker->store);
	if (lease_look(t, &ours, &holder) != LEASE_THEIRS || holder.nonce != f->stream ||
		holder.host == t->worker->stats->host) {
		channel_leave(t->worker->stats, t->worker->slot_index);
		return false;
	}
	channel_open(f->channel, t->worker->slot_index, f->stream);
	channel_published(f->channel, t->worker->slot_index, f->next, false);
	f->watching = true;
	return true;
}
