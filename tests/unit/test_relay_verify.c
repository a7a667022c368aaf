/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that with `verify` nothing but the named content, or what is said to be the wanted part of it, comes to its end.
 */
#include "relay_rig.h"

#include <stdio.h>

/* --- fixture -------------------------------------------------------------------------------------------- */

static struct relay *rig_start_at(struct fixture *x, const char *where, const struct content_id *verify)
{
	char url[128];
	struct relay_query q = { .method = "GET", .follow = FETCH_FOLLOW_ALLOWED, .verify = verify };
	struct relay *r = NULL;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", upstream_port(x->cdn), where);
	q.location = str_from(url);
	assert_int_equal(relay_start(x->relays, &q, &r), 0);
	return r;
}

/* --- verify --------------------------------------------------------------------------------------------- */

/* Fetches /file/WHERE, which the Hub calls `hex` of `size` bytes, as `want`. */
static ssize_t get_verified(struct fixture *x, const char *where, const char *hex, uint64_t size,
			    const struct content_id *want, struct buf *out)
{
	char target[256];
	SCOPED(relay_free) struct relay *r = NULL;
	int status, error;

	buf_init(out, BIG_BYTES);
	(void)snprintf(target, sizeof(target), "/file/%s?%llu,%s", where, (unsigned long long)size, hex);
	r = rig_start(x, "GET", target, want);
	error = rig_head_of(r, &status);
	if (error)
		return error;
	assert_int_equal(status, 200);
	return rig_drain(r, out);
}

static void the_right_bytes_come_through(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF big = { 0 }, small = { 0 }, empty = { 0 };

	assert_int_equal(get_verified(x, "big", x->big_hex, BIG_BYTES, &x->big_id, &big), 0);
	assert_int_equal(big.len, BIG_BYTES);
	assert_memory_equal(big.bytes, x->big, BIG_BYTES);
	assert_int_equal(get_verified(x, "small", x->small_hex, 5, &x->small_id, &small), 0);
	assert_string_equal(small.bytes, "small");
	assert_int_equal(get_verified(x, "empty", x->empty_hex, 0, &x->empty_id, &empty), 0);
	assert_int_equal(empty.len, 0);
}

/* The Hub named the address for this content, so the digest alone says whether it is. */
static void what_begins_at_an_address_is_checked_by_its_digest(void **state)
{
	struct fixture *x = *state;
	static const struct {
		const char *where;
		ssize_t end;
	} table[] = { { "/big", 0 }, { "/spoiled-late", -EBADMSG }, { "/short", -ECONNRESET } };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		SCOPED(relay_free) struct relay *r = rig_start_at(x, table[i].where, &x->big_id);
		SCOPED_BUF out = { 0 };
		int status;

		buf_init(&out, BIG_BYTES);
		assert_int_equal(rig_head_of(r, &status), 0);
		assert_int_equal(rig_drain(r, &out), table[i].end);
		if (table[i].end)
			assert_true(out.len <= BIG_BYTES - HELD_BACK);
	}
	assert_int_equal(upstream_requests(x->hub), 0);
}

static void a_regular_file_is_known_by_its_etag(void **state)
{
	struct fixture *x = *state;
	SCOPED(relay_free) struct relay *r = rig_start(x, "GET", "/regular", &x->regular_id);
	SCOPED_BUF out = { 0 };

	buf_init(&out, 100);
	assert_int_equal(rig_drain(r, &out), 0);
	assert_string_equal(out.bytes, "small");
}

static void wrong_bytes_do_not_come_to_their_end(void **state)
{
	static const char *const where[] = { "spoiled-early", "spoiled-late" };
	struct fixture *x = *state;

	for (int i = 0; i < 2; i++) {
		SCOPED_BUF out = { 0 };

		assert_int_equal(get_verified(x, where[i], x->big_hex, BIG_BYTES, &x->big_id, &out),
				 -EBADMSG);
		assert_int_equal(out.len, BIG_BYTES - HELD_BACK);
	}
}

static void a_short_body_keeps_its_end_back(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF out = { 0 };

	assert_int_equal(get_verified(x, "short", x->big_hex, BIG_BYTES, &x->big_id, &out), -ECONNRESET);
	assert_true(out.len <= BIG_BYTES / 2);
}

static void another_name_or_size_is_refused_before_a_byte(void **state)
{
	struct fixture *x = *state;
	static const char *const where[] = { "long", "long-chunked", "partial", "gzip", "expired" };
	static const int want[] = { -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, -EACCES };

	for (int i = 0; i < 5; i++) {
		SCOPED_BUF out = { 0 };

		assert_int_equal(get_verified(x, where[i], x->small_hex, 5, &x->small_id, &out), want[i]);
		assert_int_equal(out.len, 0);
	}
	SCOPED_BUF other_hex = { 0 }, other_size = { 0 }, no_name = { 0 }, cdn_name = { 0 };

	assert_int_equal(get_verified(x, "small", x->big_hex, 5, &x->small_id, &other_hex), -EBADMSG);
	assert_int_equal(get_verified(x, "small", x->small_hex, 6, &x->small_id, &other_size), -EBADMSG);
	assert_int_equal(get_verified(x, "small", "", 5, &x->small_id, &no_name), -EBADMSG);
	/* what the other server calls it counts for nothing */
	assert_int_equal(get_verified(x, "named", "", 5, &x->small_id, &cdn_name), -EBADMSG);
}

