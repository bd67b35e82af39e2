/*
 * generation — a budget's counter that memcached may forget, and that is then made anew from what ledgers know.
 *
 * For the counter "pv:c:NAME" there are, all on the same server:
 *   pv:g:NAME             which generation counts, as "<hex> r", or is being made, as "<hex> s"
 *   pv:c:NAME:<hex>       what is spent and reserved in it
 *   pv:s:NAME:<hex>       what is spent
 *   pv:h:<hash>           what one host brings to it, "<counted> <spent>"
 * and for each host a mailbox, pv:m:<host>: counters that others want it to bring its share to.
 */
#ifndef PAVISE_GATE_GENERATION_H
#define PAVISE_GATE_GENERATION_H

#include "edge/store.h"

#include <stdbool.h>
#include <stdint.h>

enum { GENERATION_KEY = STORE_KEY_MAX + 1, GENERATION_STATE = 20 };

struct generation {
	uint64_t number; /* 0 = there is none */
	bool ready;
};

/* "pv:g:…" and the like of "pv:c:…"; `number` 0: without one. prefix: memcached.prefix. */
void generation_key(const char *prefix, const char *counter, char letter, uint64_t number, char out[GENERATION_KEY]);
void generation_share_key(
	const char *prefix, const char *counter, uint64_t number, const char *host, char out[GENERATION_KEY]);

size_t generation_print(const struct generation *g, char out[GENERATION_STATE]);
/* What a GET of pv:g:… says. */
struct generation generation_read(const struct store_item *item);

/* A new one; never 0. */
uint64_t generation_new(void);

#endif
