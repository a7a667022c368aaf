/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the promises of fetch against a scripted server on loopback: exactly one on_done whatever happens, no
 * token and no private field to another origin, short bodies are errors, nothing blocks the thread. The clock
 * can be moved forward: passed_ms.
 *
 * getaddrinfo() is replaced: "blocked.test" does not come back until it is let go, names of other ".test" hosts
 * are loopback addresses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "fetch/fetch.h"
#include "metrics/metrics.h"
#include "upstream.h"

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

/* --- names ---------------------------------------------------------------------------------------------- */

static atomic_bool is_name_blocked;

/* Found by libcurl before libc's. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		struct addrinfo **result);
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");

	memcpy(&real, &symbol, sizeof(real));
	if (node && strcmp(node, "blocked.test") == 0)
		while (atomic_load(&is_name_blocked))
			sleep_ms(5);
	if (node && strcmp(node, "elsewhere.test") == 0)
		node = "127.0.0.2";
	else if (node && strcmp(node, "missing.test") == 0)
		return EAI_NONAME;
	else if (node && str_ends_with(str_from(node), STR(".test")))
		node = "127.0.0.1";
	return real(node, service, hints, result);
}

/* --- one transfer and what became of it ----------------------------------------------------------------- */

struct got {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct transfer *transfer;
	/* guarded by mutex */
	unsigned done_count, heads, body_calls;
	int error, status;
	unsigned hop;
	bool is_hub_origin;
	int64_t content_length;
	struct headers headers;
	struct buf body;
	bool was_called_after_done;

	/* script, set before the start */
	unsigned pause_each; /* pauses before each n-th piece, until got_resume() */
	int head_error, body_error;
	bool cancels_in_head, cancels_in_body;
	const char *upload;
	size_t upload_piece; /* 0: everything at once */
	size_t uploaded;
	unsigned upload_pauses; /* so many times before each piece */
	unsigned paused;
	int upload_error;
};

static struct got *got_new(void)
{
	struct got *g = xcalloc(1, sizeof(*g));

	pthread_mutex_init(&g->mutex, NULL);
	pthread_cond_init(&g->changed, NULL);
	headers_init(&g->headers);
	buf_init(&g->body, 64 << 20);
	return g;
}

static void got_free(struct got *g)
{
	transfer_unref(g->transfer);
	headers_done(&g->headers);
	buf_done(&g->body);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->mutex);
	free(g);
}

static int on_head(void *ctx, const struct fetch_head *head)
{
	struct got *g = ctx;

	pthread_mutex_lock(&g->mutex);
	g->heads++;
	g->was_called_after_done |= g->done_count > 0;
	g->status = head->status;
	g->hop = head->hop;
	g->is_hub_origin = head->is_hub_origin;
	g->content_length = head->content_length;
	headers_done(&g->headers);
	headers_copy(&g->headers, head->headers);
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->mutex);
	if (g->cancels_in_head)
		transfer_cancel(g->transfer);
	return head->is_final ? g->head_error : 0;
}

static ssize_t on_body(void *ctx, const void *bytes, size_t len)
{
	struct got *g = ctx;
	ssize_t r = 0;

	pthread_mutex_lock(&g->mutex);
	g->body_calls++;
	g->was_called_after_done |= g->done_count > 0;
	if (g->pause_each && g->body_calls % g->pause_each == 0) {
		g->paused++;
		r = FETCH_PAUSE;
	} else {
		(void)buf_append(&g->body, bytes, len);
		r = g->body_error;
	}
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->mutex);
	if (g->cancels_in_body)
		transfer_cancel(g->transfer);
	return r;
}

static ssize_t on_need_body(void *ctx, void *bytes, size_t len_max)
{
	struct got *g = ctx;
	size_t len;

	pthread_mutex_lock(&g->mutex);
	g->was_called_after_done |= g->done_count > 0;
	len = strlen(g->upload + g->uploaded);
	if (len && g->paused < g->upload_pauses) {
		g->paused++;
		pthread_cond_broadcast(&g->changed);
		pthread_mutex_unlock(&g->mutex);
		return FETCH_PAUSE;
	}
	g->paused = 0;
	if (g->upload_piece && len > g->upload_piece)
		len = g->upload_piece;
	if (len > len_max)
		len = len_max;
	memcpy(bytes, g->upload + g->uploaded, len);
	g->uploaded += len;
	pthread_mutex_unlock(&g->mutex);
	return g->upload_error ? g->upload_error : (ssize_t)len;
}

static void on_done(void *ctx, int error)
{
	struct got *g = ctx;

	pthread_mutex_lock(&g->mutex);
	g->error = error;
	g->done_count++;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->mutex);
}

static const struct fetch_ops ops = { on_head, on_body, on_need_body, on_done };

/* Waits for *what to be at least `least`. */
static void got_wait(struct got *g, const unsigned *what, unsigned least)
{
	struct timespec until;
	int r = 0;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&g->mutex);
	while (*what < least && r == 0)
		r = pthread_cond_timedwait(&g->changed, &g->mutex, &until);
	pthread_mutex_unlock(&g->mutex);
	if (r != 0)
		fail_msg("nothing happened for 20 s");
}

static int got_end(struct got *g)
{
	got_wait(g, &g->done_count, 1);
	assert_false(g->was_called_after_done);
	return g->error;
}

/* --- fixture -------------------------------------------------------------------------------------------- */

struct fixture {
	struct upstream *hub, *other;
	struct fetch *fetch;
	struct metrics *metrics;
	pthread_mutex_t mutex;
	struct upstream_call seen; /* the last request at either; guarded by mutex */
	struct buf seen_body;      /* guarded by mutex */
};

static void answer(void *ctx, struct upstream_call *c);

static struct fetch *new_fetch(struct fixture *x, const char *hub_url, const char *const *hosts,
			       bool is_offline)
{
	struct fetch_opts opts = {
		.hub_url = hub_url,
		.redirect_hosts = hosts,
		.is_offline = is_offline,
		.user_agent = "hfcached/test",
		.connect_timeout_ms = 400,
		.metrics = x->metrics,
		.clock = &test_clock,
	};
	struct fetch *f = NULL;

	assert_int_equal(fetch_new(&opts, &f), 0);
	return f;
}

static int set_up(void **state)
{
	static const char *const hosts[] = { "elsewhere.test", "*.same.test", "same.test", NULL };
	struct fixture *x = xcalloc(1, sizeof(*x));

	pthread_mutex_init(&x->mutex, NULL);
	buf_init(&x->seen_body, 1 << 20);
	x->metrics = metrics_new();
	x->hub = upstream_new(answer, x);
	x->other = upstream_new(answer, x);
	x->fetch = new_fetch(x, upstream_url(x->hub), hosts, false);
	*state = x;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *x = *state;

	fetch_free(x->fetch);
	upstream_free(x->hub);
	upstream_free(x->other);
	metrics_free(x->metrics);
	buf_done(&x->seen_body);
	pthread_mutex_destroy(&x->mutex);
	free(x);
	return 0;
}

static struct got *start(struct fixture *x, struct got *g, const char *method, const char *target,
			 enum fetch_follow follow)
{
	struct fetch_request request = { .method = method, .target = str_from(target), .follow = follow };

	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, &g->transfer), 0);
	return g;
}

static int get(struct fixture *x, struct got *g, const char *target)
{
	return got_end(start(x, g, "GET", target, FETCH_FOLLOW_ALLOWED));
}

/* What the server saw last. */
static const char *seen(struct fixture *x, const char *field)
{
	const char *value;

	pthread_mutex_lock(&x->mutex);
	value = upstream_field(&x->seen, field);
	pthread_mutex_unlock(&x->mutex);
	return value;
}

/* --- the server's script -------------------------------------------------------------------------------- */

#define BIG_BYTES (3u << 20)

