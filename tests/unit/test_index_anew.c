/* SPDX-License-Identifier: Apache-2.0 */
/* index: a name that stands for another repo than before, and old names that were not looked at for long. */
#include "index_rig.h"

#define OTHER STR("models/acme/other")
#define DOC_KEY "c:tree/" C1 "/"

static void learn_id(struct fixture *f, struct str repo, const char *id)
{
	learn(f, (struct fact){ .kind = FACT_IDENTITY, .repo = repo, .to = str_from(id), .at = 100 });
}

static void forget_all(struct fixture *f)
{
	learn(f, (struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 200 });
}

/* One of everything that can be known of a repo. */
static void learn_all(struct fixture *f, const char *commit_id)
{
	struct doc pinned = make_doc(3, 1700000000), mutable = make_doc(4, 1700000000);
	struct fact object = { .kind = FACT_OBJECT, .repo = REPO, .content = lfs_content(9, 900), .at = 1 };

	learn_id(f, REPO, "old");
	learn(f, name_fact("main", commit_id, 100));
	learn(f, entry_fact(commit_id, "a.bin", lfs_content(7, 700)));
	learn(f, entry_fact(commit_id, "b.txt", git_content(8, 80)));
	learn(f, commit_fact(FACT_ABSENT, commit_id, "none"));
	learn(f, commit_fact(FACT_TREE, commit_id, ""));
	learn(f, object);
	learn_doc(f, DOC_KEY, &pinned);
	learn_doc(f, "m:info//", &mutable);
}

static int find_object(struct fixture *f, uint8_t seed)
{
	struct content_id content = lfs_content(seed, 0);
	struct object o = { .path = NULL };
	int r = index_find_object(f->index, REPO, &content.sha256, &o);

	object_done(&o);
	return r;
}

static int find_doc(struct fixture *f, const char *key)
{
	struct doc d = { .content_type = NULL };
	int r = index_find_doc(f->index, REPO, str_from(key), &d);

	doc_done(&d);
	return r;
}

static int count_entry(void *ctx, struct str path, const struct content_id *content)
{
	(*(int *)ctx)++;
	return 0;
}

static int find_id(struct fixture *f, struct str repo, const char *expected)
{
	SCOPED_BUF out;
	int r;

	buf_init(&out, 100);
	r = index_find_identity(f->index, repo, &out);
	if (r == 0)
		assert_string_equal(out.bytes, expected);
	return r;
}

static void look_at_nothing(struct fixture *f)
{
	char found[COMMIT_TEXT];
	struct content_id content;
	int count = 0;

	assert_int_equal(index_find_name(f->index, REPO, STR("main"), found, NULL), -ENODATA);
	assert_int_equal(index_find_commit(f->index, REPO, STR("1111111111"), found), -ENODATA);
	assert_int_equal(find_entry(f, C1, "a.bin", &content), -ENODATA);
	assert_int_equal(find_entry(f, C1, "b.txt", &content), -ENODATA);
	assert_int_equal(find_entry(f, C1, "none", &content), -ENODATA);
	assert_false(index_tree_is_known(f->index, REPO, STR(C1)));
	assert_int_equal(index_tree_each(f->index, REPO, STR(C1), count_entry, &count), -ENODATA);
	assert_int_equal(find_object(f, 7), -ENODATA);
	assert_int_equal(find_object(f, 9), -ENODATA);
	assert_int_equal(find_doc(f, DOC_KEY), -ENODATA);
	assert_int_equal(find_doc(f, "m:info//"), -ENODATA);
	assert_int_equal(find_id(f, REPO, ""), -ENODATA);
}

static void what_a_repo_held_is_forgotten_before_and_after_the_disk_knows(void **state)
{
	struct fixture *f = *state;

	learn_all(f, C1);
	forget_all(f);
	in_every_phase(f, look_at_nothing);
}

