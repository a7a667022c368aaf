/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the number, size, time and hex parsers at their edges, and the string helpers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/str.h"

#include <errno.h>
#include <stdlib.h>

static void compares_with_and_without_case(void **state)
{
	assert_true(str_eq(STR("ETag"), STR("ETag")));
	assert_false(str_eq(STR("ETag"), STR("etag")));
	assert_false(str_eq(STR("ETag"), STR("ETa")));
	assert_true(str_eq((struct str){ NULL, 0 }, STR("")));
	assert_true(str_eq_nocase(STR("ETag"), STR("eTAG")));
	assert_false(str_eq_nocase(STR("ETag"), STR("ETa")));
	assert_false(str_eq_nocase(STR("@"), STR("`"))); /* 32 apart, but no letters */
	assert_false(str_eq_nocase(STR("["), STR("{")));
	assert_false(str_eq_nocase(STR("\xc3\x89"), STR("\xc3\xa9")));
}

static void finds_prefixes_and_suffixes(void **state)
{
	assert_true(str_starts_with(STR("abc"), STR("ab")));
	assert_true(str_starts_with(STR("abc"), STR("")));
	assert_false(str_starts_with(STR("ab"), STR("abc")));
	assert_false(str_starts_with(STR("abc"), STR("b")));
	assert_true(str_ends_with(STR("abc"), STR("bc")));
	assert_true(str_ends_with(STR("abc"), STR("abc")));
	assert_false(str_ends_with(STR("bc"), STR("abc")));
	assert_false(str_ends_with(STR("abc"), STR("ab")));
}

