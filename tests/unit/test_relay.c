/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the promises of relay against a scripted server: bytes pass in order and in bounded memory both ways, a
 * refusal is not swallowed by an upload, and with `verify` nothing but the named content, or what is said to be the
 * wanted part of it, comes to its end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "metrics/metrics.h"
#include "policy/policy.h"
#include "relay/relay.h"
#include "upstream.h"

#define BIG_BYTES (3u << 20)
#define COMMIT "0123456789012345678901234567890123456789"
#define HELD_BACK (policy_held_back_bytes(BIG_BYTES))

struct fixture {
	struct upstream *hub, *cdn;
	struct fetch *fetch;
	struct metrics *metrics;
	struct relays *relays;
	char *big; /* BIG_BYTES of known bytes */
	struct content_id big_id, small_id, empty_id, regular_id;
	char big_hex[CONTENT_HEX_MAX], small_hex[CONTENT_HEX_MAX], empty_hex[CONTENT_HEX_MAX],
		regular_hex[CONTENT_HEX_MAX];
	pthread_mutex_t mutex;
	struct buf uploaded;                       /* guarded by mutex */
	char upload_length[32], upload_coding[32]; /* guarded by mutex */
};

/* --- a clock that can be moved -------------------------------------------------------------------------- */

static _Atomic uint64_t passed_ms;

static uint64_t test_mono_ms(void *ctx)
{
	return clock_mono_ms(&clock_system) + atomic_load(&passed_ms);
}

static int64_t test_wall_s(void *ctx)
{
	return clock_wall_s(&clock_system) + (int64_t)(atomic_load(&passed_ms) / 1000);
}

static const struct clock test_clock = { .mono_ms = test_mono_ms, .wall_s = test_wall_s };

static void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&t, NULL);
}

/* --- the server's script -------------------------------------------------------------------------------- */

static void send_big(struct fixture *x, struct upstream_call *c, size_t spoiled_at, size_t len)
{
	if (!upstream_say(c, "HTTP/1.1 200 OK\r\nETag: \"0000\"\r\nContent-Length: %u\r\n\r\n", BIG_BYTES))
		return;
	for (size_t at = 0; at < len && !c->close; at += 4096) {
		char piece[4096];

		memcpy(piece, x->big + at, sizeof(piece));
		if (spoiled_at >= at && spoiled_at < at + sizeof(piece))
			piece[spoiled_at - at] ^= 1;
		(void)upstream_send(c, piece, sizeof(piece));
	}
	if (len < BIG_BYTES)
		c->close = true;
}

/* Bytes 1-3 of "small", and how they are described by servers that are right, careless or lying. */
static const struct {
	const char *where;
	int status;
	const char *fields, *body;
} parts[] = {
	{ "/part", 206, "Content-Range: bytes 1-3/5\r\nETag: \"0000\"\r\n", "mal" },
	{ "/part-identity", 206, "Content-Range: bytes 1-3/5\r\nContent-Encoding: identity\r\n", "mal" },
	{ "/part-nameless", 206, "", "mal" },
	{ "/part-other", 206, "Content-Range: bytes 0-2/5\r\n", "sma" },
	{ "/part-shorter", 206, "Content-Range: bytes 1-2/5\r\n", "ma" },
	{ "/part-longer", 206, "Content-Range: bytes 1-4/5\r\n", "mall" },
	{ "/part-of-six", 206, "Content-Range: bytes 1-3/6\r\n", "mal" },
	{ "/part-of-any", 206, "Content-Range: bytes 1-3/*\r\n", "mal" },
	{ "/part-twice", 206, "Content-Range: bytes 1-3/5\r\nContent-Range: bytes 0-2/5\r\n", "mal" },
	{ "/part-padded", 206, "Content-Range: bytes 1-3/5\r\n", "mall" },
	{ "/part-gzip", 206, "Content-Range: bytes 1-3/5\r\nContent-Encoding: gzip\r\n", "mal" },
	{ "/part-gzip-second", 206,
	  "Content-Range: bytes 1-3/5\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n", "mal" },
	{ "/part-whole", 200, "", "small" },
	{ "/part-as-200", 200, "Content-Range: bytes 1-3/5\r\n", "mal" },
	{ "/part-416", 416, "Content-Range: bytes */5\r\n", "" },
};

static bool answer_part(struct upstream_call *c)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strcmp(c->target, parts[i].where) == 0) {
			upstream_reply(c, parts[i].status, parts[i].fields, parts[i].body);
			return true;
		}
	if (strcmp(c->target, "/part-chunked") == 0)
		return upstream_say(c, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-3/5\r\n"
				       "Transfer-Encoding: chunked\r\n\r\n3\r\nmal\r\n0\r\n\r\n");
	if (strcmp(c->target, "/part-cut") == 0) {
		c->close = true;
		return upstream_say(c, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-3/5\r\n"
				       "Content-Length: 3\r\n\r\nma");
	}
	return false;
}

