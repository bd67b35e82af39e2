/* Names and spelling; who does what when is in budget.c (a worker's side) and seeding.c (the bookkeepers'). */
#include "gate/generation.h"

#include "base/err.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void generation_key(const char *prefix, const char *counter, char letter, uint64_t number, char out[GENERATION_KEY])
{
	int n = number ? snprintf(out, GENERATION_KEY, "%s:%016llx", counter, (unsigned long long)number)
		       : snprintf(out, GENERATION_KEY, "%s", counter);

	BUG_ON(n >= GENERATION_KEY); /* limit.c keeps its names short enough */
	out[strlen(prefix) + 1] = letter;
}

void generation_share_key(
	const char *prefix, const char *counter, uint64_t number, const char *host, char out[GENERATION_KEY])
{
	struct hash_part parts[] = {{counter, strlen(counter) + 1}, {&number, sizeof(number)}, {host, strlen(host)}};
	uint8_t hash[SHA256_BYTES];
	char hex[2 * 16 + 1];

	hash_sha256_parts(parts, 3, hash);
	hash_hex(hash, 16, hex);
	snprintf(out, GENERATION_KEY, "%s:h:%s", prefix, hex);
}

size_t generation_print(const struct generation *g, char out[GENERATION_STATE])
{
	return (size_t)snprintf(
		out, GENERATION_STATE, "%016llx %c", (unsigned long long)g->number, g->ready ? 'r' : 's');
}

struct generation generation_read(const struct store_item *item)
{
	struct generation g = {0, false};
	char text[GENERATION_STATE], *end;

	if (item->result != STORE_OK || item->value_len != GENERATION_STATE - 2)
		return g;
	memcpy(text, item->value, item->value_len);
	text[item->value_len] = '\0';
	g.number = strtoull(text, &end, 16);
	g.ready = strcmp(end, " r") == 0;
	if (end != text + 16 || (!g.ready && strcmp(end, " s") != 0))
		g.number = 0;
	return g;
}

uint64_t generation_new(void)
{
	uint64_t number;

	do
		hash_random(&number, sizeof(number));
	while (number == 0);
	return number;
}
