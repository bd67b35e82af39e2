/*
 * answer — how every answer looks from outside: its head, and errors in OpenAI's shape.
 */
#ifndef PAVISE_GATE_ANSWER_H
#define PAVISE_GATE_ANSWER_H

#include "base/hash.h"
#include "gate/txn.h"

/* Sends the head for what comes piece by piece. False: the client has gone. */
bool answer_begin(struct txn *t, int status, const char *content_type);
/* Sends a piece of the body; `flush` when it should be seen now. False: the client has gone. */
bool answer_piece(struct txn *t, const char *bytes, size_t len, bool flush);

/* A comment in a stream, which no client looks at: whether there still is one. False: it has gone. */
bool answer_comment(struct txn *t, const char *text);
/* Sends what the client would not take before. Nobody waits for a client while others may follow its call (t->lead). */
bool answer_push(struct txn *t);

/* A whole answer; content_type NULL: none. */
enum verdict answer_whole(
	struct txn *t, int status, const char *content_type, const struct hash_part *parts, size_t count);
enum verdict answer_json(struct txn *t, int status, const struct buf *body);

/*
 * Answers with t->err: as a status and a body, or, where the head has been sent, as the last event of the stream; or
 * with a stale answer, where there is one and it is better than this error.
 */
void answer_error(struct txn *t);
/* The same with a status and a body of the provider's. */
void answer_provider_error(struct txn *t, int status, const struct buf *body);

/* What stands for a provider's id in an answer that is given again; kept in t->facts. */
const char *answer_fresh_id(struct txn *t);

/* As OpenAI writes durations in x-ratelimit-reset-*: "12ms", "6m0s", "1h0m0s". */
void answer_reset_text(int64_t ms, char *out, size_t room);

#endif
