/* What may stand in the file: everything else is refused, with its path, what was found, and what was expected. */
#include "../config_unit.h"

static void test_defaults(void **state)
{
	struct config *c = must_load(ALONE);
	const struct provider *p = c->providers.items;
	const struct model *m = c->models.items;

	(void)state;
	assert_int_equal(c->server.workers.min, 4);
	assert_int_equal(c->server.workers.max, 256);
	assert_int_equal(c->server.workers.spare, 4);
	assert_int_equal(c->server.workers.reserve, 2);
	assert_int_equal(c->server.max_body, 32 << 20);
	assert_int_equal(c->server.shutdown_grace, 300000000);
	assert_string_equal(c->server.base_path, "");
	assert_int_equal(c->memcached.timeout, 50000);
	assert_string_equal(c->memcached.prefix, "pv");
	assert_ptr_equal(c->memcached.servers, c->memcached.counters);
	assert_true(c->cache.enabled);
	assert_int_equal(c->cache.ttl, 3600000000);
	assert_int_equal(c->cache.scope, SCOPE_KEY);
	assert_int_equal(c->cache.max_entry, 16 << 20);
	assert_null(c->cache.sealed);
	assert_int_equal(c->limits.count, 0);
	assert_int_equal(c->stream.commit_after, 5000000);
	assert_int_equal(c->log.to, LOG_TO_FASTCGI);
	assert_int_equal(c->providers.count, 1);
	assert_string_equal(p->name, "p");
	assert_null(p->off);
	assert_null(p->api_key.value);
	assert_int_equal(c->models.count, 1);
	assert_ptr_equal(m->provider, p);
	assert_string_equal(m->model, "m");
	assert_int_equal(m->price.input, -1);
	assert_int_equal(m->price.output, -1);
	assert_int_equal(m->cache.ttl, c->cache.ttl);
	assert_int_equal(c->cache.stale_while_revalidate, 0); /* nobody gets a stale answer unasked */
	assert_int_equal(c->cache.stale_if_error, 0);
	assert_int_equal(m->cache.stale_while_revalidate, 0);
	assert_int_equal(m->cache.stale_if_error, 0);
	assert_int_equal(m->cache.scope, SCOPE_KEY);
	assert_false(m->cache.off || m->cache.temperature_zero_only);
	config_free(c);
}

static void test_values(void **state)
{
	struct config *c = must_load(
		"// comments\n{'server':{'workers':{'min':1,'max':2,'spare':1,'reserve':0},'max_body':'1MiB','base_path':'/llm'},"
		"'memcached':{'servers':'h:1','counters':['h:2','/s'],'timeout':'1s','prefix':'x'},/* here\ntoo */"
		"'providers':{'p':{'base_url':'https://h/v1/','timeout':{'connect':'1ms','total':'1d'},'stream_options':false}},"
		"'models':{'m':{'provider':'p','model':'real','context':10,'max_output':5,"
		"'price':{'input':'0.15','cached_input':0.075,'output':1},'cache':{'off':true,'ttl':'5m','scope':'team',"
		"'stale_while_revalidate':'0s',"
		"'temperature_zero_only':true}},'n':{'provider':'p'}},"
		"'cache':{'enabled':false,'ttl':'1d','scope':'everyone','max_entry':'2MB',"
		"'stale_while_revalidate':'10m','stale_if_error':'2h'},"
		"'limits':[{'name':'a','per':['model','key'],'amount':7,'window':'1h','on_store_down':'local','enforce':false},"
		"{'name':'b','per':[],'amount':1,'window':'1s'}],"
		"'stream':{'commit_after':'0s','heartbeat':'500ms'},'keys_file':'keys.json','log':{'to':'stderr','level':'debug'}}");
	const struct provider *p = c->providers.items;
	const struct model *m = c->models.items;
	const struct limit *l = c->limits.items;

	(void)state;
	assert_int_equal(c->server.max_body, 1 << 20);
	assert_string_equal(c->server.base_path, "/llm");
	assert_string_equal(c->memcached.servers[0], "h:1");
	assert_null(c->memcached.servers[1]);
	assert_string_equal(c->memcached.counters[1], "/s");
	assert_string_equal(p->base_url, "https://h/v1"); /* "no slash at its end" */
	assert_int_equal(p->timeout.connect, 1000);
	assert_int_equal(p->timeout.total, 86400000000);
	assert_false(p->stream_options);
	assert_string_equal(m->model, "real");
	assert_int_equal(m->price.input, 150000);
	assert_int_equal(m->price.cached_input, 75000);
	assert_int_equal(m->price.output, 1000000);
	assert_true(m->cache.off);
	assert_int_equal(m->cache.ttl, 300000000);
	assert_int_equal(m->cache.stale_while_revalidate, 0); /* said, unlike */
	assert_int_equal(m->cache.stale_if_error, 7200000000);
	assert_int_equal(m[1].cache.ttl, 86400000000);
	assert_int_equal(m[1].cache.stale_while_revalidate, 600000000);
	assert_int_equal(m[1].cache.stale_if_error, 7200000000);
	assert_int_equal(m->cache.scope, SCOPE_TEAM);
	assert_true(m->cache.temperature_zero_only);
	assert_int_equal(c->cache.scope, SCOPE_EVERYONE);
	assert_int_equal(c->cache.max_entry, 2000000);
	assert_int_equal(m[1].cache.scope, SCOPE_EVERYONE);
	assert_int_equal(l[0].per, PER_MODEL | PER_KEY);
	assert_int_equal(l[0].window, 3600000000);
	assert_int_equal(l[0].on_store_down, STORE_DOWN_LOCAL);
	assert_false(l[0].enforce);
	assert_int_equal(l[1].per, 0);
	assert_true(l[1].enforce);
	assert_int_equal(c->log.to, LOG_TO_STDERR);
	assert_ptr_equal(config_model(c, "m"), m);
	assert_null(config_model(c, "real"));
	config_free(c);
}

