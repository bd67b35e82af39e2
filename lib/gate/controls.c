/* Strict where a mistake would cost money unseen, and deaf to directives that it does not know (RFC 9111, 5.2.3). */
#include "gate/controls.h"

#include "edge/http.h"
#include "gate/config.h"
#include "gate/txn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TTL_HEADER "X-Pavise-Cache-TTL"

/* RFC 9111, 1.2.2: a number that is too large means the largest. -1: no number. */
static int64_t seconds_of(const char *text)
{
	if (!*text || text[strspn(text, "0123456789")])
		return -1;
	errno = 0;
	return strtoll(text, NULL, 10) > INT32_MAX || errno ? INT32_MAX : strtoll(text, NULL, 10);
}

static void take(struct cache_controls *c, const struct http_directive *d)
{
	int64_t age;

	if (strcasecmp(d->name, "no-cache") == 0)
		c->no_cache = true;
	else if (strcasecmp(d->name, "no-store") == 0)
		c->no_store = true;
	else if (strcasecmp(d->name, "only-if-cached") == 0)
		c->only_if_cached = true;
	if (strcasecmp(d->name, "max-age") != 0)
		return;
	/* said twice, the stricter one holds; one that is no number allows nothing (RFC 9111, 4.2.1) */
	age = seconds_of(d->value) < 0 ? 0 : seconds_of(d->value);
	if (c->max_age_s < 0 || age < c->max_age_s)
		c->max_age_s = age;
}

static int read_ttl(struct cache_controls *c, const char *value, struct err *err)
{
	size_t len = strlen(value);
	char text[64];

	while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	snprintf(text, sizeof(text), "%.*s", (int)(len < sizeof(text) ? len : 0), value);
	c->ttl_us = seconds_of(text) < 0 ? config_duration(text) : seconds_of(text) * 1000000;
	if (c->ttl_us >= 0 && c->ttl_us <= CACHE_TTL_MAX)
		return 0;
	return err_set(err, ERR_INVALID_HEADER, TTL_HEADER,
		"Invalid header '" TTL_HEADER "': '%.60s'. Expected seconds such as 60, or a duration such as 90s, 5m "
		"or 1h, of at most %d days; 0 remembers nothing.",
		value, (int)(CACHE_TTL_MAX / 86400 / 1000000));
}

int controls_read(struct cache_controls *c, const char *cache_control, const char *ttl, struct err *err)
{
	struct http_directive d;

	*c = CACHE_CONTROLS_INIT;
	while (cache_control && http_directive_next(&cache_control, &d))
		take(c, &d);
	return ttl ? read_ttl(c, ttl, err) : 0;
}

bool controls_allow(const struct cache_controls *c, int64_t age_ms)
{
	/* as old as that is too old: max-age=0 means a fresh one, also within a millisecond */
	if (age_ms < 0) /* another host's clock is ahead */
		age_ms = 0;
	return !c->no_cache && (c->max_age_s < 0 || age_ms < c->max_age_s * 1000);
}

/* RFC 9111, 5.2.1.1: who names an age wants nothing stale, unless it says so */
bool controls_allow_stale(const struct cache_controls *c)
{
	return !c->no_cache && c->max_age_s < 0;
}

static void say(char out[CONTROLS_TEXT], const char *fmt, long long n)
{
	size_t len = strlen(out);

	len += (size_t)snprintf(out + len, CONTROLS_TEXT - len, "%s", len ? ", " : "");
	snprintf(out + len, CONTROLS_TEXT - len, fmt, n);
}

void controls_text(const struct cache_controls *c, char out[CONTROLS_TEXT])
{
	out[0] = '\0';
	if (c->no_cache)
		say(out, "no-cache", 0);
	if (c->no_store)
		say(out, "no-store", 0);
	if (c->max_age_s >= 0)
		say(out, "max-age=%lld", c->max_age_s);
	if (c->only_if_cached)
		say(out, "only-if-cached", 0);
	if (c->ttl_us >= 0 && c->ttl_us % 1000000)
		say(out, "ttl=%lldus", c->ttl_us);
	else if (c->ttl_us >= 0)
		say(out, "ttl=%llds", c->ttl_us / 1000000);
}

enum verdict stage_controls(struct txn *t)
{
	if (controls_read(&t->controls, http_header("cache-control"), http_header("x-pavise-cache-ttl"), &t->err) != 0)
		return FAILED;
	return NEXT;
}
