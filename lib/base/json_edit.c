/* Places are found in a copy whose comments are blanks, so that they are the same in the text itself. */
#include "base/json_edit.h"

#include "base/json_scan.h"

#define BLANK " \t\r\n"

/* Where it begins (in an object: its name), its value, and what follows that. */
struct element {
	size_t at, value, end;
};

/* What stands between two brackets. */
struct inside {
	size_t open, close;
	struct element first, second, last;
	size_t count, depth; /* depth 0: of the text's outermost */
};

struct edit {
	struct buf *text;
	struct buf plain; /* the copy */
	struct inside in; /* of the object or array that the path leads to */
};

static void blank_comments(struct buf *plain, const struct buf *text)
{
	const char *p, *next, *end = text->data + text->len;

	*plain = BUF_INIT(text->len);
	for (p = text->data; p < end; p = next) {
		next = json_comment_end(p, end);
		if (next) {
			for (; p < next; p++)
				buf_addc(plain, ' ');
		} else {
			next = *p == '"' ? json_string_end(p, end) : p + 1;
			buf_add(plain, p, (size_t)(next - p));
		}
	}
	if (plain->overflow)
		die("out of memory");
}

/* ---- finding ---- */

static size_t skip(const char *plain, size_t p, const char *what)
{
	return p + strspn(plain + p, what);
}

static size_t string_end(const struct buf *plain, size_t p)
{
	return (size_t)(json_string_end(plain->data + p, plain->data + plain->len) - plain->data);
}

static size_t value_end(const struct buf *plain, size_t p)
{
	size_t depth = 0;

	do {
		switch (plain->data[p]) {
		case '"': p = string_end(plain, p); break;
		case '{':
		case '[': depth++, p++; break;
		case '}':
		case ']': depth--, p++; break;
		default: p += depth ? 1 : strcspn(plain->data + p, BLANK ",]}");
		}
	} while (depth);
	return p;
}

/* The element behind a bracket or a comma at p. False at the end, which *e begins at then. */
static bool next_element(const struct buf *plain, size_t p, bool named, struct element *e)
{
	const char *s = plain->data;

	e->at = e->value = skip(s, p + 1, BLANK);
	if (s[e->at] == '}' || s[e->at] == ']')
		return false;
	if (named)
		e->value = skip(s, string_end(plain, e->at), BLANK ":");
	e->end = value_end(plain, e->value);
	return true;
}

static struct inside survey(const struct buf *plain, size_t open, size_t depth)
{
	struct inside in = {.open = open, .depth = depth};
	struct element e;
	size_t p = open;

	while (next_element(plain, p, plain->data[open] == '{', &e)) {
		if (in.count++ == 0)
			in.first = e;
		else if (in.count == 2)
			in.second = e;
		in.last = e;
		p = skip(plain->data, e.end, BLANK);
		if (plain->data[p] != ',')
			break;
	}
	in.close = in.count ? p : e.at;
	return in;
}

static bool is_name(const struct buf *plain, size_t at, const char *name)
{
	struct err err;
	struct json_object *written = json_parse(plain->data + at, string_end(plain, at) - at, &err);
	bool same = written && strcmp(json_object_get_string(written), name) == 0;

	json_object_put(written);
	return same;
}

static bool member(const struct buf *plain, const struct inside *in, const char *name, struct element *e)
{
	size_t p = in->open;

	while (p < in->close && next_element(plain, p, true, e)) {
		if (is_name(plain, e->at, name))
			return true;
		p = skip(plain->data, e->end, BLANK);
	}
	return false;
}

/* Leads the edit into the container of this kind that the first `steps` names of the path lead to. */
static bool enter(struct edit *e, const char *const *path, size_t steps, char bracket)
{
	struct element found;
	size_t i, at = skip(e->plain.data, 0, BLANK);

	e->in = survey(&e->plain, at, 0);
	for (i = 0; i < steps; i++) {
		if (e->plain.data[at] != '{' || !member(&e->plain, &e->in, path[i], &found))
			return false;
		at = found.value;
		if (e->plain.data[at] != '{' && e->plain.data[at] != '[')
			return false;
		e->in = survey(&e->plain, at, i + 1);
	}
	return e->plain.data[at] == bracket;
}

/* ---- changing ---- */

/* `with` takes the place of text[from, to). */
static void splice(struct buf *text, size_t from, size_t to, const char *with, size_t len)
{
	struct buf out = BUF_INIT(text->max);

	buf_add(&out, text->data, from);
	buf_add(&out, with, len);
	buf_add(&out, text->data + to, text->len - to);
	out.overflow |= text->overflow;
	buf_release(text);
	*text = out;
}

