/*
 * SQLite in WAL mode with synchronous=NORMAL: a commit costs microseconds, survives every process, and is at the disk
 * with the next checkpoint; who cuts the power may lose the last seconds, and never the file.
 */
#include "edge/ledger.h"

#include "base/err.h"

#include <linux/magic.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

enum { SCHEMA = 1, BUSY_MS = 1000, CHECKPOINT_PAGES = 256 };

static const char schema[] =
	"CREATE TABLE spend (hour INTEGER, key TEXT, team TEXT, user TEXT, ip TEXT, model TEXT,"
	" requests INTEGER NOT NULL, calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL,"
	" cached_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL,"
	" cost_pusd INTEGER NOT NULL, saved_pusd INTEGER NOT NULL, estimated INTEGER NOT NULL,"
	" PRIMARY KEY (hour, key, team, user, ip, model)) WITHOUT ROWID;"
	"CREATE INDEX spend_of_key ON spend (key, hour);"
	"CREATE TABLE held (n INTEGER PRIMARY KEY AUTOINCREMENT, life INTEGER, number INTEGER, at INTEGER,"
	" key TEXT, team TEXT, user TEXT, ip TEXT, model TEXT, tokens INTEGER, pusd INTEGER,"
	" settled INTEGER NOT NULL DEFAULT 0, UNIQUE (life, number));"
	"CREATE TABLE counts (counter TEXT PRIMARY KEY, usd INTEGER, key TEXT, team TEXT, user TEXT, ip TEXT,"
	" model TEXT, starts INTEGER, ends INTEGER, generation INTEGER, through INTEGER, counted INTEGER,"
	" spent INTEGER) WITHOUT ROWID;"
	"CREATE TABLE booked (one INTEGER PRIMARY KEY, life INTEGER, number INTEGER);"
	"INSERT INTO booked VALUES (1, 0, 0);";

enum statement {
	BEGIN,
	COMMIT,
	ROLLBACK,
	SPEND,
	HOLD,
	SETTLE,
	FORGET,
	FIND,
	HOLDS,
	LAST,
	SUM_SPENT,
	SUM_HELD,
	SAVE_COUNT,
	FIND_COUNT,
	COUNTS_OF,
	PRUNE,
	SET_BOOKED,
	BOOKED,
	STATEMENTS
};

#define WHO_FITS \
	"(?1 IS NULL OR key = ?1) AND (?2 IS NULL OR team = ?2) AND (?3 IS NULL OR user = ?3)" \
	" AND (?4 IS NULL OR ip = ?4) AND (?5 IS NULL OR model = ?5) "
#define HOLD_COLUMNS  "n, life, number, at, key, team, user, ip, model, tokens, pusd, settled"
#define COUNT_COLUMNS "counter, usd, key, team, user, ip, model, starts, ends, generation, through, counted, spent"

static const char *const sql[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[SPEND] = "INSERT INTO spend VALUES (?6, ?1, ?2, ?3, ?4, ?5, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
		  " ON CONFLICT DO UPDATE SET requests = requests + ?7, calls = calls + ?8,"
		  " input_tokens = input_tokens + ?9, cached_tokens = cached_tokens + ?10,"
		  " output_tokens = output_tokens + ?11, tokens = tokens + ?12, cost_pusd = cost_pusd + ?13,"
		  " saved_pusd = saved_pusd + ?14, estimated = estimated + ?15",
	[HOLD] = "INSERT OR IGNORE INTO held (key, team, user, ip, model, life, number, at, tokens, pusd)"
		 " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
	[SETTLE] = "UPDATE held SET settled = 1 WHERE n = ?1",
	[FORGET] = "DELETE FROM held WHERE n = ?1",
	[FIND] = "SELECT " HOLD_COLUMNS " FROM held WHERE life = ?1 AND number = ?2 AND settled = 0",
	[HOLDS] = "SELECT " HOLD_COLUMNS " FROM held ORDER BY n",
	[LAST] = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'held'",
	[SUM_SPENT] = "SELECT sum(tokens), sum(cost_pusd) FROM spend WHERE " WHO_FITS "AND hour >= ?6 AND hour < ?7",
	[SUM_HELD] =
		"SELECT sum(tokens), sum(pusd) FROM held WHERE " WHO_FITS "AND at >= ?6 AND at < ?7 AND settled = 0",
	[SAVE_COUNT] = "REPLACE INTO counts (key, team, user, ip, model, counter, usd, starts, ends, generation,"
		       " through, counted, spent) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
	[FIND_COUNT] = "SELECT " COUNT_COLUMNS " FROM counts WHERE counter = ?1",
	[COUNTS_OF] = "SELECT " COUNT_COLUMNS " FROM counts WHERE (key IS NULL OR key = ?1)"
		      " AND (team IS NULL OR team = ?2) AND (user IS NULL OR user = ?3)"
		      " AND (ip IS NULL OR ip = ?4) AND (model IS NULL OR model = ?5)"
		      " AND starts <= ?6 AND ends > ?6",
	[PRUNE] = "DELETE FROM counts WHERE ends < ?1",
	[SET_BOOKED] = "UPDATE booked SET life = ?1, number = ?2",
	[BOOKED] = "SELECT life, number FROM booked",
};

