/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight when upstream misbehaves: cuts, wrong bytes, wrong heads, refusals, expired addresses, other versions.
 * The promise behind all of them: a body that ends cleanly is right, and what is stored is right.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/log.h"
#include "flight_rig.h"
#include "metrics/metrics.h"

static void assert_all_right(const struct client *c, uint64_t bytes)
{
	assert_int_equal(c->join_error, 0);
	assert_int_equal(c->start_error, 0);
	assert_int_equal(c->error, 0);
	assert_true(c->is_right);
	assert_int_equal(c->got, bytes);
}

/* The next reader gets the file, so nothing wrong was kept. */
static void assert_next_is_right(struct rig *r)
{
	struct client next = { .rig = r };

	client_run(&next);
	assert_all_right(&next, r->id.size);
	assert_true(rig_is_stored(r));
}

static unsigned count_storage_calls(const struct rig *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->up.calls; i++)
		n += r->up.call[i].is_storage;
	return n;
}

static const struct upstream_call *last_storage_call(const struct rig *r)
{
	for (unsigned i = r->up.calls; i-- > 0;)
		if (r->up.call[i].is_storage)
			return &r->up.call[i];
	return NULL;
}

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
	assert_true(waiting.done_us - patient.up.first_byte_us < 5000000);
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
	r.up.stall_at = MIB;
	r.up.stall_ms = 8000;
	client_begin(&c);
	assert_true(RIG_WAIT(r.up.sent >= MIB - 16 * KIB));
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
		cmocka_unit_test(cut_transfer_is_resumed_where_it_stopped),
		cmocka_unit_test(upstream_that_dies_and_returns_gives_one_uninterrupted_body),
		cmocka_unit_test(upstream_that_dies_for_good_breaks_the_body_and_keeps_the_part),
		cmocka_unit_test(cold_reader_is_told_soon_that_upstream_is_dead),
		cmocka_unit_test(wrong_bytes_never_end_cleanly_and_are_not_stored),
		cmocka_unit_test(wrong_bytes_that_nobody_saw_are_fetched_again_quietly),
		cmocka_unit_test(wrong_bytes_twice_are_an_error),
		cmocka_unit_test(stored_part_with_wrong_bytes_is_thrown_away),
		cmocka_unit_test(expired_address_is_resolved_again_at_once),
		cmocka_unit_test(address_that_stays_expired_is_an_error),
		cmocka_unit_test(a_known_address_is_asked_without_the_hub),
		cmocka_unit_test(a_known_address_that_is_refused_is_asked_for_anew_once),
		cmocka_unit_test(an_address_that_expires_in_the_middle_is_asked_for_anew),
		cmocka_unit_test(a_refused_address_without_a_target_is_a_refusal),
		cmocka_unit_test(an_address_that_may_not_be_asked_is_none),
		cmocka_unit_test(everything_instead_of_a_range_is_taken_from_its_beginning),
		cmocka_unit_test(parallel_ranges_of_such_an_upstream_use_one_transfer),
		cmocka_unit_test(such_an_upstream_is_recognised_with_a_validator_too),
		cmocka_unit_test(edges_that_disagree_on_the_version_cause_no_storm),
		cmocka_unit_test(other_version_after_a_cut_goes_on_and_the_digest_decides),
		cmocka_unit_test(other_version_of_an_unread_part_is_started_over),
		cmocka_unit_test(heads_that_contradict_the_hub_are_refused),
		cmocka_unit_test(ids_of_another_kind_do_not_contradict),
		cmocka_unit_test(body_without_a_length_that_ends_early_is_resumed),
		cmocka_unit_test(refusal_and_absence_are_told_with_their_status),
		cmocka_unit_test(next_readers_token_takes_over),
		cmocka_unit_test(body_under_way_survives_the_end_of_its_token),
		cmocka_unit_test(slow_down_is_passed_on_or_waited_for),
		cmocka_unit_test(passing_failure_of_the_hub_is_tried_again),
		cmocka_unit_test(stall_of_some_seconds_is_waited_out),
		cmocka_unit_test(no_reader_waits_longer_than_a_minute),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
