/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight: readers that leave, transfers that stand still, stop or go on without them, flights in line, and the end of
 * them all. What had come is there for the next.
 */
#include "flight_rig.h"

#include "common/log.h"
#include "metrics/metrics.h"

static void transfer_abandoned_after_the_head_costs_little(void **state)
{
	struct rig r = { .file_size = 200 * MIB };
	struct client c = { .rig = &r };
	struct reader *reader;

	rig_start(&r, MIB);
	r.up.hold_at = 512 * KIB; /* however late it leaves */
	assert_int_equal(client_join(&c, &reader), 0);
	assert_int_equal(client_wait_started(&c, reader), 0);
	reader_free(reader);
	assert_true(RIG_WAIT(metrics_value(r.metrics, METRIC_FILLS, 3, 0, 0) == 1));
	r.up.hold_at = 0;
	rig_sleep_ms(50);
	assert_true(r.up.sent < 1000000);
	rig_stop(&r);
}

static void transfer_whose_reader_takes_nothing_stands_still(void **state)
{
	struct rig r = { .file_size = 200 * MIB };
	struct client c = { .rig = &r };
	struct reader *reader;
	uint64_t sent;

	rig_start(&r, MIB);
	assert_int_equal(client_join(&c, &reader), 0);
	assert_int_equal(client_wait_started(&c, reader), 0);
	do {
		sent = r.up.sent;
		rig_sleep_ms(300);
	} while (r.up.sent != sent);
	assert_true(sent < 8 * MIB);
	assert_true(reader_ready(reader, 64 * KIB) > 0); /* it has taken the first bytes */
	assert_true(RIG_WAIT(r.up.sent > 20 * MIB));
	reader_free(reader);
	rig_stop(&r);
}

static void fill_that_has_come_far_goes_on_without_readers(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .leave_after = 4 * MIB };

	rig_start(&r, 16 * MIB);
	r.up.bytes_per_s = 20 * MIB;
	client_run(&c);
	assert_true(RIG_WAIT(rig_is_stored(&r)));
	assert_int_equal(r.up.sent, 16 * MIB);
	rig_stop(&r);
}

static void fill_that_has_hardly_begun_stops_and_is_resumed_by_the_next(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .leave_after = MIB }, next = { .rig = &r };

	rig_start(&r, 40 * MIB);
	r.up.hold_at = 2 * MIB; /* however late it leaves */
	client_run(&c);
	assert_true(RIG_WAIT(metrics_value(r.metrics, METRIC_FILLS, 3, 0, 0) == 1));
	r.up.hold_at = 0;
	rig_sleep_ms(50);
	assert_true(r.up.sent < 4 * MIB);
	client_run(&next);
	assert_all_right(&next, 40 * MIB);
	assert_true(r.up.sent < 40 * MIB + MIB); /* what had come was kept */
	assert_true(r.checkpoints > 0);
	rig_stop(&r);
}

static void part_of_a_former_run_is_resumed(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .leave_after = 6 * MIB }, next = { .rig = &r };

	rig_start(&r, 16 * MIB);
	r.up.hold_at = 6 * MIB; /* all that was sent has been read */
	client_run(&c);
	rig_close(&r);
	r.up.hold_at = 0;
	rig_open(&r);
	client_run(&next);
	assert_all_right(&next, 16 * MIB);
	assert_true(r.up.sent < 16 * MIB + MIB);
	assert_true(rig_is_stored(&r));
	rig_stop(&r);
}

