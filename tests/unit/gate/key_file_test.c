/* What an operator does to the keys file, in whatever layout somebody has written it. */
#include "../folder_unit.h"

#include "gate/key_file.h"

#define A "1111111111111111111111111111111111111111111111111111111111111111"
#define B "2222222222222222222222222222222222222222222222222222222222222222"
#define C "3333333333333333333333333333333333333333333333333333333333333333"

static char path[FILE_PATH];

static void write_keys(const char *single_quoted)
{
	struct buf text = BUF_INIT(1 << 20);

	snprintf(path, sizeof(path), "%s/keys.json", folder);
	add_json_text(&text, single_quoted);
	write_file(path, text.data, 0600);
	buf_release(&text);
}

static void check_keys(const char *single_quoted)
{
	struct buf expected = BUF_INIT(1 << 20);
	char text[4096] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) >= 0);
	close(fd);
	add_json_text(&expected, single_quoted);
	assert_string_equal(text, expected.data);
	buf_release(&expected);
}

struct edit_case {
	const char *before;
	void (*edit)(struct key_file *f);
	const char *after;
};

static void add(struct key_file *f)
{
	struct json_object *fields = parse_json("{'sha256':'" C "','team':'r\\u00e9d','models':['a*','b']}");

	key_file_add(f, "new", fields);
	json_object_put(fields);
}

static void add_hash(struct key_file *f)
{
	key_file_add_hash(f, "a", C);
}

static void drop_hash(struct key_file *f)
{
	key_file_drop_hash(f, "a");
}

static void disable(struct key_file *f)
{
	key_file_set_bool(f, "a", "disabled", true);
}

#define NEW "'new': { 'sha256': '" C "', 'team': 'r\u00e9d', 'models': ['a*','b'] }"

static const struct edit_case edits[] = {
	{"{}", add, "{\n\t" NEW "\n}"},
	{"// nobody yet\n{ // here\n}\n", add, "// nobody yet\n{ // here\n\t" NEW "\n}\n"},
	{"{'a':{'sha256':'" A "'}}", add, "{'a':{'sha256':'" A "'}, " NEW "}"},
	{"{\r\n  'a': { 'sha256': '" A "' } // me\r\n}\r\n", add,
		"{\r\n  'a': { 'sha256': '" A "' }, // me\r\n  " NEW "\r\n}\r\n"},
	/* a second secret */
	{"{'a':{'sha256':'" A "'}}", add_hash, "{'a':{'sha256':[ '" A "', '" C "' ]}}"},
	{"{'a':{'sha256':['" A "']}}", add_hash, "{'a':{'sha256':['" A "', '" C "']}}"},
	{"{'b':{'sha256':['" B "']},\n'a':{'sha256':[\n\t'" A "' // laptop\n]}}", add_hash,
		"{'b':{'sha256':['" B "']},\n'a':{'sha256':[\n\t'" A "', // laptop\n\t'" C "'\n]}}"},
	{"{'\\u0061':{'sh\\u0061256':/*x*/'" A "'/*y*/}}", add_hash,
		"{'\\u0061':{'sh\\u0061256':/*x*/[ '" A "', '" C "' ]/*y*/}}"},
	/* the first of two goes, and what is written behind it */
	{"{'a':{'sha256':['" A "','" B "']}}", drop_hash, "{'a':{'sha256':['" B "']}}"},
	{"{'a':{'sha256':[\n\t'" A "', // laptop\n\t'" B "' // phone\n]}}", drop_hash,
		"{'a':{'sha256':[\n\t'" B "' // phone\n]}}"},
	{"{'a':{'sha256':'" A "'}}", disable, "{'a':{'sha256':'" A "', 'disabled': true}}"},
	{"{'a':{'disabled':false/*!*/,'sha256':'" A "'}}", disable, "{'a':{'disabled':true/*!*/,'sha256':'" A "'}}"},
	{"{'a':{\n\t'sha256':'" A "'\n}}", disable, "{'a':{\n\t'sha256':'" A "',\n\t'disabled': true\n}}"},
};

static void test_edits(void **state)
{
	struct key_file f;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(edits); i++) {
		write_keys(edits[i].before);
		if (!key_file_open(&f, path, NULL, true))
			fail_msg("%s\n%s", edits[i].before, f.reader.message);
		edits[i].edit(&f);
		if (!key_file_commit(&f))
			fail_msg("%s\n%s", edits[i].before, f.reader.message);
		key_file_close(&f);
		check_keys(edits[i].after);
	}
}

/* What pavise would refuse does not get there. */
static void test_what_is_not_good(void **state)
{
	static const char same[] = "{'a':{'sha256':'" C "'}}";
	struct key_file f;

	(void)state;
	write_keys(same);
	assert_true(key_file_open(&f, path, NULL, true));
	add(&f); /* that secret is a's */
	assert_false(key_file_commit(&f));
	check_contains(f.reader.message, "new.sha256: found a hash that stands in \"a\" too");
	key_file_close(&f);
	check_keys(same);

	write_keys("{'a':{'sha256':'" A "'},}");
	assert_false(key_file_open(&f, path, NULL, true));
	check_contains(f.reader.message, path);
	key_file_close(&f);
	check_keys("{'a':{'sha256':'" A "'},}");
}

/* At that millisecond, and not before. */
static void test_expiry(void **state)
{
	struct key_file f;
	const struct key *k;

	(void)state;
	write_keys("{'a':{'sha256':'" A "','expires':'2027-01-01T00:00:00Z'},'b':{'sha256':'" B "'}}");
	assert_true(key_file_open(&f, path, NULL, false));
	k = key_file_find(&f, "a");
	assert_false(key_expired(k, 1798761599999));
	assert_true(key_expired(k, 1798761600000));
	assert_false(key_expired(key_file_find(&f, "b"), INT64_MAX));
	assert_null(key_file_find(&f, "c"));
	key_file_close(&f);
}

static void test_whose(void **state)
{
	struct key_file f;

	(void)state;
	write_keys("{'a':{'sha256':['" A "','2a97516c354b68848cdbd8f54a226a0a55b21ed138e207ad6c5cbb9c00aa5aea']},"
		   "'b':{'sha256':'" B "'}}");
	assert_true(key_file_open(&f, path, NULL, false));
	assert_string_equal(keys_find(&f.keys, "demo")->name, "a");
	assert_null(keys_find(&f.keys, "demO"));
	assert_null(keys_find(&f.keys, ""));
	key_file_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edits),
		cmocka_unit_test(test_what_is_not_good),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_whose),
	};

	return cmocka_run_group_tests(tests, folder_begin, folder_end);
}
