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
		(void)breaker_failed(&b, now, false);
	return b;
}

static void opens_after_three_failures_in_a_row(void **state)
{
	struct breaker b = { 0 };

	assert_false(breaker_failed(&b, 0, false));
	assert_false(breaker_failed(&b, 0, false));
	assert_int_equal(breaker_ask(&b, 0), BREAKER_PASS);
	assert_true(breaker_failed(&b, 0, false));
	assert_int_equal(breaker_ask(&b, 0), BREAKER_STOP);
}

static void any_answer_between_starts_the_count_anew(void **state)
{
	struct breaker b = { 0 };

	(void)breaker_failed(&b, 0, false);
	(void)breaker_failed(&b, 0, false);
	assert_false(breaker_answered(&b));
	assert_false(breaker_failed(&b, 0, false));
	assert_false(breaker_failed(&b, 0, false));
	assert_int_equal(breaker_ask(&b, 0), BREAKER_PASS);
}

static void lets_one_probe_through_when_the_wait_is_over(void **state)
{
	struct breaker b = opened_at(1000);

	assert_int_equal(breaker_probe_due(&b), 3000);
	assert_int_equal(breaker_ask(&b, 2999), BREAKER_STOP);
	assert_int_equal(breaker_ask(&b, 3000), BREAKER_PROBE);
	assert_int_equal(breaker_ask(&b, 3000), BREAKER_STOP);
	assert_true(breaker_probe_due(&b) == UINT64_MAX);
}

static void waits_twice_as_long_after_each_failed_probe_up_to_thirty_seconds(void **state)
{
	static const uint64_t waits[] = { 4000, 8000, 16000, 30000, 30000 };
	struct breaker b = opened_at(0);
	uint64_t now = 2000;

	for (unsigned i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		assert_int_equal(breaker_ask(&b, now), BREAKER_PROBE);
		assert_false(breaker_failed(&b, now, true));
		assert_int_equal(breaker_ask(&b, now + waits[i] - 1), BREAKER_STOP);
		now += waits[i];
	}
}

static void failures_of_those_already_on_their_way_change_nothing(void **state)
{
	struct breaker b = opened_at(0);

	assert_int_equal(breaker_ask(&b, 2000), BREAKER_PROBE);
	assert_false(breaker_failed(&b, 2000, false));
	assert_int_equal(breaker_ask(&b, 2000), BREAKER_STOP); /* the probe is still out */
}

static void an_answer_closes_it(void **state)
{
	struct breaker b = opened_at(0);

	assert_true(breaker_answered(&b));
	assert_int_equal(breaker_ask(&b, 1), BREAKER_PASS);
	assert_false(breaker_answered(&b));
	assert_true(breaker_probe_due(&b) == UINT64_MAX);
}

static void a_probe_without_a_verdict_may_be_followed_at_once(void **state)
{
	struct breaker b = opened_at(0);

	assert_int_equal(breaker_ask(&b, 2000), BREAKER_PROBE);
	breaker_unsure(&b);
	assert_int_equal(breaker_ask(&b, 2001), BREAKER_PROBE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_after_three_failures_in_a_row),
		cmocka_unit_test(any_answer_between_starts_the_count_anew),
		cmocka_unit_test(lets_one_probe_through_when_the_wait_is_over),
		cmocka_unit_test(waits_twice_as_long_after_each_failed_probe_up_to_thirty_seconds),
		cmocka_unit_test(failures_of_those_already_on_their_way_change_nothing),
		cmocka_unit_test(an_answer_closes_it),
		cmocka_unit_test(a_probe_without_a_verdict_may_be_followed_at_once),
	};
	return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
