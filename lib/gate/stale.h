/*
 * stale — answers that are too old, and better than what else there is (RFC 5861): at once, while a fresh one is
 * fetched behind them (stale-while-revalidate), and where the provider fails (stale-if-error). How old they may be is
 * for the configuration to say when they are read.
 */
#ifndef PAVISE_GATE_STALE_H
#define PAVISE_GATE_STALE_H

#include "gate/cache.h"

/* Of an entry that has expired: whether it may be served now, or if the provider fails. */
bool stale_while_revalidate(const struct txn *t, const struct cache_entry *e);
bool stale_if_error(const struct txn *t, const struct cache_entry *e);

/* Serves it instead of the failure in t->err. False: there is none, or the client must know. */
bool stale_answer(struct txn *t);

/* A stale answer has been served: keeps what its refresh will take. */
void stale_refresh_later(struct txn *t);

/*
 * Behind fcgi_finish(), so that nobody waits for it: asks the provider once more, unless somebody else does or has
 * done, or no worker can be spared.
 */
void stale_refresh(struct txn *t);

#endif