static void send_big(struct upstream_call *c)
{
	SCOPED_FREE char *bytes = xmalloc(BIG_BYTES);

	for (size_t i = 0; i < BIG_BYTES; i++)
		bytes[i] = (char)(i * 2654435761u >> 24);
	if (upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", BIG_BYTES))
		(void)upstream_send(c, bytes, BIG_BYTES);
}

static bool is_big(const struct buf *b)
{
	if (b->len != BIG_BYTES)
		return false;
	for (size_t i = 0; i < BIG_BYTES; i++)
		if (b->bytes[i] != (char)(i * 2654435761u >> 24))
			return false;
	return true;
}

static void send_fields(struct upstream_call *c, unsigned count, unsigned bytes)
{
	SCOPED_FREE char *value = xcalloc(1, bytes + 1);

	memset(value, 'v', bytes);
	(void)upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n");
	for (unsigned i = 0; i < count; i++)
		(void)upstream_say(c, "X-%u: %s\r\n", i, value);
	(void)upstream_say(c, "\r\nok");
}

static void redirect_to(struct upstream_call *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void redirect_to(struct upstream_call *c, const char *format, ...)
{
	char location[512], fields[600];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(location, sizeof(location), format, args);
	va_end(args);
	(void)snprintf(fields, sizeof(fields), "Location: %s\r\nX-Linked-Etag: \"id\"\r\n", location);
	upstream_reply(c, 307, fields, "Temporary Redirect");
}

static void answer_redirect(struct fixture *x, struct upstream_call *c)
{
	unsigned other = upstream_port(x->other);

	if (strcmp(c->target, "/to/ok") == 0)
		redirect_to(c, "/ok?a=%%2F&b=%%22c%%22");
	else if (strcmp(c->target, "/to/other") == 0)
		redirect_to(c, "http://127.0.0.1:%u/ok", other);
	else if (strcmp(c->target, "/to/other-and-back") == 0)
		redirect_to(c, "http://127.0.0.1:%u/to/hub", other);
	else if (strcmp(c->target, "/to/hub") == 0)
		redirect_to(c, "%s/ok", upstream_url(x->hub));
	else if (strcmp(c->target, "/to/stranger") == 0)
		redirect_to(c, "http://127.0.0.2:%u/ok", other);
	else if (strcmp(c->target, "/to/file") == 0)
		redirect_to(c, "file:///etc/passwd");
	else if (strcmp(c->target, "/to/loop") == 0)
		redirect_to(c, "/to/loop");
	else if (strcmp(c->target, "/to/elsewhere") == 0)
		redirect_to(c, "http://elsewhere.test:%u/ok", other);
	else if (strcmp(c->target, "/to/same") == 0)
		redirect_to(c, "http://same.test:%u/ok", other);
	else if (strcmp(c->target, "/to/nowhere") == 0)
		upstream_reply(c, 302, "", "no location");
	else if (strcmp(c->target, "/to/ok-after-much") == 0) {
		(void)upstream_say(c, "HTTP/1.1 302 X\r\nLocation: /ok\r\nContent-Length: 99999999\r\n\r\n");
		for (int i = 0; i < 4000 && upstream_say(c, "%0100d", 0); i++)
			;
		c->close = true;
	} else if (strcmp(c->target, "/to/ok-but-cut") == 0) {
		(void)upstream_say(c, "HTTP/1.1 302 X\r\nLocation: /ok\r\nContent-Length: 100\r\n\r\nhalf");
		c->close = true;
	}
}

static void answer_broken(struct upstream_call *c)
{
	c->close = true;
	if (strcmp(c->target, "/broken/short") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
	else if (strcmp(c->target, "/broken/chunk") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf");
	else if (strcmp(c->target, "/broken/no-last-chunk") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
	else if (strcmp(c->target, "/broken/bad-chunk") == 0)
		(void)upstream_say(
			c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n");
	else if (strcmp(c->target, "/broken/head") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Le");
	else if (strcmp(c->target, "/broken/09") == 0)
		(void)upstream_say(c, "hello, this is not HTTP at all\r\n\r\n");
	else if (strcmp(c->target, "/broken/two-lengths") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!");
	else if (strcmp(c->target, "/broken/control") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nX: a\001b\r\nContent-Length: 2\r\n\r\nok");
	else if (strcmp(c->target, "/broken/folded") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok");
	else if (strcmp(c->target, "/broken/fields") == 0)
		send_fields(c, 100, 1);
	else if (strcmp(c->target, "/broken/long-field") == 0)
		send_fields(c, 1, 70000);
	else if (strcmp(c->target, "/broken/long-head") == 0)
		send_fields(c, 20, 4000);
	else if (strcmp(c->target, "/broken/interims") == 0)
		for (int i = 0; i < 1000 && upstream_say(c, "HTTP/1.1 103 Early\r\nX: 1\r\n\r\n"); i++)
			;
	else if (strcmp(c->target, "/broken/nothing") != 0) {
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
		sleep_ms(20);
		upstream_reset(c);
	}
}

static void answer_slow(struct upstream_call *c)
{
	if (strcmp(c->target, "/slow/head") == 0) {
		upstream_sleep(c, 10000);
	} else if (strcmp(c->target, "/slow/start") == 0) {
		upstream_sleep(c, 100);
		upstream_reply(c, 200, "", "hello");
	} else if (strcmp(c->target, "/slow/stall") == 0) {
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
		upstream_sleep(c, 10000);
	} else {
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n");
		for (int i = 0; i < 30 && upstream_say(c, "%d", i % 10); i++)
			upstream_sleep(c, 50);
	}
}

static void remember(struct fixture *x, struct upstream_call *c, const struct buf *body)
{
	pthread_mutex_lock(&x->mutex);
	x->seen = *c;
	if (body) {
		buf_reset(&x->seen_body);
		(void)buf_append_str(&x->seen_body, buf_str(body));
	}
	pthread_mutex_unlock(&x->mutex);
}

static void answer_upload(struct fixture *x, struct upstream_call *c)
{
	SCOPED_BUF body = { 0 };

	buf_init(&body, 1 << 20);
	if (strcmp(c->target, "/upload/refused") == 0) {
		upstream_sleep(c, 60); /* so that the sender waits for its client by then */
		upstream_reply(c, 401, "", "who are you?");
		return; /* the body is never read */
	}
	if (strcmp(c->target, "/upload/cut") == 0 && upstream_requests(x->hub) > 1) {
		upstream_sleep(c, 50);
		c->close = true;
		return;
	}
	if (!upstream_read_body(c, &body)) {
		c->close = true;
		return;
	}
	remember(x, c, &body);
	upstream_reply(c, 200, "", "thanks");
}

static void answer(void *ctx, struct upstream_call *c)
{
	struct fixture *x = ctx;

	remember(x, c, NULL);
	if (strncmp(c->target, "/to/", 4) == 0)
		answer_redirect(x, c);
	else if (strncmp(c->target, "/broken/", 8) == 0)
		answer_broken(c);
	else if (strncmp(c->target, "/slow/", 6) == 0)
		answer_slow(c);
	else if (strncmp(c->target, "/upload/", 8) == 0)
		answer_upload(x, c);
	else if (strcmp(c->target, "/big") == 0)
		send_big(c);
	else if (strcmp(c->target, "/chunked") == 0)
		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
				      "chunked\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n");
	else if (strcmp(c->target, "/interim") == 0) {
		(void)upstream_say(c, "HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n");
		upstream_reply(c, 200, "X-Final: 1\r\n", "hello");
	} else if (strcmp(c->target, "/gzip") == 0)
		upstream_reply(c, 200, "Content-Encoding: gzip\r\n", "not really gzip");
	else if (strcmp(c->target, "/503") == 0)
		upstream_reply(c, 503, "", "later");
	else
		upstream_reply(c, 200, "X-Answer: yes\r\n", "hello");
}

/* --- what goes out -------------------------------------------------------------------------------------- */

static void gets_a_body_with_its_head(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(get(x, g, "/ok"), 0);
	assert_int_equal(g->status, 200);
	assert_int_equal(g->content_length, 5);
	assert_true(g->is_hub_origin);
	assert_int_equal(g->heads, 1);
	assert_string_equal(g->body.bytes, "hello");
	assert_true(str_eq(headers_get(&g->headers, STR("x-answer")), STR("yes")));
	assert_int_equal(g->done_count, 1);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_REQUESTS, metric_code(200), 0, 0), 1);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_RECEIVED, 0, 0, 0), 5);
	got_free(g);
}

static void a_head_request_has_no_body(void **state)
{
	struct fixture *x = *state;
	struct got *g = start(x, got_new(), "HEAD", "/ok", FETCH_FOLLOW_NONE);

	assert_int_equal(got_end(g), 0);
	assert_int_equal(g->content_length, 5);
	assert_int_equal(g->body_calls, 0);
	assert_string_equal(x->seen.method, "HEAD");
	got_free(g);
}

static void sends_the_target_byte_for_byte(void **state)
{
	static const char *const targets[] = {
		"/a/../b//c/./d%2f%2F%2e?",
		"/a?",
		"/%zz?&&a=b%20+c;d='\"<>`{}|^",
		"/\xc3\xa4/\xff?q=\xc3\xa4",
		"//double/start",
		"/?",
	};
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct got *g = got_new();

		assert_int_equal(get(x, g, targets[i]), 0);
		assert_string_equal(x->seen.target, targets[i]);
		got_free(g);
	}
}

static void refuses_targets_and_methods_that_would_break_the_request(void **state)
{
	static const struct str targets[] = { STR("/a b"), STR("/a\r\nX: y"), STR("/a\0b"),       STR(""),
					      STR("a"),    STR("/a#b"),       STR("http://evil/") };
	struct fixture *x = *state;
	struct got *bad = start(x, got_new(), "GET / HTTP/1.1\r\nX:", "/ok", FETCH_FOLLOW_NONE);

	assert_int_equal(got_end(bad), -EINVAL);
	got_free(bad);
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct fetch_request request = { .method = "GET", .target = targets[i] };
		struct got *g = got_new();

		assert_int_equal(fetch_start(x->fetch, &request, &ops, g, NULL), 0);
		assert_int_equal(got_end(g), -EINVAL);
		got_free(g);
	}
	assert_int_equal(upstream_requests(x->hub), 0);
}

static void sets_its_own_fields_and_passes_the_rest(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();
	struct headers h;
	struct fetch_request request = { .method = "GET", .target = STR("/ok"), .headers = &h };

	headers_init(&h);
	(void)headers_add(&h, STR("Host"), STR("evil.example"));
	(void)headers_add(&h, STR("Authorization"), STR("Bearer smuggled"));
	(void)headers_add(&h, STR("Accept-Encoding"), STR("gzip, br"));
	(void)headers_add(&h, STR("Connection"), STR("close, X-Hop"));
	(void)headers_add(&h, STR("X-Hop"), STR("1"));
	(void)headers_add(&h, STR("Cookie"), STR("a=b"));
	(void)headers_add(&h, STR("X-Custom"), STR("kept"));
	(void)headers_add(&h, STR("X-Empty"), STR(""));
	(void)headers_add(&h, STR("Range"), STR("bytes=0-1"));
	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, &g->transfer), 0);
	headers_done(&h);
	assert_int_equal(got_end(g), 0);
	assert_string_equal(seen(x, "Authorization"), "");
	assert_string_equal(seen(x, "Accept-Encoding"), "identity");
	assert_string_equal(seen(x, "X-Hop"), "");
	assert_string_equal(seen(x, "Connection"), "");
	assert_string_equal(seen(x, "Cookie"), "");
	assert_string_equal(seen(x, "X-Custom"), "kept");
	assert_non_null(strstr(x->seen.head, "X-Empty:"));
	assert_string_equal(seen(x, "Range"), "bytes=0-1");
	assert_string_equal(seen(x, "User-Agent"), "hfcached/test");
	assert_non_null(strstr(upstream_url(x->hub), seen(x, "Host")));
	got_free(g);
}

static void proxies_of_the_environment_are_not_used(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();
	char proxy[64];

	(void)snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", upstream_dead_port());
	(void)setenv("http_proxy", proxy, 1);
	(void)setenv("all_proxy", proxy, 1);
	assert_int_equal(get(x, g, "/ok"), 0);
	(void)unsetenv("http_proxy");
	(void)unsetenv("all_proxy");
	got_free(g);
}

/* --- tokens and redirects ------------------------------------------------------------------------------- */

static void get_with_token(struct fixture *x, struct got *g, const char *target, enum fetch_follow follow)
{
	struct secret *token = secret_new(STR("Bearer hf_secret"));
	struct headers h;
	struct fetch_request request = {
		.method = "GET",
		.target = str_from(target),
		.headers = &h,
		.token = token,
		.follow = follow,
	};

	headers_init(&h);
	(void)headers_add(&h, STR("X-Private"), STR("hf_secret"));
	(void)headers_add(&h, STR("Range"), STR("bytes=0-1"));
	(void)headers_add(&h, STR("If-Range"), STR("\"a\""));
	(void)headers_add(&h, STR("User-Agent"), STR("client/1"));
	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, &g->transfer), 0);
	headers_done(&h);
	secret_unref(token);
	(void)got_end(g);
}

