/* What a provider looks like from outside: its URLs, its headers and, above all, the shape of its errors. */
#include "demo_http.h"

#include "base/hash.h"
#include "base/json.h"
#include "demo_chat.h"
#include "demo_embed.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The four members of an error in OpenAI's shape; NULL is null. */
struct failure {
	int status;
	const char *type, *param, *code, *message;
};

static const char *const models[] = {"demo", "demo-large", "demo-embedding"};

void demo_note(const struct demo *demo, const char *fmt, ...)
{
	va_list ap;

	if (demo->options.quiet)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
}

void reply_headers(struct evhttp_request *req, const char *content_type)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	char id[4 + 32 + 1] = "req_";
	uint8_t random[16];

	hash_random(random, sizeof(random));
	hash_hex(random, sizeof(random), id + 4);
	evhttp_add_header(headers, "Content-Type", content_type);
	evhttp_add_header(headers, "x-request-id", id);
	evhttp_add_header(headers, "openai-version", "2020-10-01");
}

static void free_body(const void *bytes, size_t len, void *arg)
{
	(void)len;
	(void)arg;
	free((void *)bytes);
}

void reply_json(struct evhttp_request *req, int status, struct buf *body)
{
	struct evbuffer *out = evbuffer_new();

	if (!out || body->overflow || evbuffer_add_reference(out, body->data, body->len, free_body, NULL))
		die("out of memory");
	reply_headers(req, "application/json");
	evhttp_send_reply(req, status, NULL, out);
	evbuffer_free(out);
}

static void add_member(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, ",\"%s\":", name);
	if (value && *value)
		json_print_string(b, value, strlen(value));
	else
		buf_adds(b, "null");
}

static void reply_failure(struct evhttp_request *req, const struct failure *f)
{
	struct buf body = BUF_INIT(DEMO_MAX_BYTES);

	buf_adds(&body, "{\"error\":{\"message\":");
	json_print_string(&body, f->message, strlen(f->message));
	add_member(&body, "type", f->type);
	add_member(&body, "param", f->param);
	add_member(&body, "code", f->code);
	buf_adds(&body, "}}");
	reply_json(req, f->status, &body);
}

void reply_err(struct evhttp_request *req, const struct err *err)
{
	const struct err_kind *kind = err_kind(err->code);

	reply_failure(req, &(struct failure){kind->status, kind->type, err->param, kind->code, err->message});
}

/* A failure that was asked for: --fail or x-demo-fail. */
static void reply_fault(struct evhttp_request *req, int status)
{
	static const struct failure faults[] = {
		{400, "invalid_request_error", NULL, "invalid_value",
			"The demo was told to find this request invalid."},
		{401, "invalid_request_error", NULL, "invalid_api_key", "The demo was told to refuse this key."},
		{403, "invalid_request_error", NULL, "model_not_allowed", "The demo was told to deny this model."},
		{404, "invalid_request_error", "model", "model_not_found", "The demo was told not to know this model."},
		{429, "rate_limit_error", NULL, "rate_limit_exceeded", "The demo was told to be at its rate limit."},
		{503, "server_error", NULL, "server_is_overloaded", "The demo was told to be overloaded."},
		{0, "invalid_request_error", NULL, NULL, "The demo was told to refuse this request."},
	};
	const struct failure *f = faults;
	struct failure out;

	while (f->status && f->status != status)
		f++;
	out = *f;
	out.status = status;
	if (!f->status && status >= 500) {
		out.type = "server_error";
		out.message = "The demo was told to fail.";
	}
	if (status == 429)
		evhttp_add_header(evhttp_request_get_output_headers(req), "Retry-After", "1");
	reply_failure(req, &out);
}

/* Is the key right, where one is wanted? */
static bool has_key(const struct demo *demo, struct evhttp_request *req)
{
	const char *want = demo->options.api_key;
	const char *got = evhttp_find_header(evhttp_request_get_input_headers(req), "Authorization");

	if (!want)
		return true;
	if (!got || strncasecmp(got, "Bearer ", 7) != 0)
		return false;
	got += 7;
	return strlen(got) == strlen(want) && hash_equal(got, want, strlen(want));
}

static int read_header(struct evhttp_request *req, const char *name, int least, int most, int *to, struct err *err)
{
	const char *text = evhttp_find_header(evhttp_request_get_input_headers(req), name);
	char *end;
	long n;

	if (!text)
		return 0;
	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < least || n > most)
		return err_set(err, ERR_INVALID_HEADER, name, "%s must be a number from %d to %d.", name, least, most);
	*to = (int)n;
	return 0;
}

static int read_pace(const struct demo *demo, struct evhttp_request *req, struct demo_pace *pace, struct err *err)
{
	const struct demo_options *o = &demo->options;

	*pace = (struct demo_pace){o->first_ms, o->token_ms, o->tokens, -1};
	if (read_header(req, "x-demo-first-ms", 0, DEMO_MAX_MS, &pace->first_ms, err) ||
		read_header(req, "x-demo-token-ms", 0, DEMO_MAX_MS, &pace->token_ms, err) ||
		read_header(req, "x-demo-tokens", 1, DEMO_MAX_TOKENS, &pace->tokens, err) ||
		read_header(req, "x-demo-fail", 0, 599, &pace->fail, err))
		return -1;
	if (pace->fail > 0 && pace->fail < 400)
		return err_set(
			err, ERR_INVALID_HEADER, "x-demo-fail", "x-demo-fail must be 0 or a status from 400 to 599.");
	if (pace->fail < 0)
		pace->fail = o->fail.status && demo->stats.requests % (uint64_t)o->fail.every == 0 ? o->fail.status : 0;
	return 0;
}

