/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight/head: which answers speak of the file that we want, field by field.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "flight/head.h"

#define SHA256 "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
#define OTHER256 "1f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
#define SHA1 "607a30d783dfa663caf39e06633721c8d4cfcd7e"
#define OTHER1 "707a30d783dfa663caf39e06633721c8d4cfcd7e"

static struct headers fields_of(const char *const *pairs)
{
	struct headers h;

	headers_init(&h);
	for (; pairs[0]; pairs += 2)
		assert_int_equal(headers_add(&h, str_from(pairs[0]), str_from(pairs[1])), 0);
	return h;
}

static int identity(const char *id_hex, const char *const *pairs)
{
	struct headers h = fields_of(pairs);
	struct content_id id;
	struct head_want want = { .id = &id, .commit = STR(SHA1) };
	struct fetch_head head = {
		.status = 302, .headers = &h, .is_hub_origin = true, .content_length = -1
	};
	int r;

	assert_int_equal(content_id_parse(str_from(id_hex), 100, &id), 0);
	r = head_check_identity(&head, &want);
	headers_done(&h);
	return r;
}
#define IDENTITY(id, ...) identity(id, (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL, NULL })

static void identity_is_what_the_hub_says(void **state)
{
	assert_int_equal(IDENTITY(SHA256, "X-Linked-Etag", "\"" SHA256 "\"", "X-Linked-Size", "100",
				  "X-Repo-Commit", SHA1),
			 0);
	assert_int_equal(IDENTITY(SHA256, "X-Linked-Etag", "\"" OTHER256 "\""), -EBADMSG);
	assert_int_equal(IDENTITY(SHA256, "X-Linked-Etag", OTHER256), -EBADMSG); /* without quotes */
	assert_int_equal(IDENTITY(SHA256, "ETag", "W/\"" OTHER256 "\""), -EBADMSG);
	assert_int_equal(IDENTITY(SHA1, "ETag", "\"" SHA1 "\""), 0);
	assert_int_equal(IDENTITY(SHA1, "ETag", "\"" OTHER1 "\""), -EBADMSG);
	assert_int_equal(IDENTITY(SHA256, "X-Linked-Size", "101"), -EBADMSG);
	assert_int_equal(IDENTITY(SHA256, "X-Repo-Commit", OTHER1), -EBADMSG);
}

static void linked_etag_goes_before_etag(void **state)
{
	assert_int_equal(IDENTITY(SHA256, "ETag", "\"" OTHER256 "\"", "X-Linked-Etag", "\"" SHA256 "\""), 0);
	assert_int_equal(IDENTITY(SHA256, "ETag", "\"" SHA256 "\"", "X-Linked-Etag", "\"" OTHER256 "\""),
			 -EBADMSG);
}

static void what_is_not_told_or_not_understood_is_no_contradiction(void **state)
{
	assert_int_equal(IDENTITY(SHA256), 0);
	assert_int_equal(IDENTITY(SHA256, "ETag", "W/\"53-abc\""), 0);
	assert_int_equal(IDENTITY(SHA1, "ETag", "\"" SHA256 "\""), 0);
	assert_int_equal(IDENTITY(SHA256, "X-Linked-Size", "many"), 0);
}

static int body(int status, int64_t length, bool is_ranged, uint64_t first, uint64_t end,
		const char *const *pairs, struct byte_range *ret)
{
	struct headers h = fields_of(pairs);
	struct content_id id;
	struct head_want want = { .id = &id, .is_ranged = is_ranged, .first = first, .end = end };
	struct fetch_head head = {
		.status = status, .headers = &h, .is_final = true, .content_length = length
	};
	int r;

	assert_int_equal(content_id_parse(STR(SHA256), 100, &id), 0);
	r = head_check_body(&head, &want, ret);
	headers_done(&h);
	return r;
}
#define BODY(status, length, is_ranged, first, end, ...)                                                     \
	body(status, length, is_ranged, first, end,                                                          \
	     (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL, NULL }, &got)

static void whole_answers_have_the_whole_length(void **state)
{
	struct byte_range got;

	assert_int_equal(BODY(200, 100, false, 0, 100), 0);
	assert_true(got.first == 0 && got.end == 100);
	assert_int_equal(BODY(200, -1, false, 0, 100), 0);
	assert_int_equal(BODY(200, 99, false, 0, 100), -EBADMSG);
	assert_int_equal(BODY(200, 101, false, 0, 100), -EBADMSG);
	assert_int_equal(BODY(200, 100, true, 50, 100), 0); /* a range was asked for, everything came */
	assert_true(got.first == 0 && got.end == 100);
	assert_int_equal(BODY(200, 50, true, 50, 100), -EBADMSG);
}

