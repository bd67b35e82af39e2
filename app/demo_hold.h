/*
 * demo_hold — a request that is answered later, in pieces or at once, unless its client goes away before.
 */
#ifndef PAVISE_DEMO_HOLD_H
#define PAVISE_DEMO_HOLD_H

#include "demo.h"
#include "demo_wheel.h"

struct evhttp_request;

/* The first member of what waits. */
struct held {
	struct wheel_item timer;
	struct demo *demo;
	struct evhttp_request *req;
	int64_t due_us;
	void (*fire)(struct held *);    /* due: answer, or hold_until() again */
	void (*release)(struct held *); /* frees it; called by whoever ends it: the client or hold_end() */
};

/* For wheel_new(). */
void hold_fire(struct wheel_item *item);

/* fire and release are set; the rest is filled here. Due `wait_ms` from now. */
void hold_begin(struct held *h, struct demo *demo, struct evhttp_request *req, int wait_ms);
/* Not before this time on clock_mono_us(), or once more. */
void hold_until(struct held *h, int64_t due_us);
/* The request has its answer (or its end): forgets about the client and releases *h. */
void hold_end(struct held *h);

#endif
