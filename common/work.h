/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work - a few threads that run short jobs in order of arrival: hashing a span, parsing an answer.
 *
 * Promises (1) each job runs exactly once, unless work_free() comes first: then it still runs before
 * work_free() returns.
 *          (2) the queue is bounded by its users: each flight and each ask has at most one job in it.
 */
#pragma once
#include "common/list.h"

struct work;

struct job {
	struct list node;
	void (*run)(struct job *); /* may free the job, or submit it again */
};

/* NULL if not a single thread could be started. Of thread_name 12 bytes are seen, "-" and a number follow. */
struct work *work_new(unsigned threads, const char *thread_name);
void work_free(struct work *w);
/* The job stays the caller's and must live until run() was entered. */
void work_submit(struct work *w, struct job *job);