static void answer_cdn(struct fixture *x, struct upstream_call *c)
{
	if (answer_part(c))
		return;
	if (strcmp(c->target, "/big") == 0)
		send_big(x, c, SIZE_MAX, BIG_BYTES);
	else if (strcmp(c->target, "/spoiled-early") == 0)
		send_big(x, c, 5, BIG_BYTES);
	else if (strcmp(c->target, "/spoiled-late") == 0)
		send_big(x, c, BIG_BYTES - 1, BIG_BYTES);
	else if (strcmp(c->target, "/short") == 0)
		send_big(x, c, SIZE_MAX, BIG_BYTES / 2);
	else if (strcmp(c->target, "/long") == 0)
		upstream_reply(c, 200, "", "small and more");
	else if (strcmp(c->target, "/long-chunked") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ne\r\nsmall and "
				      "more\r\n0\r\n\r\n");
	else if (strcmp(c->target, "/partial") == 0)
		upstream_reply(c, 206, "Content-Range: bytes 0-4/5\r\n", "small");
	else if (strcmp(c->target, "/gzip") == 0)
		upstream_reply(c, 200, "Content-Encoding: gzip\r\n", "small");
	else if (strcmp(c->target, "/empty") == 0)
		upstream_reply(c, 200, "", "");
	else if (strcmp(c->target, "/named") == 0) {
		char fields[128];

		(void)snprintf(fields, sizeof(fields), "ETag: \"%s\"\r\n", x->small_hex);
		upstream_reply(c, 200, fields, "small");
	} else if (strcmp(c->target, "/expired") == 0)
		upstream_reply(c, 403, "", "<xml/>");
	else
		upstream_reply(c, 200, "", "small");
}

/* "/file/WHERE?SIZE,NAME": what the Hub calls NAME, of SIZE bytes, is at WHERE on the other server. */
static void answer_file(struct fixture *x, struct upstream_call *c)
{
	char fields[512];
	char *query = strchr(c->target, '?');
	unsigned long size = 0;
	char *hex;

	assert_non_null(query);
	*query++ = 0;
	hex = strchr(query, ',');
	assert_non_null(hex);
	size = strtoul(query, NULL, 10);
	(void)snprintf(fields, sizeof(fields),
		       "Location: http://127.0.0.1:%u%s\r\nX-Repo-Commit: " COMMIT
		       "\r\nX-Linked-Size: %lu\r\n%s%s%s",
		       upstream_port(x->cdn), c->target + 5, size, hex[1] ? "X-Linked-Etag: \"" : "", hex + 1,
		       hex[1] ? "\"\r\n" : "");
	upstream_reply(c, 302, fields, "Found");
}

static void answer_upload(struct fixture *x, struct upstream_call *c)
{
	SCOPED_BUF body = { 0 };

	buf_init(&body, BIG_BYTES);
	if (strcmp(c->target, "/upload/refused") == 0) {
		upstream_sleep(c, 60); /* so that the sender waits for its client by then */
		upstream_reply(c, 403, "X-Error-Code: GatedRepo\r\n", "no");
		return;
	}
	if (strcmp(c->target, "/upload/refused-early") == 0) {
		upstream_sleep(c, 100);
		upstream_reply(c, 403, "", "no");
		return;
	}
	if (strcmp(c->target, "/upload/slow") == 0 || strcmp(c->target, "/upload/continued") == 0)
		upstream_sleep(c, 300);
	if (strcmp(c->target, "/upload/continued") == 0)
		(void)upstream_say(c, "HTTP/1.1 100 Continue\r\n\r\n");
	if (strcmp(c->target, "/upload/gone") == 0 || !upstream_read_body(c, &body)) {
		upstream_reset(c);
		return;
	}
	pthread_mutex_lock(&x->mutex);
	buf_reset(&x->uploaded);
	(void)buf_append_str(&x->uploaded, buf_str(&body));
	(void)snprintf(x->upload_length, sizeof(x->upload_length), "%s", upstream_field(c, "Content-Length"));
	(void)snprintf(x->upload_coding, sizeof(x->upload_coding), "%s",
		       upstream_field(c, "Transfer-Encoding"));
	pthread_mutex_unlock(&x->mutex);
	upstream_reply(c, 200, "", "thanks");
}

