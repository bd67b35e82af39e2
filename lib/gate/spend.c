/* Sums of dollars are exact: they are picodollars until they are printed. */
#include "gate/spend.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "gate/config_table.h"

#include <stdio.h>
#include <string.h>

enum { DEFAULT_S = 30 * 86400 };

const char *const spend_bys[] = {[LEDGER_BY_KEY] = "key",
	[LEDGER_BY_TEAM] = "team",
	[LEDGER_BY_USER] = "user",
	[LEDGER_BY_MODEL] = "model",
	[LEDGER_BY_DAY] = "day",
	[LEDGER_BY_HOUR] = "hour",
	NULL};

void spend_init(struct spend_question *q, int64_t now_s)
{
	int64_t hour_s = now_s - now_s % LEDGER_HOUR_S;

	*q = (struct spend_question){
		.query = {.by = LEDGER_BY_KEY, .since_s = hour_s - DEFAULT_S, .until_s = hour_s + LEDGER_HOUR_S}};
}

/* "2026-11-01", "2026-11-01T12:00:00Z", or "7d": so long ago. -1: none of them. */
static int64_t moment(const char *text, int64_t now_s)
{
	int64_t ago_us = config_duration(text), ms;
	char day[64];

	if (ago_us >= 0)
		return ago_us / 1000000 < now_s ? now_s - ago_us / 1000000 : 0;
	snprintf(day, sizeof(day), strlen(text) == 10 ? "%.10sT00:00:00Z" : "%.40s", text);
	ms = clock_parse(day);
	return ms < 0 ? -1 : ms / 1000;
}

static bool set_by(struct spend_question *q, const char *value, char why[SPEND_WHY])
{
	int i;

	for (i = 0; spend_bys[i] && strcmp(spend_bys[i], value) != 0; i++)
		;
	if (!spend_bys[i]) {
		snprintf(why, SPEND_WHY, "expected 'key', 'team', 'user', 'model', 'day' or 'hour', found '%.80s'",
			value);
		return false;
	}
	q->by = i;
	q->query.by = (enum ledger_by)i;
	return true;
}

/* Hours are the smallest that the ledger knows: one that has begun counts as a whole. */
static bool set_moment(int64_t *to, const char *value, int64_t round_up_s, int64_t now_s, char why[SPEND_WHY])
{
	int64_t at_s = moment(value, now_s);

	if (at_s < 0) {
		snprintf(why, SPEND_WHY,
			"expected a day such as '2026-11-01', a time such as '2026-11-01T12:00:00Z', or how long ago, "
			"such as '7d'; found '%.80s'",
			value);
		return false;
	}
	at_s += round_up_s;
	*to = at_s - at_s % LEDGER_HOUR_S;
	return true;
}

bool spend_set(struct spend_question *q, const char *name, const char *value, int64_t now_s, char why[SPEND_WHY])
{
	const struct {
		const char *name, **to;
	} filters[] = {
		{"key", &q->query.key}, {"team", &q->query.team}, {"user", &q->query.user}, {"model", &q->query.model}};
	size_t i;

	if (strcmp(name, "by") == 0)
		return set_by(q, value, why);
	if (strcmp(name, "since") == 0)
		return set_moment(&q->query.since_s, value, 0, now_s, why);
	if (strcmp(name, "until") == 0)
		return set_moment(&q->query.until_s, value, LEDGER_HOUR_S - 1, now_s, why);
	for (i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
		if (strcmp(filters[i].name, name) == 0) {
			*filters[i].to = value;
			return true;
		}
	snprintf(why, SPEND_WHY, "expected 'by', 'since', 'until', 'key', 'team', 'user' or 'model', found '%.80s'",
		name);
	return false;
}

void spend_add(struct ledger_amounts *sum, const struct ledger_amounts *a)
{
	sum->requests += a->requests;
	sum->calls += a->calls;
	sum->input_tokens += a->input_tokens;
	sum->cached_tokens += a->cached_tokens;
	sum->output_tokens += a->output_tokens;
	sum->tokens += a->tokens;
	sum->cost_pusd += a->cost_pusd;
	sum->saved_pusd += a->saved_pusd;
	sum->estimated += a->estimated;
}

struct answer {
	struct buf *out;
	const char *by;
	struct ledger_amounts total;
	size_t rows;
};

static void add_amounts(struct buf *out, const struct ledger_amounts *a)
{
	char cost[LOG_USD_TEXT], saved[LOG_USD_TEXT];

	log_usd_text(a->cost_pusd, cost);
	log_usd_text(a->saved_pusd, saved);
	buf_printf(out,
		"\"requests\":%lld,\"calls\":%lld,\"input_tokens\":%lld,\"cached_tokens\":%lld,\"output_tokens\":%lld,"
		"\"cost_usd\":%s,\"saved_usd\":%s,\"estimated_calls\":%lld}",
		(long long)a->requests, (long long)a->calls, (long long)a->input_tokens, (long long)a->cached_tokens,
		(long long)a->output_tokens, cost, saved, (long long)a->estimated);
}

static void on_row(void *ctx, const char *name, const struct ledger_amounts *a)
{
	struct answer *r = ctx;

	buf_printf(r->out, "%s{\"%s\":", r->rows++ ? "," : "", r->by);
	json_print_string(r->out, name, strlen(name));
	buf_addc(r->out, ',');
	add_amounts(r->out, a);
	spend_add(&r->total, a);
}

bool spend_json(const struct spend_question *q, const char *path, struct buf *out, char why[LEDGER_WHY])
{
	struct answer r = {.out = out, .by = spend_bys[q->by]};
	struct ledger *l = ledger_open_to_read(path, why);
	char since[CLOCK_TEXT], until[CLOCK_TEXT];
	bool good;

	if (!l)
		return false;
	clock_text(q->query.since_s * 1000, since);
	clock_text(q->query.until_s * 1000, until);
	buf_printf(out, "{\"object\":\"spend\",\"by\":\"%s\",\"since\":\"%s\",\"until\":\"%s\",\"data\":[", r.by, since,
		until);
	good = ledger_report(l, &q->query, on_row, &r);
	if (!good)
		snprintf(why, LEDGER_WHY, "%s", ledger_why(l));
	buf_adds(out, "],\"total\":{");
	add_amounts(out, &r.total);
	buf_adds(out, "}");
	ledger_close(l);
	return good;
}
