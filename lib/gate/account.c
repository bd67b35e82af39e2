/* The line that explains the request: always one, also after a failure, also when there is nobody left to take it. */
#include "base/clock.h"
#include "base/log.h"
#include "edge/fcgi.h"
#include "gate/cache_status.h"
#include "gate/metrics.h"
#include "gate/tell.h"
#include "gate/txn.h"

#include <string.h>
#include <unistd.h>

static const char *text_or_null(const char *s)
{
	return s && *s ? s : NULL;
}

static void log_who(struct log_line *l, const struct txn *t)
{
	static char host[256];

	if (!*host && gethostname(host, sizeof(host) - 1) != 0)
		strcpy(host, "?");
	log_str(l, "request_id", text_or_null(t->request_id));
	log_str(l, "trace_id", t->trace.trace_id);
	log_str(l, "host.name", host);
	log_str(l, "client.address", text_or_null(t->client.logged));
	log_str(l, "user_agent.original", http_header("user-agent"));
	log_str(l, "http.request.method", t->method);
	log_str(l, "url.path", t->path);
	if (t->status)
		log_int(l, "http.response.status_code", t->status);
	if (!t->behind)
		log_int(l, "http.response.body.size", t->body_bytes);
	if (t->key) {
		log_str(l, "key_id", t->key->name);
		log_str(l, "team", t->key->team);
	}
	log_str(l, "user", t->chat.user);
}

static void log_model(struct log_line *l, const struct txn *t)
{
	char controls[CONTROLS_TEXT];

	log_str(l, "gen_ai.operation.name",
		t->endpoint && t->endpoint->operation ? t->endpoint->operation->name : NULL);
	log_str(l, "gen_ai.provider.name", t->model ? t->model->provider->name : NULL);
	log_str(l, "gen_ai.request.model", t->chat.model);
	log_str(l, "gen_ai.response.model", text_or_null(t->facts.model));
	log_str(l, "gen_ai.response.id", text_or_null(t->facts.id));
	if (t->facts.input_tokens >= 0)
		log_int(l, "gen_ai.usage.input_tokens", t->facts.input_tokens);
	if (t->facts.output_tokens >= 0)
		log_int(l, "gen_ai.usage.output_tokens", t->facts.output_tokens);
	if (t->facts.cached_tokens > 0)
		log_int(l, "gen_ai.usage.cache_read.input_tokens", t->facts.cached_tokens);
	log_str(l, "gen_ai.response.finish_reasons", text_or_null(t->facts.finish_reasons));
	if (t->first_chunk_us)
		log_seconds(l, "gen_ai.response.time_to_first_chunk", t->first_chunk_us);
	if (t->chat.body)
		log_bool(l, "stream", t->chat.stream);
	log_str(l, "cache", cache_status_word(t));
	controls_text(&t->controls, controls);
	log_str(l, "cache_control", text_or_null(controls));
	if (cache_status_aged(t))
		log_int(l, "cache_age", t->cache_age_ms / 1000);
	else if (t->cache != CACHE_NONE && t->cache != CACHE_BYPASS)
		log_bool(l, "stored", t->stored);
}

static void add_word(struct buf *list, const char *word)
{
	if (list->len)
		buf_addc(list, ',');
	buf_adds(list, word);
}

/* All that would have refused, and what has been decided without memcached. */
static void log_limits(struct log_line *l, const struct txn *t)
{
	static const char *const words[] = {
		[STORE_DOWN_OPEN] = "open", [STORE_DOWN_CLOSED] = "closed", [STORE_DOWN_LOCAL] = "local"};
	struct buf would = BUF_INIT(4096), store = BUF_INIT(64);
	unsigned said = 0;
	size_t i;
	int how;

	for (i = 0; i < t->limit_count; i++) {
		how = t->limits[i].limit->on_store_down;
		if (t->limits[i].would_refuse)
			add_word(&would, t->limits[i].limit->name);
		if (t->limits[i].unknown && !(said & 1u << how))
			add_word(&store, words[how]);
		said |= t->limits[i].unknown ? 1u << how : 0;
	}
	log_str(l, "would_refuse", would.data);
	log_str(l, "limit_store", store.data);
	buf_release(&would);
	buf_release(&store);
}

static void log_verdict(struct log_line *l, const struct txn *t)
{
	if (t->store_down)
		log_bool(l, "store_down", true);
	log_str(l, "limit", t->refused_by ? t->refused_by->limit->name : NULL);
	log_limits(l, t);
	log_str(l, "purged", t->purged);
	log_str(l, "upstream_request_id", text_or_null(t->upstream_request_id));
	if (t->schema)
		log_str(l, "schema", t->schema);
	if (t->schema && !t->err.code) {
		log_str(l, "error.type",
			strcmp(t->schema, "invalid") == 0 ? "provider_schema_mismatch" : "policy_schema_unjudged");
		log_str(l, "schema_detail", t->schema_detail);
	}
	if (t->err.code) {
		log_str(l, "error.type", err_kind(t->err.code)->log_type);
		if (t->body) /* in what is no JSON, a name may be anything that the client wrote */
			log_str(l, "error.param", text_or_null(t->err.param));
		log_str(l, "upstream_error", text_or_null(t->upstream_detail));
	}
	if (t->cost_pusd >= 0)
		log_usd(l, "cost_usd", t->cost_pusd);
	if (t->cost_estimated)
		log_bool(l, "cost_estimated", true);
	if (t->saved_pusd >= 0)
		log_usd(l, "saved_usd", t->saved_pusd);
	if (t->called)
		log_seconds(l, "upstream_duration", t->upstream_us);
	log_seconds(l, "duration", clock_mono_us() - t->started_us);
	log_int(l, "worker", getpid());
}

static void compose(struct log_line *l, const struct txn *t, size_t max, enum log_level level)
{
	log_begin(l, max, level, t->behind ? "refresh" : "request");
	log_who(l, t);
	log_model(l, t);
	log_verdict(l, t);
	log_end(l);
}

static enum log_level level_of(const struct txn *t)
{
	if (t->status >= 500)
		return t->endpoint && t->endpoint->quiet ? LOG_DEBUG : LOG_ERROR;
	if (t->err.code || t->purged) /* who purged what is written whatever log.level is, but for "error" */
		return LOG_WARN;
	return t->endpoint && t->endpoint->quiet ? LOG_DEBUG : LOG_INFO;
}

/* Ends the answer: its line travels with it, unless nobody is there to take it. */
void account(struct txn *t)
{
	static struct log_line line;
	enum log_level level = level_of(t);
	bool logged = log_enabled(level), travels = logged && t->config->log.to == LOG_TO_FASTCGI && !t->client_gone;

	if (t->err.code == ERR_CLIENT_GONE)
		t->status = err_kind(ERR_CLIENT_GONE)->status;
	metrics_count(t); /* who has had the answer finds it counted */
	if (travels)
		compose(&line, t, LOG_MAX_FASTCGI, level);
	if (logged && !travels)
		compose(&line, t, LOG_MAX_STDERR, level);
	if (fcgi_end(travels ? line.text : NULL, line.len) != 0 && travels) {
		t->client_gone = true;
		compose(&line, t, LOG_MAX_STDERR, level);
		travels = false;
	}
	if (logged && !travels)
		log_write(&line);
	tell_spent(t);
}

/* The request that it is for has had its answer, and its line. */
void account_refresh(struct txn *t)
{
	static struct log_line line;
	enum log_level level = level_of(t);

	tell_spent(t);
	metrics_count(t);
	if (!log_enabled(level))
		return;
	compose(&line, t, LOG_MAX_STDERR, level);
	log_write(&line);
}
