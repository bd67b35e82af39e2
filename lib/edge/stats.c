/* posix_fallocate, not ftruncate: on a full disk the latter kills whoever touches the page later (SIGBUS). */
#include "edge/stats.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROBES = 16, PATH_BYTES = 4096, CLAIMING = 1 /* an identity that no counter has */ };

static const uint64_t LAYOUT = 0x7061766973650000u + sizeof(struct stats); /* "pavise" and the size */

static struct stats *map(int fd)
{
	void *p = mmap(NULL, sizeof(struct stats), PROT_READ | PROT_WRITE,
		fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		die("cannot map %zu bytes of shared memory: %s", sizeof(struct stats), strerror(errno));
	return p;
}

static void begin(struct stats *s)
{
	hash_random((uint8_t *)&s->host, sizeof(s->host));
	s->layout = LAYOUT;
}

static struct stats *anonymous(const char **why)
{
	struct stats *s = map(-1);

	*why = strerror(errno);
	begin(s);
	return s;
}

static bool path_of(const char *run_dir, const char *suffix, char path[PATH_BYTES])
{
	errno = ENAMETOOLONG;
	return snprintf(path, PATH_BYTES, "%s/pavise.shm%s", run_dir, suffix) < PATH_BYTES;
}

struct stats *stats_create(const char *run_dir, const char **why)
{
	char path[PATH_BYTES], fresh[PATH_BYTES], suffix[32];
	struct stats *s;
	int fd;

	*why = NULL;
	snprintf(suffix, sizeof(suffix), ".%d", (int)getpid());
	if (!path_of(run_dir, "", path) || !path_of(run_dir, suffix, fresh))
		return anonymous(why);
	fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return anonymous(why);
	errno = posix_fallocate(fd, 0, sizeof(*s));
	if (errno != 0 || rename(fresh, path) != 0) {
		s = anonymous(why);
		unlink(fresh);
	} else {
		s = map(fd);
		begin(s);
	}
	close(fd);
	return s;
}

struct stats *stats_join(const char *run_dir, const char **why)
{
	char path[PATH_BYTES];
	struct stats *s;
	struct stat st;
	int fd;

	*why = NULL;
	if (!path_of(run_dir, ".workers", path))
		return anonymous(why);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return anonymous(why);
	flock(fd, LOCK_EX);
	if (fstat(fd, &st) == 0 && st.st_size < (off_t)sizeof(*s))
		errno = posix_fallocate(fd, 0, sizeof(*s));
	else
		errno = 0;
	s = errno ? NULL : map(fd);
	if (s && s->layout != LAYOUT) {
		memset(s, 0, sizeof(*s));
		begin(s);
	}
	flock(fd, LOCK_UN); /* close() does not: the mapping keeps the file open */
	close(fd);
	return s ? s : anonymous(why);
}

int stats_claim_slot(struct stats *s)
{
	int i, owner, used, mine = getpid();

	for (i = 0; i < STATS_SLOTS; i++) {
		owner = atomic_load(&s->slots[i].pid);
		if (owner != 0 && (kill(owner, 0) == 0 || errno == EPERM))
			continue;
		if (!atomic_compare_exchange_strong(&s->slots[i].pid, &owner, mine))
			continue;
		atomic_store(&s->slots[i].state, WORKER_STARTING);
		atomic_store(&s->slots[i].requests, 0);
		atomic_store(&s->slots[i].channel, 0);
		atomic_store(&s->slots[i].following, 0);
		atomic_store(&s->slots[i].life, 0);
		atomic_store(&s->slots[i].leading, 0);
		used = atomic_load(&s->slots_used);
		while (used <= i && !atomic_compare_exchange_weak(&s->slots_used, &used, i + 1))
			;
		return i;
	}
	return -1;
}

int stats_calling(const struct stats *s)
{
	int i, n = 0, used = atomic_load(&s->slots_used);

	for (i = 0; i < used; i++)
		n += atomic_load_explicit(&s->slots[i].state, memory_order_relaxed) == WORKER_CALLING;
	return n;
}

/* Takes a free or outdated counter over. CLAIMING keeps others off until its count is 0. */
static bool claim(struct stats_local_counter *c, uint64_t seen, uint64_t identity, int64_t expires_ms)
{
	if (!atomic_compare_exchange_strong(&c->identity, &seen, CLAIMING))
		return false;
	atomic_store(&c->count, 0);
	atomic_store(&c->expires_ms, expires_ms);
	atomic_store(&c->identity, identity);
	return true;
}

uint64_t stats_local_add(struct stats *s, uint64_t identity, int64_t expires_ms, uint64_t delta)
{
	struct stats_local_counter *c = NULL;
	int64_t now = clock_real_ms();
	unsigned i, waits = 0;
	uint64_t seen;

	for (i = 0; i < PROBES; i++) {
		c = &s->local[(identity + i) % STATS_LOCAL_COUNTERS];
		seen = atomic_load(&c->identity);
		if (seen == identity)
			break;
		if (seen == CLAIMING || seen == 0 || atomic_load(&c->expires_ms) < now) {
			if (seen != CLAIMING && claim(c, seen, identity, expires_ms))
				break;
			if (waits++ < 1000) { /* somebody is faster: look again what they made of it */
				sched_yield();
				i--;
			}
		}
	}
	return atomic_fetch_add(&c->count, delta) + delta;
}

uint64_t stats_local_get(const struct stats *s, uint64_t identity)
{
	const struct stats_local_counter *c;
	unsigned i;

	for (i = 0; i < PROBES; i++) {
		c = &s->local[(identity + i) % STATS_LOCAL_COUNTERS];
		if (atomic_load(&c->identity) == identity)
			return atomic_load(&c->count);
	}
	return 0;
}
