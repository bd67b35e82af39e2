/* Whatever a provider does not say is taken to be as much as it can have been, and marked. */
#include "gate/settle.h"

#include "gate/admit.h"
#include "gate/budget.h"
#include "gate/price.h"

#include <string.h>

enum { MANY = 1000000000 }; /* tokens, more than any call can have */

static void close_with(struct txn *t, int64_t tokens, int64_t pusd)
{
	t->admission->open = false;
	store_again(t->worker->store); /* the call may have lasted */
	budget_settle(t, tokens, pusd);
}

/* Money may be unlimited, and so unpriced. */
static void take_cost(struct txn *t, int64_t pusd, bool estimated)
{
	t->cost_pusd = t->model->price.input < 0 ? -1 : pusd;
	t->cost_estimated = estimated && t->cost_pusd >= 0;
}

static int64_t less(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Completes what the provider says of what it used. False: it can only be all that was set aside. */
static bool complete(const struct txn *t, const struct heard *heard, struct answer_facts *f)
{
	const struct admission *a = t->admission;
	int64_t output = a->cap ? a->tokens - a->bound.tokens : INT64_MAX; /* that it may have made */

	if (heard->whole && f->input_tokens >= 0 && f->output_tokens >= 0)
		return true;
	if (a->bound.whole || t->model->reasoning || heard->reasoned)
		return false;
	if (f->input_tokens < 0)
		f->input_tokens = a->bound.tokens;
	if (!heard->whole || f->output_tokens < 0) /* a count on the way may come before what it counts */
		f->output_tokens = less(heard->tokens > f->output_tokens ? heard->tokens : f->output_tokens, output);
	return true;
}

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* No budget has asked for the request's bound before the call; heard: tokens of the answer, -1 = it may be all. */
static void estimate(struct txn *t, int64_t heard)
{
	struct answer_facts f = t->facts;
	struct measure m;
	struct bound b;

	if (t->model->price.input < 0)
		return;
	t->endpoint->operation->measure(&m, t->body);
	if (bound_of(&b, t->model, &m, false, &(struct err){0}) != 0)
		b = (struct bound){.tokens = m.text};
	f.input_tokens = larger(f.input_tokens, b.tokens);
	f.output_tokens = larger(f.output_tokens, heard);
	if (heard < 0 && b.answers)
		f.output_tokens = less(less(b.output, MANY) * less(b.answers, MANY), MANY);
	take_cost(t, price_of(t->model, &f), true);
}

static bool settled(const struct txn *t)
{
	return t->admission ? !t->admission->open : t->cost_pusd >= 0;
}

void settle_answer(struct txn *t, const struct heard *heard)
{
	struct answer_facts f = t->facts;
	bool said = heard->whole && f.input_tokens >= 0 && f.output_tokens >= 0;
	int64_t pusd;

	if (settled(t))
		return;
	if (!t->admission) {
		if (said)
			take_cost(t, price_of(t->model, &f), false);
		else
			estimate(t, heard->tokens);
		return;
	}
	if (!complete(t, heard, &f)) {
		settle_unknown(t);
		return;
	}
	pusd = price_of(t->model, &f);
	if (t->admission->bound.unpriced || (pusd < 0 && t->model->price.input >= 0)) { /* usage is not all */
		pusd = pusd > t->admission->pusd ? pusd : t->admission->pusd;
		said = false;
	}
	take_cost(t, pusd, !said);
	close_with(t, f.input_tokens + f.output_tokens, pusd > 0 ? pusd : 0);
}

void settle_refused(struct txn *t)
{
	if (settled(t))
		return;
	take_cost(t, 0, false);
	if (t->admission)
		close_with(t, 0, 0);
}

void settle_unknown(struct txn *t)
{
	struct admission *a = t->admission;

	if (settled(t) || (!a && !t->called))
		return;
	if (!a) {
		estimate(t, -1);
		return;
	}
	take_cost(t, a->pusd, true);
	if (a->pusd == 0 && a->tokens > 0) /* only tokens are limited */
		estimate(t, -1);
	close_with(t, a->tokens, t->cost_pusd > 0 ? t->cost_pusd : a->pusd);
}
