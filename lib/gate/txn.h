/*
 * txn — one request from accept to log line: what the stages learn of it, and the tables that put them in order.
 *
 * A stage looks at the transaction, adds what it found out, and says how it goes on. Adding a stage is one file and one
 * line in txn.c.
 */
#ifndef PAVISE_GATE_TXN_H
#define PAVISE_GATE_TXN_H

#include "base/arena.h"
#include "edge/http.h"
#include "edge/stats.h"
#include "edge/store.h"
#include "gate/config.h"
#include "gate/controls.h"
#include "wire/answer.h"
#include "wire/chat.h"
#include "wire/measure.h"
#include "wire/stream.h"

/* What a worker keeps between requests. */
struct worker {
	const struct config *config;
	struct stats *stats;
	struct stats_slot *slot;
	int slot_index;
	struct store *store;
	struct arena arena;
	struct teller *teller; /* NULL: there is no bookkeeper */
	bool supervised;
};

enum verdict {
	NEXT,     /* on to the next stage */
	ANSWERED, /* the client has its answer */
	FAILED    /* txn.err says why; the client has no answer yet, unless txn.head_sent */
};

enum cache_state {
	CACHE_NONE,     /* not asked */
	CACHE_HIT,      /* the answer was there */
	CACHE_MISS,     /* there was none */
	CACHE_PARTIAL,  /* there was one for some inputs of many */
	CACHE_EXPIRED,  /* there was one, and it was too old for everybody */
	CACHE_REFUSED,  /* there was one, which the client's Cache-Control did not want */
	CACHE_BYPASS,   /* not to be looked for */
	CACHE_STALE,    /* one that was too old was served all the same */
	CACHE_COLLAPSED /* the answer to somebody else's call, while it was made */
};

enum { TXN_LIMITS = 32, TXN_KEY = STORE_KEY_MAX + 1, TXN_EPOCHS = 2 /* of the scope, of the model */ };

/* One limit as it stands for this request. */
struct limit_use {
	const struct limit *limit;
	char key[TXN_KEY]; /* of its counter */
	int64_t end_ms;    /* of its window, clock_real_ms() */
	int64_t used;      /* this request included; of tokens and money: settled and reserved; -1 = nobody knows */
	bool charged;      /* on memcached's counter */
	bool unknown;      /* memcached did not say, and on_store_down has decided */
	bool would_refuse; /* it does not enforce */
	/* tokens and money: gate/budget */
	struct store_item *look; /* of the batch */
	int64_t settled;         /* of `used`, what has been spent for sure; -1 = nobody knows */
	int64_t reserved;        /* for this request's call, as an upper bound */
	uint64_t generation;     /* of the counter, where it lasts; 0 = unknown */
	bool silent;             /* memcached did not say */
	bool doubtful;           /* nor whether it has counted this */
	bool local;              /* it is counted on this host alone */
};

struct txn {
	struct worker *worker;
	const struct config *config;
	struct arena *arena; /* the worker's, emptied behind every request */
	int64_t started_us;

	/* who asks for what */
	const struct endpoint *endpoint; /* NULL: there is no such path */
	const char *method, *path;
	char request_id[129];
	struct http_trace trace;
	const struct key *key;
	struct {
		const char *logged;  /* its address as log.client_address wants it; NULL = not */
		const char *counted; /* what limits per ip count together: the address, of IPv6 its /64 */
	} client;

	/* the request */
	struct json_object *body;
	struct chat chat;
	const struct model *model;
	struct cache_controls controls;

	/* meter and lookup: one batch */
	struct store_item *batch; /* room for every limit and every entry */
	size_t batch_count;
	struct limit_use limits[TXN_LIMITS];
	size_t limit_count;
	const struct limit_use *refused_by;
	struct store_item *entry; /* of the batch: the cached answer; NULL = not asked for */
	const char *epoch_keys[TXN_EPOCHS];
	struct store_item **epoch_items; /* of the batch, by server of the entries: TXN_EPOCHS in a row, or NULL */
	uint64_t epochs[TXN_EPOCHS];     /* as they were when the entry was looked for */
	char cache_key[TXN_KEY];
	uint8_t cache_hash[32];
	struct embed *embed; /* embeddings: their inputs; NULL = not asked for */
	size_t value_max; /* bytes of an answer that only those share who wait for it; 0: cache.max_entry bounds it */
	bool stale_if_error; /* there is an entry that is better than the provider's failure */
	bool refresh;        /* the answer was stale: a fresh one is to be fetched behind it */
	bool watching;       /* another host's stream, for all who follow it on this one */
	struct slots *slots; /* while this call counts against limits of calls at the same time */
	struct lead *lead;   /* while others may follow this call; NULL = nobody can */

