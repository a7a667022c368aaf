/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server - from the socket to the handler and back: framing, waiting, bodies both ways, refusals, deadlines, limits, drain.
 * The router is the fake one; each test speaks HTTP over bare sockets to a server of its own.
 */
#include "fake_router.h"

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* --- a server and clients --- */

struct rig {
	struct router *router;
	struct metrics *metrics;
	struct server *server;
	struct server_opts opts;
	const char *listen[2];
};

static struct rig *rig_new(void)
{
	struct rig *rig = xcalloc(1, sizeof(*rig));

	log_set_level(LOG_LEVEL_ERROR);
	rig->router = fake_router_new();
	rig->metrics = metrics_new();
	rig->listen[0] = "127.0.0.1:0";
	rig->opts = (struct server_opts){ .listen = rig->listen, .threads = 2, .router = rig->router, .metrics = rig->metrics,
					  .clock = &clock_system };
	return rig;
}

static void rig_start(struct rig *rig)
{
	char *reason = NULL;

	if (server_start(&rig->opts, &rig->server, &reason) < 0)
		fail_msg("%s", reason);
}

static int set_up(void **state)
{
	*state = rig_new();
	return 0;
}

static int start(void **state)
{
	*state = rig_new();
	rig_start(*state);
	return 0;
}

static int stop(void **state)
{
	struct rig *rig = *state;

	server_free(rig->server);
	assert_int_equal(fake_router_live(), 0);
	metrics_free(rig->metrics);
	fake_router_free(rig->router);
	free(rig);
	return 0;
}

static int try_dial(const struct rig *rig)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval patience = { .tv_sec = 20 };
	struct str host, port;
	uint64_t number = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)str_cut(str_from(server_address(rig->server)), ':', &host, &port);
	(void)parse_u64(port, &number);
	a.sin_port = htons((uint16_t)number);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

static int dial(const struct rig *rig)
{
	int fd = try_dial(rig);

	assert_true(fd >= 0);
	return fd;
}

static void say(int fd, const char *text)
{
	size_t len = strlen(text);

	for (size_t at = 0; at < len;) {
		ssize_t n = send(fd, text + at, len - at, MSG_NOSIGNAL);

		assert_true(n > 0);
		at += (size_t)n;
	}
}

/* Reads up to max bytes, byte-wise where it matters not to take what follows. Returns what recv returned last. */
static ssize_t take(int fd, struct buf *out, size_t max)
{
	char piece[65536];
	ssize_t n = 1;

	while (max > 0 && (n = recv(fd, piece, max < sizeof(piece) ? max : sizeof(piece), 0)) > 0) {
		assert_int_equal(buf_append(out, piece, (size_t)n), 0);
		max -= (size_t)n;
	}
	return n;
}

struct answer_text {
	int status;
	struct buf head, body;
};

static struct str field(const struct answer_text *a, const char *name)
{
	struct str line, rest = buf_str(&a->head), key, value;

	while (rest.len > 0) {
		(void)str_cut(rest, '\n', &line, &rest);
		if (str_cut(line, ':', &key, &value) && str_eq_nocase(key, str_from(name)))
			return (struct str){ value.ptr + 1, value.len - 2 };
	}
	return (struct str){ NULL, 0 };
}

static void answer_done(struct answer_text *a)
{
	buf_done(&a->head);
	buf_done(&a->body);
}

static void read_chunks(int fd, struct buf *out)
{
	for (;;) {
		char size[32] = "", end[2];
		unsigned n = 0;
		uint64_t bytes = 0;

		while (n < sizeof(size) - 1 && recv(fd, &size[n], 1, MSG_WAITALL) == 1 && size[n] != '\n')
			n++;
		for (unsigned i = 0; i + 1 < n; i++)
			bytes = bytes * 16 + (uint64_t)(size[i] <= '9' ? size[i] - '0' : (size[i] | 32) - 'a' + 10);
		(void)take(fd, out, bytes);
		assert_int_equal(recv(fd, end, 2, MSG_WAITALL), 2);
		if (bytes == 0)
			return;
	}
}

