/* pavise: arguments → configuration → supervisor, or a single worker. */
#include "base/clock.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/log.h"
#include "edge/fcgi.h"
#include "edge/super.h"
#include "edge/upstream.h"
#include "gate/bookkeeper.h"
#include "gate/budget.h"
#include "gate/ctl.h"
#include "gate/tell.h"
#include "gate/worker.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOOK_MS = 200 /* how often a single worker looks after its files */ };

static const char *config_path = CTL_CONFIG;
static struct config *config;
static struct config_watch watch;
static struct stats *stats;
static struct store *store;
static struct queue queue; /* from the workers to the bookkeeper */

static void usage(FILE *to)
{
	fputs("usage: pavise [--config FILE] [--check | --worker]\n"
	      "\n"
	      "A FastCGI program that stands between your code and a paid LLM. Start it through spawn-fcgi:\n"
	      "  spawn-fcgi -n -s /run/pavise/pavise.sock -b 4096 -- pavise --config /etc/pavise/pavise.json\n"
	      "\n"
	      "  --config FILE  the configuration (default /etc/pavise/pavise.json)\n"
	      "  --check        say whether the configuration is good, and leave: status 0 or 1\n"
	      "  --worker       be a single worker, for a web server that manages processes itself\n"
	      "                 (Apache's mod_fcgid, lighttpd's bin-path)\n"
	      "  --version, --help\n"
	      "\n"
	      "Signals: TERM finishes what is in flight, a second TERM stops at once, HUP loads the configuration again.\n",
		to);
}

/* Puts a loaded configuration in force. */
static void adopt(struct config *fresh)
{
	store_free(store);
	config_free(config);
	config = fresh;
	store = worker_store(config, stats);
	log_init((enum log_level)config->log.level);
	config_warn(config);
	heap_seal();
}

static struct super_limits limits_of(const struct config *c)
{
	return (struct super_limits){.min = (int)c->server.workers.min,
		.max = (int)c->server.workers.max,
		.spare = (int)c->server.workers.spare,
		.grace_ms = c->server.shutdown_grace / 1000};
}

static bool changed(void)
{
	return config_changed(&watch);
}

/* Beside the old one: a bad file changes nothing but the log. */
static bool reload(struct super_limits *limits)
{
	char message[CONFIG_MESSAGE];
	struct config *fresh;

	heap_unseal();
	fresh = config_load(config_path, &watch, message);
	if (!fresh) {
		heap_seal();
		log_event(LOG_ERROR, "config_rejected", "%s; the configuration from before stays in force", message);
		return false;
	}
	adopt(fresh);
	log_event(LOG_INFO, "config_loaded", "%s is in force: %zu providers, %zu models, %zu keys, %zu limits",
		config_path, config->providers.count, config->models.count, config->keys.count, config->limits.count);
	if (limits)
		*limits = limits_of(config);
	return true;
}

static bool keeps_ledger(void)
{
	return config->ledger.path != NULL;
}

static int run_bookkeeper(void)
{
	return bookkeeper_run(config, stats, store, &queue);
}

static bool bury(int slot)
{
	return bookkeeper_bury(&queue, &stats->slots[slot]);
}

static int run_worker(int slot)
{
	struct worker w = {.config = config,
		.stats = stats,
		.slot = &stats->slots[slot],
		.slot_index = slot,
		.store = store,
		.arena = ARENA_INIT,
		.teller = keeps_ledger() ? teller_new(&queue, &stats->slots[slot]) : NULL,
		.supervised = true};

	return worker_run(&w, NULL);
}

/*
 * A worker without a supervisor looks for itself, between two requests. What it sees while it is fresh counts at the
 * next look, or when it is CONFIG_QUIET_MS old: with LOOK_MS on top of that still within a second.
 */
static void look_after_config(struct worker *w)
{
	static int64_t next_us;
	int64_t now = clock_mono_us();

	if (now < next_us)
		return;
	next_us = now + LOOK_MS * 1000;
	if (changed() && reload(NULL)) {
		w->config = config;
		w->store = store;
	}
}

static int run_single(void)
{
	struct worker w = {.config = config, .stats = stats, .store = store, .arena = ARENA_INIT};
	int slot = stats_claim_slot(stats);

	if (slot < 0)
		die("no free slot among %d in %s", STATS_SLOTS, config->server.run_dir);
	w.slot_index = slot;
	w.slot = &stats->slots[slot];
	atomic_store(&stats->config_loaded, 1);
	return worker_run(&w, look_after_config);
}

static void check_socket(void)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0 || !listening)
		die("file descriptor 0 is no listening socket; start it through spawn-fcgi (see pavise --help)");
}

static const struct limit *lasting(const struct config_items *limits)
{
	const struct limit *l = limits->items;
	size_t i;

	for (i = 0; i < limits->count; i++)
		if (budget_lasts(&l[i]))
			return &l[i];
	return NULL;
}

static void warn_of_no_ledger(void)
{
	const struct limit *l = lasting(&config->limits);
	const struct key *keys = config->keys.items;
	size_t i;

	for (i = 0; !l && i < config->keys.count; i++)
		l = lasting(&keys[i].limits);
	if (l)
		log_event(LOG_WARN, "no_ledger",
			"the budget '%s' lasts as long as memcached remembers it: a worker without a supervisor keeps "
			"no ledger",
			l->name);
}

static int serve(bool single)
{
	char message[CONFIG_MESSAGE];
	struct super super = {.changed = changed,
		.reload = reload,
		.worker = run_worker,
		.helper = run_bookkeeper,
		.helper_name = "pavise-ledger",
		.helper_wanted = keeps_ledger,
		.bury = bury};
	struct config *first;
	const char *why;

	check_socket();
	upstream_init();
	first = config_load(config_path, &watch, message);
	if (!first)
		die("%s", message);
	stats = single ? stats_join(first->server.run_dir, &why) : stats_create(first->server.run_dir, &why);
	adopt(first);
	if (why)
		log_event(LOG_WARN, "run_dir", "the shared file cannot be made in %s (%s): it is kept in memory",
			first->server.run_dir, why);
	if (single) {
		warn_of_no_ledger();
		return run_single();
	}
	if (!queue_open(&queue))
		die("cannot make a queue for the ledger: %s", strerror(errno));
	super.stats = stats;
	super.limits = limits_of(config);
	log_event(LOG_INFO, "start", "pavise " PAVISE_VERSION " with %s: %zu models, %zu keys, workers %d to %d",
		config_path, config->models.count, config->keys.count, super.limits.min, super.limits.max);
	return super_run(&super);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'n'}, {"worker", no_argument, NULL, 'w'},
		{"version", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	bool single = false, only_check = false;
	int c;

	while ((c = getopt_long(argc, argv, "c:nwvh", options, NULL)) != -1) {
		switch (c) {
		case 'c': config_path = optarg; break;
		case 'n': only_check = true; break;
		case 'w': single = true; break;
		case 'v': puts("pavise " PAVISE_VERSION); return 0;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "pavise: unexpected argument '%s'\n", argv[optind]);
		usage(stderr);
		return 2;
	}
	return only_check ? (int)ctl_check(config_path) : serve(single);
}
