/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the promises of ask against a scripted server: one call for all who ask the same, an end within the
 * deadline, one retry where that is safe, learn exactly once and before anybody is woken.
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

#include "ask/ask.h"
#include "common/alloc.h"
#include "common/clock.h"
#include "metrics/metrics.h"
#include "upstream.h"

struct fixture {
	struct upstream *hub, *other;
	struct fetch *fetch;
	struct work *work;
	struct metrics *metrics;
	struct asks *asks;
	atomic_bool gate;     /* "/gated" answers when it is open */
	atomic_uint failures; /* so many times "/flaky" fails */
	pthread_mutex_t mutex;
	/* of the last request; guarded by mutex */
	char last_method[16];
	struct buf last_body;
	char last_authorization[64];
};

static void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&t, NULL);
}

/* --- the server's script -------------------------------------------------------------------------------- */

static bool fails_again(struct fixture *x)
{
	unsigned left = atomic_load(&x->failures);

	if (left)
		atomic_store(&x->failures, left - 1);
	return left;
}

static void answer_flaky(struct fixture *x, struct upstream_call *c)
{
	if (!fails_again(x)) {
		upstream_reply(c, 200, "", "better now");
	} else if (strcmp(c->target, "/flaky/cut") == 0) {
		(void)upstream_say(c,
				   "HTTP/1.1 200 OK\r\nX-Attempt: first\r\nContent-Length: 100\r\n\r\nhalf");
		c->close = true;
	} else if (strcmp(c->target, "/flaky/404") == 0) {
		upstream_reply(c, 404, "", "no");
	} else if (strcmp(c->target, "/flaky/busy") == 0) {
		upstream_reply(c, 503, "Retry-After: 60\r\n", "come back in a minute");
	} else {
		upstream_reply(c, 500, "X-Attempt: first\r\n", "oops, this is a longer body");
	}
}

static void answer_renamed(struct fixture *x, struct upstream_call *c)
{
	char fields[256];

	if (strcmp(c->target, "/renamed/elsewhere") == 0)
		(void)snprintf(fields, sizeof(fields), "Location: %s/new\r\n", upstream_url(x->other));
	else if (strcmp(c->target, "/renamed/loop") == 0)
		(void)snprintf(fields, sizeof(fields), "Location: /renamed/loop\r\n");
	else
		(void)snprintf(fields, sizeof(fields), "Location: /new?a=%%2F\r\nX-Repo-Commit: abc\r\n");
	upstream_reply(c, 307, fields, "moved");
}

static void remember(struct fixture *x, struct upstream_call *c)
{
	pthread_mutex_lock(&x->mutex);
	memcpy(x->last_method, c->method, sizeof(x->last_method));
	(void)snprintf(x->last_authorization, sizeof(x->last_authorization), "%s",
		       upstream_field(c, "Authorization"));
	if (strcmp(c->method, "POST") == 0) {
		buf_reset(&x->last_body);
		if (!upstream_read_body(c, &x->last_body))
			c->close = true;
	}
	pthread_mutex_unlock(&x->mutex);
}

static void answer(void *ctx, struct upstream_call *c)
{
	struct fixture *x = ctx;

	remember(x, c);
	if (strcmp(c->target, "/gated") == 0) {
		while (!atomic_load(&x->gate) && !c->close)
			upstream_sleep(c, 5);
		upstream_reply(c, 200, "X-Repo-Commit: abc\r\n", "hello");
	} else if (strncmp(c->target, "/flaky/", 7) == 0)
		answer_flaky(x, c);
	else if (strncmp(c->target, "/renamed/", 9) == 0)
		answer_renamed(x, c);
	else if (strcmp(c->target, "/silent") == 0)
		upstream_sleep(c, 20000);
	else if (strcmp(c->target, "/gzip") == 0)
		upstream_reply(c, 200, "Content-Encoding: gzip\r\n", "xx");
	else if (strcmp(c->target, "/identity") == 0)
		upstream_reply(c, 200, "Content-Encoding: identity\r\n", "xx");
	else
		upstream_reply(c, 200, "X-Answer: yes\r\n", c->target);
}

