/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_router - see the header. The doors of flight, relay, store, auth and ask that server/ and reply/ use are
 * implemented here, so that a test of the server links none of those rooms.
 */
#include "fake_router.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "common/alloc.h"
#include "common/http/uri.h"
#include "common/path.h"

#define RELAY_ROOM 20000

static _Atomic unsigned live;

unsigned fake_router_live(void)
{
	return atomic_load(&live);
}

static void nap(uint64_t ms)
{
	(void)usleep((useconds_t)(ms * 1000));
}

static void fill(char *bytes, uint64_t at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)fake_byte(at + i);
}

static void append(int fd, uint64_t at, uint64_t end)
{
	char piece[65536];

	while (at < end) {
		size_t n = end - at < sizeof(piece) ? (size_t)(end - at) : sizeof(piece);

		fill(piece, at, n);
		assert(fs_pwrite_all(fd, piece, n, at) == 0);
		at += n;
	}
}

/* --- blobs --- */

struct blob {
	int fd;
	uint64_t size;
};

static int scratch_file(void)
{
	int fd = memfd_create("fake", MFD_CLOEXEC);

	assert(fd >= 0);
	return fd;
}

static struct blob *blob_make(uint64_t size)
{
	struct blob *b = xcalloc(1, sizeof(*b));

	b->fd = scratch_file();
	b->size = size;
	append(b->fd, 0, size);
	atomic_fetch_add(&live, 1);
	return b;
}

struct blob *blob_unref(struct blob *b)
{
	(void)close(b->fd);
	free(b);
	atomic_fetch_sub(&live, 1);
	return NULL;
}

uint64_t blob_size(const struct blob *b)
{
	return b->size;
}

int blob_fd(const struct blob *b)
{
	return b->fd;
}

struct bytes *blob_bytes(struct blob *b)
{
	return NULL;
}

/* --- readers --- */

struct reader {
	int fd;
	uint64_t size, step, ms, fail;
	_Atomic uint64_t ready;
	_Atomic bool is_over;
	struct waiters waiters;
	pthread_t thread;
};

static void *grow(void *arg)
{
	struct reader *r = arg;

	for (uint64_t at = 0; at < r->size && !atomic_load(&r->is_over);) {
		uint64_t end = at + r->step < r->size ? at + r->step : r->size;

		append(r->fd, at, end);
		atomic_store(&r->ready, end);
		waiters_wake_all(&r->waiters);
		at = end;
		nap(r->ms);
	}
	return NULL;
}

static struct reader *reader_make(uint64_t size, uint64_t step, uint64_t ms, uint64_t fail)
{
	struct reader *r = xcalloc(1, sizeof(*r));

	r->fd = scratch_file();
	assert(ftruncate(r->fd, (off_t)size) == 0); /* like a part: the whole length is there, as zeros */
	r->size = size;
	r->step = step ? step : size;
	r->ms = ms;
	r->fail = fail ? fail : UINT64_MAX;
	waiters_init(&r->waiters);
	atomic_fetch_add(&live, 1);
	assert(pthread_create(&r->thread, NULL, grow, r) == 0);
	return r;
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	atomic_store(&r->is_over, true);
	(void)pthread_join(r->thread, NULL);
	waiters_done(&r->waiters);
	(void)close(r->fd);
	free(r);
	atomic_fetch_sub(&live, 1);
}

bool reader_may_leave(const struct reader *r)
{
	return false;
}

int reader_fd(const struct reader *r)
{
	return r->fd;
}

int64_t reader_ready(struct reader *r, uint64_t offset)
{
	uint64_t ready = atomic_load(&r->ready);

	if (ready > r->fail)
		ready = r->fail;
	if (offset >= r->fail)
		return -EBADMSG;
	return ready > offset ? (int64_t)(ready - offset) : 0;
}

bool reader_wait(struct reader *r, uint64_t offset, struct waiter *w)
{
	waiters_add(&r->waiters, w);
	if (reader_ready(r, offset) == 0)
		return true;
	waiter_cancel(w);
	return false;
}

