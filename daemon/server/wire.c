/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/wire - the system calls of the library that go through our hands: recv, sendfile64 and shutdown.
 *
 * The functions recv(), sendfile64() and shutdown() defined here take the place of libc's for the whole program, the library's
 * shared object included (the linker lets the executable's definitions win). Everybody else's calls pass straight
 * through: only descriptors in the two tables below are ours.
 *
 * Owns      two tables, indexed by descriptor: connections, and files that bodies are sent from. They are global
 *           because the calls they serve have no place for a context.
 * Never     blocks; allocates; answers a descriptor that it does not know.
 * Threads   an entry is made and removed by the loop that owns it, always while the descriptor is open and ours.
 *           Removal compares first: the number may have a new owner by then.
 *
 * Rules of recv, on a connection
 *   (1) each byte goes through head_check before the library gets it.
 *   (2) of a request at fault no byte is passed on, unless it came before the fault could be seen; then the library
 *       gets the end of the file instead of the rest. Requests before it are answered first (refuse.c); then the
 *       connection ends.
 *   (3) after that, nothing is read any more.
 *       Nor is it between a request for a WebSocket and its answer; what came with its head is held (takeover.c).
 *
 * Rules of sendfile64, on a body
 *   (4) a call that is not the library's last one of a body is widened to WIRE_SEND_MAX, but leaves at least one byte:
 *       the library sends the last piece itself, and so pushes it out.
 *   (5) of a growing file never more than its reader has released. When that is less than the library asked for, the
 *       connection is suspended before we return: the library takes a short return for a full socket and would wait for
 *       a write event that never comes. Its own resume marks the socket writable again.
 *   (6) news that came between looking and parking is seen: reader_wait() says so, and we look again.
 *   (7) a failure is told as EBADF, whatever it was. On other errors the library falls back to reading the file itself,
 *       past what the reader has released. So it closes the connection before the promised length instead.
 *   (8) a finished file that is shorter than promised is a failure, not a short send.
 *       A growing one is asked for on behalf of who is still there: before that the socket is looked at. Who is known to leave
 *       has left when its own side is over (B22).
 *
 * Rule of shutdown
 *   (9) the library shuts a socket down before it closes it. When somebody else has the connection by then (takeover.c), that
 *       would end theirs: it does nothing. The closing itself only gives the number back.
 *  (10) nor does it end the one side of a connection that splice has the other end of: there, an end that stays half open says
 *       that the answer broke off (conn.c).
 */
#undef _FORTIFY_SOURCE /* its inline recv would be the one that is defined here */
#include "server/priv.h"

#include <assert.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "common/alloc.h"

#include "common/banned.h"

static_assert(sizeof(off64_t) == sizeof(long), "the raw system call takes a 64-bit offset");

/* More descriptors than any server of ours opens; the pages of unused entries are never touched. */
#define TABLE_MAX ((rlim_t)1024 * 1024)

static struct {
	_Atomic(struct conn *) *conns;
	_Atomic(struct body *) *bodies;
	/* 0 until the first server starts; published last, since other threads, as fetch's, call recv() meanwhile */
	_Atomic size_t size;
	_Atomic uint64_t recv_calls, send_calls, shutdown_calls;
} table;

static size_t table_size(void)
{
	return atomic_load_explicit(&table.size, memory_order_acquire);
}

static void make_tables(void)
{
	struct rlimit files = { .rlim_max = 0 };
	rlim_t size = TABLE_MAX;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY && files.rlim_max < size)
		size = files.rlim_max;
	table.conns = xcalloc(size, sizeof(*table.conns));
	table.bodies = xcalloc(size, sizeof(*table.bodies));
	atomic_store_explicit(&table.size, size, memory_order_release);
}

int wire_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	return -pthread_once(&once, make_tables);
}

