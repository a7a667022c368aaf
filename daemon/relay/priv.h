/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay/priv - the room's inside: relay.c is the server's end of the pipes, ops.c the fetch thread's, verify.c
 * knows what the bytes must be.
 *
 *   client body  -> relay_write() -> [up]   -> on_need_body()  -> upstream
 *   client       <- relay_read()  <- [down] <- on_body()       <- upstream
 */
#pragma once
#include <stdatomic.h>

#include "common/shares.h"
#include "relay/pipe.h"
#include "relay/relay.h"

/*
 * Of each relay: its pipes, and what libcurl reads at once, of which it holds two while a pipe is full. While there are few, they
 * have more: for one fast reader small steps cost a tenth of the processor more.
 */
#define RELAY_PIPE_BYTES ((size_t)64 * 1024)
#define RELAY_RECEIVE_BYTES ((size_t)32 * 1024)
#define RELAYS_WIDE 8
#define RELAY_WIDE_BYTES ((size_t)256 * 1024) /* both */

struct verify {
	struct content_id want;
	struct byte_range range; /* of it; the whole has a digest, a part has none */
	bool is_part;
	char *commit;          /* owned; NULL: any */
	struct hasher *hasher; /* owned; NULL for a part */
	uint64_t body_bytes, received;
	uint64_t held_back;
	bool is_identified; /* the Hub itself named this content */
};
void verify_init(struct verify *v, const struct relay_query *q);
void verify_done(struct verify *v);
/* Each hop's head. Returns 0; -EBADMSG something else than this content; -EACCES -ENOENT -EBUSY as the Hub
 * refused. */
int verify_head(struct verify *v, const struct fetch_head *head);
/* Returns 0; -EBADMSG more than there should be. */
int verify_body(struct verify *v, const void *bytes, size_t len);
/* Returns 0; -EBADMSG. */
int verify_end(struct verify *v);

struct relays {
	struct lock lock;          /* rank RELAY; never together with that of a relay */
	struct shares places;      /* guarded by lock */
	unsigned wide;             /* likewise */
	struct fetch *fetch;       /* borrowed */
	struct metrics *metrics;   /* borrowed */
	const struct clock *clock; /* borrowed */
};

struct relay {
	atomic_uint refs;      /* the server's, and fetch's until on_done */
	struct relays *relays; /* borrowed; server side only */
	struct str who;        /* owned */
	bool is_wide;
	struct transfer *transfer;         /* shared; server side only */
	char *label;                       /* owned; method and path for the log */
	const struct relay_filter *filter; /* NULL: none; this and what follows, server side only */
	void *filter_ctx;                  /* owned */
	struct buf filtered;               /* what it made of the last piece */
	size_t filtered_at;                /* how much of that is out */
	bool is_filter_over;
	int filter_error;
	bool has_body, has_verify;
	struct verify verify; /* fetch thread only */

	struct lock lock; /* rank RELAY; guards the rest */
	struct pipe down, up;
	bool is_paused_down, is_paused_up;
	bool is_body_wanted;
	bool is_closed; /* relay_free() was called */
	bool has_head, head_was_taken, is_up_ended, is_done;
	int error;
	int status;
	int refused_status; /* of a head that verify did not let pass */
	bool is_refused_by_hub;
	struct headers headers; /* constant once has_head */
	int64_t content_length;
	uint64_t taken;    /* by relay_read() */
	uint64_t open_end; /* bytes of the answer before this offset may come out */
	struct waiters waiters;
};

extern const struct fetch_ops relay_ops;
void relay_unref(struct relay *r);
