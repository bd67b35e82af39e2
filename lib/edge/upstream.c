/*
 * One easy handle and one multi handle per worker, made at its first miss: most answers are hits and need neither. The
 * time limits are kept here rather than by curl, because each of them has an error code of its own.
 */
#include "edge/upstream.h"

#include "base/clock.h"
#include "base/err.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct upstream_trust {
	X509_STORE *store;
};

struct running {
	const struct upstream_call *call;
	struct upstream_report *report;
	int64_t started_us, last_byte_us;
	bool head_done, stopped, fresh; /* fresh: data since the last on_read, or room for it */
	int watch_fd;
};

static CURLM *multi;
static CURL *easy;

void upstream_init(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		die("libcurl does not start");
}

struct upstream_trust *upstream_trust_new(const char *ca_file, const char **why)
{
	struct upstream_trust *t = calloc(1, sizeof(*t));
	int ok;

	if (!t || !(t->store = X509_STORE_new()))
		die("out of memory");
	ok = ca_file ? X509_STORE_load_file(t->store, ca_file) : X509_STORE_set_default_paths(t->store);
	if (ok == 1)
		return t;
	*why = "no certificate in PEM form can be read from it";
	ERR_clear_error();
	upstream_trust_free(t);
	return NULL;
}

void upstream_trust_free(struct upstream_trust *t)
{
	if (!t)
		return;
	X509_STORE_free(t->store);
	free(t);
}

static CURLcode use_trust(CURL *handle, void *ssl_ctx, void *trust)
{
	const struct upstream_trust *t = trust;

	(void)handle;
	SSL_CTX_set1_cert_store(ssl_ctx, t->store);
	return CURLE_OK;
}

static void take_header(const char *line, size_t len, const char *name, char *to, size_t room)
{
	size_t n = strlen(name);

	if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
		return;
	line += n + 1;
	len -= n + 1;
	while (len && (*line == ' ' || *line == '\t')) {
		line++;
		len--;
	}
	while (len && strchr(" \t\r\n", line[len - 1]))
		len--;
	if (len >= room)
		len = room - 1;
	memcpy(to, line, len);
	to[len] = '\0';
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
	struct running *r = ctx;
	struct upstream_head *head = &r->report->head;
	size_t len = size * count;

	if (len > 5 && strncmp(line, "HTTP/", 5) == 0) {
		*head = (struct upstream_head){0};
		sscanf(line, "HTTP/%*s %d", &head->status);
		return len;
	}
	take_header(line, len, "content-type", head->content_type, sizeof(head->content_type));
	take_header(line, len, "x-request-id", head->request_id, sizeof(head->request_id));
	take_header(line, len, "retry-after", head->retry_after, sizeof(head->retry_after));
	take_header(line, len, "retry-after-ms", head->retry_after_ms, sizeof(head->retry_after_ms));
	take_header(line, len, "x-should-retry", head->should_retry, sizeof(head->should_retry));
	if (len > 2 || head->status < 200 || r->head_done) /* not the empty line, an interim response, or trailers */
		return len;
	r->head_done = true;
	r->last_byte_us = clock_mono_us();
	r->report->first_byte_us = r->last_byte_us - r->started_us;
	if (r->call->on_head(r->call->ctx, head) != 0) {
		r->stopped = true;
		return 0;
	}
	return len;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
	struct running *r = ctx;

	r->last_byte_us = clock_mono_us();
	r->fresh = true;
	if (r->call->on_data(r->call->ctx, bytes, size * count) != 0) {
		r->stopped = true;
		return 0;
	}
	return size * count;
}

static struct curl_slist *header_list(const struct upstream_call *call)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* no 100-continue round trip */
	const char *const *h;

	list = curl_slist_append(list, "Accept-Encoding: identity"); /* compressing would hold a stream's events back */
	for (h = call->headers; *h; h++)
		list = curl_slist_append(list, *h);
	if (!list)
		die("out of memory");
	return list;
}

static void set_up(struct running *r, struct curl_slist *headers, char *error)
{
	const struct upstream_call *call = r->call;

	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_URL, call->url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(call->connect_us / 1000));
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate"); /* not asked for, but understood */
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
	curl_easy_setopt(easy, CURLOPT_CAINFO, NULL); /* the shared store instead: a copy each costs 1 MB */
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	if (call->trust) {
		curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, use_trust);
		curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, (void *)(size_t)call->trust);
	}
}

