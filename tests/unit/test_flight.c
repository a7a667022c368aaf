/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight: one transfer for many readers, who see each byte as it comes and the last ones when all are right. Real sockets,
 * a real store; upstream behaves.
 */
#include "flight_rig.h"

#include "common/log.h"
#include "metrics/metrics.h"

#define READERS 8

static void see_one(void *ctx, const struct flight_view *view)
{
	struct flight_view *ret = ctx;

	*ret = *view;
}

static void one_reader_gets_the_bytes_and_the_file_is_stored(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, 3 * MIB + 17);
	client_run(&c);
	assert_all_right(&c, 3 * MIB + 17);
	assert_false(c.has_joined);
	assert_true(rig_is_stored(&r));
	assert_int_equal(r.up.sent, 3 * MIB + 17);
	assert_int_equal(r.up.calls, 2); /* the Hub, the storage */
	assert_false(r.up.call[1].is_ranged);
	assert_int_equal(metrics_value(r.metrics, METRIC_FILLS, 0, 0, 0), 1);
	assert_true(RIG_WAIT((int64_t)metrics_value(r.metrics, METRIC_FILLS_IN_FLIGHT, 0, 0, 0) == 0));
	rig_stop(&r);
}

static void sizes_around_the_held_back_tail_are_right(void **state)
{
	uint64_t sizes[] = { 1, 2, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 512 * KIB + 1, MIB };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig r = { 0 };
		struct client c = { .rig = &r };

		rig_start(&r, sizes[i]);
		client_run(&c);
		assert_all_right(&c, sizes[i]);
		assert_true(rig_is_stored(&r));
		rig_stop(&r);
	}
}

static void git_files_are_checked_by_their_git_id(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	struct digest sha256;
	struct blob *blob;

	rig_start(&r, 10000);
	sha256 = r.id.sha256;
	r.id = (struct content_id){ .kind = CONTENT_GIT, .size = 10000 };
	git_oid_of(r.bytes, 10000, &r.id.git);
	content_id_hex(&r.id, r.up.id_hex);
	client_run(&c);
	assert_all_right(&c, 10000);
	assert_int_equal(store_open_blob(r.store, &sha256, &blob), 0);
	(void)blob_unref(blob);
	rig_stop(&r);
}

static void eight_readers_share_one_transfer_and_see_the_first_byte_at_once(void **state)
{
	struct rig r = { 0 };
	struct client c[READERS] = { 0 };
	unsigned joined = 0;

	rig_start(&r, 16 * MIB);
	r.up.hold_at = 64 * KIB; /* until all have seen what has come */
	for (int i = 0; i < READERS; i++) {
		c[i].rig = &r;
		client_begin(&c[i]);
	}
	for (int i = 0; i < READERS; i++)
		assert_true(RIG_WAIT(c[i].first_us > 0));
	assert_int_equal(r.up.sent, 64 * KIB);
	r.up.hold_at = 0;
	for (int i = 0; i < READERS; i++)
		client_end(&c[i]);
	for (int i = 0; i < READERS; i++) {
		assert_all_right(&c[i], 16 * MIB);
		joined += c[i].has_joined;
	}
	assert_int_equal(joined, READERS - 1);
	assert_int_equal(r.up.sent, 16 * MIB);
	assert_int_equal(r.up.calls, 2);
	assert_int_equal(metrics_value(r.metrics, METRIC_FILL_COLLAPSED, 0, 0, 0), READERS - 1);
	rig_stop(&r);
}

static void slow_upstream_trickles_through(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .leave_after = 200 };

	rig_start(&r, 10 * MIB);
	r.up.bytes_per_s = 1 * KIB;
	r.up.hold_at = 200; /* no more comes while it reads */
	client_run(&c);
	assert_int_equal(c.error, 0);
	assert_true(c.is_right);
	assert_int_equal(c.got, 200);
	rig_stop(&r);
}

static void gathered_bytes_do_not_wait_for_more(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .leave_after = 300 * KIB };

	rig_start(&r, 10 * MIB);
	r.up.hold_at = 300 * KIB;
	client_run(&c);
	assert_int_equal(c.error, 0);
	assert_true(c.is_right);
	assert_int_equal(c.got, 300 * KIB);
	rig_stop(&r);
}

static void late_reader_is_fed_from_what_has_come(void **state)
{
	struct rig r = { 0 };
	struct client first = { .rig = &r }, late = { .rig = &r };

	rig_start(&r, 8 * MIB + 1);
	r.up.hold_at = 6 * MIB;
	client_begin(&first);
	assert_true(RIG_WAIT(r.up.sent > 4 * MIB));
	client_begin(&late);
	assert_true(RIG_WAIT(late.first_us > 0));
	r.up.hold_at = 0;
	client_end(&first);
	client_end(&late);
	assert_all_right(&first, 8 * MIB + 1);
	assert_all_right(&late, 8 * MIB + 1);
	assert_true(late.has_joined);
	assert_int_equal(r.up.sent, 8 * MIB + 1);
	rig_stop(&r);
}

