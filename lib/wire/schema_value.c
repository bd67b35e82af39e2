/* Numbers and equality as JSON Schema means them: 1 is 1.0, exactly, whatever json-c keeps them in. */
#include "wire/schema_run.h"

#include <math.h>
#include <stdlib.h>

/* Against a step of 30 ns: two doubles have to be printed. */
enum { MULTIPLE_STEPS = 64 };

/* ── Numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Whole numbers below 2^64 are whole; the rest is a double with a fraction, or a big one. */
struct number {
	bool whole, negative;
	uint64_t magnitude;
	double d;
};

static struct number number_of_double(double d)
{
	if (fabs(d) < 0x1p64 && d == trunc(d))
		return (struct number){true, d < 0, (uint64_t)fabs(d), 0};
	return (struct number){false, d < 0, 0, d};
}

static struct number number_of(struct json_object *value)
{
	int64_t n;

	if (json_object_is_type(value, json_type_double))
		return number_of_double(json_object_get_double(value));
	n = json_object_get_int64(value);
	if (n == INT64_MAX) /* or more: what only an unsigned one holds saturates */
		return (struct number){true, false, json_object_get_uint64(value), 0};
	return (struct number){true, n < 0, n < 0 ? -(uint64_t)n : (uint64_t)n, 0};
}

static int compare_whole(const struct number *a, const struct number *b)
{
	int order = a->magnitude < b->magnitude ? -1 : a->magnitude > b->magnitude;

	if (a->negative != b->negative)
		return a->negative ? -1 : 1;
	return a->negative ? -order : order;
}

static int compare_whole_to_double(const struct number *a, double d)
{
	struct number floor_of;

	if (fabs(d) >= 0x1p64)
		return d > 0 ? -1 : 1;
	floor_of = number_of_double(floor(d)); /* d has a fraction: whatever is not above its floor is below d */
	return compare_whole(a, &floor_of) > 0 ? 1 : -1;
}

static int compare(const struct number *a, const struct number *b)
{
	if (a->whole && b->whole)
		return compare_whole(a, b);
	if (a->whole)
		return compare_whole_to_double(a, b->d);
	if (b->whole)
		return -compare_whole_to_double(b, a->d);
	return a->d < b->d ? -1 : a->d > b->d;
}

bool schema_is_number(struct json_object *value)
{
	return json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
}

bool schema_is_integer(struct json_object *value)
{
	double d;

	if (!json_object_is_type(value, json_type_double))
		return json_object_is_type(value, json_type_int);
	d = json_object_get_double(value);
	return d == trunc(d);
}

int schema_compare(struct json_object *a, struct json_object *b)
{
	struct number x = number_of(a), y = number_of(b);

	return compare(&x, &y);
}

int schema_compare_count(size_t count, struct json_object *b)
{
	struct number x = {true, false, count, 0}, y = number_of(b);

	return compare(&x, &y);
}

/* The value is digits × 10^exponent, with the sign left out. */
struct decimal {
	uint64_t digits;
	int exponent;
};

/* A double is printed with the fewest digits that give it back: as it was written, but for needless digits. */
static struct decimal decimal_of(struct json_object *value)
{
	struct decimal dec = {0, 0};
	struct number n = number_of(value);
	struct buf text = BUF_INIT(64);
	bool fraction = false;
	const char *p;

	if (n.whole)
		return (struct decimal){n.magnitude, 0};
	json_print_double(&text, fabs(n.d));
	BUG_ON(text.overflow || !text.data);
	for (p = text.data; *p && *p != 'e'; p++) {
		if (*p == '.') {
			fraction = true;
			continue;
		}
		dec.digits = dec.digits * 10 + (uint64_t)(*p - '0');
		dec.exponent -= fraction;
	}
	if (*p)
		dec.exponent += atoi(p + 1);
	buf_release(&text);
	return dec;
}

/* rest × 10^e, modulo m. */
static uint64_t times_ten(uint64_t rest, int e, uint64_t m)
{
	uint64_t power = 10 % m;

	for (; e; e >>= 1) {
		if (e & 1)
			rest = (uint64_t)((unsigned __int128)rest * power % m);
		power = (uint64_t)((unsigned __int128)power * power % m);
	}
	return rest;
}

bool schema_is_multiple(struct schema_run *run, struct json_object *value, struct json_object *of)
{
	bool whole = json_object_is_type(value, json_type_int) && json_object_is_type(of, json_type_int);
	struct decimal a, b;
	int e;

	if (!schema_charge(run, whole ? 1 : MULTIPLE_STEPS))
		return false;
	a = decimal_of(value);
	b = decimal_of(of);
	if (!a.digits)
		return true;
	e = a.exponent - b.exponent;
	if (e >= 0)
		return times_ten(a.digits % b.digits, e, b.digits) == 0;
	for (; e < 0; e++)
		if (__builtin_mul_overflow(b.digits, 10, &b.digits) || b.digits > a.digits)
			return false;
	return a.digits % b.digits == 0;
}

