/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight: one transfer for many readers, windows, tails, ends. Real sockets, a real store; upstream behaves.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/log.h"
#include "flight_rig.h"
#include "metrics/metrics.h"

#define READERS 8
#define GIB (1024 * MIB)
#define WINDOW (256 * KIB)

/* Who waits for the disk: the program's own definition goes before the C library's. */
static atomic_uint synced, synced_on_fetch;

int caught_fdatasync(int fd) __asm__("fdatasync");
int caught_fdatasync(int fd)
{
	char name[32] = "";

	(void)pthread_getname_np(pthread_self(), name, sizeof(name));
	atomic_fetch_add(&synced, 1);
	if (strstr(name, "fetch"))
		atomic_fetch_add(&synced_on_fetch, 1);
	return (int)syscall(SYS_fdatasync, fd);
}

static void assert_all_right(const struct client *c, uint64_t bytes)
{
	assert_int_equal(c->join_error, 0);
	assert_int_equal(c->start_error, 0);
	assert_int_equal(c->error, 0);
	assert_true(c->is_right);
	assert_int_equal(c->got, bytes);
}

static void ignore_written(void *ctx, const struct blob_meta *meta)
{
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
	r.up.bytes_per_s = 20 * MIB;
	for (int i = 0; i < READERS; i++) {
		c[i].rig = &r;
		client_begin(&c[i]);
	}
	for (int i = 0; i < READERS; i++)
		client_end(&c[i]);
	for (int i = 0; i < READERS; i++) {
		assert_all_right(&c[i], 16 * MIB);
		assert_true(c[i].first_us - r.up.first_byte_us < 100000);
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
	client_run(&c);
	assert_int_equal(c.error, 0);
	assert_true(c.is_right && c.got >= 200);
	assert_true(c.first_us - r.up.first_byte_us < 100000);
	assert_true(c.done_us - r.up.first_byte_us < 1000000);
	rig_stop(&r);
}

/* After the first 64 KiB bytes are gathered; what was gathered must not stay behind when upstream pauses. */
static void gathered_bytes_do_not_wait_for_more(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .leave_after = 300 * KIB - 1 };

	rig_start(&r, 10 * MIB);
	r.up.stall_at = 300 * KIB;
	r.up.stall_ms = 3000;
	client_run(&c);
	assert_true(c.done_us - r.up.first_byte_us < 2900000 || c.got >= 288 * KIB);
	assert_int_equal(c.error, 0);
	rig_stop(&r);
}

static void late_reader_is_fed_from_what_has_come(void **state)
{
	struct rig r = { 0 };
	struct client first = { .rig = &r }, late = { .rig = &r };

	rig_start(&r, 8 * MIB + 1);
	r.up.bytes_per_s = 8 * MIB;
	client_begin(&first);
	assert_true(RIG_WAIT(r.up.sent > 4 * MIB));
	client_begin(&late);
	client_end(&first);
	client_end(&late);
	assert_all_right(&first, 8 * MIB + 1);
	assert_all_right(&late, 8 * MIB + 1);
	assert_true(late.has_joined);
	assert_int_equal(r.up.sent, 8 * MIB + 1);
	rig_stop(&r);
}

static void one_byte_of_a_large_file_fetches_a_small_window(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r, .range = { 0, 1 } };

	rig_start(&r, 64 * MIB);
	client_run(&c);
	assert_all_right(&c, 1);
	rig_sleep_ms(50);
	assert_true(r.up.sent <= MIB);
	assert_false(rig_is_stored(&r));
	rig_stop(&r);
}

