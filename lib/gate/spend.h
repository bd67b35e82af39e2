/*
 * spend — where did it go? A question to the ledger, as pavisectl and GET /admin/spend ask it, and its answer as JSON.
 */
#ifndef PAVISE_GATE_SPEND_H
#define PAVISE_GATE_SPEND_H

#include "base/buf.h"
#include "edge/ledger.h"

enum { SPEND_WHY = 256 };

struct spend_question {
	struct ledger_query query;
	int by; /* its index among spend_bys */
};

/* "key", "team", …; NULL-terminated, in the order of enum ledger_by. */
extern const char *const spend_bys[];

/* By key, of the last 30 days. */
void spend_init(struct spend_question *q, int64_t now_s);
/* name: by, since, until, key, team, user or model. The value stays the caller's. False with *why, a sentence. */
bool spend_set(struct spend_question *q, const char *name, const char *value, int64_t now_s, char why[SPEND_WHY]);

/* Asks, read-only and while others write. False with *why. */
bool spend_json(const struct spend_question *q, const char *path, struct buf *out, char why[LEDGER_WHY]);

void spend_add(struct ledger_amounts *sum, const struct ledger_amounts *a);

#endif
