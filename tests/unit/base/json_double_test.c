/* How a double is spelled: the shortest that reads back, laid out as ECMAScript does. */
#include "../unit.h"

#include <math.h>

/* RFC 8785, appendix B, and the borders between ECMAScript's layouts. */
static const struct {
	uint64_t bits;
	const char *printed;
} doubles[] = {
	{0x0000000000000000, "0"},
	{0x8000000000000000, "0"},
	{0x0000000000000001, "5e-324"},
	{0x8000000000000001, "-5e-324"},
	{0x7fefffffffffffff, "1.7976931348623157e+308"},
	{0xffefffffffffffff, "-1.7976931348623157e+308"},
	{0x4340000000000000, "9007199254740992"},
	{0xc340000000000000, "-9007199254740992"},
	{0x44b52d02c7e14af5, "9.999999999999997e+22"},
	{0x44b52d02c7e14af6, "1e+23"},
	{0x44b52d02c7e14af7, "1.0000000000000001e+23"},
	{0x444b1ae4d6e2ef50, "1e+21"},
	{0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
	{0x3eb0c6f7a0b5ed8d, "0.000001"},
	{0x41b3de4355555553, "333333333.3333332"},
	{0x41b3de4355555554, "333333333.33333325"},
	{0x41b3de4355555555, "333333333.3333333"},
	{0x41b3de4355555556, "333333333.3333334"},
	{0x41b3de4355555557, "333333333.33333343"},
	{0xbecbf647612f3696, "-0.0000033333333333333333"},
	{0x43143ff3c1cb0959, "1424953923781206.2"},
	/* in the appendix these three are 295147905179352830000, 999999999999999700000 and 999999999999999900000 */
	{0x4430000000000000, "2.9514790517935283e+20"},
	{0x444b1ae4d6e2ef4e, "9.999999999999997e+20"},
	{0x444b1ae4d6e2ef4f, "9.999999999999999e+20"},
	/* the last that 64 bits hold, and the first that they do not */
	{0x43efffffffffffff, "18446744073709550000"},
	{0x43f0000000000000, "1.8446744073709552e+19"},
	{0xc3dfffffffffffff, "-9223372036854775000"},
	{0xc3e0000000000000, "-9.223372036854776e+18"},
	/* 2^-44: the nearest of sixteen digits does not read back, the next one does */
	{0x3d30000000000000, "5.684341886080802e-14"},
	{0x000fffffffffffff, "2.225073858507201e-308"},
	{0x0010000000000000, "2.2250738585072014e-308"},
	{0x0000000000000002, "1e-323"},
	{0x3fb999999999999a, "0.1"},
	{0x3ff0000000000000, "1"},
	{0xc059000000000000, "-100"},
	{0x3ff8000000000000, "1.5"},
};

static double from_bits(uint64_t bits)
{
	double d;

	memcpy(&d, &bits, sizeof(d));
	return d;
}

static void test_print_double(void **state)
{
	struct buf out = BUF_INIT(64);
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(doubles); i++) {
		buf_reset(&out);
		json_print_double(&out, from_bits(doubles[i].bits));
		assert_string_equal(out.data, doubles[i].printed);
	}
	buf_release(&out);
}

/* Every power of two and its neighbours: what is printed reads back as the same double. */
static void test_doubles_read_back(void **state)
{
	struct buf out = BUF_INIT(64);
	struct err e;
	int power, step;
	double d;

	(void)state;
	for (power = -1074; power < 1024; power++) {
		for (step = -1; step <= 1; step++) {
			d = ldexp(1, power);
			d = step ? nextafter(d, step * INFINITY) : d;
			buf_reset(&out);
			json_print_double(&out, d);
			assert_true(strtod(out.data, NULL) == d);
			assert_int_equal(json_scan(out.data, out.len, &e), 0);
		}
	}
	buf_release(&out);
}

/* The digits of a number as it is spelled, without sign, point, exponent and zeros at either end. */
static void digits_of(const char *text, char digits[32])
{
	char *p = digits;

	for (text += strspn(text, "-0."); *text && *text != 'e'; text++)
		if (*text != '.')
			*p++ = *text;
	while (p > digits && p[-1] == '0')
		p--;
	*p = '\0';
}

/* As the C library finds them: a normal double's first fifteen, sixteen or seventeen digits that read back. */
static void check_shortest(double d)
{
	char nearest[32], expected[32], printed[32];
	struct buf out = BUF_INIT(64);
	int places = 14;

	do
		snprintf(nearest, sizeof(nearest), "%.*e", places++, d);
	while (strtod(nearest, NULL) != d);
	json_print_double(&out, d);
	digits_of(nearest, expected);
	digits_of(out.data, printed);
	assert_string_equal(printed, expected);
	assert_true(strtod(out.data, NULL) == d);
	buf_release(&out);
}

/* As a vector has them: full mantissas, floats, few digits and their neighbours, ties; and across all exponents. */
static void test_doubles_are_the_shortest(void **state)
{
	uint64_t seed = 7, bits;
	double d;
	int i;

	(void)state;
	for (i = 0; i < 20000; i++) {
		check_shortest(ldexp((double)(chance(&seed) >> 11) + 1, -53 - (int)chance_below(&seed, 45)));
		check_shortest((float)ldexp((double)(chance(&seed) >> 40) + 1, -24 - (int)chance_below(&seed, 20)));
		d = (double)(chance_below(&seed, 1000000) + 1) / pow(10, (double)chance_below(&seed, 12));
		check_shortest(-d);
		check_shortest(nextafter(d, chance_below(&seed, 2) ? 0 : INFINITY));
		check_shortest(ldexp((double)(2 * chance_below(&seed, 2048) + 3), (int)chance_below(&seed, 100) - 60));
		bits = chance(&seed) >> 1;
		d = from_bits(bits);
		if (isnormal(d) && (bits & ((UINT64_C(1) << 52) - 1)))
			check_shortest(d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_print_double),
		cmocka_unit_test(test_doubles_read_back),
		cmocka_unit_test(test_doubles_are_the_shortest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
