/* One answer is one small struct and a place in the wheel: that is how thousands of them fit one process. */
#include "demo_chat.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "demo.h"
#include "demo_ask.h"
#include "demo_hold.h"
#include "demo_http.h"
#include "demo_speech.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* A client that does not read makes its stream wait, and looks again after a moment. */
enum { MAX_UNSENT_BYTES = 256 * 1024, UNSENT_WAIT_US = 5000 };
/* A stream without a pace gives way to the others after so many tokens. */
enum { MAX_STEPS = 500 };

struct choice {
	struct speech speech;
	int64_t pieces; /* said so far */
	bool finished;
};

struct chat {
	struct held held;
	struct ask ask;
	int64_t token_us, created;
	uint8_t id[16];
	bool started;
	struct choice choices[];
};

static void chat_release(struct held *held)
{
	struct chat *c = (struct chat *)held;

	if (c->ask.stream)
		held->demo->stats.streams_open--;
	ask_release(&c->ask);
	free(c);
}

/* ── What both forms have in common ─────────────────────────────────────────────────────────────────────────────── */

static bool choice_next(const struct chat *c, struct choice *choice, struct piece *piece)
{
	if (c->ask.max_tokens && choice->pieces == c->ask.max_tokens)
		return false;
	if (!speech_next(&choice->speech, piece))
		return false;
	choice->pieces++;
	return true;
}

static const char *finish_reason(const struct chat *c, const struct choice *choice)
{
	if (!speech_over(&choice->speech))
		return "length";
	return c->ask.tool ? "tool_calls" : "stop";
}

/* With --stamp, content says when it was made. */
static void add_piece(struct buf *b, const struct chat *c, const struct piece *piece)
{
	if (c->held.demo->options.stamp && !c->ask.script)
		buf_printf(b, "%lld ", (long long)clock_mono_us());
	else
		buf_add(b, piece->text, piece->len);
}

/* {"id":…, up to the choices. */
static void add_head(struct buf *b, const struct chat *c, bool chunk)
{
	const char *prefix = c->ask.legacy ? "cmpl" : "chatcmpl";
	const char *object = c->ask.legacy ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion";
	char id[2 * sizeof(c->id) + 1];

	hash_hex(c->id, sizeof(c->id), id);
	buf_printf(b, "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", prefix, id, object,
		(long long)c->created);
	json_print_string(b, c->ask.model, strlen(c->ask.model));
	buf_adds(b, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_de30de30de\",\"choices\":[");
}

static void add_usage(struct buf *b, const struct chat *c)
{
	int64_t said = 0;
	int i;

	for (i = 0; i < c->ask.choices; i++)
		said += c->choices[i].pieces;
	buf_printf(b,
		"\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
		"\"prompt_tokens_details\":{\"cached_tokens\":0}}",
		(long long)c->ask.prompt_tokens, (long long)said, (long long)(c->ask.prompt_tokens + said));
}

/* "id":"call_…","type":"function","function":{"name":…,"arguments": (the same question is the same call, so that the
 * answer to a call's result is the same, too) */
static void add_call(struct buf *b, const struct chat *c, int choice)
{
	buf_printf(b, "\"id\":\"call_%020llx%04x\",\"type\":\"function\",\"function\":{\"name\":",
		(unsigned long long)c->ask.seed, (unsigned)choice);
	json_print_string(b, c->ask.tool, strlen(c->ask.tool));
	buf_adds(b, ",\"arguments\":");
}

static void note_end(const struct chat *c, const char *how)
{
	demo_note(c->held.demo, "demo-llm: %s: %s %s after %lld tokens\n",
		c->ask.legacy ? "/v1/completions" : "/v1/chat/completions", c->ask.stream ? "stream" : "answer", how,
		(long long)c->choices[0].pieces);
}

/* --die-after: no goodbye. */
static void hang_up(struct evhttp_connection *connection, void *arg)
{
	(void)arg;
	evhttp_connection_free(connection);
}

static bool dies_now(const struct chat *c)
{
	int64_t after = c->held.demo->options.die_after;

	return after && c->choices[0].pieces >= after;
}

/* ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void add_message(struct buf *b, const struct chat *c, int index, const struct buf *text)
{
	buf_adds(b, "\"message\":{\"role\":\"assistant\",\"content\":");
	if (c->ask.tool) {
		buf_adds(b, "null,\"tool_calls\":[{");
		add_call(b, c, index);
		json_print_string(b, text->data, text->len);
		buf_adds(b, "}}]");
	} else {
		json_print_string(b, text->data, text->len);
	}
	buf_adds(b, ",\"refusal\":null}");
}

static void add_choice(struct buf *b, struct chat *c, int index)
{
	struct choice *choice = &c->choices[index];
	struct buf text = BUF_INIT(DEMO_MAX_BYTES);
	struct piece piece;

	while (choice_next(c, choice, &piece))
		add_piece(&text, c, &piece);
	buf_printf(b, "{\"index\":%d,", index);
	if (c->ask.legacy) {
		buf_adds(b, "\"text\":");
		json_print_string(b, text.data, text.len);
	} else {
		add_message(b, c, index, &text);
	}
	buf_printf(b, ",\"logprobs\":null,\"finish_reason\":\"%s\"}", finish_reason(c, choice));
	buf_release(&text);
}

static void json_fire(struct held *held)
{
	struct chat *c = (struct chat *)held;
	struct evhttp_request *req = held->req;
	struct buf body = BUF_INIT(DEMO_MAX_BYTES);
	int i;

	add_head(&body, c, false);
	for (i = 0; i < c->ask.choices; i++) {
		buf_adds(&body, i ? "," : "");
		add_choice(&body, c, i);
	}
	buf_adds(&body, "],");
	add_usage(&body, c);
	buf_adds(&body, "}");
	note_end(c, "ended");
	hold_end(held);
	reply_json(req, 200, &body);
}

static void json_die(struct held *held)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(held->req);

	note_end((struct chat *)held, "died, as told,");
	hold_end(held);
	hang_up(connection, NULL);
}

/* How long the longest choice takes, found out by saying it in advance to nobody. */
static int64_t json_pieces(const struct chat *c)
{
	struct choice choice;
	struct piece piece;
	int64_t most = 0;
	int i;

	for (i = 0; i < c->ask.choices; i++) {
		choice = c->choices[i];
		while (choice_next(c, &choice, &piece))
			;
		if (choice.pieces > most)
			most = choice.pieces;
	}
	return most;
}

static void json_begin(struct chat *c)
{
	int64_t pieces = json_pieces(c), after = c->held.demo->options.die_after;

	if (after && after <= pieces) {
		c->held.fire = json_die;
		pieces = after;
	}
	hold_until(&c->held, c->held.due_us + pieces * c->token_us);
}

/* ── Streams ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The one event in the making; what is sent leaves it at once. */
static struct buf event = BUF_INIT(DEMO_MAX_BYTES);

static void event_begin(const struct chat *c)
{
	buf_reset(&event);
	buf_adds(&event, "data: ");
	add_head(&event, c, true);
}

static struct bufferevent *bev_of(const struct chat *c)
{
	return evhttp_connection_get_bufferevent(evhttp_request_get_connection(c->held.req));
}

static size_t unsent_bytes(const struct chat *c)
{
	return evbuffer_get_length(bufferevent_get_output(bev_of(c)));
}

/*
 * One system call for one event. By way of evhttp it is four, since epoll is asked for a writable socket, and no more,
 * each time: twice the load for a thousand streams. What the kernel does not take now goes that way.
 */
static void send_at_once(const struct chat *c)
{
	char head[20];
	int len = snprintf(head, sizeof(head), "%zx\r\n", event.len);
	struct iovec parts[] = {{head, (size_t)len}, {event.data, event.len}, {(char *)"\r\n", 2}};
	ssize_t sent = writev(bufferevent_getfd(bev_of(c)), parts, 3);
	size_t i, done, left = sent > 0 ? (size_t)sent : 0;

	for (i = 0; i < 3; i++) {
		done = left < parts[i].iov_len ? left : parts[i].iov_len;
		left -= done;
		if (done < parts[i].iov_len)
			bufferevent_write(bev_of(c), (char *)parts[i].iov_base + done, parts[i].iov_len - done);
	}
}

static void event_send(const struct chat *c, void (*sent)(struct evhttp_connection *, void *))
{
	struct evbuffer *out;

	buf_adds(&event, "\n\n");
	if (!sent && c->held.req->chunked && !c->held.demo->options.tls_cert && !event.overflow && !unsent_bytes(c)) {
		send_at_once(c);
		return;
	}
	out = evbuffer_new();
	if (!out || event.overflow || evbuffer_add(out, event.data, event.len))
		die("out of memory");
	evhttp_send_reply_chunk_with_cb(c->held.req, out, sent, NULL);
	evbuffer_free(out);
}

static void delta_begin(const struct chat *c, int choice)
{
	event_begin(c);
	buf_printf(&event, "{\"index\":%d,\"%s\":", choice, c->ask.legacy ? "text" : "delta");
}

static void delta_send(const struct chat *c, const char *reason, void (*sent)(struct evhttp_connection *, void *))
{
	buf_adds(&event, ",\"logprobs\":null,\"finish_reason\":");
	if (reason)
		buf_printf(&event, "\"%s\"", reason);
	else
		buf_adds(&event, "null");
	buf_adds(&event, c->ask.include_usage ? "}],\"usage\":null}" : "}]}");
	event_send(c, sent);
}

static void send_role(const struct chat *c, int choice)
{
	delta_begin(c, choice);
	buf_printf(&event, "{\"role\":\"assistant\",\"content\":%s", c->ask.tool ? "null" : "\"\"");
	if (c->ask.tool) {
		buf_adds(&event, ",\"tool_calls\":[{\"index\":0,");
		add_call(&event, c, choice);
		buf_adds(&event, "\"\"}}]");
	}
	buf_adds(&event, ",\"refusal\":null}");
	delta_send(c, NULL, NULL);
}

