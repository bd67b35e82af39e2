/* What a configuration takes from elsewhere: the environment, secrets, the keys file; and when it is to be read again.
 */
#include "../config_unit.h"

/* ---- the environment ---- */

static const char *base_url_of(struct config *c)
{
	return ((const struct provider *)c->providers.items)->base_url;
}

static void check_expands(const char *written, const char *expected)
{
	char text[512];
	struct config *c;

	snprintf(text, sizeof(text), PROVIDER("'base_url':'%s'"), written);
	c = must_load(text);
	assert_string_equal(base_url_of(c), expected);
	config_free(c);
}

static void test_environment(void **state)
{
	static const char *const malformed[] = {"${", "${}", "${UNIT_HOST", "${UNIT HOST}", "${UNIT-HOST}",
		"${UNIT_HOST:x}", "${UNIT_HOST:}", "${:-x}", "${UNIT_HOST:-x", "${ UNIT_HOST}", "${UNIT_HOST}${"};
	char text[512];
	size_t i;

	(void)state;
	setenv("UNIT_HOST", "h.example", 1);
	setenv("UNIT_EMPTY", "", 1);
	unsetenv("UNIT_NONE");
	check_expands("http://${UNIT_HOST}/v1", "http://h.example/v1");
	check_expands("http://${UNIT_HOST:-other}:${UNIT_NONE:-8081}/v1", "http://h.example:8081/v1");
	check_expands("http://${UNIT_NONE:-h}${UNIT_NONE:-}/v1", "http://h/v1");
	check_expands("http://${UNIT_EMPTY:-h}/v1", "http://h/v1");
	check_expands("http://h/$UNIT_HOST/{}/$", "http://h/$UNIT_HOST/{}/$");
	for (i = 0; i < COUNT(malformed); i++) {
		snprintf(text, sizeof(text), PROVIDER("'base_url':'http://%s/v1'"), malformed[i]);
		check_refused(text, "providers.p.base_url", PARTS("found 'http://$", "${NAME} or ${NAME:-default}"));
	}
	check_refused(PROVIDER("'base_url':'http://${UNIT_NONE}/v1'"), "providers.p.base_url",
		PARTS("found 'http://${UNIT_NONE}/v1'", "environment variable UNIT_NONE is not set", "a string"));
	/* what a variable holds is a value, not another one's name */
	setenv("UNIT_HOST", "${UNIT_NONE}", 1);
	check_refused(WITH("'memcached':{'servers':['${UNIT_NONE}']}"), "memcached.servers[0]",
		PARTS("UNIT_NONE is not set"));
	check_expands("http://h/${UNIT_HOST}", "http://h/${UNIT_NONE}");
}

/* Every kind of value that may be a string. */
static void test_environment_in_figures(void **state)
{
	struct config *c;

	(void)state;
	setenv("UNIT_N", "7", 1);
	setenv("UNIT_D", "2m", 1);
	setenv("UNIT_WORD", "stderr", 1);
	c = must_load(WITH("'server':{'workers':{'min':'${UNIT_N}','max':'${UNIT_NONE:-9}'},'max_body':'${UNIT_N}MiB',"
			   "'shutdown_grace':'${UNIT_D}'},'log':{'to':'${UNIT_WORD}'},"
			   "'memcached':{'servers':['a${UNIT_N}','b']}"));
	assert_int_equal(c->server.workers.min, 7);
	assert_int_equal(c->server.workers.max, 9);
	assert_int_equal(c->server.max_body, 7 << 20);
	assert_int_equal(c->server.shutdown_grace, 120000000);
	assert_int_equal(c->log.to, LOG_TO_STDERR);
	assert_string_equal(c->memcached.servers[0], "a7");
	config_free(c);
	setenv("UNIT_N", "seven", 1);
	check_refused(WITH("'server':{'workers':{'min':'${UNIT_N}'}}"), "server.workers.min",
		PARTS("found '${UNIT_N}'", "an integer"));
}

/* ---- secrets ---- */

#define SECRET(value) PROVIDER("'base_url':'http://h','api_key':" value)

static const struct provider *provider_of(struct config *c)
{
	return c->providers.items;
}

