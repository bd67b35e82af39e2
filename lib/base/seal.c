/* Contexts are made once: to fetch an algorithm by name costs more than to seal a kilobyte. */
#include "base/seal.h"

#include "base/err.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <stdlib.h>
#include <string.h>

enum { NONCE_BYTES = 12, TAG_BYTES = 16, KEY_BYTES = 32 };

struct seal {
	EVP_MAC_CTX *names, *keys; /* each with a key of its own, made of the secret */
	EVP_CIPHER_CTX *cipher;
};

/* HKDF (RFC 5869): for each purpose a key that says nothing of the others. */
static void derive(const char *secret, const char *purpose, uint8_t key[KEY_BYTES])
{
	char digest[] = "SHA256", salt[] = "pavise";
	OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, strlen(secret)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, strlen(salt)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)purpose, strlen(purpose)),
		OSSL_PARAM_construct_end()};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);

	if (!ctx || EVP_KDF_derive(ctx, key, KEY_BYTES, params) != 1)
		die("OpenSSL has no HKDF");
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

static EVP_MAC_CTX *hmac_new(const char *secret, const char *purpose)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
	uint8_t key[KEY_BYTES];

	derive(secret, purpose, key);
	if (!ctx || EVP_MAC_init(ctx, key, sizeof(key), params) != 1)
		die("OpenSSL has no HMAC");
	OPENSSL_cleanse(key, sizeof(key));
	EVP_MAC_free(mac);
	return ctx;
}

static void hmac(EVP_MAC_CTX *ctx, const void *bytes, size_t len, uint8_t out[SHA256_BYTES])
{
	size_t size;

	BUG_ON(EVP_MAC_init(ctx, NULL, 0, NULL) != 1 || EVP_MAC_update(ctx, bytes, len) != 1 ||
		EVP_MAC_final(ctx, out, &size, SHA256_BYTES) != 1 || size != SHA256_BYTES);
}

struct seal *seal_new(const char *secret)
{
	struct seal *s = calloc(1, sizeof(*s));
	EVP_CIPHER *aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);

	if (!s)
		die("out of memory");
	s->names = hmac_new(secret, "names of items, 1");
	s->keys = hmac_new(secret, "keys of values, 1");
	s->cipher = EVP_CIPHER_CTX_new();
	if (!aes || !s->cipher || EVP_CipherInit_ex2(s->cipher, aes, NULL, NULL, 1, NULL) != 1)
		die("OpenSSL has no AES-256-GCM");
	EVP_CIPHER_free(aes);
	return s;
}

void seal_free(struct seal *s)
{
	if (!s)
		return;
	EVP_MAC_CTX_free(s->names);
	EVP_MAC_CTX_free(s->keys);
	EVP_CIPHER_CTX_free(s->cipher);
	free(s);
}

void seal_name(const struct seal *s, const void *bytes, size_t len, uint8_t out[SHA256_BYTES])
{
	hmac(s->names, bytes, len, out);
}

/* The name is in the key and, as additional data, in the tag. */
static void begin(const struct seal *s, const char *name, const uint8_t *nonce, int encrypt)
{
	uint8_t key[KEY_BYTES];
	int n;

	hmac(s->keys, name, strlen(name), key);
	BUG_ON(EVP_CipherInit_ex2(s->cipher, NULL, key, nonce, encrypt, NULL) != 1 ||
		EVP_CipherUpdate(s->cipher, NULL, &n, (const uint8_t *)name, (int)strlen(name)) != 1);
	OPENSSL_cleanse(key, sizeof(key));
}

void seal_wrap(const struct seal *s, const char *name, const struct hash_part *parts, size_t count, struct buf *out)
{
	uint8_t nonce[NONCE_BYTES];
	size_t len = SEAL_OVERHEAD, i;
	uint8_t *to;
	int n;

	for (i = 0; i < count; i++)
		len += parts[i].len;
	to = (uint8_t *)buf_reserve(out, len);
	if (!to)
		return;
	BUG_ON(len > INT_MAX);
	hash_random(nonce, sizeof(nonce));
	memcpy(to, nonce, sizeof(nonce));
	to += sizeof(nonce);
	begin(s, name, nonce, 1);
	for (i = 0; i < count; i++) {
		if (!parts[i].len)
			continue;
		BUG_ON(EVP_CipherUpdate(s->cipher, to, &n, parts[i].bytes, (int)parts[i].len) != 1);
		to += n;
	}
	BUG_ON(EVP_CipherFinal_ex(s->cipher, to, &n) != 1 ||
		EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, to) != 1);
	out->len += len;
	out->data[out->len] = '\0';
}

bool seal_open(const struct seal *s, const char *name, const void *bytes, size_t len, struct buf *out)
{
	const uint8_t *from = bytes;
	uint8_t tag[TAG_BYTES], *to;
	int n;

	if (len < SEAL_OVERHEAD || len > INT_MAX)
		return false;
	len -= SEAL_OVERHEAD;
	to = (uint8_t *)buf_reserve(out, len);
	if (!to)
		return false;
	memcpy(tag, from + NONCE_BYTES + len, sizeof(tag));
	begin(s, name, from, 0);
	if ((len && EVP_CipherUpdate(s->cipher, to, &n, from + NONCE_BYTES, (int)len) != 1) ||
		EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) != 1 ||
		EVP_CipherFinal_ex(s->cipher, to + len, &n) != 1) {
		*to = 0; /* what does not verify is not to be seen: the content ends where it did */
		return false;
	}
	out->len += len;
	out->data[out->len] = '\0';
	return true;
}
