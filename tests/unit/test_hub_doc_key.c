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

static void assert_key_of(const char *what, const char *query, const char *want)
{
	SCOPED_BUF key;

	assert_int_equal(doc_key(&key, true, what, STR("c0"), STR("a/b"), str_from(query)), 0);
	assert_string_equal(key.bytes, want);
}

static void assert_key(const char *query, const char *want)
{
	assert_key_of("tree", query, want);
}

static void assert_no_key(const char *what, const char *query, int error)
{
	SCOPED_BUF key, normal;

	assert_int_equal(doc_key(&key, true, what, STR("c0"), STR("a/b"), str_from(query)), error);
	assert_int_equal(doc_query(what, str_from(query), &normal), error);
}

static void spellings_of_one_question_meet(void **state)
{
	assert_key("recursive=true&expand=false", "c:tree/c0/a/b?recursive=true");
	assert_key("recursive=True", "c:tree/c0/a/b?recursive=true");
	assert_key("expand=False&recursive=1", "c:tree/c0/a/b?recursive=true");
	assert_key("", "c:tree/c0/a/b");
	assert_key("&&", "c:tree/c0/a/b");
	assert_key("recursive=0", "c:tree/c0/a/b");
	assert_key("limit=5&cursor=Zm9v%3D%3D&recursive=true",
		   "c:tree/c0/a/b?cursor=Zm9v%3D%3D&limit=5&recursive=true");
}

static void different_questions_stay_apart(void **state)
{
	assert_key("expand=true", "c:tree/c0/a/b?expand=true");
	assert_key("limit=1", "c:tree/c0/a/b?limit=1");
	assert_key_of("info", "expand=sha&expand=likes", "c:info/c0/a/b?expand=sha&expand=likes");
	assert_key_of("info", "expand=likes&expand=sha", "c:info/c0/a/b?expand=likes&expand=sha");
	assert_key_of("revision", "expand[]=sha&blobs=1", "c:revision/c0/a/b?blobs=true&expand[]=sha");
	assert_key_of("commits", "p=2&expand%5B%5D=formatted", "c:commits/c0/a/b?expand%5B%5D=formatted&p=2");
	assert_key_of("refs", "include_prs=1", "c:refs/c0/a/b?include_prs=true");
	assert_key_of("paths-info", "expand=True", "c:paths-info/c0/a/b?expand=true");
}

static void a_query_that_is_not_known_has_no_key(void **state)
{
	static const char *const of_tree[] = {
		"x1=1",    "recursive=true&x=1", "recursive=maybe", "recursive",  "limit=0",
		"limit=x", "limit=01",           "limit=10000",     "expand[]=a", "Recursive=true",
		"cursor=", "cursor=a%00?b",      "blobs=true",      "=1",         "recursiv%65=true"
	};
	static const char *const bare[] = { "treesize", "parquet", "croissant", "whole", "something" };

	for (size_t i = 0; i < sizeof(of_tree) / sizeof(of_tree[0]); i++)
		assert_no_key("tree", of_tree[i], -ENOTSUP);
	for (size_t i = 0; i < sizeof(bare) / sizeof(bare[0]); i++)
		assert_no_key(bare[i], "recursive=true", -ENOTSUP);
	assert_no_key("info", "recursive=true", -ENOTSUP);
	assert_no_key("info", "expand=a/b", -ENOTSUP);
	assert_no_key("info", "expand=", -ENOTSUP);
	assert_no_key("refs", "blobs=true", -ENOTSUP);
}

static void refuses_a_known_parameter_that_comes_twice(void **state)
{
	assert_no_key("tree", "recursive=false&recursive=true", -EINVAL);
	assert_no_key("tree", "recursive=true&recursive=true", -EINVAL);
	assert_no_key("tree", "expand=false&expand=true", -EINVAL);
	assert_no_key("tree", "cursor=a&x=1&cursor=b", -EINVAL);
	assert_no_key("info", "blobs=false&expand=sha&blobs=true", -EINVAL);
}