/* --- relays: one direction each --- */

struct relay {
	uint64_t size, fail, made, taken; /* of the answer; made and taken guarded by lock */
	int64_t got;                      /* bytes of the request's body in the pipe; guarded by lock */
	uint64_t body_total;
	bool is_body, has_ended;
	struct lock lock;
	_Atomic bool is_over;
	struct waiters waiters;
	pthread_t thread;
};

static void *run_relay(void *arg)
{
	struct relay *r = arg;

	while (!atomic_load(&r->is_over)) {
		nap(1);
		lock_take(&r->lock);
		if (r->made < r->size && r->made - r->taken < RELAY_ROOM)
			r->made = r->made + 7777 < r->size ? r->made + 7777 : r->size;
		r->body_total += (uint64_t)r->got;
		r->got = 0;
		lock_drop(&r->lock);
		waiters_wake_all(&r->waiters);
	}
	return NULL;
}

static struct relay *relay_make(uint64_t size, uint64_t fail)
{
	struct relay *r = xcalloc(1, sizeof(*r));

	r->size = size;
	r->fail = fail ? fail : UINT64_MAX;
	lock_init(&r->lock, LOCK_RELAY);
	waiters_init(&r->waiters);
	atomic_fetch_add(&live, 1);
	assert(pthread_create(&r->thread, NULL, run_relay, r) == 0);
	return r;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	atomic_store(&r->is_over, true);
	(void)pthread_join(r->thread, NULL);
	waiters_done(&r->waiters);
	lock_done(&r->lock);
	free(r);
	atomic_fetch_sub(&live, 1);
}

ssize_t relay_read(struct relay *r, void *bytes, size_t len_max)
{
	SCOPED_LOCK(&r->lock);
	uint64_t n = r->made - r->taken;

	if (r->taken >= r->fail)
		return -ECONNRESET;
	if (r->taken == r->size)
		return 0;
	if (n == 0)
		return -EAGAIN;
	n = n < len_max ? n : len_max;
	if (r->taken + n > r->fail)
		n = r->fail - r->taken;
	fill(bytes, r->taken, (size_t)n);
	r->taken += n;
	return (ssize_t)n;
}

bool relay_wants_body(struct relay *r)
{
	return true;
}

ssize_t relay_write(struct relay *r, const void *bytes, size_t len)
{
	SCOPED_LOCK(&r->lock);
	size_t room = (size_t)(RELAY_ROOM - r->got);

	if (r->body_total >= r->fail)
		return -EPIPE;
	if (room == 0)
		return -EAGAIN;
	if (len > room)
		len = room;
	r->got += (int64_t)len;
	return (ssize_t)len;
}

void relay_write_end(struct relay *r)
{
	SCOPED_LOCK(&r->lock);

	r->has_ended = true;
}

static bool has_news(struct relay *r, bool want_write)
{
	SCOPED_LOCK(&r->lock);

	if (want_write)
		return r->got < RELAY_ROOM;
	if (r->is_body)
		return r->has_ended && r->got == 0;
	return r->made > r->taken || r->taken == r->size || r->taken >= r->fail;
}

bool relay_wait(struct relay *r, bool want_write, struct waiter *w)
{
	waiters_add(&r->waiters, w);
	if (!has_news(r, want_write))
		return true;
	waiter_cancel(w);
	return false;
}

/* --- subjects and asks --- */

int auth_subject(struct auth *a, const struct headers *request, struct str client,
		 struct subject *ret_subject)
{
	struct str value = headers_get(request, STR("Authorization"));

	memcpy(ret_subject->fingerprint, value.ptr ? "a1b2c3" : "-", value.ptr ? 7 : 2);
	return value.ptr && !str_starts_with(value, STR("Bearer ")) ? -EINVAL : 0;
}

void subject_done(struct subject *s)
{
}

