/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice - connections to hosts: blind tunnels, and dials that are to be upgraded.
 */
#include "splice_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define GREETING "HTTP/1.1 200 Connection established\r\n\r\n"
#define REFUSAL "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"

/* --- tunnels --- */

/* Returns the client's socket. */
static int tunnel(struct rig *rig, const char *host, uint16_t port, bool is_local, const char *early)
{
	struct sockaddr_storage from = { .ss_family = AF_INET };
	int fds[2];

	tcp_pair(fds);
	assert_int_equal(splice_tunnel(rig->splices, fds[1], &from, (struct str){ early, strlen(early) },
				       host, port, is_local, GREETING, REFUSAL),
			 0);
	return fds[0];
}

static void a_tunnel_carries_bytes_both_ways(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost" };
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port);

	for (size_t i = 0; i < 2; i++) {
		int client = tunnel(rig, hosts[i], port, true, "early, "), host = accept_here(listener);

		expect(client, GREETING);
		say(client, "late");
		expect(host, "early, late");
		say(host, "answer");
		expect(client, "answer");
		assert_int_equal(shutdown(client, SHUT_WR), 0);
		assert_int_equal(end_of(host), 0);
		say(host, "after the half");
		(void)close(host);
		expect(client, "after the half");
		assert_int_equal(end_of(client), 0);
		(void)close(client);
		wait_for_count(rig, 0);
	}
	(void)close(listener);
}

static void a_reset_is_passed_on_as_one(void **state)
{
	struct linger now = { 1, 0 };
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port);
	int client = tunnel(rig, "127.0.0.1", port, true, ""), host = accept_here(listener);

	expect(client, GREETING);
	say(host, "half a");
	expect(client, "half a");
	assert_int_equal(setsockopt(host, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	(void)close(host);
	assert_int_equal(end_of(client), -1);
	(void)close(client);
	client = tunnel(rig, "127.0.0.1", port, true, "");
	host = accept_here(listener);
	expect(client, GREETING);
	assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	(void)close(client);
	assert_int_equal(end_of(host), -1);
	(void)close(host);
	(void)close(listener);
	wait_for_count(rig, 0);
}

static void expect_refusal(struct rig *rig, int client)
{
	expect(client, REFUSAL);
	assert_int_equal(end_of(client), 0);
	(void)close(client);
	wait_for_count(rig, 0);
}

static void a_tunnel_that_leads_nowhere_is_refused_in_words(void **state)
{
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port), client;

	(void)close(listener);
	expect_refusal(rig, tunnel(rig, "127.0.0.1", port, true, ""));
	expect_refusal(rig, tunnel(rig, "localhost", port, true, "some words"));
	client = tunnel(rig, "no such name", port, true, "");
	expect_refusal(rig, client);
}

/* Whatever a name means: the machine itself and its neighbours are nobody's to reach through us. */
static void no_tunnel_leads_inside(void **state)
{
	static const char *const hosts[] = {
		"127.0.0.1",  "localhost",       "[::1]",    "0.0.0.0",
		"2130706433", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1"
	};
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port);
	struct pollfd p = { listener, POLLIN, 0 };

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
		expect_refusal(rig, tunnel(rig, hosts[i], port, false, ""));
	assert_int_equal(poll(&p, 1, 0), 0);
	(void)close(listener);
}

static void gives_a_host_up_that_does_not_answer(void **state)
{
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port), client, waiting[8];

	assert_int_equal(listen(listener, 0),
			 0); /* its queue is full after one or two: the rest hear nothing */
	for (size_t i = 0; i < 8; i++)
		waiting[i] = tunnel(rig, "127.0.0.1", port, true, "");
	(void)usleep(100000);
	client = tunnel(rig, "127.0.0.1", port, true, "");
	(void)usleep(100000);
	atomic_store(&rig->late_ms, 11000);
	expect(client, REFUSAL);
	assert_int_equal(end_of(client), 0);
	(void)close(client);
	for (size_t i = 0; i < 8; i++)
		(void)close(waiting[i]);
	(void)close(listener);
}

/* --- dials --- */

struct news {
	struct waiter waiter;
	_Atomic bool has_come;
};

static void on_news(struct waiter *w)
{
	atomic_store(&LIST_ENTRY(w, struct news, waiter)->has_come, true);
}