static void partial_answers_begin_where_we_asked(void **state)
{
	struct byte_range got;

	assert_int_equal(BODY(206, 50, true, 50, 100, "Content-Range", "bytes 50-99/100"), 0);
	assert_true(got.first == 50 && got.end == 100);
	assert_int_equal(BODY(206, 10, true, 50, 100, "Content-Range", "bytes 50-59/100"),
			 0); /* shorter is allowed */
	assert_true(got.end == 60);
	assert_int_equal(BODY(206, -1, true, 50, 100, "Content-Range", "bytes 50-99/*"), 0);
	assert_int_equal(BODY(206, 50, true, 50, 100), -EBADMSG);
	assert_int_equal(BODY(206, 50, true, 50, 100, "Content-Range", "bytes 49-98/100"), -EBADMSG);
	assert_int_equal(BODY(206, 50, true, 50, 100, "Content-Range", "bytes 50-99/101"), -EBADMSG);
	assert_int_equal(BODY(206, 49, true, 50, 100, "Content-Range", "bytes 50-99/100"), -EBADMSG);
	assert_int_equal(BODY(206, 50, true, 50, 90, "Content-Range", "bytes 50-99/100"), -EBADMSG);
	assert_int_equal(BODY(206, 50, true, 50, 100, "Content-Range", "bytes */100"), -EBADMSG);
	assert_int_equal(BODY(206, 50, true, 50, 100, "Content-Range", "bytes 50-99/100", "Content-Range",
			      "bytes 0-1/2"),
			 -EBADMSG);
	assert_int_equal(BODY(206, 100, false, 0, 100, "Content-Range", "bytes 0-99/100"),
			 0); /* 206 to a plain GET */
}

static void encoded_bodies_are_refused(void **state)
{
	struct byte_range got;

	assert_int_equal(BODY(200, 100, false, 0, 100, "Content-Encoding", "gzip"), -EBADMSG);
	assert_int_equal(
		BODY(206, 50, true, 50, 100, "Content-Range", "bytes 50-99/100", "Content-Encoding", "br"),
		-EBADMSG);
	assert_int_equal(BODY(200, 100, false, 0, 100, "Content-Encoding", "identity"), 0);
}

static void verdicts_follow_their_table(void **state)
{
	static const struct {
		int status;
		bool is_final, is_hub;
		int want;
	} rows[] = {
		{ 200, true, true, 0 },        { 206, true, false, 0 },       { 302, false, true, 0 },
		{ 307, false, false, 0 },      { 302, true, true, -EAGAIN },  { 304, true, true, -EAGAIN },
		{ 401, true, true, -EACCES },  { 403, true, true, -EACCES },  { 451, true, true, -EACCES },
		{ 404, true, true, -ENOENT },  { 410, true, true, -ENOENT },  { 403, true, false, -EAGAIN },
		{ 404, true, false, -EAGAIN }, { 416, true, true, -EAGAIN },  { 429, true, true, -EAGAIN },
		{ 500, true, true, -EAGAIN },  { 503, true, false, -EAGAIN }, { 204, true, true, -EAGAIN },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fetch_head head = { .status = rows[i].status,
					   .is_final = rows[i].is_final,
					   .is_hub_origin = rows[i].is_hub };

		assert_int_equal(head_verdict(&head), rows[i].want);
	}
}

static void only_strong_tags_are_validators(void **state)
{
	static const char *const rows[][2] = {
		{ "\"abc\"", "\"abc\"" }, { "W/\"abc\"", "" }, { "abc", "" }, { " \"a\" ", "\"a\"" }
	};

	for (size_t i = 0; i < 4; i++) {
		struct headers h = fields_of((const char *const[]){ "ETag", rows[i][0], NULL, NULL });
		struct fetch_head head = { .headers = &h };

		assert_true(str_eq(head_validator(&head), str_from(rows[i][1])));
		headers_done(&h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity_is_what_the_hub_says),
		cmocka_unit_test(linked_etag_goes_before_etag),
		cmocka_unit_test(what_is_not_told_or_not_understood_is_no_contradiction),
		cmocka_unit_test(whole_answers_have_the_whole_length),
		cmocka_unit_test(partial_answers_begin_where_we_asked),
		cmocka_unit_test(encoded_bodies_are_refused),
		cmocka_unit_test(verdicts_follow_their_table),
		cmocka_unit_test(only_strong_tags_are_validators),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
