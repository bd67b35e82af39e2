/* Numbers, equality and regular expressions of the schema validator. */
#include "schema_judging.h"

/* ── Values ── */

static void test_numbers(void **state)
{
	static const struct {
		const char *schema, *instance;
		enum schema_verdict verdict;
	} cases[] = {
		{"{\"const\":1}", "1.0", SCHEMA_FITS},
		{"{\"const\":0}", "-0.0", SCHEMA_FITS},
		{"{\"const\":-9223372036854775808}", "-9223372036854775808.0", SCHEMA_FITS},
		{"{\"const\":18446744073709551615}", "18446744073709551615", SCHEMA_FITS},
		{"{\"const\":18446744073709551615}", "1.8446744073709552e19", SCHEMA_MISFIT},
		{"{\"const\":9223372036854775807}", "9223372036854775808", SCHEMA_MISFIT},
		{"{\"const\":9007199254740993}", "9007199254740992.0", SCHEMA_MISFIT},
		{"{\"const\":9007199254740992}", "9007199254740992.0", SCHEMA_FITS},
		{"{\"maximum\":18446744073709551615}", "1e20", SCHEMA_MISFIT},
		{"{\"minimum\":-9223372036854775808}", "-1e19", SCHEMA_MISFIT},
		{"{\"minimum\":9007199254740993}", "9007199254740992.0", SCHEMA_MISFIT},
		{"{\"exclusiveMaximum\":0}", "-0.5", SCHEMA_FITS},
		{"{\"exclusiveMinimum\":-1}", "-0.5", SCHEMA_FITS},
		{"{\"maximum\":-1}", "-0.5", SCHEMA_MISFIT},
		{"{\"maximum\":1}", "1.5", SCHEMA_MISFIT},
		{"{\"minimum\":1.5}", "1", SCHEMA_MISFIT},
		{"{\"minimum\":1.5}", "2", SCHEMA_FITS},
		{"{\"minimum\":-1.5}", "-1", SCHEMA_FITS},
		{"{\"minimum\":-1.5}", "-2", SCHEMA_MISFIT},
		{"{\"maximum\":1e300}", "1e301", SCHEMA_MISFIT},
		{"{\"type\":\"integer\"}", "1e300", SCHEMA_FITS},
		{"{\"type\":\"integer\"}", "18446744073709551615", SCHEMA_FITS},
		{"{\"type\":\"integer\"}", "1.5", SCHEMA_MISFIT},
		{"{\"multipleOf\":0.01}", "19.99", SCHEMA_FITS},
		{"{\"multipleOf\":0.01}", "4.35", SCHEMA_FITS},
		{"{\"multipleOf\":0.01}", "0.07", SCHEMA_FITS},
		{"{\"multipleOf\":0.01}", "19.995", SCHEMA_MISFIT},
		{"{\"multipleOf\":0.1}", "-0.3", SCHEMA_FITS},
		{"{\"multipleOf\":0.1}", "100", SCHEMA_FITS},
		{"{\"multipleOf\":0.3}", "1e300", SCHEMA_MISFIT},
		{"{\"multipleOf\":1e-300}", "1e300", SCHEMA_FITS},
		{"{\"multipleOf\":1e300}", "1e-300", SCHEMA_MISFIT},
		{"{\"multipleOf\":1e300}", "0", SCHEMA_FITS},
		{"{\"multipleOf\":7}", "18446744073709551614", SCHEMA_FITS},
		{"{\"multipleOf\":7}", "18446744073709551615", SCHEMA_MISFIT},
		{"{\"multipleOf\":2.5}", "7.5", SCHEMA_FITS},
		{"{\"multipleOf\":2.5}", "8", SCHEMA_MISFIT},
		{"{\"minLength\":1.0,\"maxLength\":2e0}", "\"\\ud83d\\ude00x\"", SCHEMA_FITS},
		{"{\"minItems\":18446744073709551615}", "[]", SCHEMA_MISFIT},
		{"{\"maxItems\":1e300}", "[]", SCHEMA_FITS},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++)
		check(cases[i].schema, cases[i].instance, cases[i].verdict);
}

