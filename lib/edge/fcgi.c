/*
 * libfcgi behind a small door. It accepts and reads; records are written here: it can only wait for a slow web server,
 * tears log lines into pieces of 512 bytes, and needs three writes for what is one.
 */
#include "edge/fcgi.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* FastCGI specification, 8 */
enum { VERSION_1 = 1, TYPE_END_REQUEST = 3, TYPE_STDOUT = 6, TYPE_STDERR = 7, HEADER_BYTES = 8, RECORD_MAX = 65528 };

enum { SEND_AT = 256 * 1024, KEEP_BYTES = 64 * 1024, WAITING_MAX = 1 << 30 };

static FCGX_Request request;
static int devnull = -1;
static size_t body_read; /* bytes */

/* Records on their way to the web server. The last one may still be open: its length is not written yet. */
static struct buf records = {.max = WAITING_MAX};
static size_t sent, record_at;
static bool record_open, gone, ended;

int fcgi_init(void)
{
	devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (devnull < 0 || FCGX_Init() != 0 || FCGX_IsCGI())
		return -1;
	return FCGX_InitRequest(&request, 0, 0) == 0 ? 0 : -1;
}

/* A flag alone would leave the race between its test and accept(); with fd 0 replaced, accept() says ENOTSOCK. */
void fcgi_stop_accepting(void)
{
	int saved = errno;

	dup2(devnull, 0);
	errno = saved;
}

bool fcgi_accept(void)
{
	body_read = 0;
	gone = false;
	return FCGX_Accept_r(&request) == 0;
}

const char *fcgi_param(const char *name)
{
	return FCGX_GetParam(name, request.envp);
}

char **fcgi_params(void)
{
	return request.envp;
}

/* libfcgi has no time limits, but its read() has. */
static void limit_wait(int64_t deadline_us)
{
	int64_t left = deadline_us - clock_mono_us();
	struct timeval t;

	if (left < 1000)
		left = 1000; /* 0 would mean for ever */
	t = (struct timeval){left / 1000000, left % 1000000};
	setsockopt(request.ipcFd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
}

/*
 * With a time limit a signal ends the read(), whatever SA_RESTART says (signal(7)), and libfcgi takes its stream for
 * broken. It is not: a TERM lets the request go on.
 */
static int first_byte(char *to, int64_t deadline_us)
{
	int n;

	for (;;) {
		if (request.in->rdNext == request.in->stop)
			limit_wait(deadline_us);
		n = FCGX_GetStr(to, 1, request.in);
		if (n || FCGX_GetError(request.in) != EINTR)
			return n;
		FCGX_ClearError(request.in);
		request.in->isClosed = 0;
	}
}

/* Asked for more than has come, libfcgi would wait for all of it: so first one byte, then what came with it. */
ssize_t fcgi_read(char *to, size_t len, int64_t deadline_us)
{
	size_t more;
	int n;

	n = first_byte(to, deadline_us);
	if (n == 1) {
		more = (size_t)(request.in->stop - request.in->rdNext);
		if (more > len - 1)
			more = len - 1;
		n += more ? FCGX_GetStr(to + 1, (int)more, request.in) : 0;
	}
	if (n == 0 && FCGX_GetError(request.in))
		return FCGX_GetError(request.in) == EAGAIN ? -2 : -1;
	body_read += (size_t)n;
	return n;
}

static void record_begin(int type)
{
	unsigned char header[HEADER_BYTES] = {VERSION_1, (unsigned char)type, (unsigned char)(request.requestId >> 8),
		(unsigned char)request.requestId};

	record_at = records.len;
	record_open = true;
	buf_add(&records, header, sizeof(header));
}

static void record_end(void)
{
	size_t len = records.len - record_at - HEADER_BYTES;

	if (!record_open)
		return;
	record_open = false;
	records.data[record_at + 4] = (char)(len >> 8);
	records.data[record_at + 5] = (char)len;
}

static void add_record(int type, const void *bytes, size_t len)
{
	record_end();
	record_begin(type);
	buf_add(&records, bytes, len);
	record_end();
}

static void add_stdout(const char *bytes, size_t len)
{
	size_t room;

	while (len) {
		if (!record_open)
			record_begin(TYPE_STDOUT);
		room = RECORD_MAX - (records.len - record_at - HEADER_BYTES);
		if (room > len)
			room = len;
		buf_add(&records, bytes, room);
		bytes += room;
		len -= room;
		if (len)
			record_end();
	}
}

static void drop_records(void)
{
	if (records.cap > KEEP_BYTES)
		buf_release(&records);
	else
		buf_reset(&records);
	sent = 0;
}

int fcgi_push(void)
{
	ssize_t n;

	record_end();
	gone |= records.overflow;
	while (!gone && sent < records.len) {
		n = send(request.ipcFd, records.data + sent, records.len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n >= 0)
			sent += (size_t)n;
		else if (errno != EINTR)
			gone = true;
	}
	drop_records();
	return gone ? -1 : 0;
}

size_t fcgi_waiting(void)
{
	return records.len - sent;
}

int fcgi_flush(void)
{
	struct pollfd p = {request.ipcFd, POLLOUT, 0};

	while (fcgi_push() == 0 && fcgi_waiting())
		poll(&p, 1, -1);
	return gone ? -1 : 0;
}

int fcgi_write(const char *bytes, size_t len)
{
	size_t piece;

	while (len && !gone) {
		piece = len > SEND_AT ? SEND_AT : len;
		add_stdout(bytes, piece);
		bytes += piece;
		len -= piece;
		if (records.len - sent >= SEND_AT)
			fcgi_flush();
	}
	return gone ? -1 : 0;
}

int fcgi_offer(const char *bytes, size_t len)
{
	add_stdout(bytes, len);
	return fcgi_push();
}

int fcgi_fd(void)
{
	return request.ipcFd;
}

bool fcgi_kept(void)
{
	return request.keepConnection;
}

/* The request has been read to its end: nothing is on its way that a close could turn into a reset. */
static bool all_read(void)
{
	const char *length = fcgi_param("CONTENT_LENGTH");
	char rest;

	if (body_read < (length ? strtoull(length, NULL, 10) : 0))
		return false;
	return FCGX_GetStr(&rest, 1, request.in) == 0 && !FCGX_GetError(request.in);
}

int fcgi_end(const char *line, size_t len)
{
	static const unsigned char complete[8];

	if (line)
		add_record(TYPE_STDERR, line, len);
	ended = all_read();
	if (ended) {
		add_record(TYPE_STDOUT, NULL, 0);
		add_record(TYPE_END_REQUEST, complete, sizeof(complete));
	}
	return fcgi_flush();
}

/*
 * FCGX_Finish_r() ends the request itself, shuts its side down, waits for the web server to close, and closes: right
 * for an answer that comes early, when the rest of the body must still be taken in, but a third of a hit's time
 * otherwise.
 */
void fcgi_finish(void)
{
	int fd = request.ipcFd;

	if (!ended) {
		FCGX_Finish_r(&request);
		request.envp = NULL; /* it would be looked at: libfcgi only frees it */
		return;
	}
	FCGX_Free(&request, 0);
	request.envp = NULL;
	if (!request.keepConnection || gone) {
		close(fd);
		request.ipcFd = -1;
	}
}