static void send_piece(const struct chat *c, int choice, const struct piece *piece)
{
	static struct buf text = BUF_INIT(DEMO_MAX_BYTES);

	buf_reset(&text);
	add_piece(&text, c, piece);
	delta_begin(c, choice);
	buf_adds(&event, c->ask.legacy ? ""
			 : c->ask.tool ? "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
				       : "{\"content\":");
	json_print_string(&event, text.data, text.len);
	buf_adds(&event, c->ask.legacy ? "" : c->ask.tool ? "}}]}" : "}");
	delta_send(c, NULL, dies_now(c) ? hang_up : NULL);
}

static void send_finish(const struct chat *c, int choice)
{
	delta_begin(c, choice);
	buf_adds(&event, c->ask.legacy ? "\"\"" : "{}");
	delta_send(c, finish_reason(c, &c->choices[choice]), NULL);
}

static void stream_begin(struct chat *c)
{
	int i;

	c->started = true;
	reply_headers(c->held.req, "text/event-stream; charset=utf-8");
	evhttp_add_header(evhttp_request_get_output_headers(c->held.req), "Cache-Control", "no-cache");
	evhttp_send_reply_start(c->held.req, 200, NULL);
	for (i = 0; i < c->ask.choices && !c->ask.legacy; i++)
		send_role(c, i);
}

static void stream_end(struct chat *c)
{
	struct evhttp_request *req = c->held.req;

	if (c->ask.include_usage) {
		event_begin(c);
		buf_adds(&event, "],");
		add_usage(&event, c);
		buf_adds(&event, "}");
		event_send(c, NULL);
	}
	buf_reset(&event);
	buf_adds(&event, "data: [DONE]");
	event_send(c, NULL);
	note_end(c, "ended");
	hold_end(&c->held);
	evhttp_send_reply_end(req);
}

/* One piece, or the end, of each choice; the number of choices that go on. */
static int stream_step(struct chat *c)
{
	struct piece piece;
	int i, going = 0;

	for (i = 0; i < c->ask.choices; i++) {
		if (c->choices[i].finished)
			continue;
		if (choice_next(c, &c->choices[i], &piece)) {
			going++;
			send_piece(c, i, &piece);
			if (dies_now(c))
				return going;
		} else {
			c->choices[i].finished = true;
			send_finish(c, i);
		}
	}
	return going;
}

static void stream_fire(struct held *held)
{
	struct chat *c = (struct chat *)held;
	int64_t due_us = held->due_us;
	int steps = 0;

	if (!c->started)
		stream_begin(c);
	do {
		if (unsent_bytes(c) > MAX_UNSENT_BYTES) {
			hold_until(held, clock_mono_us() + UNSENT_WAIT_US);
			return;
		}
		if (!stream_step(c)) {
			stream_end(c);
			return;
		}
		if (dies_now(c)) { /* the connection goes when this has been sent */
			note_end(c, "died, as told,");
			hold_end(held);
			return;
		}
		due_us += c->token_us;
	} while (++steps < MAX_STEPS && due_us <= clock_mono_us());
	hold_until(held, due_us);
}

/* ── The endpoints ───────────────────────────────────────────────────────────────────────────────────────────────── */

static struct chat *chat_new(const struct ask *ask, const struct demo_pace *pace)
{
	struct chat *c = calloc(1, sizeof(*c) + (size_t)ask->choices * sizeof(c->choices[0]));
	int i;

	if (!c)
		die("out of memory");
	c->ask = *ask;
	c->token_us = (int64_t)pace->token_ms * 1000;
	c->created = clock_real_ms() / 1000;
	hash_random(c->id, sizeof(c->id));
	for (i = 0; i < ask->choices; i++) {
		if (ask->script)
			speech_script(&c->choices[i].speech, ask->say);
		else
			speech_prose(&c->choices[i].speech, ask->say, ask->seed + (uint64_t)i, pace->tokens);
	}
	return c;
}

static void answer(struct demo *demo, struct evhttp_request *req, const struct demo_pace *pace,
	struct json_object *body, int (*read)(struct ask *, struct json_object *, struct err *))
{
	struct ask ask;
	struct chat *c;
	struct err err;

	if (read(&ask, body, &err)) {
		ask_release(&ask);
		reply_err(req, &err);
		return;
	}
	c = chat_new(&ask, pace);
	c->held.fire = ask.stream ? stream_fire : json_fire;
	c->held.release = chat_release;
	if (ask.stream)
		demo->stats.streams_open++;
	hold_begin(&c->held, demo, req, pace->first_ms);
	if (!ask.stream)
		json_begin(c);
}

void chat_answer(struct demo *demo, struct evhttp_request *req, const struct demo_pace *pace, struct json_object *body)
{
	answer(demo, req, pace, body, ask_read);
}

void legacy_answer(
	struct demo *demo, struct evhttp_request *req, const struct demo_pace *pace, struct json_object *body)
{
	answer(demo, req, pace, body, ask_read_legacy);
}