static void the_hub_gets_the_token_also_after_a_redirect_to_itself(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	get_with_token(x, g, "/to/ok", FETCH_FOLLOW_ALLOWED);
	assert_int_equal(g->error, 0);
	assert_int_equal(g->heads, 2);
	assert_int_equal(g->hop, 1);
	assert_true(g->is_hub_origin);
	assert_string_equal(x->seen.target, "/ok?a=%2F&b=%22c%22");
	assert_string_equal(seen(x, "Authorization"), "Bearer hf_secret");
	assert_string_equal(seen(x, "X-Private"), "hf_secret");
	assert_string_equal(g->body.bytes, "hello");
	got_free(g);
}

static void another_origin_gets_neither_the_token_nor_other_fields(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	get_with_token(x, g, "/to/other", FETCH_FOLLOW_ALLOWED);
	assert_int_equal(g->error, 0);
	assert_int_equal(upstream_requests(x->other), 1);
	assert_false(g->is_hub_origin);
	assert_null(strstr(x->seen.head, "hf_secret"));
	assert_string_equal(seen(x, "Range"), "bytes=0-1");
	assert_string_equal(seen(x, "If-Range"), "\"a\"");
	assert_string_equal(seen(x, "User-Agent"), "client/1");
	assert_string_equal(seen(x, "Accept-Encoding"), "identity");
	got_free(g);
}

static void the_token_does_not_come_back_from_another_origin(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	get_with_token(x, g, "/to/other-and-back", FETCH_FOLLOW_ALLOWED);
	assert_int_equal(g->error, 0);
	assert_int_equal(g->hop, 2);
	assert_false(g->is_hub_origin);
	assert_string_equal(x->seen.target, "/ok");
	assert_null(strstr(x->seen.head, "hf_secret"));
	got_free(g);
}

static void anonymous_and_token_transfers_do_not_share_connections(void **state)
{
	struct fixture *x = *state;
	struct got *g[4];

	for (int i = 0; i < 4; i++)
		g[i] = got_new();
	assert_int_equal(get(x, g[0], "/ok"), 0);
	assert_int_equal(get(x, g[1], "/ok"), 0);
	assert_int_equal(upstream_connections(x->hub), 1);
	get_with_token(x, g[2], "/ok", FETCH_FOLLOW_NONE);
	assert_int_equal(upstream_connections(x->hub), 2);
	get_with_token(x, g[3], "/ok", FETCH_FOLLOW_NONE);
	assert_int_equal(upstream_connections(x->hub), 2);
	for (int i = 0; i < 4; i++)
		got_free(g[i]);
}

