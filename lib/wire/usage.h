/*
 * usage — what an answer used, shown to a client that asked for it, and once.
 *
 * Providers say it in a chunk of its own (OpenAI), beside the finish_reason (Mistral, DeepSeek), or in every chunk what
 * has been used so far (Perplexity; vLLM if asked to); Groq says it in its x_groq, too. A client that asked sees the
 * last count, where it stands; a client that did not ask sees none. Live streams and replays obey the same rule.
 */
#ifndef PAVISE_WIRE_USAGE_H
#define PAVISE_WIRE_USAGE_H

#include "base/json.h"

struct usage_view {
	bool asked;      /* the client's stream_options.include_usage */
	bool running;    /* its continuous_usage_stats (vLLM): it wants the counts on the way, too */
	int64_t choices; /* at least so many will finish; a count before that is one on the way */
	int64_t finished;
	struct json_object *shown; /* owned; the count that the client has seen */
	struct json_object *held;  /* owned; a chunk of nothing but a count that it has not seen */
};

enum usage_sight {
	USAGE_AS_IT_IS,
	USAGE_CHANGED, /* the chunk's usage was made null, or taken out; or its x_groq is another one without it */
	USAGE_UNSEEN   /* it is a chunk that the client must not see at all */
};

/* Shows one chunk, which may be changed. */
enum usage_sight usage_show(struct usage_view *v, struct json_object *chunk);
/* At the end: the chunk that the client is still owed, owned by the view; or NULL. */
struct json_object *usage_owed(struct usage_view *v);
void usage_release(struct usage_view *v);

#endif
