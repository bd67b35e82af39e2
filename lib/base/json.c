/* json-c holds the values; what comes in is checked before it sees it, and what goes out is spelled here. */
#include "base/json_scan.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json_tokener.h>
#include <math.h>
#include <stdlib.h>

/* ── In ──────────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The text has passed the scan: that json-c does not read it is a bug, here or there. */
enum { TOKENER_KEEP = 64 * 1024 /* bytes of text */ };

static struct json_object *parse_scanned(const char *text, size_t len)
{
	static struct json_tokener *tok; /* one for the process: making it costs as much as parsing a kilobyte */
	struct json_object *value;

	if (!tok)
		tok = json_tokener_new_ex(JSON_MAX_DEPTH + 1); /* the scalar inside is a level, too */
	if (!tok)
		die("out of memory");
	json_tokener_reset(tok);
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	errno = 0;
	value = json_tokener_parse_ex(tok, text, (int)len);
	if (json_tokener_get_error(tok) == json_tokener_continue) /* a bare number or word may go on, until told */
		value = json_tokener_parse_ex(tok, " ", 1);
	if (json_tokener_get_error(tok) != json_tokener_success && errno == ENOMEM)
		die("out of memory");
	BUG_ON(json_tokener_get_error(tok) != json_tokener_success);
	if (len > TOKENER_KEEP) { /* it has grown with the longest string */
		json_tokener_free(tok);
		tok = NULL;
	}
	return value;
}

/*
 * json-c 0.16 takes some characters that are escaped as a pair for surrogates themselves (all whose last four digits
 * are D800 to DFFF: U+1D800, U+2DC00 …), and loses them or refuses the text. So it gets to see no pairs.
 */
struct json_object *json_parse_within(const char *text, size_t len, size_t max_weight, struct err *err)
{
	struct buf plain = BUF_INIT(len);
	struct json_findings found;
	struct json_object *value;
	int rc = json_scan_find(text, len, err, &found);

	if (rc && err->code == ERR_INVALID_JSON)
		return NULL;
	if (found.weight > max_weight) {
		err_set(err, ERR_BODY_TOO_LARGE, NULL,
			"The JSON has so many values that it would take about %zu MB of memory; at most %zu MB are allowed.",
			found.weight >> 20, max_weight >> 20);
		return NULL;
	}
	if (rc)
		return NULL;
	if (found.has_pairs) {
		json_write_out_pairs(&plain, text, len);
		if (plain.overflow)
			die("out of memory");
		text = plain.data;
		len = plain.len;
	}
	value = parse_scanned(text, len);
	buf_release(&plain);
	if (!value)
		err_set(err, ERR_INVALID_TYPE, NULL, "The JSON text is null, where a value was expected.");
	return value;
}

struct json_object *json_parse(const char *text, size_t len, struct err *err)
{
	return json_parse_within(text, len, SIZE_MAX, err);
}

struct json_object *json_parse_leniently(const char *text, size_t len, size_t max_weight)
{
	struct json_tokener *tok;
	struct json_object *value;

	if (len > INT32_MAX || len > max_weight / WEIGHT_PER_BYTE)
		return NULL;
	tok = json_tokener_new_ex(JSON_MAX_DEPTH + 1);
	if (!tok)
		die("out of memory");
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	value = json_tokener_parse_ex(tok, text, (int)len);
	if (json_tokener_get_error(tok) != json_tokener_success) {
		json_object_put(value);
		value = NULL;
	}
	json_tokener_free(tok);
	return value;
}

const char *json_comment_end(const char *p, const char *end)
{
	const char *stop;

	if (end - p < 2 || p[0] != '/')
		return NULL;
	if (p[1] == '/') {
		stop = memchr(p, '\n', (size_t)(end - p));
		return stop ? stop : end;
	}
	if (p[1] != '*')
		return NULL;
	stop = memmem(p + 2, (size_t)(end - p) - 2, "*/", 2);
	return stop ? stop + 2 : NULL;
}

/* Line feeds stay and every other character becomes one space, so that line and column hold. */
static void add_blank(struct buf *out, const char *p, const char *end)
{
	for (; p < end; p++)
		if (*p == '\n')
			buf_addc(out, '\n');
		else if ((*p & 0xc0) != 0x80)
			buf_addc(out, ' ');
}

const char *json_string_end(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\' && end - p > 1)
			p++;
	return p < end ? p + 1 : end;
}

struct json_object *json_parse_with_comments(const char *text, size_t len, struct err *err)
{
	const char *p = text, *end = text + len, *next;
	struct buf plain = BUF_INIT(len);
	struct json_object *value;

	for (; p < end; p = next) {
		next = json_comment_end(p, end);
		if (next) {
			add_blank(&plain, p, next);
			continue;
		}
		next = *p == '"' ? json_string_end(p, end) : p + 1;
		buf_add(&plain, p, (size_t)(next - p));
	}
	if (plain.overflow)
		die("out of memory");
	value = json_parse(plain.data ? plain.data : "", plain.len, err);
	buf_release(&plain);
	return value;
}

