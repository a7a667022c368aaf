/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves how long upstream is left alone: the table of what it may say, who goes first afterwards, and that no word of
 * its makes us wait for ever (hub-protocol 5.4, E10; reliability U13).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "policy/policy.h"

#define NOW 1000000ull

static enum rate_pass ask(struct rate_budget *b, uint64_t now)
{
	uint64_t wait_ms;

	return policy_rate_ask(b, now, false, &wait_ms);
}

static struct rate_budget after(struct rate_told told)
{
	struct rate_budget b = { 0 };

	policy_rate_told(&b, &told, NOW, false, 0);
	return b;
}

static void paths_are_counted_as_the_hub_counts_them(void **state)
{
	static const struct {
		const char *path;
		enum rate_bucket want;
	} table[] = {
		{ "/api/models/acme/pub", RATE_API },
		{ "/api/resolve-cache/models/acme/pub/c/f", RATE_RESOLVERS },
		{ "/api/models/acme/resolve", RATE_API },
		{ "/api/models/a/b/resolve/x", RATE_API },
		{ "/acme/pub/resolve/main/f", RATE_RESOLVERS },
		{ "/datasets/acme/d/resolve/main/f", RATE_RESOLVERS },
		{ "/acme/pub/resolve/main/f?x=/api/", RATE_RESOLVERS },
		{ "/acme/pub/raw/main/f", RATE_PAGES },
		{ "/acme/pub?next=/a/resolve/b", RATE_PAGES },
		{ "/", RATE_PAGES },
		{ "", RATE_PAGES },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_int_equal(policy_rate_bucket(str_from(table[i].path)), table[i].want);
}

static void nothing_known_lets_everything_pass(void **state)
{
	struct rate_budget b = { 0 };

	assert_int_equal(ask(&b, NOW), RATE_PASS);
	assert_int_equal(policy_rate_wait_ms(&b, NOW), 0);
}

static void each_way_to_say_it_gives_its_wait(void **state)
{
	static const struct {
		struct rate_told told;
		uint64_t wait_ms;
	} table[] = {
		/* refusal, left, window, quota, retry-after */
		{ { false, 10, 5000, 500, -1 }, 0 },
		{ { false, 0, 5000, 500, -1 }, 5000 },
		{ { false, 0, -1, 500, -1 }, 0 },   /* nothing left, but until when? it would have said 429 */
		{ { false, 0, 0, 500, -1 }, 0 },    /* the next window begins now */
		{ { false, -1, -1, -1, 9000 }, 0 }, /* Retry-After of another status is not about the limit */
		{ { false, 0, INT64_MAX, 5, -1 }, 600000 },
		{ { true, 0, 30000, 500, -1 }, 30000 },
		{ { true, -1, -1, -1, 7000 }, 7000 },
		{ { true, 0, 30000, 500, 7000 }, 30000 }, /* the longer one */
		{ { true, 0, 3000, 500, 7000 }, 7000 },
		{ { true, 5, 30000, 500, -1 }, 1000 }, /* it contradicts itself */
		{ { true, -1, -1, -1, -1 }, 1000 },
		{ { true, -1, -1, -1, 0 }, 1000 },
		{ { true, -1, -1, -1, INT64_MAX }, 600000 },
		{ { true, 0, INT64_MAX, -1, -1 }, 600000 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct rate_budget b = after(table[i].told);
		uint64_t wait_ms = 0;
		enum rate_pass pass = policy_rate_ask(&b, NOW, false, &wait_ms);

		if (wait_ms != table[i].wait_ms)
			print_error("row %zu: %llu\n", i, (unsigned long long)wait_ms);
		assert_int_equal(wait_ms, table[i].wait_ms);
		assert_int_equal(pass, wait_ms ? RATE_STOP : RATE_PASS);
	}
}

static void nothing_left_opens_with_the_next_window(void **state)
{
	struct rate_budget b =
		after((struct rate_told){ .left = 0, .window_ms = 5000, .quota = 9, .retry_after_ms = -1 });

	assert_int_equal(ask(&b, NOW + 4999), RATE_STOP);
	assert_int_equal(ask(&b, NOW + 5000), RATE_PASS);
	assert_int_equal(ask(&b, NOW + 5000), RATE_PASS);
}

static const struct rate_told refusal = {
	.is_refusal = true, .left = -1, .window_ms = -1, .quota = -1, .retry_after_ms = 5000
};
static const struct rate_told good = { .left = 10, .window_ms = 300000, .quota = 500, .retry_after_ms = -1 };

static void after_a_refusal_one_goes_alone(void **state)
{
	struct rate_budget b = after(refusal);
	uint64_t wait_ms;

	assert_int_equal(ask(&b, NOW + 4999), RATE_STOP);
	assert_int_equal(ask(&b, NOW + 5000), RATE_TRY);
	assert_int_equal(policy_rate_ask(&b, NOW + 5000, false, &wait_ms), RATE_STOP);
	assert_int_equal(wait_ms, 1000);
	policy_rate_told(&b, &good, NOW + 5100, true, 0);
	assert_int_equal(ask(&b, NOW + 5100), RATE_PASS);
}

static void refused_again_it_waits_again(void **state)
{
	struct rate_budget b = after(refusal);

	assert_int_equal(ask(&b, NOW + 5000), RATE_TRY);
	policy_rate_told(&b, &refusal, NOW + 5100, true, 0);
	assert_int_equal(ask(&b, NOW + 10099), RATE_STOP);
	assert_int_equal(ask(&b, NOW + 10100), RATE_TRY);
}

static void one_that_hears_nothing_makes_room_for_the_next(void **state)
{
	struct rate_budget b = after(refusal);

	assert_int_equal(ask(&b, NOW + 5000), RATE_TRY);
	policy_rate_unsure(&b);
	assert_int_equal(ask(&b, NOW + 5001), RATE_TRY);
}

static void answers_that_were_on_their_way_do_not_open_it(void **state)
{
	struct rate_budget b = after(refusal);

	policy_rate_told(&b, &good, NOW + 100, false, 0);
	assert_int_equal(ask(&b, NOW + 200), RATE_STOP);
	assert_int_equal(ask(&b, NOW + 5000), RATE_TRY);
}

static void a_shorter_wait_does_not_shorten_a_longer_one(void **state)
{
	struct rate_budget b = after(refusal);
	struct rate_told shorter = refusal;

	shorter.retry_after_ms = 1000;
	policy_rate_told(&b, &shorter, NOW, false, 0);
	assert_int_equal(policy_rate_wait_ms(&b, NOW), 5000);
}

static void wordless_refusals_are_waited_out_longer_and_longer(void **state)
{
	static const struct rate_told wordless = {
		.is_refusal = true, .left = -1, .window_ms = -1, .quota = -1, .retry_after_ms = -1
	};
	static const uint64_t waits[] = { 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 };
	struct rate_budget b = { 0 };
	uint64_t now = NOW;

	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		policy_rate_told(&b, &wordless, now, i > 0, 0);
		assert_int_equal(policy_rate_wait_ms(&b, now), waits[i]);
		now += waits[i];
		assert_int_equal(ask(&b, now), RATE_TRY);
	}
}

static void dice_add_a_tenth_at_most(void **state)
{
	for (unsigned i = 0; i < 4; i++) {
		static const uint32_t dice[] = { 0, 1u << 31, UINT32_MAX, UINT32_MAX };
		struct rate_told told = refusal;
		struct rate_budget b = { 0 };
		uint64_t wait_ms;

		told.retry_after_ms = i == 3 ? 600000 : 10000;
		policy_rate_told(&b, &told, NOW, false, dice[i]);
		wait_ms = policy_rate_wait_ms(&b, NOW);
		assert_true(wait_ms >= (uint64_t)told.retry_after_ms);
		assert_true(wait_ms <= (uint64_t)told.retry_after_ms + (i == 3 ? 5000 : 1000));
	}
}

static void background_work_leaves_the_last_tenth(void **state)
{
	struct rate_budget b = after(
		(struct rate_told){ .left = 49, .window_ms = 5000, .quota = 500, .retry_after_ms = -1 });
	uint64_t wait_ms;

	assert_int_equal(policy_rate_ask(&b, NOW, false, &wait_ms), RATE_PASS);
	assert_int_equal(policy_rate_ask(&b, NOW, true, &wait_ms), RATE_STOP);
	assert_true(wait_ms >= 5000 && wait_ms <= 6000);
	assert_int_equal(policy_rate_ask(&b, NOW + 5000, true, &wait_ms), RATE_PASS);
	b = after((struct rate_told){ .left = 50, .window_ms = 5000, .quota = 500, .retry_after_ms = -1 });
	assert_int_equal(policy_rate_ask(&b, NOW, true, &wait_ms), RATE_PASS);
	b = after((struct rate_told){ .left = 1, .window_ms = 5000, .quota = -1, .retry_after_ms = -1 });
	assert_int_equal(policy_rate_ask(&b, NOW, true, &wait_ms), RATE_PASS); /* a tenth of what? */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_counted_as_the_hub_counts_them),
		cmocka_unit_test(nothing_known_lets_everything_pass),
		cmocka_unit_test(each_way_to_say_it_gives_its_wait),
		cmocka_unit_test(nothing_left_opens_with_the_next_window),
		cmocka_unit_test(after_a_refusal_one_goes_alone),
		cmocka_unit_test(refused_again_it_waits_again),
		cmocka_unit_test(one_that_hears_nothing_makes_room_for_the_next),
		cmocka_unit_test(answers_that_were_on_their_way_do_not_open_it),
		cmocka_unit_test(a_shorter_wait_does_not_shorten_a_longer_one),
		cmocka_unit_test(wordless_refusals_are_waited_out_longer_and_longer),
		cmocka_unit_test(dice_add_a_tenth_at_most),
		cmocka_unit_test(background_work_leaves_the_last_tenth),
	};
	return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
