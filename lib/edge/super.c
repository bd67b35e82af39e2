/*
 * One thread, one poll(): signals come through a signalfd and so never interrupt anything. Worker states live in the
 * shared slots; what only the supervisor knows about a worker lives in `children`.
 */
#include "edge/super.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "edge/channel.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WATCH_MS = 200,    /* how often files are looked at */
	SHRINK_MS = 10000, /* workers that were idle this long without need may go */
	HEALTHY_MS = 5000, /* who lived this long did not die of a bad start */
	BACKOFF_FIRST_MS = 100,
	BACKOFF_MAX_MS = 10000,
	HELPER_MS = 5000, /* what the helper may take to end behind workers that were killed */
	DOORMEN = 2,      /* workers that say 503 while the others finish */
	BURST_MAX = 64
};

enum phase { SERVING, DRAINING, KILLING };

struct child {
	pid_t pid;     /* 0 = the slot is free, unless … */
	bool unburied; /* … its last worker has not been buried yet */
	int generation;
	bool leaving; /* has had its TERM */
	bool doorman;
	int64_t born_ms;
};

static struct child children[STATS_SLOTS];
static struct child helper;
static int64_t helper_after_ms;
static int helper_failures;
static bool helper_done; /* nobody is left who would tell it anything, and it has been told to end */
static int nudge_fd = -1;

static struct super *self;
static enum phase phase;
static int generation, used, newest, burst = 1, failures, low_idle; /* newest: the slot of the last one born */
static int64_t spawn_after_ms, last_failure_ms, shrink_at_ms, kill_at_ms;

/* ---- worker side ---- */

void super_nudge(struct stats *stats)
{
	uint64_t one = 1;
	ssize_t n;

	if (atomic_load_explicit(&stats->can_grow, memory_order_relaxed)) {
		n = write(nudge_fd, &one, sizeof(one));
		(void)n; /* a full counter wakes it as well */
	}
}

static void (*stop_worker)(void);

static void on_term(int sig)
{
	(void)sig;
	stop_worker();
}

void super_worker_signals(void (*stop)(void))
{
	struct sigaction sa = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	sigset_t none;

	stop_worker = stop;
	sigemptyset(&sa.sa_mask);
	sigaction(SIGTERM, &sa, NULL);
	signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole process group: the supervisor decides */
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* ---- counting ---- */

struct census {
	int total, idle, busy; /* of this generation and not leaving; all others that are still there */
	int old;
};

static struct census take_census(void)
{
	struct census c = {0};
	int i, state;

	for (i = 0; i < used; i++) {
		if (!children[i].pid)
			continue;
		if (children[i].leaving || children[i].generation != generation) {
			c.old++;
			continue;
		}
		state = atomic_load(&self->stats->slots[i].state);
		c.total++;
		if (state == WORKER_IDLE || state == WORKER_STARTING)
			c.idle++;
		else
			c.busy++;
	}
	return c;
}

/* ---- birth and death ---- */

static int free_slot(void)
{
	int i;

	for (i = 0; i < STATS_SLOTS; i++)
		if (!children[i].pid && !children[i].unburied)
			return i;
	return -1;
}

static bool spawn(void)
{
	struct stats_slot *slot;
	pid_t parent = getpid(), pid;
	int i = free_slot();

	if (i < 0)
		return false;
	slot = &self->stats->slots[i];
	atomic_store(&slot->state, WORKER_STARTING);
	atomic_store(&slot->requests, 0);
	if (i >= used)
		atomic_store(&self->stats->slots_used, used = i + 1);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* no orphan, not even after a SIGKILL of the supervisor */
		if (getppid() != parent)
			_exit(0);
		atomic_store(&slot->pid, getpid());
		exit(self->worker(i));
	}
	if (pid < 0) {
		atomic_store(&slot->state, WORKER_NONE);
		log_event(LOG_ERROR, "fork_failed", "cannot start a worker: %s", strerror(errno));
		spawn_after_ms = clock_mono_ms() + BACKOFF_MAX_MS;
		return false;
	}
	newest = i;
	children[i] = (struct child){.pid = pid, .generation = generation, .born_ms = clock_mono_ms()};
	return true;
}

static void spawn_many(int n)
{
	while (n-- > 0 && spawn())
		;
}

static void dismiss(struct child *c)
{
	if (c->leaving)
		return;
	c->leaving = true;
	kill(c->pid, SIGTERM);
}

static int64_t backoff_ms(int count)
{
	int64_t pause = count > 7 ? BACKOFF_MAX_MS : (int64_t)BACKOFF_FIRST_MS << (count - 1);

	return pause < BACKOFF_MAX_MS ? pause : BACKOFF_MAX_MS;
}

