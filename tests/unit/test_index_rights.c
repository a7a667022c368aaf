/* SPDX-License-Identifier: Apache-2.0 */
/* index: who may read what, and what is taken back. */
#include "index_rig.h"

/* --- rights --- */

static void look_at_rights(struct fixture *f)
{
	struct access_facts a = rights_of(f, 1);

	assert_int_equal(a.public_level, ACCESS_META);
	assert_int_equal(a.public_at, 50);
	assert_int_equal(a.granted, ACCESS_FILES);
	assert_int_equal(a.granted_at, 60);
	a = rights_of(f, 2);
	assert_int_equal(a.public_level, ACCESS_META);
	assert_int_equal(a.granted, ACCESS_NONE);
	assert_int_equal(a.granted_at, 0);
	a = rights_of(f, 0);
	assert_int_equal(a.public_level, ACCESS_META);
	assert_int_equal(a.granted, ACCESS_NONE);
}

static void knows_each_subjects_own_rights(void **state)
{
	learn(*state, right_fact(FACT_PUBLIC, 0, ACCESS_META, 50));
	learn(*state, right_fact(FACT_GRANT, 1, ACCESS_FILES, 60));
	in_every_phase(*state, look_at_rights);
}

static void look_at_no_rights(struct fixture *f)
{
	struct access_facts a = rights_of(f, 1);

	assert_int_equal(a.public_level, ACCESS_NONE);
	assert_int_equal(a.public_at, 0);
	assert_int_equal(a.granted, ACCESS_NONE);
	assert_int_equal(a.granted_at, 0);
}

static void takes_rights_away(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_FILES, 50));
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	commit(f);
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_NONE, 60));
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_NONE, 60));
	in_every_phase(f, look_at_no_rights);
}

static void look_at_forgotten_subject(struct fixture *f)
{
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	assert_int_equal(rights_of(f, 2).granted, ACCESS_FILES);
	assert_int_equal(rights_of(f, 1).public_level, ACCESS_META);
}

static void forgets_the_grants_of_a_subject(void **state)
{
	struct fixture *f = *state;
	struct fact forget = { .kind = FACT_FORGET_GRANTS };

	memset(forget.subject, 1, SUBJECT_BYTES);
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_META, 50));
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 60));
	learn(f, right_fact(FACT_GRANT, 2, ACCESS_FILES, 60));
	commit(f);
	reopen(f); /* they are on disk only */
	learn(f, forget);
	in_every_phase(f, look_at_forgotten_subject);
}

static void forgets_the_grants_of_a_repo_and_learns_new_ones(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 60));
	learn(f, right_fact(FACT_GRANT, 2, ACCESS_FILES, 60));
	commit(f);
	reopen(f);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_FILES); /* one in memory, one not */
	learn(f, (struct fact){ .kind = FACT_FORGET_GRANTS, .repo = REPO });
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	assert_int_equal(rights_of(f, 2).granted, ACCESS_NONE);
	learn(f, right_fact(FACT_GRANT, 2, ACCESS_META, 70));
	assert_int_equal(rights_of(f, 2).granted, ACCESS_META);
	commit(f);
	reopen(f);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	assert_int_equal(rights_of(f, 2).granted, ACCESS_META);
}

/* --- forgetting after a write --- */

static void expect_name(struct fixture *f, const char *revision, const char *commit_text, int64_t seen_at)
{
	char got[COMMIT_TEXT];
	int64_t at;

	assert_int_equal(index_find_name(f->index, REPO, str_from(revision), got, &at), 0);
	assert_string_equal(got, commit_text);
	assert_int_equal(at, seen_at);
}

static void expect_doc(struct fixture *f, const char *key, int64_t seen_at)
{
	struct doc d;

	assert_int_equal(index_find_doc(f->index, REPO, str_from(key), &d), 0);
	assert_int_equal(d.fetched_at, seen_at);
	doc_done(&d);
}

static void expect_no_doc(struct fixture *f, const char *key)
{
	struct doc d;

	assert_int_equal(index_find_doc(f->index, REPO, str_from(key), &d), -ENODATA);
}

