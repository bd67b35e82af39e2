/*
 * follow — one follower: what it has seen of a stream, and passed on. Part of coalesce: follow.c is the follower,
 * watch.c what it does when it follows another host for all of its own.
 */
#ifndef PAVISE_GATE_FOLLOW_H
#define PAVISE_GATE_FOLLOW_H

#include "gate/coalesce.h"

enum {
	FOLLOW_FETCH = 8,        /* batches in one round trip */
	FOLLOW_WATCH_US = 20000, /* how often memcached is asked for another host's stream */
	FOLLOW_NAME = COALESCE_NAME + 16
};

struct follow {
	struct txn *t;
	struct stats_channel *channel;
	uint64_t stream;
	bool watching;
	char name[COALESCE_NAME];
	bool live;          /* events are passed on as they come; else the end is waited for */
	bool begun;         /* the client has seen some */
	uint32_t next;      /* batch */
	int64_t unheard_us; /* since when memcached does not answer; 0: it does */
	struct buf out, plain;
	struct buf tail; /* of the last batch: a record that goes on in the next */
	int64_t written_us, look_us;
	int64_t deadline_us;
	int64_t nobody_us;       /* since when no lease says that the call is made; 0: one does */
	struct json_object *end; /* owned; what the leader said last, when it has */
	enum verdict verdict;
};

enum step { ON, LOST /* a batch is missing */, UNHEARD /* memcached does not answer */, GONE /* the client */ };

/* Asks memcached. */
enum step follow_run(struct follow *f, struct store_item *items, size_t count);
/* What the stream's items are called. */
const char *follow_key_of(struct follow *f, char key[FOLLOW_NAME], const char *what);
void follow_batch_key(const struct follow *f, char key[FOLLOW_NAME], uint32_t i);
enum step follow_look_for_end(struct follow *f);

/* One look at another host's stream, for all of this host. *led: its leader is still there. */
enum step follow_watch(struct follow *f, bool *led);
/* Nobody leads here any more, but the worker that watched may have left, with its client, while the leader goes on. */
bool follow_stands_in(struct follow *f);

#endif
