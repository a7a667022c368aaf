/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what fetch does with bodies that go out: their framing, slow clients and those that stop early, refusals that
 * come in the middle; and that no write is sent twice.
 */
#include "fetch_rig.h"

#include <stdio.h>

static int put(struct fixture *x, struct got *g, const char *target, const char *body, int64_t body_bytes)
{
	struct fetch_request request = {
		.method = "PUT",
		.target = str_from(target),
		.has_body = true,
		.body_bytes = body_bytes,
		.follow = FETCH_FOLLOW_ALLOWED,
	};

	g->upload = body;
	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, &g->transfer), 0);
	while (g->upload_pauses) {
		bool is_done;

		rig_sleep_ms(2);
		transfer_resume(g->transfer);
		pthread_mutex_lock(&g->mutex);
		is_done = g->done_count;
		pthread_mutex_unlock(&g->mutex);
		if (is_done)
			break;
	}
	return got_end(g);
}

static void sends_a_body_with_its_length_or_in_chunks(void **state)
{
	struct fixture *x = *state;
	struct got *sized = got_new(), *chunked = got_new(), *empty = got_new();

	assert_int_equal(put(x, sized, "/upload/a", "four words for you", 18), 0);
	assert_string_equal(x->seen_body.bytes, "four words for you");
	assert_string_equal(rig_seen(x, "Content-Length"), "18");
	assert_string_equal(rig_seen(x, "Expect"), "");
	chunked->upload_piece = 5;
	assert_int_equal(put(x, chunked, "/upload/a", "four words for you", -1), 0);
	assert_string_equal(x->seen_body.bytes, "four words for you");
	assert_string_equal(rig_seen(x, "Transfer-Encoding"), "chunked");
	assert_int_equal(put(x, empty, "/upload/a", "", 0), 0);
	assert_string_equal(rig_seen(x, "Content-Length"), "0");
	got_free(sized);
	got_free(chunked);
	got_free(empty);
}

static void a_body_may_come_slowly(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	g->upload_piece = 3;
	g->upload_pauses = 2;
	assert_int_equal(put(x, g, "/upload/a", "four words for you", -1), 0);
	assert_string_equal(x->seen_body.bytes, "four words for you");
	got_free(g);
}

static void a_body_goes_to_an_address_too(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();
	char url[128];
	struct fetch_request request = {
		.method = "PUT", .target = STR("/x"), .has_body = true, .body_bytes = 18
	};

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/upload/a?sig", upstream_port(x->other));
	request.location = str_from(url);
	g->upload = "four words for you";
	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, &g->transfer), 0);
	assert_int_equal(got_end(g), 0);
	assert_int_equal(upstream_requests(x->hub), 0);
	assert_string_equal(x->seen.method, "PUT");
	assert_string_equal(x->seen_body.bytes, "four words for you");
	got_free(g);
}

static void a_client_that_stops_early_cancels(void **state)
{
	struct fixture *x = *state;
	struct got *little = got_new(), *failed = got_new(), *much = got_new();

	assert_int_equal(put(x, little, "/upload/a", "four", 18), -ECANCELED);
	failed->upload_error = -EIO;
	assert_int_equal(put(x, failed, "/upload/a", "four", -1), -EIO);
	assert_int_equal(put(x, much, "/upload/a", "four words for you", 4), 0);
	assert_string_equal(x->seen_body.bytes, "four");
	got_free(little);
	got_free(failed);
	got_free(much);
}

static void a_refusal_ends_an_upload_that_waits_for_its_client(void **state)
{
	struct fixture *x = *state;
	struct fetch_request request = {
		.method = "POST", .target = STR("/upload/refused"), .has_body = true, .body_bytes = 100
	};
	struct got *g = got_new();

	g->upload = "something";
	g->upload_pauses = 1000000;
	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, &g->transfer), 0);
	assert_int_equal(got_end(g), 0);
	assert_int_equal(g->status, 401);
	assert_string_equal(g->body.bytes, "who are you?");
	got_free(g);
}

static void a_write_is_never_sent_twice(void **state)
{
	struct fixture *x = *state;
	struct got *first = got_new(), *second = got_new();

	assert_int_equal(put(x, first, "/upload/cut", "a", 1), 0);
	assert_int_equal(put(x, second, "/upload/cut", "b", 1), -ECONNRESET);
	assert_int_equal(upstream_requests(x->hub), 2);
	got_free(first);
	got_free(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_body_goes_to_an_address_too),
		CASE(sends_a_body_with_its_length_or_in_chunks),
		CASE(a_body_may_come_slowly),
		CASE(a_client_that_stops_early_cancels),
		CASE(a_refusal_ends_an_upload_that_waits_for_its_client),
		CASE(a_write_is_never_sent_twice),
	};

	return cmocka_run_group_tests_name("fetch_upload", tests, NULL, NULL);
}