/* When the next time limit strikes, and which it is. */
static int64_t next_limit(const struct running *r, enum upstream_end *which)
{
	const struct upstream_call *call = r->call;
	int64_t at = r->head_done ? r->last_byte_us + call->between_bytes_us : r->started_us + call->first_byte_us;

	*which = r->head_done ? UPSTREAM_BETWEEN_BYTES_TIMEOUT : UPSTREAM_FIRST_BYTE_TIMEOUT;
	if (r->started_us + call->total_us < at) {
		at = r->started_us + call->total_us;
		*which = UPSTREAM_TOTAL_TIMEOUT;
	}
	return at;
}

/* A callback that writes to a slow client may take long: that is not the provider's silence. */
static int hand_on(struct running *r, int (*callback)(void *ctx))
{
	int64_t before = clock_mono_us();
	int verdict = callback(r->call->ctx);

	r->last_byte_us += clock_mono_us() - before;
	return verdict;
}

static bool closed(int fd)
{
	struct pollfd p = {fd, 0, 0};

	return fd >= 0 && poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

/* True while the call goes on; else *end says why not. */
static bool wait_more(struct running *r, enum upstream_end *end)
{
	struct curl_waitfd watched = {.fd = r->watch_fd}; /* no events: poll() reports a hang-up anyway */
	int64_t now = clock_mono_us(), limit = next_limit(r, end), tick = r->call->next_tick_us(r->call->ctx);

	if (now >= limit)
		return false;
	if (now >= tick) {
		if (hand_on(r, r->call->on_tick) != 0) {
			*end = UPSTREAM_STOPPED;
			return false;
		}
		tick = r->call->next_tick_us(r->call->ctx);
	}
	if (tick < limit)
		limit = tick;
	if (watched.fd >= 0 && r->call->wants_out(r->call->ctx))
		watched.events = CURL_WAIT_POLLOUT;
	if (limit > now)
		curl_multi_poll(multi, &watched, watched.fd >= 0, (int)((limit - now + 999) / 1000), NULL);
	r->fresh |= (watched.revents & CURL_WAIT_POLLOUT) != 0;
	if (!closed(watched.fd))
		return true;
	r->watch_fd = -1;
	*end = UPSTREAM_GONE;
	return r->call->goes_on(r->call->ctx);
}

static enum upstream_end end_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK: return UPSTREAM_DONE;
	case CURLE_OPERATION_TIMEDOUT: return UPSTREAM_CONNECT_TIMEOUT; /* the only limit that curl keeps for us */
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_URL_MALFORMAT: return UPSTREAM_UNREACHABLE;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR: return UPSTREAM_TLS;
	default: return UPSTREAM_BROKEN;
	}
}

static enum upstream_end drive(struct running *r, char *error)
{
	enum upstream_end end = UPSTREAM_BROKEN;
	CURLMsg *message;
	int active = 1, left;

	for (;;) {
		curl_multi_perform(multi, &active);
		if (r->fresh) {
			r->fresh = false;
			r->stopped |= hand_on(r, r->call->on_read) != 0;
		}
		if (r->stopped)
			return UPSTREAM_STOPPED;
		if (!active)
			break;
		if (!wait_more(r, &end))
			return end;
	}
	while ((message = curl_multi_info_read(multi, &left)))
		if (message->msg == CURLMSG_DONE) {
			end = end_of(message->data.result);
			if (end == UPSTREAM_DONE && !r->head_done) /* the connection ended within the head */
				end = UPSTREAM_BROKEN;
			if (end != UPSTREAM_DONE && !*error)
				snprintf(error, CURL_ERROR_SIZE, "%s", curl_easy_strerror(message->data.result));
		}
	return end;
}

void upstream_run(const struct upstream_call *call, struct upstream_report *report)
{
	struct running r = {.call = call, .report = report, .watch_fd = call->watch_fd};
	struct curl_slist *headers;
	char error[CURL_ERROR_SIZE] = "";

	if (!multi) {
		multi = curl_multi_init();
		easy = curl_easy_init();
		if (!multi || !easy)
			die("out of memory");
		curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 4L);
	}
	*report = (struct upstream_report){0};
	headers = header_list(call);
	r.started_us = r.last_byte_us = clock_mono_us();
	set_up(&r, headers, error);
	curl_multi_add_handle(multi, easy);
	report->end = drive(&r, error);
	curl_multi_remove_handle(multi, easy); /* closes the connection of a call that is not over */
	curl_slist_free_all(headers);
	report->duration_us = clock_mono_us() - r.started_us;
	snprintf(report->detail, sizeof(report->detail), "%s", error);
}
