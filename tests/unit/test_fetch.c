/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what fetch sends, and what it makes of answers: targets and fields as they are, nothing decoded, a body that is
 * cut or is no HTTP is an error, and so is one over the limit.
 */
#include "fetch_rig.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"

/* --- what goes out -------------------------------------------------------------------------------------- */

static void gets_a_body_with_its_head(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(got_get(x, g, "/ok"), 0);
	assert_int_equal(g->status, 200);
	assert_int_equal(g->content_length, 5);
	assert_true(g->is_hub_origin);
	assert_int_equal(g->heads, 1);
	assert_string_equal(g->body.bytes, "hello");
	assert_true(str_eq(headers_get(&g->headers, STR("x-answer")), STR("yes")));
	assert_int_equal(g->done_count, 1);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_REQUESTS, metric_code(200), 0, 0), 1);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_RECEIVED, 0, 0, 0), 5);
	got_free(g);
}

static void a_head_request_has_no_body(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_start(x, got_new(), "HEAD", "/ok", FETCH_FOLLOW_NONE);

	assert_int_equal(got_end(g), 0);
	assert_int_equal(g->content_length, 5);
	assert_int_equal(g->body_calls, 0);
	assert_string_equal(x->seen.method, "HEAD");
	got_free(g);
}

static void sends_the_target_byte_for_byte(void **state)
{
	static const char *const targets[] = {
		"/a/../b//c/./d%2f%2F%2e?",
		"/a?",
		"/%zz?&&a=b%20+c;d='\"<>`{}|^",
		"/\xc3\xa4/\xff?q=\xc3\xa4",
		"//double/start",
		"/?",
	};
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct got *g = got_new();

		assert_int_equal(got_get(x, g, targets[i]), 0);
		assert_string_equal(x->seen.target, targets[i]);
		got_free(g);
	}
}

static void refuses_targets_and_methods_that_would_break_the_request(void **state)
{
	static const struct str targets[] = { STR("/a b"), STR("/a\r\nX: y"), STR("/a\0b"),       STR(""),
					      STR("a"),    STR("/a#b"),       STR("http://evil/") };
	struct fixture *x = *state;
	struct got *bad = got_start(x, got_new(), "GET / HTTP/1.1\r\nX:", "/ok", FETCH_FOLLOW_NONE);

	assert_int_equal(got_end(bad), -EINVAL);
	got_free(bad);
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct fetch_request request = { .method = "GET", .target = targets[i] };
		struct got *g = got_new();

		assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, NULL), 0);
		assert_int_equal(got_end(g), -EINVAL);
		got_free(g);
	}
	assert_int_equal(upstream_requests(x->hub), 0);
}

static void sets_its_own_fields_and_passes_the_rest(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();
	struct headers h;
	struct fetch_request request = { .method = "GET", .target = STR("/ok"), .headers = &h };

	headers_init(&h);
	(void)headers_add(&h, STR("Host"), STR("evil.example"));
	(void)headers_add(&h, STR("Authorization"), STR("Bearer smuggled"));
	(void)headers_add(&h, STR("Accept-Encoding"), STR("gzip, br"));
	(void)headers_add(&h, STR("Connection"), STR("close, X-Hop"));
	(void)headers_add(&h, STR("X-Hop"), STR("1"));
	(void)headers_add(&h, STR("Cookie"), STR("a=b"));
	(void)headers_add(&h, STR("X-Custom"), STR("kept"));
	(void)headers_add(&h, STR("X-Empty"), STR(""));
	(void)headers_add(&h, STR("Range"), STR("bytes=0-1"));
	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, &g->transfer), 0);
	headers_done(&h);
	assert_int_equal(got_end(g), 0);
	assert_string_equal(rig_seen(x, "Authorization"), "");
	assert_string_equal(rig_seen(x, "Accept-Encoding"), "identity");
	assert_string_equal(rig_seen(x, "X-Hop"), "");
	assert_string_equal(rig_seen(x, "Connection"), "");
	assert_string_equal(rig_seen(x, "Cookie"), "");
	assert_string_equal(rig_seen(x, "X-Custom"), "kept");
	assert_non_null(strstr(x->seen.head, "X-Empty:"));
	assert_string_equal(rig_seen(x, "Range"), "bytes=0-1");
	assert_string_equal(rig_seen(x, "User-Agent"), "hfcached/test");
	assert_non_null(strstr(upstream_url(x->hub), rig_seen(x, "Host")));
	got_free(g);
}

static void proxies_of_the_environment_are_not_used(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();
	char proxy[64];

	(void)snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", upstream_dead_port());
	(void)setenv("http_proxy", proxy, 1);
	(void)setenv("all_proxy", proxy, 1);
	assert_int_equal(got_get(x, g, "/ok"), 0);
	(void)unsetenv("http_proxy");
	(void)unsetenv("all_proxy");
	got_free(g);
}

