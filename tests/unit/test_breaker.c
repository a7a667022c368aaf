/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the breaker's state machine with a clock made of numbers: when it opens, whom it lets through, how
 * long it waits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fetch/breaker.h"

static struct breaker opened_at(uint64_t now)
{
	struct breaker b = { 0 };

	for (int i = 0; i < BREAKER_FAILURES_MAX; i++)
		(void)breaker_failed(&b, now, now);
	return b;
}

/* Opened by our own question, after a silence. */
static struct breaker sick_at(uint64_t now)
{
	struct breaker b = { 0 };

	breaker_troubled(&b, true);
	assert_int_equal(breaker_probe(&b, now), BREAKER_QUESTION);
	assert_true(breaker_probe_failed(&b, now, 0));
	return b;
}

static void opens_after_three_failures_in_a_row(void **state)
{
	struct breaker b = { 0 };

	assert_false(breaker_failed(&b, 0, 0));
	assert_false(breaker_failed(&b, 0, 0));
	assert_true(breaker_lets(&b));
	assert_true(breaker_failed(&b, 0, 0));
	assert_false(breaker_lets(&b));
}

static void any_answer_between_starts_the_count_anew(void **state)
{
	for (unsigned is_trouble = 0; is_trouble < 2; is_trouble++) {
		struct breaker b = { 0 };

		(void)breaker_failed(&b, 0, 0);
		(void)breaker_failed(&b, 0, 0);
		if (is_trouble)
			breaker_troubled(&b, false);
		else
			assert_false(breaker_answered(&b, 0));
		assert_false(breaker_failed(&b, 0, 0));
		assert_false(breaker_failed(&b, 0, 0));
		assert_true(breaker_lets(&b));
	}
}

static void connects_once_when_the_wait_is_over(void **state)
{
	struct breaker b = opened_at(1000);

	assert_int_equal(breaker_probe_due(&b), 3000);
	assert_int_equal(breaker_probe(&b, 2999), BREAKER_NO_PROBE);
	assert_int_equal(breaker_probe(&b, 3000), BREAKER_CONNECT);
	assert_int_equal(breaker_probe(&b, 3000), BREAKER_NO_PROBE);
	assert_false(breaker_lets(&b)); /* no client waits for the outcome */
	assert_true(breaker_probe_due(&b) == UINT64_MAX);
}

static void waits_twice_as_long_after_each_failed_probe_up_to_thirty_seconds(void **state)
{
	static const uint64_t waits[] = { 4000, 8000, 16000, 30000, 30000 };

	for (unsigned is_sick = 0; is_sick < 2; is_sick++) {
		struct breaker b = is_sick ? sick_at(0) : opened_at(0);
		enum breaker_probe kind = is_sick ? BREAKER_QUESTION : BREAKER_CONNECT;
		uint64_t now = 2000;

		for (unsigned i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
			assert_int_equal(breaker_probe(&b, now), kind);
			assert_false(breaker_probe_failed(&b, now, 0));
			assert_int_equal(breaker_probe(&b, now + waits[i] - 1), BREAKER_NO_PROBE);
			now += waits[i];
		}
	}
}

static void failures_of_those_already_on_their_way_change_nothing(void **state)
{
	struct breaker b = opened_at(0);

	assert_int_equal(breaker_probe(&b, 2000), BREAKER_CONNECT);
	assert_false(breaker_failed(&b, 2000, 2000));
	breaker_troubled(&b, true);
	assert_int_equal(breaker_probe(&b, 2000), BREAKER_NO_PROBE); /* the probe is still out */
}

static void an_answer_closes_it(void **state)
{
	for (unsigned is_sick = 0; is_sick < 2; is_sick++) {
		struct breaker b = is_sick ? sick_at(0) : opened_at(0);

		assert_true(breaker_answered(&b, 0));
		assert_true(breaker_lets(&b));
		assert_false(breaker_answered(&b, 0));
		assert_true(breaker_probe_due(&b) == UINT64_MAX);
	}
}