/* --- fixture -------------------------------------------------------------------------------------------- */

static int set_up(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));
	struct fetch_opts fetch_opts = { .connect_timeout_ms = 10000, .clock = &clock_system };
	struct asks_opts asks_opts = { .clock = &clock_system };

	pthread_mutex_init(&x->mutex, NULL);
	buf_init(&x->last_body, 65536);
	x->metrics = metrics_new();
	x->hub = upstream_new(answer, x);
	x->other = upstream_new(answer, x);
	fetch_opts.hub_url = upstream_url(x->hub);
	fetch_opts.metrics = x->metrics;
	assert_int_equal(fetch_new(&fetch_opts, &x->fetch), 0);
	x->work = work_new(2, "learn");
	asks_opts.fetch = x->fetch;
	asks_opts.work = x->work;
	asks_opts.metrics = x->metrics;
	x->asks = asks_new(&asks_opts);
	*state = x;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *x = *state;

	asks_free(x->asks);
	fetch_free(x->fetch);
	work_free(x->work);
	upstream_free(x->hub);
	upstream_free(x->other);
	metrics_free(x->metrics);
	buf_done(&x->last_body);
	pthread_mutex_destroy(&x->mutex);
	free(x);
	return 0;
}

struct listener {
	struct waiter waiter;
	atomic_uint wakes;
};

static void on_wake(struct waiter *w)
{
	struct listener *l = LIST_ENTRY(w, struct listener, waiter);

	atomic_fetch_add(&l->wakes, 1);
}

static const struct answer *wait_for(struct ask *k)
{
	struct listener l = { 0 };

	waiter_init(&l.waiter, on_wake);
	if (ask_wait(k, &l.waiter))
		for (unsigned i = 0; !atomic_load(&l.wakes); i++) {
			assert_true(i < 20000);
			sleep_ms(1);
		}
	waiter_cancel(&l.waiter);
	assert_true(ask_is_done(k));
	return ask_answer(k);
}

static struct ask *ask(struct fixture *x, const char *method, const char *target)
{
	struct question q = { .method = method,
			      .target = str_from(target),
			      .follow = FETCH_FOLLOW_SAME_ORIGIN };

	return ask_start(x->asks, str_from(target), &q);
}

/* --- answers -------------------------------------------------------------------------------------------- */

static void gives_the_answer(void **state)
{
	struct fixture *x = *state;
	int64_t before = clock_wall_s(&clock_system);
	SCOPED(ask_unref) struct ask *k = ask(x, "GET", "/api/models/a?b=%2F");
	const struct answer *a = wait_for(k);

	assert_int_equal(a->error, 0);
	assert_int_equal(a->status, 200);
	assert_int_equal(a->first_status, 200);
	assert_int_equal(a->content_length, 19);
	assert_true(str_eq(buf_str(&a->body), STR("/api/models/a?b=%2F")));
	assert_true(str_eq(headers_get(&a->first, STR("X-Answer")), STR("yes")));
	assert_true(str_eq(headers_get(&a->last, STR("X-Answer")), STR("yes")));
	assert_in_range(a->asked_at, before, before + 5);
	assert_true(str_eq(ask_key(k), STR("/api/models/a?b=%2F")));
}

static void a_head_question_has_a_length_and_no_body(void **state)
{
	struct fixture *x = *state;
	SCOPED(ask_unref) struct ask *k = ask(x, "HEAD", "/12345");
	const struct answer *a = wait_for(k);

	assert_int_equal(a->error, 0);
	assert_int_equal(a->content_length, 6);
	assert_int_equal(a->body.len, 0);
}