static void what_is_on_disk_only_is_forgotten_as_well(void **state)
{
	struct fixture *f = *state;

	learn_all(f, C1);
	commit(f);
	reopen(f);
	forget_all(f);
	in_every_phase(f, look_at_nothing);
}

static void what_is_in_memory_and_on_disk_is_forgotten_as_well(void **state)
{
	struct fixture *f = *state;

	learn_all(f, C1);
	commit(f);
	(void)find_object(f, 7);
	(void)find_object(f, 9);
	forget_all(f);
	in_every_phase(f, look_at_nothing);
}

static void look_at_what_is_left(struct fixture *f)
{
	struct content_id blob = lfs_content(7, 700), content;
	struct digest sha256;
	char found[COMMIT_TEXT];

	assert_int_equal(index_find_blob(f->index, &blob, &sha256), 0);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_FILES);
	assert_int_equal(rights_of(f, 0).public_level, ACCESS_META);
	assert_int_equal(index_find_name(f->index, OTHER, STR("main"), found, NULL), 0);
	assert_int_equal(index_find_entry(f->index, OTHER, STR(C1), STR("a.bin"), &content), 0);
	assert_int_equal(find_id(f, OTHER, "other"), 0);
}

static void blobs_rights_and_other_repos_stay(void **state)
{
	struct fixture *f = *state;
	struct fact name = name_fact("main", C1, 100), entry = entry_fact(C1, "a.bin", lfs_content(7, 700));

	name.repo = entry.repo = OTHER;
	learn_all(f, C1);
	learn(f, blob_fact(FACT_BLOB, 7, 0, 700, 100));
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 100));
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_META, 100));
	learn(f, name);
	learn(f, entry);
	learn_id(f, OTHER, "other");
	commit(f);
	forget_all(f);
	in_every_phase(f, look_at_what_is_left);
}

