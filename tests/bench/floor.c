/*
 * The least that a FastCGI program with one memcached value can do: accept, read the body, one meta get over a UNIX
 * socket, answer the value as JSON. What a cache hit of pavise is measured against; `spawn-fcgi -F` makes N of it.
 *
 * floor MEMCACHED-SOCKET KEY
 */
#include "base/err.h"

#include <errno.h>
#include <fcgiapp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { VALUE_MAX = 1 << 20 };

static int store_connect(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(to.sun_path))
		die("floor: %s: too long for a socket's name", path);
	strcpy(to.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("floor: %s: %s", path, strerror(errno));
	return fd;
}

/* Sends the get and reads "VA LEN\r\n", the value, "\r\n". Returns where the value starts; NULL if there is none. */
static const char *store_get(int fd, const char *get, char buffer[VALUE_MAX], size_t *len)
{
	size_t have = 0, head = 0;
	ssize_t n;
	char *end;

	if (write(fd, get, strlen(get)) < 0)
		die("floor: memcached: %s", strerror(errno));
	do {
		n = read(fd, buffer + have, VALUE_MAX - 1 - have);
		if (n <= 0)
			die("floor: memcached has gone, or the value is too long");
		have += (size_t)n;
		buffer[have] = '\0';
		end = head ? NULL : strstr(buffer, "\r\n");
		if (end) {
			if (strncmp(buffer, "VA ", 3) != 0)
				return NULL;
			head = (size_t)(end + 2 - buffer);
			*len = strtoul(buffer + 3, NULL, 10);
		}
	} while (!head || have < head + *len + 2);
	return buffer + head;
}

/* A connection that is closed with unread bytes in it is reset, and the web server might lose the answer. */
static void body_read(FCGX_Request *request)
{
	char waste[4096];

	while (FCGX_GetStr(waste, sizeof(waste), request->in) == (int)sizeof(waste))
		continue;
}

int main(int argc, char **argv)
{
	static char buffer[VALUE_MAX];
	FCGX_Request request;
	const char *value;
	size_t len = 0;
	char get[300];
	int store;

	if (argc != 3)
		die("usage: floor MEMCACHED-SOCKET KEY");
	snprintf(get, sizeof(get), "mg %.250s v\r\n", argv[2]);
	store = store_connect(argv[1]);
	if (FCGX_Init() != 0 || FCGX_InitRequest(&request, 0, 0) != 0)
		die("floor: fd 0 is not a FastCGI socket");
	while (FCGX_Accept_r(&request) == 0) {
		body_read(&request);
		value = store_get(store, get, buffer, &len);
		if (value) {
			FCGX_FPrintF(request.out, "Content-Type: application/json\r\nContent-Length: %u\r\n\r\n",
				(unsigned)len);
			FCGX_PutStr(value, (int)len, request.out);
		} else {
			FCGX_PutS("Status: 404 Not Found\r\n\r\n", request.out);
		}
		FCGX_Finish_r(&request);
	}
	return 0;
}
