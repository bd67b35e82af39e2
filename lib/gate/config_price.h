/*
 * config_price — what models cost: a list of prices that many configurations share, what a model says of its own, and
 * that a limit of money knows the price of all that it counts.
 */
#ifndef PAVISE_GATE_CONFIG_PRICE_H
#define PAVISE_GATE_CONFIG_PRICE_H

#include "gate/config.h"

/* Of models.X.price. */
extern const struct config_table config_price_table;

/* Reads c->prices_file, if there is one. Afterwards r->file is what it was. */
bool config_prices_load(struct config_reader *r, struct config *c);

/*
 * Completes a model's prices: what it does not say is what the list says of the provider's name for it, or of that name
 * less a date at its end ("-2024-07-18", "-20240718").
 */
bool config_price_of(struct config_reader *r, const struct config *c, struct model *m);

/* Behind all files: every model that a limit of money can count has a price. */
bool config_prices_check(struct config_reader *r, struct config *c);

#endif
