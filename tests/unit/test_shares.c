/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that who takes all it can leaves room for others, that places come back, and that nothing is kept of who has none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/shares.h"

static unsigned take_all(struct shares *s, const char *who)
{
	unsigned count = 0;

	while (shares_take(s, str_from(who)))
		count++;
	return count;
}

static void alone_it_gets_half(void **state)
{
	struct shares s;

	shares_init(&s, 512);
	assert_int_equal(take_all(&s, "10.0.0.1"), 256);
	assert_false(shares_may_take(&s, STR("10.0.0.1")));
	assert_true(shares_may_take(&s, STR("10.0.0.2")));
	shares_done(&s);
}

static void whoever_comes_finds_room(void **state)
{
	struct shares s;
	char who[16];

	shares_init(&s, 512);
	for (unsigned i = 0; i < 8; i++) {
		(void)snprintf(who, sizeof(who), "10.0.0.%u", i);
		assert_true(take_all(&s, who) > 0);
	}
	assert_true(s.taken < s.max);
	shares_done(&s);
}

static void what_one_gives_back_the_other_may_take(void **state)
{
	struct shares s;

	shares_init(&s, 512);
	assert_int_equal(take_all(&s, "a"), 256);
	assert_int_equal(take_all(&s, "b"), 128);
	for (unsigned i = 0; i < 256; i++)
		shares_give(&s, STR("a"));
	assert_int_equal(map_count(s.by_who), 1); /* nothing is kept of who has none */
	assert_int_equal(take_all(&s, "b"), 128);
	shares_done(&s);
}

static void nobody_in_particular_takes_what_is_free(void **state)
{
	struct shares s;

	shares_init(&s, 16);
	assert_int_equal(take_all(&s, ""), 16);
	assert_false(shares_may_take(&s, STR("a")));
	shares_give(&s, STR(""));
	assert_true(shares_take(&s, STR("a")));
	shares_give(&s, STR("a"));
	assert_int_equal(map_count(s.by_who), 0);
	shares_done(&s);
}

static void a_single_place_can_be_had(void **state)
{
	struct shares s;

	shares_init(&s, 1);
	assert_int_equal(take_all(&s, "a"), 1);
	assert_false(shares_take(&s, STR("b")));
	shares_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alone_it_gets_half),
		cmocka_unit_test(whoever_comes_finds_room),
		cmocka_unit_test(what_one_gives_back_the_other_may_take),
		cmocka_unit_test(nobody_in_particular_takes_what_is_free),
		cmocka_unit_test(a_single_place_can_be_had),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
