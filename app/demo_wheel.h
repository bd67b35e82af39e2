/*
 * demo_wheel — thousands of timers for the price of one: a ring of milliseconds, each with a list of what is due.
 *
 * All that is due in one millisecond fires together, so that one wait for the kernel serves many streams.
 */
#ifndef PAVISE_DEMO_WHEEL_H
#define PAVISE_DEMO_WHEEL_H

#include <stdint.h>

struct event_base;
struct wheel;

/* Lives inside what is timed. Zeroed = not in a wheel. */
struct wheel_item {
	struct wheel_item *next, **link;
	int64_t due_ms;
};

/* fire() gets each item when it is due, already out of the wheel; it may add it again and delete any other. */
struct wheel *wheel_new(struct event_base *base, void (*fire)(struct wheel_item *));
/* due_us is on clock_mono_us(); what is past is due at the next millisecond. An item that is in already is moved. */
void wheel_add(struct wheel *w, struct wheel_item *item, int64_t due_us);
/* Of an item that is not in the wheel: nothing. */
void wheel_del(struct wheel_item *item);
void wheel_free(struct wheel *w);

#endif
