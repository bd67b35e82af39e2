/*
 * The validator against the official suite's cases, where Debian's packages have them (app/deps names both): draft 7 in
 * json-schema-test-suite, and 2020-12 in libtest-json-schema-acceptance-perl. What is not run is listed here and
 * printed with the counts; a line that no longer excludes anything is a failure.
 */
#include "schema_judging.h"

#include <glob.h>

#define REMOTE  "its references lead out of the schema"
#define DYNAMIC "$dynamicRef is not judged"
#define REST    "unevaluatedItems and unevaluatedProperties are not judged"
#define FORMAT  "strict mode does not allow this format, which is an annotation"
#define NAMES   "the long names of Unicode's properties are not judged"

enum { D7 = 1, D2020 = 2, BOTH = 3 };

static struct skip {
	int suites;
	const char *file, *group; /* NULL: all groups */
	const char *why;
	int met;
} skips[] = {
	{BOTH, "refRemote.json", NULL, REMOTE, 0},
	{BOTH, "ref.json", "remote ref, containing refs itself", REMOTE, 0},
	{D2020, "ref.json", "URN base URI with f-component", REMOTE, 0},
	{D7, "definitions.json", "valid definition", REMOTE, 0},
	{D7, "definitions.json", "invalid definition", REMOTE, 0},
	{D2020, "defs.json", NULL, REMOTE, 0},
	{D2020, "anchor.json", "invalid anchors", REMOTE, 0},
	{D2020, "id.json", "Invalid use of fragments in location-independent $id", REMOTE, 0},
	{D2020, "id.json", "Valid use of empty fragments in location-independent $id", REMOTE, 0},
	{D2020, "id.json", "Unnormalized $ids are allowed but discouraged", REMOTE, 0},
	{D2020, "vocabulary.json", NULL, "a schema of schemas in $schema leads out of the schema", 0},
	{D2020, "optional/cross-draft.json", NULL, REMOTE, 0},
	{D2020, "dynamicRef.json", NULL, DYNAMIC, 0},
	{D2020, "unevaluatedItems.json", NULL, REST, 0},
	{D2020, "unevaluatedProperties.json", NULL, REST, 0},
	{D2020, "not.json", "collect annotations inside a 'not', even if collection is disabled", REST, 0},
	{D2020, "ref.json", "ref creates new scope when adjacent to keywords", REST, 0},
	{D7, "ref.json", "ref overrides any sibling keywords", "2020-12 does not ignore what stands beside $ref", 0},
	{D7, "optional/content.json", NULL, "contentEncoding and contentMediaType are annotations", 0},
	{D7, "optional/ecmascript-regex.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/idn-email.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/idn-hostname.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/iri.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/iri-reference.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/json-pointer.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/regex.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/relative-json-pointer.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/uri.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/uri-reference.json", NULL, FORMAT, 0},
	{BOTH, "optional/format/uri-template.json", NULL, FORMAT, 0},
	{D2020, "optional/ecmascript-regex.json", "\\a is not an ECMA 262 control escape", REMOTE, 0},
	{D2020, "optional/ecmascript-regex.json", "patterns always use unicode semantics with pattern", NAMES, 0},
	{D2020, "optional/ecmascript-regex.json", "patterns always use unicode semantics with patternProperties", NAMES,
		0},
	{D2020, "optional/ecmascript-regex.json", "pattern with non-ASCII digits", NAMES, 0},
	{D2020, "optional/ecmascript-regex.json", "patternProperties with non-ASCII digits", NAMES, 0},
	{BOTH, "optional/bignum.json", NULL, "integers beyond 64 bits are refused by json_parse()", 0},
};

static const struct suite {
	int bit;
	const char *name, *folder, *package;
} suites[] = {
	{D7, "draft 7", "/usr/share/json-schema-test-suite/tests/draft7", "json-schema-test-suite"},
	{D2020, "draft 2020-12", "/usr/share/perl5/auto/share/dist/Test-JSON-Schema-Acceptance/tests/draft2020-12",
		"libtest-json-schema-acceptance-perl"},
};

