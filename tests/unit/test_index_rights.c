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

static void look_at_forgotten(struct fixture *f)
{
	char commit[COMMIT_TEXT];
	struct content_id got;
	struct doc d;

	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit, NULL), -ENODATA);
	assert_int_equal(index_find_name(f->index, REPO, STR("dev"), commit, NULL), 0); /* learned after it */
	assert_int_equal(index_find_doc(f->index, REPO, STR("m:info"), &d), -ENODATA);
	assert_int_equal(index_find_doc(f->index, REPO, STR("c:tree"), &d), 0);
	doc_done(&d);
	assert_int_equal(find_entry(f, C1, "absent", &got), -ENODATA);
	assert_int_equal(find_entry(f, C1, "absent later", &got), -ENOENT);
	assert_int_equal(find_entry(f, C1, "held", &got), 0);
}

static void learn_before_forget(struct fixture *f)
{
	struct doc doc = make_doc(8, 200);

	learn(f, name_fact("main", C1, 100));
	learn(f, name_fact("dev", C1, 100));
	learn_doc(f, "m:info", &doc);
	learn_doc(f, "c:tree", &doc);
	learn(f, commit_fact(FACT_ABSENT, C1, "absent"));
	learn(f, commit_fact(FACT_ABSENT, C1, "absent later"));
	learn(f, entry_fact(C1, "held", git_content(1, 1)));
}

static void learn_forget(struct fixture *f)
{
	learn(f, (struct fact){ .kind = FACT_FORGET, .repo = REPO });
	learn(f, name_fact("dev", C2, 300));
	learn(f, commit_fact(FACT_ABSENT, C1, "absent later"));
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
	char commit_text[COMMIT_TEXT];

	learn_before_forget(f);
	learn(f, (struct fact){ .kind = FACT_FORGET, .repo = STR("models/acme/pub2") });
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), 0);
	commit(f);
	reopen(f);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), 0);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
