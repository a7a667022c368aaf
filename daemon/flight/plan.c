/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight/plan - which gap to ask upstream for next. Pure; the rules are in the header.
 */
#include "flight/plan.h"

#include <assert.h>

#include "policy/policy.h"

#include "common/banned.h"

/* How many times longer than others somebody waits for a transfer who wants all that it brings (B09). */
#define WHOLE_PATIENCE 8

static bool is_soon(const struct plan_reader *r, const struct plan_transfer *t, uint64_t offset)
{
	uint64_t speed = t->bytes_per_s;

	if (r && r->is_whole && __builtin_mul_overflow(speed, (uint64_t)WHOLE_PATIENCE, &speed))
		speed = UINT64_MAX;
	return policy_worth_waiting(offset, t->at, speed);
}

/* The transfer that will come by this byte. */
static struct plan_transfer *bringing(const struct plan *p, uint64_t offset)
{
	for (size_t i = 0; i < p->transfer_count; i++)
		if (p->transfers[i].at <= offset && offset < p->transfers[i].stop)
			return &p->transfers[i];
	return NULL;
}

/* Where the first transfer after offset begins, or end. */
static uint64_t next_transfer_at(const struct plan *p, uint64_t offset, uint64_t end)
{
	for (size_t i = 0; i < p->transfer_count; i++)
		if (p->transfers[i].at > offset && p->transfers[i].at < end)
			end = p->transfers[i].at;
	return end;
}

/* What to start for a byte that is missing at gap->first; r NULL: for nobody in particular. */
static bool start_at(struct plan *p, const struct plan_reader *r, struct byte_range gap,
		     struct byte_range *ret_range)
{
	struct plan_transfer *t = bringing(p, gap.first);
	uint64_t end;

	if (t && (p->are_ranges_ignored || is_soon(r, t, gap.first)))
		return false;
	if (p->transfer_count >= (p->are_ranges_ignored ? 1 : p->transfers_max))
		return false; /* its turn comes when one has ended */
	end = next_transfer_at(p, gap.first, gap.end);
	if (t)
		t->stop = gap.first;
	*ret_range = (struct byte_range){ gap.first, end };
	return true;
}

static bool start_for_reader(struct plan *p, const struct plan_reader *r, struct byte_range *ret_range)
{
	struct byte_range gap;

	if (r->waits_for_room || r->at >= r->end || !p->next_gap(p->ctx, r->at, &gap) || gap.first >= r->end)
		return false;
	if (gap.end > r->end)
		gap.end = r->end;
	return start_at(p, r, gap, ret_range);
}

bool plan_next(struct plan *p, struct byte_range *ret_range)
{
	struct byte_range gap;

	for (size_t i = 0; i < p->reader_count; i++)
		if (start_for_reader(p, &p->readers[i], ret_range)) {
			assert(ret_range->first < ret_range->end && ret_range->end <= p->size);
			return true;
		}
	return p->wants_whole && p->transfer_count == 0 && p->next_gap(p->ctx, 0, &gap) &&
	       start_at(p, NULL, gap, ret_range);
}

uint64_t plan_needed_stop(const struct plan *p, const struct plan_transfer *t)
{
	uint64_t stop = t->at;

	if (p->wants_whole)
		return t->stop;
	for (size_t i = 0; i < p->reader_count; i++) {
		const struct plan_reader *r = &p->readers[i];
		uint64_t end = r->end < t->stop ? r->end : t->stop;

		if (r->at < t->stop && end > stop)
			stop = end;
	}
	return stop;
}