static void answer_hub(struct fixture *x, struct upstream_call *c)
{
	char fields[256];

	if (strncmp(c->target, "/file/", 6) == 0)
		answer_file(x, c);
	else if (strncmp(c->target, "/upload/", 8) == 0)
		answer_upload(x, c);
	else if (strcmp(c->target, "/regular") == 0) {
		(void)snprintf(fields, sizeof(fields), "ETag: \"%s\"\r\n", x->regular_hex);
		upstream_reply(c, 200, fields, "small");
	} else if (strncmp(c->target, "/own-part/", 10) == 0) {
		(void)snprintf(fields, sizeof(fields), "Content-Range: bytes 1-3/5\r\nETag: \"%s\"\r\n",
			       c->target + 10);
		upstream_reply(c, 206, fields, "mal");
	} else if (strncmp(c->target, "/moved-part/", 12) == 0) {
		(void)snprintf(fields, sizeof(fields), "Location: /own-part/%s\r\nX-Linked-Etag: \"%s\"\r\n",
			       c->target + 12, x->small_hex);
		upstream_reply(c, 302, fields, "Found");
	} else if (strcmp(c->target, "/big") == 0)
		send_big(x, c, SIZE_MAX, BIG_BYTES);
	else if (strcmp(c->target, "/short") == 0)
		send_big(x, c, SIZE_MAX, BIG_BYTES / 2);
	else if (strcmp(c->target, "/missing") == 0)
		upstream_reply(c, 404, "X-Error-Code: EntryNotFound\r\n", "Entry not found");
	else if (strcmp(c->target, "/401") == 0)
		upstream_reply(c, 401, "", "");
	else if (strcmp(c->target, "/429") == 0)
		upstream_reply(c, 429, "", "");
	else if (strcmp(c->target, "/500") == 0)
		upstream_reply(c, 500, "", "");
	else if (strcmp(c->target, "/silent") == 0)
		upstream_sleep(c, 20000);
	else
		upstream_reply(c, 200, "X-Answer: yes\r\n", "hello");
}

static void answer(void *ctx, struct upstream_call *c)
{
	struct fixture *x = ctx;

	if (c->up == x->cdn)
		answer_cdn(x, c);
	else
		answer_hub(x, c);
}

/* --- fixture -------------------------------------------------------------------------------------------- */

static void make_contents(struct fixture *x)
{
	x->big = xmalloc(BIG_BYTES);
	for (size_t i = 0; i < BIG_BYTES; i++)
		x->big[i] = (char)(i * 2654435761u >> 24);
	x->big_id = (struct content_id){ .kind = CONTENT_LFS, .size = BIG_BYTES };
	sha256_of(x->big, BIG_BYTES, &x->big_id.sha256);
	x->small_id = (struct content_id){ .kind = CONTENT_LFS, .size = 5 };
	sha256_of("small", 5, &x->small_id.sha256);
	x->empty_id = (struct content_id){ .kind = CONTENT_LFS, .size = 0 };
	sha256_of("", 0, &x->empty_id.sha256);
	x->regular_id = (struct content_id){ .kind = CONTENT_GIT, .size = 5 };
	git_oid_of("small", 5, &x->regular_id.git);
	content_id_hex(&x->big_id, x->big_hex);
	content_id_hex(&x->small_id, x->small_hex);
	content_id_hex(&x->empty_id, x->empty_hex);
	content_id_hex(&x->regular_id, x->regular_hex);
}

static int set_up(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));
	struct fetch_opts fetch_opts = { .connect_timeout_ms = 1000, .clock = &test_clock };
	struct relays_opts relays_opts = { .clock = &test_clock };

	pthread_mutex_init(&x->mutex, NULL);
	buf_init(&x->uploaded, BIG_BYTES);
	make_contents(x);
	x->metrics = metrics_new();
	x->cdn = upstream_new(answer, x);
	x->hub = upstream_new(answer, x);
	fetch_opts.hub_url = upstream_url(x->hub);
	fetch_opts.metrics = x->metrics;
	assert_int_equal(fetch_new(&fetch_opts, &x->fetch), 0);
	relays_opts.fetch = x->fetch;
	relays_opts.metrics = x->metrics;
	x->relays = relays_new(&relays_opts);
	*state = x;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *x = *state;

	relays_free(x->relays);
	fetch_free(x->fetch);
	upstream_free(x->hub);
	upstream_free(x->cdn);
	metrics_free(x->metrics);
	buf_done(&x->uploaded);
	pthread_mutex_destroy(&x->mutex);
	free(x->big);
	free(x);
	return 0;
}

struct listener {
	struct waiter waiter;
	atomic_uint wakes;
};

static void on_wake(struct waiter *w)
{
	struct listener *l = LIST_ENTRY(w, struct listener, waiter);

	atomic_fetch_add(&l->wakes, 1);
}

static void wait_for_news(struct relay *r, bool want_write)
{
	struct listener l = { 0 };

	waiter_init(&l.waiter, on_wake);
	if (relay_wait(r, want_write, &l.waiter))
		for (unsigned i = 0; !atomic_load(&l.wakes); i++) {
			assert_true(i < 100000);
			sleep_ms(1);
		}
	waiter_cancel(&l.waiter);
}

static struct relay *start_at(struct fixture *x, const char *where, const struct content_id *verify)
{
	char url[128];
	struct relay_query q = { .method = "GET", .follow = FETCH_FOLLOW_ALLOWED, .verify = verify };
	struct relay *r = NULL;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", upstream_port(x->cdn), where);
	q.location = str_from(url);
	assert_int_equal(relay_start(x->relays, &q, &r), 0);
	return r;
}