static void a_redirect_leaves_its_connection_usable(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(get(x, g, "/to/ok"), 0);
	assert_int_equal(upstream_connections(x->hub), 1);
	got_free(g);
}

static void follows_a_redirect_whose_own_body_is_endless_or_cut(void **state)
{
	struct fixture *x = *state;
	struct got *much = got_new(), *cut = got_new();

	assert_int_equal(get(x, much, "/to/ok-after-much"), 0);
	assert_string_equal(much->body.bytes, "hello");
	assert_int_equal(get(x, cut, "/to/ok-but-cut"), 0);
	assert_string_equal(cut->body.bytes, "hello");
	got_free(much);
	got_free(cut);
}

static void a_redirect_that_is_not_followed_is_the_answer(void **state)
{
	struct fixture *x = *state;
	struct got *none = start(x, got_new(), "GET", "/to/ok", FETCH_FOLLOW_NONE);
	struct got *other = start(x, got_new(), "HEAD", "/to/other", FETCH_FOLLOW_SAME_ORIGIN);
	struct got *nowhere = start(x, got_new(), "GET", "/to/nowhere", FETCH_FOLLOW_ALLOWED);

	assert_int_equal(got_end(none), 0);
	assert_int_equal(none->status, 307);
	assert_string_equal(none->body.bytes, "Temporary Redirect");
	assert_int_equal(got_end(other), 0);
	assert_int_equal(other->status, 307);
	assert_true(str_eq(headers_get(&other->headers, STR("X-Linked-Etag")), STR("\"id\"")));
	assert_int_equal(got_end(nowhere), 0);
	assert_int_equal(nowhere->status, 302);
	assert_int_equal(upstream_requests(x->other), 0);
	got_free(none);
	got_free(other);
	got_free(nowhere);
}

static void strangers_are_not_even_connected_to(void **state)
{
	static const char *const targets[] = { "/to/stranger", "/to/file", "/to/elsewhere" };
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct got *g = got_new();

		assert_int_equal(get(x, g, targets[i]), -EACCES);
		got_free(g);
	}
	assert_int_equal(upstream_connections(x->other), 0);
}

static void a_listed_name_with_the_hubs_own_address_is_followed(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(get(x, g, "/to/same"), 0);
	assert_int_equal(upstream_requests(x->other), 1);
	got_free(g);
}

static void stops_in_a_loop(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(get(x, g, "/to/loop"), -ELOOP);
	assert_int_equal(upstream_requests(x->hub), 6); /* five hops */
	got_free(g);
}

/* --- beginning elsewhere -------------------------------------------------------------------------------- */

/* With a token and a private field, and with fields that came with the address. */
static struct got *begin_at(struct fetch *f, const char *target, const char *location,
			    const char *authorization)
{
	struct secret *token = secret_new(STR("Bearer hf_secret"));
	struct got *g = got_new();
	struct headers h, of_location;
	struct fetch_request request = {
		.method = "GET",
		.target = str_from(target),
		.location = str_from(location),
		.location_headers = &of_location,
		.headers = &h,
		.token = token,
		.follow = FETCH_FOLLOW_ALLOWED,
	};

	headers_init(&h);
	headers_init(&of_location);
	(void)headers_add(&h, STR("X-Private"), STR("hf_secret"));
	(void)headers_add(&h, STR("Range"), STR("bytes=0-1"));
	(void)headers_add(&h, STR("User-Agent"), STR("client/1"));
	(void)headers_add(&of_location, STR("X-With-It"), STR("with-it"));
	(void)headers_add(&of_location, STR("Host"), STR("evil.example"));
	(void)headers_add(&of_location, STR("Connection"), STR("X-Hop"));
	(void)headers_add(&of_location, STR("X-Hop"), STR("1"));
	if (authorization)
		(void)headers_add(&of_location, STR("Authorization"), str_from(authorization));
	assert_int_equal(fetch_start(f, &request, &ops, g, &g->transfer), 0);
	headers_done(&h);
	headers_done(&of_location);
	secret_unref(token);
	(void)got_end(g);
	return g;
}

static void begins_at_an_address_without_the_token(void **state)
{
	struct fixture *x = *state;
	char url[128];
	struct got *g;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok?Signature=%%2Fa", upstream_port(x->other));
	g = begin_at(x->fetch, "/api/x", url, NULL);
	assert_int_equal(g->error, 0);
	assert_string_equal(g->body.bytes, "hello");
	assert_false(g->is_hub_origin);
	assert_int_equal(g->hop, 1);
	assert_int_equal(upstream_requests(x->hub), 0);
	assert_string_equal(x->seen.target, "/ok?Signature=%2Fa");
	assert_null(strstr(x->seen.head, "hf_secret"));
	assert_string_equal(seen(x, "X-With-It"), "with-it");
	assert_string_equal(seen(x, "Range"), "bytes=0-1");
	assert_string_equal(seen(x, "User-Agent"), "client/1");
	assert_null(strstr(x->seen.head, "evil.example"));
	assert_string_equal(seen(x, "X-Hop"), "");
	got_free(g);
}

static void an_address_may_bring_its_own_authorization(void **state)
{
	struct fixture *x = *state;
	char url[128];
	struct got *other, *hub, *plain;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok", upstream_port(x->other));
	other = begin_at(x->fetch, "", url, "Basic its-own");
	assert_string_equal(seen(x, "Authorization"), "Basic its-own");
	assert_null(strstr(x->seen.head, "hf_secret"));
	(void)snprintf(url, sizeof(url), "%s/ok", upstream_url(x->hub));
	hub = begin_at(x->fetch, "", url, "Basic its-own");
	assert_string_equal(seen(x, "Authorization"), "Basic its-own");
	plain = begin_at(x->fetch, "", url, NULL);
	assert_string_equal(seen(x, "Authorization"), "Bearer hf_secret"); /* the origin's own */
	assert_string_equal(seen(x, "X-Private"), "hf_secret");
	assert_true(plain->is_hub_origin);
	got_free(other);
	got_free(hub);
	got_free(plain);
}

static void what_came_with_an_address_goes_no_further(void **state)
{
	struct fixture *x = *state;
	char url[128];
	struct got *g;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/to/hub", upstream_port(x->other));
	g = begin_at(x->fetch, "/api/x", url, "Basic its-own");
	assert_int_equal(g->error, 0);
	assert_int_equal(upstream_requests(x->hub), 1);
	assert_string_equal(x->seen.target, "/ok");
	assert_string_equal(seen(x, "X-With-It"), "");
	assert_string_equal(seen(x, "Authorization"), "");
	assert_string_equal(seen(x, "X-Private"), "");
	got_free(g);
}

static void nothing_begins_at_a_stranger(void **state)
{
	static const char *const urls[] = { "http://127.0.0.2:%u/ok",
					    "http://elsewhere.test:%u/ok",
					    "http://u:p@127.0.0.1:%u/ok",
					    "//127.0.0.1:%u/ok",
					    "/ok?%u",
					    "file://127.0.0.1:%u/etc/passwd" };
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		char url[128];
		struct got *g;

		(void)snprintf(url, sizeof(url), urls[i], upstream_port(x->other));
		g = begin_at(x->fetch, "/ok", url, NULL);
		if (g->error != -EACCES)
			fail_msg("%s: %s", url, log_errno_name(g->error));
		assert_int_equal(g->heads, 0);
		got_free(g);
	}
	assert_int_equal(upstream_connections(x->other), 0);
	assert_int_equal(upstream_connections(x->hub), 0);
}

