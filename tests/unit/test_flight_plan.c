/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight/plan: which gap is asked for next. Small files are enumerated whole: every set of held bytes, of running
 * transfers and of readers; after each plan the promises are checked byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "flight/plan.h"
#include "policy/policy.h"

#define MIB (1ull << 20)
#define TRANSFERS_MAX 8

/* Held bytes as bits; `unit` bytes a bit, so that distances matter or not, as the test wants. */
struct held {
	uint32_t bits;
	unsigned count;
	uint64_t unit;
};

static bool held_gap(void *ctx, uint64_t offset, struct byte_range *ret)
{
	const struct held *h = ctx;
	uint64_t i = offset / h->unit;

	while (i < h->count && (h->bits >> i & 1))
		i++;
	if (i >= h->count)
		return false;
	ret->first = i * h->unit > offset ? i * h->unit : offset;
	while (i < h->count && !(h->bits >> i & 1))
		i++;
	ret->end = i * h->unit;
	return true;
}

struct scene {
	struct held held;
	struct plan_reader readers[4];
	struct plan_transfer transfers[2 * TRANSFERS_MAX];
	struct plan plan;
	struct byte_range started[2 * TRANSFERS_MAX];
	size_t started_count;
};

static void scene_init(struct scene *s, unsigned units, uint64_t unit)
{
	*s = (struct scene){ .held = { 0, units, unit } };
	s->plan = (struct plan){ .size = units * unit,
				 .readers = s->readers,
				 .transfers = s->transfers,
				 .transfers_max = TRANSFERS_MAX,
				 .next_gap = held_gap,
				 .ctx = &s->held };
}

static void add_reader(struct scene *s, uint64_t at, uint64_t end, bool is_whole)
{
	s->readers[s->plan.reader_count++] = (struct plan_reader){ at, end, is_whole };
}

static void add_transfer(struct scene *s, uint64_t at, uint64_t stop, uint64_t speed)
{
	s->transfers[s->plan.transfer_count++] = (struct plan_transfer){ at, stop, speed };
}

static void run(struct scene *s)
{
	struct byte_range r;

	while (plan_next(&s->plan, &r)) {
		assert_true(s->started_count < TRANSFERS_MAX);
		s->started[s->started_count++] = r;
		add_transfer(s, r.first, r.end, 0);
	}
}

static bool is_brought(const struct scene *s, uint64_t offset, unsigned *ret_count)
{
	*ret_count = 0;
	for (size_t i = 0; i < s->plan.transfer_count; i++)
		*ret_count += s->transfers[i].at <= offset && offset < s->transfers[i].stop;
	return *ret_count > 0;
}

/* Nothing held is asked for, nothing twice, nothing that nobody wants; and each reader's next byte comes. */
static void check(const struct scene *s)
{
	for (unsigned i = 0; i < s->held.count; i++) {
		uint64_t offset = i * s->held.unit;
		unsigned count;

		(void)is_brought(s, offset, &count);
		assert_true(count <= 1);
		for (size_t k = 0; k < s->started_count; k++)
			if (s->started[k].first <= offset && offset < s->started[k].end) {
				bool is_wanted = s->plan.wants_whole;

				for (size_t n = 0; n < s->plan.reader_count; n++)
					is_wanted |= offset >= s->readers[n].at && offset < s->readers[n].end;
				assert_true(is_wanted);
				assert_false(s->held.bits >> i & 1);
			}
	}
	for (size_t n = 0; n < s->plan.reader_count; n++) {
		struct byte_range gap;
		unsigned count;

		if (s->plan.transfer_count >= s->plan.transfers_max)
			break;
		if (held_gap((void *)&s->held, s->readers[n].at, &gap) && gap.first < s->readers[n].end)
			assert_true(is_brought(s, gap.first, &count));
	}
}

/* 6 units, one far apart from the other: 64 held sets, all readers' ranges, all single running transfers. */
static void every_small_scene_keeps_the_promises(void **state)
{
	enum { UNITS = 6 };
	uint64_t units[] = { 1, 64 * MIB };

	for (unsigned u = 0; u < 2; u++)
		for (uint32_t held = 0; held < 1u << UNITS; held++)
			for (unsigned a = 0; a < UNITS; a++)
				for (unsigned b = a + 1; b <= UNITS; b++)
					for (unsigned t = 0; t <= UNITS; t++) /* UNITS: no transfer */
						for (unsigned whole = 0; whole < 2; whole++)
							for (unsigned second = 0; second < 3; second++) {
								struct scene s;
								uint64_t unit = units[u];
								struct byte_range gap;

								scene_init(&s, UNITS, unit);
								s.held.bits = held;
								s.plan.wants_whole = whole;
								add_reader(&s, a * unit, b * unit, false);
								if (second)
									add_reader(&s,
										   (second - 1) * 3 * unit,
										   UNITS * unit, true);
								if (t < UNITS && !(held >> t & 1) &&
								    held_gap(&s.held, t * unit, &gap))
									add_transfer(&s, gap.first, gap.end,
										     MIB);
								run(&s);
								check(&s);
							}
}

static void eight_readers_of_one_cold_file_share_one_transfer(void **state)
{
	struct scene s;

	scene_init(&s, 16, 16 * MIB);
	s.plan.wants_whole = true;
	for (int i = 0; i < 4; i++)
		add_reader(&s, 0, s.plan.size, true);
	run(&s);
	assert_int_equal(s.started_count, 1);
	assert_true(s.started[0].first == 0 && s.started[0].end == s.plan.size);
}