/* A worker that ended by itself is a bug or somebody's kill: say so, and do not start the next at once for ever. */
static void mourn(const struct child *c, int status)
{
	int64_t now = clock_mono_ms();

	if (WIFSIGNALED(status))
		log_event(LOG_ERROR, "worker_died", "worker %d was ended by signal %d (%s)", (int)c->pid,
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		log_event(LOG_ERROR, "worker_died", "worker %d left with status %d", (int)c->pid, WEXITSTATUS(status));
	if (now - c->born_ms >= HEALTHY_MS || c->born_ms <= last_failure_ms)
		return; /* no bad start, or one of many that died of the same event */
	failures = now - spawn_after_ms >= HEALTHY_MS ? 1 : failures + 1;
	last_failure_ms = now;
	spawn_after_ms = now + backoff_ms(failures);
}

/* ---- the helper ---- */

static bool helper_wanted(void)
{
	return self->helper && !helper_done && self->helper_wanted();
}

static void spawn_helper(void)
{
	pid_t parent = getpid(), pid;
	char name[16];

	if (helper.pid || clock_mono_ms() < helper_after_ms || !helper_wanted())
		return;
	prctl(PR_GET_NAME, name);
	prctl(PR_SET_NAME, self->helper_name); /* it is never seen with ours */
	pid = fork();
	if (pid != 0)
		prctl(PR_SET_NAME, name);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(0);
		exit(self->helper());
	}
	if (pid < 0) {
		log_event(LOG_ERROR, "fork_failed", "cannot start %s: %s", self->helper_name, strerror(errno));
		helper_after_ms = clock_mono_ms() + BACKOFF_MAX_MS;
		return;
	}
	helper = (struct child){.pid = pid, .born_ms = clock_mono_ms()};
}

static void mourn_helper(int status)
{
	int64_t now = clock_mono_ms();

	if (!(helper.leaving && WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
		log_event(LOG_ERROR, "helper_died", "%s %d ended (%s %d): another one goes on where it was",
			self->helper_name, (int)helper.pid, WIFSIGNALED(status) ? "signal" : "status",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		helper_failures = now - helper.born_ms >= HEALTHY_MS ? 1 : helper_failures + 1;
		helper_after_ms = now + backoff_ms(helper_failures);
		helper_done = false;
	}
	helper.pid = 0;
}

static void bury(int slot)
{
	children[slot].unburied = self->bury && !self->bury(slot);
}

static void bury_rest(void)
{
	int i;

	for (i = 0; i < used; i++)
		if (children[i].unburied)
			bury(i);
}

static void reap(void)
{
	int status, i;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == helper.pid) {
			mourn_helper(status);
			continue;
		}
		for (i = 0; i < used && children[i].pid != pid; i++)
			;
		if (i == used)
			continue;
		if (phase == SERVING && !(children[i].leaving && WIFEXITED(status) && WEXITSTATUS(status) == 0))
			mourn(&children[i], status);
		children[i].pid = 0;
		channel_leave(self->stats, i); /* who followed it looks for another */
		channel_unfollow(self->stats, i);
		atomic_store(&self->stats->slots[i].pid, 0);
		atomic_store(&self->stats->slots[i].state, WORKER_NONE);
		bury(i);
	}
}

/* ---- size of the pool ---- */

static void grow(const struct census *c)
{
	const struct super_limits *l = &self->limits;
	int want = l->min - c->total;

	if (clock_mono_ms() < spawn_after_ms)
		return;
	if (c->idle < l->spare) {
		burst = c->idle == 0 && burst < BURST_MAX ? burst * 2 : burst; /* nobody idle: a crowd is coming */
		if (want < l->spare - c->idle)
			want = l->spare - c->idle;
		if (want < burst)
			want = burst;
	} else {
		burst = 1;
	}
	if (want > l->max - c->total)
		want = l->max - c->total;
	spawn_many(want);
}

static void shrink(const struct census *c)
{
	const struct super_limits *l = &self->limits;
	int i, surplus, now_idle = c->idle;

	if (now_idle < low_idle)
		low_idle = now_idle;
	if (clock_mono_ms() < shrink_at_ms)
		return;
	surplus = low_idle - l->spare;
	if (surplus > c->total - l->min)
		surplus = c->total - l->min;
	for (i = used - 1; i >= 0 && surplus > 0; i--)
		if (children[i].pid && !children[i].leaving && children[i].generation == generation &&
			atomic_load(&self->stats->slots[i].state) == WORKER_IDLE) {
			dismiss(&children[i]);
			surplus--;
		}
	low_idle = now_idle;
	shrink_at_ms = clock_mono_ms() + SHRINK_MS;
}

static void publish(void)
{
	struct census c = take_census();

	atomic_store(&self->stats->idle, c.idle);
	atomic_store(&self->stats->can_grow, phase == SERVING && c.total < self->limits.max);
}

static void balance(void)
{
	struct census c = take_census();

	shrink(&c);
	c = take_census();
	grow(&c);
	publish();
}

/* ---- reload ---- */

