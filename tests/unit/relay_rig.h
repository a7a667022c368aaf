/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay_rig - relays before a scripted Hub and another server, with known contents and a clock that can be moved.
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

#include "common/clock.h"
#include "fetch/fetch.h"
#include "metrics/metrics.h"
#include "policy/policy.h"
#include "relay/relay.h"
#include "upstream.h"

#define BIG_BYTES (3u << 20)
#define COMMIT "0123456789012345678901234567890123456789"
#define HELD_BACK (policy_held_back_bytes(BIG_BYTES))

struct fixture {
	struct upstream *hub, *cdn;
	struct fetch *fetch;
	struct metrics *metrics;
	struct relays *relays;
	char *big; /* BIG_BYTES of known bytes */
	struct content_id big_id, small_id, empty_id, regular_id;
	char big_hex[CONTENT_HEX_MAX], small_hex[CONTENT_HEX_MAX], empty_hex[CONTENT_HEX_MAX],
		regular_hex[CONTENT_HEX_MAX];
	pthread_mutex_t mutex;
	struct buf uploaded;                       /* guarded by mutex */
	atomic_bool may_continue;                  /* "/upload/continued" waits for it */
	char upload_length[32], upload_coding[32]; /* guarded by mutex */
};

/* --- a clock that can be moved -------------------------------------------------------------------------- */

extern _Atomic uint64_t rig_passed_ms;

void rig_sleep_ms(unsigned ms);

/* --- the server's script -------------------------------------------------------------------------------- */

/* Bytes 1-3 of "small", and how they are described by servers that are right, careless or lying. */
struct part_answer {
	const char *where; /* NULL: the end of the table */
	int status;
	const char *fields, *body;
};

/* The first two are right. */
extern const struct part_answer part_answers[];

/* --- fixture -------------------------------------------------------------------------------------------- */

int rig_set_up(void **state);
int rig_tear_down(void **state);

struct listener {
	struct waiter waiter;
	atomic_uint wakes;
};

void listener_wake(struct waiter *w);
void rig_wait_for_news(struct relay *r, bool want_write);
struct relay *rig_start(struct fixture *x, const char *method, const char *target,
			const struct content_id *verify);
int rig_head_of(struct relay *r, int *ret_status);

/* Reads everything; returns what ended it. */
ssize_t rig_drain(struct relay *r, struct buf *out);

/* --- uploads -------------------------------------------------------------------------------------------- */

struct relay *rig_start_upload(struct fixture *x, const char *target, int64_t bytes);

#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
