/* Both ends are the same program, started once: numbers travel as they lie in memory, strings with their NUL. */
#include "gate/note.h"

#include <string.h>

/* What of a note is not strings. */
struct head {
	struct ledger_id id;
	int64_t sent_us, at_s, from_s, to_s;
	uint64_t hold;
	struct ledger_amounts amounts;
	uint32_t counted;
	uint8_t kind, usd;
};

struct tail {
	uint64_t generation;
	int64_t amount, spent;
	bool doubtful;
};

struct cursor {
	char *at, *end; /* at NULL: it did not fit, or was too short */
};

static void put(struct cursor *c, const void *bytes, size_t len)
{
	if (!c->at || len > (size_t)(c->end - c->at)) {
		c->at = NULL;
		return;
	}
	memcpy(c->at, bytes, len);
	c->at += len;
}

/* 'n' for NULL, else 's' and the text. */
static void put_text(struct cursor *c, const char *text)
{
	put(c, text ? "s" : "n", 1);
	if (text)
		put(c, text, strlen(text) + 1);
}

static void get(struct cursor *c, void *bytes, size_t len)
{
	if (!c->at || len > (size_t)(c->end - c->at)) {
		c->at = NULL;
		memset(bytes, 0, len);
		return;
	}
	memcpy(bytes, c->at, len);
	c->at += len;
}

static const char *get_text(struct cursor *c)
{
	const char *text;
	char *end;
	char mark;

	get(c, &mark, 1);
	if (mark != 's')
		return NULL;
	text = c->at;
	end = c->at ? memchr(c->at, '\0', (size_t)(c->end - c->at)) : NULL;
	c->at = end ? end + 1 : NULL;
	return end ? text : NULL;
}

static void put_who(struct cursor *c, const struct ledger_who *who)
{
	put_text(c, who->key);
	put_text(c, who->team);
	put_text(c, who->user);
	put_text(c, who->ip);
	put_text(c, who->model);
}

static struct ledger_who get_who(struct cursor *c)
{
	struct ledger_who who;

	who.key = get_text(c);
	who.team = get_text(c);
	who.user = get_text(c);
	who.ip = get_text(c);
	who.model = get_text(c);
	return who;
}

size_t note_print(const struct note *n, char out[QUEUE_MESSAGE])
{
	struct head head;
	struct tail tail;
	struct cursor c = {out, out + QUEUE_MESSAGE};
	size_t i;

	memset(&head, 0, sizeof(head)); /* its padding travels too */
	head.id = n->id;
	head.sent_us = n->sent_us;
	head.at_s = n->at_s;
	head.from_s = n->count.from_s;
	head.to_s = n->count.to_s;
	head.hold = n->hold;
	head.amounts = n->amounts;
	head.counted = (uint32_t)n->counted_count;
	head.kind = (uint8_t)n->kind;
	head.usd = n->count.usd;
	put(&c, &head, sizeof(head));
	put_who(&c, n->kind == NOTE_WANT ? &n->count.who : &n->who);
	put_text(&c, n->count.counter);
	for (i = 0; i < n->counted_count; i++) {
		memset(&tail, 0, sizeof(tail));
		tail.generation = n->counted[i].generation;
		tail.amount = n->counted[i].amount;
		tail.spent = n->counted[i].spent;
		tail.doubtful = n->counted[i].doubtful;
		put_text(&c, n->counted[i].counter);
		put(&c, &tail, sizeof(tail));
	}
	return c.at ? (size_t)(c.at - out) : 0;
}

bool note_read(struct note *n, const char *message, size_t len)
{
	struct cursor c = {(char *)message, (char *)message + len};
	struct head head;
	struct tail tail;
	size_t i;

	get(&c, &head, sizeof(head));
	if (!c.at || head.kind > NOTE_WANT || head.counted > NOTE_COUNTED)
		return false;
	*n = (struct note){.kind = head.kind,
		.id = head.id,
		.sent_us = head.sent_us,
		.hold = head.hold,
		.at_s = head.at_s,
		.amounts = head.amounts,
		.counted_count = head.counted};
	n->who = get_who(&c);
	n->count = (struct ledger_count){.usd = head.usd, .who = n->who, .from_s = head.from_s, .to_s = head.to_s};
	n->count.counter = get_text(&c);
	for (i = 0; i < head.counted; i++) {
		n->counted[i].counter = get_text(&c);
		get(&c, &tail, sizeof(tail));
		n->counted[i].generation = tail.generation;
		n->counted[i].amount = tail.amount;
		n->counted[i].spent = tail.spent;
		n->counted[i].doubtful = tail.doubtful;
	}
	return c.at == c.end && (n->kind != NOTE_WANT || n->count.counter);
}
