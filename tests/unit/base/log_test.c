/* A line is JSON, whole and bounded, whatever is put into it. */
#include "../unit.h"

#include "base/log.h"

enum { MAXIMA = 5 };

static const size_t maxima[MAXIMA] = {160, 300, 1000, LOG_MAX_STDERR, LOG_MAX_FASTCGI};

/* The finished line as an object, after what is true of every line. The caller releases it. */
static struct json_object *check_line(const struct log_line *l)
{
	size_t i;

	assert_true(l->len <= l->max);
	assert_int_equal(l->text[l->len - 1], '\n');
	for (i = 0; i + 1 < l->len; i++) /* ASCII without controls: web servers spell other bytes as they like */
		assert_in_range((unsigned char)l->text[i], 0x20, 0x7e);
	return parse_bytes(l->text, l->len - 1);
}

static const char *member(struct json_object *line, const char *name)
{
	const char *value = json_get_str(line, name);

	if (!value)
		fail_msg("no member %s", name);
	return value;
}

static void test_members(void **state)
{
	struct log_line l;
	struct json_object *line;

	(void)state;
	log_begin(&l, LOG_MAX_FASTCGI, LOG_WARN, "request");
	log_str(&l, "key_id", "alice");
	log_str(&l, "team", NULL);
	log_str(&l, "empty", "");
	log_int(&l, "least", INT64_MIN);
	log_int(&l, "most", INT64_MAX);
	log_bool(&l, "yes", true);
	log_bool(&l, "no", false);
	log_end(&l);
	line = check_line(&l);
	assert_int_equal(strlen(member(line, "time")), strlen("2026-11-23T15:43:41.042Z"));
	assert_string_equal(member(line, "level"), "warn");
	assert_string_equal(member(line, "event"), "request");
	assert_string_equal(member(line, "key_id"), "alice");
	assert_false(json_has(line, "team"));
	assert_string_equal(member(line, "empty"), "");
	assert_true(json_get_int(line, "least", 0) == INT64_MIN);
	assert_true(json_get_int(line, "most", 0) == INT64_MAX);
	assert_true(json_get_bool(line, "yes", false));
	assert_false(json_get_bool(line, "no", true));
	assert_false(json_has(line, "truncated"));
	json_release(line);
}

static const struct {
	const char *value, *read_back;
} values[] = {
	{"plain", "plain"},
	{"\"", "\""},
	{"\\", "\\"},
	{"a\"b\\c", "a\"b\\c"},
	{"\n\r\t\b\f\x01\x1f\x7f", "\n\r\t\b\f\x01\x1f\x7f"},
	{"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
	{"</script>", "</script>"},
	{"\",\"level\":\"error\",\"x\":\"", "\",\"level\":\"error\",\"x\":\""},
	{"a\xff"
	 "b",
		"a\xef\xbf\xbd"
		"b"},
};

/* Not well-formed UTF-8: cut, overlong, surrogates, beyond U+10FFFF, stray. */
static const char *const broken[] = {"\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc0\x80", "\xe0\x9f\xbf", "\xed\xa0\x80",
	"\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\x80", "\xbf\xbf", "\xfe", "\xff", "ok\xe2\x28\xa1", "\xc3\xc3"};

static struct json_object *line_with(const char *value)
{
	size_t len = strlen(value);
	char *copy = exact_copy(value, len + 1);
	struct log_line l;

	log_begin(&l, LOG_MAX_STDERR, LOG_INFO, "e");
	log_str(&l, "v", copy);
	log_end(&l);
	free(copy);
	return check_line(&l);
}

static void test_any_value(void **state)
{
	struct json_object *line;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(values); i++) {
		line = line_with(values[i].value);
		assert_string_equal(member(line, "v"), values[i].read_back);
		assert_string_equal(member(line, "level"), "info");
		json_release(line);
	}
	for (i = 0; i < COUNT(broken); i++) {
		line = line_with(broken[i]);
		check_contains(member(line, "v"), "\xef\xbf\xbd");
		json_release(line);
	}
}

/* "Strings are cut at 512 bytes", wherever a character is then cut. */
static void test_long_values(void **state)
{
	struct json_object *line;
	char *text;
	int pad;

	(void)state;
	for (pad = 0; pad < 5; pad++) {
		text = calloc(1, 100001);
		assert_non_null(text);
		memset(text, 'x', 100000);
		for (int i = 500 + pad; i < 600; i += 4)
			memcpy(text + i, "\xf0\x9f\x98\x80", 4);
		line = line_with(text);
		assert_in_range(strlen(member(line, "v")), 500, 520);
		assert_memory_equal(member(line, "v"), text, 500);
		json_release(line);
		free(text);
	}
}

