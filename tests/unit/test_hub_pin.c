/* SPDX-License-Identifier: Apache-2.0 */
/* hub/pin: a word is kept for a minute, and there is an end to how many. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hub/priv.h"

static void keeps_a_word_for_a_minute(void **state)
{
	struct pins p;
	char value[COMMIT_TEXT];

	pins_init(&p, PIN_MS);
	pins_put(&p, STR("k"), STR("0123456789012345678901234567890123456789"), 1000);
	assert_true(pins_find(&p, STR("k"), 1000 + PIN_MS - 1, value));
	assert_string_equal(value, "0123456789012345678901234567890123456789");
	assert_false(pins_find(&p, STR("k"), 1000 + PIN_MS, value));
	assert_false(pins_find(&p, STR("other"), 1000, value));
	pins_done(&p);
}

static void a_new_word_replaces_the_old(void **state)
{
	struct pins p;
	char value[COMMIT_TEXT];

	pins_init(&p, PIN_MS);
	pins_put(&p, STR("k"), STR("aaaa"), 0);
	pins_put(&p, STR("k"), STR("bbbb"), 10);
	assert_true(pins_find(&p, STR("k"), 20, value));
	assert_string_equal(value, "bbbb");
	assert_int_equal(map_count(p.by_key), 1);
	pins_done(&p);
}

static void never_holds_more_than_its_bound(void **state)
{
	struct pins p;
	char value[COMMIT_TEXT];

	pins_init(&p, PIN_MS);
	for (uint32_t i = 0; i < PINS_MAX + 100; i++)
		pins_put(&p, (struct str){ (char *)&i, sizeof(i) }, STR(""), 5);
	assert_true(map_count(p.by_key) <= PINS_MAX);
	uint32_t first = 0, last = PINS_MAX + 99;
	assert_false(pins_find(&p, (struct str){ (char *)&first, sizeof(first) }, 6, value));
	assert_true(pins_find(&p, (struct str){ (char *)&last, sizeof(last) }, 6, value));
	pins_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_a_word_for_a_minute),
		cmocka_unit_test(a_new_word_replaces_the_old),
		cmocka_unit_test(never_holds_more_than_its_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
