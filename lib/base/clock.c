/* Time, and how it is written (RFC 3339). */
#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

int64_t clock_mono_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

int64_t clock_real_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_real_ms(void)
{
	return clock_real_us() / 1000;
}

void clock_text(int64_t real_ms, char out[CLOCK_TEXT])
{
	static char second[CLOCK_TEXT]; /* of the last call: most calls are within the same */
	static time_t last = -1;
	time_t s = (time_t)(real_ms / 1000);
	int ms = (int)(real_ms % 1000);
	struct tm tm;

	if (s != last) {
		gmtime_r(&s, &tm);
		strftime(second, sizeof(second), "%Y-%m-%dT%H:%M:%S", &tm);
		last = s;
	}
	snprintf(out, CLOCK_TEXT, "%.19s.%03dZ", second, ms);
}

/* Exactly so many digits, and the character behind them unless that is NUL. */
static bool take(const char **s, int digits, char behind, int *out)
{
	for (*out = 0; digits > 0; digits--, ++*s) {
		if (**s < '0' || **s > '9')
			return false;
		*out = *out * 10 + (**s - '0');
	}
	if (!behind)
		return true;
	return *(*s)++ == behind;
}

/* What a fraction of a second is in ms; -1 if a point stands there without digits. */
static int take_fraction(const char **s)
{
	int ms = 0, weight = 100;

	if (**s != '.')
		return 0;
	if (*++*s < '0' || **s > '9')
		return -1;
	for (; **s >= '0' && **s <= '9'; ++*s, weight /= 10)
		ms += (**s - '0') * weight;
	return ms;
}

/* What must be added to get UTC, in seconds. */
static bool take_offset(const char **s, int *seconds)
{
	char sign = *(*s)++;
	int h, m;

	*seconds = 0;
	if (sign == 'Z' || sign == 'z')
		return true;
	if ((sign != '+' && sign != '-') || !take(s, 2, ':', &h) || !take(s, 2, '\0', &m) || h > 23 || m > 59)
		return false;
	*seconds = (h * 3600 + m * 60) * (sign == '+' ? -1 : 1);
	return true;
}

int64_t clock_parse(const char *s)
{
	struct tm tm = {0};
	int day, seconds, ms, offset;
	int64_t minute;

	if (!take(&s, 4, '-', &tm.tm_year) || !take(&s, 2, '-', &tm.tm_mon) || !take(&s, 2, 'T', &day) ||
		!take(&s, 2, ':', &tm.tm_hour) || !take(&s, 2, ':', &tm.tm_min) || !take(&s, 2, '\0', &seconds))
		return -1;
	ms = take_fraction(&s);
	if (ms < 0 || !take_offset(&s, &offset) || *s)
		return -1;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_hour > 23 || tm.tm_min > 59 || seconds > 60)
		return -1;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	tm.tm_mday = day;
	minute = (int64_t)timegm(&tm);
	if (tm.tm_mday != day) /* there is no such day in that month */
		return -1;
	return (minute + seconds + offset) * 1000 + ms;
}
