/* glibc's malloc reuses the smallest piece that fits, wherever it lies: good for one process, bad for a thousand
 * copies. */
#include "base/heap.h"

#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>

enum { LARGEST = 64 * 1024, SMALLEST = 24, TCACHE = 64 * 1024, KEEP = 2 << 20 };

struct plug {
	struct plug *next;
};

static struct plug *plugs;

void heap_seal(void)
{
	size_t size, left;
	char *top;
	struct plug *p;

	heap_unseal();
	malloc_trim(0);
	left = mallinfo2().fordblks + TCACHE; /* an end, whatever malloc this is */
	top = malloc(LARGEST + 1);            /* what is free behind it is no hole */
	for (size = LARGEST; size >= SMALLEST; size = size > 1024 ? size / 2 : size - 16)
		while (left >= size && (p = malloc(size))) {
			if ((char *)p > top) {
				free(p);
				break;
			}
			*p = (struct plug){plugs};
			plugs = p;
			left -= size;
		}
	free(top);
}

void heap_unseal(void)
{
	struct plug *next;

	for (; plugs; plugs = next) {
		next = plugs->next;
		free(plugs);
	}
}

void heap_keep(void)
{
	mallopt(M_MMAP_THRESHOLD, KEEP / 2);
	mallopt(M_TRIM_THRESHOLD, KEEP);
}

void heap_trim(void)
{
	malloc_trim(0);
}
