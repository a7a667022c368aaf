/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves reading of trees with its limits, writing of strings, and that edits of text keep every other byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json.h"

#include <errno.h>

static struct json *parse(const char *text)
{
	struct json *root = NULL;

	assert_int_equal(json_parse(str_from(text), &root), 0);
	return root;
}

static void refuse(const char *text)
{
	struct json *root = NULL;

	if (json_parse(str_from(text), &root) != -EINVAL)
		fail_msg("accepted: %s", text);
	assert_null(root);
}

static void reads_members_of_a_tree_entry(void **state)
{
	SCOPED(json_free)
	struct json *root = parse("[{\"type\":\"file\",\"size\":536063208,\"lfs\":{\"pointerSize\":134},"
				  "\"gated\":false,\"private\":true}]");
	const struct json *entry = json_first(root);
	uint64_t n;

	assert_true(json_is_array(root));
	assert_true(json_is_object(entry));
	assert_true(str_eq(json_string(json_get(entry, "type")), STR("file")));
	assert_int_equal(json_u64(json_get(entry, "size"), &n), 0);
	assert_int_equal(n, 536063208);
	assert_int_equal(json_u64(json_get(json_get(entry, "lfs"), "pointerSize"), &n), 0);
	assert_int_equal(n, 134);
	assert_true(json_is_false(json_get(entry, "gated")));
	assert_true(json_is_true(json_get(entry, "private")));
	assert_false(json_is_true(json_get(entry, "gated")));
}

static void answers_nothing_for_what_is_not_there(void **state)
{
	SCOPED(json_free) struct json *root = parse("{\"a\":1,\"s\":\"x\"}");
	uint64_t n = 5;

	assert_null(json_get(root, "A"));
	assert_null(json_get(json_get(root, "a"), "b"));
	assert_null(json_get(NULL, "a"));
	assert_int_equal(json_string(json_get(root, "a")).len, 0);
	assert_int_equal(json_u64(json_get(root, "s"), &n), -EINVAL);
	assert_int_equal(json_u64(NULL, &n), -EINVAL);
	assert_int_equal(n, 5);
	assert_false(json_is_true(NULL));
	assert_int_equal(json_count(NULL), 0);
	assert_null(json_first(json_get(root, "s")));
	assert_int_equal(json_name(NULL).len, 0);
}

static void walks_in_order_and_knows_names(void **state)
{
	SCOPED(json_free) struct json *root = parse("{\"b\":1,\"a\":2,\"b\":3}");
	const char *names[] = { "b", "a", "b" };
	uint64_t n;
	int i = 0;

	for (const struct json *c = json_first(root); c; c = json_next(c))
		assert_true(str_eq(json_name(c), str_from(names[i++])));
	assert_int_equal(i, 3);
	assert_int_equal(json_count(root), 3);
	assert_int_equal(json_u64(json_get(root, "b"), &n), 0);
	assert_int_equal(n, 1); /* the first of duplicates */
}

static void takes_only_whole_numbers_that_a_double_can_hold(void **state)
{
	SCOPED(json_free)
	struct json *root =
		parse("[0,9007199254740992,9007199254740994,-1,1.5,1e400,1e3,\"1\",18446744073709551616]");
	const int expected[] = { 0, 0, -EINVAL, -EINVAL, -EINVAL, -EINVAL, 0, -EINVAL, -EINVAL };
	uint64_t n;
	int i = 0;

	for (const struct json *c = json_first(root); c; c = json_next(c))
		assert_int_equal(json_u64(c, &n), expected[i++]);
}

static void refuses_what_is_not_json(void **state)
{
	refuse("");
	refuse(" ");
	refuse("{");
	refuse("{\"a\":}");
	refuse("[1,2");
	refuse("nul");
	refuse("\"open");
	refuse("\"a\\");
	refuse("\"\\u12\"");
	refuse("{} {}");
	refuse("{}x");
	refuse("<html>");
	refuse("\"a\nb\"");
	refuse("[1,\001 2]");
	refuse("]");
}

static void accepts_white_space_around(void **state)
{
	json_free(parse(" \r\n\t{} \r\n\t"));
}

static void refuses_nul_bytes_in_the_text(void **state)
{
	struct json *root = NULL;

	assert_int_equal(json_parse(STR("\"a\0b\""), &root), -EINVAL);
	assert_int_equal(json_parse(STR("{}\0"), &root), -EINVAL);
}

