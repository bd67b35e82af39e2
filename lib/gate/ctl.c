/* Help and dispatch come from one table, so that no command can be missing in either. */
#include "gate/ctl.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(const char *fmt, va_list ap)
{
	fputs("pavisectl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

enum ctl_status ctl_failed(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return CTL_FAILED;
}

enum ctl_status ctl_misused(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return CTL_MISUSED;
}

/* Lines of a text, each behind this. */
static void print_indented(FILE *to, const char *text, const char *before)
{
	const char *end;

	for (; *text; text = *end ? end + 1 : end) {
		end = text + strcspn(text, "\n");
		fprintf(to, "%s%.*s\n", before, (int)(end - text), text);
	}
}

/* All that can be said at a place of the tree; `path` is what has been said so far. */
static void print_help(FILE *to, const char *path, const struct ctl_command *c)
{
	const struct ctl_command *inner;
	char *inside;

	if (c->run) {
		fprintf(to, "  %s%s%s\n", path, c->arguments ? " " : "", c->arguments ? c->arguments : "");
		print_indented(to, c->doc, "      ");
		return;
	}
	for (inner = c->commands; inner->name; inner++) {
		if (asprintf(&inside, "%s %s", path, inner->name) < 0)
			die("out of memory");
		print_help(to, inside, inner);
		free(inside);
	}
	print_indented(to, c->doc, "  ");
}

static enum ctl_status help(FILE *to, const char *path, const struct ctl_command *c)
{
	fputs("usage:\n", to);
	print_help(to, path, c);
	return to == stdout ? CTL_GOOD : CTL_MISUSED;
}

static bool asks_for_help(const char *argument)
{
	return strcmp(argument, "help") == 0 || strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

/* argv[0] has led to c; where help is wanted, the rest only says what of. */
static enum ctl_status run(const struct ctl_command *c, int argc, char **argv, bool wants_help)
{
	const struct ctl_command *inner;
	enum ctl_status status;
	char *here;

	if (argc > 1 && asks_for_help(argv[1])) {
		argv[1] = argv[0];
		return run(c, argc - 1, argv + 1, true);
	}
	if (c->run && !wants_help) {
		status = c->run(argc, argv);
		return status == CTL_MISUSED ? help(stderr, argv[0], c) : status;
	}
	if (c->run || argc < 2)
		return help(wants_help ? stdout : stderr, argv[0], c);
	for (inner = c->commands; inner->name && strcmp(inner->name, argv[1]) != 0; inner++)
		;
	if (!inner->name)
		return ctl_misused("there is no command '%s'; see '%s help'", argv[1], argv[0]);
	if (asprintf(&here, "%s %s", argv[0], inner->name) < 0)
		die("out of memory");
	argv[1] = here;
	status = run(inner, argc - 1, argv + 1, wants_help);
	free(here);
	return status;
}

enum ctl_status ctl_run(const struct ctl_command *program, int argc, char **argv)
{
	argv[0] = (char *)program->name;
	return run(program, argc, argv, false);
}
