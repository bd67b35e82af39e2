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
