/* The product at one look: every endpoint is a row, every request a walk through a row's stages. */
#include "gate/txn.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/heap.h"
#include "edge/fcgi.h"
#include "gate/answer.h"
#include "gate/client.h"
#include "gate/cors.h"
#include "gate/stale.h"
#include "wire/embeddings.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LARGE_BODY = 1 << 20 /* bytes of an answer that leaves much memory behind */ };

static const struct stage chat_stages[] = {
	{"auth", stage_auth},         /* key → who is asking, what they may call */
	{"parse", stage_parse},       /* body → a valid request, in one spelling */
	{"controls", stage_controls}, /* headers → what the client asks of the cache */
	{"meter", stage_meter},       /* count it against its request limits, or refuse */
	{"lookup", stage_lookup},     /* cached answer? serve it, JSON or stream */
	{"route", stage_route},       /* may it go to a provider now? */
	{"coalesce", stage_coalesce}, /* is somebody asking this right now? follow them */
	{"slots", stage_slots},       /* how many calls are made at the same time? */
	{"admit", stage_admit},       /* set aside what it can cost at most, or refuse */
	{"relay", stage_relay},       /* call it, pass its answer on as it comes, remember it */
	{NULL, NULL},
};
static const struct stage models_stages[] = {
	{"auth", stage_auth}, {"meter", stage_meter}, {"models", stage_models}, {NULL, NULL}};
static const struct stage purge_stages[] = {
	{"auth", stage_auth}, {"admin", stage_admin}, {"body", stage_body}, {"purge", stage_purge}, {NULL, NULL}};
static const struct stage spend_stages[] = {
	{"auth", stage_auth}, {"admin", stage_admin}, {"spend", stage_spend}, {NULL, NULL}};
static const struct stage metrics_stages[] = {{"metrics", stage_metrics}, {NULL, NULL}};
static const struct stage healthz_stages[] = {{"healthz", stage_healthz}, {NULL, NULL}};
static const struct stage readyz_stages[] = {{"readyz", stage_readyz}, {NULL, NULL}};

static const struct operation chat = {
	"chat", "/chat/completions", chat_read, measure_chat, .form = &stream_chat, .id_prefix = "chatcmpl-"};
static const struct operation text = {"text_completion", "/completions", completion_read, measure_completion,
	.form = &stream_text, .id_prefix = "cmpl-"};

static const struct operation embeddings = {
	"embeddings", "/embeddings", embeddings_read, measure_embeddings, .id_prefix = "embd-"};

static const struct endpoint endpoints[] = {
	{"POST", "/v1/chat/completions", .operation = &chat, .stages = chat_stages},
	{"POST", "/v1/completions", .operation = &text, .stages = chat_stages},
	{"POST", "/v1/embeddings", .operation = &embeddings, .stages = chat_stages},
	{"GET", "/v1/models", .stages = models_stages},
	{"GET", "/v1/models/", .prefix = true, .stages = models_stages},
	{"POST", "/admin/purge", .stages = purge_stages},
	{"GET", "/admin/spend", .stages = spend_stages},
	{"GET", "/metrics", .quiet = true, .stages = metrics_stages},
	{"GET", "/healthz", .quiet = true, .open_while_draining = true, .stages = healthz_stages},
	{"GET", "/readyz", .quiet = true, .open_while_draining = true, .stages = readyz_stages},
};

enum verdict txn_fail(struct txn *t, enum err_code code, const char *param, const char *fmt, ...)
{
	char message[sizeof(t->err.message)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	err_set(&t->err, code, param, "%s", message);
	return FAILED;
}

/* The request target less its query and the path where the program is mounted. */
static const char *path_of(struct txn *t)
{
	const char *uri = fcgi_param("REQUEST_URI"), *base = t->config->server.base_path;
	size_t len, base_len = strlen(base);

	if (!uri)
		uri = fcgi_param("SCRIPT_NAME");
	if (!uri)
		uri = "";
	uri = http_origin_form(uri);
	len = http_path_len(uri);
	if (base_len && len >= base_len && strncmp(uri, base, base_len) == 0 &&
		(len == base_len || uri[base_len] == '/')) {
		uri += base_len;
		len -= base_len;
	}
	return arena_strndup(t->arena, uri, len);
}

static bool method_fits(const struct endpoint *e, const char *method)
{
	return strcmp(e->method, method) == 0 || (strcmp(e->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

static bool path_fits(const struct endpoint *e, const char *path)
{
	size_t len = strlen(e->path);

	return e->prefix ? strncmp(e->path, path, len) == 0 && path[len] : strcmp(e->path, path) == 0;
}

static enum verdict find_endpoint(struct txn *t)
{
	size_t i;

	for (i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
		if (!path_fits(&endpoints[i], t->path))
			continue;
		if (method_fits(&endpoints[i], t->method)) {
			t->endpoint = &endpoints[i];
			return NEXT;
		}
		t->allow = strcmp(endpoints[i].method, "GET") == 0 ? "GET, HEAD" : endpoints[i].method;
	}
	if (t->allow)
		return txn_fail(t, ERR_METHOD_NOT_ALLOWED, NULL, "Not allowed to %.20s on %.100s; use %s.", t->method,
			t->path, t->allow);
	return txn_fail(t, ERR_UNKNOWN_URL, NULL,
		"Unknown request URL: %.20s %.200s. Expected one such as POST /v1/chat/completions or GET /v1/models.",
		t->method, t->path);
}

static void begin(struct txn *t)
{
	const char *id = http_header("x-request-id"), *method = fcgi_param("REQUEST_METHOD");
	uint8_t random[16];

	t->method = method ? method : "";
	t->path = path_of(t);
	if (id && http_request_id_valid(id)) {
		snprintf(t->request_id, sizeof(t->request_id), "%s", id);
	} else {
		hash_random(random, sizeof(random));
		memcpy(t->request_id, "req_", 4);
		hash_hex(random, sizeof(random), t->request_id + 4);
	}
	if (!http_trace_parse(http_header("traceparent"), &t->trace))
		http_trace_begin(&t->trace);
	client_identify(t);
}

static enum verdict walk(struct txn *t)
{
	enum verdict verdict = cors_preflight(t);
	const struct stage *stage;

	if (verdict == NEXT)
		verdict = find_endpoint(t);

	if (verdict == NEXT && !t->endpoint->open_while_draining && atomic_load(&t->worker->stats->draining)) {
		t->retry_after_ms = 1000;
		return txn_fail(
			t, ERR_DRAINING, NULL, "This server is shutting down. Try again: another one will answer.");
	}
	for (stage = verdict == NEXT ? t->endpoint->stages : NULL; stage && stage->run && verdict == NEXT; stage++)
		verdict = stage->run(t);
	return verdict;
}

void txn_run(struct worker *w)
{
	static struct txn txn; /* a worker has one at a time */
	struct txn *t = &txn;

	*t = (struct txn){.worker = w,
		.config = w->config,
		.arena = &w->arena,
		.started_us = clock_mono_us(),
		.controls = CACHE_CONTROLS_INIT,
		.cost_pusd = -1,
		.saved_pusd = -1};
	answer_facts_init(&t->facts);
	store_begin(w->store);
	begin(t);
	if (walk(t) == FAILED)
		answer_error(t);
	account(t);
	fcgi_finish();
	if (t->refresh)
		stale_refresh(t);
	store_end(w->store);
	arena_reset(&w->arena);
	if (t->called || t->body_bytes > LARGE_BODY)
		heap_trim(); /* nobody waits now, and the next answer may be a long time off */
}
