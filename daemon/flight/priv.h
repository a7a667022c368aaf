/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight/priv - the room's inside.
 *
 *   any thread       flights.c   the table: join, retire, the end of everything; what counts as busy
 *   any thread       reader.c    what a reader may have, and how it waits
 *   any thread       settle.c    whether a reader needs anything of upstream
 *   fetch thread     flight.c    the turn: which transfers are needed; the clock's tick; the end
 *   fetch thread     failure.c   what a failed transfer means
 *   fetch thread     segment.c   one transfer of a byte range;  staging.c  its bytes on their way into the part
 *   fetch thread     slots.c     how many transfers run over all flights
 *   work threads     jobs.c      opening, hashing, emptying and closing the part; one job of a flight at once
 *   work threads     room.c      room in the store, before anything is asked for
 *   pure             plan.c      which gap to ask for next;  head.c  does an answer's head agree
 *
 * One flight, by lock and thread:
 *   `lock` guards what is marked so; it is never held over I/O, nor while somebody else's function runs.
 * Counts of references: the table, each reader, each segment, the running job, each call handed to the
 * fetch thread,
 *   and the keeper's answer. A flight that nobody refers to is gone.
 */
#pragma once
#include <stdatomic.h>

#include "common/clock.h"
#include "common/list.h"
#include "common/lock.h"
#include "common/map.h"
#include "common/shares.h"
#include "flight/flight.h"
#include "flight/head.h"
#include "flight/plan.h"
#include "metrics/metrics.h"

/* More than anybody has seen at once; the bound keeps memory and descriptors in hand (P10). */
#define FLIGHTS_MAX 1024
#define FLIGHT_READERS_MAX 4096
/* Transfers of one flight: what 16 parallel readers of one file can use, and what a Hub takes without
 * complaint. */
#define FLIGHT_TRANSFERS_MAX 8
/*
 * Transfers over all flights. Each takes up to STAGING_BYTES and a connection with its buffers, so 256 are a
 * quarter of a GiB and half of the descriptors and connections that fetch allows itself; the other half stays
 * for questions to the Hub and for relays. 32 files with all their transfers, or 256 with one each, share
 * the line; more at once would make each slower and none earlier.
 */
#define TRANSFERS_MAX 256
/* A refill of a part that turned out wrong is done once; a change of the validator may come twice. */
#define FLIGHT_RESETS_MAX 2
/* Bytes are gathered up to this before they are written: pieces of 16 KiB cost twice the CPU
 * (performance.md 4.2). */
#define STAGING_BYTES (1u << 20)
/* ... but the first bytes, and those of a slow transfer, are never kept waiting. */
#define FIRST_BYTES (64u << 10)
#define FLUSH_MS 20
/*
 * The small start (B22): a transfer is not read further than this ahead of its readers until one of them
 * has taken
 * FIRST_BYTES, or all that it wanted. A client that hangs up after the head then costs next to nothing.
 */
#define SMALL_START_BYTES (128u << 10)
/*
 * What a socket takes says little about a client that is known to leave: it also has to ask for more so long after its head
 * went out. Until then no more than FIRST_BYTES count as taken.
 */
#define LEAVE_MS 250
/* No reader waits longer without a byte or an error (U12: 60 s). */
#define READER_WAIT_MS_MAX 55000
/* The tail is let go so long after the digest matched, even if the disk is still busy. */
#define TAIL_MS_MAX 2000
/* A join that comes so soon after a landing only saw an index that was older than its answer. */
#define LANDED_MS 100
#define LANDED_COUNT 64

enum flight_state {
	FLIGHT_WAITING, /* for room and its part */
	FLIGHT_ASKING,  /* no answer has agreed yet */
	FLIGHT_FILLING,
	FLIGHT_VERIFYING, /* every byte is held */
	FLIGHT_LANDED,
	FLIGHT_FAILED,
};

/* Where to ask, and on whose behalf. Shared by count: its reader and the segments that use it. */
struct source {
	atomic_uint refs;
	char *target, *location, *commit, *label; /* owned; never NULL */
	char *who;                                /* owned: the client's address */
	struct secret *token;                     /* shared */
	bool is_location_spent; /* fetch thread: it was refused, target is asked from now on */
	bool is_refused;        /* guarded by the flight's lock */
	int status, error;      /* of the refusal; guarded by the flight's lock */
};
struct source *source_new(const struct flight_source *from);
struct source *source_ref(struct source *s);
struct source *source_unref(struct source *s);
DEFINE_SCOPE(struct source *, source_unref);

