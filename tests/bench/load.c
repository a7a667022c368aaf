/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load - an HTTP/1.1 client that costs little: one thread, epoll, connections kept alive, bodies thrown away in the kernel.
 *
 * Proves nothing by itself; bench.py sets what it counts against the processor time of the server. It must never be the
 * limit: bodies are received with MSG_TRUNC, which copies nothing.
 * Never     takes an answer for good that has another status than 200 or 206, no length, or fewer bytes than that.
 *
 * load [-m METHOD] [-b JSON] [-c CONNECTIONS] [-n REQUESTS | -d SECONDS] [-r RANGE_BYTES -s FILE_BYTES] [-w] PORT TARGET
 *   -b  the body of each request
 *   -w  afterwards the connections stay open until standard input ends ("waiting" is printed first)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 8192
#define TURN_MAX 512

struct conn {
	int fd;
	bool in_body;
	size_t head_len;
	uint64_t left;
	char head[HEAD_MAX + 1];
};

struct load {
	const char *method;
	const char *target;
	const char *body;
	unsigned port;
	unsigned conns;
	uint64_t requests_max;
	double seconds_max;
	uint64_t range_bytes;
	uint64_t file_bytes;
	bool is_waiting;

	int epoll_fd;
	unsigned open;
	double end_mono;
	uint64_t seed;
	uint64_t started;
	uint64_t done;
	uint64_t bytes;
	uint64_t errors;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t next_random(struct load *l)
{
	l->seed ^= l->seed << 13;
	l->seed ^= l->seed >> 7;
	l->seed ^= l->seed << 17;
	return l->seed;
}

/* A connection that failed is not opened again: what it leaves undone shows. */
static void conn_end(struct load *l, struct conn *c, bool is_error)
{
	if (c->fd < 0)
		return;
	close(c->fd);
	c->fd = -1;
	l->open--;
	l->errors += is_error;
}

static bool may_start(struct load *l)
{
	return l->requests_max ? l->started < l->requests_max : now() < l->end_mono;
}

static void conn_send(struct load *l, struct conn *c)
{
	char text[2048];
	int len;

	if (!may_start(l)) {
		if (!l->is_waiting)
			conn_end(l, c, false);
		return;
	}
	l->started++;
	c->in_body = false;
	c->head_len = 0;
	len = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n", l->method, l->target,
		       l->port);
	if (l->range_bytes) {
		uint64_t at = next_random(l) % (l->file_bytes / l->range_bytes) * l->range_bytes;

		len += snprintf(text + len, sizeof(text) - len, "Range: bytes=%" PRIu64 "-%" PRIu64 "\r\n",
				at, at + l->range_bytes - 1);
	}
	if (l->body)
		len += snprintf(text + len, sizeof(text) - len,
				"Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(l->body));
	len += snprintf(text + len, sizeof(text) - len, "User-Agent: load\r\nAccept: */*\r\n\r\n%s",
			l->body ? l->body : "");
	if (send(c->fd, text, len, MSG_NOSIGNAL) != len)
		conn_end(l, c, true);
}

static int content_length(const char *head, uint64_t *ret_length)
{
	for (const char *line = head; (line = strstr(line, "\r\n"));) {
		line += 2;
		if (!strncasecmp(line, "Content-Length:", 15)) {
			*ret_length = strtoull(line + 15, NULL, 10);
			return 0;
		}
	}
	return -ENOENT;
}

static void conn_answered(struct load *l, struct conn *c)
{
	l->done++;
	conn_send(l, c);
}

/* Takes what came of the head; what came behind it counts as body. */
static void conn_read_head(struct load *l, struct conn *c)
{
	ssize_t n = recv(c->fd, c->head + c->head_len, HEAD_MAX - c->head_len, 0);
	const char *end;
	uint64_t length, body;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		conn_end(l, c, true);
		return;
	}
	c->head_len += n;
	c->head[c->head_len] = 0;
	end = strstr(c->head, "\r\n\r\n");
	if (!end) {
		if (c->head_len == HEAD_MAX)
			conn_end(l, c, true);
		return;
	}
	if ((strncmp(c->head, "HTTP/1.1 200", 12) && strncmp(c->head, "HTTP/1.1 206", 12)) ||
	    content_length(c->head, &length)) {
		if (!l->errors)
			fprintf(stderr, "%.*s\n", (int)(end - c->head), c->head);
		conn_end(l, c, true);
		return;
	}
	if (!strcmp(l->method, "HEAD"))
		length = 0;
	body = c->head_len - (end + 4 - c->head);
	l->bytes += body;
	c->left = length - body;
	c->in_body = true;
	if (!c->left)
		conn_answered(l, c);
}

