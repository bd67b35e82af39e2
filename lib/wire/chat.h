/*
 * chat — a request for a chat or a legacy completion as the client sent it: what is checked, and the few facts that the
 * gateway needs of it.
 *
 * Fields that we know are checked for type and range; a field that we do not know is left alone and travels on.
 * Source of names and ranges: OpenAI's API reference, "Create chat completion".
 */
#ifndef PAVISE_WIRE_CHAT_H
#define PAVISE_WIRE_CHAT_H

#include "base/json.h"

struct chat {
	struct json_object *body; /* borrowed; canon_sent() edits it */
	const char *model;        /* the name that the client used */
	int64_t choices;          /* how many answers are wanted: n, for each prompt */
	bool stream;
	bool include_usage; /* the client wants to see what was used, at the end of its stream */
	bool running_usage; /* … and on the way (vLLM's continuous_usage_stats) */
	bool side_effect;   /* the provider would do more than answer: no answer may stand in for the call */
	bool temperature_zero;
	const char *user; /* the end user: safety_identifier, else user; NULL if neither */
};

/* POST /v1/chat/completions. 0, or -1 with *err filled: code, param as a path, message. */
int chat_read(struct chat *chat, struct json_object *body, struct err *err);

/* POST /v1/completions. */
int completion_read(struct chat *chat, struct json_object *body, struct err *err);

#endif
