/*
 * queue — messages from many processes to one, which may die and come back: what it has not taken out is still there.
 *
 * The kernel keeps them (a pair of sockets that the supervisor holds open), whole and in order. The reader looks at as
 * many as it likes, makes them durable, and only then takes them out: a reader that is killed in between finds them
 * again.
 */
#ifndef PAVISE_EDGE_QUEUE_H
#define PAVISE_EDGE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QUEUE_MESSAGE = 8192 /* bytes of one at most */ };

struct queue {
	int in, out; /* writers' end, reader's end */
};

/* Before fork. False with errno set. */
bool queue_open(struct queue *q);

/* True: it will be read, whoever dies but the supervisor. False: there was no room within this time. */
bool queue_put(const struct queue *q, const void *message, size_t len, int64_t timeout_us);
/* For poll(): writable means that there is room again. */
int queue_writers_fd(const struct queue *q);

/* ---- the reader ---- */

/* The next one that has not been looked at; its length, or 0: there is none. */
size_t queue_peek(const struct queue *q, void *message, size_t room);
/* Takes out the first n. */
void queue_take(const struct queue *q, size_t n);
/* Looks at the first one again. Call it first: who read before may have been in the middle. */
void queue_rewind(const struct queue *q);
int queue_reader_fd(const struct queue *q);

#endif
