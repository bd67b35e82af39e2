/* One context per process, fetched once: EVP's look-up of an algorithm by name costs more than hashing a kilobyte. */
#include "base/hash.h"

#include "base/err.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/random.h>

void hash_sha256_parts(const struct hash_part *parts, size_t count, uint8_t out[SHA256_BYTES])
{
	static EVP_MD_CTX *ctx;
	static EVP_MD *md;
	size_t i;

	if (!ctx) {
		md = EVP_MD_fetch(NULL, "SHA256", NULL);
		ctx = EVP_MD_CTX_new();
		if (!md || !ctx)
			die("OpenSSL has no SHA-256");
	}
	if (EVP_DigestInit_ex2(ctx, md, NULL) != 1)
		die("SHA-256 does not start");
	for (i = 0; i < count; i++)
		EVP_DigestUpdate(ctx, parts[i].bytes, parts[i].len);
	EVP_DigestFinal_ex(ctx, out, NULL);
}

void hash_sha256(const void *bytes, size_t len, uint8_t out[SHA256_BYTES])
{
	hash_sha256_parts(&(struct hash_part){bytes, len}, 1, out);
}

void hash_hex(const uint8_t *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < len; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool hash_unhex(const char *hex, uint8_t *out, size_t len)
{
	size_t i;
	int high, low;

	if (strlen(hex) != 2 * len)
		return false;
	for (i = 0; i < len; i++) {
		high = hex_digit(hex[2 * i]);
		low = hex_digit(hex[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

bool hash_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}

void hash_random(void *out, size_t len)
{
	char *to = out;
	ssize_t n;

	while (len) {
		n = getrandom(to, len, 0);
		if (n < 0)
			continue; /* EINTR: nothing else can happen to a valid buffer */
		to += n;
		len -= (size_t)n;
	}
}
