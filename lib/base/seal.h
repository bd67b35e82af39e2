/*
 * seal — what leaves for a memcached that others use too is encrypted and authenticated (AES-256-GCM), and kept under
 * names that say nothing.
 *
 * Whoever does not have the secret can neither read what is sealed, nor make or change any, nor put it under another
 * name; what remains to them is to see its size and to take it away. Each name has an encryption key of its own, so
 * that random nonces may be used for as long as one likes.
 */
#ifndef PAVISE_BASE_SEAL_H
#define PAVISE_BASE_SEAL_H

#include "base/buf.h"
#include "base/hash.h"

enum { SEAL_SECRET_MIN = 16, SEAL_OVERHEAD = 12 + 16 /* nonce in front, tag behind */ };

struct seal;

/* Call before fork: what OpenSSL fetches for it is then shared. */
struct seal *seal_new(const char *secret);
void seal_free(struct seal *s);

/* The name of something, for who does not know the secret a random number: HMAC-SHA-256. */
void seal_name(const struct seal *s, const void *bytes, size_t len, uint8_t out[SHA256_BYTES]);

/* Appends the parts, one behind the other, sealed under a name: SEAL_OVERHEAD bytes more than they are. */
void seal_wrap(const struct seal *s, const char *name, const struct hash_part *parts, size_t count, struct buf *out);

/* Appends what was sealed under this name; false, and nothing is added, for anything else. */
bool seal_open(const struct seal *s, const char *name, const void *bytes, size_t len, struct buf *out);

#endif
