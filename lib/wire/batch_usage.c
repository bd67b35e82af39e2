/* Shares are differences of what is due up to an input and what was due before it, so that nothing is lost or doubled.
 */
#include "wire/batch_usage.h"

enum { COUNT_MAX = 1000000000 };

static int64_t due(int64_t count, uint64_t upto, uint64_t total)
{
	return (int64_t)((unsigned __int128)count * upto / total);
}

int64_t usage_part(int64_t count, uint64_t before, uint64_t after, uint64_t total)
{
	return due(count, after, total) - due(count, before, total);
}

/* NULL: left out. */
static struct json_object *share_of(struct json_object *v, uint64_t before, uint64_t after, uint64_t total)
{
	int64_t count = json_object_get_int64(v);

	switch (json_object_get_type(v)) {
	case json_type_int:
		if (count < 0 || count > COUNT_MAX)
			return NULL;
		return json_object_new_int64(usage_part(count, before, after, total));
	case json_type_double:
		return json_object_new_double(json_object_get_double(v) * (double)(after - before) / (double)total);
	case json_type_object: return usage_share(v, before, after, total);
	default: return json_object_get(v);
	}
}

struct json_object *usage_share(struct json_object *usage, uint64_t before, uint64_t after, uint64_t total)
{
	struct json_object *share, *part;

	if (!json_object_is_type(usage, json_type_object))
		return NULL;
	share = json_object_new_object();
	json_each_member (usage, m) {
		part = share_of(m.value, before, after, total);
		if (part || !m.value)
			json_set(share, m.name, part);
	}
	return share;
}

static bool is_number(struct json_object *v)
{
	return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
}

static struct json_object *sum_of(struct json_object *a, struct json_object *b)
{
	if (json_object_is_type(a, json_type_int) && json_object_is_type(b, json_type_int))
		return json_object_new_int64(json_object_get_int64(a) + json_object_get_int64(b));
	if (is_number(a) && is_number(b))
		return json_object_new_double(json_object_get_double(a) + json_object_get_double(b));
	return json_object_get(b);
}

void usage_add(struct json_object *sum, struct json_object *share)
{
	struct json_object *before;

	json_each_member (share, m) {
		before = json_get(sum, m.name);
		if (!json_object_is_type(m.value, json_type_object))
			json_set(sum, m.name, sum_of(before, m.value));
		else if (json_object_is_type(before, json_type_object))
			usage_add(before, m.value);
		else
			json_set(sum, m.name, usage_share(m.value, 0, 1, 1)); /* a copy: it will grow */
	}
}
