/*
 * SOCK_SEQPACKET for whole messages; SO_PEEK_OFF (unix(7), socket(7)) to look past the first one. How much fits is the
 * writers' SO_SNDBUF: a message that is not taken out holds its room.
 */
#include "edge/queue.h"

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

enum { ROOM = 8 << 20 };

bool queue_open(struct queue *q)
{
	int fds[2], room = ROOM;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
		return false;
	q->in = fds[0];
	q->out = fds[1];
	if (setsockopt(q->in, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) != 0) /* only root may have so much */
		setsockopt(q->in, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	queue_rewind(q);
	return true;
}

bool queue_put(const struct queue *q, const void *message, size_t len, int64_t timeout_us)
{
	int64_t deadline_us = clock_mono_us() + timeout_us, left_us;
	struct pollfd fd = {q->in, POLLOUT, 0};

	BUG_ON(len == 0 || len > QUEUE_MESSAGE);
	for (;;) {
		if (send(q->in, message, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len)
			return true;
		if (errno == EINTR)
			continue;
		left_us = deadline_us - clock_mono_us();
		if ((errno != EAGAIN && errno != ENOBUFS) || left_us <= 0)
			return false;
		poll(&fd, 1, (int)((left_us + 999) / 1000));
	}
}

int queue_writers_fd(const struct queue *q)
{
	return q->in;
}

size_t queue_peek(const struct queue *q, void *message, size_t room)
{
	ssize_t n = recv(q->out, message, room, MSG_DONTWAIT | MSG_PEEK);

	return n > 0 ? (size_t)n : 0;
}

void queue_take(const struct queue *q, size_t n)
{
	char byte;

	while (n-- > 0 && recv(q->out, &byte, 1, MSG_DONTWAIT) > 0)
		;
}

void queue_rewind(const struct queue *q)
{
	int start = 0;

	setsockopt(q->out, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start));
}

int queue_reader_fd(const struct queue *q)
{
	return q->out;
}
