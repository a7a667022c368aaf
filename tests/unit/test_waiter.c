/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a waiter is woken at most once, and never during or after its cancelling. The stress tests give
 * the thread sanitizer and the address sanitizer the races to look at: wakers, cancellers, lists and waiters
 * that are freed at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/waiter.h"

#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/alloc.h"

struct sleeper {
	struct waiter waiter;
	atomic_uint wakes;
	atomic_uint is_gone; /* set after waiter_cancel() returned */
	/* written by wake() and by the canceller without a lock: promise 2 keeps them apart */
	unsigned plain;
};

static atomic_uint wakes_after_cancel;

static void note_wake(struct waiter *w)
{
	struct sleeper *s = LIST_ENTRY(w, struct sleeper, waiter);

	if (atomic_load(&s->is_gone))
		atomic_fetch_add(&wakes_after_cancel, 1);
	s->plain++;
	atomic_fetch_add(&s->wakes, 1);
}

static void wakes_each_once_and_empties_the_list(void **state)
{
	struct sleeper a = { 0 }, b = { 0 };
	struct waiters list;

	waiters_init(&list);
	waiter_init(&a.waiter, note_wake);
	waiter_init(&b.waiter, note_wake);
	assert_true(waiters_is_empty(&list));
	waiters_add(&list, &a.waiter);
	waiters_add(&list, &b.waiter);
	assert_false(waiters_is_empty(&list));
	waiters_wake_all(&list);
	assert_true(waiters_is_empty(&list));
	waiters_wake_all(&list);
	assert_int_equal(a.wakes, 1);
	assert_int_equal(b.wakes, 1);
	waiters_done(&list);
}

static void a_cancelled_waiter_is_not_woken(void **state)
{
	struct sleeper a = { 0 }, b = { 0 };
	struct waiters list;

	waiters_init(&list);
	waiter_init(&a.waiter, note_wake);
	waiter_init(&b.waiter, note_wake);
	waiter_cancel(&a.waiter); /* never added */
	waiters_add(&list, &a.waiter);
	waiters_add(&list, &b.waiter);
	waiter_cancel(&a.waiter);
	waiter_cancel(&a.waiter);
	waiters_wake_all(&list);
	waiter_cancel(&b.waiter);
	assert_int_equal(a.wakes, 0);
	assert_int_equal(b.wakes, 1);
	waiters_done(&list);
}

static void may_wait_again_and_elsewhere_after_each_end(void **state)
{
	struct waiters first, second;
	struct sleeper s = { 0 };

	waiters_init(&first);
	waiters_init(&second);
	waiter_init(&s.waiter, note_wake);
	waiters_add(&first, &s.waiter);
	waiters_wake_all(&first);
	waiters_add(&second, &s.waiter);
	waiters_wake_all(&first);
	assert_int_equal(s.wakes, 1);
	waiter_cancel(&s.waiter);
	waiters_add(&first, &s.waiter);
	waiters_wake_all(&first);
	assert_int_equal(s.wakes, 2);
	waiters_done(&first);
	waiters_done(&second);
}

/* --- a wake() that takes its time --- */

struct slow {
	struct waiter waiter;
	sem_t entered, may_leave;
	atomic_bool has_left, has_cancelled;
};

static void wake_slowly(struct waiter *w)
{
	struct slow *s = LIST_ENTRY(w, struct slow, waiter);

	sem_post(&s->entered);
	sem_wait(&s->may_leave);
	assert_false(atomic_load(&s->has_cancelled));
	atomic_store(&s->has_left, true);
}

static void *wake_list(void *p)
{
	waiters_wake_all(p);
	return NULL;
}

static void *cancel_slow(void *p)
{
	struct slow *s = p;

	waiter_cancel(&s->waiter);
	atomic_store(&s->has_cancelled, true);
	assert_true(atomic_load(&s->has_left));
	return NULL;
}

static void cancelling_waits_for_a_wake_that_is_running(void **state)
{
	const struct timespec moment = { .tv_nsec = 20000000 };
	pthread_t waker, cancellers[2];
	struct waiters list;
	struct slow s = { 0 };

	waiters_init(&list);
	waiter_init(&s.waiter, wake_slowly);
	sem_init(&s.entered, 0, 0);
	sem_init(&s.may_leave, 0, 0);
	waiters_add(&list, &s.waiter);
	pthread_create(&waker, NULL, wake_list, &list);
	sem_wait(&s.entered);
	for (int i = 0; i < 2; i++)
		pthread_create(&cancellers[i], NULL, cancel_slow, &s);
	nanosleep(&moment, NULL); /* time to do it wrong; being right does not depend on it */
	assert_false(atomic_load(&s.has_cancelled));
	sem_post(&s.may_leave);
	pthread_join(waker, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(cancellers[i], NULL);
	assert_true(atomic_load(&s.has_cancelled));
	waiters_done(&list);
	sem_destroy(&s.entered);
	sem_destroy(&s.may_leave);
}

/* --- stress: threads that wait, cancel and free against a thread that wakes --- */

#define ROUNDS 20000
#define WAITING_THREADS 3

static struct waiters shared;
static atomic_uint waiting_threads;

static void *add_and_cancel(void *p)
{
	unsigned seed = *(unsigned *)p;

	for (unsigned i = 0; i < ROUNDS; i++) {
		/* memory of its own, so that a late touch is a touch of freed memory */
		struct sleeper *s = xcalloc(1, sizeof(*s));

		waiter_init(&s->waiter, note_wake);
		waiters_add(&shared, &s->waiter);
		seed = seed * 1103515245 + 12345;
		for (unsigned spin = seed >> 22; spin > 0; spin--)
			__asm__ volatile("");
		waiter_cancel(&s->waiter);
		atomic_store(&s->is_gone, 1);
		s->plain++; /* a race with wake() if cancel did not wait for it */
		assert_true(atomic_load(&s->wakes) <= 1);
		free(s);
	}
	atomic_fetch_sub(&waiting_threads, 1);
	return NULL;
}

static void never_wakes_during_or_after_cancelling_under_load(void **state)
{
	unsigned seeds[WAITING_THREADS] = { 1, 22, 333 };
	pthread_t threads[WAITING_THREADS];

	waiters_init(&shared);
	atomic_store(&waiting_threads, WAITING_THREADS);
	for (int i = 0; i < WAITING_THREADS; i++)
		pthread_create(&threads[i], NULL, add_and_cancel, &seeds[i]);
	while (atomic_load(&waiting_threads) > 0)
		waiters_wake_all(&shared);
	for (int i = 0; i < WAITING_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&wakes_after_cancel), 0);
	assert_true(waiters_is_empty(&shared));
	waiters_done(&shared);
}

