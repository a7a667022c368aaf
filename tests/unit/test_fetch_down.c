/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a Hub which is not there, or whose name is looked up for ever, costs nobody more than the connect timeout,
 * and with an open breaker nothing; and that its return is found out. What opens the breaker is in test_fetch_limits.c.
 */
#include "fetch_rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t timed_get(struct fixture *x, struct fetch *f, int want)
{
	struct fetch_request request = { .method = "GET", .target = STR("/ok") };
	uint64_t began = clock_mono_ms(&clock_system);
	struct got *g = got_new();

	assert_int_equal(fetch_start(f, &request, &got_ops, g, NULL), 0);
	assert_int_equal(got_end(g), want);
	got_free(g);
	return clock_mono_ms(&clock_system) - began;
}

/* Quicker than any attempt: none is made. On a busy machine the first may take its time all the same. */
static void expect_failure_at_once(struct fixture *x, struct fetch *f)
{
	for (int i = 0; timed_get(x, f, -EHOSTUNREACH) >= 100; i++)
		assert_true(i < 100);
}

static void a_refused_connection_or_a_missing_name_fails_at_once(void **state)
{
	struct fixture *x = *state;
	struct fetch *f;
	char url[64];

	x->connect_timeout_ms = 60000; /* of which neither takes anything */
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", upstream_dead_port());
	f = rig_new_fetch(x, url, NULL, false);
	assert_true(timed_get(x, f, -EHOSTUNREACH) < 20000);
	fetch_free(f);
	f = rig_new_fetch(x, "http://missing.test", NULL, false);
	assert_true(timed_get(x, f, -EHOSTUNREACH) < 20000);
	fetch_free(f);
}

/* Linux tells the length of a listening socket's queue, and its limit, in these two. */
static void wait_until_full(int fd)
{
	for (int i = 0; i < 500; i++) {
		struct tcp_info info = { 0 };
		socklen_t len = sizeof(info);

		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
		if (info.tcpi_unacked > info.tcpi_sacked)
			return;
		rig_sleep_ms(10);
	}
	fail_msg("the queue of a listening socket did not fill");
}

/* Takes connections until its queue is full: the next one gets no answer. */
static unsigned black_hole(int fds[4])
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fds[0], (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fds[0], (struct sockaddr *)&in, &len), 0);
	assert_int_equal(listen(fds[0], 0), 0);
	for (int i = 1; i < 4; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fds[i], (struct sockaddr *)&in, sizeof(in));
	}
	wait_until_full(fds[0]);
	return ntohs(in.sin_port);
}

static void a_black_hole_fails_within_the_connect_timeout(void **state)
{
	struct fixture *x = *state;
	struct fetch_request request = { .method = "GET", .target = STR("/ok") };
	struct got *g = got_new();
	int fds[4], r;
	struct fetch *f;
	uint64_t began;
	char url[64];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", black_hole(fds));
	began = clock_mono_ms(&clock_system);
	f = rig_new_fetch(x, url, NULL, false);
	assert_int_equal(fetch_start(f, &request, &got_ops, g, NULL), 0);
	r = got_end(g);
	assert_true(r == -ETIMEDOUT || r == -EHOSTUNREACH); /* our own connection may be told first */
	assert_in_range(clock_mono_ms(&clock_system) - began, 300, 20000);
	got_free(g);
	fetch_free(f);
	for (int i = 0; i < 4; i++)
		(void)close(fds[i]);
}

static void wait_for_blocked_lookups(bool wants_some)
{
	for (int i = 0; (atomic_load(&blocked_lookups) > 0) != wants_some; i++) {
		assert_true(i < 1000);
		rig_sleep_ms(10);
	}
}