static int head_of(struct dial *d, int *ret_status, const struct headers **ret_headers)
{
	struct news news = { .has_come = false };
	uint64_t began = clock_mono_ms(&clock_system);

	waiter_init(&news.waiter, on_news);
	while (dial_head(d, ret_status, ret_headers) == -EAGAIN && dial_wait(d, &news.waiter)) {
		while (!atomic_load(&news.has_come)) {
			assert_true(clock_mono_ms(&clock_system) - began < 20000);
			(void)usleep(1000);
		}
		atomic_store(&news.has_come, false);
	}
	return dial_head(d, ret_status, ret_headers);
}

#define ASKED "GET /socket HTTP/1.1\r\nHost: app\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
/* What the client is told in its stead. */
#define TOLD "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
#define SWITCHING "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-A:  b \r\n\r\n"

static struct dial *dial(struct rig *rig, const char *host, uint16_t port, bool is_tls, bool is_local)
{
	struct dial *d = NULL;

	assert_int_equal(
		dial_start(rig->splices,
			   &(struct dial_query){ host, port, is_tls, is_local, STR(ASKED), STR("0.0.0.0") },
			   &d),
		0);
	return d;
}

static void expect_failure(struct dial *d, int error)
{
	const struct headers *headers;
	int status;

	assert_int_equal(head_of(d, &status, &headers), error);
	assert_false(dial_wait(d, NULL));
	dial_free(d);
}

static void an_upgraded_connection_is_joined_to_the_client(void **state)
{
	struct rig *rig = *state;
	const struct headers *headers = NULL;
	uint16_t port;
	int listener = listen_here(&port), host, status = 0, fds[2];
	struct dial *d = dial(rig, "localhost", port, false, true);

	host = accept_here(listener);
	expect(host, ASKED);
	say(host, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" SWITCHING "and a frame");
	assert_int_equal(head_of(d, &status, &headers), 0);
	assert_int_equal(status, 101);
	assert_true(str_eq(headers_get(headers, STR("x-a")), STR("b")) && headers->count == 2);
	tcp_pair(fds);
	assert_int_equal(dial_join(d, fds[1], STR(TOLD), STR("early frame, ")), 0);
	dial_free(d);
	expect(fds[0], TOLD "and a frame");
	say(fds[0], "late frame");
	expect(host, "early frame, late frame");
	say(host, "answer");
	(void)close(host);
	expect(fds[0], "answer");
	assert_int_equal(end_of(fds[0]), 0);
	(void)close(fds[0]);
	(void)close(listener);
	wait_for_count(rig, 0);
}

static void an_answer_that_is_no_upgrade_is_shown_and_let_go(void **state)
{
	struct rig *rig = *state;
	const struct headers *headers = NULL;
	uint16_t port;
	int listener = listen_here(&port), host, status = 0, fds[2];
	struct dial *d = dial(rig, "127.0.0.1", port, false, true);

	host = accept_here(listener);
	say(host, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(head_of(d, &status, &headers), 0);
	assert_int_equal(status, 403);
	tcp_pair(fds);
	assert_int_equal(dial_join(d, fds[1], STR(TOLD), STR("")), -EPROTO);
	assert_int_equal(end_of(fds[0]), 0);
	(void)close(fds[0]);
	dial_free(d);
	expect(host, ASKED);
	(void)end_of(host);
	(void)close(host);
	(void)close(listener);
	wait_for_count(rig, 0);
}

static void a_dial_says_what_went_wrong(void **state)
{
	static const char *const answers[] = { "HTTP/2 101\r\n\r\n", "SSH-2.0-x\r\n\r\n",
					       "HTTP/1.1 101 X\nA: b\r\n\r\n",
					       "HTTP/1.1 101 X\r\n A: b\r\n\r\n" };
	struct rig *rig = *state;
	uint16_t port, closed;
	int listener = listen_here(&port), other = listen_here(&closed);

	(void)close(other);
	expect_failure(dial(rig, "127.0.0.1", closed, false, true), -EHOSTUNREACH);
	expect_failure(dial(rig, "127.0.0.1", port, false, false), -EACCES);
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		struct dial *d = dial(rig, "127.0.0.1", port, false, true);
		int host = accept_here(listener);

		say(host, answers[i]);
		expect_failure(d, -EPROTO);
		(void)close(host);
	}
	{
		struct dial *d = dial(rig, "127.0.0.1", port, false, true);
		int host = accept_here(listener);

		say(host, "HTTP/1.1 101 Swi");
		expect(host, ASKED);
		(void)close(host);
		expect_failure(d, -ECONNRESET);
	}
	(void)close(listener);
	wait_for_count(rig, 0);
}

static void a_dial_waits_no_longer_than_it_may(void **state)
{
	static const char zeros[4096];
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port), host;
	struct dial *d = dial(rig, "127.0.0.1", port, false, true);

	host = accept_here(listener);
	expect(host, ASKED);
	atomic_store(&rig->late_ms, 31000);
	expect_failure(d, -ETIMEDOUT);
	(void)close(host);
	d = dial(rig, "127.0.0.1", port, false, true);
	host = accept_here(listener);
	for (int i = 0; i < 5; i++) /* a head without an end */
		(void)send(host, zeros, sizeof(zeros), MSG_NOSIGNAL);
	expect_failure(d, -EPROTO);
	(void)close(host);
	(void)close(listener);
	wait_for_count(rig, 0);
}