/* --- stress: the list goes away while its waiter cancels; one waits again while it is still being woken
 * --- */

struct pair {
	struct waiters *list;
	struct waiter waiter;
	sem_t woken, start, end;
	atomic_uint wakes;
	bool is_last;
};

static void post_wake(struct waiter *w)
{
	struct pair *p = LIST_ENTRY(w, struct pair, waiter);

	atomic_fetch_add(&p->wakes, 1);
	sem_post(&p->woken); /* the owner goes on at once, while this is still on its way out */
}

static void *cancel_each_round(void *ctx)
{
	struct pair *p = ctx;

	for (;;) {
		sem_wait(&p->start);
		if (p->is_last)
			return NULL;
		waiter_cancel(&p->waiter);
		sem_post(&p->end);
	}
}

static void let_cancel_run(struct pair *p, unsigned spins)
{
	sem_post(&p->start);
	for (; spins > 0; spins--)
		__asm__ volatile("");
}

/* Returns when the canceller has won and only needs the list's lock, for which it has to get up first. */
static void let_cancel_begin(struct pair *p)
{
	uint32_t listed = atomic_load(&p->waiter.state);

	lock_take(&p->list->lock);
	sem_post(&p->start);
	while (atomic_load(&p->waiter.state) == listed)
		sched_yield();
	lock_drop(&p->list->lock);
}

static void a_list_may_be_freed_while_its_waiter_cancels(void **state)
{
	struct pair p = { 0 };
	pthread_t canceller;

	sem_init(&p.start, 0, 0);
	sem_init(&p.end, 0, 0);
	sem_init(&p.woken, 0, 0);
	waiter_init(&p.waiter, post_wake);
	pthread_create(&canceller, NULL, cancel_each_round, &p);
	for (unsigned i = 0; i < ROUNDS; i++) {
		p.list = xcalloc(1, sizeof(*p.list));
		waiters_init(p.list);
		waiters_add(p.list, &p.waiter);
		if (i % 2)
			let_cancel_run(&p, i % 512);
		else
			let_cancel_begin(&p);
		waiters_wake_all(p.list);
		waiters_done(p.list);
		free(p.list);
		sem_wait(&p.end);
	}
	p.is_last = true;
	sem_post(&p.start);
	pthread_join(canceller, NULL);
	assert_true(atomic_load(&p.wakes) <= ROUNDS);
	sem_destroy(&p.start);
	sem_destroy(&p.end);
	sem_destroy(&p.woken);
}

static void *wait_each_round(void *ctx)
{
	struct pair *p = ctx;

	for (unsigned i = 0; i < ROUNDS; i++) {
		waiters_add(p->list, &p->waiter);
		sem_wait(&p->woken);
	}
	atomic_store(&waiting_threads, 0);
	return NULL;
}

static void a_woken_one_may_wait_again_before_wake_returned(void **state)
{
	struct waiters list;
	struct pair p = { .list = &list };
	pthread_t waiting;

	waiters_init(&list);
	sem_init(&p.woken, 0, 0);
	waiter_init(&p.waiter, post_wake);
	atomic_store(&waiting_threads, 1);
	pthread_create(&waiting, NULL, wait_each_round, &p);
	while (atomic_load(&waiting_threads) > 0)
		waiters_wake_all(&list);
	pthread_join(waiting, NULL);
	waiter_cancel(&p.waiter);
	assert_int_equal(atomic_load(&p.wakes), ROUNDS);
	waiters_done(&list);
	sem_destroy(&p.woken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wakes_each_once_and_empties_the_list),
		cmocka_unit_test(a_cancelled_waiter_is_not_woken),
		cmocka_unit_test(may_wait_again_and_elsewhere_after_each_end),
		cmocka_unit_test(cancelling_waits_for_a_wake_that_is_running),
		cmocka_unit_test(never_wakes_during_or_after_cancelling_under_load),
		cmocka_unit_test(a_list_may_be_freed_while_its_waiter_cancels),
		cmocka_unit_test(a_woken_one_may_wait_again_before_wake_returned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
