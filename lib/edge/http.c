/* What RFC 9110, RFC 3875 and W3C Trace Context say, and no policy. */
#include "edge/http.h"

#include "base/hash.h"
#include "edge/fcgi.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

const char *http_header(const char *name)
{
	char param[64];
	size_t i, n;

	if (strcasecmp(name, "content-type") == 0)
		return fcgi_param("CONTENT_TYPE");
	if (strcasecmp(name, "content-length") == 0)
		return fcgi_param("CONTENT_LENGTH");
	n = (size_t)snprintf(param, sizeof(param), "HTTP_%s", name);
	if (n >= sizeof(param))
		return NULL;
	for (i = 5; i < n; i++)
		param[i] = param[i] == '-' ? '_' : (char)toupper((unsigned char)param[i]);
	return fcgi_param(param);
}

const char *http_reason(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} table[] = {
		{200, "OK"},
		{204, "No Content"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{402, "Payment Required"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{413, "Content Too Large"},
		{415, "Unsupported Media Type"},
		{422, "Unprocessable Content"},
		{429, "Too Many Requests"},
		{500, "Internal Server Error"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{529, "Overloaded"},
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].status == status)
			return table[i].phrase;
	return "";
}

void http_head_status(struct buf *head, int status)
{
	buf_printf(head, "Status: %d %s\r\n", status, http_reason(status));
}

void http_head_add(struct buf *head, const char *name, const char *fmt, ...)
{
	char value[2048];
	va_list ap;
	char *c;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	for (c = value; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	buf_adds(head, name);
	buf_add(head, ": ", 2);
	buf_adds(head, value);
	buf_add(head, "\r\n", 2);
}

void http_head_end(struct buf *head)
{
	buf_add(head, "\r\n", 2);
}

bool http_request_id_valid(const char *id)
{
	size_t n = strlen(id);

	return n >= 1 && n <= 128 &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/+=@") == n;
}

bool http_media_type_is(const char *content_type, const char *type)
{
	size_t n = strlen(type);

	if (!content_type || strncasecmp(content_type, type, n) != 0)
		return false;
	content_type += n;
	content_type += strspn(content_type, " \t");
	return *content_type == '\0' || *content_type == ';';
}

/* Adds a character if there is room for it. */
static void put(char *out, size_t room, size_t *len, char c)
{
	if (*len + 1 < room)
		out[(*len)++] = c;
	out[*len] = '\0';
}

/* A quoted-string without its quotes and backslashes (RFC 9110, 5.6.4); returns what stands behind it. */
static const char *take_quoted(const char *s, char *out, size_t room)
{
	size_t len = 0;

	for (s++; *s && *s != '"'; s++) {
		s += *s == '\\' && s[1];
		put(out, room, &len, *s);
	}
	return *s ? s + 1 : s;
}

static const char *take_token(const char *s, char *out, size_t room)
{
	size_t len = 0;

	for (; *s && !strchr(" \t,;=\"", *s); s++)
		put(out, room, &len, *s);
	return s;
}

bool http_directive_next(const char **at, struct http_directive *d)
{
	const char *s = *at + strspn(*at, ", \t");
	struct http_directive rest;

	*d = (struct http_directive){0};
	if (!*s)
		return false;
	s = take_token(s, d->name, sizeof(d->name));
	if (*s == '=' && s[1] == '"')
		s = take_quoted(s + 1, d->value, sizeof(d->value));
	else if (*s == '=')
		s = take_token(s + 1, d->value, sizeof(d->value));
	while (*s && *s != ',') /* a comma within quotes separates nothing */
		s = *s == '"' ? take_quoted(s, rest.value, sizeof(rest.value)) : s + 1;
	*at = s;
	return true;
}

static bool hex_nonzero(const char *s, size_t n)
{
	return strspn(s, "0123456789abcdef") >= n && strspn(s, "0") < n;
}

bool http_trace_parse(const char *s, struct http_trace *trace)
{
	if (!s || strlen(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-')
		return false;
	if (strspn(s, "0123456789abcdef") < 2 || strncmp(s, "ff", 2) == 0 || !hex_nonzero(s + 3, 32) ||
		!hex_nonzero(s + 36, 16) || strspn(s + 53, "0123456789abcdef") < 2)
		return false;
	if (s[55] != '\0' && (strncmp(s, "00", 2) == 0 || s[55] != '-'))
		return false; /* a later version may have more fields, version 00 may not */
	snprintf(trace->trace_id, sizeof(trace->trace_id), "%.32s", s + 3);
	snprintf(trace->parent_id, sizeof(trace->parent_id), "%.16s", s + 36);
	sscanf(s + 53, "%2x", &trace->flags);
	return true;
}

void http_trace_begin(struct http_trace *trace)
{
	uint8_t id[16];

	hash_random(id, sizeof(id));
	id[0] |= 1; /* all zeros would be invalid */
	hash_hex(id, sizeof(id), trace->trace_id);
	trace->parent_id[0] = '\0';
	trace->flags = 1;
}

void http_trace_print(const struct http_trace *trace, char out[HTTP_TRACEPARENT])
{
	uint8_t id[8];
	char span[17];

	hash_random(id, sizeof(id));
	id[0] |= 1;
	hash_hex(id, sizeof(id), span);
	snprintf(out, HTTP_TRACEPARENT, "00-%s-%s-%02x", trace->trace_id, span, trace->flags & 1);
}

size_t http_path_len(const char *request_uri)
{
	return strcspn(request_uri, "?#");
}

const char *http_origin_form(const char *uri)
{
	const char *authority = strncasecmp(uri, "http://", 7) == 0    ? uri + 7
				: strncasecmp(uri, "https://", 8) == 0 ? uri + 8
								       : NULL;

	if (!authority)
		return uri;
	uri = authority + strcspn(authority, "/?#");
	return *uri == '/' ? uri : "/";
}
