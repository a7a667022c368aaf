/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/listen - from address texts, or inherited descriptors, to listening sockets.
 *
 * Each TCP address gets one socket per loop with SO_REUSEPORT: the kernel spreads connections, no thread waits for
 * another. Unix sockets and inherited ones are one for all loops.
 * Promises  (1) a port that somebody else listens on is -EADDRINUSE, although SO_REUSEPORT would let a second daemon of
 *               the same user share it unseen.
 *           (2) port 0 is one port for all loops, and server->address has its number.
 *           (3) a stale unix socket (nobody answers) is replaced, a live one is -EADDRINUSE.
 */
#include "server/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "common/alloc.h"
#include "common/scope.h"

#include "common/banned.h"

#define LISTEN_BACKLOG 4096

/* One address to bind. */
struct target {
	struct sockaddr_storage address;
	socklen_t len;
};

static struct listener *add(struct server *s, int fd, bool is_shared, unsigned loop)
{
	s->listeners = xrealloc(s->listeners, (s->listener_count + 1) * sizeof(*s->listeners));
	s->listeners[s->listener_count] = (struct listener){ .fd = fd, .is_shared = is_shared, .loop = loop };
	return &s->listeners[s->listener_count++];
}

static bool split_port(struct str text, struct str *ret_host, struct str *ret_port)
{
	size_t i = text.len;

	while (i > 0 && text.ptr[i - 1] != ':')
		i--;
	if (i == 0)
		return false;
	*ret_host = (struct str){ text.ptr, i - 1 };
	*ret_port = (struct str){ text.ptr + i, text.len - i };
	if (ret_host->len > 2 && ret_host->ptr[0] == '[' && ret_host->ptr[ret_host->len - 1] == ']')
		*ret_host = (struct str){ ret_host->ptr + 1, ret_host->len - 2 };
	else if (memchr(ret_host->ptr, ':', ret_host->len))
		return false; /* an IPv6 address needs its brackets */
	return ret_host->len > 0;
}

static int parse_tcp(const char *text, struct target *ret)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV },
			*found = NULL;
	struct str host, port;
	uint64_t number;
	SCOPED_FREE char *host_text = NULL;
	SCOPED_FREE char *port_text = NULL;

	if (!split_port(str_from(text), &host, &port) || parse_u64(port, &number) < 0 || number > 65535)
		return -EINVAL;
	host_text = str_dup(host);
	port_text = str_dup(port);
	if (getaddrinfo(host_text, port_text, &hints, &found) != 0)
		return -EINVAL;
	memcpy(&ret->address, found->ai_addr, found->ai_addrlen);
	ret->len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

