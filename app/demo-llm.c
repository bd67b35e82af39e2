/*
 * demo-llm — a pretend OpenAI provider, for people who try pavise without a key and for its benchmark.
 *
 * One process and one event loop (libevent's evhttp), so that thousands of streams at a human pace cost next to nothing
 * and what is measured is the gateway. It never calls anybody.
 */
#include "base/err.h"
#include "demo.h"
#include "demo_hold.h"
#include "demo_http.h"
#include "demo_wheel.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { BACKLOG = 4096, MAX_HEADERS_BYTES = 64 * 1024 };

static void fail(int status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

static void fail(int status, const char *fmt, ...)
{
	va_list ap;

	fputs("demo-llm: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

/* ── Options ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void set_text(const char *name, const char *value, void *to)
{
	if (!*value)
		fail(2, "--%s must not be empty", name);
	*(const char **)to = value;
}

static void set_flag(const char *name, const char *value, void *to)
{
	(void)name;
	(void)value;
	*(bool *)to = true;
}

static int parse_number(const char *name, const char *value, int least, int most)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(value, &end, 10);
	if (errno || end == value || *end || n < least || n > most)
		fail(2, "--%s takes a number from %d to %d, not '%s'", name, least, most, value);
	return (int)n;
}

static void set_port(const char *name, const char *value, void *to)
{
	*(int *)to = parse_number(name, value, 0, 65535);
}

static void set_ms(const char *name, const char *value, void *to)
{
	*(int *)to = parse_number(name, value, 0, DEMO_MAX_MS);
}

static void set_tokens(const char *name, const char *value, void *to)
{
	*(int *)to = parse_number(name, value, 1, DEMO_MAX_TOKENS);
}

/* STATUS or STATUS:N */
static void set_fail(const char *name, const char *value, void *to)
{
	struct demo_fail *f = to;
	char status[8];
	size_t len = strcspn(value, ":");

	if (len >= sizeof(status))
		fail(2, "--%s takes STATUS or STATUS:N, not '%s'", name, value);
	memcpy(status, value, len);
	status[len] = '\0';
	f->status = parse_number(name, status, 400, 599);
	f->every = value[len] ? parse_number(name, value + len + 1, 1, 1000000) : 1;
}

/* One line is one option: its name, its argument, what it does, who reads it, where to. */
static const struct {
	const char *name, *argument, *help;
	void (*set)(const char *name, const char *value, void *to);
	size_t offset;
} options[] = {
#define AT(field) offsetof(struct demo_options, field)
	{"listen", "ADDR", "address to listen on (127.0.0.1)", set_text, AT(listen)},
	{"port", "N", "port; 0 takes a free one and says which (8081)", set_port, AT(port)},
	{"first-ms", "N", "milliseconds to the first token (300)", set_ms, AT(first_ms)},
	{"token-ms", "N", "milliseconds between tokens (30)", set_ms, AT(token_ms)},
	{"tokens", "N", "tokens in an answer (60)", set_tokens, AT(tokens)},
	{"fail", "STATUS[:N]", "answer every Nth request, or each, with this error", set_fail, AT(fail)},
	{"die-after", "N", "close the connection after N tokens", set_tokens, AT(die_after)},
	{"stamp", NULL, "each token is the microsecond (CLOCK_MONOTONIC) it was made in", set_flag, AT(stamp)},
	{"tls-cert", "FILE", "serve https: the certificate chain, PEM", set_text, AT(tls_cert)},
	{"tls-key", "FILE", "serve https: its private key, PEM", set_text, AT(tls_key)},
	{"api-key", "KEY", "refuse /v1 to whoever does not send this key", set_text, AT(api_key)},
	{"quiet", NULL, "say nothing about each request", set_flag, AT(quiet)},
#undef AT
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

static void help(void)
{
	char name[64];
	int i;

	puts("Usage: demo-llm [OPTION]…\n\n"
	     "A pretend provider that speaks OpenAI's API: chat completions (JSON, streams, tools, structured\n"
	     "answers), text completions, embeddings and models under /v1, and /healthz and /stats. It answers\n"
	     "any model's name.\n");
	for (i = 0; i < OPTIONS; i++) {
		snprintf(
			name, sizeof(name), "--%s %s", options[i].name, options[i].argument ? options[i].argument : "");
		printf("  %-21s %s\n", name, options[i].help);
	}
	puts("  --help                this text\n\n"
	     "A request can ask for its own x-demo-first-ms, x-demo-token-ms, x-demo-tokens and x-demo-fail: STATUS\n"
	     "(0: do not fail) by headers of these names.");
}

static void parse_options(struct demo_options *o, int argc, char **argv)
{
	struct option table[OPTIONS + 2] = {0};
	int i;

	for (i = 0; i < OPTIONS; i++)
		table[i] = (struct option){.name = options[i].name,
			.has_arg = options[i].argument ? required_argument : no_argument,
			.val = i + 1};
	table[OPTIONS] = (struct option){.name = "help", .val = OPTIONS + 1};
	while ((i = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (i == OPTIONS + 1) {
			help();
			exit(0);
		}
		if (i == '?')
			exit(2); /* getopt has said why */
		options[i - 1].set(options[i - 1].name, optarg, (char *)o + options[i - 1].offset);
	}
	if (optind < argc)
		fail(2, "'%s' is not an option; see --help", argv[optind]);
	if (!o->tls_cert != !o->tls_key)
		fail(2, "--tls-cert and --tls-key go together");
}

/* ── The server ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static SSL_CTX *tls_new(const struct demo_options *o)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
		fail(1, "TLS does not start");
	if (SSL_CTX_use_certificate_chain_file(ctx, o->tls_cert) != 1)
		fail(2, "--tls-cert %s: %s", o->tls_cert, ERR_reason_error_string(ERR_peek_last_error()));
	if (SSL_CTX_use_PrivateKey_file(ctx, o->tls_key, SSL_FILETYPE_PEM) != 1)
		fail(2, "--tls-key %s: %s", o->tls_key, ERR_reason_error_string(ERR_peek_last_error()));
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); /* 34 kB less for each stream that is between two tokens */
	return ctx;
}

static struct bufferevent *tls_accept(struct event_base *base, void *arg)
{
	SSL *ssl = SSL_new(arg);
	struct bufferevent *bev;

	if (!ssl)
		return NULL;
	bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
	if (!bev)
		SSL_free(ssl);
	return bev;
}

static void announce(const struct demo_options *o, int fd)
{
	struct sockaddr_storage at;
	socklen_t len = sizeof(at);
	char host[NI_MAXHOST], port[NI_MAXSERV];
	bool v6;

	if (getsockname(fd, (struct sockaddr *)&at, &len) ||
		getnameinfo((struct sockaddr *)&at, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		fail(1, "a socket without a name");
	v6 = at.ss_family == AF_INET6;
	printf("demo-llm: listening on %s://%s%s%s:%s/v1\n", o->tls_cert ? "https" : "http", v6 ? "[" : "", host,
		v6 ? "]" : "", port);
	fflush(stdout);
}

static void listen_on(struct demo *demo, struct evhttp *http)
{
	const struct demo_options *o = &demo->options;
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *at;
	struct evconnlistener *listener;
	char port[16];
	int on = 1, why;

	snprintf(port, sizeof(port), "%d", o->port);
	why = getaddrinfo(o->listen, port, &hints, &at);
	if (why)
		fail(2, "--listen %s: %s", o->listen, gai_strerror(why));
	listener = evconnlistener_new_bind(demo->base, NULL, NULL,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, BACKLOG, at->ai_addr,
		(int)at->ai_addrlen);
	if (!listener)
		fail(1, "cannot listen on %s port %d: %s", o->listen, o->port, strerror(errno));
	freeaddrinfo(at);
	/* accepted sockets inherit it */
	setsockopt(evconnlistener_get_fd(listener), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!evhttp_bind_listener(http, listener))
		fail(1, "out of memory");
	announce(o, evconnlistener_get_fd(listener));
}

static void stop(evutil_socket_t sig, short what, void *base)
{
	(void)sig;
	(void)what;
	event_base_loopbreak(base);
}

/* A timer that is as fine as the wheel; libevent's own is as coarse as the kernel's tick. */
static struct event_base *base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base;

	if (!config || event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER) ||
		!(base = event_base_new_with_config(config)))
		fail(1, "libevent does not start");
	event_config_free(config);
	return base;
}

static struct evhttp *http_new(struct demo *demo, SSL_CTX *tls)
{
	struct evhttp *http = evhttp_new(demo->base);

	if (!http)
		fail(1, "out of memory");
	evhttp_set_max_body_size(http, DEMO_MAX_BODY);
	evhttp_set_max_headers_size(http, MAX_HEADERS_BYTES);
	evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
						 EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH);
	evhttp_set_gencb(http, demo_serve, demo);
	if (tls)
		evhttp_set_bevcb(http, tls_accept, tls);
	return http;
}

static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv)
{
	struct demo demo = {
		.options = {.listen = "127.0.0.1", .port = 8081, .first_ms = 300, .token_ms = 30, .tokens = 60}};
	struct event *term, *intr;
	struct evhttp *http;
	SSL_CTX *tls = NULL;

	parse_options(&demo.options, argc, argv);
	raise_limits();
	signal(SIGPIPE, SIG_IGN);
	demo.base = base_new();
	if (demo.options.tls_cert)
		tls = tls_new(&demo.options);
	demo.wheel = wheel_new(demo.base, hold_fire);
	http = http_new(&demo, tls);
	term = evsignal_new(demo.base, SIGTERM, stop, demo.base);
	intr = evsignal_new(demo.base, SIGINT, stop, demo.base);
	if (!term || !intr || event_add(term, NULL) || event_add(intr, NULL))
		fail(1, "libevent takes no signals");
	listen_on(&demo, http);
	event_base_dispatch(demo.base);
	evhttp_free(http); /* and with it all that is still under way */
	wheel_free(demo.wheel);
	event_free(term);
	event_free(intr);
	event_base_free(demo.base);
	SSL_CTX_free(tls);
	return 0;
}
