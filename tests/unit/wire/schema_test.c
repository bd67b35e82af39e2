/*
 * What the official suite does not ask of the schema validator: schemas as clients of structured outputs write them,
 * references, malformed schemas, bounds, and what a report says.
 */
#include "schema_judging.h"

/* ── Schemas as the clients of structured outputs write them ── */

static void test_steps(void **state)
{
	static const char schema[] =
		"{\"type\":\"object\",\"properties\":{\"steps\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/step\"}},"
		"\"answer\":{\"type\":\"string\"}},\"$defs\":{\"step\":{\"type\":\"object\",\"properties\":{\"explanation\":"
		"{\"type\":\"string\"},\"output\":{\"type\":\"string\"}},\"required\":[\"explanation\",\"output\"],"
		"\"additionalProperties\":false}},\"required\":[\"steps\",\"answer\"],\"additionalProperties\":false}";

	(void)state;
	check(schema, "{\"steps\":[],\"answer\":\"\"}", SCHEMA_FITS);
	check(schema, "{\"steps\":[{\"explanation\":\"a\",\"output\":\"b\"}],\"answer\":\"x = 1\"}", SCHEMA_FITS);
	check_report(schema,
		"{\"steps\":[{\"explanation\":\"a\",\"output\":\"b\"},{\"output\":\"b\"}],\"answer\":\"\"}",
		SCHEMA_MISFIT, "/steps/1", "lacks the member \"explanation\"");
	check_report(schema, "{\"steps\":[{\"explanation\":\"a\",\"output\":4}],\"answer\":\"\"}", SCHEMA_MISFIT,
		"/steps/0/output", "is an integer, which type does not allow");
	check_report(schema, "{\"steps\":[],\"answer\":\"\",\"secret\":1}", SCHEMA_MISFIT, "/*",
		"is not allowed: false at additionalProperties");
	check_report(schema, "null", SCHEMA_MISFIT, "", "is null, which type does not allow");
}

static void test_linked_list(void **state)
{
	static const char schema[] =
		"{\"type\":\"object\",\"properties\":{\"list\":{\"$ref\":\"#/$defs/node\"}},\"$defs\":{\"node\":{\"type\":"
		"\"object\",\"properties\":{\"value\":{\"type\":\"number\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/node\"},"
		"{\"type\":\"null\"}]}},\"additionalProperties\":false,\"required\":[\"next\",\"value\"]}},"
		"\"additionalProperties\":false,\"required\":[\"list\"]}";
	struct buf list = BUF_INIT(1 << 16);
	int depth = JSON_MAX_DEPTH - 2;

	(void)state;
	buf_adds(&list, "{\"list\":");
	repeat(&list, "{\"value\":1.5,\"next\":", depth);
	buf_adds(&list, "null");
	repeat(&list, "}", depth + 1);
	check(schema, list.data, SCHEMA_FITS);
	buf_release(&list);
	check_report(schema, "{\"list\":{\"value\":1,\"next\":{\"value\":2,\"next\":{\"value\":\"3\",\"next\":null}}}}",
		SCHEMA_MISFIT, "/list/next", "fits no schema of anyOf");
}

