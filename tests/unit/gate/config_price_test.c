/* A model's price is what it says itself, else what the list says of the provider's name for it; and no limit of money
 * counts what has none. */
#include "../config_unit.h"

#define LISTED(models, more) \
	"{'providers':{'p':{'base_url':'http://h/v1'}},'models':{" models "},'keys_file':'keys.json'," \
	"'prices_file':'prices.json'" more "}"
#define USD \
	",'limits':[{'name':'free','amount':1,'window':'1m'},{'name':'spend','count':'usd','amount':1,'window':'1d'}]"

static const char list[] =
	"{/* dated */'a':{'input':'1','cached_input':'0.5','output':'2','flex':{'input':'0.5','output':1}},"
	"'a-2024-05-13':{'input':5,'output':15},'e':{'input':'0.02','output':0},"
	"'big':{'input':1,'output':2,'large':{'above':1000,'input':2,'output':3}}}";

static void write_list(const char *text)
{
	char path[FILE_PATH];

	snprintf(path, sizeof(path), "%s/prices.json", u.folder);
	write_json_file(path, text, 0644);
}

static const struct rates unknown = {-1, -1, -1, -1, -1, -1};

static void check(const char *model, struct rates expected)
{
	char text[1024];
	struct config *c;
	const struct model *m;

	write_list(list);
	snprintf(text, sizeof(text), LISTED("'m':{'provider':'p',%s}", ""), model);
	c = must_load(text);
	m = config_model(c, "m");
	assert_memory_equal(&m->price, &expected, sizeof(expected));
	config_free(c);
}

static void test_found_by_name(void **state)
{
	const struct rates a = {1000000, 500000, 1000000, 2000000, -1, -1};

	(void)state;
	check("'model':'a'", a);
	check("'model':'a-2099-01-31'", a);
	check("'model':'a-20990131'", a);
	check("'model':'a-2024-05-13'", (struct rates){5000000, 5000000, 5000000, 15000000, -1, -1});
	check("'model':'e'", (struct rates){20000, 20000, 20000, 0, -1, -1});
	check("'model':'a-2099-1-31'", unknown);
	check("'model':'a-latest'", unknown);
	check("'model':'-2099-01-31'", unknown);
	check("'model':'b'", unknown);
}

static void test_overridden_member_by_member(void **state)
{
	(void)state;
	check("'model':'a','price':{'output':7}", (struct rates){1000000, 500000, 1000000, 7000000, -1, -1});
	check("'model':'a','price':{'cached_input':0,'cache_write':3}",
		(struct rates){1000000, 0, 3000000, 2000000, -1, -1});
	check("'model':'b','price':{'input':3,'output':4,'audio_output':9}",
		(struct rates){3000000, 3000000, 3000000, 4000000, -1, 9000000});
}

static void test_tiers(void **state)
{
	struct config *c;

	(void)state;
	write_list(list);
	c = must_load(LISTED("'a':{'provider':'p'},'big':{'provider':'p','price':{'large':{'output':9}}}", ""));
	assert_int_equal(config_model(c, "a")->flex.input, 500000);
	assert_int_equal(config_model(c, "a")->flex.cached_input, 500000);
	assert_int_equal(config_model(c, "a")->priority.input, -1);
	assert_int_equal(config_model(c, "big")->large_above, 1000);
	assert_int_equal(config_model(c, "big")->large.input, 2000000);
	assert_int_equal(config_model(c, "big")->large.output, 9000000);
	config_free(c);
}

static void refused(const char *text, const char *const *parts)
{
	struct config *c = load_text(text);

	assert_null(c);
	for (; *parts; parts++)
		check_contains(u.message, *parts);
}

static void test_a_limit_of_money_needs_prices(void **state)
{
	(void)state;
	write_list(list);
	config_free(must_load(LISTED("'a':{'provider':'p'},'x':{'provider':'p','price':{'input':0,'output':0}}", USD)));
	refused(LISTED("'a':{'provider':'p'},'x':{'provider':'p'}", USD),
		PARTS("pavise.json: limits[1]: ", "\"spend\"", "\"x\" has no price", "models.x.price", "prices_file"));
	refused(LISTED("'big':{'provider':'p','price':{'priority':{'input':1}}}", ""),
		PARTS("models.big.price.priority", "both input and output"));
	refused(LISTED("'a':{'provider':'p','price':{'large':{'above':5}}}", ""),
		PARTS("models.a.price.large", "both input and output"));
	/* without money nothing needs one */
	config_free(
		must_load(LISTED("'x':{'provider':'p'}", ",'limits':[{'name':'t','count':'tokens','amount':1,'window':"
							 "'1d'}]")));
}

static void test_a_list_that_is_none(void **state)
{
	(void)state;
	refused(LISTED("'a':{'provider':'p'}", ""), PARTS("prices.json", "cannot be read"));
	write_list("{'a':{'input':'1','output':'2','outputs':'3'}}");
	refused(LISTED("'a':{'provider':'p'}", ""), PARTS("prices.json: a.outputs: there is no such setting"));
	write_list("{'a':{'input':'one','output':'2'}}");
	refused(LISTED("'a':{'provider':'p'}", ""), PARTS("prices.json: a.input: found", "dollars per million tokens"));
	write_list("[]");
	refused(LISTED("'a':{'provider':'p'}", ""), PARTS("prices.json", "expected an object"));
}

/* Every model of the list that we ship has what it takes. */
static void test_the_list_that_we_ship(void **state)
{
	static const char *const some[] = {"gpt-6.2-sol", "gpt-5-mini-2025-08-07", "gpt-4o-mini", "o4-mini",
		"text-embedding-3-small", "deepseek-flash"};
	char text[1024], cwd[512];
	struct config *c;
	size_t i;

	(void)state;
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	for (i = 0; i < COUNT(some); i++) {
		snprintf(text, sizeof(text),
			"{'providers':{'p':{'base_url':'http://h/v1'}},'models':{'m':{'provider':'p','model':'%s'}},"
			"'keys_file':'keys.json','prices_file':'%s/conf/prices.json'" USD "}",
			some[i], cwd);
		c = must_load(text);
		assert_true(c->prices.count > 30 && config_model(c, "m")->price.input > 0);
		config_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_found_by_name, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_overridden_member_by_member, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_tiers, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_a_limit_of_money_needs_prices, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_a_list_that_is_none, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_the_list_that_we_ship, config_unit_begin, config_unit_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
