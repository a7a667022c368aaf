/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the promises of cast against a scripted server: one call for all who ask the same, all of it for every ear, kept
 * before the end is heard, never a clean end of what broke, bounded memory.
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

#include "cast/cast.h"
#include "common/alloc.h"
#include "common/clock.h"
#include "common/list.h"
#include "metrics/metrics.h"
#include "upstream.h"

#define EARS 50
#define EVENTS 40
#define LONG_BYTES (4u << 20)

struct fixture {
	struct upstream *up;
	struct fetch *fetch;
	struct work *work;
	struct metrics *metrics;
	struct casts *casts;
	atomic_uint ended, freed;
	atomic_bool is_open; /* what waits at the gate may go on */
	pthread_mutex_t mutex;
	struct buf kept, uploaded; /* guarded by mutex */
};

static void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&t, NULL);
}

static void wait_at_gate(struct fixture *x, struct upstream_call *c)
{
	for (unsigned i = 0; i < 1000 && !atomic_load(&x->is_open); i++)
		upstream_sleep(c, 10);
}

static void send_events(struct fixture *x, struct upstream_call *c, unsigned count)
{
	if (!upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
			     "chunked\r\n\r\n"))
		return;
	for (unsigned i = 0; i < count; i++) {
		if (!upstream_send(c, "9\r\ndata: 1\n\n\r\n", 14))
			return;
		if (i == count / 2)
			wait_at_gate(x, c);
	}
}

static void send_long(struct upstream_call *c)
{
	char piece[4096];

	memset(piece, 'x', sizeof(piece));
	if (!upstream_say(c, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", LONG_BYTES))
		return;
	for (size_t at = 0; at < LONG_BYTES; at += sizeof(piece))
		if (!upstream_send(c, piece, sizeof(piece)))
			return;
}

static void answer(void *ctx, struct upstream_call *c)
{
	struct fixture *x = ctx;
	SCOPED_BUF body;

	buf_init(&body, LONG_BYTES);
	if (strcmp(c->method, "POST") == 0 && upstream_read_body(c, &body)) {
		pthread_mutex_lock(&x->mutex);
		buf_reset(&x->uploaded);
		buf_append_str(&x->uploaded, buf_str(&body));
		pthread_mutex_unlock(&x->mutex);
	}
	if (strcmp(c->target, "/stream") == 0) {
		send_events(x, c, EVENTS);
		(void)upstream_send(c, "0\r\n\r\n", 5);
	} else if (strcmp(c->target, "/cut") == 0) {
		send_events(x, c, EVENTS);
		c->close = true;
	} else if (strcmp(c->target, "/long") == 0) {
		send_long(c);
	} else if (strcmp(c->target, "/error") == 0) {
		upstream_reply(c, 422, "Content-Type: text/plain\r\n", "no");
	} else if (strcmp(c->target, "/silent") == 0) {
		wait_at_gate(x, c);
		upstream_reply(c, 200, "", "late");
	} else {
		wait_at_gate(x, c);
		upstream_reply(c, 200, "X-Sha: 1\r\n", "{\"answer\":42}");
	}
}

static int set_up(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));
	struct fetch_opts opts = { .connect_timeout_ms = 10000, .clock = &clock_system };

	pthread_mutex_init(&x->mutex, NULL);
	buf_init(&x->kept, LONG_BYTES);
	buf_init(&x->uploaded, LONG_BYTES);
	x->metrics = metrics_new();
	x->up = upstream_new(answer, x);
	opts.hub_url = upstream_url(x->up);
	opts.metrics = x->metrics;
	assert_int_equal(fetch_new(&opts, &x->fetch), 0);
	x->work = work_new(2, "work");
	x->casts = casts_new(&(struct casts_opts){
		.fetch = x->fetch, .work = x->work, .metrics = x->metrics, .clock = &clock_system });
	*state = x;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *x = *state;

	atomic_store(&x->is_open, true);
	casts_free(x->casts);
	fetch_free(x->fetch);
	work_free(x->work);
	upstream_free(x->up);
	metrics_free(x->metrics);
	buf_done(&x->kept);
	buf_done(&x->uploaded);
	pthread_mutex_destroy(&x->mutex);
	free(x);
	return 0;
}

