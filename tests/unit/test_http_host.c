/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http/host - names and patterns.
 */
#include "common/http/host.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void cuts_the_port_off(void **state)
{
	assert_true(str_eq(host_without_port(STR("a.test:443")), STR("a.test")));
	assert_true(str_eq(host_without_port(STR("a.test")), STR("a.test")));
	assert_true(str_eq(host_without_port(STR("[::1]:443")), STR("[::1]")));
	assert_true(str_eq(host_without_port(STR("[::1]")), STR("[::1]")));
	assert_true(str_eq(host_without_port(STR("")), STR("")));
}

static void knows_a_name_from_what_is_none(void **state)
{
	static const char *const good[] = { "a",        "huggingface.co", "A.B",    "a.b.",
					    "_dmarc.a", "xn--a.test",     "1.test", "a-b.c1" };
	static const char *const bad[] = { "",      ".",     "a..b",        ".a",       "-a.b",
					   "a-.b",  "a b",   "a/b",         "a:1",      "1.2.3.4",
					   "[::1]", "a.123", "a\xc3\xa4.b", "*.a.test", "a..",
					   "a%2e" };
	char label[66] = "", name[300];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(host_is_name(str_from(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(host_is_name(str_from(bad[i])));
	assert_false(host_is_name((struct str){ "a\0b", 3 }));
	memset(label, 'a', 64);
	assert_false(host_is_name((struct str){ label, 64 }));
	assert_true(host_is_name((struct str){ label, 63 }));
	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 2 ? '.' : 'a';
	assert_true(host_is_name((struct str){ name, HOST_NAME_MAX_BYTES }));
	assert_false(host_is_name((struct str){ name, HOST_NAME_MAX_BYTES + 2 }));
}

static void matches_names_below_only_where_a_star_stands(void **state)
{
	static const char *const patterns[] = { "huggingface.co", "*.hf.test", NULL };
	static const char *const all[] = { "*", NULL };
	static const char *const empty[] = { "", NULL };

	assert_true(host_matches(patterns, STR("huggingface.co")));
	assert_true(host_matches(patterns, STR("HuggingFace.CO")));
	assert_true(host_matches(patterns, STR("huggingface.co.")));
	assert_true(host_matches(patterns, STR("a.hf.test")));
	assert_true(host_matches(patterns, STR("a.b.HF.test")));
	assert_false(host_matches(patterns, STR("hf.test")));
	assert_false(host_matches(patterns, STR(".hf.test")));
	assert_false(host_matches(patterns, STR("ahf.test")));
	assert_false(host_matches(patterns, STR("a.huggingface.co")));
	assert_false(host_matches(patterns, STR("huggingface.com")));
	assert_false(host_matches(patterns, STR("huggingface.c")));
	assert_false(host_matches(patterns, STR("")));
	assert_false(host_matches(patterns, STR(".")));
	assert_true(host_matches(all, STR("a")));
	assert_false(host_matches(all, STR("")));
	assert_false(host_matches(empty, STR("a")));
	assert_false(host_matches(NULL, STR("a")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_the_port_off),
		cmocka_unit_test(knows_a_name_from_what_is_none),
		cmocka_unit_test(matches_names_below_only_where_a_star_stands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
