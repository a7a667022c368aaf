/* SPDX-License-Identifier: Apache-2.0 */
/* index: what a repo holds by SHA-256, whether an entry names it or upstream only said so. */
#include "index_rig.h"

#include <sqlite3.h>

static struct fact object_fact(uint8_t seed, uint64_t size)
{
	return (struct fact){
		.kind = FACT_OBJECT, .repo = REPO, .content = lfs_content(seed, size), .at = 1700000000
	};
}

static int find_object(struct fixture *f, struct str repo, uint8_t seed, struct object *ret)
{
	struct content_id content = lfs_content(seed, 0);

	return index_find_object(f->index, repo, &content.sha256, ret);
}

/* path NULL: no entry names it. */
static void expect_object(struct fixture *f, uint8_t seed, uint64_t size, const char *path)
{
	struct object o = { .content.size = 99 };

	assert_int_equal(find_object(f, REPO, seed, &o), 0);
	assert_int_equal(o.content.kind, CONTENT_LFS);
	assert_int_equal(o.content.size, size);
	assert_int_equal(o.content.sha256.bytes[31], seed);
	if (path) {
		assert_string_equal(o.path, path);
		assert_string_equal(o.commit, C1);
	} else {
		assert_null(o.path);
		assert_string_equal(o.commit, "");
	}
	object_done(&o);
	assert_null(o.path);
}

static void expect_none(struct fixture *f, struct str repo, uint8_t seed)
{
	struct object o = { .content.size = 99 };

	assert_int_equal(find_object(f, repo, seed, &o), -ENODATA);
	assert_int_equal(o.content.size, 99);
}

static void look_at_both_kinds(struct fixture *f)
{
	expect_object(f, 1, 11, NULL);
	expect_object(f, 2, 22, "a/model.bin");
	expect_none(f, REPO, 3);
	expect_none(f, REPO, 4); /* a regular file: its name is no SHA-256 */
	expect_none(f, STR("models/acme/other"), 1);
	expect_none(f, STR("models/acme/other"), 2);
}

static void finds_objects_by_word_and_by_entry(void **state)
{
	learn(*state, object_fact(1, 11));
	learn(*state, entry_fact(C1, "a/model.bin", lfs_content(2, 22)));
	learn(*state, entry_fact(C1, "config.json", git_content(4, 22)));
	in_every_phase(*state, look_at_both_kinds);
}

static void one_repos_object_is_not_anothers(void **state)
{
	struct fixture *f = *state;
	struct fact other = object_fact(1, 11), entry = entry_fact(C1, "x.bin", lfs_content(2, 22));
	struct object o;

	other.repo = entry.repo = STR("models/acme/other");
	learn(f, other);
	learn(f, entry);
	for (int i = 0; i < 2; i++) {
		expect_none(f, REPO, 1);
		expect_none(f, REPO, 2);
		assert_int_equal(find_object(f, STR("models/acme/other"), 2, &o), 0);
		object_done(&o);
		commit(f);
		reopen(f);
	}
}

static void an_entry_that_comes_after_a_miss_is_found(void **state)
{
	struct fixture *f = *state;

	expect_none(f, REPO, 2);
	learn(f, entry_fact(C1, "late.bin", lfs_content(2, 22)));
	expect_object(f, 2, 22, "late.bin");
	commit(f);
	expect_object(f, 2, 22, "late.bin");
}

static void an_entry_says_more_than_a_bare_word(void **state)
{
	struct fixture *f = *state;

	learn(f, entry_fact(C1, "known.bin", lfs_content(2, 22)));
	commit(f);
	reopen(f);
	learn(f, object_fact(2, 22));
	expect_object(f, 2, 22, "known.bin");
	commit(f);
	reopen(f);
	expect_object(f, 2, 22, "known.bin");
}