static void test_unique(void **state)
{
	static const char *const equal[] = {"[1,1.0]", "[{\"a\":1,\"b\":[2]},3,{\"b\":[2.0],\"a\":1.0}]",
		"[null,0,null]", "[[],[[]],[[]]]", "[\"long enough for words\",\"long enough for words\"]",
		"[1e300,1e300]", "[0,-0.0]"};
	static const char *const different[] = {"[0,false,null,\"\",[],{},\"0\"]",
		"[9007199254740993,9007199254740992.0]", "[[1,2],[2,1]]", "[{\"a\":1,\"b\":2},{\"a\":2,\"b\":1}]",
		"[18446744073709551615,1.8446744073709552e19]", "[\"\\u0000\",\"\\u0000\\u0000\",\"\"]", "[1,-1]"};
	struct buf many = BUF_INIT(1 << 24);
	int i;

	(void)state;
	for (i = 0; i < (int)COUNT(equal); i++)
		check("{\"uniqueItems\":true}", equal[i], SCHEMA_MISFIT);
	for (i = 0; i < (int)COUNT(different); i++)
		check("{\"uniqueItems\":true}", different[i], SCHEMA_FITS);
	check("{\"uniqueItems\":false}", equal[0], SCHEMA_FITS);
	buf_addc(&many, '[');
	for (i = 0; i < 200000; i++)
		buf_printf(&many, "%d,", i);
	buf_adds(&many, "-1]");
	check("{\"uniqueItems\":true}", many.data, SCHEMA_FITS);
	buf_release(&many);
}

/* ── Expressions ── */

static void check_pattern(const char *pattern, const char *text, enum schema_verdict expected)
{
	struct buf schema = BUF_INIT(1 << 16), instance = BUF_INIT(1 << 20);

	buf_adds(&schema, "{\"pattern\":");
	json_print_string(&schema, pattern, strlen(pattern));
	buf_addc(&schema, '}');
	json_print_string(&instance, text, strlen(text));
	check(schema.data, instance.data, expected);
	buf_release(&schema);
	buf_release(&instance);
}

