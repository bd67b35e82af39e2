/* No call that a bound allows can take more than it, and what has no bound is refused by name. */
#include "../unit.h"

#include "gate/bound.h"
#include "gate/price.h"

#define NO_RATES ((struct rates){-1, -1, -1, -1, -1, -1})

static struct model model_of(int64_t context, int64_t max_output)
{
	return (struct model){.name = "m",
		.context = context,
		.max_output = max_output,
		.price = {1000, 500, 1000, 4000, -1, -1},
		.priority = NO_RATES,
		.flex = NO_RATES,
		.large = NO_RATES};
}

static struct bound bound(const struct model *model, struct measure m)
{
	struct err err = {0};
	struct bound b;

	m.inputs = m.inputs ? m.inputs : 1;
	if (bound_of(&b, model, &m, true, &err) != 0)
		fail_msg("%s: %s", err.param, err.message);
	return b;
}

static void refused(const struct model *model, struct measure m, const char *param, const char *what)
{
	struct err err = {0};
	struct bound b;

	assert_int_equal(bound_of(&b, model, &m, true, &err), -1);
	assert_int_equal(err_kind(err.code)->status, 400);
	assert_string_equal(err.param, param);
	check_contains(err.message, what);
}

static void test_sum(void **state)
{
	struct model m = model_of(100000, 5000);
	struct bound b = bound(&m, (struct measure){.text = 300, .answers = 3, .cap = 200});

	(void)state;
	assert_int_equal(b.output, 200);
	assert_int_equal(bound_sum(&b, COUNT_TOKENS, 200), 300 + 3 * 200);
	assert_int_equal(bound_sum(&b, COUNT_USD, 200), 300 * 1000 + 3 * 200 * 4000);
	/* the longest that so much pays for, and not one token more */
	assert_int_equal(bound_fit(&b, COUNT_TOKENS, 300 + 3 * 70 + 2), 70);
	assert_int_equal(bound_fit(&b, COUNT_USD, 300 * 1000 + 3 * 4000 * 70 + 11999), 70);
	assert_int_equal(bound_fit(&b, COUNT_TOKENS, 300), 0);
	assert_int_equal(bound_fit(&b, COUNT_TOKENS, 299), -1);
}

static void test_the_least_of_caps(void **state)
{
	struct model m = model_of(100000, 5000), endless = model_of(0, 0), small = model_of(1000, 5000);

	(void)state;
	assert_int_equal(bound(&m, (struct measure){.answers = 1, .cap = 200}).output, 200);
	assert_int_equal(bound(&m, (struct measure){.answers = 1, .cap = 9000}).output, 5000);
	assert_int_equal(bound(&m, (struct measure){.answers = 1}).output, 5000);
	assert_int_equal(bound(&small, (struct measure){.answers = 1}).output, 1000);
	assert_int_equal(bound(&endless, (struct measure){.answers = 1}).output, 0);
	assert_int_equal(bound(&small, (struct measure){.text = 1 << 30, .answers = 1}).tokens, 1000);
	assert_int_equal(bound(&small, (struct measure){.text = 1 << 30, .inputs = 20}).tokens, 20000); /* each */
}

static void test_floor(void **state)
{
	struct model m = model_of(0, 5000);
	struct bound b = bound(&m, (struct measure){.answers = 1, .cap = 5});

	(void)state;
	assert_int_equal(bound_least(&b), 5); /* the client's own */
	b = bound(&m, (struct measure){.answers = 1, .cap = 500});
	assert_int_equal(bound_least(&b), 16);
	b = bound(&m, (struct measure){.answers = 1});
	assert_int_equal(bound_least(&b), 16);
}

static void test_parts(void **state)
{
	struct model m = model_of(0, 100);
	struct measure image = {.answers = 1, .parts = {3, 0, 0}, .part_param = {"messages[0].content[1]"}};
	struct measure audio = {.answers = 1, .parts = {0, 2, 0}, .part_param = {"", "messages[4].audio"}};
	struct measure file = {.answers = 1, .parts = {0, 0, 1}, .part_param = {"", "", "messages[0].content[0]"}};

	(void)state;
	refused(&m, image, "messages[0].content[1]", "models.m.part_tokens.image");
	refused(&m, audio, "messages[4].audio", "models.m.part_tokens.audio");
	refused(&m, file, "messages[0].content[0]", "models.m.part_tokens.file");
	m.part_tokens.image = 1500;
	assert_int_equal(bound(&m, image).tokens, 4500);
	assert_int_equal(bound(&m, image).pusd, 4500000);
	m.part_tokens.file = 50000;
	assert_int_equal(bound(&m, file).tokens, 50000);
	m.part_tokens.audio = 100;
	refused(&m, audio, "messages[4].audio", "models.m.price.audio_input");
	m.price.audio_input = 32000;
	assert_int_equal(bound(&m, audio).tokens, 200);
	assert_int_equal(bound(&m, audio).pusd, 200 * 32000);
}

static void test_speech(void **state)
{
	struct model m = model_of(0, 100);
	struct measure speech = {.answers = 1, .speaks = true};
	struct bound b;

	(void)state;
	refused(&m, speech, "modalities", "models.m.price.audio_output");
	m.price.audio_output = 64000;
	b = bound(&m, speech);
	assert_int_equal(bound_sum(&b, COUNT_USD, 100), 6400000);
}