static void trims_spaces_and_tabs_only(void **state)
{
	assert_true(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
	assert_true(str_eq(str_trim(STR("\na\r")), STR("\na\r")));
	assert_int_equal(str_trim(STR(" \t ")).len, 0);
	assert_int_equal(str_trim((struct str){ NULL, 0 }).len, 0);
}

static void cuts_at_the_first_separator(void **state)
{
	struct str head, tail;

	assert_true(str_cut(STR("a=b=c"), '=', &head, &tail));
	assert_true(str_eq(head, STR("a")));
	assert_true(str_eq(tail, STR("b=c")));
	assert_true(str_cut(STR("="), '=', &head, &tail));
	assert_int_equal(head.len, 0);
	assert_int_equal(tail.len, 0);
	assert_false(str_cut(STR("abc"), '=', &head, &tail));
	assert_true(str_eq(head, STR("abc")));
	assert_int_equal(tail.len, 0);
	assert_false(str_cut((struct str){ NULL, 0 }, '=', &head, &tail));
	assert_int_equal(head.len, 0);
}

static void copies_with_a_nul_added(void **state)
{
	char *copy = str_dup((struct str){ "abcdef", 3 });

	assert_string_equal(copy, "abc");
	free(copy);
	copy = str_dup((struct str){ NULL, 0 });
	assert_string_equal(copy, "");
	free(copy);
}

static void reads_decimal_numbers_up_to_64_bits(void **state)
{
	uint64_t n;

	assert_int_equal(parse_u64(STR("0"), &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(parse_u64(STR("18446744073709551615"), &n), 0);
	assert_true(n == UINT64_MAX);
	assert_int_equal(parse_u64(STR("000000000000000000000000000007"), &n), 0);
	assert_int_equal(n, 7);
}

static void refuses_numbers_that_are_not_just_digits_or_too_big(void **state)
{
	const struct str bad[] = { STR(""),
				   STR("-1"),
				   STR("+1"),
				   STR(" 1"),
				   STR("1 "),
				   STR("0x1"),
				   STR("1."),
				   STR("1\0"),
				   STR("1e3"),
				   STR("18446744073709551616"),
				   STR("99999999999999999999") };
	uint64_t n = 42;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse_u64(bad[i], &n), -EINVAL);
	assert_int_equal(n, 42);
}

static void reads_and_writes_hex(void **state)
{
	uint8_t bytes[3] = { 9, 9, 9 };
	char text[7];

	assert_int_equal(parse_hex(STR("00aBfF"), bytes, 3), 0);
	assert_memory_equal(bytes, "\x00\xab\xff", 3);
	format_hex(bytes, 3, text);
	assert_string_equal(text, "00abff");
	assert_int_equal(parse_hex(STR("00abf"), bytes, 3), -EINVAL);
	assert_int_equal(parse_hex(STR("00abff0"), bytes, 3), -EINVAL);
	assert_int_equal(parse_hex(STR("00abff00"), bytes, 3), -EINVAL);
	assert_int_equal(parse_hex(STR("1234zz"), bytes, 3), -EINVAL);
	assert_memory_equal(bytes, "\x00\xab\xff", 3);
	assert_int_equal(parse_hex(STR("ab"), bytes, SIZE_MAX / 2 + 2), -EINVAL);
	assert_true(str_is_lower_hex(STR("0123456789abcdef")));
	assert_false(str_is_lower_hex(STR("0123456789ABCDEF")));
	assert_false(str_is_lower_hex(STR("0g")));
	assert_false(str_is_lower_hex(STR("")));
}

static void assert_size(struct str s, uint64_t expected)
{
	uint64_t n = 1234567;

	assert_int_equal(parse_size(s, &n), 0);
	assert_true(n == expected);
}

static void reads_sizes_with_units(void **state)
{
	assert_size(STR("500G"), 500ULL << 30);
	assert_size(STR("4T"), 4ULL << 40);
	assert_size(STR("64K"), 65536);
	assert_size(STR("8M"), 8ULL << 20);
	assert_size(STR("1024B"), 1024);
	assert_size(STR("2P"), 2ULL << 50);
	assert_size(STR("0"), 0);
	assert_size(STR("0G"), 0);
}

static void refuses_sizes_without_a_unit_or_too_big(void **state)
{
	const struct str bad[] = { STR(""),      STR("500"),   STR("G"),      STR("80%"),
				   STR("500GB"), STR("500 G"), STR("5g"),     STR("-5G"),
				   STR("1.5T"),  STR("5GG"),   STR("16384P"), STR("00x") };
	uint64_t n = 42;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse_size(bad[i], &n), -EINVAL);
	assert_int_equal(n, 42);
}

static void reads_times_with_units(void **state)
{
	uint64_t ms;

	assert_int_equal(parse_duration_ms(STR("250ms"), &ms), 0);
	assert_int_equal(ms, 250);
	assert_int_equal(parse_duration_ms(STR("30s"), &ms), 0);
	assert_int_equal(ms, 30000);
	assert_int_equal(parse_duration_ms(STR("5m"), &ms), 0);
	assert_int_equal(ms, 300000);
	assert_int_equal(parse_duration_ms(STR("12h"), &ms), 0);
	assert_int_equal(ms, 43200000);
	assert_int_equal(parse_duration_ms(STR("7d"), &ms), 0);
	assert_int_equal(ms, 604800000);
	assert_int_equal(parse_duration_ms(STR("0"), &ms), 0);
	assert_int_equal(ms, 0);
	assert_int_equal(parse_duration_ms(STR("30"), &ms), -EINVAL);
	assert_int_equal(parse_duration_ms(STR("30 s"), &ms), -EINVAL);
	assert_int_equal(parse_duration_ms(STR("1h30m"), &ms), -EINVAL);
	assert_int_equal(parse_duration_ms(STR("300000000000d"), &ms), -EINVAL);
}

static void writes_sizes_for_people(void **state)
{
	char text[16];

	assert_string_equal(format_size(0, text), "0 B");
	assert_string_equal(format_size(1023, text), "1023 B");
	assert_string_equal(format_size(1024, text), "1.0 KiB");
	assert_string_equal(format_size(95315558, text), "90.9 MiB");
	assert_string_equal(format_size(1048575, text), "1.0 MiB"); /* not 1024.0 KiB */
	assert_string_equal(format_size(UINT64_MAX, text), "16.0 EiB");
}

static void assert_utf8(struct str s, size_t len, uint32_t code)
{
	uint32_t got = 0xffffffff;

	assert_int_equal(str_utf8_next(s, &got), len);
	assert_true(got == (len ? code : 0xffffffff));
}

static void tells_valid_utf8_from_forged(void **state)
{
	assert_utf8(STR("a"), 1, 'a');
	assert_utf8(STR("\0"), 1, 0);
	assert_utf8(STR("\xc2\x80"), 2, 0x80);
	assert_utf8(STR("\xe2\x82\xac!"), 3, 0x20ac);
	assert_utf8(STR("\xf4\x8f\xbf\xbf"), 4, 0x10ffff);
	assert_utf8(STR(""), 0, 0);
	assert_utf8(STR("\xc0\xaf"), 0, 0);         /* overlong '/' */
	assert_utf8(STR("\xe0\x80\xaf"), 0, 0);     /* the same in three */
	assert_utf8(STR("\xf0\x80\x80\xaf"), 0, 0); /* and in four */
	assert_utf8(STR("\xed\xa0\x80"), 0, 0);     /* half of a pair */
	assert_utf8(STR("\xf4\x90\x80\x80"), 0, 0); /* above Unicode */
	assert_utf8(STR("\xe2\x82"), 0, 0);         /* cut */
	assert_utf8(STR("\xe2\x28\xa1"), 0, 0);
	assert_utf8(STR("\x80"), 0, 0);
}

static uint64_t fixed_mono(void *ctx)
{
	return 1234;
}

static int64_t fixed_wall(void *ctx)
{
	return *(int64_t *)ctx;
}

static void a_test_owns_the_clock(void **state)
{
	int64_t now = 1700000000;
	const struct clock fixed = { fixed_mono, fixed_wall, &now };

	assert_int_equal(clock_mono_ms(&fixed), 1234);
	assert_int_equal(clock_mono_us(&fixed), 1234000);
	assert_int_equal(clock_wall_s(&fixed), 1700000000);
	assert_int_equal(clock_wall_ms(&fixed), 1700000000000);
	assert_true(clock_wall_s(&clock_system) > 1700000000);
	assert_true(clock_mono_us(&clock_system) / 1000 <= clock_mono_ms(&clock_system));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares_with_and_without_case),
		cmocka_unit_test(finds_prefixes_and_suffixes),
		cmocka_unit_test(trims_spaces_and_tabs_only),
		cmocka_unit_test(cuts_at_the_first_separator),
		cmocka_unit_test(copies_with_a_nul_added),
		cmocka_unit_test(reads_decimal_numbers_up_to_64_bits),
		cmocka_unit_test(refuses_numbers_that_are_not_just_digits_or_too_big),
		cmocka_unit_test(reads_and_writes_hex),
		cmocka_unit_test(reads_sizes_with_units),
		cmocka_unit_test(refuses_sizes_without_a_unit_or_too_big),
		cmocka_unit_test(reads_times_with_units),
		cmocka_unit_test(writes_sizes_for_people),
		cmocka_unit_test(tells_valid_utf8_from_forged),
		cmocka_unit_test(a_test_owns_the_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