static void reader_ahead_of_the_fill_joins_it(void **state)
{
	struct rig r = { 0 };
	struct client whole = { .rig = &r },
		      resumed = { .rig = &r, .range = { 5 * MIB, 0 }, .is_open = true };
	struct flight_view view = { 0 };

	rig_start(&r, 12 * MIB);
	r.up.hold_at = 5 * MIB - 64 * KIB;
	client_begin(&whole);
	assert_true(RIG_WAIT((flights_each(r.flights, see_one, &view), view.held == r.up.hold_at)));
	client_begin(&resumed);
	assert_true(RIG_WAIT(resumed.has_asked));
	r.up.hold_at = 0;
	client_end(&resumed);
	client_end(&whole);
	assert_all_right(&whole, 12 * MIB);
	assert_all_right(&resumed, 7 * MIB);
	assert_int_equal(r.up.sent, 12 * MIB);
	assert_int_equal(r.up.calls, 2);
	rig_stop(&r);
}

/* Returns false if it took so long that the tail may have come without a name. */
static bool tail_waits(void)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	struct reader *reader;
	int64_t before, tail, named;
	uint64_t began;
	bool is_in_time;
	int started;

	rig_start(&r, MIB);
	r.holds_names = true;
	began = rig_now_us();
	assert_int_equal(client_join(&c, &reader), 0);
	assert_true(RIG_WAIT(reader_ready(reader, 64 * KIB) > 0)); /* it takes the start */
	assert_true(RIG_WAIT(r.verified == 1));
	started = reader_started(reader);
	before = reader_ready(reader, 0);
	tail = reader_ready(reader, MIB - 64 * KIB);
	is_in_time = rig_now_us() - began < 1900000;
	assert_true(rig_name(&r));
	named = reader_ready(reader, MIB - 64 * KIB);
	assert_int_equal(started, 0);
	if (is_in_time) {
		assert_int_equal(before, MIB - 64 * KIB);
		assert_int_equal(tail, 0);
	}
	assert_int_equal(named, 64 * KIB);
	assert_true(reader_fd(reader) >= 0);
	reader_free(reader);
	rig_stop(&r);
	return is_in_time;
}

static void tail_waits_for_the_name(void **state)
{
	for (int i = 0; !tail_waits(); i++)
		assert_true(i < 10);
}

static void tail_comes_after_two_seconds_on_a_slow_disk(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, MIB);
	r.holds_names = true;
	client_run(&c);
	assert_all_right(&c, MIB);
	assert_true(c.done_us - r.up.first_byte_us >= 1900000);
	assert_true(rig_name(&r));
	rig_stop(&r);
}

static void verified_bytes_are_served_even_if_they_cannot_be_named(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r }, again = { .rig = &r };

	rig_start(&r, MIB);
	r.name_error = -EIO;
	client_run(&c);
	assert_all_right(&c, MIB);
	assert_false(rig_is_stored(&r));
	r.name_error = 0;
	client_run(&again);
	assert_all_right(&again, MIB);
	assert_true(rig_is_stored(&r));
	rig_stop(&r);
}

static void join_right_after_the_landing_is_told_to_open_the_blob(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r }, late = { .rig = &r };

	rig_start(&r, MIB);
	rig_stop_clock(&r);
	client_run(&c);
	client_run(&late);
	assert_int_equal(late.join_error, -EEXIST);
	r.shift_ms = 150; /* the blob may be gone by then: a new flight is the answer */
	late.join_error = 0;
	client_run(&late);
	assert_all_right(&late, MIB);
	rig_stop(&r);
}

static void running_flights_can_be_looked_at(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	struct flight_view view = { 0 };
	uint64_t began;

	rig_start(&r, 16 * MIB);
	r.up.bytes_per_s = 16 * MIB;
	r.up.hold_at = 8 * MIB;
	began = rig_now_us();
	client_begin(&c);
	assert_true(RIG_WAIT((flights_each(r.flights, see_one, &view), view.held == 8 * MIB)));
	assert_int_equal(view.readers, 1);
	assert_int_equal(view.transfers, 1);
	assert_int_equal(view.size, 16 * MIB);
	/* of all that it has received since it began */
	assert_true(view.bytes_per_s >= 8 * MIB * 1000000 / (rig_now_us() - began) / 2);
	assert_true(view.bytes_per_s <= 64 * MIB);
	assert_string_equal(view.state, "filling");
	r.up.hold_at = 0;
	client_end(&c);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_reader_gets_the_bytes_and_the_file_is_stored),
		cmocka_unit_test(sizes_around_the_held_back_tail_are_right),
		cmocka_unit_test(git_files_are_checked_by_their_git_id),
		cmocka_unit_test(eight_readers_share_one_transfer_and_see_the_first_byte_at_once),
		cmocka_unit_test(slow_upstream_trickles_through),
		cmocka_unit_test(gathered_bytes_do_not_wait_for_more),
		cmocka_unit_test(late_reader_is_fed_from_what_has_come),
		cmocka_unit_test(reader_ahead_of_the_fill_joins_it),
		cmocka_unit_test(tail_waits_for_the_name),
		cmocka_unit_test(tail_comes_after_two_seconds_on_a_slow_disk),
		cmocka_unit_test(verified_bytes_are_served_even_if_they_cannot_be_named),
		cmocka_unit_test(join_right_after_the_landing_is_told_to_open_the_blob),
		cmocka_unit_test(running_flights_can_be_looked_at),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
