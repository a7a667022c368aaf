/* SPDX-License-Identifier: Apache-2.0 */
/* hub/lfs_text and hub/hrefs: what a batch asks, what upstream answers, how long its addresses are remembered. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hub/lfs_text.h"
#include "hub/priv.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct lfs_question read_question(const char *text)
{
	struct lfs_question q;

	lfs_question_read(str_from(text), &q);
	return q;
}

static void reads_a_download_and_asks_for_basic_alone(void **state)
{
	struct lfs_question q = read_question(
		"{\"transfers\":[\"xet\",\"basic\"],\"operation\":\"download\", \"objects\":[ {\"oid\":\"" A64
		"\",\"size\":5, \"x\":1}],\"ref\":{\"name\":\"refs/heads/a\"}}");
	SCOPED_BUF out;

	buf_init(&out, 4096);
	assert_int_equal(q.operation, LFS_DOWNLOAD);
	assert_true(q.is_plain);
	assert_int_equal(q.count, 1);
	assert_int_equal(q.objects[0].size, 5);
	assert_int_equal(q.objects[0].oid.bytes[31], 0xaa);
	assert_int_equal(lfs_question_write(&q, &out), 0);
	assert_string_equal(out.bytes, "{\"operation\":\"download\",\"transfers\":[\"basic\"],"
				       "\"ref\":{\"name\":\"refs/heads/a\"},\"objects\":[ {\"oid\":\"" A64
				       "\",\"size\":5, \"x\":1}],\"hash_algo\":\"sha256\"}");
	lfs_question_done(&q);
}

static void what_is_no_download_by_sha256_is_for_upstream_alone(void **state)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{}",
		"{\"operation\":\"download\"}",
		"{\"operation\":\"download\",\"objects\":{}}",
		"{\"operation\":\"download\",\"objects\":[],\"hash_algo\":\"sha512\"}",
		"{\"operation\":\"remove\",\"objects\":[]}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(read_question(texts[i]).operation, LFS_OTHER);
	assert_int_equal(read_question("{\"operation\":\"upload\",\"objects\":[]}").operation, LFS_UPLOAD);
}

static void an_object_that_cannot_be_read_makes_the_question_odd(void **state)
{
	static const char *const objects[] = { "{\"oid\":\"AAAA\",\"size\":1}", "{\"oid\":\"" A64 "\"}", "3",
					       "{\"oid\":\"" A64 "\",\"size\":-1}", "null" };

	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
		struct lfs_question q;
		SCOPED_BUF text;

		buf_init(&text, 4096);
		buf_appendf(&text,
			    "{\"operation\":\"download\",\"objects\":[%s,{\"oid\":\"" B64 "\",\"size\":7}]}",
			    objects[i]);
		q = read_question(text.bytes);
		assert_false(q.is_plain);
		assert_int_equal(q.count, 1);
		assert_int_equal(q.objects[0].size, 7);
		lfs_question_done(&q);
	}
}

static void put_url(void *ctx, const struct lfs_wanted *object, struct buf *out)
{
	buf_appendf(out, "http://here/%02x", object->oid.bytes[0]);
}

static void assert_edited(const char *text, const char *want)
{
	SCOPED_BUF out;
	int r;

	buf_init(&out, 4096);
	r = lfs_answer_edit(str_from(text), put_url, NULL, &out);
	assert_int_equal(r, want ? 0 : -EINVAL);
	if (want)
		assert_string_equal(out.bytes, want);
}

static void edits_the_address_and_nothing_else(void **state)
{
	assert_edited(
		"{\"transfer\" : \"basic\",\"objects\":[{\"oid\":\"" A64 "\",\"size\":1.0,\"actions\":"
		"{\"download\":{\"header\":{\"Authorization\":\"s\"},\"href\":\"https:\\/\\/cdn\", "
		"\"expires_in\":9}},"
		"\"z\":[ ]},{\"actions\":{},\"oid\":\"" B64 "\",\"error\":{\"code\":404}}], \"more\": 1}\n",
		"{\"transfer\" : \"basic\",\"objects\":[{\"oid\":\"" A64 "\",\"size\":1.0,\"actions\":"
		"{\"download\":{\"href\":\"http://here/aa\", \"expires_in\":9}},"
		"\"z\":[ ]},{\"actions\":{},\"oid\":\"" B64 "\",\"error\":{\"code\":404}}], \"more\": 1}\n");
	/* the name may stand behind */
	assert_edited(
		"{\"objects\":[{\"actions\":{\"download\":{\"href\":\"x\",\"header\":{}}},\"oid\":\"" B64
		"\"}]}",
		"{\"objects\":[{\"actions\":{\"download\":{\"href\":\"http://here/bb\"}},\"oid\":\"" B64
		"\"}]}");
	assert_edited("{\"objects\":[]}", "{\"objects\":[]}");
}

static void an_address_without_a_name_is_no_answer(void **state)
{
	assert_edited("{\"objects\":[{\"actions\":{\"download\":{\"href\":\"x\"}}}]}", NULL);
	assert_edited("{\"objects\":[{\"oid\":\"zz\",\"actions\":{\"download\":{\"href\":\"x\"}}}]}", NULL);
	assert_edited("{\"objects\":[{\"oid\":\"" A64 "\",\"actions\":{\"download\":{\"hrev\":\"x\"}}}]}",
		      NULL);
	assert_edited("{\"objects\":3}", NULL);
	assert_edited("[]", NULL);
	assert_edited("<html>", NULL);
}

