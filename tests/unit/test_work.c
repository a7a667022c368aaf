/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that each job runs once, in order, on named threads, and that the end waits for all of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/work.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"

#define JOBS 2000

struct numbered {
	struct job job;
	atomic_uint runs;
	unsigned started_as;
	char thread_name[16];
};

static atomic_uint started;
static struct numbered jobs[JOBS];

static void note_run(struct job *job)
{
	struct numbered *n = LIST_ENTRY(job, struct numbered, job);

	n->started_as = atomic_fetch_add(&started, 1);
	atomic_fetch_add(&n->runs, 1);
	pthread_getname_np(pthread_self(), n->thread_name, sizeof(n->thread_name));
}

static void prepare(void)
{
	memset(jobs, 0, sizeof(jobs));
	atomic_store(&started, 0);
	for (unsigned i = 0; i < JOBS; i++)
		jobs[i].job.run = note_run;
}

static void runs_each_job_once_and_all_before_the_end(void **state)
{
	struct work *w = work_new(4, "hash");

	prepare();
	for (unsigned i = 0; i < JOBS; i++)
		work_submit(w, &jobs[i].job);
	work_free(w); /* at once: most have not run yet */
	for (unsigned i = 0; i < JOBS; i++)
		assert_int_equal(atomic_load(&jobs[i].runs), 1);
}

static void one_thread_keeps_the_order_and_has_a_name(void **state)
{
	struct work *w = work_new(1, "hash");

	prepare();
	for (unsigned i = 0; i < JOBS; i++)
		work_submit(w, &jobs[i].job);
	work_free(w);
	for (unsigned i = 0; i < JOBS; i++)
		assert_int_equal(jobs[i].started_as, i);
}

static void threads_carry_their_name_and_a_number(void **state)
{
	struct work *w = work_new(1, "a-very-long-name");

	prepare();
	work_submit(w, &jobs[0].job);
	work_free(w);
	assert_string_equal(jobs[0].thread_name, "a-very-long--0");
}

struct again {
	struct job job;
	struct work *work;
	unsigned left;
	atomic_uint *done;
};

static void submit_again(struct job *job)
{
	struct again *a = LIST_ENTRY(job, struct again, job);

	if (a->left-- > 0) {
		work_submit(a->work, job);
		return;
	}
	atomic_fetch_add(a->done, 1);
	free(a);
}

static void a_job_may_submit_itself_again_and_free_itself_also_during_the_end(void **state)
{
	struct work *w = work_new(3, "again");
	atomic_uint done = 0;

	for (int i = 0; i < 20; i++) {
		struct again *a = xcalloc(1, sizeof(*a));

		*a = (struct again){ .job = { .run = submit_again }, .work = w, .left = 200, .done = &done };
		work_submit(w, &a->job);
	}
	work_free(w);
	assert_int_equal(atomic_load(&done), 20);
}

static void ends_without_jobs_and_without_work(void **state)
{
	work_free(work_new(2, "idle"));
	work_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_each_job_once_and_all_before_the_end),
		cmocka_unit_test(one_thread_keeps_the_order_and_has_a_name),
		cmocka_unit_test(threads_carry_their_name_and_a_number),
		cmocka_unit_test(a_job_may_submit_itself_again_and_free_itself_also_during_the_end),
		cmocka_unit_test(ends_without_jobs_and_without_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
