/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay_rig - see the header.
 */
#include "relay_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"

/* --- a clock that can be moved -------------------------------------------------------------------------- */

_Atomic uint64_t rig_passed_ms;

static uint64_t test_mono_ms(void *ctx)
{
	return clock_mono_ms(&clock_system) + atomic_load(&rig_passed_ms);
}

static int64_t test_wall_s(void *ctx)
{
	return clock_wall_s(&clock_system) + (int64_t)(atomic_load(&rig_passed_ms) / 1000);
}

static const struct clock test_clock = { .mono_ms = test_mono_ms, .wall_s = test_wall_s };

void rig_sleep_ms(unsigned ms)
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

const struct part_answer part_answers[] = {
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
	{ 0 },
};

static bool answer_part(struct upstream_call *c)
{
	for (const struct part_answer *p = part_answers; p->where; p++)
		if (strcmp(c->target, p->where) == 0) {
			upstream_reply(c, p->status, p->fields, p->body);
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
	if (strcmp(c->target, "/upload/slow") == 0)
		upstream_sleep(c, 300);
	if (strcmp(c->target, "/upload/continued") == 0) {
		for (int i = 0; i < 2000 && !atomic_load(&x->may_continue); i++)
			upstream_sleep(c, 10);
		(void)upstream_say(c, "HTTP/1.1 100 Continue\r\n\r\n");
	}
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
	if (strcmp(c->target, "/upload/silent") == 0)
		upstream_sleep(c, 20000);
	else
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

static void rig_answer(void *ctx, struct upstream_call *c)
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

int rig_set_up(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));
	struct fetch_opts fetch_opts = { .connect_timeout_ms = 1000, .clock = &test_clock };
	struct relays_opts relays_opts = { .clock = &test_clock };

	pthread_mutex_init(&x->mutex, NULL);
	buf_init(&x->uploaded, BIG_BYTES);
	make_contents(x);
	x->metrics = metrics_new();
	x->cdn = upstream_new(rig_answer, x);
	x->hub = upstream_new(rig_answer, x);
	fetch_opts.hub_url = upstream_url(x->hub);
	fetch_opts.metrics = x->metrics;
	assert_int_equal(fetch_new(&fetch_opts, &x->fetch), 0);
	relays_opts.fetch = x->fetch;
	relays_opts.metrics = x->metrics;
	x->relays = relays_new(&relays_opts);
	*state = x;
	return 0;
}

int rig_tear_down(void **state)
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

void listener_wake(struct waiter *w)
{
	struct listener *l = LIST_ENTRY(w, struct listener, waiter);

	atomic_fetch_add(&l->wakes, 1);
}

void rig_wait_for_news(struct relay *r, bool want_write)
{
	struct listener l = { 0 };

	waiter_init(&l.waiter, listener_wake);
	if (relay_wait(r, want_write, &l.waiter))
		for (unsigned i = 0; !atomic_load(&l.wakes); i++) {
			assert_true(i < 100000);
			rig_sleep_ms(1);
		}
	waiter_cancel(&l.waiter);
}

struct relay *rig_start(struct fixture *x, const char *method, const char *target,
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

int rig_head_of(struct relay *r, int *ret_status)
{
	const struct headers *headers;
	int64_t length;
	int error;

	while ((error = relay_head(r, ret_status, &headers, &length)) == -EAGAIN)
		rig_wait_for_news(r, false);
	return error;
}

ssize_t rig_drain(struct relay *r, struct buf *out)
{
	char piece[10000];
	ssize_t len;

	for (;;) {
		len = relay_read(r, piece, sizeof(piece));
		if (len == -EAGAIN)
			rig_wait_for_news(r, false);
		else if (len <= 0)
			return len;
		else
			(void)buf_append(out, piece, (size_t)len);
	}
}

/* --- uploads -------------------------------------------------------------------------------------------- */

struct relay *rig_start_upload(struct fixture *x, const char *target, int64_t bytes)
{
	struct relay_query q = {
		.method = "POST", .target = str_from(target), .has_body = true, .body_bytes = bytes
	};
	struct relay *r = NULL;

	assert_int_equal(relay_start(x->relays, &q, &r), 0);
	return r;
}
