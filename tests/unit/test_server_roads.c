/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server - the roads beside its listeners: connections that are given away, given to it, and the administrator's own.
 */
#include "fake_client.h"
#include "server/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/scope.h"

#include <cmocka.h>

static const char connect_head[] = "CONNECT router.huggingface.co:443 HTTP/1.1\r\nHost: a\r\n\r\nand more";

/* --- CONNECT --- */

struct taker {
	pthread_mutex_t mutex;
	pthread_cond_t came;
	unsigned count;
	int fd;
	struct sockaddr_storage from;
	char early[256];
};

static struct taker taker;
static struct splices *splices;

static void take_connection(void *ctx, int fd, const struct sockaddr_storage *from, struct str early)
{
	struct taker *t = ctx;

	pthread_mutex_lock(&t->mutex);
	t->count++;
	t->fd = fd;
	t->from = *from;
	assert_true(early.len < sizeof(t->early));
	memcpy(t->early, early.ptr, early.len);
	t->early[early.len] = 0;
	pthread_cond_signal(&t->came);
	pthread_mutex_unlock(&t->mutex);
}

static void wait_for_taking(void)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&taker.mutex);
	while (taker.count == 0)
		assert_int_equal(pthread_cond_timedwait(&taker.came, &taker.mutex, &until), 0);
	pthread_mutex_unlock(&taker.mutex);
}

static int set_up_taking(void **state)
{
	struct rig *rig = rig_new();

	taker = (struct taker){ .mutex = PTHREAD_MUTEX_INITIALIZER,
				.came = PTHREAD_COND_INITIALIZER,
				.fd = -1 };
	rig->opts.on_connect = take_connection;
	rig->opts.on_connect_ctx = &taker;
	rig_start(rig);
	*state = rig;
	return 0;
}

