/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstream - the scripted server in upstream.h. Plain blocking sockets; ends when it is told to.
 */
#include "upstream.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "common/alloc.h"
#include "common/list.h"

#include "common/banned.h"

struct connection {
	struct list node;
	struct upstream *up;
	pthread_t thread;
	int fd;
};

struct upstream {
	int fd;
	unsigned port;
	char url[64];
	upstream_answer answer;
	void *ctx;
	pthread_t thread;
	atomic_bool is_stopping;
	atomic_uint requests, connections, accepted;
	struct list open; /* of connections; the accepting thread's */
};

/* Port 0: a free one. */
static int bind_to_loopback(unsigned port, unsigned *ret_port)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert(fd >= 0);
	assert(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) == 0);
	assert(bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0);
	assert(getsockname(fd, (struct sockaddr *)&in, &len) == 0);
	*ret_port = ntohs(in.sin_port);
	return fd;
}

unsigned upstream_dead_port(void)
{
	unsigned port;

	(void)close(bind_to_loopback(0, &port));
	return port;
}

/* --- one request ---------------------------------------------------------------------------------------- */

static bool read_head(struct upstream_call *c)
{
	size_t len = 0;

	while (len < sizeof(c->head) - 1) {
		ssize_t got = recv(c->fd, c->head + len, 1, 0);

		if (got <= 0)
			return false;
		c->head[++len] = 0;
		if (len >= 4 && memcmp(c->head + len - 4, "\r\n\r\n", 4) == 0)
			return true;
	}
	return false;
}

static void take_request_line(struct upstream_call *c)
{
	const char *space = strchr(c->head, ' ');
	const char *end = space ? strchr(space + 1, ' ') : NULL;

	assert(space && end && (size_t)(space - c->head) < sizeof(c->method) &&
	       (size_t)(end - space) < sizeof(c->target));
	memcpy(c->method, c->head, (size_t)(space - c->head));
	memcpy(c->target, space + 1, (size_t)(end - space - 1));
}

static void *run_connection(void *p)
{
	struct connection *connection = p;
	struct upstream *u = connection->up;
	bool is_open = true, is_first = true;

	while (is_open && !atomic_load(&u->is_stopping)) {
		struct upstream_call *c = xcalloc(1, sizeof(*c));

		c->up = u;
		c->fd = connection->fd;
		is_open = read_head(c);
		if (is_open) {
			take_request_line(c);
			if (is_first)
				atomic_fetch_add(&u->connections, 1);
			is_first = false;
			atomic_fetch_add(&u->requests, 1);
			u->answer(u->ctx, c);
			is_open = !c->close;
		}
		free(c);
	}
	/* closed by the accepting thread: the number must not be used again while it may be shut down */
	(void)shutdown(connection->fd, SHUT_RDWR);
	return NULL;
}

static void *run_accept(void *p)
{
	struct upstream *u = p;

	while (!atomic_load(&u->is_stopping)) {
		struct pollfd news = { .fd = u->fd, .events = POLLIN };
		struct connection *c;

		if (poll(&news, 1, 20) <= 0)
			continue;
		c = xcalloc(1, sizeof(*c));
		c->up = u;
		c->fd = accept4(u->fd, NULL, NULL, SOCK_CLOEXEC);
		assert(c->fd >= 0);
		atomic_fetch_add(&u->accepted, 1);
		list_add_tail(&u->open, &c->node);
		assert(pthread_create(&c->thread, NULL, run_connection, c) == 0);
	}
	LIST_EACH(node, &u->open)
		(void)shutdown(LIST_ENTRY(node, struct connection, node)->fd, SHUT_RDWR);
	LIST_EACH(node, &u->open) {
		struct connection *c = LIST_ENTRY(node, struct connection, node);

		pthread_join(c->thread, NULL);
		(void)close(c->fd);
		list_remove(&c->node);
		free(c);
	}
	return NULL;
}

struct upstream *upstream_new_on(unsigned port, upstream_answer answer, void *ctx)
{
	struct upstream *u = xcalloc(1, sizeof(*u));

	u->answer = answer;
	u->ctx = ctx;
	list_init(&u->open);
	u->fd = bind_to_loopback(port, &u->port);
	assert(listen(u->fd, 512) == 0);
	(void)snprintf(u->url, sizeof(u->url), "http://127.0.0.1:%u", u->port);
	assert(pthread_create(&u->thread, NULL, run_accept, u) == 0);
	return u;
}

