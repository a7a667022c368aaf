/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the verdict on Range (B01-B07, P16) over a table and over all small ranges, and the reading of
 * Content-Range.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/http/range.h"

#include <errno.h>
#include <stdio.h>

#include "common/buf.h"

static void assert_one(const char *value, uint64_t size, uint64_t first, uint64_t end)
{
	struct byte_range r;

	if (range_parse(str_from(value), size, &r) != RANGE_ONE)
		fail_msg("not one range: %s", value);
	assert_true(r.first == first);
	assert_true(r.end == end);
}

static void assert_verdict(enum range_verdict verdict, const char *value, uint64_t size)
{
	struct byte_range r = { 77, 88 };

	if (range_parse(str_from(value), size, &r) != verdict)
		fail_msg("other verdict: %s", value);
	assert_int_equal(r.first, 77);
	assert_int_equal(r.end, 88);
}

static void honours_one_valid_range(void **state)
{
	assert_one("bytes=0-0", 100, 0, 1);
	assert_one("bytes=10-19", 100, 10, 20);
	assert_one("bytes=10-", 100, 10, 100);
	assert_one("bytes=99-99", 100, 99, 100);
	assert_one("Bytes=1-2", 100, 1, 3);
	assert_one(" bytes=1-2 ", 100, 1, 3);
	assert_one("bytes=,1-2, ,", 100, 1, 3); /* empty members of a list do not count */
	assert_one("bytes=007-0010", 100, 7, 11);
}

static void clamps_to_the_size(void **state)
{
	assert_one("bytes=0-100", 100, 0, 100);
	assert_one("bytes=0-100000", 100, 0, 100);
	assert_one("bytes=5-18446744073709551615", 100, 5, 100);
	assert_one("bytes=5-99999999999999999999999999", 100, 5, 100);
	assert_one("bytes=0-18446744073709551615", UINT64_MAX, 0, UINT64_MAX);
	assert_one("bytes=0-18446744073709551614", UINT64_MAX, 0, UINT64_MAX);
	assert_one("bytes=0-18446744073709551613", UINT64_MAX, 0, UINT64_MAX - 1);
}

static void serves_suffixes(void **state)
{
	assert_one("bytes=-1", 100, 99, 100);
	assert_one("bytes=-100", 100, 0, 100);
	assert_one("bytes=-262144", 100, 0, 100);
	assert_one("bytes=-99999999999999999999999999", 100, 0, 100);
	assert_verdict(RANGE_UNSATISFIABLE, "bytes=-0", 100);
}

static void says_unsatisfiable_past_the_end(void **state)
{
	assert_verdict(RANGE_UNSATISFIABLE, "bytes=100-", 100);
	assert_verdict(RANGE_UNSATISFIABLE, "bytes=100-200", 100);
	assert_verdict(RANGE_UNSATISFIABLE, "bytes=18446744073709551615-", 100);
	assert_verdict(RANGE_UNSATISFIABLE, "bytes=18446744073709551616-18446744073709551617", 100);
}

static void ignores_bad_syntax_other_units_and_several_ranges(void **state)
{
	static const char *const ignored[] = { "",
					       "bytes",
					       "bytes=",
					       "bytes=-",
					       "bytes=abc",
					       "bytes=5-2",
					       "bytes=a-5",
					       "bytes=5-b",
					       "bytes=--5",
					       "bytes=-5-",
					       "bytes=1-2-3",
					       "bytes=+1-2",
					       "bytes=0x1-2",
					       "bytes 1-2",
					       "chapters=1-2",
					       "bytes=0-1,5-6",
					       "bytes=0-1,abc",
					       "bytes=0-1,0-1",
					       "bytes=1 -2",
					       "bytes=1- 2",
					       "=0-1",
					       "bytes =0-1",
					       "bytes=0-1;",
					       "bytes=1.0-2" };

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		assert_verdict(RANGE_NONE, ignored[i], 100);
	assert_int_equal(range_parse((struct str){ NULL, 0 }, 100, NULL), RANGE_NONE);
	assert_int_equal(range_parse(STR("bytes=0-\0001"), 100, NULL), RANGE_NONE);
}

