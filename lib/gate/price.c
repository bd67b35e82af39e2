/* Cached input tokens are part of the input tokens, at a price of their own; so is audio, and what is to be remembered.
 */
#include "gate/price.h"

#include <string.h>

const struct rates *price_rates(const struct model *model, const char *tier, int64_t input_tokens)
{
	if (strcmp(tier, "priority") == 0)
		return model->priority.input < 0 ? NULL : &model->priority;
	if (strcmp(tier, "flex") == 0 && model->flex.input >= 0)
		return &model->flex;
	return model->large_above && input_tokens > model->large_above ? &model->large : &model->price;
}

/* Takes up to `count` of what is left, and adds its price; false: it has none, or nobody's figure is so large. */
static bool add(int64_t *sum, int64_t *left, int64_t count, int64_t rate)
{
	int64_t price;

	if (count <= 0)
		return true;
	if (count > *left) /* a provider's slip costs nobody more than all of it */
		count = *left;
	*left -= count;
	return rate >= 0 && !__builtin_mul_overflow(count, rate, &price) && !__builtin_add_overflow(*sum, price, sum);
}

int64_t price_of(const struct model *model, const struct answer_facts *f)
{
	const struct rates *rates = price_rates(model, f->tier, f->input_tokens);
	int64_t input = f->input_tokens, output = f->output_tokens, sum = 0;

	if (!rates || input < 0 || output < 0 || rates->input < 0)
		return -1;
	return add(&sum, &input, f->cached_tokens, rates->cached_input) &&
			       add(&sum, &input, f->cache_write_tokens, rates->cache_write) &&
			       add(&sum, &input, f->audio_input_tokens, rates->audio_input) &&
			       add(&sum, &input, input, rates->input) &&
			       add(&sum, &output, f->audio_output_tokens, rates->audio_output) &&
			       add(&sum, &output, output, rates->output)
		       ? sum
		       : -1;
}
