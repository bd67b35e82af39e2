/* What was changed is read once more before it takes the file's place: nothing that pavise would refuse gets there. */
#include "gate/key_file.h"

#include "base/file.h"
#include "base/json_edit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void release_text(void *text)
{
	buf_release(text);
}

static bool find_file(struct key_file *f, const char *keys, const char *config)
{
	const char *named = keys ? keys : keys_file_of(&f->reader, config);

	if (!named)
		return false;
	f->reader.file = arena_strdup(&f->arena, named);
	f->path = realpath(named, NULL);
	if (!f->path)
		return config_fail(&f->reader, "", "cannot be read: %s", strerror(errno));
	arena_defer(&f->arena, free, f->path);
	return true;
}

bool key_file_open(struct key_file *f, const char *keys, const char *config, bool to_change)
{
	const char *why;
	char *text;

	*f = (struct key_file){.lock = -1, .text = BUF_INIT(CONFIG_FILE_MAX)};
	f->reader.arena = &f->arena;
	arena_defer(&f->arena, release_text, &f->text);
	if (!find_file(f, keys, config))
		return false;
	if (to_change) {
		f->lock = file_lock(f->path);
		if (f->lock < 0)
			return config_fail(&f->reader, "", "cannot be locked: %s", strerror(errno));
	}
	text = config_read_text(&f->reader, f->path, CONFIG_FILE_MAX, &why);
	if (!text)
		return config_fail(&f->reader, "", "cannot be read: %s", why);
	f->object = config_parse_text(&f->reader, text);
	if (!f->object || !keys_read(&f->reader, f->object, &f->keys))
		return false;
	buf_adds(&f->text, text);
	return true;
}

void key_file_close(struct key_file *f)
{
	if (f->lock >= 0)
		close(f->lock);
	arena_release(&f->arena);
}

const struct key *key_file_find(const struct key_file *f, const char *name)
{
	const struct key *k = f->keys.items;
	size_t i;

	for (i = 0; i < f->keys.count; i++)
		if (strcmp(k[i].name, name) == 0)
			return &k[i];
	return NULL;
}

/* ---- changes ---- */

#define PATH(...) \
	(const char *const[]) \
	{ \
		__VA_ARGS__, NULL \
	}

/* Larger than a file may be: key_file_commit() says so. */
static void set(struct key_file *f, const char *const *path, const char *value)
{
	BUG_ON(!json_edit_set(&f->text, path, value) && !f->text.overflow);
}

/* One line, for it may be one of many: { "sha256": "…", "team": "red" } */
void key_file_add(struct key_file *f, const char *name, struct json_object *fields)
{
	struct buf value = BUF_INIT(CONFIG_FILE_MAX);
	const char *separator = "{ ";

	json_each_member (fields, m) {
		buf_adds(&value, separator);
		json_print_string(&value, m.name, strlen(m.name));
		buf_adds(&value, ": ");
		json_print(&value, m.value);
		separator = ", ";
	}
	buf_adds(&value, " }");
	set(f, PATH(name), value.data);
	buf_release(&value);
}

void key_file_set_bool(struct key_file *f, const char *name, const char *field, bool value)
{
	set(f, PATH(name, field), value ? "true" : "false");
}

void key_file_add_hash(struct key_file *f, const char *name, const char *sha256_hex)
{
	const char *quoted = arena_printf(&f->arena, "\"%s\"", sha256_hex);
	struct json_object *first = json_get(json_get(f->object, name), "sha256");
	struct buf both = BUF_INIT(CONFIG_TEXT);

	if (json_object_is_type(first, json_type_array)) {
		BUG_ON(!json_edit_append(&f->text, PATH(name, "sha256"), quoted) && !f->text.overflow);
		return;
	}
	buf_adds(&both, "[ ");
	json_print(&both, first);
	buf_printf(&both, ", %s ]", quoted);
	set(f, PATH(name, "sha256"), both.data);
	buf_release(&both);
}

void key_file_drop_hash(struct key_file *f, const char *name)
{
	BUG_ON(!json_edit_drop_first(&f->text, PATH(name, "sha256")));
}

bool key_file_commit(struct key_file *f)
{
	struct json_object *object;
	const char *why;

	if (f->text.overflow)
		return config_fail(&f->reader, "", "it would be larger than %d bytes", CONFIG_FILE_MAX);
	object = config_parse_text(&f->reader, f->text.data);
	if (!object || !keys_read(&f->reader, object, &f->keys))
		return false;
	f->object = object;
	if (!file_replace(f->lock, f->path, f->text.data, f->text.len, &why))
		return config_fail(&f->reader, "", "cannot be replaced: %s", why);
	return true;
}
