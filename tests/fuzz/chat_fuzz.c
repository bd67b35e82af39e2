/* A body is refused with a reason, or it is a request: with a hash that our own edits do not change, sent as it is.
 * What it asks for can be measured. */
#include "wire/canon.h"
#include "wire/chat.h"
#include "wire/measure.h"

#include <stdlib.h>

enum { PRINT_MAX = 1 << 26 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* What was sent is what was hashed, also for whoever reads it. */
static void check_views(struct json_object *body)
{
	struct canon_edits edits = {.model = "real", .include_usage = true};
	struct buf before = BUF_INIT(PRINT_MAX), sent = BUF_INIT(PRINT_MAX), after = BUF_INIT(PRINT_MAX);
	struct json_object *again;
	struct chat chat;
	struct err e = {0};

	canon_hashed(&before, body);
	canon_sent(&sent, body, &edits);
	again = json_parse(sent.data, sent.len, &e);
	BUG_ON(!again);
	canon_hashed(&after, again);
	BUG_ON(before.overflow || before.len != after.len || memcmp(before.data, after.data, before.len) != 0);
	BUG_ON(strcmp(json_get_str(again, "model"), "real") != 0);
	if (json_get_bool(again, "stream", false))
		BUG_ON(chat_read(&chat, again, &e) != 0 || !chat.include_usage);
	json_release(again);
	buf_release(&before);
	buf_release(&sent);
	buf_release(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct err e = {0};
	struct json_object *body = json_parse((const char *)bytes, len, &e);
	struct measure m;
	struct chat chat;

	if (body && chat_read(&chat, body, &e) == 0) {
		BUG_ON(e.code != ERR_NONE || chat.body != body || !chat.model);
		measure_chat(&m, body);
		BUG_ON(m.text <= 0 || m.answers < 1 || m.answers < chat.choices || m.cap < 0);
		check_views(body);
	} else {
		BUG_ON(e.code == ERR_NONE || !e.message[0] || err_kind(e.code)->status != 400);
	}
	json_release(body);
	return 0;
}
