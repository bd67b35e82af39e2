/* One network of IPv6 is one subscriber's, who has 2^64 addresses to come from: limits count it together. */
#include "gate/client.h"

#include "edge/fcgi.h"

#include <string.h>

enum { V6_COUNTED_BITS = 64, V4_TRUNCATED_BITS = 24, V6_TRUNCATED_BITS = 48 };

static bool trusted(const struct config *c, const struct ip *ip)
{
	size_t i;

	for (i = 0; i < c->server.proxy_count; i++)
		if (ip_within(ip, &c->server.proxies[i]))
			return true;
	return false;
}

/* The last element of list[0..*len), less the white space around it; *len becomes what stands before its comma. */
static const char *last_hop(const char *list, size_t *len, size_t *hop_len)
{
	size_t begin = *len, end = *len;

	while (begin && list[begin - 1] != ',')
		begin--;
	*len = begin ? begin - 1 : 0;
	while (end > begin && strchr(" \t", list[end - 1]))
		end--;
	while (begin < end && strchr(" \t", list[begin]))
		begin++;
	*hop_len = end - begin;
	return list + begin;
}

/* From the nearest proxy to the first address that none of ours is. What is no address ends it. */
static void follow_back(const struct config *c, struct ip *ip)
{
	const char *list = http_header("x-forwarded-for"), *hop;
	size_t left = list ? strlen(list) : 0, len;
	struct ip next;

	while (left && trusted(c, ip)) {
		hop = last_hop(list, &left, &len);
		if (!ip_parse_hop(hop, len, &next))
			return;
		*ip = next;
	}
}

static const char *text_of(struct txn *t, struct ip ip, int v4_bits, int v6_bits)
{
	char text[IP_TEXT];

	ip_keep(&ip, ip_is_v4(&ip) ? v4_bits : v6_bits);
	ip_text(&ip, text);
	return arena_strdup(t->arena, text);
}

void client_identify(struct txn *t)
{
	const struct config *c = t->config;
	const char *peer = fcgi_param("REMOTE_ADDR"), *user = NULL;
	struct ip ip;

	if (!peer || !ip_parse(peer, strlen(peer), &ip)) { /* a socket's path, say */
		t->client.counted = peer ? arena_strdup(t->arena, peer) : "";
		t->client.logged = c->log.client_address == ADDRESS_FULL ? t->client.counted : NULL;
		return;
	}
	if (trusted(c, &ip)) {
		user = c->server.user_header ? http_header(c->server.user_header) : NULL;
		follow_back(c, &ip);
	}
	if (user && *user)
		t->chat.user = arena_strdup(t->arena, user);
	t->client.counted = text_of(t, ip, 32, V6_COUNTED_BITS);
	if (c->log.client_address == ADDRESS_FULL)
		t->client.logged = text_of(t, ip, 32, 128);
	else if (c->log.client_address == ADDRESS_TRUNCATED)
		t->client.logged = text_of(t, ip, V4_TRUNCATED_BITS, V6_TRUNCATED_BITS);
}