static void on_ended(void *ctx, const struct cast_answer *a)
{
	struct fixture *x = ctx;

	pthread_mutex_lock(&x->mutex);
	buf_reset(&x->kept);
	buf_append_str(&x->kept, a->body);
	pthread_mutex_unlock(&x->mutex);
	atomic_fetch_add(&x->ended, 1);
}

static void on_free(void *ctx)
{
	struct fixture *x = ctx;

	atomic_fetch_add(&x->freed, 1);
}

static struct cast_query query_of(struct fixture *x, const char *target)
{
	return (struct cast_query){ .origin = FETCH_HUB,
				    .method = "POST",
				    .target = str_from(target),
				    .answer_max = 1 << 20,
				    .ended = on_ended,
				    .ctx = x,
				    .free_ctx = on_free };
}

static struct ear *join(struct fixture *x, const char *key, const struct cast_query *q)
{
	struct ear *e = NULL;

	assert_int_equal(cast_join(x->casts, str_from(key), q, &e), 0);
	return e;
}

struct sleeper {
	struct waiter waiter;
	atomic_uint wakes;
};

static void on_wake(struct waiter *w)
{
	struct sleeper *s = LIST_ENTRY(w, struct sleeper, waiter);

	atomic_fetch_add(&s->wakes, 1);
}

static void wait_for_news(struct ear *e)
{
	struct sleeper s = { 0 };

	waiter_init(&s.waiter, on_wake);
	if (ear_wait(e, &s.waiter))
		for (unsigned i = 0; !atomic_load(&s.wakes); i++) {
			assert_true(i < 100000);
			sleep_ms(1);
		}
	waiter_cancel(&s.waiter);
}

static int head_of(struct ear *e)
{
	const struct headers *fields;
	int64_t length;
	int status, r;

	while ((r = ear_head(e, &status, &fields, &length)) == -EAGAIN)
		wait_for_news(e);
	return r < 0 ? r : status;
}

/* Everything until the end; returns what ended it. */
static int hear(struct ear *e, struct buf *out)
{
	char piece[777];
	ssize_t n;

	for (;;) {
		n = ear_read(e, piece, sizeof(piece));
		if (n > 0)
			buf_append(out, piece, (size_t)n);
		else if (n != -EAGAIN)
			return (int)n;
		else
			wait_for_news(e);
	}
}

static void equal_calls_are_one_call(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/json");
	struct ear *ears[EARS];

	for (unsigned i = 0; i < EARS; i++)
		ears[i] = join(x, "key", &q);
	atomic_store(&x->is_open, true);
	for (unsigned i = 0; i < EARS; i++) {
		SCOPED_BUF out;

		buf_init(&out, 1 << 20);
		assert_int_equal(ear_has_joined(ears[i]), i > 0);
		assert_int_equal(head_of(ears[i]), 200);
		assert_int_equal(hear(ears[i], &out), 0);
		assert_true(str_eq(buf_str(&out), STR("{\"answer\":42}")));
		ear_free(ears[i]);
	}
	assert_int_equal(upstream_requests(x->up), 1);
	assert_int_equal(atomic_load(&x->ended), 1);
}

static void without_a_key_nobody_joins(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/json");
	struct ear *a = join(x, "", &q), *b = join(x, "", &q);
	SCOPED_BUF out;

	buf_init(&out, 1 << 20);
	atomic_store(&x->is_open, true);
	assert_false(ear_has_joined(b));
	assert_int_equal(hear(a, &out), 0);
	assert_int_equal(hear(b, &out), 0);
	ear_free(a);
	ear_free(b);
	assert_int_equal(upstream_requests(x->up), 2);
}

