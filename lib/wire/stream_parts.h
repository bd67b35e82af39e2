/*
 * stream_parts — internal to stream: assembly.c puts chunks together and writes the script, merge.c merges their
 * values, standing.c keeps what stands at every boundary, replay.c plays.
 */
#ifndef PAVISE_WIRE_STREAM_PARTS_H
#define PAVISE_WIRE_STREAM_PARTS_H

#include "wire/stream.h"

#include <string.h>

/* The list ends with NULL. */
static inline bool stream_listed(const char *name, const char *const *list)
{
	while (*list && strcmp(*list, name) != 0)
		list++;
	return *list != NULL;
}

/* ---- merge.c ---- */

/* Each adds what is new to `to`, and appends to `shape` how it was said: see stream.h. */
void merge_object(struct assembly *a, struct json_object *to, struct json_object *from, struct buf *shape);
void merge_member(
	struct assembly *a, struct json_object *to, const char *name, struct json_object *v, struct buf *shape);
/* What is said once, or again the same: anything else is lost. */
void merge_whole(
	struct assembly *a, struct json_object *to, const char *name, struct json_object *v, struct buf *shape);
/* Whether text under this name is said in full, and never in pieces. */
bool merge_is_whole(const char *name);
/* Completes what has been merged; nothing can be merged after it. */
void merge_settle(struct json_object *completion);
/* About how much a value adds to an entry, in bytes. */
size_t merge_weight(struct json_object *v);

/* ---- standing.c ---- */

/* Of a choice in a chunk, what is not said beside the delta. */
bool standing_apart(const char *name);
/* Whether a choice says nothing under a name that it has. */
bool standing_quiet(const char *name, struct json_object *value);
/* In a chunk, but not of the answer. */
bool standing_unsaid(const char *name);

void standing_init(struct standing *s);
void standing_release(struct standing *s);
/*
 * What changes with this chunk at its top: owned by the caller, NULL if nothing. Unless `last`, its usage is only a
 * count on the way, which no replay shows.
 */
struct json_object *standing_head(struct standing *s, struct json_object *chunk, bool last);
/* What choices say from here on, if this one does not fit what they said before; borrowed, NULL if it fits. */
struct json_object *standing_choice(struct standing *s, struct json_object *choice);
/* Says of each change whether its values stand in the completion. */
void standing_close(struct json_object *change, struct json_object *completion, const struct stream_form *form);
/* Playing: applies a change to the head. False: it asks for what the completion does not have. */
bool standing_play(struct json_object *head, struct json_object *change, struct json_object *completion,
	const struct stream_form *form);

#endif
