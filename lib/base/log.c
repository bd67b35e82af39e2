/* Composed by hand rather than through json-c: a log line must be possible when memory is not. */
#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { VALUE_MAX = 512, TAIL_ROOM = sizeof(",\"truncated\":true}\n") };

static enum log_level threshold = LOG_INFO;

void log_init(enum log_level level)
{
	threshold = level;
}

bool log_enabled(enum log_level level)
{
	return level >= threshold;
}

const char *log_level_word(enum log_level level)
{
	static const char *const words[] = {"debug", "info", "warn", "error"};

	return words[level];
}

/* One character in ASCII (RFC 8259, 7): lighttpd writes every other byte as \xNN, and a line would be no JSON any more.
 */
static int escape(char out[16], unsigned c)
{
	if (c == '"' || c == '\\')
		return snprintf(out, 16, "\\%c", (char)c);
	if (c >= 0x20 && c < 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x10000)
		return snprintf(out, 16, "\\u%04x", c);
	return snprintf(out, 16, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
}

/* As much of s as is plain: written as it is. */
static size_t plain_len(const unsigned char *s, size_t left)
{
	size_t n = 0;

	while (n < left && s[n] >= 0x20 && s[n] < 0x7f && s[n] != '"' && s[n] != '\\')
		n++;
	return n;
}

/* Writes s as the inside of a JSON string; returns its length, or -1 if it does not fit. */
static int quote(char *out, size_t room, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t left = strnlen(text, VALUE_MAX), used = 0, step, n;
	const char *from;
	char one[16];
	unsigned c;

	for (; left; s += step, left -= step, used += n) {
		from = (const char *)s;
		step = n = plain_len(s, left);
		if (n == 0) {
			from = one;
			step = utf8_decode(s, left, &c);
			n = (size_t)escape(one, c);
		}
		if (used + n > room)
			return -1;
		memcpy(out + used, from, n);
	}
	return (int)used;
}

/* ,"name":<open>value<close>, all or nothing. */
static void add(struct log_line *l, const char *name, const char *open, const char *value, const char *close)
{
	char *at = l->text + l->len;
	size_t room = l->max - l->len > TAIL_ROOM ? l->max - l->len - TAIL_ROOM : 0;
	size_t name_len = strlen(name), open_len = strlen(open), close_len = strlen(close), head = 0;
	int body;

	if (room < name_len + open_len + close_len + 4) {
		l->truncated = true;
		return;
	}
	if (l->len > 1)
		at[head++] = ',';
	at[head++] = '"';
	memcpy(at + head, name, name_len);
	memcpy(at + head + name_len, "\":", 2);
	memcpy(at + head + name_len + 2, open, open_len);
	head += name_len + 2 + open_len;
	body = quote(at + head, room - head - close_len, value);
	if (body < 0) {
		l->truncated = true;
		return;
	}
	memcpy(at + head + (size_t)body, close, close_len);
	l->len += head + (size_t)body + close_len;
}

void log_begin(struct log_line *l, size_t max_bytes, enum log_level level, const char *event)
{
	char now[CLOCK_TEXT];

	l->text[0] = '{';
	l->len = 1;
	l->max = max_bytes < sizeof(l->text) ? max_bytes : sizeof(l->text) - 1;
	l->truncated = false;
	clock_text(clock_real_ms(), now);
	log_str(l, "time", now);
	log_str(l, "level", log_level_word(level));
	log_str(l, "event", event);
}

void log_str(struct log_line *l, const char *name, const char *value)
{
	if (value)
		add(l, name, "\"", value, "\"");
}

void log_int(struct log_line *l, const char *name, int64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%lld", (long long)value);
	add(l, name, "", digits, "");
}

void log_bool(struct log_line *l, const char *name, bool value)
{
	add(l, name, "", value ? "true" : "false", "");
}

void log_seconds(struct log_line *l, const char *name, int64_t us)
{
	char digits[32];

	snprintf(digits, sizeof(digits), "%lld.%06d", (long long)(us / 1000000), (int)(us % 1000000));
	add(l, name, "", digits, "");
}

void log_usd_text(int64_t pusd, char out[LOG_USD_TEXT])
{
	int n = snprintf(out, LOG_USD_TEXT, "%lld.%012lld", (long long)(pusd / 1000000000000),
		(long long)(pusd % 1000000000000));

	while (out[n - 1] == '0' && out[n - 2] != '.')
		out[--n] = '\0';
}

void log_usd(struct log_line *l, const char *name, int64_t pusd)
{
	char digits[LOG_USD_TEXT];

	log_usd_text(pusd, digits);
	add(l, name, "", digits, "");
}

void log_end(struct log_line *l)
{
	static const char mark[] = ",\"truncated\":true";

	if (l->truncated) {
		memcpy(l->text + l->len, mark, sizeof(mark) - 1);
		l->len += sizeof(mark) - 1;
	}
	memcpy(l->text + l->len, "}\n", 3);
	l->len += 2;
}

void log_write(const struct log_line *l)
{
	ssize_t n = write(STDERR_FILENO, l->text, l->len); /* one write: whole lines from many processes */

	(void)n; /* there is nobody left to tell */
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	struct log_line l;
	char message[VALUE_MAX];
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	log_begin(&l, LOG_MAX_STDERR, level, event);
	log_str(&l, "message", message);
	log_int(&l, "process.pid", getpid());
	log_end(&l);
	log_write(&l);
}