static void who_joins_late_hears_all_of_it(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/stream");
	struct ear *first = join(x, "key", &q), *late;
	SCOPED_BUF a, b;
	char byte;

	buf_init(&a, 1 << 20);
	buf_init(&b, 1 << 20);
	while (ear_read(first, &byte, 1) == -EAGAIN)
		wait_for_news(first);
	buf_append_char(&a, byte);
	late = join(x, "key", &q);
	assert_true(ear_has_joined(late));
	atomic_store(&x->is_open, true);
	assert_int_equal(hear(first, &a), 0);
	assert_int_equal(hear(late, &b), 0);
	assert_int_equal(a.len, 9 * EVENTS);
	assert_true(str_eq(buf_str(&a), buf_str(&b)));
	ear_free(first);
	ear_free(late);
	assert_int_equal(upstream_requests(x->up), 1);
}

static void it_is_kept_before_the_end_is_heard(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/json");

	atomic_store(&x->is_open, true);
	for (unsigned i = 1; i <= 20; i++) {
		struct ear *e = join(x, "key", &q);
		SCOPED_BUF out;

		buf_init(&out, 1 << 20);
		while (out.len < 13) { /* the last byte is heard: the answer is kept */
			char byte;
			ssize_t n = ear_read(e, &byte, 1);

			if (n == 1)
				buf_append_char(&out, byte);
			else
				wait_for_news(e);
		}
		assert_int_equal(atomic_load(&x->ended), i);
		ear_free(e);
	}
}

static void what_breaks_has_no_clean_end_and_is_not_kept(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/cut");
	struct ear *a = join(x, "key", &q), *b = join(x, "key", &q);
	SCOPED_BUF out;

	buf_init(&out, 1 << 20);
	atomic_store(&x->is_open, true);
	assert_true(hear(a, &out) < 0);
	assert_true(hear(b, &out) < 0);
	assert_int_equal(out.len, 2 * 9 * EVENTS);
	ear_free(a);
	ear_free(b);
	assert_int_equal(atomic_load(&x->ended), 0);
	/* and the next one is a new call */
	a = join(x, "key", &q);
	assert_false(ear_has_joined(a));
	ear_free(a);
}

static void nobody_left_lets_upstream_go(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/silent");
	struct ear *a = join(x, "key", &q), *b = join(x, "key", &q);

	ear_free(a);
	ear_free(b);
	for (unsigned i = 0; atomic_load(&x->freed) < 2; i++) {
		assert_true(i < 10000);
		sleep_ms(1);
	}
	assert_int_equal(atomic_load(&x->ended), 0);
}

static void one_that_shall_finish_does_so_alone(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/silent");

	q.finish_alone = true;
	ear_free(join(x, "key", &q));
	atomic_store(&x->is_open, true);
	for (unsigned i = 0; atomic_load(&x->ended) < 1; i++) {
		assert_true(i < 10000);
		sleep_ms(1);
	}
}

static void what_is_too_long_passes_and_is_not_kept(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/long");
	struct ear *e = join(x, "key", &q), *other;
	SCOPED_BUF out;
	int r = -EAGAIN;

	buf_init(&out, LONG_BYTES);
	while (r == -EAGAIN && out.len < LONG_BYTES / 2) {
		char piece[4096];
		ssize_t n = ear_read(e, piece, sizeof(piece));

		if (n > 0)
			buf_append(&out, piece, (size_t)n);
		else
			wait_for_news(e);
	}
	other = join(x, "key", &q);
	assert_false(ear_has_joined(other));
	ear_free(other);
	assert_int_equal(hear(e, &out), 0);
	assert_int_equal(out.len, LONG_BYTES);
	ear_free(e);
	assert_int_equal(atomic_load(&x->ended), 0);
}

#define ROUNDS 150
#define ASKERS 6

/* Callers who look whether an answer is kept, and if not ask for it: as the handlers do. */
struct race {
	struct fixture *x;
	struct race_round {
		atomic_bool is_kept;
	} rounds[ROUNDS];
	pthread_barrier_t start;
	atomic_uint askers;
	atomic_uint wrong; /* cmocka's assertions are for its own thread only */
};

static void keep_round(void *ctx, const struct cast_answer *a)
{
	struct race_round *r = ctx;

	atomic_store(&r->is_kept, a->status == 200);
}

