/* SPDX-License-Identifier: Apache-2.0 */
/* auth: who may read what follows from upstream's own answers to the same token, and from nothing else. */
#include "auth_rig.h"

#include <string.h>

static enum access_verdict may(struct fixture *f, const struct subject *s, enum access_level level,
			       bool is_down)
{
	struct refusal refusal;
	enum access_verdict v = auth_may_read(f->auth, s, STR("models/acme/x"), level,
					      is_down ? UPSTREAM_GONE : UPSTREAM_ANSWERS, &refusal);

	refusal_done(&refusal);
	return v;
}

static void learn(struct fixture *f, const struct subject *s, enum access_level proves, int status,
		  const char *code, const char *message)
{
	struct headers h;

	headers_init(&h);
	if (code)
		headers_add(&h, STR("X-Error-Code"), str_from(code));
	if (message)
		headers_add(&h, STR("X-Error-Message"), str_from(message));
	auth_learn(f->auth, s,
		   &(struct verdict_facts){ .repo = STR("models/acme/x"),
					    .proves = proves,
					    .status = status,
					    .headers = &h,
					    .asked_at = f->now });
	headers_done(&h);
}

static void one_token_in_any_form_is_one_subject(void **state)
{
	struct subject a, b, c, d, other;

	assert_int_equal(rig_subject(*state, "Bearer hf_abc", &a), 0);
	assert_int_equal(rig_subject(*state, "bearer  hf_abc", &b), 0);
	assert_int_equal(rig_subject(*state, "Basic dXNlcjpoZl9hYmM=", &c), 0); /* user:hf_abc */
	assert_int_equal(rig_subject(*state, "Basic aGZfYWJjOg==", &d), 0);     /* hf_abc: */
	assert_int_equal(rig_subject(*state, "Bearer hf_abd", &other), 0);
	assert_memory_equal(a.id, b.id, SUBJECT_BYTES);
	assert_memory_equal(a.id, c.id, SUBJECT_BYTES);
	assert_memory_equal(a.id, d.id, SUBJECT_BYTES);
	assert_memory_not_equal(a.id, other.id, SUBJECT_BYTES);
	assert_int_equal(strlen(a.fingerprint), 6);
	subject_done(&a), subject_done(&b), subject_done(&c), subject_done(&d), subject_done(&other);
}

static void malformed_credentials_are_refused_not_anonymous(void **state)
{
	static const char *const bad[] = { "Basic",  "Basic ",    "Bearer a b", "Digest x",
					   "hf_abc", "Basic !!!", "Basic Og==", "Bearer \x7f" };
	struct subject s;
	SCOPED_BUF longer;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]) - 1; i++)
		assert_int_equal(rig_subject(*state, bad[i], &s), -EINVAL);
	buf_init(&longer, 10000);
	buf_append_str(&longer, STR("Bearer "));
	for (int i = 0; i < 5000; i++)
		buf_append_char(&longer, 'a');
	assert_int_equal(rig_subject(*state, longer.bytes, &s), -EINVAL);
}

static void a_scheme_without_a_token_names_nobody(void **state)
{
	struct subject nobody, empty;

	assert_int_equal(rig_subject(*state, NULL, &nobody), 0);
	assert_int_equal(rig_subject(*state, "Bearer", &empty), 0);
	assert_memory_equal(nobody.id, empty.id, SUBJECT_BYTES);
	assert_null(empty.token);
	assert_int_equal(rig_subject(*state, "bearer  ", &empty), 0);
	assert_null(empty.token);
}

