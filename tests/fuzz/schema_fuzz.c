/* A schema, a zero byte, an instance: whatever they are, there is a verdict, within the bounds, and it stays the same.
 */
#include "wire/schema.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check_words(const char *words, size_t size)
{
	struct buf quoted = BUF_INIT(4096);
	struct err bad;
	const char *p;

	BUG_ON(!memchr(words, '\0', size));
	for (p = words; *p; p++)
		BUG_ON((unsigned char)*p < 0x20 || *p == 0x7f);
	json_print_string(&quoted, words, strlen(words));
	BUG_ON(json_scan(quoted.data, quoted.len, &bad));
	buf_release(&quoted);
}

static enum schema_verdict judge(struct json_object *schema, struct json_object *instance)
{
	struct schema_report once, twice;
	size_t left = SCHEMA_MAX_STEPS, left_again = SCHEMA_MAX_STEPS;
	enum schema_verdict verdict = schema_judge(schema, instance, &left, &once);

	BUG_ON(verdict != schema_judge(schema, instance, &left_again, &twice) || left != left_again);
	BUG_ON(strcmp(once.place, twice.place) != 0 || strcmp(once.reason, twice.reason) != 0);
	BUG_ON((verdict == SCHEMA_FITS) != !once.reason[0]);
	check_words(once.place, sizeof(once.place));
	check_words(once.reason, sizeof(once.reason));
	return verdict;
}

static bool has_references(struct json_object *schema)
{
	struct buf text = BUF_INIT(1 << 26);
	bool found;

	json_print(&text, schema);
	found = !!memmem(text.data, text.len, "$ref", 4);
	buf_release(&text);
	return found;
}

/* "not" turns a verdict around, unless a bound is met; references would lead elsewhere within it. */
static void check_not(struct json_object *schema, struct json_object *instance, enum schema_verdict verdict)
{
	struct json_object *outer = json_object_new_object();
	enum schema_verdict turned;

	json_set(outer, "not", json_object_get(schema));
	turned = judge(outer, instance);
	json_object_put(outer);
	if (verdict != SCHEMA_UNJUDGED && turned != SCHEMA_UNJUDGED && !has_references(schema))
		BUG_ON((verdict == SCHEMA_FITS) != (turned == SCHEMA_MISFIT));
}

/* Every value equals itself, for const and for uniqueItems. */
static void check_same(struct json_object *instance)
{
	struct json_object *schema = json_object_new_object(), *pair = json_object_new_array();

	json_set(schema, "const", json_object_get(instance));
	BUG_ON(judge(schema, instance) == SCHEMA_MISFIT);
	json_object_put(schema);
	schema = json_object_new_object();
	json_set_bool(schema, "uniqueItems", true);
	json_object_array_add(pair, json_object_get(instance));
	BUG_ON(judge(schema, pair) == SCHEMA_MISFIT);
	json_object_array_add(pair, json_object_get(instance));
	BUG_ON(judge(schema, pair) == SCHEMA_FITS);
	json_object_put(schema);
	json_object_put(pair);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	const char *text = (const char *)bytes, *gap = memchr(text, '\0', len);
	struct json_object *schema, *instance;
	struct err e;

	if (!gap)
		return 0;
	schema = json_parse(text, (size_t)(gap - text), &e);
	if (!schema)
		return 0;
	instance = json_parse(gap + 1, len - (size_t)(gap - text) - 1, &e);
	if (instance || e.code == ERR_INVALID_TYPE) { /* a bare null */
		check_not(schema, instance, judge(schema, instance));
		check_same(instance);
	}
	json_release(instance);
	json_release(schema);
	return 0;
}
