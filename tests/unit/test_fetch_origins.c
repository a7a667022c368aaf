/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves to whom fetch speaks and what it tells them: no token and no private field to another origin, also not by way
 * of a redirect or where a transfer begins elsewhere; nothing at all to strangers.
 */
#include "fetch_rig.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"

/* --- tokens and redirects ------------------------------------------------------------------------------- */

static void get_with_token(struct fixture *x, struct got *g, const char *target, enum fetch_follow follow)
{
	struct secret *token = secret_new(STR("Bearer hf_secret"));
	struct headers h;
	struct fetch_request request = {
		.method = "GET",
		.target = str_from(target),
		.headers = &h,
		.token = token,
		.follow = follow,
	};

	headers_init(&h);
	(void)headers_add(&h, STR("X-Private"), STR("hf_secret"));
	(void)headers_add(&h, STR("Range"), STR("bytes=0-1"));
	(void)headers_add(&h, STR("If-Range"), STR("\"a\""));
	(void)headers_add(&h, STR("User-Agent"), STR("client/1"));
	assert_int_equal(fetch_start(x->fetch, &request, &got_ops, g, &g->transfer), 0);
	headers_done(&h);
	secret_unref(token);
	(void)got_end(g);
}

static void the_hub_gets_the_token_also_after_a_redirect_to_itself(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	get_with_token(x, g, "/to/ok", FETCH_FOLLOW_ALLOWED);
	assert_int_equal(g->error, 0);
	assert_int_equal(g->heads, 2);
	assert_int_equal(g->hop, 1);
	assert_true(g->is_hub_origin);
	assert_string_equal(x->seen.target, "/ok?a=%2F&b=%22c%22");
	assert_string_equal(rig_seen(x, "Authorization"), "Bearer hf_secret");
	assert_string_equal(rig_seen(x, "X-Private"), "hf_secret");
	assert_string_equal(g->body.bytes, "hello");
	got_free(g);
}

static void another_origin_gets_neither_the_token_nor_other_fields(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	get_with_token(x, g, "/to/other", FETCH_FOLLOW_ALLOWED);
	assert_int_equal(g->error, 0);
	assert_int_equal(upstream_requests(x->other), 1);
	assert_false(g->is_hub_origin);
	assert_null(strstr(x->seen.head, "hf_secret"));
	assert_string_equal(rig_seen(x, "Range"), "bytes=0-1");
	assert_string_equal(rig_seen(x, "If-Range"), "\"a\"");
	assert_string_equal(rig_seen(x, "User-Agent"), "client/1");
	assert_string_equal(rig_seen(x, "Accept-Encoding"), "identity");
	got_free(g);
}

static void the_token_does_not_come_back_from_another_origin(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	get_with_token(x, g, "/to/other-and-back", FETCH_FOLLOW_ALLOWED);
	assert_int_equal(g->error, 0);
	assert_int_equal(g->hop, 2);
	assert_false(g->is_hub_origin);
	assert_string_equal(x->seen.target, "/ok");
	assert_null(strstr(x->seen.head, "hf_secret"));
	got_free(g);
}

static void anonymous_and_token_transfers_do_not_share_connections(void **state)
{
	struct fixture *x = *state;
	struct got *g[4];

	for (int i = 0; i < 4; i++)
		g[i] = got_new();
	assert_int_equal(got_get(x, g[0], "/ok"), 0);
	assert_int_equal(got_get(x, g[1], "/ok"), 0);
	assert_int_equal(upstream_connections(x->hub), 1);
	get_with_token(x, g[2], "/ok", FETCH_FOLLOW_NONE);
	assert_int_equal(upstream_connections(x->hub), 2);
	get_with_token(x, g[3], "/ok", FETCH_FOLLOW_NONE);
	assert_int_equal(upstream_connections(x->hub), 2);
	for (int i = 0; i < 4; i++)
		got_free(g[i]);
}

