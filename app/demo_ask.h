/*
 * demo_ask — a request as the demo understands it: how many choices of which kind, and what they begin with.
 */
#ifndef PAVISE_DEMO_ASK_H
#define PAVISE_DEMO_ASK_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct json_object;

enum { ASK_MAX_CHOICES = 128 };

struct ask {
	char *model; /* as asked, and as answered */
	char *tool;  /* the function to call; NULL = answer in text */
	char *say;   /* the opening of the prose, or the whole script (the arguments, the structured answer) */
	bool script;
	bool legacy; /* a text completion: of a prompt, answered without a message around it */
	bool stream, include_usage;
	int choices;
	int64_t max_tokens; /* of each choice; 0 = no limit */
	int64_t prompt_tokens;
	uint64_t seed;
};

/* 0, or -1 with *err filled; *a is to be released in either case. */
int ask_read(struct ask *a, struct json_object *body, struct err *err);
/* The same for /v1/completions. */
int ask_read_legacy(struct ask *a, struct json_object *body, struct err *err);
void ask_release(struct ask *a);

#endif
