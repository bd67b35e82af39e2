/* What a refusal tells the client: the path in its own spelling, line and column, what is wrong, what instead. */
#include "base/json_scan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* What fits beside a path and a sentence in err->message. */
enum { NAME_SHOWN_BYTES = 80 };

static const struct {
	char c;
	const char *text;
} hints[] = {
	{'\'', "; strings stand in double quotes"},
	{'#', "; JSON has no comments"},
	{'N', "; JSON has no NaN, and None is written null"},
	{'I', "; JSON has no Infinity"},
	{'T', "; true is written in lower case"},
	{'F', "; false is written in lower case"},
	{'+', "; a number begins with a digit or a minus sign"},
	{'.', "; a digit must stand before the decimal point"},
};

const char *json_name_bytes(const struct json_scanner *s, const struct json_name *n)
{
	return n->decoded == NOT_DECODED ? s->text + n->at : s->decoded.data + n->decoded;
}

static bool is_identifier(const char *s, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || s[i] == '_' || s[i] == '$' ||
			    (i && s[i] >= '0' && s[i] <= '9')))
			return false;
	return len > 0;
}

/* Adds whole characters, as long as they fit; controls (C0, DEL and C1) and quotation marks are escaped. */
static void add_quoted(struct buf *out, const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + len;
	size_t n;

	for (; p < end && !out->overflow; p += n) {
		n = *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
		if (*p == '"' || *p == '\\')
			buf_printf(out, "\\%c", *p);
		else if (*p < 0x20 || *p == 0x7f)
			buf_printf(out, "\\u%04x", *p);
		else if (*p == 0xc2 && p[1] < 0xa0)
			buf_printf(out, "\\u%04x", p[1]);
		else
			buf_add(out, p, n);
	}
}

static void path_add_name(const struct json_scanner *s, struct buf *path, const struct json_name *n)
{
	const char *bytes = json_name_bytes(s, n);

	if (is_identifier(bytes, n->len)) {
		if (path->len)
			buf_adds(path, ".");
		add_quoted(path, bytes, n->len);
	} else {
		buf_adds(path, "[\"");
		add_quoted(path, bytes, n->len);
		buf_adds(path, "\"]");
	}
}

/* The path of the innermost open level, or of the member in it whose value is wanted. */
static void path_add_levels(const struct json_scanner *s, struct buf *path)
{
	int known = s->want == WANT_VALUE ? s->depth : s->depth - 1, i;
	size_t next;

	for (i = 0; i < known; i++) {
		next = i + 1 < s->depth ? s->levels[i + 1].first_name : s->name_count;
		if (s->levels[i].is_object)
			path_add_name(s, path, &s->names[next - 1]);
		else
			buf_printf(path, "[%" PRIu32 "]", s->levels[i].index);
	}
}

static struct buf path_buf(const struct err *e)
{
	return BUF_INIT(sizeof(e->param) - 1);
}

static const char *path_text(const struct buf *path)
{
	return path->data ? path->data : "";
}

/* Counted from 1; columns in characters. */
static void find_place(const struct json_scanner *s, const char *at, size_t *line, size_t *column)
{
	const char *p;

	*line = *column = 1;
	for (p = s->text; p < at; p++) {
		if (*p == '\n') {
			++*line;
			*column = 1;
		} else if ((*p & 0xc0) != 0x80) {
			++*column;
		}
	}
}

static void fail(struct json_scanner *s, enum err_code code, const char *at, const char *fmt, va_list ap)
{
	struct buf path = path_buf(s->err);
	size_t line, column;
	char what[256];

	vsnprintf(what, sizeof(what), fmt, ap);
	path_add_levels(s, &path);
	find_place(s, at, &line, &column);
	err_set(s->err, code, path_text(&path), "%s at line %zu, column %zu: %s.",
		code == ERR_NUMBER_RANGE ? "Number out of range" : "Invalid JSON", line, column, what);
	buf_release(&path);
}

const char *json_fail(struct json_scanner *s, enum err_code code, const char *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fail(s, code, at, fmt, ap);
	va_end(ap);
	return NULL;
}

const char *json_doubt(
	struct json_scanner *s, enum err_code code, const char *at, const char *next, const char *fmt, ...)
{
	va_list ap;

	if (s->doubted)
		return next;
	s->doubted = true;
	va_start(ap, fmt);
	fail(s, code, at, fmt, ap);
	va_end(ap);
	return next;
}

void json_doubt_duplicate(struct json_scanner *s, const struct json_name *n)
{
	struct buf holder = path_buf(s->err), member = path_buf(s->err), shown = BUF_INIT(NAME_SHOWN_BYTES);
	size_t line, column;

	if (s->doubted)
		return;
	s->doubted = true;
	s->want = WANT_FIRST;
	path_add_levels(s, &holder);
	path_add_levels(s, &member);
	path_add_name(s, &member, n);
	add_quoted(&shown, json_name_bytes(s, n), n->len);
	find_place(s, s->text + n->at - 1, &line, &column);
	err_set(s->err, ERR_DUPLICATE_NAME, path_text(&member),
		"The name \"%s%s\" stands twice in %s (line %zu, column %zu).", path_text(&shown),
		shown.overflow ? "…" : "", holder.len ? holder.data : "the outermost object", line, column);
	buf_release(&holder);
	buf_release(&member);
	buf_release(&shown);
}

static const char *hint_for(const struct json_scanner *s, const char *p)
{
	size_t left = (size_t)(s->end - p), i;

	if (left && *p == '/') /* json_parse_with_comments() leaves only those that do not end */
		return left > 1 && p[1] == '*' && !memmem(p + 2, left - 2, "*/", 2)
			       ? "; a comment begins here and does not end"
			       : "; JSON has no comments";
	if (left >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
		return " (a byte order mark); send the text without it";
	if (left && (*p == ']' || *p == '}')) {
		while (p > s->text && memchr(" \t\r\n", p[-1], 4))
			p--;
		return p > s->text && p[-1] == ',' ? "; take away the comma before it" : "";
	}
	for (i = 0; left && i < sizeof(hints) / sizeof(hints[0]); i++)
		if (hints[i].c == *p)
			return hints[i].text;
	return "";
}

const char *json_fail_unexpected(struct json_scanner *s, const char *p, const char *expected)
{
	char found[24];

	if (p == s->end)
		snprintf(found, sizeof(found), "the end of the text");
	else if (*p == '"')
		snprintf(found, sizeof(found), "a string");
	else if (*p > ' ' && *p < 0x7f)
		snprintf(found, sizeof(found), "\"%c\"", *p);
	else
		snprintf(found, sizeof(found), "the byte 0x%02X", (unsigned char)*p);
	return json_fail(s, ERR_INVALID_JSON, p, "expected %s, found %s%s", expected, found, hint_for(s, p));
}