static int take_given(void *ctx, const struct lfs_given *g)
{
	struct lfs_given *all = ctx;

	while (all->size || all->error_code)
		all++;
	*all = *g;
	return 0;
}

static void reads_what_is_given_and_until_when(void **state)
{
	struct lfs_given got[5] = { 0 };
	int r = lfs_answer_each(
		STR("{\"objects\":[{\"oid\":\"" A64 "\",\"size\":1,\"actions\":{\"download\":{\"href\":\"u\","
		    "\"expires_in\":60,\"expires_at\":\"1970-01-01T00:02:00Z\"}}},"
		    "{\"oid\":\"" B64 "\",\"size\":2,\"error\":{\"code\":410,\"message\":\"gone\"}},"
		    "{\"oid\":\"" A64 "\",\"size\":3,\"actions\":{\"download\":{\"href\":\"v\"}}},"
		    "{\"oid\":\"" A64
		    "\",\"size\":4,\"actions\":{\"download\":{\"href\":\"w\",\"expires_at\":\"soon\"}}},"
		    "{\"oid\":\"no\"},7]}"),
		30, take_given, got);

	assert_int_equal(r, 0);
	assert_int_equal(got[0].expires_at, 90);
	assert_int_equal(got[1].error_code, 410);
	assert_null(got[1].href.ptr);
	assert_int_equal(got[2].expires_at, INT64_MAX);
	assert_int_equal(got[3].expires_at, 30);
	assert_int_equal(got[4].size, 0);
	assert_int_equal(lfs_answer_each(STR("{\"transfer\":\"xet\",\"objects\":[]}"), 0, take_given, got),
			 -EINVAL);
}

static void reads_times_of_rfc_3339(void **state)
{
	static const struct {
		const char *text;
		int64_t at; /* -1: none */
	} rows[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2025-01-20T12:00:00Z", 1737374400 },
		{ "2025-01-20T12:00:00.123456Z", 1737374400 },
		{ "2025-01-20T13:30:00+01:30", 1737374400 },
		{ "2025-01-20T11:00:00-01:00", 1737374400 },
		{ "2024-02-29T00:00:00Z", 1709164800 },
		{ "2100-03-01T00:00:00Z", 4107542400 },
		{ "2025-13-20T12:00:00Z", -1 },
		{ "2025-01-20T12:00:00", -1 },
		{ "2025-01-20T12:00:00.Z", -1 },
		{ "2025-01-20T12:00:00Zx", -1 },
		{ "2025-1-20T12:00:00Z", -1 },
		{ "", -1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t at = 0;
		int r = lfs_time_parse(str_from(rows[i].text), &at);

		assert_int_equal(r, rows[i].at < 0 ? -EINVAL : 0);
		if (r == 0)
			assert_int_equal(at, rows[i].at);
	}
}

static bool is_remembered(struct hrefs *s, const char *repo, const struct digest *oid, int64_t now)
{
	SCOPED_BUF out;

	buf_init(&out, 8192);
	return hrefs_find(s, str_from(repo), oid, now, &out);
}

static void an_address_is_remembered_for_its_repo_until_it_expires(void **state)
{
	struct digest oid = { { 1 } }, other = { { 2 } };
	struct hrefs s;

	hrefs_init(&s);
	hrefs_put(&s, STR("models/a/b"), &oid, STR("https://cdn/1"), 1100, 1000);
	assert_true(is_remembered(&s, "models/a/b", &oid, 1080));
	assert_false(is_remembered(&s, "models/a/b", &oid, 1095));
	assert_false(is_remembered(&s, "models/a/c", &oid, 1000));
	assert_false(is_remembered(&s, "models/a/b", &other, 1000));
	hrefs_put(&s, STR("models/a/b"), &other, STR("https://cdn/2"), INT64_MAX, 1000);
	assert_true(is_remembered(&s, "models/a/b", &other, 1600));
	assert_false(is_remembered(&s, "models/a/b", &other, 2000));
	hrefs_put(&s, STR("models/a/b"), &other, STR("https://cdn/3"), 1000, 1000);
	assert_true(is_remembered(&s, "models/a/b", &other, 1600));
	hrefs_done(&s);
}

static void the_oldest_address_goes_when_there_are_too_many(void **state)
{
	struct hrefs s;
	struct digest oid = { { 0 } };

	hrefs_init(&s);
	for (int i = 0; i < HREFS_MAX + 10; i++) {
		oid.bytes[0] = (uint8_t)i;
		oid.bytes[1] = (uint8_t)(i >> 8);
		hrefs_put(&s, STR("models/a/b"), &oid, STR("https://cdn/x"), INT64_MAX, 1000);
	}
	assert_int_equal(map_count(s.by_key), HREFS_MAX);
	assert_true(is_remembered(&s, "models/a/b", &oid, 1000));
	memset(&oid, 0, sizeof(oid));
	assert_false(is_remembered(&s, "models/a/b", &oid, 1000));
	hrefs_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_a_download_and_asks_for_basic_alone),
		cmocka_unit_test(what_is_no_download_by_sha256_is_for_upstream_alone),
		cmocka_unit_test(an_object_that_cannot_be_read_makes_the_question_odd),
		cmocka_unit_test(edits_the_address_and_nothing_else),
		cmocka_unit_test(an_address_without_a_name_is_no_answer),
		cmocka_unit_test(reads_what_is_given_and_until_when),
		cmocka_unit_test(reads_times_of_rfc_3339),
		cmocka_unit_test(an_address_is_remembered_for_its_repo_until_it_expires),
		cmocka_unit_test(the_oldest_address_goes_when_there_are_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
