/*
 * metrics — what GET /metrics says (Prometheus' text format 0.0.4) and what is counted for it, on this host since it
 * was started.
 */
#ifndef PAVISE_GATE_METRICS_H
#define PAVISE_GATE_METRICS_H

#include "gate/txn.h"

/* With the request's log line: what its limits have decided. */
void metrics_count(const struct txn *t);

#endif
