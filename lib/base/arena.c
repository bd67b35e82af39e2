/* Two lifetimes, the worker's and the request's, need one place where the shorter one ends. */
#include "base/arena.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 8192 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size;
	max_align_t bytes[];
};

struct arena_release_item {
	struct arena_release_item *next;
	void (*release)(void *);
	void *thing;
};

static struct arena_chunk *chunk_new(size_t size)
{
	struct arena_chunk *c = malloc(sizeof(*c) + size);

	if (!c)
		die("out of memory");
	*c = (struct arena_chunk){.size = size};
	return c;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	struct arena_chunk *c = a->chunks;
	void *p;

	bytes = (bytes + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
	if (!c || c->size - c->used < bytes) {
		c = chunk_new(bytes > CHUNK_BYTES / 4 ? bytes : CHUNK_BYTES);
		if (a->chunks && c->size != CHUNK_BYTES) { /* a big one of its own: keep filling the chunk in front */
			c->next = a->chunks->next;
			a->chunks->next = c;
		} else {
			c->next = a->chunks;
			a->chunks = c;
		}
	}
	p = (char *)c->bytes + c->used;
	c->used += bytes;
	return memset(p, 0, bytes);
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *copy = arena_alloc(a, len + 1);

	if (len)
		memcpy(copy, s, len);
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	BUG_ON(n < 0);
	s = arena_alloc(a, (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(s, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return s;
}

void arena_defer(struct arena *a, void (*release)(void *), void *thing)
{
	struct arena_release_item *item = arena_alloc(a, sizeof(*item));

	*item = (struct arena_release_item){a->items, release, thing};
	a->items = item;
}

static void free_chunks(struct arena_chunk *c)
{
	struct arena_chunk *next;

	for (; c; c = next) {
		next = c->next;
		free(c);
	}
}

void arena_reset(struct arena *a)
{
	struct arena_chunk *first = a->chunks;

	for (; a->items; a->items = a->items->next)
		a->items->release(a->items->thing);
	if (!first)
		return;
	if (first->size != CHUNK_BYTES) {
		free_chunks(first);
		a->chunks = NULL;
		return;
	}
	free_chunks(first->next);
	first->next = NULL;
	first->used = 0;
}

void arena_release(struct arena *a)
{
	arena_reset(a);
	free_chunks(a->chunks);
	a->chunks = NULL;
}
