/*
 * price — what an answer costs, in picodollars (10^-12 USD): whole numbers, so that sums are exact.
 */
#ifndef PAVISE_GATE_PRICE_H
#define PAVISE_GATE_PRICE_H

#include "gate/config.h"
#include "wire/answer.h"

/* -1 when the model has no price or the answer did not say what it used. */
int64_t price_of(const struct model *model, const struct answer_facts *facts);

#endif