static struct relay *start(struct fixture *x, const char *method, const char *target,
			   const struct content_id *verify)
{
	struct relay_query q = {
		.method = method,
		.target = str_from(target),
		.follow = FETCH_FOLLOW_ALLOWED,
		.verify = verify,
	};
	struct relay *r = NULL;

	assert_int_equal(relay_start(x->relays, &q, &r), 0);
	return r;
}

static int head_of(struct relay *r, int *ret_status)
{
	const struct headers *headers;
	int64_t length;
	int error;

	while ((error = relay_head(r, ret_status, &headers, &length)) == -EAGAIN)
		wait_for_news(r, false);
	return error;
}

/* Reads everything; returns what ended it. */
static ssize_t drain(struct relay *r, struct buf *out)
{
	char piece[10000];
	ssize_t len;

	for (;;) {
		len = relay_read(r, piece, sizeof(piece));
		if (len == -EAGAIN)
			wait_for_news(r, false);
		else if (len <= 0)
			return len;
		else
			(void)buf_append(out, piece, (size_t)len);
	}
}

/* --- answers -------------------------------------------------------------------------------------------- */

static void passes_an_answer_on(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start(x, "GET", "/ok", NULL);
	const struct headers *headers;
	SCOPED_BUF out = { 0 };
	int64_t length;
	int status;

	buf_init(&out, 100);
	assert_int_equal(head_of(r, &status), 0);
	assert_int_equal(relay_head(r, &status, &headers, &length), 0);
	assert_int_equal(status, 200);
	assert_int_equal(length, 5);
	assert_true(str_eq(headers_get(headers, STR("X-Answer")), STR("yes")));
	assert_int_equal(drain(r, &out), 0);
	assert_string_equal(out.bytes, "hello");
	assert_int_equal(relay_read(r, out.bytes, 1), 0); /* the end stays the end */
}

static void passes_a_refusal_on_as_it_is(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start(x, "GET", "/missing", NULL);
	SCOPED_BUF out = { 0 };
	int status;

	buf_init(&out, 100);
	assert_int_equal(head_of(r, &status), 0);
	assert_int_equal(status, 404);
	assert_int_equal(drain(r, &out), 0);
	assert_string_equal(out.bytes, "Entry not found");
}

static void says_what_kept_the_answer_from_coming(void **state)
{
	struct fixture *x = *state;
	char url[64];
	struct fetch_opts opts = { .hub_url = url, .metrics = x->metrics, .clock = &clock_system };
	struct relays_opts relays_opts = { .metrics = x->metrics, .clock = &clock_system };
	struct relays *relays;
	struct relay_query q = { .method = "GET", .target = STR("/ok") };
	struct relay *r = NULL;
	int status = 7;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", upstream_dead_port());
	assert_int_equal(fetch_new(&opts, &relays_opts.fetch), 0);
	relays = relays_new(&relays_opts);
	assert_int_equal(relay_start(relays, &q, &r), 0);
	assert_int_equal(head_of(r, &status), -EHOSTUNREACH);
	assert_int_equal(status, 7);
	assert_int_equal(relay_read(r, url, 1), -EHOSTUNREACH);
	relay_free(r);
	relays_free(relays);
	fetch_free(relays_opts.fetch);
}

static void a_cut_body_ends_in_an_error_after_its_bytes(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start(x, "GET", "/short", NULL);
	SCOPED_BUF out = { 0 };

	buf_init(&out, BIG_BYTES);
	assert_int_equal(drain(r, &out), -ECONNRESET);
	assert_int_equal(out.len, BIG_BYTES / 2);
	assert_memory_equal(out.bytes, x->big, out.len);
}

static void a_slow_reader_pauses_upstream(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start(x, "GET", "/big", NULL);
	SCOPED_BUF out = { 0 };
	int status;

	buf_init(&out, BIG_BYTES);
	assert_int_equal(head_of(r, &status), 0);
	sleep_ms(300);
	assert_in_range(metrics_value(x->metrics, METRIC_UPSTREAM_RECEIVED, 0, 0, 0), 1, 256 * 1024);
	assert_int_equal(drain(r, &out), 0);
	assert_int_equal(out.len, BIG_BYTES);
	assert_memory_equal(out.bytes, x->big, BIG_BYTES);
}

static void news_wake_the_one_who_waits_once(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start(x, "GET", "/silent", NULL);
	SCOPED(relay_free) struct relay *ok = start(x, "GET", "/ok", NULL);
	struct listener l = { 0 };
	const struct headers *headers;
	int64_t length;
	char byte;
	int status;

	waiter_init(&l.waiter, on_wake);
	assert_int_equal(relay_head(r, &status, &headers, &length), -EAGAIN);
	assert_int_equal(relay_read(r, &byte, 1), -EAGAIN);
	assert_true(relay_wait(r, false, &l.waiter));
	waiter_cancel(&l.waiter);
	assert_int_equal(atomic_load(&l.wakes), 0);
	wait_for_news(ok, false);
	assert_false(relay_wait(ok, false, &l.waiter)); /* the head was not taken yet */
}