/* One answer, and nothing behind it. Status 0: the connection ended without one. */
static struct answer_text hear(int fd, bool has_body)
{
	struct answer_text a = { .status = 0 };
	uint64_t length = 0;
	char byte;

	buf_init(&a.head, 1 << 16);
	buf_init(&a.body, 64 << 20);
	while (recv(fd, &byte, 1, 0) == 1) {
		assert_int_equal(buf_append_char(&a.head, byte), 0);
		if (str_ends_with(buf_str(&a.head), STR("\r\n\r\n")))
			break;
	}
	if (a.head.len < 12)
		return a;
	a.status = (a.head.bytes[9] - '0') * 100 + (a.head.bytes[10] - '0') * 10 + a.head.bytes[11] - '0';
	if (has_body && parse_u64(field(&a, "Content-Length"), &length) == 0)
		(void)take(fd, &a.body, length);
	else if (has_body && field(&a, "Transfer-Encoding").ptr)
		read_chunks(fd, &a.body);
	return a;
}

static bool is_over(int fd)
{
	char byte;

	return recv(fd, &byte, 1, 0) == 0; /* -1 would be an RST */
}

static void expect(int fd, int status, const char *body)
{
	struct answer_text a = hear(fd, true);

	assert_int_equal(a.status, status);
	if (body)
		assert_string_equal(a.body.bytes ? a.body.bytes : "", body);
	answer_done(&a);
}

static void expect_pattern(struct str body, size_t len)
{
	assert_int_equal(body.len, len);
	for (size_t i = 0; i < len; i++)
		assert_true((unsigned char)body.ptr[i] == fake_byte(i));
}

