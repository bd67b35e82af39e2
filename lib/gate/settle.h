/*
 * settle — what a call has really cost takes the place of what was set aside for it, before the client sees the end of
 * its answer.
 *
 * Each does its work for the first that is called, and nothing after that. Without a reservation only t->cost_pusd is
 * filled, where it is known.
 */
#ifndef PAVISE_GATE_SETTLE_H
#define PAVISE_GATE_SETTLE_H

#include "gate/txn.h"

/* How an answer came. */
struct heard {
	bool whole;     /* to its end: what it says that it used is all */
	bool reasoned;  /* it has shown that the model has thought */
	int64_t tokens; /* at most, that a client can see of it */
};

/* Whether it may matter how much of an answer has come. */
static inline bool settle_measures(const struct txn *t)
{
	return t->admission || t->model->price.input >= 0;
}

/* There is an answer, or a part of one. What it says that it used is in t->facts. */
void settle_answer(struct txn *t, const struct heard *heard);
/* The provider was not reached, or has refused: it costs nothing. */
void settle_refused(struct txn *t);
/* The provider may have done anything with the request: it costs all that was set aside. */
void settle_unknown(struct txn *t);

#endif
