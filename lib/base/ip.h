/*
 * ip — addresses of clients and networks of proxies, v4 and v6 alike: a v4 address is its mapped v6 one (RFC 4291,
 * 2.5.5.2), so that there is one comparison.
 */
#ifndef PAVISE_BASE_IP_H
#define PAVISE_BASE_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ip {
	uint8_t bytes[16];
};

struct ip_net {
	struct ip ip;
	int bits; /* of the 128 */
};

/* "192.0.2.1", "2001:db8::1". */
bool ip_parse(const char *text, size_t len, struct ip *ip);
/* As proxies write it, also with a port or in brackets: "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80". */
bool ip_parse_hop(const char *text, size_t len, struct ip *ip);
/* "10.0.0.0/8", "2001:db8::/32", or one address. False also where bits are set behind the network's. */
bool ip_parse_net(const char *text, struct ip_net *net);

bool ip_is_v4(const struct ip *ip);
bool ip_within(const struct ip *ip, const struct ip_net *net);
/* Clears all but the first `bits` bits: of 32 for v4, of 128 for v6. */
void ip_keep(struct ip *ip, int bits);

enum { IP_TEXT = 46 };
void ip_text(const struct ip *ip, char out[IP_TEXT]);

#endif
