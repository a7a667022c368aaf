/* SPDX-License-Identifier: Apache-2.0 */
/* hub/link: URLs of the Hub become ours by field; everything else stays as it is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hub/priv.h"

static struct hub hub; /* no fetch: only the public names count as the Hub */

static void assert_next(const char *value, const char *want)
{
	SCOPED_FREE char *got = link_next_of(&hub, str_from(value));

	if (want)
		assert_string_equal(got, want);
	else
		assert_null(got);
}

static void takes_the_next_page_of_the_hub_only(void **state)
{
	assert_next("<https://huggingface.co/api/models/a/b/tree/main?cursor=Zg%3D%3D>; rel=\"next\"",
		    "/api/models/a/b/tree/main?cursor=Zg%3D%3D");
	assert_next("</api/x?p=2>;rel=\"next\"", "/api/x?p=2");
	assert_next("<https://huggingface.co/a>; rel=\"prev\", <https://huggingface.co/b>; rel=\"next\"",
		    "/b");
	assert_next("<https://evil.example/api>; rel=\"next\"", NULL);
	assert_next("<https://huggingface.co.evil.example/api>; rel=\"next\"", NULL);
	assert_next("<https://huggingface.co/t>; rel=\"xet-auth\", <https://cas/x>; "
		    "rel=\"xet-reconstruction-info\"",
		    NULL);
	assert_next("<//evil.example/x>; rel=\"next\"", NULL);
	assert_next("<unclosed", NULL);
	assert_next("", NULL);
}

static void assert_repo(const char *repo, const char *target, const char *location, const char *want)
{
	SCOPED_BUF scratch;
	struct str got = link_repo_of(&hub, str_from(location), str_from(target), str_from(repo), &scratch);

	if (!want) {
		assert_null(got.ptr);
		return;
	}
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.ptr, want, got.len);
}

static void learns_the_new_name_from_the_same_question_under_it(void **state)
{
	assert_repo("models/bert", "/api/models/bert", "/api/models/google-bert/bert",
		    "models/google-bert/bert");
	assert_repo("datasets/o/n", "/api/datasets/o/n/tree/main?recursive=true",
		    "/api/datasets/a/b/tree/main?recursive=true", "datasets/a/b");
	assert_repo("models/old/name", "/old/name/resolve/main/x", "/new/name/resolve/main/x",
		    "models/new/name");
	assert_repo("datasets/old/name", "/datasets/old/name/resolve/main/x",
		    "/datasets/new/name/resolve/main/x", "datasets/new/name");
	assert_repo("models/old/name", "/old/name/resolve/main/x",
		    "https://huggingface.co/new/name/resolve/main/x", "models/new/name");
}

static void takes_no_other_page_for_a_name(void **state)
{
	static const char *const pages[] = { "/login",
					     "/login?next=/old/name/resolve/main/x",
					     "/new/name/resolve/main/y",
					     "/new/name/resolve/dev/x",
					     "/datasets/new/name/resolve/main/x",
					     "/api/resolve-cache/models/a/b/0123/x",
					     "/a/b/c/resolve/main/x",
					     "//evil.example/resolve/main/x",
					     "/%6eew/name/resolve/main/x",
					     "/new/na%1bme/resolve/main/x",
					     "/new/na\x1bme/resolve/main/x",
					     "/new/.name/resolve/main/x",
					     "/-new/name/resolve/main/x",
					     "/resolve/main/x",
					     "https://evil.example/new/name/resolve/main/x" };

	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		assert_repo("models/old/name", "/old/name/resolve/main/x", pages[i], NULL);
}

static void rewrites_only_locations_of_the_hub(void **state)
{
	struct request q = { .base = (char *)"http://here:8090" };
	SCOPED_BUF out;

	buf_init(&out, 1000);
	link_location(&hub, &q, STR("https://huggingface.co/a/b"), &out);
	assert_string_equal(out.bytes, "http://here:8090/a/b");
	buf_reset(&out);
	link_location(&hub, &q, STR("/a/b?c"), &out);
	assert_string_equal(out.bytes, "/a/b?c");
	buf_reset(&out);
	link_location(&hub, &q, STR("https://other.example/x"), &out);
	assert_string_equal(out.bytes, "https://other.example/x");
}

static void next_link_is_absolute_with_a_space_and_without_commas(void **state)
{
	struct request q = { .base = (char *)"http://here:8090" };
	struct reply r;

	reply_init(&r);
	link_set_next(&r, &q, "/api/x?a=1,2");
	assert_string_equal(headers_get(&r.headers, STR("Link")).ptr,
			    "<http://here:8090/api/x?a=1%2C2>; rel=\"next\"");
	reply_done(&r);
}

static void assert_edited(const char *const *members, const char *text, const char *want)
{
	struct request q = { .base = (char *)"http://here:8090" };
	SCOPED_BUF out;

	buf_init(&out, 1000);
	assert_int_equal(link_edit_urls(&hub, &q, str_from(text), members, &out), 0);
	assert_string_equal(out.bytes, want);
}

static void makes_whole_addresses_of_the_hub_ours(void **state)
{
	assert_edited(NULL, "{\"c\":{\"s\":[\"https://huggingface.co/a/resolve/refs%2Fconvert/x.parquet\"]}}",
		      "{\"c\":{\"s\":[\"http://here:8090/a/resolve/refs%2Fconvert/x.parquet\"]}}");
	assert_edited(NULL, "[\"https:\\/\\/hf.co\\/x\"]", "[\"http://here:8090/x\"]");
	assert_edited(NULL, "[\"https://huggingface.co.evil.example/x\",\"/a\",\"\"]",
		      "[\"https://huggingface.co.evil.example/x\",\"/a\",\"\"]");
	assert_edited(NULL, "[\"see https://huggingface.co/x\",\"https://huggingface.co/x and y\"]",
		      "[\"see https://huggingface.co/x\",\"https://huggingface.co/x and y\"]");
}

static void edits_the_members_it_is_told_and_no_others(void **state)
{
	static const char *const members[] = { "url", "commitUrl", NULL };

	assert_edited(members,
		      "{\"commitUrl\":\"https://huggingface.co/c\",\"card\":\"https://huggingface.co/d\"}",
		      "{\"commitUrl\":\"http://here:8090/c\",\"card\":\"https://huggingface.co/d\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_the_next_page_of_the_hub_only),
		cmocka_unit_test(learns_the_new_name_from_the_same_question_under_it),
		cmocka_unit_test(takes_no_other_page_for_a_name),
		cmocka_unit_test(rewrites_only_locations_of_the_hub),
		cmocka_unit_test(makes_whole_addresses_of_the_hub_ours),
		cmocka_unit_test(edits_the_members_it_is_told_and_no_others),
		cmocka_unit_test(next_link_is_absolute_with_a_space_and_without_commas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
