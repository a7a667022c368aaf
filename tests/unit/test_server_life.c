/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server - addresses, drain, stop, and what it tells about itself.
 */
#include "fake_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/scope.h"

#include <cmocka.h>

/* --- drain and stop --- */

static void *drain(void *arg)
{
	struct rig *rig = arg;

	assert_int_equal(server_drain(rig->server, 20000), 0);
	return NULL;
}

/* Each loop closes its own listener when it turns; who comes through before is closed as idle. */
static void expect_nobody_listens(const struct rig *rig)
{
	uint64_t began = now_ms();
	int fd;

	while ((fd = try_dial(rig)) >= 0) {
		(void)close(fd);
		assert_true(now_ms() - began < 20000);
	}
}

static void drains_without_cutting_an_answer(void **state)
{
	struct rig *rig = *state;
	int slow = dial(rig), idle = dial(rig), growing = dial(rig);
	pthread_t thread;
	struct answer_text a;

	say(idle, GET("/"));
	expect(idle, 200, NULL);
	say(slow, GET("/slow?ms=1500"));
	say(growing, GET("/grow/300000?step=10000&ms=10"));
	wait_for_live(2);
	assert_int_equal(pthread_create(&thread, NULL, drain, rig), 0);
	assert_true(is_over(idle));
	expect_nobody_listens(rig);
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
	wait_for_live(2);
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
	const char *stuck = NULL;

	rig->opts.clock = &clock;
	rig_start(rig);
	/* the loops sleep for a second yet, unless they have just turned */
	for (int i = 0; i < 10 && !stuck; i++) {
		(void)usleep(50000);
		atomic_fetch_add(&now, 100000);
		stuck = server_loops_alive(rig->server);
	}
	assert_non_null(stuck);
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
	int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
	    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

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

		assert_non_null(strstr(answer.body.bytes, "client=unix:"));
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
	assert_true(metrics_value(rig->metrics, METRIC_HTTP_REQUESTS, ROUTE_OTHER, metric_method(STR("GET")),
				  metric_code(200)) >= 2);
	assert_int_equal(metrics_value(rig->metrics, METRIC_HTTP_SENT_BYTES, ROUTE_OTHER, 0, 0), 100000);
	(void)close(fd);
	server_free(TAKE_PTR(rig->server));
	assert_int_equal(metrics_value(rig->metrics, METRIC_HTTP_CONNECTIONS, 0, 0, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
