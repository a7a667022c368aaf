/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight: ranges. A window is fetched round what was asked for, each byte once; what it needs of the store's room; and
 * what windows and whole fills have from each other.
 */
#include "flight_rig.h"

#include <string.h>

#include "common/alloc.h"
#include "common/log.h"

static void ignore_written(void *ctx, const struct blob_meta *meta)
{
}

static void one_byte_of_a_large_file_fetches_a_small_window(void **state)
{
	struct rig r = { .file_size = 64 * MIB };
	struct client c = { .rig = &r, .range = { 0, 1 } };

	rig_start(&r, MIB);
	client_run(&c);
	assert_all_right(&c, 1);
	rig_sleep_ms(50);
	assert_true(r.up.sent <= MIB);
	assert_false(rig_is_stored(&r));
	rig_stop(&r);
}

static void window_in_the_middle_does_not_wait_for_what_lies_before(void **state)
{
	struct rig r = { .file_size = 64 * MIB };
	struct client whole = { .rig = &r, .leave_after = 3 * MIB },
		      window = { .rig = &r, .range = { 40 * MIB, 41 * MIB } };

	rig_start(&r, MIB);
	r.up.hold_at = 512 * KIB;
	client_begin(&whole);
	assert_true(RIG_WAIT(r.up.sent > 256 * KIB));
	client_run(&window);
	assert_all_right(&window, MIB);
	assert_int_equal(whole.done_us, 0);
	r.up.hold_at = 0;
	client_end(&whole);
	assert_true(whole.is_right);
	rig_stop(&r);
}

static void sixteen_ranges_fetch_each_byte_once_and_make_the_file(void **state)
{
	struct rig r = { 0 };
	struct client c[16] = { 0 };
	uint64_t share = MIB + 12345, size = 16 * share;

	rig_start(&r, size);
	r.up.bytes_per_s = 16 * MIB;
	for (int i = 0; i < 16; i++) {
		c[i].rig = &r;
		c[i].range = (struct byte_range){ (uint64_t)i * share, (uint64_t)(i + 1) * share };
		client_begin(&c[i]);
	}
	for (int i = 0; i < 16; i++) {
		client_end(&c[i]);
		assert_all_right(&c[i], share);
	}
	assert_int_equal(r.up.sent, size);
	assert_true(r.up.open_most <= 2 * 8);
	assert_true(RIG_WAIT(rig_is_stored(&r)));
	rig_stop(&r);
}

static void open_range_is_served_first_and_the_rest_follows(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .range = { 8 * MIB, 0 }, .is_open = true };

	rig_start(&r, 12 * MIB);
	client_run(&c);
	assert_int_equal(c.start_error, 0);
	assert_true(c.is_right);
	assert_int_equal(c.error, 0);
	assert_int_equal(r.up.call[1].first, 8 * MIB);
	assert_true(RIG_WAIT(rig_is_stored(&r)));
	assert_int_equal(r.up.sent, 12 * MIB);
	rig_stop(&r);
}

static void room_is_asked_for_and_its_lack_is_told(void **state)
{
	for (int can_evict = 0; can_evict < 2; can_evict++) {
		struct rig r = { .store_max = 3 * MIB };
		struct client c = { .rig = &r };
		struct bytes *old;
		struct blob_meta meta;

		rig_start(&r, MIB + 4096);
		old = bytes_new_take(xcalloc(2, MIB), 2 * MIB);
		assert_int_equal(store_put_bytes(r.store, old, &meta), 0);
		assert_int_equal(store_flush_pending(r.store, ignore_written, NULL), 0);
		(void)bytes_unref(old);
		r.evictable[0] = meta.sha256;
		r.evictable_count = 1;
		r.has_room_after_call = can_evict;
		client_run(&c);
		assert_int_equal(r.room_calls, 1);
		if (can_evict)
			assert_all_right(&c, MIB + 4096);
		else
			assert_int_equal(c.start_error, -ENOSPC);
		assert_int_equal(r.up.calls, can_evict ? 2 : 0);
		rig_stop(&r);
	}
}

