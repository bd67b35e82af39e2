/* Strict: an unknown name, a wrong type, a value out of range are all errors, each with its path. */
#include "gate/config_table.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool config_fail(struct config_reader *r, const char *path, const char *fmt, ...)
{
	char what[CONFIG_MESSAGE / 2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(r->message, sizeof(r->message), "%s: %s%s%s", r->file, path, *path ? ": " : "", what);
	return false;
}

enum { SHOWN = 60 };

/* The first bytes of what stands there, for the message. A secret is not shown. */
static const char *found(struct config_reader *r, struct json_object *v)
{
	struct buf text = BUF_INIT(CONFIG_TEXT);
	const char *shown;

	if (!v)
		return "null";
	json_print(&text, v);
	if (text.len > SHOWN)
		text.data[utf8_cut(text.data, SHOWN)] = '\0';
	shown = arena_printf(r->arena, "%s%s", text.data ? text.data : "?", text.len > SHOWN ? "…" : "");
	buf_release(&text);
	return shown;
}

bool config_expected(struct config_reader *r, struct json_object *v, const char *fmt, ...)
{
	char what[CONFIG_MESSAGE / 4];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return config_fail(r, r->path, "found %s, expected %s", found(r, v), what);
}

/* ---- scalars ---- */

/* A string with its variables, or NULL with the message set. */
static const char *text_of(struct config_reader *r, struct json_object *v, const char *what, bool *expanded)
{
	const char *unset, *text;

	if (!json_object_is_type(v, json_type_string)) {
		config_expected(r, v, "%s", what);
		return NULL;
	}
	text = config_expand(r, v, expanded, &unset);
	if (!text && unset)
		config_fail(r, r->path, "found %s, but the environment variable %s is not set (expected %s)",
			found(r, v), unset, what);
	return text;
}

static bool in_range(const struct config_field *f, int64_t n)
{
	return f->max == 0 || (n >= f->min && n <= f->max);
}

static bool read_int(struct config_reader *r, const struct config_field *f, struct json_object *v, int64_t *to)
{
	const char *text;
	char *end = NULL;
	bool expanded = false;

	errno = 0;
	if (json_object_is_type(v, json_type_int)) {
		*to = json_object_get_int64(v);
	} else if (json_object_is_type(v, json_type_string)) { /* "${WORKERS:-256}" */
		text = text_of(r, v, "an integer", &expanded);
		if (!text)
			return false;
		*to = strtoll(text, &end, 10);
		if (!expanded || !*text || *end || errno)
			return config_expected(r, v, "an integer");
	} else {
		return config_expected(r, v, "an integer");
	}
	if (!in_range(f, *to))
		return config_expected(r, v, "an integer from %lld to %lld", (long long)f->min, (long long)f->max);
	return true;
}

/* A number with a unit of a list; -1 if it is not one. */
static int64_t with_unit(const char *text, const char *const *units, const int64_t *factors)
{
	char *end;
	long long n;
	size_t i;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	n = strtoll(text, &end, 10);
	for (i = 0; units[i] && strcmp(units[i], end) != 0; i++)
		;
	if (errno || !units[i] || n > INT64_MAX / factors[i])
		return -1;
	return n * factors[i];
}

int64_t config_duration(const char *text)
{
	static const char *const units[] = {"us", "ms", "s", "m", "h", "d", NULL};
	static const int64_t factors[] = {1, 1000, 1000000, 60000000, 3600000000, 86400000000};

	return with_unit(text, units, factors);
}

static int64_t bytes_of(const char *text)
{
	static const char *const units[] = {"", "B", "KiB", "MiB", "GiB", "kB", "MB", "GB", NULL};
	static const int64_t factors[] = {1, 1, 1 << 10, 1 << 20, 1 << 30, 1000, 1000000, 1000000000};

	return with_unit(text, units, factors);
}

static bool read_bytes(struct config_reader *r, const struct config_field *f, struct json_object *v, int64_t *to)
{
	static const char what[] = "a size in bytes such as 65536, \"64KiB\" or \"32MiB\"";
	const char *text;
	bool expanded;

	if (json_object_is_type(v, json_type_int)) {
		*to = json_object_get_int64(v);
	} else {
		text = text_of(r, v, what, &expanded);
		if (!text)
			return false;
		*to = bytes_of(text);
	}
	if (*to < 0)
		return config_expected(r, v, "%s", what);
	if (!in_range(f, *to))
		return config_expected(r, v, "from %lld to %lld bytes", (long long)f->min, (long long)f->max);
	return true;
}

static bool read_duration(struct config_reader *r, const struct config_field *f, struct json_object *v, int64_t *to)
{
	static const char what[] = "a duration such as \"50ms\", \"30s\", \"5m\", \"1h\" or \"1d\"";
	bool expanded;
	const char *text = text_of(r, v, what, &expanded);

	if (!text)
		return false;
	if (f->words && strcmp(f->words[0], text) == 0) {
		*to = CONFIG_FIRST_WORD;
		return true;
	}
	*to = config_duration(text);
	if (*to < 0)
		return config_expected(r, v, "%s", what);
	if (!in_range(f, *to))
		return config_expected(
			r, v, "a duration from %.15gs to %.15gs", (double)f->min / 1e6, (double)f->max / 1e6);
	return true;
}

/* A number with at most six decimals, in millionths; -1 if it is not one, or too large. */
static int64_t millionths(const char *text)
{
	int64_t n = 0;
	int decimals = -1;
	const char *c;

	for (c = text; *c; c++) {
		if (*c == '.' && decimals < 0 && c > text && c[1])
			decimals = 0;
		else if (*c < '0' || *c > '9' || (decimals >= 0 && ++decimals > 6) ||
			 __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *c - '0', &n))
			return -1;
	}
	for (decimals = decimals < 0 ? 0 : decimals; decimals < 6; decimals++)
		if (__builtin_mul_overflow(n, 10, &n))
			return -1;
	return c > text ? n : -1;
}

