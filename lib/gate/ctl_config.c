/* pavisectl config: what can be set, in the words of the very table that reads it; and whether what is set is good. */
#include "edge/upstream.h"
#include "gate/ctl.h"
#include "gate/keys.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- explain ---- */

/* µs or bytes with the largest unit that leaves a whole number. */
struct unit {
	int64_t factor;
	const char *name;
};

static const struct unit durations[] = {
	{86400000000, "d"}, {3600000000, "h"}, {60000000, "m"}, {1000000, "s"}, {1000, "ms"}, {1, "us"}};
static const struct unit sizes[] = {{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}, {1, ""}};

static void add_in_units(struct buf *out, int64_t n, const struct unit *u)
{
	while (n % u->factor)
		u++;
	buf_printf(out, "%lld%s", (long long)(n / u->factor), u->name);
}

static void add_words(struct buf *out, const char *const *words)
{
	int i;

	for (i = 0; words[i]; i++)
		buf_printf(out, "%s\"%s\"", i ? ", " : "", words[i]);
}

static const char *type_words(enum config_type type)
{
	switch (type) {
	case CONFIG_STRING: return "a string";
	case CONFIG_SECRET: return "a secret: \"${NAME}\" or {\"file\": \"path\"}";
	case CONFIG_INT: return "an integer";
	case CONFIG_BYTES: return "a size";
	case CONFIG_DURATION: return "a duration";
	case CONFIG_BOOL: return "true or false";
	case CONFIG_WORD: return "one of ";
	case CONFIG_STRINGS: return "a string or a list of them";
	case CONFIG_PRICE: return "dollars per million tokens";
	case CONFIG_AMOUNT: return "a number with at most 6 decimals";
	case CONFIG_GROUP: return "an object";
	case CONFIG_MAP: return "an object: NAME → settings";
	case CONFIG_LIST: return "a list of objects";
	}
	return "";
}

static void add_range(struct buf *out, const struct config_field *f)
{
	const struct unit *units = f->type == CONFIG_DURATION ? durations : f->type == CONFIG_BYTES ? sizes : NULL;

	if (f->max == 0 || f->type == CONFIG_AMOUNT) /* depends on what it counts: the doc says it */
		return;
	buf_adds(out, ", ");
	if (units) {
		if (f->min)
			add_in_units(out, f->min, units);
		buf_adds(out, f->min ? " to " : "at most ");
		add_in_units(out, f->max, units);
	} else {
		buf_printf(out, "%lld to %lld%s", (long long)f->min, (long long)f->max,
			f->type == CONFIG_INT ? "" : " of them");
	}
}

static void print_setting(const struct config_field *f, const char *path)
{
	struct buf text = BUF_INIT(CONFIG_TEXT);

	buf_adds(&text, type_words(f->type));
	if (f->words && f->type != CONFIG_WORD)
		buf_adds(&text, " or ");
	if (f->words)
		add_words(&text, f->words);
	add_range(&text, f);
	if (f->required)
		buf_adds(&text, ", required");
	else if (f->fallback)
		buf_printf(&text, ", default %s", f->fallback);
	printf("%s: %s\n    %s\n", path, text.data, f->doc);
	buf_release(&text);
}

/* One step of a path as the tables say it, and as an operator or a message may: limits[], limits and limits[2] */
static bool step_fits(const char *step, size_t len, const char *asked, size_t asked_len)
{
	const char *bracket = memchr(asked, '[', asked_len);

	if (len == 4 && memcmp(step, "NAME", 4) == 0)
		return true;
	len -= len > 2 && step[len - 1] == ']' ? 2 : 0;
	asked_len = bracket ? (size_t)(bracket - asked) : asked_len;
	return len == asked_len && memcmp(step, asked, len) == 0;
}

/* Whether the setting at `path` is what is asked for, or inside it. */
static bool fits(const char *path, const char *asked)
{
	size_t len, asked_len;

	for (; *asked; path += len + (path[len] == '.'), asked += asked_len + (asked[asked_len] == '.')) {
		len = strcspn(path, ".");
		asked_len = strcspn(asked, ".");
		if (!step_fits(path, len, asked, asked_len))
			return false;
	}
	return true;
}

struct asked {
	char **names; /* none: everything */
	bool *found;
	int count;
};

static bool is_asked(const struct asked *asked, const char *path)
{
	const char *last = strrchr(path, '.');
	bool yes = asked->count == 0;
	int i;

	for (i = 0; i < asked->count; i++)
		if (fits(path, asked->names[i]) || (last && strcmp(last + 1, asked->names[i]) == 0))
			yes = asked->found[i] = true;
	return yes;
}

static void explain_table(const struct config_table *t, const char *path, const struct asked *asked)
{
	const struct config_field *f;
	char here[CONFIG_PATH];
	size_t i;

	for (i = 0; i < t->count; i++) {
		f = &t->fields[i];
		snprintf(here, sizeof(here), "%s%s%s", path, *path ? "." : "", f->name);
		if (f->type != CONFIG_GROUP && is_asked(asked, here))
			print_setting(f, here);
		if (!f->table)
			continue;
		if (f->type == CONFIG_MAP)
			strncat(here, ".NAME", sizeof(here) - strlen(here) - 1);
		if (f->type == CONFIG_LIST)
			strncat(here, "[]", sizeof(here) - strlen(here) - 1);
		explain_table(f->table, here, asked);
	}
}

static enum ctl_status config_explain(int argc, char **argv)
{
	static const struct option none[] = {{NULL, 0, NULL, 0}};
	struct asked asked = {.names = argv + 1, .count = argc - 1, .found = calloc((size_t)argc, sizeof(bool))};
	enum ctl_status status = CTL_GOOD;
	int i;

	if (!asked.found)
		die("out of memory");
	if (getopt_long(argc, argv, "", none, NULL) != -1)
		status = CTL_MISUSED;
	if (status == CTL_GOOD) {
		explain_table(&config_table, "", &asked);
		explain_table(&key_table, "keys_file.NAME", &asked);
	}
	for (i = 0; i < asked.count && status != CTL_MISUSED; i++)
		if (!asked.found[i])
			status = ctl_failed("there is no setting '%s'", asked.names[i]);
	free(asked.found);
	return status;
}

/* ---- check ---- */

enum ctl_status ctl_check(const char *config_path)
{
	struct config_watch watch = {0};
	char message[CONFIG_MESSAGE];
	struct config *c;

	upstream_init();
	c = config_load(config_path, &watch, message);
	arena_release(&watch.arena);
	if (!c) {
		fprintf(stderr, "%s\n", message);
		return CTL_FAILED;
	}
	config_warn(c);
	printf("%s: good (%zu providers, %zu models, %zu keys, %zu limits)\n", config_path, c->providers.count,
		c->models.count, c->keys.count, c->limits.count);
	config_free(c);
	return CTL_GOOD;
}

static enum ctl_status config_check_command(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
	const char *path = CTL_CONFIG;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'c')
			return CTL_MISUSED;
		path = optarg;
	}
	if (optind < argc)
		return ctl_misused("unexpected argument '%s'", argv[optind]);
	return ctl_check(path);
}

const struct ctl_command ctl_config[] = {
	{"explain", "[NAME…]",
		"every setting: its type, range, default, and what it does; or those of these names, as messages say\n"
		"them (limits[2].window), or parts of one (server.workers, ttl)",
		config_explain, NULL},
	{"check", "[--config FILE]", "as pavise --check: whether FILE and all that it names is good",
		config_check_command, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};