static void test_generated_ui(void **state)
{
	static const char schema[] =
		"{\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\",\"enum\":[\"div\",\"button\"]},\"label\":"
		"{\"type\":\"string\"},\"children\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}},\"attributes\":{\"type\":"
		"\"array\",\"items\":{\"$ref\":\"#/$defs/attribute\"}}},\"required\":[\"type\",\"label\",\"children\","
		"\"attributes\"],\"additionalProperties\":false,\"$defs\":{\"attribute\":{\"type\":\"object\",\"properties\":{"
		"\"name\":{\"type\":\"string\",\"pattern\":\"^[a-z-]+$\"},\"value\":{\"type\":\"string\"}},\"required\":"
		"[\"name\",\"value\"],\"additionalProperties\":false}}}";
	static const char button[] = "{\"type\":\"button\",\"label\":\"OK\",\"children\":[],\"attributes\":"
				     "[{\"name\":\"data-id\",\"value\":\"1\"}]}";
	char text[512];

	(void)state;
	check(schema, button, SCHEMA_FITS);
	snprintf(text, sizeof(text), "{\"type\":\"div\",\"label\":\"\",\"children\":[%s,%s],\"attributes\":[]}", button,
		button);
	check(schema, text, SCHEMA_FITS);
	check_report(schema,
		"{\"type\":\"div\",\"label\":\"\",\"attributes\":[],\"children\":[{\"type\":\"tab\",\"label\":\"\","
		"\"children\":[],\"attributes\":[]}]}",
		SCHEMA_MISFIT, "/children/0/type", "is none of the values of enum");
	check_report(schema,
		"{\"type\":\"div\",\"label\":\"\",\"children\":[],\"attributes\":[{\"name\":\"On Click\",\"value\":\"\"}]}",
		SCHEMA_MISFIT, "/attributes/0/name", "does not match pattern");
}

static void test_unions(void **state)
{
	static const char schema[] =
		"{\"type\":\"object\",\"properties\":{\"item\":{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"name\":"
		"{\"type\":\"string\"},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150}},\"required\":[\"name\","
		"\"age\"],\"additionalProperties\":false},{\"type\":\"object\",\"properties\":{\"street\":{\"type\":"
		"[\"string\",\"null\"]}},\"required\":[\"street\"],\"additionalProperties\":false}]}},\"required\":[\"item\"]}";

	(void)state;
	check(schema, "{\"item\":{\"name\":\"A\",\"age\":3}}", SCHEMA_FITS);
	check(schema, "{\"item\":{\"name\":\"A\",\"age\":3.0}}", SCHEMA_FITS);
	check(schema, "{\"item\":{\"street\":null}}", SCHEMA_FITS);
	check(schema, "{\"item\":{\"name\":\"A\",\"age\":3.5}}", SCHEMA_MISFIT);
	check(schema, "{\"item\":{\"name\":\"A\",\"age\":151}}", SCHEMA_MISFIT);
	check(schema, "{\"item\":{\"name\":\"A\",\"age\":1,\"street\":\"\"}}", SCHEMA_MISFIT);
	check_report("{\"oneOf\":[{\"minimum\":1},{\"maximum\":9}]}", "5", SCHEMA_MISFIT, "",
		"fits several schemas of oneOf");
}

/* ── References ── */