static void a_dial_that_is_freed_ends_in_every_phase(void **state)
{
	struct rig *rig = *state;
	const struct headers *headers;
	uint16_t port, other_port;
	int listener = listen_here(&port), other = listen_here(&other_port), host, status;
	struct dial *d = dial(rig, "localhost", other_port, false, true);

	dial_free(d); /* its name is being looked for, or it has come further */
	wait_for_count(rig, 0);
	d = dial(rig, "127.0.0.1", port, false, true);
	host = accept_here(listener);
	expect(host, ASKED);
	dial_free(d); /* nothing was answered */
	wait_for_count(rig, 0);
	assert_int_equal(end_of(host), -1);
	(void)close(host);
	d = dial(rig, "127.0.0.1", port, false, true);
	host = accept_here(listener);
	say(host, SWITCHING);
	assert_int_equal(head_of(d, &status, &headers), 0);
	dial_free(d);
	wait_for_count(rig, 0);
	(void)close(host);
	(void)close(listener);
	(void)close(other);
}

/* A client whose TLS another join takes off has a pair of sockets here: an end and a break must not look alike over it. */
static void a_pair_of_sockets_tells_an_end_from_a_break(void **state)
{
	struct linger now = { 1, 0 };
	struct rig *rig = *state;

	for (int breaks = 0; breaks < 2; breaks++) {
		const struct headers *headers;
		struct pollfd p;
		uint16_t port;
		int listener = listen_here(&port), pair[2], host, status;
		struct dial *d = dial(rig, "127.0.0.1", port, false, true);

		host = accept_here(listener);
		expect(host, ASKED);
		say(host, SWITCHING);
		assert_int_equal(head_of(d, &status, &headers), 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(dial_join(d, pair[1], STR(TOLD), STR("")), 0);
		dial_free(d);
		expect(pair[0], TOLD);
		if (breaks)
			assert_int_equal(setsockopt(host, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
		(void)close(host);
		assert_int_equal(end_of(pair[0]), 0);
		p = (struct pollfd){ pair[0], 0, 0 };
		assert_int_equal(poll(&p, 1, 0), breaks ? 0 : 1);
		(void)close(pair[0]);
		(void)close(listener);
		wait_for_count(rig, 0);
	}
}

/* --- dials with TLS --- */

static void a_dial_verifies_the_host(void **state)
{
	struct rig *rig = *state;
	const struct headers *headers;
	uint16_t port;
	int listener = listen_here(&port), host, status, fds[2];
	struct dial *d = dial(rig, "127.0.0.1", port, true, true); /* the certificate has this address */
	SSL *tls;

	host = accept_here(listener);
	tls = serve_tls(rig, host);
	assert_non_null(tls);
	tls_expect(tls, ASKED);
	tls_say(tls, SWITCHING);
	assert_int_equal(head_of(d, &status, &headers), 0);
	tcp_pair(fds);
	assert_int_equal(dial_join(d, fds[1], STR(TOLD), STR("")), 0);
	dial_free(d);
	expect(fds[0], TOLD);
	tls_say(tls, "half a frame");
	expect(fds[0], "half a frame");
	tls_drop(tls); /* without close_notify */
	assert_int_equal(end_of(fds[0]), -1);
	(void)close(fds[0]);
	d = dial(rig, "localhost", port, true, true); /* it has not this name */
	host = accept_here(listener);
	tls = serve_tls(rig, host);
	if (tls)
		tls_drop(tls); /* TLS 1.3: the host hears of it a moment later */
	else
		(void)close(host);
	expect_failure(d, -EPROTO);
	(void)close(listener);
	wait_for_count(rig, 0);
}

static void a_dial_trusts_only_its_authorities(void **state)
{
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port), host;
	struct dial *d;
	SSL *tls;

	rig->opts.ca_file = NULL; /* the system's */
	rig_start(rig);
	d = dial(rig, "127.0.0.1", port, true, true);
	host = accept_here(listener);
	tls = serve_tls(rig, host);
	if (tls)
		tls_drop(tls);
	else
		(void)close(host);
	expect_failure(d, -EPROTO);
	(void)close(listener);
}

/* Whether it has closed altogether cannot be told from half an end, and its host may never say a word. */
static void a_silent_host_keeps_no_client_who_has_ended(void **state)
{
	struct rig *rig = *state;
	const struct headers *headers;
	struct dial *d;
	uint16_t port;
	int listener = listen_here(&port), client = tunnel(rig, "127.0.0.1", port, true, ""),
	    host = accept_here(listener), app, fds[2], status;

	expect(client, GREETING);
	d = dial(rig, "127.0.0.1", port, false, true);
	app = accept_here(listener);
	expect(app, ASKED);
	say(app, SWITCHING);
	assert_int_equal(head_of(d, &status, &headers), 0);
	tcp_pair(fds);
	assert_int_equal(dial_join(d, fds[1], STR(SWITCHING), STR("")), 0);
	dial_free(d);
	expect(fds[0], SWITCHING);
	/* idle, which both may be; then the clients end, and one host still has something to say */
	atomic_store(&rig->late_ms, 60000);
	(void)usleep(1100000);
	(void)close(fds[0]);
	(void)shutdown(client, SHUT_WR);
	assert_int_equal(end_of(app), 0);
	assert_int_equal(end_of(host), 0);
	(void)usleep(1100000);
	assert_int_equal(splices_count(rig->splices), 2);
	atomic_store(&rig->late_ms, 70000);
	wait_for_count(rig, 1);
	say(host, "late word");
	expect(client, "late word");
	atomic_store(&rig->late_ms, 110000);
	assert_int_equal(end_of(client), -1);
	wait_for_count(rig, 0);
	(void)close(client);
	(void)close(host);
	(void)close(app);
	(void)close(listener);
}

static void stops_with_dials_and_tunnels_open(void **state)
{
	struct rig *rig = *state;
	const struct headers *headers;
	uint16_t port;
	int listener = listen_here(&port), status, fds[2], host,
	    client = tunnel(rig, "127.0.0.1", port, true, "");
	struct dial *asked, *held, *named, *none;

	expect(client, GREETING);
	held = dial(rig, "127.0.0.1", port, false, true);
	(void)close(accept_here(listener));
	host = accept_here(listener);
	say(host, SWITCHING);
	assert_int_equal(head_of(held, &status, &headers), 0);
	asked = dial(rig, "127.0.0.1", port, false, true);
	named = dial(rig, "localhost", port, false, true);
	splices_stop(rig->splices);
	assert_int_equal(splices_count(rig->splices), 0);
	tcp_pair(fds);
	assert_int_equal(dial_join(held, fds[1], STR(TOLD), STR("")), -ESHUTDOWN);
	assert_int_equal(end_of(fds[0]), 0);
	assert_int_equal(dial_head(asked, &status, &headers), -ECONNRESET);
	assert_int_equal(dial_head(named, &status, &headers), -ECONNRESET);
	assert_int_equal(
		dial_start(rig->splices,
			   &(struct dial_query){ "127.0.0.1", port, false, true, STR(ASKED), STR("0.0.0.0") },
			   &none),
		-ESHUTDOWN);
	dial_free(held);
	dial_free(asked);
	dial_free(named);
	(void)close(client);
	(void)close(host);
	(void)close(fds[0]);
	(void)close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STARTED(a_tunnel_carries_bytes_both_ways),
		STARTED(a_silent_host_keeps_no_client_who_has_ended),
		STARTED(a_reset_is_passed_on_as_one),
		STARTED(a_tunnel_that_leads_nowhere_is_refused_in_words),
		STARTED(no_tunnel_leads_inside),
		STARTED(gives_a_host_up_that_does_not_answer),
		STARTED(an_upgraded_connection_is_joined_to_the_client),
		STARTED(an_answer_that_is_no_upgrade_is_shown_and_let_go),
		STARTED(a_dial_says_what_went_wrong),
		STARTED(a_dial_waits_no_longer_than_it_may),
		STARTED(a_dial_that_is_freed_ends_in_every_phase),
		STARTED(a_pair_of_sockets_tells_an_end_from_a_break),
		STARTED(a_dial_verifies_the_host),
		CONFIGURED(a_dial_trusts_only_its_authorities),
		STARTED(stops_with_dials_and_tunnels_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
