/* Off unless origins are named. Credentials are never allowed: a key travels in a header, not in a cookie. */
#include "gate/cors.h"

#include "edge/http.h"
#include "gate/answer.h"

#include <string.h>
#include <strings.h>

/* Request headers that a page may send; a star stands for any end. The configured forward_headers come on top. */
static const char *const allowed_headers[] = {"authorization", "api-key", "x-api-key", "content-type", "accept",
	"cache-control", "user-agent", "x-request-id", "traceparent", "tracestate", "idempotency-key", "openai-*",
	"x-stainless-*", "x-pavise-*"};

static const char exposed_headers[] =
	"x-request-id, x-pavise-upstream-request-id, x-pavise-cost-usd, x-pavise-saved-usd, "
	"x-pavise-budget-remaining-usd, x-pavise-schema, "
	"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
	"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, ratelimit, ratelimit-policy, "
	"cache-status, x-cache, age, retry-after, retry-after-ms, x-should-retry";

/* The request's origin if it is one that may, else NULL. */
static const char *origin_of(const struct txn *t)
{
	const char *origin = http_header("origin"), **o;

	for (o = t->config->server.cors.origins; origin && *o; o++)
		if (strcmp(*o, "*") == 0 || strcasecmp(*o, origin) == 0)
			return origin;
	return NULL;
}

static bool matches(const char *pattern, const char *name, size_t len)
{
	size_t n = strlen(pattern);

	if (pattern[n - 1] == '*')
		return len >= n - 1 && strncasecmp(pattern, name, n - 1) == 0;
	return len == n && strncasecmp(pattern, name, n) == 0;
}

static bool may_send(const struct txn *t, const char *name, size_t len)
{
	const char **h;
	size_t i;

	for (i = 0; i < sizeof(allowed_headers) / sizeof(allowed_headers[0]); i++)
		if (matches(allowed_headers[i], name, len))
			return true;
	for (h = t->config->forward_headers; *h; h++)
		if (matches(*h, name, len))
			return true;
	return false;
}

/* Of the headers that the page wants to send, those that it may. */
static void add_allowed(const struct txn *t, struct buf *list, const char *wanted)
{
	size_t len;

	while (*(wanted += strspn(wanted, ", \t"))) {
		len = strcspn(wanted, ", \t");
		if (may_send(t, wanted, len)) {
			buf_adds(list, list->len ? ", " : "");
			buf_add(list, wanted, len);
		}
		wanted += len;
	}
}

enum verdict cors_preflight(struct txn *t)
{
	const char *wanted = http_header("access-control-request-headers");

	if (strcmp(t->method, "OPTIONS") != 0 || !http_header("access-control-request-method") || !origin_of(t))
		return NEXT;
	t->preflight = arena_alloc(t->arena, sizeof(*t->preflight));
	*t->preflight = BUF_INIT(1500);
	if (wanted)
		add_allowed(t, t->preflight, wanted);
	answer_whole(t, 204, NULL, NULL, 0);
	buf_release(t->preflight);
	return ANSWERED;
}

void cors_add(const struct txn *t, struct buf *head)
{
	const char *origin;

	if (!t->config->server.cors.origins[0])
		return;
	http_head_add(head, "Vary", "Origin");
	origin = origin_of(t);
	if (!origin)
		return;
	http_head_add(head, "Access-Control-Allow-Origin", "%s", origin);
	if (!t->preflight) {
		http_head_add(head, "Access-Control-Expose-Headers", "%s", exposed_headers);
		return;
	}
	http_head_add(head, "Access-Control-Allow-Methods", "GET, HEAD, POST");
	if (t->preflight->len)
		http_head_add(head, "Access-Control-Allow-Headers", "%s", t->preflight->data);
	http_head_add(head, "Access-Control-Max-Age", "%lld", (long long)(t->config->server.cors.max_age / 1000000));
}
