/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves when upstream is left alone: after a 429, when it says that nothing is left, and when it answers with errors
 * or silence only; that a crawling body is given up; and that the viewer is an upstream of its own. Against a scripted
 * server, with a clock that can be moved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "fetch/fetch.h"
#include "metrics/metrics.h"
#include "upstream.h"

static _Atomic uint64_t passed_ms;

static uint64_t test_mono_ms(void *ctx)
{
	return clock_mono_ms(&clock_system) + atomic_load(&passed_ms);
}

static int64_t test_wall_s(void *ctx)
{
	return clock_wall_s(&clock_system) + (int64_t)(atomic_load(&passed_ms) / 1000);
}

static const struct clock test_clock = { .mono_ms = test_mono_ms, .wall_s = test_wall_s };

static void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&t, NULL);
}

struct fixture {
	struct upstream *hub, *viewer;
	struct fetch *fetch;
	struct metrics *metrics;
	struct secret *token;
	atomic_int status; /* of every answer, when it is not 0 */
	_Atomic(const char *) fields;
	atomic_bool is_silent, is_one_silent;
	atomic_uint questions; /* that the daemon asks by itself */
	atomic_bool viewer_saw_token;
};

/* --- the server's script --------------------------------------------------------------------------------- */

static void crawl(struct upstream_call *c, unsigned length)
{
	if (!upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", length))
		return;
	for (unsigned i = 0; i < 400 && upstream_say(c, "%0100d", 0); i++)
		upstream_sleep(c, 10);
	c->close = true;
}

static void answer_hub(void *ctx, struct upstream_call *c)
{
	struct fixture *x = ctx;
	const char *fields = atomic_load(&x->fields);
	int status = atomic_load(&x->status);

	if (strcmp(c->target, "/api/whoami-v2") == 0)
		atomic_fetch_add(&x->questions, 1);
	if (atomic_load(&x->is_silent) || strcmp(c->target, "/api/slow") == 0) {
		for (unsigned i = 0;
		     i < 1000 && (atomic_load(&x->is_silent) || atomic_load(&x->is_one_silent)); i++)
			upstream_sleep(c, 10);
		c->close = true;
	} else if (strcmp(c->target, "/crawl/long") == 0)
		crawl(c, 64 << 20);
	else if (strcmp(c->target, "/crawl/short") == 0)
		crawl(c, 40000);
	else if (strcmp(c->target, "/to/resolve") == 0)
		upstream_reply(c, 302, "Location: /a/b/resolve/main/f\r\n", "");
	else if (strcmp(c->target, "/broken") == 0)
		upstream_reply(c, 503, "", "later");
	else
		upstream_reply(c, status ? status : 200, fields ? fields : "", "hello");
}

static void answer_viewer(void *ctx, struct upstream_call *c)
{
	struct fixture *x = ctx;

	atomic_store(&x->viewer_saw_token, strcmp(upstream_field(c, "Authorization"), "Bearer one") == 0);
	if (strcmp(c->target, "/to/hub") == 0) {
		char fields[128];

		(void)snprintf(fields, sizeof(fields), "Location: %s/ok\r\n", upstream_url(x->hub));
		upstream_reply(c, 302, fields, "");
	} else if (strcmp(c->target, "/500") == 0)
		upstream_reply(c, 500, "", "this dataset is broken");
	else
		upstream_reply(c, 200, "", "viewer");
}

/* --- asking ---------------------------------------------------------------------------------------------- */

struct got {
	pthread_mutex_t mutex;
	pthread_cond_t ended;
	struct transfer *transfer;
	bool is_done;
	int error, status;
	size_t bytes;
};

static int on_head(void *ctx, const struct fetch_head *head)
{
	struct got *g = ctx;

	g->status = head->status;
	return 0;
}

static ssize_t on_body(void *ctx, const void *bytes, size_t len)
{
	struct got *g = ctx;

	pthread_mutex_lock(&g->mutex);
	g->bytes += len;
	pthread_mutex_unlock(&g->mutex);
	return 0;
}

static void on_done(void *ctx, int error)
{
	struct got *g = ctx;

	pthread_mutex_lock(&g->mutex);
	g->error = error;
	g->is_done = true;
	pthread_cond_signal(&g->ended);
	pthread_mutex_unlock(&g->mutex);
}

static const struct fetch_ops ops = { .on_head = on_head, .on_body = on_body, .on_done = on_done };

static void begin(struct fixture *x, struct got *g, const struct fetch_request *request)
{
	*g = (struct got){ .error = 1 };
	pthread_mutex_init(&g->mutex, NULL);
	pthread_cond_init(&g->ended, NULL);
	assert_int_equal(fetch_start(x->fetch, request, &ops, g, &g->transfer), 0);
}

static int end(struct got *g)
{
	struct timespec until;
	int r = 0;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&g->mutex);
	while (!g->is_done && r == 0)
		r = pthread_cond_timedwait(&g->ended, &g->mutex, &until);
	pthread_mutex_unlock(&g->mutex);
	assert_int_equal(r, 0);
	g->transfer = transfer_unref(g->transfer);
	pthread_cond_destroy(&g->ended);
	pthread_mutex_destroy(&g->mutex);
	return g->error;
}

