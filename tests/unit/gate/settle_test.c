/* What a call has cost is what the provider says, else the most that it can have been; and it is settled once. */
#include "../memcached_unit.h"

#include "gate/admit.h"
#include "gate/budget.h"
#include "gate/limit.h"
#include "gate/settle.h"

enum { INPUT = 300, CAP = 100, TOKENS = INPUT + CAP, IN = 1000, CACHED = 500, OUT = 4000 };
#define PUSD ((int64_t)INPUT * IN + CAP * OUT)

static char folder[FOLDER_PATH];
static struct memcached server;
static struct limit limits[2] = {
	{.name = "tokens", .count = COUNT_TOKENS, .amount = 1000000, .window = 60000000, .enforce = true},
	{.name = "usd", .count = COUNT_USD, .amount = 1000000000, .window = 60000000, .enforce = true}};
static struct config config = {.memcached.prefix = "pv", .limits = {limits, 2}};
static struct key alice = {.name = "alice"};
static struct model model;
static struct worker worker;
static struct admission admission;
static int64_t before[2];

static const struct heard whole = {.whole = true, .tokens = 20}, part = {.tokens = 20};

static void look(struct txn *t)
{
	budget_look(t);
	assert_true(t->limits[0].used >= 0 && t->limits[1].used >= 0);
}

/* A call that has been admitted, for INPUT tokens and an answer of CAP. */
static struct txn call(void)
{
	static struct store_item batch[LIMIT_ITEMS];
	struct txn t = {.worker = &worker,
		.config = &config,
		.key = &alice,
		.model = &model,
		.batch = batch,
		.admission = &admission,
		.cost_pusd = -1};
	static struct arena arena;
	const struct limit_use *by;

	t.arena = &arena;
	model = (struct model){
		.name = "m", .price = {IN, CACHED, IN, OUT, -1, -1}, .priority = {-1, -1, -1, -1, -1, -1}};
	admission = (struct admission){.bound = {.tokens = INPUT, .pusd = INPUT * IN, .answers = 1},
		.cap = CAP,
		.tokens = TOKENS,
		.pusd = PUSD,
		.open = true};
	answer_facts_init(&t.facts);
	store_begin(worker.store);
	limit_prepare(&t);
	look(&t);
	before[0] = t.limits[0].used;
	before[1] = t.limits[1].used;
	t.limits[0].reserved = TOKENS;
	t.limits[1].reserved = PUSD;
	assert_int_equal(budget_reserve(&t, &by), BUDGET_TAKEN);
	return t;
}

/* What of all this was charged. */
static void check(struct txn *t, int64_t tokens, int64_t pusd, bool estimated)
{
	look(t);
	assert_int_equal(t->limits[0].used - before[0], tokens);
	assert_int_equal(t->limits[1].used - before[1], pusd);
	assert_int_equal(t->limits[0].used, t->limits[0].settled);
	assert_int_equal(t->limits[1].used, t->limits[1].settled);
	assert_int_equal(t->cost_pusd, pusd);
	assert_int_equal(t->cost_estimated, estimated);
	assert_false(admission.open);
	settle_refused(t); /* comes too late */
	settle_unknown(t);
	look(t);
	assert_int_equal(t->limits[1].used - before[1], pusd);
}

static void test_what_the_provider_says(void **state)
{
	struct txn t = call();

	(void)state;
	t.facts.input_tokens = 50;
	t.facts.cached_tokens = 30;
	t.facts.output_tokens = 10;
	settle_answer(&t, &whole);
	check(&t, 60, 20 * IN + 30 * CACHED + 10 * OUT, false);

	t = call(); /* more than it was allowed */
	t.facts.input_tokens = 5000;
	t.facts.output_tokens = 7000;
	settle_answer(&t, &whole);
	check(&t, 12000, 5000LL * IN + 7000LL * OUT, false);

	t = call(); /* a model that thinks is believed, too */
	model.reasoning = true;
	t.facts.input_tokens = 50;
	t.facts.output_tokens = 10;
	settle_answer(&t, &whole);
	check(&t, 60, 50 * IN + 10 * OUT, false);
}

static void test_refused_and_unknown(void **state)
{
	struct txn t = call();

	(void)state;
	settle_refused(&t);
	check(&t, 0, 0, false);
	t = call();
	settle_unknown(&t);
	check(&t, TOKENS, PUSD, true);
}

