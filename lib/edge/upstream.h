/*
 * upstream — the side that faces the provider: one call at a time, its bytes handed on as they come (libcurl lives here
 * and nowhere else).
 */
#ifndef PAVISE_EDGE_UPSTREAM_H
#define PAVISE_EDGE_UPSTREAM_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

/* Once, before fork: everything of curl and OpenSSL that processes can share. */
void upstream_init(void);

/* Certificates that a provider's is verified against; shared by all workers. ca_file NULL: the system's. */
struct upstream_trust;
/* Before fork. NULL with *why set when the file cannot be read as PEM. */
struct upstream_trust *upstream_trust_new(const char *ca_file, const char **why);
void upstream_trust_free(struct upstream_trust *t);

/* How a call ended. Everything but DONE is a failure of the call, not an HTTP status. */
enum upstream_end {
	UPSTREAM_DONE,        /* a whole response, whatever its status */
	UPSTREAM_STOPPED,     /* a callback wanted no more */
	UPSTREAM_GONE,        /* watch_fd was closed from the other side */
	UPSTREAM_UNREACHABLE, /* name not found, connection refused, … */
	UPSTREAM_TLS,         /* certificate not trusted, handshake failed */
	UPSTREAM_CONNECT_TIMEOUT,
	UPSTREAM_FIRST_BYTE_TIMEOUT,
	UPSTREAM_BETWEEN_BYTES_TIMEOUT,
	UPSTREAM_TOTAL_TIMEOUT,
	UPSTREAM_BROKEN /* the connection broke, or what came is not HTTP */
};

struct upstream_head {
	int status;
	char content_type[128];
	char request_id[160]; /* x-request-id: what the provider's support asks for */
	char retry_after[64], retry_after_ms[32], should_retry[8]; /* as sent */
};

struct upstream_call {
	const char *url;
	const char *const *headers; /* "Name: value", NULL-terminated */
	const char *body;
	size_t body_len;
	const struct upstream_trust *trust; /* NULL: trust nobody */
	int64_t connect_us, first_byte_us, between_bytes_us, total_us;

	/* Callbacks; anything but 0 ends the call with UPSTREAM_STOPPED. */
	int (*on_head)(void *ctx, const struct upstream_head *head); /* once, before the first on_data */
	int (*on_data)(void *ctx, const char *bytes, size_t len);
	/* Behind the on_data of one read: time to hand on what came together. Also when watch_fd takes more. */
	int (*on_read)(void *ctx);
	int (*on_tick)(void *ctx);
	/* When on_tick wants to be called next, clock_mono_us(); asked again after every callback. */
	int64_t (*next_tick_us)(void *ctx);
	/* A socket whose far end, once closed, makes the call pointless: it ends with UPSTREAM_GONE. -1: none. */
	int watch_fd;
	bool (*wants_out)(void *ctx); /* there is more to write to watch_fd than it took */
	bool (*goes_on)(void *ctx);   /* it was closed: does the call go on without it? */
	void *ctx;
};

struct upstream_report {
	enum upstream_end end;
	struct upstream_head head; /* status 0: none came */
	int64_t first_byte_us;     /* from the start of the call; 0 = none came */
	int64_t duration_us;
	char detail[256]; /* for the log: curl's own words */
};

/* Makes the call and comes back when it is over. The connection is kept for the next one. */
void upstream_run(const struct upstream_call *call, struct upstream_report *report);

#endif