static bool read_millionths(
	struct config_reader *r, const struct config_field *f, struct json_object *v, const char *what, int64_t *to)
{
	struct buf printed = BUF_INIT(64);
	const char *text;
	bool expanded;

	if (json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double)) {
		json_print(&printed, v);
		text = arena_strdup(r->arena, printed.data ? printed.data : "");
		buf_release(&printed);
	} else if (!(text = text_of(r, v, what, &expanded))) {
		return false;
	}
	*to = millionths(text);
	if (*to < 0 || !in_range(f, *to))
		return config_expected(r, v, "%s", what);
	return true;
}

static bool read_word(struct config_reader *r, const struct config_field *f, struct json_object *v, int *to)
{
	char list[256] = "";
	const char *text;
	size_t used = 0;
	bool expanded;
	int i;

	for (i = 0; f->words[i]; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s\"%s\"", i ? ", " : "", f->words[i]);
	text = text_of(r, v, list, &expanded);
	if (!text)
		return false;
	for (i = 0; f->words[i]; i++)
		if (strcmp(f->words[i], text) == 0) {
			*to = i;
			return true;
		}
	return config_expected(r, v, "one of %s", list);
}

static bool read_bool(struct config_reader *r, struct json_object *v, bool *to)
{
	if (!json_object_is_type(v, json_type_boolean))
		return config_expected(r, v, "true or false");
	*to = json_object_get_boolean(v);
	return true;
}

/* {"file": "…"}: the first line of a file that nobody else can read. */
static bool read_secret_file(struct config_reader *r, struct json_object *v, struct config_secret *to)
{
	const char *name = json_get_str(v, "file"), *why;
	struct stat st;
	char *text;

	if (!name || json_object_object_length(v) != 1)
		return config_fail(r, r->path, "expected a string or {\"file\": \"path\"}");
	name = config_beside(r, name);
	if (stat(name, &st) == 0 && (st.st_mode & S_IROTH)) {
		config_note_file(r, name); /* its mode may be mended */
		return config_fail(r, r->path,
			"the secret in %s can be read by every user of this machine (mode %03o): expected 600 or 640",
			name, st.st_mode & 0777);
	}
	text = config_read_text(r, name, CONFIG_TEXT, &why);
	if (!text)
		return config_fail(r, r->path, "the secret in %s cannot be read: %s", name, why);
	text[strcspn(text, "\r\n")] = '\0';
	if (!*text)
		return config_fail(r, r->path, "the secret in %s is empty", name);
	to->value = text;
	return true;
}

