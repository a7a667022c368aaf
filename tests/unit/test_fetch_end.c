/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves when a fetch gives up and how it ends: deadlines of the head, of a silence and of it all; exactly one on_done
 * whatever happens, also when cancelled, when it stops, and with two hundred at once.
 */
#include "fetch_rig.h"

#include <string.h>

/* --- time ----------------------------------------------------------------------------------------------- */

static void start_timed(struct fixture *x, struct got *g, const char *target, uint64_t first_byte,
			uint64_t stall, uint64_t total)
{
	struct fetch_request request = {
		.method = "GET",
		.target = str_from(target),
		.first_byte_timeout_ms = first_byte,
		.stall_timeout_ms = stall,
		.total_timeout_ms = total,
	};

	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, &g->transfer), 0);
}

/* Waits until more of its body has come than before. */
static void wait_for_more(struct got *g, unsigned *calls)
{
	got_wait(g, &g->body_calls, *calls + 1);
	pthread_mutex_lock(&g->mutex);
	*calls = g->body_calls;
	pthread_mutex_unlock(&g->mutex);
}

static void gives_up_when_no_answer_begins(void **state)
{
	struct fixture *x = *state;
	struct got *late = got_new(), *in_time = got_new();

	start_timed(x, late, "/slow/head", 150, 0, 0);
	assert_int_equal(got_end(late), -ETIMEDOUT);
	assert_int_equal(late->heads, 0);
	start_timed(x, in_time, "/slow/start", 15000, 0, 0);
	assert_int_equal(got_end(in_time), 0);
	assert_false(fetch_is_down(x->fetch));
	got_free(late);
	got_free(in_time);
}

static void gives_up_when_a_body_stalls_but_not_when_it_drips(void **state)
{
	struct fixture *x = *state;
	struct got *stalled = got_new(), *dripping = got_new();
	unsigned calls = 0;

	start_timed(x, stalled, "/slow/stall", 0, 20000, 0);
	got_wait(stalled, &stalled->body_calls, 1);
	rig_pass(x, 25000);
	assert_int_equal(got_end(stalled), -ETIMEDOUT);
	assert_string_equal(stalled->body.bytes, "half");
	start_timed(x, dripping, "/slow/drip", 0, 20000, 0);
	for (int i = 0; i < 4; i++) { /* a minute in all */
		wait_for_more(dripping, &calls);
		rig_pass(x, 15000);
	}
	assert_int_equal(got_end(dripping), 0);
	assert_int_equal(dripping->body.len, 30);
	got_free(stalled);
	got_free(dripping);
}

static void gives_up_when_all_of_it_takes_too_long(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	start_timed(x, g, "/slow/long", 0, 0, 20000);
	got_wait(g, &g->body_calls, 1);
	rig_pass(x, 21000);
	assert_int_equal(got_end(g), -ETIMEDOUT);
	assert_true(g->body.len > 0);
	got_free(g);
}

static void a_pause_is_no_stall(void **state)
{
	struct fixture *x = *state;
	struct fetch_request request = { .method = "GET", .target = STR("/ok"), .stall_timeout_ms = 20000 };
	struct got *g = got_new();

	g->pause_each = 1;
	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, &g->transfer), 0);
	got_wait(g, &g->paused, 1);
	rig_pass(x, 60000);
	rig_pass(x, 0); /* a turn that began with the new time is over */
	assert_int_equal(g->done_count, 0);
	g->pause_each = 0;
	transfer_resume(g->transfer);
	assert_int_equal(got_end(g), 0);
	assert_string_equal(g->body.bytes, "hello");
	got_free(g);
}

/* --- cancelling and ending ------------------------------------------------------------------------------ */