static void never_shortens_a_string_at_an_escaped_nul(void **state)
{
	SCOPED(json_free) struct json *root = parse("{\"pad\":\"a\\u0000b\",\"ok\":\"\\\\u0000\"}");

	assert_true(str_eq(json_string(json_get(root, "pad")), STR("a\xef\xbf\xbd"
								   "b")));
	assert_true(str_eq(json_string(json_get(root, "ok")), STR("\\u0000")));
}

static void mends_halves_of_pairs_and_keeps_whole_ones(void **state)
{
	SCOPED(json_free)
	struct json *root = parse("[\"\\ud83d\\ude00\",\"\\ud83d\",\"\\ude00x\",\"\\ud83d\\u0041\"]");
	const struct json *c = json_first(root);

	assert_true(str_eq(json_string(c), STR("\xf0\x9f\x98\x80")));
	c = json_next(c);
	assert_true(str_eq(json_string(c), STR("\xef\xbf\xbd")));
	c = json_next(c);
	assert_true(str_eq(json_string(c), STR("\xef\xbf\xbdx")));
	c = json_next(c);
	assert_true(str_eq(json_string(c), STR("\xef\xbf\xbd"
					       "A")));
}

static void nest(struct buf *b, int depth)
{
	buf_reset(b);
	for (int i = 0; i < depth; i++)
		buf_append_str(b, i % 2 ? STR("{\"a\":") : STR("["));
	buf_append_str(b, STR("\"]}\\\"[{\""));
	for (int i = depth - 1; i >= 0; i--)
		buf_append_char(b, i % 2 ? '}' : ']');
}

static void accepts_depth_64_and_refuses_65(void **state)
{
	const char *const names[] = { "x" };
	SCOPED_BUF b, out;
	struct json *root = NULL;

	buf_init(&b, 1 << 20);
	buf_init(&out, 1 << 20);
	nest(&b, 64);
	assert_int_equal(json_parse(buf_str(&b), &root), 0);
	json_free(root);
	assert_int_equal(json_strip_members(buf_str(&b), names, 1, &out), 0);
	assert_true(str_eq(buf_str(&out), buf_str(&b)));
	nest(&b, 65);
	assert_int_equal(json_parse(buf_str(&b), &root), -EINVAL);
	assert_int_equal(json_strip_members(buf_str(&b), names, 1, &out), -EINVAL);
	nest(&b, 100000);
	assert_int_equal(json_parse(buf_str(&b), &root), -EINVAL);
	assert_int_equal(json_strip_members(buf_str(&b), names, 1, &out), -EINVAL);
}

static void refuses_millions_of_values_before_it_builds_them(void **state)
{
	SCOPED_BUF b;
	struct json *root = NULL;

	buf_init(&b, 1 << 23);
	buf_append_char(&b, '[');
	for (int i = 0; i < 2000001; i++)
		buf_append_str(&b, STR("0,"));
	buf_append_str(&b, STR("0]"));
	assert_int_equal(json_parse(buf_str(&b), &root), -EINVAL);
}

static void writes_strings_that_read_back(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 200);
	assert_int_equal(json_write_string(&b, STR("a\"\\\n\t\001\x7f/\xc3\xa9\0z")), 0);
	assert_string_equal(b.bytes, "\"a\\\"\\\\\\n\\t\\u0001\\u007f/\xc3\xa9\\u0000z\"");
	buf_reset(&b);
	assert_int_equal(json_write_string(&b, STR("\xff\xc0\x80\xed\xa0\x80")), 0);
	assert_string_equal(b.bytes,
			    "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	buf_reset(&b);
	assert_int_equal(json_write_string(&b, (struct str){ NULL, 0 }), 0);
	assert_string_equal(b.bytes, "\"\"");
}

static void writing_more_than_fits_is_told(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 4);
	assert_int_equal(json_write_string(&b, STR("abc")), -E2BIG);
}

static void strips(const char *text, const char *expected)
{
	static const char *const names[] = { "xetHash", "y" };
	SCOPED_BUF out;

	buf_init(&out, 10000);
	assert_int_equal(json_strip_members(str_from(text), names, 2, &out), 0);
	assert_string_equal(buf_str(&out).ptr, expected);
}