static void a_redirect_leaves_its_connection_usable(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(got_get(x, g, "/to/ok"), 0);
	assert_int_equal(upstream_connections(x->hub), 1);
	got_free(g);
}

static void follows_a_redirect_whose_own_body_is_endless_or_cut(void **state)
{
	struct fixture *x = *state;
	struct got *much = got_new(), *cut = got_new();

	assert_int_equal(got_get(x, much, "/to/ok-after-much"), 0);
	assert_string_equal(much->body.bytes, "hello");
	assert_int_equal(got_get(x, cut, "/to/ok-but-cut"), 0);
	assert_string_equal(cut->body.bytes, "hello");
	got_free(much);
	got_free(cut);
}

static void a_redirect_that_is_not_followed_is_the_answer(void **state)
{
	struct fixture *x = *state;
	struct got *none = got_start(x, got_new(), "GET", "/to/ok", FETCH_FOLLOW_NONE);
	struct got *other = got_start(x, got_new(), "HEAD", "/to/other", FETCH_FOLLOW_SAME_ORIGIN);
	struct got *nowhere = got_start(x, got_new(), "GET", "/to/nowhere", FETCH_FOLLOW_ALLOWED);

	assert_int_equal(got_end(none), 0);
	assert_int_equal(none->status, 307);
	assert_string_equal(none->body.bytes, "Temporary Redirect");
	assert_int_equal(got_end(other), 0);
	assert_int_equal(other->status, 307);
	assert_true(str_eq(headers_get(&other->headers, STR("X-Linked-Etag")), STR("\"id\"")));
	assert_int_equal(got_end(nowhere), 0);
	assert_int_equal(nowhere->status, 302);
	assert_int_equal(upstream_requests(x->other), 0);
	got_free(none);
	got_free(other);
	got_free(nowhere);
}

static void strangers_are_not_even_connected_to(void **state)
{
	static const char *const targets[] = { "/to/stranger", "/to/file", "/to/elsewhere" };
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct got *g = got_new();

		assert_int_equal(got_get(x, g, targets[i]), -EACCES);
		got_free(g);
	}
	assert_int_equal(upstream_connections(x->other), 0);
}

static void a_listed_name_with_the_hubs_own_address_is_followed(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(got_get(x, g, "/to/same"), 0);
	assert_int_equal(upstream_requests(x->other), 1);
	got_free(g);
}

static void stops_in_a_loop(void **state)
{
	struct fixture *x = *state;
	struct got *g = got_new();

	assert_int_equal(got_get(x, g, "/to/loop"), -ELOOP);
	assert_int_equal(upstream_requests(x->hub), 6); /* five hops */
	got_free(g);
}

/* --- beginning elsewhere -------------------------------------------------------------------------------- */

static void begins_at_an_address_without_the_token(void **state)
{
	struct fixture *x = *state;
	char url[128];
	struct got *g;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok?Signature=%%2Fa", upstream_port(x->other));
	g = got_begin_at(x->fetch, "/api/x", url, NULL);
	assert_int_equal(g->error, 0);
	assert_string_equal(g->body.bytes, "hello");
	assert_false(g->is_hub_origin);
	assert_int_equal(g->hop, 1);
	assert_int_equal(upstream_requests(x->hub), 0);
	assert_string_equal(x->seen.target, "/ok?Signature=%2Fa");
	assert_null(strstr(x->seen.head, "hf_secret"));
	assert_string_equal(rig_seen(x, "X-With-It"), "with-it");
	assert_string_equal(rig_seen(x, "Range"), "bytes=0-1");
	assert_string_equal(rig_seen(x, "User-Agent"), "client/1");
	assert_null(strstr(x->seen.head, "evil.example"));
	assert_string_equal(rig_seen(x, "X-Hop"), "");
	got_free(g);
}

