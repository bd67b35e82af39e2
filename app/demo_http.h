/*
 * demo_http — the URLs, and how an answer or an error leaves: in OpenAI's shape, with a request id.
 */
#ifndef PAVISE_DEMO_HTTP_H
#define PAVISE_DEMO_HTTP_H

#include "base/buf.h"
#include "base/err.h"
#include "demo.h"

struct evhttp_request;

/* evhttp's callback for every URL; arg is the struct demo. */
void demo_serve(struct evhttp_request *req, void *arg);

/* Headers that every answer has. */
void reply_headers(struct evhttp_request *req, const char *content_type);
/* Takes the body's memory. */
void reply_json(struct evhttp_request *req, int status, struct buf *body);
void reply_err(struct evhttp_request *req, const struct err *err);

/* A line on stderr about what was done, for the person in front of it; not with --quiet. */
void demo_note(const struct demo *demo, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
