/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire - the rules in its plate. First the two calls by themselves, with tables filled by hand and a file in the place of
 * the socket; then a server, to see that this version of the library does what the rules rely on: that it calls us, that
 * a widened send is counted right, that it can be suspended from within sendfile, that EBADF makes it close.
 */
#include "fake_client.h"
#include "server/priv.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include <cmocka.h>

#define ASKED ((size_t)128 * 1024) /* what the library asks for */

/* --- by hand --- */

struct bench {
	struct conn conn;
	struct exchange exchange;
	struct body body;
	int out_fd;
};

static void set_up(struct bench *b, uint64_t file_bytes, uint64_t end)
{
	*b = (struct bench){ .out_fd = memfd_create("out", MFD_CLOEXEC) };
	b->exchange.conn = &b->conn;
	b->exchange.aborted = ABORTED_NOT;
	b->body =
		(struct body){ .exchange = &b->exchange, .fd = memfd_create("in", MFD_CLOEXEC), .end = end };
	assert_int_equal(ftruncate(b->body.fd, (off_t)file_bytes), 0);
	assert_int_equal(wire_init(), 0);
	wire_add_body(&b->body);
}

static void tear_down(struct bench *b)
{
	int fd = b->body.fd;

	wire_remove_body(&b->body);
	(void)close(fd);
	(void)close(b->out_fd);
}

static void widens_a_send_to_a_mebibyte(void **state)
{
	struct bench b;
	off64_t offset = 0;

	set_up(&b, 10 << 20, 10 << 20);
	assert_int_equal(sendfile64(b.out_fd, b.body.fd, &offset, ASKED), WIRE_SEND_MAX);
	assert_int_equal(offset, WIRE_SEND_MAX);
	assert_int_equal(b.exchange.sent, WIRE_SEND_MAX);
	tear_down(&b);
}

static void leaves_the_last_piece_to_the_library(void **state)
{
	struct bench b;
	off64_t offset = 1000;

	set_up(&b, 1 << 20, 1000 + ASKED + 1);
	assert_int_equal(sendfile64(b.out_fd, b.body.fd, &offset, ASKED), ASKED);
	assert_int_equal(sendfile64(b.out_fd, b.body.fd, &offset, 1), 1);
	tear_down(&b);
}

static void never_sends_past_the_end_of_a_range(void **state)
{
	struct bench b;
	off64_t offset = 0;

	set_up(&b, 10 << 20, 700000);
	assert_int_equal(sendfile64(b.out_fd, b.body.fd, &offset, ASKED), 699999);
	assert_int_equal(sendfile64(b.out_fd, b.body.fd, &offset, 1), 1);
	assert_int_equal(offset, 700000);
	tear_down(&b);
}

static void takes_a_file_that_became_short_as_a_failure(void **state)
{
	struct bench b;
	off64_t offset = 0;

	set_up(&b, 5000, 1 << 20);
	errno = 0;
	assert_int_equal(sendfile64(b.out_fd, b.body.fd, &offset, ASKED), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(b.exchange.aborted, ABORTED_UPSTREAM);
	tear_down(&b);
}

static void tells_every_failure_as_ebadf(void **state)
{
	struct bench b;
	off64_t offset = 0;
	int pipe_fds[2];

	set_up(&b, 1 << 20, 1 << 20);
	assert_int_equal(pipe(pipe_fds), 0);
	(void)close(pipe_fds[0]);
	(void)signal(SIGPIPE, SIG_IGN);
	assert_int_equal(sendfile64(pipe_fds[1], b.body.fd, &offset, ASKED), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(b.exchange.aborted, ABORTED_CLIENT);
	(void)close(pipe_fds[1]);
	tear_down(&b);
}

static void lets_other_descriptors_through(void **state)
{
	int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC), pair[2];
	off64_t offset = 0;
	char bytes[16];
	uint64_t sends = wire_send_calls(), recvs = wire_recv_calls();

	assert_int_equal(ftruncate(in, 1 << 20), 0);
	assert_int_equal(sendfile64(out, in, &offset, ASKED), ASKED);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(send(pair[0], "BAD\1", 4, 0), 4);
	assert_int_equal(recv(pair[1], bytes, sizeof(bytes), 0), 4);
	assert_int_equal(recv(-1, bytes, sizeof(bytes), 0), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(wire_send_calls(), sends);
	assert_int_equal(wire_recv_calls(), recvs);
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)close(in);
	(void)close(out);
}

static void forgets_a_body_only_while_it_is_still_its_own(void **state)
{
	struct bench b;
	struct body next;
	int fd;

	set_up(&b, 1 << 20, 1 << 20);
	fd = b.body.fd;
	next = b.body;
	wire_add_body(&next); /* the number has a new owner */
	wire_remove_body(&b.body);
	{
		off64_t offset = 0;

		assert_int_equal(sendfile64(b.out_fd, fd, &offset, ASKED), (1 << 20) - 1);
	}
	wire_remove_body(&next);
	(void)close(fd);
	(void)close(b.out_fd);
}

/* --- through the library --- */

static int ask(const struct rig *rig, const char *target)
{
	char text[512];
	int fd = dial(rig), n = snprintf(text, sizeof(text),
					 "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", target);

	assert_int_equal(send(fd, text, (size_t)n, 0), n);
	return fd;
}

/* Reads an answer to its end and compares each byte of the body. Returns how many there were; the last read must be a
 * plain end of file. */
static uint64_t read_body(int fd, uint64_t first)
{
	static char bytes[262144];
	uint64_t total = 0;
	bool in_body = false;
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes) - 1, 0)) > 0) {
		char *from = bytes;

		if (!in_body) { /* the head comes in one piece */
			bytes[n] = '\0';
			from = strstr(bytes, "\r\n\r\n");
			assert_non_null(from);
			from += 4;
			in_body = true;
		}
		for (; from < bytes + n; from++, total++)
			if ((unsigned char)*from != fake_byte(first + total))
				fail_msg("byte %llu is wrong", (unsigned long long)total);
	}
	assert_int_equal(n, 0); /* FIN, not RST */
	(void)close(fd);
	return total;
}