static void keeps_the_fields_of_the_first_and_the_last_hop(void **state)
{
	struct fixture *x = *state;
	SCOPED(ask_unref) struct ask *k = ask(x, "GET", "/renamed/x");
	const struct answer *a = wait_for(k);

	assert_int_equal(a->error, 0);
	assert_int_equal(a->first_status, 307);
	assert_true(str_eq(headers_get(&a->first, STR("X-Repo-Commit")), STR("abc")));
	assert_int_equal(a->status, 200);
	assert_null(headers_get(&a->last, STR("X-Repo-Commit")).ptr);
	assert_true(str_eq(buf_str(&a->body), STR("/new?a=%2F")));
}

static void the_token_is_sent(void **state)
{
	struct fixture *x = *state;
	struct secret *token = secret_new(STR("Bearer hf_x"));
	struct question q = { .method = "GET", .target = STR("/t"), .token = token };
	SCOPED(ask_unref) struct ask *k = ask_start(x->asks, STR("t"), &q);

	secret_unref(token);
	assert_int_equal(wait_for(k)->error, 0);
	assert_string_equal(x->last_authorization, "Bearer hf_x");
}

static void a_coded_body_is_no_answer(void **state)
{
	struct fixture *x = *state;
	SCOPED(ask_unref) struct ask *coded = ask(x, "GET", "/gzip");
	SCOPED(ask_unref) struct ask *plain = ask(x, "GET", "/identity");

	assert_int_equal(wait_for(coded)->error, -EPROTO);
	assert_int_equal(wait_for(plain)->error, 0);
}

static void a_body_over_the_limit_is_no_answer(void **state)
{
	struct fixture *x = *state;
	struct question q = { .method = "GET", .target = STR("/12345"), .answer_bytes_max = 5 };
	SCOPED(ask_unref) struct ask *k = ask_start(x->asks, STR("k"), &q);

	assert_int_equal(wait_for(k)->error, -E2BIG);
}

/* --- bodies --------------------------------------------------------------------------------------------- */

static struct ask *post(struct fixture *x, const char *target, struct str body, enum fetch_follow follow)
{
	struct question q = { .method = "POST", .target = str_from(target), .body = body, .follow = follow };

	return ask_start(x->asks, str_from(target), &q);
}

static void a_body_is_copied_and_sent(void **state)
{
	struct fixture *x = *state;
	char body[] = "{\"paths\":[\"a\"]}";
	SCOPED(ask_unref) struct ask *k = post(x, "/p", str_from(body), FETCH_FOLLOW_NONE);

	memset(body, 'x', sizeof(body) - 1);
	assert_int_equal(wait_for(k)->error, 0);
	assert_string_equal(x->last_method, "POST");
	assert_string_equal(x->last_body.bytes, "{\"paths\":[\"a\"]}");
}

static void a_body_follows_a_repo_to_its_new_name_but_not_elsewhere(void **state)
{
	struct fixture *x = *state;
	SCOPED(ask_unref) struct ask *renamed = post(x, "/renamed/x", STR("body"), FETCH_FOLLOW_SAME_ORIGIN);
	SCOPED(ask_unref) struct ask *loop = post(x, "/renamed/loop", STR("body"), FETCH_FOLLOW_SAME_ORIGIN);
	const struct answer *a = wait_for(renamed);

	assert_int_equal(a->error, 0);
	assert_int_equal(a->status, 200);
	assert_true(str_eq(buf_str(&a->body), STR("/new?a=%2F")));
	assert_int_equal(wait_for(loop)->status, 307);
	assert_string_equal(x->last_body.bytes, "body");
	assert_int_equal(upstream_requests(x->hub), 2 + 6);

	SCOPED(ask_unref)
	struct ask *elsewhere = post(x, "/renamed/elsewhere", STR("body"), FETCH_FOLLOW_ALLOWED);
	SCOPED(ask_unref) struct ask *unasked = post(x, "/renamed/y", STR("body"), FETCH_FOLLOW_NONE);

	assert_int_equal(wait_for(elsewhere)->status, 307);
	assert_int_equal(wait_for(unasked)->status, 307);
	assert_int_equal(upstream_requests(x->other), 0);
}