/* The status, or -errno. */
static int ask_as(struct fixture *x, const char *target, struct secret *token, bool is_background)
{
	struct fetch_request request = { .method = "GET",
					 .target = str_from(target),
					 .token = token,
					 .follow = FETCH_FOLLOW_ALLOWED,
					 .is_background = is_background };
	struct got g;

	begin(x, &g, &request);
	return end(&g) < 0 ? g.error : g.status;
}

static int ask(struct fixture *x, const char *target)
{
	return ask_as(x, target, NULL, false);
}

static void on_noticed(void *ctx)
{
	atomic_store((atomic_bool *)ctx, true);
}

/* Until the fetch thread has seen the new time: it reads the clock once in a turn, and may be in the middle of one. */
static void pass(struct fixture *x, unsigned ms)
{
	atomic_bool has_noticed = false;

	atomic_fetch_add(&passed_ms, ms);
	fetch_call(x->fetch, 0, on_noticed, &has_noticed);
	while (!atomic_load(&has_noticed))
		sleep_ms(1);
}

#define FILE_TARGET "/acme/pub/resolve/main/f"

static int set_up(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));
	struct fetch_opts opts = { .connect_timeout_ms = 5000, .clock = &test_clock };

	x->metrics = opts.metrics = metrics_new();
	x->hub = upstream_new(answer_hub, x);
	x->viewer = upstream_new(answer_viewer, x);
	x->token = secret_new(STR("Bearer one"));
	opts.hub_url = upstream_url(x->hub);
	opts.viewer_url = upstream_url(x->viewer);
	assert_int_equal(fetch_new(&opts, &x->fetch), 0);
	*state = x;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *x = *state;

	atomic_store(&x->is_silent, false);
	atomic_store(&x->is_one_silent, false);
	fetch_free(x->fetch);
	upstream_free(x->hub);
	upstream_free(x->viewer);
	(void)secret_unref(x->token);
	metrics_free(x->metrics);
	free(x);
	return 0;
}

/* --- rate limits ----------------------------------------------------------------------------------------- */

static void after_a_429_nothing_is_sent_until_the_time_is_over(void **state)
{
	struct fixture *x = *state;
	uint64_t began = test_mono_ms(NULL);
	unsigned asked;

	atomic_store(&x->status, 429);
	atomic_store(&x->fields, "RateLimit: \"resolvers\";r=0;t=30\r\n");
	assert_int_equal(ask(x, FILE_TARGET), 429);
	atomic_store(&x->status, 0);
	atomic_store(&x->fields, NULL);
	asked = upstream_requests(x->hub);
	for (int i = 0; i < 5; i++)
		assert_int_equal(ask(x, FILE_TARGET), -EBUSY);
	assert_int_equal(upstream_requests(x->hub), asked);
	assert_in_range(fetch_busy_ms(x->fetch, FETCH_HUB, STR(FILE_TARGET), NULL) + test_mono_ms(NULL) -
				began,
			30000, 33000 + test_mono_ms(NULL) - began);
	/* other buckets, and those who have a token, are not concerned */
	assert_int_equal(ask(x, "/api/models/acme/pub"), 200);
	assert_int_equal(ask_as(x, FILE_TARGET, x->token, false), 200);
	assert_int_equal(fetch_busy_ms(x->fetch, FETCH_HUB, STR(FILE_TARGET), x->token), 0);
	pass(x, 34000);
	assert_int_equal(ask(x, FILE_TARGET), 200);
	assert_int_equal(fetch_busy_ms(x->fetch, FETCH_HUB, STR(FILE_TARGET), NULL), 0);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_RATE_LIMITED, 0, 0, 0), 1);
	assert_false(fetch_is_down(x->fetch));
}