static void an_address_elsewhere_may_send_nobody_to_loopback(void **state)
{
	struct fixture *x = *state;
	char url[128];
	struct got *g;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/to/stranger", upstream_port(x->other));
	g = begin_at(x->fetch, "", url, NULL);
	assert_int_equal(g->error, -EACCES);
	got_free(g);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/to/elsewhere", upstream_port(x->other));
	g = begin_at(x->fetch, "", url, NULL);
	assert_int_equal(g->error, -EACCES);
	assert_int_equal(upstream_requests(x->other), 2);
	got_free(g);
}

/* --- what comes in -------------------------------------------------------------------------------------- */

static void a_body_that_is_cut_is_an_error(void **state)
{
	static const char *const targets[] = { "/broken/short",     "/broken/chunk", "/broken/no-last-chunk",
					       "/broken/bad-chunk", "/broken/reset", "/broken/head",
					       "/broken/nothing" };
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct got *g = got_new();
		int error = get(x, g, targets[i]);

		if (error != -ECONNRESET)
			fail_msg("%s: %s", targets[i], log_errno_name(error));
		got_free(g);
	}
	assert_false(fetch_is_down(x->fetch)); /* it did answer */
}

static void what_is_no_http_is_an_error(void **state)
{
	static const char *const targets[] = { "/broken/09",        "/broken/two-lengths",
					       "/broken/control",   "/broken/folded",
					       "/broken/fields",    "/broken/long-field",
					       "/broken/long-head", "/broken/interims" };
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct got *g = got_new();
		int error = get(x, g, targets[i]);

		if (error != -EPROTO)
			fail_msg("%s: %s", targets[i], log_errno_name(error));
		assert_int_equal(g->body.len, 0);
		got_free(g);
	}
}

static void interim_answers_and_trailers_are_ignored(void **state)
{
	struct fixture *x = *state;
	struct got *interim = got_new(), *chunked = got_new();

	assert_int_equal(get(x, interim, "/interim"), 0);
	assert_int_equal(interim->heads, 1);
	assert_null(headers_get(&interim->headers, STR("Link")).ptr);
	assert_int_equal(get(x, chunked, "/chunked"), 0);
	assert_string_equal(chunked->body.bytes, "hello");
	assert_int_equal(chunked->content_length, -1);
	assert_null(headers_get(&chunked->headers, STR("T")).ptr);
	got_free(interim);
	got_free(chunked);
}

static void bodies_are_never_decoded(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(get(x, g, "/gzip"), 0);
	assert_string_equal(g->body.bytes, "not really gzip");
	assert_true(str_eq(headers_get(&g->headers, STR("Content-Encoding")), STR("gzip")));
	got_free(g);
}

static int get_limited(struct fixture *x, const char *target, uint64_t bytes_max)
{
	struct got *g = got_new();
	struct fetch_request request = { .method = "GET",
					 .target = str_from(target),
					 .body_bytes_max = bytes_max };
	int error;

	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, NULL), 0);
	error = got_end(g);
	assert_true(g->body.len <= bytes_max);
	got_free(g);
	return error;
}

static void a_body_over_the_limit_is_an_error(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(get_limited(x, "/ok", 4), -E2BIG);
	assert_int_equal(get_limited(x, "/ok", 5), 0);
	assert_int_equal(get_limited(x, "/chunked", 4), -E2BIG);
	assert_int_equal(get_limited(x, "/chunked", 5), 0);
}

static void an_error_of_an_op_ends_it_with_that_error(void **state)
{
	struct fixture *x = *state;
	struct got *head = got_new(), *body = got_new();

	head->head_error = -EBADMSG;
	assert_int_equal(get(x, head, "/ok"), -EBADMSG);
	assert_int_equal(head->body_calls, 0);
	body->body_error = -ENOSPC;
	assert_int_equal(get(x, body, "/big"), -ENOSPC);
	assert_int_equal(body->body_calls, 1);
	got_free(head);
	got_free(body);
}

static void everything_comes_also_with_pauses(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	g->pause_each = 7;
	start(x, g, "GET", "/big", FETCH_FOLLOW_NONE);
	for (unsigned resumed = 0;; resumed++) {
		bool is_done;

		pthread_mutex_lock(&g->mutex);
		while (!g->done_count && g->paused <= resumed)
			pthread_cond_wait(&g->changed, &g->mutex);
		is_done = g->done_count;
		pthread_mutex_unlock(&g->mutex);
		if (is_done)
			break;
		transfer_resume(g->transfer);
	}
	assert_int_equal(got_end(g), 0);
	assert_true(g->paused > 10);
	assert_true(is_big(&g->body));
	got_free(g);
}

/* --- bodies that go out --------------------------------------------------------------------------------- */

static int put(struct fixture *x, struct got *g, const char *target, const char *body, int64_t body_bytes)
{
	struct fetch_request request = {
		.method = "PUT",
		.target = str_from(target),
		.has_body = true,
		.body_bytes = body_bytes,
		.follow = FETCH_FOLLOW_ALLOWED,
	};

	g->upload = body;
	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, &g->transfer), 0);
	while (g->upload_pauses) {
		bool is_done;

		sleep_ms(2);
		transfer_resume(g->transfer);
		pthread_mutex_lock(&g->mutex);
		is_done = g->done_count;
		pthread_mutex_unlock(&g->mutex);
		if (is_done)
			break;
	}
	return got_end(g);
}

static void sends_a_body_with_its_length_or_in_chunks(void **state)
{
	struct fixture *x = *state;
	struct got *sized = got_new(), *chunked = got_new(), *empty = got_new();

	assert_int_equal(put(x, sized, "/upload/a", "four words for you", 18), 0);
	assert_string_equal(x->seen_body.bytes, "four words for you");
	assert_string_equal(seen(x, "Content-Length"), "18");
	assert_string_equal(seen(x, "Expect"), "");
	chunked->upload_piece = 5;
	assert_int_equal(put(x, chunked, "/upload/a", "four words for you", -1), 0);
	assert_string_equal(x->seen_body.bytes, "four words for you");
	assert_string_equal(seen(x, "Transfer-Encoding"), "chunked");
	assert_int_equal(put(x, empty, "/upload/a", "", 0), 0);
	assert_string_equal(seen(x, "Content-Length"), "0");
	got_free(sized);
	got_free(chunked);
	got_free(empty);
}

static void a_body_may_come_slowly(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	g->upload_piece = 3;
	g->upload_pauses = 2;
	assert_int_equal(put(x, g, "/upload/a", "four words for you", -1), 0);
	assert_string_equal(x->seen_body.bytes, "four words for you");
	got_free(g);
}

static void a_body_goes_to_an_address_too(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();
	char url[128];
	struct fetch_request request = {
		.method = "PUT", .target = STR("/x"), .has_body = true, .body_bytes = 18
	};

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/upload/a?sig", upstream_port(x->other));
	request.location = str_from(url);
	g->upload = "four words for you";
	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, &g->transfer), 0);
	assert_int_equal(got_end(g), 0);
	assert_int_equal(upstream_requests(x->hub), 0);
	assert_string_equal(x->seen.method, "PUT");
	assert_string_equal(x->seen_body.bytes, "four words for you");
	got_free(g);
}

static void a_client_that_stops_early_cancels(void **state)
{
	struct fixture *x = *state;
	struct got *little = got_new(), *failed = got_new(), *much = got_new();

	assert_int_equal(put(x, little, "/upload/a", "four", 18), -ECANCELED);
	failed->upload_error = -EIO;
	assert_int_equal(put(x, failed, "/upload/a", "four", -1), -EIO);
	assert_int_equal(put(x, much, "/upload/a", "four words for you", 4), 0);
	assert_string_equal(x->seen_body.bytes, "four");
	got_free(little);
	got_free(failed);
	got_free(much);
}

