/*
 * Which numbers survive the way through a double: what would arrive as another one is refused, rather than sent. Digits
 * behind the point are an approximation to everybody (3.141592653589793238), digits of an integer are not: it may be
 * somebody's number.
 */
#include "base/json_scan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXACT_DIGITS = 15 /* any integer of so many is a double */, DOUBLE_TEXT = 400 /* 309 digits are the longest */ };

/* A number as it is written: its digits from the first that counts to the last, and the powers of ten of both. */
struct decimal {
	const char *first, *last; /* NULL: all are 0 */
	int64_t first_power, last_power;
};

bool json_integer_fits(const char *digits, const char *end, bool negative)
{
	const uint64_t max = negative ? (uint64_t)INT64_MAX + 1 : UINT64_MAX;
	uint64_t n = 0;

	if (end - digits < 19)
		return true;
	for (; digits < end; digits++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*digits - '0'), &n))
			return false;
	return n <= max;
}

/* The exponent that digits behind an "e" mean; far beyond any double's it no longer matters how far. */
static int64_t read_exponent(const char *p, const char *end)
{
	const int64_t enough = INT64_C(1) << 40;
	int64_t exponent = 0;
	bool negative = *p == '-';

	for (p += *p == '-' || *p == '+'; p < end && exponent < enough; p++)
		exponent = exponent * 10 + (*p - '0');
	return negative ? -exponent : exponent;
}

/* The text has no sign. */
static struct decimal read_decimal(const char *text, const char *end)
{
	struct decimal d = {NULL, NULL, 0, 0};
	const char *p, *point = NULL;
	int64_t exponent = 0;

	for (p = text; p < end && *p != 'e' && *p != 'E'; p++) {
		if (*p == '.')
			point = p;
		else if (*p != '0')
			d = (struct decimal){d.first ? d.first : p, p, 0, 0};
	}
	if (!d.first)
		return d;
	if (!point)
		point = p;
	if (p < end)
		exponent = read_exponent(p + 1, end);
	d.first_power = exponent + (d.first < point ? point - d.first - 1 : point - d.first);
	d.last_power = exponent + (d.last < point ? point - d.last - 1 : point - d.last);
	return d;
}

static bool same_value(const struct decimal *a, const struct decimal *b)
{
	const char *x = a->first, *y = b->first;

	if (a->last_power != b->last_power || a->first_power != b->first_power)
		return false;
	for (; x <= a->last && y <= b->last; x++, y++) {
		x += *x == '.';
		y += *y == '.';
		if (*x != *y)
			return false;
	}
	return true;
}

/* Whether the double is this integer, or is at least spelled as it is: 1e23 is no double, and arrives all the same. */
static bool arrives(const struct decimal *written, double d)
{
	char exact[DOUBLE_TEXT];
	struct buf spelled = BUF_INIT(sizeof(exact));
	struct decimal arrived;
	bool same;

	json_print_double(&spelled, d);
	arrived = read_decimal(spelled.data, spelled.data + spelled.len);
	same = same_value(written, &arrived);
	buf_release(&spelled);
	if (same)
		return true;
	arrived = read_decimal(exact, exact + snprintf(exact, sizeof(exact), "%.0f", d));
	return same_value(written, &arrived);
}

/* The place of the first digit that counts says whether it is finite, and not 0, but for two powers of ten. */
bool json_double_fits(const char *digits, const char *end)
{
	struct decimal written = read_decimal(digits, end);
	struct buf copy = BUF_INIT((size_t)(end - digits));
	bool whole = written.last_power >= 0 && written.first_power >= EXACT_DIGITS;
	double d;

	if (!written.first)
		return true;
	if (written.first_power < -324 || written.first_power > 308)
		return false;
	if (written.first_power != -324 && written.first_power != 308 && !whole)
		return true;
	buf_add(&copy, digits, (size_t)(end - digits));
	if (copy.overflow)
		die("out of memory");
	d = strtod(copy.data, NULL);
	buf_release(&copy);
	return isfinite(d) && d != 0 && (!whole || arrives(&written, d));
}
