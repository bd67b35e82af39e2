/*
 * log — one JSON object a line, never torn: composed in a bounded buffer and written with one write().
 *
 * Names follow OpenTelemetry's semantic conventions where one exists (README.md lists them).
 */
#ifndef PAVISE_BASE_LOG_H
#define PAVISE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* The longest line: Apache cuts its own at 8,190 bytes, prefix included; a pipe keeps PIPE_BUF bytes whole. */
enum { LOG_MAX_FASTCGI = 7900, LOG_MAX_STDERR = 4096 };

/* A line in the making. A value that does not fit is left out, and "truncated":true says so. */
struct log_line {
	char text[LOG_MAX_FASTCGI + 1];
	size_t len, max;
	bool truncated;
};

/* Lines below `level` are not written. Call before fork. */
void log_init(enum log_level level);
bool log_enabled(enum log_level level);
const char *log_level_word(enum log_level level);

void log_begin(struct log_line *l, size_t max_bytes, enum log_level level, const char *event);
/* A NULL value is left out. All in ASCII; bytes that are not UTF-8 become U+FFFD; strings are cut at 512 bytes. */
void log_str(struct log_line *l, const char *name, const char *value);
void log_int(struct log_line *l, const char *name, int64_t value);
void log_bool(struct log_line *l, const char *name, bool value);
/* Microseconds, written as seconds: 0.001234. */
void log_seconds(struct log_line *l, const char *name, int64_t us);
/* Picodollars, written as dollars without loss: 0.0000315. */
void log_usd(struct log_line *l, const char *name, int64_t pusd);
enum { LOG_USD_TEXT = 40 };
void log_usd_text(int64_t pusd, char out[LOG_USD_TEXT]);
/* Ends the line with "}\n". */
void log_end(struct log_line *l);

/* Writes a finished line to the process's own stderr. */
void log_write(const struct log_line *l);

/* An event without a request: {"time":…,"level":…,"event":…,"message":…} on the process's own stderr. */
void log_event(enum log_level level, const char *event, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