static void when_nothing_is_left_nothing_is_sent(void **state)
{
	struct fixture *x = *state;
	struct fetch_limit limits[RATE_BUCKET_COUNT];
	uint64_t began = test_mono_ms(NULL);

	atomic_store(
		&x->fields,
		"RateLimit: \"api\";r=0;t=9\r\nRateLimit-Policy: \"fixed window\";\"api\";q=500;w=300\r\n");
	assert_int_equal(ask(x, "/api/x"), 200);
	assert_int_equal(ask(x, "/api/x"), -EBUSY);
	fetch_limits(x->fetch, limits);
	assert_int_equal(limits[RATE_API].left, 0);
	assert_int_equal(limits[RATE_API].quota, 500);
	assert_int_equal(limits[RATE_API].closed_count, 1);
	assert_in_range(limits[RATE_API].closed_ms + test_mono_ms(NULL) - began, 9000,
			10000 + test_mono_ms(NULL) - began);
	assert_int_equal(limits[RATE_PAGES].left, -1);
	assert_int_equal(limits[RATE_PAGES].closed_count, 0);
	pass(x, 11000); /* the wait has some jitter on top */
	assert_int_equal(ask(x, "/api/x"), 200);
}

/* While it is out, the others are told to come again in a second. */
static void after_a_429_one_goes_alone(void **state)
{
	struct fixture *x = *state;
	struct fetch_request request = { .method = "GET", .target = STR(FILE_TARGET) };
	struct got alone;

	atomic_store(&x->status, 429);
	assert_int_equal(ask(x, FILE_TARGET), 429);
	atomic_store(&x->status, 0);
	atomic_store(&x->is_silent, true);
	pass(x, 1200);
	begin(x, &alone, &request); /* and before what comes next: mail keeps its order */
	assert_int_equal(ask(x, FILE_TARGET), -EBUSY);
	assert_int_equal(fetch_busy_ms(x->fetch, FETCH_HUB, request.target, NULL), 1000);
	atomic_store(&x->is_silent, false);
	transfer_cancel(alone.transfer); /* it ends without an answer */
	assert_int_equal(end(&alone), -ECANCELED);
	assert_int_equal(ask(x, FILE_TARGET), 200);
}

static void a_redirect_into_a_closed_bucket_is_not_followed(void **state)
{
	struct fixture *x = *state;

	atomic_store(&x->status, 429);
	atomic_store(&x->fields, "Retry-After: 60\r\n");
	assert_int_equal(ask(x, FILE_TARGET), 429);
	assert_int_equal(ask(x, "/to/resolve"), -EBUSY);
	pass(x, 70000);
}

static void background_work_waits_when_little_is_left(void **state)
{
	struct fixture *x = *state;

	atomic_store(
		&x->fields,
		"RateLimit: \"api\";r=49;t=9\r\nRateLimit-Policy: \"fixed window\";\"api\";q=500;w=300\r\n");
	assert_int_equal(ask(x, "/api/x"), 200);
	assert_int_equal(ask_as(x, "/api/x", NULL, true), -EBUSY);
	assert_int_equal(ask(x, "/api/x"), 200);
}

/* --- errors and silence ---------------------------------------------------------------------------------- */

static void wait_until_down(struct fixture *x, bool is_down)
{
	for (int i = 0; fetch_is_down(x->fetch) != is_down; i++) {
		assert_true(i < 1500);
		sleep_ms(10);
	}
}

static void wait_for_questions(struct fixture *x, unsigned count)
{
	for (int i = 0; atomic_load(&x->questions) < count; i++) {
		assert_true(i < 1500);
		sleep_ms(10);
	}
}

/* Until they are with upstream: a jump in time now is silence, not a connection that was not made. */
static void wait_for_requests(struct fixture *x, unsigned count)
{
	for (int i = 0; upstream_requests(x->hub) < count; i++) {
		assert_true(i < 1500);
		sleep_ms(10);
	}
	pass(x, 0);
}

