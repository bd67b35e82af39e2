/*
 * The values of `format` that strict structured outputs know. To the letter, since a good answer that is called bad is
 * bought again each time that it is asked for; where the letter is doubtful and the official suite silent, the wider
 * reading holds. Every other format is an annotation.
 */
#include "wire/schema_run.h"

#include <arpa/inet.h>
#include <strings.h>

struct text {
	const char *p, *end;
};

static bool take(struct text *t, char c)
{
	if (t->p == t->end || *t->p != c)
		return false;
	t->p++;
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter_or_digit(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool take_digits(struct text *t)
{
	const char *begin = t->p;

	while (t->p < t->end && is_digit(*t->p))
		t->p++;
	return t->p > begin;
}

/* Exactly so many digits. */
static bool take_number(struct text *t, int digits, int *number)
{
	for (*number = 0; digits > 0; digits--) {
		if (t->p == t->end || !is_digit(*t->p))
			return false;
		*number = *number * 10 + (*t->p++ - '0');
	}
	return true;
}

/* ── RFC 3339 §5.6; T and Z may be in lower case ─────────────────────────────────────────────────────────────────── */

static bool take_date(struct text *t)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year, month, day;
	bool leap;

	if (!take_number(t, 4, &year) || !take(t, '-') || !take_number(t, 2, &month) || !take(t, '-') ||
		!take_number(t, 2, &day))
		return false;
	leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
	return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] + (month == 2 && leap);
}

static bool take_clock(struct text *t, int *minutes)
{
	int hour, minute;

	if (!take_number(t, 2, &hour) || !take(t, ':') || !take_number(t, 2, &minute))
		return false;
	*minutes = hour * 60 + minute;
	return hour <= 23 && minute <= 59;
}

/* In minutes east of UTC. */
static bool take_offset(struct text *t, int *minutes)
{
	bool west;

	*minutes = 0;
	if (take(t, 'Z') || take(t, 'z'))
		return true;
	west = take(t, '-');
	if ((!west && !take(t, '+')) || !take_clock(t, minutes))
		return false;
	if (west)
		*minutes = -*minutes;
	return true;
}

/* A leap second ends a day in UTC (§5.7); which days had one is not looked up, as those to come are not known. */
static bool take_time(struct text *t)
{
	const int day = 24 * 60;
	int minutes, second, offset;

	if (!take_clock(t, &minutes) || !take(t, ':') || !take_number(t, 2, &second) || second > 60)
		return false;
	if ((take(t, '.') && !take_digits(t)) || !take_offset(t, &offset))
		return false;
	return second < 60 || (minutes - offset + day) % day == day - 1;
}

static bool fits_date(struct text t)
{
	return take_date(&t) && t.p == t.end;
}

static bool fits_time(struct text t)
{
	return take_time(&t) && t.p == t.end;
}

static bool fits_date_time(struct text t)
{
	return take_date(&t) && (take(&t, 'T') || take(&t, 't')) && take_time(&t) && t.p == t.end;
}

/* Amounts with these units, in this order, each at most once; returns how many, or -1 for digits without a unit. */
static int take_amounts(struct text *t, const char *units)
{
	int count = 0;

	for (; take_digits(t); count++) {
		while (*units && (t->p == t->end || (*t->p & ~0x20) != *units))
			units++;
		if (!*units++)
			return -1;
		t->p++;
	}
	return count;
}

/*
 * RFC 3339 appendix A, but for one thing: its grammar has no PT1H30S, where a unit between two others is left out. ISO
 * 8601, which it sums up, lets a zero be left out anywhere, and so do those who write and read durations.
 */
static bool fits_duration(struct text t)
{
	struct text weeks;
	int days;

	if (!take(&t, 'P') && !take(&t, 'p'))
		return false;
	weeks = t;
	if (take_amounts(&weeks, "W") == 1)
		return weeks.p == weeks.end;
	days = take_amounts(&t, "YMD");
	if (take(&t, 'T') || take(&t, 't'))
		return days >= 0 && take_amounts(&t, "HMS") > 0 && t.p == t.end;
	return days > 0 && t.p == t.end;
}

/* ── Hosts and mailboxes ─────────────────────────────────────────────────────────────────────────────────────────── */

