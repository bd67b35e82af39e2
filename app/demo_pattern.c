/* One walk along the expression: what it reads, it writes. */
#include "demo_pattern.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GROUPS = 32 /* within one another */, ASCII = 128 };

struct walk {
	const char *at;
	struct buf *out;
	int more, depth;
	bool beyond; /* us */
};

static const char digits[] = "0123456789", spaces[] = " \t\n\v\f\r";
static const char words[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

static void cut(struct buf *out, size_t len)
{
	if (out->len > len) {
		out->len = len;
		out->data[len] = '\0';
	}
}

/* ---- one character ---- */

/* The first of those that are liked, which most texts have; 0 if there is none. */
static char pick(const bool set[ASCII])
{
	const char *liked;
	char c;

	for (liked = words; *liked; liked++)
		if (set[(unsigned char)*liked])
			return *liked;
	for (c = '~'; c >= ' '; c--)
		if (set[(unsigned char)c])
			return c;
	return set['\n'] ? '\n' : set['\t'] ? '\t' : 0;
}

static void add(bool set[ASCII], const char *list, bool others)
{
	int c;

	for (c = 1; c < ASCII; c++)
		if ((strchr(list, c) != NULL) != others)
			set[c] = true;
}

/* What the letter behind a backslash stands for. False: it is beyond us. */
static bool add_escape(bool set[ASCII], char c)
{
	static const char names[] = "tnvfr", controls[] = "\t\n\v\f\r";
	const char *control = c ? strchr(names, c) : NULL;

	if (strchr("dD", c) && c)
		add(set, digits, c == 'D');
	else if (strchr("wW", c) && c)
		add(set, words, c == 'W');
	else if (strchr("sS", c) && c)
		add(set, spaces, c == 'S');
	else if (control)
		set[(unsigned char)controls[control - names]] = true;
	else if (!c || strchr(words, c) || (unsigned char)c >= ASCII)
		return false;
	else
		set[(unsigned char)c] = true;
	return true;
}

/* Behind the bracket that opens it; characters beyond ASCII are not chosen. */
static char walk_class(struct walk *w)
{
	bool set[ASCII] = {false}, chosen[ASCII] = {false}, negated = *w->at == '^';
	unsigned char from, to;
	int c;

	for (w->at += negated; *w->at && *w->at != ']';) {
		from = (unsigned char)*w->at++;
		if (from == '\\') {
			w->beyond |= !add_escape(set, *w->at);
			w->at += *w->at != '\0';
			continue;
		}
		to = from;
		if (w->at[0] == '-' && w->at[1] && w->at[1] != ']' && w->at[1] != '\\') {
			to = (unsigned char)w->at[1];
			w->at += 2;
		}
		for (c = from; c <= to && c < ASCII; c++)
			set[c] = true;
	}
	w->beyond |= *w->at != ']';
	w->at += *w->at == ']';
	for (c = 1; c < ASCII; c++)
		chosen[c] = set[c] != negated;
	return pick(chosen);
}

static void walk_escape(struct walk *w)
{
	bool set[ASCII] = {false};

	w->beyond |= !add_escape(set, *w->at);
	w->at += *w->at != '\0';
	if (!w->beyond)
		buf_addc(w->out, pick(set));
}

/* ---- what stands beside and behind one another ---- */

static void walk_alternatives(struct walk *w);

static void walk_group(struct walk *w)
{
	if (w->at[0] == '?' && w->at[1] == ':')
		w->at += 2;
	else if (*w->at == '?')
		w->beyond = true;
	if (++w->depth > MAX_GROUPS)
		w->beyond = true;
	if (!w->beyond)
		walk_alternatives(w);
	w->depth--;
	w->beyond |= *w->at != ')';
	w->at += *w->at == ')';
}

static void walk_atom(struct walk *w)
{
	char c = *w->at++;

	switch (c) {
	case '^':
	case '$': break;
	case '.': buf_addc(w->out, 'x'); break;
	case '(': walk_group(w); break;
	case '\\': walk_escape(w); break;
	case '[':
		c = walk_class(w);
		w->beyond |= !c;
		buf_addc(w->out, c);
		break;
	default:
		buf_addc(w->out, c);
		while (((unsigned char)*w->at & 0xc0) == 0x80)
			buf_addc(w->out, *w->at++);
	}
}

/* "{2}", "{2,}" or "{2,5}": where it ends; NULL if it is none of them. */
static const char *read_counts(const char *p, long *least, long *most)
{
	char *end;

	if (*p != '{' || !strchr(digits, p[1]) || !p[1])
		return NULL;
	*least = *most = strtol(p + 1, &end, 10);
	if (*end == ',')
		*most = end[1] == '}' ? INT_MAX : strtol(end + 1, &end, 10);
	if (*end == ',')
		end++;
	return *end == '}' ? end + 1 : NULL;
}

/* How often an atom that stands there is to be. */
static long walk_quantifier(struct walk *w)
{
	long least = 1, most = 1;
	const char *behind = read_counts(w->at, &least, &most);

	if (!behind && *w->at && strchr("*+?", *w->at)) {
		least = *w->at == '+';
		most = *w->at == '?' ? 1 : INT_MAX;
		behind = w->at + 1;
	}
	if (!behind)
		return 1;
	w->at = behind + (*behind == '?'); /* lazy */
	return most - least < w->more ? most : least + w->more;
}

static void walk_term(struct walk *w)
{
	size_t begin = w->out->len, len;
	struct buf once = BUF_INIT(w->out->max);
	long count;

	walk_atom(w);
	len = w->out->len - begin;
	count = walk_quantifier(w);
	buf_add(&once, w->out->data ? w->out->data + begin : "", len);
	cut(w->out, begin);
	for (; count > 0 && len && !w->out->overflow; count--)
		buf_add(w->out, once.data, len);
	buf_release(&once);
}

/* The first one is written, the others are only read. */
static void walk_alternatives(struct walk *w)
{
	size_t first = SIZE_MAX;

	while (*w->at && *w->at != ')' && !w->beyond) {
		if (*w->at != '|') {
			walk_term(w);
			continue;
		}
		w->at++;
		if (first == SIZE_MAX)
			first = w->out->len;
	}
	if (first != SIZE_MAX)
		cut(w->out, first);
}

bool pattern_example(struct buf *out, const char *pattern, int more)
{
	struct walk w = {.at = pattern, .out = out, .more = more};

	walk_alternatives(&w);
	return !w.beyond && !*w.at && !out->overflow;
}