static void strips_members_wherever_they_stand(void **state)
{
	strips("{\"a\":1,\"xetHash\":\"x\",\"b\":2}", "{\"a\":1,\"b\":2}");
	strips("{\"xetHash\":\"x\",\"b\":2}", "{\"b\":2}");
	strips("{\"a\":1,\"xetHash\":\"x\"}", "{\"a\":1}");
	strips("{\"xetHash\":\"x\"}", "{}");
	strips("{\"xetHash\":1,\"y\":2,\"b\":3,\"y\":4,\"xetHash\":5}", "{\"b\":3}");
	strips("{\"xetHash\":1,\"y\":2}", "{}");
	strips("[{\"lfs\":{\"y\":[1,{\"y\":2}],\"oid\":\"y\"}},{\"y\":{}}]",
	       "[{\"lfs\":{\"oid\":\"y\"}},{}]");
	strips("{\"a\":{\"y\":1},\"y\":{\"a\":1},\"c\":{\"y\":1,\"d\":2}}", "{\"a\":{},\"c\":{\"d\":2}}");
}

static void strips_with_white_space_and_leaves_the_rest_of_it(void **state)
{
	strips(" { \"a\" : 1.50 , \"xetHash\" : \"x\" , \"b\" : 1e2 } \n",
	       " { \"a\" : 1.50  , \"b\" : 1e2 } \n");
	strips("{\n  \"a\": 1,\n  \"y\": 2\n}", "{\n  \"a\": 1\n}");
	strips("{ \"y\": 2, \"a\": 1 }", "{  \"a\": 1 }");
	strips("{ \"y\" : 2 }", "{  }");
}

static void strips_names_written_with_escapes(void **state)
{
	strips("{\"a\":1,\"xet\\u0048ash\":\"x\"}", "{\"a\":1}");
}

static void leaves_values_and_other_names_alone(void **state)
{
	const char text[] = "{\"xethash\":\"xetHash\",\"l\":[\"y\",\"\\ud800\\u0000\\/"
			    "\"],\"n\":123456789012345678901,\"\":\"\"}";

	strips(text, text);
	strips("\"y\"", "\"y\"");
	strips("[]", "[]");
	strips("-0.5E+7", "-0.5E+7");
}

static void refuses_to_edit_broken_text(void **state)
{
	static const char *const broken[] = {
		"",           "{",     "{\"a\"", "{\"a\":", "{\"a\":1",     "{\"a\":1,",
		"{\"a\":1,}", "{a:1}", "[1 2]",  "[1,]",    "{\"a\" 1}",    "\"\\",
		"\"x",        "{}{}",  "[}",     "tru",     "{\"y\\q\":1}", "[\"a\nb\"]"
	};
	static const char *const names[] = { "y" };
	SCOPED_BUF out;

	buf_init(&out, 10000);
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		if (json_strip_members(str_from(broken[i]), names, 1, &out) != -EINVAL)
			fail_msg("accepted: %s", broken[i]);
}

static void editing_into_too_small_a_buf_is_told(void **state)
{
	static const char *const names[] = { "y" };
	SCOPED_BUF out;

	buf_init(&out, 5);
	assert_int_equal(json_strip_members(STR("{\"abc\":1}"), names, 1, &out), -E2BIG);
}

/* Replaces URLs of one host and notes which members it was asked about. */
static bool to_other_host(void *ctx, struct str member, struct str value, struct buf *out)
{
	struct buf *asked = ctx;

	buf_append_str(asked, member);
	buf_append_char(asked, ' ');
	if (!str_starts_with(value, STR("https://hub/")))
		return false;
	buf_append_str(out, STR("http://us/"));
	buf_append_str(out, (struct str){ value.ptr + 12, value.len - 12 });
	return true;
}

static void edits(const char *text, const char *expected, const char *expected_asked)
{
	SCOPED_BUF out, asked;

	buf_init(&out, 10000);
	buf_init(&asked, 10000);
	assert_int_equal(json_edit_strings(str_from(text), to_other_host, &asked, &out), 0);
	assert_string_equal(buf_str(&out).ptr, expected);
	assert_string_equal(buf_str(&asked).ptr, expected_asked);
}

