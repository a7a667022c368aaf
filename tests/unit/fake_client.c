/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_client - see the header.
 */
#include "fake_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "server/priv.h"

#include <cmocka.h>

struct rig *rig_new(void)
{
	struct rig *rig = xcalloc(1, sizeof(*rig));

	log_set_level(LOG_LEVEL_ERROR);
	rig->router = fake_router_new();
	rig->metrics = metrics_new();
	rig->listen[0] = "127.0.0.1:0";
	rig->opts = (struct server_opts){ .listen = rig->listen,
					  .threads = 2,
					  .router = rig->router,
					  .metrics = rig->metrics,
					  .clock = &clock_system };
	return rig;
}

void rig_start(struct rig *rig)
{
	char *reason = NULL;

	if (server_start(&rig->opts, &rig->server, &reason) < 0)
		fail_msg("%s", reason);
}

void rig_free(struct rig *rig)
{
	server_free(rig->server);
	assert_int_equal(fake_router_live(), 0);
	metrics_free(rig->metrics);
	fake_router_free(rig->router);
	free(rig);
}

int rig_set_up(void **state)
{
	*state = rig_new();
	return 0;
}

int rig_set_up_started(void **state)
{
	*state = rig_new();
	rig_start(*state);
	return 0;
}

int rig_tear_down(void **state)
{
	rig_free(*state);
	return 0;
}

#define PATIENCE_MS 20000

void wait_for_live(unsigned count)
{
	uint64_t began = now_ms();

	while (fake_router_live() != count)
		assert_true(now_ms() - began < PATIENCE_MS && usleep(1000) == 0);
}

void wait_for_connections(const struct rig *rig, unsigned count)
{
	uint64_t began = now_ms();

	while (atomic_load(&rig->server->connections) != count)
		assert_true(now_ms() - began < PATIENCE_MS && usleep(1000) == 0);
}

int try_dial(const struct rig *rig)
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

int dial(const struct rig *rig)
{
	int fd = try_dial(rig);

	assert_true(fd >= 0);
	return fd;
}

void say(int fd, const char *text)
{
	size_t len = strlen(text);

	for (size_t at = 0; at < len;) {
		ssize_t n = send(fd, text + at, len - at, MSG_NOSIGNAL);

		assert_true(n > 0);
		at += (size_t)n;
	}
}

ssize_t take(int fd, struct buf *out, size_t max)
{
	char piece[65536];
	ssize_t n = 1;

	while (max > 0 && (n = recv(fd, piece, max < sizeof(piece) ? max : sizeof(piece), 0)) > 0) {
		assert_int_equal(buf_append(out, piece, (size_t)n), 0);
		max -= (size_t)n;
	}
	return n;
}

struct str field(const struct answer_text *a, const char *name)
{
	struct str line, rest = buf_str(&a->head), key, value;

	while (rest.len > 0) {
		(void)str_cut(rest, '\n', &line, &rest);
		if (str_cut(line, ':', &key, &value) && str_eq_nocase(key, str_from(name)))
			return (struct str){ value.ptr + 1, value.len - 2 };
	}
	return (struct str){ NULL, 0 };
}

void answer_done(struct answer_text *a)
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
			bytes = bytes * 16 +
				(uint64_t)(size[i] <= '9' ? size[i] - '0' : (size[i] | 32) - 'a' + 10);
		(void)take(fd, out, bytes);
		assert_int_equal(recv(fd, end, 2, MSG_WAITALL), 2);
		if (bytes == 0)
			return;
	}
}

struct answer_text hear(int fd, bool has_body)
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

bool is_over(int fd)
{
	char byte;

	return recv(fd, &byte, 1, 0) == 0; /* -1 would be an RST */
}

void expect(int fd, int status, const char *body)
{
	struct answer_text a = hear(fd, true);

	assert_int_equal(a.status, status);
	if (body)
		assert_string_equal(a.body.bytes ? a.body.bytes : "", body);
	answer_done(&a);
}

void expect_pattern(struct str body, size_t len)
{
	assert_int_equal(body.len, len);
	for (size_t i = 0; i < len; i++)
		assert_true((unsigned char)body.ptr[i] == fake_byte(i));
}

uint64_t now_ms(void)
{
	return clock_mono_ms(&clock_system);
}

bool say_zeros(int fd, size_t count)
{
	static const char zeros[65536];

	for (size_t n; count > 0; count -= n) {
		n = count < sizeof(zeros) ? count : sizeof(zeros);
		if (send(fd, zeros, n, MSG_NOSIGNAL) != (ssize_t)n)
			return false;
	}
	return true;
}
