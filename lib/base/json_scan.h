/*
 * json_scan — what json_scan.c (the grammar), json_number.c (which numbers), json_fail.c (the words), json_edit.c and
 * json.c share. Private to them; others include json.h.
 */
#ifndef PAVISE_BASE_JSON_SCAN_H
#define PAVISE_BASE_JSON_SCAN_H

#include "base/json.h"

enum { NOT_DECODED = UINT32_MAX };

enum json_want {
	WANT_VALUE,
	WANT_FIRST, /* what follows an opening bracket */
	WANT_NAME,
	WANT_MORE, /* what follows a value */
	WANT_END,
};

struct json_level {
	uint32_t first_name; /* where the names of this level begin in json_scanner.names */
	uint32_t index;
	bool is_object;
};

/* A member's name: where it stands in the text and, if that is written with escapes, where its bytes are decoded. */
struct json_name {
	uint32_t at, len, decoded;
};

struct json_findings {
	bool has_pairs; /* a character stands in the text as two \u escapes */
	size_t weight;  /* about how many bytes json-c will take for it: {} has two bytes, and becomes seven hundred */
};

/* What json-c allocates for each, besides the bytes of strings and names. */
enum { WEIGHT_VALUE = 96, WEIGHT_OBJECT = 768, WEIGHT_ARRAY = 352, WEIGHT_NAME = 96 };
enum { WEIGHT_PER_BYTE = WEIGHT_OBJECT / 2 /* of text, at the worst: [{},{},… */ };

struct json_scanner {
	const char *text, *end;
	struct err *err;
	enum json_want want;
	int depth;
	bool doubted; /* *err has a json_doubt() */
	struct json_findings *found;
	struct json_level levels[JSON_MAX_DEPTH];
	struct json_name *names; /* of all open objects; bounded by the text, as is `decoded` */
	size_t name_count, name_cap;
	struct buf decoded;
};

/* As json_scan(), and what it found on the way. */
int json_scan_find(const char *text, size_t len, struct err *err, struct json_findings *found);
/* Adds the text, which has passed the scan, with every such pair as UTF-8. */
void json_write_out_pairs(struct buf *out, const char *text, size_t len);

/* The name's bytes, unescaped; not NUL-terminated. */
const char *json_name_bytes(const struct json_scanner *s, const struct json_name *n);

/* ---- json.c: of texts with comments, before they are scanned ---- */

/* The end of the comment at p; NULL if there is none there, or one without an end, which the scan will refuse. */
const char *json_comment_end(const char *p, const char *end);
/* The end of the string whose quote is at p. */
const char *json_string_end(const char *p, const char *end);

/* ---- json_number.c: of numbers that are well written, less their sign; [digits, end) ---- */

bool json_integer_fits(const char *digits, const char *end, bool negative);
/* One with a fraction or an exponent. */
bool json_double_fits(const char *digits, const char *end);

/* ---- json_fail.c ---- */

/* Each fills *s->err and returns NULL, which is what every step of the scan returns when it stops. */
const char *json_fail(struct json_scanner *s, enum err_code code, const char *at, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
const char *json_fail_unexpected(struct json_scanner *s, const char *p, const char *expected);

/*
 * For what is JSON, but not for us. The scan goes on (at `next`, which is returned), because what is no JSON at all
 * must not pass for less; of several doubts *s->err keeps the first.
 */
const char *json_doubt(struct json_scanner *s, enum err_code code, const char *at, const char *next, const char *fmt,
	...) __attribute__((format(printf, 5, 6)));
void json_doubt_duplicate(struct json_scanner *s, const struct json_name *n);

/* Eight bytes at a time past what needs no look: ASCII without controls, quotation mark and backslash. */
static inline const char *json_skip_plain(const char *p, const char *end)
{
	const uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
	uint64_t w, quote, slash;

	for (; end - p >= 8; p += 8) {
		memcpy(&w, p, 8);
		quote = w ^ ones * '"';
		slash = w ^ ones * '\\';
		/* x - 1 borrows into the top bit where a byte is 0 (x - 32 where it is below 32): never too rarely */
		if ((w | (w - ones * 0x20) | (quote - ones) | (slash - ones)) & high)
			break;
	}
	while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
		p++;
	return p;
}

#endif
