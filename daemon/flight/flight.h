/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight - one upstream transfer of one blob, watched by any number of readers.
 *
 * Owns      the table of flights (one per content id), their parts while they grow, their readers, their
 *           resumes.
 * Never     parses Hub JSON, knows status codes of our own answers, touches SQLite or names of repos other
 *           than to ask for bytes.
 * Threads   joined and read by server threads; filled by the fetch thread; hashed by work threads;
 *           finished by the keeper through opts.on_verified.
 * Life      WAITING (for its part and room) -> ASKING -> FILLING -> VERIFYING -> LANDED, and -> FAILED from
 *           each but the last.
 * Promises  (1) bytes a reader was told are ready never change.
 *           (2) a reader gets every byte of its range, or an error on which the connection must be broken;
 *               never other bytes.
 *           (3) the last policy_held_back_bytes() of a body that starts at 0 become ready only after the
 *               digest matched and the name is durable (or 2 s after the match, on a slow disk).
 *           (4) each byte is asked of upstream once, plus what a broken transfer lost (P6).
 *           (5) a flight with nobody left: a whole fill goes on to its end when at least a tenth has come, or
 *               when a range of a small file began it; else it stops and its part is kept.
 *           (6) no reader waits over 60 s without a byte or an error (U12).
 *           (7) upstream is asked for bytes only when there is room for them: for a window its own, for a
 *               whole fill the rest of the file at once. A reader begins only then.
 *           (8) at most opts.transfers_max transfers run at once; flights that want more take turns. Those that one client
 *               began have its share of them at most, and of the table (common/shares.h), however many others read them.
 */
#pragma once
#include "common/waiter.h"
#include "common/work.h"
#include "fetch/fetch.h"
#include "store/store.h"

struct flights;
struct reader;

struct flights_opts {
	struct fetch *fetch;
	struct store *store;
	struct work *work;
	struct metrics *metrics;
	const struct clock *clock;
	unsigned transfers_max; /* over all flights; 0: 256, see priv.h for why */
	/* A complete part whose digests are meta. The receiver makes it durable, tells the index, and then
	 * calls done(done_ctx, error) from any thread: 0 it is named. Takes a reference of part. */
	void (*on_verified)(void *ctx, struct part *part, const struct content_id *id,
			    const struct blob_meta *meta, void (*done)(void *done_ctx, int error),
			    void *done_ctx);
	/* So many bytes are missing for what is to be fetched next, a window or the rest of a file; the
	 * receiver frees them, no more than it must, and calls done with 0 or -ENOSPC from any thread. One
	 * call of a flight at a time. */
	void (*on_need_room)(void *ctx, uint64_t bytes, void (*done)(void *done_ctx, int error),
			     void *done_ctx);
	/* A part wants part_checkpoint(). Takes a reference. */
	void (*on_checkpoint)(void *ctx, struct part *part);
	void *ctx;
};
struct flights *flights_new(const struct flights_opts *opts);
/* Ends every flight (parts are kept), waits for its jobs. */
void flights_free(struct flights *f);

struct flight_source {
	struct str target;    /* "/acme/pub/resolve/<commit>/model.bin": path and query on the Hub's origin */
	struct str location;  /* as in struct fetch_request: begin there instead; empty: ask target */
	struct secret *token; /* of the reader that joins; used when the leader's is refused (F.2 rule 6) */
	struct str commit;    /* X-Repo-Commit that the Hub hop must repeat; empty: not checked */
	struct str label;     /* for the log: "models/acme/pub model.bin" */
	struct str who;       /* the client's address; empty: nobody */
	bool may_leave; /* this reader may hang up once it has the head: little is fetched for it in its first moment */
};
/*
 * Joins the flight of this content or starts one.
 * range    what this reader will send, within [0, want->size), not empty
 * is_open  the request said "N-" or nothing: everything to the end
 * Returns 0; -EEXIST it is stored by now: open the blob instead; -E2BIG too many flights (1024; of one client its share) or
 * readers.
 * The reader is the caller's; reader_free() is the only way out.
 */
int flight_join(struct flights *f, const struct content_id *want, const struct flight_source *source,
		struct byte_range range, bool is_open, struct reader **ret_reader);
/* What landed a moment ago is not in the store any more: the next to join begins afresh instead of hearing -EEXIST. */
void flight_forget_landed(struct flights *f, const struct content_id *want);
void reader_free(struct reader *r);
DEFINE_SCOPE(struct reader *, reader_free);

/*
 * Has the answer begun? Called before a head is sent, so that a failure can still become a status.
 * Returns 0 bytes of this range are ready (or its upstream answer has begun and agreed), and there is room
 * for all of them; -EAGAIN not yet; -ENOSPC it can not be kept (no room for this reader's window or file,
 * which others of the flight need not share): stream it (relay); -EHOSTUNREACH, -ETIMEDOUT, -EBUSY (429),
 * -EBADMSG (wrong answer), -EACCES (upstream refused this token; see reader_upstream_status()), -ENOENT
 * (upstream says gone).
 */
int reader_started(struct reader *r);
/* Status that upstream gave with -EACCES, -ENOENT or -EBUSY; 0 if none. */
int reader_upstream_status(struct reader *r);
/* How many bytes from offset on may be sent now. 0: none yet. -errno: break the connection. */
int64_t reader_ready(struct reader *r, uint64_t offset);
/* Registers w to be woken when reader_started() or reader_ready(offset) has news. false: there is news
 * already. */
bool reader_wait(struct reader *r, uint64_t offset, struct waiter *w);
/* The growing file, for sendfile; borrowed for the reader's life, and good after the blob landed. */
int reader_fd(const struct reader *r);
/* Did it join a transfer that others began (Cache-Status: collapsed)? */
bool reader_has_joined(const struct reader *r);
/* As its source said: what its client does not ask for after its first moment, nobody wants. */
bool reader_may_leave(const struct reader *r);

/* Running flights, for /-/status: visit must be short. */
struct flight_view {
	struct str label;
	uint64_t size, held, bytes_per_s;
	unsigned readers, transfers;
	const char *state;
};
void flights_each(struct flights *f, void (*visit)(void *ctx, const struct flight_view *view), void *ctx);
