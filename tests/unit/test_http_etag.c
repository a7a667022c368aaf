/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves parsing and comparing of entity tags, lists with odd members, and that long lists cost one pass.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/http/etag.h"

#include <errno.h>

#include "common/buf.h"

static void reads_strong_and_weak_tags(void **state)
{
	struct str opaque;
	bool is_weak = true;

	assert_int_equal(etag_parse(STR("\"abc\""), &opaque, &is_weak), 0);
	assert_true(str_eq(opaque, STR("abc")));
	assert_false(is_weak);
	/* no spaces inside */
	assert_int_equal(etag_parse(STR(" W/\"53-x,y z\" "), &opaque, &is_weak), -EINVAL);
	assert_int_equal(etag_parse(STR(" W/\"53-x,y\" "), &opaque, &is_weak), 0);
	assert_true(str_eq(opaque, STR("53-x,y")));
	assert_true(is_weak);
	assert_int_equal(etag_parse(STR("\"\""), &opaque, NULL), 0);
	assert_int_equal(opaque.len, 0);
	assert_int_equal(etag_parse(STR("\"\xc3\xa9\""), &opaque, NULL), 0);
}

static void refuses_what_is_no_tag(void **state)
{
	const struct str bad[] = { STR(""),         STR("abc"),      STR("\"abc"),  STR("abc\""),
				   STR("\"a\"b\""), STR("w/\"a\""),  STR("W/"),     STR("W/a"),
				   STR("W /\"a\""), STR("\""),       STR("\"a\"x"), STR("*"),
				   STR("\"a\nb\""), STR("\"a\0b\""), STR("'a'"),    STR("\"a\",\"b\"") };
	struct str opaque = STR("untouched");
	bool is_weak = true;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (etag_parse(bad[i], &opaque, &is_weak) != -EINVAL)
			fail_msg("accepted: %.*s", STR_ARGS(bad[i]));
	assert_true(str_eq(opaque, STR("untouched")));
	assert_true(is_weak);
}

static void finds_a_tag_in_a_list_by_weak_comparison(void **state)
{
	assert_true(etag_list_matches(STR("\"a\""), STR("a")));
	assert_true(etag_list_matches(STR("W/\"a\""), STR("a")));
	assert_true(etag_list_matches(STR("\"x\", W/\"y\" ,\"a\""), STR("a")));
	assert_true(etag_list_matches(STR("\"x,a\",\"a\""), STR("a")));
	assert_true(etag_list_matches(STR(",, \"a\" ,"), STR("a")));
	assert_true(etag_list_matches(STR("*"), STR("a")));
	assert_true(etag_list_matches(STR(" * "), STR("anything")));
	assert_true(etag_list_matches(STR("\"x,y\""), STR("x,y")));
}

static void does_not_find_what_is_not_there(void **state)
{
	assert_false(etag_list_matches(STR(""), STR("a")));
	assert_false(etag_list_matches((struct str){ NULL, 0 }, STR("a")));
	assert_false(etag_list_matches(STR("\"A\""), STR("a")));
	assert_false(etag_list_matches(STR("\"a-gzip\""), STR("a")));
	assert_false(etag_list_matches(STR("\"ab\",\"b\""), STR("a")));
}

static void malformed_members_match_nothing_and_hide_nothing(void **state)
{
	assert_false(etag_list_matches(STR("a"), STR("a")));
	assert_false(etag_list_matches(STR("\"a"), STR("a")));
	assert_false(etag_list_matches(STR("\"a\"x"), STR("a")));
	assert_false(etag_list_matches(STR("\"a\" \"b\""), STR("a")));
	assert_false(etag_list_matches(STR("\"x\", *"), STR("a")));
	assert_true(etag_list_matches(STR("junk, W/, \"a\""), STR("a")));
}

static void if_range_compares_strongly(void **state)
{
	assert_true(etag_if_range_matches(STR("\"a\""), STR("a")));
	assert_false(etag_if_range_matches(STR("W/\"a\""), STR("a")));
	assert_false(etag_if_range_matches(STR("\"b\""), STR("a")));
	assert_false(etag_if_range_matches(STR("a"), STR("a")));
	assert_false(etag_if_range_matches(STR("*"), STR("a")));
	assert_false(etag_if_range_matches(STR("\"a\", \"b\""), STR("a")));
	assert_false(etag_if_range_matches(STR("Sun, 06 Nov 1994 08:49:37 GMT"), STR("a")));
}

/* A megabyte of openings: one that looked for each end again would take hours. */
static void huge_lists_take_one_pass(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 1 << 21);
	for (int i = 0; i < 250000; i++)
		buf_append_str(&b, i % 2 ? STR("\"x, ") : STR("W/\","));
	assert_false(etag_list_matches(buf_str(&b), STR("a")));
	buf_reset(&b);
	buf_append_char(&b, '"');
	for (int i = 0; i < 1000000; i++)
		buf_append_char(&b, ',');
	assert_false(etag_list_matches(buf_str(&b), STR("a")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_strong_and_weak_tags),
		cmocka_unit_test(refuses_what_is_no_tag),
		cmocka_unit_test(finds_a_tag_in_a_list_by_weak_comparison),
		cmocka_unit_test(does_not_find_what_is_not_there),
		cmocka_unit_test(malformed_members_match_nothing_and_hide_nothing),
		cmocka_unit_test(if_range_compares_strongly),
		cmocka_unit_test(huge_lists_take_one_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
