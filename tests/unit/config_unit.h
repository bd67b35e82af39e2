/*
 * config_unit — configurations as text, loaded from a folder of the test's own.
 */
#ifndef PAVISE_TESTS_CONFIG_UNIT_H
#define PAVISE_TESTS_CONFIG_UNIT_H

#include "unit.h"

#include "gate/config.h"

#define CONFIG_UNIT_PARTS \
	"'providers':{'p':{'base_url':'http://h/v1'}},'models':{'m':{'provider':'p'}},'keys_file':'keys.json'"
/* A configuration that works, and what is to be tested. */
#define WITH(more)  "{" CONFIG_UNIT_PARTS "," more "}"
#define ALONE       "{" CONFIG_UNIT_PARTS "}"
#define PROVIDER(m) "{'providers':{'p':{" m "}},'models':{'m':{'provider':'p'}},'keys_file':'keys.json'}"
#define MODEL(m)    "{'providers':{'p':{'base_url':'http://h/v1'}},'models':{'m':{" m "}},'keys_file':'keys.json'}"
#define LIMIT(m)    WITH("'limits':[{'name':'a','amount':1,'window':'1m'},{" m "}]")

#define HEX "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

/* The one that a test is about. */
static struct config_unit {
	char folder[FOLDER_PATH], file[FILE_PATH], keys[FILE_PATH], secret[FILE_PATH];
	struct config_watch watch;
	char message[CONFIG_MESSAGE];
} u;

static inline void write_json_file(const char *path, const char *single_quoted, mode_t mode)
{
	struct buf text = BUF_INIT(1 << 20);

	add_json_text(&text, single_quoted);
	write_file(path, text.data ? text.data : "", mode);
	buf_release(&text);
}

static inline int config_unit_begin(void **state)
{
	(void)state;
	u = (struct config_unit){0};
	make_folder(u.folder);
	setenv("SSL_CERT_FILE", "/nonexistent", 1); /* the system's certificates, which each load would read */
	snprintf(u.file, sizeof(u.file), "%s/pavise.json", u.folder);
	snprintf(u.keys, sizeof(u.keys), "%s/keys.json", u.folder);
	snprintf(u.secret, sizeof(u.secret), "%s/secret", u.folder);
	write_json_file(u.keys, "{'k':{'sha256':'" HEX "'}}", 0644);
	return 0;
}

static inline int config_unit_end(void **state)
{
	(void)state;
	arena_release(&u.watch.arena);
	remove_folder(u.folder);
	return 0;
}

/* NULL with u.message filled. */
static inline struct config *load_file(void)
{
	u.message[0] = '\0';
	return config_load(u.file, &u.watch, u.message);
}

static inline struct config *load_text(const char *single_quoted)
{
	write_json_file(u.file, single_quoted, 0644);
	return load_file();
}

/* It loads; the caller frees it. */
static inline struct config *must_load(const char *single_quoted)
{
	struct config *c = load_text(single_quoted);

	if (!c)
		fail_msg("%s\n%s", single_quoted, u.message);
	return c;
}

static inline void check_loads(const char *single_quoted)
{
	config_free(must_load(single_quoted));
}

/* It does not load, and the message begins with `file` and ": path: ", and says each of `parts` (' stands for "). */
static inline void check_message(const char *file, const char *path, const char *const *parts)
{
	struct config *c = load_file();
	struct buf part = BUF_INIT(4096);

	if (c)
		fail_msg("it loads, but %s is wrong", path);
	buf_printf(&part, "%s: %s%s", file, path, *path ? ": " : "");
	if (strncmp(u.message, part.data, part.len) != 0)
		fail_msg("%s\ndoes not begin with %s", u.message, part.data);
	for (; *parts; parts++) {
		buf_reset(&part);
		add_json_text(&part, *parts);
		check_contains(u.message, part.data);
	}
	buf_release(&part);
}

#define PARTS(...) \
	(const char *const[]) \
	{ \
		__VA_ARGS__, NULL \
	}

static inline void check_refused(const char *single_quoted, const char *path, const char *const *parts)
{
	write_json_file(u.file, single_quoted, 0644);
	check_message(u.file, path, parts);
}

#endif
