/*
 * Thousands of random requests, each spelled in many ways: what a model cannot tell apart has one key, and whatever it
 * might tell apart has two. The seed is fixed and printed; another one in PAVISE_SEED.
 */
#include "../unit.h"

#include "gate/cache.h"

enum { ROUNDS = 1500, SPELLINGS = 4, CHANGES = 6, DEPTH = 4, NODES = 4096, TEXT_MAX = 1 << 20 };

static uint64_t seed = 20250611;

static size_t below(size_t n)
{
	return chance_below(&seed, n);
}

/* Objects whose order no model sees, by where they stand: "messages" is an element of that array or the member. */
static const struct {
	const char *in, *name, *is;
} wrappers[] = {
	{"request", "messages", "message"},
	{"request", "tools", "tool"},
	{"request", "tool_choice", "choice"},
	{"request", "response_format", "format"},
	{"message", "content", "part"},
	{"message", "tool_calls", "call"},
	{"message", "function_call", "function"},
	{"part", "image_url", "inside"},
	{"part", "input_audio", "inside"},
	{"part", "file", "inside"},
	{"call", "function", "function"},
	{"tool", "function", "function"},
	{"choice", "function", "function"},
	{"format", "json_schema", "schema"},
};

/* NULL: order may matter there. */
static const char *kind_of(const char *in, const char *name)
{
	size_t i;

	for (i = 0; in && i < COUNT(wrappers); i++)
		if (strcmp(wrappers[i].in, in) == 0 && strcmp(wrappers[i].name, name) == 0)
			return wrappers[i].is;
	return NULL;
}