/* Whatever flights are doing: what a reader was given is there in the next run. */
static void what_was_given_survives_a_stop_in_the_middle(void **state)
{
	struct rig r = { 0 };
	struct client piece = { .rig = &r, .range = { 10 * MIB, 10 * MIB + 300 * KIB } };
	struct client whole = { .rig = &r, .leave_after = 200 * KIB }, window = { .rig = &r };
	struct reader *going[2];
	unsigned calls;

	rig_start(&r, 24 * MIB);
	r.up.bytes_per_s = 2 * MIB;
	assert_int_equal(client_join(&whole, &going[0]), 0);
	assert_int_equal(client_wait_started(&whole, going[0]), 0);
	window.range = (struct byte_range){ 17 * MIB, 19 * MIB };
	assert_int_equal(client_join(&window, &going[1]), 0);
	assert_int_equal(client_wait_started(&window, going[1]), 0);
	client_run(&piece);
	assert_all_right(&piece, 300 * KIB);
	assert_true(RIG_WAIT(reader_ready(going[1], 17 * MIB) >= 100000));
	rig_close(&r);
	reader_free(going[0]);
	reader_free(going[1]);
	r.up.is_dead = true;
	rig_open(&r);
	calls = r.up.calls;
	piece = (struct client){ .rig = &r, .range = piece.range };
	client_run(&piece);
	assert_all_right(&piece, 300 * KIB);
	window = (struct client){ .rig = &r, .range = { 17 * MIB, 17 * MIB + 100000 } };
	client_run(&window);
	assert_all_right(&window, 100000);
	assert_int_equal(r.up.calls, calls);
	rig_stop(&r);
}

static void two_sizes_of_one_content_are_not_waited_for(void **state)
{
	struct rig r = { 0 };
	struct content_id wrong;
	struct client c = { .rig = &r }, other = { .rig = &r, .id = &wrong };

	rig_start(&r, 16 * MIB);
	r.up.hold_at = 8 * MIB;
	wrong = r.id;
	wrong.size++;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent > 128 * KIB));
	client_run(&other);
	assert_int_equal(other.start_error, -ENOSPC);
	assert_int_equal(c.done_us, 0);
	r.up.hold_at = 0;
	client_end(&c);
	assert_all_right(&c, 16 * MIB);
	rig_stop(&r);
}

static struct content_id other_file(struct rig *r, unsigned char n)
{
	struct content_id id = r->id;

	id.sha256.bytes[0] ^= n;
	return id;
}

static void flights_take_turns_when_all_slots_are_taken(void **state)
{
	struct rig r = { .transfers_max = 1, .file_size = 1 * GIB };
	struct content_id other;
	struct client many[3] = { 0 }, one = { .rig = &r, .range = { 0, WINDOW }, .id = &other };
	uint64_t last_us = 0;

	rig_start(&r, MIB);
	other = other_file(&r, 1);
	r.up.bytes_per_s = MIB;
	r.up.hold_at = 128 * KIB; /* the first one, until the others stand in line */
	for (unsigned i = 0; i < 3; i++) {
		many[i].rig = &r;
		many[i].range = (struct byte_range){ i * 100 * MIB, i * 100 * MIB + WINDOW };
		client_begin(&many[i]);
		assert_true(RIG_WAIT(many[i].has_asked && r.up.sent > 0));
	}
	client_begin(&one);
	assert_true(RIG_WAIT(one.has_asked));
	rig_sleep_ms(200); /* its part is opened on another thread */
	r.up.hold_at = 0;
	client_end(&one);
	assert_all_right(&one, WINDOW);
	for (unsigned i = 0; i < 3; i++) {
		client_end(&many[i]);
		assert_all_right(&many[i], WINDOW);
		last_us = many[i].done_us > last_us ? many[i].done_us : last_us;
	}
	assert_true(one.done_us < last_us);
	assert_true(r.up.open_most <= 2); /* the Hub, the storage */
	rig_stop(&r);
}

