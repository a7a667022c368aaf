/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a list of fields keeps order and repeats, refuses what could end a line, and knows hop-by-hop
 * names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/http/header.h"

#include <errno.h>

static void assert_value(const struct headers *h, const char *name, const char *value)
{
	assert_true(str_eq(headers_get(h, str_from(name)), str_from(value)));
}

static void keeps_order_and_repeats(void **state)
{
	struct headers h;

	headers_init(&h);
	assert_int_equal(headers_add(&h, STR("Link"), STR("<a>")), 0);
	assert_int_equal(headers_add(&h, STR("ETag"), STR("\"x\"")), 0);
	assert_int_equal(headers_add(&h, STR("link"), STR("<b>")), 0);
	assert_int_equal(h.count, 3);
	assert_value(&h, "LINK", "<a>");
	assert_int_equal(headers_count_of(&h, STR("link")), 2);
	assert_string_equal(h.fields[2].value, "<b>");
	assert_null(headers_get(&h, STR("none")).ptr);
	assert_int_equal(headers_count_of(&h, STR("none")), 0);
	headers_done(&h);
	assert_int_equal(h.count, 0);
}

static void an_empty_value_is_not_an_absent_one(void **state)
{
	struct headers h;

	headers_init(&h);
	assert_int_equal(headers_add(&h, STR("A"), STR("")), 0);
	assert_non_null(headers_get(&h, STR("a")).ptr);
	assert_int_equal(headers_get(&h, STR("a")).len, 0);
	headers_done(&h);
}

static void refuses_names_and_values_that_could_forge_a_line(void **state)
{
	const struct str bad_names[] = { STR(""),    STR("a b"),      STR("a:"),   STR("a\r\n"),
					 STR("a\0"), STR("\xc3\xa9"), STR("a(b)"), STR("a\x7f") };
	const struct str bad_values[] = { STR("a\r\nB: c"), STR("\n"), STR("a\0b"), STR("\x7f"),
					  STR("\033[0m") };
	struct headers h;

	headers_init(&h);
	for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++)
		assert_int_equal(headers_add(&h, bad_names[i], STR("v")), -EINVAL);
	for (size_t i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++) {
		assert_int_equal(headers_add(&h, STR("n"), bad_values[i]), -EINVAL);
		assert_int_equal(headers_set(&h, STR("n"), bad_values[i]), -EINVAL);
	}
	assert_int_equal(headers_addf(&h, "n", "%s", "a\nb"), -EINVAL);
	assert_int_equal(h.count, 0);
	assert_int_equal(headers_add(&h, STR("n"), STR("tab\tand caf\xc3\xa9")), 0);
	headers_done(&h);
}

static void a_failed_set_keeps_the_old_value(void **state)
{
	struct headers h;

	headers_init(&h);
	headers_add(&h, STR("a"), STR("old"));
	assert_int_equal(headers_set(&h, STR("a"), STR("new\n")), -EINVAL);
	assert_value(&h, "a", "old");
	headers_done(&h);
}

static void sets_in_place_of_all_former_ones(void **state)
{
	struct headers h;

	headers_init(&h);
	headers_add(&h, STR("a"), STR("1"));
	headers_add(&h, STR("b"), STR("2"));
	headers_add(&h, STR("A"), STR("3"));
	assert_int_equal(headers_set(&h, STR("a"), STR("4")), 0);
	assert_int_equal(headers_count_of(&h, STR("a")), 1);
	assert_value(&h, "a", "4");
	/* both borrowed from the field that is replaced */
	assert_int_equal(headers_set(&h, str_from(h.fields[1].name), headers_get(&h, STR("a"))), 0);
	assert_value(&h, "a", "4");
	headers_remove(&h, str_from(h.fields[0].name));
	assert_int_equal(headers_count_of(&h, STR("b")), 0);
	headers_remove(&h, STR("b"));
	assert_int_equal(h.count, 1);
	headers_done(&h);
}

static void formats_values_of_any_length(void **state)
{
	struct headers h;

	headers_init(&h);
	assert_int_equal(headers_addf(&h, "Content-Range", "bytes %d-%d/%llu", 0, 0, 548105171ULL), 0);
	assert_value(&h, "content-range", "bytes 0-0/548105171");
	assert_int_equal(headers_addf(&h, "Long", "%05000d", 1), 0);
	assert_int_equal(headers_get(&h, STR("long")).len, 5000);
	headers_done(&h);
}

static void copies_add_to_what_is_there(void **state)
{
	struct headers from, to;

	headers_init(&from);
	headers_init(&to);
	for (int i = 0; i < 40; i++)
		headers_addf(&from, "x", "%d", i);
	headers_add(&to, STR("y"), STR("kept"));
	headers_copy(&to, &from);
	headers_done(&from);
	assert_int_equal(to.count, 41);
	assert_value(&to, "y", "kept");
	assert_string_equal(to.fields[40].value, "39");
	headers_done(&to);
}

static void knows_hop_by_hop_names_and_those_listed_in_connection(void **state)
{
	struct headers h;

	headers_init(&h);
	headers_add(&h, STR("Connection"), STR("close, X-Secret ,"));
	headers_add(&h, STR("connection"), STR("\tx-other"));
	assert_true(header_is_hop_by_hop(NULL, STR("Transfer-Encoding")));
	assert_true(header_is_hop_by_hop(NULL, STR("connection")));
	assert_true(header_is_hop_by_hop(NULL, STR("TE")));
	assert_true(header_is_hop_by_hop(NULL, STR("Proxy-Authorization")));
	assert_false(header_is_hop_by_hop(NULL, STR("x-secret")));
	assert_true(header_is_hop_by_hop(&h, STR("x-secret")));
	assert_true(header_is_hop_by_hop(&h, STR("X-Other")));
	assert_false(header_is_hop_by_hop(&h, STR("x-sec")));
	assert_false(header_is_hop_by_hop(&h, STR("Content-Length")));
	assert_false(header_is_hop_by_hop(&h, STR("")));
	headers_done(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_order_and_repeats),
		cmocka_unit_test(an_empty_value_is_not_an_absent_one),
		cmocka_unit_test(refuses_names_and_values_that_could_forge_a_line),
		cmocka_unit_test(a_failed_set_keeps_the_old_value),
		cmocka_unit_test(sets_in_place_of_all_former_ones),
		cmocka_unit_test(formats_values_of_any_length),
		cmocka_unit_test(copies_add_to_what_is_there),
		cmocka_unit_test(knows_hop_by_hop_names_and_those_listed_in_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
