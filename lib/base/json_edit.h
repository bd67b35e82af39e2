/*
 * json_edit — changes one place in a JSON text that people write, and leaves every other byte of it as it is: comments,
 * order, layout.
 *
 * The text is one that json_parse_with_comments() takes for an object, and so is what becomes of it. A path is the
 * names that lead to a value, NULL-terminated; `value` is JSON.
 */
#ifndef PAVISE_BASE_JSON_EDIT_H
#define PAVISE_BASE_JSON_EDIT_H

#include "base/buf.h"

/*
 * Gives the member at the end of the path this value; one that is not there comes behind the last of its object, in the
 * layout of the others. False if there is no such object.
 */
bool json_edit_set(struct buf *text, const char *const *path, const char *value);

/* Adds to the array at the end of the path; false if there is none. */
bool json_edit_append(struct buf *text, const char *const *path, const char *value);

/* Takes the first of several elements out of the array at the end of the path; false if there are not two. */
bool json_edit_drop_first(struct buf *text, const char *const *path);

#endif