static void look_at_forgotten(struct fixture *f)
{
	struct content_id got;

	expect_name(f, "main", C1, -100);
	expect_name(f, "dev", C2, 300); /* learned after it */
	expect_name(f, "same", C1, 300);
	expect_doc(f, "m:info", -200);
	expect_doc(f, "m:refs", 200);
	expect_doc(f, "c:tree", 200);
	/* what a commit is does not change */
	assert_int_equal(find_entry(f, C1, "absent", &got), -ENOENT);
	assert_int_equal(find_entry(f, C1, "held", &got), 0);
}

static void learn_before_forget(struct fixture *f)
{
	struct doc doc = make_doc(8, 200);

	learn(f, name_fact("main", C1, 100));
	learn(f, name_fact("dev", C1, 100));
	learn(f, name_fact("same", C1, 100));
	learn_doc(f, "m:info", &doc);
	learn_doc(f, "m:refs", &doc);
	learn_doc(f, "c:tree", &doc);
	learn(f, commit_fact(FACT_ABSENT, C1, "absent"));
	learn(f, entry_fact(C1, "held", git_content(1, 1)));
}

static void learn_forget(struct fixture *f)
{
	struct doc doc = make_doc(8, 200);

	learn(f, (struct fact){ .kind = FACT_FORGET, .repo = REPO });
	learn(f, name_fact("dev", C2, 300));
	learn(f, name_fact("same", C1, 300));
	learn_doc(f, "m:refs", &doc);
}

static void forgets_what_is_queued_before_it_only(void **state)
{
	learn_before_forget(*state);
	learn_forget(*state);
	in_every_phase(*state, look_at_forgotten);
}

static void forgets_what_is_on_disk_and_in_memory(void **state)
{
	learn_before_forget(*state);
	commit(*state);
	learn_forget(*state);
	in_every_phase(*state, look_at_forgotten);
}

static void forgets_what_is_on_disk_only(void **state)
{
	learn_before_forget(*state);
	commit(*state);
	reopen(*state);
	learn_forget(*state);
	in_every_phase(*state, look_at_forgotten);
}

static void forgets_nothing_of_other_repos(void **state)
{
	struct fixture *f = *state;

	learn_before_forget(f);
	learn(f, (struct fact){ .kind = FACT_FORGET, .repo = STR("models/acme/pub2") });
	expect_name(f, "main", C1, 100);
	commit(f);
	reopen(f);
	expect_name(f, "main", C1, 100);
}

static void doubts_once_however_many_writes_there_are(void **state)
{
	struct fixture *f = *state;

	learn_before_forget(f);
	for (int i = 0; i < 4; i++) {
		learn(f, (struct fact){ .kind = FACT_FORGET, .repo = REPO });
		if (i & 1)
			commit(f);
		expect_name(f, "main", C1, -100);
		expect_doc(f, "m:info", -200);
	}
	reopen(f);
	expect_name(f, "main", C1, -100);
	expect_doc(f, "m:info", -200);
}

/* Else a rebuild would find the name only above the line that puts it in doubt. */
static void what_is_said_again_after_a_write_is_journaled_again(void **state)
{
	struct fixture *f = *state;

	for (int is_in_memory = 0; is_in_memory < 2; is_in_memory++) {
		struct index_batch *b;

		learn(f, name_fact("main", C1, 100));
		commit(f);
		learn(f, name_fact("main", C1, 101));
		b = index_take_batch(f->index, EVERYTHING);
		assert_true(index_batch_is_refresh(b, 0));
		assert_int_equal(index_apply(f->index, b), 0);
		if (!is_in_memory)
			reopen(f);
		learn(f, (struct fact){ .kind = FACT_FORGET, .repo = REPO });
		learn(f, name_fact("main", C1, 102));
		b = index_take_batch(f->index, EVERYTHING);
		assert_int_equal(index_batch_count(b), 2);
		assert_false(index_batch_is_refresh(b, 0));
		assert_false(index_batch_is_refresh(b, 1));
		assert_int_equal(index_apply(f->index, b), 0);
		learn(f, name_fact("main", C1, 103));
		b = index_take_batch(f->index, EVERYTHING);
		assert_true(index_batch_is_refresh(b, 0));
		assert_int_equal(index_apply(f->index, b), 0);
		expect_name(f, "main", C1, 103);
	}
}

