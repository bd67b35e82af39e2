/*
 * batch_usage — what a batch used, divided among its inputs and added up again: whatever a provider counts (details
 * within details, a price), its shares add up to it.
 */
#ifndef PAVISE_WIRE_BATCH_USAGE_H
#define PAVISE_WIRE_BATCH_USAGE_H

#include "base/json.h"

/* The part of a count, 0 or more, for what stands from `before` to `after` on a scale that ends at `total`, which is
 * not 0. */
int64_t usage_part(int64_t count, uint64_t before, uint64_t after, uint64_t total);

/*
 * The same for all that usage says. Counts come out whole; one that nobody can have used is left out, and what is no
 * number is every part's. NULL if usage is no object. The caller releases it.
 */
struct json_object *usage_share(struct json_object *usage, uint64_t before, uint64_t after, uint64_t total);

/* Adds numbers, member by member; of anything else the sum keeps the latest. A NULL share adds nothing. */
void usage_add(struct json_object *sum, struct json_object *share);

#endif
