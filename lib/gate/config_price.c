/* A list has the members of models.X.price, and its items are models that have nothing else. */
#include "gate/config_price.h"

#include "gate/keys.h"

#include <stddef.h>
#include <string.h>

enum { PRICES_MAX = 10000 };

#define AT(member) .offset = offsetof(struct model, member)
#define RATES(of) \
	{"input", CONFIG_PRICE, AT(of.input), .doc = "dollars per million tokens"}, \
		{"cached_input", CONFIG_PRICE, AT(of.cached_input), \
			.doc = "of the input, what the provider's cache knew; by default as input"}, \
		{"cache_write", CONFIG_PRICE, AT(of.cache_write), \
			.doc = "of the input, what it is told to remember; by default as input"}, \
		{"output", CONFIG_PRICE, AT(of.output), .doc = "dollars per million tokens"}, \
		{"audio_input", CONFIG_PRICE, AT(of.audio_input), .doc = "of the input, what is audio"}, \
	{ \
		"audio_output", CONFIG_PRICE, AT(of.audio_output), .doc = "of the output, what is audio" \
	}

static const struct config_field priority_fields[] = {RATES(priority)};
static const struct config_table priority_table = CONFIG_TABLE(priority_fields, model);
static const struct config_field flex_fields[] = {RATES(flex)};
static const struct config_table flex_table = CONFIG_TABLE(flex_fields, model);
static const struct config_field large_fields[] = {
	{"above", CONFIG_INT, AT(large_above), "0", .min = 0, .max = 1 << 30, .doc = "tokens of input"}, RATES(large)};
static const struct config_table large_table = CONFIG_TABLE(large_fields, model);

static const struct config_field price_fields[] = {
	RATES(price),
	{"priority", CONFIG_GROUP, .table = &priority_table, .doc = "with service_tier \"priority\""},
	{"flex", CONFIG_GROUP, .table = &flex_table, .doc = "with service_tier \"flex\""},
	{"large", CONFIG_GROUP, .table = &large_table, .doc = "of requests with more input than so many tokens"},
};
const struct config_table config_price_table = CONFIG_TABLE(price_fields, model);
static const struct config_field list = {
	"", CONFIG_MAP, .max = PRICES_MAX, .table = &config_price_table, .doc = "model → price"};

bool config_prices_load(struct config_reader *r, struct config *c)
{
	const char *file = r->file;
	struct json_object *object;

	if (!c->prices_file)
		return true;
	object = config_parse_file(r, config_beside(r, c->prices_file));
	if (!object || !config_read_map(r, &list, object, &c->prices))
		return false;
	r->file = file;
	return true;
}

/* ---- finding one ---- */

static const struct model *listed(const struct config *c, const char *name, size_t len)
{
	const struct model *m = c->prices.items;
	size_t i;

	for (i = 0; i < c->prices.count; i++)
		if (strlen(m[i].name) == len && memcmp(m[i].name, name, len) == 0)
			return &m[i];
	return NULL;
}

/* The length of a name less the date at its end; all of it if there is none. */
static size_t undated(const char *name)
{
	static const char *const dates[] = {"-####-##-##", "-########"};
	size_t len = strlen(name), n, i, k;

	for (i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
		n = strlen(dates[i]);
		for (k = 0; k < n && n < len; k++)
			if (dates[i][k] == '#' ? !strchr("0123456789", name[len - n + k])
					       : name[len - n + k] != dates[i][k])
				break;
		if (k == n)
			return len - n;
	}
	return len;
}

static void complete(struct rates *rates, const struct rates *from)
{
	int64_t *to = (int64_t *)rates;
	const int64_t *by = (const int64_t *)from;
	size_t i;

	for (i = 0; i < sizeof(*rates) / sizeof(*to); i++)
		if (to[i] < 0)
			to[i] = by[i];
}

/* What need not be said. */
static bool finish(struct config_reader *r, struct rates *rates, const char *path)
{
	if ((rates->input < 0) != (rates->output < 0))
		return config_fail(r, path, "expected both input and output");
	if (rates->cached_input < 0)
		rates->cached_input = rates->input;
	if (rates->cache_write < 0)
		rates->cache_write = rates->input;
	return true;
}

bool config_price_of(struct config_reader *r, const struct config *c, struct model *m)
{
	const char *path = arena_printf(r->arena, "models.%s.price", m->name);
	const struct model *price = listed(c, m->model, strlen(m->model));

	if (!price)
		price = listed(c, m->model, undated(m->model));
	if (price) {
		complete(&m->price, &price->price);
		complete(&m->priority, &price->priority);
		complete(&m->flex, &price->flex);
		complete(&m->large, &price->large);
		m->large_above = m->large_above ? m->large_above : price->large_above;
	}
	if (m->large_above && m->large.input < 0)
		return config_fail(r, arena_printf(r->arena, "%s.large", path), "expected both input and output");
	return finish(r, &m->price, path) && finish(r, &m->priority, arena_printf(r->arena, "%s.priority", path)) &&
	       finish(r, &m->flex, arena_printf(r->arena, "%s.flex", path)) &&
	       finish(r, &m->large, arena_printf(r->arena, "%s.large", path));
}

/* ---- limits ---- */

/* `key` NULL: whoever calls. */
static bool check_limits(struct config_reader *r, struct config *c, const struct config_items *limits, const char *path,
	const struct key *key)
{
	const struct limit *l = limits->items;
	const struct model *m = c->models.items;
	size_t i, k;

	for (i = 0; i < limits->count; i++)
		for (k = 0; l[i].count == COUNT_USD && k < c->models.count; k++)
			if (m[k].price.input < 0 && (!key || key_may_call(key, &m[k])))
				return config_fail(r, arena_printf(r->arena, "%s[%zu]", path, i),
					"the limit \"%s\" counts money, but the model \"%s\" has no price: give it "
					"models.%s.price (one that costs nothing has \"input\": 0, \"output\": 0)%s",
					l[i].name, m[k].name, m[k].name,
					c->prices_file ? ", or name it in prices_file" : ", or a prices_file");
	return true;
}

bool config_prices_check(struct config_reader *r, struct config *c)
{
	const struct key *keys = c->keys.items;
	const char *keys_file = r->file;
	size_t i;

	r->file = c->path;
	if (!check_limits(r, c, &c->limits, "limits", NULL))
		return false;
	r->file = keys_file;
	for (i = 0; i < c->keys.count; i++)
		if (!check_limits(r, c, &keys[i].limits, arena_printf(r->arena, "%s.limits", keys[i].name), &keys[i]))
			return false;
	return true;
}
