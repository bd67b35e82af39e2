/*
 * canon — what is hashed is what is sent: two views of one body, and the named differences between them.
 *
 * Sent: the client's members in the client's order, in our spelling, with the named edits. Hashed: the same less the
 * named exclusions, with members sorted only where order cannot matter to a model (the request, messages, content parts
 * and the other wrappers named in canon.c); schemas, tool parameters and whatever we do not know keep their order.
 */
#ifndef PAVISE_WIRE_CANON_H
#define PAVISE_WIRE_CANON_H

#include "base/json.h"

/*
 * The most bytes that either view of a body of so many bytes can have: the worst is 1e19, which we spell with 20
 * digits. The edits add a bounded few.
 */
#define CANON_MAX_BYTES(body_bytes) ((size_t)(body_bytes)*5 + 65536)

/* Appends the view that is hashed. */
void canon_hashed(struct buf *out, struct json_object *body);

struct canon_edits {
	const char *model;      /* the provider's name for it */
	bool no_stream_options; /* the provider does not understand them */
	bool include_usage;     /* ask for the usage chunk of a stream, whatever the client asked: we account */
	int64_t cap;            /* tokens of each answer at most; 0 = as the client has it */
	const char *cap_field;  /* where it is said; what the client said of it elsewhere goes */
};

/* Makes the edits in `body` itself, then appends the view that is sent. */
void canon_sent(struct buf *out, struct json_object *body, const struct canon_edits *edits);

#endif
