/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight when upstream gives something else: wrong bytes, wrong heads, no ranges, other versions.
 * The promise behind all of them: a body that ends cleanly is right, and what is stored is right.
 */
#include "flight_rig.h"

#include "common/log.h"
#include "metrics/metrics.h"

static void wrong_bytes_never_end_cleanly_and_are_not_stored(void **state)
{
	struct rig r = { 0 };
	struct client c[4] = { 0 };

	rig_start(&r, 4 * MIB);
	r.up.bytes_per_s = 32 * MIB;
	r.up.flip_at = 4 * MIB - 100;
	r.up.flip_times = 1;
	for (int i = 0; i < 4; i++) {
		c[i].rig = &r;
		client_begin(&c[i]);
	}
	for (int i = 0; i < 4; i++) {
		client_end(&c[i]);
		assert_int_equal(c[i].error, -EBADMSG);
		assert_true(c[i].got <= 4 * MIB - 64 * KIB);
	}
	assert_false(rig_is_stored(&r));
	assert_int_equal(metrics_value(r.metrics, METRIC_STORAGE_CORRUPT, 0, 0, 0), 1);
	assert_next_is_right(&r);
	rig_stop(&r);
}

static void wrong_bytes_that_nobody_saw_are_fetched_again_quietly(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 60000); /* all of it is held back */
	r.up.flip_at = 100;
	r.up.flip_times = 1;
	client_run(&c);
	assert_all_right(&c, 60000);
	assert_true(rig_is_stored(&r));
	assert_int_equal(r.up.sent, 120000);
	assert_int_equal(metrics_value(r.metrics, METRIC_STORAGE_CORRUPT, 0, 0, 0), 1);
	rig_stop(&r);
}

static void wrong_bytes_twice_are_an_error(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 60000);
	r.up.flip_at = 100;
	r.up.flip_times = 2;
	client_run(&c);
	assert_true(c.start_error == -EBADMSG || c.error == -EBADMSG);
	assert_int_equal(c.got, 0);
	assert_false(rig_is_stored(&r));
	assert_next_is_right(&r);
	rig_stop(&r);
}

static void stored_part_with_wrong_bytes_is_thrown_away(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .leave_after = 3 * MIB }, broken = { .rig = &r };

	rig_start(&r, 8 * MIB + 1);
	r.up.flip_at = MIB;
	r.up.flip_times = 1;
	r.up.cut_at = 4 * MIB;
	r.up.cut_times = -1;
	r.up.hub_status = 500;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent >= 4 * MIB));
	r.up.hub_status_times = -1;
	client_end(&c);
	rig_close(&r);
	r.up.hub_status_times = r.up.cut_times = 0;
	rig_open(&r);
	client_run(&broken); /* fed from the part, so it has to be broken */
	assert_int_equal(broken.error, -EBADMSG);
	assert_next_is_right(&r);
	rig_stop(&r);
}

static void everything_instead_of_a_range_is_taken_from_its_beginning(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r }, window = { .rig = &r, .range = { 9 * MIB, 10 * MIB } };

	rig_start(&r, 12 * MIB);
	r.up.ignores_ranges = true;
	client_run(&window);
	assert_all_right(&window, MIB);
	r.up.cut_at = 11 * MIB;
	r.up.cut_times = 1;
	client_run(&c);
	assert_all_right(&c, 12 * MIB);
	assert_true(rig_is_stored(&r));
	rig_stop(&r);
}

static void parallel_ranges_of_such_an_upstream_use_one_transfer(void **state)
{
	struct rig r = { 0 };
	struct client c[6] = { 0 };

	rig_start(&r, 12 * MIB);
	r.up.ignores_ranges = true;
	r.up.bytes_per_s = 16 * MIB;
	for (int i = 0; i < 6; i++) {
		c[i].rig = &r;
		c[i].range = (struct byte_range){ (uint64_t)i * 2 * MIB, (uint64_t)(i + 1) * 2 * MIB };
		client_begin(&c[i]);
	}
	for (int i = 0; i < 6; i++) {
		client_end(&c[i]);
		assert_all_right(&c[i], 2 * MIB);
	}
	assert_true(r.up.sent < 24 * MIB);
	assert_true(RIG_WAIT(rig_is_stored(&r)));
	rig_stop(&r);
}

