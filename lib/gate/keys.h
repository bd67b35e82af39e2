/*
 * keys — the file of API keys: who may ask, and what each of them may do.
 */
#ifndef PAVISE_GATE_KEYS_H
#define PAVISE_GATE_KEYS_H

#include "gate/config.h"

/* What may stand in a key's entry. */
extern const struct config_table key_table;

/* Fills *to with a struct key for each member of the file's object. False with r->message filled. */
bool keys_read(struct config_reader *r, struct json_object *object, struct config_items *to);

/* The file that the configuration at config_path names, whatever else that says; NULL with r->message filled. */
const char *keys_file_of(struct config_reader *r, const char *config_path);

/* Whose key it is, in a time that does not depend on how much of a hash fits; NULL: nobody's. */
const struct key *keys_find(const struct config_items *keys, const char *secret);

bool key_expired(const struct key *key, int64_t real_ms);

/* Its `models` are patterns over the names that clients use: "gpt-4o-*". */
bool key_may_call(const struct key *key, const struct model *model);

#endif
