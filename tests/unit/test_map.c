/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a map finds what was put, forgets what was taken, and walks over all of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/map.h"

#include <stdio.h>
#include <stdlib.h>

static int values[5000];

static void finds_what_was_put(void **state)
{
	struct map *m = map_new();

	assert_null(map_get(m, STR("a")));
	assert_null(map_put(m, STR("a"), &values[0]));
	assert_null(map_put(m, STR("b"), &values[1]));
	assert_ptr_equal(map_get(m, STR("a")), &values[0]);
	assert_ptr_equal(map_get(m, STR("b")), &values[1]);
	assert_null(map_get(m, STR("A")));
	assert_int_equal(map_count(m), 2);
	map_free(m, NULL);
}

static void gives_back_the_value_it_replaces(void **state)
{
	struct map *m = map_new();

	map_put(m, STR("a"), &values[0]);
	assert_ptr_equal(map_put(m, STR("a"), &values[1]), &values[0]);
	assert_ptr_equal(map_get(m, STR("a")), &values[1]);
	assert_int_equal(map_count(m), 1);
	map_free(m, NULL);
}

static void keys_may_be_empty_or_hold_nul(void **state)
{
	struct map *m = map_new();

	map_put(m, STR("a\0b"), &values[0]);
	map_put(m, STR("a\0c"), &values[1]);
	map_put(m, (struct str){ NULL, 0 }, &values[2]);
	assert_ptr_equal(map_get(m, STR("a\0b")), &values[0]);
	assert_ptr_equal(map_get(m, STR("a\0c")), &values[1]);
	assert_null(map_get(m, STR("a")));
	assert_ptr_equal(map_get(m, STR("")), &values[2]);
	map_free(m, NULL);
}

static void keeps_its_own_copy_of_the_key(void **state)
{
	struct map *m = map_new();
	char key[] = "first";

	map_put(m, str_from(key), &values[0]);
	memset(key, 'x', 5);
	assert_ptr_equal(map_get(m, STR("first")), &values[0]);
	assert_null(map_get(m, STR("xxxxx")));
	map_free(m, NULL);
}

static void holds_thousands_of_keys_of_all_lengths(void **state)
{
	struct map *m = map_new();
	char key[64];

	for (int i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "%.*s%d", i % 20, "datasets/organisation", i);
		assert_null(map_put(m, str_from(key), &values[i]));
	}
	for (int i = 0; i < 5000; i += 2) {
		snprintf(key, sizeof(key), "%.*s%d", i % 20, "datasets/organisation", i);
		assert_ptr_equal(map_take(m, str_from(key)), &values[i]);
		assert_null(map_take(m, str_from(key)));
	}
	assert_int_equal(map_count(m), 2500);
	for (int i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "%.*s%d", i % 20, "datasets/organisation", i);
		assert_ptr_equal(map_get(m, str_from(key)), i % 2 ? &values[i] : NULL);
	}
	map_free(m, NULL);
}

struct walk {
	struct map *map;
	unsigned seen, stop_after;
};

static int take_each(void *ctx, struct str key, void *value)
{
	struct walk *walk = ctx;

	assert_ptr_equal(map_take(walk->map, key), value);
	return ++walk->seen == walk->stop_after ? 7 : 0;
}

static void may_take_what_it_walks_over_and_stop(void **state)
{
	struct walk walk = { .map = map_new(), .stop_after = 3 };
	char key[16];

	for (int i = 0; i < 10; i++) {
		snprintf(key, sizeof(key), "%d", i);
		map_put(walk.map, str_from(key), &values[i]);
	}
	assert_int_equal(map_each(walk.map, take_each, &walk), 7);
	assert_int_equal(map_count(walk.map), 7);
	assert_int_equal(map_each(walk.map, take_each, &walk), 0);
	assert_int_equal(walk.seen, 10);
	assert_int_equal(map_count(walk.map), 0);
	map_free(walk.map, NULL);
}

static unsigned freed;

static void count_free(void *value)
{
	freed++;
	free(value);
}

static void frees_the_values_that_are_left(void **state)
{
	struct map *m = map_new();

	map_put(m, STR("a"), malloc(1));
	map_put(m, STR("b"), malloc(1));
	free(map_take(m, STR("a")));
	map_free(m, count_free);
	assert_int_equal(freed, 1);
	map_free(NULL, count_free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_was_put),
		cmocka_unit_test(gives_back_the_value_it_replaces),
		cmocka_unit_test(keys_may_be_empty_or_hold_nul),
		cmocka_unit_test(keeps_its_own_copy_of_the_key),
		cmocka_unit_test(holds_thousands_of_keys_of_all_lengths),
		cmocka_unit_test(may_take_what_it_walks_over_and_stop),
		cmocka_unit_test(frees_the_values_that_are_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
