/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_notify - what we say to the service manager, and the sockets it hands us. A datagram socket stands
 * for the manager; sockets are handed over in a child, since they must have the numbers from 3 on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "notify.h"

static int setup(void **state)
{
	static int manager_fd;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(address);
	char name[sizeof(address.sun_path) + 1];

	manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(manager_fd >= 0);
	/* no name given: the system makes an abstract one up */
	assert_int_equal(bind(manager_fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(getsockname(manager_fd, (struct sockaddr *)&address, &len), 0);
	(void)snprintf(name, sizeof(name), "@%.*s", (int)(len - sizeof(sa_family_t) - 1),
		       address.sun_path + 1);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	*state = &manager_fd;
	return 0;
}

static int teardown(void **state)
{
	(void)close(**(int **)state);
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
	return 0;
}

static void assert_heard(void **state, const char *message)
{
	char text[256];
	ssize_t n = recv(**(int **)state, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = 0;
	assert_string_equal(text, message);
}

static void says_ready_status_and_stopping(void **state)
{
	notify_ready("serving");
	assert_heard(state, "READY=1\nSTATUS=serving");
	notify_status("serving, 12 fills, 100% full");
	assert_heard(state, "STATUS=serving, 12 fills, 100% full");
	notify_stopping("draining");
	assert_heard(state, "STOPPING=1\nSTATUS=draining");
	notify_alive();
	assert_heard(state, "WATCHDOG=1");
	notify_more_time(90000);
	assert_heard(state, "EXTEND_TIMEOUT_USEC=90000000");
}

static void says_since_when_it_reloads(void **state)
{
	char text[256] = { 0 };

	notify_reloading();
	assert_true(recv(**(int **)state, text, sizeof(text) - 1, 0) > 0);
	assert_memory_equal(text, "RELOADING=1\nMONOTONIC_USEC=", 27);
	assert_true(strtoull(text + 27, NULL, 10) > 0);
}

static void is_silent_without_a_manager(void **state)
{
	char text[16];

	(void)unsetenv("NOTIFY_SOCKET");
	notify_ready("serving");
	notify_alive();
	assert_int_equal(recv(**(int **)state, text, sizeof(text), 0), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(notify_alive_interval_ms(), 0);
}

static void is_alive_twice_in_the_managers_time(void **state)
{
	char pid[16];

	(void)setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(notify_alive_interval_ms(), 15000);
	(void)snprintf(pid, sizeof(pid), "%d", getpid() + 1);
	(void)setenv("WATCHDOG_PID", pid, 1); /* meant for another process */
	assert_int_equal(notify_alive_interval_ms(), 0);
}

static int listening_socket(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

/* In a child with the descriptors from 3 on: the exit status says what went wrong, 0 nothing. */
static int child_checks(const int *fds, int count, int announced, int expected)
{
	int got[NOTIFY_FDS_MAX] = { 0 };
	char text[16];

	for (int i = 0; i < count; i++)
		if (dup2(fds[i], 3 + i) < 0)
			return 1;
	(void)snprintf(text, sizeof(text), "%d", getpid());
	(void)setenv("LISTEN_PID", text, 1);
	(void)snprintf(text, sizeof(text), "%d", announced);
	(void)setenv("LISTEN_FDS", text, 1);
	if (notify_listen_fds(got) != expected)
		return 2;
	if (getenv("LISTEN_FDS"))
		return 3;
	for (int i = 0; i < expected; i++)
		if (got[i] != 3 + i || !(fcntl(got[i], F_GETFL) & O_NONBLOCK) ||
		    !(fcntl(got[i], F_GETFD) & FD_CLOEXEC))
			return 4;
	return 0;
}

static void check_in_child(const int *fds, int count, int announced, int expected)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child_checks(fds, count, announced, expected));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Far above the numbers that they are moved to. */
static int moved_up(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, 100);

	assert_true(moved >= 100);
	(void)close(fd);
	return moved;
}

static void takes_listening_sockets_over(void **state)
{
	int fds[2] = { moved_up(listening_socket()), moved_up(listening_socket()) };

	check_in_child(fds, 2, 2, 2);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static void refuses_what_is_no_listening_stream_socket(void **state)
{
	int fds[3] = {
		moved_up(listening_socket()),
		moved_up(socket(AF_INET, SOCK_DGRAM, 0)),
		moved_up(socket(AF_INET, SOCK_STREAM, 0)),
	};

	check_in_child(fds, 2, 2, -ENOTSOCK);
	check_in_child(fds + 2, 1, 1, -ENOTSOCK);
	for (int i = 0; i < 3; i++)
		(void)close(fds[i]);
}

static void refuses_more_sockets_than_it_can_hand_on(void **state)
{
	int fds[NOTIFY_FDS_MAX + 1];

	for (int i = 0; i <= NOTIFY_FDS_MAX; i++)
		fds[i] = moved_up(listening_socket());
	check_in_child(fds, NOTIFY_FDS_MAX + 1, NOTIFY_FDS_MAX + 1, -E2BIG);
	check_in_child(fds, NOTIFY_FDS_MAX, NOTIFY_FDS_MAX, NOTIFY_FDS_MAX);
	for (int i = 0; i <= NOTIFY_FDS_MAX; i++)
		(void)close(fds[i]);
}

static void takes_nothing_when_nothing_is_announced(void **state)
{
	int got[NOTIFY_FDS_MAX];

	assert_int_equal(notify_listen_fds(got), 0);
	(void)setenv("LISTEN_PID", "1", 1); /* meant for another process */
	(void)setenv("LISTEN_FDS", "1", 1);
	assert_int_equal(notify_listen_fds(got), 0);
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(says_ready_status_and_stopping),
		TEST(says_since_when_it_reloads),
		TEST(is_silent_without_a_manager),
		TEST(is_alive_twice_in_the_managers_time),
		TEST(takes_listening_sockets_over),
		TEST(refuses_what_is_no_listening_stream_socket),
		TEST(refuses_more_sockets_than_it_can_hand_on),
		TEST(takes_nothing_when_nothing_is_announced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