/* RFC 1123 §2.1, RFC 1035 §2.3.4: in ASCII; a name in other scripts is one in its xn-- form. */
static bool fits_hostname(struct text t)
{
	enum { MAX_NAME = 253, MAX_LABEL = 63 };
	const char *label;

	if (t.end - t.p > MAX_NAME)
		return false;
	do {
		label = t.p;
		while (t.p < t.end && (is_letter_or_digit(*t.p) || *t.p == '-'))
			t.p++;
		if (t.p == label || t.p - label > MAX_LABEL || *label == '-' || t.p[-1] == '-')
			return false;
	} while (take(&t, '.'));
	return t.p == t.end;
}

static bool is_address(struct text t, int family)
{
	unsigned char address[sizeof(struct in6_addr)];
	char copy[INET6_ADDRSTRLEN];
	size_t len = (size_t)(t.end - t.p);

	if (len >= sizeof(copy) || memchr(t.p, '\0', len))
		return false;
	memcpy(copy, t.p, len);
	copy[len] = '\0';
	return inet_pton(family, copy, address) == 1;
}

/* Four decimals without leading zeros, which some would read as octal. */
static bool fits_ipv4(struct text t)
{
	return is_address(t, AF_INET);
}

/* RFC 4291 §2.2, without a zone. */
static bool fits_ipv6(struct text t)
{
	return is_address(t, AF_INET6);
}

static bool take_quoted_string(struct text *t)
{
	if (!take(t, '"'))
		return false;
	for (; t->p < t->end && *t->p != '"'; t->p++) {
		if (*t->p == '\\' && ++t->p == t->end)
			return false;
		if (*t->p < 0x20 || *t->p > 0x7e)
			return false;
	}
	return take(t, '"');
}

static bool take_dot_string(struct text *t)
{
	const char *atom;

	do {
		atom = t->p;
		while (t->p < t->end && (is_letter_or_digit(*t->p) || (*t->p && strchr("!#$%&'*+-/=?^_`{|}~", *t->p))))
			t->p++;
		if (t->p == atom)
			return false;
	} while (take(t, '.'));
	return true;
}

/* RFC 5321 §4.1.2 and §4.1.3: Mailbox. Of the tags for addresses only IPv6 was ever registered. */
static bool fits_email(struct text t)
{
	enum { MAX_LOCAL = 64 }; /* §4.5.3.1.1 */
	static const char tag[] = "IPv6:";
	const char *local = t.p;

	if (!(take_quoted_string(&t) || take_dot_string(&t)) || t.p - local > MAX_LOCAL || !take(&t, '@'))
		return false;
	if (!take(&t, '['))
		return fits_hostname(t);
	if (t.p == t.end || *--t.end != ']')
		return false;
	if ((size_t)(t.end - t.p) < strlen(tag) || strncasecmp(t.p, tag, strlen(tag)) != 0)
		return fits_ipv4(t);
	t.p += strlen(tag);
	return fits_ipv6(t);
}

/* RFC 4122 §3: of any version. */
static bool fits_uuid(struct text t)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t i;

	if ((size_t)(t.end - t.p) != strlen(form))
		return false;
	for (i = 0; form[i]; i++)
		if (form[i] == '-' ? t.p[i] != '-' : !(t.p[i] && strchr("0123456789abcdefABCDEF", t.p[i])))
			return false;
	return true;
}

/* ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct {
	const char *name;
	bool (*fits)(struct text t);
} formats[] = {
	{"date-time", fits_date_time},
	{"time", fits_time},
	{"date", fits_date},
	{"duration", fits_duration},
	{"email", fits_email},
	{"hostname", fits_hostname},
	{"ipv4", fits_ipv4},
	{"ipv6", fits_ipv6},
	{"uuid", fits_uuid},
};

static bool is_word(struct json_object *string, const char *word)
{
	size_t len = strlen(word);

	return len == (size_t)json_object_get_string_len(string) &&
	       memcmp(json_object_get_string(string), word, len) == 0;
}

bool schema_format_fits(struct schema_run *run, struct json_object *format, struct json_object *string)
{
	const char *s = json_object_get_string(string);
	size_t len = (size_t)json_object_get_string_len(string), i;

	if (!json_object_is_type(format, json_type_string))
		return true;
	for (i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (is_word(format, formats[i].name))
			return schema_charge(run, 1 + len / 16) && formats[i].fits((struct text){s, s + len});
	return true;
}