static void edits_only_the_strings_that_it_is_told_to(void **state)
{
	edits("{\"url\": \"https://hub/a\", \"n\": 1, \"t\": \"x\\u0041\"}",
	      "{\"url\": \"http://us/a\", \"n\": 1, \"t\": \"x\\u0041\"}", "url t ");
	edits("\"https://hub/\"", "\"http://us/\"", " ");
	edits("{\"https://hub/\":null}", "{\"https://hub/\":null}", "");
}

static void edits_unescaped_values_and_escapes_the_new_ones(void **state)
{
	edits("[\"https:\\/\\/hub\\/\\u0022\\ud83d\\ude00\"]", "[\"http://us/\\\"\xf0\x9f\x98\x80\"]", " ");
}

static void names_the_innermost_member_also_after_a_nested_object(void **state)
{
	edits("{\"a\":[{\"b\":\"x\"},\"y\",[\"z\"]],\"c\\n\":\"w\"}",
	      "{\"a\":[{\"b\":\"x\"},\"y\",[\"z\"]],\"c\\n\":\"w\"}", "b a a c\n ");
}

static void refuses_to_edit_strings_with_bad_escapes(void **state)
{
	SCOPED_BUF out, asked;

	buf_init(&out, 100);
	buf_init(&asked, 100);
	assert_int_equal(json_edit_strings(STR("[\"\\q\"]"), to_other_host, &asked, &out), -EINVAL);
	assert_int_equal(json_edit_strings(STR("[\"\\u12g4\"]"), to_other_host, &asked, &out), -EINVAL);
	assert_int_equal(json_edit_strings(STR("[\"\\u12\"]"), to_other_host, &asked, &out), -EINVAL);
}

static void swaps(const char *text, const char *want)
{
	static const char *const names[] = { "xetHash" };
	static const struct json_swap swap[] = { { "xetEnabled", "true", "false" } };
	SCOPED_BUF out;

	buf_init(&out, 1000);
	assert_int_equal(json_edit_members(str_from(text), names, 1, swap, 1, &out), 0);
	assert_string_equal(out.bytes, want);
}

static void swaps_one_literal_of_one_member_and_nothing_else(void **state)
{
	swaps("{\"a\":true,\"xetEnabled\":true,\"b\":1}", "{\"a\":true,\"xetEnabled\":false,\"b\":1}");
	swaps("[{ \"xet\\u0045nabled\" :  true }]", "[{ \"xet\\u0045nabled\" :  false }]");
	swaps("{\"xetEnabled\":false}", "{\"xetEnabled\":false}");
	swaps("{\"xetEnabled\":\"true\",\"xetHash\":\"f\"}", "{\"xetEnabled\":\"true\"}");
	swaps("{\"xetHash\":{\"xetEnabled\":true},\"z\":[\"xetEnabled\",true]}",
	      "{\"z\":[\"xetEnabled\",true]}");
	swaps("{\"xetEnabled\":{\"xetHash\":1,\"xetEnabled\":true}}",
	      "{\"xetEnabled\":{\"xetEnabled\":false}}");
}

static void gives_elements_as_they_are_written(void **state)
{
	const char *want[] = { "{\"a\":[1,\"]\"]}", "\"x\\\"],\"", "-1.50e3", "[]", "null" };
	struct str rest = STR(" {\"a\":[1,\"]\"]} ,\"x\\\"],\",-1.50e3 ,\n[],null] after"), element;

	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(json_next_element(&rest, &element), 1);
		assert_int_equal(element.len, strlen(want[i]));
		assert_memory_equal(element.ptr, want[i], element.len);
	}
	assert_int_equal(json_next_element(&rest, &element), 0);
}

static void an_element_that_is_cut_off_anywhere_is_waited_for(void **state)
{
	struct str text = STR("{\"a\":\"\\\"}\",\"b\":[1,2]} , 12]"), element;

	for (size_t len = 0; len < text.len; len++) {
		struct str rest = { text.ptr, len };
		int first = json_next_element(&rest, &element);

		if (first == 1)
			assert_int_equal(json_next_element(&rest, &element), -EAGAIN);
		else
			assert_int_equal(first, -EAGAIN);
		assert_true(rest.ptr + rest.len == text.ptr + len);
	}
}