/* /slow waits for one of these. */
struct ask {
	_Atomic bool is_done;
	uint64_t ms;
	struct waiters waiters;
	pthread_t thread;
};

static void *run_ask(void *arg)
{
	struct ask *k = arg;

	nap(k->ms);
	atomic_store(&k->is_done, true);
	waiters_wake_all(&k->waiters);
	return NULL;
}

struct ask *ask_start(struct asks *a, struct str key, const struct question *q)
{
	struct ask *k = xcalloc(1, sizeof(*k));

	k->ms = q->deadline_ms;
	waiters_init(&k->waiters);
	atomic_fetch_add(&live, 1);
	assert(pthread_create(&k->thread, NULL, run_ask, k) == 0);
	return k;
}

struct ask *ask_unref(struct ask *k)
{
	(void)pthread_join(k->thread, NULL);
	waiters_done(&k->waiters);
	free(k);
	atomic_fetch_sub(&live, 1);
	return NULL;
}

struct str ask_key(const struct ask *k)
{
	return STR("slow");
}

bool ask_is_done(const struct ask *k)
{
	return atomic_load(&((struct ask *)(uintptr_t)k)->is_done);
}

bool ask_wait(struct ask *k, struct waiter *w)
{
	waiters_add(&k->waiters, w);
	if (!ask_is_done(k))
		return true;
	waiter_cancel(w);
	return false;
}

const struct answer *ask_answer(const struct ask *k)
{
	static const struct answer nothing;

	return &nothing;
}

/* --- the router --- */

struct router {
	int nothing;
};

struct router *fake_router_new(void)
{
	return xcalloc(1, sizeof(struct router));
}

void fake_router_free(struct router *r)
{
	free(r);
}

static bool is_route(const struct request *q, const char *name)
{
	return str_eq(q->path, str_from(name)) || (str_starts_with(q->path, str_from(name)) &&
						   q->path.ptr[strlen(name)] == '/' && strlen(name) > 1);
}

static uint64_t number_in_path(const struct request *q)
{
	struct str head, tail = q->path, rest;
	uint64_t n = 0;

	while (str_cut(tail, '/', &head, &rest))
		tail = rest;
	(void)parse_u64(tail.len ? tail : head, &n);
	return n;
}

static uint64_t param(const struct request *q, const char *name)
{
	uint64_t n = 0;

	(void)parse_u64(uri_param(q->query, str_from(name)), &n);
	return n;
}

int router_classify(struct router *r, struct request *q, struct reply *reply)
{
	q->route = ROUTE_OTHER;
	q->body_kind = BODY_SMALL;
	if (is_route(q, "/stream"))
		q->body_kind = BODY_STREAM;
	if (is_route(q, "/nobody") && q->body_bytes != 0) {
		reply_text(reply, 400, "text/plain", STR("no body here\n"));
		return 1;
	}
	return 0;
}

static void describe(struct request *q, struct reply *reply)
{
	SCOPED_BUF text;

	buf_init(&text, 65536);
	buf_appendf(&text, "method=%s\ntarget=%s\nbase=%s\nclient=%s\nid=%s\ntoken=%s\nauthorization=%s\n",
		    q->method, q->target, q->base, q->client, q->id, q->subject.fingerprint,
		    request_header(q, STR("Authorization")).ptr ? "seen" : "hidden");
	buf_appendf(&text, "admin=%s\nintercepted=%s\n", q->is_admin ? "yes" : "no",
		    q->is_intercepted ? "yes" : "no");
	for (size_t i = 0; i < q->headers.count; i++)
		buf_appendf(&text, "field %s: %s\n", q->headers.fields[i].name, q->headers.fields[i].value);
	reply_text(reply, 200, "text/plain", buf_str(&text));
}

static void reply_pattern(struct reply *reply, uint64_t n)
{
	char *data = xmalloc(n + 1);
	struct bytes *bytes;

	fill(data, 0, n);
	bytes = bytes_new_take(data, n);
	reply_bytes(reply, 200, "application/octet-stream", bytes);
	bytes_unref(bytes);
}

