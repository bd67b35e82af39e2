/*
 * stream — one answer, two forms: chunks become a completion, and a completion becomes chunks again, without loss.
 *
 * While chunks are put together, a *script* notes the boundaries at which the answer streamed. It is a JSON array of
 *
 *   {"head":{…}}              from here on, chunks say beside their choices: true = as it stands in the completion,
 *                             null, [x] = x, false = no longer
 *   {"choice":{…}}            from here on, choices say this beside their deltas, unless they say more
 *   [0,"content",5,3,9]       runs: chunks that each added so many bytes to one string of choice 0
 *   {"c":0,"d":{…},"r":{…}}   one chunk: its delta (no "d": none), and the rest of its choice, with every piece of text
 *                             replaced by its length, every piece of an array by its count, and every plain value by
 *                             true (it stands in the completion); "m":1 when the next step's choice is of the same
 * chunk
 *   []                        a chunk without choices
 *
 * In an array whose elements carry indexes, a piece is [place, shape], and [place, shape, index] where they differ.
 * Scripts of old begin without a head: their chunks all say what OpenAI's do. So is a completion played that came as
 * JSON and has no script; in few chunks.
 */
#ifndef PAVISE_WIRE_STREAM_H
#define PAVISE_WIRE_STREAM_H

#include "base/json.h"

/* What an operation's answers are called, whole and in pieces, and where their text is. */
struct stream_form {
	const char *whole, *chunk; /* `object` */
	bool message; /* chunks have choices[].delta and the whole choices[].message; else both have the members
			 themselves */
};
extern const struct stream_form stream_chat; /* chat completions */
extern const struct stream_form stream_text; /* legacy completions: choices[].text */

/* What the last chunk said beside its choices, and its choice beside its delta; owned. */
struct standing {
	struct json_object *head, *choice;
};

/* Putting together. */
struct assembly {
	const struct stream_form *form;
	struct json_object *completion; /* owned */
	struct buf script;
	struct standing standing;
	struct json_object *changes; /* owned; [[place in the script, change of the head], …] */
	int choices, finished;
	bool beside_delta; /* while a choice's other members are merged */
	bool lost;         /* something could not be put together: the completion must not be used, only counted */
	/* the run that is open in the script */
	int run_choice;
	char run_path[64];
	size_t max_bytes, bytes;
};

void assembly_init(struct assembly *a, const struct stream_form *form, size_t max_bytes);
void assembly_release(struct assembly *a);
/* Adds one chunk. */
void assembly_add(struct assembly *a, struct json_object *chunk);
/*
 * The completion in JSON form, owned by the assembly, or NULL if the stream was not a whole answer: no choices, one
 * without a finish_reason, or something lost. Ends the script.
 */
struct json_object *assembly_finish(struct assembly *a);

/* Playing. */
struct replay {
	const struct stream_form *form;
	struct json_object *completion; /* with its id and created as they shall be; used up: play it once */
	const char *script;             /* "" = none */
	size_t script_len;
	bool include_usage; /* the client asked for it */
	/* Called for each chunk's JSON; anything but 0 stops. */
	int (*emit)(void *ctx, const char *chunk, size_t len);
	void *ctx;
};

/* 0, what emit() returned, or -1 if the script does not fit the completion. */
int stream_replay(const struct replay *r);

#endif
