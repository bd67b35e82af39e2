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

#endif