static void conn_read_body(struct load *l, struct conn *c)
{
	size_t want = c->left < (1 << 30) ? c->left : (1 << 30);
	ssize_t n = recv(c->fd, NULL, want, MSG_TRUNC);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		conn_end(l, c, true);
		return;
	}
	l->bytes += n;
	c->left -= n;
	if (!c->left)
		conn_answered(l, c);
}

static int conn_open(struct load *l, struct conn *c)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(l->port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
	int on = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	l->open++;
	return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0 ? -errno : 0;
}

static void run(struct load *l)
{
	struct epoll_event events[TURN_MAX];
	double silent_since = now();

	while (l->open && (l->done + l->errors < l->started)) {
		int n = epoll_wait(l->epoll_fd, events, TURN_MAX, 1000);

		if (n == 0 && now() - silent_since > 60) {
			fprintf(stderr, "load: nothing came for a minute\n");
			l->errors += l->started - l->done;
			return;
		}
		if (n > 0)
			silent_since = now();
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->fd < 0)
				continue;
			if (c->in_body)
				conn_read_body(l, c);
			else
				conn_read_head(l, c);
		}
	}
}

static void parse(struct load *l, int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "m:b:c:n:d:r:s:w")) >= 0)
		switch (option) {
		case 'm':
			l->method = optarg;
			break;
		case 'b':
			l->body = optarg;
			break;
		case 'c':
			l->conns = strtoul(optarg, NULL, 10);
			break;
		case 'n':
			l->requests_max = strtoull(optarg, NULL, 10);
			break;
		case 'd':
			l->seconds_max = strtod(optarg, NULL);
			break;
		case 'r':
			l->range_bytes = strtoull(optarg, NULL, 10);
			break;
		case 's':
			l->file_bytes = strtoull(optarg, NULL, 10);
			break;
		case 'w':
			l->is_waiting = true;
			break;
		default:
			exit(2);
		}
	if (argc - optind != 2 || !l->conns || (l->range_bytes && l->file_bytes < l->range_bytes)) {
		fprintf(stderr, "usage: load [-m METHOD] [-c N] [-n N | -d S] [-r BYTES -s BYTES] [-w] PORT "
				"TARGET\n");
		exit(2);
	}
	l->port = strtoul(argv[optind], NULL, 10);
	l->target = argv[optind + 1];
}

int main(int argc, char **argv)
{
	struct load l = { .method = "GET", .conns = 1, .seed = 88172645463325252u };
	struct conn *conns;
	double began, took;
	struct rusage use;

	parse(&l, argc, argv);
	if (!l.seconds_max && !l.requests_max)
		l.requests_max = l.conns;
	conns = calloc(l.conns, sizeof(*conns));
	l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < l.conns; i++)
		if (conn_open(&l, &conns[i]) < 0) {
			perror("load: connect");
			return 1;
		}
	began = now();
	l.end_mono = began + l.seconds_max;
	for (unsigned i = 0; i < l.conns; i++)
		conn_send(&l, &conns[i]);
	run(&l);
	took = now() - began;
	getrusage(RUSAGE_SELF, &use);
	printf("{\"requests\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"errors\": %" PRIu64
	       ", \"seconds\": %.6f, \"cpu\": %.3f}\n",
	       l.done, l.bytes, l.errors, took,
	       use.ru_utime.tv_sec + use.ru_stime.tv_sec +
		       (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
	if (l.is_waiting) {
		printf("waiting\n");
		fflush(stdout);
		while (getchar() != EOF)
			;
	}
	return l.errors ? 1 : 0;
}
