/*
 * demo_pattern — a text that a regular expression matches, for schemas with `pattern`.
 *
 * Knows what people write: characters, classes, escapes such as \d, groups, alternatives (of which it takes the first),
 * and repetitions. It does not know look-around, back references, and properties.
 */
#ifndef PAVISE_DEMO_PATTERN_H
#define PAVISE_DEMO_PATTERN_H

#include "base/buf.h"

#include <stdbool.h>

/*
 * Adds the text to *out; whatever may be repeated is so `more` times more than it must be. False: it is beyond us, or
 * longer than *out may be. Whether the expression really matches is for others to judge.
 */
bool pattern_example(struct buf *out, const char *pattern, int more);

#endif