/* ── Out ─────────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* RFC 8785 §3.2.2.2 */
void json_print_string(struct buf *out, const char *s, size_t len)
{
	static const char letters[] = {
		['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r', ['"'] = '"', ['\\'] = '\\'};
	const char *end = s + len, *run = s;
	unsigned char c;

	buf_addc(out, '"');
	for (s = json_skip_plain(s, end); s < end; s = json_skip_plain(s + 1, end)) {
		c = (unsigned char)*s;
		if (c >= 0x80)
			continue;
		buf_add(out, run, (size_t)(s - run));
		run = s + 1;
		if (letters[c]) {
			buf_addc(out, '\\');
			buf_addc(out, letters[c]);
		} else {
			buf_printf(out, "\\u%04x", c);
		}
	}
	buf_add(out, run, (size_t)(s - run));
	buf_addc(out, '"');
}

static void print_integer(struct buf *out, struct json_object *value)
{
	int64_t n = json_object_get_int64(value);

	if (n == INT64_MAX) /* or more: what only an unsigned one holds saturates */
		buf_printf(out, "%" PRIu64, json_object_get_uint64(value));
	else
		buf_printf(out, "%" PRId64, n);
}

/* Only json_parse_leniently() lets in what is no number; ECMAScript's JSON.stringify() makes the same of it. */
static void print_number(struct buf *out, double d)
{
	if (isfinite(d))
		json_print_double(out, d);
	else
		buf_adds(out, "null");
}

static void print_array(struct buf *out, struct json_object *array)
{
	size_t i, n = json_object_array_length(array);

	buf_addc(out, '[');
	for (i = 0; i < n; i++) {
		if (i)
			buf_addc(out, ',');
		json_print(out, json_object_array_get_idx(array, i));
	}
	buf_addc(out, ']');
}

static void print_object(struct buf *out, struct json_object *obj)
{
	const char *separator = "";

	buf_addc(out, '{');
	json_each_member (obj, m) {
		buf_adds(out, separator);
		separator = ",";
		json_print_string(out, m.name, strlen(m.name));
		buf_addc(out, ':');
		json_print(out, m.value);
	}
	buf_addc(out, '}');
}

void json_print(struct buf *out, struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_null: buf_adds(out, "null"); break;
	case json_type_boolean: buf_adds(out, json_object_get_boolean(value) ? "true" : "false"); break;
	case json_type_double: print_number(out, json_object_get_double(value)); break;
	case json_type_int: print_integer(out, value); break;
	case json_type_string:
		json_print_string(out, json_object_get_string(value), (size_t)json_object_get_string_len(value));
		break;
	case json_type_object: print_object(out, value); break;
	case json_type_array: print_array(out, value); break;
	}
}

/* ── Reading and building ────────────────────────────────────────────────────────────────────────────────────────── */

struct json_object *json_get(struct json_object *obj, const char *name)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(obj, name, &value);
	return value;
}

bool json_has(struct json_object *obj, const char *name)
{
	return json_object_object_get_ex(obj, name, NULL);
}

static struct json_object *get_typed(struct json_object *obj, const char *name, enum json_type type)
{
	struct json_object *value = json_get(obj, name);

	return json_object_is_type(value, type) ? value : NULL;
}

const char *json_get_str(struct json_object *obj, const char *name)
{
	struct json_object *value = get_typed(obj, name, json_type_string);
	const char *s = value ? json_object_get_string(value) : NULL;

	return s && strlen(s) == (size_t)json_object_get_string_len(value) ? s : NULL;
}

int64_t json_get_int(struct json_object *obj, const char *name, int64_t fallback)
{
	struct json_object *value = get_typed(obj, name, json_type_int);

	return value ? json_object_get_int64(value) : fallback;
}

bool json_get_bool(struct json_object *obj, const char *name, bool fallback)
{
	struct json_object *value = get_typed(obj, name, json_type_boolean);

	return value ? json_object_get_boolean(value) : fallback;
}

struct json_object *json_get_array(struct json_object *obj, const char *name)
{
	return get_typed(obj, name, json_type_array);
}

struct json_object *json_get_object(struct json_object *obj, const char *name)
{
	return get_typed(obj, name, json_type_object);
}

void json_set(struct json_object *obj, const char *name, struct json_object *value)
{
	BUG_ON(!json_object_is_type(obj, json_type_object));
	if (json_object_object_add(obj, name, value))
		die("out of memory");
}

/* What json-c's constructors return is NULL only when there is no memory. */
static void set_new(struct json_object *obj, const char *name, struct json_object *value)
{
	if (!value)
		die("out of memory");
	json_set(obj, name, value);
}

void json_set_str(struct json_object *obj, const char *name, const char *value)
{
	set_new(obj, name, json_object_new_string(value));
}

void json_set_int(struct json_object *obj, const char *name, int64_t value)
{
	set_new(obj, name, json_object_new_int64(value));
}

void json_set_bool(struct json_object *obj, const char *name, bool value)
{
	set_new(obj, name, json_object_new_boolean(value));
}

void json_unset(struct json_object *obj, const char *name)
{
	json_object_object_del(obj, name);
}

void json_release(void *value)
{
	json_object_put(value);
}

const char *json_type_word(struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_null: return "null";
	case json_type_boolean: return "a boolean";
	case json_type_double: return "a number";
	case json_type_int: return "an integer";
	case json_type_string: return "a string";
	case json_type_object: return "an object";
	case json_type_array: return "an array";
	}
	return "a value of no known type";
}