static void test_secret_file(void **state)
{
	struct config *c;
	struct buf text = BUF_INIT(1024);

	(void)state;
	write_file(u.secret, "sk-123\nsecond line\n", 0600);
	c = must_load(SECRET("{'file':'secret'}"));
	assert_string_equal(provider_of(c)->api_key.value, "sk-123");
	assert_null(provider_of(c)->off);
	config_free(c);
	write_file(u.secret, "sk-123", 0640);
	buf_printf(&text, SECRET("{'file':'%s'}"), u.secret);
	c = must_load(text.data);
	assert_string_equal(provider_of(c)->api_key.value, "sk-123");
	config_free(c);
	buf_release(&text);
	write_file(u.secret, "sk-123\r\n", 0600);
	c = must_load(SECRET("{'file':'secret'}"));
	assert_string_equal(provider_of(c)->api_key.value, "sk-123");
	config_free(c);

	write_file(u.secret, "sk-123", 0644);
	check_refused(SECRET("{'file':'secret'}"), "providers.p.api_key", PARTS(u.secret, "644", "expected 600"));
	assert_false(contains(u.message, "sk-123"));
	write_file(u.secret, "", 0600);
	check_refused(SECRET("{'file':'secret'}"), "providers.p.api_key", PARTS(u.secret, "empty"));
	write_file(u.secret, "\nsk-123", 0600);
	check_refused(SECRET("{'file':'secret'}"), "providers.p.api_key", PARTS(u.secret, "empty"));
	unlink(u.secret);
	check_refused(SECRET("{'file':'secret'}"), "providers.p.api_key", PARTS(u.secret, "No such file"));
}

static void test_secret_variable(void **state)
{
	struct config *c;

	(void)state;
	setenv("UNIT_KEY", "sk-456", 1);
	c = must_load(SECRET("'${UNIT_KEY}'"));
	assert_string_equal(provider_of(c)->api_key.value, "sk-456");
	assert_null(provider_of(c)->off);
	config_free(c);
	unsetenv("UNIT_KEY");
	c = must_load(SECRET("'${UNIT_KEY}'")); /* one file serves everybody: the provider is off, no more */
	assert_null(provider_of(c)->api_key.value);
	assert_string_equal(provider_of(c)->api_key.unset, "UNIT_KEY");
	check_contains(provider_of(c)->off, "UNIT_KEY is not set");
	config_free(c);
	setenv("UNIT_KEY", "a\r\nb: c", 1);
	check_refused(SECRET("'${UNIT_KEY}'"), "providers.p.api_key", PARTS("line break"));
	check_refused(SECRET("'sk-789${UNIT_KEY'"), "providers.p.api_key", PARTS("${NAME}"));
	assert_false(contains(u.message, "sk-789"));
}

/* Nobody is unsealed by accident: a seal that is named and is none is an error. */
static void test_seal(void **state)
{
	static const char seal[] = WITH("'cache':{'seal':'${UNIT_KEY}'}");
	struct config *c;

	(void)state;
	setenv("UNIT_KEY", "sixteen-bytes-01", 1);
	c = must_load(seal);
	assert_non_null(c->cache.sealed);
	config_free(c);
	setenv("UNIT_KEY", "fifteen-bytes-1", 1);
	check_refused(seal, "cache.seal", PARTS("found 15 bytes", "at least 16"));
	assert_false(contains(u.message, "fifteen-bytes"));
	setenv("UNIT_KEY", "", 1); /* as good as not set */
	check_refused(seal, "cache.seal", PARTS("UNIT_KEY is not set"));
	unsetenv("UNIT_KEY");
	check_refused(seal, "cache.seal", PARTS("UNIT_KEY is not set"));
	check_refused(WITH("'cache':{'seal':''}"), "cache.seal", PARTS("found 0 bytes"));
	check_refused(WITH("'cache':{'seal':'${UNIT_KEY:-}'}"), "cache.seal", PARTS("found 0 bytes"));
	check_refused(WITH("'cache':{'seal':'a secret that stands here'}"), "cache.seal", PARTS("chmod 600"));
	write_file(u.secret, "sixteen-bytes-01\n", 0600);
	c = must_load(WITH("'cache':{'seal':{'file':'secret'}}"));
	assert_non_null(c->cache.sealed);
	config_free(c);
	unlink(u.secret);
	check_refused(WITH("'cache':{'seal':{'file':'secret'}}"), "cache.seal", PARTS("No such file"));
}

