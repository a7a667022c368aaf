/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scripted_upstream - see the header. One thread accepts, one more for each connection; all are joined at the end.
 */
#include "scripted_upstream.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 512
#define HEAD_MAX 16384
#define PIECE 16384

struct connection {
	struct upstream *u;
	int fd;
	bool is_storage;
	pthread_t thread;
};

struct upstream_private {
	int listen_fd[2]; /* Hub, storage */
	uint16_t port[2];
	char url[64];
	pthread_t acceptor;
	atomic_bool is_stopping;
	pthread_mutex_t lock;
	struct connection connections[CONNECTIONS_MAX]; /* guarded by lock */
	unsigned count;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void sleep_us(uint64_t us)
{
	struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	nanosleep(&t, NULL);
}

static bool send_all(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

static bool send_text(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool send_text(int fd, const char *format, ...)
{
	char text[4096];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	assert(len > 0 && (size_t)len < sizeof(text));
	return send_all(fd, text, (size_t)len);
}

/* One request head, up to the empty line. */
static bool read_head(int fd, char head[HEAD_MAX])
{
	size_t len = 0;

	while (len < HEAD_MAX - 1) {
		ssize_t n = recv(fd, head + len, 1, 0);

		if (n <= 0)
			return false;
		head[++len] = '\0';
		if (len >= 4 && memcmp(head + len - 4, "\r\n\r\n", 4) == 0)
			return true;
	}
	return false;
}

static bool find_field(const char *head, const char *name, char *ret_value, size_t room)
{
	const char *at = strcasestr(head, name), *end;

	if (!at)
		return false;
	at += strlen(name);
	while (*at == ':' || *at == ' ')
		at++;
	end = strstr(at, "\r\n");
	(void)snprintf(ret_value, room, "%.*s", (int)(end - at), at);
	return true;
}

static struct upstream_call *note_call(struct upstream *u, const char *head, bool is_storage)
{
	unsigned n = atomic_fetch_add(&u->calls, 1);
	struct upstream_call *c = &u->call[n];
	char value[256], *end;

	assert(n < UPSTREAM_CALLS_MAX);
	*c = (struct upstream_call){ .is_storage = is_storage, .end = u->size };
	c->has_if_range = find_field(head, "\r\nIf-Range", value, sizeof(value));
	c->has_token = find_field(head, "\r\nAuthorization", c->token, sizeof(c->token));
	if (find_field(head, "\r\nRange", value, sizeof(value)) && strncmp(value, "bytes=", 6) == 0) {
		c->is_ranged = true;
		c->first = strtoull(value + 6, &end, 10);
		if (*end == '-' && end[1])
			c->end = strtoull(end + 1, NULL, 10) + 1;
	}
	return c;
}

/* Takes one off a counter of "so many times"; false when it is used up. */
static bool use_up(atomic_int *times)
{
	int left = atomic_load(times);

	while (left != 0)
		if (left < 0 || atomic_compare_exchange_weak(times, &left, left - 1))
			return true;
	return false;
}

static const char *or_true(const char *instead, const char *truth)
{
	return instead ? instead : truth;
}

static bool answer_hub(struct connection *c, struct upstream_call *call, const char *head)
{
	struct upstream *u = c->u;
	const char *refused = atomic_load(&u->refused_token);
	char size[32], retry_after[64] = "", id_hex[65];
	const char *asked = strstr(head, "?id=");

	(void)snprintf(size, sizeof(size), "%" PRIu64, u->size);
	(void)snprintf(id_hex, sizeof(id_hex), "%.64s", asked ? asked + 4 : u->id_hex);
	if (refused && call->has_token && strcmp(call->token, refused) == 0) {
		call->status = 403;
		return send_text(
			c->fd,
			"HTTP/1.1 403 Forbidden\r\nX-Error-Code: GatedRepo\r\nContent-Length: 0\r\n\r\n");
	}
	if (atomic_load(&u->hub_status) && use_up(&u->hub_status_times)) {
		call->status = atomic_load(&u->hub_status);
		if (atomic_load(&u->hub_retry_after_s) >= 0)
			(void)snprintf(retry_after, sizeof(retry_after), "Retry-After: %d\r\n",
				       atomic_load(&u->hub_retry_after_s));
		return send_text(c->fd, "HTTP/1.1 %d Whatever\r\n%sContent-Length: 0\r\n\r\n", call->status,
				 retry_after);
	}
	call->status = 302;
	return send_text(c->fd,
			 "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%u/blob?Signature=x\r\n"
			 "X-Linked-Etag: \"%s\"\r\nX-Linked-Size: %s\r\nX-Repo-Commit: %s\r\nContent-Length: "
			 "0\r\n\r\n",
			 c->u->private->port[1], or_true(atomic_load(&u->linked_etag), id_hex),
			 or_true(atomic_load(&u->linked_size), size),
			 or_true(atomic_load(&u->commit), UPSTREAM_COMMIT));
}

static bool reaches(uint64_t mark, uint64_t from, uint64_t to)
{
	return mark && from < mark && mark <= to;
}

static bool send_piece(struct connection *c, const unsigned char *bytes, size_t len)
{
	if (!atomic_load(&c->u->is_chunked))
		return send_all(c->fd, bytes, len);
	return send_text(c->fd, "%zx\r\n", len) && send_all(c->fd, bytes, len) && send_text(c->fd, "\r\n");
}

static void copy_bytes(const struct upstream *u, uint64_t at, size_t n, unsigned char *ret_piece)
{
	if (!u->period)
		memcpy(ret_piece, u->bytes + at, n);
	for (size_t i = 0; u->period && i < n; i++)
		ret_piece[i] = u->bytes[(at + i) % u->period];
}

/* The body, with whatever the knobs say. Returns false when the connection must close. */
static bool send_body(struct connection *c, struct upstream_call *call, uint64_t at, uint64_t end)
{
	struct upstream *u = c->u;
	unsigned char piece[PIECE];
	uint64_t began = now_us(), sent = 0, none = 0;

	while (at < end && !atomic_load(&u->private->is_stopping)) {
		uint64_t speed = atomic_load(&u->bytes_per_s), cut = atomic_load(&u->cut_at);
		uint64_t stall = atomic_load(&u->stall_at), flip = atomic_load(&u->flip_at);
		uint64_t n = end - at < PIECE ? end - at : PIECE, hold = atomic_load(&u->hold_at);

		if (hold && at == hold) {
			sleep_us(2000);
			continue;
		}
		if (at < hold && n > hold - at)
			n = hold - at;
		if (speed && speed < 100 * PIECE && n > speed / 100 + 1)
			n = speed / 100 + 1;
		if (reaches(cut, at, at + n) && use_up(&u->cut_times)) {
			atomic_fetch_add(&u->sent, cut - at);
			call->sent += cut - at;
			(void)send_piece(c, u->bytes + at, (size_t)(cut - at));
			return false;
		}
		if (reaches(stall, at, at + n) && atomic_compare_exchange_strong(&u->stall_at, &stall, 0))
			sleep_us((uint64_t)atomic_load(&u->stall_ms) * 1000);
		copy_bytes(u, at, (size_t)n, piece);
		if (flip > at && flip - 1 < at + n && use_up(&u->flip_times))
			piece[flip - 1 - at] ^= 1;
		if (!atomic_load(&u->first_byte_us))
			atomic_compare_exchange_strong(&u->first_byte_us, &none, now_us());
		call->sent += n;
		atomic_fetch_add(&u->sent, n); /* before: a client may be done before we are back */
		if (!send_piece(c, piece, (size_t)n))
			return false;
		at += n;
		sent += n;
		if (speed) {
			uint64_t due = began + sent * 1000000 / speed, now = now_us();

			if (due > now)
				sleep_us(due - now);
		}
	}
	return at == end && (!atomic_load(&u->is_chunked) || send_text(c->fd, "0\r\n\r\n"));
}

static bool answer_storage(struct connection *c, struct upstream_call *call, const char *head)
{
	struct upstream *u = c->u;
	char etag[64], value[256], length[64];
	uint64_t first = call->first, end = call->end < u->size ? call->end : u->size;
	bool is_part = call->is_ranged && !atomic_load(&u->ignores_ranges);

	if (use_up(&u->expired_times)) {
		call->status = 403;
		return send_text(c->fd, "HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nexpired");
	}
	if (atomic_load(&u->has_many_edges))
		atomic_fetch_add(&u->etag_version, 1);
	(void)snprintf(etag, sizeof(etag), "\"storage-%d\"", atomic_load(&u->etag_version));
	if (call->has_if_range && find_field(head, "\r\nIf-Range", value, sizeof(value)) &&
	    strcmp(value, etag) != 0)
		is_part = false;
	if (!is_part) {
		first = 0;
		end = u->size;
	}
	call->status = is_part ? 206 : 200;
	(void)snprintf(length, sizeof(length), "Content-Length: %" PRIu64 "\r\n", end - first);
	if (!send_text(c->fd, "HTTP/1.1 %d OK\r\n%sETag: %s\r\n%s", call->status,
		       atomic_load(&u->is_chunked) ? "Transfer-Encoding: chunked\r\n" : length, etag,
		       atomic_load(&u->is_encoded) ? "Content-Encoding: gzip\r\n" : ""))
		return false;
	if (is_part && !send_text(c->fd, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
				  first + atomic_load(&u->lies_about_range), end - 1, u->size))
		return false;
	return send_text(c->fd, "\r\n") && send_body(c, call, first, end);
}

static void count_open(struct upstream *u)
{
	unsigned open = atomic_fetch_add(&u->open_now, 1) + 1, most = atomic_load(&u->open_most);

	while (open > most && !atomic_compare_exchange_weak(&u->open_most, &most, open))
		;
}

static void *serve(void *arg)
{
	struct connection *c = arg;
	char head[HEAD_MAX];
	bool is_counted = false; /* a probe asks nothing, and comes when it likes */

	while (!atomic_load(&c->u->is_dead) && read_head(c->fd, head)) {
		struct upstream_call *call;

		if (atomic_load(&c->u->is_dead))
			break;
		if (!is_counted)
			count_open(c->u);
		is_counted = true;
		call = note_call(c->u, head, c->is_storage);
		if (!(c->is_storage ? answer_storage(c, call, head) : answer_hub(c, call, head)))
			break;
	}
	(void)shutdown(c->fd, SHUT_RDWR);
	if (is_counted)
		atomic_fetch_sub(&c->u->open_now, 1);
	return NULL;
}

static void accept_one(struct upstream *u, int which)
{
	struct upstream_private *p = u->private;
	int fd = accept(p->listen_fd[which], NULL, NULL), one = 1, small = 65536;
	struct connection *c;

	if (fd < 0)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* so that what counts as sent is not far from what was taken */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	pthread_mutex_lock(&p->lock);
	assert(p->count < CONNECTIONS_MAX);
	c = &p->connections[p->count++];
	*c = (struct connection){ .u = u, .fd = fd, .is_storage = which == 1 };
	pthread_create(&c->thread, NULL, serve, c);
	pthread_mutex_unlock(&p->lock);
}

static void *accept_all(void *arg)
{
	struct upstream *u = arg;
	struct upstream_private *p = u->private;

	while (!atomic_load(&p->is_stopping)) {
		struct pollfd fds[2] = { { .fd = p->listen_fd[0], .events = POLLIN },
					 { .fd = p->listen_fd[1], .events = POLLIN } };

		if (poll(fds, 2, 20) <= 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (fds[i].revents)
				accept_one(u, i);
	}
	return NULL;
}

static void listen_on(struct upstream_private *p, int which)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	p->listen_fd[which] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(p->listen_fd[which], (struct sockaddr *)&a, len) < 0 ||
	    listen(p->listen_fd[which], 128) < 0 ||
	    getsockname(p->listen_fd[which], (struct sockaddr *)&a, &len) < 0)
		abort();
	p->port[which] = ntohs(a.sin_port);
}

void upstream_start(struct upstream *u)
{
	struct upstream_private *p = calloc(1, sizeof(*p));

	assert(p);
	u->private = p;
	pthread_mutex_init(&p->lock, NULL);
	listen_on(p, 0);
	listen_on(p, 1);
	(void)snprintf(p->url, sizeof(p->url), "http://127.0.0.1:%u", p->port[0]);
	pthread_create(&p->acceptor, NULL, accept_all, u);
}

const char *upstream_url(const struct upstream *u)
{
	return u->private->url;
}

void upstream_blob_url(const struct upstream *u, char ret_url[64])
{
	(void)snprintf(ret_url, 64, "http://127.0.0.1:%u/blob?Signature=x", u->private->port[1]);
}

void upstream_stop(struct upstream *u)
{
	struct upstream_private *p = u->private;

	atomic_store(&p->is_stopping, true);
	pthread_join(p->acceptor, NULL);
	for (unsigned i = 0; i < p->count; i++)
		(void)shutdown(p->connections[i].fd, SHUT_RDWR);
	for (unsigned i = 0; i < p->count; i++) {
		pthread_join(p->connections[i].thread, NULL);
		(void)close(p->connections[i].fd);
	}
	(void)close(p->listen_fd[0]);
	(void)close(p->listen_fd[1]);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
