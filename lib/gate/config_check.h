/*
 * config_check — the second half of loading a configuration: what the table cannot say of it. Part of gate/config.
 */
#ifndef PAVISE_GATE_CONFIG_CHECK_H
#define PAVISE_GATE_CONFIG_CHECK_H

#include "gate/config.h"

/* 1 to 64 of A-Z a-z 0-9 . _ - : what may stand in a log, in a counter's key and in an error message as it is. */
bool config_name_valid(const char *name);

/* Resolves what refers to something else, and fills in what depends on it. False with r->message filled. */
bool config_check(struct config_reader *r, struct config *c);

/* What may stand in a limit. */
extern const struct config_table limit_table;

/* The list of limits at the path `in`: the configuration's, or those of a key, which they are always per. */
bool config_check_limits(struct config_reader *r, const struct config_items *limits, const char *in, bool of_key);

/* Once the keys are there: no key's own limit is called as one that holds for all. One counter would be both. */
bool config_check_own_limits(struct config_reader *r, const struct config *c);

#endif