static struct json_object *read_file(const char *path)
{
	struct buf text = BUF_INIT(1 << 20);
	struct json_object *value;
	struct err e = {0};
	FILE *f = fopen(path, "rb");
	char *room;

	assert_non_null(f);
	room = buf_reserve(&text, 1 << 19);
	assert_non_null(room);
	text.len = fread(room, 1, 1 << 19, f);
	fclose(f);
	value = json_parse(text.data, text.len, &e);
	if (!value)
		fail_msg("%s: %s", path, e.message);
	buf_release(&text);
	return value;
}

static struct skip *skip_for(const struct suite *suite, const char *file, const char *group)
{
	size_t i;

	for (i = 0; i < COUNT(skips); i++)
		if ((skips[i].suites & suite->bit) && strcmp(skips[i].file, file) == 0 &&
			(!skips[i].group || (group && strcmp(skips[i].group, group) == 0)))
			return &skips[i];
	return NULL;
}

static int run_group(const char *file, struct json_object *group, int *bad)
{
	struct json_object *tests = json_get_array(group, "tests"), *test;
	struct schema_report report;
	enum schema_verdict verdict, expected;
	size_t i, n = json_object_array_length(tests), steps;

	for (i = 0; i < n; i++) {
		test = json_object_array_get_idx(tests, i);
		expected = json_get_bool(test, "valid", false) ? SCHEMA_FITS : SCHEMA_MISFIT;
		steps = SCHEMA_MAX_STEPS;
		verdict = schema_judge(json_get(group, "schema"), json_get(test, "data"), &steps, &report);
		if (verdict == expected)
			continue;
		++*bad;
		print_error("%s: %s: %s: %s, but was expected to be %s (%s %s)\n", file,
			json_get_str(group, "description"), json_get_str(test, "description"),
			schema_verdict_words[verdict], schema_verdict_words[expected], report.place, report.reason);
	}
	return (int)n;
}

static int run_file(const struct suite *suite, const char *path, int *bad)
{
	const char *file = path + strlen(suite->folder) + 1;
	struct skip *skip = skip_for(suite, file, NULL);
	struct json_object *groups, *group;
	int count = 0;
	size_t i;

	if (skip && !skip->group) {
		skip->met |= suite->bit;
		return 0;
	}
	groups = read_file(path);
	for (i = 0; i < json_object_array_length(groups); i++) {
		group = json_object_array_get_idx(groups, i);
		skip = skip_for(suite, file, json_get_str(group, "description"));
		if (skip)
			skip->met |= suite->bit;
		else
			count += run_group(file, group, bad);
	}
	json_object_put(groups);
	return count;
}

static void run_suite(const struct suite *suite)
{
	static const char *const folders[] = {"", "/optional", "/optional/format"};
	char pattern[256];
	glob_t found = {0};
	int count = 0, bad = 0;
	size_t i;

	for (i = 0; i < COUNT(folders); i++) {
		snprintf(pattern, sizeof(pattern), "%s%s/*.json", suite->folder, folders[i]);
		if (glob(pattern, i ? GLOB_APPEND : 0, NULL, &found) != 0)
			fail_msg("%s: nothing there; `make deps` installs %s", pattern, suite->package);
	}
	for (i = 0; i < found.gl_pathc; i++)
		count += run_file(suite, found.gl_pathv[i], &bad);
	globfree(&found);
	print_message("%s: %d cases, %d bad\n", suite->name, count, bad);
	for (i = 0; i < COUNT(skips); i++)
		if (skips[i].suites & suite->bit) {
			print_message("  not run: %s, %s: %s\n", skips[i].file,
				skips[i].group ? skips[i].group : "all of it", skips[i].why);
			assert_true(skips[i].met & suite->bit);
		}
	assert_int_equal(bad, 0);
	assert_true(count > 300);
}

static void test_official_suite(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(suites); i++)
		run_suite(&suites[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_official_suite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
