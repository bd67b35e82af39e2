/* pavisectl spend: where did it go? Read-only, and while pavise runs. */
#include "base/clock.h"
#include "base/log.h"
#include "edge/upstream.h"
#include "gate/config.h"
#include "gate/ctl.h"
#include "gate/spend.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum { JSON_MAX = 1 << 30 };

/* One row; its first column is as wide as the widest name. */
struct table {
	const char *by;
	int width;
	struct ledger_amounts total;
	bool csv;
};

static void print_row(const struct table *t, const char *name, const struct ledger_amounts *a)
{
	char cost[LOG_USD_TEXT], saved[LOG_USD_TEXT];

	log_usd_text(a->cost_pusd, cost);
	log_usd_text(a->saved_pusd, saved);
	printf("%-*s %10lld %10lld %14lld %14lld %14lld %18s %18s %10lld\n", t->width, name, (long long)a->requests,
		(long long)a->calls, (long long)a->input_tokens, (long long)a->cached_tokens,
		(long long)a->output_tokens, cost, saved, (long long)a->estimated);
}

static void print_csv_text(const char *text)
{
	/* a spreadsheet takes what begins so for a formula (OWASP, CSV injection) */
	const char *guard = *text && strchr("=+-@\t\r", *text) ? "'" : "";

	putchar('"');
	fputs(guard, stdout);
	for (; *text; text++) {
		if (*text == '"')
			putchar('"');
		putchar(*text);
	}
	putchar('"');
}

static void on_width(void *ctx, const char *name, const struct ledger_amounts *a)
{
	struct table *t = ctx;
	int width = (int)strlen(name);

	(void)a;
	t->width = width > t->width ? width : t->width;
}

static void on_row(void *ctx, const char *name, const struct ledger_amounts *a)
{
	char cost[LOG_USD_TEXT], saved[LOG_USD_TEXT];
	struct table *t = ctx;

	spend_add(&t->total, a);
	if (!t->csv) {
		print_row(t, *name ? name : "-", a);
		return;
	}
	log_usd_text(a->cost_pusd, cost);
	log_usd_text(a->saved_pusd, saved);
	print_csv_text(name);
	printf(",%lld,%lld,%lld,%lld,%lld,%s,%s,%lld\r\n", (long long)a->requests, (long long)a->calls,
		(long long)a->input_tokens, (long long)a->cached_tokens, (long long)a->output_tokens, cost, saved,
		(long long)a->estimated);
}

static enum ctl_status print_rows(const struct spend_question *q, const char *path, bool csv)
{
	struct table t = {.by = spend_bys[q->by], .width = (int)strlen("total"), .csv = csv};
	char why[LEDGER_WHY];
	struct ledger *l = ledger_open_to_read(path, why);
	bool good;

	if (!l)
		return ctl_failed("%s: %s", path, why);
	if (csv)
		printf("%s,requests,calls,input_tokens,cached_tokens,output_tokens,cost_usd,saved_usd,estimated_calls\r\n",
			t.by);
	good = csv || ledger_report(l, &q->query, on_width, &t);
	if (good && !csv)
		printf("%-*s %10s %10s %14s %14s %14s %18s %18s %10s\n", t.width, t.by, "requests", "calls", "input",
			"cached", "output", "cost $", "saved $", "estimated");
	good = good && ledger_report(l, &q->query, on_row, &t);
	if (good && !csv)
		print_row(&t, "total", &t.total);
	if (!good)
		ctl_failed("%s: %s", path, ledger_why(l));
	ledger_close(l);
	return good ? CTL_GOOD : CTL_FAILED;
}

static enum ctl_status print_json(const struct spend_question *q, const char *path)
{
	struct buf out = BUF_INIT(JSON_MAX);
	char why[LEDGER_WHY];

	if (!spend_json(q, path, &out, why)) {
		buf_release(&out);
		return ctl_failed("%s: %s", path, why);
	}
	puts(out.data);
	buf_release(&out);
	return CTL_GOOD;
}

static enum ctl_status ask(const struct spend_question *q, const char *config_path, const char *format)
{
	struct config_watch watch = {0};
	char message[CONFIG_MESSAGE];
	enum ctl_status status;
	struct config *c;

	upstream_init();
	c = config_load(config_path, &watch, message);
	if (!c)
		return ctl_failed("%s", message);
	if (!c->ledger.path)
		status = ctl_failed("%s: no ledger is kept (ledger.path is empty)", config_path);
	else if (strcmp(format, "json") == 0)
		status = print_json(q, c->ledger.path);
	else
		status = print_rows(q, c->ledger.path, strcmp(format, "csv") == 0);
	config_free(c);
	arena_release(&watch.arena);
	return status;
}

enum ctl_status ctl_spend(int argc, char **argv)
{
	static const struct option options[] = {{"by", required_argument, NULL, 'b'},
		{"since", required_argument, NULL, 's'}, {"until", required_argument, NULL, 'u'},
		{"key", required_argument, NULL, 'k'}, {"team", required_argument, NULL, 't'},
		{"user", required_argument, NULL, 'e'}, {"model", required_argument, NULL, 'm'},
		{"format", required_argument, NULL, 'f'}, {"config", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
	int64_t now_s = clock_real_ms() / 1000;
	const char *config_path = CTL_CONFIG, *format = "table";
	char why[SPEND_WHY];
	struct spend_question q;
	int c, index;

	spend_init(&q, now_s);
	while ((c = getopt_long(argc, argv, "", options, &index)) != -1) {
		if (c == '?')
			return CTL_MISUSED;
		if (c == 'c')
			config_path = optarg;
		else if (c == 'f')
			format = optarg;
		else if (!spend_set(&q, options[index].name, optarg, now_s, why))
			return ctl_misused("--%s: %s", options[index].name, why);
	}
	if (optind < argc)
		return ctl_misused("unexpected argument '%s'", argv[optind]);
	if (strcmp(format, "table") != 0 && strcmp(format, "json") != 0 && strcmp(format, "csv") != 0)
		return ctl_misused("--format: expected 'table', 'json' or 'csv', found '%s'", format);
	return ask(&q, config_path, format);
}
