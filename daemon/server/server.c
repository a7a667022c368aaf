/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server - start, drain and stop of the loops. The door's promises are kept in wire.c, conn.c and access_log.c.
 *
 * Life      start: sockets -> loops -> threads. drain: no new ones, idle ones closed, answers go on. free: what is left is
 *           cut, threads joined, the library stopped.
 * Threads   main.
 */
#include "server/priv.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include "common/alloc.h"
#include "common/http/uri.h"
#include "common/scope.h"

#include "common/banned.h"

#define DEFAULT_HEAD_TIMEOUT_MS 10000u
#define DEFAULT_IDLE_TIMEOUT_MS 75000u
#define STUCK_MS 10000u
/* Descriptors that are not connections or their bodies: store, index, upstream, loops. */
#define DESCRIPTORS_FOR_OTHERS 512u

static unsigned loops_wanted(const struct server_opts *opts)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = opts->threads ? opts->threads : cores > 0 ? (unsigned)cores : 1;

	return n < SERVER_THREADS_MAX ? n : SERVER_THREADS_MAX;
}

/* A connection that sends a file needs two descriptors. */
static unsigned connections_allowed(const struct server_opts *opts)
{
	unsigned wanted = opts->connections_max ? opts->connections_max : SERVER_CONNECTIONS_MAX;
	struct rlimit files;
	rlim_t room;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
		return wanted;
	room = files.rlim_cur > 2 * DESCRIPTORS_FOR_OTHERS ? (files.rlim_cur - DESCRIPTORS_FOR_OTHERS) / 2
							   : files.rlim_cur / 4;
	return room < wanted ? (unsigned)room : wanted;
}

static void add_host(char ***hosts, const char *host)
{
	size_t n = 0;

	while (*hosts && (*hosts)[n])
		n++;
	*hosts = xrealloc(*hosts, (n + 2) * sizeof(**hosts));
	(*hosts)[n] = xstrdup(host);
	(*hosts)[n + 1] = NULL;
}

static void free_hosts(char **hosts)
{
	for (char **host = hosts; host && *host; host++)
		free(*host);
	free(hosts);
}

static int take_hosts(struct server *s, const struct server_opts *opts, char **ret_reason)
{
	struct origin origin;
	struct str rest, url = str_from(opts->public_url), authority;

	for (const char *const *host = opts->hosts; host && *host; host++)
		add_host(&s->hosts, *host);
	for (const char *const *host = opts->intercepted_hosts; host && *host; host++)
		add_host(&s->intercepted_hosts, *host);
	if (url.len == 0)
		return 0;
	while (url.len > 0 && url.ptr[url.len - 1] == '/')
		url.len--;
	if (origin_parse(url, &origin, &rest) < 0) {
		*ret_reason =
			xasprintf("server.public-url is not an http or https URL: %s", opts->public_url);
		return -EINVAL;
	}
	s->public_url = str_dup(url);
	add_host(&s->hosts, origin.host);
	/* with its port as written: "cache.lab:8090" */
	authority = str_from(strstr(s->public_url, "://") + 3);
	(void)str_cut(authority, '/', &authority, &rest);
	{
		SCOPED_FREE char *text = str_dup(authority);

		add_host(&s->hosts, text);
	}
	return 0;
}

static struct server *new_server(const struct server_opts *opts)
{
	struct server *s = xcalloc(1, sizeof(*s));

	s->router = opts->router;
	s->auth = opts->auth;
	s->metrics = opts->metrics;
	s->clock = opts->clock ? opts->clock : &clock_system;
	s->head_timeout_ms = opts->head_timeout_ms ? opts->head_timeout_ms : DEFAULT_HEAD_TIMEOUT_MS;
	s->idle_timeout_ms = opts->idle_timeout_ms ? opts->idle_timeout_ms : DEFAULT_IDLE_TIMEOUT_MS;
	s->connections_max = connections_allowed(opts);
	s->spool_folder = xstrdup(opts->spool_folder ? opts->spool_folder : "/tmp");
	s->on_connect = opts->on_connect;
	s->on_connect_ctx = opts->on_connect_ctx;
	s->spool_max = opts->spool_max ? opts->spool_max : UINT64_MAX;
	s->loop_count = loops_wanted(opts);
	s->empty_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s;
}