static void a_probe_without_a_verdict_may_be_followed_at_once(void **state)
{
	struct breaker b = opened_at(0);

	assert_int_equal(breaker_probe(&b, 2000), BREAKER_CONNECT);
	breaker_unsure(&b);
	assert_int_equal(breaker_probe(&b, 2001), BREAKER_CONNECT);
}

static void errors_alone_never_open_it(void **state)
{
	struct breaker b = { 0 };

	for (int i = 0; i < 100; i++)
		breaker_troubled(&b, i % 2);
	assert_true(breaker_lets(&b));
}

static void three_errors_in_a_row_make_it_ask_by_itself(void **state)
{
	struct breaker b = { 0 };

	breaker_troubled(&b, false);
	breaker_troubled(&b, false);
	assert_int_equal(breaker_probe(&b, 10), BREAKER_NO_PROBE);
	breaker_troubled(&b, false);
	assert_int_equal(breaker_probe(&b, 10), BREAKER_QUESTION);
	assert_true(breaker_lets(&b)); /* meanwhile everybody else goes on */
	assert_true(breaker_probe_failed(&b, 20, 0));
	assert_false(breaker_lets(&b));
	assert_int_equal(breaker_probe(&b, 2019), BREAKER_NO_PROBE);
	assert_int_equal(breaker_probe(&b, 2020), BREAKER_QUESTION); /* a connection would prove nothing */
}

static void a_good_answer_ends_the_doubts(void **state)
{
	struct breaker b = { 0 };

	for (int i = 0; i < 3; i++)
		breaker_troubled(&b, false);
	assert_int_equal(breaker_probe(&b, 10), BREAKER_QUESTION);
	assert_false(breaker_answered(&b, 0));
	assert_false(breaker_probe_failed(&b, 20, 0)); /* the question was slower than somebody's answer */
	assert_true(breaker_lets(&b));
}

static void doubts_are_asked_about_once_in_two_seconds(void **state)
{
	struct breaker b = { 0 };

	breaker_troubled(&b, true);
	assert_int_equal(breaker_probe(&b, 1000), BREAKER_QUESTION);
	assert_false(breaker_answered(&b, 0));
	breaker_troubled(&b, true);
	assert_int_equal(breaker_probe(&b, 2999), BREAKER_NO_PROBE);
	assert_int_equal(breaker_probe(&b, 3000), BREAKER_QUESTION);
}

static void a_retry_after_makes_the_wait_longer_up_to_ten_minutes(void **state)
{
	struct breaker b = { 0 };

	breaker_troubled(&b, true);
	assert_int_equal(breaker_probe(&b, 0), BREAKER_QUESTION);
	assert_true(breaker_probe_failed(&b, 0, 50000));
	assert_int_equal(breaker_probe_due(&b), 50000);
	assert_int_equal(breaker_probe(&b, 50000), BREAKER_QUESTION);
	assert_false(breaker_probe_failed(&b, 50000, UINT64_MAX));
	assert_int_equal(breaker_probe_due(&b), 650000);
	assert_int_equal(breaker_probe(&b, 650000), BREAKER_QUESTION);
	assert_false(breaker_probe_failed(&b, 650000, 0));
	assert_true(breaker_probe_due(&b) <= 650000 + BREAKER_WAIT_MAX_MS);
}

/* A write waits for its own limit, which may end after the outage. */
static void what_began_before_upstream_came_back_does_not_open_it_again(void **state)
{
	struct breaker b = opened_at(1000);

	assert_int_equal(breaker_probe(&b, 3000), BREAKER_CONNECT);
	assert_true(breaker_answered(&b, 3100));
	for (int i = 0; i < 2 * BREAKER_FAILURES_MAX; i++)
		assert_false(breaker_failed(&b, 900 + (uint64_t)i, 9000));
	assert_false(breaker_answered(&b, 9000)); /* it was not open: this moves nothing */
	assert_false(breaker_failed(&b, 3100, 9100));
	assert_false(breaker_failed(&b, 3100, 9100));
	assert_false(breaker_failed(&b, 3099, 9100)); /* nor does it count among others */
	assert_true(breaker_lets(&b));
	assert_true(breaker_failed(&b, 3100, 9100));
}

