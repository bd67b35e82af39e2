/* pavisectl key: keys are made here and nowhere else, so that nobody has to think of a good one, nor hash it by hand.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "gate/config_check.h"
#include "gate/ctl.h"
#include "gate/key_file.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

struct key_options {
	const char *name; /* NULL: the command takes none */
	const char *keys, *config;
	const char *team, *models, *expires;
	bool admin, rotate;
};

#define FILE_OPTIONS \
	{"keys", required_argument, NULL, 'k'}, \
	{ \
		"config", required_argument, NULL, 'c' \
	}

static const struct option file_options[] = {FILE_OPTIONS, {NULL, 0, NULL, 0}};
static const struct option new_options[] = {FILE_OPTIONS, {"team", required_argument, NULL, 't'},
	{"models", required_argument, NULL, 'm'}, {"expires", required_argument, NULL, 'e'},
	{"admin", no_argument, NULL, 'a'}, {"rotate", no_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};

static enum ctl_status read_options(
	struct key_options *o, int argc, char **argv, const struct option *options, bool takes_name)
{
	int c;

	*o = (struct key_options){0};
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'k': o->keys = optarg; break;
		case 'c': o->config = optarg; break;
		case 't': o->team = optarg; break;
		case 'm': o->models = optarg; break;
		case 'e': o->expires = optarg; break;
		case 'a': o->admin = true; break;
		case 'r': o->rotate = true; break;
		default: return CTL_MISUSED;
		}
	}
	if (o->keys && o->config)
		return ctl_misused("--keys and --config both say which file: choose one");
	if (takes_name && optind == argc)
		return ctl_misused("whose key? A NAME is missing");
	if (takes_name)
		o->name = argv[optind++];
	if (o->name && !config_name_valid(o->name))
		return ctl_misused("'%s' is no name: expected 1 to 64 of A-Z a-z 0-9 . _ -", o->name);
	if (optind < argc)
		return ctl_misused("unexpected argument '%s'", argv[optind]);
	return CTL_GOOD;
}

static bool open_file(struct key_file *f, const struct key_options *o, bool to_change)
{
	if (key_file_open(f, o->keys, o->config ? o->config : CTL_CONFIG, to_change))
		return true;
	ctl_failed("%s", f->reader.message);
	return false;
}

static enum ctl_status commit(struct key_file *f)
{
	if (key_file_commit(f))
		return CTL_GOOD;
	return ctl_failed("%s; nothing has changed", f->reader.message);
}

/* A command that changes the key of this name: `change` says what it did, or why it did not. */
static enum ctl_status with_key(int argc, char **argv, enum ctl_status (*change)(struct key_file *, const struct key *))
{
	struct key_options o;
	struct key_file f;
	const struct key *k;
	enum ctl_status status = read_options(&o, argc, argv, file_options, true);

	if (status != CTL_GOOD)
		return status;
	status = CTL_FAILED;
	if (open_file(&f, &o, true)) {
		k = key_file_find(&f, o.name);
		status = k ? change(&f, k) : ctl_failed("%s: there is no key '%s'", f.path, o.name);
	}
	key_file_close(&f);
	return status;
}

/* ---- new ---- */

enum { SECRET_CHARS = 43 /* of 62: 256 bits */ };

static void make_secret(char out[3 + SECRET_CHARS + 1])
{
	static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	uint8_t byte;
	int n = 3;

	memcpy(out, "pv-", 3);
	while (n < 3 + SECRET_CHARS) {
		hash_random(&byte, 1);
		if ((byte & 63) < 62) /* each as likely as any other */
			out[n++] = letters[byte & 63];
	}
	out[n] = '\0';
}

static struct json_object *patterns(const char *commas)
{
	struct json_object *list = json_object_new_array();
	size_t len;

	for (; *commas; commas += len + (commas[len] == ',')) {
		len = strcspn(commas, ",");
		if (len)
			json_object_array_add(list, json_object_new_string_len(commas, (int)len));
	}
	return list;
}

static void add_key(struct key_file *f, const struct key_options *o, const char *hex)
{
	struct json_object *fields = json_object_new_object();

	json_set_str(fields, "sha256", hex);
	if (o->team)
		json_set_str(fields, "team", o->team);
	if (o->models)
		json_set(fields, "models", patterns(o->models));
	if (o->expires)
		json_set_str(fields, "expires", o->expires);
	if (o->admin)
		json_set_bool(fields, "admin", true);
	key_file_add(f, o->name, fields);
	json_object_put(fields);
}

static enum ctl_status store_new(struct key_file *f, const struct key_options *o, const char *hex)
{
	const struct key *k = key_file_find(f, o->name);

