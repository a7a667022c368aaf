/* SPDX-License-Identifier: Apache-2.0 */
/* auth: what is held is seen by who was shown it, whatever repo has its name now. */
#include "auth_rig.h"

#define REPO STR("models/acme/x")
#define OLD STR("1111111111111111111111111111111111111111")
#define NEW STR("2222222222222222222222222222222222222222")

struct people {
	struct subject alice, bob, nobody;
};

static void people_init(struct fixture *f, struct people *p)
{
	assert_int_equal(rig_subject(f, "Bearer hf_alice", &p->alice), 0);
	assert_int_equal(rig_subject(f, "Bearer hf_bob", &p->bob), 0);
	assert_int_equal(rig_subject(f, NULL, &p->nobody), 0);
}

static void people_done(struct people *p)
{
	subject_done(&p->alice);
	subject_done(&p->bob);
	subject_done(&p->nobody);
}

/* Upstream answers well: a right, and what it showed. */
static void answers(struct fixture *f, const struct subject *s, enum access_level level, struct str what)
{
	struct headers h;

	headers_init(&h);
	auth_shown(f->auth, s, REPO, what, level, f->now);
	auth_learn(f->auth, s,
		   &(struct verdict_facts){
			   .repo = REPO, .proves = level, .status = 200, .headers = &h, .asked_at = f->now });
	headers_done(&h);
}

static void refuses(struct fixture *f, const struct subject *s, const char *code)
{
	struct headers h;

	headers_init(&h);
	(void)headers_add(&h, STR("X-Error-Code"), str_from(code));
	auth_learn(f->auth, s,
		   &(struct verdict_facts){ .repo = REPO,
					    .proves = ACCESS_FILES,
					    .status = 403,
					    .headers = &h,
					    .asked_at = f->now });
	headers_done(&h);
}

static bool sees(struct fixture *f, const struct subject *s, struct str what, enum access_level level)
{
	bool online = auth_may_see(f->auth, s, REPO, what, level, UPSTREAM_ANSWERS),
	     offline = auth_may_see(f->auth, s, REPO, what, level, UPSTREAM_GONE);

	assert_int_equal(online, offline); /* all rights of these tests are young */
	return online;
}

static void each_sees_what_it_was_shown_and_what_was_shown_to_all(void **state)
{
	struct fixture *f = *state;
	struct people p;

	people_init(f, &p);
	answers(f, &p.alice, ACCESS_FILES, OLD);
	answers(f, &p.bob, ACCESS_FILES, NEW);
	assert_true(sees(f, &p.alice, OLD, ACCESS_FILES));
	assert_false(sees(f, &p.alice, NEW, ACCESS_FILES));
	assert_false(sees(f, &p.bob, OLD, ACCESS_META));
	assert_false(sees(f, &p.nobody, NEW, ACCESS_META));
	answers(f, &p.nobody, ACCESS_FILES, NEW);
	assert_true(sees(f, &p.nobody, NEW, ACCESS_FILES));
	assert_true(sees(f, &p.alice, NEW, ACCESS_FILES));
	assert_false(sees(f, &p.nobody, OLD, ACCESS_META));
	assert_false(sees(f, &p.bob, OLD, ACCESS_META));
	people_done(&p);
}

static void a_right_to_the_files_is_none_to_files_of_what_was_listed(void **state)
{
	struct fixture *f = *state;
	struct people p;

	people_init(f, &p);
	answers(f, &p.nobody, ACCESS_META, OLD);
	answers(f, &p.nobody, ACCESS_FILES, NEW);
	assert_true(sees(f, &p.nobody, OLD, ACCESS_META));
	assert_false(sees(f, &p.nobody, OLD, ACCESS_FILES));
	people_done(&p);
}