static void an_empty_file_is_answered_whole(void **state)
{
	assert_verdict(RANGE_NONE, "bytes=0-0", 0);
	assert_verdict(RANGE_NONE, "bytes=0-", 0);
	assert_verdict(RANGE_NONE, "bytes=-5", 0);
	assert_verdict(RANGE_NONE, "bytes=-0", 0);
}

static void a_thousand_overlapping_ranges_are_ignored(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 1 << 16);
	buf_append_str(&b, STR("bytes=0-1"));
	for (int i = 0; i < 1000; i++)
		buf_append_str(&b, STR(",0-"));
	assert_verdict(RANGE_NONE, buf_str(&b).ptr, 100);
}

/* Every first and last around every small size against the plain definition. */
static void all_small_ranges_are_right(void **state)
{
	for (uint64_t size = 1; size < 7; size++)
		for (uint64_t first = 0; first < 9; first++)
			for (uint64_t last = 0; last < 9; last++) {
				struct byte_range r;
				char value[64];
				enum range_verdict verdict;

				snprintf(value, sizeof(value), "bytes=%d-%d", (int)first, (int)last);
				verdict = range_parse(str_from(value), size, &r);
				if (first > last) {
					assert_int_equal(verdict, RANGE_NONE);
				} else if (first >= size) {
					assert_int_equal(verdict, RANGE_UNSATISFIABLE);
				} else {
					assert_int_equal(verdict, RANGE_ONE);
					assert_int_equal(r.first, first);
					assert_int_equal(r.end, last < size ? last + 1 : size);
				}
			}
}

static void knows_open_ended_ranges(void **state)
{
	assert_true(range_is_open(STR("bytes=0-")));
	assert_true(range_is_open(STR("bytes=99999999999999999999999-")));
	assert_false(range_is_open(STR("bytes=0-1")));
	assert_false(range_is_open(STR("bytes=-1")));
	assert_false(range_is_open(STR("bytes=-")));
	assert_false(range_is_open(STR("bytes=0-,5-")));
	assert_false(range_is_open(STR("items=0-")));
	assert_false(range_is_open((struct str){ NULL, 0 }));
}

static void reads_what_upstream_sent(void **state)
{
	struct content_range r;

	assert_int_equal(content_range_parse(STR("bytes 0-99/548105171"), &r), 0);
	assert_true(r.first == 0 && r.end == 100 && r.has_size && r.size == 548105171);
	assert_int_equal(content_range_parse(STR("bytes 5-5/*"), &r), 0);
	assert_true(r.first == 5 && r.end == 6 && !r.has_size);
	assert_int_equal(content_range_parse(STR("bytes */100"), &r), 0);
	assert_true(r.first == 0 && r.end == 0 && r.has_size && r.size == 100);
	assert_int_equal(content_range_parse(STR("bytes 99-99/100"), &r), 0);
	assert_int_equal(content_range_parse(STR("bytes */0"), &r), 0);
	assert_true(r.has_size && r.size == 0);
}

static void refuses_content_ranges_that_contradict_themselves(void **state)
{
	static const char *const bad[] = { "",
					   "bytes",
					   "bytes 0-99",
					   "bytes 0-99/",
					   "bytes */*",
					   "bytes 5-2/100",
					   "bytes 0-100/100",
					   "bytes 0-18446744073709551615/*",
					   "bytes 0-99999999999999999999/*",
					   "bytes -5/100",
					   "bytes 5-/100",
					   "bytes=0-1/2",
					   "items 0-1/2",
					   "bytes 0-1/2/3",
					   "bytes 0 -1/2",
					   "bytes 0-1/-2" };
	struct content_range r = { .first = 77 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (content_range_parse(str_from(bad[i]), &r) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(r.first, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(honours_one_valid_range),
		cmocka_unit_test(clamps_to_the_size),
		cmocka_unit_test(serves_suffixes),
		cmocka_unit_test(says_unsatisfiable_past_the_end),
		cmocka_unit_test(ignores_bad_syntax_other_units_and_several_ranges),
		cmocka_unit_test(an_empty_file_is_answered_whole),
		cmocka_unit_test(a_thousand_overlapping_ranges_are_ignored),
		cmocka_unit_test(all_small_ranges_are_right),
		cmocka_unit_test(knows_open_ended_ranges),
		cmocka_unit_test(reads_what_upstream_sent),
		cmocka_unit_test(refuses_content_ranges_that_contradict_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
