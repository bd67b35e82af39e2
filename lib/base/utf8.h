/*
 * utf8 — well-formed UTF-8, as Unicode's table 3-7 has it.
 */
#ifndef PAVISE_BASE_UTF8_H
#define PAVISE_BASE_UTF8_H

#include <stddef.h>

/* The length of the character at s and, in *c, what it is; U+FFFD of length 1 where there is none. left > 0. */
size_t utf8_decode(const unsigned char *s, size_t left, unsigned *c);

/* Puts a '?' in the place of every byte that is no part of a character. */
void utf8_clean(char *s);

/* The most bytes of s, up to max of them, that end where a character does. s is well-formed and longer than max. */
size_t utf8_cut(const char *s, size_t max);

#endif