static bool excluded(const char *kind, const char *name)
{
	static const char *const names[] = {
		"model", "stream", "stream_options", "user", "metadata", "safety_identifier"};
	size_t i;

	for (i = 0; kind && strcmp(kind, "request") == 0 && i < COUNT(names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* ---- random requests ---- */

static const char *const words[] = {"a", "b", "role", "content", "messages", "tools", "tool_calls", "function",
	"function_call", "image_url", "json_schema", "schema", "properties", "parameters", "required", "type", "user",
	"model", "stream", "metadata", "response_format", "tool_choice", "file", "x_new", "\xc3\xa9",
	"\xf0\x9f\x98\x80", "with \"quotes\"\\", "line\nbreak", "seed", "temperature"};

static struct json_object *random_value(int depth)
{
	struct json_object *v;
	size_t i, n = below(4);

	switch (below(depth > 0 ? 8 : 5)) {
	case 0: return json_object_new_int64((int64_t)below(2000) - 1000);
	case 1: return json_object_new_double((double)below(4000) / 8 + 0.0625);
	case 2: return json_object_new_boolean(below(2));
	case 3: return NULL;
	case 4: return json_object_new_string(words[below(COUNT(words))]);
	case 5:
		v = json_object_new_array();
		for (i = 0; i < n; i++)
			json_object_array_add(v, random_value(depth - 1));
		return v;
	default:
		v = json_object_new_object();
		for (i = 0; i <= n; i++)
			json_set(v, words[below(COUNT(words))], random_value(depth - 1));
		return v;
	}
}

/* Like random_value(), but known wrappers stand where they belong more often than not. */
static struct json_object *random_wrapper(const char *kind, int depth)
{
	struct json_object *object = json_object_new_object(), *array;
	size_t i, n = below(4);

	for (i = 0; i < COUNT(wrappers); i++) {
		if (strcmp(wrappers[i].in, kind) != 0 || below(2))
			continue;
		if (below(2)) {
			array = json_object_new_array();
			json_object_array_add(array, random_wrapper(wrappers[i].is, depth - 1));
			json_object_array_add(array, random_value(depth - 1));
			json_set(object, wrappers[i].name, array);
		} else {
			json_set(object, wrappers[i].name, random_wrapper(wrappers[i].is, depth - 1));
		}
	}
	for (i = 0; i <= n; i++)
		json_set(object, words[below(COUNT(words))], random_value(depth - 1));
	return object;
}

/* ---- spellings ---- */

static void space(struct buf *out)
{
	static const char *const spaces[] = {"", "", "", " ", "\n", "\t", "\r\n  "};

	buf_adds(out, spaces[below(COUNT(spaces))]);
}

static void spell_string(struct buf *out, const char *s)
{
	buf_addc(out, '"');
	for (; *s; s++)
		if (*s == '"' || *s == '\\' || (unsigned char)*s < 0x20 || ((*s & 0x80) == 0 && below(6) == 0))
			buf_printf(out, below(2) ? "\\u%04x" : "\\u%04X", (unsigned char)*s);
		else if (strncmp(s, "\xc3\xa9", 2) == 0 && below(2))
			buf_adds(out, "\\u00E9"), s++;
		else if (strncmp(s, "\xf0\x9f\x98\x80", 4) == 0 && below(2))
			buf_adds(out, "\\ud83D\\uDe00"), s += 3;
		else
			buf_addc(out, *s);
	buf_addc(out, '"');
}

static void spell_number(struct buf *out, struct json_object *v)
{
	static const char *const integers[] = {"%lld", "%lld.0", "%llde0", "%lld.000E+0", "%lld0e-1", "%lld00E-02"};
	static const char *const doubles[] = {"%.4f", "%.9f", "%.12e", "%.10E"};

	int64_t n = json_object_get_int64(v);

	if (json_object_is_type(v, json_type_int)) /* no zero in front of another digit */
		buf_printf(out, integers[below(n ? COUNT(integers) : 4)], (long long)n);
	else
		buf_printf(out, doubles[below(COUNT(doubles))], json_object_get_double(v));
}

static void spell(struct buf *out, struct json_object *v, const char *kind);

static void spell_members(struct buf *out, struct json_object *v, const char *kind)
{
	struct json_member list[64], other;
	size_t n = 0, i, j;

	json_each_member (v, m)
		list[n++] = m;
	assert_true(n <= COUNT(list));
	for (i = n; kind && i > 1; i--) {
		j = below(i);
		other = list[i - 1], list[i - 1] = list[j], list[j] = other;
	}
	for (i = 0; i < n; i++) {
		if (i)
			buf_addc(out, ',');
		space(out);
		spell_string(out, list[i].name);
		space(out);
		buf_addc(out, ':');
		space(out);
		spell(out, list[i].value, kind_of(kind, list[i].name));
		space(out);
	}
}

static void spell(struct buf *out, struct json_object *v, const char *kind)
{
	size_t i;

	if (json_object_is_type(v, json_type_object)) {
		buf_addc(out, '{');
		spell_members(out, v, kind);
		buf_addc(out, '}');
	} else if (json_object_is_type(v, json_type_array)) {
		buf_addc(out, '[');
		for (i = 0; i < json_object_array_length(v); i++) {
			if (i)
				buf_addc(out, ',');
			space(out);
			spell(out, json_object_array_get_idx(v, i), kind);
		}
		buf_addc(out, ']');
	} else if (json_object_is_type(v, json_type_string)) {
		spell_string(out, json_object_get_string(v));
	} else if (!v || json_object_is_type(v, json_type_boolean)) {
		buf_adds(out, !v ? "null" : json_object_get_boolean(v) ? "true" : "false");
	} else {
		spell_number(out, v);
	}
}

/* ---- keys ---- */

struct who {
	const char *key, *team;
	int scope;
};

static const struct who alice = {"alice", "red", SCOPE_KEY};

static void key_of(const char *text, size_t len, const struct who *who, char out[TXN_KEY])
{
	static const char *no_headers[] = {NULL};
	static struct config c = {.server.max_body = TEXT_MAX, .memcached.prefix = "pv", .forward_headers = no_headers};
	static const struct provider p = {.name = "p", .base_url = "http://h/v1"};
	static const struct operation o = {.name = "chat"};
	static const struct endpoint e = {.operation = &o};
	struct model m = {.name = "m", .model = "real", .provider = &p, .cache.scope = who->scope};
	struct key k = {.name = who->key, .team = who->team};
	struct arena arena = ARENA_INIT;
	struct txn t = {.config = &c, .arena = &arena, .endpoint = &e, .key = &k, .model = &m};

	t.body = parse_bytes(text, len);
	cache_key(&t);
	snprintf(out, TXN_KEY, "%s", t.cache_key);
	json_release(t.body);
	arena_release(&arena);
}

static void key_of_spelling(struct json_object *request, const struct who *who, char out[TXN_KEY], struct buf *text)
{
	buf_reset(text);
	spell(text, request, "request");
	key_of(text->data, text->len, who, out);
}

/* ---- changes that a model might notice ---- */

struct node {
	struct json_object *in; /* an object or an array */
	const char *kind;       /* of `in` */
	bool ignored;           /* within what the key leaves out */
};

static size_t collect(struct json_object *v, const char *kind, bool ignored, struct node *nodes, size_t n)
{
	size_t i;

	if (n == NODES)
		return n;
	if (json_object_is_type(v, json_type_array)) {
		nodes[n++] = (struct node){v, NULL, ignored};
		for (i = 0; i < json_object_array_length(v); i++)
			n = collect(json_object_array_get_idx(v, i), kind, ignored, nodes, n);
	}
	if (json_object_is_type(v, json_type_object)) {
		nodes[n++] = (struct node){v, kind, ignored};
		json_each_member (v, m)
			n = collect(m.value, kind_of(kind, m.name), ignored || excluded(kind, m.name), nodes, n);
	}
	return n;
}

static struct json_member member_at(struct json_object *v, size_t i)
{
	json_each_member (v, m)
		if (i-- == 0)
			return m;
	return (struct json_member){NULL, NULL, NULL};
}

static bool is_same(struct json_object *a, struct json_object *b)
{
	return json_object_equal(a, b) == 1;
}

static bool change_array(struct json_object *array)
{
	size_t n = json_object_array_length(array), i;

	if (n == 0 || below(3) == 0)
		return json_object_array_add(array, random_value(1)) == 0;
	i = below(n);
	if (i + 1 < n && !is_same(json_object_array_get_idx(array, i), json_object_array_get_idx(array, i + 1))) {
		struct json_object *first = json_object_get(json_object_array_get_idx(array, i));

		json_object_array_put_idx(array, i, json_object_get(json_object_array_get_idx(array, i + 1)));
		return json_object_array_put_idx(array, i + 1, first) == 0;
	}
	return json_object_array_del_idx(array, i, 1) == 0;
}

/* Another member, one less, another value, or, where it may matter, another order. False: nothing that would count. */
static bool change_object(struct json_object *object, const char *kind)
{
	size_t n = (size_t)json_object_object_length(object);
	struct json_member m = n ? member_at(object, below(n)) : (struct json_member){NULL, NULL, NULL};
	struct json_object *value;
	char name[128];

	if (!m.name || below(4) == 0) {
		json_set(object, "a field that nobody knows", random_value(1));
		return true;
	}
	if (excluded(kind, m.name))
		return false;
	snprintf(name, sizeof(name), "%s", m.name);
	switch (below(3)) {
	case 0: json_unset(object, name); return true;
	case 1:
		value = random_value(2);
		if (is_same(value, m.value)) {
			json_object_put(value);
			return false;
		}
		json_set(object, name, value);
		return true;
	default: /* to the end: another order, if it is not there already */
		if (kind || member_at(object, n - 1).entry == m.entry)
			return false;
		value = json_object_get(m.value);
		json_unset(object, name);
		json_set(object, name, value);
		return true;
	}
}

static struct json_object *copy_of(struct json_object *v)
{
	struct json_object *copy = NULL;

	assert_int_equal(json_object_deep_copy(v, &copy, NULL), 0);
	return copy;
}

/* ---- the properties ---- */

static void check_spellings(struct json_object *request, const char *key, struct buf *text)
{
	char other[TXN_KEY];
	int i;

	for (i = 0; i < SPELLINGS; i++) {
		key_of_spelling(request, &alice, other, text);
		if (strcmp(key, other) != 0)
			fail_msg("the spelling changes the key:\n%s", text->data);
	}
}

static void check_changes(struct json_object *request, const char *key, struct buf *text, size_t *counted)
{
	static struct node nodes[NODES];
	struct json_object *changed;
	char other[TXN_KEY];
	struct node *node;
	bool counts;
	int i;

	for (i = 0; i < CHANGES; i++) {
		changed = copy_of(request);
		node = &nodes[below(collect(changed, "request", false, nodes, 0))];
		counts = json_object_is_type(node->in, json_type_array) ? change_array(node->in)
									: change_object(node->in, node->kind);
		key_of_spelling(changed, &alice, other, text);
		if (counts && (strcmp(key, other) != 0) == node->ignored)
			fail_msg("a change %s the key:\n%s", node->ignored ? "of what is left out changes" : "keeps",
				text->data);
		counted[node->ignored] += counts;
		json_release(changed);
	}
}

static void check_tenants(struct json_object *request, struct buf *text)
{
	static const struct who strangers[] = {
		{"alice", "red", SCOPE_KEY},
		{"bob", "red", SCOPE_KEY},
		{"red", NULL, SCOPE_KEY},
		{"everyone", NULL, SCOPE_TEAM},
		{"carol", "red", SCOPE_TEAM},
		{"dave", "alice", SCOPE_TEAM},
		{"erin", "key alice", SCOPE_TEAM},
		{"frank", "everyone", SCOPE_TEAM},
		{"grace", "red\"", SCOPE_TEAM},
		{"anybody", "red", SCOPE_EVERYONE},
	};
	static const struct who sharing[][2] = {{{"a", "red", SCOPE_TEAM}, {"b", "red", SCOPE_TEAM}},
		{{"a", "red", SCOPE_EVERYONE}, {"b", "blue", SCOPE_EVERYONE}}};
	char keys[COUNT(strangers)][TXN_KEY], other[TXN_KEY];
	size_t i, j;

	for (i = 0; i < COUNT(strangers); i++) {
		key_of_spelling(request, &strangers[i], keys[i], text);
		for (j = 0; j < i; j++)
			assert_string_not_equal(keys[i], keys[j]);
	}
	for (i = 0; i < COUNT(sharing); i++) {
		key_of_spelling(request, &sharing[i][0], keys[0], text);
		key_of_spelling(request, &sharing[i][1], other, text);
		assert_string_equal(keys[0], other);
	}
}

static void test_random_requests(void **state)
{
	struct buf text = BUF_INIT(TEXT_MAX);
	size_t counted[2] = {0, 0};
	struct json_object *request;
	char key[TXN_KEY];
	int i;

	(void)state;
	if (getenv("PAVISE_SEED"))
		seed = strtoull(getenv("PAVISE_SEED"), NULL, 10) | 1;
	printf("PAVISE_SEED=%llu\n", (unsigned long long)seed);
	for (i = 0; i < ROUNDS; i++) {
		request = random_wrapper("request", DEPTH);
		key_of_spelling(request, &alice, key, &text);
		check_spellings(request, key, &text);
		check_changes(request, key, &text, counted);
		if (i % 50 == 0)
			check_tenants(request, &text);
		json_release(request);
	}
	if (counted[0] < ROUNDS || counted[1] < ROUNDS / 20) /* both must really be looked at */
		fail_msg("only %zu and %zu changes", counted[0], counted[1]);
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_requests)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