/* --- uploads -------------------------------------------------------------------------------------------- */

static struct relay *start_upload(struct fixture *x, const char *target, int64_t bytes)
{
	struct relay_query q = {
		.method = "POST", .target = str_from(target), .has_body = true, .body_bytes = bytes
	};
	struct relay *r = NULL;

	assert_int_equal(relay_start(x->relays, &q, &r), 0);
	return r;
}

/* Returns 0 when everything was taken, else what relay_write() said. */
static ssize_t write_all(struct relay *r, const char *bytes, size_t len)
{
	while (len) {
		ssize_t taken = relay_write(r, bytes, len);

		if (taken == -EAGAIN) {
			wait_for_news(r, true);
			continue;
		}
		if (taken < 0)
			return taken;
		bytes += taken;
		len -= (size_t)taken;
	}
	return 0;
}

static void upload(struct fixture *x, const char *target, int64_t said)
{
	SCOPED(relay_free) struct relay *r = start_upload(x, target, said);
	SCOPED_BUF out = { 0 };
	int status;

	buf_init(&out, 100);
	assert_int_equal(write_all(r, x->big, BIG_BYTES), 0);
	relay_write_end(r);
	assert_int_equal(head_of(r, &status), 0);
	assert_int_equal(status, 200);
	assert_int_equal(drain(r, &out), 0);
	assert_string_equal(out.bytes, "thanks");
	assert_int_equal(x->uploaded.len, BIG_BYTES);
	assert_memory_equal(x->uploaded.bytes, x->big, BIG_BYTES);
}

static void sends_the_body_once_in_order_with_its_framing(void **state)
{
	struct fixture *x = *state;

	upload(x, "/upload/a", BIG_BYTES);
	assert_int_equal(strtoul(x->upload_length, NULL, 10), BIG_BYTES);
	upload(x, "/upload/slow", -1);
	assert_string_equal(x->upload_coding, "chunked");
}

static void a_body_may_be_empty(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start_upload(x, "/upload/a", -1);
	int status;

	relay_write_end(r);
	assert_int_equal(head_of(r, &status), 0);
	assert_int_equal(x->uploaded.len, 0);
}

static void upload_memory_is_bounded(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start_upload(x, "/silent", BIG_BYTES);
	size_t taken = 0;

	for (int quiet = 0; quiet < 20;) {
		ssize_t len = relay_write(r, x->big, 100000);

		if (len == -EAGAIN) {
			sleep_ms(10);
			quiet++;
			continue;
		}
		assert_true(len > 0);
		taken += (size_t)len;
		assert_true(taken < 64u << 20); /* the sockets hold some megabytes */
	}
}

static void a_refusal_stops_the_upload(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start_upload(x, "/upload/refused", BIG_BYTES);
	SCOPED_BUF out = { 0 };
	int status;

	buf_init(&out, 100);
	assert_int_equal(relay_write(r, "some", 4), 4);
	assert_int_equal(head_of(r, &status), 0);
	assert_int_equal(status, 403);
	assert_int_equal(relay_write(r, "more", 4), -EPIPE);
	assert_int_equal(drain(r, &out), 0);
	assert_string_equal(out.bytes, "no");
}

static struct relay *start_expecting(struct fixture *x, const char *target)
{
	struct relay_query q = { .method = "POST",
				 .target = str_from(target),
				 .has_body = true,
				 .expects_continue = true,
				 .body_bytes = 4 };
	struct relay *r = NULL;

	assert_int_equal(relay_start(x->relays, &q, &r), 0);
	return r;
}

static void the_body_is_wanted_when_upstream_says_so(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start_expecting(x, "/upload/continued");
	struct listener l = { 0 };
	int status;

	waiter_init(&l.waiter, on_wake);
	assert_true(relay_wait(r, false, &l.waiter));
	assert_false(relay_wants_body(r));
	for (unsigned i = 0; !atomic_load(&l.wakes); i++) {
		assert_true(i < 10000);
		sleep_ms(1);
	}
	waiter_cancel(&l.waiter);
	assert_true(relay_wants_body(r));
	assert_int_equal(write_all(r, "body", 4), 0);
	relay_write_end(r);
	assert_int_equal(head_of(r, &status), 0);
	assert_int_equal(status, 200);
	assert_string_equal(x->uploaded.bytes, "body");
}

static void a_refusal_comes_before_the_body_is_wanted(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start_expecting(x, "/upload/refused-early");
	int status;

	assert_int_equal(head_of(r, &status), 0);
	assert_int_equal(status, 403);
	assert_false(relay_wants_body(r));
}

