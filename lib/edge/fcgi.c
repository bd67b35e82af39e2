/* libfcgi behind a small door, with its two traps dealt with: stopping a worker, and log lines that arrive torn. */
#include "edge/fcgi.h"

#include "base/clock.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

enum { VERSION_1 = 1, TYPE_STDERR = 7, HEADER_BYTES = 8 }; /* FastCGI specification, 8 */

static FCGX_Request request;
static int devnull = -1;
static bool open_request;
static size_t body_read; /* bytes */

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
	open_request = FCGX_Accept_r(&request) == 0;
	body_read = 0;
	return open_request;
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

/* Asked for more than has come, libfcgi would wait for all of it: so first one byte, then what came with it. */
ssize_t fcgi_read(char *to, size_t len, int64_t deadline_us)
{
	size_t more;
	int n;

	if (request.in->rdNext == request.in->stop)
		limit_wait(deadline_us);
	n = FCGX_GetStr(to, 1, request.in);
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

int fcgi_write(const char *bytes, size_t len)
{
	int n;

	while (len) {
		n = FCGX_PutStr(bytes, len > 1 << 20 ? 1 << 20 : (int)len, request.out);
		if (n <= 0)
			return -1;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

int fcgi_flush(void)
{
	return FCGX_FFlush(request.out) == 0 ? 0 : -1;
}

int fcgi_fd(void)
{
	return request.ipcFd;
}

int fcgi_stderr(const char *line, size_t len)
{
	unsigned char header[HEADER_BYTES] = {VERSION_1, TYPE_STDERR, (unsigned char)(request.requestId >> 8),
		(unsigned char)request.requestId, (unsigned char)(len >> 8), (unsigned char)len, 0, 0};
	struct iovec iov[2] = {{header, sizeof(header)}, {(void *)(size_t)line, len}};
	ssize_t n;

	if (!open_request || request.ipcFd < 0 || len > 65000)
		return -1;
	n = writev(request.ipcFd, iov, 2);
	return n == (ssize_t)(sizeof(header) + len) ? 0 : -1;
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

/*
 * FCGX_Finish_r() shuts its side down, waits for the web server to close, and closes: right for an answer that comes
 * early, when the rest of the body must still be taken in, but a third of a hit's time otherwise.
 */
void fcgi_finish(void)
{
	bool close_it;
	int fd = request.ipcFd;

	if (!open_request)
		return;
	open_request = false;
	if (!all_read()) {
		FCGX_Finish_r(&request);
		return;
	}
	close_it = !request.keepConnection;
	close_it |= FCGX_FClose(request.err) != 0;
	close_it |= FCGX_FClose(request.out) != 0; /* ends the request */
	FCGX_Free(&request, 0);
	if (close_it) {
		close(fd);
		request.ipcFd = -1;
	}
}
