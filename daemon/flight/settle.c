/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settle - does a reader need anything of upstream? What it asked for may be held already, though the file is not whole.
 *
 * Owns      reader->is_settled, is_held; which wishes of a reader become the flight's.
 * Never     holds the flight's lock while it asks the store.
 * Threads   any: who joins settles its own reader, the job that opens or empties the part those that wait for it, the
 *           fetch thread all of them when it gives up.
 * Promises  (1) nothing is asked of upstream and no room is taken for a reader before it is settled, nor after, when all
 *               that it will send is held.
 *           (2) who needs nothing is not harmed by an upstream that is gone.
 */
#include <errno.h>

#include "flight/priv.h"

#include "common/banned.h"

/* What of a reader the store is asked about; a copy, since the reader may leave meanwhile. */
struct question {
	const struct reader *reader; /* not to be followed without the lock */
	struct byte_range rest, wanted;
	bool needs_digest;
};

/* What lies in the tail is given without the digest only where a window would be. */
static bool needs_digest(const struct reader *r)
{
	bool is_window = !r->is_whole && r->range.first > 0;
	uint64_t size = r->flight->id.size;

	return r->is_held_back && !is_window && r->range.end > size - policy_held_back_bytes(size);
}

static bool next_question_locked(const struct flight *fl, struct question *ret_question)
{
	LIST_EACH(it, (struct list *)&fl->readers) {
		const struct reader *r = LIST_ENTRY(it, struct reader, node);

		if (r->is_settled)
			continue;
		*ret_question = (struct question){ .reader = r,
						   .rest = { r->at, r->range.end },
						   .wanted = r->wanted,
						   .needs_digest = needs_digest(r) };
		return true;
	}
	return false;
}

/* Another one at the same place would do as well, if it asks for the same. */
static struct reader *asker_locked(struct flight *fl, const struct question *q)
{
	LIST_EACH(it, &fl->readers) {
		struct reader *r = LIST_ENTRY(it, struct reader, node);

		if (r == q->reader && !r->is_settled && r->at >= q->rest.first && r->range.end == q->rest.end)
			return r;
	}
	return NULL;
}

static void take_wishes_locked(struct flight *fl, struct reader *r)
{
	fl->has_whole |= r->is_whole;
	fl->has_small_range |= r->is_small_range;
	r->has_room |= fl->has_all_room;
	fl->wants_room |= !r->has_room;
}

/* refusal: what it is told if something is missing; 0: upstream may be asked. */
static void settle_one(struct flight *fl, struct part *part, const struct question *q, uint64_t generation,
		       int refusal)
{
	bool is_held = !q->needs_digest && part_held_from(part, q->rest.first) >= q->rest.end - q->rest.first;
	struct byte_range gap;
	bool is_missing = !is_held && part_next_gap(part, q->wanted.first, &gap) && gap.first < q->wanted.end;
	struct reader *r;

	SCOPED_LOCK(&fl->lock);

	r = asker_locked(fl, q);
	if (!r)
		return;
	r->is_settled = true;
	r->is_held = is_held && fl->generation == generation;
	if (r->is_held) {
		r->has_room = true; /* what is held has it */
		r->is_held_back &= r->is_whole || r->range.first == 0;
	} else if (is_missing && refusal && !r->error) {
		r->error = refusal;
		fl->news++;
	} else if (!r->error) {
		take_wishes_locked(fl, r);
	}
}

static void settle(struct flight *fl, int refusal)
{
	struct question q;
	struct part *part;
	uint64_t generation;
	bool is_open;

	for (;;) {
		lock_take(&fl->lock);
		is_open = fl->part && next_question_locked(fl, &q);
		part = is_open ? flight_use_part_locked(fl) : NULL;
		generation = fl->generation;
		lock_drop(&fl->lock);
		if (!part)
			return;
		settle_one(fl, part, &q, generation, refusal);
		flight_leave_part(fl);
	}
}

void flight_settle(struct flight *fl)
{
	settle(fl, fetch_is_down(fl->all->opts.fetch) ? -EHOSTUNREACH : 0);
}

void flight_unsettle_locked(struct flight *fl)
{
	LIST_EACH(it, &fl->readers) {
		struct reader *r = LIST_ENTRY(it, struct reader, node);

		r->has_room &= !r->is_held; /* it took none */
		r->is_settled = r->is_held = false;
	}
}

void flight_give_up(struct flight *fl, int error, int status)
{
	bool is_needed = false;

	lock_take(&fl->lock);
	LIST_EACH(it, &fl->readers) {
		struct reader *r = LIST_ENTRY(it, struct reader, node);

		r->is_settled &= r->is_held;
	}
	lock_drop(&fl->lock);
	settle(fl, error);
	lock_take(&fl->lock);
	LIST_EACH(it, &fl->readers)
		is_needed |= !LIST_ENTRY(it, struct reader, node)->error;
	if (is_needed)
		fl->has_whole = fl->has_small_range = false; /* of those who are gone */
	LIST_EACH(it, &fl->readers) {
		struct reader *r = LIST_ENTRY(it, struct reader, node);

		if (r->is_settled && !r->is_held && !r->error)
			take_wishes_locked(fl, r);
	}
	lock_drop(&fl->lock);
	if (is_needed)
		flight_wake(fl);
	else
		flight_end(fl, FLIGHT_FAILED, error, status, false);
}
