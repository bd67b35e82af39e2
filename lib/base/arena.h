/*
 * arena — memory that lives as long as a request (or a configuration) and is given back at once.
 *
 * What is not plain memory (a json-c object, a curl list) is handed to the arena with the function that releases it, so
 * that no stage needs clean-up code. Out of memory at these sizes is die().
 */
#ifndef PAVISE_BASE_ARENA_H
#define PAVISE_BASE_ARENA_H

#include <stddef.h>

struct arena_chunk;
struct arena_release_item;

struct arena {
	struct arena_chunk *chunks; /* newest first */
	struct arena_release_item *items;
};

#define ARENA_INIT ((struct arena){NULL, NULL})

/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *a, size_t bytes);
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Calls release(thing) when the arena is emptied, in reverse order of the calls. */
void arena_defer(struct arena *a, void (*release)(void *), void *thing);

/* Gives everything back but one small chunk, which the next request uses again. */
void arena_reset(struct arena *a);
/* Gives everything back. */
void arena_release(struct arena *a);

#endif
