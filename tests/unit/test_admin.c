/* SPDX-License-Identifier: Apache-2.0 */
/* admin: counts are for the machine itself; health is for everybody and says what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>

#include "admin/admin.h"
#include "common/alloc.h"
#include "common/clock.h"
#include "common/str.h"

static const char *loops_trouble;

static const char *loops_alive(void *ctx)
{
	return loops_trouble;
}

static void never_wake(struct waiter *w)
{
	fail_msg("nobody waits here");
}

struct call {
	struct metrics *metrics;
	struct admin *admin;
	struct request q;
	struct reply r;
};

static struct call begin(const char *client)
{
	struct call c = { .metrics = metrics_new() };

	c.admin = admin_new(&(struct admin_opts){ .metrics = c.metrics,
						  .clock = &clock_system,
						  .version = "1",
						  .upstream = "http://hub",
						  .loops_alive = loops_alive });
	request_init(&c.q, never_wake);
	c.q.client = str_dup(str_from(client));
	c.q.base = str_dup(STR("http://here"));
	reply_init(&c.r);
	return c;
}

static void end(struct call *c)
{
	reply_done(&c->r);
	request_done(&c->q);
	admin_free(c->admin);
	metrics_free(c->metrics);
}

static void counts_are_refused_to_other_machines(void **state)
{
	static const char *const strangers[] = { "10.0.0.1", "192.168.1.9", "2001:db8::1", "128.0.0.1" };

	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		struct call c = begin(strangers[i]);

		assert_int_equal(admin_metrics(c.admin, &c.q, &c.r), 0);
		assert_int_equal(c.r.status, 403);
		assert_int_equal(admin_status(c.admin, &c.q, &c.r), 0);
		assert_int_equal(c.r.status, 403);
		end(&c);
	}
}

static void counts_are_shown_to_the_machine_itself(void **state)
{
	static const char *const own[] = { "127.0.0.1", "::1", "::ffff:127.0.0.1", "unix" };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		struct call c = begin(own[i]);

		assert_int_equal(admin_metrics(c.admin, &c.q, &c.r), 0);
		assert_int_equal(c.r.status, 200);
		assert_non_null(strstr(bytes_str(c.r.bytes).ptr, "hfcache_build_info"));
		end(&c);
	}
}

static void choices_that_open_doors_are_shown_as_warnings(void **state)
{
	struct call c = begin("10.0.0.1");

	admin_set_rights(c.admin,
			 &(struct admin_rights){ .offline_access = OFFLINE_OPEN, .is_reachable = true });
	assert_int_equal(admin_healthz(c.admin, &c.q, &c.r), 0);
	assert_int_equal(c.r.status, 200);
	assert_non_null(strstr(bytes_str(c.r.bytes).ptr, "offline.access is open"));
	assert_non_null(strstr(bytes_str(c.r.bytes).ptr, "in the clear"));
	reply_done(&c.r);
	reply_init(&c.r);
	admin_set_rights(c.admin, &(struct admin_rights){ .offline_access = OFFLINE_GRANTS,
							  .is_reachable = true,
							  .is_strict = true });
	assert_int_equal(admin_healthz(c.admin, &c.q, &c.r), 0);
	assert_non_null(strstr(bytes_str(c.r.bytes).ptr, "\"warnings\":[]"));
	end(&c);
}

static void health_names_the_trouble(void **state)
{
	struct call c = begin("10.0.0.1");

	assert_int_equal(admin_healthz(c.admin, &c.q, &c.r), 0);
	assert_int_equal(c.r.status, 200);
	loops_trouble = "a loop stands still";
	assert_int_equal(admin_healthz(c.admin, &c.q, &c.r), 0);
	assert_int_equal(c.r.status, 503);
	assert_non_null(strstr(bytes_str(c.r.bytes).ptr, "a loop stands still"));
	loops_trouble = NULL;
	end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_are_refused_to_other_machines),
		cmocka_unit_test(counts_are_shown_to_the_machine_itself),
		cmocka_unit_test(choices_that_open_doors_are_shown_as_warnings),
		cmocka_unit_test(health_names_the_trouble),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
