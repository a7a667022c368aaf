/* SPDX-License-Identifier: Apache-2.0 */
/* reply: what goes out for each errno, refusal and upstream error; what may be passed on and what never. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/alloc.h"
#include "reply/errors.h"

static void never_wake(struct waiter *w)
{
	fail_msg("nobody waits here");
}

static struct str field(const struct reply *r, const char *name)
{
	return headers_get(&r->headers, str_from(name));
}

static void assert_field(const struct reply *r, const char *name, const char *value)
{
	struct str got = field(r, name);

	assert_non_null(got.ptr);
	assert_string_equal(got.ptr, value);
}

static void every_error_says_status_and_retry(void **state)
{
	static const struct {
		int error, status;
		const char *retry_after;
	} rows[] = { { -EHOSTUNREACH, 503, "0" }, { -ETIMEDOUT, 504, "0" }, { -EBADMSG, 502, "0" },
		     { -EACCES, 503, "0" },       { -ENODATA, 504, "0" },   { -ENOSPC, 507, NULL },
		     { -EPERM, 502, NULL },       { -EINVAL, 400, NULL },   { -EBUSY, 429, "1" },
		     { -EIDRM, 503, "0" },        { -EDQUOT, 503, "0" },    { -ESHUTDOWN, 503, "0" },
		     { -12345, 500, NULL } };
	struct request q;

	request_init(&q, never_wake);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct reply r;

		reply_init(&r);
		reply_error(&r, &q, ENDPOINT_FILE, rows[i].error, STR("model.bin"));
		assert_int_equal(r.status, rows[i].status);
		if (rows[i].retry_after)
			assert_field(&r, "Retry-After", rows[i].retry_after);
		else
			assert_null(field(&r, "Retry-After").ptr);
		/* ignorance never looks like knowledge */
		assert_null(field(&r, "X-Error-Code").ptr);
		assert_null(field(&r, "X-Repo-Commit").ptr);
		assert_non_null(strstr(bytes_str(r.bytes).ptr, "model.bin: "));
		reply_done(&r);
	}
	request_done(&q);
}

static void a_rate_limit_says_how_long_in_both_ways(void **state)
{
	static const struct {
		const char *path;
		uint64_t busy_ms;
		const char *after, *limit;
	} rows[] = {
		{ "/acme/pub/resolve/main/f", 29001, "30", "\"resolvers\";r=0;t=30" },
		{ "/api/models/acme/pub", 1000, "1", "\"api\";r=0;t=1" },
		{ "/acme/pub", 0, "1", "\"pages\";r=0;t=1" },
	};
	struct request q;

	request_init(&q, never_wake);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct reply r;

		q.path = str_from(rows[i].path);
		q.busy_ms = rows[i].busy_ms;
		reply_init(&r);
		reply_error(&r, &q, ENDPOINT_API, -EBUSY, STR(""));
		assert_int_equal(r.status, 429);
		assert_field(&r, "Retry-After", rows[i].after);
		assert_field(&r, "RateLimit", rows[i].limit);
		reply_done(&r);
	}
	request_done(&q);
}

static void api_errors_are_json_and_messages_one_ascii_line(void **state)
{
	struct request q;
	struct reply r;

	request_init(&q, never_wake);
	reply_init(&r);
	reply_error(&r, &q, ENDPOINT_API, -EPROTO, STR("a\r\nX-Evil: 1\xc3\xa9\"b"));
	assert_field(&r, "Content-Type", "application/json; charset=utf-8");
	assert_memory_equal(bytes_str(r.bytes).ptr, "{\"error\":\"a\\r\\nX-Evil", 21);
	assert_memory_equal(field(&r, "X-Error-Message").ptr, "a??X-Evil: 1??\"b: ", 18);
	reply_done(&r);
	request_done(&q);
}

static void codeless_401_gets_a_code_but_bad_credentials_do_not(void **state)
{
	struct refusal hidden = { .status = 401, .error_message = (char *)"Invalid username or password." };
	struct refusal bad = { .status = 401,
			       .error_message = (char *)"Invalid credentials in Authorization header",
			       .www_authenticate = (char *)"Bearer realm=\"x\"" };
	struct reply r;

	reply_init(&r);
	reply_refusal(&r, ENDPOINT_FILE, &hidden);
	assert_int_equal(r.status, 401);
	assert_field(&r, "X-Error-Code", "RepoNotFound");
	reply_done(&r);

	reply_init(&r);
	reply_refusal(&r, ENDPOINT_FILE, &bad);
	assert_null(field(&r, "X-Error-Code").ptr);
	assert_field(&r, "WWW-Authenticate", "Bearer realm=\"x\"");
	reply_done(&r);

	reply_init(&r);
	reply_refusal(&r, ENDPOINT_GIT, &bad);
	assert_memory_equal(field(&r, "WWW-Authenticate").ptr, "Basic ", 6);
	reply_done(&r);
}