/* --- joining -------------------------------------------------------------------------------------------- */

struct lesson {
	atomic_uint learned, freed, wakes_before;
	struct listener *listener;
	int result;
	int error; /* that learn saw */
};

static int learn(void *ctx, const struct answer *answer)
{
	struct lesson *l = ctx;

	atomic_fetch_add(&l->learned, 1);
	l->error = answer->error;
	sleep_ms(30);
	if (l->listener)
		atomic_store(&l->wakes_before, atomic_load(&l->listener->wakes));
	return l->result;
}

static void free_lesson(void *ctx)
{
	struct lesson *l = ctx;

	atomic_fetch_add(&l->freed, 1);
}

static struct ask *ask_to_learn(struct fixture *x, const char *target, struct lesson *l)
{
	struct question q = { .method = "GET",
			      .target = str_from(target),
			      .learn = learn,
			      .learn_ctx = l,
			      .free_ctx = free_lesson };

	return ask_start(x->asks, STR("key"), &q);
}

static void those_who_ask_the_same_share_one_call_and_one_lesson(void **state)
{
	struct fixture *x = *state;
	struct lesson first = { .result = 42 }, joined = { 0 };
	struct ask *asks[50];

	asks[0] = ask_to_learn(x, "/gated", &first);
	for (int i = 1; i < 50; i++)
		asks[i] = ask_to_learn(x, "/gated", &joined);
	assert_int_equal(atomic_load(&joined.freed), 49);
	atomic_store(&x->gate, true);
	for (int i = 0; i < 50; i++) {
		assert_ptr_equal(asks[i], asks[0]);
		assert_int_equal(wait_for(asks[i])->learned, 42);
	}
	assert_int_equal(upstream_requests(x->hub), 1);
	assert_int_equal(atomic_load(&first.learned), 1);
	assert_int_equal(atomic_load(&first.freed), 1);
	assert_int_equal(atomic_load(&joined.learned), 0);
	for (int i = 0; i < 50; i++)
		ask_unref(asks[i]);
}

static void other_keys_and_later_questions_are_other_calls(void **state)
{
	struct fixture *x = *state;
	struct question q = { .method = "GET", .target = STR("/same") };
	SCOPED(ask_unref) struct ask *a = ask_start(x->asks, STR("subject 1"), &q);
	SCOPED(ask_unref) struct ask *b = ask_start(x->asks, STR("subject 2"), &q);

	(void)wait_for(a);
	(void)wait_for(b);
	assert_int_equal(upstream_requests(x->hub), 2);

	SCOPED(ask_unref) struct ask *again = ask_start(x->asks, STR("subject 1"), &q);

	(void)wait_for(again);
	assert_int_equal(upstream_requests(x->hub), 3);
}

static void waiters_are_woken_once_after_the_lesson(void **state)
{
	struct fixture *x = *state;
	struct listener early = { 0 }, cancelled = { 0 }, late = { 0 };
	struct lesson lesson = { .listener = &early };
	SCOPED(ask_unref) struct ask *k = ask_to_learn(x, "/gated", &lesson);

	waiter_init(&early.waiter, on_wake);
	waiter_init(&cancelled.waiter, on_wake);
	waiter_init(&late.waiter, on_wake);
	assert_true(ask_wait(k, &early.waiter));
	assert_true(ask_wait(k, &cancelled.waiter));
	waiter_cancel(&cancelled.waiter);
	assert_false(ask_is_done(k));
	atomic_store(&x->gate, true);
	(void)wait_for(k);
	waiter_cancel(&early.waiter);
	assert_int_equal(atomic_load(&early.wakes), 1);
	assert_int_equal(atomic_load(&lesson.wakes_before), 0);
	assert_int_equal(atomic_load(&cancelled.wakes), 0);
	assert_false(ask_wait(k, &late.waiter));
	assert_int_equal(atomic_load(&late.wakes), 0);
}

