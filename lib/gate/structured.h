/*
 * structured — an answer that was asked for as JSON is checked before it is remembered.
 */
#ifndef PAVISE_GATE_STRUCTURED_H
#define PAVISE_GATE_STRUCTURED_H

#include "gate/txn.h"

/*
 * True if the completion may be remembered as far as its form goes: the request did not ask for JSON, or every choice
 * that ended by itself is JSON and fits the schema. Else t->schema says why not; the client gets the answer all the
 * same.
 */
bool structured_check(struct txn *t, struct json_object *completion);

#endif
