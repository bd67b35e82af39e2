/* GET /admin/spend?by=key&since=7d: what this host's ledger knows. */
#include "base/clock.h"
#include "edge/fcgi.h"
#include "gate/answer.h"
#include "gate/spend.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX = 64 << 20 };

/* "%20" and "+" of a query, in place. */
static void decode(char *text)
{
	char *to = text, hex[3] = "";

	for (; *text; text++) {
		if (*text == '%' && strspn(text + 1, "0123456789abcdefABCDEF") >= 2 && memcmp(text + 1, "00", 2) != 0) {
			memcpy(hex, text + 1, 2);
			*to++ = (char)strtol(hex, NULL, 16);
			text += 2;
		} else {
			*to++ = *text == '+' ? ' ' : *text;
		}
	}
	*to = '\0';
}

static enum verdict read_query(struct txn *t, struct spend_question *q, int64_t now_s)
{
	const char *query = fcgi_param("QUERY_STRING");
	char *rest = arena_strdup(t->arena, query ? query : ""), *member, *value, why[SPEND_WHY];

	while ((member = strsep(&rest, "&"))) {
		if (!*member)
			continue;
		value = member;
		strsep(&value, "=");
		if (!value) /* a name alone */
			value = member + strlen(member);
		decode(value);
		if (!spend_set(q, member, value, now_s, why))
			return txn_fail(t, ERR_INVALID_VALUE, member, "Invalid value for '%.60s': %s.", member, why);
	}
	return NEXT;
}

enum verdict stage_spend(struct txn *t)
{
	int64_t now_s = clock_real_ms() / 1000;
	struct buf body = BUF_INIT(ANSWER_MAX);
	struct spend_question q;
	char why[LEDGER_WHY];
	enum verdict verdict;

	spend_init(&q, now_s);
	if (read_query(t, &q, now_s) == FAILED)
		return FAILED;
	if (!t->config->ledger.path)
		return txn_fail(t, ERR_LEDGER_UNREADABLE, NULL, "No ledger is kept here (ledger.path is empty).");
	if (!spend_json(&q, t->config->ledger.path, &body, why))
		verdict = txn_fail(t, ERR_LEDGER_UNREADABLE, NULL, "The ledger cannot be read: %.200s.", why);
	else
		verdict = answer_json(t, 200, &body);
	buf_release(&body);
	return verdict;
}