static void can_be_cancelled_at_any_time(void **state)
{
	struct fixture *x = *state;
	struct got *at_once = got_new(), *waiting = got_new(), *in_head = got_new(), *in_body = got_new(),
		   *late = got_new();

	got_start(x, at_once, "GET", "/slow/head", FETCH_FOLLOW_NONE);
	transfer_cancel(at_once->transfer);
	assert_int_equal(got_end(at_once), -ECANCELED);

	got_start(x, waiting, "GET", "/slow/stall", FETCH_FOLLOW_NONE);
	got_wait(waiting, &waiting->body_calls, 1);
	transfer_cancel(waiting->transfer);
	assert_int_equal(got_end(waiting), -ECANCELED);

	in_head->cancels_in_head = true;
	got_start(x, in_head, "GET", "/big", FETCH_FOLLOW_NONE);
	assert_int_equal(got_end(in_head), -ECANCELED);
	assert_int_equal(in_head->body_calls, 0); /* nothing comes after it but on_done */

	in_body->cancels_in_body = true;
	got_start(x, in_body, "GET", "/big", FETCH_FOLLOW_NONE);
	assert_int_equal(got_end(in_body), -ECANCELED);
	assert_int_equal(in_body->body_calls, 1);

	got_start(x, late, "GET", "/ok", FETCH_FOLLOW_NONE);
	assert_int_equal(got_end(late), 0);
	transfer_cancel(late->transfer);
	transfer_resume(late->transfer);
	rig_sleep_ms(30);
	assert_int_equal(late->done_count, 1);

	got_free(at_once);
	got_free(waiting);
	got_free(in_head);
	got_free(in_body);
	got_free(late);
}

static void a_paused_transfer_can_be_cancelled(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	g->pause_each = 1;
	got_start(x, g, "GET", "/big", FETCH_FOLLOW_NONE);
	got_wait(g, &g->paused, 1);
	transfer_cancel(g->transfer);
	assert_int_equal(got_end(g), -ECANCELED);
	got_free(g);
}

static void the_callers_reference_may_go_first(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_start(x, got_new(), "GET", "/slow/start", FETCH_FOLLOW_NONE);

	g->transfer = transfer_unref(g->transfer);
	assert_int_equal(got_end(g), 0);
	got_free(g);
}

struct calls {
	atomic_uint count, order[4];
	struct fetch *fetch;
};
static void count_call(void *ctx)
{
	atomic_fetch_add((atomic_uint *)ctx, 1);
}

static void first_call(void *ctx)
{
	struct calls *calls = ctx;

	calls->order[atomic_fetch_add(&calls->count, 1)] = 1;
}

static void second_call(void *ctx)
{
	struct calls *calls = ctx;

	calls->order[atomic_fetch_add(&calls->count, 1)] = 2;
	fetch_call(calls->fetch, 0, first_call, calls);
}

static void calls_come_when_they_are_due(void **state)
{
	struct fixture *x = *state;
	struct calls calls = { .fetch = x->fetch };
	uint64_t began = clock_mono_ms(&clock_system);

	fetch_call(x->fetch, 120, second_call, &calls);
	fetch_call(x->fetch, 60, first_call, &calls);
	for (int i = 0; atomic_load(&calls.order[2]) == 0; i++) {
		assert_true(i < 4000);
		rig_sleep_ms(5);
	}
	assert_true(clock_mono_ms(&clock_system) - began >= 115);
	assert_int_equal(calls.order[0], 1);
	assert_int_equal(calls.order[1], 2);
	assert_int_equal(calls.order[2], 1);
}