static int start_loops(struct server *s)
{
	struct loop *loops = xcalloc(s->loop_count, sizeof(*loops));
	unsigned wanted = s->loop_count;
	int r = 0;

	s->loops = loops;
	for (s->loop_count = 0; s->loop_count < wanted && r == 0; s->loop_count++)
		r = loop_init(&loops[s->loop_count], s, s->loop_count);
	for (unsigned i = 0; i < s->loop_count && r == 0; i++)
		r = loop_start(&loops[i]);
	return r;
}

/* The library writes to sockets whose other end may be gone; nothing here wants the signal. */
static void ignore_sigpipe(void)
{
	struct sigaction old;

	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		(void)signal(SIGPIPE, SIG_IGN);
}

int server_start(const struct server_opts *opts, struct server **ret_server, char **ret_reason)
{
	struct server *s = new_server(opts);
	char *reason = NULL;
	int r = s->empty_fd < 0 ? -EMFILE : wire_init();

	ignore_sigpipe();
	if (r == 0)
		r = take_hosts(s, opts, &reason);
	if (r == 0)
		r = listen_open(s, opts, &reason);
	if (r == 0)
		r = start_loops(s);
	if (r == 0) {
		*ret_server = s;
		return 0;
	}
	*ret_reason = reason ? reason : xasprintf("cannot start serving: %s", log_errno_name(r));
	server_free(s);
	return r;
}

const char *server_address(const struct server *s)
{
	return s->address;
}

static void wake_loops(struct server *s)
{
	for (unsigned i = 0; i < s->loop_count && s->loops; i++)
		loop_wake(&s->loops[i]);
}

unsigned server_drain(struct server *s, uint64_t drain_ms)
{
	uint64_t until = clock_mono_ms(&clock_system) + drain_ms;
	struct pollfd empty = { .fd = s->empty_fd, .events = POLLIN };

	atomic_store(&s->is_draining, true);
	for (unsigned i = 0; i < s->listener_count;
	     i++) /* the loops have their own duplicates, and empty the backlog first */
		(void)close(s->listeners[i].fd);
	s->listener_count = 0;
	wake_loops(s);
	while (atomic_load(&s->connections) > 0) {
		uint64_t now = clock_mono_ms(&clock_system);

		if (now >= until)
			break;
		(void)poll(&empty, 1, until - now < 1000 ? (int)(until - now) : 1000);
	}
	return atomic_load(&s->connections);
}

void server_free(struct server *s)
{
	if (!s)
		return;
	atomic_store(&s->is_draining, true);
	atomic_store(&s->is_stopping, true);
	wake_loops(s);
	for (unsigned i = 0; i < s->loop_count && s->loops; i++)
		loop_join(&s->loops[i]);
	for (unsigned i = 0; i < s->loop_count && s->loops; i++)
		loop_done(&s->loops[i]);
	free(s->loops);
	listen_close(s);
	if (s->empty_fd >= 0)
		(void)close(s->empty_fd);
	free_hosts(s->hosts);
	free_hosts(s->intercepted_hosts);
	free(s->public_url);
	free(s->spool_folder);
	free(s);
}

const char *server_loops_alive(struct server *s)
{
	uint64_t now = clock_mono_ms(s->clock);

	for (unsigned i = 0; i < s->loop_count; i++) {
		uint64_t turned = atomic_load(&s->loops[i].turned_mono_ms);

		if (now > turned && now - turned > STUCK_MS)
			return "a server thread has not turned for 10 s";
	}
	return NULL;
}