static void reader_far_ahead_gets_its_own_and_the_first_ends_there(void **state)
{
	struct scene s;

	scene_init(&s, 16, 64 * MIB);
	s.plan.wants_whole = true;
	s.held.bits = 1;
	add_reader(&s, 0, s.plan.size, true);
	add_reader(&s, 512 * MIB, 520 * MIB, false);
	add_transfer(&s, 64 * MIB, s.plan.size, 10 * MIB);
	run(&s);
	assert_int_equal(s.started_count, 1);
	assert_true(s.started[0].first == 512 * MIB && s.started[0].end == 520 * MIB);
	assert_true(s.transfers[0].stop == 512 * MIB);
}

static void open_reader_a_little_ahead_waits_for_the_running_fill(void **state)
{
	struct scene s;

	scene_init(&s, 16, 64 * MIB);
	s.plan.wants_whole = true;
	add_reader(&s, 10 * MIB, s.plan.size, true);
	add_transfer(&s, 0, s.plan.size, 10 * MIB); /* one second behind */
	run(&s);
	assert_int_equal(s.started_count, 0);
	assert_true(s.transfers[0].stop == s.plan.size);
}

static void sixteen_windows_use_all_transfers_and_no_byte_twice(void **state)
{
	struct scene s;

	for (unsigned round = 0; round < 4; round++) {
		scene_init(&s, 16, 4 * MIB);
		for (unsigned i = 0; i < 4; i++)
			add_reader(&s, (round * 4 + i) * 4 * MIB, (round * 4 + i + 1) * 4 * MIB, false);
		run(&s);
		assert_int_equal(s.started_count, 4);
		check(&s);
	}
}

static void more_transfers_than_allowed_wait_their_turn(void **state)
{
	struct scene s;

	scene_init(&s, 16, 64 * MIB);
	s.plan.transfers_max = 2;
	for (unsigned i = 0; i < 4; i++)
		add_reader(&s, i * 128 * MIB, i * 128 * MIB + MIB, false);
	run(&s);
	assert_int_equal(s.started_count, 2);
	assert_true(s.started[0].first == 0 && s.started[1].first == 128 * MIB);
}

static void whole_fill_goes_round_what_is_held(void **state)
{
	struct scene s;

	scene_init(&s, 8, 64 * MIB);
	s.plan.wants_whole = true;
	s.held.bits = 0x0c; /* units 2 and 3 */
	add_reader(&s, 0, s.plan.size, true);
	run(&s);
	assert_int_equal(s.started_count, 1);
	assert_true(s.started[0].first == 0 && s.started[0].end == 128 * MIB);
	s.held.bits = 0x0f;
	s.plan.transfer_count = s.started_count = 0;
	run(&s);
	assert_true(s.started[0].first == 256 * MIB && s.started[0].end == 512 * MIB);
}

static void rest_of_the_file_comes_when_no_reader_needs_more(void **state)
{
	struct scene s;

	scene_init(&s, 8, 64 * MIB);
	s.plan.wants_whole = true;
	s.held.bits = 0xf0;
	add_reader(&s, 256 * MIB, 512 * MIB, true);
	run(&s);
	assert_int_equal(s.started_count, 1);
	assert_true(s.started[0].first == 0 && s.started[0].end == 256 * MIB);
}

static void nothing_is_started_without_a_wish(void **state)
{
	struct scene s;

	scene_init(&s, 8, 1);
	run(&s);
	assert_int_equal(s.started_count, 0);
	s.held.bits = 0xff;
	s.plan.wants_whole = true;
	add_reader(&s, 0, 8, true);
	run(&s);
	assert_int_equal(s.started_count, 0);
}

static void upstream_without_ranges_gets_one_request_at_a_time(void **state)
{
	struct scene s;

	scene_init(&s, 16, 64 * MIB);
	s.plan.are_ranges_ignored = true;
	add_transfer(&s, 0, s.plan.size, MIB);
	add_reader(&s, 512 * MIB, 513 * MIB, false);
	run(&s);
	assert_int_equal(s.started_count, 0);
	assert_true(s.transfers[0].stop == s.plan.size);
}

static void transfers_are_needed_as_far_as_somebody_reads(void **state)
{
	struct scene s;
	struct plan_transfer t = { 100, 200, 0 };

	scene_init(&s, 8, 64);
	assert_int_equal(plan_needed_stop(&s.plan, &t), 100);
	add_reader(&s, 0, 150, false);
	assert_int_equal(plan_needed_stop(&s.plan, &t), 150);
	add_reader(&s, 190, 400, false);
	assert_int_equal(plan_needed_stop(&s.plan, &t), 200);
	s.plan.reader_count = 0;
	add_reader(&s, 200, 400, false);
	add_reader(&s, 0, 100, false);
	assert_int_equal(plan_needed_stop(&s.plan, &t), 100);
	s.plan.wants_whole = true;
	assert_int_equal(plan_needed_stop(&s.plan, &t), 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_small_scene_keeps_the_promises),
		cmocka_unit_test(eight_readers_of_one_cold_file_share_one_transfer),
		cmocka_unit_test(reader_far_ahead_gets_its_own_and_the_first_ends_there),
		cmocka_unit_test(open_reader_a_little_ahead_waits_for_the_running_fill),
		cmocka_unit_test(sixteen_windows_use_all_transfers_and_no_byte_twice),
		cmocka_unit_test(more_transfers_than_allowed_wait_their_turn),
		cmocka_unit_test(whole_fill_goes_round_what_is_held),
		cmocka_unit_test(rest_of_the_file_comes_when_no_reader_needs_more),
		cmocka_unit_test(nothing_is_started_without_a_wish),
		cmocka_unit_test(upstream_without_ranges_gets_one_request_at_a_time),
		cmocka_unit_test(transfers_are_needed_as_far_as_somebody_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
