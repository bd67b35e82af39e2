/*
 * config_table — the one mechanism behind every configuration file: a table of fields drives what may stand there, its
 * default, its range and the message when it is wrong.
 */
#ifndef PAVISE_GATE_CONFIG_TABLE_H
#define PAVISE_GATE_CONFIG_TABLE_H

#include "base/arena.h"
#include "base/json.h"

enum config_type {
	CONFIG_STRING,   /* const char * */
	CONFIG_SECRET,   /* struct config_secret; a string, or {"file": "…"} */
	CONFIG_INT,      /* int64_t, min to max */
	CONFIG_BYTES,    /* int64_t bytes: 1024, "32MiB" */
	CONFIG_DURATION, /* int64_t µs: "50ms", "10s", "5m", "1h", "1d"; min and max in µs; -1 = not given;
				CONFIG_FIRST_WORD: it is the first of `words`, if there are any */
	CONFIG_BOOL,     /* bool */
	CONFIG_WORD,     /* int: the index in `words`; -1 = not given */
	CONFIG_STRINGS,  /* const char **, NULL-terminated; one string, or an array of them */
	CONFIG_PRICE,    /* int64_t picodollars a token, from dollars a million tokens: "0.15"; -1 = not given */
	CONFIG_AMOUNT,   /* int64_t millionths: 600, "5.00"; min and max in millionths */
	CONFIG_GROUP,    /* a struct inside, with a table of its own */
	CONFIG_MAP,      /* struct config_items: names → structs that begin with `const char *name` */
	CONFIG_LIST      /* struct config_items: an array of structs */
};

enum { CONFIG_FIRST_WORD = -2 };

struct config_secret {
	const char *value; /* NULL: none configured, or the variable is not set */
	const char *unset; /* the environment variable that is not set */
	bool given;        /* it stands in the file, even if nothing came of it */
};

struct config_items {
	void *items; /* `count` structs of table->size bytes */
	size_t count;
};

struct config_table;

struct config_field {
	const char *name;
	enum config_type type;
	size_t offset;
	const char *fallback; /* as it could stand in the file; NULL: nothing, which is an error if `required` */
	bool required;
	int64_t min, max;                 /* also how many elements a MAP, LIST or STRINGS has; max 0: no range */
	const char *const *words;         /* WORD: NULL-terminated */
	const struct config_table *table; /* GROUP, MAP, LIST */
	const char *doc;
};

struct config_table {
	const struct config_field *fields;
	size_t count, size; /* of fields; bytes of the struct */
};

#define CONFIG_TABLE(list, type) \
	{ \
		list, sizeof(list) / sizeof((list)[0]), sizeof(struct type) \
	}

enum { CONFIG_MESSAGE = 1024, CONFIG_PATH = 256, CONFIG_TEXT = 64 * 1024, CONFIG_FILE_MAX = 16 << 20 };

struct config_reader {
	struct arena *arena; /* what is read lives here */
	const char *file;    /* its name, for messages; relative {"file": …} are relative to its folder */
	char path[CONFIG_PATH];
	char message[CONFIG_MESSAGE];     /* of the first failure: file, path, found, expected */
	bool from_environment;            /* the last string had a variable that is set */
	char literal_secret[CONFIG_PATH]; /* path of a secret that stands in the file itself; "" = none */
	/* files that were read on the way: who watches for changes watches these too */
	const char *files[64];
	size_t file_count;
	uint64_t fingerprint; /* config_fingerprint() of them, each as it was before it was read */
};

/* A file's name as one in r->file means it: relative to its folder. */
const char *config_beside(struct config_reader *r, const char *file);

/* The file's text, parsed with comments. The path begins anew. NULL with r->message filled. The arena owns the object.
 */
struct json_object *config_parse_file(struct config_reader *r, const char *file);

/* As config_parse_file(), of a text that is at hand and stands, or will stand, in r->file. */
struct json_object *config_parse_text(struct config_reader *r, const char *text);

/* A file that r->file names: relative to its folder. */
const char *config_beside(struct config_reader *r, const char *file);

/* Fills the struct at `to` from `object` by the table. False with r->message filled. */
bool config_read(struct config_reader *r, const struct config_table *table, struct json_object *object, void *to);

/* A whole object as a CONFIG_MAP. */
bool config_read_map(
	struct config_reader *r, const struct config_field *f, struct json_object *object, struct config_items *to);

/* Changes when one of the files (NULL-terminated) is written, replaced, removed or made. */
uint64_t config_fingerprint(const char *const *files);
/* All are there, and none has been written to within the last CONFIG_QUIET_MS. */
enum { CONFIG_QUIET_MS = 500 };
bool config_quiet(const char *const *files);

/* For who watches, before it is read. */
void config_note_file(struct config_reader *r, const char *file);

/* A file's bytes, NUL-terminated, in the arena; NULL with *why, a phrase. Notes the file. */
char *config_read_text(struct config_reader *r, const char *file, size_t max, const char **why);

/*
 * A string with its ${NAME}s replaced; *expanded if it had any. NULL with the message set, or with *unset naming the
 * variable that is not set.
 */
const char *config_expand(struct config_reader *r, struct json_object *v, bool *expanded, const char **unset);

/* "found …, expected …" at r->path; returns false. */
bool config_expected(struct config_reader *r, struct json_object *v, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* For checks of one's own: sets the message (and returns false), at r->path or below it. */
bool config_fail(struct config_reader *r, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* "1h30m" is not one; µs or -1. */
int64_t config_duration(const char *text);

#endif
