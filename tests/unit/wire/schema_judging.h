/* What the tests of the schema validator share: text in, verdict out, and every report looked at. */
#ifndef PAVISE_TESTS_SCHEMA_JUDGING_H
#define PAVISE_TESTS_SCHEMA_JUDGING_H

#include "wire/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const schema_verdict_words[] = {"fits", "misfit", "unjudged"};

/* Also what json_parse() does not give: a bare null. The array around it goes to *holder. */
static inline struct json_object *parse(const char *text, struct json_object **holder)
{
	struct buf wrapped = BUF_INIT(1 << 26);
	struct err e = {0};

	buf_printf(&wrapped, "[%s]", text);
	*holder = json_parse(wrapped.data, wrapped.len, &e);
	if (!*holder)
		fail_msg("%.200s: %s", text, e.message);
	buf_release(&wrapped);
	return json_object_array_get_idx(*holder, 0);
}

/* Every report is bounded, of well-formed UTF-8, and one line. */
static inline void check_words(const char *words, size_t size)
{
	struct buf quoted = BUF_INIT(4096);
	struct err e;
	const char *p;

	assert_non_null(memchr(words, '\0', size));
	for (p = words; *p; p++)
		assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
	json_print_string(&quoted, words, strlen(words));
	assert_int_equal(json_scan(quoted.data, quoted.len, &e), 0);
	buf_release(&quoted);
}

static inline enum schema_verdict judge(
	const char *schema_text, const char *instance_text, struct schema_report *report)
{
	struct json_object *schema_holder, *instance_holder;
	struct json_object *schema = parse(schema_text, &schema_holder);
	struct json_object *instance = parse(instance_text, &instance_holder);
	size_t steps = SCHEMA_MAX_STEPS;
	enum schema_verdict verdict = schema_judge(schema, instance, &steps, report);

	check_words(report->place, sizeof(report->place));
	check_words(report->reason, sizeof(report->reason));
	assert_int_equal(verdict == SCHEMA_FITS, !report->reason[0]);
	json_object_put(schema_holder);
	json_object_put(instance_holder);
	return verdict;
}

static inline void check(const char *schema, const char *instance, enum schema_verdict expected)
{
	struct schema_report report;
	enum schema_verdict verdict = judge(schema, instance, &report);

	if (verdict != expected)
		fail_msg("%.300s\n%.300s\n%s, but was expected to be %s (%s %s)", schema, instance,
			schema_verdict_words[verdict], schema_verdict_words[expected], report.place, report.reason);
}

static inline void check_report(
	const char *schema, const char *instance, enum schema_verdict expected, const char *place, const char *reason)
{
	struct schema_report report;

	assert_int_equal(judge(schema, instance, &report), expected);
	assert_string_equal(report.place, place);
	assert_string_equal(report.reason, reason);
}

/* text, count times. */
static inline void repeat(struct buf *out, const char *text, int count)
{
	for (; count > 0; count--)
		buf_adds(out, text);
}

#endif
