/*
 * A budget is spent when not even the shortest answer fits beside what is settled. Until then what stands in the way is
 * reserved by others, who will give most of it back: then the client may well try again, and so do we, twice.
 */
#include "gate/admit.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "gate/answer.h"
#include "gate/budget.h"
#include "gate/coalesce.h"
#include "gate/limit.h"
#include "gate/slots.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	TRIES = 3,
	JITTER_US = 6000,   /* between two of them, at most */
	RECENT_US = 100000, /* so long what was seen when the request came in is good */
	PENDING_RETRY_MS = 1000,
	SHORT_US = 120000000 /* the official clients wait so long */
};

/* What a call is taken to have cost at most when nobody knows, where only limits count it that do not enforce:
 * $10,000. Sums of it must not overflow. */
static const int64_t CALL_MAX = 10000000000000000;

static int64_t less(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* ---- what there is to count ---- */

static bool counts(const struct txn *t, bool enforced, int count)
{
	size_t i;

	for (i = 0; i < t->limit_count; i++)
		if (t->limits[i].limit->count == count && (!enforced || t->limits[i].limit->enforce))
			return true;
	return false;
}

/* -1: nobody knows, and the limit lets pass what it cannot count, or will refuse it when it is asked. */
static int64_t left_of(struct txn *t, struct limit_use *use)
{
	int64_t used = use->used;

	if (used < 0 && use->limit->on_store_down == STORE_DOWN_LOCAL) {
		used = limit_count_locally(t, use, 0);
		use->settled = limit_settle_locally(t, use, 0);
	}
	return used < 0 ? -1 : used < use->limit->amount ? use->limit->amount - used : 0;
}

/* ---- how long the answers may be ---- */

/* False: not even the shortest fit, because of *by. */
static bool plan(struct txn *t, struct admission *a, const struct limit_use **by)
{
	const struct bound *b = &a->bound;
	int64_t least = bound_least(b), cap = b->output ? b->output : INT64_MAX, left, fit;
	size_t i;

	for (i = 0; i < t->limit_count; i++) {
		*by = &t->limits[i];
		left = budget_counts((*by)->limit) && (*by)->limit->enforce ? left_of(t, &t->limits[i]) : -1;
		if (left < 0)
			continue;
		fit = bound_fit(b, (*by)->limit->count, left);
		if (fit < least)
			return false;
		cap = fit < cap ? fit : cap;
	}
	a->cap = cap;
	return true;
}

/* A limit that does not enforce is told of a call that it would have allowed: of answers that fit. */
static int64_t share_of(struct txn *t, const struct admission *a, struct limit_use *use, int64_t cap)
{
	int64_t all = bound_sum(&a->bound, use->limit->count, cap), least, left = left_of(t, use);

	if (use->limit->enforce || left < 0)
		return all;
	least = bound_sum(&a->bound, use->limit->count, bound_least(&a->bound));
	return all <= left ? all : left > least ? left : least;
}

static enum budget_verdict reserve(struct txn *t, struct admission *a, const struct limit_use **by)
{
	int64_t cap = a->cap == INT64_MAX ? bound_least(&a->bound) : a->cap; /* of what costs nothing, however long */
	size_t i;

	a->tokens = less(bound_sum(&a->bound, COUNT_TOKENS, cap), CALL_MAX);
	a->pusd = less(bound_sum(&a->bound, COUNT_USD, cap), CALL_MAX);
	for (i = 0; i < t->limit_count; i++)
		if (budget_counts(t->limits[i].limit))
			t->limits[i].reserved = share_of(t, a, &t->limits[i], cap);
	return budget_reserve(t, by);
}

/* ---- refusals ---- */

static void amount_text(const struct limit *l, int64_t amount, char *out, size_t room)
{
	char usd[LOG_USD_TEXT];

	if (l->count == COUNT_USD) {
		log_usd_text(amount, usd);
		snprintf(out, room, "$%s", usd);
	} else {
		snprintf(out, room, "%lld tokens", (long long)amount);
	}
}

/* The shortest answer does not fit beside what is spent; in an empty window it may not, either. */
static bool spent(const struct admission *a, const struct limit_use *use)
{
	int64_t least = bound_sum(&a->bound, use->limit->count, bound_least(&a->bound));

	return use->settled >= 0 && (use->settled >= use->limit->amount || least > use->limit->amount - use->settled);
}

/* One that is spent counts for more than one that is in use. */
static const struct limit_use *first_spent(const struct txn *t, const struct admission *a)
{
	size_t i;

	for (i = 0; i < t->limit_count; i++)
		if (budget_counts(t->limits[i].limit) && t->limits[i].limit->enforce && spent(a, &t->limits[i]))
			return &t->limits[i];
	return NULL;
}

/* Tokens in a minute are a rate, as providers have it: who waits for as long as it is told may go on. */
static bool comes_again(const struct limit *l, int64_t left_ms)
{
	return l->count == COUNT_TOKENS && l->window != LIMIT_MONTH && l->window <= SHORT_US &&
	       left_ms <= SHORT_US / 1000;
}

static enum verdict refuse_spent(struct txn *t, const struct admission *a, const struct limit_use *use)
{
	const struct limit *l = use->limit;
	int64_t least = bound_sum(&a->bound, l->count, bound_least(&a->bound));
	int64_t left = use->end_ms - clock_real_ms();
	char amount[64], needed[64], used[64], reset[32], end[CLOCK_TEXT];

	amount_text(l, l->amount, amount, sizeof(amount));
	amount_text(l, least, needed, sizeof(needed));
	amount_text(l, use->settled, used, sizeof(used));
	if (least > l->amount)
		return txn_fail(t, ERR_QUOTA, NULL,
			"This request can take up to %s, which is more than the budget '%s' allows at all: %s.", needed,
			l->name, amount);
	t->retry_after_ms = left > 1 ? left : 1;
	answer_reset_text(t->retry_after_ms, reset, sizeof(reset));
	clock_text(use->end_ms, end);
	return txn_fail(t, comes_again(l, left) ? ERR_RATE_LIMIT : ERR_QUOTA, NULL,
		"The budget '%s' is spent: %s of %s, and this request can take up to %s. It begins anew in %s, at %s.",
		l->name, used, amount, needed, reset, end);
}

static enum verdict refuse(struct txn *t, const struct admission *a, const struct limit_use *by)
{
	t->refused_by = first_spent(t, a);
	if (t->refused_by)
		return refuse_spent(t, a, t->refused_by);
	t->refused_by = by;
	t->retry_after_ms = PENDING_RETRY_MS;
	return txn_fail(t, ERR_RATE_LIMIT, NULL,
		"What is left of the budget '%s' is held by requests that are being answered at this moment. Try again "
		"soon.",
		by->limit->name);
}

/* ---- the reservation ---- */

static void wait_a_little(void)
{
	uint32_t random;

	hash_random(&random, sizeof(random));
	nanosleep(&(struct timespec){.tv_nsec = 1000L * (1000 + (long)(random % JITTER_US))}, NULL);
}

static enum verdict take(struct txn *t, struct admission *a)
{
	const struct limit_use *by = NULL;
	enum budget_verdict verdict = BUDGET_OVER;
	int i;

	for (i = 0; i < TRIES && verdict == BUDGET_OVER && !first_spent(t, a); i++) {
		if (i) {
			wait_a_little();
			budget_look(t);
		}
		if (plan(t, a, &by))
			verdict = reserve(t, a, &by);
	}
	if (verdict == BUDGET_TAKEN)
		return NEXT;
	return verdict == BUDGET_UNKNOWN ? limit_store_down(t, by) : refuse(t, a, by);
}

static const char *cap_field(const struct txn *t, const struct measure *m)
{
	static const char *const names[] = {
		[CAP_MAX_COMPLETION_TOKENS] = "max_completion_tokens", [CAP_MAX_TOKENS] = "max_tokens"};
	static const char openai[] = "https://api.openai.com/";
	bool chat = t->endpoint->operation->form == &stream_chat;

	if (!chat)
		return names[CAP_MAX_TOKENS];
	if (t->model->cap_field >= 0)
		return names[t->model->cap_field];
	if (m->cap_name)
		return m->cap_name;
	return names[strncmp(t->model->provider->base_url, openai, strlen(openai)) == 0 ? CAP_MAX_COMPLETION_TOKENS
											: CAP_MAX_TOKENS];
}

/* What the provider is told, and what that means for an answer that others would share. */
static void settle_cap(struct txn *t, struct admission *a, const struct measure *m, bool enforced)
{
	bool wanted = a->bound.output && a->cap >= a->bound.output;

	if (!enforced || a->bound.whole || a->bound.answers == 0 || a->cap == INT64_MAX) {
		a->cap = 0;
		return;
	}
	a->cap_field = cap_field(t, m);
	a->shortened = m->cap == 0 || a->cap < m->cap;
	if (!wanted) /* no one else is to have it shorter because of our budget */
		lead_leave(t);
}

/* Of all that do not enforce. */
static void would_refuse(struct txn *t, int count)
{
	size_t i;

	for (i = 0; i < t->limit_count; i++)
		t->limits[i].would_refuse |= t->limits[i].limit->count == count && !t->limits[i].limit->enforce;
}

/* A limit that does not enforce refuses nobody: what it has no bound for it counts when it is over. */
static enum verdict find_bound(struct txn *t, struct admission *a, const struct measure *m)
{
	static const int kinds[] = {COUNT_USD, COUNT_TOKENS};
	bool money = counts(t, false, COUNT_USD);
	size_t i;

	for (i = money ? 0 : 1; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (bound_of(&a->bound, t->model, m, kinds[i] == COUNT_USD, &t->err) == 0)
			break;
		if (counts(t, true, kinds[i]))
			return FAILED;
		would_refuse(t, kinds[i]);
	}
	t->err = (struct err){.code = ERR_NONE};
	return NEXT;
}

/* Who has followed somebody in vain may have done so for longer than others hold anything, or than a window lasts. */
static void look_if_late(struct txn *t)
{
	int64_t now = clock_real_ms();
	size_t i;

	if (clock_mono_us() - t->started_us < RECENT_US)
		return;
	for (i = 0; i < t->limit_count; i++)
		if (budget_counts(t->limits[i].limit))
			limit_use(t, t->limits[i].limit, now, &t->limits[i]);
	budget_look(t);
}

enum verdict stage_admit(struct txn *t)
{
	bool enforced = counts(t, true, COUNT_TOKENS) || counts(t, true, COUNT_USD);
	struct admission *a;
	struct measure m;

	if (!counts(t, false, COUNT_TOKENS) && !counts(t, false, COUNT_USD))
		return NEXT;
	a = arena_alloc(t->arena, sizeof(*a));
	t->endpoint->operation->measure(&m, t->body);
	look_if_late(t);
	if (find_bound(t, a, &m) != NEXT || take(t, a) != NEXT) {
		slots_release(t);
		lead_leave(t); /* it is this client's refusal, and not that of those who follow */
		return FAILED;
	}
	settle_cap(t, a, &m, enforced);
	a->open = true;
	t->admission = a;
	return NEXT;
}