static void test_literal_secret(void **state)
{
	struct config *c;

	(void)state;
	check_refused(SECRET("'sk-789'"), "providers.p.api_key", PARTS("644", "chmod 600"));
	assert_false(contains(u.message, "sk-789"));
	unsetenv("UNIT_KEY");
	check_refused(SECRET("'${UNIT_KEY:-sk-789}'"), "providers.p.api_key", PARTS("chmod 600"));
	write_json_file(u.file, SECRET("'sk-789'"), 0600);
	c = load_file();
	assert_non_null(c);
	assert_string_equal(provider_of(c)->api_key.value, "sk-789");
	config_free(c);
	chmod(u.file, 0640);
	c = load_file();
	assert_non_null(c);
	config_free(c);
}

/* ---- the keys file ---- */

static void check_keys_refused(const char *keys, const char *path, const char *const *parts)
{
	write_json_file(u.keys, keys, 0644);
	write_json_file(u.file, ALONE, 0644);
	check_message(u.keys, path, parts);
}

#define HEX_UPPER "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"

static void test_keys(void **state)
{
	struct config *c;
	const struct key *k;

	(void)state;
	write_json_file(u.keys,
		"// comment\n{'alice':{'sha256':['" HEX
		"','0000000000000000000000000000000000000000000000000000000000000001'],"
		"'team':'red','models':['gpt-4o-*','demo'],'expires':'2027-01-01T00:00:00Z'},"
		"'root':{'sha256':'0000000000000000000000000000000000000000000000000000000000000002',"
		"'admin':true,'disabled':true}}",
		0644);
	c = must_load(ALONE);
	assert_int_equal(c->keys.count, 2);
	k = c->keys.items;
	assert_string_equal(k[0].name, "alice");
	assert_int_equal(k[0].sha256_count, 2);
	assert_int_equal(k[0].sha256[0][0], 0x9f);
	assert_int_equal(k[0].sha256[1][31], 1);
	assert_string_equal(k[0].team, "red");
	assert_string_equal(k[0].models[1], "demo");
	assert_null(k[0].models[2]);
	assert_true(k[0].expires_ms == 1798761600000);
	assert_false(k[0].admin);
	assert_int_equal(k[1].sha256_count, 1);
	assert_null(k[1].team);
	assert_string_equal(k[1].models[0], "*");
	assert_int_equal(k[1].expires_ms, 0);
	assert_true(k[1].admin && k[1].disabled);
	config_free(c);
	write_json_file(u.keys, "{}", 0644);
	check_loads(ALONE);
}

static void test_bad_keys(void **state)
{
	(void)state;
	check_keys_refused("{'a':{}}", "a.sha256", PARTS("missing", "SHA-256"));
	check_keys_refused("{'a':{'sha256':'xyz'}}", "a.sha256", PARTS("found 'xyz'", "64 hexadecimal digits"));
	check_keys_refused("{'a':{'sha256':'" HEX "0'}}", "a.sha256", PARTS("64 hexadecimal digits"));
	check_keys_refused("{'a':{'sha256':['" HEX "','g']}}", "a.sha256", PARTS("found 'g'", "64 hexadecimal digits"));
	check_keys_refused("{'a':{'sha256':['" HEX "','" HEX "','" HEX "']}}", "a.sha256", PARTS("found 3", "1 to 2"));
	check_keys_refused("{'a':{'sha256':[]}}", "a.sha256", PARTS("found 0", "1 to 2"));
	check_keys_refused("{'a':{'sha256':7}}", "a.sha256", PARTS("found 7", "a string"));
	check_keys_refused("{'a':{'sha256':'" HEX "','expires':'tomorrow'}}", "a.expires",
		PARTS("found 'tomorrow'", "2027-01-01T"));
	check_keys_refused(
		"{'a':{'sha256':'" HEX "','expires':'2027-02-30T00:00:00Z'}}", "a.expires", PARTS("2027-02-30"));
	check_keys_refused("{'a':{'sha256':'" HEX "','models':7}}", "a.models", PARTS("found 7"));
	check_keys_refused(
		"{'a':{'sha256':'" HEX "','admin':'yes'}}", "a.admin", PARTS("found 'yes'", "true or false"));
	check_keys_refused("{'a':{'sha256':'" HEX "','key':'x'}}", "a.key", PARTS("no such setting", "sha256, team"));
	check_keys_refused("{'a b':{'sha256':'" HEX "'}}", "a b", PARTS("A-Z"));
	check_keys_refused("{'a':7}", "a", PARTS("found 7", "an object"));
	check_keys_refused("[]", "", PARTS("found an array", "an object"));
	check_keys_refused("{'a':{}", "", PARTS("line 1"));
	check_keys_refused("{'a':{'sha256':'" HEX "'},'a':{'sha256':'" HEX "'}}", "a", PARTS("twice"));
	/* two names for one secret, or one twice, in whatever spelling */
	check_keys_refused(
		"{'a':{'sha256':'" HEX "'},'b':{'sha256':['" HEX_UPPER "']}}", "b.sha256", PARTS("stands in 'a' too"));
	check_keys_refused("{'a':{'sha256':['" HEX "','" HEX "']}}", "a.sha256", PARTS("stands in 'a' too"));
	unlink(u.keys);
	check_message(u.keys, "", PARTS("cannot be read", "No such file"));
}

