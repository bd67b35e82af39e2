/* Addresses as they stand in headers and in configurations, and what is none. */
#include "../unit.h"

#include "base/ip.h"

static void check_hop(const char *text, const char *address)
{
	size_t len = strlen(text);
	char *exact = exact_copy(text, len), out[IP_TEXT];
	struct ip ip;

	if (ip_parse_hop(exact, len, &ip) != (address != NULL))
		fail_msg("\"%s\" is %s address", text, address ? "an" : "no");
	if (address) {
		ip_text(&ip, out);
		assert_string_equal(out, address);
	}
	free(exact);
}

static void test_hops(void **state)
{
	static const struct {
		const char *text, *address;
	} hops[] = {{"192.0.2.1", "192.0.2.1"}, {"192.0.2.1:65535", "192.0.2.1"}, {"2001:db8::1", "2001:db8::1"},
		{"2001:DB8:0:0::1", "2001:db8::1"}, {"[2001:db8::1]", "2001:db8::1"},
		{"[2001:db8::1]:443", "2001:db8::1"}, {"::ffff:192.0.2.1", "192.0.2.1"}, {"::", "::"}, {"", NULL},
		{" ", NULL}, {"unknown", NULL}, {"_hidden", NULL}, {"192.0.2", NULL}, {"192.0.2.256", NULL},
		{"192.0.2.01", NULL}, {"192.0.2.1:", NULL}, {"192.0.2.1:http", NULL}, {"192.0.2.1:123456", NULL},
		{"192.0.2.1 ", NULL}, {"[192.0.2.1]", NULL}, {"[2001:db8::1", NULL}, {"[2001:db8::1]443", NULL},
		{"[2001:db8::1]:", NULL}, {"2001:db8::1::", NULL}, {"[]", NULL}, {":", NULL}, {"[", NULL},
		{"fe80::1%eth0", NULL}, {"1111:2222:3333:4444:5555:6666:7777:8888:9999:0000:1111", NULL}};
	struct ip ip;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(hops); i++)
		check_hop(hops[i].text, hops[i].address);
	assert_false(ip_parse("192.0.2.1\0x", 11, &ip));
	assert_false(ip_parse("192.0.2.1:80", 12, &ip));
}

static struct ip ip_of(const char *text)
{
	struct ip ip;

	assert_true(ip_parse(text, strlen(text), &ip));
	return ip;
}

static void test_nets(void **state)
{
	static const struct {
		const char *net, *inside, *outside;
	} nets[] = {{"192.0.2.1", "192.0.2.1", "192.0.2.2"}, {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
		{"10.128.0.0/9", "10.128.0.1", "10.127.255.255"}, {"0.0.0.0/0", "255.255.255.255", "2001:db8::1"},
		{"::/0", "192.0.2.1", NULL}, {"2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"},
		{"2001:db8::1/128", "2001:db8::1", "2001:db8::2"}, {"::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"}};
	static const char *const none[] = {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x",
		"10.0.0.0/ 8", "10.0.0.1/8", "2001:db8::/129", "2001:db8::1/64", "10.0.0.0/8/8", "everybody",
		"10.0.0.0/0008"};
	struct ip_net net;
	struct ip ip;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(nets); i++) {
		assert_true(ip_parse_net(nets[i].net, &net));
		ip = ip_of(nets[i].inside);
		assert_true(ip_within(&ip, &net));
		if (!nets[i].outside)
			continue;
		ip = ip_of(nets[i].outside);
		assert_false(ip_within(&ip, &net));
	}
	for (i = 0; i < COUNT(none); i++)
		if (ip_parse_net(none[i], &net))
			fail_msg("\"%s\" is no network", none[i]);
}

static void test_keep(void **state)
{
	static const struct {
		const char *ip;
		int bits;
		const char *kept;
	} cases[] = {{"192.0.2.129", 32, "192.0.2.129"}, {"192.0.2.129", 24, "192.0.2.0"},
		{"192.0.2.129", 25, "192.0.2.128"}, {"2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"},
		{"2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::"}, {"2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"}};
	char out[IP_TEXT];
	struct ip ip;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		ip = ip_of(cases[i].ip);
		ip_keep(&ip, cases[i].bits);
		ip_text(&ip, out);
		assert_string_equal(out, cases[i].kept);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hops),
		cmocka_unit_test(test_nets),
		cmocka_unit_test(test_keep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