static void at_first_one_connection_finds_out(void **state)
{
	struct breaker b;

	breaker_try_first(&b);
	assert_true(breaker_lets(&b)); /* nobody waits for it */
	assert_int_equal(breaker_probe_due(&b), 0);
	assert_int_equal(breaker_probe(&b, 500), BREAKER_CONNECT);
	assert_int_equal(breaker_probe(&b, 500), BREAKER_NO_PROBE);
	assert_false(breaker_connected(&b, 600));
	assert_true(breaker_lets(&b));
	assert_true(breaker_probe_due(&b) == UINT64_MAX);
	assert_false(breaker_failed(&b, 600, 600)); /* as any other from here on */
	assert_true(breaker_lets(&b));
}

static void a_first_connection_that_cannot_be_made_opens_it(void **state)
{
	struct breaker b;

	breaker_try_first(&b);
	assert_int_equal(breaker_probe(&b, 500), BREAKER_CONNECT);
	assert_true(breaker_probe_failed(&b, 600, 0));
	assert_false(breaker_lets(&b));
	assert_int_equal(breaker_probe_due(&b), 2600);
	assert_int_equal(breaker_probe(&b, 2600), BREAKER_CONNECT); /* a connection is what it lacks */
	assert_true(breaker_connected(&b, 2700));
	assert_true(breaker_lets(&b));
}

static void whoever_hears_first_decides_what_nobody_knew(void **state)
{
	for (int how = 0; how < 3; how++) {
		struct breaker b;

		breaker_try_first(&b);
		assert_int_equal(breaker_probe(&b, 0), BREAKER_CONNECT);
		if (how == 0)
			assert_false(breaker_answered(&b, 10));
		else if (how == 1)
			breaker_troubled(&b, false);
		else
			for (int i = 0; i < BREAKER_FAILURES_MAX; i++)
				(void)breaker_failed(&b, 0, 10);
		assert_int_equal(breaker_lets(&b), how < 2);
		assert_false(breaker_probe_failed(&b, 20, 0));
		assert_int_equal(breaker_lets(&b), how < 2);
	}
}

static void a_connection_takes_no_doubt_away(void **state)
{
	struct breaker b;

	breaker_try_first(&b);
	assert_int_equal(breaker_probe(&b, 0), BREAKER_CONNECT);
	breaker_troubled(&b, true);
	assert_false(breaker_connected(&b, 10));
	assert_int_equal(breaker_probe(&b, 10), BREAKER_QUESTION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_after_three_failures_in_a_row),
		cmocka_unit_test(any_answer_between_starts_the_count_anew),
		cmocka_unit_test(connects_once_when_the_wait_is_over),
		cmocka_unit_test(waits_twice_as_long_after_each_failed_probe_up_to_thirty_seconds),
		cmocka_unit_test(failures_of_those_already_on_their_way_change_nothing),
		cmocka_unit_test(an_answer_closes_it),
		cmocka_unit_test(what_began_before_upstream_came_back_does_not_open_it_again),
		cmocka_unit_test(a_probe_without_a_verdict_may_be_followed_at_once),
		cmocka_unit_test(errors_alone_never_open_it),
		cmocka_unit_test(three_errors_in_a_row_make_it_ask_by_itself),
		cmocka_unit_test(a_good_answer_ends_the_doubts),
		cmocka_unit_test(doubts_are_asked_about_once_in_two_seconds),
		cmocka_unit_test(at_first_one_connection_finds_out),
		cmocka_unit_test(a_first_connection_that_cannot_be_made_opens_it),
		cmocka_unit_test(whoever_hears_first_decides_what_nobody_knew),
		cmocka_unit_test(a_connection_takes_no_doubt_away),
		cmocka_unit_test(a_retry_after_makes_the_wait_longer_up_to_ten_minutes),
	};
	return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