static void nothing_is_allowed_before_upstream_said_so(void **state)
{
	struct subject anonymous, alice;

	assert_int_equal(rig_subject(*state, NULL, &anonymous), 0);
	assert_int_equal(rig_subject(*state, "Bearer alice", &alice), 0);
	assert_int_equal(may(*state, &anonymous, ACCESS_META, false), ACCESS_PROBE);
	assert_int_equal(may(*state, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	assert_int_equal(may(*state, &alice, ACCESS_FILES, true), ACCESS_DENY);
	subject_done(&alice);
}

static void a_grant_is_for_one_subject_and_ends(void **state)
{
	struct fixture *f = *state;
	struct subject anonymous, alice, bob;

	assert_int_equal(rig_subject(f, NULL, &anonymous), 0);
	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	assert_int_equal(rig_subject(f, "Bearer bob", &bob), 0);
	learn(f, &alice, ACCESS_FILES, 302, NULL, NULL);
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_ALLOW);
	assert_int_equal(may(f, &bob, ACCESS_FILES, false), ACCESS_PROBE);
	assert_int_equal(may(f, &anonymous, ACCESS_FILES, false), ACCESS_PROBE);
	f->now += TTL_S + 1;
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	/* upstream gone: the proof is young enough for the grace, but only for her */
	assert_int_equal(may(f, &alice, ACCESS_FILES, true), ACCESS_ALLOW);
	assert_int_equal(may(f, &bob, ACCESS_FILES, true), ACCESS_DENY);
	subject_done(&alice), subject_done(&bob);
}

static void what_anonymous_may_read_everybody_may(void **state)
{
	struct fixture *f = *state;
	struct subject anonymous, bob;

	assert_int_equal(rig_subject(f, NULL, &anonymous), 0);
	assert_int_equal(rig_subject(f, "Bearer bob", &bob), 0);
	learn(f, &anonymous, ACCESS_FILES, 200, NULL, NULL);
	assert_int_equal(may(f, &bob, ACCESS_FILES, false), ACCESS_ALLOW);
	/* and loses it again when the repo closes */
	learn(f, &anonymous, ACCESS_FILES, 401, "GatedRepo", "restricted");
	assert_int_equal(may(f, &bob, ACCESS_FILES, false), ACCESS_PROBE);
	assert_int_equal(may(f, &anonymous, ACCESS_FILES, false), ACCESS_DENY);
	assert_int_equal(may(f, &anonymous, ACCESS_META, false), ACCESS_ALLOW);
	subject_done(&bob);
}

static void metadata_proves_nothing_about_files(void **state)
{
	struct fixture *f = *state;
	struct subject alice;

	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	learn(f, &alice, ACCESS_META, 200, NULL, NULL);
	assert_int_equal(may(f, &alice, ACCESS_META, false), ACCESS_ALLOW);
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	/* nor does a missing entry */
	learn(f, &alice, ACCESS_FILES, 404, "EntryNotFound", "Entry not found");
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	/* but metadata does not take away what was proven */
	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	learn(f, &alice, ACCESS_META, 200, NULL, NULL);
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_ALLOW);
	subject_done(&alice);
}

static void old_proof_for_files_outlives_an_answer_about_metadata(void **state)
{
	struct fixture *f = *state;
	struct subject anonymous, alice;

	assert_int_equal(rig_subject(f, NULL, &anonymous), 0);
	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	learn(f, &anonymous, ACCESS_FILES, 200, NULL, NULL);
	f->now += 3600;
	assert_int_equal(may(f, &alice, ACCESS_META, false), ACCESS_PROBE);
	learn(f, &alice, ACCESS_META, 200, NULL, NULL);
	learn(f, &anonymous, ACCESS_META, 200, NULL, NULL);
	assert_int_equal(may(f, &alice, ACCESS_META, false), ACCESS_ALLOW);
	assert_int_equal(may(f, &anonymous, ACCESS_META, false), ACCESS_ALLOW);
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	assert_int_equal(may(f, &anonymous, ACCESS_FILES, false), ACCESS_PROBE);
	assert_int_equal(may(f, &alice, ACCESS_FILES, true), ACCESS_ALLOW);
	assert_int_equal(may(f, &anonymous, ACCESS_FILES, true), ACCESS_ALLOW);
	/* a refusal of metadata ends all of it */
	learn(f, &alice, ACCESS_META, 404, "RepoNotFound", "Repository not found");
	f->now += 60;
	assert_int_equal(may(f, &alice, ACCESS_META, true),
			 ACCESS_DENY); /* the public mark is older than her refusal */
	learn(f, &anonymous, ACCESS_META, 401, NULL, "Invalid username or password.");
	f->now += 60;
	assert_int_equal(may(f, &anonymous, ACCESS_META, false), ACCESS_PROBE);
	assert_int_equal(may(f, &anonymous, ACCESS_META, true), ACCESS_DENY);
	assert_int_equal(may(f, &alice, ACCESS_FILES, true), ACCESS_DENY);
	subject_done(&alice);
}

