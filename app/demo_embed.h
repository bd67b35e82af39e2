/*
 * demo_embed — POST /v1/embeddings: unit vectors that depend on nothing but the input.
 */
#ifndef PAVISE_DEMO_EMBED_H
#define PAVISE_DEMO_EMBED_H

struct demo;
struct demo_pace;
struct evhttp_request;
struct json_object;

/* Answers, after the time to the first token; `body` stays the caller's. */
void embed_answer(
	struct demo *demo, struct evhttp_request *req, const struct demo_pace *pace, struct json_object *body);

#endif
