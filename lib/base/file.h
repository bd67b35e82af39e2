/*
 * file — changes a file that others read at any moment: they find the old one or the new one, whole, also after a
 * crash.
 */
#ifndef PAVISE_BASE_FILE_H
#define PAVISE_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Waits until nobody else has the lock of the file that stands at `path` then, and takes it: a descriptor that reads
 * it, to be closed; or -1 with errno. Whoever replaces files this way takes it first, so that no change is lost.
 */
int file_lock(const char *path);

/*
 * Puts a file with these bytes, and the owner and the mode of the one that is open as `old`, in its place at `path`.
 * False with *why, a phrase.
 */
bool file_replace(int old, const char *path, const void *bytes, size_t len, const char **why);

#endif
