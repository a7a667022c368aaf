/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight_rig - a real store, fetch and work threads around the flights under test, and clients that read as a server does.
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
#include "flight/flight.h"
#include "scripted_upstream.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define WINDOW (256 * KIB) /* what is fetched for one byte */

struct rig {
	struct upstream up;
	unsigned char *bytes;
	struct content_id id;
	char dir[64];
	struct metrics *metrics;
	struct fetch *fetch;
	struct store *store;
	struct work *work;
	struct flights *flights;
	atomic_uint verified, named, checkpoints, room_calls;
	atomic_bool holds_names; /* on_verified keeps the answer until rig_name() */
	atomic_int name_error;   /* instead of naming */
	atomic_bool
		has_room_after_call; /* on_need_room removes evictable; else it says that nothing can go */
	struct digest evictable[2];  /* the last one goes first */
	atomic_uint evictable_count;
	_Atomic uint64_t room_bytes; /* the most that one call asked for */
	uint64_t store_max;
	unsigned transfers_max;
	uint64_t file_size; /* of a file that repeats its bytes; 0: they are all of it */
	struct clock clock; /* of the flights: the system's, shifted */
	_Atomic uint64_t shift_ms;
	_Atomic uint64_t stopped_at_ms; /* 0: it runs */

	pthread_mutex_t lock;
	struct part *held_part; /* guarded by lock */
	struct blob_meta held_meta;
	void (*held_done)(void *ctx, int error);
	void *held_ctx;
};
void rig_start(struct rig *r, uint64_t size);
/* The rooms alone, on the same store: another run of the daemon. */
void rig_open(struct rig *r);
void rig_close(struct rig *r);
/* Nothing was synced on the fetch thread up to here. */
void rig_stop(struct rig *r);
/* The clock of the flights stands still, but for what is added to shift_ms. */
void rig_stop_clock(struct rig *r);
/* How often something waited for the disk. */
unsigned rig_synced(void);
/* Gives the name that on_verified asked for. Returns false if it was not asked yet. */
bool rig_name(struct rig *r);
bool rig_is_stored(struct rig *r);
struct store_usage rig_usage(struct rig *r);
uint64_t rig_now_us(void);
void rig_sleep_ms(unsigned ms);
/* Until the condition holds, at most 30 s; false then. */
#define RIG_WAIT(condition)                                                                                  \
	({                                                                                                   \
		bool holds_ = false;                                                                         \
		for (int i_ = 0; i_ < 3000 && !(holds_ = (condition)); i_++)                                 \
			rig_sleep_ms(10);                                                                    \
		holds_;                                                                                      \
	})

struct client {
	struct rig *rig;
	struct byte_range range;
	bool is_open;
	const struct content_id *id; /* instead of the rig's */
	const char *token;           /* Authorization, or NULL */
	const char *location;        /* where to begin, or NULL */
	bool has_no_target;          /* nothing but that */
	uint64_t leave_after;        /* stops reading after so many bytes; 0: never */
	/* results */
	int join_error, start_error, error, status;
	atomic_bool has_asked; /* client_join() is over */
	bool has_joined, is_right;
	_Atomic uint64_t got;
	_Atomic uint64_t started_us, first_us, done_us; /* 0: not yet */
	pthread_t thread;
};
int client_join(struct client *c, struct reader **ret_reader);
/* Waits as a server does. Returns reader_started()'s last word; -ETIME after 30 s. */
int client_wait_started(struct client *c, struct reader *reader);
void client_run(struct client *c);
void client_begin(struct client *c); /* in a thread */
void client_end(struct client *c);
/* All of it came, and is right. */
void assert_all_right(const struct client *c, uint64_t bytes);
/* The next reader gets the file, so nothing wrong was kept. */
void assert_next_is_right(struct rig *r);
unsigned count_storage_calls(const struct rig *r);
const struct upstream_call *last_storage_call(const struct rig *r);
