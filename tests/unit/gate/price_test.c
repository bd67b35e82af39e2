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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_cached),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
