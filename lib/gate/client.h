/*
 * client — whose request it is besides its key's: the address that it came from, and the end user behind it. Both can
 * be made up by whoever asks, so a header is believed only from server.trusted_proxies.
 */
#ifndef PAVISE_GATE_CLIENT_H
#define PAVISE_GATE_CLIENT_H

#include "gate/txn.h"

/*
 * Fills t->client, and t->chat.user if a header says it. X-Forwarded-For is read from its end, as far as proxies that
 * are trusted wrote it: what stands before the first that is not may be anybody's invention.
 */
void client_identify(struct txn *t);

#endif