static void who_was_shown_the_repo_sees_what_is_known_to_be_of_it(void **state)
{
	struct fixture *f = *state;
	struct people p;

	people_init(f, &p);
	auth_identity_seen(f->auth, REPO, 1, 2);
	auth_belongs(f->auth, REPO, OLD, 2);
	answers(f, &p.alice, ACCESS_FILES, OLD);
	answers(f, &p.alice, ACCESS_FILES, NEW);
	answers(f, &p.bob, ACCESS_FILES, SHOWN_REPO);
	answers(f, &p.nobody, ACCESS_META, SHOWN_REPO);
	assert_true(sees(f, &p.bob, OLD, ACCESS_FILES));
	assert_false(sees(f, &p.bob, NEW, ACCESS_META));
	assert_true(sees(f, &p.nobody, OLD, ACCESS_META));
	assert_false(sees(f, &p.nobody, OLD, ACCESS_FILES));
	people_done(&p);
}

static void what_lies_between_two_looks_at_the_same_identity_is_of_that_repo(void **state)
{
	struct fixture *f = *state;
	struct people p;

	people_init(f, &p);
	answers(f, &p.bob, ACCESS_FILES, SHOWN_REPO);
	auth_may_belong(f->auth, REPO, STR("a"), 5, 6); /* nothing was known of an identity */
	auth_identity_seen(f->auth, REPO, 10, 12);
	auth_may_belong(f->auth, REPO, STR("b"), 11, 13); /* asked before that was heard */
	auth_may_belong(f->auth, REPO, STR("c"), 13, 15);
	auth_may_belong(f->auth, REPO, STR("d"), 14, 21); /* answered after the second was asked */
	assert_false(sees(f, &p.bob, STR("c"), ACCESS_FILES));
	auth_identity_seen(f->auth, REPO, 20, 22);
	assert_false(sees(f, &p.bob, STR("a"), ACCESS_FILES));
	assert_false(sees(f, &p.bob, STR("b"), ACCESS_FILES));
	assert_true(sees(f, &p.bob, STR("c"), ACCESS_FILES));
	assert_false(sees(f, &p.bob, STR("d"), ACCESS_FILES));
	auth_identity_seen(f->auth, REPO, 30, 31);
	assert_true(sees(f, &p.bob, STR("d"), ACCESS_FILES));
	people_done(&p);
}

static void what_was_shown_for_a_right_ends_with_it(void **state)
{
	struct fixture *f = *state;
	struct people p;

	people_init(f, &p);
	answers(f, &p.nobody, ACCESS_FILES, OLD);
	answers(f, &p.bob, ACCESS_FILES, OLD);
	f->now += 10;
	refuses(f, &p.nobody, "GatedRepo");
	refuses(f, &p.bob, "RepoNotFound");
	f->now += 10;
	answers(f, &p.nobody, ACCESS_FILES, NEW);
	answers(f, &p.bob, ACCESS_FILES, NEW);
	assert_true(sees(f, &p.nobody, OLD, ACCESS_META)); /* its card was open all the time */
	assert_false(sees(f, &p.nobody, OLD, ACCESS_FILES));
	assert_false(sees(f, &p.bob, OLD, ACCESS_FILES));
	auth_narrow(f->auth, REPO, ACCESS_NONE);
	answers(f, &p.nobody, ACCESS_META, NEW);
	assert_false(sees(f, &p.nobody, OLD, ACCESS_META));
	people_done(&p);
}

static void the_administrators_word_opens_all_that_is_held(void **state)
{
	struct fixture *f = *state;
	struct people p;

	people_init(f, &p);
	auth_set_rules(f->auth, &(struct auth_rules){ .offline_access = OFFLINE_OPEN });
	assert_true(auth_may_see(f->auth, &p.bob, REPO, OLD, ACCESS_FILES, UPSTREAM_GONE));
	assert_false(auth_may_see(f->auth, &p.bob, REPO, OLD, ACCESS_FILES, UPSTREAM_FAILED));
	assert_false(auth_is_own_right(f->auth, &p.bob, REPO, OLD, ACCESS_FILES, UPSTREAM_GONE));
	people_done(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_sees_what_it_was_shown_and_what_was_shown_to_all),
		TEST(a_right_to_the_files_is_none_to_files_of_what_was_listed),
		TEST(who_was_shown_the_repo_sees_what_is_known_to_be_of_it),
		TEST(what_lies_between_two_looks_at_the_same_identity_is_of_that_repo),
		TEST(what_was_shown_for_a_right_ends_with_it),
		TEST(the_administrators_word_opens_all_that_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