static void file_larger_than_the_store_is_never_fetched(void **state)
{
	struct rig r = { .store_max = MIB };
	struct client c = { .rig = &r };

	rig_start(&r, 2 * MIB);
	client_run(&c);
	assert_int_equal(c.start_error, -ENOSPC);
	assert_int_equal(r.up.calls, 0);
	assert_int_equal(r.room_calls, 0);
	rig_stop(&r);
}

static struct digest store_old(struct rig *r, size_t size, unsigned char fill)
{
	void *bytes = xcalloc(1, size);
	struct blob_meta meta;
	struct bytes *old;

	memset(bytes, fill, size);
	old = bytes_new_take(bytes, size);
	assert_int_equal(store_put_bytes(r->store, old, &meta), 0);
	assert_int_equal(store_flush_pending(r->store, ignore_written, NULL), 0);
	(void)bytes_unref(old);
	return meta.sha256;
}

static bool has_blob(struct rig *r, const struct digest *sha256)
{
	struct blob *blob;

	if (store_open_blob(r->store, sha256, &blob) < 0)
		return false;
	(void)blob_unref(blob);
	return true;
}

static void one_byte_of_a_file_larger_than_the_store_takes_a_window(void **state)
{
	struct rig r = { .store_max = GIB, .file_size = 50 * GIB };
	struct client c = { .rig = &r, .range = { 0, 1 } },
		      far = { .rig = &r, .range = { 40 * GIB, 40 * GIB + 9 } };
	struct reader *reader;
	struct digest old;
	uint64_t used;

	rig_start(&r, MIB);
	old = store_old(&r, 300000, 1);
	used = rig_usage(&r).used;
	assert_int_equal(client_join(&c, &reader), 0);
	assert_int_equal(client_wait_started(&c, reader), 0);
	assert_true(rig_usage(&r).reserved < MIB);
	client_run(&far);
	assert_all_right(&far, 9);
	reader_free(reader);
	client_run(&c);
	assert_all_right(&c, 1);
	assert_true(RIG_WAIT(rig_usage(&r).reserved == 0));
	assert_true(rig_usage(&r).used - used < MIB);
	assert_true(has_blob(&r, &old));
	assert_int_equal(r.room_calls, 0);
	rig_stop(&r);
}

static void windows_add_up_and_old_blobs_go_for_them(void **state)
{
	struct rig r = { .store_max = 8 * MIB, .file_size = 50 * GIB };
	unsigned calls[30];

	rig_start(&r, MIB);
	r.evictable[0] = store_old(&r, MIB, 1);
	r.evictable[1] = store_old(&r, MIB, 2);
	r.evictable_count = 2;
	r.has_room_after_call = true;
	for (unsigned i = 0; i < 30; i++) { /* of 7.9 MiB, less 2 MiB for the old ones */
		struct client c = { .rig = &r, .range = { i * GIB, i * GIB + WINDOW } };

		client_run(&c);
		assert_all_right(&c, WINDOW);
		calls[i] = r.room_calls;
		assert_true(rig_usage(&r).used + rig_usage(&r).reserved <= 8 * MIB);
	}
	assert_int_equal(calls[20], 0);
	assert_int_equal(calls[24], 1);
	assert_int_equal(calls[29], 2);
	assert_true(r.room_bytes <= WINDOW); /* no more than was missing */
	assert_false(has_blob(&r, &r.evictable[0]) || has_blob(&r, &r.evictable[1]));
	rig_stop(&r);
}

