/*
 * relay — one provider call and what becomes of its answer. Internal to the relay stage: relay.c makes the call and
 * judges how it ended, relay_stream.c passes a stream on event by event, relay_whole.c an answer that came as one body.
 */
#ifndef PAVISE_GATE_RELAY_H
#define PAVISE_GATE_RELAY_H

#include "edge/sse.h"
#include "edge/upstream.h"
#include "gate/settle.h"
#include "gate/txn.h"
#include "wire/stream.h"
#include "wire/usage.h"

enum { RELAY_TREE_GROWTH = 16 /* a parsed answer may take so many times max_response */ };

enum relay_mode {
	RELAY_WAITING, /* no head yet */
	RELAY_STREAM,  /* events */
	RELAY_BODY     /* one body: an answer, or an error */
};

struct relay {
	struct txn *t;
	enum relay_mode mode;
	int status; /* the provider's */
	struct buf body;

	struct sse_reader reader;
	struct assembly assembly;
	struct usage_view usage;
	struct buf out; /* what one read from the provider becomes */
	bool done;      /* [DONE] has come */
	struct heard heard;
	int64_t done_us, written_us;
	uint64_t received; /* bytes */
};

/*
 * Callbacks' halves in relay_stream.c; each returns 0, or -1 to end the call. The client's stream begins with the first
 * event or comment, not with the provider's head: what fails before still has a status of its own.
 */
int relay_stream_begin(struct relay *r);
int relay_stream_data(struct relay *r, const char *bytes, size_t len);
int relay_stream_flush(struct relay *r);
int relay_stream_tick(struct relay *r);
int64_t relay_stream_next_tick(struct relay *r);
/* Whether all of the answer is here, though its provider may not have said so. */
bool relay_stream_whole(const struct relay *r);
/* The provider's stream is over: ends the client's, remembers the answer. */
enum verdict relay_stream_end(struct relay *r);

/* The provider's body is here. */
enum verdict relay_whole_answer(struct relay *r);
enum verdict relay_whole_error(struct relay *r, const struct upstream_head *head);
/* Adds an answer that came as one body as the stream that was asked for, to its [DONE]. False: it is none. */
bool relay_whole_events(const struct txn *t, struct json_object *completion, struct buf *out);

#endif