static uint64_t now_ms(void)
{
	return clock_mono_ms(&clock_system);
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"

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

	say(fd, "HEAD /blob/70000 HTTP/1.1\r\nHost: a\r\n\r\n" GET("/bytes/3") GET("/blob/70000") GET("/slow?ms=20") GET("/"));
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

	say(fd, "GET /request/a%2Fb%20c?x=%26&y=1 HTTP/1.1\r\nHost: cache.lab:80\r\nAuthorization: Bearer secret\r\nX-A: 1 \r\nx-a: 2\r\n\r\n");
	a = hear(fd, true);
	assert_non_null(strstr(a.body.bytes, "target=/request/a%2Fb%20c?x=%26&y=1\nbase=http://cache.lab:80\nclient=127.0.0.1\n"));
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
	for (int i = 0; i < 98; i++)
		buf_appendf(&text, "X: %030d\r\n", i);
	buf_appendf(&text, "Cookie: a=b; c=d\r\n\r\n");
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
	static const char *const requests[] = { GET("/relay/200000?known=1&fail=50000"), GET("/relay/200000?fail=50000") };

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
		"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
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

static void say_zeros(int fd, size_t count)
{
	static const char zeros[65536];

	for (size_t n; count > 0; count -= n) {
		n = count < sizeof(zeros) ? count : sizeof(zeros);
		if (send(fd, zeros, n, MSG_NOSIGNAL) != (ssize_t)n)
			return; /* it may hang up */
	}
}

static void streams_a_body_through_a_slow_relay(void **state)
{
	int fd = dial(*state);

	say(fd, "PUT /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n");
	say_zeros(fd, 600000);
	expect(fd, 200, "600000\n");
	say(fd, "PUT /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n");
	say_zeros(fd, 200000);
	say(fd, "\r\n0\r\n\r\n" GET("/"));
	expect(fd, 200, "200000\n");
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

static void goes_on_when_upstream_takes_no_more_of_a_body(void **state)
{
	int fd = dial(*state);

	say(fd, "PUT /stream?fail=100000 HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
	say_zeros(fd, 900000);
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
			say(fds[i], i % 2 ? GET("/slow?ms=0") GET("/slow?ms=1") : GET("/grow/30000?step=1000&ms=0") GET("/"));
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
	uint64_t began = now_ms();

	for (int i = 0; i < 8; i++) {
		int fd = dial(*state);

		say(fd, i % 2 ? GET("/grow/90000000?step=1000000&ms=1") : GET("/relay/90000000"));
		(void)usleep(20000);
		(void)close(fd); /* with unread bytes: an RST */
	}
	while (fake_router_live() > 0 && now_ms() - began < 5000)
		(void)usleep(1000);
	assert_int_equal(fake_router_live(), 0);
	assert_int_equal(metrics_value(((struct rig *)*state)->metrics, METRIC_HTTP_ABORTED, 0, 0, 0), 8);
}

/* --- refusals --- */

static void answers_the_good_before_it_closes_on_the_bad(void **state)
{
	int fd = dial(*state);
	struct answer_text a;

	say(fd, GET("/slow?ms=50") GET("/") "GET / HTTP/9.9\r\n\r\n" GET("/"));
	expect(fd, 200, "at last\n");
	a = hear(fd, true);
	assert_int_equal(a.status, 200);
	assert_true(str_eq(field(&a, "Connection"), STR("close")));
	answer_done(&a);
	assert_true(is_over(fd));
	(void)close(fd);
	assert_int_equal(metrics_value(((struct rig *)*state)->metrics, METRIC_HTTP_REJECTED, 0, 0, 0), 1);
}

static void refuses_a_bad_head_in_words(void **state)
{
	int fd = dial(*state);
	struct answer_text a;

	say(fd, GET("/"));
	expect(fd, 200, NULL);
	say(fd, "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n");
	a = hear(fd, true);
	assert_int_equal(a.status, 400);
	assert_string_equal(a.body.bytes, "A header line is malformed.\n");
	assert_true(str_eq(field(&a, "Connection"), STR("close")));
	answer_done(&a);
	assert_true(is_over(fd));
	(void)close(fd);
}

static void refuses_bad_chunks_in_the_middle_of_a_body(void **state)
{
	int fd = dial(*state);

	say(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	(void)usleep(50000);
	say(fd, "zz\r\n" GET("/"));
	expect(fd, 400, NULL);
	assert_true(is_over(fd));
	(void)close(fd);
}

static void tells_a_client_that_is_still_sending_why_it_is_refused(void **state)
{
	static const char *const targets[] = { "/nobody", "/echo" };

	for (int i = 0; i < 2; i++) {
		int fd = dial(*state);
		char text[128];

		(void)snprintf(text, sizeof(text), "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n", targets[i]);
		say(fd, text);
		say_zeros(fd, 3000000); /* an RST on the way would eat the answer */
		expect(fd, i ? 413 : 400, NULL);
		assert_true(is_over(fd));
		(void)close(fd);
	}
}

static void refuses_a_malformed_authorization(void **state)
{
	int fd = dial(*state);

	say(fd, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Digest x\r\n\r\n");
	expect(fd, 400, NULL);
	assert_true(is_over(fd));
	(void)close(fd);
}

static void gives_no_answer_when_the_handler_aborts(void **state)
{
	int fd = dial(*state);

	say(fd, GET("/abort"));
	assert_true(is_over(fd));
	(void)close(fd);
}

static void serves_only_the_hosts_it_was_given(void **state)
{
	static const char *const hosts[] = { "other.lab", NULL };
	static const struct {
		const char *host;
		int status;
	} cases[] = { { "cache.lab:8443", 200 }, { "CACHE.LAB", 200 }, { "other.lab:1", 200 }, { "evil.lab", 421 }, { "cache.lab.evil", 421 } };
	struct rig *rig = *state;

	rig->opts.public_url = "https://cache.lab:8443/";
	rig->opts.hosts = hosts;
	rig_start(rig);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = dial(rig);
		char text[128];

		(void)snprintf(text, sizeof(text), "GET /request HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", cases[i].host);
		say(fd, text);
		{
			struct answer_text a = hear(fd, true);

			assert_int_equal(a.status, cases[i].status);
			assert_true((strstr(a.body.bytes, "base=https://cache.lab:8443\n") != NULL) == (a.status == 200));
			answer_done(&a);
		}
		(void)close(fd);
	}
}

/* --- deadlines and limits --- */

static void ends_a_head_that_takes_too_long(void **state)
{
	struct rig *rig = *state;
	uint64_t began = now_ms();
	int fd, healthy;

	rig->opts.head_timeout_ms = 1500;
	rig_start(rig);
	fd = dial(rig);
	healthy = dial(rig);
	say(fd, GET("/"));
	expect(fd, 200, NULL);
	say(fd, "GET / HTTP/1.1\r\n");
	for (int i = 0; i < 100; i++) { /* a byte now and then does not help */
		if (send(fd, "X", 1, MSG_NOSIGNAL) != 1 || recv(fd, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
			break;
		(void)usleep(50000);
	}
	expect(fd, 408, NULL);
	assert_true(is_over(fd));
	assert_true(now_ms() - began >= 1400 && now_ms() - began < 3500);
	say(healthy, GET("/"));
	expect(healthy, 200, NULL);
	(void)close(fd);
	(void)close(healthy);
}

static void does_not_count_the_wait_for_an_earlier_answer_as_a_slow_head(void **state)
{
	struct rig *rig = *state;
	int fd;

	rig->opts.head_timeout_ms = 500;
	rig_start(rig);
	fd = dial(rig);
	say(fd, GET("/slow?ms=2500") "GET / HT");
	expect(fd, 200, "at last\n");
	say(fd, "TP/1.1\r\nHost: a\r\n\r\n");
	expect(fd, 200, "hello\n");
	(void)close(fd);
}

static void closes_idle_connections(void **state)
{
	struct rig *rig = *state;
	uint64_t began = now_ms();
	int fd;

	rig->opts.idle_timeout_ms = 1000;
	rig_start(rig);
	fd = dial(rig);
	say(fd, GET("/"));
	expect(fd, 200, NULL);
	assert_true(is_over(fd));
	assert_true(now_ms() - began >= 900 && now_ms() - began < 4000);
	(void)close(fd);
}

static void tells_clients_over_the_limit(void **state)
{
	struct rig *rig = *state;
	int fds[8], fd;

	rig->opts.connections_max = 8;
	rig_start(rig);
	for (int i = 0; i < 8; i++) {
		fds[i] = dial(rig);
		say(fds[i], GET("/"));
		expect(fds[i], 200, NULL);
	}
	fd = dial(rig);
	say(fd, GET("/"));
	expect(fd, 503, NULL);
	assert_true(is_over(fd));
	(void)close(fd);
	for (int i = 0; i < 8; i++)
		(void)close(fds[i]);
	(void)usleep(200000);
	fd = dial(rig);
	say(fd, GET("/"));
	expect(fd, 200, NULL);
	(void)close(fd);
	assert_int_equal(metrics_value(rig->metrics, METRIC_HTTP_REJECTED, 2, 0, 0), 1);
}

static int highest_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)close(fd);
	return fd;
}

static uint64_t cpu_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void does_not_spin_without_descriptors(void **state)
{
	struct rig *rig = *state;
	struct rlimit old, few;
	uint64_t began;
	int clients[6], first, last;

	rig_start(rig);
	first = dial(rig);
	say(first, GET("/"));
	expect(first, 200, NULL);
	for (int i = 0; i < 6; i++)
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){ (rlim_t)highest_fd(), old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	{
		struct sockaddr_in a;
		socklen_t len = sizeof(a);

		assert_int_equal(getpeername(first, (struct sockaddr *)&a, &len), 0);
		for (int i = 0; i < 6; i++)
			assert_int_equal(connect(clients[i], (struct sockaddr *)&a, len), 0);
	}
	began = cpu_ms();
	(void)usleep(1000000);
	assert_true(cpu_ms() - began < 50); /* 5 % */
	say(first, GET("/"));
	expect(first, 200, "hello\n"); /* who is connected is served */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	for (int i = 0; i < 6; i++)
		(void)close(clients[i]);
	(void)usleep(300000);
	last = dial(rig);
	say(last, GET("/"));
	expect(last, 200, "hello\n");
	(void)close(first);
	(void)close(last);
}

/* --- drain and stop --- */

static void *drain(void *arg)
{
	struct rig *rig = arg;

	assert_int_equal(server_drain(rig->server, 5000), 0);
	return NULL;
}

static void drains_without_cutting_an_answer(void **state)
{
	struct rig *rig = *state;
	int slow = dial(rig), idle = dial(rig), growing = dial(rig);
	pthread_t thread;
	struct answer_text a;

	say(idle, GET("/"));
	expect(idle, 200, NULL);
	say(slow, GET("/slow?ms=500"));
	say(growing, GET("/grow/300000?step=10000&ms=10"));
	(void)usleep(50000);
	assert_int_equal(pthread_create(&thread, NULL, drain, rig), 0);
	assert_true(is_over(idle));
	assert_int_equal(try_dial(rig), -1);
	a = hear(slow, true);
	assert_true(a.status == 200 && str_eq(field(&a, "Connection"), STR("close")));
	answer_done(&a);
	a = hear(growing, true);
	expect_pattern(buf_str(&a.body), 300000);
	answer_done(&a);
	/* it was queued before the drain, so nothing told this client: it is closed when idle */
	assert_true(is_over(growing));
	(void)pthread_join(thread, NULL);
	(void)close(slow);
	(void)close(idle);
	(void)close(growing);
}

static void cuts_what_is_left_after_the_drain(void **state)
{
	struct rig *rig = *state;
	int fd = dial(rig), relay = dial(rig);
	uint64_t began = now_ms();

	say(fd, GET("/slow?ms=1500"));
	say(relay, GET("/relay/90000000"));
	(void)usleep(50000);
	assert_int_equal(server_drain(rig->server, 100), 2);
	server_free(TAKE_PTR(rig->server));
	assert_true(now_ms() - began < 4000);
	(void)close(fd);
	(void)close(relay);
}

static void says_that_its_loops_turn(void **state)
{
	struct rig *rig = *state;

	assert_null(server_loops_alive(rig->server));
	(void)usleep(1200000);
	assert_null(server_loops_alive(rig->server));
}

static int64_t wall(void *ctx)
{
	return 0;
}

static uint64_t jumping_ms(void *ctx)
{
	return atomic_load((_Atomic uint64_t *)ctx);
}

static void says_that_a_loop_is_stuck(void **state)
{
	struct rig *rig = *state;
	_Atomic uint64_t now = 1000;
	struct clock clock = { jumping_ms, wall, &now };

	rig->opts.clock = &clock;
	rig_start(rig);
	(void)usleep(50000);
	atomic_store(&now, 100000); /* the loops sleep for a second yet */
	assert_non_null(server_loops_alive(rig->server));
	server_free(TAKE_PTR(rig->server));
}

/* --- addresses --- */

static void expect_failure(const char *address, int error, const char *word)
{
	struct rig *rig = rig_new();
	char *reason = NULL;

	rig->listen[0] = address;
	assert_int_equal(server_start(&rig->opts, &rig->server, &reason), error);
	assert_non_null(reason);
	if (!strstr(reason, word) || (address && !strstr(reason, address)))
		fail_msg("%s", reason);
	free(reason);
	metrics_free(rig->metrics);
	fake_router_free(rig->router);
	free(rig);
}

static void explains_addresses_it_cannot_serve(void **state)
{
	struct rig *rig = *state;

	expect_failure("8090", -EINVAL, "not an address");
	expect_failure("127.0.0.1:65536", -EINVAL, "not an address");
	expect_failure("127.0.0.1:", -EINVAL, "not an address");
	expect_failure("::1:80", -EINVAL, "not an address");
	expect_failure("192.0.2.1:0", -EADDRNOTAVAIL, "no such address");
	expect_failure(server_address(rig->server), -EADDRINUSE, "another program");
	expect_failure("unix:", -EINVAL, "not an address");
	expect_failure("unix:/nonexistent/x.sock", -ENOENT, "cannot listen");
	expect_failure(NULL, -EINVAL, "names no address");
}

static void serves_unix_sockets_and_replaces_stale_ones(void **state)
{
	struct rig *rig = *state;
	char folder[] = "/tmp/hfcached-test-XXXXXX", address[128];
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_non_null(mkdtemp(folder));
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/x.sock", folder);
	assert_int_equal(bind(stale, (struct sockaddr *)&a, sizeof(a)), 0);
	(void)close(stale);
	(void)snprintf(address, sizeof(address), "unix:%s", a.sun_path);
	rig->listen[0] = address;
	rig_start(rig);
	assert_string_equal(server_address(rig->server), address);
	expect_failure(address, -EADDRINUSE, "another program");
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	say(fd, GET("/request"));
	{
		struct answer_text answer = hear(fd, true);

		assert_non_null(strstr(answer.body.bytes, "client=unix\n"));
		answer_done(&answer);
	}
	(void)close(fd);
	server_free(TAKE_PTR(rig->server));
	assert_int_equal(access(a.sun_path, F_OK), -1);
	assert_int_equal(rmdir(folder), 0);
}

static void serves_inherited_sockets(void **state)
{
	struct rig *rig = *state;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int inherited = socket(AF_INET, SOCK_STREAM, 0), fd;

	assert_int_equal(bind(inherited, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(inherited, 10), 0);
	rig->opts.inherited_fds = &inherited;
	rig->opts.inherited_count = 1;
	rig_start(rig);
	for (int i = 0; i < 10; i++) {
		fd = dial(rig);
		say(fd, GET("/"));
		expect(fd, 200, "hello\n");
		(void)close(fd);
	}
}

static void counts_what_it_did(void **state)
{
	struct rig *rig = *state;
	int fd = dial(rig);

	say(fd, GET("/bytes/1000") GET("/blob/100000"));
	expect(fd, 200, NULL);
	expect(fd, 200, NULL);
	assert_int_equal(metrics_value(rig->metrics, METRIC_HTTP_CONNECTIONS, 0, 0, 0), 1);
	say(fd, GET("/")); /* the one before has ended when this is answered */
	expect(fd, 200, NULL);
	assert_true(metrics_value(rig->metrics, METRIC_HTTP_REQUESTS, ROUTE_OTHER, metric_method(STR("GET")), metric_code(200)) >= 2);
	assert_int_equal(metrics_value(rig->metrics, METRIC_HTTP_SENT_BYTES, ROUTE_OTHER, 0, 0), 100000);
	(void)close(fd);
	server_free(TAKE_PTR(rig->server));
	assert_int_equal(metrics_value(rig->metrics, METRIC_HTTP_CONNECTIONS, 0, 0, 0), 0);
}

#define STARTED(test) cmocka_unit_test_setup_teardown(test, start, stop)
#define CONFIGURED(test) cmocka_unit_test_setup_teardown(test, set_up, stop)

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
		STARTED(answers_the_good_before_it_closes_on_the_bad),
		STARTED(refuses_a_bad_head_in_words),
		STARTED(refuses_bad_chunks_in_the_middle_of_a_body),
		STARTED(tells_a_client_that_is_still_sending_why_it_is_refused),
		STARTED(refuses_a_malformed_authorization),
		STARTED(gives_no_answer_when_the_handler_aborts),
		CONFIGURED(serves_only_the_hosts_it_was_given),
		CONFIGURED(ends_a_head_that_takes_too_long),
		CONFIGURED(does_not_count_the_wait_for_an_earlier_answer_as_a_slow_head),
		CONFIGURED(closes_idle_connections),
		CONFIGURED(tells_clients_over_the_limit),
		CONFIGURED(does_not_spin_without_descriptors),
		STARTED(drains_without_cutting_an_answer),
		STARTED(cuts_what_is_left_after_the_drain),
		STARTED(says_that_its_loops_turn),
		CONFIGURED(says_that_a_loop_is_stuck),
		STARTED(explains_addresses_it_cannot_serve),
		CONFIGURED(serves_unix_sockets_and_replaces_stale_ones),
		CONFIGURED(serves_inherited_sockets),
		STARTED(counts_what_it_did),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
