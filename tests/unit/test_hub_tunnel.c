/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/tunnel: which addresses become ours, that each ticket is its own, and that there is an end to how many. What goes through
 * them is tested on the wire (tests/e2e/test_writes.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "common/alloc.h"
#include "common/log.h"
#include "hub/priv.h"
#include "metrics/metrics.h"

#define URL "https://cdn.example/part?X-Sig="
#define PREFIX "http://cache:8090/-/upload/"

static uint64_t now_ms;

static uint64_t test_mono_ms(void *ctx)
{
	return now_ms;
}

static int64_t test_wall_s(void *ctx)
{
	return 1700000000;
}

static const struct clock test_clock = { .mono_ms = test_mono_ms, .wall_s = test_wall_s };

struct fixture {
	struct hub hub;
	struct metrics *metrics;
	struct request request;
};

static int set_up(void **state)
{
	static const char *const hosts[] = { "cdn.example", "*.store.example", NULL };
	struct fixture *x = xcalloc(1, sizeof(*x));
	struct fetch_opts opts = { .hub_url = "https://hub.example",
				   .redirect_hosts = hosts,
				   .clock = &clock_system };

	x->metrics = opts.metrics = metrics_new();
	assert_int_equal(fetch_new(&opts, &x->hub.opts.fetch), 0);
	x->hub.opts.clock = &test_clock;
	x->request.base = (char *)"http://cache:8090";
	now_ms = 1000;
	tunnels_init(&x->hub.tunnels);
	*state = x;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *x = *state;

	tunnels_done(&x->hub.tunnels);
	fetch_free(x->hub.opts.fetch);
	metrics_free(x->metrics);
	free(x);
	return 0;
}

static bool give(struct fixture *x, const char *url, struct buf *out)
{
	buf_init(out, 32768);
	return hub_tunnel_url(&x->hub, &x->request, str_from(url), out);
}

static void an_address_of_the_storage_becomes_ours(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF first = { 0 }, again = { 0 };

	assert_true(give(x, URL "1", &first));
	assert_true(give(x, URL "1", &again));
	assert_true(str_starts_with(buf_str(&first), STR(PREFIX)));
	assert_int_equal(first.len, strlen(PREFIX) + 32);
	assert_true(str_is_lower_hex(str_from_range(first.bytes + strlen(PREFIX), first.bytes + first.len)));
	assert_string_not_equal(first.bytes, again.bytes); /* nobody's word is another's */
	assert_int_equal(map_count(x->hub.tunnels.by_ticket), 2);
}

static void other_addresses_stay_what_they_are(void **state)
{
	static const char *const urls[] = {
		"https://hub.example/put",
		"https://HUB.example:443/put",
		"https://evil.example/put",
		"https://store.example/put",
		"http://cdn.example/put",
		"https://a.store.example:444/put",
		"https://user:pw@cdn.example/put",
		"//cdn.example/put",
		"/put",
		"https://cdn.example/a b",
		"ftp://cdn.example/put",
		"",
	};
	struct fixture *x = *state;

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		SCOPED_BUF out = { 0 };

		assert_false(hub_tunnel_takes(&x->hub, str_from(urls[i])));
		assert_false(give(x, urls[i], &out));
		assert_true(str_eq(buf_str(&out), str_from(urls[i])));
	}
	assert_int_equal(map_count(x->hub.tunnels.by_ticket), 0);
	assert_true(hub_tunnel_takes(&x->hub, STR("https://a.store.example/put")));
}

/* An upload that is under way must not lose its address to those that come later. */
static void when_it_is_full_the_old_ones_stay(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF last = { 0 }, later = { 0 };
	char url[64];

	for (unsigned i = 0; i < TUNNELS_MAX; i++) {
		SCOPED_BUF out = { 0 };

		x->request.subject.id[0] = i % 2; /* one alone may have half of them */
		(void)snprintf(url, sizeof(url), URL "%u", i);
		assert_true(give(x, url, &out));
	}
	x->request.subject.id[0] = 2;
	assert_false(give(x, URL "more", &last));
	assert_string_equal(last.bytes, URL "more");
	now_ms += 3600000;
	assert_true(give(x, URL "more", &later));
	assert_int_equal(map_count(x->hub.tunnels.by_ticket), 1);
}

static void one_user_leaves_room_for_others(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF mine = { 0 }, yours = { 0 };
	char url[64];

	for (unsigned i = 0; i < TUNNELS_MAX / 2; i++) {
		SCOPED_BUF out = { 0 };

		(void)snprintf(url, sizeof(url), URL "%u", i);
		assert_true(give(x, url, &out));
	}
	assert_false(give(x, URL "more", &mine));
	x->request.subject.id[0] = 1;
	assert_true(give(x, URL "more", &yours));
}

static void memory_has_an_end_too(void **state)
{
	struct fixture *x = *state;
	char url[16000];
	unsigned given = 0;

	memset(url, 'x', sizeof(url) - 1);
	memcpy(url, URL, strlen(URL));
	url[sizeof(url) - 1] = 0;
	for (bool is_ours = true; is_ours; given += is_ours) {
		SCOPED_BUF out = { 0 };

		is_ours = give(x, url, &out);
	}
	assert_true(given > 1000 && given < TUNNELS_MAX);
	assert_true(x->hub.tunnels.bytes <= TUNNEL_BYTES_MAX);
}

static void an_address_may_not_be_of_any_length(void **state)
{
	struct fixture *x = *state;
	SCOPED_BUF out = { 0 };
	char url[20000];

	memset(url, 'x', sizeof(url) - 1);
	memcpy(url, URL, strlen(URL));
	url[sizeof(url) - 1] = 0;
	assert_false(give(x, url, &out));
	assert_int_equal(out.len, sizeof(url) - 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_address_of_the_storage_becomes_ours),
		CASE(other_addresses_stay_what_they_are),
		CASE(when_it_is_full_the_old_ones_stay),
		CASE(one_user_leaves_room_for_others),
		CASE(memory_has_an_end_too),
		CASE(an_address_may_not_be_of_any_length),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("hub_tunnel", tests, NULL, NULL);
}