static void flights_in_line_can_end(void **state)
{
	struct rig r = { .transfers_max = 1, .file_size = 1 * GIB };
	struct content_id ids[4];
	struct client c[4] = { 0 };
	struct reader *reader[4];

	rig_start(&r, MIB);
	r.up.bytes_per_s = KIB;
	for (unsigned i = 0; i < 4; i++) {
		ids[i] = other_file(&r, (unsigned char)(i + 1));
		c[i] = (struct client){ .rig = &r, .id = &ids[i], .range = { 0, WINDOW } };
		assert_int_equal(client_join(&c[i], &reader[i]), 0);
		if (i == 0)
			assert_int_equal(client_wait_started(&c[0], reader[0]), 0);
	}
	rig_sleep_ms(50);
	assert_int_equal(reader_started(reader[1]), -EAGAIN);
	reader_free(reader[1]); /* gives up while it stands in line */
	r.up.bytes_per_s = 0;
	reader_free(reader[0]); /* frees its slot */
	/* for one of them: who stood in line first depends on whose part was open first */
	assert_true(RIG_WAIT(reader_started(reader[2]) == 0 || reader_started(reader[3]) == 0));
	flights_free(r.flights); /* and so does the other */
	r.flights = NULL;
	assert_true(reader_started(reader[2]) <= 0 && reader_started(reader[3]) <= 0);
	reader_free(reader[2]);
	reader_free(reader[3]);
	rig_stop(&r);
}

static void the_end_of_all_flights_ends_readers_too(void **state)
{
	struct rig r = { .file_size = 64 * MIB };
	struct client c[4] = { 0 };

	rig_start(&r, MIB);
	r.up.bytes_per_s = 8 * MIB;
	for (int i = 0; i < 4; i++) {
		c[i].rig = &r;
		c[i].range.first = (uint64_t)i * 10 * MIB;
		c[i].is_open = true;
		client_begin(&c[i]);
	}
	assert_true(RIG_WAIT(r.up.sent > 2 * MIB));
	for (int i = 0; i < 4; i++)
		assert_true(RIG_WAIT(c[i].has_asked)); /* nobody may join what is freed */
	flights_free(r.flights);
	for (int i = 0; i < 4; i++) {
		client_end(&c[i]);
		assert_true(c[i].error == -ECANCELED || c[i].start_error == -ECANCELED ||
			    c[i].join_error == -ECANCELED);
	}
	r.flights = NULL;
	rig_stop(&r);
}

static void readers_that_come_and_go_leave_nothing_behind(void **state)
{
	struct rig r = { 0 };

	rig_start(&r, 32 * MIB);
	r.up.bytes_per_s = 64 * MIB;
	for (unsigned i = 0; i < 40; i++) {
		struct client c = { .rig = &r,
				    .range = { (i * 7919) % 32 * MIB, 0 },
				    .is_open = i % 3 == 0,
				    .leave_after = 1 + (i * 104729) % MIB };

		c.range.end = c.is_open ? 0 : c.range.first + MIB;
		client_run(&c);
		if (!(c.join_error == -EEXIST || (c.error == 0 && c.is_right)))
			fail_msg("reader %u: join %d start %d error %d right %d", i, c.join_error,
				 c.start_error, c.error, c.is_right);
	}
	rig_stop(&r);
	assert_true(rig_synced() > 0); /* and never on the fetch thread */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transfer_abandoned_after_the_head_costs_little),
		cmocka_unit_test(transfer_whose_reader_takes_nothing_stands_still),
		cmocka_unit_test(fill_that_has_come_far_goes_on_without_readers),
		cmocka_unit_test(fill_that_has_hardly_begun_stops_and_is_resumed_by_the_next),
		cmocka_unit_test(part_of_a_former_run_is_resumed),
		cmocka_unit_test(what_was_given_survives_a_stop_in_the_middle),
		cmocka_unit_test(two_sizes_of_one_content_are_not_waited_for),
		cmocka_unit_test(flights_take_turns_when_all_slots_are_taken),
		cmocka_unit_test(flights_in_line_can_end),
		cmocka_unit_test(the_end_of_all_flights_ends_readers_too),
		cmocka_unit_test(readers_that_come_and_go_leave_nothing_behind),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
