/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/takeover - a connection leaves the library, and goes on in other hands: a CONNECT, or a WebSocket.
 *
 * The library cannot be told to let go of a socket. So others get a duplicate of the descriptor, and the library the end of the
 * stream: it forgets the connection, shuts the socket down (wire.c has that do nothing), takes the number out of its epoll and
 * closes it.
 *
 * Never     gives away a connection that has an answer to come.
 * Threads   the loop's own.
 */
#include "server/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include "common/buf.h"

#include "common/banned.h"

int takeover(struct conn *c)
{
	int fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0), on = 1, off = 0;

	if (fd < 0)
		return -errno;
	c->is_taken = true;
	c->is_closing = true;
	/* the library may have left it corked; what is no TCP socket has neither */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

void takeover_hold(struct conn *c, struct str bytes)
{
	assert(!c->held.ptr);
	c->held = (struct str){ str_dup(bytes), bytes.len };
	c->has_unread = true;
}

/* What the handler let through of the host's answer, and nothing else: no field of ours belongs there. */
static int write_head(const struct headers *fields, struct buf *out)
{
	buf_init(out, SPLICE_HEAD_MAX);
	buf_append_str(out, STR("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"));
	for (size_t i = 0; i < fields->count; i++)
		buf_appendf(out, "%s: %s\r\n", fields->fields[i].name, fields->fields[i].value);
	return buf_append_str(out, STR("\r\n"));
}

bool takeover_join(struct exchange *x)
{
	struct conn *c = x->conn;
	SCOPED_BUF head = { 0 };
	int fd, r;

	/* else the library may have read bytes that are not its own: a defect of the handler */
	if (!head_check_waits(&c->check) || c->check.heads - c->ended != 1) {
		log_error("server", "an upgrade that was not asked for", LOG_TEXT("req", x->request.id),
			  LOG_END);
		return false;
	}
	if (write_head(&x->reply.headers, &head) < 0)
		return false;
	fd = takeover(c);
	if (fd < 0)
		return false;
	r = dial_join(x->reply.dial, fd, buf_str(&head), c->held);
	if (r < 0) /* the client has been let go, without an answer */
		x->aborted = ABORTED_UPSTREAM;
	return true;
}

static bool may_connect(const struct conn *c)
{
	return c->loop->server->on_connect && !c->is_unix && !c->is_intercepted && !c->exchange &&
	       c->check.heads == c->ended && head_check_was_connect(&c->check);
}

/* What came of the method in earlier reads is known; before it, an empty line may stand. */
static void give(struct conn *c, int take_fd, struct str rest, size_t before)
{
	const struct server *s = c->loop->server;
	SCOPED_BUF early;

	buf_init(&early, before + rest.len);
	(void)buf_append(&early, "CONNECT", before);
	while (before == 0 && rest.len > 0 && (*rest.ptr == '\r' || *rest.ptr == '\n'))
		rest = (struct str){ rest.ptr + 1, rest.len - 1 };
	(void)buf_append_str(&early, rest);
	s->on_connect(s->on_connect_ctx, take_fd, &c->from, buf_str(&early));
}

bool takeover_connect(struct conn *c, struct str bytes, size_t before)
{
	static const struct wire_refusal no_files = {
		503, "Service Unavailable", "This cache has no file descriptor left. Try again in a moment.",
		"descriptors", REJECTED_LIMIT
	};
	int fd;

	if (!may_connect(c))
		return false;
	fd = takeover(c);
	if (fd < 0)
		refuse_conn(c, &no_files);
	else
		give(c, fd, bytes, before);
	return true;
}
