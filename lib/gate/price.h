/*
 * price — what an answer costs, in picodollars (10^-12 USD): whole numbers, so that sums are exact.
 */
#ifndef PAVISE_GATE_PRICE_H
#define PAVISE_GATE_PRICE_H

#include "gate/config.h"
#include "wire/answer.h"

/* -1 when the model has no price or the answer did not say what it used. */
int64_t price_of(const struct model *model, const struct answer_facts *facts);

/* What the model takes of a request with so much input in a service tier ("" = none); NULL: that tier has no price. */
const struct rates *price_rates(const struct model *model, const char *tier, int64_t input_tokens);

#endif