struct reader {
	struct flight *flight;    /* shared */
	struct list node;         /* guarded by the flight's lock, as all below */
	struct byte_range range;  /* constant: what will be sent */
	struct byte_range wanted; /* constant: what is fetched for it */
	bool is_whole;            /* constant */
	bool is_small_range;      /* a range of a small file, for which all of it is fetched */
	bool is_held_back;        /* its tail waits for the digest */
	bool may_leave;           /* constant */
	uint64_t stays_mono_ms;   /* with may_leave: who asks for more after it stays; 0: its head is not out */
	bool has_stayed;
	bool has_joined;          /* constant */
	struct source *source;    /* shared */
	uint64_t at;              /* the furthest offset it has asked for */
	bool is_settled;          /* it is known whether it needs anything of upstream; only then it counts */
	bool is_held;             /* all that it will send is held: nothing is asked for it */
	bool has_room; /* all that is fetched for it is reserved: nothing is asked for, or begun, before */
	bool is_started, is_fed;
	int error;
	uint64_t waiting_mono_ms; /* since when it has nothing to send; 0: it has */
};

struct segment {
	struct flight *flight;           /* shared */
	struct source *source;           /* shared */
	struct transfer *transfer;       /* shared; NULL until fetch_start() returned */
	unsigned refs;                   /* fetch thread */
	struct list node;                /* guarded by the flight's lock */
	uint64_t asked_first, asked_end; /* the range in the request; all, when upstream sends all */
	bool is_ranged;                  /* constant: the request had a Range field */
	bool is_at_location;             /* constant: it began at the address that came with its source */
	/* guarded by the flight's lock for others, written by the fetch thread */
	uint64_t flushed;     /* everything before it, from its first byte on, is in the part */
	uint64_t stop;        /* it goes no further than this */
	uint64_t bytes_per_s; /* 0: not known yet */
	bool has_agreed;      /* its head was right */
	/* fetch thread */
	uint64_t pos, body_end; /* the next byte that comes; where the body ends */
	uint64_t room_end;      /* room is known to reach from pos up to here */
	unsigned char *staging; /* owned */
	size_t staged, staging_room;
	uint64_t received, flushed_bytes, head_mono_ms, flush_mono_ms;
	bool is_paused, is_cancelled, is_complete, is_off;
	bool is_other_version; /* its validator is not the one that the part came with */
	bool is_hub_hop;       /* who gave the last answer */
	int status, error;     /* why it was broken off by us; 0: it was not */
	int64_t retry_after_ms;
};

enum flight_job { JOB_NONE, JOB_OPEN, JOB_ROOM, JOB_HASH, JOB_RESET, JOB_CLOSE };

struct flight {
	struct flights *all; /* shared */
	atomic_uint refs;
	struct content_id id;           /* constant */
	char key[CONTENT_HEX_MAX + 24]; /* constant */
	char *who;                      /* owned, constant: the address of who began it */
	struct waiters waiters;

	struct lock lock;
	/* guarded by lock */
	enum flight_state state;
	int error, status;   /* of FAILED */
	bool is_in_table;    /* guarded by the table's lock */
	uint64_t news;       /* counts what readers may want to hear of */
	uint64_t generation; /* counts how often the part was emptied */
	struct list readers; /* in order of arrival */
	unsigned reader_count, fed_count, started_count;
	struct list segments;
	unsigned segment_count;
	uint64_t prefix; /* held without a gap from 0 on */
	uint64_t held;   /* all bytes held */
	bool is_turn_posted;
	bool is_tail_free; /* the digest matched and the wait for the disk is over */
	bool has_whole;    /* somebody wanted everything, and it is still worth it */
	bool has_small_range; /* a range of a small file began it: more of them will come, so it goes on by itself */
	bool is_off;          /* the small start is over */
	bool wants_reset;
	bool is_dropping; /* the part is to be deleted when it is closed */
	unsigned resets;
	struct source *source; /* shared: the last one used, for when all readers have left */
	struct part *part;     /* shared; NULL before it is open and after it was closed */
	unsigned part_users;   /* who looks at it, besides transfers and jobs: it is not closed meanwhile */
	int fd; /* owned, set once: the readers' own descriptor of the part, good after its end */
	bool is_job_running;
	bool wants_open;
	bool wants_room;    /* there may be a reader without room */
	bool has_all_room;  /* there is room for the whole file */
	bool is_from_start; /* upstream sent all of the file once: room is needed from its first byte on */
	bool is_room_asked; /* somebody frees bytes for room_asked and will call */
	struct byte_range room_asked;
	unsigned open_tries, room_tries;
	bool is_in_line;               /* it waits for a slot */
	bool is_verified, is_from_hub; /* the digest matched; who sent the last bytes */
	unsigned mismatches;

	/* the job's, that is: of one thread at a time */
	struct job job;
	struct hasher *hasher;      /* owned */
	unsigned char *hash_buffer; /* owned */
	uint64_t hashed;            /* written by the job, under lock */
	struct blob_meta meta;

	/* fetch thread */
	unsigned attempts, renewals; /* failures, and refused addresses, since the last progress */
	uint64_t progress;           /* bytes since the last failure */
	uint64_t again_mono_ms;      /* nothing is started before */
	uint64_t checkpoint_mono_ms;
	bool is_flush_armed, is_tick_armed, are_ranges_ignored;
	struct list in_line; /* in flights->line */
	unsigned slots;      /* given to it in line, for its next turn */
	bool wants_slot;     /* in this turn */
};

