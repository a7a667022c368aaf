/* SPDX-License-Identifier: Apache-2.0 */
/* hub/doc: different spellings of one question meet in one key; different questions never do. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hub/priv.h"

static void assert_key(const char *query, const char *want)
{
	SCOPED_BUF key;

	assert_int_equal(doc_key(&key, true, "tree", STR("c0"), STR("a/b"), str_from(query)), 0);
	assert_string_equal(key.bytes, want);
}

static void spellings_of_one_question_meet(void **state)
{
	assert_key("recursive=true&expand=false", "c:tree/c0/a/b?recursive=true");
	assert_key("recursive=True", "c:tree/c0/a/b?recursive=true");
	assert_key("expand=False&recursive=1", "c:tree/c0/a/b?recursive=true");
	assert_key("", "c:tree/c0/a/b");
	assert_key("recursive=0", "c:tree/c0/a/b");
}

static void different_questions_stay_apart(void **state)
{
	assert_key("expand=true", "c:tree/c0/a/b?expand=true");
	assert_key("expand=sha&expand=likes", "c:tree/c0/a/b?expand=sha&expand=likes");
	assert_key("expand=likes&expand=sha", "c:tree/c0/a/b?expand=likes&expand=sha");
	assert_key("z=1&unknown=x&cursor=abc", "c:tree/c0/a/b?cursor=abc&unknown=x&z=1");
	assert_key("limit=1", "c:tree/c0/a/b?limit=1");
}

static void refuses_more_parameters_than_a_client_sends(void **state)
{
	SCOPED_BUF query, key;

	buf_init(&query, 65536);
	for (int i = 0; i < 65; i++)
		buf_appendf(&query, "a%d=1&", i);
	assert_int_equal(doc_key(&key, false, "info", STR(""), STR(""), buf_str(&query)), -E2BIG);
	buf_reset(&query);
	buf_append_str(&query, STR("a="));
	for (int i = 0; i < 5000; i++)
		buf_append_char(&query, 'x');
	buf_done(&key);
	assert_int_equal(doc_key(&key, false, "info", STR(""), STR(""), buf_str(&query)), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spellings_of_one_question_meet),
		cmocka_unit_test(different_questions_stay_apart),
		cmocka_unit_test(refuses_more_parameters_than_a_client_sends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