static void whole_fill_takes_what_windows_brought(void **state)
{
	struct rig r = { 0 };
	struct client window = { .rig = &r, .range = { 8 * MIB, 8 * MIB + 1 } }, whole = { .rig = &r };
	struct reader *reader;

	rig_start(&r, 16 * MIB);
	assert_int_equal(client_join(&window, &reader), 0);
	assert_true(RIG_WAIT(reader_ready(reader, 8 * MIB) == 1));
	assert_true(RIG_WAIT(r.up.sent == WINDOW));
	assert_true(rig_usage(&r).reserved < MIB);
	client_run(&whole);
	assert_all_right(&whole, 16 * MIB);
	assert_true(rig_is_stored(&r));
	assert_int_equal(r.up.sent, 16 * MIB);
	assert_true(RIG_WAIT(rig_usage(&r).reserved == 0));
	assert_int_equal(rig_usage(&r).used, 16 * MIB + 4096);
	reader_free(reader);
	rig_stop(&r);
}

/* Its first bytes are there: still it must not begin, for it could not end. */
static void whole_fill_that_does_not_fit_leaves_windows_alone(void **state)
{
	struct rig r = { .store_max = 8 * MIB };
	struct client window = { .rig = &r, .range = { 0, 1000 } }, whole = { .rig = &r },
		      other = { .rig = &r, .range = { 9 * MIB, 10 * MIB } };
	struct reader *reader;
	unsigned calls;

	rig_start(&r, 16 * MIB);
	assert_int_equal(client_join(&window, &reader), 0);
	assert_true(RIG_WAIT(reader_ready(reader, 0) == 1000));
	calls = r.up.calls;
	client_run(&whole);
	assert_int_equal(whole.start_error, -ENOSPC);
	assert_int_equal(r.up.calls, calls);
	assert_int_equal(reader_started(reader), 0);
	assert_int_equal(reader_ready(reader, 500), 500);
	client_run(&other);
	assert_all_right(&other, MIB);
	assert_true(RIG_WAIT(rig_usage(&r).reserved < 2 * MIB));
	reader_free(reader);
	rig_stop(&r);
}

static void windows_of_a_former_run_are_kept_and_counted(void **state)
{
	struct rig r = { .store_max = GIB, .file_size = 50 * GIB };
	struct client c = { .rig = &r, .range = { 7 * GIB, 7 * GIB + MIB } }, next = { .rig = &r };
	unsigned calls;
	uint64_t used;

	rig_start(&r, MIB);
	client_run(&c);
	assert_all_right(&c, MIB);
	assert_true(RIG_WAIT(rig_usage(&r).reserved == 0));
	used = rig_usage(&r).used;
	assert_in_range(used, MIB, MIB + 64 * KIB);
	rig_close(&r);
	rig_open(&r);
	assert_int_equal(rig_usage(&r).used, used);
	calls = r.up.calls;
	next.range = (struct byte_range){ 7 * GIB + 10, 7 * GIB + 10 + 700 * KIB };
	client_run(&next);
	assert_all_right(&next, 700 * KIB);
	assert_int_equal(r.up.calls, calls);
	assert_true(RIG_WAIT(rig_usage(&r).reserved == 0));
	assert_int_equal(rig_usage(&r).used, used);
	rig_stop(&r);
}

/* Of the window round it there may be less than was planned, when its client left early. */
static void range_that_is_held_is_given_without_a_call(void **state)
{
	struct byte_range held[] = { { 0, 10 }, { 5, 700 * KIB }, { 20 * MIB, 20 * MIB + 1 } };
	struct rig r = { 0 };
	struct client first = { .rig = &r, .range = { 0, 700 * KIB } },
		      second = { .rig = &r, .range = { 20 * MIB, 20 * MIB + 1 } };
	unsigned calls;

	rig_start(&r, 24 * MIB);
	r.up.bytes_per_s = 4 * MIB;
	client_run(&first);
	client_run(&second);
	assert_all_right(&first, 700 * KIB);
	assert_all_right(&second, 1);
	assert_true(RIG_WAIT(rig_usage(&r).reserved == 0));
	calls = r.up.calls;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 3; i++) {
			struct client c = { .rig = &r, .range = held[i] };

			client_run(&c);
			assert_all_right(&c, held[i].end - held[i].first);
		}
		assert_true(RIG_WAIT(rig_usage(&r).reserved == 0));
		assert_int_equal(r.up.calls, calls);
		assert_int_equal(r.room_calls, 0);
		r.up.is_dead = true;
		rig_close(&r);
		rig_open(&r);
	}
	rig_stop(&r);
}

