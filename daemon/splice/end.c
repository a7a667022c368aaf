/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/end - one side of a join: a socket, and maybe a TLS session over it.
 *
 * Owns      the socket, the session, and bytes that were read from the socket before it came here.
 * Promises  (1) a TLS session reads and writes through two functions here: what was read before comes first, and no write
 *               raises a signal.
 *           (2) a TLS stream has said all when its close_notify has come, and not before: all else is a break.
 *           (3) over a pair of sockets nobody can be reset. There a stream ends in both directions at once, and what ends in one
 *               only broke off: so it is read (half_end_breaks), and so it is told (is_heard_by_splice).
 *           (4) can_read and can_write are false only after the kernel said EAGAIN; its next event sets them again.
 * Threads   the splice thread.
 */
#include "splice/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/epoll.h>
#include "common/alloc.h"

#include "common/banned.h"

static void on_ready(struct watch *w, uint32_t events)
{
	struct end *e = LIST_ENTRY(w, struct end, watch);

	if (w->fd < 0)
		return;
	/* a session may have to read in order to write */
	if (e->tls || events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		e->can_read = true;
	if (e->tls || events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		e->can_write = true;
	if (events & (EPOLLHUP | EPOLLERR))
		e->is_gone = true;
	join_run(e->join);
}

void end_init(struct end *e, struct join *j)
{
	*e = (struct end){ .watch = { .fd = -1, .ready = on_ready }, .join = j };
}

int end_open(struct end *e, int take_fd)
{
	int flags = fcntl(take_fd, F_GETFL);

	assert(e->watch.fd < 0);
	e->watch.fd = take_fd;
	e->can_read = e->can_write = true;
	if (flags < 0 || fcntl(take_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

void end_early(struct end *e, struct str early)
{
	assert(!e->early);
	if (early.len == 0)
		return;
	e->early = xstrndup(early.ptr, early.len);
	e->early_len = early.len;
}

/* --- the socket --- */

static size_t read_early(struct end *e, char *bytes, size_t len)
{
	size_t n = e->early_len - e->early_at < len ? e->early_len - e->early_at : len;

	memcpy(bytes, e->early + e->early_at, n);
	e->early_at += n;
	if (e->early_at == e->early_len)
		free(TAKE_PTR(e->early));
	return n;
}

/* In both directions. */
static bool is_closed(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

ssize_t end_read_socket(struct end *e, char *bytes, size_t len)
{
	ssize_t n;

	if (e->early)
		return (ssize_t)read_early(e, bytes, len);
	do
		n = recvfrom(e->watch.fd, bytes, len, MSG_DONTWAIT, NULL, NULL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		e->can_read = false;
	if (n == 0 && e->half_end_breaks && !is_closed(e->watch.fd))
		return -ECONNRESET;
	return n < 0 ? -errno : n;
}

ssize_t end_write_socket(struct end *e, const char *bytes, size_t len)
{
	ssize_t n;

	do
		n = send(e->watch.fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		e->can_write = false;
	return n < 0 ? -errno : n;
}

/* --- a session over it --- */

/* What the last call of the session said, as one of ours. */
static int error_of(struct end *e, int r)
{
	switch (SSL_get_error(e->tls, r)) {
	case SSL_ERROR_WANT_READ:
		e->can_read = false;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		e->can_write = false;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
}

static ssize_t read_tls(struct end *e, char *bytes, size_t len)
{
	size_t n = 0;
	int r;

	ERR_clear_error();
	r = SSL_read_ex(e->tls, bytes, len, &n);
	if (r == 1)
		return (ssize_t)n;
	r = error_of(e, r);
	if (r == -EAGAIN)
		e->can_read = false; /* also when it has to write first: any event lets us try again */
	return r;
}

static ssize_t write_tls(struct end *e, const char *bytes, size_t len)
{
	size_t n = 0;
	int r;

	ERR_clear_error();
	r = SSL_write_ex(e->tls, bytes, len, &n);
	if (r == 1)
		return (ssize_t)n;
	r = error_of(e, r);
	if (r == -EAGAIN)
		e->can_write = false;
	return r == 0 ? -EPIPE : r;
}

ssize_t end_read(struct end *e, char *bytes, size_t len)
{
	return e->tls ? read_tls(e, bytes, len) : end_read_socket(e, bytes, len);
}

ssize_t end_write(struct end *e, const char *bytes, size_t len)
{
	return e->tls ? write_tls(e, bytes, len) : end_write_socket(e, bytes, len);
}

int end_shake(struct end *e)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(e->tls);
	if (r == 1)
		return 0;
	return error_of(e, r) == -EAGAIN ? -EAGAIN : -EPROTO;
}

int end_finish(struct end *e)
{
	int r = e->watch.fd < 0 ? -EPIPE : 0;

	if (r == 0 && e->tls) {
		ERR_clear_error();
		r = SSL_shutdown(e->tls);
		r = r >= 0 ? 0 : error_of(e, r);
	}
	if (r == -EAGAIN)
		e->can_write = false;
	if (r == 0 && shutdown(e->watch.fd, e->is_heard_by_splice ? SHUT_RDWR : SHUT_WR) < 0)
		r = -errno;
	return r;
}

/* --- its end --- */

static void drop(struct end *e)
{
	SSL_free(TAKE_PTR(e->tls));
	free(TAKE_PTR(e->early));
	splices_unwatch(e->join->splices, &e->watch);
	e->can_read = e->can_write = false;
}

void end_close(struct end *e)
{
	drop(e);
}

/* TCP tells the other side that this was no proper end; a pair of sockets by promise 3. */
void end_reset(struct end *e)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (e->watch.fd >= 0 && e->is_heard_by_splice) {
		(void)shutdown(e->watch.fd, SHUT_WR);
		splices_close_later(e->join->splices, TAKE_FD(e->watch.fd));
	}
	if (e->watch.fd >= 0)
		(void)setsockopt(e->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	drop(e);
}