static void is_what_the_library_calls(void **state)
{
	uint64_t recvs = wire_recv_calls(), sends = wire_send_calls();

	assert_int_equal(read_body(ask(*state, "/blob/300000"), 0), 300000);
	assert_true(wire_recv_calls() > recvs);
	assert_true(wire_send_calls() > sends);
}

static void sends_a_large_file_in_few_calls(void **state)
{
	const uint64_t size = 48 << 20;
	uint64_t sends = wire_send_calls();

	assert_int_equal(read_body(ask(*state, "/blob/50331648"), 0), size);
	/* at 128 KiB it would be 384 and more: a full socket makes further short ones */
	assert_true(wire_send_calls() - sends < size / ASKED);
}

static void sends_exactly_the_range_of_a_file(void **state)
{
	assert_int_equal(read_body(ask(*state, "/blob/3000000?o=1234567&l=1"), 1234567), 1);
	assert_int_equal(read_body(ask(*state, "/blob/3000000?o=999&l=1048577"), 999), 1048577);
	assert_int_equal(read_body(ask(*state, "/blob/3000000?o=2999999&l=1"), 2999999), 1);
	assert_int_equal(read_body(ask(*state, "/blob/2097152?o=1&l=2097151"), 1), 2097151);
}

static void follows_a_growing_file_without_stalling(void **state)
{
	uint64_t began = now_ms();

	/* steps below, at and above what the library asks for, and odd ones */
	assert_int_equal(read_body(ask(*state, "/grow/1000000?step=1777&ms=0"), 0), 1000000);
	assert_int_equal(read_body(ask(*state, "/grow/3000000?step=131072&ms=1"), 0), 3000000);
	assert_int_equal(read_body(ask(*state, "/grow/9000001?step=1500000&ms=20"), 0), 9000001);
	assert_int_equal(read_body(ask(*state, "/grow/100?step=1&ms=1"), 0), 100);
	assert_int_equal(read_body(ask(*state, "/grow/2000000?step=0&ms=0"), 0), 2000000);
	assert_true(now_ms() - began < 15000); /* a lost wake-up would cost the idle time-out */
}

static void feeds_many_from_growing_files(void **state)
{
	int fds[16];

	for (size_t i = 0; i < 16; i++)
		fds[i] = ask(*state,
			     i % 2 ? "/grow/2000000?step=70000&ms=1" : "/grow/2000000?step=300001&ms=3");
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(read_body(fds[i], 0), 2000000);
}

static void ends_a_broken_body_early_and_with_fin(void **state)
{
	assert_int_equal(read_body(ask(*state, "/grow/3000000?step=100000&ms=1&fail=1050000"), 0), 1050000);
	assert_int_equal(read_body(ask(*state, "/grow/3000000?step=1000&ms=1&fail=5000"), 0), 5000);
	/* nothing of the zeros behind the reader's mark was sent: read_body() compares */
}

static void stops_parked_bodies_with_the_server(void **state)
{
	int fds[4];

	for (size_t i = 0; i < 4; i++)
		fds[i] = ask(*state, "/grow/3000000?step=10&ms=50");
	wait_for_live(4);
	assert_int_equal(server_drain(((struct rig *)*state)->server, 50), 4);
	rig_free(*state);
	for (size_t i = 0; i < 4; i++)
		(void)close(fds[i]);
	(void)rig_set_up_started(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(widens_a_send_to_a_mebibyte),
		cmocka_unit_test(leaves_the_last_piece_to_the_library),
		cmocka_unit_test(never_sends_past_the_end_of_a_range),
		cmocka_unit_test(takes_a_file_that_became_short_as_a_failure),
		cmocka_unit_test(tells_every_failure_as_ebadf),
		cmocka_unit_test(lets_other_descriptors_through),
		cmocka_unit_test(forgets_a_body_only_while_it_is_still_its_own),
		STARTED(is_what_the_library_calls),
		STARTED(sends_a_large_file_in_few_calls),
		STARTED(sends_exactly_the_range_of_a_file),
		STARTED(follows_a_growing_file_without_stalling),
		STARTED(feeds_many_from_growing_files),
		STARTED(ends_a_broken_body_early_and_with_fin),
		STARTED(stops_parked_bodies_with_the_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
