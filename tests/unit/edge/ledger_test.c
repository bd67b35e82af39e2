/* What the ledger remembers, and what a transaction that fails leaves behind: nothing. */
#include "../unit.h"

#include "edge/ledger.h"

struct fixture {
	char folder[FOLDER_PATH], path[FILE_PATH];
	struct ledger *ledger;
};

static const struct ledger_who alice = {"alice", "red", "u1", "", "demo"}, bob = {"bob", "", "", "10.0.0.1", "large"};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char why[LEDGER_WHY];

	make_folder(f->folder);
	snprintf(f->path, sizeof(f->path), "%s/ledger.db", f->folder);
	f->ledger = ledger_open(f->path, why);
	assert_non_null(f->ledger);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ledger_close(f->ledger);
	remove_folder(f->folder);
	free(f);
	return 0;
}

static void spend(struct ledger *l, int64_t at_s, const struct ledger_who *who, int64_t tokens, int64_t pusd)
{
	ledger_spend(l, at_s, who, &(struct ledger_amounts){.calls = 1, .tokens = tokens, .cost_pusd = pusd});
}

static void hold(struct ledger *l, uint64_t number, int64_t at_s, const struct ledger_who *who, int64_t pusd)
{
	ledger_hold(l,
		&(struct ledger_hold){.id = {7, number}, .at_s = at_s, .who = *who, .tokens = pusd / 10, .pusd = pusd});
}

static void on_name(void *ctx, const char *name, const struct ledger_amounts *a)
{
	buf_printf(ctx, "%s %lld %lld;", name, (long long)a->calls, (long long)a->cost_pusd);
}

static void check_report(struct ledger *l, struct ledger_query q, const char *expected)
{
	struct buf said = BUF_INIT(4096);

	if (!q.until_s)
		q.until_s = 1LL << 40;
	assert_true(ledger_report(l, &q, on_name, &said));
	assert_string_equal(said.data ? said.data : "", expected);
	buf_release(&said);
}

static void test_sums_up_by_hour_and_by_whom(void **state)
{
	struct fixture *f = *state;
	struct ledger *l = f->ledger;

	ledger_begin(l);
	spend(l, 7200, &alice, 10, 100);
	spend(l, 7200 + 3599, &alice, 10, 50);
	spend(l, 7200 + 3600, &alice, 10, 7);
	spend(l, 90000, &bob, 10, 1000);
	assert_true(ledger_commit(l));
	check_report(l, (struct ledger_query){.by = LEDGER_BY_KEY}, "bob 1 1000;alice 3 157;");
	check_report(l, (struct ledger_query){.by = LEDGER_BY_TEAM}, " 1 1000;red 3 157;");
	check_report(l, (struct ledger_query){.by = LEDGER_BY_USER, .key = "alice"}, "u1 3 157;");
	check_report(l, (struct ledger_query){.by = LEDGER_BY_DAY}, "1970-01-01 3 157;1970-01-02 1 1000;");
	check_report(l, (struct ledger_query){.by = LEDGER_BY_HOUR, .until_s = 86400},
		"1970-01-01T02:00Z 2 150;1970-01-01T03:00Z 1 7;");
	check_report(l, (struct ledger_query){.by = LEDGER_BY_MODEL, .since_s = 10800}, "large 1 1000;demo 1 7;");
	check_report(l, (struct ledger_query){.by = LEDGER_BY_KEY, .model = "none"}, "");
}

static void test_a_counter_knows_what_is_spent_and_what_is_held(void **state)
{
	struct fixture *f = *state;
	struct ledger *l = f->ledger;
	struct ledger_count c = {.usd = true, .who = {.key = "alice"}, .from_s = 3600, .to_s = 7200};

	ledger_begin(l);
	spend(l, 3599, &alice, 1, 100000);
	spend(l, 3600, &alice, 1, 20000);
	spend(l, 7200, &alice, 1, 3000);
	spend(l, 3600, &bob, 1, 400);
	hold(l, 1, 3600, &alice, 50);
	hold(l, 2, 3600, &bob, 6);
	hold(l, 3, 7200, &alice, 7);
	ledger_sum(l, &c);
	assert_true(ledger_commit(l));
	assert_int_equal(c.spent, 20000);
	assert_int_equal(c.counted, 20050);
	assert_int_equal(c.through, 3);
	c.usd = false;
	ledger_sum(l, &c);
	assert_int_equal(c.counted, 1 + 5);
	c.who = (struct ledger_who){0};
	c.usd = true;
	ledger_sum(l, &c);
	assert_int_equal(c.counted, 20456);
	c.who = (struct ledger_who){.team = ""};
	ledger_sum(l, &c);
	assert_int_equal(c.counted, 406);
}

static void on_hold(void *ctx, const struct ledger_hold *h)
{
	buf_printf(ctx, "%lld:%s%s ", (long long)h->id.number, h->who.key, h->settled ? "!" : "");
}

static void check_holds(struct ledger *l, const char *expected)
{
	struct buf said = BUF_INIT(4096);

	ledger_holds(l, on_hold, &said);
	assert_string_equal(said.data ? said.data : "", expected);
	buf_release(&said);
}

