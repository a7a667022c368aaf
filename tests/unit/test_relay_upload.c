/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that relay sends a body once, in order and in bounded memory, that a refusal is not swallowed by an upload, and
 * that a body is not asked for before upstream wants it.
 */
#include "relay_rig.h"

#include <stdlib.h>

/* Returns 0 when everything was taken, else what relay_write() said. */
static ssize_t rig_write_all(struct relay *r, const char *bytes, size_t len)
{
	while (len) {
		ssize_t taken = relay_write(r, bytes, len);

		if (taken == -EAGAIN) {
			rig_wait_for_news(r, true);
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
	SCOPED(relay_free) struct relay *r = rig_start_upload(x, target, said);
	SCOPED_BUF out = { 0 };
	int status;

	buf_init(&out, 100);
	assert_int_equal(rig_write_all(r, x->big, BIG_BYTES), 0);
	relay_write_end(r);
	assert_int_equal(rig_head_of(r, &status), 0);
	assert_int_equal(status, 200);
	assert_int_equal(rig_drain(r, &out), 0);
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
	SCOPED(relay_free) struct relay *r = rig_start_upload(x, "/upload/a", -1);
	int status;

	relay_write_end(r);
	assert_int_equal(rig_head_of(r, &status), 0);
	assert_int_equal(x->uploaded.len, 0);
}

static void upload_memory_is_bounded(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start_upload(x, "/silent", BIG_BYTES);
	size_t taken = 0;

	for (int quiet = 0; quiet < 20;) {
		ssize_t len = relay_write(r, x->big, 100000);

		if (len == -EAGAIN) {
			rig_sleep_ms(10);
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
	SCOPED(relay_free) struct relay *r = rig_start_upload(x, "/upload/refused", BIG_BYTES);
	SCOPED_BUF out = { 0 };
	int status;

	buf_init(&out, 100);
	assert_int_equal(relay_write(r, "some", 4), 4);
	assert_int_equal(rig_head_of(r, &status), 0);
	assert_int_equal(status, 403);
	assert_int_equal(relay_write(r, "more", 4), -EPIPE);
	assert_int_equal(rig_drain(r, &out), 0);
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

	waiter_init(&l.waiter, listener_wake);
	assert_true(relay_wait(r, false, &l.waiter));
	assert_false(relay_wants_body(r));
	atomic_store(&x->may_continue, true);
	for (unsigned i = 0; !atomic_load(&l.wakes); i++) {
		assert_true(i < 10000);
		rig_sleep_ms(1);
	}
	waiter_cancel(&l.waiter);
	assert_true(relay_wants_body(r));
	assert_int_equal(rig_write_all(r, "body", 4), 0);
	relay_write_end(r);
	assert_int_equal(rig_head_of(r, &status), 0);
	assert_int_equal(status, 200);
	assert_string_equal(x->uploaded.bytes, "body");
}

static void a_refusal_comes_before_the_body_is_wanted(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = start_expecting(x, "/upload/refused-early");
	int status;

	assert_int_equal(rig_head_of(r, &status), 0);
	assert_int_equal(status, 403);
	assert_false(relay_wants_body(r));
}

static void on_noticed(void *ctx)
{
	atomic_store((atomic_bool *)ctx, true);
}

/* Until the fetch thread has seen the new time, and what came before it. */
static void pass(struct fixture *x, unsigned ms)
{
	atomic_fetch_add(&rig_passed_ms, ms);
	for (int turn = 0; turn < 2; turn++) {
		atomic_bool has_noticed = false;

		fetch_call(x->fetch, 0, on_noticed, &has_noticed);
		while (!atomic_load(&has_noticed))
			rig_sleep_ms(1);
	}
}

static size_t uploaded_bytes(struct fixture *x)
{
	size_t len;

	pthread_mutex_lock(&x->mutex);
	len = x->uploaded.len;
	pthread_mutex_unlock(&x->mutex);
	return len;
}

static void a_write_that_is_not_answered_is_sent_once(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start_upload(x, "/upload/silent", 4);
	int status;

	assert_int_equal(rig_write_all(r, "body", 4), 0);
	relay_write_end(r);
	for (int i = 0; uploaded_bytes(x) < 4; i++) {
		assert_true(i < 20000);
		rig_sleep_ms(1);
	}
	pass(x, 0);
	pass(x, 105000);
	assert_int_equal(relay_head(r, &status, &(const struct headers *){ NULL }, &(int64_t){ 0 }), -EAGAIN);
	pass(x, 16000);
	assert_int_equal(rig_head_of(r, &status), -ETIMEDOUT);
	assert_int_equal(upstream_requests(x->hub), 1);
}

static void an_upstream_that_goes_away_ends_the_upload(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start_upload(x, "/upload/gone", -1);
	int status;

	assert_int_equal(rig_head_of(r, &status), -ECONNRESET);
	assert_int_equal(rig_write_all(r, x->big, BIG_BYTES), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(sends_the_body_once_in_order_with_its_framing),
		CASE(a_body_may_be_empty),
		CASE(upload_memory_is_bounded),
		CASE(a_refusal_stops_the_upload),
		CASE(the_body_is_wanted_when_upstream_says_so),
		CASE(a_refusal_comes_before_the_body_is_wanted),
		CASE(a_write_that_is_not_answered_is_sent_once),
		CASE(an_upstream_that_goes_away_ends_the_upload),
	};

	return cmocka_run_group_tests_name("relay_upload", tests, NULL, NULL);
}