/* --- what comes in -------------------------------------------------------------------------------------- */

static void a_body_that_is_cut_is_an_error(void **state)
{
	static const char *const targets[] = { "/broken/short",     "/broken/chunk", "/broken/no-last-chunk",
					       "/broken/bad-chunk", "/broken/reset", "/broken/head",
					       "/broken/nothing" };
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct got *g = got_new();
		int error = got_get(x, g, targets[i]);

		if (error != -ECONNRESET)
			fail_msg("%s: %s", targets[i], log_errno_name(error));
		got_free(g);
	}
	assert_false(fetch_is_down(x->fetch)); /* it did answer */
}

static void what_is_no_http_is_an_error(void **state)
{
	static const char *const targets[] = { "/broken/09",        "/broken/two-lengths",
					       "/broken/control",   "/broken/folded",
					       "/broken/fields",    "/broken/long-field",
					       "/broken/long-head", "/broken/interims" };
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct got *g = got_new();
		int error = got_get(x, g, targets[i]);

		if (error != -EPROTO)
			fail_msg("%s: %s", targets[i], log_errno_name(error));
		assert_int_equal(g->body.len, 0);
		got_free(g);
	}
}

static void interim_answers_and_trailers_are_ignored(void **state)
{
	struct fixture *x = *state;
	struct got *interim = got_new(), *chunked = got_new();

	assert_int_equal(got_get(x, interim, "/interim"), 0);
	assert_int_equal(interim->heads, 1);
	assert_null(headers_get(&interim->headers, STR("Link")).ptr);
	assert_int_equal(got_get(x, chunked, "/chunked"), 0);
	assert_string_equal(chunked->body.bytes, "hello");
	assert_int_equal(chunked->content_length, -1);
	assert_null(headers_get(&chunked->headers, STR("T")).ptr);
	got_free(interim);
	got_free(chunked);
}

static void bodies_are_never_decoded(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(got_get(x, g, "/gzip"), 0);
	assert_string_equal(g->body.bytes, "not really gzip");
	assert_true(str_eq(headers_get(&g->headers, STR("Content-Encoding")), STR("gzip")));
	got_free(g);
}

static int get_limited(struct fixture *x, const char *target, uint64_t bytes_max)
{
	struct got *g = got_new();
	struct fetch_request request = { .method = "GET",
					 .target = str_from(target),
					 .body_bytes_max = bytes_max };
	int error;

	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, NULL), 0);
	error = got_end(g);
	assert_true(g->body.len <= bytes_max);
	got_free(g);
	return error;
}

static void a_body_over_the_limit_is_an_error(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(get_limited(x, "/ok", 4), -E2BIG);
	assert_int_equal(get_limited(x, "/ok", 5), 0);
	assert_int_equal(get_limited(x, "/chunked", 4), -E2BIG);
	assert_int_equal(get_limited(x, "/chunked", 5), 0);
}

static void an_error_of_an_op_ends_it_with_that_error(void **state)
{
	struct fixture *x = *state;
	struct got *head = got_new(), *body = got_new();

	head->head_error = -EBADMSG;
	assert_int_equal(got_get(x, head, "/ok"), -EBADMSG);
	assert_int_equal(head->body_calls, 0);
	body->body_error = -ENOSPC;
	assert_int_equal(got_get(x, body, "/big"), -ENOSPC);
	assert_int_equal(body->body_calls, 1);
	got_free(head);
	got_free(body);
}

static void everything_comes_also_with_pauses(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	g->pause_each = 7;
	got_start(x, g, "GET", "/big", FETCH_FOLLOW_NONE);
	for (unsigned resumed = 0;; resumed++) {
		bool is_done;

		pthread_mutex_lock(&g->mutex);
		while (!g->done_count && g->paused <= resumed)
			pthread_cond_wait(&g->changed, &g->mutex);
		is_done = g->done_count;
		pthread_mutex_unlock(&g->mutex);
		if (is_done)
			break;
		transfer_resume(g->transfer);
	}
	assert_int_equal(got_end(g), 0);
	assert_true(g->paused > 10);
	assert_true(rig_is_big(&g->body));
	got_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(gets_a_body_with_its_head),
		CASE(a_head_request_has_no_body),
		CASE(sends_the_target_byte_for_byte),
		CASE(refuses_targets_and_methods_that_would_break_the_request),
		CASE(sets_its_own_fields_and_passes_the_rest),
		CASE(proxies_of_the_environment_are_not_used),
		CASE(a_body_that_is_cut_is_an_error),
		CASE(what_is_no_http_is_an_error),
		CASE(interim_answers_and_trailers_are_ignored),
		CASE(bodies_are_never_decoded),
		CASE(a_body_over_the_limit_is_an_error),
		CASE(an_error_of_an_op_ends_it_with_that_error),
		CASE(everything_comes_also_with_pauses),
	};

	return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
