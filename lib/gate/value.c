/*
 * Layout: a frame, which binds what it holds to a name, around one byte for the format, one for the kind, and a
 * payload. A frame is "PVCV" and a check over the name and the rest, or, sealed, what seal_wrap() makes of it.
 *
 * What is cut is framed before, under a random name that only the list under its key says and that the pieces' keys
 * begin with: so the pieces of two writers can never be put together, nor those of two keys.
 */
#include "gate/value.h"

#include "base/seal.h"
#include "base/zstd.h"

#include <endian.h>
#include <string.h>

enum {
	FORMAT = 2, /* 1 was an entry without a frame (gate/entry) */
	HEAD_BYTES = 2,
	CHECK_BYTES = 16,
	MAGIC_BYTES = 4,
	FRAME_BYTES = HEAD_BYTES + SEAL_OVERHEAD, /* at most */
	/* below, unpacking takes a third of a hit's time to save a few kilobytes; make bench shows it */
	PACKED_MIN = 32 * 1024,
	ID_BYTES = 16,
	LIST_BYTES = ID_BYTES + 8 + 4, /* id, bytes, pieces */
	PIECES_MAX = 4096
};

enum kind { PLAIN, PACKED, CUT };

static const char MAGIC[MAGIC_BYTES] = {'P', 'V', 'C', 'V'};

struct content {
	enum kind kind;
	const char *bytes;
	size_t len;
	struct buf *owner; /* of the bytes; NULL: the store */
};

struct list {
	uint8_t id[ID_BYTES];
	uint64_t bytes;
	uint32_t pieces;
};

static void release_buf(void *buf)
{
	buf_release(buf);
}

/* Its memory may be large: it is not the arena's own, but goes with it. */
static struct buf *new_buf(struct txn *t, size_t max)
{
	struct buf *b = arena_alloc(t->arena, sizeof(*b));

	*b = BUF_INIT(max);
	arena_defer(t->arena, release_buf, b);
	return b;
}

/* ---- frames ---- */

static void check_of(const char *name, const struct hash_part content[2], uint8_t check[SHA256_BYTES])
{
	struct hash_part parts[] = {{name, strlen(name) + 1}, content[0], content[1]};

	hash_sha256_parts(parts, 3, check);
}

static void add_frame(const struct txn *t, const char *name, enum kind kind, struct hash_part payload, struct buf *out)
{
	const uint8_t head[HEAD_BYTES] = {FORMAT, (uint8_t)kind};
	struct hash_part content[] = {{head, sizeof(head)}, payload};
	uint8_t check[SHA256_BYTES];

	if (t->config->cache.sealed) {
		seal_wrap(t->config->cache.sealed, name, content, 2, out);
		return;
	}
	check_of(name, content, check);
	buf_add(out, MAGIC, MAGIC_BYTES);
	buf_add(out, check, CHECK_BYTES);
	buf_add(out, head, sizeof(head));
	buf_add(out, payload.bytes, payload.len);
}

static struct buf *frame(struct txn *t, const char *name, enum kind kind, struct hash_part payload)
{
	struct buf *out = new_buf(t, payload.len + FRAME_BYTES);

	buf_reserve(out, out->max);
	add_frame(t, name, kind, payload, out);
	return out;
}

static bool open_checked(const char *name, struct hash_part framed, struct hash_part *content)
{
	const char *bytes = framed.bytes;
	uint8_t check[SHA256_BYTES];

	if (framed.len < MAGIC_BYTES + CHECK_BYTES || memcmp(bytes, MAGIC, MAGIC_BYTES) != 0)
		return false;
	*content = (struct hash_part){bytes + MAGIC_BYTES + CHECK_BYTES, framed.len - MAGIC_BYTES - CHECK_BYTES};
	check_of(name, (struct hash_part[]){*content, {NULL, 0}}, check);
	return hash_equal(check, bytes + MAGIC_BYTES, CHECK_BYTES);
}

static bool open_frame(const struct txn *t, const char *name, struct hash_part framed, struct buf *plain,
	enum kind *kind, struct hash_part *payload)
{
	struct hash_part content;
	const char *head;
	size_t at = plain->len;

