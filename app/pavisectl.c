/* pavisectl: the operator's tool. A command is a row here, and a file in lib/gate/. */
#include "gate/ctl.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct ctl_command commands[] = {
	{"key",
		.doc = "FILE is --keys FILE, or --config FILE for the one that a configuration names (by default\n"
		       "--config " CTL_CONFIG "). A change is in force within a second, without a restart.",
		.commands = ctl_key},
	{"config", .doc = "", .commands = ctl_config},
	{"spend",
		"[--by key|team|user|model|day|hour] [--since WHEN] [--until WHEN] [--key K] [--team T] [--user U] "
		"[--model M] [--format table|json|csv] [--config FILE]",
		"What was spent and saved, as this host's ledger knows it. WHEN is a day (2026-11-01, UTC), a time\n"
		"(2026-11-01T12:00:00Z) or how long ago (7d); without one the last 30 days.",
		.run = ctl_spend},
	{NULL},
};

static const struct ctl_command program = {
	"pavisectl", .doc = "Status: 0 good, 1 refused or not good, 2 not understood.", .commands = commands};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("pavisectl " PAVISE_VERSION);
		return 0;
	}
	return (int)ctl_run(&program, argc, argv);
}
