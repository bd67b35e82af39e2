/*
 * Regular expressions are ECMA-262's in JSON Schema; PCRE2 is what is packaged. What both spell is translated, piece by
 * piece, so that nothing which is PCRE2's alone gets in (verbs, options, possessive quantifiers, POSIX classes, \A …);
 * the rest is refused: back-references, whose groups behave differently in loops, options in groups, long names of
 * properties. Every item that PCRE2 tries is charged, which its own limits do not do: they count no scans.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "wire/schema_run.h"

#include <pcre2.h>
#include <stdlib.h>

/* ── Translation ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* ECMA-262 §12.2 and §12.3, and all the others: inside brackets. */
#define SPACES "\\x09-\\x0d\\x20\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}\\x{feff}"
#define NO_SPACES \
	"\\x00-\\x08\\x0e-\\x1f\\x21-\\x9f\\xa1-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}" \
	"\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{fefe}\\x{ff00}-\\x{10ffff}"

enum atom_kind { ATOM_CHARACTER, ATOM_SET, ATOM_BAD };

struct atom {
	enum atom_kind kind;
	uint32_t character;
	char set[64 + sizeof(NO_SPACES)]; /* as it stands inside brackets */
};

enum { MAX_GROUPS = 250 }; /* within one another: PCRE2's own limit */

