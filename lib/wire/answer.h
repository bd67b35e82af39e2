/*
 * answer — what the gateway wants to know of a provider's answer: who answered, why it ended, what it used.
 */
#ifndef PAVISE_WIRE_ANSWER_H
#define PAVISE_WIRE_ANSWER_H

#include "base/json.h"

struct answer_facts {
	char model[96], id[96];
	char finish_reasons[96];                            /* joined with commas */
	int64_t input_tokens, output_tokens, cached_tokens; /* of the input; -1 = not said */
	int64_t cache_write_tokens, audio_input_tokens;     /* of the input; 0 or less = none */
	int64_t audio_output_tokens;                        /* of the output */
	char tier[24]; /* the service tier that it was answered in; "" = not said */
};

void answer_facts_init(struct answer_facts *f);

/* Reads a completion or a chunk; what it does not say stays as it is. */
void answer_facts_read(struct answer_facts *f, struct json_object *answer);

/* Whether a choice ended because it was long enough, not because there was no more to say. */
bool answer_cut(struct json_object *completion);

/* A chat completion that is whole: at least one choice, each with a message and a finish_reason. */
bool answer_complete(struct json_object *completion);

/*
 * Whether it is an error, whatever its status: {"error":…}, with choices or without them, {"object":"error",…}, or a
 * list that begins with one. An empty "error" beside an answer says that there is none.
 */
bool answer_is_error(struct json_object *answer);

/*
 * A provider's error in OpenAI's shape: prints {"error":{message,type,param,code,…}} from whatever its body is. What it
 * says itself is kept (a message that is no text is printed as JSON); the others stand in where it says nothing.
 */
void answer_error_body(
	struct buf *out, struct json_object *body, const char *message, const char *type, const char *code);

#endif
