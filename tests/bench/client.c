/* Small enough to cost little beside what it measures: two system calls a request, no allocation once it is warm. */
#include "client.h"

#include "base/clock.h"
#include "base/err.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN_MAX = 4 << 20, READ_SIZE = 16384 };

enum state { HEAD, BODY, BODY_TO_EOF, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, DONE, BROKEN };

void target_parse(struct target *t, const char *url)
{
	char ip[16];
	unsigned port;
	int path = 0;

	*t = (struct target){.address.sin_family = AF_INET};
	if (sscanf(url, "http://%15[0-9.]:%5u%n", ip, &port, &path) != 2 || url[path] != '/' || port > 65535 ||
		inet_pton(AF_INET, ip, &t->address.sin_addr) != 1)
		die("load: %s: not of the form http://127.0.0.1:PORT/PATH", url);
	t->address.sin_port = htons((uint16_t)port);
	snprintf(t->path, sizeof(t->path), "%s", url + path);
	snprintf(t->host, sizeof(t->host), "%s:%u", ip, port);
}

void client_init(struct client *c, const struct target *to)
{
	*c = (struct client){.to = to, .fd = -1, .in = BUF_INIT(IN_MAX)};
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static int client_connect(struct client *c, int epoll)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
	int on = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(c->fd, (const struct sockaddr *)&c->to->address, sizeof(c->to->address)) < 0 ||
		epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0) {
		client_close(c);
		return -1;
	}
	return 0;
}

int client_send(struct client *c, int epoll, const char *request, size_t len)
{
	c->state = HEAD;
	c->status = 0;
	c->closes = false;
	c->first_us = 0;
	buf_reset(&c->in);
	if (c->fd < 0 && client_connect(c, epoll) < 0)
		return -1;
	c->sent_us = clock_mono_us();
	if (send(c->fd, request, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len) {
		client_close(c);
		return -1;
	}
	return 0;
}

/* The value of a header in the head, which ends with an empty line; NULL if it is not there. */
static const char *header(const char *head, const char *name)
{
	size_t len = strlen(name);
	const char *line = strstr(head, "\r\n");

	for (; line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
		if (!strncasecmp(line + 2, name, len) && line[2 + len] == ':')
			return line + 3 + len + strspn(line + 3 + len, " ");
	return NULL;
}

static bool head_parse(struct client *c)
{
	char *end = c->in.len ? strstr(c->in.data, "\r\n\r\n") : NULL;
	const char *length, *coding, *connection;

	if (!end)
		return false;
	if (sscanf(c->in.data, "HTTP/1.1 %3d", &c->status) != 1) {
		c->state = BROKEN;
		return true;
	}
	length = header(c->in.data, "content-length");
	coding = header(c->in.data, "transfer-encoding");
	connection = header(c->in.data, "connection");
	c->closes = connection && !strncasecmp(connection, "close", 5);
	c->left = length ? strtoul(length, NULL, 10) : 0;
	if (coding && !strncasecmp(coding, "chunked", 7))
		c->state = CHUNK_SIZE;
	else if (length)
		c->state = c->left ? BODY : DONE;
	else
		c->state = BODY_TO_EOF;
	buf_drop(&c->in, (size_t)(end + 4 - c->in.data));
	return true;
}

/* Gives up to `left` bytes to the caller; true when that was the last of them. */
static bool body_pass(struct client *c, size_t left)
{
	size_t n = left < c->in.len ? left : c->in.len;

	if (n && !c->first_us)
		c->first_us = c->last_us;
	if (n && c->on_body)
		c->on_body(c, c->in.data, n);
	buf_drop(&c->in, n);
	c->left = left - n;
	return c->left == 0;
}

/* A line of the chunked framing: its length with CRLF, or 0 when it is not whole yet. */
static size_t line_whole(const struct client *c)
{
	const char *end = c->in.len ? memchr(c->in.data, '\n', c->in.len) : NULL;

	return end ? (size_t)(end + 1 - c->in.data) : 0;
}

static bool chunk_size(struct client *c)
{
	size_t line = line_whole(c);
	char *end;

	if (!line)
		return false;
	c->left = strtoul(c->in.data, &end, 16);
	if (end == c->in.data)
		c->state = BROKEN;
	else
		c->state = c->left ? CHUNK : TRAILER;
	buf_drop(&c->in, line);
	return true;
}

static bool trailer(struct client *c)
{
	size_t line = line_whole(c);

	if (!line)
		return false;
	if (line == 2)
		c->state = DONE;
	buf_drop(&c->in, line);
	return true;
}

/* One step through what has come; false when more must come first. */
static bool step(struct client *c)
{
	switch (c->state) {
	case HEAD: return head_parse(c);
	case BODY:
		if (!body_pass(c, c->left))
			return false;
		c->state = DONE;
		return true;
	case BODY_TO_EOF: body_pass(c, c->in.len); return false;
	case CHUNK_SIZE: return chunk_size(c);
	case CHUNK:
		if (!body_pass(c, c->left))
			return false;
		c->state = CHUNK_END;
		return true;
	case CHUNK_END:
		if (c->in.len < 2)
			return false;
		buf_drop(&c->in, 2);
		c->state = CHUNK_SIZE;
		return true;
	case TRAILER: return trailer(c);
	default: return false;
	}
}

enum client_event client_read(struct client *c)
{
	char *to = buf_reserve(&c->in, READ_SIZE);
	ssize_t n = to ? recv(c->fd, to, READ_SIZE, MSG_DONTWAIT) : -1;

	if (to && n < 0 && (errno == EAGAIN || errno == EINTR))
		return CLIENT_MORE;
	c->last_us = clock_mono_us();
	if (n > 0) {
		c->in.len += (size_t)n;
		c->in.data[c->in.len] = '\0';
		while (step(c))
			continue;
		if (c->state == DONE && c->closes)
			client_close(c);
		if (c->state != BROKEN)
			return c->state == DONE ? CLIENT_DONE : CLIENT_MORE;
	}
	client_close(c);
	return n == 0 && c->state == BODY_TO_EOF ? CLIENT_DONE : CLIENT_FAILED;
}
