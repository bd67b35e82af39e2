/* Two hosts and one question: only one of them may ask. */
#include "../memcached_unit.h"

#include "gate/lease.h"

static char folder[FOLDER_PATH];
static struct memcached server;

/* A worker of a host. */
struct party {
	struct config config;
	struct stats *stats;
	struct worker worker;
	struct txn txn;
	struct lease lease, holder;
};

static void party_init(struct party *p, struct stats *stats, const char *key)
{
	const char *const servers[] = {server.path, NULL};

	*p = (struct party){.config.memcached.prefix = "pv", .stats = stats};
	p->worker = (struct worker){.stats = stats, .store = store_of(servers, 5000, stats)};
	p->txn = (struct txn){.config = &p->config, .worker = &p->worker};
	snprintf(p->txn.cache_key, sizeof(p->txn.cache_key), "pv:a:%s", key);
	lease_init(&p->txn, &p->lease);
}

static void party_release(struct party *p)
{
	store_free(p->worker.store);
}

static enum lease_verdict take(struct party *p, bool alone)
{
	return lease_take(&p->txn, &p->lease, alone, &p->holder);
}

static bool renew(struct party *p)
{
	struct store_item besides = {.op = STORE_GET, .key = "nothing"};
	bool ours = lease_renew(&p->txn, &p->lease, &besides);

	assert_int_equal(besides.result, p->txn.store_down ? STORE_DOWN : STORE_MISS);
	return ours;
}

static void test_one_holder(void **state)
{
	struct party a, b;

	(void)state;
	party_init(&a, new_stats(), "one");
	party_init(&b, new_stats(), "one");
	assert_memory_equal(a.lease.key, "pv:l:one:", 9);
	assert_int_equal(lease_look(&b.txn, &b.lease, &b.holder), LEASE_NOBODYS);
	assert_int_equal(take(&a, true), LEASE_OURS);
	assert_int_equal(take(&b, true), LEASE_THEIRS);
	assert_true(b.holder.nonce == a.lease.nonce && b.holder.host == a.stats->host);
	assert_int_equal(lease_look(&b.txn, &b.lease, &b.holder), LEASE_THEIRS);
	assert_int_equal(lease_look(&a.txn, &a.lease, &a.holder), LEASE_OURS);
	assert_true(renew(&a));
	assert_false(renew(&b));
	lease_give_back(&b.txn, &b.lease); /* not its own */
	assert_int_equal(take(&b, true), LEASE_THEIRS);
	lease_give_back(&a.txn, &a.lease);
	assert_int_equal(take(&b, true), LEASE_OURS);
	assert_false(renew(&a));
	party_release(&a);
	party_release(&b);
}

/* Of the same host: it is dead if nobody else here can hold it. */
static void test_a_dead_holder(void **state)
{
	struct stats *stats = new_stats();
	struct party dead, next;

	(void)state;
	party_init(&dead, stats, "dead");
	party_init(&next, stats, "dead");
	assert_int_equal(take(&dead, true), LEASE_OURS);
	assert_int_equal(take(&next, false), LEASE_THEIRS);
	assert_int_equal(take(&next, true), LEASE_OURS);
	assert_false(renew(&dead));
	lease_give_back(&dead.txn, &dead.lease);
	assert_true(renew(&next));
	party_release(&dead);
	party_release(&next);
}

/* What was asked before a purge is another question. */
static void test_a_purge_between(void **state)
{
	struct party a, b;

	(void)state;
	party_init(&a, new_stats(), "purged");
	party_init(&b, new_stats(), "purged");
	assert_true(lease_question(&a.txn) == lease_question(&b.txn));
	b.txn.epochs[1] = 7;
	assert_true(lease_question(&a.txn) != lease_question(&b.txn));
	lease_init(&b.txn, &b.lease);
	assert_int_equal(take(&a, true), LEASE_OURS);
	assert_int_equal(take(&b, true), LEASE_OURS);
	party_release(&a);
	party_release(&b);
}

static void test_forgotten_and_foreign(void **state)
{
	struct party a, b;

	(void)state;
	party_init(&a, new_stats(), "forgotten");
	party_init(&b, new_stats(), "forgotten");
	assert_int_equal(take(&a, true), LEASE_OURS);
	assert_int_equal(
		run_one(a.worker.store, &(struct store_item){.op = STORE_DELETE, .key = a.lease.key}), STORE_OK);
	assert_true(renew(&a)); /* taken again */
	assert_int_equal(take(&b, true), LEASE_THEIRS);
	assert_int_equal(set_text(a.worker.store, a.lease.key, "what is this"), STORE_OK);
	assert_int_equal(take(&b, true), LEASE_UNKNOWN);
	assert_false(renew(&a));
	party_release(&a);
	party_release(&b);
}

/* What the holder once saw as its own is not what stands there now. */
static void test_given_back_too_late(void **state)
{
	struct party a, b;

	(void)state;
	party_init(&a, new_stats(), "late");
	party_init(&b, new_stats(), "late");
	assert_int_equal(take(&a, true), LEASE_OURS);
	assert_true(a.lease.cas != 0);
	assert_int_equal(
		run_one(a.worker.store, &(struct store_item){.op = STORE_DELETE, .key = a.lease.key}), STORE_OK);
	assert_int_equal(take(&b, true), LEASE_OURS);
	lease_give_back(&a.txn, &a.lease);
	assert_true(renew(&b));
	assert_false(renew(&a));
	lease_give_back(&a.txn, &a.lease);
	assert_true(renew(&b));
	lease_give_back(&b.txn, &b.lease);
	assert_int_equal(lease_look(&a.txn, &a.lease, &a.holder), LEASE_NOBODYS);
	party_release(&a);
	party_release(&b);
}

static void test_no_memcached(void **state)
{
	struct party a;

	(void)state;
	party_init(&a, new_stats(), "none");
	memcached_end(&server);
	unlink(server.path);
	assert_int_equal(take(&a, true), LEASE_UNKNOWN);
	assert_false(renew(&a));
	lease_give_back(&a.txn, &a.lease);
	assert_true(a.txn.store_down);
	memcached_start(&server);
	party_release(&a);
}

static int set_up(void **state)
{
	(void)state;
	make_folder(folder);
	snprintf(server.path, sizeof(server.path), "%s/1.sock", folder);
	memcached_start(&server);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	memcached_end(&server);
	unlink(server.path);
	remove_folder(folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_holder),
		cmocka_unit_test(test_a_dead_holder),
		cmocka_unit_test(test_a_purge_between),
		cmocka_unit_test(test_forgotten_and_foreign),
		cmocka_unit_test(test_given_back_too_late),
		cmocka_unit_test(test_no_memcached),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