static void test_references(void **state)
{
	static const struct {
		const char *schema, *fits, *misfits;
	} cases[] = {
		{"{\"$ref\":\"#/$defs/a~1b~0c%25d%20\",\"$defs\":{\"a/b~c%d \":{\"type\":\"null\"}}}", "null", "1"},
		{"{\"$ref\":\"#node\",\"$defs\":{\"x\":{\"$anchor\":\"node\",\"type\":\"null\"}}}", "null", "1"},
		{"{\"$ref\":\"#node\",\"$defs\":{\"x\":{\"$dynamicAnchor\":\"node\",\"type\":\"null\"}}}", "null", "1"},
		{"{\"$ref\":\"#/components/schemas/x\",\"components\":{\"schemas\":{\"x\":{\"items\":{\"$ref\":"
		 "\"#/components/schemas/y\"}},\"y\":{\"type\":\"null\"}}}}",
			"[null]", "[1]"},
		{"{\"$ref\":\"#/anyOf/10\",\"anyOf\":[true,0,0,0,0,0,0,0,0,0,{\"type\":\"null\"}]}", NULL, NULL},
		{"{\"$ref\":\"#/anyOf/1\",\"anyOf\":[true,{\"type\":\"null\"}]}", "null", "1"},
		{"{\"$id\":\"T0\",\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"T0\"}}}",
			"{\"next\":{\"next\":{}}}", "{\"next\":{\"next\":1}}"},
		{"{\"$id\":\"http://example.com/a/b.json\",\"$ref\":\"../c.json#/$defs/d\",\"$defs\":{\"e\":{\"$id\":"
		 "\"/c.json\",\"$defs\":{\"d\":{\"type\":\"null\"}}}}}",
			"null", "1"},
		{"{\"$id\":\"http://example.com\",\"$ref\":\"c?q=1\",\"$defs\":{\"e\":{\"$id\":\"http://example.com/c?q=1#\","
		 "\"type\":\"null\"}}}",
			"null", "1"},
		/* an $id moves the ground under "#" */
		{"{\"$defs\":{\"x\":{\"$id\":\"http://x/\",\"$defs\":{\"y\":{\"type\":\"null\"}},\"items\":{\"$ref\":"
		 "\"#/$defs/y\"}},\"y\":{\"type\":\"string\"}},\"$ref\":\"#/$defs/x\"}",
			"[null]", "[\"\"]"},
		{"{\"$ref\":\"#/definitions/x\",\"definitions\":{\"x\":{\"type\":\"null\"}}}", "null", "1"},
		{"{\"$ref\":\"#/$defs/x\",\"$defs\":{\"x\":true},\"type\":\"null\"}", "null", "1"},
	};
	static const char *const nowhere[] = {"#/$defs/b", "#/", "#b", "other.json", "http://x/y", "#/$defs/a/0",
		"#/$defs/a/type/", "#/$defs/%4", "#/$defs/%zz", "#/$defs/a%00", "#/$defs/~2", "#/$defs/~", "#/list/00",
		"#/list/-", "#/list/2", "#/list/99999999999999999999", "#/list/ 0", "#/list/", "$defs/a", "//#"};
	char schema[512];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		if (!cases[i].fits) {
			check(cases[i].schema, "null", SCHEMA_UNJUDGED);
			continue;
		}
		check(cases[i].schema, cases[i].fits, SCHEMA_FITS);
		check(cases[i].schema, cases[i].misfits, SCHEMA_MISFIT);
	}
	for (i = 0; i < COUNT(nowhere); i++) {
		snprintf(schema, sizeof(schema),
			"{\"items\":{\"$ref\":\"%s\"},\"$defs\":{\"a\":{\"type\":\"null\"}},\"list\":"
			"[{},{}]}",
			nowhere[i]);
		check_report(schema, "1", SCHEMA_UNJUDGED, "#/items/$ref", "leads nowhere within the schema");
	}
	/* of two with one name, neither is meant; as long as nothing refers to it, that does no harm */
	check("{\"$defs\":{\"a\":{\"$id\":\"x\"},\"b\":{\"$id\":\"x\"}}}", "1", SCHEMA_FITS);
	check("{\"$defs\":{\"a\":{\"$id\":\"x\"},\"b\":{\"$id\":\"x\"}},\"$ref\":\"x\"}", "1", SCHEMA_UNJUDGED);
	check("{\"$defs\":{\"a\":{\"$anchor\":\"x\"},\"b\":{\"$anchor\":\"x\"}},\"$ref\":\"#x\"}", "1",
		SCHEMA_UNJUDGED);
	check("{\"$defs\":{\"a\":{\"$anchor\":\"x\",\"$dynamicAnchor\":\"x\"}},\"$ref\":\"#x\"}", "1", SCHEMA_FITS);
	check_report("{\"$ref\":\"#/x\",\"x\":{\"properties\":{\"a\":5}}}", "1", SCHEMA_UNJUDGED, "#/x/properties/a",
		"is no schema: it is neither an object nor a boolean");
}

/* ── What is not judged ── */

