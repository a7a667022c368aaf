/* SPDX-License-Identifier: Apache-2.0 */
/* admin: who may ask what of the repos, before anything is looked at; patterns. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>

#include "admin/priv.h"
#include "common/alloc.h"
#include "common/clock.h"
#include "common/http/uri.h"

static void never_wake(struct waiter *w)
{
	fail_msg("nobody waits here");
}

struct trial {
	struct metrics *metrics;
	struct admin *admin;
	struct request q;
	struct reply r;
};

static struct trial begin(const char *method, const char *target, const char *client, bool is_admin)
{
	struct trial c = { .metrics = metrics_new() };

	c.admin = admin_new(&(struct admin_opts){
		.metrics = c.metrics, .clock = &clock_system, .version = "1", .upstream = "http://hub" });
	request_init(&c.q, never_wake);
	c.q.method = xstrdup(method);
	c.q.target = xstrdup(target);
	uri_split_target(str_from(c.q.target), &c.q.path, &c.q.query);
	c.q.client = xstrdup(client);
	c.q.host = xstrdup("127.0.0.1:8090");
	c.q.is_admin = is_admin;
	reply_init(&c.r);
	return c;
}

static void end(struct trial *c)
{
	reply_done(&c->r);
	request_done(&c->q);
	admin_free(c->admin);
	metrics_free(c->metrics);
}

static int status_of(int (*handler)(struct admin *, struct request *, struct reply *), struct trial *c)
{
	int status;

	assert_int_equal(handler(c->admin, &c->q, &c->r), 0);
	status = c->r.status;
	end(c);
	return status;
}

static void only_the_administrators_socket_may_delete(void **state)
{
	static const char *const others[] = { "127.0.0.1", "::1", "unix:0", "10.0.0.1" };

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct trial c = begin("DELETE", "/-/repos/models/acme/pub", others[i], false);

		assert_int_equal(status_of(admin_repo, &c), 403);
	}
}

static void pages_are_refused_everywhere(void **state)
{
	static const char *const fields[] = { "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Referer" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		struct trial c = begin("DELETE", "/-/repos/models/acme/pub", "unix:0", true);

		(void)headers_add(&c.q.headers, str_from(fields[i]), STR("null"));
		assert_int_equal(status_of(admin_repo, &c), 403);
		c = begin("GET", "/-/repos", "127.0.0.1", false);
		(void)headers_add(&c.q.headers, str_from(fields[i]), STR("x"));
		assert_int_equal(status_of(admin_repos, &c), 403);
	}
}

static void lists_are_for_this_machine(void **state)
{
	struct trial c = begin("GET", "/-/repos", "10.0.0.1", false);

	assert_int_equal(status_of(admin_repos, &c), 403);
	c = begin("GET", "/-/usage", "2001:db8::1", false);
	assert_int_equal(status_of(admin_usage, &c), 403);
}

static void malformed_questions_are_told(void **state)
{
	static const char *const deletes[] = { "/-/repos/",
					       "/-/repos/models",
					       "/-/repos/cars/acme/pub",
					       "/-/repos/models/a/b/c",
					       "/-/repos/models//b",
					       "/-/repos/models/a%2Fb",
					       "/-/repos/models/a%00",
					       "/-/repos/inference/x",
					       "/-/repos/models/a/b?dry-run=yes",
					       "/-/repos/models/a/b?revision=",
					       "/-/repos/models/a/b?revision=%zz" };
	static const char *const lists[] = { "/-/repos?kind=car",
					     "/-/repos?kind=%00",
					     "/-/repos?cursor=",
					     "/-/repos?cursor=0-0",
					     "/-/repos?cursor=0000000000000000-0",
					     "/-/repos?cursor=0123456789abcdef",
					     "/-/repos?match=%ff" };

	for (size_t i = 0; i < sizeof(deletes) / sizeof(deletes[0]); i++) {
		struct trial c = begin("DELETE", deletes[i], "unix:0", true);

		assert_int_equal(status_of(admin_repo, &c), 400);
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		struct trial c = begin("GET", lists[i], "127.0.0.1", false);

		assert_int_equal(status_of(admin_repos, &c), 400);
	}
}

static void other_methods_are_refused(void **state)
{
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "PATCH" };

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		struct trial c = begin(methods[i], "/-/repos/models/acme/pub", "unix:0", true);

		assert_int_equal(status_of(admin_repo, &c), 405);
	}
}

static void stars_stand_for_anything(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool fits;
	} cases[] = { { "", "", true },
		      { "", "a", false },
		      { "*", "", true },
		      { "*", "a/b", true },
		      { "acme/*", "acme/pub", true },
		      { "acme/*", "acmex/pub", false },
		      { "*pub", "acme/pub", true },
		      { "a*b*c", "aXbYbZc", true },
		      { "a*b*c", "aXbYbZ", false },
		      { "?", "a", true },
		      { "?", "", false },
		      { "a?c", "abc", true },
		      { "**", "x", true },
		      { "a*", "b", false },
		      { "*a", "ba", true } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(glob_matches(str_from(cases[i].pattern), str_from(cases[i].text)),
				 cases[i].fits);
}

static void ids_are_written_as_people_know_them(void **state)
{
	SCOPED_BUF out = { 0 };

	buf_init(&out, 1000);
	admin_write_id(&out, STR("models/acme/pub"));
	(void)buf_append_char(&out, ' ');
	admin_write_id(&out, STR("datasets/squad"));
	(void)buf_append_char(&out, ' ');
	admin_write_id(&out, STR("inference"));
	assert_string_equal(buf_str(&out).ptr, "model/acme/pub dataset/squad inference");
	assert_ptr_equal(admin_kind(STR("model")), admin_kind(STR("models")));
	assert_null(admin_kind(STR("mode")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_administrators_socket_may_delete),
		cmocka_unit_test(pages_are_refused_everywhere),
		cmocka_unit_test(lists_are_for_this_machine),
		cmocka_unit_test(malformed_questions_are_told),
		cmocka_unit_test(other_methods_are_refused),
		cmocka_unit_test(stars_stand_for_anything),
		cmocka_unit_test(ids_are_written_as_people_know_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
