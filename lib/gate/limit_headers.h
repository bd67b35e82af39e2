/*
 * limit_headers — how a client learns what is left of its limits, on every answer: in OpenAI's headers the tightest of
 * each kind, in the IETF's all of them.
 */
#ifndef PAVISE_GATE_LIMIT_HEADERS_H
#define PAVISE_GATE_LIMIT_HEADERS_H

#include "gate/txn.h"

/* Where the request has not been counted (it was no valid one), this costs a round trip. */
void limit_headers_add(struct txn *t, struct buf *head);

#endif
