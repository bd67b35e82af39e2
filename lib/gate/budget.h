/*
 * budget — limits of tokens and of money: reserved before the call as an upper bound, settled behind it with what it
 * really took. A counter is what is settled and what is reserved together, and the number that it returns decides, so
 * no budget is overshot however many ask at once; a second one counts what is settled, and tells a budget that is spent
 * from one that others hold.
 *
 * Amounts are tokens or picodollars, as the limit counts. Where there is a bookkeeper, limits whose windows are long
 * (budget_lasts()) count in generations that memcached may forget: gate/generation, gate/seeding.
 */
#ifndef PAVISE_GATE_BUDGET_H
#define PAVISE_GATE_BUDGET_H

#include "edge/ledger.h"
#include "gate/txn.h"

/* Whether the limit is one of these. */
static inline bool budget_counts(const struct limit *l)
{
	return l->count == COUNT_TOKENS || l->count == COUNT_USD;
}

/* Whether its window is so long that it must outlive memcached: whole hours, which the ledger can sum up. */
static inline bool budget_lasts(const struct limit *l)
{
	return budget_counts(l) &&
	       (l->window == LIMIT_MONTH || (l->window > 0 && l->window % (LEDGER_HOUR_S * 1000000LL) == 0));
}

/* How many items budget_prepare() adds for each of the limits, at most. */
enum { BUDGET_ITEMS = 3 };

/* Before the look: for this worker's first one at a counter, which generation it is in, and in case it has to be made
 * that it soon is. */
void budget_meet(struct txn *t);
/*
 * Adds the look at a limit's counters to the transaction's batch; after it has run budget_read() fills used and
 * settled. Both are -1 where that look could not tell (memcached is silent; or the counter has to be made from the
 * ledger first): budget_look() and budget_reserve() know more.
 */
void budget_prepare(struct txn *t, struct limit_use *use);
void budget_read(struct txn *t, struct limit_use *use);
/* The same for all of them, in a round trip of its own; what is missing is made, which may take a few of them. */
void budget_look(struct txn *t);

enum budget_verdict {
	BUDGET_TAKEN,
	BUDGET_OVER,   /* *by has too little left; its used and settled are as they are now */
	BUDGET_UNKNOWN /* nobody can count for *by now, and it is set to refuse then */
};

/*
 * Takes use->reserved from every limit of tokens or money: from all, or from none (then nothing is held). A limit that
 * does not enforce is counted, and never refuses (use->would_refuse).
 */
enum budget_verdict budget_reserve(struct txn *t, const struct limit_use **by);

/* What the call really took of each: `tokens` and `pusd`, at most what was reserved unless the provider broke its
 * promise. Everything that is reserved becomes that. Once; without a reservation it does nothing. */
void budget_settle(struct txn *t, int64_t tokens, int64_t pusd);

#endif