static bool read_secret(struct config_reader *r, struct json_object *v, struct config_secret *to)
{
	const char *unset = NULL;
	bool expanded;

	to->given = true;
	if (json_object_is_type(v, json_type_object))
		return read_secret_file(r, v, to);
	if (!json_object_is_type(v, json_type_string))
		return config_fail(
			r, r->path, "found %s, expected a string or {\"file\": \"path\"}", json_type_word(v));
	to->value = config_expand(r, v, &expanded, &unset);
	to->unset = unset;
	if (!to->value && !unset) /* what stands there is not shown: half of it may be the secret */
		return config_fail(r, r->path, "expected \"${NAME}\", \"${NAME:-default}\" or {\"file\": \"path\"}");
	if (to->value && *to->value == '\0')
		to->value = NULL;
	if (to->value && !r->from_environment)
		snprintf(r->literal_secret, sizeof(r->literal_secret), "%s", r->path);
	return true;
}

/* ---- compounds ---- */

/* Appends ".name" or "[i]" to the path; returns its old length, to cut it back to. */
static size_t path_name(struct config_reader *r, const char *name)
{
	size_t len = strlen(r->path);

	snprintf(r->path + len, sizeof(r->path) - len, "%s%s", len ? "." : "", name);
	return len;
}

static size_t path_index(struct config_reader *r, size_t i)
{
	size_t len = strlen(r->path);

	snprintf(r->path + len, sizeof(r->path) - len, "[%zu]", i);
	return len;
}

static bool read_strings(struct config_reader *r, const struct config_field *f, struct json_object *v, const char ***to)
{
	size_t i, n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 1, cut;
	struct json_object *element = v;
	bool expanded;

	if (!json_object_is_type(v, json_type_array) && !json_object_is_type(v, json_type_string))
		return config_expected(r, v, "a string or an array of strings");
	if (!in_range(f, (int64_t)n))
		return config_fail(
			r, r->path, "found %zu values, expected %lld to %lld", n, (long long)f->min, (long long)f->max);
	*to = arena_alloc(r->arena, (n + 1) * sizeof(**to));
	for (i = 0; i < n; i++) {
		cut = strlen(r->path);
		if (json_object_is_type(v, json_type_array)) {
			element = json_object_array_get_idx(v, i);
			path_index(r, i);
		}
		(*to)[i] = text_of(r, element, "a string", &expanded);
		if (!(*to)[i])
			return false;
		r->path[cut] = '\0';
	}
	return true;
}

static bool items_alloc(struct config_reader *r, const struct config_field *f, size_t n, struct config_items *to)
{
	if (!in_range(f, (int64_t)n))
		return config_fail(r, r->path, "found %zu entries, expected %lld to %lld", n, (long long)f->min,
			(long long)f->max);
	to->items = arena_alloc(r->arena, n * f->table->size + 1);
	to->count = n;
	return true;
}

bool config_read_map(
	struct config_reader *r, const struct config_field *f, struct json_object *v, struct config_items *to)
{
	char *item;
	size_t cut;

	if (!json_object_is_type(v, json_type_object))
		return config_expected(r, v, "an object: name → settings");
	if (!items_alloc(r, f, (size_t)json_object_object_length(v), to))
		return false;
	item = to->items;
	json_each_member (v, m) {
		cut = path_name(r, m.name);
		*(const char **)(void *)item = arena_strdup(r->arena, m.name);
		if (!config_read(r, f->table, m.value, item))
			return false;
		r->path[cut] = '\0';
		item += f->table->size;
	}
	return true;
}

static bool read_list(
	struct config_reader *r, const struct config_field *f, struct json_object *v, struct config_items *to)
{
	size_t i, cut;

