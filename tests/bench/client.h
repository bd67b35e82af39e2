/*
 * client — an HTTP/1.1 keep-alive connection of the load generator: one request at a time, the answer as it comes.
 *
 * Only what the bench needs: IPv4 loopback, requests that fit a socket's send buffer, answers with Content-Length, in
 * chunks, or up to the end of the connection.
 */
#ifndef PAVISE_BENCH_CLIENT_H
#define PAVISE_BENCH_CLIENT_H

#include "base/buf.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* Where requests go, and everything of them that never changes. */
struct target {
	struct sockaddr_in address;
	char path[256];
	char host[32];
};

/* "http://127.0.0.1:8080/v1/chat/completions"; anything else is die(). */
void target_parse(struct target *t, const char *url);

enum client_event { CLIENT_MORE, CLIENT_DONE, CLIENT_FAILED };

struct client {
	const struct target *to;
	int fd; /* -1: not connected */
	struct buf in;
	int state;
	size_t left;                        /* bytes of the body or of the chunk still to come */
	bool closes;                        /* the server ends the connection behind this answer */
	int status;                         /* 0 until the head is there */
	int64_t sent_us, first_us, last_us; /* CLOCK_MONOTONIC: request out, first byte of the body in, latest read */
	/* Called with each piece of the body; may be NULL. */
	void (*on_body)(struct client *c, const char *bytes, size_t len);
};

void client_init(struct client *c, const struct target *to);
/* Connects if need be, adds a new socket to the epoll set (with the client as its data), sends. 0, or -1. */
int client_send(struct client *c, int epoll, const char *request, size_t len);
/* To call when the socket can be read. After DONE the next request may be sent; after FAILED too, on a new connection.
 */
enum client_event client_read(struct client *c);
void client_close(struct client *c);

#endif