static void refuses_elements_without_a_comma_between_them(void **state)
{
	struct str rest = STR("1 2]"), element;

	assert_int_equal(json_next_element(&rest, &element), -EINVAL);
	rest = STR(",1]");
	assert_int_equal(json_next_element(&rest, &element), -EINVAL);
}

static void find(const char *object, const char *name, const char *want)
{
	struct str raw = { NULL, 0 };
	int r = json_find_member(str_from(object), name, &raw);

	assert_int_equal(r, want ? 0 : -ENOENT);
	if (want) {
		assert_int_equal(raw.len, strlen(want));
		assert_memory_equal(raw.ptr, want, raw.len);
	}
}

static void finds_an_objects_own_member(void **state)
{
	const char *object =
		"{\"lfs\":{\"path\":\"no\"} , \"size\" : 12,\"p\\u0061th\":\"a\\/b\",\"t\":\"path\"}";

	find(object, "path", "\"a\\/b\"");
	find(object, "size", "12");
	find(object, "t", "\"path\"");
	find(object, "oid", NULL);
	find("{}", "path", NULL);
	find("{\"a\":1}", "path", NULL);
}

static void refuses_to_look_into_what_is_no_object(void **state)
{
	struct str raw;

	assert_int_equal(json_find_member(STR("[\"path\"]"), "path", &raw), -EINVAL);
	assert_int_equal(json_find_member(STR(""), "path", &raw), -EINVAL);
	assert_int_equal(json_find_member(STR("{\"path"), "path", &raw), -EINVAL);
	assert_int_equal(json_find_member(STR("{\"path\":"), "path", &raw), -EINVAL);
}

static void reads_what_a_string_stands_for(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, 100);
	assert_int_equal(json_unquote(STR("\"gr\\u00fc\\n\\/\""), &out), 0);
	assert_string_equal(out.bytes, "gr\xc3\xbc\n/");
	assert_int_equal(json_unquote(STR("12"), &out), -EINVAL);
	assert_int_equal(json_unquote(STR("\""), &out), -EINVAL);
	assert_int_equal(json_unquote(STR("\"\\q\""), &out), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_members_of_a_tree_entry),
		cmocka_unit_test(answers_nothing_for_what_is_not_there),
		cmocka_unit_test(walks_in_order_and_knows_names),
		cmocka_unit_test(takes_only_whole_numbers_that_a_double_can_hold),
		cmocka_unit_test(refuses_what_is_not_json),
		cmocka_unit_test(accepts_white_space_around),
		cmocka_unit_test(refuses_nul_bytes_in_the_text),
		cmocka_unit_test(never_shortens_a_string_at_an_escaped_nul),
		cmocka_unit_test(mends_halves_of_pairs_and_keeps_whole_ones),
		cmocka_unit_test(accepts_depth_64_and_refuses_65),
		cmocka_unit_test(refuses_millions_of_values_before_it_builds_them),
		cmocka_unit_test(writes_strings_that_read_back),
		cmocka_unit_test(writing_more_than_fits_is_told),
		cmocka_unit_test(strips_members_wherever_they_stand),
		cmocka_unit_test(strips_with_white_space_and_leaves_the_rest_of_it),
		cmocka_unit_test(strips_names_written_with_escapes),
		cmocka_unit_test(leaves_values_and_other_names_alone),
		cmocka_unit_test(refuses_to_edit_broken_text),
		cmocka_unit_test(editing_into_too_small_a_buf_is_told),
		cmocka_unit_test(edits_only_the_strings_that_it_is_told_to),
		cmocka_unit_test(edits_unescaped_values_and_escapes_the_new_ones),
		cmocka_unit_test(names_the_innermost_member_also_after_a_nested_object),
		cmocka_unit_test(refuses_to_edit_strings_with_bad_escapes),
		cmocka_unit_test(swaps_one_literal_of_one_member_and_nothing_else),
		cmocka_unit_test(gives_elements_as_they_are_written),
		cmocka_unit_test(an_element_that_is_cut_off_anywhere_is_waited_for),
		cmocka_unit_test(refuses_elements_without_a_comma_between_them),
		cmocka_unit_test(finds_an_objects_own_member),
		cmocka_unit_test(refuses_to_look_into_what_is_no_object),
		cmocka_unit_test(reads_what_a_string_stands_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