static void look_at_deleted(struct fixture *f)
{
	char commit_text[COMMIT_TEXT];

	assert_int_equal(index_find_name(f->index, REPO, STR("a/b"), commit_text, NULL), -ENODATA);
	expect_name(f, "a", C1, -100);
	expect_name(f, "b", C1, -100);
	expect_no_doc(f, "m:revision/a/b/");
	expect_no_doc(f, "m:commits/a/b/?p=2");
	expect_doc(f, "m:revision/a/", -200);
	expect_doc(f, "m:revision/a/bc/", -200);
	expect_doc(f, "m:refs//", -200);
	expect_doc(f, "c:tree/a/b/", 200);
}

static void learn_before_deletion(struct fixture *f)
{
	static const char *const keys[] = {
		"m:revision/a/b/",  "m:commits/a/b/?p=2", "m:revision/a/",
		"m:revision/a/bc/", "m:refs//",           "c:tree/a/b/",
	};
	struct doc doc = make_doc(8, 200);

	learn(f, name_fact("a/b", C1, 100));
	learn(f, name_fact("a", C1, 100));
	learn(f, name_fact("b", C1, 100));
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		learn_doc(f, keys[i], &doc);
}

static void a_deleted_name_is_gone_at_once(void **state)
{
	for (int phase = 0; phase < 3; phase++) {
		struct fixture *f = *state;

		learn_before_deletion(f);
		if (phase > 0)
			commit(f);
		if (phase > 1)
			reopen(f);
		learn(f, (struct fact){ .kind = FACT_FORGET, .repo = REPO, .revision = STR("a/b") });
		if (phase < 2) {
			look_at_deleted(f);
			commit(f);
			look_at_deleted(f);
			reopen(f);
		} else {
			/* documents on disk count for nothing until it is written: which name they are about is not looked at */
			expect_no_doc(f, "m:revision/a/b/");
			expect_name(f, "a", C1, -100);
			commit(f);
		}
		look_at_deleted(f);
		learn(f, name_fact("a/b", C2, 300));
		expect_name(f, "a/b", C2, 300);
		commit(f);
		reopen(f);
		expect_name(f, "a/b", C2, 300);
	}
}

static void a_rebuild_doubts_what_stands_before_the_line(void **state)
{
	struct fixture *f = *state;
	struct fact facts[] = {
		name_fact("main", C1, 100),
		name_fact("gone", C1, 100),
		name_fact("dev", C1, 100),
		{ .kind = FACT_FORGET, .repo = REPO, .revision = STR("gone"), .at = 200 },
		name_fact("dev", C2, 200),
	};
	char commit_text[COMMIT_TEXT];

	assert_int_equal(index_rebuild_begin(f->index), 0);
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		assert_int_equal(index_rebuild_add(f->index, &facts[i]), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	expect_name(f, "main", C1, -100);
	expect_name(f, "dev", C2, 200);
	assert_int_equal(index_find_name(f->index, REPO, STR("gone"), commit_text, NULL), -ENODATA);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(knows_each_subjects_own_rights),
		TEST(takes_rights_away),
		TEST(forgets_the_grants_of_a_subject),
		TEST(forgets_the_grants_of_a_repo_and_learns_new_ones),
		TEST(forgets_what_is_queued_before_it_only),
		TEST(forgets_what_is_on_disk_and_in_memory),
		TEST(forgets_what_is_on_disk_only),
		TEST(forgets_nothing_of_other_repos),
		TEST(doubts_once_however_many_writes_there_are),
		TEST(what_is_said_again_after_a_write_is_journaled_again),
		TEST(a_deleted_name_is_gone_at_once),
		TEST(a_rebuild_doubts_what_stands_before_the_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