static void a_list_has_an_end(void **state)
{
	SCOPED_BUF query, key, normal;

	buf_init(&query, 65536);
	for (int i = 0; i < 32; i++)
		buf_append_str(&query, i % 2 ? STR("expand=sha&") : STR("expand[]=sha&"));
	assert_int_equal(doc_key(&key, false, "info", STR(""), STR(""), buf_str(&query)), 0);
	for (int i = 0; i < 4000; i++)
		buf_append_str(&query, STR("expand=sha&"));
	assert_int_equal(doc_query("info", buf_str(&query), &normal), -ENOTSUP);
	/* whatever has been left out, what comes twice is seen */
	buf_append_str(&query,
		       STR("blobs=true&full=true&config=true&cardData=true&securityStatus=true&full=false"));
	buf_done(&normal);
	assert_int_equal(doc_query("info", buf_str(&query), &normal), -EINVAL);
}

static void refuses_a_key_that_is_too_long(void **state)
{
	SCOPED_BUF query, key;

	buf_init(&query, 65536);
	for (int i = 0; i < 32; i++)
		buf_appendf(&query, "expand=%0200d&", i);
	assert_int_equal(doc_key(&key, false, "info", STR(""), STR(""), buf_str(&query)), -E2BIG);
}

static int question(struct doc_spec *spec, const char *query, struct buf *key, struct buf *target,
		    struct reply *r)
{
	reply_init(r);
	buf_init(target, 16384);
	buf_append_str(target, STR("/api/models/a/b/tree/c0"));
	return doc_question(spec, "tree", STR("c0"), STR(""), str_from(query), key, target, r);
}

static void asks_upstream_by_the_name_of_the_answer(void **state)
{
	struct doc_spec spec = { .class = ENDPOINT_API, .method = "GET", .is_pinned = true };
	SCOPED_BUF key, target;
	struct reply r;

	assert_int_equal(question(&spec, "recursive=1&&limit=7&expand=False", &key, &target, &r), 0);
	assert_false(spec.is_unkept);
	assert_string_equal(spec.key.ptr, "c:tree/c0/?limit=7&recursive=true");
	assert_string_equal(spec.target.ptr, "/api/models/a/b/tree/c0?limit=7&recursive=true");
	reply_done(&r);
}

static void a_strange_question_goes_as_it_came_and_is_not_kept(void **state)
{
	struct doc_spec spec = { .class = ENDPOINT_API, .method = "GET", .is_pinned = true };
	SCOPED_BUF key, target;
	struct reply r;

	assert_int_equal(question(&spec, "x=1&recursive=True", &key, &target, &r), 0);
	assert_true(spec.is_unkept);
	assert_string_equal(spec.target.ptr, "/api/models/a/b/tree/c0?x=1&recursive=True");
	assert_true(str_starts_with(spec.key, STR("u:")));
	reply_done(&r);
}

static void answers_400_to_what_comes_twice(void **state)
{
	struct doc_spec spec = { .class = ENDPOINT_API, .method = "GET", .is_pinned = true };
	SCOPED_BUF key, target;
	struct reply r;

	assert_int_equal(question(&spec, "recursive=false&recursive=true", &key, &target, &r), 1);
	assert_int_equal(r.status, 400);
	reply_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spellings_of_one_question_meet),
		cmocka_unit_test(different_questions_stay_apart),
		cmocka_unit_test(a_query_that_is_not_known_has_no_key),
		cmocka_unit_test(refuses_a_known_parameter_that_comes_twice),
		cmocka_unit_test(a_list_has_an_end),
		cmocka_unit_test(refuses_a_key_that_is_too_long),
		cmocka_unit_test(asks_upstream_by_the_name_of_the_answer),
		cmocka_unit_test(a_strange_question_goes_as_it_came_and_is_not_kept),
		cmocka_unit_test(answers_400_to_what_comes_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
