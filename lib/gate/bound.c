/* Every price is taken at its dearest: what is cheaper in the end (cached input, an early stop) is given back. */
#include "gate/bound.h"

#include "gate/price.h"

#include <string.h>

static int64_t sum(int64_t a, int64_t b)
{
	int64_t result;

	return __builtin_add_overflow(a, b, &result) ? INT64_MAX : result;
}

static int64_t product(int64_t a, int64_t b)
{
	int64_t result;

	return __builtin_mul_overflow(a, b, &result) ? INT64_MAX : result;
}

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* ---- tokens ---- */

/* How much of the input is audio is known for its price. */
static int take_parts(
	struct bound *b, const struct model *model, const struct measure *m, int64_t *audio, struct err *err)
{
	static const char *const names[MEASURE_PARTS] = {"image", "audio", "file"};
	const int64_t tokens[MEASURE_PARTS] = {
		model->part_tokens.image, model->part_tokens.audio, model->part_tokens.file};
	int i;

	for (i = 0; i < MEASURE_PARTS; i++) {
		if (m->parts[i] && !tokens[i])
			return err_set(err, ERR_INVALID_VALUE, m->part_param[i],
				"Tokens or money are limited here, and nothing says how many tokens this part can be: "
				"models.%s.part_tokens.%s is not configured.",
				model->name, names[i]);
		b->tokens = sum(b->tokens, product(m->parts[i], tokens[i]));
	}
	*audio = product(m->parts[MEASURE_AUDIO], model->part_tokens.audio);
	return 0;
}

/* Whatever there is of each input: the provider takes no more. */
static int64_t contexts(const struct model *model, const struct measure *m)
{
	return product(model->context, larger(m->inputs, m->answers));
}

static int whole_context(
	struct bound *b, const struct model *model, const struct measure *m, const char *param, struct err *err)
{
	if (!model->context)
		return err_set(err, ERR_INVALID_VALUE, param,
			"Tokens or money are limited here, and nobody can say before the call what '%s' will take: it "
			"needs models.%s.context, which is not configured.",
			param, model->name);
	b->whole = true;
	b->tokens = contexts(model, m);
	return 0;
}

/* The least of what the client wants, and of what the model can. */
static int64_t output_of(const struct model *model, const struct measure *m)
{
	const int64_t caps[] = {m->cap, model->max_output, model->context};
	int64_t least = 0;
	size_t i;

	for (i = 0; i < sizeof(caps) / sizeof(caps[0]); i++)
		if (caps[i] > 0 && (least == 0 || caps[i] < least))
			least = caps[i];
	return least;
}

/* ---- money ---- */

/* The dearest that the request can be answered at: a tier is not always granted, and what looks like a large request
 * may turn out to be none. */
static bool dearest(const struct model *model, const struct measure *m, const struct bound *b, struct rates *rates)
{
	const struct rates *can_be[] = {
		price_rates(model, "", 0), price_rates(model, "", b->tokens), price_rates(model, m->tier, b->tokens)};
	int64_t *to = (int64_t *)rates;
	size_t i, k;

	*rates = *can_be[0];
	for (i = 1; i < sizeof(can_be) / sizeof(can_be[0]); i++)
		for (k = 0; can_be[i] && k < sizeof(*rates) / sizeof(*to); k++)
			to[k] = larger(to[k], ((const int64_t *)can_be[i])[k]);
	return can_be[2] != NULL;
}

static int no_price(const struct model *model, const char *param, const char *member, struct err *err)
{
	return err_set(err, ERR_INVALID_VALUE, param,
		"Money is limited here, and nothing says what this costs: models.%s.price.%s is not configured.",
		model->name, member);
}

static int take_price(
	struct bound *b, const struct model *model, const struct measure *m, int64_t audio, struct err *err)
{
	struct rates r;
	int64_t input;

	if (!dearest(model, m, b, &r))
		return no_price(model, "service_tier", m->tier, err);
	if (m->parts[MEASURE_AUDIO] && r.audio_input < 0)
		return no_price(model, m->part_param[MEASURE_AUDIO], "audio_input", err);
	if (m->speaks && r.audio_output < 0)
		return no_price(model, "modalities", "audio_output", err);
	input = larger(r.input, larger(r.cached_input, r.cache_write));
	b->output_pusd = m->speaks ? larger(r.output, r.audio_output) : r.output;
	if (b->whole)
		b->pusd = product(b->tokens, larger(larger(input, b->output_pusd), audio ? r.audio_input : 0));
	else
		b->pusd = sum(product(b->tokens, input), product(audio, larger(r.audio_input - input, 0)));
	return 0;
}

int bound_of(struct bound *b, const struct model *model, const struct measure *m, bool money, struct err *err)
{
	const char *unknown = *m->unmeasured ? m->unmeasured : money && *m->unpriced ? m->unpriced : "";
	int64_t audio = 0;

	*b = (struct bound){.tokens = m->text,
		.answers = m->answers,
		.output = output_of(model, m),
		.unpriced = money && *m->unpriced};
	if (take_parts(b, model, m, &audio, err) != 0)
		return -1;
	if (model->context && b->tokens > product(model->context, m->inputs))
		b->tokens = product(model->context, m->inputs);
	if (audio > b->tokens)
		audio = b->tokens;
	if (*unknown && whole_context(b, model, m, unknown, err) != 0)
		return -1;
	return money ? take_price(b, model, m, audio, err) : 0;
}

/* ---- both ---- */

static int64_t per_token(const struct bound *b, int count)
{
	return product(b->answers, count == COUNT_USD ? b->output_pusd : 1);
}

int64_t bound_sum(const struct bound *b, int count, int64_t cap)
{
	int64_t input = count == COUNT_USD ? b->pusd : b->tokens;

	return b->whole ? input : sum(input, product(per_token(b, count), cap));
}

int64_t bound_fit(const struct bound *b, int count, int64_t left)
{
	int64_t room = left - (count == COUNT_USD ? b->pusd : b->tokens), each = b->whole ? 0 : per_token(b, count);

	if (room < 0)
		return -1;
	return each ? room / each : INT64_MAX;
}

int64_t bound_least(const struct bound *b)
{
	return b->output && b->output < BOUND_OUTPUT_MIN ? b->output : BOUND_OUTPUT_MIN;
}
