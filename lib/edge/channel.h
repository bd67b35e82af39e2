/*
 * channel — one question that somebody on this host is asking now: its owner says what there is to see, the others
 * sleep until there is more (a futex word in the shared file: a thousand that polled memcached would take two cores).
 *
 * What is seen lies in memcached, under the stream's number. The owner leads, or it watches for its host a leader on
 * another one.
 */
#ifndef PAVISE_EDGE_CHANNEL_H
#define PAVISE_EDGE_CHANNEL_H

#include "edge/stats.h"

/* What followers want of a stream. */
enum { CHANNEL_EVENTS = 1, CHANNEL_END = 2 };

enum { CHANNEL_STALE_MS = 3000 /* who has not touched it for so long is stopped, or dead */ };

/*
 * The question's channel (`question`: 64 bits of its hash), with *mine when it is now this worker's (by its slot); NULL
 * if there is no room. Two questions may meet in these bits: what is published must be bound to the whole hash.
 */
struct stats_channel *channel_join(struct stats *s, uint64_t question, int slot, bool *mine);

/* The owner's. All do nothing once another has taken the channel over. */
void channel_open(struct stats_channel *c, int slot, uint64_t stream);
void channel_published(struct stats_channel *c, int slot, uint32_t batches, bool ended);
void channel_touch(struct stats_channel *c, int slot);
/* Lets go of it, and wakes everybody: they look whether it has ended, and what becomes of it if not. */
void channel_leave(struct stats *s, int slot);
/* Whether a worker leads what has this hash, and which, whenever it was asked: for who knows no more of it. 0: nothing
 * any more. */
void channel_lead(struct stats *s, int slot, uint64_t hash);
bool channel_led(const struct stats *s, uint64_t hash);
/* How many workers follow the stream. */
int channel_followers(const struct stats *s, uint64_t stream);

/* A follower's: its interest, counted until channel_unfollow() or its death. */
void channel_follow(struct stats *s, struct stats_channel *c, int slot, uint64_t stream, unsigned wanted);
void channel_unfollow(struct stats *s, int slot);
/* Whether somebody asks this question now. */
bool channel_owned(const struct stats_channel *c, uint64_t question);
/* Whether somebody still speaks for this stream. */
bool channel_alive(const struct stats_channel *c, uint64_t question, uint64_t stream);
/* Sleeps until seq is no longer what was seen, for at most timeout_us. */
void channel_wait(struct stats_channel *c, uint32_t seen, int64_t timeout_us);

#endif