static void test_malformed(void **state)
{
	static const char *const schemas[] = {"1", "null", "[]", "\"string\"", "{\"type\":\"any\"}", "{\"type\":null}",
		"{\"type\":[]}", "{\"type\":[\"string\",1]}", "{\"type\":\"object\\u0000\"}", "{\"enum\":1}",
		"{\"$ref\":1}", "{\"$ref\":null}", "{\"$ref\":\"#\\u0000\"}", "{\"$id\":1}", "{\"$id\":null}",
		"{\"$id\":\"#a\"}", "{\"$anchor\":\"1\"}", "{\"$anchor\":\"\"}", "{\"$anchor\":\"a/b\"}",
		"{\"$anchor\":1}", "{\"$defs\":[]}", "{\"$defs\":{\"a\":null}}", "{\"definitions\":{\"a\":1}}",
		"{\"allOf\":[]}", "{\"allOf\":{}}", "{\"anyOf\":[1]}", "{\"oneOf\":[null]}", "{\"not\":[]}",
		"{\"if\":1}", "{\"then\":null}", "{\"else\":\"\"}", "{\"properties\":{\"a\":1}}", "{\"properties\":[]}",
		"{\"properties\":null}", "{\"patternProperties\":1}", "{\"additionalProperties\":null}",
		"{\"propertyNames\":1}", "{\"required\":true}", "{\"required\":[1]}",
		"{\"dependentRequired\":{\"a\":1}}", "{\"dependentRequired\":[]}", "{\"dependentSchemas\":{\"a\":[]}}",
		"{\"dependencies\":{\"a\":[1]}}", "{\"dependencies\":{\"a\":1}}", "{\"minProperties\":-1}",
		"{\"maxProperties\":\"1\"}", "{\"prefixItems\":[]}", "{\"prefixItems\":{}}", "{\"items\":null}",
		"{\"items\":[1]}", "{\"contains\":1}", "{\"minContains\":1.5}", "{\"maxContains\":null}",
		"{\"minItems\":1.5}", "{\"maxItems\":-1e300}", "{\"uniqueItems\":1}", "{\"minimum\":\"1\"}",
		"{\"maximum\":null}", "{\"exclusiveMinimum\":true}", "{\"exclusiveMaximum\":false}",
		"{\"multipleOf\":0}", "{\"multipleOf\":-0.1}", "{\"minLength\":\"1\"}", "{\"maxLength\":-1}",
		"{\"pattern\":1}", "{\"pattern\":null}", "{\"unevaluatedProperties\":false}",
		"{\"unevaluatedItems\":true}", "{\"$dynamicRef\":\"#a\"}", "{\"$recursiveRef\":\"#\"}",
		"{\"$id\":\"a\\u0000\"}", "{\"$anchor\":\"a\\u0000\"}"};
	struct schema_report report;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(schemas); i++) {
		check(schemas[i], "{\"a\":[1]}", SCHEMA_UNJUDGED);
		check(schemas[i], "null", SCHEMA_UNJUDGED);
	}
	check_report("{\"allOf\":[true,{\"items\":{\"minLength\":-1}}]}", "{}", SCHEMA_UNJUDGED,
		"#/allOf/1/items/minLength", "is not what this keyword takes");
	assert_int_equal(judge("{\"enum\":[]}", "1", &report), SCHEMA_MISFIT);
	check("{\"nullable\":5,\"format\":\"email\",\"description\":null,\"x\":{\"type\":\"any\"}}", "1", SCHEMA_FITS);
}

