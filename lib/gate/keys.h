/*
 * keys — what a key may do.
 */
#ifndef PAVISE_GATE_KEYS_H
#define PAVISE_GATE_KEYS_H

#include "gate/config.h"

/* Its `models` are patterns over the names that clients use: "gpt-4o-*". */
bool key_may_call(const struct key *key, const struct model *model);

#endif
