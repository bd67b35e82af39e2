/*
 * tell — a worker's side of the bookkeeper: what is reserved, what it came to, what was spent or saved.
 *
 * Nothing here keeps an answer waiting, but for a reservation that finds the queue full. What cannot be told is kept
 * and told as soon as it can be: behind an answer, between two requests, and before the worker leaves.
 */
#ifndef PAVISE_GATE_TELL_H
#define PAVISE_GATE_TELL_H

#include "edge/queue.h"
#include "gate/note.h"
#include "gate/txn.h"

struct teller;

/* One for each worker that has a bookkeeper. */
struct teller *teller_new(const struct queue *queue, struct stats_slot *slot);

/* Before a call: all of this may be spent. t->held is its number. False: it cannot be told. */
bool tell_hold(struct txn *t, int64_t at_s, int64_t tokens, int64_t pusd);
/* What became of it, and where it had been counted. */
void tell_settle(
	struct txn *t, int64_t at_s, const struct ledger_amounts *a, const struct note_counted *counted, size_t count);
/* A counter is missing. False: there was no room for it within this time. */
bool tell_want(struct txn *t, const struct limit_use *use, int64_t timeout_us);
/* What a request has spent that nobody had reserved, or saved; summed up for a second. */
void tell_spent(struct txn *t);

/* The generation that this worker has last seen of a counter; 0 = none. It may be the wrong one. */
uint64_t teller_guess(struct teller *r, const char *counter, uint64_t seen);
void teller_forget(struct teller *r, const char *counter);
/* Whether a request that could do without the counter may ask for it, and wait: not so soon after one that has. */
bool teller_may_ask(struct teller *r, const char *counter);

/* Before a request is waited for: tells what is due, and has a thread tell the rest when it is. */
void teller_idle(struct teller *r);
/* Before the worker leaves: tells everything, and waits for it as long as it may. */
void teller_end(struct teller *r);

#endif