static bool is_round_kept(void *asker)
{
	struct race_round *r = asker;

	return atomic_load(&r->is_kept);
}

static void ask_round(struct race *race, unsigned i, unsigned pause_ms)
{
	struct race_round *round = &race->rounds[i];
	struct cast_query q = query_of(race->x, "/json");
	struct ear *e = NULL;
	char key[16];
	int r;

	(void)snprintf(key, sizeof(key), "%u", i);
	q.ended = keep_round;
	q.ctx = round;
	q.free_ctx = NULL;
	q.is_answered = is_round_kept;
	q.asker = round;
	if (is_round_kept(round))
		return;
	sleep_ms(pause_ms); /* meanwhile the call of others may be over */
	r = cast_join(race->x->casts, str_from(key), &q, &e);
	if (r == 0) {
		SCOPED_BUF out;

		buf_init(&out, 100);
		r = hear(e, &out);
		ear_free(e);
	}
	if ((r != 0 && r != -EALREADY) || !is_round_kept(round))
		atomic_fetch_add(&race->wrong, 1);
}

static void *ask_all(void *p)
{
	struct race *race = p;
	unsigned me = atomic_fetch_add(&race->askers, 1);

	for (unsigned i = 0; i < ROUNDS; i++) {
		(void)pthread_barrier_wait(&race->start);
		ask_round(race, i, (me + i) % ASKERS / 2);
	}
	return NULL;
}

static void a_call_is_made_once_however_the_threads_meet(void **state)
{
	struct fixture *x = *state;
	struct race *race = xcalloc(1, sizeof(*race));
	pthread_t threads[ASKERS];

	race->x = x;
	atomic_store(&x->is_open, true);
	(void)pthread_barrier_init(&race->start, NULL, ASKERS);
	for (unsigned i = 0; i < ASKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_all, race), 0);
	for (unsigned i = 0; i < ASKERS; i++)
		(void)pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&race->wrong), 0);
	assert_int_equal(upstream_requests(x->up), ROUNDS);
	(void)pthread_barrier_destroy(&race->start);
	free(race);
}

static bool yes(void *asker)
{
	atomic_fetch_add((atomic_uint *)asker, 1);
	return true;
}

/* Who looked before the answer was kept, and asks after its call is over, asks nobody. */
static void what_has_been_kept_meanwhile_is_not_asked_again(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/json");
	atomic_uint asked = 0;
	struct ear *e = NULL;

	q.is_answered = yes;
	q.asker = &asked;
	assert_int_equal(cast_join(x->casts, STR("key"), &q, &e), -EALREADY);
	assert_null(e);
	assert_int_equal(atomic_load(&asked), 1);
	assert_int_equal(atomic_load(&x->freed), 1);
	assert_null(cast_hear(x->casts, STR("key")));
	/* without a key nobody has */
	atomic_store(&x->is_open, true);
	assert_int_equal(cast_join(x->casts, STR(""), &q, &e), 0);
	assert_int_equal(head_of(e), 200);
	ear_free(e);
	assert_int_equal(atomic_load(&asked), 1);
}

static void errors_are_answers_too(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/error");
	struct ear *e = join(x, "key", &q);
	SCOPED_BUF out;

	buf_init(&out, 100);
	assert_int_equal(head_of(e), 422);
	assert_int_equal(hear(e, &out), 0);
	assert_true(str_eq(buf_str(&out), STR("no")));
	ear_free(e);
}

static void the_body_goes_up(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/json");
	SCOPED(spool_unref) struct spool *body = spool_new("/tmp", 10, 1000);
	struct ear *e;
	SCOPED_BUF out;

	buf_init(&out, 1 << 20);
	atomic_store(&x->is_open, true);
	assert_int_equal(spool_append(body, "{\"inputs\":\"I love it\"}", 22), 0);
	assert_int_equal(spool_end(body), 0);
	q.body = body;
	e = join(x, "key", &q);
	assert_int_equal(hear(e, &out), 0);
	ear_free(e);
	pthread_mutex_lock(&x->mutex);
	assert_true(str_eq(buf_str(&x->uploaded), STR("{\"inputs\":\"I love it\"}")));
	pthread_mutex_unlock(&x->mutex);
}

