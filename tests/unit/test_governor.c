/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the budgets of different tokens and buckets are apart, that the fields upstream sends are read as they
 * are sent, and that the table stays bounded without forgetting who has to wait.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "fetch/governor.h"

#define NOW 1000000ull
#define WALL 1800000000

static struct governor g;

static int set_up(void **state)
{
	governor_init(&g);
	return 0;
}

static struct principal who(const char *authorization)
{
	return governor_identify(&g, str_from(authorization));
}

static void told(const char *authorization, enum rate_bucket bucket, int status, const char *limit,
		 const char *policy, const char *retry_after)
{
	struct principal p = who(authorization);
	struct headers fields;

	headers_init(&fields);
	if (limit)
		assert_int_equal(headers_add(&fields, STR("ratelimit"), str_from(limit)), 0);
	if (policy)
		assert_int_equal(headers_add(&fields, STR("RateLimit-Policy"), str_from(policy)), 0);
	if (retry_after)
		assert_int_equal(headers_add(&fields, STR("Retry-After"), str_from(retry_after)), 0);
	governor_told(&g, &p, bucket, status, &fields, NOW, WALL, false);
	headers_done(&fields);
}

static uint64_t wait_s(const char *authorization, enum rate_bucket bucket)
{
	struct principal p = who(authorization);

	return governor_wait_ms(&g, &p, bucket, NOW) / 1000;
}

static void tokens_and_buckets_are_apart(void **state)
{
	told("Bearer a", RATE_API, 429, NULL, NULL, "100");
	assert_in_range(wait_s("Bearer a", RATE_API), 100, 105);
	assert_int_equal(wait_s("Bearer a", RATE_RESOLVERS), 0);
	assert_int_equal(wait_s("Bearer b", RATE_API), 0);
	assert_int_equal(wait_s("", RATE_API), 0);
	told("", RATE_API, 429, NULL, NULL, "20");
	assert_in_range(wait_s("", RATE_API), 20, 22);
	assert_int_equal(wait_s("Bearer b", RATE_API), 0);
}

static void keeps_no_token(void **state)
{
	static const char token[] = "Bearer hf_canarycanarycanary";
	struct principal again, other;

	told(token, RATE_API, 429, NULL, NULL, "100");
	for (size_t i = 0; i + 12 <= sizeof(g); i++)
		assert_int_not_equal(memcmp((char *)&g + i, "canarycanary", 12), 0);
	again = who(token);
	other = who("Bearer hf_canarycanarycanarz");
	assert_memory_equal(&again, &g.rows[1].who, sizeof(again));
	assert_memory_not_equal(&other, &again, sizeof(other));
}

static void reads_the_fields_of_the_hub(void **state)
{
	uint64_t left, quota, window_ms;

	told("", RATE_API, 200, "\"api\";r=485;t=163", "\"fixed window\";\"api\";q=500;w=300", NULL);
	assert_true(governor_least(&g, RATE_API, NOW, &left, &quota, &window_ms));
	assert_int_equal(left, 485);
	assert_int_equal(quota, 500);
	assert_int_equal(window_ms, 163000);
	assert_false(governor_least(&g, RATE_API, NOW + 163000, &left, &quota, &window_ms));
	assert_false(governor_least(&g, RATE_PAGES, NOW, &left, &quota, &window_ms));
	told("", RATE_API, 429, "\"api\";r=0;t=30", NULL, NULL);
	assert_in_range(wait_s("", RATE_API), 30, 33);
}

static void a_date_counts_and_absurd_words_are_cut_down(void **state)
{
	told("a", RATE_API, 429, NULL, NULL, "Fri, 15 Jan 2027 08:00:50 GMT"); /* WALL + 50 */
	assert_in_range(wait_s("a", RATE_API), 50, 55);
	told("b", RATE_API, 429, NULL, NULL, "1000000000");
	assert_in_range(wait_s("b", RATE_API), 600, 605);
	told("c", RATE_API, 429, "\"api\";r=0;t=99999999999999999", NULL, NULL);
	assert_in_range(wait_s("c", RATE_API), 600, 605);
	told("d", RATE_API, 429, ";;r=;t=x,\"", "q", "soon");
	assert_int_equal(wait_s("d", RATE_API), 1);
	told("e", RATE_API, 429, NULL, NULL, "-5");
	assert_int_equal(wait_s("e", RATE_API), 1);
}

static void another_bucket_named_in_a_refusal_is_closed_as_well(void **state)
{
	told("", RATE_PAGES, 429, "\"resolvers\";r=0;t=40", NULL, NULL);
	assert_in_range(wait_s("", RATE_RESOLVERS), 40, 44);
	assert_int_equal(wait_s("", RATE_PAGES), 1);
	assert_int_equal(wait_s("", RATE_API), 0);
}

static void the_viewer_has_a_budget_of_its_own(void **state)
{
	told("", RATE_VIEWER, 429, "\"api\";r=0;t=40", NULL, NULL);
	assert_in_range(wait_s("", RATE_VIEWER), 40, 44);
	assert_int_equal(wait_s("", RATE_API), 0);
}

static void the_table_is_bounded_and_remembers_who_waits(void **state)
{
	told("first", RATE_API, 429, NULL, NULL, "500");
	told("", RATE_API, 429, NULL, NULL, "500");
	for (unsigned i = 0; i < 3 * GOVERNOR_PRINCIPALS_MAX; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "t%u", i);
		told(name, RATE_API, 200, "\"api\";r=5;t=100", NULL, NULL);
	}
	assert_int_equal(g.count, GOVERNOR_PRINCIPALS_MAX);
	assert_true(wait_s("first", RATE_API) >= 500);
	assert_true(wait_s("", RATE_API) >= 500);
}

static void counts_who_has_to_wait(void **state)
{
	unsigned count;

	assert_int_equal(governor_longest_wait_ms(&g, RATE_API, NOW, &count), 0);
	assert_int_equal(count, 0);
	told("a", RATE_API, 429, NULL, NULL, "10");
	told("b", RATE_API, 429, NULL, NULL, "100");
	assert_in_range(governor_longest_wait_ms(&g, RATE_API, NOW, &count), 100000, 105000);
	assert_int_equal(count, 2);
}

static void the_parser_takes_the_first_item_only(void **state)
{
	struct str name;
	uint64_t value = 0;

	assert_int_equal(rate_field_param(STR("\"api\"; r=4 ;t=5, \"pages\";r=9;t=8"), 'r', &name, &value),
			 0);
	assert_int_equal(value, 4);
	assert_true(str_eq(name, STR("api")));
	assert_int_equal(rate_field_param(STR("\"api\";rr=4"), 'r', &name, &value), -EINVAL);
	assert_int_equal(rate_field_param(STR(""), 'r', &name, &value), -EINVAL);
	assert_int_equal(rate_field_param(STR("\"api\";r=-1"), 'r', &name, &value), -EINVAL);
}

#define CASE(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(tokens_and_buckets_are_apart),
		CASE(keeps_no_token),
		CASE(reads_the_fields_of_the_hub),
		CASE(a_date_counts_and_absurd_words_are_cut_down),
		CASE(another_bucket_named_in_a_refusal_is_closed_as_well),
		CASE(the_viewer_has_a_budget_of_its_own),
		CASE(the_table_is_bounded_and_remembers_who_waits),
		CASE(counts_who_has_to_wait),
		CASE(the_parser_takes_the_first_item_only),
	};
	return cmocka_run_group_tests_name("governor", tests, NULL, NULL);
}
