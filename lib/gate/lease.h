/*
 * lease — who asks the provider this question now, known to every host: a key of memcached that only one can add, that
 * lives three seconds and is renewed every second. It lies with the counters, whose servers are never ejected: a lease
 * that moved could be held twice.
 */
#ifndef PAVISE_GATE_LEASE_H
#define PAVISE_GATE_LEASE_H

#include "gate/txn.h"

enum { LEASE_S = 3, LEASE_RENEW_US = 1000000 };

struct lease {
	char key[TXN_KEY];
	uint64_t nonce; /* of the holder's call: a holder that was stopped and wakes up is not mistaken for the next */
	uint64_t host;  /* the holder's stats.host */
	uint64_t cas;   /* of what the holder saw last: only that is its own to delete */
};

enum lease_verdict {
	LEASE_OURS,
	LEASE_THEIRS, /* *holder says whose */
	LEASE_NOBODYS,
	LEASE_UNKNOWN /* memcached does not answer */
};

/* 64 bits of the question's hash and its epochs: who asks after a purge is not answered by a call that was made before
 * it. */
uint64_t lease_question(const struct txn *t);
/* The lease of the question in t->cache_key, under a nonce of ours; nobody holds it yet. */
void lease_init(const struct txn *t, struct lease *l);
/* Takes it if nobody has it. One that a dead worker of this host has left is taken over when `alone`: no other of this
 * host can hold it now. */
enum lease_verdict lease_take(struct txn *t, struct lease *l, bool alone, struct lease *holder);
/* Who has it now. */
enum lease_verdict lease_look(struct txn *t, const struct lease *l, struct lease *holder);
/* For another three seconds, in one round trip with what the holder asks besides (a value of that is not good any
 * more); takes it again if memcached has forgotten it. False: somebody else has it, or nobody knows. */
bool lease_renew(struct txn *t, struct lease *l, struct store_item *besides);
/* Lets the next one take it. */
void lease_give_back(struct txn *t, const struct lease *l);

#endif