static void a_refusal_ends_an_upload_that_waits_for_its_client(void **state)
{
	struct fixture *x = *state;
	struct fetch_request request = {
		.method = "POST", .target = STR("/upload/refused"), .has_body = true, .body_bytes = 100
	};
	struct got *g = got_new();

	g->upload = "something";
	g->upload_pauses = 1000000;
	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, &g->transfer), 0);
	assert_int_equal(got_end(g), 0);
	assert_int_equal(g->status, 401);
	assert_string_equal(g->body.bytes, "who are you?");
	got_free(g);
}

static void a_write_is_never_sent_twice(void **state)
{
	struct fixture *x = *state;
	struct got *first = got_new(), *second = got_new();

	assert_int_equal(put(x, first, "/upload/cut", "a", 1), 0);
	assert_int_equal(put(x, second, "/upload/cut", "b", 1), -ECONNRESET);
	assert_int_equal(upstream_requests(x->hub), 2);
	got_free(first);
	got_free(second);
}

/* --- time ----------------------------------------------------------------------------------------------- */

static int get_timed(struct fixture *x, struct got *g, const char *target, uint64_t first_byte,
		     uint64_t stall, uint64_t total)
{
	struct fetch_request request = {
		.method = "GET",
		.target = str_from(target),
		.first_byte_timeout_ms = first_byte,
		.stall_timeout_ms = stall,
		.total_timeout_ms = total,
	};

	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, &g->transfer), 0);
	return got_end(g);
}

static void gives_up_when_no_answer_begins(void **state)
{
	struct fixture *x = *state;
	struct got *late = got_new(), *in_time = got_new();

	assert_int_equal(get_timed(x, late, "/slow/head", 150, 0, 0), -ETIMEDOUT);
	assert_int_equal(late->heads, 0);
	assert_int_equal(get_timed(x, in_time, "/slow/start", 5000, 0, 0), 0);
	assert_false(fetch_is_down(x->fetch));
	got_free(late);
	got_free(in_time);
}

static void gives_up_when_a_body_stalls_but_not_when_it_drips(void **state)
{
	struct fixture *x = *state;
	struct got *stalled = got_new(), *dripping = got_new();

	assert_int_equal(get_timed(x, stalled, "/slow/stall", 0, 200, 0), -ETIMEDOUT);
	assert_string_equal(stalled->body.bytes, "half");
	assert_int_equal(get_timed(x, dripping, "/slow/drip", 0, 600, 0), 0);
	assert_int_equal(dripping->body.len, 30);
	got_free(stalled);
	got_free(dripping);
}

static void gives_up_when_all_of_it_takes_too_long(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(get_timed(x, g, "/slow/drip", 0, 0, 300), -ETIMEDOUT);
	assert_true(g->body.len > 0);
	got_free(g);
}

static void a_pause_is_no_stall(void **state)
{
	struct fixture *x = *state;
	struct fetch_request request = { .method = "GET", .target = STR("/ok"), .stall_timeout_ms = 150 };
	struct got *g = got_new();

	g->pause_each = 1;
	assert_int_equal(fetch_start(x->fetch, &request, &ops, g, &g->transfer), 0);
	got_wait(g, &g->paused, 1);
	sleep_ms(500);
	assert_int_equal(g->done_count, 0);
	g->pause_each = 0;
	transfer_resume(g->transfer);
	assert_int_equal(got_end(g), 0);
	assert_string_equal(g->body.bytes, "hello");
	got_free(g);
}

/* --- a Hub that is not there ---------------------------------------------------------------------------- */

static uint64_t timed_get(struct fixture *x, struct fetch *f, int want)
{
	struct fetch_request request = { .method = "GET", .target = STR("/ok") };
	uint64_t began = clock_mono_ms(&clock_system);
	struct got *g = got_new();

	assert_int_equal(fetch_start(f, &request, &ops, g, NULL), 0);
	assert_int_equal(got_end(g), want);
	got_free(g);
	return clock_mono_ms(&clock_system) - began;
}

static void a_refused_connection_or_a_missing_name_fails_at_once(void **state)
{
	struct fixture *x = *state;
	struct fetch *f;
	char url[64];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", upstream_dead_port());
	f = new_fetch(x, url, NULL, false);
	assert_true(timed_get(x, f, -EHOSTUNREACH) < 300);
	fetch_free(f);
	f = new_fetch(x, "http://missing.test", NULL, false);
	assert_true(timed_get(x, f, -EHOSTUNREACH) < 300);
	fetch_free(f);
}

/* Takes connections until its queue is full: the next one gets no answer. */
static unsigned black_hole(int fds[4])
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fds[0], (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fds[0], (struct sockaddr *)&in, &len), 0);
	assert_int_equal(listen(fds[0], 0), 0);
	for (int i = 1; i < 4; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fds[i], (struct sockaddr *)&in, sizeof(in));
	}
	sleep_ms(20);
	return ntohs(in.sin_port);
}

static void a_black_hole_fails_within_the_connect_timeout(void **state)
{
	struct fixture *x = *state;
	int fds[4];
	struct fetch *f;
	uint64_t ms;
	char url[64];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", black_hole(fds));
	f = new_fetch(x, url, NULL, false);
	ms = timed_get(x, f, -ETIMEDOUT);
	assert_in_range(ms, 300, 1000);
	fetch_free(f);
	for (int i = 0; i < 4; i++)
		(void)close(fds[i]);
}

static void a_name_that_is_looked_up_for_ever_does_not_stop_the_others(void **state)
{
	static const char *const hosts[] = { "blocked.test", NULL };
	struct fixture *x = *state;
	struct fetch_request request = { .method = "GET", .target = STR("/ok") };
	struct got *blocked = got_new(), *cancelled;
	struct fetch *f;
	int r;

	atomic_store(&is_name_blocked, true);
	f = new_fetch(x, "http://blocked.test", hosts, false);
	assert_int_equal(fetch_start(f, &request, &ops, blocked, &blocked->transfer), 0);
	cancelled = got_new();
	assert_int_equal(fetch_start(f, &request, &ops, cancelled, &cancelled->transfer), 0);
	sleep_ms(50);
	transfer_cancel(cancelled->transfer);
	assert_int_equal(got_end(cancelled), -ECANCELED);
	got_free(cancelled);
	/* within the connect timeout, though the look-up still hangs; or our own connection was quicker to say so */
	r = got_end(blocked);
	assert_true(r == -ETIMEDOUT || r == -EHOSTUNREACH);
	got_free(blocked);
	fetch_free(f); /* and neither does it stop the stop */
	atomic_store(&is_name_blocked, false);
	sleep_ms(50); /* the look-up's own thread ends */
}

static void wait_until_tried(struct fetch *f)
{
	for (int i = 0; !fetch_is_tried(f); i++) {
		assert_true(i < 1000);
		sleep_ms(10);
	}
}

/* A connection is made before it is counted. */
static unsigned wait_until_accepted(struct upstream *u, unsigned count)
{
	for (int i = 0; upstream_accepted(u) < count; i++) {
		assert_true(i < 1000);
		sleep_ms(10);
	}
	return upstream_accepted(u);
}

static void a_hub_that_is_there_is_known_to_be_without_a_request(void **state)
{
	struct fixture *x = *state;

	wait_until_tried(x->fetch);
	assert_false(fetch_is_down(x->fetch));
	assert_int_equal(wait_until_accepted(x->hub, 1), 1);
	sleep_ms(50);
	assert_int_equal(upstream_accepted(x->hub), 1); /* once */
	assert_int_equal(upstream_requests(x->hub), 0);
	(void)timed_get(x, x->fetch, 0);
}

