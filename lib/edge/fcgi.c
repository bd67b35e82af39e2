/* libfcgi behind a small door, with its two traps dealt with: stopping a worker, and log lines that arrive torn. */
#include "edge/fcgi.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { VERSION_1 = 1, TYPE_STDERR = 7, HEADER_BYTES = 8 }; /* FastCGI specification, 8 */

static FCGX_Request request;
static int devnull = -1;
static bool open_request;

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

ssize_t fcgi_read(char *to, size_t len)
{
	int n = FCGX_GetStr(to, len > 1 << 20 ? 1 << 20 : (int)len, request.in);

	if (n == 0 && FCGX_GetError(request.in))
		return -1;
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

/* libfcgi shuts its side down and reads what is left of the body, so an early answer is not lost in a reset. */
void fcgi_finish(void)
{
	if (open_request)
		FCGX_Finish_r(&request);
	open_request = false;
}
