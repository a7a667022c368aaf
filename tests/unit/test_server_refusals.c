/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server - what it refuses and how it says so; deadlines and limits.
 */
#include "fake_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"

#include <cmocka.h>

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

/* Without lingering, what still arrives would be answered with an RST, and the RST may eat the answer. */
static void tells_a_client_that_is_still_sending_why_it_is_refused(void **state)
{
	static const struct {
		const char *target;
		size_t first;
		int status;
	} cases[] = { { "/nobody", 1000, 400 }, { "/echo", 1100000, 413 } };

	for (int i = 0; i < 2; i++) {
		int fd = dial(*state);
		char text[128];

		(void)snprintf(text, sizeof(text),
			       "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n",
			       cases[i].target);
		say(fd, text);
		assert_true(say_zeros(fd, cases[i].first));
		for (int k = 0; k < 5; k++) { /* by now it has been refused */
			(void)usleep(30000);
			assert_true(say_zeros(fd, 100000));
		}
		expect(fd, cases[i].status, NULL);
		assert_true(is_over(fd));
		(void)close(fd);
	}
}

static void survives_heads_that_the_library_cannot_hold(void **state)
{
	static const char *const pieces[] = { "Cookie: ", "X: " };

	for (int i = 0; i < 2; i++) {
		int fd = dial(*state);
		SCOPED_BUF text;

		buf_init(&text, 1 << 16);
		buf_appendf(&text, "GET / HTTP/1.1\r\nHost: a\r\n%s", pieces[i]);
		while (text.len < 11000)
			buf_appendf(&text, "a;");
		buf_appendf(&text, "\r\n\r\n");
		say(fd, text.bytes);
		expect(fd, i ? 200 : 431, NULL);
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
	} cases[] = { { "cache.lab:8443", 200 },
		      { "CACHE.LAB", 200 },
		      { "other.lab:1", 200 },
		      { "evil.lab", 421 },
		      { "cache.lab.evil", 421 } };
	struct rig *rig = *state;

	rig->opts.public_url = "https://cache.lab:8443/";
	rig->opts.hosts = hosts;
	rig_start(rig);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = dial(rig);
		char text[128];

		(void)snprintf(text, sizeof(text),
			       "GET /request HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
			       cases[i].host);
		say(fd, text);
		{
			struct answer_text a = hear(fd, true);

			assert_int_equal(a.status, cases[i].status);
			assert_true((strstr(a.body.bytes, "base=https://cache.lab:8443\n") != NULL) ==
				    (a.status == 200));
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
		if (send(fd, "X", 1, MSG_NOSIGNAL) != 1 ||
		    recv(fd, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
			break;
		(void)usleep(50000);
	}
	expect(fd, 408, NULL);
	assert_true(is_over(fd));
	assert_true(now_ms() - began >= 1400 && now_ms() - began < 5000); /* all of them take longer */
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
	assert_true(now_ms() - began >= 900 && now_ms() - began < 15000);
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
	wait_for_connections(rig, 0);
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
	uint64_t began, used = UINT64_MAX;
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
	for (int i = 0; i < 5 && used >= 50; i++) {
		began = cpu_ms();
		(void)usleep(1000000);
		used = cpu_ms() - began;
	}
	assert_true(used < 50); /* 5 % */
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

/* A clock that runs fifty times as fast: a minute in little more than a second. */
static uint64_t fast_ms(void *ctx)
{
	return now_ms() * 50;
}

static int64_t no_wall(void *ctx)
{
	return 0;
}

static void lets_a_client_go_that_hardly_reads(void **state)
{
	struct rig *rig = *state;
	struct clock fast = { fast_ms, no_wall, NULL };
	uint64_t began = now_ms();
	int stuck, waiting;

	rig->opts.clock = &fast;
	rig_start(rig);
	stuck = dial(rig);
	say(stuck, GET("/blob/90000000"));
	waiting = dial(rig); /* not its fault: upstream is slow */
	say(waiting, GET("/grow/600?step=10&ms=90"));
	while (metrics_value(rig->metrics, METRIC_HTTP_ABORTED, 0, 0, 0) == 0 && now_ms() - began < 10000)
		(void)usleep(10000);
	assert_int_equal(metrics_value(rig->metrics, METRIC_HTTP_ABORTED, 0, 0, 0), 1);
	assert_true(now_ms() - began > 1200);
	expect(waiting, 200, NULL);
	(void)close(stuck);
	(void)close(waiting);
	server_free(rig->server); /* before its clock goes */
	rig->server = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STARTED(answers_the_good_before_it_closes_on_the_bad),
		STARTED(refuses_a_bad_head_in_words),
		STARTED(refuses_bad_chunks_in_the_middle_of_a_body),
		STARTED(tells_a_client_that_is_still_sending_why_it_is_refused),
		STARTED(survives_heads_that_the_library_cannot_hold),
		STARTED(refuses_a_malformed_authorization),
		STARTED(gives_no_answer_when_the_handler_aborts),
		CONFIGURED(serves_only_the_hosts_it_was_given),
		CONFIGURED(ends_a_head_that_takes_too_long),
		CONFIGURED(does_not_count_the_wait_for_an_earlier_answer_as_a_slow_head),
		CONFIGURED(closes_idle_connections),
		CONFIGURED(tells_clients_over_the_limit),
		CONFIGURED(does_not_spin_without_descriptors),
		CONFIGURED(lets_a_client_go_that_hardly_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