struct ledger {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	bool failed;
	char why[LEDGER_WHY];
};

static void fail(struct ledger *l)
{
	if (!l->failed)
		snprintf(l->why, sizeof(l->why), "%s", sqlite3_errmsg(l->db));
	l->failed = true;
}

/* ---- opening ---- */

bool ledger_on_network(const char *path)
{
	char folder[4096];
	struct statfs fs;
	const char *slash = strrchr(path, '/');

	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	if (statfs(folder, &fs) != 0)
		return false;
	return fs.f_type == NFS_SUPER_MAGIC || fs.f_type == (long)CIFS_SUPER_MAGIC ||
	       fs.f_type == (long)SMB2_SUPER_MAGIC || fs.f_type == SMB_SUPER_MAGIC || fs.f_type == AFS_SUPER_MAGIC ||
	       fs.f_type == CEPH_SUPER_MAGIC || fs.f_type == V9FS_MAGIC;
}

static bool run(struct ledger *l, const char *text)
{
	if (sqlite3_exec(l->db, text, NULL, NULL, NULL) == SQLITE_OK)
		return true;
	fail(l);
	return false;
}

static int version_of(struct ledger *l)
{
	sqlite3_stmt *s;
	int version = -1;

	if (sqlite3_prepare_v2(l->db, "PRAGMA user_version", -1, &s, NULL) == SQLITE_OK &&
		sqlite3_step(s) == SQLITE_ROW)
		version = sqlite3_column_int(s, 0);
	else
		fail(l);
	sqlite3_finalize(s);
	return version;
}

static bool know_schema(struct ledger *l, bool make)
{
	int version = version_of(l);
	char set[64];

	snprintf(set, sizeof(set), "PRAGMA user_version = %d", SCHEMA);
	if (version == 0 && make)
		return run(l, "BEGIN IMMEDIATE") && run(l, schema) && run(l, set) && run(l, "COMMIT");
	if (version >= 0 && version != SCHEMA)
		snprintf(l->why, sizeof(l->why),
			version == 0 ? "it is no ledger"
				     : "it was written by another version of pavise (schema %d, expected %d)",
			version, SCHEMA);
	return version == SCHEMA;
}

static struct ledger *open_file(const char *path, int flags, char why[LEDGER_WHY])
{
	struct ledger *l = calloc(1, sizeof(*l));

	if (!l)
		die("out of memory");
	if (sqlite3_open_v2(path, &l->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
		snprintf(why, LEDGER_WHY, "%s", l->db ? sqlite3_errmsg(l->db) : "out of memory");
		ledger_close(l);
		return NULL;
	}
	sqlite3_busy_timeout(l->db, BUSY_MS);
	return l;
}

static struct ledger *give_up(struct ledger *l, char why[LEDGER_WHY])
{
	snprintf(why, LEDGER_WHY, "%s", l->why);
	ledger_close(l);
	return NULL;
}

struct ledger *ledger_open(const char *path, char why[LEDGER_WHY])
{
	struct ledger *l = open_file(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, why);
	int i;

