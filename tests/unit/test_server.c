/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server - from the socket to the handler and back: framing, fields, bodies both ways, waiting.
 */
#include "fake_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* --- answers --- */

static void answers_one_request_after_the_other_on_a_connection(void **state)
{
	int fd = dial(*state);

	for (int i = 0; i < 5; i++) {
		say(fd, GET("/"));
		expect(fd, 200, "hello\n");
	}
	(void)close(fd);
}

static void answers_pipelined_requests_in_order(void **state)
{
	int fd = dial(*state);
	struct answer_text head;

	say(fd, "HEAD /blob/70000 HTTP/1.1\r\nHost: a\r\n\r\n" GET("/bytes/3") GET("/blob/70000")
			GET("/slow?ms=20") GET("/"));
	head = hear(fd, false);
	assert_true(str_eq(field(&head, "Content-Length"), STR("70000")));
	answer_done(&head);
	expect(fd, 200, NULL);
	head = hear(fd, true);
	expect_pattern(buf_str(&head.body), 70000);
	answer_done(&head);
	expect(fd, 200, "at last\n");
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

static void sets_its_own_fields(void **state)
{
	int fd = dial(*state);
	struct answer_text a;

	say(fd, "GET / HTTP/1.1\r\nHost: a\r\nX-Amzn-Trace-Id: Root=1-a;b\r\nX-Request-Id: not sane\r\n\r\n");
	a = hear(fd, true);
	assert_true(str_eq(field(&a, "Cache-Status"), STR("hfcache; hit")));
	assert_true(str_eq(field(&a, "Age"), STR("7")));
	assert_true(str_eq(field(&a, "X-Request-Id"), STR("Root=1-a;b")));
	assert_true(field(&a, "Date").ptr && !field(&a, "Server").ptr && !field(&a, "Connection").ptr);
	answer_done(&a);
	say(fd, GET("/"));
	a = hear(fd, true);
	assert_int_equal(field(&a, "X-Request-Id").len, 16);
	answer_done(&a);
	(void)close(fd);
}

static void shows_handlers_the_request_as_it_was_sent(void **state)
{
	int fd = dial(*state);
	struct answer_text a;

	say(fd, "GET /request/a%2Fb%20c?x=%26&y=1 HTTP/1.1\r\nHost: cache.lab:80\r\nAuthorization: Bearer "
		"secret\r\nX-A: 1 \r\nx-a: 2\r\n\r\n");
	a = hear(fd, true);
	assert_non_null(
		strstr(a.body.bytes,
		       "target=/request/a%2Fb%20c?x=%26&y=1\nbase=http://cache.lab:80\nclient=127.0.0.1\n"));
	assert_non_null(strstr(a.body.bytes, "token=a1b2c3\nauthorization=hidden\n"));
	assert_non_null(strstr(a.body.bytes, "field X-A: 1\nfield x-a: 2\n"));
	assert_null(strstr(a.body.bytes, "secret"));
	answer_done(&a);
	(void)close(fd);
}

static void takes_the_largest_head_it_allows(void **state)
{
	int fd = dial(*state);
	SCOPED_BUF text;

	buf_init(&text, 1 << 16);
	buf_appendf(&text, "GET /?a");
	while (text.len < 7900) /* thousands of parameters */
		buf_appendf(&text, "&a");
	buf_appendf(&text, " HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < 49; i++)
		buf_appendf(&text, "X: %060d\r\n", i);
	buf_appendf(&text, "Cookie: a=b");
	for (int i = 0; i < 49; i++)
		buf_appendf(&text, "; a=b");
	buf_appendf(&text, "\r\n\r\n");
	assert_true(text.len < 12288 && text.len > 11000);
	say(fd, text.bytes);
	expect(fd, 200, "hello\n");
	say(fd, text.bytes);
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

static void serves_http_1_0_and_closes(void **state)
{
	int fd = dial(*state);
	struct answer_text a;

	say(fd, "GET /relay/100000 HTTP/1.0\r\n\r\n");
	a = hear(fd, false);
	assert_true(a.status == 200 && !field(&a, "Transfer-Encoding").ptr);
	assert_int_equal(take(fd, &a.body, 1 << 20), 0);
	expect_pattern(buf_str(&a.body), 100000);
	answer_done(&a);
	(void)close(fd);
}

static void keeps_http_1_0_open_when_asked(void **state)
{
	int fd = dial(*state);

	say(fd, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	expect(fd, 200, "hello\n");
	say(fd, GET("/"));
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

static void sends_no_body_with_204_and_304(void **state)
{
	int fd = dial(*state);

	say(fd, GET("/status/204") GET("/status/304") GET("/"));
	for (int i = 0; i < 2; i++) {
		struct answer_text a = hear(fd, false);

		assert_int_equal(a.status, i ? 304 : 204);
		answer_done(&a);
	}
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

/* --- relays, both ways --- */

static void relays_with_and_without_a_length(void **state)
{
	int fd = dial(*state);

	say(fd, GET("/relay/200000?known=1") GET("/relay/200000") GET("/relay/0") GET("/"));
	for (int i = 0; i < 3; i++) {
		struct answer_text a = hear(fd, true);

		assert_true((field(&a, "Content-Length").ptr != NULL) == (i == 0));
		expect_pattern(buf_str(&a.body), i < 2 ? 200000 : 0);
		answer_done(&a);
	}
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

static void breaks_off_a_relay_that_failed(void **state)
{
	static const char *const requests[] = { GET("/relay/200000?known=1&fail=50000"),
						GET("/relay/200000?fail=50000") };

	for (int i = 0; i < 2; i++) {
		int fd = dial(*state);
		struct answer_text a;

		say(fd, requests[i]);
		a = hear(fd, false);
		assert_int_equal(a.status, 200);
		assert_int_equal(take(fd, &a.body, 1 << 20), 0); /* FIN */
		assert_true(a.body.len >= 50000 && a.body.len < 52000);
		assert_false(str_ends_with(buf_str(&a.body), STR("0\r\n\r\n"))); /* no last chunk */
		answer_done(&a);
		(void)close(fd);
	}
	assert_int_equal(metrics_value(((struct rig *)*state)->metrics, METRIC_HTTP_ABORTED, 1, 0, 0), 2);
}

static void collects_small_bodies(void **state)
{
	int fd = dial(*state);

	say(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhallo"
		"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
		"chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
		"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" GET("/"));
	expect(fd, 200, "hallo");
	expect(fd, 200, "abc");
	expect(fd, 200, "");
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

static void asks_for_an_expected_body(void **state)
{
	int fd = dial(*state);
	struct answer_text a;

	say(fd, "PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	a = hear(fd, false);
	assert_int_equal(a.status, 100);
	answer_done(&a);
	say(fd, "ok");
	expect(fd, 200, "ok");
	(void)close(fd);
}

static void streams_a_body_through_a_slow_relay(void **state)
{
	int fd = dial(*state);

	say(fd, "PUT /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n");
	assert_true(say_zeros(fd, 600000));
	expect(fd, 200, "600000\n");
	say(fd, "PUT /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n");
	assert_true(say_zeros(fd, 200000));
	say(fd, "\r\n0\r\n\r\n" GET("/"));
	expect(fd, 200, "200000\n");
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

static void goes_on_when_upstream_takes_no_more_of_a_body(void **state)
{
	int fd = dial(*state);

	say(fd, "PUT /stream?fail=100000 HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
	assert_true(say_zeros(fd, 900000));
	expect(fd, 200, NULL);
	say(fd, GET("/"));
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

/* --- waiting --- */

static void lets_others_go_on_while_handlers_wait(void **state)
{
	int slow[20], fd = dial(*state);
	uint64_t began = now_ms();

	for (int i = 0; i < 20; i++) {
		slow[i] = dial(*state);
		say(slow[i], GET("/slow?ms=600"));
	}
	for (int i = 0; i < 50; i++) {
		say(fd, GET("/"));
		expect(fd, 200, "hello\n");
	}
	assert_true(now_ms() - began < 550);
	for (int i = 0; i < 20; i++) {
		expect(slow[i], 200, "at last\n");
		(void)close(slow[i]);
	}
	assert_true(now_ms() - began < 5000);
	(void)close(fd);
}

static void burns_no_time_while_it_waits(void **state)
{
	struct timespec before, after;
	int slow = dial(*state), idle = dial(*state);

	say(slow, GET("/slow?ms=700"));
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	expect(slow, 200, "at last\n");
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 < 200);
	(void)close(slow);
	(void)close(idle);
}

static void survives_wakes_at_every_moment(void **state)
{
	for (int round = 0; round < 60; round++) {
		int fds[4];

		for (int i = 0; i < 4; i++) {
			fds[i] = dial(*state);
			say(fds[i], i % 2 ? GET("/slow?ms=0") GET("/slow?ms=1")
					  : GET("/grow/30000?step=1000&ms=0") GET("/"));
		}
		for (int i = 0; i < 4; i++) {
			expect(fds[i], 200, NULL);
			expect(fds[i], 200, NULL);
			(void)close(fds[i]);
		}
	}
}

static void frees_what_a_vanished_client_held(void **state)
{
	for (int i = 0; i < 8; i++) {
		int fd = dial(*state);

		say(fd, i % 2 ? GET("/grow/90000000?step=1000000&ms=1") : GET("/relay/90000000"));
		assert_int_equal(recv(fd, &(char){ 0 }, 1, MSG_PEEK), 1);
		(void)close(fd); /* with unread bytes: an RST */
	}
	wait_for_live(0);
	assert_int_equal(metrics_value(((struct rig *)*state)->metrics, METRIC_HTTP_ABORTED, 0, 0, 0), 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STARTED(answers_one_request_after_the_other_on_a_connection),
		STARTED(answers_pipelined_requests_in_order),
		STARTED(sets_its_own_fields),
		STARTED(shows_handlers_the_request_as_it_was_sent),
		STARTED(takes_the_largest_head_it_allows),
		STARTED(serves_http_1_0_and_closes),
		STARTED(keeps_http_1_0_open_when_asked),
		STARTED(sends_no_body_with_204_and_304),
		STARTED(relays_with_and_without_a_length),
		STARTED(breaks_off_a_relay_that_failed),
		STARTED(collects_small_bodies),
		STARTED(asks_for_an_expected_body),
		STARTED(streams_a_body_through_a_slow_relay),
		STARTED(goes_on_when_upstream_takes_no_more_of_a_body),
		STARTED(lets_others_go_on_while_handlers_wait),
		STARTED(burns_no_time_while_it_waits),
		STARTED(survives_wakes_at_every_moment),
		STARTED(frees_what_a_vanished_client_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