static void learns_also_from_failures(void **state)
{
	struct fixture *x = *state;
	struct lesson lesson = { .result = -5 };
	SCOPED(ask_unref) struct ask *k = ask_to_learn(x, "/gzip", &lesson);

	assert_int_equal(wait_for(k)->learned, -5);
	assert_int_equal(lesson.error, -EPROTO);
	assert_int_equal(atomic_load(&lesson.freed), 1);
}

/* --- retry and deadline --------------------------------------------------------------------------------- */

static void tries_once_more_after_a_break_or_a_500(void **state)
{
	static const char *const targets[] = { "/flaky/500", "/flaky/cut" };
	struct fixture *x = *state;

	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&x->failures, 1);
		SCOPED(ask_unref) struct ask *k = ask(x, "GET", targets[i]);
		const struct answer *a = wait_for(k);

		assert_int_equal(a->error, 0);
		assert_int_equal(a->status, 200);
		assert_true(str_eq(buf_str(&a->body),
				   STR("better now"))); /* nothing is left of the first answer */
		assert_null(headers_get(&a->first, STR("X-Attempt")).ptr);
	}
	assert_int_equal(upstream_requests(x->hub), 4);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_RETRIES, 0, 0, 0), 2);
}

static void tries_no_third_time(void **state)
{
	struct fixture *x = *state;

	atomic_store(&x->failures, 9);
	SCOPED(ask_unref) struct ask *status = ask(x, "GET", "/flaky/500");

	assert_int_equal(wait_for(status)->status, 500);
	assert_int_equal(upstream_requests(x->hub), 2);
	SCOPED(ask_unref) struct ask *cut = ask(x, "GET", "/flaky/cut");

	assert_int_equal(wait_for(cut)->error, -ECONNRESET);
	assert_int_equal(upstream_requests(x->hub), 4);
}

static void tries_once_only_where_again_would_be_wrong(void **state)
{
	struct fixture *x = *state;

	atomic_store(&x->failures, 9);
	SCOPED(ask_unref) struct ask *missing = ask(x, "GET", "/flaky/404");
	SCOPED(ask_unref) struct ask *busy = ask(x, "GET", "/flaky/busy");
	SCOPED(ask_unref) struct ask *write = post(x, "/flaky/500", STR("x"), FETCH_FOLLOW_NONE);
	SCOPED(ask_unref) struct ask *cut_write = post(x, "/flaky/cut", STR("x"), FETCH_FOLLOW_NONE);

	assert_int_equal(wait_for(missing)->status, 404);
	assert_int_equal(wait_for(busy)->status, 503);
	assert_int_equal(wait_for(write)->status, 500);
	assert_int_equal(wait_for(cut_write)->error, -ECONNRESET);
	assert_int_equal(upstream_requests(x->hub), 4);
}

static void ends_at_its_deadline_also_when_upstream_is_silent(void **state)
{
	struct fixture *x = *state;
	struct question q = { .method = "HEAD", .target = STR("/silent"), .deadline_ms = 300 };
	uint64_t began = clock_mono_ms(&clock_system);
	SCOPED(ask_unref) struct ask *k = ask_start(x->asks, STR("k"), &q);

	assert_int_equal(wait_for(k)->error, -ETIMEDOUT);
	assert_in_range(clock_mono_ms(&clock_system) - began, 290, 10000); /* upstream's silence is longer */
}

static void has_no_second_try_without_time(void **state)
{
	struct fixture *x = *state;
	struct question q = { .method = "GET", .target = STR("/flaky/500"), .deadline_ms = 400 };

	atomic_store(&x->failures, 1);
	SCOPED(ask_unref) struct ask *k = ask_start(x->asks, STR("k"), &q);

	assert_int_equal(wait_for(k)->status, 500);
	assert_int_equal(upstream_requests(x->hub), 1);
}