/* ── Equality ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool equal_arrays(struct schema_run *run, struct json_object *a, struct json_object *b)
{
	size_t n = json_object_array_length(a), i;

	if (n != json_object_array_length(b))
		return false;
	for (i = 0; i < n; i++)
		if (!schema_equal(run, json_object_array_get_idx(a, i), json_object_array_get_idx(b, i)))
			return false;
	return true;
}

static bool equal_objects(struct schema_run *run, struct json_object *a, struct json_object *b)
{
	struct json_object *other;

	if (json_object_object_length(a) != json_object_object_length(b))
		return false;
	json_each_member (a, m) {
		if (!schema_charge_text(run, strlen(m.name)) || !json_object_object_get_ex(b, m.name, &other) ||
			!schema_equal(run, m.value, other))
			return false;
	}
	return true;
}

static bool equal_strings(struct schema_run *run, struct json_object *a, struct json_object *b)
{
	size_t len = (size_t)json_object_get_string_len(a);

	return len == (size_t)json_object_get_string_len(b) && schema_charge_text(run, len) &&
	       memcmp(json_object_get_string(a), json_object_get_string(b), len) == 0;
}

bool schema_equal(struct schema_run *run, struct json_object *a, struct json_object *b)
{
	if (!schema_charge(run, 1))
		return false;
	if (schema_is_number(a) && schema_is_number(b))
		return schema_compare(a, b) == 0;
	if (json_object_get_type(a) != json_object_get_type(b))
		return false;
	switch (json_object_get_type(a)) {
	case json_type_boolean: return json_object_get_boolean(a) == json_object_get_boolean(b);
	case json_type_string: return equal_strings(run, a, b);
	case json_type_array: return equal_arrays(run, a, b);
	case json_type_object: return equal_objects(run, a, b);
	default: return true;
	}
}

/* ── Uniqueness: equal values have equal hashes; what shares a hash is compared ──────────────────────────────────── */

struct hashed {
	uint64_t hash;
	struct json_object *value;
};

static uint64_t mix(uint64_t h, uint64_t more)
{
	h = (h ^ more) * 0x9e3779b97f4a7c15;
	return h ^ h >> 29;
}

static uint64_t hash_bytes(const char *s, size_t len)
{
	uint64_t h = len, word;

	for (; len >= 8; len -= 8, s += 8) {
		memcpy(&word, s, 8);
		h = mix(h, word);
	}
	word = 0;
	if (len)
		memcpy(&word, s, len);
	return mix(h, word);
}

static uint64_t hash_number(struct json_object *value)
{
	struct number n = number_of(value);

	return n.whole ? mix(n.negative, n.magnitude) : hash_bytes((const char *)&n.d, sizeof(n.d));
}

static uint64_t hash_value(struct schema_run *run, struct json_object *value);

static uint64_t hash_array(struct schema_run *run, struct json_object *array)
{
	size_t n = json_object_array_length(array), i;
	uint64_t h = n;

	for (i = 0; i < n && !run->stuck; i++)
		h = mix(h, hash_value(run, json_object_array_get_idx(array, i)));
	return h;
}

/* A sum, since members have no order. */
static uint64_t hash_object(struct schema_run *run, struct json_object *obj)
{
	uint64_t h = 0;
	size_t len;

	json_each_member (obj, m) {
		len = strlen(m.name);
		if (!schema_charge_text(run, len))
			break;
		h += mix(hash_bytes(m.name, len), hash_value(run, m.value));
	}
	return h;
}

static uint64_t hash_value(struct schema_run *run, struct json_object *value)
{
	size_t len;

	if (!schema_charge(run, 1))
		return 0;
	switch (json_object_get_type(value)) {
	case json_type_boolean: return json_object_get_boolean(value) ? 2 : 3;
	case json_type_int:
	case json_type_double: return hash_number(value);
	case json_type_string:
		len = (size_t)json_object_get_string_len(value);
		return schema_charge_text(run, len) ? hash_bytes(json_object_get_string(value), len) : 0;
	case json_type_array: return mix(4, hash_array(run, value));
	case json_type_object: return mix(5, hash_object(run, value));
	default: return 1;
	}
}

static int by_hash(const void *a, const void *b)
{
	uint64_t x = ((const struct hashed *)a)->hash, y = ((const struct hashed *)b)->hash;

	return x < y ? -1 : x > y;
}

static bool differ(struct schema_run *run, const struct hashed *all, size_t n)
{
	size_t i, k;

	for (i = 0; i < n; i++)
		for (k = i + 1; k < n && all[k].hash == all[i].hash; k++)
			if (schema_equal(run, all[i].value, all[k].value) || run->stuck)
				return false;
	return true;
}

bool schema_unique(struct schema_run *run, struct json_object *array)
{
	size_t n = json_object_array_length(array), i;
	struct hashed *all;
	bool unique;

	if (n < 2)
		return true;
	if (!schema_charge(run, 4 * n)) /* for sorting */
		return false;
	all = malloc(n * sizeof(*all));
	if (!all)
		die("out of memory");
	for (i = 0; i < n; i++) {
		all[i].value = json_object_array_get_idx(array, i);
		all[i].hash = hash_value(run, all[i].value);
	}
	qsort(all, n, sizeof(*all), by_hash);
	unique = !run->stuck && differ(run, all, n);
	free(all);
	return unique;
}