static void window_in_the_middle_does_not_wait_for_what_lies_before(void **state)
{
	struct rig r = { 0 };
	struct client whole = { .rig = &r, .leave_after = 3 * MIB },
		      window = { .rig = &r, .range = { 40 * MIB, 41 * MIB } };

	rig_start(&r, 64 * MIB);
	r.up.bytes_per_s = 2 * MIB;
	client_begin(&whole);
	assert_true(RIG_WAIT(r.up.sent > 256 * KIB));
	client_run(&window);
	assert_all_right(&window, MIB);
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

static void reader_ahead_of_the_fill_joins_it(void **state)
{
	struct rig r = { 0 };
	struct client whole = { .rig = &r },
		      resumed = { .rig = &r, .range = { 5 * MIB, 0 }, .is_open = true };

	rig_start(&r, 12 * MIB);
	r.up.bytes_per_s = 4 * MIB;
	client_begin(&whole);
	assert_true(RIG_WAIT(r.up.sent > 2 * MIB));
	client_run(&resumed);
	client_end(&whole);
	assert_all_right(&whole, 12 * MIB);
	assert_all_right(&resumed, 7 * MIB);
	assert_int_equal(r.up.sent, 12 * MIB);
	assert_int_equal(r.up.calls, 2);
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

static void tail_waits_for_the_name(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	struct reader *reader;

	rig_start(&r, MIB);
	r.holds_names = true;
	assert_int_equal(client_join(&c, &reader), 0);
	assert_true(RIG_WAIT(reader_ready(reader, 64 * KIB) > 0)); /* it takes the start */
	assert_true(RIG_WAIT(r.verified == 1));
	assert_int_equal(reader_started(reader), 0);
	assert_int_equal(reader_ready(reader, 0), MIB - 64 * KIB);
	assert_int_equal(reader_ready(reader, MIB - 64 * KIB), 0);
	assert_true(rig_name(&r));
	assert_int_equal(reader_ready(reader, MIB - 64 * KIB), 64 * KIB);
	assert_true(reader_fd(reader) >= 0);
	reader_free(reader);
	rig_stop(&r);
}

static void tail_comes_after_two_seconds_on_a_slow_disk(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };

	rig_start(&r, MIB);
	r.holds_names = true;
	client_run(&c);
	assert_all_right(&c, MIB);
	assert_in_range(c.done_us - r.up.first_byte_us, 1900000, 2900000);
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
	client_run(&c);
	client_run(&late);
	assert_int_equal(late.join_error, -EEXIST);
	rig_sleep_ms(150); /* the blob may be gone by then: a new flight is the answer */
	late.join_error = 0;
	client_run(&late);
	assert_all_right(&late, MIB);
	rig_stop(&r);
}

static void transfer_abandoned_after_the_head_costs_little(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	struct reader *reader;

	rig_start(&r, 200 * MIB);
	r.up.bytes_per_s = 20 * MIB;
	assert_int_equal(client_join(&c, &reader), 0);
	assert_int_equal(client_wait_started(&c, reader), 0);
	reader_free(reader);
	assert_true(RIG_WAIT(metrics_value(r.metrics, METRIC_FILLS, 3, 0, 0) == 1));
	rig_sleep_ms(50);
	assert_true(r.up.sent < 1000000);
	rig_stop(&r);
}

/* What the sockets on both sides take up is beyond us; what is not read stays there. */
static void transfer_whose_reader_takes_nothing_stands_still(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	struct reader *reader;
	uint64_t sent;

	rig_start(&r, 200 * MIB);
	assert_int_equal(client_join(&c, &reader), 0);
	assert_int_equal(client_wait_started(&c, reader), 0);
	rig_sleep_ms(300);
	sent = r.up.sent;
	assert_true(sent < 8 * MIB);
	rig_sleep_ms(300);
	assert_int_equal(r.up.sent, sent);
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
	r.up.bytes_per_s = 10 * MIB;
	client_run(&c);
	assert_true(RIG_WAIT(r.up.open_now <= 1 || metrics_value(r.metrics, METRIC_FILLS, 3, 0, 0) == 1));
	rig_sleep_ms(50);
	assert_true(r.up.sent < 4 * MIB);
	r.up.bytes_per_s = 0;
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
	r.up.bytes_per_s = 10 * MIB;
	client_run(&c);
	rig_close(&r);
	r.up.bytes_per_s = 0;
	rig_open(&r);
	client_run(&next);
	assert_all_right(&next, 16 * MIB);
	assert_true(r.up.sent < 16 * MIB + MIB);
	assert_true(rig_is_stored(&r));
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

static struct store_usage usage(struct rig *r)
{
	struct store_usage u;

	store_usage(r->store, &u);
	return u;
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
	used = usage(&r).used;
	assert_int_equal(client_join(&c, &reader), 0);
	assert_int_equal(client_wait_started(&c, reader), 0);
	assert_true(usage(&r).reserved < MIB);
	client_run(&far);
	assert_all_right(&far, 9);
	reader_free(reader);
	client_run(&c);
	assert_all_right(&c, 1);
	assert_true(RIG_WAIT(usage(&r).reserved == 0));
	assert_true(usage(&r).used - used < MIB);
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
		assert_true(usage(&r).used + usage(&r).reserved <= 8 * MIB);
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
	assert_true(usage(&r).reserved < MIB);
	client_run(&whole);
	assert_all_right(&whole, 16 * MIB);
	assert_true(rig_is_stored(&r));
	assert_int_equal(r.up.sent, 16 * MIB);
	assert_int_equal(usage(&r).reserved, 0);
	assert_int_equal(usage(&r).used, 16 * MIB + 4096);
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
	assert_true(usage(&r).reserved < 2 * MIB);
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
	assert_true(RIG_WAIT(usage(&r).reserved == 0));
	used = usage(&r).used;
	assert_in_range(used, MIB, MIB + 64 * KIB);
	rig_close(&r);
	rig_open(&r);
	assert_int_equal(usage(&r).used, used);
	calls = r.up.calls;
	next.range = (struct byte_range){ 7 * GIB + 10, 7 * GIB + 10 + 700 * KIB };
	client_run(&next);
	assert_all_right(&next, 700 * KIB);
	assert_int_equal(r.up.calls, calls);
	assert_true(RIG_WAIT(usage(&r).reserved == 0));
	assert_int_equal(usage(&r).used, used);
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
	assert_true(RIG_WAIT(usage(&r).reserved == 0));
	calls = r.up.calls;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 3; i++) {
			struct client c = { .rig = &r, .range = held[i] };

			client_run(&c);
			assert_all_right(&c, held[i].end - held[i].first);
		}
		assert_true(RIG_WAIT(usage(&r).reserved == 0));
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
	assert_true(RIG_WAIT(usage(&r).reserved == 0));
	assert_in_range(usage(&r).used, 3 * MIB + WINDOW, 4 * MIB);
	client_run(&far);
	assert_int_equal(far.start_error, -ENOSPC);
	assert_true(usage(&r).used + usage(&r).reserved <= 8 * MIB);
	rig_stop(&r);
}

static void two_sizes_of_one_content_are_not_waited_for(void **state)
{
	struct rig r = { 0 };
	struct content_id wrong;
	struct client c = { .rig = &r }, other = { .rig = &r, .id = &wrong };
	uint64_t began;

	rig_start(&r, 16 * MIB);
	r.up.bytes_per_s = 16 * MIB;
	wrong = r.id;
	wrong.size++;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent > 128 * KIB));
	began = rig_now_us();
	client_run(&other);
	assert_int_equal(other.start_error, -ENOSPC);
	assert_true(rig_now_us() - began < 500000);
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

