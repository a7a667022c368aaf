/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice - a client's TLS is taken off: hands, bytes both ways, ends and breaks, limits.
 */
#include "splice_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/alloc.h"

#include <cmocka.h>

/* --- hands --- */

static void greets_then_shakes_hands_and_carries_bytes_both_ways(void **state)
{
	struct rig *rig = *state;
	int fd = unwrap(rig, "HTTP/1.1 200 OK\r\n\r\n"), inner;
	SSL *tls;

	expect(fd, "HTTP/1.1 200 OK\r\n\r\n");
	tls = shake(rig, fd, "HUB.test");
	assert_non_null(tls);
	inner = take_inner(rig);
	assert_string_equal(rig->name, "hub.test");
	tls_say(tls, "question");
	expect(inner, "question");
	say(inner, "answer");
	tls_expect(tls, "answer");
	assert_int_equal(splices_count(rig->splices), 1);
	tls_drop(tls);
	assert_int_equal(end_of(inner), 0);
	(void)close(inner);
	wait_for_count(rig, 0);
}

static void chooses_http_1_1_and_nothing_else(void **state)
{
	static const unsigned char both[] = "\x02h2\x08http/1.1", h2[] = "\x02h2";
	struct rig *rig = *state;
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());
	const unsigned char *chosen = NULL;
	unsigned len = 0;
	SSL *tls;

	assert_int_equal(SSL_CTX_set_alpn_protos(c, both, sizeof(both) - 1), 0);
	tls = SSL_new(c);
	assert_int_equal(SSL_set_fd(tls, unwrap(rig, NULL)), 1);
	(void)SSL_set_tlsext_host_name(tls, "hub.test");
	assert_int_equal(SSL_connect(tls), 1);
	SSL_get0_alpn_selected(tls, &chosen, &len);
	assert_true(len == 8 && memcmp(chosen, "http/1.1", 8) == 0);
	(void)close(take_inner(rig));
	tls_drop(tls);
	tls = SSL_new(c);
	assert_int_equal(SSL_set_alpn_protos(tls, h2, sizeof(h2) - 1), 0);
	assert_int_equal(SSL_set_fd(tls, unwrap(rig, NULL)), 1);
	(void)SSL_set_tlsext_host_name(tls, "hub.test");
	assert_int_equal(SSL_connect(tls), -1);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
	tls_drop(tls);
	SSL_CTX_free(c);
	wait_for_count(rig, 0);
}

static void tells_who_names_no_host_of_ours_so(void **state)
{
	static const char *const names[] = { "other.test", "127.0.0.1", "sub.hub.test", NULL };
	struct rig *rig = *state;

	for (size_t i = 0; i < 4; i++) {
		int fd = unwrap(rig, NULL);

		assert_null(shake(rig, fd, names[i]));
		assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_UNRECOGNIZED_NAME);
		(void)close(fd);
	}
	wait_for_count(rig, 0);
	assert_int_equal(atomic_load(&rig->inner), -1);
}

static void refuses_old_versions(void **state)
{
	struct rig *rig = *state;
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());
	SSL *tls;

	SSL_CTX_set_security_level(c, 0);
	assert_int_equal(SSL_CTX_set_min_proto_version(c, TLS1_VERSION), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(c, TLS1_1_VERSION), 1);
	tls = SSL_new(c);
	assert_int_equal(SSL_set_fd(tls, unwrap(rig, NULL)), 1);
	(void)SSL_set_tlsext_host_name(tls, "hub.test");
	assert_int_equal(SSL_connect(tls), -1);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
	tls_drop(tls);
	SSL_CTX_free(c);
	wait_for_count(rig, 0);
}

static void speaks_tls_1_2_and_gives_no_tickets(void **state)
{
	struct rig *rig = *state;
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL *tls = SSL_new(c);
		int inner;

		assert_int_equal(SSL_set_max_proto_version(tls, version), 1);
		assert_int_equal(SSL_set_fd(tls, unwrap(rig, NULL)), 1);
		(void)SSL_set_tlsext_host_name(tls, "hub.test");
		assert_int_equal(SSL_connect(tls), 1);
		assert_int_equal(SSL_version(tls), version);
		inner = take_inner(rig);
		say(inner, "x");
		tls_expect(tls, "x");
		assert_false(SSL_SESSION_has_ticket(SSL_get0_session(tls)));
		tls_drop(tls);
		(void)close(inner);
	}
	SSL_CTX_free(c);
}