static void only_a_gated_repo_keeps_showing_its_card(void **state)
{
	struct fixture *f = *state;
	struct subject alice;

	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	f->now += 10;
	learn(f, &alice, ACCESS_FILES, 404, "RepoNotFound", "Repository not found");
	assert_int_equal(may(f, &alice, ACCESS_META, false), ACCESS_PROBE);
	assert_int_equal(may(f, &alice, ACCESS_META, true), ACCESS_DENY);

	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	f->now += TTL_S - 1;
	learn(f, &alice, ACCESS_FILES, 403, "GatedRepo", "restricted");
	assert_int_equal(may(f, &alice, ACCESS_META, false), ACCESS_ALLOW);
	/* the refusal made it no younger */
	f->now += 2;
	assert_int_equal(may(f, &alice, ACCESS_META, false), ACCESS_PROBE);
	subject_done(&alice);
}

static void a_late_yes_does_not_undo_a_younger_no(void **state)
{
	struct fixture *f = *state;
	struct subject alice;

	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	f->now += 10;
	learn(f, &alice, ACCESS_FILES, 404, "RepoNotFound", "Repository not found");
	f->now -= 5; /* asked before, answered after */
	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	f->now += 6;
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_DENY);
	subject_done(&alice);
}

static void a_refusal_is_repeated_in_upstreams_words_to_its_subject(void **state)
{
	struct fixture *f = *state;
	struct refusal refusal;
	struct subject alice, bob;

	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	assert_int_equal(rig_subject(f, "Bearer bob", &bob), 0);
	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	learn(f, &alice, ACCESS_FILES, 403, "GatedRepo", "Access to model acme/x is restricted");
	assert_int_equal(auth_may_read(f->auth, &alice, STR("models/acme/x"), ACCESS_FILES, UPSTREAM_ANSWERS,
				       &refusal),
			 ACCESS_DENY);
	assert_int_equal(refusal.status, 403);
	assert_string_equal(refusal.error_code, "GatedRepo");
	assert_string_equal(refusal.error_message, "Access to model acme/x is restricted");
	refusal_done(&refusal);
	assert_int_equal(may(f, &bob, ACCESS_FILES, false), ACCESS_PROBE);
	f->now += 31;
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	subject_done(&alice), subject_done(&bob);
}

static void trouble_is_no_verdict(void **state)
{
	static const int trouble[] = { 429, 500, 502, 503, 504, 404 /* without a code */ };
	struct fixture *f = *state;
	struct subject alice;

	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	for (size_t i = 0; i < sizeof(trouble) / sizeof(trouble[0]); i++) {
		learn(f, &alice, ACCESS_FILES, trouble[i], NULL, NULL);
		assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	}
	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	for (size_t i = 0; i < sizeof(trouble) / sizeof(trouble[0]); i++)
		learn(f, &alice, ACCESS_FILES, trouble[i], NULL, NULL);
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_ALLOW);
	subject_done(&alice);
}

static void a_dead_token_loses_everything(void **state)
{
	struct fixture *f = *state;
	struct subject alice;
	struct headers h;

	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	headers_init(&h);
	headers_add(&h, STR("X-Error-Message"), STR("Invalid credentials in Authorization header"));
	auth_learn(f->auth, &alice,
		   &(struct verdict_facts){ .repo = STR("models/acme/other"),
					    .proves = ACCESS_META,
					    .status = 401,
					    .headers = &h,
					    .asked_at = f->now });
	headers_done(&h);
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	assert_int_equal(may(f, &alice, ACCESS_FILES, true), ACCESS_DENY);
	subject_done(&alice);
}

static void a_clock_set_back_makes_grants_unusable(void **state)
{
	struct fixture *f = *state;
	struct subject alice;

	assert_int_equal(rig_subject(f, "Bearer alice", &alice), 0);
	learn(f, &alice, ACCESS_FILES, 200, NULL, NULL);
	f->now -= 3600;
	assert_int_equal(may(f, &alice, ACCESS_FILES, false), ACCESS_PROBE);
	subject_done(&alice);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_token_in_any_form_is_one_subject),
		TEST(malformed_credentials_are_refused_not_anonymous),
		TEST(a_scheme_without_a_token_names_nobody),
		TEST(nothing_is_allowed_before_upstream_said_so),
		TEST(a_grant_is_for_one_subject_and_ends),
		TEST(what_anonymous_may_read_everybody_may),
		TEST(metadata_proves_nothing_about_files),
		TEST(old_proof_for_files_outlives_an_answer_about_metadata),
		TEST(only_a_gated_repo_keeps_showing_its_card),
		TEST(a_late_yes_does_not_undo_a_younger_no),
		TEST(a_refusal_is_repeated_in_upstreams_words_to_its_subject),
		TEST(trouble_is_no_verdict),
		TEST(a_dead_token_loses_everything),
		TEST(a_clock_set_back_makes_grants_unusable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