static const char *line_feed(const struct edit *e)
{
	return memmem(e->text->data, e->text->len, "\r\n", 2) ? "\r\n" : "\n";
}

static void add_tabs(struct buf *out, size_t n)
{
	while (n--)
		buf_addc(out, '\t');
}

/* Between the brackets there are blanks and comments at most. */
static void insert_only(struct edit *e, const char *element)
{
	const char *text = e->text->data;
	bool lines = e->in.depth == 0 || memchr(text + e->in.open, '\n', e->in.close - e->in.open);
	struct buf with = BUF_INIT(e->text->max);
	size_t at = e->in.close, behind;

	while (strchr(BLANK, text[at - 1]))
		at--;
	behind = at;
	if (lines) {
		buf_adds(&with, line_feed(e));
		add_tabs(&with, e->in.depth + 1);
	} else if (at > e->in.open + 1) {
		buf_addc(&with, ' ');
	}
	buf_adds(&with, element);
	if (lines && !memchr(text + at, '\n', e->in.close - at)) {
		buf_adds(&with, line_feed(e));
		add_tabs(&with, e->in.depth);
		behind = e->in.close;
	}
	splice(e->text, at, behind, with.data, with.len);
	buf_release(&with);
}

/* Where the line of the last element begins, if nothing but blanks and comments stands before it there. */
static bool own_line(const struct edit *e, size_t *line)
{
	size_t p = e->in.last.at;

	while (p > e->in.open + 1 && (e->plain.data[p - 1] == ' ' || e->plain.data[p - 1] == '\t') &&
		e->text->data[p - 1] != '\n')
		p--;
	*line = p;
	return e->text->data[p - 1] == '\n';
}

/* The end of the line that the last element ends on, or of what stands there before the bracket closes. */
static size_t line_end(const struct edit *e)
{
	size_t p = skip(e->plain.data, e->in.last.end, " \t\r");

	if (e->text->data[p] == '\n')
		return p - (e->text->data[p - 1] == '\r');
	while (p > e->in.last.end && strchr(BLANK, e->text->data[p - 1]))
		p--;
	return p;
}

/* In lines of their own: what is written behind the last one stays with it. */
static void insert_behind(struct edit *e, const char *element)
{
	struct buf with = BUF_INIT(e->text->max);
	size_t line, at = e->in.last.end, indent;

	buf_addc(&with, ',');
	if (own_line(e, &line)) {
		at = line_end(e);
		buf_add(&with, e->text->data + e->in.last.end, at - e->in.last.end);
		buf_adds(&with, line_feed(e));
		indent = strspn(e->text->data + line, " \t");
		buf_add(&with, e->text->data + line, indent);
	} else {
		buf_addc(&with, ' ');
	}
	buf_adds(&with, element);
	splice(e->text, e->in.last.end, at, with.data, with.len);
	buf_release(&with);
}

static void insert(struct edit *e, const char *element)
{
	if (e->in.count)
		insert_behind(e, element);
	else
		insert_only(e, element);
}

static void begin(struct edit *e, struct buf *text)
{
	*e = (struct edit){.text = text};
	blank_comments(&e->plain, text);
}

static bool end(struct edit *e, bool done)
{
	buf_release(&e->plain);
	return done && !e->text->overflow;
}

static void set_member(struct edit *e, const char *name, const char *value)
{
	struct buf with = BUF_INIT(e->text->max);
	struct element found;

	if (member(&e->plain, &e->in, name, &found)) {
		splice(e->text, found.value, found.end, value, strlen(value));
		return;
	}
	json_print_string(&with, name, strlen(name));
	buf_printf(&with, ": %s", value);
	insert(e, with.data);
	buf_release(&with);
}

bool json_edit_set(struct buf *text, const char *const *path, const char *value)
{
	size_t steps = 0;
	struct edit e;

	while (path[steps + 1])
		steps++;
	begin(&e, text);
	if (!enter(&e, path, steps, '{'))
		return end(&e, false);
	set_member(&e, path[steps], value);
	return end(&e, true);
}

static size_t length(const char *const *path)
{
	size_t n = 0;

	while (path[n])
		n++;
	return n;
}

bool json_edit_append(struct buf *text, const char *const *path, const char *value)
{
	struct edit e;

	begin(&e, text);
	if (!enter(&e, path, length(path), '['))
		return end(&e, false);
	insert(&e, value);
	return end(&e, true);
}

bool json_edit_drop_first(struct buf *text, const char *const *path)
{
	struct edit e;

	begin(&e, text);
	if (!enter(&e, path, length(path), '[') || e.in.count < 2)
		return end(&e, false);
	splice(text, e.in.first.at, e.in.second.at, "", 0);
	return end(&e, true);
}
