/* A stopped memcached and a slow one look alike from here: no answer in time. Who is down is left alone for a second.
 */
#include "edge/store_server.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DOWN_FOR_US = 1000000, DEFAULT_PORT = 11211, KEEP_BYTES = 64 * 1024, MESSAGE_MAX = 256 << 20 };

bool store_server_parse(struct store_server *v, const char *name, const char **why)
{
	struct sockaddr_un un;
	const char *colon, *end;
	char *stop;
	unsigned long port = DEFAULT_PORT;

	*v = (struct store_server){.fd = -1, .out = BUF_INIT(MESSAGE_MAX), .in = BUF_INIT(MESSAGE_MAX)};
	*why = "expected a socket's path, host or host:port";
	if (!*name || strlen(name) >= sizeof(v->name))
		return false;
	snprintf(v->name, sizeof(v->name), "%s", name);
	if (*name == '/') {
		*why = "a UNIX socket's path has at most 107 bytes";
		v->is_unix = true;
		snprintf(v->host, sizeof(v->host), "%s", name);
		return strlen(name) < sizeof(un.sun_path);
	}
	if (*name == '[') {
		name++;
		end = strchr(name, ']');
		if (!end || (end[1] && end[1] != ':'))
			return false;
		colon = end[1] ? end + 1 : NULL;
	} else {
		colon = strchr(name, ':');
		end = colon ? colon : name + strlen(name);
	}
	if (colon) {
		port = strtoul(colon + 1, &stop, 10);
		if (stop == colon + 1 || *stop || port == 0 || port > 65535)
			return false;
	}
	v->port = (in_port_t)port;
	snprintf(v->host, sizeof(v->host), "%.*s", (int)(end - name), name);
	return end > name && !strpbrk(v->host, " /\t\n");
}

/* Keeps the memory for the next batch, unless a large value passed through. */
static void buf_empty(struct buf *b)
{
	if (b->cap > KEEP_BYTES)
		buf_release(b);
	else
		buf_reset(b);
}

static void disconnect(struct store_server *v)
{
	if (v->fd >= 0)
		close(v->fd);
	v->fd = -1;
	v->connecting = false;
}

void store_server_release(struct store_server *v)
{
	disconnect(v);
	buf_release(&v->out);
	buf_release(&v->in);
	free(v->queue);
}

bool store_server_usable(struct store_server *v)
{
	int64_t now, retry;

	if (v->queued) /* decided for all of the batch */
		return true;
	v->probing = atomic_load_explicit(&v->health->down, memory_order_relaxed);
	if (!v->probing)
		return true;
	now = clock_mono_us();
	retry = atomic_load(&v->health->retry_at_us);
	return now >= retry && atomic_compare_exchange_strong(&v->health->retry_at_us, &retry, now + DOWN_FOR_US);
}

/* What a server has said before it died may be read after another process has found it dead: it is up again when
 * somebody who knew that it was down was answered. */
static void mark_up(struct store_server *v)
{
	if (atomic_load_explicit(&v->health->timeouts, memory_order_relaxed))
		atomic_store(&v->health->timeouts, 0);
	if (v->probing && atomic_exchange(&v->health->down, 0))
		log_event(LOG_INFO, "memcached_up", "memcached %s answers again", v->name);
}

void store_server_failed(struct store_server *v, const char *why)
{
	disconnect(v);
	v->pending = false;
	v->stale = !v->is_unix;
	atomic_store(&v->health->retry_at_us, clock_mono_us() + DOWN_FOR_US);
	if (!atomic_exchange(&v->health->down, 1))
		log_event(LOG_WARN, "memcached_down",
			"memcached %s %s: answers are not cached there, and limits do as their on_store_down says; "
			"tried again every second",
			v->name, why);
}

/* More than a batch may be: our limit, and no fault of the server's. What was answered stays answered. */
static void give_up(struct store_server *v)
{
	disconnect(v);
	v->pending = false;
}

/* One late answer is a busy machine; it costs its own request, and not everybody's limits for a second. */
void store_server_timed_out(struct store_server *v)
{
	if (v->connecting && v->addr_count > 1) /* one that swallows everything must not hide the others */
		v->addr = (v->addr + v->tried + 1) % v->addr_count;
	disconnect(v);
	v->pending = false;
	if (atomic_load(&v->health->down) || atomic_fetch_add(&v->health->timeouts, 1) + 1 >= STORE_TIMEOUTS)
		store_server_failed(v, "does not answer in time");
}

/* Beyond it memcached takes a number of seconds for a date, of 32 bits: so a date is what it gets. */
static unsigned long long exptime(uint32_t ttl_s)
{
	unsigned long long date = (unsigned long long)clock_real_ms() / 1000 + ttl_s;

	if (ttl_s <= STORE_TTL_MAX)
		return ttl_s;
	return date <= INT32_MAX ? date : STORE_TTL_MAX;
}

