/*
 * The shortest decimal that reads back as the same double (RFC 8785 §3.2.2.3). Vectors consist of such numbers, so the
 * usual magnitudes are worked out in integers, exactly; what is left asks the C library.
 */
#include "base/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A decimal: 0.digits × 10^point, no zero at either end. */
struct decimal {
	char digits[DBL_DECIMAL_DIG + 2];
	int count, point;
};

/* Adds one to the last digit of "d.ddde-dd"; false where that would carry out of the first. */
static bool next_decimal(char *text)
{
	char *p = strchr(text, 'e');

	while (p-- > text) {
		if (*p == '.')
			continue;
		if (*p != '9') {
			++*p;
			return true;
		}
		*p = '0';
	}
	return false;
}

/*
 * The fewest digits that read back as d > 0, and the nearest to it of those, as "d.ddde-dd". Fifteen digits always
 * survive a double, so that they hold the fewest, but not below DBL_MIN, where it has less precision. At a power of two
 * the doubles below lie closer than those above, and the next decimal up may read back where the nearest does not.
 */
static void find_text(double d, char text[32])
{
	int places, exponent;

	for (places = d < DBL_MIN ? 0 : DBL_DIG - 1; places < DBL_DECIMAL_DIG; places++) {
		snprintf(text, 32, "%.*e", places, d);
		if (strtod(text, NULL) == d)
			return;
		if (places == DBL_DECIMAL_DIG - 2 && frexp(d, &exponent) == 0.5 && next_decimal(text) &&
			strtod(text, NULL) == d)
			return;
	}
}

static void find_slowly(struct decimal *out, double d)
{
	char text[32];
	const char *p;

	find_text(d, text);
	for (p = text; *p != 'e'; p++)
		if (*p != '.')
			out->digits[out->count++] = *p;
	while (out->digits[out->count - 1] == '0')
		out->count--;
	out->point = atoi(p + 1) + 1;
}

/* Behind the decimal point of what is there. */
static void set_digits(struct decimal *out, uint64_t n)
{
	char reversed[sizeof(out->digits)];
	int i;

	for (i = 0; n; n /= 10)
		reversed[i++] = (char)('0' + n % 10);
	out->point += i;
	while (i)
		out->digits[out->count++] = reversed[--i];
}

enum { FIVE_K_MAX = 27 /* the last power of 5 that 64 bits hold */ };

/*
 * d = m × 2^e. What lies between half a step below d and half a step above reads back as d (an end itself has one
 * decimal more than d, so it is never the shortest). Times 10^k, so that 17 or 18 digits stand before the point and a
 * step is longer than 1, that range is (2m ± 1) × 5^k / 2^shift: integers that fit 128 bits. Of the multiples of the
 * largest power of ten that has one within the range, the nearest is wanted, and of two as near the even one. False
 * where they would not fit, and at a power of two, below which the step is shorter.
 */
static bool find_fast(struct decimal *out, double d)
{
	unsigned __int128 middle, mask, rest;
	uint64_t m, five_k = 1, least, most, unit = 1, n;
	int e, k, shift, i;

	m = (uint64_t)(frexp(d, &e) * 0x1p53);
	k = 16 - (int)floor((e - 1) * 0.30102999566398120); /* log10(2) */
	shift = 54 - e - k;
	if (k < 0 || k > FIVE_K_MAX || shift < 1 || m == UINT64_C(1) << 52)
		return false;
	for (i = 0; i < k; i++)
		five_k *= 5;
	middle = (unsigned __int128)(2 * m) * five_k;
	mask = ((unsigned __int128)1 << shift) - 1;
	least = (uint64_t)((middle - five_k + mask) >> shift);
	most = (uint64_t)((middle + five_k) >> shift);
	while (most / (unit * 10) * (unit * 10) >= least)
		unit *= 10;
	n = (uint64_t)(middle >> shift) / unit;
	rest = middle - ((unsigned __int128)(n * unit) << shift);
	if (2 * rest > (mask + 1) * unit || (2 * rest == (mask + 1) * unit && (n & 1)))
		n++;
	out->point = -k;
	for (; unit > 1; unit /= 10)
		out->point++;
	set_digits(out, n);
	return true;
}

static void add_zeros(struct buf *out, int count)
{
	for (; count > 0; count--)
		buf_addc(out, '0');
}

/* ECMAScript's Number::toString, steps 6 to 10: the value is 0.digits × 10^point. */
static void add_decimal(struct buf *out, const struct decimal *decimal, bool exponent)
{
	int count = decimal->count, point = decimal->point;
	const char *digits = decimal->digits;

	if (exponent || point > 21 || point < -5) {
		buf_addc(out, digits[0]);
		if (count > 1)
			buf_addc(out, '.');
		buf_add(out, digits + 1, (size_t)count - 1);
		buf_printf(out, "e%+d", point - 1);
	} else if (point <= 0) {
		buf_adds(out, "0.");
		add_zeros(out, -point);
		buf_add(out, digits, (size_t)count);
	} else if (count <= point) {
		buf_add(out, digits, (size_t)count);
		add_zeros(out, point - count);
	} else {
		buf_add(out, digits, (size_t)point);
		buf_addc(out, '.');
		buf_add(out, digits + point, (size_t)(count - point));
	}
}

void json_print_double(struct buf *out, double d)
{
	struct decimal decimal = {.count = 0};

	BUG_ON(!isfinite(d));
	if (d == 0) {
		buf_addc(out, '0');
		return;
	}
	if (d < 0)
		buf_addc(out, '-');
	if (!find_fast(&decimal, fabs(d)))
		find_slowly(&decimal, fabs(d));
	add_decimal(out, &decimal, d >= 0x1p64 || d <= -0x1p63);
}