static void a_hub_that_is_not_there_is_known_to_be_gone_at_once(void **state)
{
	struct fixture *x = *state;
	uint64_t began = clock_mono_ms(&clock_system);
	int fds[4];

	for (int is_hole = 0; is_hole < 2; is_hole++) {
		struct fetch *f;
		char url[64];

		(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u",
			       is_hole ? black_hole(fds) : upstream_dead_port());
		f = new_fetch(x, url, NULL, false);
		wait_until_tried(f);
		assert_true(fetch_is_down(f));
		assert_true(fetch_down_since(f) > 0);
		assert_true(timed_get(x, f, -EHOSTUNREACH) < 300); /* nothing more is tried */
		fetch_free(f);
	}
	assert_true(clock_mono_ms(&clock_system) - began > 300); /* the hole took the connect time-out */
	for (int i = 0; i < 4; i++)
		(void)close(fds[i]);
}

static void offline_everything_fails_at_once(void **state)
{
	struct fixture *x = *state;
	unsigned accepted;
	struct fetch *f;

	wait_until_tried(x->fetch);
	accepted = wait_until_accepted(x->hub, 1);
	f = new_fetch(x, upstream_url(x->hub), NULL, true);
	assert_true(fetch_is_down(f));
	assert_true(fetch_down_since(f) > 0);
	assert_true(timed_get(x, f, -EHOSTUNREACH) < 100);
	sleep_ms(50);
	assert_true(fetch_is_tried(f)); /* there is nothing to be found out */
	fetch_free(f);
	assert_int_equal(upstream_accepted(x->hub), accepted);
}

static void wait_until_up(struct fetch *f)
{
	for (int i = 0; fetch_is_down(f); i++) {
		assert_true(i < 1000);
		sleep_ms(10);
	}
}

/* A fetch whose Hub is at a dead port and whose breaker has opened. */
static struct fetch *new_down_fetch(struct fixture *x, unsigned *ret_port)
{
	struct fetch *f;
	char url[64];

	*ret_port = upstream_dead_port();
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", *ret_port);
	f = new_fetch(x, url, NULL, false);
	wait_until_tried(f);
	assert_true(fetch_is_down(f));
	assert_true(fetch_down_since(f) > 0);
	return f;
}

static void with_an_open_breaker_nothing_is_tried(void **state)
{
	struct fixture *x = *state;
	unsigned port;
	struct fetch *f = new_down_fetch(x, &port);
	struct upstream *hub = upstream_new_on(port, answer, x);

	assert_true(timed_get(x, f, -EHOSTUNREACH) < 100); /* although it would work now */
	assert_int_equal(upstream_accepted(hub), 0);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_UP, 0, 0, 0), 0);
	fetch_free(f);
	upstream_free(hub);
}

/* What begins elsewhere is no question to the Hub; but offline is offline. */
static void the_breaker_does_not_stop_what_begins_elsewhere(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", NULL };
	struct fixture *x = *state;
	unsigned port;
	struct fetch *down = new_down_fetch(x, &port), *offline;
	char url[128];
	struct got *g;

	(void)snprintf(url, sizeof(url), "%s/ok", upstream_url(x->other));
	g = begin_at(down, "/api/x", url, NULL);
	assert_int_equal(g->error, 0);
	got_free(g);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok", port);
	g = begin_at(down, "/api/x", url, NULL);
	assert_int_equal(g->error, -EHOSTUNREACH);
	got_free(g);
	fetch_free(down);
	offline = new_fetch(x, upstream_url(x->hub), hosts, true);
	(void)snprintf(url, sizeof(url), "%s/ok", upstream_url(x->other));
	g = begin_at(offline, "/api/x", url, NULL);
	assert_int_equal(g->error, -EHOSTUNREACH);
	got_free(g);
	fetch_free(offline);
}

/* With everything in the store nobody else would ever ask. */
static void the_breaker_finds_out_by_itself_that_the_hub_is_back(void **state)
{
	struct fixture *x = *state;
	unsigned port;
	struct fetch *f = new_down_fetch(x, &port);
	struct upstream *hub = upstream_new_on(port, answer, x);

	wait_until_up(f); /* 2 s */
	assert_int_equal(wait_until_accepted(hub, 1), 1);
	assert_int_equal(upstream_requests(hub), 0); /* it only connects: nobody's log shows it */
	assert_int_equal(fetch_down_since(f), 0);
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_UP, 0, 0, 0), 1);
	(void)timed_get(x, f, 0);
	fetch_free(f);
	upstream_free(hub);
}

/* What opens it is in test_fetch_limits.c. */
static void errors_of_one_path_do_not_open_the_breaker(void **state)
{
	struct fixture *x = *state;

	for (int i = 0; i < 6; i++) {
		struct got *g = got_new();

		assert_int_equal(get(x, g, "/503"), 0);
		got_free(g);
	}
	sleep_ms(100); /* it asked something else by then, and heard something else */
	assert_false(fetch_is_down(x->fetch));
	assert_int_equal(metrics_value(x->metrics, METRIC_UPSTREAM_REQUESTS, metric_code(503), 0, 0), 6);
}

/* --- cancelling and ending ------------------------------------------------------------------------------ */

static void can_be_cancelled_at_any_time(void **state)
{
	struct fixture *x = *state;
	struct got *at_once = got_new(), *waiting = got_new(), *in_head = got_new(), *in_body = got_new(),
		   *late = got_new();

	start(x, at_once, "GET", "/slow/head", FETCH_FOLLOW_NONE);
	transfer_cancel(at_once->transfer);
	assert_int_equal(got_end(at_once), -ECANCELED);

	start(x, waiting, "GET", "/slow/stall", FETCH_FOLLOW_NONE);
	got_wait(waiting, &waiting->body_calls, 1);
	transfer_cancel(waiting->transfer);
	assert_int_equal(got_end(waiting), -ECANCELED);

	in_head->cancels_in_head = true;
	start(x, in_head, "GET", "/big", FETCH_FOLLOW_NONE);
	assert_int_equal(got_end(in_head), -ECANCELED);
	assert_int_equal(in_head->body_calls, 0); /* nothing comes after it but on_done */

	in_body->cancels_in_body = true;
	start(x, in_body, "GET", "/big", FETCH_FOLLOW_NONE);
	assert_int_equal(got_end(in_body), -ECANCELED);
	assert_int_equal(in_body->body_calls, 1);

	start(x, late, "GET", "/ok", FETCH_FOLLOW_NONE);
	assert_int_equal(got_end(late), 0);
	transfer_cancel(late->transfer);
	transfer_resume(late->transfer);
	sleep_ms(30);
	assert_int_equal(late->done_count, 1);

	got_free(at_once);
	got_free(waiting);
	got_free(in_head);
	got_free(in_body);
	got_free(late);
}

static void a_paused_transfer_can_be_cancelled(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	g->pause_each = 1;
	start(x, g, "GET", "/big", FETCH_FOLLOW_NONE);
	got_wait(g, &g->paused, 1);
	transfer_cancel(g->transfer);
	assert_int_equal(got_end(g), -ECANCELED);
	got_free(g);
}

static void the_callers_reference_may_go_first(void **state)
{
	struct fixture *x = *state;
	struct got *g = start(x, got_new(), "GET", "/slow/start", FETCH_FOLLOW_NONE);

	g->transfer = transfer_unref(g->transfer);
	assert_int_equal(got_end(g), 0);
	got_free(g);
}

struct calls {
	atomic_uint count, order[4];
	struct fetch *fetch;
};
static void count_call(void *ctx)
{
	atomic_fetch_add((atomic_uint *)ctx, 1);
}

static void first_call(void *ctx)
{
	struct calls *calls = ctx;

	calls->order[atomic_fetch_add(&calls->count, 1)] = 1;
}