static void a_name_that_is_looked_up_for_ever_does_not_stop_the_others(void **state)
{
	static const char *const hosts[] = { "blocked.test", NULL };
	struct fixture *x = *state;
	struct fetch_request request = { .method = "GET", .target = STR("/ok") };
	struct got *blocked = got_new(), *waiting = got_new(), *cancelled = got_new();
	struct fetch *patient, *f;
	int r;

	atomic_store(&is_name_blocked, true);
	x->connect_timeout_ms = 60000;
	patient = rig_new_fetch(x, "http://blocked.test", hosts, false);
	assert_int_equal(fetch_start(patient, &request, &got_ops, waiting, &waiting->transfer), 0);
	assert_int_equal(fetch_start(patient, &request, &got_ops, cancelled, &cancelled->transfer), 0);
	wait_for_blocked_lookups(true);
	transfer_cancel(cancelled->transfer);
	assert_int_equal(got_end(cancelled), -ECANCELED);
	assert_int_equal(waiting->done_count, 0);
	x->connect_timeout_ms = 400;
	f = rig_new_fetch(x, "http://blocked.test", hosts, false);
	assert_int_equal(fetch_start(f, &request, &got_ops, blocked, &blocked->transfer), 0);
	/* within the connect timeout, though the look-up still hangs; or our own connection was quicker to say so */
	r = got_end(blocked);
	assert_true(r == -ETIMEDOUT || r == -EHOSTUNREACH);
	fetch_free(f); /* and neither does it stop the stop */
	fetch_free(patient);
	assert_int_equal(got_end(waiting), -ECANCELED);
	atomic_store(&is_name_blocked, false);
	wait_for_blocked_lookups(false); /* their own threads end */
	got_free(blocked);
	got_free(waiting);
	got_free(cancelled);
}

static void wait_until_tried(struct fetch *f)
{
	for (int i = 0; !fetch_is_tried(f); i++) {
		assert_true(i < 1000);
		rig_sleep_ms(10);
	}
}

/* A connection is made before it is counted. */
static unsigned wait_until_accepted(struct upstream *u, unsigned count)
{
	for (int i = 0; upstream_accepted(u) < count; i++) {
		assert_true(i < 1000);
		rig_sleep_ms(10);
	}
	return upstream_accepted(u);
}

static void a_hub_that_is_there_is_known_to_be_without_a_request(void **state)
{
	struct fixture *x = *state;

	wait_until_tried(x->fetch);
	assert_false(fetch_is_down(x->fetch));
	assert_int_equal(wait_until_accepted(x->hub, 1), 1);
	rig_sleep_ms(50);
	assert_int_equal(upstream_accepted(x->hub), 1); /* once */
	assert_int_equal(upstream_requests(x->hub), 0);
	(void)timed_get(x, x->fetch, 0);
}

static void a_hub_that_is_not_there_is_known_to_be_gone_at_once(void **state)
{
	struct fixture *x = *state;
	uint64_t began = clock_mono_ms(&clock_system);
	int fds[4];

	for (int is_hole = 0; is_hole < 2; is_hole++) {
		struct fetch *f;
		char url[64];

		(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u",
			       is_hole ? black_hole(fds) : upstream_dead_port());
		f = rig_new_fetch(x, url, NULL, false);
		wait_until_tried(f);
		assert_true(fetch_is_down(f));
		assert_true(fetch_down_since(f) > 0);
		expect_failure_at_once(x, f); /* nothing more is tried */
		fetch_free(f);
	}
	assert_true(clock_mono_ms(&clock_system) - began > 300); /* the hole took the connect time-out */
	for (int i = 0; i < 4; i++)
		(void)close(fds[i]);
}

static void offline_everything_fails_at_once(void **state)
{
	struct fixture *x = *state;
	unsigned accepted;
	struct fetch *f;

	wait_until_tried(x->fetch);
	accepted = wait_until_accepted(x->hub, 1);
	f = rig_new_fetch(x, upstream_url(x->hub), NULL, true);
	assert_true(fetch_is_down(f));
	assert_true(fetch_down_since(f) > 0);
	expect_failure_at_once(x, f);
	rig_sleep_ms(50);
	assert_true(fetch_is_tried(f)); /* there is nothing to be found out */
	fetch_free(f);
	assert_int_equal(upstream_accepted(x->hub), accepted);
}

static void wait_until_up(struct fetch *f)
{
	for (int i = 0; fetch_is_down(f); i++) {
		assert_true(i < 1000);
		rig_sleep_ms(10);
	}
}

