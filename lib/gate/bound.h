/*
 * bound — the most that a call can take, in tokens and in picodollars, said before it is made: a reservation of so much
 * cannot be overshot.
 *
 * It is a sum of what goes in and of answers of at most so many tokens; or, where nobody can say what goes in or comes
 * out (tools of the provider's own, predictions, …), the model's whole context.
 */
#ifndef PAVISE_GATE_BOUND_H
#define PAVISE_GATE_BOUND_H

#include "gate/config.h"
#include "wire/measure.h"

enum { BOUND_OUTPUT_MIN = 16 /* tokens of an answer: a shorter one is of no use to anybody */ };

struct bound {
	bool whole;          /* it may take the model's whole context, and its answers cannot be capped */
	bool unpriced;       /* what the provider says that it used is not all that it costs */
	int64_t tokens;      /* of the input, or of all if `whole` */
	int64_t pusd;        /* for them; 0 if the model has no price */
	int64_t answers;     /* that may come; 0: there is no output */
	int64_t output;      /* tokens of each, as the client and the model have it; 0 = nobody says */
	int64_t output_pusd; /* for each of these tokens */
};

/* 0, or -1 with *err: something has no bound. `money`: prices matter. */
int bound_of(struct bound *b, const struct model *model, const struct measure *m, bool money, struct err *err);

/* What is reserved in tokens or picodollars, as a limit counts, for answers of at most `cap` tokens each; a sum that is
 * too large is INT64_MAX. */
int64_t bound_sum(const struct bound *b, int count, int64_t cap);
/* The longest that the answers may be for so much; INT64_MAX: any length; -1: there is not even enough for the input.
 */
int64_t bound_fit(const struct bound *b, int count, int64_t left);
/* The shortest that they are worth being. */
int64_t bound_least(const struct bound *b);

#endif
