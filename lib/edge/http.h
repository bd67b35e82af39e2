/*
 * http — HTTP's own words: header fields in and out, status phrases, and the few headers whose grammar matters to us.
 */
#ifndef PAVISE_EDGE_HTTP_H
#define PAVISE_EDGE_HTTP_H

#include "base/buf.h"

#include <stdint.h>

/* A header of the current request by its name ("x-request-id"), or NULL. From the CGI variables (RFC 3875, 4.1.18). */
const char *http_header(const char *name);

/* The phrase for a status: "Too Many Requests"; "" for one that nobody knows. */
const char *http_reason(int status);

/* The answer's head, as a CGI response (RFC 3875, 6). Values lose control bytes: nobody can smuggle a header in. */
void http_head_status(struct buf *head, int status);
void http_head_add(struct buf *head, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void http_head_end(struct buf *head);

/* Whether a client's x-request-id may be taken over: 1 to 128 of A-Z a-z 0-9 and "-._:/+=@". */
bool http_request_id_valid(const char *id);

/* The media type without its parameters is `type` (RFC 9110, 8.3.1), whatever its case. */
bool http_media_type_is(const char *content_type, const char *type);

/*
 * The next of a list of directives: name, name=value or name="value" between commas, of which several may stand in a
 * row (RFC 9110, 5.6.1; RFC 9111, 5.2). False at the end. A name or value that does not fit is cut: nobody's. What
 * stands wrongly is passed over up to the next comma.
 */
struct http_directive {
	char name[32], value[64]; /* value "" = none */
};
bool http_directive_next(const char **at, struct http_directive *d);

/* W3C Trace Context, 3.2. */
struct http_trace {
	char trace_id[33], parent_id[17];
	unsigned flags;
};
/* False if the header is missing or malformed. */
bool http_trace_parse(const char *traceparent, struct http_trace *trace);
/* Begins a new trace. */
void http_trace_begin(struct http_trace *trace);
/* "00-…-…-01" with a new span as parent. */
enum { HTTP_TRACEPARENT = 56 };
void http_trace_print(const struct http_trace *trace, char out[HTTP_TRACEPARENT]);

/* "http://host/path" as a target (RFC 9112, 3.2.2) less its scheme and authority; anything else as it is. */
const char *http_origin_form(const char *request_uri);

/* Request targets arrive as they were sent: cuts the query off and collapses nothing. Length of the path. */
size_t http_path_len(const char *request_uri);

#endif
