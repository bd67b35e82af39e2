/*
 * clock — two clocks, never mixed: `mono` measures how long, `real` says when.
 */
#ifndef PAVISE_BASE_CLOCK_H
#define PAVISE_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC: the same for every process of this host. */
int64_t clock_mono_us(void);
int64_t clock_mono_ms(void);

/* Since 1970, UTC. */
int64_t clock_real_us(void);
int64_t clock_real_ms(void);

/* "2026-11-23T15:43:41.042Z"; out has CLOCK_TEXT bytes. */
enum { CLOCK_TEXT = 32 };
void clock_text(int64_t real_ms, char out[CLOCK_TEXT]);

/* "2027-01-01T00:00:00Z" or with another RFC 3339 offset → ms since 1970, or -1. */
int64_t clock_parse(const char *rfc3339);

#endif