static void print_value(struct buf *out, const struct store_item *item, const char *mode)
{
	buf_printf(out, "ms %s %zu T%llu%s\r\n", item->key, item->value_len, exptime(item->ttl_s), mode);
	buf_add(out, item->value, item->value_len);
	buf_adds(out, "\r\n");
}

static void print_command(struct buf *out, const struct store_item *item)
{
	unsigned long long delta = item->delta, initial = item->initial ? item->initial : delta;
	char mode[32];

	switch (item->op) {
	case STORE_GET: buf_printf(out, "mg %s c v\r\n", item->key); break;
	case STORE_GAT: buf_printf(out, "mg %s c v T%llu\r\n", item->key, exptime(item->ttl_s)); break;
	case STORE_INCR:
		buf_printf(out, "ma %s N%llu J%llu D%llu v\r\n", item->key, exptime(item->ttl_s), initial, delta);
		break;
	case STORE_COUNT: buf_printf(out, "ma %s D%llu v\r\n", item->key, delta); break;
	case STORE_DECR: buf_printf(out, "ma %s MD D%llu v\r\n", item->key, delta); break;
	case STORE_SET:
		snprintf(mode, sizeof(mode), item->cas ? " C%llu" : "", (unsigned long long)item->cas);
		print_value(out, item, mode);
		break;
	case STORE_APPEND: print_value(out, item, " MA"); break;
	case STORE_ADD: print_value(out, item, " ME c"); break;
	case STORE_DELETE:
		if (item->cas)
			buf_printf(out, "md %s C%llu\r\n", item->key, (unsigned long long)item->cas);
		else
			buf_printf(out, "md %s\r\n", item->key);
		break;
	}
}

void store_server_queue(struct store_server *v, struct store_item *item)
{
	struct buf *out = &v->out;

	if (v->queued == v->room) {
		v->room = v->room ? v->room * 2 : 16;
		v->queue = realloc(v->queue, (size_t)v->room * sizeof(*v->queue));
		if (!v->queue)
			die("out of memory");
	}
	if (v->queued == 0)
		buf_empty(&v->in);
	print_command(out, item);
	v->queue[v->queued++].item = item;
	v->pending = true;
}

static int open_unix(const struct store_server *v)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(un.sun_path, v->host, strlen(v->host) + 1);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0) {
		close(fd); /* EAGAIN too: its backlog is full */
		return -1;
	}
	return fd;
}

void store_server_resolve(struct store_server *v)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list, *a;
	char port[8];

	v->stale = false;
	snprintf(port, sizeof(port), "%u", v->port);
	if (v->is_unix || getaddrinfo(v->host, port, &hints, &list) != 0)
		return;
	v->addr_count = v->addr = 0;
	for (a = list; a && v->addr_count < STORE_ADDRS; a = a->ai_next) {
		memcpy(&v->addrs[v->addr_count].addr, a->ai_addr, a->ai_addrlen);
		v->addrs[v->addr_count++].len = a->ai_addrlen;
	}
	freeaddrinfo(list);
}

/* At the first of its addresses that does not refuse at once, from those that have not been tried yet. */
static int open_tcp(struct store_server *v)
{
	const struct sockaddr *addr;
	int fd, one = 1, at;

	for (; v->tried < v->addr_count; v->tried++) {
		at = (v->addr + v->tried) % v->addr_count;
		addr = (const struct sockaddr *)&v->addrs[at].addr;
		fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		v->connecting = connect(fd, addr, v->addrs[at].len) != 0;
		if (!v->connecting || errno == EINPROGRESS)
			return fd;
		close(fd);
	}
	v->connecting = false;
	return -1;
}

static bool connect_to(struct store_server *v)
{
	v->fd = v->is_unix ? open_unix(v) : open_tcp(v);
	if (v->fd < 0)
		store_server_failed(v, "cannot be reached");
	return v->fd >= 0;
}

static bool ensure_connected(struct store_server *v)
{
	if (v->fd >= 0)
		return true;
	v->fresh = true;
	v->tried = 0;
	return connect_to(v);
}

/* memcached was restarted, or closed an idle connection, since we last used it: that is not an outage. Once. */
static void broken(struct store_server *v)
{
	bool retry = !v->fresh && v->answered == 0 && v->in.len == 0;

	disconnect(v);
	if (!retry) {
		store_server_failed(v, "closed the connection");
		return;
	}
	v->sent = 0;
	store_server_send(v);
}

static bool write_some(struct store_server *v)
{
	ssize_t n;

	while (v->sent < v->out.len) {
		n = send(v->fd, v->out.data + v->sent, v->out.len - v->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			broken(v);
			return false;
		}
		v->sent += (size_t)n;
	}
	return true;
}

void store_server_send(struct store_server *v)
{
	if (v->out.overflow) {
		give_up(v);
		return;
	}
	if (ensure_connected(v) && !v->connecting)
		write_some(v);
}

short store_server_events(const struct store_server *v)
{
	return (short)(POLLIN | (v->connecting || v->sent < v->out.len ? POLLOUT : 0));
}