static void test_unknown_settings(void **state)
{
	static const char none[] = "there is no such setting";

	(void)state;
	check_refused(WITH("'servr':{}"), "servr", PARTS(none, "server, memcached, providers"));
	check_refused(WITH("'server':{'worker':{}}"), "server.worker", PARTS(none, "workers, max_body"));
	check_refused(WITH("'server':{'workers':{'mn':1}}"), "server.workers.mn", PARTS(none, "min, max, spare"));
	check_refused(PROVIDER("'base_url':'http://h','url':1"), "providers.p.url", PARTS(none, "base_url"));
	check_refused(PROVIDER("'base_url':'http://h','timeout':{'read':'1s'}"), "providers.p.timeout.read",
		PARTS(none, "first_byte"));
	check_refused(MODEL("'provider':'p','price':{'in':'1'}"), "models.m.price.in", PARTS(none, "input"));
	check_refused(LIMIT("'nam':'b'"), "limits[1].nam", PARTS(none, "name, count, per"));
	check_refused(WITH("'':1"), "", PARTS(none));
}

/* path, value as it stands there, what the message must say. */
static const struct wrong {
	const char *text, *path, *found, *expected;
} wrong_types[] = {
	{PROVIDER("'base_url':7"), "providers.p.base_url", "found 7", "a string"},
	{PROVIDER("'base_url':null"), "providers.p.base_url", "missing", "http"},
	{PROVIDER("'base_url':['http://h']"), "providers.p.base_url", "found ['http://h']", "a string"},
	{PROVIDER("'base_url':'http://h','api_key':7"), "providers.p.api_key", "an integer", "a string or {'file'"},
	{PROVIDER("'base_url':'http://h','api_key':{'path':'x'}"), "providers.p.api_key", "", "{'file': 'path'}"},
	{PROVIDER("'base_url':'http://h','api_key':{'file':7}"), "providers.p.api_key", "", "{'file': 'path'}"},
	{PROVIDER("'base_url':'http://h','stream_options':'yes'"), "providers.p.stream_options", "found 'yes'",
		"true or false"},
	{PROVIDER("'base_url':'http://h','stream_options':1"), "providers.p.stream_options", "found 1",
		"true or false"},
	{PROVIDER("'base_url':'http://h','dialect':'klingon'"), "providers.p.dialect", "found 'klingon'", "'openai'"},
	{PROVIDER("'base_url':'http://h','dialect':7"), "providers.p.dialect", "found 7", "'openai'"},
	{WITH("'server':[]"), "server", "found []", "an object"},
	{WITH("'server':{'workers':7}"), "server.workers", "found 7", "an object"},
	{WITH("'server':{'workers':{'min':'four'}}"), "server.workers.min", "found 'four'", "an integer"},
	{WITH("'server':{'workers':{'min':'4'}}"), "server.workers.min", "found '4'", "an integer"},
	{WITH("'server':{'workers':{'min':4.5}}"), "server.workers.min", "found 4.5", "an integer"},
	{WITH("'server':{'workers':{'min':null}}"), "server.workers.min", "null", "workers that are always there"},
	{WITH("'server':{'max_body':true}"), "server.max_body", "found true", "a size in bytes"},
	{WITH("'server':{'shutdown_grace':5}"), "server.shutdown_grace", "found 5", "a duration"},
	{WITH("'memcached':{'servers':7}"), "memcached.servers", "found 7", "a string or an array of strings"},
	{WITH("'memcached':{'servers':['h',7]}"), "memcached.servers[1]", "found 7", "a string"},
	{WITH("'memcached':{'servers':[null]}"), "memcached.servers[0]", "found null", "a string"},
	{WITH("'cache':{'max_entry':'large'}"), "cache.max_entry", "found 'large'", "a size in bytes"},
	{WITH("'cache':{'max_entry':1000}"), "cache.max_entry", "", "from 1024 to 134217728 bytes"},
	{WITH("'cache':{'max_entry':'1GiB'}"), "cache.max_entry", "", "from 1024 to 134217728 bytes"},
	{WITH("'cache':{'seal':true}"), "cache.seal", "a boolean", "a string or {'file'"},
	{WITH("'cache':{'seal':null}"), "cache.seal", "null", "encrypts"},
	{WITH("'limits':{}"), "limits", "found {}", "an array"},
	{WITH("'limits':['rpm']"), "limits[0]", "found 'rpm'", "an object"},
	{MODEL("'provider':'p','price':{'input':true,'output':1}"), "models.m.price.input", "found true",
		"dollars per million"},
	{"{'providers':[],'models':{},'keys_file':'k'}", "providers", "found []", "an object"},
	{"{'providers':{'p':7},'models':{},'keys_file':'k'}", "providers.p", "found 7", "an object"},
	{"[]", "", "found an array", "an object"},
	{"'x'", "", "found a string", "an object"},
};

