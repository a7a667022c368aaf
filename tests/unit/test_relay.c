/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the promises of relay against a scripted server: answers pass in order and in bounded memory, refusals as they
 * are, through a filter what it makes of them; and a relay may be freed at any time.
 */
#include "relay_rig.h"

#include <stdio.h>

/* --- answers -------------------------------------------------------------------------------------------- */

static void passes_an_answer_on(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start(x, "GET", "/ok", NULL);
	const struct headers *headers;
	SCOPED_BUF out = { 0 };
	int64_t length;
	int status;

	buf_init(&out, 100);
	assert_int_equal(rig_head_of(r, &status), 0);
	assert_int_equal(relay_head(r, &status, &headers, &length), 0);
	assert_int_equal(status, 200);
	assert_int_equal(length, 5);
	assert_true(str_eq(headers_get(headers, STR("X-Answer")), STR("yes")));
	assert_int_equal(rig_drain(r, &out), 0);
	assert_string_equal(out.bytes, "hello");
	assert_int_equal(relay_read(r, out.bytes, 1), 0); /* the end stays the end */
}

static void passes_a_refusal_on_as_it_is(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start(x, "GET", "/missing", NULL);
	SCOPED_BUF out = { 0 };
	int status;

	buf_init(&out, 100);
	assert_int_equal(rig_head_of(r, &status), 0);
	assert_int_equal(status, 404);
	assert_int_equal(rig_drain(r, &out), 0);
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
	assert_int_equal(rig_head_of(r, &status), -EHOSTUNREACH);
	assert_int_equal(status, 7);
	assert_int_equal(relay_read(r, url, 1), -EHOSTUNREACH);
	relay_free(r);
	relays_free(relays);
	fetch_free(relays_opts.fetch);
}

static void a_cut_body_ends_in_an_error_after_its_bytes(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start(x, "GET", "/short", NULL);
	SCOPED_BUF out = { 0 };

	buf_init(&out, BIG_BYTES);
	assert_int_equal(rig_drain(r, &out), -ECONNRESET);
	assert_int_equal(out.len, BIG_BYTES / 2);
	assert_memory_equal(out.bytes, x->big, out.len);
}

static void a_slow_reader_pauses_upstream(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start(x, "GET", "/big", NULL);
	SCOPED_BUF out = { 0 };
	int status;

	buf_init(&out, BIG_BYTES);
	assert_int_equal(rig_head_of(r, &status), 0);
	for (int i = 0; metrics_value(x->metrics, METRIC_UPSTREAM_RECEIVED, 0, 0, 0) == 0; i++) {
		assert_true(i < 2000);
		rig_sleep_ms(10);
	}
	rig_sleep_ms(300);
	assert_in_range(metrics_value(x->metrics, METRIC_UPSTREAM_RECEIVED, 0, 0, 0), 1, 256 * 1024);
	assert_int_equal(rig_drain(r, &out), 0);
	assert_int_equal(out.len, BIG_BYTES);
	assert_memory_equal(out.bytes, x->big, BIG_BYTES);
}

static void news_wake_the_one_who_waits_once(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start(x, "GET", "/silent", NULL);
	SCOPED(relay_free) struct relay *ok = rig_start(x, "GET", "/ok", NULL);
	struct listener l = { 0 };
	const struct headers *headers;
	int64_t length;
	char byte;
	int status;

	waiter_init(&l.waiter, listener_wake);
	assert_int_equal(relay_head(r, &status, &headers, &length), -EAGAIN);
	assert_int_equal(relay_read(r, &byte, 1), -EAGAIN);
	assert_true(relay_wait(r, false, &l.waiter));
	waiter_cancel(&l.waiter);
	assert_int_equal(atomic_load(&l.wakes), 0);
	rig_wait_for_news(ok, false);
	assert_false(relay_wait(ok, false, &l.waiter)); /* the head was not taken yet */
}

/* --- many ----------------------------------------------------------------------------------------------- */

/* Each is left at another time; whatever was running must end without anybody. */
static void can_be_freed_at_any_time(void **state)
{
	static const char *const targets[] = { "/big", "/silent", "/ok", "/short" };
	struct fixture *x = *state;

	for (unsigned i = 0; i < 120; i++) {
		struct relay *r = i % 5 ? rig_start(x, "GET", targets[i % 4], NULL)
					: rig_start_upload(x, "/upload/slow", -1);
		char piece[5000];

		if (i % 3 == 0)
			rig_sleep_ms(i % 7);
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
		struct relay *r = rig_start(x, "GET", table[i].target, NULL);
		struct sieve s = { .refuses = table[i].refuses, .ended = 1 };
		SCOPED_BUF out = { 0 };
		int status;

		buf_init(&out, BIG_BYTES);
		assert_int_equal(rig_head_of(r, &status), 0);
		relay_set_filter(r, &sieve, &s);
		assert_int_equal(rig_drain(r, &out), table[i].result);
		assert_int_equal(out.len, table[i].want);
		assert_int_equal(s.ended, table[i].end);
		assert_false(s.was_freed);
		relay_free(r);
		assert_true(s.was_freed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(passes_an_answer_on),
		CASE(passes_a_refusal_on_as_it_is),
		CASE(says_what_kept_the_answer_from_coming),
		CASE(a_cut_body_ends_in_an_error_after_its_bytes),
		CASE(a_slow_reader_pauses_upstream),
		CASE(news_wake_the_one_who_waits_once),
		CASE(what_a_filter_makes_of_it_comes_out),
		CASE(can_be_freed_at_any_time),
	};

	return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