static void reader_that_lacks_bytes_does_not_take_along_one_that_lacks_none(void **state)
{
	struct rig r = { 0 };
	struct client first = { .rig = &r, .range = { 0, MIB } },
		      before = { .rig = &r, .range = { 10, MIB } },
		      lacking = { .rig = &r, .range = { 9 * MIB, 10 * MIB } };
	struct reader *held;

	rig_start(&r, 24 * MIB);
	client_run(&first);
	assert_all_right(&first, MIB);
	assert_int_equal(client_join(&before, &held), 0);
	assert_int_equal(client_wait_started(&before, held), 0);
	assert_int_equal(reader_ready(held, 10), MIB - 10);
	r.up.is_dead = true;
	client_run(&lacking);
	assert_int_equal(lacking.start_error, -EHOSTUNREACH);
	assert_int_equal(reader_ready(held, 500), MIB - 500);
	r.up.is_dead = false; /* and the flight is as good as new */
	lacking = (struct client){ .rig = &r, .range = { 9 * MIB, 10 * MIB } };
	client_run(&lacking);
	assert_all_right(&lacking, MIB);
	assert_true(lacking.has_joined);
	reader_free(held);
	rig_stop(&r);
}

/* Then all that lies before the window is written as well, and needs room. */
static void upstream_that_ignores_ranges_needs_room_from_the_first_byte(void **state)
{
	struct rig r = { .store_max = 8 * MIB };
	struct client near = { .rig = &r, .range = { 3 * MIB, 3 * MIB + WINDOW } },
		      far = { .rig = &r, .range = { 12 * MIB, 12 * MIB + WINDOW } };

	rig_start(&r, 16 * MIB);
	r.up.ignores_ranges = true;
	client_run(&near);
	assert_all_right(&near, WINDOW);
	assert_true(RIG_WAIT(rig_usage(&r).reserved == 0));
	assert_in_range(rig_usage(&r).used, 3 * MIB + WINDOW, 4 * MIB);
	client_run(&far);
	assert_int_equal(far.start_error, -ENOSPC);
	assert_true(rig_usage(&r).used + rig_usage(&r).reserved <= 8 * MIB);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_byte_of_a_large_file_fetches_a_small_window),
		cmocka_unit_test(window_in_the_middle_does_not_wait_for_what_lies_before),
		cmocka_unit_test(sixteen_ranges_fetch_each_byte_once_and_make_the_file),
		cmocka_unit_test(open_range_is_served_first_and_the_rest_follows),
		cmocka_unit_test(one_byte_of_a_file_larger_than_the_store_takes_a_window),
		cmocka_unit_test(windows_add_up_and_old_blobs_go_for_them),
		cmocka_unit_test(whole_fill_takes_what_windows_brought),
		cmocka_unit_test(whole_fill_that_does_not_fit_leaves_windows_alone),
		cmocka_unit_test(windows_of_a_former_run_are_kept_and_counted),
		cmocka_unit_test(range_that_is_held_is_given_without_a_call),
		cmocka_unit_test(reader_that_lacks_bytes_does_not_take_along_one_that_lacks_none),
		cmocka_unit_test(upstream_that_ignores_ranges_needs_room_from_the_first_byte),
		cmocka_unit_test(room_is_asked_for_and_its_lack_is_told),
		cmocka_unit_test(file_larger_than_the_store_is_never_fetched),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