static void what_is_known_is_not_queued_again(void **state)
{
	struct fixture *f = *state;
	struct index_batch *b;

	learn(f, object_fact(1, 11));
	commit(f);
	learn(f, object_fact(1, 11));
	b = index_take_batch(f->index, EVERYTHING);
	assert_int_equal(index_batch_count(b), 0);
	assert_int_equal(index_apply(f->index, b), 0);
	reopen(f);
	learn(f, object_fact(1, 11)); /* only the disk knows */
	b = index_take_batch(f->index, EVERYTHING);
	assert_int_equal(index_batch_count(b), 1);
	assert_true(index_batch_is_refresh(b, 0));
	assert_int_equal(index_apply(f->index, b), 0);
}

static void upstreams_newer_word_on_the_size_counts(void **state)
{
	struct fixture *f = *state;

	learn(f, object_fact(1, 11));
	commit(f);
	learn(f, object_fact(1, 12));
	expect_object(f, 1, 12, NULL);
	commit(f);
	reopen(f);
	expect_object(f, 1, 12, NULL);
}

static void an_object_without_a_repo_or_of_git_is_passed_over(void **state)
{
	struct fixture *f = *state;
	struct fact bad = object_fact(1, 11);

	bad.repo = STR("");
	learn(f, bad);
	bad = object_fact(1, 11);
	bad.content = git_content(1, 11);
	learn(f, bad);
	expect_none(f, REPO, 1);
}

static void objects_outlive_a_write_to_the_repo(void **state)
{
	struct fixture *f = *state;

	learn(f, object_fact(1, 11));
	learn(f, (struct fact){ .kind = FACT_FORGET, .repo = REPO });
	expect_object(f, 1, 11, NULL);
	commit(f);
	expect_object(f, 1, 11, NULL);
}

static void a_line_brings_an_object_back(void **state)
{
	struct fixture *f = *state;
	struct fact object = object_fact(7, 77), back;
	struct doc doc;
	SCOPED_BUF line, scratch;

	buf_init(&line, 1000);
	buf_init(&scratch, 1000);
	assert_int_equal(fact_encode(&object, &line), 1);
	assert_int_equal(fact_decode(REPO, buf_str(&line), &scratch, &back, &doc), 0);
	assert_int_equal(back.kind, FACT_OBJECT);
	assert_true(content_id_eq(&back.content, &object.content));
	assert_int_equal(index_rebuild_begin(f->index), 0);
	assert_int_equal(index_rebuild_add(f->index, &back), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	expect_object(f, 7, 77, NULL);
	assert_int_equal(index_rebuild_begin(f->index), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	expect_none(f, REPO, 7);
	assert_int_equal(fact_decode(REPO, STR("object size=3"), &scratch, &back, &doc), -EINVAL);
	assert_int_equal(fact_decode(REPO, STR("object git=2222222222222222222222222222222222222222 size=3"),
				     &scratch, &back, &doc),
			 -EINVAL);
}

/* As the first version left it: no table of objects, and entries without an index over their content. */
static void a_database_of_the_first_version_is_brought_on(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	sqlite3 *db = NULL;

	learn(f, entry_fact(C1, "old.bin", lfs_content(5, 55)));
	commit(f);
	index_close(f->index);
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
				      "DROP TABLE objects; DROP TABLE identities; DROP TABLE shown;"
				      "DROP INDEX entries_content;"
				      "CREATE INDEX entries_absent ON entries (commit_id) WHERE kind = 2;"
				      "PRAGMA user_version = 1",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(try_open(f, &reason), 0);
	expect_object(f, 5, 55, "old.bin");
	learn(f, object_fact(6, 66));
	commit(f);
	reopen(f);
	expect_object(f, 6, 66, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(finds_objects_by_word_and_by_entry),
		TEST(one_repos_object_is_not_anothers),
		TEST(an_entry_that_comes_after_a_miss_is_found),
		TEST(an_entry_says_more_than_a_bare_word),
		TEST(what_is_known_is_not_queued_again),
		TEST(upstreams_newer_word_on_the_size_counts),
		TEST(an_object_without_a_repo_or_of_git_is_passed_over),
		TEST(objects_outlive_a_write_to_the_repo),
		TEST(a_line_brings_an_object_back),
		TEST(a_database_of_the_first_version_is_brought_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
