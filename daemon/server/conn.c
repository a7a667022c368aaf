/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/conn - what we know of a client connection beside the library: who it is, how far its head is, how fast it reads.
 *
 * Life      conn_new() before the library hears of the socket -> STARTED -> requests -> CLOSED, just before the library
 *           closes the descriptor: the tables forget it while the number is still ours.
 * Promises  (1) a head is complete within head-timeout of its first byte, or the connection ends; the clock does not run
 *               while an earlier request is being answered.
 *           (2) a client that takes an answer slower than 4 KiB/s over a minute is cut (P14); waiting for upstream does
 *               not count.
 *           (3) one that leaves in the middle of its body, or by a reset while it waits, is noticed within two seconds, unless
 *               its end lies behind more bytes than the kernel takes.
 */
#include "server/priv.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include "common/alloc.h"

#include "common/banned.h"

/* Of a socket file the kernel knows who has opened it. */
static void format_user(int fd, char ret_text[CONN_PEER_MAX])
{
	struct ucred user;
	socklen_t len = sizeof(user);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &len) == 0 && len == sizeof(user))
		(void)snprintf(ret_text, CONN_PEER_MAX, "unix:%u", (unsigned)user.uid);
	else
		(void)snprintf(ret_text, CONN_PEER_MAX, "unix");
}

static void format_peer(int fd, const struct sockaddr_storage *from, char ret_text[CONN_PEER_MAX])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
	const char *text = NULL;

	if (from->ss_family == AF_INET)
		text = inet_ntop(AF_INET, &v4->sin_addr, ret_text, CONN_PEER_MAX);
	else if (from->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		text = inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], ret_text, CONN_PEER_MAX);
	else if (from->ss_family == AF_INET6)
		text = inet_ntop(AF_INET6, &v6->sin6_addr, ret_text, CONN_PEER_MAX);
	if (!text)
		format_user(fd, ret_text);
}

struct conn *conn_new(struct loop *l, int fd, const struct sockaddr_storage *from, unsigned flags)
{
	struct conn *c = xcalloc(1, sizeof(*c));

	c->loop = l;
	c->fd = fd;
	c->from = *from;
	c->is_unix = from->ss_family == AF_UNIX;
	c->is_admin = flags & CONN_ADMIN;
	c->is_intercepted = flags & SERVER_INTERCEPTED;
	list_init(&c->node);
	list_init(&c->head_node);
	head_check_init(&c->check);
	format_peer(fd, from, c->peer);
	c->is_checked = wire_add_conn(c);
	return c;
}

static void count_connections(struct server *s, int by)
{
	unsigned left = atomic_fetch_add(&s->connections, (unsigned)by) + (unsigned)by;

	metrics_gauge_add(s->metrics, METRIC_HTTP_CONNECTIONS, 0, by);
	if (by < 0 && left == 0 && atomic_load(&s->is_draining))
		(void)eventfd_write(s->empty_fd,
				    1); /* can only fail when it is full: then it is readable already */
}

/*
 * The library shuts the socket's write side and closes it; with bytes unread that would be an RST. An intercepted client's answer
 * that broke off (P2) is an end that stays half open for a moment: splice takes that for a break, and the client's TLS does not
 * end well. All other ends of theirs are both at once.
 */
static void linger_if_needed(struct conn *c)
{
	bool tells_break = c->is_intercepted && c->is_broken;
	int unread = 0, fd;

	if (c->is_taken ||
	    (!tells_break && !c->has_unread && (ioctl(c->fd, FIONREAD, &unread) < 0 || unread == 0)))
		return;
	fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		linger_add(c->loop, fd, !c->is_intercepted || tells_break);
}

static void start(struct conn *c, struct MHD_Connection *library)
{
	c->library = library;
	list_add_tail(&c->loop->conns, &c->node);
	count_connections(c->loop->server, 1);
}

static void end(struct conn *c)
{
	if (c->exchange) /* after an error of its own the library may forget to say that the request has ended */
		glue_end_exchange(c->exchange, MHD_REQUEST_TERMINATED_WITH_ERROR);
	if (c->loop->adding == c)
		c->loop->adding = NULL;
	linger_if_needed(c);
	wire_remove_conn(c);
	list_remove(&c->node);
	list_remove(&c->head_node);
	count_connections(c->loop->server, -1);
	free((void *)(uintptr_t)c->held.ptr);
	free(c);
}

struct conn *conn_of(struct MHD_Connection *library)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(library, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	assert(info && info->socket_context);
	return info->socket_context;
}

void conn_on_notify(void *cls, struct MHD_Connection *library, void **socket_context,
		    enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		end(*socket_context);
		*socket_context = NULL;
		return;
	}
	info = MHD_get_connection_info(library, MHD_CONNECTION_INFO_CONNECTION_FD);
	*socket_context = wire_find_conn(info->connect_fd);
	assert(*socket_context); /* accept.c gave it to the library */
	start(*socket_context, library);
}

bool conn_is_idle(const struct conn *c)
{
	return !c->exchange && !head_check_in_head(&c->check) && c->check.heads == c->ended;
}

void conn_note_head(struct conn *c)
{
	bool is_listed = !list_is_empty(&c->head_node);

	if (!head_check_in_head(&c->check)) {
		list_remove(&c->head_node);
		return;
	}
	if (is_listed && c->head_number == c->check.heads)
		return; /* still the same one */
	list_remove(&c->head_node);
	c->head_number = c->check.heads;
	c->head_mono_ms = clock_mono_ms(c->loop->server->clock);
	list_add_tail(&c->loop->heads, &c->head_node);
}