static void reload(void)
{
	int i, fresh;

	if (!self->reload(&self->limits))
		return;
	generation++;
	failures = 0;
	spawn_after_ms = 0;
	if (helper.pid)
		dismiss(&helper); /* the next one starts where it ends */
	fresh = self->limits.min > self->limits.spare ? self->limits.min : self->limits.spare;
	atomic_store(&self->stats->spare, self->limits.spare);
	spawn_many(fresh < self->limits.max ? fresh : self->limits.max);
	for (i = 0; i < used; i++)
		if (children[i].pid && children[i].generation != generation)
			dismiss(&children[i]);
	low_idle = 0;
	publish();
}

/* ---- the end ---- */

static void kill_all(void)
{
	int i;

	phase = KILLING;
	kill_at_ms = clock_mono_ms();
	for (i = 0; i < used; i++)
		if (children[i].pid)
			kill(children[i].pid, SIGKILL);
}

/* Everybody finishes what they hold; a few who hold nothing stay at the door while that lasts. */
static void drain(void)
{
	int i, doormen = 0, state;

	phase = DRAINING;
	kill_at_ms = clock_mono_ms() + self->limits.grace_ms;
	atomic_store(&self->stats->draining, 1);
	atomic_store(&self->stats->can_grow, 0);
	log_event(LOG_INFO, "drain", "told to stop: requests in flight are finished, at most %lld s",
		(long long)(self->limits.grace_ms / 1000));
	for (i = 0; i < used; i++) {
		if (!children[i].pid)
			continue;
		state = atomic_load(&self->stats->slots[i].state);
		if (doormen < DOORMEN && state == WORKER_IDLE && !children[i].leaving) {
			children[i].doorman = true;
			doormen++;
		} else {
			dismiss(&children[i]);
		}
	}
	for (; doormen < DOORMEN && spawn(); doormen++) /* everybody is busy: these call no provider */
		children[newest].doorman = true;
}

/* True when the last one has left. */
static bool drained(void)
{
	int i, others = 0, doormen = 0, unburied = 0;

	for (i = 0; i < used; i++)
		if (children[i].unburied)
			unburied++;
		else if (children[i].pid && children[i].doorman)
			doormen++;
		else if (children[i].pid)
			others++;
	if (others == 0)
		for (i = 0; i < used; i++)
			if (children[i].pid)
				dismiss(&children[i]);
	if (others + doormen == 0 && helper.pid && !helper.leaving && (unburied == 0 || phase == KILLING)) {
		dismiss(&helper);
		helper_done = true;
	}
	if (phase == DRAINING && (others + doormen || helper.pid) && clock_mono_ms() >= kill_at_ms) {
		log_event(LOG_WARN, "drain_over", "%d workers did not finish in time: ended", others);
		kill_all();
	}
	if (phase == KILLING && helper.leaving && clock_mono_ms() >= kill_at_ms + HELPER_MS)
		kill(helper.pid, SIGKILL);
	return others + doormen == 0 && !helper.pid && (phase == KILLING || !helper_wanted());
}

/* ---- the loop ---- */

static int signals_open(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL); /* for good: around every fork too */
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		die("signalfd: %s", strerror(errno));
	return fd;
}

static void take_signals(int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGHUP:
			if (phase == SERVING)
				reload();
			break;
		case SIGTERM:
		case SIGINT:
			if (phase == SERVING)
				drain();
			else
				kill_all();
			break;
		default: break; /* SIGCHLD: reap() looks for itself */
		}
	}
}

static int64_t wait_ms(int64_t watch_at_ms)
{
	int64_t now = clock_mono_ms(), at = watch_at_ms;

	if (spawn_after_ms > now && spawn_after_ms < at)
		at = spawn_after_ms;
	if (phase == DRAINING && kill_at_ms < at)
		at = kill_at_ms;
	if (!helper.pid && helper_after_ms > now && helper_after_ms < at)
		at = helper_after_ms;
	return at > now ? at - now : 0;
}

int super_run(struct super *s)
{
	int64_t watch_at_ms = clock_mono_ms() + WATCH_MS;
	struct pollfd fds[2];
	uint64_t count;
	ssize_t n;

	self = s;
	signal(SIGPIPE, SIG_IGN);
	fds[0] = (struct pollfd){signals_open(), POLLIN, 0};
	nudge_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (nudge_fd < 0)
		die("eventfd: %s", strerror(errno));
	fds[1] = (struct pollfd){nudge_fd, POLLIN, 0};
	atomic_store(&s->stats->spare, s->limits.spare);
	shrink_at_ms = clock_mono_ms() + SHRINK_MS;
	spawn_helper();
	balance();
	atomic_store(&s->stats->config_loaded, 1);
	for (;;) {
		poll(fds, 2, (int)wait_ms(watch_at_ms));
		n = read(nudge_fd, &count, sizeof(count));
		(void)n;
		take_signals(fds[0].fd);
		reap();
		bury_rest();
		if (phase != KILLING)
			spawn_helper();
		if (phase == SERVING) {
			if (clock_mono_ms() >= watch_at_ms) {
				watch_at_ms = clock_mono_ms() + WATCH_MS;
				if (s->changed())
					reload();
			}
			balance();
		} else {
			watch_at_ms = clock_mono_ms() + WATCH_MS;
			if (drained())
				return 0;
		}
	}
}