static void errors_of_everything_open_the_breaker_and_a_good_answer_closes_it(void **state)
{
	struct fixture *x = *state;
	unsigned asked;

	atomic_store(&x->status, 502);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(x, "/api/x"), 502);
	wait_until_down(x, true);
	asked = upstream_requests(x->hub);
	for (int i = 0; i < 5; i++)
		assert_int_equal(ask(x, "/api/x"), -EHOSTUNREACH);
	assert_int_equal(upstream_requests(x->hub), asked);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_UP, 0, 0, 0), 0);
	pass(x, 2100);
	for (int i = 0; atomic_load(&x->questions) < 2; i++) {
		assert_int_equal(ask(x, "/api/x"), -EHOSTUNREACH); /* it asks again, in vain */
		assert_true(i < 500);
		sleep_ms(10);
	}
	sleep_ms(100);
	assert_true(fetch_is_down(x->fetch));
	assert_int_equal(upstream_requests(x->hub), asked + 1);
	atomic_store(&x->status, 401); /* that is an answer */
	pass(x, 4100);
	(void)ask(x, "/api/x");
	wait_until_down(x, false);
	assert_int_equal(ask(x, "/api/x"), 401);
}

static void who_finds_a_path_that_fails_cannot_take_the_hub_away(void **state)
{
	struct fixture *x = *state;
	uint64_t began = test_mono_ms(NULL);

	for (int i = 0; i < 20; i++)
		assert_int_equal(ask(x, "/broken"), 503);
	wait_for_questions(x, 1);
	sleep_ms(100);
	assert_false(fetch_is_down(x->fetch));
	assert_in_range(atomic_load(&x->questions), 1, 1 + (test_mono_ms(NULL) - began) / 2000);
}

/* E09: within 9 s in all, whatever the patience of each. */
static void whoever_waits_for_a_silent_hub_is_told_together(void **state)
{
	struct fixture *x = *state;
	struct fetch_request read = { .method = "GET", .target = STR("/api/x") };
	struct fetch_request write = { .method = "POST",
				       .target = STR("/api/x"),
				       .first_byte_timeout_ms = 60000 };
	struct got first, second, writing;

	atomic_store(&x->is_silent, true);
	begin(x, &first, &read);
	begin(x, &second, &read);
	begin(x, &writing, &write);
	wait_for_requests(x, 3);
	pass(x, 4000); /* doubts */
	wait_for_questions(x, 1);
	assert_false(fetch_is_down(x->fetch));
	pass(x, 4000); /* no answer to our own question either */
	wait_until_down(x, true);
	assert_int_equal(end(&first), -ETIMEDOUT);
	assert_int_equal(end(&second), -ETIMEDOUT);
	assert_int_equal(ask(x, "/api/x"), -EHOSTUNREACH);
	assert_false(writing.is_done); /* it may have been carried out: only its own limit ends it */
	atomic_store(&x->is_silent, false);
	(void)end(&writing);
}

static void one_slow_answer_is_waited_for(void **state)
{
	struct fixture *x = *state;
	struct fetch_request read = { .method = "GET", .target = STR("/api/slow") };
	struct got slow;

	atomic_store(&x->is_one_silent, true);
	begin(x, &slow, &read);
	wait_for_requests(x, 1);
	pass(x, 4000);
	wait_for_questions(x, 1);
	for (int i = 0; metrics_value(x->metrics, METRIC_UPSTREAM_REQUESTS, metric_code(200), 0, 0) == 0;
	     i++) {
		assert_true(i < 1500);
		sleep_ms(10);
	}
	pass(x, 0); /* its answer has been heard */
	pass(x, 8000);
	sleep_ms(200);
	assert_false(slow.is_done);
	atomic_store(&x->is_one_silent, false);
	assert_int_equal(end(&slow), -ECONNRESET);
	assert_false(fetch_is_down(x->fetch));
}

/* --- pace ------------------------------------------------------------------------------------------------ */

static void wait_for_more(struct got *g)
{
	size_t before = SIZE_MAX;
	bool has_more = false;

	for (int i = 0; !has_more; i++) {
		assert_true(i < 1500);
		pthread_mutex_lock(&g->mutex);
		if (before == SIZE_MAX)
			before = g->bytes;
		has_more = g->is_done || g->bytes > before;
		pthread_mutex_unlock(&g->mutex);
		sleep_ms(10);
	}
}