static const struct wrong missing_or_out_of_range[] = {
	{"{}", "providers", "missing", "whom we call"},
	{"{'providers':{'p':{'base_url':'http://h'}},'keys_file':'k'}", "models", "missing", ""},
	{"{'providers':{'p':{'base_url':'http://h'}},'models':{'m':{'provider':'p'}}}", "keys_file", "missing", ""},
	{"{'providers':{},'models':{},'keys_file':'k'}", "providers", "found 0", "1 to 256"},
	{PROVIDER("'dialect':'openai'"), "providers.p.base_url", "missing", ""},
	{MODEL("'context':1"), "models.m.provider", "missing", "providers"},
	{LIMIT("'name':'b','window':'1m'"), "limits[1].amount", "missing", ""},
	{LIMIT("'name':'b','amount':1"), "limits[1].window", "missing", ""},
	{WITH("'server':{'workers':{'min':0}}"), "server.workers.min", "found 0", "1 to 4000"},
	{WITH("'server':{'workers':{'max':4001}}"), "server.workers.max", "found 4001", "1 to 4000"},
	{WITH("'server':{'workers':{'min':9,'max':8}}"), "server.workers.min", "found 9",
		"at most server.workers.max (8)"},
	{WITH("'server':{'workers':{'min':1,'max':2,'reserve':2}}"), "server.workers.reserve", "found 2", "less than"},
	{WITH("'server':{'max_body':1023}"), "server.max_body", "found 1023", "1024 to"},
	{WITH("'server':{'max_body':'2GiB'}"), "server.max_body", "found '2GiB'", "to 1073741824 bytes"},
	{WITH("'server':{'shutdown_grace':'2d'}"), "server.shutdown_grace", "found '2d'", "0s to 86400s"},
	{WITH("'server':{'base_path':'llm'}"), "server.base_path", "found 'llm'", "'/llm'"},
	{WITH("'server':{'base_path':'/llm/'}"), "server.base_path", "found '/llm/'", "'/llm'"},
	{WITH("'memcached':{'servers':[]}"), "memcached.servers", "found 0", "1 to 32"},
	{WITH("'memcached':{'servers':['h:x']}"), "memcached.servers", "found 'h:x'", "host:port"},
	{WITH("'memcached':{'counters':['a b']}"), "memcached.counters", "found 'a b'", "host:port"},
	{WITH("'memcached':{'timeout':'500us'}"), "memcached.timeout", "found '500us'", "0.001s to 10s"},
	{WITH("'memcached':{'prefix':'a b'}"), "memcached.prefix", "found 'a b'", "1 to 32"},
	{WITH("'memcached':{'prefix':''}"), "memcached.prefix", "found ''", "1 to 32"},
	{WITH("'cache':{'ttl':'0s'}"), "cache.ttl", "found '0s'", "a duration from 1s"},
	{WITH("'cache':{'stale_if_error':'367d'}"), "cache.stale_if_error", "found '367d'", "to 31622400s"},
	{MODEL("'provider':'p','cache':{'stale_while_revalidate':true}"), "models.m.cache.stale_while_revalidate",
		"found true", "a duration such as"},
	{MODEL("'provider':'p','cache':{'scope':'default'}"), "models.m.cache.scope", "found 'default'",
		"'key', 'team', 'everyone'"},
	{MODEL("'provider':'p','cache':{'scope':null}"), "models.m.cache.scope", "found null", ""},
	{MODEL("'provider':'p','cache':{'temperature_zero_only':0}"), "models.m.cache.temperature_zero_only", "found 0",
		"true or false"},
	{WITH("'cache':{'scope':'user'}"), "cache.scope", "found 'user'", "'key', 'team', 'everyone'"},
	{WITH("'log':{'level':'loud'}"), "log.level", "found 'loud'", "'debug', 'info', 'warn', 'error'"},
	{LIMIT("'name':'b','amount':0,'window':'1m'"), "limits[1].amount", "found 0", "more than 0"},
	{LIMIT("'name':'b','amount':-1,'window':'1m'"), "limits[1].amount", "found -1", "more than 0"},
	{LIMIT("'name':'b','amount':1,'window':'1500ms'"), "limits[1].window", "", "whole seconds"},
	{LIMIT("'name':'b','amount':1,'window':'2d'"), "limits[1].window", "found '2d'", "1s to 86400s"},
	{LIMIT("'name':'a','amount':1,'window':'1m'"), "limits[1].name", "found 'a' a second time",
		"a name of its own"},
	{LIMIT("'name':'a b','amount':1,'window':'1m'"), "limits[1].name", "found 'a b'", "A-Z"},
	{LIMIT("'name':'b','amount':1,'window':'1m','per':['planet']"), "limits[1].per", "found 'planet'",
		"'user', 'ip' or 'model'"},
	{LIMIT("'name':'b','amount':1,'window':'1m','count':'dollars'"), "limits[1].count", "found 'dollars'",
		"'requests', 'tokens', 'usd', 'concurrent'"},
	{LIMIT("'name':'b','amount':1,'window':'1m','on_store_down':'panic'"), "limits[1].on_store_down",
		"found 'panic'", "'open', 'closed', 'local'"},
	{MODEL("'provider':'q'"), "models.m.provider", "found 'q'", "`providers`"},
	{MODEL("'provider':'p','price':{'input':'1'}"), "models.m.price", "", "both input and output"},
	{MODEL("'provider':'p','context':-1"), "models.m.context", "found -1", "0 to"},
	{PROVIDER("'base_url':'h/v1'"), "providers.p.base_url", "found 'h/v1'", "http://host/path"},
	{PROVIDER("'base_url':'ftp://h/v1'"), "providers.p.base_url", "found 'ftp://h/v1'", "https://host/path"},
	{PROVIDER("'base_url':'http://'"), "providers.p.base_url", "found 'http://'", "http://host/path"},
	{PROVIDER("'base_url':'http:///v1'"), "providers.p.base_url", "found 'http:///v1'", "http://host/path"},
	{PROVIDER("'base_url':'https://h/v1?key=1'"), "providers.p.base_url", "?key=1", "without a query"},
	{PROVIDER("'base_url':'https://me:secret@h/v1'"), "providers.p.base_url", "", "a password"},
	{PROVIDER("'base_url':'http://h/a b'"), "providers.p.base_url", "found 'http://h/a b'", ""},
	{PROVIDER("'base_url':'http://h\\r\\nX: y'"), "providers.p.base_url", "", ""},
	{PROVIDER("'base_url':'http://h','ca_file':'/nonexistent.pem'"), "providers.p.ca_file", "/nonexistent.pem", ""},
};

