/* Whatever is counted for a batch, its shares are whole and add up to it. */
#include "../unit.h"

#include "wire/batch_usage.h"

static void check_prints(struct json_object *value, const char *single_quoted)
{
	struct buf got = BUF_INIT(1 << 16), wanted = BUF_INIT(1 << 16);

	add_json_text(&wanted, single_quoted);
	json_print(&got, value);
	assert_string_equal(got.data, wanted.data);
	buf_release(&got);
	buf_release(&wanted);
}

static const struct {
	const char *usage, *first, *second, *sum; /* shares of one and of three parts of four */
} usages[] = {
	{"{'a':8}", "{'a':2}", "{'a':6}", "{'a':8}"},
	{"{'a':1}", "{'a':0}", "{'a':1}", "{'a':1}"},
	{"{'a':0}", "{'a':0}", "{'a':0}", "{'a':0}"},
	{"{'a':7,'b':{'c':5,'d':{'e':4}}}", "{'a':1,'b':{'c':1,'d':{'e':1}}}", "{'a':6,'b':{'c':4,'d':{'e':3}}}",
		"{'a':7,'b':{'c':5,'d':{'e':4}}}"},
	{"{'price':0.5}", "{'price':0.125}", "{'price':0.375}", "{'price':0.5}"},
	{"{'a':null,'b':'x','c':[1,2],'d':true,'e':{}}", "{'a':null,'b':'x','c':[1,2],'d':true,'e':{}}",
		"{'a':null,'b':'x','c':[1,2],'d':true,'e':{}}", "{'a':null,'b':'x','c':[1,2],'d':true,'e':{}}"},
	{"{'a':1000000000,'b':1000000001,'c':-1,'d':9223372036854775807,'e':18446744073709551615}", "{'a':250000000}",
		"{'a':750000000}", "{'a':1000000000}"},
	{"{}", "{}", "{}", "{}"},
};

static void test_shares(void **state)
{
	struct json_object *usage, *first, *second, *sum;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(usages); i++) {
		usage = parse_json(usages[i].usage);
		first = usage_share(usage, 0, 1, 4);
		second = usage_share(usage, 1, 4, 4);
		sum = json_object_new_object();
		usage_add(sum, first);
		usage_add(sum, second);
		check_prints(first, usages[i].first); /* which adding did not change */
		check_prints(second, usages[i].second);
		check_prints(sum, usages[i].sum);
		check_prints(usage, usages[i].usage);
		json_release(usage);
		json_release(first);
		json_release(second);
		json_release(sum);
	}
}

static void test_what_is_no_usage(void **state)
{
	static const char *const others[] = {"[]", "7", "'x'", "true"};
	struct json_object *other, *sum = parse_json("{'a':1}");
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(others); i++) {
		other = parse_json(others[i]);
		assert_null(usage_share(other, 0, 1, 1));
		json_release(other);
	}
	assert_null(usage_share(NULL, 0, 1, 1));
	usage_add(sum, NULL);
	check_prints(sum, "{'a':1}");
	json_release(sum);
}

/* As many inputs as there may be, of any lengths. */
static void test_parts_add_up(void **state)
{
	uint64_t seed = 3, before, after, total;
	int64_t count, sum;
	int round, i;

	(void)state;
	for (round = 0; round < 200; round++) {
		count = (int64_t)chance_below(&seed, 1000000001);
		total = 2048 * ((uint64_t)1 << chance_below(&seed, 40));
		sum = 0;
		before = 0;
		for (i = 0; i < 2048; i++) {
			after = i == 2047 ? total : before + chance_below(&seed, 2 * total / 2048);
			after = after < total ? after : total;
			sum += usage_part(count, before, after, total);
			assert_true(usage_part(count, before, after, total) >= 0);
			before = after;
		}
		assert_int_equal(sum, count);
	}
}

static const struct {
	const char *sum, *share, *result;
} sums[] = {
	{"{'a':1}", "{'a':2,'b':3}", "{'a':3,'b':3}"},
	{"{'a':1}", "{'a':0.5}", "{'a':1.5}"},
	{"{'a':0.5}", "{'a':1}", "{'a':1.5}"},
	{"{'a':null}", "{'a':1}", "{'a':1}"},
	{"{'a':1}", "{'a':null}", "{'a':null}"},
	{"{'a':1}", "{'a':{'b':2}}", "{'a':{'b':2}}"},
	{"{'a':{'b':2}}", "{'a':1}", "{'a':1}"},
	{"{'a':{'b':2,'c':1}}", "{'a':{'b':3}}", "{'a':{'b':5,'c':1}}"},
	{"{'a':'old'}", "{'a':'new'}", "{'a':'new'}"},
	{"{'a':[1]}", "{'a':[2,3]}", "{'a':[2,3]}"},
};

static void test_sums(void **state)
{
	struct json_object *sum, *share;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(sums); i++) {
		sum = parse_json(sums[i].sum);
		share = parse_json(sums[i].share);
		usage_add(sum, share);
		check_prints(sum, sums[i].result);
		check_prints(share, sums[i].share);
		usage_add(sum, share); /* what was copied grows by itself */
		check_prints(share, sums[i].share);
		json_release(sum);
		json_release(share);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_what_is_no_usage),
		cmocka_unit_test(test_parts_add_up),
		cmocka_unit_test(test_sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
