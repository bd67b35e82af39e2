/*
 * admit — what is set aside of the budgets for one call before it is made: its upper bound (gate/bound), with answers
 * as long as there is money or tokens for.
 */
#ifndef PAVISE_GATE_ADMIT_H
#define PAVISE_GATE_ADMIT_H

#include "gate/bound.h"
#include "gate/txn.h"

struct admission {
	struct bound bound;
	int64_t cap;           /* tokens: what the provider is told of each answer's length; 0 = nothing of ours */
	const char *cap_field; /* where */
	bool shortened;        /* the client asked for longer ones, or did not say how long */
	int64_t tokens, pusd;  /* reserved */
	bool open;             /* … and not settled yet */
};

/* Of a request whose answer is cut: whether it may be our doing. */
static inline bool admit_shortened(const struct txn *t)
{
	return t->admission && t->admission->shortened;
}

#endif
