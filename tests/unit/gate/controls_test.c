/* What a client may say to the cache, however it spells it, and what is no use saying. */
#include "../unit.h"

#include "gate/controls.h"

static const char *text_of(const char *cache_control, const char *ttl)
{
	static char text[CONTROLS_TEXT];
	struct cache_controls c;
	struct err e = {0};

	if (controls_read(&c, cache_control, ttl, &e) != 0)
		fail_msg("%s: %s", ttl, e.message);
	assert_int_equal(e.code, ERR_NONE);
	controls_text(&c, text);
	return text;
}

static void test_cache_control(void **state)
{
	static const char *const cases[][2] = {
		{NULL, ""},
		{"", ""},
		{"no-cache", "no-cache"},
		{"NO-Cache", "no-cache"},
		{"no-store", "no-store"},
		{"only-if-cached", "only-if-cached"},
		{"max-age=5", "max-age=5"},
		{"Max-Age=\"5\"", "max-age=5"},
		{"max-age=\"\\5\"", "max-age=5"},
		{"max-age=007", "max-age=7"},
		{"max-age=0", "max-age=0"},
		/* RFC 9111, 1.2.2: too large for us is the largest */
		{"max-age=99999999999999999999999", "max-age=2147483647"},
		{"max-age=2147483648", "max-age=2147483647"},
		/* RFC 9110, 5.6.1: lists, also with empty elements, also of several lines that a server has joined */
		{"no-cache, no-store", "no-cache, no-store"},
		{"no-cache,no-store,max-age=1,only-if-cached", "no-cache, no-store, max-age=1, only-if-cached"},
		{" ,\t, no-cache ,, ,no-store , ", "no-cache, no-store"},
		{"max-age=9, max-age=3, max-age=5", "max-age=3"},
		/* RFC 9111, 4.2.1: what is no age allows none */
		{"max-age", "max-age=0"},
		{"max-age=", "max-age=0"},
		{"max-age=-1", "max-age=0"},
		{"max-age=5s", "max-age=0"},
		{"max-age=1.5", "max-age=0"},
		{"max-age=\"5", "max-age=5"},
		{"max-age = 5", "max-age=0"},
		/* RFC 9111, 5.2.3: what is not known changes nothing */
		{"max-stale, min-fresh=5, no-transform, immutable, community=\"UCI\"", ""},
		{"x-no-cache, no-cachex, nocache, no_store, only-if-cached-too", ""},
		{"x=\"no-store, no-cache\", max-age=4", "max-age=4"},
		{"x=\"\\\", no-store\", no-cache", "no-cache"},
		{"x=\"no-store", ""},
		{"\"no-store\"", ""},
		{"=no-store", ""},
		{"no-cache=\"set-cookie, x\"", "no-cache"},
		{"no-cache; no-store", "no-cache"},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1, no-store", "no-store"},
		{"\xff\xfe, no-store", "no-store"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++)
		if (strcmp(text_of(cases[i][0], NULL), cases[i][1]) != 0)
			fail_msg("%s: %s", cases[i][0], text_of(cases[i][0], NULL));
}

static void test_ttl(void **state)
{
	static const char *const good[][2] = {{"0", "ttl=0s"}, {"60", "ttl=60s"}, {"60 \t", "ttl=60s"},
		{"90s", "ttl=90s"}, {"5m", "ttl=300s"}, {"1h", "ttl=3600s"}, {"366d", "ttl=31622400s"},
		{"31622400", "ttl=31622400s"}, {"1500ms", "ttl=1500000us"}, {"0ms", "ttl=0s"}};
	static const char *const bad[] = {"", " ", "-1", "+1", "1.5", "60 s", "1h30m", "x", "1e3", "0x10", "31622401",
		"367d", "99999999999999999999", "9223372036854775807d", "60, 60", "\"60\"",
		"00000000000000000000000000000000000000000000000000000000000000000000000000000060"};
	struct cache_controls c;
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(good); i++)
		assert_string_equal(text_of(NULL, good[i][0]), good[i][1]);
	for (i = 0; i < COUNT(bad); i++) {
		e = (struct err){0};
		if (controls_read(&c, "no-cache", bad[i], &e) == 0)
			fail_msg("'%s' is taken for %lld", bad[i], (long long)c.ttl_us);
		assert_int_equal(e.code, ERR_INVALID_HEADER);
		check_contains(e.message, "X-Pavise-Cache-TTL");
		assert_string_equal(e.param, "X-Pavise-Cache-TTL");
	}
}

static bool allows(const char *cache_control, int64_t age_ms)
{
	struct cache_controls c;

	assert_int_equal(controls_read(&c, cache_control, NULL, &(struct err){0}), 0);
	return controls_allow(&c, age_ms);
}

static void test_age(void **state)
{
	(void)state;
	assert_true(allows(NULL, 0) && allows(NULL, INT64_MAX));
	assert_true(allows("no-store, only-if-cached", INT64_MAX));
	assert_true(allows("max-age=2", 0) && allows("max-age=2", 1999) && allows("max-age=2", -5));
	assert_false(allows("max-age=2", 2000));
	assert_false(allows("max-age=0", 0) || allows("max-age=0", -5) || allows("no-cache", 0));
	assert_true(allows("max-age=99999999999", 1000LL * 2147483646));
}

static bool allows_stale(const char *cache_control)
{
	struct cache_controls c;

	assert_int_equal(controls_read(&c, cache_control, NULL, &(struct err){0}), 0);
	return controls_allow_stale(&c);
}

static void test_stale(void **state)
{
	(void)state;
	assert_true(allows_stale(NULL) && allows_stale("no-store") && allows_stale("only-if-cached"));
	assert_false(allows_stale("no-cache") || allows_stale("max-age=0") || allows_stale("max-age=99999999999"));
}

static void test_text_fits(void **state)
{
	(void)state;
	assert_string_equal(text_of("no-cache, no-store, only-if-cached, max-age=99999999999", "31622399999999us"),
		"no-cache, no-store, max-age=2147483647, only-if-cached, ttl=31622399999999us");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache_control),
		cmocka_unit_test(test_ttl),
		cmocka_unit_test(test_age),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_text_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