static void second_call(void *ctx)
{
	struct calls *calls = ctx;

	calls->order[atomic_fetch_add(&calls->count, 1)] = 2;
	fetch_call(calls->fetch, 0, first_call, calls);
}

static void calls_come_when_they_are_due(void **state)
{
	struct fixture *x = *state;
	struct calls calls = { .fetch = x->fetch };
	uint64_t began = clock_mono_ms(&clock_system);

	fetch_call(x->fetch, 120, second_call, &calls);
	fetch_call(x->fetch, 60, first_call, &calls);
	while (atomic_load(&calls.order[2]) == 0)
		sleep_ms(5);
	assert_in_range(clock_mono_ms(&clock_system) - began, 115, 1000);
	assert_int_equal(calls.order[0], 1);
	assert_int_equal(calls.order[1], 2);
	assert_int_equal(calls.order[2], 1);
}

static void the_end_cancels_transfers_and_runs_calls(void **state)
{
	struct fixture *x = *state;
	struct fetch *f = new_fetch(x, upstream_url(x->hub), NULL, false);
	struct fetch_request request = { .method = "GET", .target = STR("/slow/head") };
	struct got *running = got_new(), *mailed = got_new();
	atomic_uint calls = 0;

	assert_int_equal(fetch_start(f, &request, &ops, running, &running->transfer), 0);
	fetch_call(f, 3600 * 1000, count_call, &calls);
	sleep_ms(30);
	assert_int_equal(fetch_start(f, &request, &ops, mailed, &mailed->transfer), 0);
	fetch_free(f);
	assert_int_equal(running->done_count, 1);
	assert_int_equal(running->error, -ECANCELED);
	assert_int_equal(mailed->done_count, 1);
	assert_int_equal(mailed->error, -ECANCELED);
	assert_int_equal(atomic_load(&calls), 1);
	transfer_cancel(running->transfer); /* the reference still holds what these need */
	transfer_resume(running->transfer);
	got_free(running);
	got_free(mailed);
}

/* --- many at once --------------------------------------------------------------------------------------- */

#define CROWD 200

static const char *crowd_target(unsigned i)
{
	static const char *const targets[] = {
		"/ok",          "/big",           "/to/ok",        "/to/other",
		"/to/stranger", "/slow/start",    "/slow/stall",   "/slow/head",
		"/slow/drip",   "/broken/short",  "/broken/reset", "/broken/nothing",
		"/chunked",     "/broken/fields", "/to/loop",      "/to/ok-but-cut",
	};

	return targets[i % (sizeof(targets) / sizeof(targets[0]))];
}

/* Half of them are cancelled at some time, some pause, some have lost their caller. Each must end once. */
static void two_hundred_at_once_end_exactly_once_each(void **state)
{
	struct fixture *x = *state;
	struct got *crowd[CROWD];
	uint32_t dice = 12345;

	for (unsigned i = 0; i < CROWD; i++) {
		struct fetch_request request = {
			.method = i % 5 ? "GET" : "HEAD",
			.target = str_from(crowd_target(i)),
			.follow = FETCH_FOLLOW_ALLOWED,
			.stall_timeout_ms = 700,
			.first_byte_timeout_ms = 900,
		};

		crowd[i] = got_new();
		crowd[i]->pause_each = i % 3 ? 0 : 5;
		crowd[i]->cancels_in_body = i % 17 == 1;
		assert_int_equal(fetch_start(x->fetch, &request, &ops, crowd[i], &crowd[i]->transfer), 0);
		if (i % 40 == 0)
			sleep_ms(1);
	}
	for (unsigned round = 0; round < 600; round++) {
		unsigned i = (dice = dice * 1664525 + 1013904223) >> 8;

		transfer_resume(crowd[i % CROWD]->transfer);
		if (i % 6 == 0)
			transfer_cancel(crowd[i / 6 % CROWD]->transfer);
		if (round % 20 == 0)
			sleep_ms(1);
	}
	for (unsigned i = 0; i < CROWD; i++) {
		if (crowd[i]->pause_each)
			transfer_cancel(crowd[i]->transfer); /* nobody resumes it any more */
		(void)got_end(crowd[i]);
	}
	sleep_ms(50);
	for (unsigned i = 0; i < CROWD; i++) {
		assert_int_equal(crowd[i]->done_count, 1);
		assert_false(crowd[i]->was_called_after_done);
		if (strcmp(crowd_target(i), "/big") == 0 && crowd[i]->error == 0 && i % 5)
			assert_true(is_big(&crowd[i]->body));
		got_free(crowd[i]);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(gets_a_body_with_its_head),
		CASE(a_head_request_has_no_body),
		CASE(sends_the_target_byte_for_byte),
		CASE(refuses_targets_and_methods_that_would_break_the_request),
		CASE(sets_its_own_fields_and_passes_the_rest),
		CASE(proxies_of_the_environment_are_not_used),
		CASE(the_hub_gets_the_token_also_after_a_redirect_to_itself),
		CASE(another_origin_gets_neither_the_token_nor_other_fields),
		CASE(the_token_does_not_come_back_from_another_origin),
		CASE(anonymous_and_token_transfers_do_not_share_connections),
		CASE(a_redirect_leaves_its_connection_usable),
		CASE(follows_a_redirect_whose_own_body_is_endless_or_cut),
		CASE(a_redirect_that_is_not_followed_is_the_answer),
		CASE(strangers_are_not_even_connected_to),
		CASE(a_listed_name_with_the_hubs_own_address_is_followed),
		CASE(stops_in_a_loop),
		CASE(begins_at_an_address_without_the_token),
		CASE(an_address_may_bring_its_own_authorization),
		CASE(what_came_with_an_address_goes_no_further),
		CASE(nothing_begins_at_a_stranger),
		CASE(an_address_elsewhere_may_send_nobody_to_loopback),
		CASE(a_body_goes_to_an_address_too),
		CASE(the_breaker_does_not_stop_what_begins_elsewhere),
		CASE(a_body_that_is_cut_is_an_error),
		CASE(what_is_no_http_is_an_error),
		CASE(interim_answers_and_trailers_are_ignored),
		CASE(bodies_are_never_decoded),
		CASE(a_body_over_the_limit_is_an_error),
		CASE(an_error_of_an_op_ends_it_with_that_error),
		CASE(everything_comes_also_with_pauses),
		CASE(sends_a_body_with_its_length_or_in_chunks),
		CASE(a_body_may_come_slowly),
		CASE(a_client_that_stops_early_cancels),
		CASE(a_refusal_ends_an_upload_that_waits_for_its_client),
		CASE(a_write_is_never_sent_twice),
		CASE(gives_up_when_no_answer_begins),
		CASE(gives_up_when_a_body_stalls_but_not_when_it_drips),
		CASE(gives_up_when_all_of_it_takes_too_long),
		CASE(a_pause_is_no_stall),
		CASE(a_refused_connection_or_a_missing_name_fails_at_once),
		CASE(a_black_hole_fails_within_the_connect_timeout),
		CASE(a_name_that_is_looked_up_for_ever_does_not_stop_the_others),
		CASE(offline_everything_fails_at_once),
		CASE(a_hub_that_is_there_is_known_to_be_without_a_request),
		CASE(a_hub_that_is_not_there_is_known_to_be_gone_at_once),
		CASE(with_an_open_breaker_nothing_is_tried),
		CASE(the_breaker_finds_out_by_itself_that_the_hub_is_back),
		CASE(errors_of_one_path_do_not_open_the_breaker),
		CASE(can_be_cancelled_at_any_time),
		CASE(a_paused_transfer_can_be_cancelled),
		CASE(the_callers_reference_may_go_first),
		CASE(calls_come_when_they_are_due),
		CASE(the_end_cancels_transfers_and_runs_calls),
		CASE(two_hundred_at_once_end_exactly_once_each),
	};
	return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
