/*
 * demo — what the files of demo-llm share: its options, its counters, and the one loop that they run in.
 *
 * demo-llm.c is the program, demo_http.c its URLs, demo_chat.c and demo_embed.c what answers there, demo_ask.c a
 * request as it is understood, demo_speech.c, demo_schema.c and demo_pattern.c what is said, demo_hold.c and
 * demo_wheel.c when.
 */
#ifndef PAVISE_DEMO_H
#define PAVISE_DEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest request body, and a bound for everything that is made of one. */
enum { DEMO_MAX_BODY = 64 * 1024 * 1024, DEMO_MAX_BYTES = 1024 * 1024 * 1024 };
enum { DEMO_MAX_MS = 3600 * 1000, DEMO_MAX_TOKENS = 10 * 1000 * 1000 };

/* Every Nth request is refused with this status; 0 = none is. */
struct demo_fail {
	int status, every;
};

struct demo_options {
	const char *listen;
	int port; /* 0 = whichever is free */
	int first_ms, token_ms, tokens;
	struct demo_fail fail;
	int die_after; /* tokens; 0 = never */
	bool stamp, quiet;
	const char *tls_cert, *tls_key, *api_key; /* NULL = none */
};

struct demo_stats {
	uint64_t requests, chat, embeddings; /* requests = chat (text completions too) + embeddings, refused ones too */
	uint64_t streams_open, aborted;
};

/* How one request is answered: the options, unless its x-demo- headers say otherwise. */
struct demo_pace {
	int first_ms, token_ms, tokens;
	int fail; /* the status to fail with; 0 = answer, -1 = as the options say */
};

struct event_base;
struct wheel;

struct demo {
	struct demo_options options;
	struct demo_stats stats;
	struct event_base *base;
	struct wheel *wheel;
};

#endif
