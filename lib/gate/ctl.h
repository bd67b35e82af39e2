/*
 * ctl — the operator's tool: a tree of commands, and what all of them need. The program is app/pavisectl.c.
 *
 * A command prints what it was asked for on stdout, and everything else on stderr.
 */
#ifndef PAVISE_GATE_CTL_H
#define PAVISE_GATE_CTL_H

/* What a command returns, and the program's status. */
enum ctl_status { CTL_GOOD, CTL_FAILED, CTL_MISUSED /* its help is shown behind it */ };

struct ctl_command {
	const char *name;
	const char *arguments; /* as the help shows them; NULL: none */
	const char *doc;       /* lines; of one that has others inside: what holds for all of them */
	enum ctl_status (*run)(int argc, char **argv); /* argv[0]: all names that lead here */
	const struct ctl_command *commands;            /* instead: what is inside it; ends with one that has no name */
};

/* One a file. */
extern const struct ctl_command ctl_key[], ctl_config[];
enum ctl_status ctl_spend(int argc, char **argv);

/* Runs what argv names inside the program, or shows its help. */
enum ctl_status ctl_run(const struct ctl_command *program, int argc, char **argv);

/* Each says it on stderr, and returns what its name says. */
enum ctl_status ctl_failed(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
enum ctl_status ctl_misused(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Whether the configuration is good, as `pavise --check` says it. */
enum ctl_status ctl_check(const char *config_path);

#define CTL_CONFIG "/etc/pavise/pavise.json" /* unless --config says otherwise */

#endif
