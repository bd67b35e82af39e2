/* Whatever is a request can be measured and bounded; what a bound says fits does fit, and no answer weighs less than
 * nothing. */
#include "gate/bound.h"
#include "wire/chat.h"
#include "wire/embeddings.h"
#include "wire/measure.h"

#include <limits.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct rates prices = {150000, 75000, 300000, 600000, 10000000, 20000000};

static void check_bound(const struct measure *m, const struct model *model)
{
	const int64_t budgets[] = {0, 1, 1000, 5000000000000, INT64_MAX};
	struct bound b;
	struct err e = {0};
	int64_t fit;
	size_t i;
	int count;

	if (bound_of(&b, model, m, true, &e) != 0) {
		BUG_ON(e.code != ERR_INVALID_VALUE || !e.message[0]);
		return;
	}
	BUG_ON(b.tokens <= 0 || b.pusd <= 0 || b.answers < 0 || bound_least(&b) < 1);
	for (i = 0; i < sizeof(budgets) / sizeof(budgets[0]); i++)
		for (count = COUNT_TOKENS; count <= COUNT_USD; count++) {
			fit = bound_fit(&b, count, budgets[i]);
			BUG_ON(fit >= 0 && fit < INT64_MAX && bound_sum(&b, count, fit) > budgets[i]);
			BUG_ON(fit < 0 && bound_sum(&b, count, 0) <= budgets[i]);
		}
}

static void check(const struct measure *m, bool has_output)
{
	const struct model narrow = {.name = "narrow",
				   .price = prices,
				   .priority = {-1, -1, -1, -1, -1, -1},
				   .flex = {-1, -1, -1, -1, -1, -1},
				   .large = {-1, -1, -1, -1, -1, -1}},
			   wide = {.name = "wide",
				   .context = 128000,
				   .max_output = 4096,
				   .part_tokens = {1500, 5000, 20000},
				   .price = prices,
				   .priority = prices,
				   .flex = prices,
				   .large = prices,
				   .large_above = 1000};

	BUG_ON(m->text <= 0 || m->cap < 0 || (m->answers > 0) != has_output);
	check_bound(m, &narrow);
	check_bound(m, &wide);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static int (*const reads[])(struct chat *, struct json_object *, struct err *) = {
		chat_read, completion_read, embeddings_read};
	static void (*const measures[])(struct measure *, struct json_object *) = {
		measure_chat, measure_completion, measure_embeddings};
	struct err e = {0};
	struct json_object *body = json_parse((const char *)bytes, len, &e);
	struct measure m;
	struct chat chat;
	bool reasoned = false;
	size_t i;

	for (i = 0; body && i < sizeof(reads) / sizeof(reads[0]); i++) {
		e = (struct err){0};
		if (reads[i](&chat, body, &e) != 0)
			continue;
		measures[i](&m, body);
		check(&m, measures[i] != measure_embeddings);
	}
	BUG_ON(body && measure_answer(body, &reasoned) < 0);
	json_release(body);
	return 0;
}