enum taken { TAKEN, NOT_YET, NONSENSE };

static bool counts(const struct store_item *item)
{
	return item->op == STORE_INCR || item->op == STORE_COUNT || item->op == STORE_DECR;
}

static bool wants_value(const struct store_item *item)
{
	return item->op == STORE_GET || item->op == STORE_GAT || counts(item);
}

/* "VA <size> c<cas>\r\n<data>\r\n" */
static enum taken take_value(struct store_server *v, struct store_item *item, const char *line, size_t after)
{
	char *end;
	size_t size = strtoul(line + 3, &end, 10);

	if (end == line + 3 || line[3] < '0' || line[3] > '9' || size > MESSAGE_MAX || !wants_value(item))
		return NONSENSE;
	if (v->in.len < after + size + 2)
		return NOT_YET;
	if (memcmp(v->in.data + after + size, "\r\n", 2) != 0)
		return NONSENSE;
	item->result = STORE_OK;
	item->value_len = size;
	if (strncmp(end, " c", 2) == 0)
		item->cas = strtoull(end + 2, NULL, 10);
	v->queue[v->answered].value_at = after;
	if (counts(item))
		item->number = strtoull(v->in.data + after, NULL, 10);
	v->parsed = after + size + 2;
	return TAKEN;
}

/* "HD", or of what was added "HD c<cas>" */
static void take_done(struct store_item *item, const char *line)
{
	item->result = STORE_OK;
	if (strncmp(line, "HD c", 4) == 0)
		item->cas = strtoull(line + 4, NULL, 10);
}

/* One answer. */
static enum taken take_answer(struct store_server *v)
{
	struct store_item *item = v->queue[v->answered].item;
	const char *line = v->in.data + v->parsed, *end = memchr(line, '\n', v->in.len - v->parsed);
	enum taken taken = TAKEN;

	if (!end)
		return NOT_YET;
	if (strncmp(line, "VA ", 3) == 0) {
		taken = take_value(v, item, line, (size_t)(end + 1 - v->in.data));
	} else {
		if (strncmp(line, "HD", 2) == 0 && !wants_value(item))
			take_done(item, line);
		else if (strncmp(line, "EN", 2) == 0 || strncmp(line, "NF", 2) == 0 ||
			 (strncmp(line, "NS", 2) == 0 && item->op == STORE_APPEND))
			item->result = STORE_MISS;
		else if (strncmp(line, "EX", 2) == 0 || (strncmp(line, "NS", 2) == 0 && item->op == STORE_ADD))
			item->result = STORE_EXISTS;
		else if (strncmp(line, "NS", 2) == 0 || strncmp(line, "SERVER_ERROR", 12) == 0 ||
			 strncmp(line, "CLIENT_ERROR", 12) == 0)
			item->result = STORE_FAIL;
		else
			return NONSENSE;
		v->parsed = (size_t)(end + 1 - v->in.data);
	}
	v->answered += taken == TAKEN;
	return taken;
}

static void read_some(struct store_server *v)
{
	enum taken taken = NOT_YET;
	char *to;
	ssize_t n;

	to = buf_reserve(&v->in, 16 * 1024);
	if (!to) {
		give_up(v);
		return;
	}
	n = recv(v->fd, to, 16 * 1024, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		broken(v);
		return;
	}
	v->in.len += (size_t)n;
	while (v->answered < v->queued && (taken = take_answer(v)) == TAKEN)
		;
	if (taken == NONSENSE) {
		store_server_failed(v, "does not speak memcached's meta protocol");
		return;
	}
	if (v->answered == v->queued) {
		v->pending = false;
		v->fresh = false;
		mark_up(v);
	}
}

/* "localhost" is two addresses, and memcached may listen on the second. */
static bool finish_connecting(struct store_server *v)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(v->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error) {
		disconnect(v);
		v->tried++;
		return connect_to(v) && !v->connecting;
	}
	v->connecting = false;
	v->addr = (v->addr + v->tried) % v->addr_count;
	v->tried = 0;
	return true;
}

bool store_server_progress(struct store_server *v)
{
	bool connected = !v->connecting;
	size_t sent = v->sent, got = v->in.len;

	if (!connected && !finish_connecting(v))
		return false;
	if (write_some(v) && v->fd >= 0)
		read_some(v);
	return connected && (v->sent > sent || v->in.len > got);
}

void store_server_collect(struct store_server *v)
{
	int i;

	for (i = 0; i < v->answered; i++)
		if (wants_value(v->queue[i].item) && v->queue[i].item->result == STORE_OK)
			v->queue[i].item->value = v->in.data + v->queue[i].value_at;
	v->queued = v->answered = 0;
	v->pending = false;
	v->sent = v->parsed = 0;
	buf_empty(&v->out); /* `in` holds the values that were handed out: the next batch empties it */
}

void store_server_forget(struct store_server *v)
{
	buf_empty(&v->in);
}
