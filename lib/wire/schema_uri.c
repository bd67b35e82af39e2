/* An $id inside a schema moves the ground under its references, so they have to be resolved as URIs. */
#include "wire/schema_run.h"

#include <stdio.h>

struct part {
	const char *text;
	size_t len;
	bool present;
};

struct uri {
	struct part scheme, authority, path, query;
};

static struct part part_of(const char *text, size_t len)
{
	return (struct part){text, len, true};
}

static bool is_scheme(const char *s, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
			    (i && ((s[i] >= '0' && s[i] <= '9') || s[i] == '+' || s[i] == '-' || s[i] == '.'))))
			return false;
	return len > 0;
}

/* RFC 3986 appendix B, less the fragment. */
static struct uri split(const char *s)
{
	struct uri u = {0};
	size_t n = strcspn(s, ":/?");

	if (s[n] == ':' && is_scheme(s, n)) {
		u.scheme = part_of(s, n);
		s += n + 1;
	}
	if (s[0] == '/' && s[1] == '/') {
		n = strcspn(s + 2, "/?");
		u.authority = part_of(s + 2, n);
		s += n + 2;
	}
	n = strcspn(s, "?");
	u.path = part_of(s, n);
	if (s[n] == '?')
		u.query = part_of(s + n + 1, strlen(s + n + 1));
	return u;
}

static void add_part(struct buf *out, const char *before, const struct part *p, const char *behind)
{
	if (!p->present)
		return;
	buf_adds(out, before);
	buf_add(out, p->text, p->len);
	buf_adds(out, behind);
}

/* Takes the last segment, and the slash before it, from what the path has so far. */
static void drop_segment(struct buf *out, size_t start)
{
	while (out->len > start && out->data[out->len - 1] != '/')
		out->len--;
	if (out->len > start)
		out->len--;
}

/* §5.2.4 */
static void add_without_dots(struct buf *out, const char *p, const char *end)
{
	size_t start = out->len, n, left;

	while (p < end) {
		left = (size_t)(end - p);
		if (left >= 3 && memcmp(p, "../", 3) == 0) {
			p += 3;
		} else if ((left >= 2 && memcmp(p, "./", 2) == 0) || (left >= 3 && memcmp(p, "/./", 3) == 0)) {
			p += 2;
		} else if (left == 2 && memcmp(p, "/.", 2) == 0) {
			buf_addc(out, '/');
			p = end;
		} else if (left >= 4 && memcmp(p, "/../", 4) == 0) {
			drop_segment(out, start);
			p += 3;
		} else if (left == 3 && memcmp(p, "/..", 3) == 0) {
			drop_segment(out, start);
			buf_addc(out, '/');
			p = end;
		} else if ((left == 1 && *p == '.') || (left == 2 && memcmp(p, "..", 2) == 0)) {
			p = end;
		} else {
			for (n = 1; n < left && p[n] != '/'; n++)
				;
			buf_add(out, p, n);
			p += n;
		}
	}
}

/* §5.2.3 */
static void add_merged(struct buf *out, const struct uri *base, const struct uri *ref)
{
	struct buf path = BUF_INIT(2 * SCHEMA_MAX_URI);
	size_t n = base->path.len;

	while (n && base->path.text[n - 1] != '/')
		n--;
	if (base->authority.present && !base->path.len)
		buf_addc(&path, '/');
	buf_add(&path, base->path.text, n);
	buf_add(&path, ref->path.text, ref->path.len);
	if (path.overflow)
		out->overflow = true;
	else if (path.len)
		add_without_dots(out, path.data, path.data + path.len);
	buf_release(&path);
}

/* §5.2.2 */
int schema_uri_resolve(char out[SCHEMA_MAX_URI], const char *base, const char *ref)
{
	struct buf b = BUF_INIT(SCHEMA_MAX_URI - 1);
	struct uri from = split(base), to = split(ref);
	bool own_path = to.scheme.present || to.authority.present;
	int rc;

	add_part(&b, "", to.scheme.present ? &to.scheme : &from.scheme, ":");
	add_part(&b, "//", own_path ? &to.authority : &from.authority, "");
	if (own_path || (to.path.len && to.path.text[0] == '/'))
		add_without_dots(&b, to.path.text, to.path.text + to.path.len);
	else if (to.path.len)
		add_merged(&b, &from, &to);
	else
		buf_add(&b, from.path.text, from.path.len);
	add_part(&b, "?", own_path || to.path.len || to.query.present ? &to.query : &from.query, "");
	snprintf(out, SCHEMA_MAX_URI, "%s", b.data ? b.data : "");
	rc = b.overflow ? -1 : 0;
	buf_release(&b);
	return rc;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int schema_uri_decode(char *text)
{
	char *out = text, *p;
	int high, low;

	for (p = text; *p; p++) {
		if (*p != '%') {
			*out++ = *p;
			continue;
		}
		high = hex_digit(p[1]);
		low = high < 0 ? -1 : hex_digit(p[2]);
		if (low < 0 || (high == 0 && low == 0))
			return -1;
		*out++ = (char)(high << 4 | low);
		p += 2;
	}
	*out = '\0';
	return 0;
}
