/*
 * cors — browsers ask before they send (Fetch Standard, 3.2): server.cors says which origins may.
 */
#ifndef PAVISE_GATE_CORS_H
#define PAVISE_GATE_CORS_H

#include "base/buf.h"
#include "gate/txn.h"

/* A preflight is answered here, before auth, since browsers send it without a key. NEXT: it is none, or CORS is off. */
enum verdict cors_preflight(struct txn *t);

/* For every other answer: who may read it, and which of its headers. */
void cors_add(const struct txn *t, struct buf *head);

#endif