/* What does not fit is left out, and the line says so. */
static void test_bounded(void **state)
{
	static const char *const fills[] = {"x", "\"", "\x01", "\xff", "\xf0\x9f\x98\x80"};
	char text[600], name[32];
	struct json_object *line;
	struct log_line l;
	size_t i, j;
	int n;

	(void)state;
	for (i = 0; i < COUNT(fills); i++) {
		text[0] = '\0';
		while (strlen(text) + 5 < sizeof(text))
			strcat(text, fills[i]);
		for (j = 0; j < MAXIMA; j++) {
			log_begin(&l, maxima[j], LOG_ERROR, "overfull");
			for (n = 0; n < 30; n++) {
				snprintf(name, sizeof(name), "value_%d", n);
				log_str(&l, name, text);
			}
			log_end(&l);
			line = check_line(&l);
			assert_true(json_get_bool(line, "truncated", false));
			assert_string_equal(member(line, "event"), "overfull");
			json_release(line);
		}
	}
}

/* Every length of the last value: the flag is there exactly when the value is not. */
static void test_truncated_to_the_byte(void **state)
{
	char text[400];
	struct json_object *line;
	struct log_line l;
	size_t len, fitted = 0;

	(void)state;
	memset(text, 'x', sizeof(text));
	for (len = sizeof(text) - 1; len > 0; len--) {
		text[len] = '\0';
		log_begin(&l, 300, LOG_INFO, "e");
		log_str(&l, "v", text);
		log_end(&l);
		line = check_line(&l);
		assert_int_equal(json_has(line, "v"), !json_get_bool(line, "truncated", false));
		fitted += json_has(line, "v");
		json_release(line);
	}
	assert_in_range(fitted, 100, 300);
}

static void check_usd(int64_t pusd, const char *expected)
{
	char text[LOG_USD_TEXT];

	log_usd_text(pusd, text);
	assert_string_equal(text, expected);
}

static void test_usd(void **state)
{
	(void)state;
	check_usd(0, "0.0");
	check_usd(1, "0.000000000001");
	check_usd(31500000, "0.0000315");
	check_usd(100000000000, "0.1");
	check_usd(999999999999, "0.999999999999");
	check_usd(1000000000000, "1.0");
	check_usd(5250000000000, "5.25");
	check_usd(10000000000000, "10.0");
	check_usd(1234000000000567, "1234.000000000567");
	check_usd(INT64_MAX, "9223372.036854775807");
}

/* The figures in a line are JSON numbers and keep every digit. */
static void test_figures(void **state)
{
	struct json_object *line;
	struct log_line l;

	(void)state;
	log_begin(&l, LOG_MAX_STDERR, LOG_DEBUG, "e");
	log_seconds(&l, "duration", 1234);
	log_seconds(&l, "long", 90000001);
	log_usd(&l, "cost_usd", 31500000);
	log_end(&l);
	check_contains(l.text, "\"duration\":0.001234,");
	check_contains(l.text, "\"long\":90.000001,");
	check_contains(l.text, "\"cost_usd\":0.0000315}");
	line = check_line(&l);
	assert_string_equal(member(line, "level"), "debug");
	json_release(line);
}

/* What was written to fd 2 meanwhile. */
static int divert(int *saved)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	*saved = dup(STDERR_FILENO);
	dup2(fds[1], STDERR_FILENO);
	close(fds[1]);
	return fds[0];
}

static ssize_t restore(int saved, int fd, char *said, size_t room)
{
	ssize_t n;

	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(fd, said, room - 1);
	close(fd);
	said[n > 0 ? n : 0] = '\0';
	return n;
}

static void test_events(void **state)
{
	char said[LOG_MAX_STDERR + 1], big[5000];
	struct json_object *line;
	int saved, fd = divert(&saved);
	ssize_t n;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_init(LOG_WARN);
	log_event(LOG_DEBUG, "quiet", "not written");
	log_event(LOG_INFO, "quiet", "not written");
	log_event(LOG_WARN, "memcached_down", "%s is \"down\"\n%s", "/run/x.sock", big);
	log_init(LOG_INFO);
	n = restore(saved, fd, said, sizeof(said));
	assert_true(n > 0 && n <= LOG_MAX_STDERR);
	assert_ptr_equal(strchr(said, '\n'), said + n - 1);
	line = parse_bytes(said, (size_t)n - 1);
	assert_string_equal(member(line, "event"), "memcached_down");
	assert_string_equal(member(line, "level"), "warn");
	check_contains(member(line, "message"), "/run/x.sock is \"down\"\nxxx");
	json_release(line);
}

static void test_levels(void **state)
{
	(void)state;
	log_init(LOG_WARN);
	assert_false(log_enabled(LOG_DEBUG));
	assert_false(log_enabled(LOG_INFO));
	assert_true(log_enabled(LOG_WARN));
	assert_true(log_enabled(LOG_ERROR));
	log_init(LOG_INFO);
	assert_string_equal(log_level_word(LOG_DEBUG), "debug");
	assert_string_equal(log_level_word(LOG_ERROR), "error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_any_value),
		cmocka_unit_test(test_long_values),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_truncated_to_the_byte),
		cmocka_unit_test(test_usd),
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
