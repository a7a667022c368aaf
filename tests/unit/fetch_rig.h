/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch_rig - a fetch with a scripted server on loopback, what becomes of one transfer, a clock that can be moved.
 *
 * getaddrinfo() is replaced: "blocked.test" does not come back until it is let go, names of other ".test" hosts are
 * loopback addresses.
 */
#pragma once
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/clock.h"
#include "fetch/fetch.h"
#include "metrics/metrics.h"
#include "upstream.h"

/* --- a clock that can be moved -------------------------------------------------------------------------- */

void rig_sleep_ms(unsigned ms);
void rig_stop_clock(void);
void rig_go_on_clock(void);

/* --- names ---------------------------------------------------------------------------------------------- */

extern atomic_bool is_name_blocked; /* "blocked.test" */
extern atomic_uint blocked_lookups; /* that hang */

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

struct got *got_new(void);
void got_free(struct got *g);

extern const struct fetch_ops got_ops;

/* Waits for *what to be at least `least`. */
void got_wait(struct got *g, const unsigned *what, unsigned least);
int got_end(struct got *g);

/* --- fixture -------------------------------------------------------------------------------------------- */

struct fixture {
	struct upstream *hub, *other;
	struct fetch *fetch;
	struct metrics *metrics;
	unsigned connect_timeout_ms; /* of what is made with rig_new_fetch() */
	pthread_mutex_t mutex;
	struct upstream_call seen; /* the last request at either; guarded by mutex */
	struct buf seen_body;      /* guarded by mutex */
};

struct fetch *rig_new_fetch(struct fixture *x, const char *hub_url, const char *const *hosts,
			    bool is_offline);
int rig_set_up(void **state);
int rig_tear_down(void **state);
struct got *got_start(struct fixture *x, struct got *g, const char *method, const char *target,
		      enum fetch_follow follow);
int got_get(struct fixture *x, struct got *g, const char *target);

/* Until the fetch thread has seen the new time: it reads the clock once in a turn, and may be in the middle of one. */
void rig_pass(struct fixture *x, unsigned ms);

/* What the server saw last. */
const char *rig_seen(struct fixture *x, const char *field);

/* --- the server's script -------------------------------------------------------------------------------- */

bool rig_is_big(const struct buf *b);
void rig_answer(void *ctx, struct upstream_call *c);

/* --- beginning elsewhere -------------------------------------------------------------------------------- */

/* With a token and a private field, and with fields that came with the address. */
struct got *got_begin_at(struct fetch *f, const char *target, const char *location,
			 const char *authorization);

#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
