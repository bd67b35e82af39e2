/* Where configuration comes from: files, which may change, and the environment, which may not. */
#include "base/clock.h"
#include "gate/config_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void mix(uint64_t *fingerprint, uint64_t value)
{
	*fingerprint = (*fingerprint ^ value) * 0x9e3779b97f4a7c15u;
	*fingerprint ^= *fingerprint >> 29;
}

static void mix_file(uint64_t *fingerprint, const char *file)
{
	struct stat st = {0};

	if (stat(file, &st) != 0)
		st = (struct stat){0};
	mix(fingerprint, st.st_dev);
	mix(fingerprint, st.st_ino);
	mix(fingerprint, (uint64_t)st.st_size);
	mix(fingerprint, (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec);
	mix(fingerprint, st.st_mode);
}

uint64_t config_fingerprint(const char *const *files)
{
	uint64_t fingerprint = 0;

	for (; *files; files++)
		mix_file(&fingerprint, *files);
	return fingerprint;
}

bool config_quiet(const char *const *files)
{
	int64_t since = clock_real_ms() - CONFIG_QUIET_MS;
	struct stat st;

	for (; *files; files++)
		if (stat(*files, &st) != 0 || (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000 > since)
			return false;
	return true;
}

void config_note_file(struct config_reader *r, const char *file)
{
	if (r->file_count == sizeof(r->files) / sizeof(r->files[0]))
		return;
	r->files[r->file_count++] = arena_strdup(r->arena, file);
	mix_file(&r->fingerprint, file);
}

char *config_read_text(struct config_reader *r, const char *file, size_t max, const char **why)
{
	struct buf text = BUF_INIT(max);
	char *to = NULL, *copy;
	ssize_t n = -1;
	int fd;

	config_note_file(r, file);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (to = buf_reserve(&text, 4096)) && (n = read(fd, to, 4096)) > 0)
		text.len += (size_t)n;
	*why = fd < 0 || n < 0 ? strerror(errno) : to ? NULL : "it is too large";
	if (fd >= 0)
		close(fd);
	copy = *why ? NULL : arena_strndup(r->arena, text.data ? text.data : "", text.len);
	if (copy && strlen(copy) != text.len) {
		*why = "it contains a NUL byte";
		copy = NULL;
	}
	buf_release(&text);
	return copy;
}

const char *config_beside(struct config_reader *r, const char *file)
{
	const char *slash = strrchr(r->file, '/');

	if (*file == '/' || !slash)
		return file;
	return arena_printf(r->arena, "%.*s/%s", (int)(slash - r->file), r->file, file);
}

struct json_object *config_parse_text(struct config_reader *r, const char *text)
{
	struct json_object *object;
	struct err err;

	object = json_parse_with_comments(text, strlen(text), &err);
	if (!object) {
		config_fail(r, err.param, "%s", err.message);
		return NULL;
	}
	arena_defer(r->arena, json_release, object);
	if (!json_object_is_type(object, json_type_object)) {
		config_fail(r, "", "found %s, expected an object", json_type_word(object));
		return NULL;
	}
	return object;
}

struct json_object *config_parse_file(struct config_reader *r, const char *file)
{
	const char *why;
	char *text;

	r->file = arena_strdup(r->arena, file);
	r->path[0] = '\0';
	text = config_read_text(r, file, CONFIG_FILE_MAX, &why);
	if (!text) {
		config_fail(r, "", "cannot be read: %s", why);
		return NULL;
	}
	return config_parse_text(r, text);
}

/* ---- environment: ${NAME} and ${NAME:-default} ---- */

/* One variable at s (behind "${"). Returns what follows it, or NULL if it is malformed. */
static const char *expand_one(struct config_reader *r, const char *s, struct buf *out, const char **unset)
{
	const char *end = strchr(s, '}'), *value;
	size_t name_len = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
	char *name;

	if (!end || name_len == 0 || (s + name_len != end && strncmp(s + name_len, ":-", 2) != 0))
		return NULL;
	name = arena_strndup(r->arena, s, name_len);
	value = getenv(name);
	if (value && *value) {
		buf_adds(out, value);
		r->from_environment = true;
	} else if (s + name_len != end) { /* as in a shell: :- also stands for an empty value */
		buf_add(out, s + name_len + 2, (size_t)(end - s) - name_len - 2);
	} else {
		*unset = name;
	}
	return end + 1;
}

/* NULL with the message set, or with *unset naming the variable that is not set. */
const char *config_expand(struct config_reader *r, struct json_object *v, bool *expanded, const char **unset)
{
	const char *s = json_object_get_string(v), *next, *result;
	struct buf out = BUF_INIT(CONFIG_TEXT);

	*unset = NULL;
	*expanded = r->from_environment = false;
	if (strlen(s) != (size_t)json_object_get_string_len(v)) {
		config_expected(r, v, "a string without NUL");
		return NULL;
	}
	while ((next = strstr(s, "${"))) {
		*expanded = true;
		buf_add(&out, s, (size_t)(next - s));
		s = expand_one(r, next + 2, &out, unset);
		if (!s) {
			buf_release(&out);
			config_expected(r, v, "${NAME} or ${NAME:-default}");
			return NULL;
		}
	}
	buf_adds(&out, s);
	result = *unset ? NULL : arena_strdup(r->arena, out.data ? out.data : "");
	buf_release(&out);
	return result;
}