	if (!k && o->rotate)
		return ctl_failed("%s: there is no key '%s'", f->path, o->name);
	if (k && !o->rotate)
		return ctl_failed(
			"%s: there is a key '%s' already; --rotate gives it a second secret", f->path, o->name);
	if (k && k->sha256_count == KEY_HASHES)
		return ctl_failed("%s: '%s' has two secrets already; `pavisectl key retire %s` drops the older one",
			f->path, o->name, o->name);
	if (k)
		key_file_add_hash(f, o->name, hex);
	else
		add_key(f, o, hex);
	return commit(f);
}

static enum ctl_status check_new(const struct key_options *o)
{
	int64_t expires_ms = o->expires ? clock_parse(o->expires) : 0;

	if (o->rotate && (o->team || o->models || o->expires || o->admin))
		return ctl_misused("--rotate changes the secret alone: everything else belongs to the name");
	if ((o->team && !*o->team) || (o->models && strspn(o->models, ",") == strlen(o->models)))
		return ctl_misused("--team and --models want a value that is not empty");
	if (o->expires && expires_ms < 0)
		return ctl_misused("--expires '%s' is no time: expected one such as 2027-01-01T00:00:00Z", o->expires);
	if (o->expires && expires_ms <= clock_real_ms())
		return ctl_misused("--expires '%s' is over already", o->expires);
	return CTL_GOOD;
}

static enum ctl_status print_secret(const struct key_file *f, const struct key_options *o, const char *secret)
{
	if (puts(secret) < 0 || fflush(stdout) != 0)
		return ctl_failed("the new key of '%s' stands in %s, but could not be printed, so nobody has it: "
				  "`pavisectl key new %s --rotate`, then `pavisectl key retire %s`",
			o->name, f->path, o->name, o->name);
	fprintf(stderr, "%s: this key is shown once; pavise takes it within a second%s\n", o->name,
		o->rotate ? ", beside the older one until `pavisectl key retire`" : "");
	return CTL_GOOD;
}

static enum ctl_status key_new(int argc, char **argv)
{
	char secret[3 + SECRET_CHARS + 1], hex[SHA256_HEX + 1];
	struct key_options o;
	struct key_file f;
	uint8_t hash[SHA256_BYTES];
	enum ctl_status status = read_options(&o, argc, argv, new_options, true);

	if (status == CTL_GOOD)
		status = check_new(&o);
	if (status != CTL_GOOD)
		return status;
	make_secret(secret);
	hash_sha256(secret, strlen(secret), hash);
	hash_hex(hash, sizeof(hash), hex);
	status = open_file(&f, &o, true) ? store_new(&f, &o, hex) : CTL_FAILED;
	if (status == CTL_GOOD)
		status = print_secret(&f, &o, secret);
	key_file_close(&f);
	return status;
}

/* ---- disable, enable, retire ---- */

static enum ctl_status set_disabled(struct key_file *f, const struct key *k, bool disabled)
{
	const char *word = disabled ? "disabled" : "enabled";

	if (k->disabled == disabled) {
		printf("%s is %s already\n", k->name, word);
		return CTL_GOOD;
	}
	key_file_set_bool(f, k->name, "disabled", disabled);
	if (commit(f) != CTL_GOOD)
		return CTL_FAILED;
	printf("%s is %s\n", k->name, word);
	return CTL_GOOD;
}

static enum ctl_status disable(struct key_file *f, const struct key *k)
{
	return set_disabled(f, k, true);
}

static enum ctl_status enable(struct key_file *f, const struct key *k)
{
	return set_disabled(f, k, false);
}

static enum ctl_status retire(struct key_file *f, const struct key *k)
{
	if (k->sha256_count < 2)
		return ctl_failed("%s: '%s' has one secret only; `pavisectl key disable %s` refuses it", f->path,
			k->name, k->name);
	key_file_drop_hash(f, k->name);
	if (commit(f) != CTL_GOOD)
		return CTL_FAILED;
	printf("%s has one secret left, the newer one\n", k->name);
	return CTL_GOOD;
}

static enum ctl_status key_disable(int argc, char **argv)
{
	return with_key(argc, argv, disable);
}

static enum ctl_status key_enable(int argc, char **argv)
{
	return with_key(argc, argv, enable);
}

static enum ctl_status key_retire(int argc, char **argv)
{
	return with_key(argc, argv, retire);
}

/* ---- list ---- */

enum { COLUMNS = 7, SHOWN_HASH = 8 };

static const char *state_of(const struct key *k)
{
	return k->disabled ? "disabled" : key_expired(k, clock_real_ms()) ? "expired" : "active";
}

/* What stands in a column; NULL: nothing. */
static const char *column(struct arena *arena, const struct key *k, int n)
{
	struct buf list = BUF_INIT(CONFIG_TEXT);
	const char **m, *text;
	size_t i;

	switch (n) {
	case 0: return k->name;
	case 1: return state_of(k);
	case 2: return k->admin ? "admin" : NULL;
	case 3: return k->team;
	case 4: return k->expires;
	case 5:
		for (i = 0; i < k->sha256_count; i++)
			buf_printf(&list, "%s%.*s", i ? "," : "", SHOWN_HASH, k->sha256_hex[i]);
		break;
	default:
		for (m = k->models; *m; m++)
			buf_printf(&list, "%s%s", list.len ? "," : "", *m);
	}
	text = list.len ? arena_strndup(arena, list.data, list.len) : NULL;
	buf_release(&list);
	return text;
}

