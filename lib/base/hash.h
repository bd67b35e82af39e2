/*
 * hash — SHA-256, hexadecimal, randomness and comparison in constant time (OpenSSL's EVP underneath).
 */
#ifndef PAVISE_BASE_HASH_H
#define PAVISE_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_HEX = 64 };

struct hash_part {
	const void *bytes;
	size_t len;
};

void hash_sha256(const void *bytes, size_t len, uint8_t out[SHA256_BYTES]);
/* Of several parts, one behind the other. */
void hash_sha256_parts(const struct hash_part *parts, size_t count, uint8_t out[SHA256_BYTES]);

/* Lower case, NUL-terminated: out has 2 × len + 1 bytes. */
void hash_hex(const uint8_t *bytes, size_t len, char *out);
/* False unless hex is exactly 2 × len hexadecimal digits. */
bool hash_unhex(const char *hex, uint8_t *out, size_t len);

/* Same answer, same time, wherever the difference is. */
bool hash_equal(const void *a, const void *b, size_t len);

/* From the kernel; never fails. */
void hash_random(void *out, size_t len);

#endif
