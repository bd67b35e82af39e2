/* Cached input tokens are part of the input tokens, at a price of their own. */
#include "gate/price.h"

int64_t price_of(const struct model *model, const struct answer_facts *f)
{
	int64_t cached = f->cached_tokens > 0 ? f->cached_tokens : 0, input, a, b, c, sum;

	if (model->price.input < 0 || f->input_tokens < 0 || f->output_tokens < 0)
		return -1;
	if (cached > f->input_tokens)
		cached = f->input_tokens;
	input = f->input_tokens - cached;
	if (__builtin_mul_overflow(input, model->price.input, &a) ||
		__builtin_mul_overflow(cached, model->price.cached_input, &b) ||
		__builtin_mul_overflow(f->output_tokens, model->price.output, &c) ||
		__builtin_add_overflow(a, b, &sum) || __builtin_add_overflow(sum, c, &sum))
		return -1; /* no provider's honest figure */
	return sum;
}