static void refusals_of_the_hub_are_told_apart(void **state)
{
	static const char *const targets[] = { "/401", "/missing", "/500", "/429" };
	static const int want[] = { -EACCES, -ENOENT, -EBADMSG, -EBUSY };
	struct fixture *x = *state;

	for (int i = 0; i < 4; i++) {
		SCOPED(relay_free) struct relay *r = rig_start(x, "GET", targets[i], &x->small_id);
		int status;

		assert_int_equal(rig_head_of(r, &status), want[i]);
	}
}

/* Bytes 1-3 of `want` from there. */
static ssize_t get_part_of(struct fixture *x, const char *target, const struct content_id *want,
			   const char *commit, struct buf *out)
{
	SCOPED(relay_free) struct relay *r = NULL;
	struct headers headers;
	struct relay_query q = {
		.method = "GET",
		.target = str_from(target),
		.headers = &headers,
		.follow = FETCH_FOLLOW_ALLOWED,
		.verify = want,
		.range = { 1, 4 },
		.commit = str_from(commit),
	};
	int status, error;

	buf_init(out, 100);
	headers_init(&headers);
	assert_int_equal(headers_addf(&headers, "Range", "bytes=1-3"), 0);
	assert_int_equal(relay_start(x->relays, &q, &r), 0);
	headers_done(&headers);
	error = rig_head_of(r, &status);
	if (error)
		return error;
	assert_int_equal(status, 206);
	return rig_drain(r, out);
}

/* The same from the other server's `where`, which the Hub calls `hex` of `size` bytes. */
static ssize_t get_part(struct fixture *x, const char *where, const char *hex, unsigned size,
			const char *commit, struct buf *out)
{
	char target[256];

	(void)snprintf(target, sizeof(target), "/file%s?%u,%s", where, size, hex);
	return get_part_of(x, target, &x->small_id, commit, out);
}

static void the_right_part_comes_through(void **state)
{
	static const char *const where[] = { "/part", "/part-identity" };
	static const char *const commits[] = { "", COMMIT };
	struct fixture *x = *state;
	char target[128];

	for (int i = 0; i < 2; i++) {
		SCOPED_BUF out = { 0 };

		assert_int_equal(get_part(x, where[i], x->small_hex, 5, commits[i], &out), 0);
		assert_string_equal(out.bytes, "mal");
	}
	SCOPED_BUF regular = { 0 };

	(void)snprintf(target, sizeof(target), "/own-part/%s", x->regular_hex);
	assert_int_equal(get_part_of(x, target, &x->regular_id, COMMIT, &regular), 0);
	assert_string_equal(regular.bytes, "mal");
}

static void a_part_that_is_not_said_to_be_the_wanted_one_is_refused_before_a_byte(void **state)
{
	struct fixture *x = *state;

	for (size_t i = 2; part_answers[i].where; i++) {
		SCOPED_BUF out = { 0 };

		assert_int_equal(get_part(x, part_answers[i].where, x->small_hex, 5, COMMIT, &out), -EBADMSG);
		assert_int_equal(out.len, 0);
	}
	SCOPED_BUF chunked = { 0 };

	assert_int_equal(get_part(x, "/part-chunked", x->small_hex, 5, COMMIT, &chunked), -EBADMSG);
}

static void a_part_of_another_file_is_refused_before_a_byte(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF hex = { 0 }, no_hex = { 0 }, size = { 0 }, commit = { 0 }, own = { 0 }, moved = { 0 };
	char target[128];

	assert_int_equal(get_part(x, "/part", x->big_hex, 5, COMMIT, &hex), -EBADMSG);
	assert_int_equal(get_part(x, "/part", "", 5, COMMIT, &no_hex), -EBADMSG);
	assert_int_equal(get_part(x, "/part", x->small_hex, 6, COMMIT, &size), -EBADMSG);
	assert_int_equal(get_part(x, "/part", x->small_hex, 5, "f" COMMIT, &commit), -EBADMSG);
	(void)snprintf(target, sizeof(target), "/own-part/%s", x->big_hex);
	assert_int_equal(get_part_of(x, target, &x->small_id, "", &own), -EBADMSG);
	/* the first of the Hub's hops named the right one, and then it answers with another */
	(void)snprintf(target, sizeof(target), "/moved-part/%s", x->big_hex);
	assert_int_equal(get_part_of(x, target, &x->small_id, "", &moved), -EBADMSG);
}

static void a_part_that_is_cut_ends_in_an_error(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF out = { 0 };

	assert_int_equal(get_part(x, "/part-cut", x->small_hex, 5, COMMIT, &out), -ECONNRESET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_right_bytes_come_through),
		CASE(a_regular_file_is_known_by_its_etag),
		CASE(wrong_bytes_do_not_come_to_their_end),
		CASE(a_short_body_keeps_its_end_back),
		CASE(another_name_or_size_is_refused_before_a_byte),
		CASE(refusals_of_the_hub_are_told_apart),
		CASE(what_begins_at_an_address_is_checked_by_its_digest),
		CASE(the_right_part_comes_through),
		CASE(a_part_that_is_not_said_to_be_the_wanted_one_is_refused_before_a_byte),
		CASE(a_part_of_another_file_is_refused_before_a_byte),
		CASE(a_part_that_is_cut_ends_in_an_error),
	};

	return cmocka_run_group_tests_name("relay_verify", tests, NULL, NULL);
}
