/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight when upstream refuses: expired addresses, tokens that may not read, absence, and a Hub that asks to slow down.
 */
#include "flight_rig.h"

#include "common/log.h"

static void expired_address_is_resolved_again_at_once(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 8 * MIB);
	r.up.bytes_per_s = 32 * MIB;
	r.up.cut_at = 4 * MIB;
	r.up.cut_times = 1;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent > 3 * MIB));
	r.up.expired_times = 1;
	client_end(&c);
	assert_all_right(&c, 8 * MIB);
	assert_int_equal(r.up.sent, 8 * MIB);
	rig_stop(&r);
}

static void address_that_stays_expired_is_an_error(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, MIB);
	r.up.expired_times = 100;
	client_run(&c);
	assert_int_equal(c.start_error, -EBADMSG);
	assert_int_equal(count_storage_calls(&r), 2);
	rig_stop(&r);
}

static void a_known_address_is_asked_without_the_hub(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .token = "Bearer hf_a" }, part = c;
	char url[64];

	rig_start(&r, 8 * MIB);
	upstream_blob_url(&r.up, url);
	c.location = part.location = url;
	c.has_no_target = true;
	part.range = (struct byte_range){ 100, MIB };
	client_run(&part);
	assert_all_right(&part, MIB - 100);
	r.up.cut_at = 4 * MIB;
	r.up.cut_times = 1;
	client_run(&c);
	assert_all_right(&c, 8 * MIB);
	for (unsigned i = 0; i < r.up.calls; i++) {
		assert_true(r.up.call[i].is_storage);
		assert_false(r.up.call[i].has_token);
	}
	assert_true(rig_is_stored(&r));
	rig_stop(&r);
}

static void a_known_address_that_is_refused_is_asked_for_anew_once(void **state)
{
	static const int times[] = { 1, 100 };

	for (unsigned i = 0; i < 2; i++) {
		struct rig r = { 0 };
		struct client c = { .rig = &r };
		char url[64];

		rig_start(&r, MIB);
		upstream_blob_url(&r.up, url);
		c.location = url;
		r.up.expired_times = times[i];
		client_run(&c);
		if (times[i] == 1) {
			assert_all_right(&c, MIB);
			assert_int_equal(r.up.calls, 3); /* the old address, the Hub, the new one */
		} else {
			assert_int_equal(c.start_error, -EBADMSG);
			assert_int_equal(r.up.calls, 5); /* that, and the renewal that any address gets */
		}
		assert_true(r.up.call[0].is_storage && r.up.call[0].status == 403);
		assert_false(r.up.call[1].is_storage);
		rig_stop(&r);
	}
}

static void an_address_that_expires_in_the_middle_is_asked_for_anew(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	char url[64];

	rig_start(&r, 8 * MIB);
	upstream_blob_url(&r.up, url);
	c.location = url;
	r.up.bytes_per_s = 32 * MIB;
	r.up.cut_at = 4 * MIB;
	r.up.cut_times = 1;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent > 3 * MIB));
	r.up.expired_times = 1;
	client_end(&c);
	assert_all_right(&c, 8 * MIB);
	assert_int_equal(r.up.sent, 8 * MIB);
	rig_stop(&r);
}

static void a_refused_address_without_a_target_is_a_refusal(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .has_no_target = true };
	char url[64];

	rig_start(&r, MIB);
	upstream_blob_url(&r.up, url);
	c.location = url;
	r.up.expired_times = 100;
	client_run(&c);
	assert_int_equal(c.start_error, -EACCES);
	assert_int_equal(c.status, 403);
	assert_int_equal(r.up.calls, 1);
	r.up.expired_times = 0;
	assert_next_is_right(&r);
	rig_stop(&r);
}

static void an_address_that_may_not_be_asked_is_none(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .location = "http://127.0.0.2:1/blob" }, bare = c;

	rig_start(&r, MIB);
	client_run(&c);
	assert_all_right(&c, MIB);
	assert_int_equal(r.up.calls, 2); /* the Hub, and where it says */
	rig_stop(&r);

	rig_start(&r, MIB);
	bare.has_no_target = true;
	client_run(&bare);
	assert_int_equal(bare.start_error, -EACCES);
	assert_int_equal(r.up.calls, 0);
	rig_stop(&r);
}