void conn_cut(struct conn *c)
{
	c->is_closing = true;
	(void)shutdown(c->fd,
		       SHUT_RDWR); /* the library is told by its epoll, or by the next call on the socket */
}

static void check_head(struct conn *c, uint64_t now_mono_ms)
{
	static const struct wire_refusal late = { 408, "Request Timeout",
						  "The request head was not complete in time.",
						  "head-timeout", REJECTED_TIMEOUT };

	list_remove(&c->head_node);
	if (c->check.heads != c->ended) { /* promise 1: it could not have been read yet */
		c->head_mono_ms = now_mono_ms;
		list_add_tail(&c->loop->heads, &c->head_node);
		return;
	}
	refuse_conn(c, &late);
	(void)shutdown(c->fd, SHUT_RD);
}

/* What the client's side has acknowledged: what the kernel still holds, it has not taken. */
static bool read_acked(const struct conn *c, uint64_t *ret_acked)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (c->is_unix || getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return false;
	*ret_acked = info.tcpi_bytes_acked;
	return true;
}

static void check_rate(struct conn *c, uint64_t now_mono_ms)
{
	const uint64_t least = (uint64_t)CONN_RATE_MIN_BYTES_S * (CONN_RATE_WINDOW_MS / 1000);
	struct exchange *x = c->exchange;
	uint64_t acked;
	bool is_new;

	if (!x || !x->is_queued)
		return;
	is_new = x->rate_mono_ms == 0 ||
		 atomic_load(&x->park) != PARK_RUNNING; /* waiting for upstream begins it anew */
	if ((!is_new && now_mono_ms - x->rate_mono_ms < CONN_RATE_WINDOW_MS) || !read_acked(c, &acked))
		return;
	if (!is_new && acked < x->rate_acked + least) {
		log_info("server", "cut a client that reads too slowly", LOG_TEXT("client", c->peer),
			 LOG_U64("bytes_a_minute", acked - x->rate_acked), LOG_END);
		metrics_add(c->loop->server->metrics, METRIC_HTTP_REJECTED, REJECTED_TIMEOUT, 0, 0, 1);
		conn_cut(c);
	}
	x->rate_mono_ms = now_mono_ms;
	x->rate_acked = acked;
}

static bool has_hung_up(const struct conn *c)
{
	char byte;
	ssize_t n = recvfrom(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

bool conn_is_reset(const struct conn *c)
{
	struct pollfd end = { .fd = c->fd };

	return poll(&end, 1, 0) > 0 && (end.revents & (POLLHUP | POLLERR));
}

bool conn_has_said_all(const struct conn *c)
{
	struct pollfd end = { .fd = c->fd, .events = POLLRDHUP };

	return poll(&end, 1, 0) > 0;
}

/* Says the end of its side, which lies behind the bytes that were not read yet, that there will be no whole body? */
static bool is_cut_short(struct conn *c)
{
	struct pollfd end = { .fd = c->fd, .events = POLLRDHUP };
	struct head_check check = c->check;
	SCOPED_FREE char *bytes = NULL;
	int unread = 0;
	ssize_t n;

	if (c->has_rest || !head_check_in_body(&check) || poll(&end, 1, 0) <= 0)
		return false;
	if (ioctl(c->fd, FIONREAD, &unread) < 0 || unread <= 0)
		return true;
	bytes = xmalloc((size_t)unread); /* no more than the kernel holds for it, and once */
	n = recvfrom(c->fd, bytes, (size_t)unread, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	if (n > 0)
		(void)head_check_feed(&check, bytes, (size_t)n);
	c->has_rest = !head_check_in_body(&check);
	return !c->has_rest;
}

/*
 * A client that has left, where nobody else would notice:
 * - of an inference call whose connection waits: a text may be in the making for minutes for nobody. Who merely has no more to say
 *   does not close its side;
 * - in the middle of its body: when the end of the stream comes right behind bytes that did not fill the library's buffer, its
 *   edge-triggered epoll hears of it with those bytes and never again. Twice in a row, since the library may be about to read;
 * - likewise while its connection waits, since upstream does not take what it sends. Behind a full window its end does not reach
 *   us: then the relay's own time limit counts;
 * - by a reset, while its connection waits for anything.
 */
static void check_left(struct conn *c)
{
	struct exchange *x = c->exchange;
	bool is_parked = x && atomic_load(&x->park) != PARK_RUNNING;
	bool sends = x && x->phase == PHASE_BODY && !is_parked;
	bool waits_to_send = is_parked && (x->phase == PHASE_BODY || x->phase == PHASE_OPENING);
	bool is_gone = false;

	if (!x || c->is_closing)
		return;
	if (is_parked && conn_is_reset(c))
		is_gone = true;
	else if (waits_to_send)
		is_gone = is_cut_short(c);
	else if (sends || (is_parked && x->request.route == ROUTE_INFERENCE))
		is_gone = has_hung_up(c);
	if (!is_gone) {
		c->is_left = false;
		return;
	}
	if (sends && !c->is_left) {
		c->is_left = true;
		return;
	}
	x->aborted = ABORTED_CLIENT;
	conn_cut(c);
	park_break(x);
}

void conn_tick(struct loop *l, uint64_t now_mono_ms)
{
	LIST_EACH(it, &l->heads) {
		struct conn *c = LIST_ENTRY(it, struct conn, head_node);

		if (now_mono_ms - c->head_mono_ms < l->server->head_timeout_ms)
			break; /* oldest first */
		check_head(c, now_mono_ms);
	}
	LIST_EACH(it, &l->conns) {
		check_rate(LIST_ENTRY(it, struct conn, node), now_mono_ms);
		check_left(LIST_ENTRY(it, struct conn, node));
	}
}
