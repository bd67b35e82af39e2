/* GET /v1/models: what this key may call, and nothing of what it may not. */
#include "gate/answer.h"
#include "gate/keys.h"

#include <string.h>

enum { LIST_MAX = 4 << 20 };

static bool may_see(const struct txn *t, const struct model *m)
{
	return key_may_call(t->key, m) && !m->provider->off;
}

static void print_model(struct buf *out, const struct model *m)
{
	buf_adds(out, "{\"id\":");
	json_print_string(out, m->name, strlen(m->name));
	buf_adds(out, ",\"object\":\"model\",\"created\":0,\"owned_by\":");
	json_print_string(out, m->provider->name, strlen(m->provider->name));
	buf_addc(out, '}');
}

static void print_list(struct txn *t, struct buf *out)
{
	const struct model *m = t->config->models.items;
	bool first = true;
	size_t i;

	buf_adds(out, "{\"object\":\"list\",\"data\":[");
	for (i = 0; i < t->config->models.count; i++) {
		if (!may_see(t, &m[i]))
			continue;
		if (!first)
			buf_addc(out, ',');
		first = false;
		print_model(out, &m[i]);
	}
	buf_adds(out, "]}");
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* RFC 3986, 2.1: the SDKs encode what stands in a path. */
static const char *percent_decoded(struct arena *arena, const char *s)
{
	char *out = arena_strdup(arena, s), *to = out;

	for (; *s; s++)
		if (*s == '%' && hex(s[1]) >= 0 && hex(s[2]) >= 0 && (hex(s[1]) | hex(s[2]))) {
			*to++ = (char)(hex(s[1]) << 4 | hex(s[2]));
			s += 2;
		} else {
			*to++ = *s;
		}
	*to = '\0';
	return out;
}

enum verdict stage_models(struct txn *t)
{
	struct buf out = BUF_INIT(LIST_MAX);
	const struct model *m = NULL;
	enum verdict verdict;
	const char *name;

	if (t->endpoint->prefix) {
		name = percent_decoded(t->arena, t->path + strlen(t->endpoint->path));
		m = config_model(t->config, name);
		if (!m || !may_see(t, m))
			return txn_fail(
				t, ERR_MODEL_NOT_FOUND, "model", "The model '%.100s' does not exist here.", name);
		print_model(&out, m);
	} else {
		print_list(t, &out);
	}
	verdict = answer_json(t, 200, &out);
	buf_release(&out);
	return verdict;
}