/* One slot: three windows of one file stand in line, and another file's comes before the last of them. */
static void flights_take_turns_when_all_slots_are_taken(void **state)
{
	struct rig r = { .transfers_max = 1, .file_size = 1 * GIB };
	struct content_id other;
	struct client many[3] = { 0 }, one = { .rig = &r, .range = { 0, WINDOW }, .id = &other };
	uint64_t last_us = 0;

	rig_start(&r, MIB);
	other = other_file(&r, 1);
	r.up.bytes_per_s = 2 * MIB;
	for (unsigned i = 0; i < 3; i++) {
		many[i].rig = &r;
		many[i].range = (struct byte_range){ i * 100 * MIB, i * 100 * MIB + WINDOW };
		client_begin(&many[i]);
	}
	assert_true(RIG_WAIT(r.up.sent > 0));
	client_begin(&one);
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

static void see_one(void *ctx, const struct flight_view *view)
{
	struct flight_view *ret = ctx;

	*ret = *view;
}

static void running_flights_can_be_looked_at(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r };
	struct flight_view view = { 0 };

	rig_start(&r, 16 * MIB);
	r.up.bytes_per_s = 8 * MIB;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent > 4 * MIB));
	flights_each(r.flights, see_one, &view);
	assert_int_equal(view.readers, 1);
	assert_int_equal(view.transfers, 1);
	assert_true(view.held > MIB && view.held < 16 * MIB && view.size == 16 * MIB);
	assert_in_range(view.bytes_per_s, 4 * MIB, 16 * MIB);
	assert_string_equal(view.state, "filling");
	client_end(&c);
	rig_stop(&r);
}

