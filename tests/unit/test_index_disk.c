/* SPDX-License-Identifier: Apache-2.0 */
/* index: disks that fail, files that are none, rebuilding. */
#include "index_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- a disk that fails --- */

/* Lets no file of this process grow beyond so many bytes: SQLite sees a disk that is full. */
static void limit_files(rlim_t bytes)
{
	struct rlimit limit = { bytes, RLIM_INFINITY };

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static int apply_queue(struct fixture *f)
{
	return index_apply(f->index, index_take_batch(f->index, EVERYTHING));
}

static void a_failed_batch_stays_in_memory_and_is_tried_once_more(void **state)
{
	struct fixture *f = *state;
	char commit_text[COMMIT_TEXT];

	learn(f, name_fact("main", C1, 100));
	limit_files(1024);
	assert_in_range(-apply_queue(f), 1, 200);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), 0);
	limit_files(RLIM_INFINITY);
	assert_int_equal(apply_queue(f), 0);
	assert_false(index_has_gaps(f->index));
	reopen(f);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), 0);
}

static void facts_given_up_leave_a_gap_and_no_false_tree(void **state)
{
	struct fixture *f = *state;
	struct content_id got;

	learn(f, entry_fact(C1, "lost", git_content(1, 1)));
	limit_files(1024);
	assert_true(apply_queue(f) < 0);
	learn(f, entry_fact(C1, "kept", git_content(1, 1)));
	assert_true(apply_queue(f) < 0); /* the first is given up */
	limit_files(RLIM_INFINITY);
	learn(f, commit_fact(FACT_TREE, C1, ""));
	assert_int_equal(apply_queue(f), 0);
	assert_true(index_has_gaps(f->index));
	reopen(f);
	assert_true(index_has_gaps(f->index));
	assert_int_equal(find_entry(f, C1, "kept", &got), 0);
	assert_int_equal(find_entry(f, C1, "lost", &got), -ENODATA);
	assert_false(index_tree_is_known(f->index, REPO, STR(C1)));
	assert_int_equal(index_fill_gaps(f->index), 0);
	reopen(f);
	assert_false(index_has_gaps(f->index));
}

static void a_revocation_is_never_given_up(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	learn(f, right_fact(FACT_GRANT, 2, ACCESS_FILES, 50));
	commit(f);
	reopen(f);
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_META, 60));
	learn(f, (struct fact){ .kind = FACT_FORGET_GRANTS, .subject = { [0 ... SUBJECT_BYTES - 1] = 2 } });
	limit_files(1024);
	for (int i = 0; i < 5; i++) {
		learn(f, name_fact("main", i % 2 ? C1 : C2, 100 + i));
		assert_true(apply_queue(f) < 0);
		assert_int_equal(rights_of(f, 1).granted, ACCESS_META);
		assert_int_equal(rights_of(f, 2).granted, ACCESS_NONE);
	}
	limit_files(RLIM_INFINITY);
	assert_int_equal(apply_queue(f), 0);
	reopen(f);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_META);
	assert_int_equal(rights_of(f, 2).granted, ACCESS_NONE);
}

static void without_room_for_revocations_no_right_counts(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_FILES, 50));
	commit(f);
	reopen(f);
	limit_files(1024);
	for (uint32_t i = 0; i < 10001; i++) {
		struct fact forget = { .kind = FACT_FORGET_GRANTS };

		memcpy(forget.subject, &i, sizeof(i));
		forget.subject[15] = 1;
		index_learn(f->index, &forget);
	}
	/* deleting nothing needs no room: this one does */
	learn(f, right_fact(FACT_GRANT, 3, ACCESS_META, 50));
	assert_true(apply_queue(f) < 0);
	assert_true(apply_queue(f) < 0);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	assert_int_equal(rights_of(f, 1).public_level, ACCESS_NONE);
	limit_files(RLIM_INFINITY);
	assert_int_equal(apply_queue(f), 0);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 70));
	commit(f);
	reopen(f);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_FILES);
	assert_int_equal(rights_of(f, 1).public_level, ACCESS_NONE);
}

/* --- the file --- */

static void overwrite(const char *path, off_t offset, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, offset), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static bool has_bad_copy(struct fixture *f)
{
	SCOPED_FREE char *bad = xasprintf("%s.bad-%lld", f->path, (long long)f->now);

	return access(bad, F_OK) == 0;
}