struct landed {
	char key[CONTENT_HEX_MAX + 24];
	uint64_t mono_ms;
};

struct flights {
	struct flights_opts opts; /* constant */
	atomic_uint refs;
	struct lock lock;
	pthread_cond_t idle; /* nothing is busy */
	/* guarded by lock */
	struct map *by_key;
	struct shares places; /* in by_key, of who began it */
	unsigned busy;        /* segments, jobs and answers that are still to come */
	bool is_ending;
	struct landed landed[LANDED_COUNT];
	unsigned landed_next;

	/* fetch thread */
	struct shares running; /* slots that are taken */
	struct list line;      /* of struct flight.in_line */
};

/* --- flights.c --- */

struct flights *flights_ref(struct flights *f);
void flights_unref(struct flights *f);
void flights_busy(struct flights *f);
void flights_not_busy(struct flights *f);
struct flight *flight_ref(struct flight *fl);
void flight_unref(struct flight *fl);
/* Takes it out of the table, if it is in it; when it landed, the name is remembered for a moment. */
void flight_leave_table(struct flight *fl, bool has_landed);
/* Out of the table, unless a reader has come meanwhile. Returns whether it is out. */
bool flight_retire(struct flight *fl);
/* To be called after fl->news was counted up. No lock held. */
static inline void flight_wake(struct flight *fl)
{
	waiters_wake_all(&fl->waiters);
}
static inline uint64_t flight_now(const struct flight *fl)
{
	return clock_mono_ms(fl->all->opts.clock);
}

/* The furthest offset that it has taken in earnest. The flight's lock. */
static inline uint64_t reader_taken_locked(const struct reader *r)
{
	bool is_leaving = r->may_leave && !r->has_stayed;
	uint64_t most = r->range.first + FIRST_BYTES - 1;

	return is_leaving && r->at > most ? most : r->at;
}

/* --- flight.c --- */

/* Any thread. */
void flight_post_turn(struct flight *fl);
/* The end, once: readers get error (0: LANDED). Any thread. */
void flight_end(struct flight *fl, enum flight_state state, int error, int status, bool drop_part);
static inline bool flight_is_over_locked(const struct flight *fl)
{
	return fl->state == FLIGHT_LANDED || fl->state == FLIGHT_FAILED;
}
/* For fetch_call(); takes over a reference of the flight. */
void flight_on_turn(void *ctx);
const char *flight_state_name(enum flight_state state);

/* --- settle.c --- */

/* Looks what of the part each new reader needs. Nothing happens before the part is open. Any thread but under the lock. */
void flight_settle(struct flight *fl);
/* The part is empty now: what was held is needed. To be followed by flight_settle(). */
void flight_unsettle_locked(struct flight *fl);
/* What is missing will not come: who needs it is told, and the flight ends if that is everybody. Fetch thread. */
void flight_give_up(struct flight *fl, int error, int status);

/* --- failure.c; fetch thread --- */

/* A segment is out of the list; what now? */
void flight_segment_ended(struct flight *fl, struct segment *s, int error);

/* --- segment.c; fetch thread --- */

/* Begins a transfer of range; adds it to fl->segments. */
void segment_start(struct flight *fl, struct source *source, struct byte_range range);
void segment_cancel(struct segment *s);
/* Nobody needs more of it. One whose body is all there ends by itself in a moment, and leaves its connection to the next. */
void segment_let_go(struct segment *s);
void segment_continue(struct segment *s);

/* --- staging.c; fetch thread --- */

/* Takes the next bytes. Returns 0 or -EIO (any failure of the disk). */
int segment_stage(struct segment *s, const unsigned char *bytes, size_t len);
/* Writes what it has gathered: nothing is staged any more. Returns 0 or -EIO. */
int segment_flush(struct segment *s);
/* Writes what has waited for so long. Returns whether something still waits. */
bool segments_flush(struct flight *fl, uint64_t waited_ms);

/* --- slots.c; fetch thread --- */

/* May the flight begin one more transfer? If not, it stands in line, and its turn comes with a slot. */
bool slot_take(struct flight *fl);
/* The transfer has ended. */
void slot_free(struct flight *fl);
/* Gives on what the turn did not use, and leaves the line if the turn wanted nothing. */
void slots_end_turn(struct flight *fl);

/* --- room.c --- */

/* A job: room for one reader that has none. */
void flight_run_room(struct flight *fl);
/* Upstream sends all of the file. Fetch thread. */
void flight_take_from_start(struct flight *fl);

/* --- jobs.c --- */

/* Starts the job that is due, if none runs. Any thread, no lock held. */
void flight_kick_job(struct flight *fl);
/*
 * The part, not to be closed until flight_leave_part(); NULL if there is none. A reference would not do: the
 * last one waits for the disk, and must be a job's.
 */
struct part *flight_use_part_locked(struct flight *fl);
void flight_leave_part(struct flight *fl);