static void test_whole_context(void **state)
{
	struct model m = model_of(0, 100);
	struct measure prediction = {.text = 10, .answers = 1, .unmeasured = "prediction"};
	struct measure search = {
		.text = 10, .answers = 2, .unmeasured = "web_search_options", .unpriced = "web_search_options"};
	struct measure tier = {.text = 10, .answers = 1, .unpriced = "service_tier"};
	struct bound b;

	(void)state;
	refused(&m, prediction, "prediction", "models.m.context");
	refused(&m, search, "web_search_options", "models.m.context");
	refused(&m, tier, "service_tier", "models.m.context");
	m.context = 8000;
	b = bound(&m, prediction);
	assert_true(b.whole && !b.unpriced);
	assert_int_equal(bound_sum(&b, COUNT_TOKENS, 100), 8000);
	assert_int_equal(bound_sum(&b, COUNT_USD, 100), 8000 * 4000);
	assert_int_equal(bound_fit(&b, COUNT_TOKENS, 8000), INT64_MAX);
	assert_int_equal(bound_fit(&b, COUNT_TOKENS, 7999), -1);
	b = bound(&m, search);
	assert_true(b.whole && b.unpriced);
	assert_int_equal(bound_sum(&b, COUNT_TOKENS, 0), 16000);
	b = bound(&m, tier);
	assert_true(b.whole && b.unpriced);
}

/* A tier matters to money alone. */
static void test_without_money(void **state)
{
	struct model m = model_of(0, 100);
	struct measure tier = {
		.text = 10, .answers = 1, .unpriced = "service_tier", .tier = "priority", .speaks = true};
	struct err err = {0};
	struct bound b;

	(void)state;
	m.price = NO_RATES;
	assert_int_equal(bound_of(&b, &m, &tier, false, &err), 0);
	assert_false(b.whole || b.unpriced);
	assert_int_equal(bound_sum(&b, COUNT_TOKENS, 100), 110);
}

static void test_prices(void **state)
{
	struct model m = model_of(0, 100);
	struct measure plain = {.text = 100, .answers = 1};
	struct bound b;

	(void)state;
	m.price.cache_write = 1250; /* what is written to the provider's cache is dearer */
	assert_int_equal(bound(&m, plain).pusd, 125000);
	m.large = (struct rates){2000, 1000, 2500, 6000, -1, -1};
	m.large_above = 99;
	b = bound(&m, plain);
	assert_int_equal(bound_sum(&b, COUNT_USD, 1), 250000 + 6000);
	m.large_above = 100; /* not more than so many */
	assert_int_equal(bound(&m, plain).pusd, 125000);
	strcpy(plain.tier, "priority");
	refused(&m, plain, "service_tier", "models.m.price.priority");
	m.priority = (struct rates){3000, 300, 3000, 9000, -1, -1};
	b = bound(&m, plain);
	assert_int_equal(bound_sum(&b, COUNT_USD, 1), 300000 + 9000);
	strcpy(plain.tier, "flex"); /* it may be answered at the usual price */
	m.flex = (struct rates){1, 1, 1, 1, -1, -1};
	assert_int_equal(bound(&m, plain).pusd, 125000);
}

static void test_too_large(void **state)
{
	struct model m = model_of(0, 0);
	struct bound b = bound(&m, (struct measure){.text = 1000, .answers = 1000000});

	(void)state;
	assert_int_equal(bound_sum(&b, COUNT_TOKENS, INT64_MAX / 2), INT64_MAX);
	assert_int_equal(bound_sum(&b, COUNT_USD, INT64_MAX / 4000), INT64_MAX);
	m.part_tokens.image = 1 << 30;
	b = bound(&m, (struct measure){.text = 1000, .answers = 1, .parts = {INT64_MAX / 2, 0, 0}});
	assert_int_equal(b.pusd, INT64_MAX);
	assert_int_equal(bound_fit(&b, COUNT_USD, 5000000000000), -1);
}

/* Whatever the provider bills within the tokens that were reserved, and however it calls them: it is not more money. */
static void test_no_bill_is_larger(void **state)
{
	static const char *const tiers[] = {"", "default", "priority", "flex"};
	uint64_t seed = 4711;
	int i;

	(void)state;
	for (i = 0; i < 20000; i++) {
		struct model m = model_of(chance_below(&seed, 2) ? 5000 : 0, 1 + (int64_t)chance_below(&seed, 2000));
		struct measure ask = {
			.text = 1 + (int64_t)chance_below(&seed, 6000), .answers = 1 + (int64_t)chance_below(&seed, 4)};
		struct answer_facts f = {0};
		struct bound b;

		m.priority = (struct rates){2000, 100, 2500, 9000, -1, -1};
		m.flex = (struct rates){500, 50, 500, 2000, -1, -1};
		m.large = (struct rates){3000, 100, 3500, 12000, -1, -1};
		m.large_above = 2000;
		m.price.cache_write = 1250;
		strcpy(ask.tier, tiers[chance_below(&seed, COUNT(tiers))]);
		strcpy(f.tier, strcmp(ask.tier, "flex") == 0 && chance_below(&seed, 2) ? "default" : ask.tier);
		b = bound(&m, ask);
		f.input_tokens = (int64_t)chance_below(&seed, (size_t)b.tokens + 1);
		f.cached_tokens = (int64_t)chance_below(&seed, (size_t)f.input_tokens + 1);
		f.cache_write_tokens = (int64_t)chance_below(&seed, (size_t)f.input_tokens + 1);
		f.output_tokens = (int64_t)chance_below(&seed, (size_t)(b.answers * b.output) + 1);
		assert_in_range(price_of(&m, &f), 0, bound_sum(&b, COUNT_USD, b.output));
		assert_in_range(f.input_tokens + f.output_tokens, 0, bound_sum(&b, COUNT_TOKENS, b.output));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_the_least_of_caps),
		cmocka_unit_test(test_floor),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_speech),
		cmocka_unit_test(test_whole_context),
		cmocka_unit_test(test_without_money),
		cmocka_unit_test(test_prices),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_no_bill_is_larger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
