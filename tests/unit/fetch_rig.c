/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch_rig - see the header.
 */
#include "fetch_rig.h"

#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"

/* --- a clock that can be moved -------------------------------------------------------------------------- */

static _Atomic uint64_t passed_ms;
static _Atomic uint64_t stopped_at_ms; /* 0: it runs */

static uint64_t test_mono_ms(void *ctx)
{
	uint64_t stopped = atomic_load(&stopped_at_ms);

	return stopped ? stopped : clock_mono_ms(&clock_system) + atomic_load(&passed_ms);
}

static int64_t test_wall_s(void *ctx)
{
	return clock_wall_s(&clock_system) + (int64_t)(atomic_load(&passed_ms) / 1000);
}

static const struct clock test_clock = { .mono_ms = test_mono_ms, .wall_s = test_wall_s };

void rig_sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&t, NULL);
}

void rig_stop_clock(void)
{
	atomic_store(&stopped_at_ms, test_mono_ms(NULL));
}

void rig_go_on_clock(void)
{
	atomic_store(&stopped_at_ms, 0);
}

/* --- names ---------------------------------------------------------------------------------------------- */

atomic_bool is_name_blocked; /* "blocked.test" */
atomic_uint blocked_lookups; /* that hang */

/* Found by libcurl before libc's. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		struct addrinfo **result);
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");

	memcpy(&real, &symbol, sizeof(real));
	if (node && strcmp(node, "blocked.test") == 0) {
		atomic_fetch_add(&blocked_lookups, 1);
		while (atomic_load(&is_name_blocked))
			rig_sleep_ms(5);
		atomic_fetch_sub(&blocked_lookups, 1);
	}
	if (node && strcmp(node, "elsewhere.test") == 0)
		node = "127.0.0.2";
	else if (node && strcmp(node, "missing.test") == 0)
		return EAI_NONAME;
	else if (node && str_ends_with(str_from(node), STR(".test")))
		node = "127.0.0.1";
	return real(node, service, hints, result);
}

/* --- one transfer and what became of it ----------------------------------------------------------------- */

struct got *got_new(void)
{
	struct got *g = xcalloc(1, sizeof(*g));

	pthread_mutex_init(&g->mutex, NULL);
	pthread_cond_init(&g->changed, NULL);
	headers_init(&g->headers);
	buf_init(&g->body, 64 << 20);
	return g;
}

void got_free(struct got *g)
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

const struct fetch_ops got_ops = { on_head, on_body, on_need_body, on_done };

void got_wait(struct got *g, const unsigned *what, unsigned least)
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

int got_end(struct got *g)
{
	got_wait(g, &g->done_count, 1);
	assert_false(g->was_called_after_done);
	return g->error;
}

/* --- fixture -------------------------------------------------------------------------------------------- */

struct fetch *rig_new_fetch(struct fixture *x, const char *hub_url, const char *const *hosts, bool is_offline)
{
	struct fetch_opts opts = {
		.hub_url = hub_url,
		.redirect_hosts = hosts,
		.is_offline = is_offline,
		.user_agent = "hfcached/test",
		.connect_timeout_ms = x->connect_timeout_ms,
		.metrics = x->metrics,
		.clock = &test_clock,
	};
	struct fetch *f = NULL;

	assert_int_equal(fetch_new(&opts, &f), 0);
	return f;
}

int rig_set_up(void **state)
{
	static const char *const hosts[] = { "elsewhere.test", "*.same.test", "same.test", NULL };
	struct fixture *x = xcalloc(1, sizeof(*x));

	pthread_mutex_init(&x->mutex, NULL);
	buf_init(&x->seen_body, 1 << 20);
	x->connect_timeout_ms = 400;
	x->metrics = metrics_new();
	x->hub = upstream_new(rig_answer, x);
	x->other = upstream_new(rig_answer, x);
	x->fetch = rig_new_fetch(x, upstream_url(x->hub), hosts, false);
	*state = x;
	return 0;
}

int rig_tear_down(void **state)
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

struct got *got_start(struct fixture *x, struct got *g, const char *method, const char *target,
		      enum fetch_follow follow)
{
	struct fetch_request request = { .method = method, .target = str_from(target), .follow = follow };

	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, &g->transfer), 0);
	return g;
}

int got_get(struct fixture *x, struct got *g, const char *target)
{
	return got_end(got_start(x, g, "GET", target, FETCH_FOLLOW_ALLOWED));
}

static void on_noticed(void *ctx)
{
	atomic_store((atomic_bool *)ctx, true);
}

void rig_pass(struct fixture *x, unsigned ms)
{
	atomic_bool has_noticed = false;

	atomic_fetch_add(&passed_ms, ms);
	fetch_call(x->fetch, 0, on_noticed, &has_noticed);
	while (!atomic_load(&has_noticed))
		rig_sleep_ms(1);
}

const char *rig_seen(struct fixture *x, const char *field)
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

bool rig_is_big(const struct buf *b)
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
		rig_sleep_ms(20);
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
		int count = strcmp(c->target, "/slow/long") == 0 ? 400 : 30;

		(void)upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", count);
		for (int i = 0; i < count && upstream_say(c, "%d", i % 10); i++)
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

void rig_answer(void *ctx, struct upstream_call *c)
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

/* --- beginning elsewhere -------------------------------------------------------------------------------- */

struct got *got_begin_at(struct fetch *f, const char *target, const char *location, const char *authorization)
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
	assert_int_equal(fetch_start(f, &request, &got_ops, g, &g->transfer), 0);
	headers_done(&h);
	headers_done(&of_location);
	secret_unref(token);
	(void)got_end(g);
	return g;
}
