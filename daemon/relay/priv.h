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

#include "relay/pipe.h"
#include "relay/relay.h"

#define RELAY_PIPE_BYTES ((size_t)256 * 1024)

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
	struct fetch *fetch;       /* borrowed */
	struct metrics *metrics;   /* borrowed */
	const struct clock *clock; /* borrowed */
};

struct relay {
	atomic_uint refs;          /* the server's, and fetch's until on_done */
	struct transfer *transfer; /* shared; server side only */
	char *label;               /* owned; method and path for the log */
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
	struct headers headers; /* constant once has_head */
	int64_t content_length;
	uint64_t taken;    /* by relay_read() */
	uint64_t open_end; /* bytes of the answer before this offset may come out */
	struct waiters waiters;
};

extern const struct fetch_ops relay_ops;
void relay_unref(struct relay *r);