static void check_wrong(const struct wrong *list, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		check_refused(list[i].text, list[i].path, PARTS(list[i].found, list[i].expected));
}

static void test_wrong_types(void **state)
{
	(void)state;
	check_wrong(wrong_types, COUNT(wrong_types));
}

static void test_missing_or_out_of_range(void **state)
{
	(void)state;
	check_wrong(missing_or_out_of_range, COUNT(missing_or_out_of_range));
}

static void test_spellings(void **state)
{
	static const char *const durations[] = {"", "5", "5 s", "s", "-5s", "+5s", "1h30m", "1.5s", "5S", "5sec", "5w",
		" 5s", "5s ", "0x5s", "99999999999999999999s", "9223372036854775807d"};
	static const char *const sizes[] = {"", "MiB", "-1", "1.5MiB", "1 MiB", "1mib", "1M", "1TB", "1KB", "0x1000",
		"99999999999999999999", "9223372036854775807GiB"};
	static const char *const prices[] = {"", ".", ".5", "5.", "-1", "+1", "1e3", "0.1234567", "1,5", "1.2.3", "$1",
		" 1", "1 ", "0x1", "99999999999999999999"};
	char text[512];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(durations); i++) {
		snprintf(text, sizeof(text), WITH("'server':{'shutdown_grace':'%s'}"), durations[i]);
		check_refused(text, "server.shutdown_grace", PARTS("found '", "expected a duration such as '50ms'"));
	}
	for (i = 0; i < COUNT(sizes); i++) {
		snprintf(text, sizeof(text), WITH("'server':{'max_body':'%s'}"), sizes[i]);
		check_refused(text, "server.max_body", PARTS("found '", "expected a size in bytes"));
	}
	for (i = 0; i < COUNT(prices); i++) {
		snprintf(text, sizeof(text), MODEL("'provider':'p','price':{'input':'%s','output':'1'}"), prices[i]);
		check_refused(text, "models.m.price.input", PARTS("found '", "dollars per million tokens"));
	}
}