	if (t->config->cache.sealed) {
		if (!seal_open(t->config->cache.sealed, name, framed.bytes, framed.len, plain))
			return false;
		content = (struct hash_part){plain->data + at, plain->len - at};
	} else if (!open_checked(name, framed, &content)) {
		return false;
	}
	head = content.bytes;
	if (content.len < HEAD_BYTES || head[0] != FORMAT)
		return false;
	*kind = (enum kind)head[1];
	*payload = (struct hash_part){head + HEAD_BYTES, content.len - HEAD_BYTES};
	return true;
}

/* `owner` is of what is framed; NULL: the store. */
static bool unframe(struct txn *t, const char *name, struct hash_part framed, struct buf *owner, struct content *out)
{
	struct buf *plain = t->config->cache.sealed ? new_buf(t, framed.len) : owner;
	struct hash_part payload;
	struct buf none = {0};

	if (!open_frame(t, name, framed, plain ? plain : &none, &out->kind, &payload))
		return false;
	out->bytes = payload.bytes;
	out->len = payload.len;
	out->owner = plain;
	return true;
}

void value_frame(const struct txn *t, const char *name, struct hash_part payload, struct buf *out)
{
	add_frame(t, name, PLAIN, payload, out);
}

bool value_unframe(
	const struct txn *t, const char *name, struct hash_part framed, struct buf *plain, struct hash_part *payload)
{
	enum kind kind;

	return open_frame(t, name, framed, plain, &kind, payload) && kind == PLAIN;
}

/* ---- pieces ---- */

/* What the pieces' keys begin with, and what their content is framed under. */
static const char *name_of(struct txn *t, const uint8_t id[ID_BYTES])
{
	char hex[2 * ID_BYTES + 1];

	hash_hex(id, ID_BYTES, hex);
	return arena_printf(t->arena, "%s:p:%s", t->config->memcached.prefix, hex);
}

static const char *piece_key(struct txn *t, const char *name, size_t i)
{
	return arena_printf(t->arena, "%s:%zu", name, i);
}

static struct hash_part print_list(const struct list *l, char out[LIST_BYTES])
{
	uint64_t bytes = htole64(l->bytes);
	uint32_t pieces = htole32(l->pieces);

	memcpy(out, l->id, ID_BYTES);
	memcpy(out + ID_BYTES, &bytes, 8);
	memcpy(out + ID_BYTES + 8, &pieces, 4);
	return (struct hash_part){out, LIST_BYTES};
}

static bool read_list(struct txn *t, const struct content *c, struct list *l)
{
	if (c->len != LIST_BYTES)
		return false;
	memcpy(l->id, c->bytes, ID_BYTES);
	memcpy(&l->bytes, c->bytes + ID_BYTES, 8);
	memcpy(&l->pieces, c->bytes + ID_BYTES + 8, 4);
	l->bytes = le64toh(l->bytes);
	l->pieces = le32toh(l->pieces);
	return l->bytes <= value_max(t) + FRAME_BYTES && l->pieces <= PIECES_MAX;
}

static void cut(struct txn *t, const char *name, const struct buf *framed, struct value *v)
{
	size_t i, at;

	v->piece_count = (framed->len + STORE_VALUE_MAX - 1) / STORE_VALUE_MAX;
	v->pieces = arena_alloc(t->arena, v->piece_count * sizeof(*v->pieces));
	for (i = 0; i < v->piece_count; i++) {
		at = i * STORE_VALUE_MAX;
		v->pieces[i] = v->head; /* for as long, on the same server */
		v->pieces[i].key = piece_key(t, name, i);
		v->pieces[i].value = framed->data + at;
		v->pieces[i].value_len = framed->len - at < STORE_VALUE_MAX ? framed->len - at : STORE_VALUE_MAX;
	}
}

/* The pieces in a row; NULL if one is missing or they are not as long as the list says. */
static struct buf *gather(struct txn *t, const char *key, const char *name, const struct list *l)
{
	struct store_item *items = arena_alloc(t->arena, l->pieces * sizeof(*items));
	int server = store_server_of(t->worker->store, STORE_CACHE, key);
	struct buf *whole;
	size_t i;

