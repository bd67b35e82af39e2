/*
 * slots — limits of calls at the same time: each has as many slots as calls may be in flight, and a slot is a key of
 * memcached that only one can add. It lives ten seconds, is renewed every three while the call lasts, and goes when it
 * ends. Nobody waits for one.
 *
 * A slot says whose it is. One that a dead worker of this host has left is taken over by whoever finds it; those of
 * another host end by themselves.
 */
#ifndef PAVISE_GATE_SLOTS_H
#define PAVISE_GATE_SLOTS_H

#include "gate/txn.h"

/* One slot of each limit that counts this call: of all or, when one has none left (FAILED, t->refused_by), of none. */
enum verdict slots_take(struct txn *t);
/* Renews them when it is time. Call often; when next is slots_next_us(). */
void slots_pump(struct txn *t);
int64_t slots_next_us(const struct txn *t);
/* The call is over, or was not made: before the client learns of it, who may then ask at once for the next one. */
void slots_release(struct txn *t);

#endif
