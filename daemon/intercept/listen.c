/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intercept/listen - address texts to listening sockets.
 */
#include "intercept/priv.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define BACKLOG 1024

static int resolve(const char *text, struct addrinfo **ret_found)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };
	struct str all = str_from(text), host = host_without_port(all), port;
	SCOPED_FREE char *host_text = NULL;
	SCOPED_FREE char *port_text = NULL;
	uint64_t number;

	if (host.len == 0 || host.len == all.len)
		return -EINVAL;
	port = (struct str){ host.ptr + host.len + 1, all.len - host.len - 1 };
	if (parse_u64(port, &number) < 0 || number > 65535)
		return -EINVAL;
	if (host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
		host = (struct str){ host.ptr + 1, host.len - 2 };
	host_text = str_dup(host);
	port_text = str_dup(port);
	return getaddrinfo(host_text, port_text, &hints, ret_found) == 0 ? 0 : -EINVAL;
}

bool listen_is_address(const char *text)
{
	struct addrinfo *found = NULL;

	if (resolve(text, &found) < 0)
		return false;
	freeaddrinfo(found);
	return true;
}

static int open_socket(const struct addrinfo *a)
{
	SCOPED_FD int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (a->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int listen_at(const char *text, char **ret_reason)
{
	struct addrinfo *found = NULL;
	int fd = resolve(text, &found);

	if (fd == 0) {
		fd = open_socket(found);
		freeaddrinfo(found);
	}
	if (fd == -EADDRINUSE)
		*ret_reason = xasprintf("intercept.listen: cannot listen on %s: another program does already",
					text);
	else if (fd == -EACCES)
		*ret_reason = xasprintf(
			"intercept.listen: cannot listen on %s: not permitted (ports below 1024 need "
			"CAP_NET_BIND_SERVICE)",
			text);
	else if (fd < 0)
		*ret_reason =
			xasprintf("intercept.listen: cannot listen on %s: %s", text, log_errno_name(fd));
	return fd;
}

void listen_name(int fd, char ret_text[LISTEN_NAME_MAX])
{
	struct sockaddr_storage a = { 0 };
	socklen_t len = sizeof(a);
	char host[64], port[8];

	ret_text[0] = 0;
	if (getsockname(fd, (struct sockaddr *)&a, &len) == 0 &&
	    getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		(void)snprintf(ret_text, LISTEN_NAME_MAX, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
			       port);
}

static in_port_t port_of(const struct sockaddr *a)
{
	return a->sa_family == AF_INET6 ? ((const struct sockaddr_in6 *)a)->sin6_port
					: ((const struct sockaddr_in *)a)->sin_port;
}

/* Whose address it is, the kernel says: only our own can be bound. */
static bool is_of_this_machine(const struct sockaddr *address)
{
	struct sockaddr_storage any_port = { 0 };
	socklen_t len =
		address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	SCOPED_FD int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(&any_port, address, len);
	if (address->sa_family == AF_INET6)
		((struct sockaddr_in6 *)&any_port)->sin6_port = 0;
	else
		((struct sockaddr_in *)&any_port)->sin_port = 0;
	return fd >= 0 && bind(fd, (const struct sockaddr *)&any_port, len) == 0;
}

bool listen_is_at(const struct sockaddr_storage *bound, const struct sockaddr *address)
{
	const struct sockaddr_in *b4 = (const struct sockaddr_in *)bound,
				 *a4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *b6 = (const struct sockaddr_in6 *)bound,
				  *a6 = (const struct sockaddr_in6 *)address;
	bool is_any, is_same;

	if (bound->ss_family != address->sa_family ||
	    (address->sa_family != AF_INET && address->sa_family != AF_INET6) ||
	    port_of((const struct sockaddr *)bound) != port_of(address))
		return false;
	if (address->sa_family == AF_INET6) {
		is_any = IN6_IS_ADDR_UNSPECIFIED(&b6->sin6_addr);
		is_same = IN6_ARE_ADDR_EQUAL(&b6->sin6_addr, &a6->sin6_addr);
	} else {
		is_any = b4->sin_addr.s_addr == htonl(INADDR_ANY);
		is_same = b4->sin_addr.s_addr == a4->sin_addr.s_addr;
	}
	return is_same || (is_any && is_of_this_machine(address));
}
