/*
 * key_file — the keys file as an operator changes it: what people wrote in it stays, pavise never sees half of it, and
 * of two who change it at the same time both do.
 */
#ifndef PAVISE_GATE_KEY_FILE_H
#define PAVISE_GATE_KEY_FILE_H

#include "gate/keys.h"

struct key_file {
	struct arena arena;
	struct config_reader reader; /* reader.message: what went wrong */
	char *path;                  /* behind symbolic links */
	struct buf text;
	struct config_items keys; /* as they are in the file */
	struct json_object *object;
	int lock; /* -1: it is only read */
};

/*
 * Reads the file at `keys`, or if that is NULL the one that the configuration at `config` names; locks it first if it
 * is to be changed. False with a message if it cannot, or if the file is not good. key_file_close() in any case.
 */
bool key_file_open(struct key_file *f, const char *keys, const char *config, bool to_change);
void key_file_close(struct key_file *f);

const struct key *key_file_find(const struct key_file *f, const char *name);

/* Changes of the text in memory; the name of all but the first is one that is there. */
void key_file_add(struct key_file *f, const char *name, struct json_object *fields);
void key_file_set_bool(struct key_file *f, const char *name, const char *field, bool value);
void key_file_add_hash(struct key_file *f, const char *name, const char *sha256_hex); /* a second one */
void key_file_drop_hash(struct key_file *f, const char *name);                        /* the first of two */

/* Writes the changed text in the file's place, if it is a good one. False with a message; then nothing has changed. */
bool key_file_commit(struct key_file *f);

#endif
