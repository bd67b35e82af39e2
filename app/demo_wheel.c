/* A heap of timers costs one wake-up for each token; a ring costs one for each millisecond, however many streams. */
#include "demo_wheel.h"

#include "base/clock.h"
#include "base/err.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>

enum { SLOTS = 1024 };

struct wheel {
	struct event *timer;
	void (*fire)(struct wheel_item *);
	int64_t now_ms;   /* everything due up to here has fired */
	int64_t armed_ms; /* when the timer goes off; 0 = it does not */
	bool turning;
	struct wheel_item *slots[SLOTS];
};

static void push(struct wheel_item **list, struct wheel_item *item)
{
	item->next = *list;
	if (item->next)
		item->next->link = &item->next;
	item->link = list;
	*list = item;
}

void wheel_del(struct wheel_item *item)
{
	if (!item->link)
		return;
	*item->link = item->next;
	if (item->next)
		item->next->link = item->link;
	item->link = NULL;
}

static void arm(struct wheel *w, int64_t at_ms)
{
	int64_t wait_us = at_ms * 1000 - clock_mono_us();
	struct timeval tv;

	if (wait_us < 0)
		wait_us = 0;
	tv = (struct timeval){.tv_sec = wait_us / 1000000, .tv_usec = wait_us % 1000000};
	event_add(w->timer, &tv);
	w->armed_ms = at_ms;
}

/* An item further away than the ring is long shares its slot with nearer ones and waits for a later turn. */
static void fire_slot(struct wheel *w, struct wheel_item **slot)
{
	struct wheel_item *due = *slot, *item;

	*slot = NULL;
	if (due)
		due->link = &due;
	while ((item = due)) {
		wheel_del(item);
		if (item->due_ms > w->now_ms)
			push(slot, item);
		else
			w->fire(item);
	}
}

static void turn(evutil_socket_t fd, short what, void *arg)
{
	struct wheel *w = arg;
	int64_t to_ms = clock_mono_us() / 1000;
	int i;

	(void)fd;
	(void)what;
	w->armed_ms = 0;
	w->turning = true;
	if (to_ms - w->now_ms > SLOTS)
		w->now_ms = to_ms - SLOTS;
	while (w->now_ms < to_ms) {
		w->now_ms++;
		fire_slot(w, &w->slots[w->now_ms % SLOTS]);
	}
	w->turning = false;
	for (i = 1; i <= SLOTS; i++) {
		if (w->slots[(w->now_ms + i) % SLOTS]) {
			arm(w, w->now_ms + i);
			return;
		}
	}
}

struct wheel *wheel_new(struct event_base *base, void (*fire)(struct wheel_item *))
{
	struct wheel *w = calloc(1, sizeof(*w));

	if (!w || !(w->timer = event_new(base, -1, 0, turn, w)))
		die("out of memory");
	w->fire = fire;
	return w;
}

void wheel_add(struct wheel *w, struct wheel_item *item, int64_t due_us)
{
	wheel_del(item);
	if (!w->turning && !w->armed_ms)
		w->now_ms = clock_mono_us() / 1000;
	item->due_ms = (due_us + 999) / 1000;
	if (item->due_ms <= w->now_ms)
		item->due_ms = w->now_ms + 1;
	push(&w->slots[item->due_ms % SLOTS], item);
	if (!w->turning && (!w->armed_ms || item->due_ms < w->armed_ms))
		arm(w, item->due_ms);
}

void wheel_free(struct wheel *w)
{
	event_free(w->timer);
	free(w);
}
