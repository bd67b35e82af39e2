/*
 * stats — the one memory-mapped file that a host's processes share: who does what, and what is known once per host.
 *
 * Every worker has a slot that it alone writes; the supervisor reads them all. Which memcached servers are down stands
 * here too, and the counters of limits that are `local` while memcached is down.
 */
#ifndef PAVISE_EDGE_STATS_H
#define PAVISE_EDGE_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	STATS_SLOTS = 8192,       /* room for workers.max, and for the old ones that still finish after a reload */
	STATS_STORE_SERVERS = 64, /* memcached servers of one configuration, both pools together */
	STATS_LOCAL_COUNTERS = 4096,
	STATS_CALL_LIMITS = 6, /* limits of calls at the same time that one call counts against */
	STATS_CHANNELS = 16384 /* questions that are being asked: at most one a worker, thinly spread */
};

/* A worker's life: its states follow in this order, and IDLE, BUSY and CALLING alternate. */
enum worker_state {
	WORKER_NONE,     /* the slot is free */
	WORKER_STARTING, /* forked, not yet waiting for a request */
	WORKER_IDLE,     /* waiting for a request */
	WORKER_BUSY,     /* answering one */
	WORKER_CALLING   /* answering one, at a provider */
};

struct stats_slot {
	_Alignas(64) _Atomic int state; /* enum worker_state */
	_Atomic int pid;
	_Atomic uint64_t requests;
	_Atomic int channel;        /* the one that it owns, counted from 1; 0 = none */
	_Atomic uint64_t following; /* the stream whose end it waits for; 0 = none */
	_Atomic uint64_t life; /* a random name of this worker, under which it reserves; 0 = it has reserved nothing */
	_Atomic uint64_t leading; /* 64 bits of the hash of what it asks for all; 0 = nothing */
};

/* Of edge/calls: the call to a provider that a worker makes now. */
struct stats_calls {
	_Alignas(64) _Atomic uint64_t nonce; /* 0 = none */
	_Atomic int count;
	_Atomic uint64_t identities[STATS_CALL_LIMITS]; /* of the limits that it counts against */
};

/* Of edge/channel. */
struct stats_channel {
	_Alignas(64) _Atomic uint64_t claim; /* whose question and by whom it is asked */
	_Atomic uint64_t stream;    /* the number of the stream that the answer is published as; 0 = not known yet */
	_Atomic uint32_t seq;       /* a futex word: goes up with whatever there is to see */
	_Atomic uint32_t batches;   /* published so far */
	_Atomic uint32_t wanted;    /* CHANNEL_…, of those who follow */
	_Atomic int ended;          /* its end has been published */
	_Atomic int64_t touched_ms; /* clock_mono_ms() at which its owner was last seen alive */
};

struct stats_store_server {
	_Atomic uint64_t name;       /* a hash of it; 0 = free */
	_Atomic int down;            /* 1 = down, and the warning has been given */
	_Atomic int timeouts;        /* in a row, of all processes together */
	_Atomic int64_t retry_at_us; /* clock_mono_us() at which one worker may probe */
};

struct stats_local_counter {
	_Atomic uint64_t identity; /* of limit, who and window; 0 = free */
	_Atomic int64_t expires_ms;
	_Atomic uint64_t count;
};

struct stats {
	uint64_t layout;           /* of this file: a program of another version makes its own */
	uint64_t host;             /* random: tells this host from others, and from itself before */
	_Atomic int draining;      /* the supervisor has been told to stop: /readyz says so */
	_Atomic int can_grow;      /* fewer than workers.max: an idle worker that becomes busy may ask for more */
	_Atomic int idle;          /* a hint, set right by the supervisor on every look; the slots are the truth */
	_Atomic int spare;         /* workers.spare of the configuration in force */
	_Atomic int slots_used;    /* one more than the highest slot in use */
	_Atomic int config_loaded; /* a configuration is in force and its workers are up */
	struct stats_store_server store[STATS_STORE_SERVERS];
	struct stats_local_counter local[STATS_LOCAL_COUNTERS];
	struct stats_channel channels[STATS_CHANNELS];
	struct stats_calls calls[STATS_SLOTS];
	struct stats_slot slots[STATS_SLOTS];
};

/*
 * Maps RUN_DIR/pavise.shm, freshly made (a file that other processes still use stays theirs). With a folder that cannot
 * be written the memory is this process's and its children's alone, and *why says so. Never NULL.
 */
struct stats *stats_create(const char *run_dir, const char **why);

/* As stats_create(), but joins the file that other processes of this host use (`--worker` mode), if there is one. */
struct stats *stats_join(const char *run_dir, const char **why);

/* A free slot for this process, or -1. Slots of processes that are gone are taken over. */
int stats_claim_slot(struct stats *s);

/* How many workers of all are in CALLING. */
int stats_calling(const struct stats *s);

/*
 * Counts `delta` more on a counter of this host alone, in force until expires_ms (clock_real_ms()); returns the new
 * count. identity: 64 bits of a hash, never 0 or 1. A full table counts on what it finds: too much rather than too
 * little.
 */
uint64_t stats_local_add(struct stats *s, uint64_t identity, int64_t expires_ms, uint64_t delta);
/* What such a counter says, without making one: 0 if there is none. */
uint64_t stats_local_get(const struct stats *s, uint64_t identity);

#endif
