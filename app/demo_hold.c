/* evhttp stops listening to a client until its answer is written; a provider has to notice who has hung up. */
#include "demo_hold.h"

#include "base/clock.h"
#include "demo_http.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>

void hold_fire(struct wheel_item *item)
{
	struct held *h = (struct held *)item;

	h->fire(h);
}

static void client_gone(struct evhttp_connection *connection, void *arg)
{
	struct held *h = arg;

	(void)connection;
	wheel_del(&h->timer);
	h->demo->stats.aborted++;
	/* on this way evhttp has given the request to us; when it is being shut down it has not */
	if (!evhttp_request_get_connection(h->req)) {
		demo_note(h->demo, "demo-llm: %s: the client has gone\n", evhttp_request_get_uri(h->req));
		evhttp_request_free(h->req);
	}
	h->release(h);
}

/* Reading goes on, into the buffer and not into evhttp's parser: an end of file is seen at once, a next request waits.
 */
static void watch(struct evhttp_connection *connection)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(connection);
	bufferevent_data_cb on_read, on_write;
	bufferevent_event_cb on_event;
	void *arg;

	bufferevent_getcb(bev, &on_read, &on_write, &on_event, &arg);
	bufferevent_setcb(bev, NULL, on_write, on_event, arg);
	bufferevent_set_timeouts(bev, NULL, NULL); /* else evhttp hangs up on a client that says nothing for 50 s */
	bufferevent_enable(bev, EV_READ);
}

void hold_begin(struct held *h, struct demo *demo, struct evhttp_request *req, int wait_ms)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(req);
	struct evbuffer *body = evhttp_request_get_input_buffer(req);

	h->demo = demo;
	h->req = req;
	evbuffer_drain(body, evbuffer_get_length(body));
	evhttp_connection_set_closecb(connection, client_gone, h);
	watch(connection);
	hold_until(h, clock_mono_us() + (int64_t)wait_ms * 1000);
}

void hold_until(struct held *h, int64_t due_us)
{
	h->due_us = due_us;
	wheel_add(h->demo->wheel, &h->timer, due_us);
}

void hold_end(struct held *h)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(h->req);

	wheel_del(&h->timer);
	if (connection)
		evhttp_connection_set_closecb(connection, NULL, NULL);
	h->release(h);
}
