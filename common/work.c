/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work - a few threads that run short jobs in order of arrival. Promises in the door.
 *
 * Owns      its threads and the queue; a job only from work_submit() until run() is entered.
 * Threads   submit from any, also from inside run(); lock rank WORK.
 */
#include "common/work.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/alloc.h"
#include "common/lock.h"
#include "common/log.h"

#include "common/banned.h"

/* The kernel keeps 15 bytes of a thread's name. */
#define THREAD_NAME_MAX 16

struct work {
	struct lock lock;
	pthread_cond_t changed;
	struct list queue;    /* guarded by lock */
	bool is_stopping;     /* guarded by lock */
	unsigned named_count; /* guarded by lock */
	char name[THREAD_NAME_MAX];
	unsigned thread_count;
	pthread_t threads[];
};

/* The next job, or NULL when there is none and none will come. */
static struct job *next_job(struct work *w)
{
	SCOPED_LOCK(&w->lock);
	struct job *job;

	while (list_is_empty(&w->queue) && !w->is_stopping)
		pthread_cond_wait(&w->changed, &w->lock.mutex);
	if (list_is_empty(&w->queue))
		return NULL;
	job = LIST_ENTRY(w->queue.next, struct job, node);
	list_remove(&job->node);
	return job;
}

/* A thread names itself, so that no job ever runs under another name. */
static void name_thread(struct work *w)
{
	SCOPED_LOCK(&w->lock);
	char name[THREAD_NAME_MAX];

	(void)snprintf(name, sizeof(name), "%.12s-%u", w->name, w->named_count++ % 100);
	(void)pthread_setname_np(pthread_self(), name); /* only for people who look */
}

static void *run_jobs(void *p)
{
	struct work *w = p;
	struct job *job;

	name_thread(w);
	/* A job that submits another during the stop is safe: this thread comes back here and finds it. */
	while ((job = next_job(w)))
		job->run(job);
	return NULL;
}

static int start_thread(struct work *w)
{
	sigset_t all, before;
	int r;

	/* signals are the main thread's business */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->threads[w->thread_count], NULL, run_jobs, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return -r;
	w->thread_count++;
	return 0;
}

struct work *work_new(unsigned threads, const char *thread_name)
{
	struct work *w = xcalloc(1, sizeof(*w) + threads * sizeof(w->threads[0]));

	assert(threads > 0);
	lock_init(&w->lock, LOCK_WORK);
	pthread_cond_init(&w->changed, NULL);
	list_init(&w->queue);
	(void)snprintf(w->name, sizeof(w->name), "%s", thread_name);
	while (w->thread_count < threads) {
		int r = start_thread(w);

		if (r == 0)
			continue;
		log_warning("work", "fewer threads than asked for", LOG_TEXT("name", thread_name),
			    LOG_U64("threads", w->thread_count), LOG_ERR("error", r), LOG_END);
		break;
	}
	if (w->thread_count == 0) {
		work_free(w);
		return NULL;
	}
	return w;
}

void work_free(struct work *w)
{
	if (!w)
		return;
	lock_take(&w->lock);
	w->is_stopping = true;
	pthread_cond_broadcast(&w->changed);
	lock_drop(&w->lock);
	for (unsigned i = 0; i < w->thread_count; i++)
		pthread_join(w->threads[i], NULL);
	assert(list_is_empty(&w->queue)); /* promise 1 */
	pthread_cond_destroy(&w->changed);
	lock_done(&w->lock);
	free(w);
}

void work_submit(struct work *w, struct job *job)
{
	SCOPED_LOCK(&w->lock);

	list_add_tail(&w->queue, &job->node);
	pthread_cond_signal(&w->changed);
}