static void puts_a_file_aside_that_is_no_database(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	char commit_text[COMMIT_TEXT];

	learn(f, name_fact("main", C1, 100));
	commit(f);
	index_close(f->index);
	overwrite(f->path, 0, "this is no database at all, but somebody's diary", 48);
	assert_int_equal(try_open(f, &reason), 1);
	assert_true(has_bad_copy(f));
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), -ENODATA);
	learn(f, name_fact("main", C2, 100));
	commit(f);
	index_close(f->index);
	assert_int_equal(try_open(f, &reason), 1); /* still nobody has rebuilt it */
	assert_int_equal(index_rebuild_begin(f->index), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	reopen(f);
}

static void puts_a_damaged_database_aside_and_keeps_one_copy(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	char path[32];
	uint8_t junk[4096];
	struct stat st;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 2000; i++) {
			(void)snprintf(path, sizeof(path), "p%d", i);
			learn(f, entry_fact(C1, path, git_content(1, 1)));
		}
		commit(f);
		index_close(f->index);
		assert_int_equal(stat(f->path, &st), 0);
		memset(junk, 0x5a, sizeof(junk));
		for (off_t at = 4096; at < st.st_size; at += 4096)
			overwrite(f->path, at, junk, sizeof(junk));
		f->now += 10;
		assert_int_equal(try_open(f, &reason), 1);
		assert_true(has_bad_copy(f));
		f->now -= 10;
		assert_false(has_bad_copy(f));
		f->now += 10;
	}
}

static void read_version(const char *path, uint8_t ret[4])
{
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, ret, 4, 60), 4);
	(void)close(fd);
}