	/* the answer */
	int status;
	bool head_sent, client_gone;
	bool body_sent; /* some of it, comments left out */
	int64_t body_bytes;
	enum cache_state cache, looked_up; /* what has become of it; what the lookup said */
	bool collapsed;                    /* a stale one, where the call that was followed failed */
	bool remember;                     /* the answer, if it turns out to be one that may be */
	bool store_down, stored;
	int64_t cache_age_ms, cache_ttl_ms;
	struct answer_facts facts;
	int64_t bought_tokens;         /* of a batch of embeddings, by its call; 0 = all of the answer's */
	int64_t cost_pusd, saved_pusd; /* -1 = unknown */
	bool cost_estimated;           /* the provider did not say what it used: it cannot have been more */
	uint64_t held;                 /* what the bookkeeper calls this call's reservation; 0 = none */
	bool booked;                   /* it has been told what the call has spent */
	struct err err;
	int64_t retry_after_ms; /* 0 = do not say */
	const char *schema;     /* of a structured output: "invalid" or "unjudged"; NULL = nothing to say */
	const char *schema_detail;
	struct buf *preflight;       /* CORS: the request headers that a page may send; NULL = it is no preflight */
	enum err_retry should_retry; /* what the provider says; else the error's kind decides */
	const char *purged;          /* by this request: what, and on how many servers; NULL = nothing */
	const char *allow;           /* of a 405: what would have been allowed; else NULL */

	/* the provider */
	struct admission *admission; /* what is set aside for the call; NULL = no budget counts it */
	bool behind;                 /* an answer, as its refresh: there is nobody to write to, nor to read from */
	const char **call_headers;   /* kept for a call behind the request that said them; NULL = none were kept */
	bool called;
	int upstream_status; /* 0 = none came */
	char upstream_request_id[160];
	int64_t first_chunk_us, upstream_us;
	char upstream_detail[256];
};

struct stage {
	const char *name;
	enum verdict (*run)(struct txn *t);
};

/* What a provider is asked to do. */
struct operation {
	const char *name; /* gen_ai.operation.name */
	const char *url;  /* behind the provider's base_url */
	int (*read)(struct chat *chat, struct json_object *body, struct err *err);
	void (*measure)(struct measure *m, struct json_object *body);
	const struct stream_form *form; /* NULL: embeddings, which do not stream */
	const char *id_prefix;
};

struct endpoint {
	const char *method; /* HEAD counts as GET */
	const char *path;
	bool prefix; /* the path is only the beginning */
	bool quiet;  /* its log line is for debugging */
	bool open_while_draining;
	const struct operation *operation;
	const struct stage *stages; /* ends with an empty one */
};

/* Answers the request that was just accepted and writes its log line. */
void txn_run(struct worker *w);

/* The stages, in the order in which they happen. */
enum verdict stage_auth(struct txn *t);
enum verdict stage_parse(struct txn *t);
enum verdict stage_controls(struct txn *t);
enum verdict stage_meter(struct txn *t);
enum verdict stage_lookup(struct txn *t);
enum verdict stage_route(struct txn *t);
enum verdict stage_coalesce(struct txn *t);
enum verdict stage_slots(struct txn *t);
enum verdict stage_admit(struct txn *t);
enum verdict stage_relay(struct txn *t);
void account(struct txn *t);
void account_refresh(struct txn *t);

/* What a call says to the provider: "Name: value", NULL-terminated. Reads the client's headers. */
const char **relay_headers(struct txn *t);

/* Of other endpoints. */
enum verdict stage_admin(struct txn *t);
enum verdict stage_body(struct txn *t);
enum verdict stage_purge(struct txn *t);
enum verdict stage_spend(struct txn *t);
enum verdict stage_metrics(struct txn *t);
enum verdict stage_models(struct txn *t);
enum verdict stage_healthz(struct txn *t);
enum verdict stage_readyz(struct txn *t);

/* For `return txn_fail(…)`: fills t->err. */
enum verdict txn_fail(struct txn *t, enum err_code code, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
