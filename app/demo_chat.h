/*
 * demo_chat — POST /v1/chat/completions and /v1/completions: an answer at a human pace, as JSON or as a stream.
 */
#ifndef PAVISE_DEMO_CHAT_H
#define PAVISE_DEMO_CHAT_H

struct demo;
struct demo_pace;
struct evhttp_request;
struct json_object;

/* Answers, at once or later; `body` stays the caller's. */
void chat_answer(struct demo *demo, struct evhttp_request *req, const struct demo_pace *pace, struct json_object *body);
void legacy_answer(
	struct demo *demo, struct evhttp_request *req, const struct demo_pace *pace, struct json_object *body);

#endif