	if (!l)
		return NULL;
	if (!run(l, "PRAGMA journal_mode = WAL") || !run(l, "PRAGMA synchronous = NORMAL") ||
		!run(l, "PRAGMA cache_size = -1024") || !know_schema(l, true))
		return give_up(l, why);
	sqlite3_wal_autocheckpoint(l->db, CHECKPOINT_PAGES);
	for (i = 0; i < STATEMENTS; i++)
		if (sqlite3_prepare_v3(l->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &l->statements[i], NULL) !=
			SQLITE_OK) {
			fail(l);
			return give_up(l, why);
		}
	return l;
}

struct ledger *ledger_open_to_read(const char *path, char why[LEDGER_WHY])
{
	struct ledger *l = open_file(path, SQLITE_OPEN_READONLY, why);

	if (l && !know_schema(l, false))
		return give_up(l, why);
	return l;
}

void ledger_close(struct ledger *l)
{
	int i;

	if (!l)
		return;
	for (i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(l->statements[i]);
	sqlite3_close(l->db);
	free(l);
}

/* ---- statements ---- */

static void bind_int(sqlite3_stmt *s, int at, int64_t value)
{
	sqlite3_bind_int64(s, at, value);
}

static void bind_text(sqlite3_stmt *s, int at, const char *value)
{
	sqlite3_bind_text(s, at, value, -1, SQLITE_STATIC); /* NULL stays NULL */
}

/* ?1 to ?5 */
static void bind_who(sqlite3_stmt *s, const struct ledger_who *who)
{
	bind_text(s, 1, who->key);
	bind_text(s, 2, who->team);
	bind_text(s, 3, who->user);
	bind_text(s, 4, who->ip);
	bind_text(s, 5, who->model);
}

static const char *text(sqlite3_stmt *s, int column)
{
	return (const char *)sqlite3_column_text(s, column);
}

static struct ledger_who who_at(sqlite3_stmt *s, int column)
{
	return (struct ledger_who){
		text(s, column), text(s, column + 1), text(s, column + 2), text(s, column + 3), text(s, column + 4)};
}

static bool row(struct ledger *l, sqlite3_stmt *s)
{
	int result = l->failed ? SQLITE_DONE : sqlite3_step(s);

	if (result == SQLITE_ROW)
		return true;
	if (result != SQLITE_DONE)
		fail(l);
	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	return false;
}

static void finish(struct ledger *l, sqlite3_stmt *s)
{
	while (row(l, s))
		;
}

void ledger_begin(struct ledger *l)
{
	l->failed = false;
	finish(l, l->statements[BEGIN]);
}

bool ledger_commit(struct ledger *l)
{
	bool failed;

	finish(l, l->statements[COMMIT]);
	failed = l->failed;
	if (failed && !sqlite3_get_autocommit(l->db)) {
		l->failed = false;
		finish(l, l->statements[ROLLBACK]);
	}
	l->failed = false;
	return !failed;
}

const char *ledger_why(const struct ledger *l)
{
	return l->why;
}

/* ---- what has been spent ---- */

void ledger_spend(struct ledger *l, int64_t at_s, const struct ledger_who *who, const struct ledger_amounts *a)
{
	sqlite3_stmt *s = l->statements[SPEND];
	const int64_t amounts[] = {a->requests, a->calls, a->input_tokens, a->cached_tokens, a->output_tokens,
		a->tokens, a->cost_pusd, a->saved_pusd, a->estimated};
	int i;

	bind_who(s, who);
	bind_int(s, 6, at_s - at_s % LEDGER_HOUR_S);
	for (i = 0; i < 9; i++)
		bind_int(s, 7 + i, amounts[i]);
	finish(l, s);
}

/* ---- what is reserved ---- */

void ledger_hold(struct ledger *l, const struct ledger_hold *h)
{
	sqlite3_stmt *s = l->statements[HOLD];

	bind_who(s, &h->who);
	bind_int(s, 6, (int64_t)h->id.life);
	bind_int(s, 7, (int64_t)h->id.number);
	bind_int(s, 8, h->at_s);
	bind_int(s, 9, h->tokens);
	bind_int(s, 10, h->pusd);
	finish(l, s);
}

static void on_order(struct ledger *l, enum statement statement, int64_t order)
{
	bind_int(l->statements[statement], 1, order);
	finish(l, l->statements[statement]);
}

void ledger_settle(struct ledger *l, int64_t order)
{
	on_order(l, SETTLE, order);
}

void ledger_forget(struct ledger *l, int64_t order)
{
	on_order(l, FORGET, order);
}

static void each_hold(struct ledger *l, sqlite3_stmt *s, ledger_on_hold *on, void *ctx)
{
	struct ledger_hold h;

	while (row(l, s)) {
		h = (struct ledger_hold){.order = sqlite3_column_int64(s, 0),
			.id = {(uint64_t)sqlite3_column_int64(s, 1), (uint64_t)sqlite3_column_int64(s, 2)},
			.at_s = sqlite3_column_int64(s, 3),
			.who = who_at(s, 4),
			.tokens = sqlite3_column_int64(s, 9),
			.pusd = sqlite3_column_int64(s, 10),
			.settled = sqlite3_column_int(s, 11) != 0};
		on(ctx, &h);
	}
}

void ledger_find(struct ledger *l, const struct ledger_id *id, ledger_on_hold *on, void *ctx)
{
	bind_int(l->statements[FIND], 1, (int64_t)id->life);
	bind_int(l->statements[FIND], 2, (int64_t)id->number);
	each_hold(l, l->statements[FIND], on, ctx);
}

void ledger_holds(struct ledger *l, ledger_on_hold *on, void *ctx)
{
	each_hold(l, l->statements[HOLDS], on, ctx);
}

int64_t ledger_last(struct ledger *l)
{
	sqlite3_stmt *s = l->statements[LAST];
	int64_t last = row(l, s) ? sqlite3_column_int64(s, 0) : 0;

	sqlite3_reset(s);
	return last;
}

/* ---- what counters know ---- */

static int64_t sum_of(struct ledger *l, enum statement statement, const struct ledger_count *c, int column)
{
	sqlite3_stmt *s = l->statements[statement];
	int64_t sum = 0;

	bind_who(s, &c->who);
	bind_int(s, 6, c->from_s);
	bind_int(s, 7, c->to_s);
	while (row(l, s))
		sum = sqlite3_column_int64(s, column);
	return sum;
}

void ledger_sum(struct ledger *l, struct ledger_count *c)
{
	c->spent = sum_of(l, SUM_SPENT, c, c->usd);
	c->counted = c->spent + sum_of(l, SUM_HELD, c, c->usd);
	c->through = ledger_last(l);
}

void ledger_save_count(struct ledger *l, const struct ledger_count *c)
{
	sqlite3_stmt *s = l->statements[SAVE_COUNT];

	bind_who(s, &c->who);
	bind_text(s, 6, c->counter);
	bind_int(s, 7, c->usd);
	bind_int(s, 8, c->from_s);
	bind_int(s, 9, c->to_s);
	bind_int(s, 10, (int64_t)c->generation);
	bind_int(s, 11, c->through);
	bind_int(s, 12, c->counted);
	bind_int(s, 13, c->spent);
	finish(l, s);
}

static void each_count(struct ledger *l, sqlite3_stmt *s, ledger_on_count *on, void *ctx)
{
	struct ledger_count c;

	while (row(l, s)) {
		c = (struct ledger_count){.counter = text(s, 0),
			.usd = sqlite3_column_int(s, 1) != 0,
			.who = who_at(s, 2),
			.from_s = sqlite3_column_int64(s, 7),
			.to_s = sqlite3_column_int64(s, 8),
			.generation = (uint64_t)sqlite3_column_int64(s, 9),
			.through = sqlite3_column_int64(s, 10),
			.counted = sqlite3_column_int64(s, 11),
			.spent = sqlite3_column_int64(s, 12)};
		on(ctx, &c);
	}
}

void ledger_find_count(struct ledger *l, const char *counter, ledger_on_count *on, void *ctx)
{
	bind_text(l->statements[FIND_COUNT], 1, counter);
	each_count(l, l->statements[FIND_COUNT], on, ctx);
}

void ledger_counts_of(struct ledger *l, const struct ledger_who *who, int64_t at_s, ledger_on_count *on, void *ctx)
{
	bind_who(l->statements[COUNTS_OF], who);
	bind_int(l->statements[COUNTS_OF], 6, at_s);
	each_count(l, l->statements[COUNTS_OF], on, ctx);
}

void ledger_prune(struct ledger *l, int64_t before_s)
{
	on_order(l, PRUNE, before_s);
}

/* ---- messages ---- */

void ledger_set_booked(struct ledger *l, const struct ledger_id *message)
{
	bind_int(l->statements[SET_BOOKED], 1, (int64_t)message->life);
	bind_int(l->statements[SET_BOOKED], 2, (int64_t)message->number);
	finish(l, l->statements[SET_BOOKED]);
}

struct ledger_id ledger_booked(struct ledger *l)
{
	sqlite3_stmt *s = l->statements[BOOKED];
	struct ledger_id id = {0, 0};

	while (row(l, s))
		id = (struct ledger_id){(uint64_t)sqlite3_column_int64(s, 0), (uint64_t)sqlite3_column_int64(s, 1)};
	return id;
}

/* ---- reports ---- */

static const struct {
	const char *name, *order;
} groups[] = {
	[LEDGER_BY_KEY] = {"key", "sum(cost_pusd) DESC, name"},
	[LEDGER_BY_TEAM] = {"team", "sum(cost_pusd) DESC, name"},
	[LEDGER_BY_USER] = {"user", "sum(cost_pusd) DESC, name"},
	[LEDGER_BY_MODEL] = {"model", "sum(cost_pusd) DESC, name"},
	[LEDGER_BY_DAY] = {"strftime('%Y-%m-%d', hour, 'unixepoch')", "name"},
	[LEDGER_BY_HOUR] = {"strftime('%Y-%m-%dT%H:%MZ', hour, 'unixepoch')", "name"},
};

static struct ledger_amounts amounts_at(sqlite3_stmt *s, int column)
{
	return (struct ledger_amounts){.requests = sqlite3_column_int64(s, column),
		.calls = sqlite3_column_int64(s, column + 1),
		.input_tokens = sqlite3_column_int64(s, column + 2),
		.cached_tokens = sqlite3_column_int64(s, column + 3),
		.output_tokens = sqlite3_column_int64(s, column + 4),
		.tokens = sqlite3_column_int64(s, column + 5),
		.cost_pusd = sqlite3_column_int64(s, column + 6),
		.saved_pusd = sqlite3_column_int64(s, column + 7),
		.estimated = sqlite3_column_int64(s, column + 8)};
}

bool ledger_report(struct ledger *l, const struct ledger_query *q, ledger_on_spend *on, void *ctx)
{
	struct ledger_who who = {q->key, q->team, q->user, NULL, q->model};
	struct ledger_amounts amounts;
	char select[1024];
	sqlite3_stmt *s;
	bool good;

	snprintf(select, sizeof(select),
		"SELECT %s AS name, sum(requests), sum(calls), sum(input_tokens), sum(cached_tokens),"
		" sum(output_tokens), sum(tokens), sum(cost_pusd), sum(saved_pusd), sum(estimated) FROM spend WHERE " WHO_FITS
		"AND hour >= ?6 AND hour < ?7 GROUP BY name ORDER BY %s",
		groups[q->by].name, groups[q->by].order);
	l->failed = false;
	if (sqlite3_prepare_v2(l->db, select, -1, &s, NULL) != SQLITE_OK) {
		fail(l);
		return false;
	}
	bind_who(s, &who);
	bind_int(s, 6, q->since_s);
	bind_int(s, 7, q->until_s);
	while (row(l, s)) {
		amounts = amounts_at(s, 1);
		on(ctx, text(s, 0), &amounts);
	}
	good = !l->failed;
	sqlite3_finalize(s);
	return good;
}