/* A listener has read the beginning to see the name, before it gave the connection on. */
static void takes_what_was_read_already(void **state)
{
	struct rig *rig = *state;
	struct sockaddr_storage from = { 0 };
	char early[512];
	int fds[2];
	ssize_t n;
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());
	SSL *tls = SSL_new(c);

	((struct sockaddr_in *)&from)->sin_family = AF_INET;
	((struct sockaddr_in *)&from)->sin_port = htons(4711);
	tcp_pair(fds);
	(void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(SSL_set_fd(tls, fds[0]), 1);
	(void)SSL_set_tlsext_host_name(tls, "hub.test");
	assert_int_equal(SSL_connect(tls), -1); /* its first words are on their way */
	n = recv(fds[1], early, 100, MSG_WAITALL);
	assert_int_equal(n, 100);
	assert_int_equal(
		splice_unwrap(rig->splices, fds[1], &from, NULL, (struct str){ early, 100 }, &rig->host, rig),
		0);
	(void)fcntl(fds[0], F_SETFL, 0);
	assert_int_equal(SSL_connect(tls), 1);
	(void)close(take_inner(rig));
	assert_int_equal(tls_end(tls), 0);
	tls_drop(tls);
	SSL_CTX_free(c);
}

static void something_that_is_no_tls_ends(void **state)
{
	struct rig *rig = *state;
	int fd = unwrap(rig, NULL);
	char waste[64];

	say(fd, "GET / HTTP/1.1\r\n\r\n");
	while (recv(fd, waste, sizeof(waste), 0) > 0)
		;
	(void)close(fd);
	wait_for_count(rig, 0);
}

static void a_client_that_cannot_be_served_is_let_go(void **state)
{
	struct rig *rig = *state;
	SSL *tls;

	atomic_store(&rig->refuse_inner, EMFILE);
	tls = shake(rig, unwrap(rig, NULL), "hub.test");
	assert_true(!tls || tls_end(tls) == -1);
	if (tls)
		tls_drop(tls);
	wait_for_count(rig, 0);
}

/* --- ends and breaks --- */

static void passes_half_an_end_on(void **state)
{
	struct rig *rig = *state;
	int inner;
	SSL *tls = connect_tls(rig, &inner);

	tls_say(tls, "all I have");
	assert_int_equal(SSL_shutdown(tls), 0);
	expect(inner, "all I have");
	assert_int_equal(end_of(inner), 0);
	say(inner, "then hear");
	(void)close(inner);
	tls_expect(tls, "then hear");
	assert_int_equal(tls_end(tls), 0);
	tls_drop(tls);
	wait_for_count(rig, 0);
}

static void passes_the_servers_half_on(void **state)
{
	struct rig *rig = *state;
	int inner;
	SSL *tls = connect_tls(rig, &inner);

	say(inner, "goodbye");
	assert_int_equal(shutdown(inner, SHUT_WR), 0);
	tls_expect(tls, "goodbye");
	assert_int_equal(tls_end(tls), 0);
	tls_say(tls, "one word more");
	expect(inner, "one word more");
	(void)close(inner);
	tls_drop(tls);
	wait_for_count(rig, 0);
}

/* Its socket ends, its TLS does not: somebody may have cut it. */
static void a_cut_client_ends_the_server_too(void **state)
{
	struct rig *rig = *state;
	int inner;
	SSL *tls = connect_tls(rig, &inner);

	tls_say(tls, "half a sen");
	expect(inner, "half a sen");
	assert_int_equal(shutdown(SSL_get_fd(tls), SHUT_WR), 0);
	assert_int_equal(end_of(inner), 0);
	assert_int_equal(send(inner, "?", 1, MSG_NOSIGNAL), -1); /* it is gone, not half open */
	assert_int_equal(tls_end(tls), -1);
	(void)close(inner);
	tls_drop(tls);
	wait_for_count(rig, 0);
}

static void a_broken_server_never_looks_like_an_end(void **state)
{
	struct rig *rig = *state;
	int inner;
	SSL *tls = connect_tls(rig, &inner);

	tls_say(tls, "nobody reads this");
	say(inner, "half a bo");
	tls_expect(tls, "half a bo");
	assert_int_equal(poll(&(struct pollfd){ inner, POLLIN, 0 }, 1, 20000), 1);
	(void)close(inner); /* with something unread: a break */
	assert_int_equal(tls_end(tls), -1);
	tls_drop(tls);
	wait_for_count(rig, 0);
}