	for (i = 0; i < l->pieces; i++)
		items[i] = (struct store_item){
			.op = STORE_GET, .pool = STORE_CACHE, .key = piece_key(t, name, i), .server = server};
	store_run(t->worker->store, items, l->pieces);
	whole = new_buf(t, l->bytes);
	buf_reserve(whole, l->bytes);
	for (i = 0; i < l->pieces; i++) {
		t->store_down |= items[i].result == STORE_DOWN || items[i].result == STORE_FAIL;
		if (items[i].result != STORE_OK)
			return NULL;
		buf_add(whole, items[i].value, items[i].value_len);
	}
	return whole->len == l->bytes && !whole->overflow ? whole : NULL;
}

static bool open_cut(struct txn *t, const char *key, struct content *c)
{
	const char *name;
	struct buf *whole;
	struct list l;

	if (!read_list(t, c, &l))
		return false;
	name = name_of(t, l.id);
	whole = gather(t, key, name, &l);
	return whole && unframe(t, name, (struct hash_part){whole->data, whole->len}, whole, c);
}

/* ---- values ---- */

bool value_pack(struct txn *t, const char *key, uint32_t ttl_s, const struct buf *bytes, struct value *v)
{
	struct hash_part payload = {bytes->data, bytes->len};
	struct list l;
	char list[LIST_BYTES];
	enum kind kind = PLAIN;
	struct buf *packed, *framed;
	const char *name = key;

	if (bytes->overflow || bytes->len > value_max(t))
		return false;
	if (bytes->len >= PACKED_MIN) {
		packed = new_buf(t, bytes->len);
		if (zstd_pack(packed, bytes->data, bytes->len, bytes->len - bytes->len / 10)) {
			payload = (struct hash_part){packed->data, packed->len};
			kind = PACKED;
		}
	}
	*v = (struct value){.head = {.op = STORE_SET,
				    .pool = STORE_CACHE,
				    .key = key,
				    .server = store_server_of(t->worker->store, STORE_CACHE, key),
				    .ttl_s = ttl_s}};
	if (payload.len + FRAME_BYTES > STORE_VALUE_MAX) {
		hash_random(l.id, sizeof(l.id));
		name = name_of(t, l.id);
	}
	framed = frame(t, name, kind, payload);
	if (name != key) {
		if (framed->overflow)
			return false;
		cut(t, name, framed, v);
		l.bytes = framed->len;
		l.pieces = (uint32_t)v->piece_count;
		framed = frame(t, key, CUT, print_list(&l, list));
	}
	v->head.value = framed->data;
	v->head.value_len = framed->len;
	return !framed->overflow;
}

bool value_store(struct txn *t, struct value *v)
{
	size_t i;

	store_run(t->worker->store, v->pieces, v->piece_count);
	for (i = 0; i < v->piece_count; i++)
		if (v->pieces[i].result != STORE_OK)
			return false;
	store_run(t->worker->store, &v->head, 1);
	return v->head.result == STORE_OK;
}

static bool unpack(struct txn *t, const struct content *c, struct hash_part *bytes)
{
	struct buf *plain = new_buf(t, value_max(t));
	bool good = zstd_unpack(plain, c->bytes, c->len);

	if (c->owner)
		buf_release(c->owner); /* at once: they may be large */
	*bytes = (struct hash_part){plain->data, plain->len};
	return good;
}

bool value_open(struct txn *t, const struct store_item *got, bool alone, struct hash_part *bytes)
{
	struct content c;

	if (got->result != STORE_OK || !unframe(t, got->key, (struct hash_part){got->value, got->value_len}, NULL, &c))
		return false;
	if (c.kind == CUT && (!alone || !open_cut(t, got->key, &c)))
		return false;
	if (c.kind == PACKED)
		return unpack(t, &c, bytes);
	*bytes = (struct hash_part){c.bytes, c.len};
	return c.kind == PLAIN;
}