static void a_write_that_is_not_answered_is_sent_once(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start_upload(x, "/silent", 4);
	int status;

	assert_int_equal(write_all(r, "body", 4), 0);
	relay_write_end(r);
	while (upstream_requests(x->hub) == 0)
		sleep_ms(1);
	sleep_ms(100);
	atomic_fetch_add(&passed_ms, 119000);
	sleep_ms(300);
	assert_int_equal(relay_head(r, &status, &(const struct headers *){ NULL }, &(int64_t){ 0 }), -EAGAIN);
	atomic_fetch_add(&passed_ms, 2000);
	assert_int_equal(head_of(r, &status), -ETIMEDOUT);
	assert_int_equal(upstream_requests(x->hub), 1);
}

static void an_upstream_that_goes_away_ends_the_upload(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start_upload(x, "/upload/gone", -1);
	int status;

	assert_int_equal(head_of(r, &status), -ECONNRESET);
	assert_int_equal(write_all(r, x->big, BIG_BYTES), -EPIPE);
}

/* --- verify --------------------------------------------------------------------------------------------- */

/* Fetches /file/WHERE, which the Hub calls `hex` of `size` bytes, as `want`. */
static ssize_t get_verified(struct fixture *x, const char *where, const char *hex, uint64_t size,
			    const struct content_id *want, struct buf *out)
{
	char target[256];
	SCOPED(relay_free) struct relay *r = NULL;
	int status, error;

	buf_init(out, BIG_BYTES);
	(void)snprintf(target, sizeof(target), "/file/%s?%llu,%s", where, (unsigned long long)size, hex);
	r = start(x, "GET", target, want);
	error = head_of(r, &status);
	if (error)
		return error;
	assert_int_equal(status, 200);
	return drain(r, out);
}

static void the_right_bytes_come_through(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF big = { 0 }, small = { 0 }, empty = { 0 };

	assert_int_equal(get_verified(x, "big", x->big_hex, BIG_BYTES, &x->big_id, &big), 0);
	assert_int_equal(big.len, BIG_BYTES);
	assert_memory_equal(big.bytes, x->big, BIG_BYTES);
	assert_int_equal(get_verified(x, "small", x->small_hex, 5, &x->small_id, &small), 0);
	assert_string_equal(small.bytes, "small");
	assert_int_equal(get_verified(x, "empty", x->empty_hex, 0, &x->empty_id, &empty), 0);
	assert_int_equal(empty.len, 0);
}

/* The Hub named the address for this content, so the digest alone says whether it is. */
static void what_begins_at_an_address_is_checked_by_its_digest(void **state)
{
	struct fixture *x = *state;
	static const struct {
		const char *where;
		ssize_t end;
	} table[] = { { "/big", 0 }, { "/spoiled-late", -EBADMSG }, { "/short", -ECONNRESET } };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		SCOPED(relay_free) struct relay *r = start_at(x, table[i].where, &x->big_id);
		SCOPED_BUF out = { 0 };
		int status;

		buf_init(&out, BIG_BYTES);
		assert_int_equal(head_of(r, &status), 0);
		assert_int_equal(drain(r, &out), table[i].end);
		if (table[i].end)
			assert_true(out.len <= BIG_BYTES - HELD_BACK);
	}
	assert_int_equal(upstream_requests(x->hub), 0);
}

static void a_regular_file_is_known_by_its_etag(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start(x, "GET", "/regular", &x->regular_id);
	SCOPED_BUF out = { 0 };

	buf_init(&out, 100);
	assert_int_equal(drain(r, &out), 0);
	assert_string_equal(out.bytes, "small");
}

static void wrong_bytes_do_not_come_to_their_end(void **state)
{
	static const char *const where[] = { "spoiled-early", "spoiled-late" };
	struct fixture *x = *state;

	for (int i = 0; i < 2; i++) {
		SCOPED_BUF out = { 0 };

		assert_int_equal(get_verified(x, where[i], x->big_hex, BIG_BYTES, &x->big_id, &out),
				 -EBADMSG);
		assert_int_equal(out.len, BIG_BYTES - HELD_BACK);
	}
}

static void a_short_body_keeps_its_end_back(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF out = { 0 };

	assert_int_equal(get_verified(x, "short", x->big_hex, BIG_BYTES, &x->big_id, &out), -ECONNRESET);
	assert_true(out.len <= BIG_BYTES / 2);
}