bool wire_add_conn(struct conn *c)
{
	assert(c->fd >= 0 && table_size() > 0);
	if ((size_t)c->fd >=
	    table_size()) /* somebody raised the hard limit since: without a check it must not be served */
		return false;
	atomic_store(&table.conns[c->fd], c);
	return true;
}

void wire_remove_conn(struct conn *c)
{
	struct conn *expected = c;

	if ((size_t)c->fd < table_size())
		atomic_compare_exchange_strong(&table.conns[c->fd], &expected, NULL);
}

struct conn *wire_find_conn(int fd)
{
	return fd >= 0 && (size_t)fd < table_size()
		       ? atomic_load_explicit(&table.conns[fd], memory_order_acquire)
		       : NULL;
}

bool wire_add_body(struct body *b)
{
	assert(b->fd >= 0 && table_size() > 0);
	if ((size_t)b->fd >= table_size())
		return false;
	atomic_store(&table.bodies[b->fd], b);
	return true;
}

void wire_remove_body(struct body *b)
{
	struct body *expected = b;

	if (b->fd >= 0 && (size_t)b->fd < table_size())
		atomic_compare_exchange_strong(&table.bodies[b->fd], &expected, NULL);
	b->fd = -1;
}

static struct body *find_body(int fd)
{
	return fd >= 0 && (size_t)fd < table_size()
		       ? atomic_load_explicit(&table.bodies[fd], memory_order_acquire)
		       : NULL;
}

uint64_t wire_recv_calls(void)
{
	return atomic_load_explicit(&table.recv_calls, memory_order_relaxed);
}

uint64_t wire_send_calls(void)
{
	return atomic_load_explicit(&table.send_calls, memory_order_relaxed);
}

uint64_t wire_shutdown_calls(void)
{
	return atomic_load_explicit(&table.shutdown_calls, memory_order_relaxed);
}

/* --- recv --- */

static ssize_t receive(struct conn *c, char *bytes, size_t len, int flags)
{
	const size_t before = head_check_method(&c->check);
	ssize_t n;
	size_t good;

	if (c->is_closing)
		return 0;
	/* what came before the fault, or asks for an upgrade, is still being answered */
	if (c->is_refused || head_check_waits(&c->check)) {
		errno = EAGAIN;
		return -1;
	}
	n = recvfrom(c->fd, bytes, len, flags, NULL, NULL);
	if (n <= 0)
		return n;
	good = head_check_feed(&c->check, bytes, (size_t)n);
	conn_note_head(c);
	if (c->check.fault && (good > 0 || !takeover_connect(c, (struct str){ bytes, (size_t)n }, before)))
		refuse_fault(c);
	if (!c->check.fault && good < (size_t)n)
		takeover_hold(c, (struct str){ bytes + good, (size_t)n - good });
	if (good > 0)
		return (ssize_t)good;
	if (c->is_closing)
		return 0;
	errno = EAGAIN;
	return -1;
}

__attribute__((visibility("default"))) ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
	struct conn *c = wire_find_conn(fd);

	if (!c)
		return recvfrom(fd, bytes, len, flags, NULL, NULL);
	atomic_fetch_add_explicit(&table.recv_calls, 1, memory_order_relaxed);
	return receive(c, bytes, len, flags);
}

/* --- shutdown --- */

/* Rules 9 and 10. */
__attribute__((visibility("default"))) int shutdown(int fd, int how)
{
	struct conn *c = wire_find_conn(fd);

	if (!c || !(c->is_taken || (c->is_intercepted && how == SHUT_WR)))
		return (int)syscall(SYS_shutdown, fd, how);
	atomic_fetch_add_explicit(&table.shutdown_calls, 1, memory_order_relaxed);
	return 0;
}

/* --- sendfile64 --- */

static ssize_t raw_sendfile(int out_fd, int in_fd, off64_t *offset, size_t len)
{
	return syscall(SYS_sendfile, out_fd, in_fd, offset, len);
}

static ssize_t fail(struct body *b, enum aborted side)
{
	b->exchange->aborted = side;
	errno = EBADF; /* rule 7 */
	return -1;
}

