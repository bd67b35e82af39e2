/* What the official suite does not ask of `format`: the edges of each, and that nothing else is judged. */
#include "schema_judging.h"

static void check_format(const char *format, const char *text, size_t len, enum schema_verdict expected)
{
	struct buf schema = BUF_INIT(256), instance = BUF_INIT(4096);

	buf_printf(&schema, "{\"format\":\"%s\"}", format);
	json_print_string(&instance, text, len);
	check(schema.data, instance.data, expected);
	buf_release(&schema);
	buf_release(&instance);
}

/* Separated by NULs, and ended by two. */
struct values {
	const char *format, *fit, *misfit;
};

static const struct values values[] = {
	{"date",
		"2000-02-29\0"
		"0000-02-29\0"
		"9999-12-31\0",
		"1900-02-29\0"
		"2024-00-10\0"
		"2024-10-00\0"
		"2024-1-01\0"
		"02024-01-01\0"
		"2024-01-01Z\0"
		"2024-01-01 \0"
		" 2024-01-01\0"
		"+024-01-01\0"
		"2024-01\0"},
	{"time",
		"00:00:00-00:00\0"
		"23:59:59.999999999999999999999999z\0"
		"23:59:60.5Z\0"
		"00:14:60+00:15\0"
		"12:00:00+23:59\0",
		"12:00Z\0"
		"12:00:00.Z\0"
		"12:00:00,5Z\0"
		"12:00:00+0100\0"
		"12:00:00+01\0"
		"12:00:00\xe2\x88\x92"
		"01:00\0"
		"-1:00:00Z\0"
		"00:14:60-00:15\0"
		"T12:00:00Z\0"},
	{"date-time",
		"2024-02-29T12:00:00Z\0"
		"2024-06-30t23:59:60z\0"
		"2024-07-01T01:59:60+02:00\0",
		"2024-02-29 12:00:00Z\0"
		"2024-02-29T12:00:00\0"
		"2024-02-29\0"
		"2023-02-29T12:00:00Z\0"
		"2024-02-29T24:00:00Z\0"
		"2024-02-29TT12:00:00Z\0"
		"2024-02-29T12:00:00Z \0"},
	{"duration",
		"PT1H30S\0"
		"P1Y2D\0"
		"P1YT1S\0"
		"P0012M\0"
		"PT99999999999999999999999S\0"
		"p1dt2h\0"
		"P1Y2M3DT4H5M6S\0",
		"P1W2D\0"
		"P1WT1H\0"
		"PT1.5S\0"
		"P-1D\0"
		"-P1D\0"
		"P1D1D\0"
		"PT1S1M\0"
		"P1DT\0"
		"PY\0"
		"1D\0"
		"PT1\0"
		"P1DT1\0"
		"P1D \0"
		"PTT1S\0"},
	{"email",
		"a@b\0"
		"a+b=c/d!#$%&'*?^_`{|}~-@x-1.example\0"
		"\"\"@example.com\0"
		"\"\\\"\\\\ \"@example.com\0"
		"a@[ipv6:2001:db8::1]\0"
		"a@[192.0.2.1]\0"
		"1234567890123456789012345678901234567890123456789012345678901234@x\0",
		"a\0"
		"@b\0"
		"a@\0"
		"a@b@c\0"
		"a b@c\0"
		"\"a@b\0"
		"\"a\"b@c\0"
		"\"\\\0"
		"\"\x7f\"@c\0"
		"a@b.\0"
		"a@.b\0"
		"a@b..c\0"
		"a@[]\0"
		"a@[\0"
		"a@[1.2.3.4\0"
		"a@[1.2.3.4]]\0"
		"a@[::1]\0"
		"a@[IPv6:1.2.3.4]\0"
		"a@1.2.3.4]\0"
		"\xc3\xa9@example.com\0"
		"a@\xc3\xa9.example\0"
		"A <a@example.com>\0"
		"a@example.com,b@example.com\0"
		"12345678901234567890123456789012345678901234567890123456789012345@x\0"},
	{"hostname",
		"a\0"
		"localhost\0"
		"3com.example\0"
		"1.2.3.4\0"
		"A--B.Example\0",
		"example.com.\0"
		".example.com\0"
		"example..com\0"
		".\0"
		"a.-b\0"
		"a-.b\0"
		"a b\0"
		"b\xc3\xbc"
		"cher.example\0"
		"example\xe3\x80\x82"
		"com\0"
		"example.com:80\0"
		"https://example.com\0"},
	{"ipv4",
		"0.0.0.0\0"
		"255.255.255.255\0",
		"1.2.3\0"
		"1.2.3.4.\0"
		".1.2.3.4\0"
		"1..2.3\0"
		"1.2.3.04\0"
		"1.2.3.256\0"
		"1.2.3.4/24\0"
		" 1.2.3.4\0"
		"1.2.3.4\n\0"
		"+1.2.3.4\0"
		"::ffff:1.2.3.4\0"},
	{"ipv6",
		"2001:DB8::1\0"
		"1:2:3:4:5:6:7::\0"
		"::2:3:4:5:6:7:8\0"
		"0:0:0:0:0:0:0:0\0"
		"::1.2.3.4\0",
		"1:2:3:4:5:6:7:8:9\0"
		"1::2:3:4:5:6:7:8:9\0"
		":::\0"
		":\0"
		"::1.2.3.04\0"
		"[::1]\0"
		"::1%0\0"
		"::00001\0"
		"1:2:3:4:5:6:7:1.2.3.4\0"
		"0000:0000:0000:0000:0000:0000:255.255.255.2555\0"},
	{"uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff\0",
		"{2eb8aa08-aa98-11ea-b4aa-73b441d16380}\0"
		"urn:uuid:2eb8aa08-aa98-11ea-b4aa-73b441d16380\0"
		"2eb8aa08-aa98-11ea-b4aa-73b441d163801\0"
		"2eb8aa08-aa98-11ea-b4aa-73b441d1638 \0"
		"2eb8aa08_aa98_11ea_b4aa_73b441d16380\0"
		"2eb8aa08-aa98-11ea-b4aa-73b441d1638\xc3\xa9\0"},
};

