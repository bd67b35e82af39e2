/* Whatever the bytes are: no crash; and what is accepted is printed as something that is accepted and printed the same.
 */
#include "base/json.h"

#include <stdlib.h>

enum { PRINT_MAX = 1 << 26 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check(struct json_object *value)
{
	struct buf once = BUF_INIT(PRINT_MAX), twice = BUF_INIT(PRINT_MAX);
	struct json_object *again;
	struct err e;

	json_print(&once, value);
	again = json_parse(once.data, once.len, &e);
	BUG_ON(!again);
	json_print(&twice, again);
	BUG_ON(once.overflow || once.len != twice.len || memcmp(once.data, twice.data, once.len) != 0);
	json_release(again);
	buf_release(&once);
	buf_release(&twice);
}

static void check_words(const char *words)
{
	struct buf quoted = BUF_INIT(PRINT_MAX);
	struct err bad;
	const char *p;

	for (p = words; *p; p++)
		BUG_ON((unsigned char)*p < 0x20 || *p == 0x7f);
	json_print_string(&quoted, words, strlen(words));
	BUG_ON(json_scan(quoted.data, quoted.len, &bad));
	buf_release(&quoted);
}

/* A refusal says why, in well-formed UTF-8 without controls. */
static void check_refusal(const struct err *e)
{
	BUG_ON(e->code == ERR_NONE || !e->message[0]);
	check_words(e->message);
	check_words(e->param);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct err e = {0}, commented = {0};
	struct json_object *value = json_parse((const char *)bytes, len, &e);

	if (value)
		check(value);
	else
		check_refusal(&e);
	json_release(value);
	value = json_parse_with_comments((const char *)bytes, len, &commented);
	if (value)
		check(value);
	else
		check_refusal(&commented);
	BUG_ON(!value && e.code == ERR_NONE); /* what is JSON without comments is JSON with them */
	json_release(value);
	return 0;
}
