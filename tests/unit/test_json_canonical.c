/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that texts which say the same get one spelling, that others never do, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json_canonical.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#define OUT_MAX 65536

static int canonical(struct str text, struct buf *out)
{
	buf_init(out, OUT_MAX);
	return json_canonical(text, NULL, NULL, out);
}

static void expect(const char *text, const char *want)
{
	SCOPED_BUF out;

	assert_int_equal(canonical(str_from(text), &out), 0);
	if (!str_eq(buf_str(&out), str_from(want)))
		fail_msg("%s became %.*s, not %s", text, STR_ARGS(buf_str(&out)), want);
}

static void refuse(struct str text)
{
	SCOPED_BUF out;

	if (canonical(text, &out) != -EINVAL)
		fail_msg("accepted: %.*s", STR_ARGS(text));
}

static void orders_members_and_drops_white_space(void **state)
{
	expect(" { \"b\" : 1 ,\n\"a\" : [ true , null, false , { } , [ ] ] } ",
	       "{\"a\":[true,null,false,{},[]],\"b\":1}");
	expect("{\"z\":{\"y\":1,\"x\":2},\"a\":{\"c\":3,\"b\":4}}",
	       "{\"a\":{\"b\":4,\"c\":3},\"z\":{\"x\":2,\"y\":1}}");
	expect("{\"ab\":1,\"a\":2,\"\":3}", "{\"\":3,\"a\":2,\"ab\":1}");
}

static void orders_names_by_utf16(void **state)
{
	/* U+1F600 is D83D DE00 in UTF-16 and so comes before U+FF21, but after it in UTF-8 */
	expect("{\"\xef\xbc\xa1\":1,\"\xf0\x9f\x98\x80\":2}", "{\"\xf0\x9f\x98\x80\":2,\"\xef\xbc\xa1\":1}");
}

static void spells_strings_with_the_fewest_escapes(void **state)
{
	expect("\"\\u0041\\/\\u00e9\\n\\u000b\\\\\\\"\"", "\"A/\xc3\xa9\\n\\u000b\\\\\\\"\"");
	expect("\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"");
	expect("{\"\\u0061\":1}", "{\"a\":1}");
}

static void keeps_the_digits_of_numbers(void **state)
{
	expect("[14663482367758619000,14663482367758619001,9007199254740993]",
	       "[14663482367758619000,14663482367758619001,9007199254740993]");
	expect("[0.30000000000000004,0.3,1.5e-7]", "[0.30000000000000004,0.3,1.5e-7]");
	expect("[1.0000000000000000001]", "[1.0000000000000000001]");
	expect("[1e-400]", "[1e-400]");
}

static void whole_numbers_have_one_spelling(void **state)
{
	expect("[1.0,1e0,10e-1,0.1e1,1]", "[1,1,1,1,1]");
	expect("[0,-0,0.0,-0e5,0.000]", "[0,0,0,0,0]");
	expect("[-5.0,1.5e1,100]", "[-5,15,100]");
}

static void refuses_what_readers_may_understand_differently(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"[1,]",
		"{\"a\":1,}",
		"01",
		"+1",
		".5",
		"1.",
		"1e",
		"1e400",
		"nul",
		"tru",
		"'a'",
		"{a:1}",
		"[1] x",
		"\"\\u0000\"",
		"\"\\ud800\"",
		"\"\\ude00\"",
		"\"\\ud800\\u0041\"",
		"\"\\x\"",
		"\"\xff\"",
		"\"\xc0\xaf\"",
		"\"a\nb\"",
		"\xef\xbb\xbf{}",
		"{\"a\":1,\"a\":1}",
		"{\"a\":1,\"\\u0061\":2}",
		"NaN",
		"-",
		"\"",
		"[",
		"{\"a\"}",
		"{\"a\":}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuse(str_from(bad[i]));
	refuse((struct str){ "1\0", 2 });
	refuse((struct str){ "\"a\0b\"", 5 });
}

static char *nested(unsigned depth)
{
	char *text = xmalloc(2 * depth + 1);

	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	text[2 * depth] = '\0';
	return text;
}

static void depth_has_a_limit(void **state)
{
	SCOPED_FREE char *deep = nested(200), *deeper = nested(201);

	expect(deep, deep);
	refuse(str_from(deeper));
}

static void too_long_is_told(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, 16);
	assert_int_equal(json_canonical(STR("{\"a\":\"0123456789abcdef\"}"), NULL, NULL, &out), -E2BIG);
}

static bool leaves_out(void *ctx, const struct json_member *m)
{
	if (m->depth == 1 && str_eq(m->name, STR("stream")))
		return true;
	if (m->depth == 2 && str_eq(m->parent, STR("options")) && str_eq(m->name, STR("use_cache")))
		return true;
	return m->depth == 1 && str_eq(m->name, STR("options")) && str_eq(m->value, STR("{}"));
}

static void leaves_out_what_the_caller_says(void **state)
{
	static const char *const same[] = {
		"{\"a\":1}",
		"{\"stream\":true,\"a\":1}",
		"{\"options\":{\"use_cache\":false},\"a\":1.0,\"stream\":false}",
		"{\"options\":{},\"a\":1}",
	};
	SCOPED_BUF out;

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		buf_init(&out, OUT_MAX);
		assert_int_equal(json_canonical(str_from(same[i]), leaves_out, NULL, &out), 0);
		assert_true(str_eq(buf_str(&out), STR("{\"a\":1}")));
		buf_done(&out);
	}
	buf_init(&out, OUT_MAX);
	assert_int_equal(json_canonical(STR("{\"m\":{\"stream\":true},\"options\":{\"x\":1}}"), leaves_out,
					NULL, &out),
			 0);
	assert_true(str_eq(buf_str(&out), STR("{\"m\":{\"stream\":true},\"options\":{\"x\":1}}")));
}

static void a_name_twice_is_refused_also_when_it_is_left_out(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, OUT_MAX);
	assert_int_equal(json_canonical(STR("{\"stream\":1,\"stream\":2}"), leaves_out, NULL, &out), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(orders_members_and_drops_white_space),
		cmocka_unit_test(orders_names_by_utf16),
		cmocka_unit_test(spells_strings_with_the_fewest_escapes),
		cmocka_unit_test(keeps_the_digits_of_numbers),
		cmocka_unit_test(whole_numbers_have_one_spelling),
		cmocka_unit_test(refuses_what_readers_may_understand_differently),
		cmocka_unit_test(depth_has_a_limit),
		cmocka_unit_test(too_long_is_told),
		cmocka_unit_test(leaves_out_what_the_caller_says),
		cmocka_unit_test(a_name_twice_is_refused_also_when_it_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