static void test_edges(void **state)
{
	const char *text;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(values); i++) {
		for (text = values[i].fit; *text; text += strlen(text) + 1)
			check_format(values[i].format, text, strlen(text), SCHEMA_FITS);
		for (text = values[i].misfit; *text; text += strlen(text) + 1)
			check_format(values[i].format, text, strlen(text), SCHEMA_MISFIT);
	}
}

/* Cut short, or with a NUL or something else behind it or in the place of any character, no value is read too far. */
static void test_cut_and_bent(void **state)
{
	static const char nul[] = "\0";
	char bent[256];
	const char *text;
	size_t i, n, k;

	(void)state;
	for (i = 0; i < COUNT(values); i++) {
		check_format(values[i].format, "", 0, SCHEMA_MISFIT);
		check_format(values[i].format, nul, 1, SCHEMA_MISFIT);
		for (text = values[i].fit; *text; text += n + 1) {
			n = strlen(text);
			memcpy(bent, text, n + 1);
			check_format(values[i].format, bent, n + 1, SCHEMA_MISFIT);
			for (k = 0; k < n; k++) {
				bent[k] = '\0';
				check_format(values[i].format, bent, n, SCHEMA_MISFIT);
				check_format(values[i].format, bent, k + 1, SCHEMA_MISFIT);
				bent[k] = text[k];
			}
		}
	}
}

static void test_lengths(void **state)
{
	struct buf name = BUF_INIT(4096);

	(void)state;
	repeat(&name, "a.", 126);
	buf_adds(&name, "b");
	check_format("hostname", name.data, 253, SCHEMA_FITS);
	buf_adds(&name, "c");
	check_format("hostname", name.data, 254, SCHEMA_MISFIT);
	buf_reset(&name);
	repeat(&name, "a", 63);
	check_format("hostname", name.data, 63, SCHEMA_FITS);
	buf_adds(&name, "a");
	check_format("hostname", name.data, 64, SCHEMA_MISFIT);
	buf_release(&name);
}

/* Where there is nothing to judge, nothing is refused. */
static void test_annotations(void **state)
{
	static const char *const formats[] = {"\"uri\"", "\"regex\"", "\"idn-email\"", "\"int32\"", "\"Email\"",
		"\"email\\u0000\"", "\"\"", "null", "4", "{}"};
	static const char *const instances[] = {"null", "true", "4", "[\"\"]", "{\"date\":\"\"}"};
	char schema[64];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(formats); i++) {
		snprintf(schema, sizeof(schema), "{\"format\":%s}", formats[i]);
		check(schema, "\"no such thing\"", SCHEMA_FITS);
	}
	for (i = 0; i < COUNT(instances); i++)
		check("{\"format\":\"date\"}", instances[i], SCHEMA_FITS);
}

static void test_report(void **state)
{
	struct buf text = BUF_INIT(1 << 26);

	(void)state;
	check_report("{\"properties\":{\"when\":{\"type\":\"string\",\"format\":\"date\"}}}", "{\"when\":\"today\"}",
		SCHEMA_MISFIT, "/when", "is not of the format \"date\"");
	check("{\"anyOf\":[{\"format\":\"ipv4\"},{\"format\":\"ipv6\"}]}", "\"::1\"", SCHEMA_FITS);
	check("{\"not\":{\"format\":\"ipv4\"}}", "\"::1\"", SCHEMA_FITS);

	buf_adds(&text, "\"PT");
	repeat(&text, "1", 40 << 20);
	buf_adds(&text, "S\"");
	check("{\"format\":\"duration\"}", text.data, SCHEMA_UNJUDGED);
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_cut_and_bent),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_annotations),
		cmocka_unit_test(test_report),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