/* A server that has answered and closes, while the client still sends: the answer arrives. */
static void the_last_answer_survives_a_client_that_sends_on(void **state)
{
	static const char zeros[65536];
	struct rig *rig = *state;
	int inner;
	SSL *tls = connect_tls(rig, &inner);
	char waste[65536];

	tls_say(tls, "begin");
	expect(inner, "begin");
	say(inner, "too large");
	assert_int_equal(shutdown(inner, SHUT_WR), 0);
	for (int i = 0; i < 40; i++)
		(void)SSL_write(tls, zeros, sizeof(zeros));
	while (recv(inner, waste, sizeof(waste), MSG_DONTWAIT) > 0)
		;
	(void)close(inner);
	tls_expect(tls, "too large");
	assert_int_equal(tls_end(tls), 0);
	tls_drop(tls);
	wait_for_count(rig, 0);
}

/* --- many bytes --- */

#define MANY ((size_t)10 * 1024 * 1024)

static unsigned char byte_at(size_t i, unsigned salt)
{
	return (unsigned char)(i * 31 + (i >> 8) * 7 + salt);
}

struct inner_side {
	int fd;
	size_t read, written;
};

static void *talk_both_ways(void *arg)
{
	struct inner_side *s = arg;
	unsigned char in[40000], out[30000];

	while (s->read < MANY || s->written < MANY) {
		struct pollfd p = {
			s->fd, (short)((s->read < MANY ? POLLIN : 0) | (s->written < MANY ? POLLOUT : 0)), 0
		};
		ssize_t n;

		if (poll(&p, 1, 20000) <= 0)
			return NULL;
		n = p.revents & POLLIN ? recv(s->fd, in, sizeof(in), MSG_DONTWAIT) : 0;
		for (ssize_t i = 0; i < n; i++)
			if (in[i] != byte_at(s->read + (size_t)i, 1))
				return NULL;
		s->read += n > 0 ? (size_t)n : 0;
		if (!(p.revents & POLLOUT) || s->written == MANY)
			continue;
		n = (ssize_t)(MANY - s->written < sizeof(out) ? MANY - s->written : sizeof(out));
		for (ssize_t i = 0; i < n; i++)
			out[i] = byte_at(s->written + (size_t)i, 2);
		n = send(s->fd, out, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
		s->written += n > 0 ? (size_t)n : 0;
	}
	return NULL;
}

static void carries_ten_mebibytes_each_way_at_once(void **state)
{
	struct rig *rig = *state;
	struct inner_side side = { 0 };
	SSL *tls = connect_tls(rig, &side.fd);
	size_t written = 0, read = 0, held = 0;
	unsigned char out[20000], in[50000];
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, talk_both_ways, &side), 0);
	(void)fcntl(SSL_get_fd(tls), F_SETFL, O_NONBLOCK);
	(void)SSL_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while (written < MANY || read < MANY) {
		struct pollfd p = { SSL_get_fd(tls), (short)(POLLIN | (written < MANY ? POLLOUT : 0)), 0 };
		int n;

		if (!held && written < MANY) {
			held = MANY - written < sizeof(out) ? MANY - written : sizeof(out);
			for (size_t i = 0; i < held; i++)
				out[i] = byte_at(written + i, 1);
		}
		n = held ? SSL_write(tls, out, (int)held) : 0;
		if (n > 0) {
			written += (size_t)n;
			memmove(out, out + n, held -= (size_t)n);
		}
		n = SSL_read(tls, in, sizeof(in));
		for (int i = 0; i < n; i++)
			assert_true(in[i] == byte_at(read + (size_t)i, 2));
		read += n > 0 ? (size_t)n : 0;
		if (n <= 0)
			assert_true(poll(&p, 1, 20000) > 0);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(side.read == MANY && side.written == MANY);
	(void)close(side.fd);
	tls_drop(tls);
}

