/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: eviction takes the least recently used, nothing that would not help, and never passes the quota.
 */
#include "keeper_rig.h"

static void evicts_the_least_recently_used_first(void **state)
{
	struct house *h = *state;
	struct blob_meta m[4];
	struct blob *open = NULL;

	for (unsigned i = 0; i < 4; i++) {
		h->f->wall_s++;
		m[i] = house_fill_seed(h, 100000, i);
	}
	index_touch_blob(h->index, &m[0].sha256, h->f->wall_s + 10);
	assert_int_equal(store_open_blob(h->f->store, &m[1].sha256, &open), 0);
	assert_int_equal(house_make_room(h, 50000), 0);
	assert_true(house_has(h, &m[0]));
	assert_true(house_has(h, &m[1])); /* the oldest, but open */
	assert_false(house_has(h, &m[2]));
	assert_true(house_has(h, &m[3]));
	assert_int_equal(house_check_seed(h, &m[2], 2), -ENODATA);
	assert_int_equal(metrics_value(h->f->metrics, METRIC_STORAGE_EVICTED_OBJECTS, 0, 0, 0), 1);
	assert_int_equal(metrics_value(h->f->metrics, METRIC_STORAGE_EVICTED_BYTES, 0, 0, 0), 100000);
	(void)blob_unref(open);
	assert_int_equal(house_make_room(h, 1), 0);
	assert_false(house_has(h, &m[1]));
	house_stop(h);
	house_start(h);
	assert_true(house_has(h, &m[0]));
	assert_false(house_has(h, &m[1]));
	assert_false(house_has(h, &m[2]));
	assert_true(house_has(h, &m[3]));
}

static void evicts_nothing_when_it_would_not_help(void **state)
{
	struct house *h = *state;
	struct blob_meta a = house_fill_seed(h, 100000, 1), b = house_fill_seed(h, 100000, 2);
	struct blob *open = NULL;

	assert_int_equal(house_make_room(h, 1000000), -ENOSPC);
	assert_int_equal(house_make_room(h, UINT64_MAX), -ENOSPC);
	assert_int_equal(store_open_blob(h->f->store, &a.sha256, &open), 0);
	assert_int_equal(house_make_room(h, 150000), -ENOSPC);
	(void)blob_unref(open);
	assert_true(house_has(h, &a));
	assert_true(house_has(h, &b));
	assert_int_equal(metrics_value(h->f->metrics, METRIC_STORAGE_EVICTED_OBJECTS, 0, 0, 0), 0);
}

static void never_passes_the_quota(void **state)
{
	struct house *h = house_new(2000000);
	unsigned filled = 0;

	*state = h;
	for (unsigned i = 0; i < 60; i++) {
		size_t len = 20000 + i * 7919 % 200000;
		SCOPED_FREE char *bytes = make_bytes(len, i);
		struct blob_meta meta;
		struct store_usage u;
		char key[16];

		h->f->wall_s++;
		filled += house_fill(h, bytes, len, &meta) == 0;
		(void)snprintf(key, sizeof(key), "m:%u", i);
		(void)learn_doc(h, key, bytes, 3000);
		keeper_sync(h->keeper);
		u = usage_of(h->f->store);
		assert_true(u.used + u.reserved <= 2000000);
	}
	assert_int_equal(filled, 60);
	assert_true(metrics_value(h->f->metrics, METRIC_STORAGE_EVICTED_OBJECTS, 0, 0, 0) > 20);
}

static void evicts_down_to_a_smaller_limit_at_start(void **state)
{
	struct house *h = *state;
	struct blob_meta m[5];

	for (unsigned i = 0; i < 5; i++) {
		h->f->wall_s++;
		m[i] = house_fill_seed(h, 100000, i);
	}
	house_stop(h);
	h->f->size_max = 250000;
	house_start(h);
	assert_true(usage_of(h->f->store).used <= 250000);
	assert_false(house_has(h, &m[0]));
	assert_true(house_has(h, &m[4]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(evicts_the_least_recently_used_first),
		TEST(evicts_nothing_when_it_would_not_help),
		cmocka_unit_test_setup_teardown(never_passes_the_quota, NULL, house_tear_down),
		TEST(evicts_down_to_a_smaller_limit_at_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
