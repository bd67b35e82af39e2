/*
 * embeddings — a request for embeddings as the client sent it: one text, or many, each of which is a question of its
 * own.
 */
#ifndef PAVISE_WIRE_EMBEDDINGS_H
#define PAVISE_WIRE_EMBEDDINGS_H

#include "wire/chat.h"

enum { EMBEDDINGS_MAX = 2048 /* inputs of one request; OpenAI's own bound */ };

/* POST /v1/embeddings. 0, or -1 with *err filled. */
int embeddings_read(struct chat *chat, struct json_object *body, struct err *err);

/*
 * The inputs: `input` itself when it is a string or one array of token numbers, else its elements. Borrowed from the
 * body.
 */
size_t embeddings_count(struct json_object *body);
struct json_object *embeddings_input(struct json_object *body, size_t i);

/* Leaves only the inputs for which wanted[i] is set. A single input stays as it is. */
void embeddings_keep(struct json_object *body, const bool *wanted);

/* The item of data that answers input i, in an answer for `count` inputs; NULL if there is none with a vector.
 * Borrowed. */
struct json_object *embeddings_of(struct json_object *answer, size_t i, size_t count);

#endif
