/*
 * store_server — one memcached server as one process sees it: a connection, what is queued for it, whether it is up.
 * Part of edge/store; nothing else includes this.
 */
#ifndef PAVISE_EDGE_STORE_SERVER_H
#define PAVISE_EDGE_STORE_SERVER_H

#include "base/buf.h"
#include "edge/stats.h"
#include "edge/store.h"

#include <netinet/in.h>
#include <sys/socket.h>

enum { STORE_ADDRS = 4, STORE_TIMEOUTS = 3, STORE_NAME_MAX = 256 };

struct store_server {
	char name[STORE_NAME_MAX]; /* as configured */
	char host[STORE_NAME_MAX]; /* or the socket's path */
	in_port_t port;
	bool is_unix;
	struct stats_store_server *health; /* shared by all processes of the host */
	struct {
		struct sockaddr_storage addr;
		socklen_t len;
	} addrs[STORE_ADDRS]; /* of a host: looked up when the configuration is loaded, never within a request */
	int addr_count;
	int addr;   /* where it was last reached: tried first */
	int tried;  /* of them, since the connection was last gone */
	bool stale; /* could not be connected to: look its name up again when nobody waits */

	int fd; /* -1 = not connected */
	bool connecting, fresh;
	struct buf out, in;
	size_t sent, parsed;
	struct {
		struct store_item *item;
		size_t value_at; /* where a GET's value begins in `in`: the buffer may move while it grows */
	} * queue;
	int queued, answered, room;
	bool pending; /* queued > answered, and the connection is alive */
	bool probing; /* it was down when this batch began */
	int64_t deadline_us;
	int64_t late_us; /* clock_mono_us() of this request's last wait in vain; 0 = none */
};

bool store_server_parse(struct store_server *v, const char *name, const char **why);
void store_server_release(struct store_server *v);
/* Looks the host's name up, which may take as long as DNS takes. A name that is not found keeps the addresses it had.
 */
void store_server_resolve(struct store_server *v);

/* Up, or down for so long that this process is the one that tries again. */
bool store_server_usable(struct store_server *v);
/* Adds an item to what store_server_send() will write. */
void store_server_queue(struct store_server *v, struct store_item *item);
/* Connects if need be and writes as much as goes. */
void store_server_send(struct store_server *v);
/* What to poll() for. */
short store_server_events(const struct store_server *v);
/* Writes and reads what it can; whether any of the batch got through. */
bool store_server_progress(struct store_server *v);
/* No use waiting: closes the connection and marks the server as down. */
void store_server_failed(struct store_server *v, const char *why);
/* No answer in time: closes the connection; a server that does it STORE_TIMEOUTS times in a row is down. */
void store_server_timed_out(struct store_server *v);
/* Hands out the values and empties the queue. */
void store_server_collect(struct store_server *v);
/* The values that were handed out are needed no more. */
void store_server_forget(struct store_server *v);

#endif