	if (!json_object_is_type(v, json_type_array))
		return config_expected(r, v, "an array");
	if (!items_alloc(r, f, json_object_array_length(v), to))
		return false;
	for (i = 0; i < to->count; i++) {
		cut = path_index(r, i);
		if (!config_read(r, f->table, json_object_array_get_idx(v, i), (char *)to->items + i * f->table->size))
			return false;
		r->path[cut] = '\0';
	}
	return true;
}

static bool read_field(struct config_reader *r, const struct config_field *f, struct json_object *v, char *to)
{
	void *at = to + f->offset;
	bool expanded;

	switch (f->type) {
	case CONFIG_STRING: return (*(const char **)at = text_of(r, v, "a string", &expanded)) != NULL;
	case CONFIG_SECRET: return read_secret(r, v, at);
	case CONFIG_INT: return read_int(r, f, v, at);
	case CONFIG_BYTES: return read_bytes(r, f, v, at);
	case CONFIG_DURATION: return read_duration(r, f, v, at);
	case CONFIG_BOOL: return read_bool(r, v, at);
	case CONFIG_WORD: return read_word(r, f, v, at);
	case CONFIG_STRINGS: return read_strings(r, f, v, at);
	case CONFIG_PRICE: /* dollars a million tokens, in millionths, are picodollars a token */
		return read_millionths(
			r, f, v, "dollars per million tokens with at most 6 decimals, such as \"0.15\"", at);
	case CONFIG_AMOUNT: return read_millionths(r, f, v, f->doc, at);
	case CONFIG_GROUP: return config_read(r, f->table, v, at);
	case CONFIG_MAP: return config_read_map(r, f, v, at);
	case CONFIG_LIST: return read_list(r, f, v, at);
	}
	return false;
}

/* A default is text in the table, and read like anything else. */
static struct json_object *fallback_of(struct config_reader *r, const struct config_field *f)
{
	const char *text = f->fallback ? f->fallback : f->type == CONFIG_GROUP ? "{}" : NULL;
	struct json_object *v;
	struct err err;

	if (!text)
		return NULL;
	v = json_parse(text, strlen(text), &err);
	BUG_ON(!v);
	arena_defer(r->arena, json_release, v);
	return v;
}

static bool known(const struct config_table *t, const char *name)
{
	size_t i;

	for (i = 0; i < t->count; i++)
		if (strcmp(t->fields[i].name, name) == 0)
			return true;
	return false;
}

static bool unknown_name(struct config_reader *r, const struct config_table *t, const char *name)
{
	struct buf list = BUF_INIT(400);
	size_t i;

	for (i = 0; i < t->count; i++)
		buf_printf(&list, "%s%s", i ? ", " : "", t->fields[i].name);
	path_name(r, name);
	config_fail(r, r->path, "there is no such setting, expected one of: %s", list.data);
	buf_release(&list);
	return false;
}

bool config_read(struct config_reader *r, const struct config_table *t, struct json_object *object, void *to)
{
	const struct config_field *f;
	struct json_object *v;
	size_t i, cut;

	if (!json_object_is_type(object, json_type_object))
		return config_expected(r, object, "an object");
	json_each_member (object, m)
		if (!known(t, m.name))
			return unknown_name(r, t, m.name);
	for (i = 0; i < t->count; i++) {
		f = &t->fields[i];
		cut = path_name(r, f->name);
		v = json_has(object, f->name) ? json_get(object, f->name) : fallback_of(r, f);
		if (!v && (f->required || json_has(object, f->name)))
			return config_fail(
				r, r->path, "%s, expected %s", f->required ? "it is missing" : "found null", f->doc);
		if (!v && (f->type == CONFIG_PRICE || f->type == CONFIG_DURATION))
			*(int64_t *)(void *)((char *)to + f->offset) = -1;
		if (!v && f->type == CONFIG_WORD)
			*(int *)(void *)((char *)to + f->offset) = -1;
		if (v && !read_field(r, f, v, to))
			return false;
		r->path[cut] = '\0';
	}
	return true;
}