static int shout(void *ctx, struct str piece, struct buf *out)
{
	for (size_t i = 0; i < piece.len; i++)
		buf_append_char(out, piece.ptr[i] == '4' ? '!' : piece.ptr[i]);
	return memchr(piece.ptr, '}', piece.len) ? 1 : 0;
}

static int teapot(void *ctx, int *status, struct headers *fields)
{
	*status = 418;
	return 0;
}

static void a_filter_turns_head_and_pieces(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/json");
	struct ear *e;
	SCOPED_BUF out;

	buf_init(&out, 1 << 20);
	atomic_store(&x->is_open, true);
	q.filter = (struct cast_filter){ .head = teapot, .piece = shout };
	e = join(x, "key", &q);
	assert_int_equal(head_of(e), 418);
	assert_int_equal(hear(e, &out), 0);
	assert_true(str_eq(buf_str(&out), STR("{\"answer\":!2}")));
	ear_free(e);
	assert_int_equal(atomic_load(&x->ended), 1);
}

#define EVENT_BYTES ((size_t)9)

static int half_is_all(void *ctx, struct str piece, struct buf *out)
{
	buf_append_str(out, piece);
	return out->len >= EVENT_BYTES * (EVENTS / 2 + 1) ? 1 : 0;
}

/* Upstream stands at the gate all the while. */
static void what_is_whole_is_over_whatever_the_connection_does(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/stream");
	struct ear *e;
	SCOPED_BUF out;

	buf_init(&out, 1 << 20);
	q.filter = (struct cast_filter){ .piece = half_is_all, .keeps_pieces = true };
	e = join(x, "key", &q);
	assert_int_equal(hear(e, &out), 0);
	assert_int_equal(out.len, EVENT_BYTES * (EVENTS / 2 + 1));
	assert_int_equal(atomic_load(&x->ended), 1);
	assert_false(atomic_load(&x->is_open));
	ear_free(e);
	/* and the connection is let go */
	for (unsigned i = 0; i < 5000 && !atomic_load(&x->freed); i++)
		sleep_ms(1);
	assert_int_equal(atomic_load(&x->freed), 1);
}

static int no_end(void *ctx, struct buf *out)
{
	return -EPROTO;
}

static void a_filter_may_say_that_it_was_no_whole_answer(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/stream");
	struct ear *e;
	SCOPED_BUF out;

	buf_init(&out, 1 << 20);
	atomic_store(&x->is_open, true);
	q.filter = (struct cast_filter){ .end = no_end };
	e = join(x, "key", &q);
	assert_int_equal(hear(e, &out), -EPROTO);
	ear_free(e);
	assert_int_equal(atomic_load(&x->ended), 0);
}

static void stopping_ends_what_runs(void **state)
{
	struct fixture *x = *state;
	struct cast_query q = query_of(x, "/silent");
	struct ear *e = join(x, "key", &q);
	SCOPED_BUF out;

	buf_init(&out, 100);
	casts_free(x->casts);
	assert_true(hear(e, &out) < 0);
	ear_free(e);
	x->casts = NULL;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(equal_calls_are_one_call),
		CASE(without_a_key_nobody_joins),
		CASE(who_joins_late_hears_all_of_it),
		CASE(it_is_kept_before_the_end_is_heard),
		CASE(what_breaks_has_no_clean_end_and_is_not_kept),
		CASE(nobody_left_lets_upstream_go),
		CASE(one_that_shall_finish_does_so_alone),
		CASE(what_is_too_long_passes_and_is_not_kept),
		CASE(a_call_is_made_once_however_the_threads_meet),
		CASE(what_has_been_kept_meanwhile_is_not_asked_again),
		CASE(errors_are_answers_too),
		CASE(the_body_goes_up),
		CASE(a_filter_turns_head_and_pieces),
		CASE(what_is_whole_is_over_whatever_the_connection_does),
		CASE(a_filter_may_say_that_it_was_no_whole_answer),
		CASE(stopping_ends_what_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