/* Once it was a storm of requests: the validator was taken for the reason of the whole answer. */
static void such_an_upstream_is_recognised_with_a_validator_too(void **state)
{
	struct rig r = { 0 };
	struct client first = { .rig = &r, .range = { MIB, 2 * MIB } }, c[4] = { 0 };

	rig_start(&r, 12 * MIB);
	client_run(&first);
	assert_all_right(&first, MIB);
	r.up.ignores_ranges = true;
	r.up.bytes_per_s = 16 * MIB;
	for (int i = 0; i < 4; i++) {
		c[i].rig = &r;
		c[i].range = (struct byte_range){ (uint64_t)(3 + 2 * i) * MIB, (uint64_t)(5 + 2 * i) * MIB };
		client_begin(&c[i]);
	}
	for (int i = 0; i < 4; i++) {
		client_end(&c[i]);
		assert_all_right(&c[i], 2 * MIB);
	}
	assert_true(r.up.calls <= 2 + 2 * 6);
	rig_stop(&r);
}

static void edges_that_disagree_on_the_version_cause_no_storm(void **state)
{
	struct rig r = { 0 };
	struct client c[4] = { 0 };

	rig_start(&r, 12 * MIB);
	r.up.bytes_per_s = 16 * MIB;
	r.up.has_many_edges = true;
	for (int i = 0; i < 4; i++) {
		c[i].rig = &r;
		c[i].range = (struct byte_range){ (uint64_t)(3 + 2 * i) * MIB, (uint64_t)(5 + 2 * i) * MIB };
		client_begin(&c[i]);
	}
	for (int i = 0; i < 4; i++) {
		client_end(&c[i]);
		assert_all_right(&c[i], 2 * MIB);
	}
	assert_true(r.up.calls <= 2 * 12);
	rig_stop(&r);
}

static void other_version_after_a_cut_goes_on_and_the_digest_decides(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 8 * MIB);
	r.up.bytes_per_s = 32 * MIB;
	r.up.cut_at = 4 * MIB;
	r.up.cut_times = 1;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent > 3 * MIB));
	r.up.etag_version = 1; /* another edge, the same bytes */
	client_end(&c);
	assert_all_right(&c, 8 * MIB);
	assert_true(rig_is_stored(&r));
	rig_stop(&r);
}

static void other_version_of_an_unread_part_is_started_over(void **state)
{
	struct rig r = { 0 };
	struct client window = { .rig = &r, .range = { 9 * MIB, 10 * MIB } }, c = { .rig = &r };

	rig_start(&r, 20 * MIB);
	client_run(&window);
	assert_all_right(&window, MIB);
	rig_close(&r);
	r.up.etag_version = 1;
	rig_open(&r);
	client_run(&c);
	assert_all_right(&c, 20 * MIB);
	assert_true(r.up.sent >= 21 * MIB); /* the window was fetched again */
	assert_true(rig_is_stored(&r));
	rig_stop(&r);
}

static void heads_that_contradict_the_hub_are_refused(void **state)
{
	const char *zeros = "0000000000000000000000000000000000000000000000000000000000000000";

	for (int fault = 0; fault < 5; fault++) {
		struct rig r = { 0 };
		struct client c = { .rig = &r, .range = { 0, MIB } };

		rig_start(&r, 20 * MIB);
		if (fault == 0)
			r.up.linked_etag = zeros;
		else if (fault == 1)
			r.up.linked_size = "17";
		else if (fault == 2)
			r.up.commit = "2222222222222222222222222222222222222222";
		else if (fault == 3)
			r.up.is_encoded = true;
		else
			r.up.lies_about_range = true;
		client_run(&c);
		assert_int_equal(c.start_error, -EBADMSG);
		assert_int_equal(c.got, 0);
		rig_stop(&r);
	}
}

static void ids_of_another_kind_do_not_contradict(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, MIB);
	r.up.linked_etag = "d846bda33340e465507546572d9d955275625944";
	client_run(&c);
	assert_all_right(&c, MIB);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_bytes_never_end_cleanly_and_are_not_stored),
		cmocka_unit_test(wrong_bytes_that_nobody_saw_are_fetched_again_quietly),
		cmocka_unit_test(wrong_bytes_twice_are_an_error),
		cmocka_unit_test(stored_part_with_wrong_bytes_is_thrown_away),
		cmocka_unit_test(everything_instead_of_a_range_is_taken_from_its_beginning),
		cmocka_unit_test(parallel_ranges_of_such_an_upstream_use_one_transfer),
		cmocka_unit_test(such_an_upstream_is_recognised_with_a_validator_too),
		cmocka_unit_test(edges_that_disagree_on_the_version_cause_no_storm),
		cmocka_unit_test(other_version_after_a_cut_goes_on_and_the_digest_decides),
		cmocka_unit_test(other_version_of_an_unread_part_is_started_over),
		cmocka_unit_test(heads_that_contradict_the_hub_are_refused),
		cmocka_unit_test(ids_of_another_kind_do_not_contradict),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