/* What was given away works both ways, whatever the library does to its own descriptor. */
static void expect_both_ways(struct rig *rig, int client)
{
	struct sockaddr_in *from = (struct sockaddr_in *)&taker.from;
	char text[64];

	wait_for_connections(rig, 0);
	assert_true(from->sin_family == AF_INET && from->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	say(taker.fd, "to the client");
	assert_int_equal(recv(client, text, sizeof(text), 0), 13);
	say(client, "to the taker");
	assert_int_equal(recvfrom(taker.fd, text, 12, MSG_WAITALL, NULL, NULL), 12);
	(void)close(taker.fd);
	assert_true(is_over(client));
	(void)close(client);
}

static void gives_a_connect_away_with_all_that_was_read(void **state)
{
	int fd = dial(*state);
	uint64_t shutdowns = wire_shutdown_calls();

	say(fd, connect_head);
	wait_for_taking();
	assert_string_equal(taker.early, connect_head);
	expect_both_ways(*state, fd);
	assert_true(wire_shutdown_calls() > shutdowns); /* so it was needed that it did nothing */
}

static void gives_a_connect_away_that_comes_in_pieces(void **state)
{
	int fd = dial(*state);

	for (size_t i = 0; i < 10; i++) {
		char piece[2] = { connect_head[i], 0 };

		say(fd, piece);
		(void)usleep(3000);
	}
	wait_for_taking();
	/* it had its space with the eighth byte; what comes later is the taker's to read */
	assert_memory_equal(taker.early, "CONNECT ", 8);
	say(fd, connect_head + 10);
	for (size_t at = strlen(taker.early); at < strlen(connect_head);) {
		ssize_t n = recvfrom(taker.fd, taker.early + at, sizeof(taker.early) - 1 - at, 0, NULL, NULL);

		assert_true(n > 0 || errno == EAGAIN);
		at += n > 0 ? (size_t)n : 0;
		taker.early[at] = 0;
	}
	assert_string_equal(taker.early, connect_head);
	expect_both_ways(*state, fd);
}

static void gives_a_connect_away_after_answers(void **state)
{
	int fd = dial(*state);

	say(fd, GET("/blob/300000"));
	expect(fd, 200, NULL);
	say(fd, "\r\n");
	say(fd, connect_head);
	wait_for_taking();
	assert_string_equal(taker.early, connect_head);
	expect_both_ways(*state, fd);
}

static void gives_none_away_that_has_an_answer_to_come(void **state)
{
	int fd = dial(*state);

	say(fd, GET("/slow?ms=100") "CONNECT a:443 HTTP/1.1\r\n\r\n"); /* read with it */
	expect(fd, 200, "at last\n");
	assert_true(is_over(fd));
	(void)close(fd);
	fd = dial(*state);
	say(fd, GET("/") "CONNECT a:443 HTTP/1.1\r\n\r\n");
	expect(fd, 200, "hello\n");
	assert_true(is_over(fd));
	(void)close(fd);
	assert_int_equal(taker.count, 0);
}

static void refuses_connect_where_nobody_takes_it(void **state)
{
	int fd = dial(*state);

	say(fd, connect_head);
	expect(fd, 405, NULL);
	(void)close(fd);
}

static void other_methods_are_no_connect(void **state)
{
	static const char *const texts[] = { "CONNECTS a:443 HTTP/1.1\r\n\r\n", "CONN\r\n\r\n",
					     "TRACE / HTTP/1.1\r\n\r\n", "connect a:443 HTTP/1.1\r\n\r\n" };
	static const int statuses[] = { 501, 400, 405, 501 };

	for (size_t i = 0; i < 4; i++) {
		int fd = dial(*state);

		say(fd, texts[i]);
		expect(fd, statuses[i], NULL);
		(void)close(fd);
	}
	assert_int_equal(taker.count, 0);
}

/* --- upgrades --- */

static int set_up_upgrades(void **state)
{
	(void)rig_set_up_started(state);
	splices = splices_new(&(struct splices_opts){ .joins_max = 8 });
	assert_non_null(splices);
	fake_router_splices(splices);
	return 0;
}

static int tear_down_upgrades(void **state)
{
	splices_stop(splices);
	(void)rig_tear_down(state);
	splices_free(splices);
	return 0;
}

static int listen_here(uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval patience = { .tv_sec = 20 };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static void say_upgrade(int fd, uint16_t port, const char *behind)
{
	char text[256];

	(void)snprintf(text, sizeof(text),
		       "GET /upgrade?port=%u HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
		       "Upgrade: WebSocket\r\n\r\n%s",
		       port, behind);
	say(fd, text);
}

/* What a client is told of an upgrade: nothing of the host's own words. */
#define TOLD "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

static void expect_bytes(int fd, const char *text)
{
	char got[256] = "";

	assert_int_equal(recvfrom(fd, got, strlen(text), MSG_WAITALL, NULL, NULL), strlen(text));
	assert_string_equal(got, text);
}

static void joins_a_client_to_the_host_of_its_upgrade(void **state)
{
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port), fd = dial(rig), host;

	say(fd, GET("/"));
	expect(fd, 200, "hello\n");
	/* a frame in the same packet as the head, which would be no HTTP */
	say_upgrade(fd, port,
		    "\x81\x05"
		    "early");
	host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	expect_bytes(host, "GET /asked HTTP/1.1\r\n\r\n");
	say(fd, "\x81\x04"
		"late");
	say(host, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-Theirs: 1\r\n\r\n\x81\x03you");
	expect_bytes(fd, TOLD "\x81\x03you");
	expect_bytes(host, "\x81\x05"
			   "early\x81\x04"
			   "late");
	wait_for_connections(rig, 0); /* it is no connection of the server any more, and lives on */
	say(fd, "GET / HTTP/1.1\r\n");
	expect_bytes(host, "GET / HTTP/1.1\r\n");
	(void)close(host);
	assert_true(is_over(fd));
	(void)close(fd);
	(void)close(listener);
	assert_int_equal(metrics_value(rig->metrics, METRIC_HTTP_ABORTED, ABORTED_CLIENT, 0, 0), 0);
}

static void an_upgrade_that_is_refused_is_answered_as_ever(void **state)
{
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port), fd = dial(rig), host;

	/* no upgrade at all: the connection goes on */
	say(fd, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	expect(fd, 200, "hello\n");
	say(fd, GET("/"));
	expect(fd, 200, "hello\n");
	/* others than WebSocket are nothing to us, and what follows is HTTP */
	say(fd, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" GET("/bytes/3"));
	expect(fd, 200, "hello\n");
	expect(fd, 200, NULL);
	/* what came behind the head may be frames: nobody can tell where the next request begins */
	say(fd, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n" GET("/"));
	expect(fd, 200, "hello\n");
	assert_true(is_over(fd));
	(void)close(fd);
	fd = dial(rig);
	say_upgrade(fd, port, "");
	host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	say(host, "HTTP/1.1 403 Forbidden\r\n\r\n");
	expect(fd, 502, "no upgrade\n");
	(void)close(fd);
	(void)close(host);
	(void)close(listener);
}

/* A handler that joins what did not ask for it would give bytes away that are the library's. */
static void nobody_is_joined_who_did_not_ask(void **state)
{
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port), fd = dial(rig), host;
	char text[128];

	(void)snprintf(text, sizeof(text), "GET /upgrade?port=%u HTTP/1.1\r\nHost: a\r\n\r\n", port);
	say(fd, text);
	host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	say(host, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
	expect(fd, 503, NULL);
	(void)close(fd);
	(void)close(host);
	(void)close(listener);
}

static void a_client_that_leaves_before_its_upgrade_leaves_nothing(void **state)
{
	struct rig *rig = *state;
	uint16_t port;
	int listener = listen_here(&port), fd = dial(rig), host;
	uint64_t began = now_ms();

	say_upgrade(fd, port, "");
	host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	expect_bytes(host, "GET /asked HTTP/1.1\r\n\r\n");
	(void)close(fd);
	say(host, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
	while (splices_count(splices) > 0) {
		(void)send(host, "frame", 5, MSG_NOSIGNAL);
		assert_true(now_ms() - began < 20000 && usleep(2000) == 0);
	}
	wait_for_connections(rig, 0);
	(void)close(host);
	(void)close(listener);
}

/* --- server_add --- */

static const char *const names[] = { "huggingface.co", "*.hf.example", NULL };

static int set_up_adding(void **state)
{
	struct rig *rig = rig_new();

	taker = (struct taker){ .mutex = PTHREAD_MUTEX_INITIALIZER,
				.came = PTHREAD_COND_INITIALIZER,
				.fd = -1 };
	rig->opts.intercepted_hosts = names;
	rig->opts.public_url = "http://cache.lab:8090";
	rig->opts.on_connect = take_connection;
	rig->opts.on_connect_ctx = &taker;
	rig_start(rig);
	*state = rig;
	return 0;
}

static struct sockaddr_storage client_address(void)
{
	struct sockaddr_storage from = { 0 };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&from;

	v4->sin_family = AF_INET;
	assert_int_equal(inet_pton(AF_INET, "192.0.2.7", &v4->sin_addr), 1);
	return from;
}

/* A client whose connection comes from elsewhere. */
static int add(const struct rig *rig, unsigned flags)
{
	struct sockaddr_storage from = client_address();
	struct timeval patience = { .tv_sec = 20 };
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(server_add(rig->server, pair[1], &from, flags), 0);
	return pair[0];
}

static void serves_an_added_connection_as_its_client(void **state)
{
	int fd = add(*state, SERVER_INTERCEPTED);
	struct answer_text a;

	say(fd, "GET /request HTTP/1.1\r\nHost: HuggingFace.co\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n");
	a = hear(fd, true);
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.body.bytes, "base=https://HuggingFace.co\nclient=192.0.2.7\n"));
	assert_non_null(strstr(a.body.bytes, "admin=no\nintercepted=yes\n"));
	answer_done(&a);
	say(fd, "GET /request HTTP/1.1\r\nHost: a.hf.example:443\r\n\r\n");
	a = hear(fd, true);
	assert_non_null(strstr(a.body.bytes, "base=https://a.hf.example:443\n"));
	answer_done(&a);
	(void)close(fd);
}

/* Neither is it one of the machine's own, as a socket file's client would be, nor is its Host checked less. */
static void an_added_connection_is_no_local_one(void **state)
{
	static const char *const texts[] = { "GET / HTTP/1.1\r\nHost: cache.lab:8090\r\n\r\n", GET("/"),
					     "GET /-/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
					     "GET / HTTP/1.0\r\n\r\n",
					     "GET / HTTP/1.1\r\nHost: hf.example\r\n\r\n" };
	struct sockaddr_storage from = { .ss_family = AF_UNIX };
	int pair[2];

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int fd = add(*state, SERVER_INTERCEPTED);

		say(fd, texts[i]);
		expect(fd, 421, NULL);
		(void)close(fd);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(server_add(((struct rig *)*state)->server, pair[1], &from, 0), -EINVAL);
	assert_true(is_over(pair[0])); /* taken also on failure */
	(void)close(pair[0]);
}

static void hides_our_own_pages_from_the_intercepted(void **state)
{
	static const char *const paths[] = { "/-/status", "/-/healthz", "/-/", "/-", "/" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int fd = add(*state, SERVER_INTERCEPTED);
		char text[128];

		(void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: huggingface.co\r\n\r\n",
			       paths[i]);
		say(fd, text);
		expect(fd, 404, NULL);
		(void)close(fd);
	}
	{
		int fd = add(*state, SERVER_INTERCEPTED);

		say(fd, "PUT /-/upload/abc HTTP/1.1\r\nHost: huggingface.co\r\nContent-Length: 0\r\n\r\n");
		expect(fd, 200, "hello\n");
		(void)close(fd);
	}
}

static void takes_no_connect_within_an_added_connection(void **state)
{
	int fd = add(*state, SERVER_INTERCEPTED);

	say(fd, connect_head);
	expect(fd, 405, NULL);
	(void)close(fd);
	assert_int_equal(taker.count, 0);
}

/* Without the flag it is a connection like those of the listeners. */
static void an_added_connection_need_not_be_intercepted(void **state)
{
	int fd = add(*state, 0);
	struct answer_text a;

	say(fd, "GET /request HTTP/1.1\r\nHost: cache.lab:8090\r\n\r\n");
	a = hear(fd, true);
	assert_non_null(strstr(a.body.bytes, "base=http://cache.lab:8090\nclient=192.0.2.7\n"));
	assert_non_null(strstr(a.body.bytes, "admin=no\nintercepted=no\n"));
	answer_done(&a);
	say(fd, "GET / HTTP/1.1\r\nHost: huggingface.co\r\n\r\n");
	expect(fd, 421, NULL);
	(void)close(fd);
}

#define INTERCEPTED(target) "GET " target " HTTP/1.1\r\nHost: huggingface.co\r\n\r\n"

static void sends_all_kinds_of_bodies_through_a_socket_pair(void **state)
{
	static const char *const targets[] = { INTERCEPTED("/blob/5000000"),
					       INTERCEPTED("/grow/3000000?step=100000&ms=1"),
					       INTERCEPTED("/relay/2000000?known=1"),
					       INTERCEPTED("/relay/2000000"), INTERCEPTED("/bytes/1000000") };
	static const size_t sizes[] = { 5000000, 3000000, 2000000, 2000000, 1000000 };
	int fd = add(*state, SERVER_INTERCEPTED);
	uint64_t sends = wire_send_calls();

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct answer_text a;

		say(fd, targets[i]);
		(void)usleep(i == 0 ? 50000 : 0); /* the socket is full meanwhile */
		a = hear(fd, true);
		assert_int_equal(a.status, 200);
		expect_pattern(buf_str(&a.body), sizes[i]);
		answer_done(&a);
	}
	assert_true(wire_send_calls() > sends);
	say(fd, "POST /echo HTTP/1.1\r\nHost: huggingface.co\r\nExpect: 100-continue\r\nContent-Length: "
		"3\r\n\r\n");
	expect(fd, 100, NULL);
	say(fd, "abc");
	expect(fd, 200, "abc");
	(void)close(fd);
}

static void cuts_a_body_that_fails_before_its_length(void **state)
{
	int fd = add(*state, SERVER_INTERCEPTED);
	struct answer_text a;

	say(fd, INTERCEPTED("/grow/300000?step=10000&ms=1&fail=200000"));
	a = hear(fd, true);
	assert_int_equal(a.status, 200);
	assert_true(a.body.len < 300000);
	answer_done(&a);
	(void)close(fd);
}

static void takes_none_when_draining(void **state)
{
	struct rig *rig = *state;
	struct sockaddr_storage from = client_address();
	int idle = add(rig, SERVER_INTERCEPTED), pair[2];

	say(idle, INTERCEPTED("/bytes/5"));
	expect(idle, 200, NULL);
	assert_int_equal(server_drain(rig->server, 20000), 0);
	assert_true(is_over(idle));
	(void)close(idle);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(server_add(rig->server, pair[1], &from, 0), -ESHUTDOWN);
	assert_true(is_over(pair[0]));
	(void)close(pair[0]);
}

/* --- the administrator's socket --- */

struct folder {
	char path[64], admin[96], plain[128];
};

static int connect_file(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void expect_admin(int fd, const char *wanted)
{
	struct answer_text a;

	say(fd, "GET /request HTTP/1.1\r\nHost: anything\r\nX-Admin: yes\r\n\r\n");
	a = hear(fd, true);
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.body.bytes, wanted));
	answer_done(&a);
	(void)close(fd);
}

static void make_folder(struct folder *f)
{
	memcpy(f->path, "/tmp/hfcached-test-XXXXXX", 26);
	assert_non_null(mkdtemp(f->path));
	(void)snprintf(f->admin, sizeof(f->admin), "%s/admin", f->path);
	(void)snprintf(f->plain, sizeof(f->plain), "unix:%s/plain", f->path);
}

static void knows_the_administrator_by_its_socket_alone(void **state)
{
	struct rig *rig = *state;
	const char *listen[] = { "127.0.0.1:0", NULL, NULL };
	struct sockaddr_un stale = { .sun_family = AF_UNIX };
	struct folder f;
	struct stat st;
	int fd;

	make_folder(&f);
	(void)snprintf(stale.sun_path, sizeof(stale.sun_path), "%s", f.admin);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&stale, sizeof(stale)), 0);
	(void)close(fd); /* somebody was killed */
	listen[1] = f.plain;
	rig->opts.listen = listen;
	rig->opts.admin_socket = f.admin;
	rig->opts.hosts = (const char *const[]){ "anything", NULL };
	rig_start(rig);
	assert_int_equal(stat(f.admin, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	expect_admin(connect_file(f.admin), "admin=yes\n");
	expect_admin(connect_file(f.plain + strlen("unix:")), "admin=no\n");
	expect_admin(dial(rig), "admin=no\n");
	server_free(TAKE_PTR(rig->server));
	assert_int_equal(stat(f.admin, &st), -1);
	assert_int_equal(rmdir(f.path), 0);
}

static void the_administrator_needs_no_listed_host(void **state)
{
	struct rig *rig = *state;
	struct folder f;
	int fd;

	make_folder(&f);
	rig->opts.admin_socket = f.admin;
	rig->opts.hosts = (const char *const[]){ "cache.lab", NULL };
	rig_start(rig);
	expect_admin(connect_file(f.admin), "admin=yes\n");
	fd = connect_file(f.admin);
	say(fd, connect_head);
	expect(fd, 405, NULL);
	(void)close(fd);
	server_free(TAKE_PTR(rig->server));
	assert_int_equal(rmdir(f.path), 0);
}

static void a_live_administrators_socket_is_not_replaced(void **state)
{
	struct rig *rig = *state;
	struct server *other = NULL;
	struct folder f;
	char *reason = NULL;

	make_folder(&f);
	rig->opts.admin_socket = f.admin;
	rig_start(rig);
	assert_int_equal(server_start(&rig->opts, &other, &reason), -EADDRINUSE);
	assert_non_null(strstr(reason, f.admin));
	free(reason);
	expect_admin(connect_file(f.admin), "admin=yes\n");
	server_free(TAKE_PTR(rig->server));
	assert_int_equal(rmdir(f.path), 0);
}

#define TAKING(test) cmocka_unit_test_setup_teardown(test, set_up_taking, rig_tear_down)
#define UPGRADING(test) cmocka_unit_test_setup_teardown(test, set_up_upgrades, tear_down_upgrades)
#define ADDING(test) cmocka_unit_test_setup_teardown(test, set_up_adding, rig_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TAKING(gives_a_connect_away_with_all_that_was_read),
		TAKING(gives_a_connect_away_that_comes_in_pieces),
		TAKING(gives_a_connect_away_after_answers),
		TAKING(gives_none_away_that_has_an_answer_to_come),
		STARTED(refuses_connect_where_nobody_takes_it),
		TAKING(other_methods_are_no_connect),
		UPGRADING(joins_a_client_to_the_host_of_its_upgrade),
		UPGRADING(an_upgrade_that_is_refused_is_answered_as_ever),
		UPGRADING(nobody_is_joined_who_did_not_ask),
		UPGRADING(a_client_that_leaves_before_its_upgrade_leaves_nothing),
		ADDING(serves_an_added_connection_as_its_client),
		ADDING(an_added_connection_is_no_local_one),
		ADDING(hides_our_own_pages_from_the_intercepted),
		ADDING(takes_no_connect_within_an_added_connection),
		ADDING(an_added_connection_need_not_be_intercepted),
		ADDING(sends_all_kinds_of_bodies_through_a_socket_pair),
		ADDING(cuts_a_body_that_fails_before_its_length),
		ADDING(takes_none_when_draining),
		CONFIGURED(knows_the_administrator_by_its_socket_alone),
		CONFIGURED(the_administrator_needs_no_listed_host),
		CONFIGURED(a_live_administrators_socket_is_not_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