static void passes_on_only_what_is_allowed(void **state)
{
	struct headers from, to;

	headers_init(&from);
	headers_init(&to);
	headers_add(&from, STR("Set-Cookie"), STR("a=b"));
	headers_add(&from, STR("X-Xet-Hash"), STR("00"));
	headers_add(&from, STR("X-Cache"), STR("Hit"));
	headers_add(&from, STR("Connection"), STR("X-Hop"));
	headers_add(&from, STR("X-Hop"), STR("1"));
	headers_add(&from, STR("Access-Control-Allow-Origin"), STR("https://evil"));
	headers_add(&from, STR("X-HF-Warning"), STR("one"));
	headers_add(&from, STR("X-HF-Warning"), STR("two"));
	headers_add(&from, STR("RateLimit"), STR("\"api\";r=1;t=2"));
	headers_add(&from, STR("Content-Type"), STR("text/html"));
	reply_copy_allowed(&to, &from);
	assert_int_equal(to.count, 4);
	assert_int_equal(headers_count_of(&to, STR("X-HF-Warning")), 2);
	headers_done(&from);
	headers_done(&to);
}

static void upstream_errors_keep_their_words_and_lose_validators(void **state)
{
	struct answer a = { .status = 404 };
	struct reply r;

	headers_init(&a.last);
	buf_init(&a.body, 100);
	buf_append_str(&a.body, STR("Entry not found"));
	headers_add(&a.last, STR("X-Error-Code"), STR("EntryNotFound"));
	headers_add(&a.last, STR("X-Repo-Commit"), STR("0123456789012345678901234567890123456789"));
	headers_add(&a.last, STR("ETag"), STR("W/\"f-x\""));
	reply_init(&r);
	reply_upstream_error(&r, ENDPOINT_FILE, &a);
	assert_int_equal(r.status, 404);
	assert_field(&r, "X-Error-Code", "EntryNotFound");
	assert_field(&r, "X-Repo-Commit", "0123456789012345678901234567890123456789");
	assert_null(field(&r, "ETag").ptr);
	assert_int_equal(r.length, 15);
	reply_done(&r);
	headers_done(&a.last);
	buf_done(&a.body);
}

static void browsers_may_read_only_when_they_said_their_origin(void **state)
{
	struct request q;
	struct reply r;

	request_init(&q, never_wake);
	reply_init(&r);
	reply_add_standard(&r, &q);
	assert_field(&r, "X-Content-Type-Options", "nosniff");
	assert_null(field(&r, "Access-Control-Allow-Origin").ptr);
	headers_add(&q.headers, STR("Origin"), STR("https://page"));
	reply_add_standard(&r, &q);
	assert_field(&r, "Access-Control-Allow-Origin", "*");
	assert_null(strstr(field(&r, "Access-Control-Expose-Headers").ptr, "Xet"));
	reply_done(&r);
	request_done(&q);
}

static void vary_always_names_who_asks(void **state)
{
	static const char *const cases[][2] = {
		{ "Origin, Accept", "Origin, Accept, Authorization" },
		{ "User-Agent", "User-Agent, Authorization, Origin" },
		{ "authorization , origin", "authorization , origin" },
		{ "*", "*" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct request q;
		struct reply r;

		request_init(&q, never_wake);
		reply_init(&r);
		headers_add(&r.headers, STR("Vary"), str_from(cases[i][0]));
		reply_add_standard(&r, &q);
		assert_field(&r, "Vary", cases[i][1]);
		reply_done(&r);
		request_done(&q);
	}
}

static void no_token_goes_abroad_in_any_field(void **state)
{
	struct request q;
	struct headers to;

	request_init(&q, never_wake);
	headers_init(&to);
	assert_int_equal(headers_add(&q.headers, STR("Content-Type"), STR("text/plain")), 0);
	assert_int_equal(headers_add(&q.headers, STR("X-Api-Key"), STR("of somebody")), 0);
	assert_int_equal(headers_add(&q.headers, STR("X-HF-Authorization"), STR("Bearer short")), 0);
	assert_int_equal(headers_add(&q.headers, STR("X-Amz-Date"), STR("20261126T000000Z")), 0);
	assert_int_equal(headers_add(&q.headers, STR("x-api-key"), STR("hf_abcdefghijklmnopqrstuvwxyz")), 0);
	request_forward_fields_abroad(&q, &to);
	assert_int_equal(to.count, 2);
	assert_true(headers_get(&to, STR("Content-Type")).len && headers_get(&to, STR("X-Amz-Date")).len);
	headers_done(&to);
	request_done(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_error_says_status_and_retry),
		cmocka_unit_test(a_rate_limit_says_how_long_in_both_ways),
		cmocka_unit_test(api_errors_are_json_and_messages_one_ascii_line),
		cmocka_unit_test(codeless_401_gets_a_code_but_bad_credentials_do_not),
		cmocka_unit_test(passes_on_only_what_is_allowed),
		cmocka_unit_test(upstream_errors_keep_their_words_and_lose_validators),
		cmocka_unit_test(browsers_may_read_only_when_they_said_their_origin),
		cmocka_unit_test(vary_always_names_who_asks),
		cmocka_unit_test(no_token_goes_abroad_in_any_field),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
