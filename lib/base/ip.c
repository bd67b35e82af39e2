/* The one spelling of an address is inet_ntop()'s: what is written in two ways is still one client. */
#include "base/ip.h"

#include <arpa/inet.h>
#include <string.h>

enum { V4_AT = 12, V4_BITS = 8 * V4_AT, ALL_BITS = 128 };

static const uint8_t v4_mapped[V4_AT] = {[10] = 0xff, [11] = 0xff};

bool ip_parse(const char *text, size_t len, struct ip *ip)
{
	char copy[IP_TEXT];

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (strlen(copy) != len)
		return false;
	memcpy(ip->bytes, v4_mapped, V4_AT);
	return inet_pton(AF_INET, copy, ip->bytes + V4_AT) == 1 || inet_pton(AF_INET6, copy, ip->bytes) == 1;
}

static bool is_port(const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (text[i] < '0' || text[i] > '9')
			return false;
	return len >= 1 && len <= 5;
}

bool ip_parse_hop(const char *text, size_t len, struct ip *ip)
{
	const char *colon = memchr(text, ':', len), *end = text + len, *close;

	if (len && text[0] == '[') {
		close = memchr(text, ']', len);
		return close && ip_parse(text + 1, (size_t)(close - text - 1), ip) && !ip_is_v4(ip) &&
		       (close + 1 == end || (close[1] == ':' && is_port(close + 2, (size_t)(end - close - 2))));
	}
	if (colon && !memchr(colon + 1, ':', (size_t)(end - colon - 1)))
		return is_port(colon + 1, (size_t)(end - colon - 1)) && ip_parse(text, (size_t)(colon - text), ip);
	return ip_parse(text, len, ip);
}

bool ip_parse_net(const char *text, struct ip_net *net)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	int bits = 0, most, digits = 0;
	struct ip masked;

	if (!ip_parse(text, len, &net->ip))
		return false;
	most = memchr(text, ':', len) ? ALL_BITS : ALL_BITS - V4_BITS;
	for (; slash && slash[1 + digits] >= '0' && slash[1 + digits] <= '9' && digits < 3; digits++)
		bits = 10 * bits + slash[1 + digits] - '0';
	if (slash && (!digits || slash[1 + digits] || bits > most))
		return false;
	net->bits = (slash ? bits : most) + ALL_BITS - most;
	masked = net->ip;
	ip_keep(&masked, ip_is_v4(&net->ip) ? net->bits - V4_BITS : net->bits);
	return memcmp(&masked, &net->ip, sizeof(masked)) == 0;
}

bool ip_is_v4(const struct ip *ip)
{
	return memcmp(ip->bytes, v4_mapped, V4_AT) == 0;
}

/* Of the byte at `at`, those bits that belong to the first `bits` of all. */
static uint8_t mask_of(int at, int bits)
{
	int left = bits - 8 * at;

	return left >= 8 ? 0xff : left <= 0 ? 0 : (uint8_t)(0xff << (8 - left));
}

bool ip_within(const struct ip *ip, const struct ip_net *net)
{
	int i;

	for (i = 0; i < (int)sizeof(ip->bytes); i++)
		if ((ip->bytes[i] ^ net->ip.bytes[i]) & mask_of(i, net->bits))
			return false;
	return true;
}

void ip_keep(struct ip *ip, int bits)
{
	int i, kept = ip_is_v4(ip) ? V4_BITS + bits : bits;

	for (i = 0; i < (int)sizeof(ip->bytes); i++)
		ip->bytes[i] &= mask_of(i, kept);
}

void ip_text(const struct ip *ip, char out[IP_TEXT])
{
	bool v4 = ip_is_v4(ip);

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? ip->bytes + V4_AT : ip->bytes, out, IP_TEXT);
}
