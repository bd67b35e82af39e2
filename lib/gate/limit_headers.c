/* A limit that does not enforce binds nobody: clients do not hear of it. */
#include "gate/limit_headers.h"

#include "base/clock.h"
#include "base/log.h"
#include "gate/answer.h"
#include "gate/limit.h"

#include <stdio.h>

enum {
	LINE_MAX_BYTES = 8 * 1024,
	FIELD_MAX_BYTES = 1800 /* whole members, of at most 200 */,
	PUSD_PER_MICRODOLLAR = 1000000
};

static int64_t left_of(const struct limit_use *use)
{
	return use->used < use->limit->amount ? use->limit->amount - use->used : 0;
}

static int64_t ms_left(const struct limit_use *use)
{
	int64_t left = use->end_ms - clock_real_ms();

	return left > 0 ? left : 0;
}

/* OpenAI's: x-ratelimit-{limit,remaining,reset}-{requests,tokens}. */
static void add_tightest(const struct txn *t, struct buf *head, enum limit_count count, const char *what)
{
	const struct limit_use *use = limit_tightest(t, count);
	char name[64], reset[32];

	if (!use)
		return;
	snprintf(name, sizeof(name), "x-ratelimit-limit-%s", what);
	http_head_add(head, name, "%lld", (long long)use->limit->amount);
	snprintf(name, sizeof(name), "x-ratelimit-remaining-%s", what);
	if (use->used >= 0)
		http_head_add(head, name, "%lld", (long long)left_of(use));
	snprintf(name, sizeof(name), "x-ratelimit-reset-%s", what);
	answer_reset_text(ms_left(use), reset, sizeof(reset));
	http_head_add(head, name, "%s", reset);
}

/* What is set aside at this moment is not left; an answer whose cost is known has settled its own share of that. */
static void add_budget(const struct txn *t, struct buf *head)
{
	const struct limit_use *use = limit_tightest(t, COUNT_USD);
	char text[LOG_USD_TEXT];

	if (!use || use->used < 0)
		return;
	log_usd_text(left_of(use), text);
	http_head_add(head, "x-pavise-budget-remaining-usd", "%s", text);
}

/* ---- draft-ietf-httpapi-ratelimit-headers ---- */

/* Its quota units (3.1.2), where it has one; a quota is an integer. */
static const struct {
	const char *unit; /* NULL: requests, which is its default */
	int64_t scale;
} units[] = {[COUNT_REQUESTS] = {NULL, 1},
	[COUNT_TOKENS] = {"tokens", 1},
	[COUNT_USD] = {"microdollars", PUSD_PER_MICRODOLLAR},
	[COUNT_CONCURRENT] = {"concurrent-requests", 1}};

static void add_policy(struct buf *line, const struct limit_use *use)
{
	const struct limit *l = use->limit;
	int64_t start, end;

	buf_printf(line, "%s\"%s\";q=%lld", line->len ? ", " : "", l->name,
		(long long)(l->amount / units[l->count].scale));
	if (units[l->count].unit)
		buf_printf(line, ";qu=\"%s\"", units[l->count].unit);
	limit_window(l, use->end_ms - 1, &start, &end);
	if (l->window)
		buf_printf(line, ";w=%lld", (long long)(end - start) / 1000);
}

static void add_service_limit(struct buf *line, const struct limit_use *use, bool refused)
{
	const struct limit *l = use->limit;

	if (use->used < 0 && !(refused && l->count == COUNT_CONCURRENT))
		return; /* nobody knows */
	buf_printf(line, "%s\"%s\";r=%lld", line->len ? ", " : "", l->name,
		(long long)(use->used < 0 ? 0 : left_of(use) / units[l->count].scale));
	if (l->window)
		buf_printf(line, ";t=%lld", (long long)(ms_left(use) + 999) / 1000);
}

static void add_all(const struct txn *t, struct buf *head)
{
	struct buf policy = BUF_INIT(LINE_MAX_BYTES), state = BUF_INIT(LINE_MAX_BYTES);
	size_t i;

	for (i = 0; i < t->limit_count; i++) {
		if (!t->limits[i].limit->enforce || policy.len > FIELD_MAX_BYTES || state.len > FIELD_MAX_BYTES)
			continue;
		add_policy(&policy, &t->limits[i]);
		add_service_limit(&state, &t->limits[i], t->refused_by == &t->limits[i]);
	}
	if (policy.len)
		http_head_add(head, "RateLimit-Policy", "%s", policy.data);
	if (state.len)
		http_head_add(head, "RateLimit", "%s", state.data);
	buf_release(&policy);
	buf_release(&state);
}

void limit_headers_add(struct txn *t, struct buf *head)
{
	if (t->key && t->limit_count == 0)
		limit_peek(t);
	add_tightest(t, head, COUNT_REQUESTS, "requests");
	add_tightest(t, head, COUNT_TOKENS, "tokens");
	add_budget(t, head);
	add_all(t, head);
}
