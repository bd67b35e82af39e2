/*
 * Every body passes here before anything else reads it, so that what a client may send is decided in one place and to
 * the letter (RFC 8259, Unicode table 3-7). It runs ahead of every cache hit: one pass, no recursion, and what only a
 * failure needs (line, column, path) is worked out when there is one.
 */
#include "base/json_scan.h"

#include <stdlib.h>

/* An object's first names are compared pair by pair; if it has more, all are sorted when it closes. */
enum { PAIRWISE_NAMES = 16 };

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

/* ── Strings ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The length of the well-formed sequence at p (Unicode table 3-7), or 0. */
static size_t utf8_length(const char *at, const char *end)
{
	const unsigned char *p = (const unsigned char *)at;
	unsigned char low = 0x80, high = 0xbf;
	size_t len, i;

	if (*p < 0xc2 || *p > 0xf4)
		return 0;
	len = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
	if ((size_t)(end - at) < len)
		return 0;
	if (*p == 0xe0)
		low = 0xa0;
	else if (*p == 0xed)
		high = 0x9f;
	else if (*p == 0xf0)
		low = 0x90;
	else if (*p == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* The four hexadecimal digits of a \u escape at p, or -1. */
static int escape_unit(const char *p, const char *end)
{
	int unit = 0, i;

	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	for (i = 2; i < 6; i++) {
		if (p[i] >= '0' && p[i] <= '9')
			unit = unit * 16 + p[i] - '0';
		else if ((p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'f')
			unit = unit * 16 + (p[i] | 0x20) - 'a' + 10;
		else
			return -1;
	}
	return unit;
}

/* The character for which the pair of escapes at p stands; 0 if there is none. */
static unsigned pair_at(const char *p, const char *end)
{
	int high = escape_unit(p, end), low = high >= 0xd800 && high <= 0xdbff ? escape_unit(p + 6, end) : -1;

	return low >= 0xdc00 && low <= 0xdfff ? 0x10000 + (((unsigned)high & 0x3ff) << 10 | ((unsigned)low & 0x3ff))
					      : 0;
}

static const char *scan_escape(struct json_scanner *s, const char *p)
{
	int unit;

	if (s->end - p < 2)
		return json_fail_unexpected(s, s->end, "the rest of an escape");
	if (p[1] && strchr("\"\\/bfnrt", p[1]))
		return p + 2;
	if (p[1] != 'u')
		return json_fail(s, ERR_INVALID_JSON, p, "a backslash must be followed by one of \" \\ / b f n r t u");
	unit = escape_unit(p, s->end);
	if (unit < 0)
		return json_fail(s, ERR_INVALID_JSON, p, "\\u must be followed by four hexadecimal digits");
	if (unit < 0xd800 || unit > 0xdfff)
		return p + 6;
	if (!pair_at(p, s->end))
		return json_doubt(s, ERR_UNREADABLE_JSON, p, p + 6, "a lone surrogate %.6s is not a character", p);
	s->found->has_pairs = true;
	return p + 12;
}

/* From the quotation mark at p to behind the one that ends the string. */
static const char *scan_string(struct json_scanner *s, const char *p)
{
	const char *begin = p++;
	size_t n;

	for (;;) {
		p = json_skip_plain(p, s->end);
		if (p == s->end)
			return json_fail(s, ERR_INVALID_JSON, begin, "a string begins here and does not end");
		if (*p == '"')
			return p + 1;
		if (*p == '\\') {
			p = scan_escape(s, p);
			if (!p)
				return NULL;
			continue;
		}
		if ((unsigned char)*p < 0x20)
			return json_fail(s, ERR_INVALID_JSON, p,
				"a control character in a string must be written \\u%04x", (unsigned char)*p);
		for (; p < s->end && (unsigned char)*p >= 0x80; p += n) {
			n = utf8_length(p, s->end);
			if (!n)
				return json_fail(s, ERR_INVALID_JSON, p,
					"the byte 0x%02X is not well-formed UTF-8 here", (unsigned char)*p);
		}
	}
}

/* ── Numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *skip_digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

static const char *scan_number(struct json_scanner *s, const char *p)
{
	const char *begin = p, *digits = p + (*p == '-'), *part;

	p = skip_digits(digits, s->end);
	if (p == digits)
		return json_fail_unexpected(s, p, "a digit");
	if (*digits == '0' && p - digits > 1)
		return json_fail(s, ERR_INVALID_JSON, begin, "a number must not begin with a 0 before another digit");
	if (p == s->end || (*p != '.' && *p != 'e' && *p != 'E')) {
		if (!json_integer_fits(digits, p, *begin == '-'))
			return json_doubt(
				s, ERR_NUMBER_RANGE, begin, p, "an integer must fit 64 bits; write it as a string");
		return p;
	}
	if (*p == '.') {
		part = p + 1;
		p = skip_digits(part, s->end);
		if (p == part)
			return json_fail_unexpected(s, p, "a digit behind the decimal point");
	}
	if (p < s->end && (*p == 'e' || *p == 'E')) {
		part = p + 1;
		p = skip_digits(part + (part < s->end && (*part == '+' || *part == '-')), s->end);
		if (p == part || p[-1] < '0')
			return json_fail_unexpected(s, p, "the digits of an exponent");
	}
	if (!json_double_fits(digits, p))
		return json_doubt(s, ERR_NUMBER_RANGE, begin, p, "a 64-bit floating-point number cannot hold it");
	return p;
}

/* ── Names ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void add_utf8(struct buf *out, unsigned code)
{
	if (code < 0x80) {
		buf_addc(out, (char)code);
		return;
	}
	if (code < 0x800) {
		buf_addc(out, (char)(0xc0 | code >> 6));
	} else {
		if (code < 0x10000) {
			buf_addc(out, (char)(0xe0 | code >> 12));
		} else {
			buf_addc(out, (char)(0xf0 | code >> 18));
			buf_addc(out, (char)(0x80 | (code >> 12 & 0x3f)));
		}
		buf_addc(out, (char)(0x80 | (code >> 6 & 0x3f)));
	}
	buf_addc(out, (char)(0x80 | (code & 0x3f)));
}

/* Adds what the \u escape at p, or the pair of them, stands for, and returns what follows. */
static const char *decode_escape(struct buf *out, const char *p, const char *end)
{
	unsigned pair = pair_at(p, end), unit = (unsigned)escape_unit(p, end);

	add_utf8(out, pair ? pair : (unit & 0xf800) == 0xd800 ? 0xfffd : unit);
	return p + (pair ? 12 : 6);
}

/* Only for what scan_string() has passed. */
static void decode(struct buf *out, const char *p, const char *end)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	const char *letter;

	while (p < end) {
		if (*p != '\\') {
			buf_addc(out, *p++);
		} else if (p[1] != 'u') {
			letter = strchr(from, p[1]);
			buf_addc(out, letter ? to[letter - from] : p[1]);
			p += 2;
		} else {
			p = decode_escape(out, p, end);
		}
	}
	if (out->overflow)
		die("out of memory");
}

static struct json_name *push_name(struct json_scanner *s, const char *begin, const char *end)
{
	struct json_name *n;

	if (s->name_count == s->name_cap) {
		s->name_cap = s->name_cap ? s->name_cap * 2 : 64;
		s->names = realloc(s->names, s->name_cap * sizeof(*s->names));
		if (!s->names)
			die("out of memory");
	}
	n = &s->names[s->name_count++];
	*n = (struct json_name){(uint32_t)(begin - s->text), (uint32_t)(end - begin), NOT_DECODED};
	if (memchr(begin, '\\', n->len)) {
		n->decoded = (uint32_t)s->decoded.len;
		decode(&s->decoded, begin, end);
		n->len = (uint32_t)s->decoded.len - n->decoded;
	}
	return n;
}

static int compare_names(const void *left, const void *right, void *scan)
{
	const struct json_name *a = left, *b = right;
	int order = memcmp(json_name_bytes(scan, a), json_name_bytes(scan, b), a->len < b->len ? a->len : b->len);

	if (order)
		return order;
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return a->at < b->at ? -1 : a->at > b->at;
}

static bool same_name(const struct json_scanner *s, const struct json_name *a, const struct json_name *b)
{
	return a->len == b->len && memcmp(json_name_bytes(s, a), json_name_bytes(s, b), a->len) == 0;
}

/* The names of a large object that is about to close: its first repetition, or NULL. */
static const struct json_name *sort_out_duplicate(struct json_scanner *s, struct json_name *names, size_t count)
{
	const struct json_name *first = NULL;
	size_t i;

	qsort_r(names, count, sizeof(*names), compare_names, s);
	for (i = 1; i < count; i++)
		if (same_name(s, &names[i - 1], &names[i]) && (!first || names[i].at < first->at))
			first = &names[i];
	return first;
}

static const char *scan_name(struct json_scanner *s, const char *p)
{
	const char *begin = p;
	const struct json_name *n, *other;

	if (p == s->end || *p != '"')
		return json_fail_unexpected(s, p, "a name in double quotes");
	p = scan_string(s, p);
	if (!p)
		return NULL;
	n = push_name(s, begin + 1, p - 1);
	s->found->weight += WEIGHT_NAME + n->len;
	if (n->decoded != NOT_DECODED && memchr(json_name_bytes(s, n), 0, n->len))
		json_doubt(s, ERR_UNREADABLE_JSON, begin, p, "\\u0000 must not stand in a name");
	other = &s->names[s->levels[s->depth - 1].first_name];
	if (n - other < PAIRWISE_NAMES)
		for (; other < n; other++)
			if (same_name(s, other, n))
				json_doubt_duplicate(s, n);
	p = skip_space(p, s->end);
	if (p == s->end || *p != ':')
		return json_fail_unexpected(s, p, "\":\"");
	s->want = WANT_VALUE;
	return p + 1;
}

/* ── Values ──────────────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *scan_word(struct json_scanner *s, const char *p, const char *word, size_t len)
{
	if ((size_t)(s->end - p) < len || memcmp(p, word, len))
		return json_fail_unexpected(s, p, "a value");
	return p + len;
}

static const char *open_level(struct json_scanner *s, const char *p)
{
	if (s->depth == JSON_MAX_DEPTH)
		return json_fail(s, ERR_UNREADABLE_JSON, p, "values are nested more than %d deep", JSON_MAX_DEPTH);
	s->found->weight += *p == '{' ? WEIGHT_OBJECT : WEIGHT_ARRAY;
	s->levels[s->depth++] = (struct json_level){(uint32_t)s->name_count, 0, *p == '{'};
	s->want = WANT_FIRST;
	return p + 1;
}

static const char *close_level(struct json_scanner *s, const char *p)
{
	struct json_level *l = &s->levels[s->depth - 1];
	const struct json_name *twice;

	if (s->name_count - l->first_name > PAIRWISE_NAMES) {
		twice = sort_out_duplicate(s, s->names + l->first_name, s->name_count - l->first_name);
		if (twice)
			json_doubt_duplicate(s, twice);
	}
	s->name_count = l->first_name;
	s->depth--;
	s->want = s->depth ? WANT_MORE : WANT_END;
	return p + 1;
}

static const char *scan_value(struct json_scanner *s, const char *p)
{
	const char *begin = p;

	if (p == s->end)
		return json_fail_unexpected(s, p, "a value");
	switch (*p) {
	case '{':
	case '[': return open_level(s, p);
	case '"': p = scan_string(s, p); break;
	case 't': p = scan_word(s, p, "true", 4); break;
	case 'f': p = scan_word(s, p, "false", 5); break;
	case 'n': p = scan_word(s, p, "null", 4); break;
	default:
		if (*p != '-' && (*p < '0' || *p > '9'))
			return json_fail_unexpected(s, p, "a value");
		p = scan_number(s, p);
	}
	if (!p)
		return NULL;
	s->found->weight += WEIGHT_VALUE + (size_t)(p - begin);
	s->want = s->depth ? WANT_MORE : WANT_END;
	return p;
}

static const char *scan_first(struct json_scanner *s, const char *p)
{
	bool is_object = s->levels[s->depth - 1].is_object;

	if (p < s->end && *p == (is_object ? '}' : ']'))
		return close_level(s, p);
	if (is_object)
		return scan_name(s, p);
	s->want = WANT_VALUE;
	return p;
}

static const char *scan_more(struct json_scanner *s, const char *p)
{
	struct json_level *l = &s->levels[s->depth - 1];

	if (p < s->end && *p == (l->is_object ? '}' : ']'))
		return close_level(s, p);
	if (p == s->end || *p != ',')
		return json_fail_unexpected(s, p, l->is_object ? "\",\" or \"}\"" : "\",\" or \"]\"");
	l->index++;
	s->want = l->is_object ? WANT_NAME : WANT_VALUE;
	return p + 1;
}

static bool scan_text(struct json_scanner *s)
{
	const char *p = s->text;

	while (p) {
		p = skip_space(p, s->end);
		switch (s->want) {
		case WANT_VALUE: p = scan_value(s, p); break;
		case WANT_FIRST: p = scan_first(s, p); break;
		case WANT_NAME: p = scan_name(s, p); break;
		case WANT_MORE: p = scan_more(s, p); break;
		case WANT_END:
			if (p == s->end)
				return true;
			p = json_fail_unexpected(s, p, "the end of the text");
		}
	}
	return false;
}

int json_scan_find(const char *text, size_t len, struct err *err, struct json_findings *found)
{
	struct json_scanner s;
	bool ok;

	*found = (struct json_findings){0};
	if (len > INT32_MAX)
		return err_set(err, ERR_UNREADABLE_JSON, NULL, "The JSON text is longer than %d bytes.", INT32_MAX);
	s.text = text;
	s.end = text + len;
	s.err = err;
	s.want = WANT_VALUE;
	s.depth = 0;
	s.doubted = false;
	s.found = found;
	s.names = NULL;
	s.name_count = s.name_cap = 0;
	s.decoded = BUF_INIT(len);
	ok = scan_text(&s) && !s.doubted;
	free(s.names);
	buf_release(&s.decoded);
	return ok ? 0 : -1;
}

int json_scan(const char *text, size_t len, struct err *err)
{
	struct json_findings found;

	return json_scan_find(text, len, err, &found);
}

void json_write_out_pairs(struct buf *out, const char *text, size_t len)
{
	const char *end = text + len, *run = text, *p = text;

	while ((p = memchr(p, '\\', (size_t)(end - p)))) {
		if (!pair_at(p, end)) {
			p += 2;
			continue;
		}
		buf_add(out, run, (size_t)(p - run));
		run = p = decode_escape(out, p, end);
	}
	buf_add(out, run, (size_t)(end - run));
}
