/* What is said about a misfit goes into a log: bounded, one line, and never a word of the answer itself. */
#include "wire/schema_run.h"

#include <stdio.h>

/* Takes whole words for as long as they fit; then an ellipsis ends it. */
struct line {
	char *text;
	size_t len, max;
	bool full;
};

static const char ellipsis[] = "…";

static struct line line_of(char *text, size_t size)
{
	text[0] = '\0';
	return (struct line){text, 0, size - sizeof(ellipsis), false};
}

/* Writes what stands for the character at p; returns how many bytes that was. A line cannot hold controls. */
static size_t spell(const char *p, bool in_pointer, char out[5])
{
	unsigned char c = (unsigned char)*p;
	size_t n = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

	if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)p[1] < 0xa0))
		snprintf(out, 5, "?");
	else if (in_pointer && (c == '~' || c == '/'))
		snprintf(out, 5, "~%c", c == '~' ? '0' : '1');
	else
		snprintf(out, 5, "%.*s", (int)n, p);
	return n;
}

static void line_end(struct line *line)
{
	memcpy(line->text + line->len, ellipsis, sizeof(ellipsis));
	line->full = true;
}

static void line_add(struct line *line, const char *word, bool in_pointer)
{
	size_t len = line->len;
	char piece[5];

	while (!line->full && *word) {
		word += spell(word, in_pointer, piece);
		if (len + strlen(piece) > line->max) {
			line_end(line);
			return;
		}
		memcpy(line->text + len, piece, strlen(piece));
		len += strlen(piece);
	}
	if (line->full)
		return;
	line->text[len] = '\0';
	line->len = len;
}

static void line_add_token(struct line *line, const char *name)
{
	line_add(line, "/", false);
	line_add(line, name, true);
}

static void line_add_index(struct line *line, size_t index)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%zu", index);
	line_add_token(line, digits);
}

/* The ways are as deep as JSON may be, no deeper. */
static void add_spot(struct line *line, const struct schema_spot *spot)
{
	if (!spot->up)
		return;
	add_spot(line, spot->up);
	if (spot->name)
		line_add_token(line, spot->name);
	else
		line_add_index(line, spot->index);
}

static void add_node(struct line *line, const struct schema_node *node)
{
	if (!node->parent) {
		line_add(line, node->keyword, false);
		return;
	}
	add_node(line, node->parent);
	line_add_token(line, node->keyword);
	if (node->name)
		line_add_token(line, node->name);
	else if (node->index >= 0)
		line_add_index(line, (size_t)node->index);
}

/* `text` with `word` in the place of %s. */
static void write_reason(struct schema_report *report, const char *text, const char *word)
{
	struct line line = line_of(report->reason, sizeof(report->reason));
	const char *gap = strstr(text, "%s");
	char before[sizeof(report->reason)];

	snprintf(before, sizeof(before), "%.*s", gap ? (int)(gap - text) : (int)strlen(text), text);
	line_add(&line, before, false);
	if (!gap)
		return;
	line_add(&line, word, false);
	line_add(&line, gap + 2, false);
}

bool schema_misfit(struct schema_run *run, const struct schema_spot *spot, const char *text, const char *word)
{
	struct line place;

	if (run->trying || run->stuck)
		return false;
	place = line_of(run->report->place, sizeof(run->report->place));
	add_spot(&place, spot);
	write_reason(run->report, text, word);
	return false;
}

bool schema_stuck(struct schema_run *run, const struct schema_node *node, const char *keyword, const char *text)
{
	struct line place;

	if (run->stuck)
		return false;
	run->stuck = true;
	place = line_of(run->report->place, sizeof(run->report->place));
	if (node)
		add_node(&place, node);
	if (keyword)
		line_add_token(&place, keyword);
	write_reason(run->report, text, "");
	return false;
}