/* What chat and embeddings have in common: counting, failing when told to, and a body that is JSON. */
static void serve_post(struct demo *demo, struct evhttp_request *req, uint64_t *counter,
	void (*answer)(struct demo *, struct evhttp_request *, const struct demo_pace *, struct json_object *))
{
	struct evbuffer *in = evhttp_request_get_input_buffer(req);
	struct json_object *body;
	const char *text;
	struct demo_pace pace;
	struct err err;

	demo->stats.requests++;
	++*counter;
	if (read_pace(demo, req, &pace, &err)) {
		reply_err(req, &err);
		return;
	}
	if (pace.fail) {
		demo_note(demo, "demo-llm: %s: %d, as told\n", evhttp_request_get_uri(req), pace.fail);
		reply_fault(req, pace.fail);
		return;
	}
	text = (const char *)evbuffer_pullup(in, -1);
	body = json_parse(text ? text : "", evbuffer_get_length(in), &err);
	if (!body) {
		reply_err(req, &err);
		return;
	}
	answer(demo, req, &pace, body);
	json_object_put(body);
}

static void serve_chat(struct demo *demo, struct evhttp_request *req)
{
	serve_post(demo, req, &demo->stats.chat, chat_answer);
}

static void serve_legacy(struct demo *demo, struct evhttp_request *req)
{
	serve_post(demo, req, &demo->stats.chat, legacy_answer);
}

static void serve_embeddings(struct demo *demo, struct evhttp_request *req)
{
	serve_post(demo, req, &demo->stats.embeddings, embed_answer);
}

static void add_model(struct buf *b, const char *id)
{
	buf_printf(b, "{\"id\":\"%s\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"demo-llm\"}", id);
}

static void serve_models(struct demo *demo, struct evhttp_request *req)
{
	struct buf body = BUF_INIT(DEMO_MAX_BYTES);
	size_t i;

	(void)demo;
	buf_adds(&body, "{\"object\":\"list\",\"data\":[");
	for (i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		buf_adds(&body, i ? "," : "");
		add_model(&body, models[i]);
	}
	buf_adds(&body, "]}");
	reply_json(req, 200, &body);
}

static void serve_model(struct demo *demo, struct evhttp_request *req)
{
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
	char *id = evhttp_uridecode(path + strlen("/v1/models/"), 0, NULL);
	struct buf body = BUF_INIT(DEMO_MAX_BYTES);
	struct err err;
	size_t i;

	(void)demo;
	for (i = 0; id && i < sizeof(models) / sizeof(models[0]); i++) {
		if (strcmp(id, models[i]) == 0) {
			add_model(&body, models[i]);
			reply_json(req, 200, &body);
			free(id);
			return;
		}
	}
	err_set(&err, ERR_MODEL_NOT_FOUND, "model", "The model '%s' does not exist.", id ? id : "");
	reply_err(req, &err);
	free(id);
}

static void serve_health(struct demo *demo, struct evhttp_request *req)
{
	struct buf body = BUF_INIT(DEMO_MAX_BYTES);

	(void)demo;
	buf_adds(&body, "{\"status\":\"ok\"}");
	reply_json(req, 200, &body);
}

static void serve_stats(struct demo *demo, struct evhttp_request *req)
{
	const struct demo_stats *s = &demo->stats;
	struct buf body = BUF_INIT(DEMO_MAX_BYTES);

	buf_printf(&body,
		"{\"requests\":%llu,\"chat\":%llu,\"streams_open\":%llu,\"aborted\":%llu,\"embeddings\":%llu}",
		(unsigned long long)s->requests, (unsigned long long)s->chat, (unsigned long long)s->streams_open,
		(unsigned long long)s->aborted, (unsigned long long)s->embeddings);
	reply_json(req, 200, &body);
}

/* One line is one URL; a path that ends in a slash stands for all that begin with it. */
static const struct route {
	const char *path;
	enum evhttp_cmd_type method;
	const char *allow;
	bool wants_key;
	void (*serve)(struct demo *, struct evhttp_request *);
} routes[] = {
	{"/v1/chat/completions", EVHTTP_REQ_POST, "POST", true, serve_chat},
	{"/v1/completions", EVHTTP_REQ_POST, "POST", true, serve_legacy},
	{"/v1/embeddings", EVHTTP_REQ_POST, "POST", true, serve_embeddings},
	{"/v1/models", EVHTTP_REQ_GET, "GET", true, serve_models},
	{"/v1/models/", EVHTTP_REQ_GET, "GET", true, serve_model},
	{"/healthz", EVHTTP_REQ_GET, "GET", false, serve_health},
	{"/stats", EVHTTP_REQ_GET, "GET", false, serve_stats},
};

static const struct route *find_route(const char *path)
{
	const struct route *r;
	size_t i, len;

	for (i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		r = &routes[i];
		len = strlen(r->path);
		if (strcmp(path, r->path) == 0 || (r->path[len - 1] == '/' && strncmp(path, r->path, len) == 0))
			return r;
	}
	return NULL;
}

void demo_serve(struct evhttp_request *req, void *arg)
{
	struct demo *demo = arg;
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
	const struct route *r = find_route(path ? path : "");
	struct err err;

	if (!r) {
		err_set(&err, ERR_UNKNOWN_URL, NULL, "Invalid URL (%s).", path ? path : "");
		reply_err(req, &err);
	} else if (evhttp_request_get_command(req) != r->method) {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", r->allow);
		err_set(&err, ERR_METHOD_NOT_ALLOWED, NULL, "%s takes %s only.", path, r->allow);
		reply_err(req, &err);
	} else if (r->wants_key && !has_key(demo, req)) {
		err_set(&err, ERR_INVALID_API_KEY, NULL, "Incorrect API key provided.");
		reply_err(req, &err);
	} else {
		r->serve(demo, req);
	}
}