/* Who does not read stops the other side from being read: there is no room to grow into. */
static void a_slow_reader_holds_the_server_back(void **state)
{
	static const char piece[65536];
	struct rig *rig = *state;
	int inner, small = 65536;
	SSL *tls = connect_tls(rig, &inner);
	size_t sent = 0, got = 0;
	char in[65536];

	(void)setsockopt(SSL_get_fd(tls), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (;;) {
		struct pollfd p = { inner, POLLOUT, 0 };
		ssize_t n = send(inner, piece, sizeof(piece), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else if (poll(&p, 1, 300) == 0)
			break;
		assert_true(sent < (size_t)64 * 1024 * 1024);
	}
	assert_int_equal(shutdown(inner, SHUT_WR), 0);
	for (int n; (n = SSL_read(tls, in, sizeof(in))) > 0;)
		got += (size_t)n;
	assert_true(got == sent);
	(void)close(inner);
	tls_drop(tls);
}

/* --- limits --- */

static void lets_go_who_shakes_no_hands(void **state)
{
	struct rig *rig = *state;
	int fd = unwrap(rig, NULL);

	say(fd, "\x16\x03\x01");
	atomic_store(&rig->late_ms, 5000);
	(void)usleep(1100000);
	assert_int_equal(splices_count(rig->splices), 1);
	atomic_store(&rig->late_ms, 11000);
	assert_int_equal(end_of(fd), -1);
	(void)close(fd);
	wait_for_count(rig, 0);
}

static void ends_a_join_that_is_idle(void **state)
{
	struct rig *rig = *state;
	int inner;
	SSL *tls;

	rig->opts.idle_ms = 30000;
	rig_start(rig);
	tls = connect_tls(rig, &inner);
	atomic_store(&rig->late_ms, 20000);
	tls_say(tls, "still here");
	expect(inner, "still here");
	atomic_store(&rig->late_ms, 45000);
	(void)usleep(1100000);
	assert_int_equal(splices_count(rig->splices), 1);
	atomic_store(&rig->late_ms, 60000);
	assert_int_equal(end_of(inner), 0);
	assert_int_equal(tls_end(tls), -1);
	(void)close(inner);
	tls_drop(tls);
	wait_for_count(rig, 0);
}

/* A client that is owed bytes and takes none for a minute. */
static void cuts_who_reads_too_slowly(void **state)
{
	static const char piece[65536];
	struct rig *rig = *state;
	int inner, quiet_inner;
	SSL *tls = connect_tls(rig, &inner), *quiet = connect_tls(rig, &quiet_inner);
	struct pollfd p = { inner, POLLOUT, 0 };

	do
		while (send(inner, piece, sizeof(piece), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
	while (poll(&p, 1, 200) > 0);
	(void)usleep(1100000); /* a tick has seen it */
	atomic_store(&rig->late_ms, 61000);
	assert_int_equal(poll(&(struct pollfd){ inner, POLLIN, 0 }, 1, 20000), 1);
	wait_for_count(rig, 1); /* nothing waits for the other one */
	(void)close(inner);
	(void)close(quiet_inner);
	tls_drop(tls);
	tls_drop(quiet);
}

static struct sockaddr_storage client_at(uint32_t number)
{
	struct sockaddr_storage from = { 0 };

	((struct sockaddr_in *)&from)->sin_family = AF_INET;
	((struct sockaddr_in *)&from)->sin_port = htons(4711);
	((struct sockaddr_in *)&from)->sin_addr.s_addr = htonl(0xc0000200 + number);
	return from;
}

static void refuses_more_joins_than_it_may_have(void **state)
{
	struct rig *rig = *state;
	struct sockaddr_storage from = client_at(3), other = client_at(2);
	int fds[2], first, second, third[2];

	rig->opts.joins_max = 3;
	rig_start(rig);
	first = unwrap(rig, NULL);
	second = unwrap(rig, NULL);
	tcp_pair(third);
	assert_int_equal(splice_unwrap(rig->splices, third[1], &other, NULL, STR(""), &rig->host, rig), 0);
	tcp_pair(fds);
	assert_int_equal(splice_unwrap(rig->splices, fds[1], &from, NULL, STR(""), &rig->host, rig), -EMFILE);
	say(fds[1], "still mine"); /* so that its client can be told why */
	expect(fds[0], "still mine");
	(void)close(fds[0]);
	(void)close(fds[1]);
	(void)close(first);
	(void)close(third[0]);
	wait_for_count(rig, 1);
	(void)close(unwrap(rig, NULL));
	(void)close(second);
	wait_for_count(rig, 0);
}

/* Whatever they are used for: TLS that is taken off, tunnels, upgraded connections (P15). */
static void leaves_room_for_others_than_a_crowd(void **state)
{
	enum { MAX = 31, SHARE = (MAX + 1) / 2 };
	struct rig *rig = *state;
	struct sockaddr_storage crowd = client_at(1), mapped = { 0 }, other = client_at(2);
	struct dial *dials[SHARE], *none = NULL;
	struct dial_query query = { .host = "127.0.0.1",
				    .is_local = true,
				    .head = STR("GET / HTTP/1.1\r\n\r\n"),
				    .who = STR("192.0.2.1") };
	int clients[SHARE], fds[2], listener = listen_here(&query.port);

	rig->opts.joins_max = MAX;
	rig_start(rig);
	for (int i = 0; i < SHARE; i++) {
		clients[i] = -1;
		dials[i] = NULL;
		if (i % 3 == 0) {
			assert_int_equal(dial_start(rig->splices, &query, &dials[i]), 0);
			continue;
		}
		tcp_pair(fds);
		clients[i] = fds[0];
		assert_int_equal(i % 3 == 1 ? splice_unwrap(rig->splices, fds[1], &crowd, "welcome", STR(""),
							    &rig->host, rig)
					    : splice_tunnel(rig->splices, fds[1], &crowd, STR(""),
							    "127.0.0.1", query.port, true, "welcome", NULL),
				 0);
		expect(fds[0], "welcome");
	}
	((struct sockaddr_in6 *)&mapped)->sin6_family = AF_INET6;
	assert_int_equal(
		inet_pton(AF_INET6, "::ffff:192.0.2.1", &((struct sockaddr_in6 *)&mapped)->sin6_addr), 1);
	tcp_pair(fds);
	assert_int_equal(splice_unwrap(rig->splices, fds[1], &mapped, NULL, STR(""), &rig->host, rig),
			 -EUSERS);
	assert_int_equal(splice_tunnel(rig->splices, fds[1], &crowd, STR(""), "127.0.0.1", query.port, true,
				       "welcome", NULL),
			 -EUSERS);
	assert_int_equal(dial_start(rig->splices, &query, &none), -EUSERS);
	assert_int_equal(splice_unwrap(rig->splices, fds[1], &other, "welcome", STR(""), &rig->host, rig), 0);
	expect(fds[0], "welcome");
	(void)close(fds[0]);
	for (int i = 0; i < SHARE; i++) {
		if (clients[i] >= 0)
			(void)close(clients[i]);
		dial_free(dials[i]);
	}
	(void)close(listener);
	wait_for_count(rig, 0);
}

static void stops_with_joins_in_every_phase(void **state)
{
	struct rig *rig = *state;
	struct sockaddr_storage from = { .ss_family = AF_INET };
	int inner, fds[2], shaking = unwrap(rig, NULL);
	SSL *tls = connect_tls(rig, &inner);

	splices_stop(rig->splices);
	assert_int_equal(splices_count(rig->splices), 0);
	assert_int_equal(end_of(inner), 0);
	assert_int_equal(tls_end(tls), -1);
	assert_int_equal(end_of(shaking), -1);
	tcp_pair(fds);
	assert_int_equal(splice_unwrap(rig->splices, fds[1], &from, NULL, STR(""), &rig->host, rig),
			 -ESHUTDOWN);
	(void)close(fds[1]);
	(void)close(fds[0]);
	(void)close(inner);
	(void)close(shaking);
	tls_drop(tls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STARTED(greets_then_shakes_hands_and_carries_bytes_both_ways),
		STARTED(chooses_http_1_1_and_nothing_else),
		STARTED(tells_who_names_no_host_of_ours_so),
		STARTED(refuses_old_versions),
		STARTED(speaks_tls_1_2_and_gives_no_tickets),
		STARTED(takes_what_was_read_already),
		STARTED(something_that_is_no_tls_ends),
		STARTED(a_client_that_cannot_be_served_is_let_go),
		STARTED(passes_half_an_end_on),
		STARTED(passes_the_servers_half_on),
		STARTED(a_cut_client_ends_the_server_too),
		STARTED(a_broken_server_never_looks_like_an_end),
		STARTED(the_last_answer_survives_a_client_that_sends_on),
		STARTED(carries_ten_mebibytes_each_way_at_once),
		STARTED(a_slow_reader_holds_the_server_back),
		STARTED(lets_go_who_shakes_no_hands),
		CONFIGURED(ends_a_join_that_is_idle),
		STARTED(cuts_who_reads_too_slowly),
		CONFIGURED(refuses_more_joins_than_it_may_have),
		CONFIGURED(leaves_room_for_others_than_a_crowd),
		STARTED(stops_with_joins_in_every_phase),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