static void test_patterns(void **state)
{
	static const struct {
		const char *pattern, *fits, *misfits; /* NULL: nothing does */
	} cases[] = {
		{"", "", NULL},
		{"^\\d{3}-\\d{4}$", "555-1234", "555-12345"},
		{"^\\d$", "7", "\xd9\xa3"}, /* ECMA-262's digits are ASCII's */
		{"^\\w\\W$", "a\xc3\xa9", "ab"},
		{"^[\\w.-]+@[a-z]+$", "a.b-c@example", "a b@example"},
		{"b|c", "abd", "aad"},
		{"^(?<year>\\d{2,})(?:-|/)x?$", "2024/", "2/x"},
		{"^(?=.*a)(?!.*b).{2,3}?$", "ca", "ab"},
		{"(?<=a)b(?<!ab)", NULL, "ab"},
		{"^[^]$", "\n", ""},
		{"^[]?[^]*$", "a\n", NULL},
		{"[]", NULL, "a"},
		{"^[^\\n]$", "a", "\n"},
		{"^[[:alpha:]]$", "a]", "b"}, /* no POSIX class: one of [ : a l p h and then ] */
		{"^[a-\\d]$", "-", "b"},
		{"^[\\d-x]$", "-", "y"},
		{"^[\\]\\-\\\\^]$", "^", "a"},
		{"^[\\b]$", "\b", "b"},
		{"\\bfoo\\b", "a foo b", "afoo"},
		{"^a{2}b{1,}c{,3}$", "aabc{,3}", "aabccc"},
		{"^{}]$", "{}]", "x"},
		{"^\\s$", "\xe2\x80\xa8", "\xe2\x80\x8b"},
		{"^\\S$", "\xe2\x80\x8b", "\xc2\xa0"},
		{"^[\\S\\n]$", "\n", " "},
		{"^[^\\s]$", "x", "\xef\xbb\xbf"},
		{"^.$", "\xf0\x9f\x98\x80", "\xe2\x80\xa9"},
		{"^.$", "\v", "\r"},
		{"^a$", "a", "a\n"},
		{"^\\u0041\\x42\\cJ\\t\\/\\.\\u{1F600}\\uD83D\\uDE00$", "AB\n\t/.\xf0\x9f\x98\x80\xf0\x9f\x98\x80",
			"AB"},
		{"^\xf0\x9f\x98\x80*$", "\xf0\x9f\x98\x80\xf0\x9f\x98\x80",
			"\xf0\x9f\x98"
			"\x81"},
		{"^[\xce\xb1-\xcf\x89]+$", "\xce\xb2", "b"},
		{"^\\p{Lu}\\P{L}$", "\xc3\x89\x31", "e1"},
		{"^\\$\\^\\(\\)\\*\\+\\?\\|\\-#\"' ~$", "$^()*+?|-#\"' ~", ""},
		{"^(a?)*$", "aaa", "ab"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		if (cases[i].fits)
			check_pattern(cases[i].pattern, cases[i].fits, SCHEMA_FITS);
		if (cases[i].misfits)
			check_pattern(cases[i].pattern, cases[i].misfits, SCHEMA_MISFIT);
	}
	check("{\"pattern\":\"^a\\u0000b$\"}", "\"a\\u0000b\"", SCHEMA_FITS);
	check("{\"pattern\":\"^a\\u0000b$\"}", "\"a\\u0000c\"", SCHEMA_MISFIT);
	check("{\"pattern\":\"^a\\\\0b$\"}", "\"a\\u0000b\"", SCHEMA_FITS);
}

/* PCRE2's alone, or ECMA-262's alone, or nobody's. */
static void test_patterns_beyond_us(void **state)
{
	static const char *const patterns[] = {"(", ")", "[", "[a", "a**", "a++", "a?+", "a{2}+", "a{2}{3}", "*", "+a",
		"a|*", "^*", "(?=a)*", "(?<!a){2}", "\\b+", "(?i)a", "(?>a)", "(?|a)", "(?P<n>a)", "(?<>a)", "(?<1>a)",
		"(?<n", "(*UTF)a", "(*FAIL)", "(?R)", "(?1)", "(?#a)", "(?C)", "\\", "\\1", "(a)\\1", "(?<n>a)\\k<n>",
		"\\Aa", "a\\Z", "a\\z", "\\Ga", "\\K", "\\R", "\\X", "\\h", "\\N", "\\Qa\\E", "\\a", "\\e", "\\_a\\C",
		"\\01", "\\x4", "\\x{41}", "\\u12", "\\u{110000}", "\\ud800", "\\udc00\\ud800", "\\u{}", "\\c1", "\\p",
		"\\p{", "\\p{Nonsense}", "\\pL", "[z-a]", "[\\1]", "a{2,1}", "a{99999}", "(?<=a*)b", "\\\xc3\xa9"};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(patterns); i++)
		check_pattern(patterns[i], "a", SCHEMA_UNJUDGED);
	check_report("{\"properties\":{\"a\":{\"pattern\":\"(\"}}}", "{}", SCHEMA_UNJUDGED, "#/properties/a/pattern",
		"is an expression that cannot be compiled here");
	check_report("{\"patternProperties\":{\"a++\":true}}", "1", SCHEMA_UNJUDGED, "#/patternProperties",
		"is an expression with a construct that is not judged here");
}

static void test_expensive_patterns(void **state)
{
	static const char *const patterns[] = {"^(a+)+$", "^(a|a)*$", "(.*)*[bc]", "a*[bc]", "^(?:.(?=a*!))*$",
		"(?:a?){4000}b", "^(?:a*a*a*a*a*a*)[bc]", "(?:(?:(?:(?:a{1,99}){1,99}){1,99})[bc])"};
	struct buf text = BUF_INIT(1 << 20);
	size_t i;

	(void)state;
	repeat(&text, "a", 300000);
	buf_addc(&text, '!');
	for (i = 0; i < COUNT(patterns); i++)
		check_pattern(patterns[i], text.data, SCHEMA_UNJUDGED);
	check_pattern("^a+!$", text.data, SCHEMA_FITS);
	check_pattern("^[^!]*!$", text.data, SCHEMA_FITS);
	check_pattern("^[^a]", text.data, SCHEMA_MISFIT);
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_unique),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_patterns_beyond_us),
		cmocka_unit_test(test_expensive_patterns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