static void the_end_of_all_flights_ends_readers_too(void **state)
{
	struct rig r = { 0 };
	struct client c[4] = { 0 };

	rig_start(&r, 64 * MIB);
	r.up.bytes_per_s = 8 * MIB;
	for (int i = 0; i < 4; i++) {
		c[i].rig = &r;
		c[i].range.first = (uint64_t)i * 10 * MIB;
		c[i].is_open = true;
		client_begin(&c[i]);
	}
	assert_true(RIG_WAIT(r.up.sent > 2 * MIB));
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
	assert_true(atomic_load(&synced) > 0);
	assert_int_equal(atomic_load(&synced_on_fetch), 0); /* also in all tests before */
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
		cmocka_unit_test(one_byte_of_a_large_file_fetches_a_small_window),
		cmocka_unit_test(window_in_the_middle_does_not_wait_for_what_lies_before),
		cmocka_unit_test(sixteen_ranges_fetch_each_byte_once_and_make_the_file),
		cmocka_unit_test(reader_ahead_of_the_fill_joins_it),
		cmocka_unit_test(open_range_is_served_first_and_the_rest_follows),
		cmocka_unit_test(tail_waits_for_the_name),
		cmocka_unit_test(tail_comes_after_two_seconds_on_a_slow_disk),
		cmocka_unit_test(verified_bytes_are_served_even_if_they_cannot_be_named),
		cmocka_unit_test(join_right_after_the_landing_is_told_to_open_the_blob),
		cmocka_unit_test(transfer_abandoned_after_the_head_costs_little),
		cmocka_unit_test(transfer_whose_reader_takes_nothing_stands_still),
		cmocka_unit_test(fill_that_has_come_far_goes_on_without_readers),
		cmocka_unit_test(fill_that_has_hardly_begun_stops_and_is_resumed_by_the_next),
		cmocka_unit_test(part_of_a_former_run_is_resumed),
		cmocka_unit_test(room_is_asked_for_and_its_lack_is_told),
		cmocka_unit_test(file_larger_than_the_store_is_never_fetched),
		cmocka_unit_test(one_byte_of_a_file_larger_than_the_store_takes_a_window),
		cmocka_unit_test(windows_add_up_and_old_blobs_go_for_them),
		cmocka_unit_test(whole_fill_takes_what_windows_brought),
		cmocka_unit_test(whole_fill_that_does_not_fit_leaves_windows_alone),
		cmocka_unit_test(windows_of_a_former_run_are_kept_and_counted),
		cmocka_unit_test(range_that_is_held_is_given_without_a_call),
		cmocka_unit_test(reader_that_lacks_bytes_does_not_take_along_one_that_lacks_none),
		cmocka_unit_test(what_was_given_survives_a_stop_in_the_middle),
		cmocka_unit_test(upstream_that_ignores_ranges_needs_room_from_the_first_byte),
		cmocka_unit_test(two_sizes_of_one_content_are_not_waited_for),
		cmocka_unit_test(flights_take_turns_when_all_slots_are_taken),
		cmocka_unit_test(flights_in_line_can_end),
		cmocka_unit_test(running_flights_can_be_looked_at),
		cmocka_unit_test(the_end_of_all_flights_ends_readers_too),
		cmocka_unit_test(readers_that_come_and_go_leave_nothing_behind),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