/* A reference that leads in a circle, a tree of references that doubles at each level, and more that has no end. */
static void test_bounds(void **state)
{
	struct buf schema = BUF_INIT(1 << 24), instance = BUF_INIT(1 << 24);
	int i;

	(void)state;
	check_report("{\"$ref\":\"#\"}", "1", SCHEMA_UNJUDGED, "", "takes too many levels to judge");
	check("{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}}}", "1",
		SCHEMA_UNJUDGED);
	check("{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}", "1", SCHEMA_UNJUDGED);
	check("{\"not\":{\"$ref\":\"#\"}}", "1", SCHEMA_UNJUDGED);
	check("{\"if\":{\"$ref\":\"#\"}}", "1", SCHEMA_UNJUDGED);
	check("{\"contains\":{\"$ref\":\"#\"}}", "[[[]]]", SCHEMA_MISFIT);

	buf_adds(&schema, "{\"$ref\":\"#/$defs/0\",\"$defs\":{");
	for (i = 0; i < 60; i++)
		buf_printf(&schema, "\"%d\":{\"allOf\":[{\"$ref\":\"#/$defs/%d\"},{\"$ref\":\"#/$defs/%d\"}]},", i,
			i + 1, i + 1);
	buf_adds(&schema, "\"60\":true}}");
	check_report(schema.data, "1", SCHEMA_UNJUDGED, "", "takes too many steps to judge");

	buf_reset(&schema);
	buf_adds(&schema, "{\"items\":{\"enum\":[");
	for (i = 0; i < 5000; i++)
		buf_printf(&schema, "%d,", i);
	buf_adds(&schema, "-1]}}");
	buf_addc(&instance, '[');
	repeat(&instance, "-1,", 5000);
	buf_adds(&instance, "-1]");
	check(schema.data, instance.data, SCHEMA_UNJUDGED);

	buf_reset(&schema);
	/* going over long ways again and again */
	buf_adds(&schema, "{\"$id\":\"http://x/");
	repeat(&schema, "a/", 450);
	buf_adds(&schema, "\",\"$defs\":{");
	for (i = 0; i < 20000; i++)
		buf_printf(&schema, "\"%d\":{\"$id\":\"../%d\"},", i, i);
	buf_adds(&schema, "\"\":{}}}");
	check(schema.data, "1", SCHEMA_UNJUDGED);

	buf_reset(&schema);
	buf_adds(&schema, "{\"$defs\":{");
	for (i = 0; i < 300000; i++)
		buf_printf(&schema, "\"%d\":{},", i);
	buf_adds(&schema, "\"\":{}}}");
	check(schema.data, "1", SCHEMA_UNJUDGED);
	buf_release(&schema);
	buf_release(&instance);
}

/* What one instance takes is not there for the next; when nothing is left, nothing is judged. */
static void test_shared_budget(void **state)
{
	struct json_object *holder, *schema = parse("{\"items\":{\"type\":\"integer\"}}", &holder);
	struct json_object *instances, *instance = parse("[1,2,3]", &instances);
	struct schema_report report;
	size_t steps = SCHEMA_MAX_STEPS, each;

	(void)state;
	assert_int_equal(schema_judge(schema, instance, &steps, &report), SCHEMA_FITS);
	each = SCHEMA_MAX_STEPS - steps;
	assert_in_range(each, 4, 1000);
	steps = 2 * each;
	assert_int_equal(schema_judge(schema, instance, &steps, &report), SCHEMA_FITS);
	assert_int_equal(steps, each);
	assert_int_equal(schema_judge(schema, instance, &steps, &report), SCHEMA_FITS);
	assert_int_equal(steps, 0);
	assert_int_equal(schema_judge(schema, instance, &steps, &report), SCHEMA_UNJUDGED);
	assert_string_equal(report.reason, "takes too many steps to judge");
	json_object_put(holder);
	json_object_put(instances);
}

/* A chain that only references know must not be followed by recursion. */
static void test_long_chains(void **state)
{
	struct buf schema = BUF_INIT(1 << 24);
	int i;

	(void)state;
	buf_adds(&schema, "{\"$ref\":\"#/x/0\",\"x\":[");
	for (i = 0; i < 20000; i++)
		buf_printf(&schema, "{\"not\":{\"$ref\":\"#/x/%d\"}},", i + 1);
	buf_adds(&schema, "true]}");
	check(schema.data, "1", SCHEMA_UNJUDGED);
	buf_release(&schema);
}