static void test_a_reservation_is_known_once_and_settled_once(void **state)
{
	struct fixture *f = *state;
	struct ledger *l = f->ledger;
	struct buf said = BUF_INIT(4096);
	int64_t last;

	ledger_begin(l);
	hold(l, 1, 0, &alice, 50);
	hold(l, 1, 0, &alice, 50);
	hold(l, 2, 0, &bob, 50);
	assert_true(ledger_commit(l));
	check_holds(l, "1:alice 2:bob ");
	ledger_begin(l);
	ledger_settle(l, 1);
	assert_true(ledger_commit(l));
	check_holds(l, "1:alice! 2:bob ");
	ledger_find(l, &(struct ledger_id){7, 1}, on_hold, &said);
	assert_int_equal(said.len, 0); /* it is not to be settled again */
	ledger_find(l, &(struct ledger_id){7, 2}, on_hold, &said);
	assert_string_equal(said.data, "2:bob ");
	ledger_begin(l);
	last = ledger_last(l);
	ledger_forget(l, 1);
	ledger_forget(l, last);
	assert_true(ledger_commit(l));
	check_holds(l, "");
	assert_int_equal(ledger_last(l), last); /* a number is never given again */
	buf_release(&said);
}

static void on_count(void *ctx, const struct ledger_count *c)
{
	buf_printf(ctx, "%s=%llx ", c->counter, (unsigned long long)c->generation);
}

static void check_counts(struct ledger *l, const struct ledger_who *who, int64_t at_s, const char *expected)
{
	struct buf said = BUF_INIT(4096);

	ledger_counts_of(l, who, at_s, on_count, &said);
	assert_string_equal(said.data ? said.data : "", expected);
	buf_release(&said);
}

static void test_finds_the_counters_that_count_somebody(void **state)
{
	struct fixture *f = *state;
	struct ledger *l = f->ledger;
	struct ledger_count key = {"a", true, {.key = "alice"}, 0, 3600, 0xffffffffffffffffu, 1, 2, 3},
			    all = {"b", true, {0}, 0, 7200, 2, 1, 2, 3},
			    loner = {"c", true, {.team = "", .key = "bob"}, 0, 7200, 3, 1, 2, 3};

	ledger_begin(l);
	ledger_save_count(l, &key);
	ledger_save_count(l, &all);
	ledger_save_count(l, &loner);
	all.generation = 9;
	ledger_save_count(l, &all);
	assert_true(ledger_commit(l));
	check_counts(l, &alice, 3599, "a=ffffffffffffffff b=9 ");
	check_counts(l, &alice, 3600, "b=9 ");
	check_counts(l, &bob, 0, "b=9 c=3 ");
	ledger_begin(l);
	ledger_prune(l, 7200);
	assert_true(ledger_commit(l));
	check_counts(l, &alice, 0, "b=9 ");
}

static void test_outlives_its_writer(void **state)
{
	struct fixture *f = *state;
	char why[LEDGER_WHY];
	struct ledger *reader;

	ledger_begin(f->ledger);
	spend(f->ledger, 0, &alice, 1, 5);
	ledger_set_booked(f->ledger, &(struct ledger_id){1, 2});
	assert_true(ledger_commit(f->ledger));
	reader = ledger_open_to_read(f->path, why);
	assert_non_null(reader);
	check_report(reader, (struct ledger_query){.by = LEDGER_BY_KEY}, "alice 1 5;");
	ledger_begin(f->ledger); /* who reads sees what is whole */
	spend(f->ledger, 0, &alice, 1, 5);
	check_report(reader, (struct ledger_query){.by = LEDGER_BY_KEY}, "alice 1 5;");
	ledger_close(reader);
	ledger_close(f->ledger);
	f->ledger = ledger_open(f->path, why);
	assert_non_null(f->ledger);
	check_report(f->ledger, (struct ledger_query){.by = LEDGER_BY_KEY}, "alice 1 5;");
	assert_int_equal(ledger_booked(f->ledger).number, 2);
}

static void test_says_why_it_cannot_be_opened(void **state)
{
	struct fixture *f = *state;
	char path[FILE_PATH * 2], why[LEDGER_WHY] = "";

	snprintf(path, sizeof(path), "%s/none.db", f->folder);
	assert_null(ledger_open_to_read(path, why));
	check_contains(why, "unable to open");
	snprintf(path, sizeof(path), "%s/text", f->folder);
	write_file(path,
		"this is no database, and long enough to tell: ..................................................",
		0600);
	assert_null(ledger_open(path, why));
	check_contains(why, "not a database");
}

static void test_a_transaction_is_all_or_nothing(void **state)
{
	struct fixture *f = *state;
	struct ledger *l = f->ledger;
	struct ledger *other;
	char why[LEDGER_WHY];

	other = ledger_open(f->path, why);
	assert_non_null(other);
	ledger_begin(other);
	spend(other, 0, &bob, 1, 1);
	ledger_begin(l); /* one writer at a time */
	spend(l, 0, &alice, 1, 5);
	assert_false(ledger_commit(l));
	check_contains(ledger_why(l), "locked");
	assert_true(ledger_commit(other));
	ledger_close(other);
	ledger_begin(l);
	spend(l, 0, &alice, 1, 7);
	assert_true(ledger_commit(l));
	check_report(l, (struct ledger_query){.by = LEDGER_BY_KEY}, "alice 1 7;bob 1 1;");
}

#define WITH_LEDGER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_LEDGER(test_sums_up_by_hour_and_by_whom),
		WITH_LEDGER(test_a_counter_knows_what_is_spent_and_what_is_held),
		WITH_LEDGER(test_a_reservation_is_known_once_and_settled_once),
		WITH_LEDGER(test_finds_the_counters_that_count_somebody),
		WITH_LEDGER(test_outlives_its_writer),
		WITH_LEDGER(test_says_why_it_cannot_be_opened),
		WITH_LEDGER(test_a_transaction_is_all_or_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