static void the_end_cancels_transfers_and_runs_calls(void **state)
{
	struct fixture *x = *state;
	struct fetch *f = rig_new_fetch(x, upstream_url(x->hub), NULL, false);
	struct fetch_request request = { .method = "GET", .target = STR("/slow/head") };
	struct got *running = got_new(), *mailed = got_new();
	atomic_uint calls = 0;

	assert_int_equal(fetch_start(f, &request, &got_ops, running, &running->transfer), 0);
	fetch_call(f, 3600 * 1000, count_call, &calls);
	rig_sleep_ms(30);
	assert_int_equal(fetch_start(f, &request, &got_ops, mailed, &mailed->transfer), 0);
	fetch_free(f);
	assert_int_equal(running->done_count, 1);
	assert_int_equal(running->error, -ECANCELED);
	assert_int_equal(mailed->done_count, 1);
	assert_int_equal(mailed->error, -ECANCELED);
	assert_int_equal(atomic_load(&calls), 1);
	transfer_cancel(running->transfer); /* the reference still holds what these need */
	transfer_resume(running->transfer);
	got_free(running);
	got_free(mailed);
}

/* --- many at once --------------------------------------------------------------------------------------- */

#define CROWD 200

static const char *crowd_target(unsigned i)
{
	static const char *const targets[] = {
		"/ok",          "/big",           "/to/ok",        "/to/other",
		"/to/stranger", "/slow/start",    "/slow/stall",   "/slow/head",
		"/slow/drip",   "/broken/short",  "/broken/reset", "/broken/nothing",
		"/chunked",     "/broken/fields", "/to/loop",      "/to/ok-but-cut",
	};

	return targets[i % (sizeof(targets) / sizeof(targets[0]))];
}

/* Half of them are cancelled at some time, some pause, some have lost their caller. Each must end once. */
static void two_hundred_at_once_end_exactly_once_each(void **state)
{
	struct fixture *x = *state;
	struct got *crowd[CROWD];
	uint32_t dice = 12345;

	for (unsigned i = 0; i < CROWD; i++) {
		struct fetch_request request = {
			.method = i % 5 ? "GET" : "HEAD",
			.target = str_from(crowd_target(i)),
			.follow = FETCH_FOLLOW_ALLOWED,
			.stall_timeout_ms = 700,
			.first_byte_timeout_ms = 900,
		};

		crowd[i] = got_new();
		crowd[i]->pause_each = i % 3 ? 0 : 5;
		crowd[i]->cancels_in_body = i % 17 == 1;
		assert_int_equal(fetch_start(x->fetch, &request, &got_ops, crowd[i], &crowd[i]->transfer), 0);
		if (i % 40 == 0)
			rig_sleep_ms(1);
	}
	for (unsigned round = 0; round < 600; round++) {
		unsigned i = (dice = dice * 1664525 + 1013904223) >> 8;

		transfer_resume(crowd[i % CROWD]->transfer);
		if (i % 6 == 0)
			transfer_cancel(crowd[i / 6 % CROWD]->transfer);
		if (round % 20 == 0)
			rig_sleep_ms(1);
	}
	for (unsigned i = 0; i < CROWD; i++) {
		if (crowd[i]->pause_each)
			transfer_cancel(crowd[i]->transfer); /* nobody resumes it any more */
		(void)got_end(crowd[i]);
	}
	rig_sleep_ms(50);
	for (unsigned i = 0; i < CROWD; i++) {
		assert_int_equal(crowd[i]->done_count, 1);
		assert_false(crowd[i]->was_called_after_done);
		if (strcmp(crowd_target(i), "/big") == 0 && crowd[i]->error == 0 && i % 5)
			assert_true(rig_is_big(&crowd[i]->body));
		got_free(crowd[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(gives_up_when_no_answer_begins),
		CASE(gives_up_when_a_body_stalls_but_not_when_it_drips),
		CASE(gives_up_when_all_of_it_takes_too_long),
		CASE(a_pause_is_no_stall),
		CASE(can_be_cancelled_at_any_time),
		CASE(a_paused_transfer_can_be_cancelled),
		CASE(the_callers_reference_may_go_first),
		CASE(calls_come_when_they_are_due),
		CASE(the_end_cancels_transfers_and_runs_calls),
		CASE(two_hundred_at_once_end_exactly_once_each),
	};

	return cmocka_run_group_tests_name("fetch_end", tests, NULL, NULL);
}
