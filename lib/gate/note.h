/*
 * note — what workers tell the bookkeeper, and the supervisor of workers that are gone: one message of edge/queue each.
 */
#ifndef PAVISE_GATE_NOTE_H
#define PAVISE_GATE_NOTE_H

#include "edge/ledger.h"
#include "edge/queue.h"

enum note_kind {
	NOTE_HOLD, /* a reservation is about to be made: hold, at_s, who, amounts (tokens and cost_pusd: the bounds) */
	NOTE_SETTLE, /* that hold's call is over: amounts, and where its worker has counted it (counted) */
	NOTE_SPENT,  /* something that nobody had reserved: at_s, who, amounts */
	NOTE_DEAD,   /* a worker is gone: id.life of its holds is `hold` */
	NOTE_WANT    /* a counter is missing: count, less its generation and its sums */
};

enum { NOTE_COUNTED = 32, NOTE_NAME = 200 /* bytes of a name of `who`; longer ones are hashed */ };

/* A worker has added to a generation of a counter. */
struct note_counted {
	const char *counter;
	uint64_t generation;
	int64_t amount;
	int64_t spent; /* and this to the one of what is spent */
	bool doubtful; /* memcached did not say whether it did */
};

struct note {
	enum note_kind kind;
	struct ledger_id id; /* of this message */
	int64_t sent_us;     /* clock_mono_us(), before it was put into the queue */
	uint64_t hold;       /* HOLD, SETTLE: its number (its life is the message's); DEAD: the life that is over */
	int64_t at_s;
	struct ledger_who who;
	struct ledger_amounts amounts;
	struct ledger_count count;
	size_t counted_count;
	struct note_counted counted[NOTE_COUNTED];
};

/* Bytes written; 0: it does not fit, which names of at most NOTE_NAME bytes always do. */
size_t note_print(const struct note *n, char out[QUEUE_MESSAGE]);
/* Strings point into the message. False: it is none. */
bool note_read(struct note *n, const char *message, size_t len);

#endif