/* A bound socket. Returns the descriptor or -errno. */
static int bind_tcp(const struct target *t, bool shares_port)
{
	SCOPED_FD int fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (shares_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -errno;
	if (t->address.ss_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&t->address, t->len) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* Promise 1: without SO_REUSEPORT the bind fails if anybody is there. */
static int check_free(const struct target *t)
{
	SCOPED_FD int fd = bind_tcp(t, false);

	return fd < 0 ? fd : 0;
}

/* The first TCP socket gives the server its name; only without one, a unix socket does. */
static void name_address(struct server *s, int fd, bool may_be_unix)
{
	struct sockaddr_storage a = { 0 };
	socklen_t len = sizeof(a);
	char host[CONN_PEER_MAX + 16], port[8];

	if (s->address[0] || getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return;
	if (a.ss_family == AF_UNIX) {
		if (may_be_unix)
			(void)snprintf(s->address, sizeof(s->address), "unix:%s",
				       ((struct sockaddr_un *)&a)->sun_path);
		return;
	}
	if (getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		(void)snprintf(s->address, sizeof(s->address), a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
			       host, port);
}

static int open_tcp(struct server *s, const char *text)
{
	struct target t = { .len = 0 };
	int r = parse_tcp(text, &t);

	if (r == 0)
		r = check_free(&t);
	for (unsigned i = 0; i < s->loop_count && r == 0; i++) {
		int fd = bind_tcp(&t, true);

		if (fd < 0)
			return fd;
		(void)add(s, fd, false, i);
		t.len = sizeof(t.address);
		if (getsockname(fd, (struct sockaddr *)&t.address, &t.len) < 0 ||
		    listen(fd, LISTEN_BACKLOG) < 0)
			return -errno; /* promise 2: the next ones bind to the number that this one got */
	}
	return r;
}

/* Promise 3. */
static int clear_path(const struct sockaddr_un *a)
{
	SCOPED_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(a->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	if (fd >= 0 && (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN))
		return -EADDRINUSE;
	return unlink(a->sun_path) < 0 ? -errno : 0;
}

static void remember_path(struct server *s, const char *path)
{
	size_t n = 0;

	while (s->unix_paths && s->unix_paths[n])
		n++;
	s->unix_paths = xrealloc(s->unix_paths, (n + 2) * sizeof(*s->unix_paths));
	s->unix_paths[n] = xstrdup(path);
	s->unix_paths[n + 1] = NULL;
}

/* Who may connect may read status pages, hence owner and group; the folder decides about the rest. The administrator's: owner. */
static int open_unix(struct server *s, const char *path, bool is_admin)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	SCOPED_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r;

	if (strlen(path) == 0 || strlen(path) >= sizeof(a.sun_path))
		return -EINVAL;
	memcpy(a.sun_path, path, strlen(path) + 1);
	if (fd < 0)
		return -errno;
	r = clear_path(&a);
	if (r < 0)
		return r;
	if (bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	remember_path(s, path);
	/* nobody can connect before it listens */
	if (chmod(path, is_admin ? 0600 : 0660) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	add(s, TAKE_FD(fd), true, 0)->is_admin = is_admin;
	return 0;
}

static int open_inherited(struct server *s, int fd)
{
	int flags = fcntl(fd, F_GETFL), listens = 0;
	socklen_t len = sizeof(listens);

	if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
		return -EINVAL;
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	(void)add(s, fd, true, 0);
	return 0;
}

static char *explain(const char *address, int error)
{
	switch (error) {
	case -EINVAL:
		return xasprintf(
			"%s is not an address to listen on: write ADDRESS:PORT, [IPv6]:PORT or unix:PATH",
			address);
	case -EADDRINUSE:
		return xasprintf("cannot listen on %s: another program does already", address);
	case -EACCES:
		return xasprintf("cannot listen on %s: not permitted (ports below 1024 need a privilege)",
				 address);
	case -EADDRNOTAVAIL:
		return xasprintf("cannot listen on %s: this machine has no such address", address);
	default:
		return xasprintf("cannot listen on %s: %s", address, log_errno_name(error));
	}
}

static int open_text(struct server *s, const char *text)
{
	return strncmp(text, "unix:", 5) == 0 ? open_unix(s, text + 5, false) : open_tcp(s, text);
}

static int open_admin(struct server *s, const char *path, char **ret_reason)
{
	int r = path ? open_unix(s, path, true) : 0;

	if (r < 0) {
		SCOPED_FREE char *text = xasprintf("unix:%s", path);

		*ret_reason = explain(text, r);
	}
	return r;
}

int listen_open(struct server *s, const struct server_opts *opts, char **ret_reason)
{
	for (unsigned i = 0; i < opts->inherited_count; i++) {
		int r = open_inherited(s, opts->inherited_fds[i]);

		if (r < 0) {
			*ret_reason =
				xasprintf("descriptor %d from the service manager is not a listening socket",
					  opts->inherited_fds[i]);
			return r;
		}
	}
	for (const char *const *text = opts->listen; text && *text && opts->inherited_count == 0; text++) {
		int r = open_text(s, *text);

		if (r < 0) {
			*ret_reason = explain(*text, r);
			return r;
		}
	}
	if (s->listener_count == 0) {
		*ret_reason = xstrdup("server.listen names no address");
		return -EINVAL;
	}
	for (unsigned i = 0; i < 2 * s->listener_count; i++)
		name_address(s, s->listeners[i % s->listener_count].fd, i >= s->listener_count);
	return open_admin(s, opts->admin_socket, ret_reason);
}

void listen_close(struct server *s)
{
	for (unsigned i = 0; i < s->listener_count; i++)
		(void)close(s->listeners[i].fd);
	s->listener_count = 0;
	free(TAKE_PTR(s->listeners));
	for (char **path = s->unix_paths; path && *path; path++) {
		(void)unlink(*path);
		free(*path);
	}
	free(TAKE_PTR(s->unix_paths));
}
