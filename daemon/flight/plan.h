/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight/plan - which gap to ask upstream for next. Pure: facts in, a range out.
 *
 * The rules, in this order:
 *   1. A reader's next missing byte comes first, readers in order of arrival.
 * 2. A byte that a running transfer will bring soon is waited for; what is too far ahead of it gets a
 * transfer of its own,
 *      and the running one then ends where the new one began (no byte twice, P6).
 * 3. A transfer goes up to the next byte that is held or that another transfer brings, and no further than
 * its reader needs.
 * 4. When no reader needs anything more and everything is wanted, the first gap of the file comes next, one
 * at a time.
 */
#pragma once
#include "common/http/range.h"

struct plan_reader {
	uint64_t at;         /* the next byte that it will send */
	uint64_t end;        /* after the last byte that is fetched for it */
	bool is_whole;       /* it wants everything to the end of the file */
	bool waits_for_room; /* nothing is begun for it yet; what runs and helps it goes on */
};
struct plan_transfer {
	uint64_t at, stop; /* it brings [at, stop) */
	uint64_t bytes_per_s;
};
struct plan {
	uint64_t size;
	bool wants_whole;        /* fill what no reader asks for as well */
	bool are_ranges_ignored; /* upstream always sends everything: one transfer at a time */
	const struct plan_reader *readers;
	size_t reader_count;
	struct plan_transfer *transfers; /* stop is lowered where rule 2 says so */
	size_t transfer_count, transfers_max;
	/* The first missing range at or after offset; false: everything from there on is held. */
	bool (*next_gap)(void *ctx, uint64_t offset, struct byte_range *ret_gap);
	void *ctx;
};
/* The next transfer to begin. The caller adds it to transfers and asks again until false. */
bool plan_next(struct plan *p, struct byte_range *ret_range);
/* How far this transfer is needed: at most its stop; its `at` when nobody needs it. */
uint64_t plan_needed_stop(const struct plan *p, const struct plan_transfer *t);