/* The most that this call may send: rule 4. */
static size_t widened(const struct body *b, off64_t offset, size_t asked)
{
	uint64_t left = b->end - (uint64_t)offset;

	if (asked >= left)
		return (size_t)left;
	left--;
	return (size_t)(left < WIRE_SEND_MAX ? left : WIRE_SEND_MAX);
}

/* The socket's own trouble is left to the library unless it would make it read the file. */
static ssize_t send_failed(struct body *b)
{
	if (errno == EAGAIN || errno == EINTR)
		return -1;
	return fail(b, errno == EPIPE || errno == ECONNRESET || errno == ETIMEDOUT ? ABORTED_CLIENT
										   : ABORTED_UPSTREAM);
}

static bool is_at_end(int fd, off64_t offset)
{
	struct stat st;

	return fstat(fd, &st) < 0 || st.st_size <= offset;
}

static ssize_t send_finished(struct body *b, int out_fd, off64_t *offset, size_t asked)
{
	ssize_t n = raw_sendfile(out_fd, b->fd, offset, widened(b, *offset, asked));

	if (n < 0)
		return send_failed(b);
	b->exchange->sent += (uint64_t)n;
	/* rule 8: a full socket or the end of the file? The library cannot tell them apart, and would wait. */
	if ((size_t)n < asked && is_at_end(b->fd, *offset) && (uint64_t)*offset < b->end)
		return fail(b, ABORTED_UPSTREAM);
	return n;
}

/* Rules 5 and 6. Returns whether the connection is suspended now; else there is news. */
static bool park_on_reader(struct body *b, off64_t offset)
{
	struct exchange *x = b->exchange;

	park_prepare(x);
	if (!reader_wait(b->reader, (uint64_t)offset, &x->request.waiter)) {
		park_abandon(x);
		return false;
	}
	park_commit(x);
	return true;
}

static bool has_left(const struct body *b)
{
	const struct conn *c = b->exchange->conn;

	return reader_may_leave(b->reader) ? conn_has_said_all(c) : conn_is_reset(c);
}

static ssize_t send_growing(struct body *b, int out_fd, off64_t *offset, size_t asked)
{
	const size_t most = widened(b, *offset, asked);
	size_t total = 0;

	while (total < asked) {
		int64_t ready = reader_ready(b->reader, (uint64_t)*offset);
		size_t want;
		ssize_t n;

		if (ready < 0)
			return fail(b, ABORTED_UPSTREAM);
		if (ready == 0) {
			if (!park_on_reader(b, *offset))
				continue;
			errno = EAGAIN;
			return total ? (ssize_t)total : -1;
		}
		want = (uint64_t)ready < most - total ? (size_t)ready : most - total;
		n = raw_sendfile(out_fd, b->fd, offset, want);
		if (n < 0 && errno == EAGAIN && total)
			return (ssize_t)total;
		if (n < 0)
			return send_failed(b);
		if (n == 0)
			return fail(b, ABORTED_UPSTREAM);
		b->exchange->sent += (uint64_t)n;
		total += (size_t)n;
		if ((size_t)n < want)
			break; /* the socket is full: it will say when it is not */
	}
	return (ssize_t)total;
}

__attribute__((visibility("default"))) ssize_t sendfile64(int out_fd, int in_fd, off64_t *offset, size_t len)
{
	struct body *b = find_body(in_fd);

	if (!b || !offset || (uint64_t)*offset >= b->end)
		return raw_sendfile(out_fd, in_fd, offset, len);
	atomic_fetch_add_explicit(&table.send_calls, 1, memory_order_relaxed);
	if (b->exchange->conn->is_closing || /* cut: nothing may park any more */
	    (b->reader && has_left(b)))
		return fail(b, ABORTED_CLIENT);
	return b->reader ? send_growing(b, out_fd, offset, len) : send_finished(b, out_fd, offset, len);
}