static void another_name_or_size_is_refused_before_a_byte(void **state)
{
	struct fixture *x = *state;
	static const char *const where[] = { "long", "long-chunked", "partial", "gzip", "expired" };
	static const int want[] = { -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, -EACCES };

	for (int i = 0; i < 5; i++) {
		SCOPED_BUF out = { 0 };

		assert_int_equal(get_verified(x, where[i], x->small_hex, 5, &x->small_id, &out), want[i]);
		assert_int_equal(out.len, 0);
	}
	SCOPED_BUF other_hex = { 0 }, other_size = { 0 }, no_name = { 0 }, cdn_name = { 0 };

	assert_int_equal(get_verified(x, "small", x->big_hex, 5, &x->small_id, &other_hex), -EBADMSG);
	assert_int_equal(get_verified(x, "small", x->small_hex, 6, &x->small_id, &other_size), -EBADMSG);
	assert_int_equal(get_verified(x, "small", "", 5, &x->small_id, &no_name), -EBADMSG);
	/* what the other server calls it counts for nothing */
	assert_int_equal(get_verified(x, "named", "", 5, &x->small_id, &cdn_name), -EBADMSG);
}

static void refusals_of_the_hub_are_told_apart(void **state)
{
	static const char *const targets[] = { "/401", "/missing", "/500", "/429" };
	static const int want[] = { -EACCES, -ENOENT, -EBADMSG, -EBUSY };
	struct fixture *x = *state;

	for (int i = 0; i < 4; i++) {
		SCOPED(relay_free) struct relay *r = start(x, "GET", targets[i], &x->small_id);
		int status;

		assert_int_equal(head_of(r, &status), want[i]);
	}
}

/* Bytes 1-3 of `want` from there. */
static ssize_t get_part_of(struct fixture *x, const char *target, const struct content_id *want,
			   const char *commit, struct buf *out)
{
	SCOPED(relay_free) struct relay *r = NULL;
	struct headers headers;
	struct relay_query q = {
		.method = "GET",
		.target = str_from(target),
		.headers = &headers,
		.follow = FETCH_FOLLOW_ALLOWED,
		.verify = want,
		.range = { 1, 4 },
		.commit = str_from(commit),
	};
	int status, error;

	buf_init(out, 100);
	headers_init(&headers);
	assert_int_equal(headers_addf(&headers, "Range", "bytes=1-3"), 0);
	assert_int_equal(relay_start(x->relays, &q, &r), 0);
	headers_done(&headers);
	error = head_of(r, &status);
	if (error)
		return error;
	assert_int_equal(status, 206);
	return drain(r, out);
}

/* The same from the other server's `where`, which the Hub calls `hex` of `size` bytes. */
static ssize_t get_part(struct fixture *x, const char *where, const char *hex, unsigned size,
			const char *commit, struct buf *out)
{
	char target[256];

	(void)snprintf(target, sizeof(target), "/file%s?%u,%s", where, size, hex);
	return get_part_of(x, target, &x->small_id, commit, out);
}

static void the_right_part_comes_through(void **state)
{
	static const char *const where[] = { "/part", "/part-identity" };
	static const char *const commits[] = { "", COMMIT };
	struct fixture *x = *state;
	char target[128];

	for (int i = 0; i < 2; i++) {
		SCOPED_BUF out = { 0 };

		assert_int_equal(get_part(x, where[i], x->small_hex, 5, commits[i], &out), 0);
		assert_string_equal(out.bytes, "mal");
	}
	SCOPED_BUF regular = { 0 };

	(void)snprintf(target, sizeof(target), "/own-part/%s", x->regular_hex);
	assert_int_equal(get_part_of(x, target, &x->regular_id, COMMIT, &regular), 0);
	assert_string_equal(regular.bytes, "mal");
}

static void a_part_that_is_not_said_to_be_the_wanted_one_is_refused_before_a_byte(void **state)
{
	struct fixture *x = *state;

	for (size_t i = 2; i < sizeof(parts) / sizeof(parts[0]); i++) {
		SCOPED_BUF out = { 0 };

		assert_int_equal(get_part(x, parts[i].where, x->small_hex, 5, COMMIT, &out), -EBADMSG);
		assert_int_equal(out.len, 0);
	}
	SCOPED_BUF chunked = { 0 };

	assert_int_equal(get_part(x, "/part-chunked", x->small_hex, 5, COMMIT, &chunked), -EBADMSG);
}

static void a_part_of_another_file_is_refused_before_a_byte(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF hex = { 0 }, no_hex = { 0 }, size = { 0 }, commit = { 0 }, own = { 0 }, moved = { 0 };
	char target[128];

	assert_int_equal(get_part(x, "/part", x->big_hex, 5, COMMIT, &hex), -EBADMSG);
	assert_int_equal(get_part(x, "/part", "", 5, COMMIT, &no_hex), -EBADMSG);
	assert_int_equal(get_part(x, "/part", x->small_hex, 6, COMMIT, &size), -EBADMSG);
	assert_int_equal(get_part(x, "/part", x->small_hex, 5, "f" COMMIT, &commit), -EBADMSG);
	(void)snprintf(target, sizeof(target), "/own-part/%s", x->big_hex);
	assert_int_equal(get_part_of(x, target, &x->small_id, "", &own), -EBADMSG);
	/* the first of the Hub's hops named the right one, and then it answers with another */
	(void)snprintf(target, sizeof(target), "/moved-part/%s", x->big_hex);
	assert_int_equal(get_part_of(x, target, &x->small_id, "", &moved), -EBADMSG);
}