/* An answer of some size, and a schema with everything that is usual, are well within the bounds. */
static void test_large_answer(void **state)
{
	static const char schema[] =
		"{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\",\"minimum\":1},"
		"\"name\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":80,\"pattern\":\"^[A-Z][\\\\w .-]*$\"},\"kind\":"
		"{\"enum\":[\"a\",\"b\",\"c\",\"d\"]},\"price\":{\"type\":[\"number\",\"null\"],\"multipleOf\":0.01}},\"required\":"
		"[\"id\",\"name\",\"kind\",\"price\"],\"additionalProperties\":false}}";
	struct buf instance = BUF_INIT(1 << 24);
	int i;

	(void)state;
	buf_addc(&instance, '[');
	for (i = 0; i < 5000; i++)
		buf_printf(&instance,
			"%s{\"id\":%d,\"name\":\"Some name of usual length\",\"kind\":\"d\",\"price\":19.99}",
			i ? "," : "", i + 1);
	buf_addc(&instance, ']');
	check(schema, instance.data, SCHEMA_FITS);
	buf_release(&instance);
}

/* ── Reports ── */

static void test_reports(void **state)
{
	struct buf text = BUF_INIT(1 << 16);
	struct schema_report report;

	(void)state;
	check_report("{\"additionalProperties\":{\"properties\":{\"a/b~\":{\"maxLength\":1}}}}",
		"{\"secret\":{\"a/b~\":\"secret\"}}", SCHEMA_MISFIT, "/*/a~1b~0", "is longer than maxLength");
	check_report("{\"patternProperties\":{\"^s\":false},\"properties\":{\"sa\":true}}", "{\"sa\":1}", SCHEMA_MISFIT,
		"/sa", "is not allowed: false at patternProperties");
	check_report("{\"patternProperties\":{\"^s\":false}}", "{\"secret\":1}", SCHEMA_MISFIT, "/*",
		"is not allowed: false at patternProperties");
	check_report("{\"propertyNames\":{\"maxLength\":3}}", "{\"secret\":1}", SCHEMA_MISFIT, "",
		"has a name that does not fit propertyNames");
	check_report(
		"{\"dependentRequired\":{\"a\":[\"b\"]}}", "{\"a\":1}", SCHEMA_MISFIT, "", "lacks the member \"b\"");
	check_report("{\"prefixItems\":[true,{\"items\":false}]}", "[1,[2]]", SCHEMA_MISFIT, "/1/0",
		"is not allowed: false at items");
	check_report("false", "1", SCHEMA_MISFIT, "", "is not allowed: false at #");
	check_report("{\"required\":[\"\\u0000\\n\\u007f\\u0085\\u00e9\"]}", "{\"\":1}", SCHEMA_MISFIT, "",
		"lacks the member \"\"");
	check_report("{\"required\":[\"\\n\\u007f\\u0085\\u00e9\"]}", "{}", SCHEMA_MISFIT, "",
		"lacks the member \"???\xc3\xa9\"");

	buf_adds(&text, "{\"required\":[\"");
	repeat(&text, "\xc3\xa9", 100);
	buf_adds(&text, "\"]}");
	assert_int_equal(judge(text.data, "{}", &report), SCHEMA_MISFIT);
	assert_string_equal(report.reason, "lacks the member \"\xe2\x80\xa6");

	buf_reset(&text);
	repeat(&text, "[", 70);
	buf_adds(&text, "1");
	repeat(&text, "]", 70);
	assert_int_equal(judge("{\"items\":{\"$ref\":\"#\"},\"type\":\"array\"}", text.data, &report), SCHEMA_MISFIT);
	assert_int_equal(strlen(report.place), 2 * 62 + strlen("\xe2\x80\xa6"));
	assert_memory_equal(report.place + 2 * 61, "/0\xe2\x80\xa6", sizeof("/0\xe2\x80\xa6"));
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_linked_list),
		cmocka_unit_test(test_generated_ui),
		cmocka_unit_test(test_unions),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_shared_budget),
		cmocka_unit_test(test_long_chains),
		cmocka_unit_test(test_large_answer),
		cmocka_unit_test(test_reports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