/* --- the end -------------------------------------------------------------------------------------------- */

static void the_end_does_not_wait_for_upstream(void **state)
{
	struct fixture *x = *state;
	struct asks_opts opts = {
		.fetch = x->fetch, .work = x->work, .metrics = x->metrics, .clock = &clock_system
	};
	struct asks *asks = asks_new(&opts);
	struct lesson lesson = { 0 };
	struct question q = { .method = "GET",
			      .target = STR("/silent"),
			      .learn = learn,
			      .learn_ctx = &lesson,
			      .free_ctx = free_lesson };
	SCOPED(ask_unref) struct ask *k = ask_start(asks, STR("k"), &q);
	uint64_t began = clock_mono_ms(&clock_system);

	asks_free(asks);
	assert_true(clock_mono_ms(&clock_system) - began < 2000);
	assert_true(ask_is_done(k));
	assert_int_equal(ask_answer(k)->error, -ECANCELED);
	assert_int_equal(atomic_load(&lesson.learned), 1);
}

struct asker {
	pthread_t thread;
	struct fixture *x;
	unsigned number;
	atomic_uint *failed;
};

static void *run_asker(void *p)
{
	struct asker *me = p;
	static const char *const targets[] = { "/a", "/b", "/renamed/x", "/flaky/500", "/gzip", "/c" };

	for (unsigned i = 0; i < 60; i++) {
		const char *target = targets[(i + me->number) % 6];
		SCOPED(ask_unref) struct ask *k = ask(me->x, "GET", target);
		struct listener l = { 0 };

		waiter_init(&l.waiter, on_wake);
		if (i % 4 == 0) { /* gives up waiting at once */
			(void)ask_wait(k, &l.waiter);
			waiter_cancel(&l.waiter);
			continue;
		}
		if (wait_for(k)->error != (strcmp(target, "/gzip") == 0 ? -EPROTO : 0))
			atomic_fetch_add(me->failed, 1);
	}
	return NULL;
}

static void many_threads_may_ask(void **state)
{
	struct fixture *x = *state;
	struct asker askers[8];
	atomic_uint failed = 0;

	for (unsigned i = 0; i < 8; i++) {
		askers[i] = (struct asker){ .x = x, .number = i, .failed = &failed };
		assert_int_equal(pthread_create(&askers[i].thread, NULL, run_asker, &askers[i]), 0);
	}
	for (unsigned i = 0; i < 8; i++)
		pthread_join(askers[i].thread, NULL);
	assert_int_equal(atomic_load(&failed), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(gives_the_answer),
		CASE(a_head_question_has_a_length_and_no_body),
		CASE(keeps_the_fields_of_the_first_and_the_last_hop),
		CASE(the_token_is_sent),
		CASE(a_coded_body_is_no_answer),
		CASE(a_body_over_the_limit_is_no_answer),
		CASE(a_body_is_copied_and_sent),
		CASE(a_body_follows_a_repo_to_its_new_name_but_not_elsewhere),
		CASE(those_who_ask_the_same_share_one_call_and_one_lesson),
		CASE(other_keys_and_later_questions_are_other_calls),
		CASE(waiters_are_woken_once_after_the_lesson),
		CASE(learns_also_from_failures),
		CASE(tries_once_more_after_a_break_or_a_500),
		CASE(tries_no_third_time),
		CASE(tries_once_only_where_again_would_be_wrong),
		CASE(ends_at_its_deadline_also_when_upstream_is_silent),
		CASE(has_no_second_try_without_time),
		CASE(the_end_does_not_wait_for_upstream),
		CASE(many_threads_may_ask),
	};
	return cmocka_run_group_tests_name("ask", tests, NULL, NULL);
}