#define KEY_WITH(limits) "{'a':{'sha256':'" HEX "','limits':[" limits "]}}"
/* One may count money. */
#define PRICED(limit) \
	"{'providers':{'p':{'base_url':'http://h/v1'}},'keys_file':'keys.json'," \
	"'models':{'m':{'provider':'p','price':{'input':1,'output':2}}}," \
	"'limits':[{'name':'a','amount':1,'window':'1m'},{" limit "}]}"

static void test_limits_of_a_key(void **state)
{
	const struct limit *l;
	const struct key *k;
	struct config *c;

	(void)state;
	write_json_file(u.keys,
		KEY_WITH("{'name':'day','count':'usd','amount':'1.50','window':'1d'},"
			 "{'name':'burst','per':['user','model'],'amount':5,'window':'1s','enforce':false}"),
		0644);
	c = must_load(PRICED("'name':'b','amount':1,'window':'1m'"));
	k = c->keys.items;
	l = k->limits.items;
	assert_int_equal(k->limits.count, 2);
	assert_string_equal(l[0].name, "day");
	assert_int_equal(l[0].count, COUNT_USD);
	assert_int_equal(l[0].amount, 1500000000000);
	assert_int_equal(l[0].per, PER_KEY);
	assert_int_equal(l[0].on_store_down, STORE_DOWN_CLOSED);
	assert_int_equal(l[1].per, PER_KEY | PER_USER | PER_MODEL);
	assert_int_equal(l[1].on_store_down, STORE_DOWN_OPEN);
	assert_false(l[1].enforce);
	l = c->limits.items; /* those that hold for all are per key only if nothing else is said */
	assert_int_equal(l[0].per, PER_KEY);
	config_free(c);
	c = must_load(PRICED("'name':'b','amount':1,'window':'1m','per':[]"));
	l = c->limits.items;
	assert_int_equal(l[1].per, 0);
	config_free(c);
}

static void test_bad_limits_of_a_key(void **state)
{
	(void)state;
	check_keys_refused(KEY_WITH("{'name':'x','amount':1}"), "a.limits[0].window", PARTS("missing"));
	check_keys_refused(KEY_WITH("{'name':'x','amount':1,'window':'1m','per':['key']}"), "a.limits[0].per",
		PARTS("found 'key', which the key implies", "'user', 'ip' or 'model'"));
	check_keys_refused(KEY_WITH("{'name':'x','amount':1,'window':'1m','per':'team'}"), "a.limits[0].per",
		PARTS("found 'team', which the key implies"));
	check_keys_refused(KEY_WITH("{'name':'x','amount':1,'window':'1m','per':['planet']}"), "a.limits[0].per",
		PARTS("found 'planet'"));
	check_keys_refused(KEY_WITH("{'name':'x','amount':1,'window':'1m'},{'name':'x','amount':2,'window':'1h'}"),
		"a.limits[1].name", PARTS("found 'x' a second time"));
	/* one that holds for all is called so: the counter would be the same */
	write_json_file(
		u.keys, KEY_WITH("{'name':'x','amount':1,'window':'1m'},{'name':'a','amount':1,'window':'1m'}"), 0644);
	write_json_file(u.file, LIMIT("'name':'b','amount':1,'window':'1m'"), 0644);
	check_message(u.keys, "a.limits[1].name", PARTS("found 'a'", "another name", u.file));
}

/* ---- reading again ---- */

/* How many of ten looks say that something has changed, when nothing is loaded in between; at most one may. */
static int changes(struct config_watch *watch)
{
	int i, said = 0;

	for (i = 0; i < 10; i++)
		said += config_changed(watch);
	return said;
}

static bool settles(struct config_watch *watch)
{
	assert_false(config_changed(watch)); /* it may still be in the middle of being written */
	return config_changed(watch);
}

