/* SPDX-License-Identifier: Apache-2.0 */
/* store: journals give back in order what went in, whatever happened to the file between. */
#include "test_store.h"

struct lines {
	char text[4096];
};

static int note_line(void *ctx, struct str repo, struct str line)
{
	struct lines *l = ctx;
	size_t len = strlen(l->text);

	(void)snprintf(l->text + len, sizeof(l->text) - len, "%.*s:%.*s;", STR_ARGS(repo), STR_ARGS(line));
	return 0;
}

static void expect_lines(struct fixture *f, const char *text, uint64_t broken)
{
	struct lines l = { "" };
	uint64_t found = 0;

	assert_int_equal(store_journal_each(f->store, note_line, &l, &found), 0);
	assert_string_equal(l.text, text);
	assert_int_equal(found, broken);
}

static void journal_file(struct fixture *f, const char *repo, char ret_path[PATH_MAX])
{
	struct digest d;
	char hex[65];

	sha256_of(repo, strlen(repo), &d);
	format_hex(d.bytes, 32, hex);
	(void)snprintf(ret_path, PATH_MAX, "%s/journal/%.2s/%s", f->path, hex, hex);
}

static void change_byte(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	(void)close(fd);
}

static off_t file_size(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void gives_lines_back_in_order(void **state)
{
	struct fixture *f = *state;
	struct str first[] = { STR("one"), STR(""), STR("three = 3") }, second[] = { STR("four") };

	assert_int_equal(store_journal_append(f->store, STR("models/a/b"), first, 3), 0);
	assert_int_equal(store_journal_append(f->store, STR("models/a/b"), second, 1), 0);
	assert_int_equal(store_journal_append(f->store, STR("models/a/b"), NULL, 0), 0);
	expect_lines(f, "models/a/b:one;models/a/b:;models/a/b:three = 3;models/a/b:four;", 0);
	assert_int_equal(usage_of(f->store).used, 4096);
	reopen(f);
	assert_int_equal(usage_of(f->store).used, 4096);
}

static void refuses_lines_that_would_be_two(void **state)
{
	struct fixture *f = *state;
	struct str line = STR("a\nb"), good = STR("a");

	assert_int_equal(store_journal_append(f->store, STR("r"), &line, 1), -EINVAL);
	assert_int_equal(store_journal_append(f->store, STR("r\nr"), &good, 1), -EINVAL);
	expect_lines(f, "", 0);
}

static void passes_over_broken_lines(void **state)
{
	struct fixture *f = *state;
	struct str lines[] = { STR("one"), STR("two"), STR("three") };
	char path[PATH_MAX];

	assert_int_equal(store_journal_append(f->store, STR("r"), lines, 3), 0);
	journal_file(f, "r", path);
	change_byte(path, file_size(path) - 25 - 1); /* in "two": 23 bytes of "three" follow its newline */
	expect_lines(f, "r:one;r:three;", 1);
}

static void goes_on_after_a_torn_line(void **state)
{
	struct fixture *f = *state;
	struct str lines[] = { STR("one"), STR("two") }, more = STR("three");
	char path[PATH_MAX];

	assert_int_equal(store_journal_append(f->store, STR("r"), lines, 2), 0);
	journal_file(f, "r", path);
	assert_int_equal(truncate(path, file_size(path) - 2), 0);
	expect_lines(f, "r:one;", 0); /* a torn end is what a crash leaves: nothing broken */
	assert_int_equal(store_journal_append(f->store, STR("r"), &more, 1), 0);
	expect_lines(f, "r:one;r:three;", 1);
}

static void starts_again_when_the_first_line_is_broken(void **state)
{
	struct fixture *f = *state;
	struct str line = STR("one"), more = STR("two");
	char path[PATH_MAX];
	struct lines l = { "" };
	uint64_t broken = 0;

	assert_int_equal(store_journal_append(f->store, STR("r"), &line, 1), 0);
	assert_int_equal(store_journal_append(f->store, STR("other"), &line, 1), 0);
	journal_file(f, "r", path);
	change_byte(path, 20);
	expect_lines(f, "other:one;", 1);
	assert_int_equal(store_journal_append(f->store, STR("r"), &more, 1), 0);
	assert_int_equal(count_files(f, "quarantine", ""), 1);
	assert_int_equal(store_journal_each(f->store, note_line, &l, &broken), 0);
	assert_true(strcmp(l.text, "other:one;r:two;") == 0 || strcmp(l.text, "r:two;other:one;") == 0);
	assert_int_equal(broken, 0);
}

static void replaces_lines_as_a_whole_and_counts_what_is_left(void **state)
{
	struct fixture *f = *state;
	char *large = make_bytes(20000, 5);
	struct str lines[] = { { large, 20000 }, STR("two") }, one = STR("one");
	struct lines l = { "" };

	for (size_t i = 0; i < 20000; i++)
		large[i] = 'a';
	assert_int_equal(store_journal_visit(f->store, STR("r"), note_line, &l), 0);
	assert_int_equal(store_journal_size(f->store, STR("r")), 0);
	assert_int_equal(store_journal_append(f->store, STR("r"), lines, 2), 0);
	assert_int_equal(store_journal_append(f->store, STR("other"), &one, 1), 0);
	assert_int_equal(usage_of(f->store).used, 20480 + 4096 + 0);
	assert_int_equal(store_journal_replace(f->store, STR("r"), lines + 1, 1), 0);
	assert_int_equal(usage_of(f->store).used, 2 * 4096);
	assert_int_equal(store_journal_append(f->store, STR("r"), &one, 1), 0);
	assert_int_equal(store_journal_visit(f->store, STR("r"), note_line, &l), 0);
	assert_string_equal(l.text, "r:two;r:one;");
	assert_in_range(store_journal_size(f->store, STR("r")), 50, 200);
	reopen(f);
	assert_int_equal(usage_of(f->store).used, 2 * 4096);
	free(large);
}

static void does_not_believe_a_journal_under_anothers_name(void **state)
{
	struct fixture *f = *state;
	struct str line = STR("one");
	char path[PATH_MAX], other[PATH_MAX], *slash;

	assert_int_equal(store_journal_append(f->store, STR("r"), &line, 1), 0);
	journal_file(f, "r", path);
	journal_file(f, "private/repo", other);
	slash = strrchr(other, '/');
	*slash = 0;
	(void)mkdir(other, 0700);
	*slash = '/';
	assert_int_equal(rename(path, other), 0);
	expect_lines(f, "", 1);
}

static void passes_over_a_line_without_end(void **state)
{
	struct fixture *f = *state;
	struct str line = STR("one"), more = STR("two");
	char *zeros = calloc(1, 3 << 20), path[PATH_MAX];
	int fd;

	assert_int_equal(store_journal_append(f->store, STR("r"), &line, 1), 0);
	journal_file(f, "r", path);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, zeros, 3 << 20), 3 << 20);
	(void)close(fd);
	assert_int_equal(store_journal_append(f->store, STR("r"), &more, 1), 0);
	expect_lines(f, "r:one;r:two;", 1);
	free(zeros);
}

static int stop_at_once(void *ctx, struct str repo, struct str line)
{
	++*(int *)ctx;
	return 7;
}

static void stops_when_the_visitor_says_so(void **state)
{
	struct fixture *f = *state;
	struct str lines[] = { STR("one"), STR("two") };
	uint64_t broken;
	int calls = 0;

	assert_int_equal(store_journal_append(f->store, STR("r"), lines, 2), 0);
	assert_int_equal(store_journal_each(f->store, stop_at_once, &calls, &broken), 7);
	assert_int_equal(calls, 1);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(gives_lines_back_in_order),
		TEST(refuses_lines_that_would_be_two),
		TEST(passes_over_broken_lines),
		TEST(goes_on_after_a_torn_line),
		TEST(starts_again_when_the_first_line_is_broken),
		TEST(replaces_lines_as_a_whole_and_counts_what_is_left),
		TEST(does_not_believe_a_journal_under_anothers_name),
		TEST(passes_over_a_line_without_end),
		TEST(stops_when_the_visitor_says_so),
	};

	return cmocka_run_group_tests_name("store_journal", tests, NULL, NULL);
}