struct translation {
	const char *p, *end;
	struct buf out;
	int groups;
	bool assertion[MAX_GROUPS]; /* whether an open group looks ahead or behind */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool next_is(const struct translation *t, char c)
{
	return t->p < t->end && *t->p == c;
}

static bool skip(struct translation *t, const char *text)
{
	size_t len = strlen(text);

	if ((size_t)(t->end - t->p) < len || memcmp(t->p, text, len) != 0)
		return false;
	t->p += len;
	return true;
}

/* The text has passed json_scan(): its UTF-8 is well-formed. */
static uint32_t read_character(struct translation *t)
{
	unsigned char c = (unsigned char)*t->p++;
	uint32_t character = c < 0xc0 ? c : c < 0xe0 ? c & 0x1f : c < 0xf0 ? c & 0x0f : c & 0x07;

	while (c >= 0xc0 && t->p < t->end && (*t->p & 0xc0) == 0x80)
		character = character << 6 | (*t->p++ & 0x3f);
	return character;
}

static void write_character(struct buf *out, uint32_t character)
{
	if (character < 0x80 && (is_letter((char)character) || is_digit((char)character)))
		buf_addc(out, (char)character);
	else
		buf_printf(out, character < 0x100 ? "\\x%02x" : "\\x{%x}", character);
}

/* From min to max hexadecimal digits; false if there are fewer. */
static bool read_hex(struct translation *t, int min, int max, uint32_t *out)
{
	int n;

	*out = 0;
	for (n = 0; n < max && t->p < t->end && (is_digit(*t->p) || (is_letter(*t->p) && (*t->p | 0x20) <= 'f')); n++) {
		*out = *out << 4 | (uint32_t)(is_digit(*t->p) ? *t->p - '0' : (*t->p | 0x20) - 'a' + 10);
		t->p++;
	}
	return n >= min;
}

/* Behind \u: XXXX, a pair of surrogates, or {X…}. */
static bool read_unicode(struct translation *t, uint32_t *out)
{
	uint32_t low;

	if (skip(t, "{"))
		return read_hex(t, 1, 6, out) && skip(t, "}") && *out <= 0x10ffff && (*out & 0xfffff800) != 0xd800;
	if (!read_hex(t, 4, 4, out))
		return false;
	if ((*out & 0xfffff800) != 0xd800)
		return true;
	if (*out >= 0xdc00 || !skip(t, "\\u") || !read_hex(t, 4, 4, &low) || (low & 0xfffffc00) != 0xdc00)
		return false;
	*out = 0x10000 + ((*out & 0x3ff) << 10 | (low & 0x3ff));
	return true;
}

/* Behind \p or \P: the short names and the scripts are PCRE2's too; an unknown one is found when it compiles. */
static bool read_property(struct translation *t, char letter, struct atom *a)
{
	const char *name;
	struct buf set = BUF_INIT(sizeof(a->set) - 1);

	if (!skip(t, "{"))
		return false;
	for (name = t->p; t->p < t->end && (is_letter(*t->p) || is_digit(*t->p) || *t->p == '_' || *t->p == '=');)
		t->p++;
	buf_printf(&set, "\\%c{%.*s}", letter, (int)(t->p - name), name);
	if (!set.overflow)
		memcpy(a->set, set.data, set.len + 1);
	a->kind = set.overflow || !skip(t, "}") ? ATOM_BAD : ATOM_SET;
	buf_release(&set);
	return a->kind == ATOM_SET;
}

static const struct {
	char letter;
	uint32_t character; /* or, if 0, */
	const char *set;
} escapes[] = {
	{'t', '\t', NULL},
	{'n', '\n', NULL},
	{'v', '\v', NULL},
	{'f', '\f', NULL},
	{'r', '\r', NULL},
	{'d', 0, "\\d"}, /* without PCRE2_UCP these two are ASCII's, as in ECMA-262 */
	{'D', 0, "\\D"},
	{'w', 0, "\\w"},
	{'W', 0, "\\W"},
	{'s', 0, SPACES},
	{'S', 0, NO_SPACES},
};

/* Behind a backslash; what only stands outside of brackets (\b, \B) has been taken. */
static bool read_escape(struct translation *t, struct atom *a)
{
	char c = *t->p++;
	size_t i;

	a->kind = ATOM_CHARACTER;
	for (i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++) {
		if (escapes[i].letter != c)
			continue;
		a->character = escapes[i].character;
		if (escapes[i].set) {
			a->kind = ATOM_SET;
			memcpy(a->set, escapes[i].set, strlen(escapes[i].set) + 1);
		}
		return true;
	}
	a->character = (unsigned char)c;
	switch (c) {
	case '0': a->character = 0; return t->p == t->end || !is_digit(*t->p);
	case 'x': return read_hex(t, 2, 2, &a->character);
	case 'u': return read_unicode(t, &a->character);
	case 'p':
	case 'P': return read_property(t, c, a);
	case 'c':
		if (t->p == t->end || !is_letter(*t->p))
			return false;
		a->character = *t->p++ & 0x1f;
		return true;
	default: return c >= 0x20 && c < 0x7f && !is_letter(c) && !is_digit(c);
	}
}

/* One member of a class. */
static bool read_class_atom(struct translation *t, struct atom *a)
{
	a->kind = ATOM_CHARACTER;
	if (!skip(t, "\\")) {
		a->character = read_character(t);
		return true;
	}
	if (t->p == t->end)
		return false;
	a->character = '\b';
	return skip(t, "b") || read_escape(t, a);
}

static void write_class_atom(struct buf *out, const struct atom *a)
{
	if (a->kind == ATOM_SET)
		buf_adds(out, a->set);
	else
		write_character(out, a->character);
}

/* Behind the opening bracket. */
static bool translate_class(struct translation *t)
{
	struct atom from, to;

	/* PCRE2 does not repeat its own empty class */
	if (skip(t, "^]")) {
		buf_adds(&t->out, "[\\x00-\\x{10ffff}]");
		return true;
	}
	if (skip(t, "]")) {
		buf_adds(&t->out, "[^\\x00-\\x{10ffff}]");
		return true;
	}
	buf_adds(&t->out, skip(t, "^") ? "[^" : "[");
	while (t->p < t->end && !next_is(t, ']')) {
		if (!read_class_atom(t, &from))
			return false;
		write_class_atom(&t->out, &from);
		if (t->end - t->p < 2 || t->p[0] != '-' || t->p[1] == ']')
			continue;
		t->p++;
		if (!read_class_atom(t, &to))
			return false;
		/* a hyphen beside a set is a hyphen (ECMA-262 appendix B) */
		buf_adds(&t->out, from.kind == ATOM_CHARACTER && to.kind == ATOM_CHARACTER ? "-" : "\\x2d");
		write_class_atom(&t->out, &to);
	}
	buf_adds(&t->out, "]");
	return skip(t, "]");
}

/* Behind the opening parenthesis: no group is ever referred to, so that none need capture. */
static bool translate_group(struct translation *t)
{
	static const char *const heads[] = {"?:", "?=", "?!", "?<=", "?<!"};
	size_t i;

	if (t->groups == MAX_GROUPS)
		return false;
	buf_adds(&t->out, "(");
	for (i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (skip(t, heads[i])) {
			buf_adds(&t->out, heads[i]);
			t->assertion[t->groups++] = i > 0;
			return true;
		}
	buf_adds(&t->out, "?:");
	t->assertion[t->groups++] = false;
	if (!skip(t, "?"))
		return true;
	if (!skip(t, "<") || t->p == t->end || is_digit(*t->p))
		return false;
	while (t->p < t->end && (is_letter(*t->p) || is_digit(*t->p) || *t->p == '_' || *t->p == '$'))
		t->p++;
	return t->p[-1] != '<' && skip(t, ">");
}

/* The length of {n}, {n,} or {n,m} at p; 0 if that is not what stands there. */
static size_t counted(const struct translation *t)
{
	const char *p = t->p;

	if (p == t->end || *p != '{' || ++p == t->end || !is_digit(*p))
		return 0;
	while (p < t->end && is_digit(*p))
		p++;
	if (p < t->end && *p == ',')
		for (p++; p < t->end && is_digit(*p);)
			p++;
	return p < t->end && *p == '}' ? (size_t)(p + 1 - t->p) : 0;
}

static size_t quantifier(const struct translation *t)
{
	return t->p < t->end && strchr("*+?", *t->p) && *t->p ? 1 : counted(t);
}

/* Behind what it repeats. Another one behind it would mean something to PCRE2 alone. */
static bool translate_quantifier(struct translation *t)
{
	size_t n = quantifier(t);

	if (!n)
		return true;
	buf_add(&t->out, t->p, n);
	t->p += n;
	if (skip(t, "?"))
		buf_adds(&t->out, "?");
	return !quantifier(t);
}

/* An assertion cannot be repeated. */
static bool translate_group_end(struct translation *t)
{
	if (!t->groups)
		return false;
	t->p++;
	buf_addc(&t->out, ')');
	return t->assertion[--t->groups] ? !quantifier(t) : translate_quantifier(t);
}

static bool translate_escape(struct translation *t)
{
	struct atom a;

	if (t->p == t->end)
		return false;
	if (next_is(t, 'b') || next_is(t, 'B')) {
		buf_addc(&t->out, '\\');
		buf_addc(&t->out, *t->p++);
		return !quantifier(t);
	}
	if (!read_escape(t, &a))
		return false;
	if (a.kind == ATOM_SET)
		buf_printf(&t->out, "[%s]", a.set);
	else
		write_character(&t->out, a.character);
	return translate_quantifier(t);
}

static bool translate_item(struct translation *t)
{
	if (quantifier(t))
		return false; /* it has nothing to repeat */
	switch (*t->p) {
	case '(': t->p++; return translate_group(t);
	case '[': t->p++; return translate_class(t) && translate_quantifier(t);
	case '\\': t->p++; return translate_escape(t);
	case ')': return translate_group_end(t);
	case '|':
	case '^':
	case '$': buf_addc(&t->out, *t->p++); return true;
	case '.':
		t->p++;
		buf_adds(&t->out, "[^\\n\\r\\x{2028}\\x{2029}]");
		return translate_quantifier(t);
	default: write_character(&t->out, read_character(t)); return translate_quantifier(t);
	}
}

/* ── Compiling and matching ──────────────────────────────────────────────────────────────────────────────────────── */

struct schema_matcher {
	pcre2_match_context *context;
	pcre2_match_data *data;
	const char *pattern; /* the translation of the one that is being matched */
	struct schema_run *run;
};

struct compiled {
	pcre2_code *code;
	const char *text; /* the translation, which callouts point into; the arena's */
};

static void free_code(void *code)
{
	pcre2_code_free(code);
}

static void free_matcher(void *m)
{
	pcre2_match_data_free(((struct schema_matcher *)m)->data);
	pcre2_match_context_free(((struct schema_matcher *)m)->context);
}

static const char *compile(struct schema_run *run, const char *pattern, const struct buf *text)
{
	const uint32_t options = PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT;
	struct compiled *c = arena_alloc(&run->arena, sizeof(*c));
	size_t bytes = 0, at;
	int error;

	c->text = arena_strndup(&run->arena, text->data ? text->data : "", text->len);
	c->code = pcre2_compile((PCRE2_SPTR)c->text, text->len, options, &error, &at, NULL);
	if (!c->code)
		return "is an expression that cannot be compiled here";
	arena_defer(&run->arena, free_code, c->code);
	if (lh_table_insert(run->patterns, pattern, c))
		die("out of memory");
	pcre2_pattern_info(c->code, PCRE2_INFO_SIZE, &bytes);
	schema_charge(run, bytes / 8);
	return NULL;
}

const char *schema_pattern_add(struct schema_run *run, const char *pattern, size_t len)
{
	struct translation t = {.p = pattern, .end = pattern + len, .out = BUF_INIT(64 * SCHEMA_MAX_PATTERN)};
	const char *wrong = NULL;

	if (len > SCHEMA_MAX_PATTERN)
		return "is an expression that is too long";
	if (!schema_charge(run, 64 + 4 * len))
		return NULL;
	while (t.p < t.end && !wrong)
		if (!translate_item(&t))
			wrong = "is an expression with a construct that is not judged here";
	if (!wrong && t.out.overflow)
		wrong = "is an expression that is too long";
	if (!wrong)
		wrong = compile(run, pattern, &t.out);
	buf_release(&t.out);
	return wrong;
}

/*
 * Called before each item is tried. Until the next call PCRE2 does no more than that item asks for: a repeated one may
 * go over the rest of the text, and a class may look through all of its ranges for every character.
 */
static int count_item(pcre2_callout_block *block, void *data)
{
	struct schema_matcher *m = data;
	size_t len = block->next_item_length, steps = 1 + len / 64;

	if (len && strchr("*+?}", m->pattern[block->pattern_position + len - 1]))
		steps += (block->subject_length - block->current_position) / 16 * steps;
	return schema_charge(m->run, steps) ? 0 : PCRE2_ERROR_CALLOUT;
}

static struct schema_matcher *matcher_of(struct schema_run *run)
{
	struct schema_matcher *m = run->matcher;

	if (m)
		return m;
	m = arena_alloc(&run->arena, sizeof(*m));
	m->run = run;
	m->context = pcre2_match_context_create(NULL);
	m->data = pcre2_match_data_create(1, NULL);
	if (!m->context || !m->data)
		die("out of memory");
	arena_defer(&run->arena, free_matcher, m);
	pcre2_set_callout(m->context, count_item, m);
	pcre2_set_match_limit(m->context, SCHEMA_MAX_STEPS);
	pcre2_set_heap_limit(m->context, SCHEMA_HEAP_BYTES / 1024);
	run->matcher = m;
	return m;
}

bool schema_pattern_matches(struct schema_run *run, const char *pattern, const char *text, size_t len)
{
	struct schema_matcher *m = matcher_of(run);
	void *found = NULL;
	int rc;

	if (!schema_charge_text(run, len))
		return false;
	lh_table_lookup_ex(run->patterns, pattern, &found);
	BUG_ON(!found);
	m->pattern = ((struct compiled *)found)->text;
	rc = pcre2_match(((struct compiled *)found)->code, (PCRE2_SPTR)text, len, 0, 0, m->data, m->context);
	if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
		schema_stuck(run, NULL, NULL, "has an expression that takes more than its bounds to match");
	return rc >= 0;
}