static int get_at_pace(struct fixture *x, const char *target, uint64_t min_bytes_per_s)
{
	struct fetch_request request = { .method = "GET",
					 .target = str_from(target),
					 .min_bytes_per_s = min_bytes_per_s };
	struct got g;

	begin(x, &g, &request);
	for (int i = 0; i < 4; i++) {
		wait_for_more(&g); /* else this would be silence */
		pass(x, 15000);
	}
	return end(&g);
}

static void a_crawling_body_is_given_up(void **state)
{
	assert_int_equal(get_at_pace(*state, "/crawl/long", 10240), -ETIMEDOUT);
}

static void what_is_nearly_there_may_crawl(void **state)
{
	assert_int_equal(get_at_pace(*state, "/crawl/short", 10240), 0);
}

static void without_a_limit_any_pace_will_do(void **state)
{
	assert_int_equal(get_at_pace(*state, "/crawl/long", 0), -ECONNRESET); /* the server's end */
}

/* --- the viewer ------------------------------------------------------------------------------------------ */

static int ask_viewer(struct fixture *x, const char *target, enum fetch_follow follow)
{
	struct fetch_request request = { .method = "GET",
					 .origin = FETCH_VIEWER,
					 .target = str_from(target),
					 .token = x->token,
					 .follow = follow };
	struct got g;

	begin(x, &g, &request);
	return end(&g) < 0 ? g.error : g.status;
}

static void the_viewer_is_asked_with_the_token(void **state)
{
	struct fixture *x = *state;

	assert_true(fetch_has_origin(x->fetch, FETCH_VIEWER));
	assert_int_equal(ask_viewer(x, "/info?dataset=a", FETCH_FOLLOW_NONE), 200);
	assert_true(atomic_load(&x->viewer_saw_token));
	assert_int_equal(upstream_requests(x->hub), 0);
	/* its own errors say nothing about the Hub, nor about itself */
	for (int i = 0; i < 5; i++)
		assert_int_equal(ask_viewer(x, "/500", FETCH_FOLLOW_NONE), 500);
	sleep_ms(50);
	assert_false(fetch_is_down(x->fetch));
	assert_false(fetch_origin_is_down(x->fetch, FETCH_VIEWER));
	assert_int_equal(atomic_load(&x->questions), 0);
	assert_int_equal(ask_viewer(x, "/to/hub", FETCH_FOLLOW_SAME_ORIGIN), 302);
}

static void a_dead_viewer_takes_nothing_else_down(void **state)
{
	struct fixture *x = *state;

	upstream_free(x->viewer);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask_viewer(x, "/info", FETCH_FOLLOW_NONE), -EHOSTUNREACH);
	assert_true(fetch_origin_is_down(x->fetch, FETCH_VIEWER));
	assert_false(fetch_is_down(x->fetch));
	assert_int_equal(ask(x, "/ok"), 200);
	x->viewer = upstream_new(answer_viewer, x);
}

static void without_a_viewer_there_is_an_error_of_its_own(void **state)
{
	struct fixture *x = *state;
	struct fetch_opts opts = { .hub_url = upstream_url(x->hub),
				   .metrics = x->metrics,
				   .clock = &test_clock };

	fetch_free(x->fetch);
	assert_int_equal(fetch_new(&opts, &x->fetch), 0);
	assert_false(fetch_has_origin(x->fetch, FETCH_VIEWER));
	assert_int_equal(ask_viewer(x, "/info", FETCH_FOLLOW_NONE), -EDESTADDRREQ);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(after_a_429_nothing_is_sent_until_the_time_is_over),
		CASE(when_nothing_is_left_nothing_is_sent),
		CASE(after_a_429_one_goes_alone),
		CASE(a_redirect_into_a_closed_bucket_is_not_followed),
		CASE(background_work_waits_when_little_is_left),
		CASE(errors_of_everything_open_the_breaker_and_a_good_answer_closes_it),
		CASE(who_finds_a_path_that_fails_cannot_take_the_hub_away),
		CASE(whoever_waits_for_a_silent_hub_is_told_together),
		CASE(one_slow_answer_is_waited_for),
		CASE(a_crawling_body_is_given_up),
		CASE(what_is_nearly_there_may_crawl),
		CASE(without_a_limit_any_pace_will_do),
		CASE(the_viewer_is_asked_with_the_token),
		CASE(a_dead_viewer_takes_nothing_else_down),
		CASE(without_a_viewer_there_is_an_error_of_its_own),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("fetch_limits", tests, NULL, NULL);
}
