/* SPDX-License-Identifier: Apache-2.0 */
/* flight: what landed a moment ago, and is evicted before anybody could open it. */
#include "flight_rig.h"

#include <errno.h>

#include "common/log.h"

static void what_was_evicted_as_soon_as_it_landed_is_fetched_again(void **state)
{
	struct rig r = { 0 };
	struct client c = { .rig = &r }, late = { .rig = &r }, again = { .rig = &r };

	rig_start(&r, MIB);
	rig_stop_clock(&r);
	client_run(&c);
	assert_all_right(&c, MIB);
	assert_int_equal(store_remove_blob(r.store, &r.id.sha256), 0);
	client_run(&late);
	assert_int_equal(late.join_error, -EEXIST);
	flight_forget_landed(r.flights, &r.id);
	client_run(&again);
	assert_all_right(&again, MIB);
	assert_true(rig_is_stored(&r));
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_evicted_as_soon_as_it_landed_is_fetched_again),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