static void an_address_may_bring_its_own_authorization(void **state)
{
	struct fixture *x = *state;
	char url[128];
	struct got *other, *hub, *plain;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok", upstream_port(x->other));
	other = got_begin_at(x->fetch, "", url, "Basic its-own");
	assert_string_equal(rig_seen(x, "Authorization"), "Basic its-own");
	assert_null(strstr(x->seen.head, "hf_secret"));
	(void)snprintf(url, sizeof(url), "%s/ok", upstream_url(x->hub));
	hub = got_begin_at(x->fetch, "", url, "Basic its-own");
	assert_string_equal(rig_seen(x, "Authorization"), "Basic its-own");
	plain = got_begin_at(x->fetch, "", url, NULL);
	assert_string_equal(rig_seen(x, "Authorization"), "Bearer hf_secret"); /* the origin's own */
	assert_string_equal(rig_seen(x, "X-Private"), "hf_secret");
	assert_true(plain->is_hub_origin);
	got_free(other);
	got_free(hub);
	got_free(plain);
}

static void what_came_with_an_address_goes_no_further(void **state)
{
	struct fixture *x = *state;
	char url[128];
	struct got *g;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/to/hub", upstream_port(x->other));
	g = got_begin_at(x->fetch, "/api/x", url, "Basic its-own");
	assert_int_equal(g->error, 0);
	assert_int_equal(upstream_requests(x->hub), 1);
	assert_string_equal(x->seen.target, "/ok");
	assert_string_equal(rig_seen(x, "X-With-It"), "");
	assert_string_equal(rig_seen(x, "Authorization"), "");
	assert_string_equal(rig_seen(x, "X-Private"), "");
	got_free(g);
}

static void nothing_begins_at_a_stranger(void **state)
{
	static const char *const urls[] = { "http://127.0.0.2:%u/ok",
					    "http://elsewhere.test:%u/ok",
					    "http://u:p@127.0.0.1:%u/ok",
					    "//127.0.0.1:%u/ok",
					    "/ok?%u",
					    "file://127.0.0.1:%u/etc/passwd" };
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		char url[128];
		struct got *g;

		(void)snprintf(url, sizeof(url), urls[i], upstream_port(x->other));
		g = got_begin_at(x->fetch, "/ok", url, NULL);
		if (g->error != -EACCES)
			fail_msg("%s: %s", url, log_errno_name(g->error));
		assert_int_equal(g->heads, 0);
		got_free(g);
	}
	assert_int_equal(upstream_connections(x->other), 0);
	assert_int_equal(upstream_connections(x->hub), 0);
}

static void an_address_elsewhere_may_send_nobody_to_loopback(void **state)
{
	struct fixture *x = *state;
	char url[128];
	struct got *g;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/to/stranger", upstream_port(x->other));
	g = got_begin_at(x->fetch, "", url, NULL);
	assert_int_equal(g->error, -EACCES);
	got_free(g);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/to/elsewhere", upstream_port(x->other));
	g = got_begin_at(x->fetch, "", url, NULL);
	assert_int_equal(g->error, -EACCES);
	assert_int_equal(upstream_requests(x->other), 2);
	got_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_hub_gets_the_token_also_after_a_redirect_to_itself),
		CASE(another_origin_gets_neither_the_token_nor_other_fields),
		CASE(the_token_does_not_come_back_from_another_origin),
		CASE(anonymous_and_token_transfers_do_not_share_connections),
		CASE(a_redirect_leaves_its_connection_usable),
		CASE(follows_a_redirect_whose_own_body_is_endless_or_cut),
		CASE(a_redirect_that_is_not_followed_is_the_answer),
		CASE(strangers_are_not_even_connected_to),
		CASE(a_listed_name_with_the_hubs_own_address_is_followed),
		CASE(stops_in_a_loop),
		CASE(begins_at_an_address_without_the_token),
		CASE(an_address_may_bring_its_own_authorization),
		CASE(what_came_with_an_address_goes_no_further),
		CASE(nothing_begins_at_a_stranger),
		CASE(an_address_elsewhere_may_send_nobody_to_loopback),
	};

	return cmocka_run_group_tests_name("fetch_origins", tests, NULL, NULL);
}