static void reply_growing(struct request *q, struct reply *reply)
{
	uint64_t size = number_in_path(q);

	q->reader = reader_make(size, param(q, "step"), param(q, "ms"), param(q, "fail"));
	reply_reader(reply, 200, q, 0, size);
}

static void relayed(struct request *q, struct reply *reply)
{
	struct headers none;
	uint64_t size = number_in_path(q);

	headers_init(&none);
	q->relay = relay_make(size, param(q, "fail"));
	reply_relay(reply, q, 200, &none, param(q, "known") ? (int64_t)size : -1);
}

static uint64_t relay_body_total(struct relay *r)
{
	SCOPED_LOCK(&r->lock);

	return r->body_total;
}

static int handle_stream(struct request *q, struct reply *reply)
{
	char text[64];

	if (!q->relay) {
		q->relay = relay_make(0, param(q, "fail"));
		q->relay->is_body = true;
	}
	if (relay_wait(q->relay, false, &q->waiter))
		return -EAGAIN;
	(void)snprintf(text, sizeof(text), "%llu\n", (unsigned long long)relay_body_total(q->relay));
	reply_text(reply, 200, "text/plain", str_from(text));
	return 0;
}

static int handle_slow(struct request *q, struct reply *reply)
{
	const struct answer *answer;
	struct question question = { .deadline_ms = param(q, "ms") };
	int r = request_ask(q, NULL, STR("slow"), &question, &answer);

	if (r < 0)
		return r;
	reply_text(reply, 200, "text/plain", STR("at last\n"));
	return 0;
}

static struct splices *splices;

void fake_router_splices(struct splices *s)
{
	splices = s;
}

static int handle_upgrade(struct request *q, struct reply *reply)
{
	const struct dial_query query = { .host = "127.0.0.1",
					  .port = (uint16_t)param(q, "port"),
					  .is_local = true,
					  .head = STR("GET /asked HTTP/1.1\r\n\r\n") };
	const struct headers *headers;
	int status = 0, r;

	if (!q->dial && dial_start(splices, &query, &q->dial) < 0)
		return -EMFILE;
	do
		r = dial_head(q->dial, &status, &headers);
	while (r == -EAGAIN && request_park_dial(q) == 0);
	if (r == -EAGAIN)
		return r;
	if (r == 0 && status == 101) {
		reply_dial(reply, q);
		(void)headers_set(&reply->headers, STR("Upgrade"), STR("websocket"));
	} else {
		reply_text(reply, 502, "text/plain", STR("no upgrade\n"));
	}
	return 0;
}

int router_handle(struct router *r, struct request *q, struct reply *reply)
{
	uint64_t n = number_in_path(q);

	if (is_route(q, "/bytes")) {
		reply_pattern(reply, n);
	} else if (is_route(q, "/blob")) {
		reply_blob(reply, 200, blob_make(n), param(q, "o"),
			   param(q, "l") ? param(q, "l") : n - param(q, "o"));
	} else if (is_route(q, "/grow")) {
		reply_growing(q, reply);
	} else if (is_route(q, "/relay")) {
		relayed(q, reply);
	} else if (is_route(q, "/slow")) {
		return handle_slow(q, reply);
	} else if (is_route(q, "/status")) {
		reply->status = (int)n;
	} else if (is_route(q, "/echo")) {
		reply_text(reply, 200, "text/plain", buf_str(&q->body));
	} else if (is_route(q, "/upgrade")) {
		return handle_upgrade(q, reply);
	} else if (is_route(q, "/stream")) {
		return handle_stream(q, reply);
	} else if (is_route(q, "/request")) {
		describe(q, reply);
	} else if (is_route(q, "/abort")) {
		reply_abort(reply);
	} else {
		reply->cache_status = "hit";
		reply->age_s = 7;
		reply_text(reply, 200, "text/plain", STR("hello\n"));
	}
	return 0;
}