/* A fetch whose Hub is at a dead port and whose breaker has opened. */
static struct fetch *new_down_fetch(struct fixture *x, unsigned *ret_port)
{
	struct fetch *f;
	char url[64];

	*ret_port = upstream_dead_port();
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", *ret_port);
	f = rig_new_fetch(x, url, NULL, false);
	wait_until_tried(f);
	assert_true(fetch_is_down(f));
	assert_true(fetch_down_since(f) > 0);
	return f;
}

static void with_an_open_breaker_nothing_is_tried(void **state)
{
	struct fixture *x = *state;
	struct upstream *hub;
	unsigned port;
	struct fetch *f;

	rig_stop_clock(); /* else it would find out in two seconds that it works now */
	f = new_down_fetch(x, &port);
	hub = upstream_new_on(port, rig_answer, x);
	expect_failure_at_once(x, f);
	assert_int_equal(upstream_accepted(hub), 0);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_UP, 0, 0, 0), 0);
	rig_go_on_clock();
	fetch_free(f);
	upstream_free(hub);
}

/* What begins elsewhere is no question to the Hub; but offline is offline. */
static void the_breaker_does_not_stop_what_begins_elsewhere(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", NULL };
	struct fixture *x = *state;
	unsigned port;
	struct fetch *down = new_down_fetch(x, &port), *offline;
	char url[128];
	struct got *g;

	(void)snprintf(url, sizeof(url), "%s/ok", upstream_url(x->other));
	g = got_begin_at(down, "/api/x", url, NULL);
	assert_int_equal(g->error, 0);
	got_free(g);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok", port);
	g = got_begin_at(down, "/api/x", url, NULL);
	assert_int_equal(g->error, -EHOSTUNREACH);
	got_free(g);
	fetch_free(down);
	offline = rig_new_fetch(x, upstream_url(x->hub), hosts, true);
	(void)snprintf(url, sizeof(url), "%s/ok", upstream_url(x->other));
	g = got_begin_at(offline, "/api/x", url, NULL);
	assert_int_equal(g->error, -EHOSTUNREACH);
	got_free(g);
	fetch_free(offline);
}

/* With everything in the store nobody else would ever ask. */
static void the_breaker_finds_out_by_itself_that_the_hub_is_back(void **state)
{
	struct fixture *x = *state;
	unsigned port;
	struct fetch *f = new_down_fetch(x, &port);
	struct upstream *hub = upstream_new_on(port, rig_answer, x);

	wait_until_up(f); /* 2 s */
	assert_int_equal(wait_until_accepted(hub, 1), 1);
	assert_int_equal(upstream_requests(hub), 0); /* it only connects: nobody's log shows it */
	assert_int_equal(fetch_down_since(f), 0);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_UP, 0, 0, 0), 1);
	(void)timed_get(x, f, 0);
	fetch_free(f);
	upstream_free(hub);
}

/* What opens it is in test_fetch_limits.c. */
static void errors_of_one_path_do_not_open_the_breaker(void **state)
{
	struct fixture *x = *state;

	for (int i = 0; i < 6; i++) {
		struct got *g = got_new();

		assert_int_equal(got_get(x, g, "/503"), 0);
		got_free(g);
	}
	rig_sleep_ms(100); /* it asked something else by then, and heard something else */
	assert_false(fetch_is_down(x->fetch));
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_REQUESTS, metric_code(503), 0, 0), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_breaker_does_not_stop_what_begins_elsewhere),
		CASE(a_refused_connection_or_a_missing_name_fails_at_once),
		CASE(a_black_hole_fails_within_the_connect_timeout),
		CASE(a_name_that_is_looked_up_for_ever_does_not_stop_the_others),
		CASE(offline_everything_fails_at_once),
		CASE(a_hub_that_is_there_is_known_to_be_without_a_request),
		CASE(a_hub_that_is_not_there_is_known_to_be_gone_at_once),
		CASE(with_an_open_breaker_nothing_is_tried),
		CASE(the_breaker_finds_out_by_itself_that_the_hub_is_back),
		CASE(errors_of_one_path_do_not_open_the_breaker),
	};

	return cmocka_run_group_tests_name("fetch_down", tests, NULL, NULL);
}
