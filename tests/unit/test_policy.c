/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy: every decision over its whole table. Facts are enumerated, and each verdict is checked against the rules in
 * their own words; the named cases are those that once cost somebody something.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "policy/policy.h"

#define NOW 1800000000
#define EACH(var, ...)                                                                                       \
	for (unsigned var##_i = 0; var##_i < sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t);           \
	     var##_i++)                                                                                      \
		for (int64_t var = ((int64_t[]){ __VA_ARGS__ })[var##_i], var##_once = 1; var##_once;        \
		     var##_once = 0)

/* --- freshness --- */

static void freshness_follows_its_table(void **state)
{
	for (unsigned bits = 0; bits < 8; bits++)
		EACH(age, -301, -300, 0, 29, 30, 31)
		{
			struct freshness_facts f = { .is_held = bits & 1,
						     .is_immutable = bits & 2,
						     .upstream_is_down = bits & 4,
						     .checked_at = NOW - age,
						     .now = NOW,
						     .ttl_ms = 30000 };
			enum freshness want;

			if (!f.is_held)
				want = FRESH_FETCH;
			else if (f.is_immutable || f.upstream_is_down)
				want = FRESH_USE;
			else if (age < -300 || age >= 30)
				want = FRESH_REVALIDATE;
			else
				want = FRESH_USE;
			assert_int_equal(policy_freshness(&f), want);
		}
}

static void time_to_live_of_zero_is_always_revalidated(void **state)
{
	struct freshness_facts f = { .is_held = true, .checked_at = NOW, .now = NOW, .ttl_ms = 0 };

	assert_int_equal(policy_freshness(&f), FRESH_REVALIDATE);
}

static void absurd_times_do_not_overflow(void **state)
{
	struct freshness_facts f = {
		.is_held = true, .checked_at = INT64_MIN, .now = INT64_MAX, .ttl_ms = 1000
	};

	assert_int_equal(policy_freshness(&f), FRESH_REVALIDATE);
	f.checked_at = INT64_MAX;
	f.now = INT64_MIN;
	assert_int_equal(policy_freshness(&f), FRESH_REVALIDATE);
}

/* --- access --- */

#define PUBLIC_TTL 900
#define GRANT_TTL 300
#define DENY_TTL 30
#define GRACE 604800

static struct access_facts facts_of_nobody(void)
{
	return (struct access_facts){ .wanted = ACCESS_FILES,
				      .now = NOW,
				      .offline_access = OFFLINE_GRANTS,
				      .public_ttl_ms = PUBLIC_TTL * 1000,
				      .grant_ttl_ms = GRANT_TTL * 1000,
				      .deny_ttl_ms = DENY_TTL * 1000,
				      .offline_grace_ms = GRACE * 1000ull };
}

static bool reaches_from_the_future(int64_t at)
{
	return at > NOW + 300;
}

static bool takes_grants(enum offline_access access)
{
	return access == OFFLINE_GRANTS || access == OFFLINE_OPEN;
}

/* The rules once more, as sentences: what must be true whenever the verdict is ALLOW, DENY or PROBE. */
static void check_access(const struct access_facts *f)
{
	enum access_verdict v = policy_access(f);
	bool is_clock_wrong = reaches_from_the_future(f->public_at) ||
			      reaches_from_the_future(f->granted_at) || reaches_from_the_future(f->denied_at);
	bool public_counts = f->public_at && f->public_level >= f->wanted &&
			     (!f->denied_at || f->public_at > f->denied_at);
	bool grant_counts = !f->is_anonymous && f->granted_at && f->granted >= f->wanted &&
			    (!f->denied_at || f->granted_at > f->denied_at);
	bool is_public_young = NOW - f->public_at < PUBLIC_TTL,
	     is_grant_young = NOW - f->granted_at < GRANT_TTL;

	if (f->upstream_is_down && f->upstream_is_gone &&
	    (f->offline_access == OFFLINE_OPEN || (f->offline_access == OFFLINE_ACL && f->is_listed))) {
		assert_int_equal(v, ACCESS_ALLOW);
	} else if (is_clock_wrong) {
		assert_int_equal(v, f->upstream_is_down ? ACCESS_DENY : ACCESS_PROBE);
	} else if (f->upstream_is_down) {
		bool is_proved = public_counts || (grant_counts && takes_grants(f->offline_access) &&
						   NOW - f->granted_at < GRACE);

		assert_int_equal(v, is_proved ? ACCESS_ALLOW
					      : ACCESS_DENY); /* never PROBE: there is nobody to ask */
	} else if (v == ACCESS_ALLOW) {
		assert_true((public_counts && is_public_young) || (grant_counts && is_grant_young));
	} else {
		assert_false(public_counts && is_public_young);
		assert_false(grant_counts && is_grant_young);
		if (v == ACCESS_DENY)
			assert_true((f->denied_at && NOW - f->denied_at < DENY_TTL) ||
				    (f->is_anonymous && f->public_at && f->public_level == ACCESS_NONE &&
				     NOW - f->public_at < DENY_TTL));
	}
}

/* A right that is good for less is as good as none. */
static struct access_facts without_what_was_not_shown(struct access_facts f)
{
	enum access_level shown = f.shown_to_it > f.shown_to_all ? f.shown_to_it : f.shown_to_all;

	if (f.shown_to_all < f.wanted)
		f.public_at = 0;
	if (shown < f.wanted)
		f.granted_at = 0;
	f.is_of_thing = false;
	return f;
}

static void what_was_not_shown_is_open_to_nobody(void **state)
{
	EACH(public_age, -1, 0, PUBLIC_TTL, -400)
	EACH(grant_age, -1, 0, GRANT_TTL, GRACE)
	EACH(deny_age, -1, 10, 400)
	for (unsigned bits = 0; bits < 128; bits++)
		for (int levels = 0; levels < 81; levels++) {
			struct access_facts f = facts_of_nobody(), less;
			enum access_verdict v;

			f.public_at = public_age == -1 ? 0 : NOW - public_age;
			f.granted_at = grant_age == -1 ? 0 : NOW - grant_age;
			f.denied_at = deny_age == -1 ? 0 : NOW - deny_age;
			f.public_level = (enum access_level)(levels % 3);
			f.granted = (enum access_level)(levels / 3 % 3);
			f.shown_to_all = (enum access_level)(levels / 9 % 3);
			f.shown_to_it = (enum access_level)(levels / 27);
			f.wanted = bits & 1 ? ACCESS_FILES : ACCESS_META;
			f.is_anonymous = bits & 2;
			f.upstream_is_down = bits & 4;
			f.offline_access = (enum offline_access)(bits >> 3 & 3);
			f.upstream_is_gone = bits & 32;
			f.is_listed = bits & 64;
			f.is_of_thing = true;
			v = policy_access(&f);
			less = without_what_was_not_shown(f);
			if (public_age != -400)
				assert_int_equal(v == ACCESS_ALLOW, policy_access(&less) == ACCESS_ALLOW);
			/* never more than of the repo itself */
			f.is_of_thing = false;
			assert_true(v != ACCESS_ALLOW || policy_access(&f) == ACCESS_ALLOW);
		}
}

static void what_only_a_token_was_shown_is_not_open_by_the_public_mark(void **state)
{
	struct access_facts f = facts_of_nobody();

	f.public_level = ACCESS_FILES;
	f.public_at = NOW - 1;
	f.is_of_thing = true;
	f.shown_to_it = ACCESS_FILES;
	assert_int_equal(policy_access(&f), ACCESS_PROBE); /* its right has ended since */
	f.upstream_is_down = f.upstream_is_gone = true;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
	f.granted = ACCESS_FILES;
	f.granted_at = NOW - 100;
	assert_int_equal(policy_access(&f), ACCESS_ALLOW);
	f.offline_access = OFFLINE_PUBLIC;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
	f.shown_to_all = ACCESS_FILES;
	assert_int_equal(policy_access(&f), ACCESS_ALLOW);
}

static void access_follows_its_table(void **state)
{
	unsigned checked = 0;

	EACH(public_age, -1, 0, 10, 29, 31, PUBLIC_TTL - 1, PUBLIC_TTL, GRACE + 1, -400)
	EACH(grant_age, -1, 0, 10, 29, 31, GRANT_TTL - 1, GRANT_TTL, GRACE - 1, GRACE, -400)
	EACH(deny_age, -1, 0, 10, 29, 30, 400, GRACE, -400)
	for (unsigned bits = 0; bits < 128; bits++)
		for (int public_level = 0; public_level < 3; public_level++)
			for (int granted = 0; granted < 3; granted++) {
				struct access_facts f = facts_of_nobody();

				/* -1 stands for "never", -400 for a clock that ran backwards */
				f.public_at = public_age == -1 ? 0 : NOW - public_age;
				f.granted_at = grant_age == -1 ? 0 : NOW - grant_age;
				f.denied_at = deny_age == -1 ? 0 : NOW - deny_age;
				f.public_level = (enum access_level)public_level;
				f.granted = (enum access_level)granted;
				f.wanted = bits & 1 ? ACCESS_FILES : ACCESS_META;
				f.is_anonymous = bits & 2;
				f.upstream_is_down = bits & 4;
				f.offline_access = (enum offline_access)(bits >> 3 & 3);
				f.upstream_is_gone = bits & 32;
				f.is_listed = bits & 64;
				check_access(&f);
				checked++;
			}
	assert_int_equal(checked, 9 * 10 * 8 * 128 * 9);
}

static void stranger_is_asked_about_upstream(void **state)
{
	struct access_facts f = facts_of_nobody();

	assert_int_equal(policy_access(&f), ACCESS_PROBE);
	f.upstream_is_down = true;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
}

static void refusal_ends_an_older_public_mark_at_once(void **state)
{
	struct access_facts f = facts_of_nobody();

	f.public_level = ACCESS_FILES;
	f.public_at = NOW - 5;
	f.denied_at = NOW - 2;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
	f.denied_at = NOW - DENY_TTL; /* it is forgotten, but the mark does not rise again */
	f.public_at = NOW - DENY_TTL - 1;
	assert_int_equal(policy_access(&f), ACCESS_PROBE);
	f.upstream_is_down = true;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
}

static void mark_newer_than_the_refusal_lets_everybody_in(void **state)
{
	struct access_facts f = facts_of_nobody();

	f.public_level = ACCESS_FILES;
	f.public_at = NOW - 1;
	f.denied_at = NOW - 2;
	assert_int_equal(policy_access(&f), ACCESS_ALLOW);
}

static void metadata_grant_opens_no_file(void **state)
{
	struct access_facts f = facts_of_nobody();

	f.granted = ACCESS_META;
	f.granted_at = NOW;
	assert_int_equal(policy_access(&f), ACCESS_PROBE);
	f.wanted = ACCESS_META;
	assert_int_equal(policy_access(&f), ACCESS_ALLOW);
}

static void strict_offline_choice_ignores_live_grants(void **state)
{
	struct access_facts f = facts_of_nobody();

	f.granted = ACCESS_FILES;
	f.granted_at = NOW;
	f.upstream_is_down = true;
	assert_int_equal(policy_access(&f), ACCESS_ALLOW);
	f.offline_access = OFFLINE_PUBLIC;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
}

static void administrators_list_counts_only_while_upstream_is_gone_for_all(void **state)
{
	struct access_facts f = facts_of_nobody();

	f.offline_access = OFFLINE_ACL;
	f.is_listed = true;
	assert_int_equal(policy_access(&f), ACCESS_PROBE);
	f.upstream_is_down = true; /* this question failed: anybody can make one fail */
	assert_int_equal(policy_access(&f), ACCESS_DENY);
	f.upstream_is_gone = true;
	assert_int_equal(policy_access(&f), ACCESS_ALLOW);
	f.is_listed = false;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
	f.granted = ACCESS_FILES; /* the list is the whole of it */
	f.granted_at = NOW;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
}

static void open_means_everybody_while_upstream_is_gone(void **state)
{
	struct access_facts f = facts_of_nobody();

	f.offline_access = OFFLINE_OPEN;
	assert_int_equal(policy_access(&f), ACCESS_PROBE);
	f.upstream_is_down = true;
	assert_int_equal(policy_access(&f), ACCESS_DENY);
	f.upstream_is_gone = true;
	f.denied_at = NOW;
	assert_int_equal(policy_access(&f), ACCESS_ALLOW);
}

/* --- fills --- */

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)

static enum fill_plan plan_of(uint64_t first, uint64_t end, bool is_open, uint64_t size,
			      struct byte_range *window)
{
	enum fill_plan plan = policy_fill_plan((struct byte_range){ first, end }, is_open, size, window);

	assert_true(window->first <= first && window->end >= end && window->end <= size);
	if (plan == FILL_WHOLE)
		assert_true(window->first == 0 && window->end == size);
	return plan;
}

static void one_byte_of_a_huge_file_reads_a_small_window(void **state)
{
	struct byte_range w;

	assert_int_equal(plan_of(0, 1, false, 20 * GIB, &w), FILL_WINDOW);
	assert_true(w.first == 0 && w.end <= MIB);
	assert_int_equal(plan_of(20 * GIB - 1, 20 * GIB, false, 20 * GIB, &w), FILL_WINDOW);
	assert_true(w.first == 20 * GIB - 1);
	assert_int_equal(plan_of(5 * GIB + 7, 5 * GIB + 8, false, 20 * GIB, &w), FILL_WINDOW);
	assert_true(w.first == 5 * GIB + 7 && w.end == w.first + 256 * KIB);
}

static void large_windows_are_fetched_exactly(void **state)
{
	struct byte_range w;

	assert_int_equal(plan_of(MIB, 2 * MIB, false, 20 * MIB, &w), FILL_WINDOW);
	assert_true(w.first == MIB && w.end == 2 * MIB);
}

static void small_open_and_large_ranges_fetch_everything(void **state)
{
	struct byte_range w;

	assert_int_equal(plan_of(0, 1, false, 1, &w), FILL_WHOLE);
	assert_int_equal(plan_of(5, 6, false, 8 * MIB, &w), FILL_WHOLE);
	assert_int_equal(plan_of(5, 6, false, 8 * MIB + 1, &w), FILL_WINDOW);
	assert_int_equal(plan_of(19 * GIB, 20 * GIB, true, 20 * GIB, &w), FILL_WHOLE);
	assert_int_equal(plan_of(0, 10 * GIB, false, 20 * GIB, &w), FILL_WHOLE);
	assert_int_equal(plan_of(0, 10 * GIB - 1, false, 20 * GIB, &w), FILL_WINDOW);
}

static void waits_only_for_what_comes_soon(void **state)
{
	assert_true(policy_worth_waiting(0, 0, 0));
	assert_false(policy_worth_waiting(0, 1, 1 << 30)); /* gone by */
	assert_true(policy_worth_waiting(512 * KIB, 0, 0));
	assert_false(policy_worth_waiting(512 * KIB + 1, 0, 0));
	assert_true(policy_worth_waiting(10 * MIB, 0, 40 * MIB));
	assert_false(policy_worth_waiting(10 * MIB + 1, 0, 40 * MIB));
	assert_true(policy_worth_waiting(16 * KIB, 0, 1)); /* whatever the speed */
	assert_false(policy_worth_waiting(16 * KIB + 1, 0, 1));
	assert_true(policy_worth_waiting(UINT64_MAX / 8, 0, UINT64_MAX)); /* no overflow */
}

static void holds_back_the_tail_and_all_of_a_small_file(void **state)
{
	EACH(size, 0, 1, 65535, 65536)
	assert_int_equal(policy_held_back_bytes((uint64_t)size), size);
	assert_int_equal(policy_held_back_bytes(65537), 65536);
	assert_int_equal(policy_held_back_bytes(20 * GIB), 65536);
}

/* --- retry --- */

static struct retry_verdict retry(int error, int status, unsigned attempts, bool progress, bool is_signed,
				  int64_t after)
{
	struct retry_facts f = { error, status, attempts, progress, is_signed, after };
	struct retry_verdict low = policy_retry(&f, 0), high = policy_retry(&f, UINT32_MAX);

	assert_int_equal(low.again, high.again);
	assert_true(low.wait_ms <= high.wait_ms);
	if (!low.again)
		assert_int_equal(low.wait_ms, 0);
	return high;
}

static void retries_follow_their_table(void **state)
{
	EACH(error, 0, -EHOSTUNREACH, -ETIMEDOUT, -ECONNRESET, -EPROTO, -EBADMSG, -EACCES, -ENOSPC, -EIO,
	     -ECANCELED, -ELOOP)
	EACH(status, 0, 200, 206, 301, 400, 401, 403, 404, 408, 410, 416, 421, 429, 451, 500, 501, 502, 503,
	     504)
	EACH(attempts, 0, 1, 2, 3, 4, 100)
	for (unsigned bits = 0; bits < 4; bits++) {
		bool is_signed = bits & 1, progress = bits & 2;
		struct retry_verdict v =
			retry((int)error, (int)status, (unsigned)attempts, progress, is_signed, -1);
		bool is_body = status == 0 || status == 200 || status == 206;
		bool transport = error == -EHOSTUNREACH || error == -ETIMEDOUT || error == -ECONNRESET ||
				 error == -EPROTO;
		bool passing =
			status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
		bool renew = is_signed && status >= 400 && status < 500 && !passing && attempts <= 1;
		bool want = error && is_body ? transport && attempts <= 3 : passing ? attempts <= 3 : renew;

		assert_int_equal(v.again, want);
		if (want && renew)
			assert_int_equal(v.wait_ms, 0);
		else if (want && progress)
			assert_in_range(v.wait_ms, 100, 200);
		else if (want)
			assert_in_range(v.wait_ms, 500, 8000);
	}
}

static void back_off_grows(void **state)
{
	uint64_t first = retry(-ECONNRESET, 0, 1, false, false, -1).wait_ms;
	uint64_t second = retry(-ECONNRESET, 0, 2, false, false, -1).wait_ms;
	uint64_t third = retry(-ECONNRESET, 0, 3, false, false, -1).wait_ms;

	assert_true(first < second && second < third && third <= 8000);
}

static void retry_after_is_honoured_while_somebody_can_wait(void **state)
{
	assert_int_equal(retry(0, 429, 1, false, false, 20000).wait_ms, 20000);
	assert_int_equal(retry(0, 503, 1, false, false, 50000).wait_ms, 50000);
	assert_false(retry(0, 429, 1, false, false, 50001).again);
	assert_false(retry(0, 429, 1, false, false, 1000000000000).again);
	assert_in_range(retry(0, 429, 1, false, false, 0).wait_ms, 500, 1000); /* 0 is no leave to hammer */
	assert_false(retry(0, 429, 4, false, false, 0).again);
}

/* --- quota --- */

static void frees_what_the_limit_needs(void **state)
{
	assert_int_equal(policy_bytes_to_free(50, 10, 40, 100, 1000, 0), 0);
	assert_int_equal(policy_bytes_to_free(50, 10, 41, 100, 1000, 0), 1);
	assert_int_equal(policy_bytes_to_free(100, 0, 100, 100, 1000, 0), 100);
	assert_true(policy_bytes_to_free(100, 0, 101, 100, 1000, 0) == UINT64_MAX);
	assert_true(policy_bytes_to_free(50, 50, 60, 100, 1000, 0) ==
		    UINT64_MAX); /* reserved bytes cannot be evicted */
	assert_int_equal(policy_bytes_to_free(150, 0, 0, 100, 1000, 0), 50); /* the limit was lowered */
}

static void frees_what_the_disk_needs(void **state)
{
	assert_int_equal(policy_bytes_to_free(50, 0, 60, 0, 100, 40), 0);
	assert_int_equal(policy_bytes_to_free(50, 0, 61, 0, 100, 40), 1);
	assert_int_equal(policy_bytes_to_free(50, 0, 30, 60, 20, 10), 20); /* the larger need of both */
	assert_true(policy_bytes_to_free(50, 0, 200, 0, 100, 40) == UINT64_MAX);
}

static void absurd_sizes_never_fit(void **state)
{
	assert_true(policy_bytes_to_free(10, UINT64_MAX, UINT64_MAX, 100, 100, 100) == UINT64_MAX);
	assert_true(policy_bytes_to_free(10, 0, UINT64_MAX, 0, 100, UINT64_MAX) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(freshness_follows_its_table),
		cmocka_unit_test(time_to_live_of_zero_is_always_revalidated),
		cmocka_unit_test(absurd_times_do_not_overflow),
		cmocka_unit_test(access_follows_its_table),
		cmocka_unit_test(stranger_is_asked_about_upstream),
		cmocka_unit_test(refusal_ends_an_older_public_mark_at_once),
		cmocka_unit_test(mark_newer_than_the_refusal_lets_everybody_in),
		cmocka_unit_test(metadata_grant_opens_no_file),
		cmocka_unit_test(what_was_not_shown_is_open_to_nobody),
		cmocka_unit_test(what_only_a_token_was_shown_is_not_open_by_the_public_mark),
		cmocka_unit_test(strict_offline_choice_ignores_live_grants),
		cmocka_unit_test(administrators_list_counts_only_while_upstream_is_gone_for_all),
		cmocka_unit_test(open_means_everybody_while_upstream_is_gone),
		cmocka_unit_test(one_byte_of_a_huge_file_reads_a_small_window),
		cmocka_unit_test(large_windows_are_fetched_exactly),
		cmocka_unit_test(small_open_and_large_ranges_fetch_everything),
		cmocka_unit_test(waits_only_for_what_comes_soon),
		cmocka_unit_test(holds_back_the_tail_and_all_of_a_small_file),
		cmocka_unit_test(retries_follow_their_table),
		cmocka_unit_test(back_off_grows),
		cmocka_unit_test(retry_after_is_honoured_while_somebody_can_wait),
		cmocka_unit_test(frees_what_the_limit_needs),
		cmocka_unit_test(frees_what_the_disk_needs),
		cmocka_unit_test(absurd_sizes_never_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
