/*
 * measure — how much a request asks for, and how much of an answer has come: what can be said of tokens without any
 * model's tokenizer.
 *
 * A token stands for at least one byte of text, so text is measured by its bytes, and whatever a provider writes around
 * it (a message's frame, tools as it spells them out) by more than anybody is known to write. What is no text is
 * counted, and what nobody can measure is named.
 */
#ifndef PAVISE_WIRE_MEASURE_H
#define PAVISE_WIRE_MEASURE_H

#include "base/json.h"

enum { MEASURE_PARAM = 96 };

/* Parts that are no text; a provider's bill says how many tokens one of them is. */
enum measure_part { MEASURE_IMAGE, MEASURE_AUDIO, MEASURE_FILE, MEASURE_PARTS };

struct measure {
	int64_t text;                 /* bytes, or what stands for them: at least as many as its tokens */
	int64_t parts[MEASURE_PARTS]; /* how many of each */
	char part_param[MEASURE_PARTS][MEASURE_PARAM]; /* where the first one stands */
	int64_t inputs;                                /* each of which may fill a context */
	int64_t answers;      /* that are wanted, each as long as it may be; 0: what is asked for has no output */
	int64_t cap;          /* what the client says of the length of each, in tokens; 0 = nothing */
	const char *cap_name; /* where it says so: "max_tokens" or "max_completion_tokens"; NULL = nowhere */
	char unmeasured[MEASURE_PARAM]; /* what can take any part of the model's context; "" = nothing */
	char unpriced[MEASURE_PARAM];   /* what costs something that usage does not say; "" = nothing */
	bool speaks;                    /* the answer may be audio */
	char tier[24];                  /* service_tier; "" = none */
};

/* Of requests that have been read (wire/chat, wire/embeddings) and not been edited yet. */
void measure_chat(struct measure *m, struct json_object *body);
void measure_completion(struct measure *m, struct json_object *body);
void measure_embeddings(struct measure *m, struct json_object *body);

/*
 * An answer, or one chunk of it: at least as many as the tokens that a client can see of it. *reasoned is set where it
 * shows that the model has thought, of which clients see what the provider likes.
 */
int64_t measure_answer(struct json_object *answer, bool *reasoned);

#endif
