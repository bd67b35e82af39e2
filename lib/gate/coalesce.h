/*
 * coalesce — one call for all who ask the same at the same time, on every host: the first leads, the others follow.
 *
 * The leader holds the question's lease (gate/lease), calls the provider, and publishes what comes in memcached as a
 * stream with a number of its own: batches of events while somebody follows them, and an end that says what has become
 * of it. Followers of the leader's host sleep on its channel (edge/channel); on another host one of them watches
 * memcached for all. Nobody waits for anybody's client: a leader publishes before it writes, and never waits to write.
 *
 * Internal to the stage: coalesce.c decides who leads, lead.c and follow.c are the two sides.
 */
#ifndef PAVISE_GATE_COALESCE_H
#define PAVISE_GATE_COALESCE_H

#include "edge/channel.h"
#include "gate/lease.h"
#include "gate/txn.h"

enum {
	COALESCE_NAME = TXN_KEY,
	COALESCE_TTL_S = 600, /* for as long a slow follower finds what was published */
	COALESCE_FLAG_S = 3   /* so long a host that watches is believed to */
};

/* 64 bits of what is asked for, purged or not. */
uint64_t coalesce_hash(const struct txn *t);
/* For a call that nobody waits for. True, with t->lead: nobody on any host asks this now. */
bool coalesce_alone(struct txn *t);

/* What the items of a stream are called: its batches ("…:0", "…:1"), ":end", ":answer", and ":wanted" of other hosts.
 */
void coalesce_name(const struct txn *t, uint64_t stream, char name[COALESCE_NAME]);
/* All of them lie where the entry does: a question whose server is down is asked by everybody for themselves. */
struct store_item coalesce_item(struct txn *t, enum store_op op, const char *key);

/* ---- the leader ---- */

/* With the lease taken and the channel owned: t->lead until lead_… has ended it. */
void lead_begin(struct txn *t, const struct lease *lease, struct stats_channel *channel);
/* One event of the provider's stream, less [DONE]. */
void lead_event(struct txn *t, const char *data, size_t len);
/* Publishes what is due, and renews the lease. Call often; when next is lead_next_us(). Both do nothing without
 * t->lead. */
void lead_pump(struct txn *t);
int64_t lead_next_us(const struct txn *t);
/* Whether anybody is known to follow now. */
bool lead_followed(struct txn *t);
/* The same where the client has gone, before the call is ended for it: with one more look at other hosts. */
bool lead_goes_on(struct txn *t);
/* How it ended. The answer's facts are in t->facts; t->stored says whether it was remembered. */
struct lead_answer {
	struct json_object *completion; /* NULL: it is none that we can read, or the events are all there is of it */
	const char *script;             /* the boundaries at which it streamed; "" */
	size_t script_len;
	const struct buf *raw; /* the body that it came in; NULL: it was a stream */
};
void lead_end(struct txn *t, const struct lead_answer *answer);
/* t->err says why there is no answer; body: the provider's own words and their status, or NULL. */
void lead_end_failed(struct txn *t, int status, const struct buf *body);
/* Gives everything back without a word: whoever follows asks anew. */
void lead_leave(struct txn *t);

/* ---- a follower ---- */

enum followed {
	FOLLOW_DONE,  /* *verdict is the request's */
	FOLLOW_AGAIN, /* nobody leads any more, and the client has seen nothing */
	FOLLOW_ALONE  /* what was published cannot be had */
};

/* Follows a stream to its end. `watching`: this worker owns the channel, and the leader is on another host. */
enum followed follow(
	struct txn *t, struct stats_channel *channel, uint64_t stream, bool watching, enum verdict *verdict);

#endif