static void refuses_a_database_of_a_newer_program_and_leaves_it(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	uint8_t newer[4] = { 0, 0, 0, 99 }, ours[4];
	struct stat before, after;
	struct index *none = NULL;

	commit(f);
	index_close(f->index);
	f->index = NULL;
	read_version(f->path, ours);
	overwrite(f->path, 60, newer, sizeof(newer)); /* user_version in the header */
	assert_int_equal(stat(f->path, &before), 0);
	assert_int_equal(try_open(f, &reason), -EPROTO);
	assert_ptr_equal(f->index, none);
	assert_non_null(strstr(reason, "newer"));
	assert_int_equal(stat(f->path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(before.st_size, after.st_size);
	overwrite(f->path, 60, ours, sizeof(ours));
	assert_int_equal(try_open(f, &reason), 0);
}

static void makes_tables_in_an_empty_database(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;

	index_close(f->index);
	assert_int_equal(unlink(f->path), 0);
	overwrite(f->path, 0, "", 0); /* version 0: what sqlite3_open() alone leaves */
	assert_int_equal(try_open(f, &reason), 1);
	assert_false(has_bad_copy(f));
	learn(f, name_fact("main", C1, 100));
	commit(f);
}

static void says_why_it_cannot_be_opened(void **state)
{
	struct fixture *f = *state;
	struct index_opts opts = { .path = "/nonexistent/index.db", .memory_entries = 1, .clock = &f->clock };
	const char *reason = NULL;
	struct index *x = NULL;

	assert_true(index_open(&opts, &x, &reason) < 0);
	assert_null(x);
	assert_non_null(reason);
}

/* --- rebuilding --- */

static void a_rebuild_takes_what_it_is_given(void **state)
{
	struct fixture *f = *state;
	struct doc with_body = make_doc(1, 100), without = make_doc(9, 100), d;
	struct fact facts[] = {
		blob_fact(FACT_BLOB, 1, 2, 10, 100),
		{ .kind = FACT_DOC, .repo = REPO, .path = STR("m:a"), .doc = &with_body },
		{ .kind = FACT_DOC, .repo = REPO, .path = STR("m:b"), .doc = &without },
		entry_fact(C1, "a", git_content(2, 10)),
		commit_fact(FACT_TREE, C1, ""),
		entry_fact(C2, "a", git_content(2, 10)),
		commit_fact(FACT_TREE, C2, ""),
		right_fact(FACT_PUBLIC, 0, ACCESS_FILES, 70),
	};
	struct content_id got, git = git_content(2, 10);
	struct digest sha256;

	facts[4].size = 1;
	facts[6].size = 2; /* its journal lost a line */
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	learn(f, name_fact("main", C1, 100));
	commit(f);
	assert_int_equal(index_rebuild_begin(f->index), 0);
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		assert_int_equal(index_rebuild_add(f->index, &facts[i]), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(index_find_doc(f->index, REPO, STR("m:a"), &d), 0);
		doc_done(&d);
		assert_int_equal(index_find_doc(f->index, REPO, STR("m:b"), &d), -ENODATA);
		assert_int_equal(index_find_blob(f->index, &git, &sha256), 0);
		assert_int_equal(find_entry(f, C1, "b", &got), -ENOENT);
		assert_int_equal(find_entry(f, C2, "b", &got), -ENODATA);
		assert_int_equal(find_entry(f, C2, "a", &got), 0);
		assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE); /* grants are not rebuilt */
		assert_int_equal(rights_of(f, 1).public_level, ACCESS_FILES);
		reopen(f);
	}
}

static void a_rebuild_cut_short_begins_again_at_the_next_start(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	struct fact blob = blob_fact(FACT_BLOB, 1, 2, 10, 100);

	assert_int_equal(index_rebuild_begin(f->index), 0);
	for (int i = 0; i < 25000; i++)
		assert_int_equal(index_rebuild_add(f->index, &blob), 0);
	index_rebuild_cancel(f->index);
	learn(f, name_fact("main", C1, 100)); /* it can be used all the same */
	commit(f);
	index_close(f->index);
	assert_int_equal(try_open(f, &reason), 1);
}

static void finds_damage_while_it_runs_and_heals(void **state)
{
	struct fixture *f = *state;
	struct content_id got;
	uint8_t junk[4096];
	char path[32];
	struct stat st;

	for (int i = 0; i < 20000; i++) {
		(void)snprintf(path, sizeof(path), "p%d", i);
		learn(f, entry_fact(C1, path, git_content(1, 1)));
	}
	commit(f);
	assert_int_equal(index_maintain(f->index), 0);
	reopen(f);
	assert_int_equal(stat(f->path, &st), 0);
	memset(junk, 0x5a, sizeof(junk));
	for (off_t at = 8192; at < st.st_size; at += 4096)
		overwrite(f->path, at, junk, sizeof(junk));
	for (int i = 0; i < 20000; i += 97) {
		(void)snprintf(path, sizeof(path), "p%d", i);
		assert_int_not_equal(find_entry(f, C1, path, &got), -ENOENT);
	}
	assert_true(index_is_damaged(f->index));
	learn(f, entry_fact(C1, "fresh", git_content(1, 1)));
	assert_int_equal(index_rebuild_begin(f->index), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	assert_false(index_is_damaged(f->index));
	assert_int_equal(find_entry(f, C1, "p1", &got), -ENODATA);
	assert_int_equal(find_entry(f, C1, "fresh", &got), 0);
	(void)index_apply(f->index, index_take_batch(f->index, EVERYTHING));
	reopen(f);
	assert_int_equal(find_entry(f, C1, "fresh", &got), 0);
}

static void bounds_what_clients_can_name(void **state)
{
	struct fixture *f = *state;
	struct content_id got;
	char path[32];

	for (int i = 0; i < 100500; i++) {
		struct fact fact;

		(void)snprintf(path, sizeof(path), "p%d", i);
		fact = commit_fact(FACT_ABSENT, C1, path);
		fact.at = 1000 + i;
		learn(f, fact);
	}
	commit(f);
	assert_int_equal(index_maintain(f->index), 0);
	reopen(f);
	assert_int_equal(find_entry(f, C1, "p499", &got), -ENODATA);
	assert_int_equal(find_entry(f, C1, "p500", &got), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_failed_batch_stays_in_memory_and_is_tried_once_more),
		TEST(facts_given_up_leave_a_gap_and_no_false_tree),
		TEST(a_revocation_is_never_given_up),
		TEST(without_room_for_revocations_no_right_counts),
		TEST(puts_a_file_aside_that_is_no_database),
		TEST(puts_a_damaged_database_aside_and_keeps_one_copy),
		TEST(refuses_a_database_of_a_newer_program_and_leaves_it),
		TEST(makes_tables_in_an_empty_database),
		TEST(says_why_it_cannot_be_opened),
		TEST(a_rebuild_takes_what_it_is_given),
		TEST(a_rebuild_cut_short_begins_again_at_the_next_start),
		TEST(finds_damage_while_it_runs_and_heals),
		TEST(bounds_what_clients_can_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