static void print_row(const char *const *cells, const size_t *widths)
{
	int n;

	for (n = 0; n < COLUMNS; n++)
		printf("%s%-*s", n ? "  " : "", n + 1 < COLUMNS ? (int)widths[n] : 0, cells[n]);
	putchar('\n');
}

static void print_keys(struct key_file *f)
{
	static const char *const heads[COLUMNS] = {"NAME", "STATE", "ROLE", "TEAM", "EXPIRES", "SHA256", "MODELS"};
	const char *(*rows)[COLUMNS] = arena_alloc(&f->arena, (f->keys.count + 1) * sizeof(*rows));
	const struct key *k = f->keys.items;
	size_t widths[COLUMNS] = {0}, i, len;
	const char *cell;
	int n;

	for (i = 0; i <= f->keys.count; i++)
		for (n = 0; n < COLUMNS; n++) {
			cell = i ? column(&f->arena, &k[i - 1], n) : heads[n];
			rows[i][n] = cell ? cell : "-";
			len = strlen(rows[i][n]);
			widths[n] = len > widths[n] ? len : widths[n];
		}
	for (i = 0; i <= f->keys.count; i++)
		print_row(rows[i], widths);
}

static enum ctl_status key_list(int argc, char **argv)
{
	struct key_options o;
	struct key_file f;
	enum ctl_status status = read_options(&o, argc, argv, file_options, false);

	if (status != CTL_GOOD)
		return status;
	if (open_file(&f, &o, false))
		print_keys(&f);
	else
		status = CTL_FAILED;
	key_file_close(&f);
	return status;
}

/* ---- check ---- */

/* The first line of stdin, which a terminal does not show. NULL: there is none. The caller frees it. */
static char *read_secret(void)
{
	struct termios before, silent;
	bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	if (terminal) {
		silent = before;
		silent.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
		fputs("key: ", stderr);
	}
	n = getline(&line, &room, stdin);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		fputc('\n', stderr);
	}
	if (n > 0)
		line[strcspn(line, "\r\n")] = '\0';
	if (n > 0 && *line)
		return line;
	free(line);
	return NULL;
}

static enum ctl_status check_secret(const struct key_file *f, const char *secret)
{
	const struct key *k = keys_find(&f->keys, secret);
	uint8_t hash[SHA256_BYTES];

	if (!k) {
		puts("nobody's");
		return CTL_FAILED;
	}
	hash_sha256(secret, strlen(secret), hash);
	printf("%s: %s%s%s%s\n", k->name, state_of(k), k->expires ? ", expires " : "", k->expires ? k->expires : "",
		k->sha256_count < 2                            ? ""
		: hash_equal(k->sha256[0], hash, SHA256_BYTES) ? ", the older of two"
							       : ", the newer of two");
	return k->disabled || key_expired(k, clock_real_ms()) ? CTL_FAILED : CTL_GOOD;
}

static enum ctl_status key_check(int argc, char **argv)
{
	struct key_options o;
	struct key_file f;
	char *secret;
	enum ctl_status status = read_options(&o, argc, argv, file_options, false);

	if (status != CTL_GOOD)
		return status;
	if (!open_file(&f, &o, false)) {
		key_file_close(&f);
		return CTL_FAILED;
	}
	secret = read_secret();
	if (secret)
		status = check_secret(&f, secret);
	else
		printf("%s: good (%zu keys)\n", f.path, f.keys.count);
	free(secret);
	key_file_close(&f);
	return status;
}

const struct ctl_command ctl_key[] = {
	{"new",
		"NAME [--team TEAM] [--models 'gpt-4o-*,demo'] [--expires 2027-01-01T00:00:00Z] [--admin] [--rotate] "
		"[FILE]",
		"makes a key, stores its SHA-256 and prints the key: once, and nothing else on stdout\n"
		"--rotate: a second one for a name that has one; both are good, and its budget goes on",
		key_new, NULL},
	{"retire", "NAME [FILE]", "ends a rotation: the older of two is good no more", key_retire, NULL},
	{"disable", "NAME [FILE]", "refuses it, and keeps all that is known of it", key_disable, NULL},
	{"enable", "NAME [FILE]", "takes that back", key_enable, NULL},
	{"list", "[FILE]", "who there is, and what they may do", key_list, NULL},
	{"check", "[FILE]",
		"reads a key from stdin (an argument could be seen by everybody) and says whose it is: status 1 if it\n"
		"is nobody's, disabled or expired; without one it checks the file alone",
		key_check, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};