static void a_part_that_is_cut_ends_in_an_error(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF out = { 0 };

	assert_int_equal(get_part(x, "/part-cut", x->small_hex, 5, COMMIT, &out), -ECONNRESET);
}

/* --- many ----------------------------------------------------------------------------------------------- */

/* Each is left at another time; whatever was running must end without anybody. */
static void can_be_freed_at_any_time(void **state)
{
	static const char *const targets[] = { "/big", "/silent", "/ok", "/short" };
	struct fixture *x = *state;

	for (unsigned i = 0; i < 120; i++) {
		struct relay *r =
			i % 5 ? start(x, "GET", targets[i % 4], NULL) : start_upload(x, "/upload/slow", -1);
		char piece[5000];

		if (i % 3 == 0)
			sleep_ms(i % 7);
		if (i % 5 == 0)
			(void)relay_write(r, x->big, 1000);
		else if (i % 2)
			(void)relay_read(r, piece, sizeof(piece));
		relay_free(r);
	}
}

/* --- filters --------------------------------------------------------------------------------------------- */

struct sieve {
	size_t came;
	bool refuses, was_freed;
	int ended; /* 1: not yet */
};

/* Every other byte. */
static int sieve_piece(void *ctx, struct str piece, struct buf *out)
{
	struct sieve *s = ctx;

	for (size_t i = 0; i < piece.len; i++)
		if (s->came++ % 2 == 0)
			(void)buf_append_char(out, piece.ptr[i]);
	return s->refuses ? -EBADMSG : 0;
}

static int sieve_end(void *ctx, int error, struct buf *out)
{
	struct sieve *s = ctx;

	s->ended = error;
	return buf_append_str(out, STR(" that was all"));
}

static void sieve_free(void *ctx)
{
	struct sieve *s = ctx;

	s->was_freed = true;
}

static const struct relay_filter sieve = {
	.piece = sieve_piece, .end = sieve_end, .free_ctx = sieve_free, .piece_bytes_max = 65536
};

static void what_a_filter_makes_of_it_comes_out(void **state)
{
	struct fixture *x = *state;
	static const struct {
		const char *target;
		size_t want;
		bool refuses;
		int end, result;
	} table[] = {
		{ "/big", BIG_BYTES / 2 + 13, false, 0, 0 },
		{ "/short", BIG_BYTES / 4 + 13, false, -ECONNRESET, -ECONNRESET },
		{ "/ok", 3 + 13, false, 0, 0 },
		{ "/ok", 3, true, 1, -EBADMSG },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct relay *r = start(x, "GET", table[i].target, NULL);
		struct sieve s = { .refuses = table[i].refuses, .ended = 1 };
		SCOPED_BUF out = { 0 };
		int status;

		buf_init(&out, BIG_BYTES);
		assert_int_equal(head_of(r, &status), 0);
		relay_set_filter(r, &sieve, &s);
		assert_int_equal(drain(r, &out), table[i].result);
		assert_int_equal(out.len, table[i].want);
		assert_int_equal(s.ended, table[i].end);
		assert_false(s.was_freed);
		relay_free(r);
		assert_true(s.was_freed);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(passes_an_answer_on),
		CASE(passes_a_refusal_on_as_it_is),
		CASE(says_what_kept_the_answer_from_coming),
		CASE(a_cut_body_ends_in_an_error_after_its_bytes),
		CASE(a_slow_reader_pauses_upstream),
		CASE(news_wake_the_one_who_waits_once),
		CASE(sends_the_body_once_in_order_with_its_framing),
		CASE(a_body_may_be_empty),
		CASE(upload_memory_is_bounded),
		CASE(a_refusal_stops_the_upload),
		CASE(the_body_is_wanted_when_upstream_says_so),
		CASE(a_refusal_comes_before_the_body_is_wanted),
		CASE(a_write_that_is_not_answered_is_sent_once),
		CASE(an_upstream_that_goes_away_ends_the_upload),
		CASE(the_right_bytes_come_through),
		CASE(a_regular_file_is_known_by_its_etag),
		CASE(wrong_bytes_do_not_come_to_their_end),
		CASE(a_short_body_keeps_its_end_back),
		CASE(another_name_or_size_is_refused_before_a_byte),
		CASE(refusals_of_the_hub_are_told_apart),
		CASE(what_begins_at_an_address_is_checked_by_its_digest),
		CASE(the_right_part_comes_through),
		CASE(a_part_that_is_not_said_to_be_the_wanted_one_is_refused_before_a_byte),
		CASE(a_part_of_another_file_is_refused_before_a_byte),
		CASE(a_part_that_is_cut_ends_in_an_error),
		CASE(what_a_filter_makes_of_it_comes_out),
		CASE(can_be_freed_at_any_time),
	};
	return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