static void test_changed(void **state)
{
	char fresh[FILE_PATH + 8];
	struct config *c;

	(void)state;
	write_file(u.secret, "sk-1", 0600);
	check_loads(SECRET("{'file':'secret'}"));
	assert_int_equal(changes(&u.watch), 0);

	write_file(u.secret, "sk-22", 0600); /* every file on the way is watched */
	assert_true(settles(&u.watch));
	c = load_file();
	assert_string_equal(provider_of(c)->api_key.value, "sk-22");
	config_free(c);
	assert_int_equal(changes(&u.watch), 0);

	write_json_file(u.keys, "{}", 0644);
	assert_true(settles(&u.watch));
	config_free(load_file());
	assert_int_equal(changes(&u.watch), 0);

	snprintf(fresh, sizeof(fresh), "%s.new", u.file); /* as editors do it */
	write_json_file(fresh, SECRET("{'file':'secret'}"), 0644);
	assert_int_equal(rename(fresh, u.file), 0);
	assert_true(settles(&u.watch));
	config_free(load_file());
	assert_int_equal(changes(&u.watch), 0);
}

static void test_changed_while_it_is_written(void **state)
{
	char text[64];
	int i;

	(void)state;
	check_loads(ALONE);
	for (i = 0; i < 5; i++) {
		snprintf(text, sizeof(text), "{%.*s", i, "     ");
		write_file(u.file, text, 0644);
		assert_false(config_changed(&u.watch));
	}
	assert_true(config_changed(&u.watch));
}

/* A bad file is said to have changed once: when it is loaded and when it is mended, not on every look between. */
static void test_bad_file_is_tried_once(void **state)
{
	(void)state;
	check_loads(ALONE);
	write_file(u.file, "{", 0644);
	assert_true(settles(&u.watch));
	assert_null(load_file());
	assert_int_equal(changes(&u.watch), 0);
	unlink(u.file);
	assert_true(settles(&u.watch));
	assert_null(load_file());
	assert_int_equal(changes(&u.watch), 0);
	write_json_file(u.file, ALONE, 0644);
	assert_true(settles(&u.watch));
	config_free(load_file());
	assert_int_equal(changes(&u.watch), 0);
}

/* A file that was missing when it was wanted, and is there now, is a change. */
static void test_missing_file_appears(void **state)
{
	(void)state;
	unlink(u.secret);
	assert_null(load_text(SECRET("{'file':'secret'}")));
	assert_int_equal(changes(&u.watch), 0);
	write_file(u.secret, "sk-1", 0600);
	assert_true(settles(&u.watch));
	chmod(u.secret, 0644);
	assert_null(load_file());
	chmod(u.secret, 0600); /* its mode was all that was wrong */
	assert_true(settles(&u.watch));
	config_free(load_file());
}

/* ---- what is shipped ---- */

static void check_shipped(const char *file, const char *model)
{
	struct config_watch watch = {0};
	char message[CONFIG_MESSAGE] = "";
	struct config *c = config_load(file, &watch, message);

	if (!c)
		fail_msg("%s", message);
	assert_non_null(config_model(c, model));
	assert_true(config_model(c, model)->price.input > 0);
	assert_true(c->keys.count > 0);
	config_free(c);
	arena_release(&watch.arena);
}

/* From the root of the repository, with nothing in the environment and with everything. */
static void test_shipped(void **state)
{
	(void)state;
	unsetenv("OPENAI_API_KEY");
	unsetenv("OPENAI_BASE_URL");
	unsetenv("OPENAI_CA_FILE");
	unsetenv("RUN_DIR");
	unsetenv("DEMO_PORT");
	check_shipped("conf/pavise.json", "demo");
	check_shipped("conf/openai.json", "gpt-4o-mini");
	setenv("OPENAI_API_KEY", "sk-1", 1);
	setenv("RUN_DIR", u.folder, 1);
	setenv("DEMO_PORT", "12345", 1);
	check_shipped("conf/pavise.json", "gpt-4o-mini");
	check_shipped("conf/openai.json", "gpt-4o");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_environment, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_environment_in_figures, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_secret_file, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_secret_variable, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_seal, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_literal_secret, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_keys, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_bad_keys, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_limits_of_a_key, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_bad_limits_of_a_key, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_changed, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_changed_while_it_is_written, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_bad_file_is_tried_once, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_missing_file_appears, config_unit_begin, config_unit_end),
		cmocka_unit_test_setup_teardown(test_shipped, config_unit_begin, config_unit_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