static void look_at_the_new(struct fixture *f)
{
	struct content_id content;
	int count = 0;

	assert_int_equal(find_entry(f, C1, "a.bin", &content), 0);
	assert_int_equal(find_entry(f, C1, "b.txt", &content), -ENOENT);
	assert_int_equal(index_tree_each(f->index, REPO, STR(C1), count_entry, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(find_object(f, 7), 0);
	assert_int_equal(find_object(f, 9), -ENODATA);
	assert_int_equal(find_id(f, REPO, "new"), 0);
}

/* The same commit, file and name: what the disk still says about the old repo must not keep them from being written. */
static void what_the_new_repo_has_in_common_with_the_old_one_is_known_anew(void **state)
{
	struct fixture *f = *state;
	struct index_batch *b;

	learn_all(f, C1);
	commit(f);
	reopen(f);
	forget_all(f);
	learn_id(f, REPO, "new");
	learn(f, entry_fact(C1, "a.bin", lfs_content(7, 700)));
	learn(f, commit_fact(FACT_TREE, C1, ""));
	look_at_the_new(f);
	b = index_take_batch(f->index, EVERYTHING);
	assert_int_equal(index_batch_count(b), 4);
	for (size_t i = 0; i < 4; i++)
		assert_false(index_batch_is_refresh(b, i));
	assert_int_equal(index_batch_fact(b, 3)->kind, FACT_TREE);
	assert_int_equal(index_batch_fact(b, 3)->size, 1); /* of the new one's entries */
	assert_int_equal(index_apply(f->index, b), 0);
	in_every_phase(f, look_at_the_new);
}

static void an_identity_that_is_known_is_not_written_again(void **state)
{
	struct fixture *f = *state;
	struct index_batch *b;

	learn_id(f, REPO, "one");
	commit(f);
	reopen(f);
	assert_int_equal(find_id(f, REPO, "one"), 0);
	learn_id(f, REPO, "one");
	b = index_take_batch(f->index, EVERYTHING);
	assert_int_equal(index_batch_count(b), 0);
	assert_int_equal(index_apply(f->index, b), 0);
	learn_id(f, REPO, "two");
	assert_int_equal(find_id(f, REPO, "two"), 0);
	commit(f);
	reopen(f);
	assert_int_equal(find_id(f, REPO, "two"), 0);
}

static void add(struct fixture *f, struct fact fact)
{
	assert_int_equal(index_rebuild_add(f->index, &fact), 0);
}

static void a_rebuild_forgets_what_stands_before_the_line(void **state)
{
	struct fixture *f = *state;
	struct content_id content;

	assert_int_equal(index_rebuild_begin(f->index), 0);
	add(f, name_fact("main", C1, 100));
	add(f, entry_fact(C1, "a.bin", lfs_content(7, 700)));
	add(f, commit_fact(FACT_TREE, C1, ""));
	add(f, (struct fact){ .kind = FACT_IDENTITY, .repo = REPO, .to = STR("old"), .at = 1 });
	add(f, (struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 200 });
	add(f, entry_fact(C1, "b.txt", git_content(8, 80)));
	add(f, (struct fact){ .kind = FACT_IDENTITY, .repo = REPO, .to = STR("new"), .at = 1 });
	assert_int_equal(index_rebuild_end(f->index), 0);
	assert_int_equal(find_entry(f, C1, "a.bin", &content), -ENODATA);
	assert_int_equal(find_entry(f, C1, "b.txt", &content), 0);
	assert_false(index_tree_is_known(f->index, REPO, STR(C1)));
	assert_int_equal(find_id(f, REPO, "new"), 0);
}

static void expect_canonical(struct fixture *f, const char *name, int64_t since, const char *expected)
{
	SCOPED_BUF out;

	buf_init(&out, 100);
	assert_int_equal(index_canonical_repo(f->index, str_from(name), since, &out), 0);
	assert_string_equal(out.bytes, expected);
}

static void look_at_ages(struct fixture *f)
{
	/* the rig's aliases are of second 100 */
	expect_canonical(f, "models/old", 0, "models/acme/new");
	expect_canonical(f, "models/old", 100, "models/acme/new");
	expect_canonical(f, "models/old", 101, "models/old");
	expect_canonical(f, "models/first", 150, "models/old"); /* the second step is too old */
}

static void an_alias_that_was_not_seen_for_long_is_not_followed(void **state)
{
	struct fixture *f = *state;

	learn_alias(f, "models/old", "models/acme/new");
	learn(f,
	      (struct fact){
		      .kind = FACT_ALIAS, .repo = STR("models/first"), .to = STR("models/old"), .at = 150 });
	in_every_phase(f, look_at_ages);
}

static void an_alias_seen_again_is_young_again_also_on_disk(void **state)
{
	struct fixture *f = *state;
	struct fact again = {
		.kind = FACT_ALIAS, .repo = STR("models/old"), .to = STR("models/acme/new"), .at = 500
	};
	struct index_batch *b;

	learn_alias(f, "models/old", "models/acme/new");
	commit(f);
	learn(f, again);
	expect_canonical(f, "models/old", 500, "models/acme/new");
	b = index_take_batch(f->index, EVERYTHING);
	assert_int_equal(index_batch_count(b), 1);
	assert_true(index_batch_is_refresh(b, 0)); /* no line for it */
	assert_int_equal(index_apply(f->index, b), 0);
	reopen(f);
	expect_canonical(f, "models/old", 500, "models/acme/new");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(what_a_repo_held_is_forgotten_before_and_after_the_disk_knows),
		TEST(what_is_on_disk_only_is_forgotten_as_well),
		TEST(what_is_in_memory_and_on_disk_is_forgotten_as_well),
		TEST(blobs_rights_and_other_repos_stay),
		TEST(what_the_new_repo_has_in_common_with_the_old_one_is_known_anew),
		TEST(an_identity_that_is_known_is_not_written_again),
		TEST(a_rebuild_forgets_what_stands_before_the_line),
		TEST(an_alias_that_was_not_seen_for_long_is_not_followed),
		TEST(an_alias_seen_again_is_young_again_also_on_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