static void test_what_its_bytes_bound(void **state)
{
	struct txn t = call();

	(void)state;
	settle_answer(&t, &part);
	check(&t, INPUT + 20, INPUT * IN + 20 * OUT, true);

	t = call(); /* what it says of its input is known early */
	t.facts.input_tokens = 50;
	settle_answer(&t, &part);
	check(&t, 50 + 20, 50 * IN + 20 * OUT, true);

	t = call(); /* a count on the way may be behind what has been seen, and may be ahead */
	t.facts.input_tokens = 50;
	t.facts.output_tokens = 3;
	settle_answer(&t, &part);
	check(&t, 50 + 20, 50 * IN + 20 * OUT, true);
	t = call();
	t.facts.output_tokens = 40;
	settle_answer(&t, &part);
	check(&t, INPUT + 40, INPUT * IN + 40 * OUT, true);

	t = call(); /* never more than was set aside */
	settle_answer(&t, &(struct heard){.tokens = 100000});
	check(&t, TOKENS, PUSD, true);

	t = call(); /* whole, and silent */
	settle_answer(&t, &whole);
	check(&t, INPUT + 20, INPUT * IN + 20 * OUT, true);
}

static void test_what_bytes_do_not_show(void **state)
{
	struct heard thought = part;
	struct txn t = call();

	(void)state;
	thought.reasoned = true;
	settle_answer(&t, &thought);
	check(&t, TOKENS, PUSD, true);
	t = call();
	model.reasoning = true;
	settle_answer(&t, &part);
	check(&t, TOKENS, PUSD, true);
	t = call();
	admission.bound.whole = true;
	settle_answer(&t, &part);
	check(&t, TOKENS, PUSD, true);
}

static void test_what_usage_does_not_say(void **state)
{
	struct txn t = call();

	(void)state;
	admission.bound.unpriced = true;
	t.facts.input_tokens = 50;
	t.facts.output_tokens = 10;
	settle_answer(&t, &whole);
	check(&t, 60, PUSD, true);
	t = call(); /* a tier that has no price */
	strcpy(t.facts.tier, "priority");
	t.facts.input_tokens = 50;
	t.facts.output_tokens = 10;
	settle_answer(&t, &whole);
	check(&t, 60, PUSD, true);
}

/* Nothing is counted: the cost is only for the log, and only where it is known. */
static void measure_it(struct measure *m, struct json_object *body)
{
	(void)body;
	*m = (struct measure){.text = INPUT, .inputs = 1, .answers = 1, .cap = CAP};
}

static struct txn call_without_a_budget(void)
{
	static const struct operation operation = {.measure = measure_it};
	static const struct endpoint endpoint = {.operation = &operation};
	struct txn t = {.worker = &worker,
		.config = &config,
		.key = &alice,
		.model = &model,
		.endpoint = &endpoint,
		.called = true,
		.cost_pusd = -1};

	answer_facts_init(&t.facts);
	model.price.input = IN;
	return t;
}

static void test_without_a_budget(void **state)
{
	struct txn t = call();

	(void)state;
	settle_refused(&t);
	t = call_without_a_budget();
	t.facts.input_tokens = 50;
	t.facts.output_tokens = 10;
	settle_answer(&t, &whole);
	settle_refused(&t); /* comes too late */
	settle_unknown(&t);
	assert_int_equal(t.cost_pusd, 50 * IN + 10 * OUT);
	assert_false(t.cost_estimated);

	t = call_without_a_budget(); /* what was seen of it */
	settle_answer(&t, &part);
	settle_answer(&t, &whole);
	assert_int_equal(t.cost_pusd, INPUT * IN + part.tokens * OUT);
	assert_true(t.cost_estimated);

	t = call_without_a_budget();
	settle_refused(&t);
	settle_unknown(&t);
	assert_int_equal(t.cost_pusd, 0);
	assert_false(t.cost_estimated);

	t = call_without_a_budget(); /* it may have worked */
	settle_unknown(&t);
	settle_refused(&t);
	assert_int_equal(t.cost_pusd, INPUT * IN + CAP * OUT);
	assert_true(t.cost_estimated);

	t = call_without_a_budget(); /* nobody knows what it costs */
	model.price.input = -1;
	settle_unknown(&t);
	settle_answer(&t, &whole);
	assert_int_equal(t.cost_pusd, -1);
}

static int set_up(void **state)
{
	const char *const servers[] = {server.path, NULL};

	(void)state;
	make_folder(folder);
	snprintf(server.path, sizeof(server.path), "%s/1.sock", folder);
	memcached_start(&server);
	worker.stats = new_stats();
	worker.store = store_of(servers, 5000, worker.stats);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	store_free(worker.store);
	memcached_end(&server);
	remove_folder(folder);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_provider_says),
		cmocka_unit_test(test_refused_and_unknown),
		cmocka_unit_test(test_what_its_bytes_bound),
		cmocka_unit_test(test_what_bytes_do_not_show),
		cmocka_unit_test(test_what_usage_does_not_say),
		cmocka_unit_test(test_without_a_budget),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
