/* The table of failures, and the two ways in which a process gives up. */
#include "base/err.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ERR_LINE(name, code, status, type, retry, log_type) [ERR_##name] = {code, status, type, retry, log_type},
static const struct err_kind kinds[ERR_COUNT] = {ERR_TABLE(ERR_LINE)};

const struct err_kind *err_kind(enum err_code code)
{
	BUG_ON(code <= ERR_NONE || code >= ERR_COUNT);
	return &kinds[code];
}

int err_set(struct err *e, enum err_code code, const char *param, const char *fmt, ...)
{
	va_list ap;

	e->code = code;
	snprintf(e->param, sizeof(e->param), "%s", param ? param : "");
	va_start(ap, fmt);
	vsnprintf(e->message, sizeof(e->message), fmt, ap);
	va_end(ap);
	utf8_clean(e->message); /* headers and paths are no JSON, and a cut may go through a character */
	utf8_clean(e->param);
	return -1;
}

void die(const char *fmt, ...)
{
	va_list ap;

	fputs("pavise: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

void bug(const char *file, int line, const char *what)
{
	fprintf(stderr, "pavise: BUG at %s:%d: %s\n", file, line, what);
	abort();
}
