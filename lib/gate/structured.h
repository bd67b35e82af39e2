/*
 * structured — an answer that was asked for as JSON is checked before it is remembered.
 */
#ifndef PAVISE_GATE_STRUCTURED_H
#define PAVISE_GATE_STRUCTURED_H

#include "gate/txn.h"

/*
 * True if the completion may be remembered as far as its form goes: the request did not ask for JSON, or every choice
 * is JSON and fits the schema, a refusal, or a call. Else t->schema says why not, unless a choice was cut short before
 * it said anything; the client gets the answer all the same.
 */
bool structured_check(struct txn *t, struct json_object *completion);

#endif
