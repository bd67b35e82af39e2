/* Money is exact to the picodollar, or unknown; never nearly right. */
#include "../unit.h"

#include "gate/price.h"

#define MODEL(in, cached, out) ((struct model){.price = {.input = (in), .cached_input = (cached), .output = (out)}})
#define FACTS(in, cached, out) \
	((struct answer_facts){.input_tokens = (in), .cached_tokens = (cached), .output_tokens = (out)})

static void check(struct model model, struct answer_facts facts, int64_t expected)
{
	assert_true(price_of(&model, &facts) == expected);
}

static void test_exact(void **state)
{
	(void)state;
	/* gpt-4o-mini: 0.15, 0.075 and 0.60 dollars a million tokens */
	check(MODEL(150000, 75000, 600000), FACTS(1000000, 0, 1000000), 750000000000);
	check(MODEL(150000, 75000, 600000), FACTS(1, 0, 0), 150000);
	check(MODEL(150000, 75000, 600000), FACTS(0, 0, 1), 600000);
	check(MODEL(150000, 75000, 600000), FACTS(0, 0, 0), 0);
	check(MODEL(0, 0, 0), FACTS(5, 0, 7), 0);
	check(MODEL(1, 1, 1), FACTS(123456789, 0, 1), 123456790);
}

static void test_cached(void **state)
{
	(void)state;
	/* cached tokens are part of the input, at a price of their own */
	check(MODEL(150000, 75000, 600000), FACTS(1000, 400, 10), 600 * 150000 + 400 * 75000 + 10 * 600000);
	check(MODEL(150000, 75000, 600000), FACTS(1000, 1000, 0), 1000 * 75000);
	check(MODEL(150000, 0, 600000), FACTS(1000, 1000, 0), 0);
	check(MODEL(150000, 75000, 600000), FACTS(1000, -1, 0), 1000 * 150000);
	/* more of them than there are of all: a provider's slip costs nobody more than all of it */
	check(MODEL(150000, 75000, 600000), FACTS(1000, 5000, 0), 1000 * 75000);
}

static void test_unknown(void **state)
{
	(void)state;
	check(MODEL(-1, -1, -1), FACTS(1, 0, 1), -1);
	check(MODEL(1, 1, 1), FACTS(-1, 0, 1), -1);
	check(MODEL(1, 1, 1), FACTS(1, 0, -1), -1);
	check(MODEL(1, 1, 1), FACTS(-1, -1, -1), -1);
}

static void test_overflow(void **state)
{
	(void)state;
	check(MODEL(1, 1, 1), FACTS(INT64_MAX, 0, 0), INT64_MAX);
	check(MODEL(1, 1, 1), FACTS(INT64_MAX, 0, 1), -1);
	check(MODEL(2, 1, 1), FACTS(INT64_MAX, 0, 0), -1);
	check(MODEL(1, 2, 1), FACTS(INT64_MAX, INT64_MAX, 0), -1);
	check(MODEL(1, 1, 600000), FACTS(0, 0, INT64_MAX), -1);
	check(MODEL(1, 1, 1), FACTS(INT64_MAX - 1, 0, 1), INT64_MAX);
}

static void test_what_else_there_is(void **state)
{
	const struct rates rates = {100, 10, 125, 200, 1000, 2000};
	struct model m = {.price = rates};
	struct answer_facts f = {.input_tokens = 100,
		.output_tokens = 50,
		.cached_tokens = 20,
		.cache_write_tokens = 30,
		.audio_input_tokens = 10,
		.audio_output_tokens = 40};

	(void)state;
	check(m, f, 20 * 10 + 30 * 125 + 10 * 1000 + 40 * 100 + 40 * 2000 + 10 * 200);
	m.price.audio_output = -1;
	check(m, f, -1);
	f.audio_output_tokens = 0;
	check(m, f, 20 * 10 + 30 * 125 + 10 * 1000 + 40 * 100 + 50 * 200);
	m.price.audio_input = -1;
	check(m, f, -1);
}

static void test_tiers(void **state)
{
	struct model m = {.price = {1, 1, 1, 2, -1, -1},
		.priority = {10, 10, 10, 20, -1, -1},
		.flex = {-1, -1, -1, -1, -1, -1},
		.large = {100, 100, 100, 200, -1, -1},
		.large_above = 1000};
	struct answer_facts f = {.input_tokens = 1000, .output_tokens = 1};

	(void)state;
	check(m, f, 1002);
	strcpy(f.tier, "default");
	check(m, f, 1002);
	strcpy(f.tier, "priority");
	check(m, f, 10020);
	m.priority.input = -1;
	check(m, f, -1); /* dearer than anything that we know */
	strcpy(f.tier, "flex");
	check(m, f, 1002); /* cheaper, if anything */
	m.flex = (struct rates){0, 0, 0, 1, -1, -1};
	check(m, f, 1);
	f = FACTS(1001, 0, 1);
	check(m, f, 100300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_cached),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_what_else_there_is),
		cmocka_unit_test(test_tiers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
