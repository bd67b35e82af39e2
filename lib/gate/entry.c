/*
 * Layout: a head in little-endian, then model, finish_reasons (each with its NUL), JSON and script. The head says how
 * long it is and only ever grows: fields that a writer did not know are 0, and what a reader does not know is skipped.
 */
#include "gate/entry.h"

#include <endian.h>
#include <string.h>

enum {
	FORMAT = 2,
	PREFIX_BYTES = 4 + 4,                      /* magic, format */
	TEXTS = 4,                                 /* model, finish_reasons, JSON, script */
	HEAD_BYTES = PREFIX_BYTES + 4 + TEXTS * 4, /* and its own length, and the texts' lengths: always there */
	FIELDS = 7,                                /* of 8 bytes each */
	CHECK_BYTES = 16,                          /* format 1: behind magic and format */
	HEAD_1_BYTES = 8 + CHECK_BYTES + 5 * 8 + 4 * 4
};

static const char MAGIC[4] = {'P', 'V', 'C', 'E'};

static void put64(struct buf *out, uint64_t v)
{
	uint64_t le = htole64(v);

	buf_add(out, &le, sizeof(le));
}

static void put32(struct buf *out, size_t v)
{
	uint32_t le = htole32((uint32_t)v);

	buf_add(out, &le, sizeof(le));
}

static uint64_t get64(const char *p)
{
	uint64_t le;

	memcpy(&le, p, sizeof(le));
	return le64toh(le);
}

static uint32_t get32(const char *p)
{
	uint32_t le;

	memcpy(&le, p, sizeof(le));
	return le32toh(le);
}

void entry_encode(struct buf *out, const struct cache_entry *e)
{
	size_t model_len = strlen(e->model) + 1, reasons_len = strlen(e->finish_reasons) + 1;

	buf_add(out, MAGIC, sizeof(MAGIC));
	put32(out, FORMAT);
	put32(out, HEAD_BYTES + FIELDS * 8);
	put32(out, model_len);
	put32(out, reasons_len);
	put32(out, e->json_len);
	put32(out, e->script_len);
	put64(out, (uint64_t)e->stored_ms);
	put64(out, (uint64_t)e->expires_ms);
	put64(out, (uint64_t)e->input_tokens);
	put64(out, (uint64_t)e->output_tokens);
	put64(out, (uint64_t)e->cached_tokens);
	put64(out, e->epochs[0]);
	put64(out, e->epochs[1]);
	buf_add(out, e->model, model_len);
	buf_add(out, e->finish_reasons, reasons_len);
	buf_add(out, e->json, e->json_len);
	buf_add(out, e->script, e->script_len);
}

/* The texts fill what is behind the head, whose lengths of them are at `lens`. */
static bool take_texts(struct cache_entry *e, const char *lens, const char *texts, size_t len)
{
	size_t model_len = get32(lens), reasons_len = get32(lens + 4);

	e->json_len = get32(lens + 8);
	e->script_len = get32(lens + 12);
	if ((uint64_t)model_len + reasons_len + e->json_len + e->script_len != len || !model_len || !reasons_len)
		return false;
	e->model = texts;
	e->finish_reasons = e->model + model_len;
	e->json = e->finish_reasons + reasons_len;
	e->script = e->json + e->json_len;
	return e->model[model_len - 1] == '\0' && e->finish_reasons[reasons_len - 1] == '\0' && e->json_len >= 2 &&
	       e->json[0] == '{';
}

static bool is_format(const char *bytes, size_t len, size_t head_bytes, uint32_t format)
{
	return len >= head_bytes && memcmp(bytes, MAGIC, sizeof(MAGIC)) == 0 && get32(bytes + 4) == format;
}

bool entry_decode(struct cache_entry *e, const char *bytes, size_t len)
{
	uint64_t fields[FIELDS] = {0};
	size_t head_bytes, i;

	if (!is_format(bytes, len, HEAD_BYTES, FORMAT))
		return false;
	head_bytes = get32(bytes + PREFIX_BYTES);
	if (head_bytes < HEAD_BYTES || head_bytes > len)
		return false;
	for (i = 0; i < FIELDS && HEAD_BYTES + (i + 1) * 8 <= head_bytes; i++)
		fields[i] = get64(bytes + HEAD_BYTES + i * 8);
	*e = (struct cache_entry){.stored_ms = (int64_t)fields[0],
		.expires_ms = (int64_t)fields[1],
		.input_tokens = (int64_t)fields[2],
		.output_tokens = (int64_t)fields[3],
		.cached_tokens = (int64_t)fields[4],
		.epochs = {fields[5], fields[6]}};
	return take_texts(e, bytes + PREFIX_BYTES + 4, bytes + head_bytes, len - head_bytes);
}

/* ---- format 1 ---- */

/* The check was made over the hash and the entry with zeros in its place. */
static bool check_fits(const char *bytes, size_t len, const uint8_t hash[SHA256_BYTES])
{
	static const char zeros[CHECK_BYTES];
	struct hash_part parts[] = {{hash, SHA256_BYTES}, {bytes, PREFIX_BYTES}, {zeros, CHECK_BYTES},
		{bytes + PREFIX_BYTES + CHECK_BYTES, len - PREFIX_BYTES - CHECK_BYTES}};
	uint8_t check[SHA256_BYTES];

	hash_sha256_parts(parts, 4, check);
	return hash_equal(check, bytes + PREFIX_BYTES, CHECK_BYTES);
}

bool entry_decode_1(struct cache_entry *e, const char *bytes, size_t len, const uint8_t hash[SHA256_BYTES])
{
	const char *p = bytes + PREFIX_BYTES + CHECK_BYTES;

	if (!is_format(bytes, len, HEAD_1_BYTES, 1) || !check_fits(bytes, len, hash))
		return false;
	*e = (struct cache_entry){.stored_ms = (int64_t)get64(p),
		.expires_ms = (int64_t)get64(p + 8),
		.input_tokens = (int64_t)get64(p + 16),
		.output_tokens = (int64_t)get64(p + 24),
		.cached_tokens = (int64_t)get64(p + 32)};
	return take_texts(e, p + 40, bytes + HEAD_1_BYTES, len - HEAD_1_BYTES);
}
