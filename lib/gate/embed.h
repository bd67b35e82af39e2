/*
 * embed — embeddings are remembered input by input, so that a batch with one new text buys one.
 */
#ifndef PAVISE_GATE_EMBED_H
#define PAVISE_GATE_EMBED_H

#include "gate/txn.h"

/* Adds a look-up for every input to the transaction's batch. */
void embed_prepare(struct txn *t);
/* How many look-ups that will be. */
size_t embed_entries(const struct txn *t);

/* After the batch: answers if every input is known, else leaves only the unknown ones in the body. */
enum verdict embed_lookup(struct txn *t);

/* The provider's answer for what was unknown is here, as text and parsed: remembers, puts together, answers. */
enum verdict embed_answer(struct txn *t, const struct buf *text, struct json_object *answer);

#endif