static const struct {
	const char *text;
	int64_t pusd;
} prices[] = {{"'0.15'", 150000}, {"0.15", 150000}, {"'0'", 0}, {"0", 0}, {"'0.000001'", 1}, {"0.000001", 1},
	{"1e-6", 1}, {"'10'", 10000000}, {"10", 10000000}, {"'150.00'", 150000000}, {"'0.075'", 75000},
	{"'1234.567891'", 1234567891}, {"'00.10'", 100000}};

/* Whole picodollars, however the price is written. */
static void test_prices(void **state)
{
	const struct model *m;
	struct config *c;
	char text[512];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(prices); i++) {
		snprintf(text, sizeof(text), MODEL("'provider':'p','price':{'input':%s,'output':%s}"), prices[i].text,
			prices[i].text);
		c = must_load(text);
		m = c->models.items;
		assert_int_equal(m->price.input, prices[i].pusd);
		assert_int_equal(m->price.output, prices[i].pusd);
		assert_int_equal(m->price.cached_input, prices[i].pusd); /* by default as input */
		config_free(c);
	}
}

static void test_duration(void **state)
{
	(void)state;
	assert_int_equal(config_duration("0s"), 0);
	assert_int_equal(config_duration("7us"), 7);
	assert_int_equal(config_duration("50ms"), 50000);
	assert_int_equal(config_duration("2s"), 2000000);
	assert_int_equal(config_duration("5m"), 300000000);
	assert_int_equal(config_duration("1h"), 3600000000);
	assert_int_equal(config_duration("1d"), 86400000000);
	assert_int_equal(config_duration("1h30m"), -1);
}

static void test_broken_files(void **state)
{
	(void)state;
	check_refused("{'a':1", "", PARTS("line 1"));
	check_refused("{\n'log':{\n'to':x}}", "log.to", PARTS("line 3, column 6"));
	check_refused(WITH("'log':{},'log':{}"), "log", PARTS("twice"));
	check_refused("// nothing\n", "", PARTS("line 2"));
	check_refused("", "", PARTS("line 1"));
	check_refused(WITH("'log':{'level':'a\\u0000b'}"), "log.level", PARTS("NUL"));
	unlink(u.file);
	check_message(u.file, "", PARTS("cannot be read", "No such file"));
}

/* A value as long as a file does not push the path out of the message. */
static void test_long_values(void **state)
{
	struct buf text = BUF_INIT(1 << 16);
	int i;

	(void)state;
	buf_adds(&text, "{" CONFIG_UNIT_PARTS ",'log':{'level':'");
	for (i = 0; i < 5000; i++)
		buf_adds(&text, "\xc3\xa9");
	buf_adds(&text, "'}}");
	check_refused(text.data, "log.level", PARTS("found '\xc3\xa9\xc3\xa9", "expected one of 'debug'"));
	/* cut between characters: whoever logs it has UTF-8 */
	for (i = 0; u.message[i]; i++)
		if ((unsigned char)u.message[i] == 0xc3)
			assert_int_equal((unsigned char)u.message[i + 1], 0xa9);
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_unknown_settings),
		cmocka_unit_test(test_wrong_types),
		cmocka_unit_test(test_missing_or_out_of_range),
		cmocka_unit_test(test_spellings),
		cmocka_unit_test(test_prices),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_broken_files),
		cmocka_unit_test(test_long_values),
	};

	return cmocka_run_group_tests(tests, config_unit_begin, config_unit_end);
}