struct upstream *upstream_new(upstream_answer answer, void *ctx)
{
	return upstream_new_on(0, answer, ctx);
}

void upstream_free(struct upstream *u)
{
	atomic_store(&u->is_stopping, true);
	pthread_join(u->thread, NULL);
	(void)close(u->fd);
	free(u);
}

const char *upstream_url(const struct upstream *u)
{
	return u->url;
}

unsigned upstream_port(const struct upstream *u)
{
	return u->port;
}

unsigned upstream_requests(struct upstream *u)
{
	return atomic_load(&u->requests);
}

unsigned upstream_connections(struct upstream *u)
{
	return atomic_load(&u->connections);
}

unsigned upstream_accepted(struct upstream *u)
{
	return atomic_load(&u->accepted);
}

/* --- what a script says --------------------------------------------------------------------------------- */

bool upstream_send(struct upstream_call *c, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len) {
		ssize_t sent = send(c->fd, at, len, MSG_NOSIGNAL);

		if (sent <= 0) {
			c->close = true;
			return false;
		}
		at += sent;
		len -= (size_t)sent;
	}
	return true;
}

bool upstream_say(struct upstream_call *c, const char *format, ...)
{
	SCOPED_FREE char *text = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	assert(len >= 0);
	return upstream_send(c, text, (size_t)len);
}

void upstream_reply(struct upstream_call *c, int status, const char *fields, const char *body)
{
	(void)upstream_say(c, "HTTP/1.1 %d X\r\n%sContent-Length: %zu\r\n\r\n%s", status, fields,
			   strlen(body), strcmp(c->method, "HEAD") == 0 ? "" : body);
}

const char *upstream_field(const struct upstream_call *c, const char *name)
{
	static _Thread_local char value[2048];
	size_t name_len = strlen(name);

	value[0] = 0;
	for (const char *line = strstr(c->head, "\r\n"); line; line = strstr(line, "\r\n")) {
		const char *end = strstr(line += 2, "\r\n");

		if (!end || strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
			continue;
		for (line += name_len + 1; *line == ' '; line++)
			;
		(void)snprintf(value, sizeof(value), "%.*s", (int)(end - line), line);
		break;
	}
	return value;
}

static bool read_exactly(int fd, void *bytes, size_t len)
{
	return len == 0 || recv(fd, bytes, len, MSG_WAITALL) == (ssize_t)len;
}

static bool read_line(int fd, char *line, size_t room)
{
	size_t len = 0;

	while (len + 1 < room && read_exactly(fd, line + len, 1)) {
		line[++len] = 0;
		if (len >= 2 && line[len - 1] == '\n') {
			line[len - 2] = 0;
			return true;
		}
	}
	return false;
}

static bool read_some(struct upstream_call *c, size_t len, struct buf *body)
{
	SCOPED_FREE char *bytes = xmalloc(len + 1);

	return read_exactly(c->fd, bytes, len) && buf_append(body, bytes, len) == 0;
}

bool upstream_read_body(struct upstream_call *c, struct buf *ret_body)
{
	char line[64];
	uint64_t len;

	if (parse_u64(str_from(upstream_field(c, "Content-Length")), &len) == 0)
		return read_some(c, (size_t)len, ret_body);
	if (strcmp(upstream_field(c, "Transfer-Encoding"), "chunked") != 0)
		return true;
	while (read_line(c->fd, line, sizeof(line))) {
		len = strtoul(line, NULL, 16);
		if (len == 0)
			return read_line(c->fd, line, sizeof(line));
		if (!read_some(c, (size_t)len, ret_body) || !read_line(c->fd, line, sizeof(line)))
			return false;
	}
	return false;
}

void upstream_sleep(struct upstream_call *c, unsigned ms)
{
	for (unsigned slept = 0; slept < ms && !atomic_load(&c->up->is_stopping); slept += 5) {
		struct pollfd gone = { .fd = c->fd, .events = POLLRDHUP };

		(void)poll(&gone, 1, 5);
		if (gone.revents & (POLLRDHUP | POLLHUP | POLLERR)) {
			c->close = true;
			return;
		}
	}
}

void upstream_reset(struct upstream_call *c)
{
	struct linger now = { .l_onoff = 1 };
	struct sockaddr unconnect = { .sa_family = AF_UNSPEC };

	(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	/* sends the RST without giving the descriptor up */
	(void)connect(c->fd, &unconnect, sizeof(unconnect));
	c->close = true;
}
