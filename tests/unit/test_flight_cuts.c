/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight when upstream dies, cuts or stalls: what can be resumed is one uninterrupted body, what cannot is told in time,
 * and the part is kept.
 */
#include "flight_rig.h"

#include "common/log.h"
#include "metrics/metrics.h"

static void cut_transfer_is_resumed_where_it_stopped(void **state)
{
	struct rig r = { 0 };
	struct client c[8] = { 0 };

	rig_start(&r, 16 * MIB);
	r.up.bytes_per_s = 32 * MIB;
	r.up.cut_at = 5 * MIB + 333;
	r.up.cut_times = 1;
	for (int i = 0; i < 8; i++) {
		c[i].rig = &r;
		client_begin(&c[i]);
	}
	for (int i = 0; i < 8; i++) {
		client_end(&c[i]);
		assert_all_right(&c[i], 16 * MIB);
	}
	assert_int_equal(r.up.sent, 16 * MIB);
	assert_int_equal(count_storage_calls(&r), 2);
	assert_int_equal(last_storage_call(&r)->first, 5 * MIB + 333);
	assert_true(last_storage_call(&r)->has_if_range);
	assert_int_equal(metrics_value(r.metrics, METRIC_UPSTREAM_RETRIES, 0, 0, 0), 1);
	assert_true(rig_is_stored(&r));
	rig_stop(&r);
}

static void upstream_that_dies_and_returns_gives_one_uninterrupted_body(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 16 * MIB);
	r.up.bytes_per_s = 32 * MIB;
	r.up.cut_at = 8 * MIB;
	r.up.cut_times = 1;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent > 7 * MIB));
	r.up.is_dead = true;
	rig_sleep_ms(1500);
	r.up.is_dead = false;
	client_end(&c);
	assert_all_right(&c, 16 * MIB);
	assert_int_equal(r.up.sent, 16 * MIB);
	rig_stop(&r);
}

static void upstream_that_dies_for_good_breaks_the_body_and_keeps_the_part(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	uint64_t before;

	rig_start(&r, 8 * MIB);
	r.up.bytes_per_s = 64 * KIB;
	r.up.cut_at = 4 * MIB;
	r.up.cut_times = -1;
	r.up.hub_status = 500;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent > 0));
	r.up.hub_status_times = -1; /* long before the cut */
	r.up.bytes_per_s = 0;
	client_end(&c);
	assert_int_equal(c.error, -EHOSTUNREACH);
	assert_true(c.is_right && c.got < 8 * MIB);
	assert_false(rig_is_stored(&r));
	assert_true(metrics_value(r.metrics, METRIC_UPSTREAM_RETRIES, 0, 0, 0) <= 3);
	/* it has answered with errors only, and soon does so to a question of our own */
	assert_true(RIG_WAIT(fetch_is_down(r.fetch)));
	r.up.hub_status_times = r.up.cut_times = 0;
	before = r.up.sent;
	assert_true(RIG_WAIT(!fetch_is_down(r.fetch)));
	assert_next_is_right(&r);
	assert_int_equal(r.up.sent - before, 4 * MIB);
	rig_stop(&r);
}

static void cold_reader_is_told_soon_that_upstream_is_dead(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	uint64_t began = rig_now_us();

	rig_start(&r, 8 * MIB);
	r.up.is_dead = true;
	client_run(&c);
	assert_int_equal(c.start_error, -EHOSTUNREACH);
	assert_true(rig_now_us() - began < 5000000);
	rig_stop(&r);
}

static void body_without_a_length_that_ends_early_is_resumed(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 4 * MIB);
	r.up.is_chunked = true;
	r.up.cut_at = 2 * MIB;
	r.up.cut_times = 1;
	client_run(&c);
	assert_all_right(&c, 4 * MIB);
	rig_stop(&r);
}

static void stall_of_some_seconds_is_waited_out(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 2 * MIB);
	r.up.stall_at = MIB;
	r.up.stall_ms = 3000;
	client_run(&c);
	assert_all_right(&c, 2 * MIB);
	assert_int_equal(r.up.sent, 2 * MIB);
	rig_stop(&r);
}

static void no_reader_waits_longer_than_a_minute(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 2 * MIB);
	r.up.hold_at = MIB;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent == MIB));
	rig_sleep_ms(100);
	r.shift_ms = 50000;
	rig_sleep_ms(1500);
	r.shift_ms = 56000;
	client_end(&c);
	assert_int_equal(c.error, -ETIMEDOUT);
	assert_true(c.is_right);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(upstream_that_dies_and_returns_gives_one_uninterrupted_body),
		cmocka_unit_test(upstream_that_dies_for_good_breaks_the_body_and_keeps_the_part),
		cmocka_unit_test(cold_reader_is_told_soon_that_upstream_is_dead),
		cmocka_unit_test(stall_of_some_seconds_is_waited_out),
		cmocka_unit_test(no_reader_waits_longer_than_a_minute),
		cmocka_unit_test(cut_transfer_is_resumed_where_it_stopped),
		cmocka_unit_test(body_without_a_length_that_ends_early_is_resumed),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
