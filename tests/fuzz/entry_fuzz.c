/*
 * What comes out of memcached: an entry that is not what was put there is a miss, and one that is can be played or says
 * that it cannot. The input is taken for an entry (behind its hash), and for a completion and a script between which
 * stands a line feed.
 */
#include "gate/cache.h"
#include "wire/stream.h"

enum { ENTRY_MAX = 1 << 26 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static int check_chunk(void *count, const char *chunk, size_t len)
{
	struct err e;

	BUG_ON(json_scan(chunk, len, &e) != 0);
	return ++*(int *)count > 1000; /* enough seen */
}

static void play(const struct cache_entry *entry)
{
	struct err e;
	int count = 0, verdict;
	struct replay r = {.form = &stream_chat,
		.completion = json_parse(entry->json, entry->json_len, &e),
		.script = entry->script,
		.script_len = entry->script_len,
		.include_usage = entry->script_len % 2,
		.emit = check_chunk,
		.ctx = &count};

	if (!r.completion)
		return;
	verdict = stream_replay(&r);
	BUG_ON(verdict < -1 || verdict > 1);
	json_release(r.completion);
}

static void check_bytes(const char *bytes, size_t len, const uint8_t hash[32])
{
	struct buf again = BUF_INIT(ENTRY_MAX);
	struct cache_entry entry;

	if (!cache_decode(&entry, bytes, len, hash))
		return;
	if (entry.epochs[0]) { /* of this version */
		cache_encode(&again, &entry, hash);
		BUG_ON(again.len != len || memcmp(again.data, bytes, len) != 0);
	}
	play(&entry);
	buf_release(&again);
}

/* Past the checksum, which no fuzzer guesses. */
static void check_parts(const char *bytes, size_t len, const uint8_t hash[32])
{
	const char *cut = memchr(bytes, '\n', len);
	size_t json_len = cut ? (size_t)(cut - bytes) : len;
	struct cache_entry entry = {.model = "m",
		.finish_reasons = "stop",
		.json = bytes,
		.json_len = json_len,
		.script = cut ? cut + 1 : "",
		.script_len = cut ? len - json_len - 1 : 0};
	struct buf encoded = BUF_INIT(ENTRY_MAX);
	struct cache_entry back;

	cache_encode(&encoded, &entry, hash);
	if (cache_decode(&back, encoded.data, encoded.len, hash)) {
		BUG_ON(back.json_len != entry.json_len || memcmp(back.json, entry.json, entry.json_len) != 0);
		BUG_ON(back.script_len != entry.script_len);
		play(&back);
	} else {
		BUG_ON(json_len >= 2 && bytes[0] == '{'); /* what has no object to serve is no entry */
	}
	buf_release(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const uint8_t zeros[32];

	if (len >= 32)
		check_bytes((const char *)bytes + 32, len - 32, bytes);
	check_bytes((const char *)bytes, len, zeros);
	check_parts((const char *)bytes, len, zeros);
	return 0;
}