static void refusal_and_absence_are_told_with_their_status(void **state)
{
	static const struct {
		int status, error;
	} rows[] = {
		{ 401, -EACCES }, { 403, -EACCES }, { 404, -ENOENT }, { 410, -ENOENT }, { 451, -EACCES }
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig r = { 0 };
		struct client c = { .rig = &r, .token = "Bearer hf_a" };

		rig_start(&r, MIB);
		r.up.hub_status = rows[i].status;
		r.up.hub_status_times = -1;
		client_run(&c);
		assert_int_equal(c.start_error, rows[i].error);
		assert_int_equal(c.status, rows[i].status);
		assert_int_equal(r.up.calls, 1); /* 4xx is not tried again */
		rig_stop(&r);
	}
}

static void next_readers_token_takes_over(void **state)
{
	struct rig r = { 0 };
	struct client a = { .rig = &r, .token = "Bearer hf_a" }, b = { .rig = &r, .token = "Bearer hf_b" };
	struct reader *reader_a, *reader_b;

	rig_start(&r, 4 * MIB);
	r.up.refused_token = "Bearer hf_a";
	assert_int_equal(client_join(&a, &reader_a), 0);
	assert_int_equal(client_join(&b, &reader_b), 0);
	assert_int_equal(client_wait_started(&a, reader_a), -EACCES);
	assert_int_equal(reader_upstream_status(reader_a), 403);
	assert_int_equal(client_wait_started(&b, reader_b), 0);
	reader_free(reader_a);
	/* a quarter of it is enough to go on with, when nobody waits any more */
	for (uint64_t at = 0; at < MIB; at += (uint64_t)reader_ready(reader_b, at))
		assert_true(RIG_WAIT(reader_ready(reader_b, at) > 0));
	reader_free(reader_b);
	assert_true(RIG_WAIT(rig_is_stored(&r)));
	for (unsigned i = 0; i < r.up.calls; i++)
		assert_true(!r.up.call[i].is_storage || !r.up.call[i].has_token); /* P5 */
	rig_stop(&r);
}

static void body_under_way_survives_the_end_of_its_token(void **state)
{
	struct rig r = { 0 };
	struct client a = { .rig = &r, .token = "Bearer hf_a" }, b = { .rig = &r, .token = "Bearer hf_b" };

	rig_start(&r, 8 * MIB + 1);
	r.up.bytes_per_s = 16 * MIB;
	r.up.cut_at = 4 * MIB;
	r.up.cut_times = 1;
	client_begin(&a);
	assert_true(RIG_WAIT(r.up.sent > MIB));
	client_begin(&b);
	r.up.refused_token = "Bearer hf_a";
	client_end(&a);
	client_end(&b);
	assert_all_right(&a, 8 * MIB + 1);
	assert_all_right(&b, 8 * MIB + 1);
	rig_stop(&r);
}

static void slow_down_is_passed_on_or_waited_for(void **state)
{
	struct rig r = { 0 }, patient = { 0 };
	struct client c = { .rig = &r }, waiting = { .rig = &patient };

	rig_start(&r, MIB);
	r.up.hub_status = 429;
	r.up.hub_status_times = -1;
	r.up.hub_retry_after_s = 3600;
	client_run(&c);
	assert_int_equal(c.start_error, -EBUSY);
	assert_int_equal(c.status, 429);
	assert_int_equal(r.up.calls, 1);
	rig_stop(&r);

	rig_start(&patient, MIB);
	patient.up.hub_status = 429;
	patient.up.hub_status_times = 1;
	patient.up.hub_retry_after_s = 1;
	client_run(&waiting);
	assert_all_right(&waiting, MIB);
	rig_stop(&patient);
}

static void passing_failure_of_the_hub_is_tried_again(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, MIB);
	r.up.hub_status = 503;
	r.up.hub_status_times = 1;
	client_run(&c);
	assert_all_right(&c, MIB);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expired_address_is_resolved_again_at_once),
		cmocka_unit_test(address_that_stays_expired_is_an_error),
		cmocka_unit_test(a_known_address_is_asked_without_the_hub),
		cmocka_unit_test(a_known_address_that_is_refused_is_asked_for_anew_once),
		cmocka_unit_test(an_address_that_expires_in_the_middle_is_asked_for_anew),
		cmocka_unit_test(a_refused_address_without_a_target_is_a_refusal),
		cmocka_unit_test(an_address_that_may_not_be_asked_is_none),
		cmocka_unit_test(refusal_and_absence_are_told_with_their_status),
		cmocka_unit_test(next_readers_token_takes_over),
		cmocka_unit_test(body_under_way_survives_the_end_of_its_token),
		cmocka_unit_test(slow_down_is_passed_on_or_waited_for),
		cmocka_unit_test(passing_failure_of_the_hub_is_tried_again),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
