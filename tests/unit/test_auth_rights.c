/* SPDX-License-Identifier: Apache-2.0 */
/* auth: what an administrator may say, whom he means by it, and who tries tokens. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <stdio.h>
#include "auth/priv.h"
#include "common/alloc.h"
#include "common/clock.h"

#define KEY ((const uint8_t *)"0123456789abcdef0123456789abcdef")

struct fixture {
	struct auth *auth;
	struct clock clock;
	uint64_t now_ms;
};

static uint64_t fixture_ms(void *ctx)
{
	return ((struct fixture *)ctx)->now_ms;
}

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->now_ms = 1000000;
	f->clock = (struct clock){ .mono_ms = fixture_ms, .ctx = f };
	f->auth = auth_new(&(struct auth_opts){ .key = KEY, .clock = &f->clock });
	auth_set_rules(f->auth, &(struct auth_rules){ .offline_access = OFFLINE_GRANTS });
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	auth_free(f->auth);
	free(f);
	return 0;
}

/* token NULL: none is sent. */
static int ask_as(struct fixture *f, const char *token, const char *client, struct subject *s)
{
	SCOPED_FREE char *value = token ? xasprintf("Bearer %s", token) : NULL;
	struct headers h;
	int r;

	headers_init(&h);
	if (value)
		assert_int_equal(headers_add(&h, STR("Authorization"), str_from(value)), 0);
	r = auth_subject(f->auth, &h, str_from(client), s);
	headers_done(&h);
	return r;
}

static bool is_meant(struct fixture *f, const char *whom, const char *client)
{
	struct subject s;
	struct whom w;
	bool is;

	assert_int_equal(whom_parse(str_from(whom), &w), 0);
	assert_int_equal(ask_as(f, NULL, client, &s), 0);
	is = whom_is(&w, &s);
	subject_done(&s);
	return is;
}

static void subnets_take_in_their_addresses_and_no_other(void **state)
{
	assert_true(is_meant(*state, "10.1.2.3", "10.1.2.3"));
	assert_false(is_meant(*state, "10.1.2.3", "10.1.2.4"));
	assert_true(is_meant(*state, "10.1.2.0/23", "10.1.3.255"));
	assert_false(is_meant(*state, "10.1.2.0/23", "10.1.4.0"));
	assert_true(is_meant(*state, "0.0.0.0/0", "8.8.8.8"));
	assert_false(is_meant(*state, "0.0.0.0/0", "2001:db8::1"));
	assert_true(is_meant(*state, "2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(is_meant(*state, "2001:db8::/33", "2001:db8:8000::1"));
	assert_true(is_meant(*state, "::/0", "2001:db8::1"));
	assert_false(is_meant(*state, "::/1", "unix:0"));
	assert_true(is_meant(*state, "uid:1000", "unix:1000"));
	assert_false(is_meant(*state, "uid:1000", "unix:1001"));
	assert_false(is_meant(*state, "uid:0", "unix"));
	assert_false(is_meant(*state, "uid:0", "0.0.0.0"));
}

static void words_that_mean_nobody_are_refused(void **state)
{
	static const char *const bad[] = {
		"",         "lab",    "10.0.0.0/", "10.0.0.0/33",    "10.0.0/8",
		"::/129",   "uid:",   "uid:-1",    "uid:4294967295", "token:12",
		"token:zz", "hf_abc", "10.0.0.1 ",
	};
	struct whom w;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_not_equal(whom_parse(str_from(bad[i]), &w), 0);
	assert_false(client_is_sound(STR("token:00112233445566778899aabbccddeeff")));
}

static void patterns_match_whole_names(void **state)
{
	static const struct {
		const char *pattern, *repo;
		bool want;
	} cases[] = {
		{ "models/acme/x", "models/acme/x", true },
		{ "models/acme/x", "models/acme/xy", false },
		{ "models/acme/*", "models/acme/x", true },
		{ "models/acme/*", "models/acmes/x", false },
		{ "models/*", "models/a/b", true },
		{ "models/*", "datasets/a/b", false },
		{ "*", "spaces/a/b", true },
		{ "*/x", "models/acme/x", true },
		{ "models/a*c*e/x", "models/abcde/x", true },
		{ "models/a*c*e/x", "models/abcd/x", false },
		{ "models/**/x", "models/acme/x", true },
		{ "models/x", "models/X", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(repo_pattern_matches(str_from(cases[i].pattern), str_from(cases[i].repo)),
				 cases[i].want);
	assert_false(repo_pattern_is_sound(STR("acme/x")));
	assert_false(repo_pattern_is_sound(STR("models/")));
	assert_false(repo_pattern_is_sound(STR("")));
}

static void every_mistake_of_a_list_is_told_with_its_line(void **state)
{
	struct acl *acl = NULL;
	SCOPED_BUF errors;

	buf_init(&errors, 4096);
	assert_int_equal(
		acl_parse("LIST",
			  STR("allow 10.0.0.0/8 *\r\n# fine\n\nallow hf_secret *\nallow\nallow 1.2.3.4\n"
			      "deny 1.2.3.4 *\nallow 1.2.3.4 x/y\nallow 1.2.3.4 *\x01"),
			  &acl, &errors),
		-EINVAL);
	for (int line = 4; line <= 9; line++) {
		SCOPED_FREE char *where = xasprintf("LIST:%d: ", line);

		assert_non_null(strstr(errors.bytes, where));
	}
	assert_null(strstr(errors.bytes, "secret"));
	assert_null(strstr(errors.bytes, "LIST:1:"));
	assert_null(acl);
}

static void a_list_names_tokens_by_their_hash(void **state)
{
	struct fixture *f = *state;
	struct subject alice, bob;
	SCOPED_FREE char *text = NULL;
	char hex[2 * SUBJECT_BYTES + 1];
	struct acl *acl = NULL;
	SCOPED_BUF errors;

	buf_init(&errors, 4096);
	assert_int_equal(ask_as(f, "hf_alice", "10.0.0.1", &alice), 0);
	assert_int_equal(ask_as(f, "hf_bob", "10.0.0.1", &bob), 0);
	format_hex(alice.id, SUBJECT_BYTES, hex);
	text = xasprintf("allow token:%s models/acme/* datasets/acme/d", hex);
	assert_int_equal(acl_parse("LIST", str_from(text), &acl, &errors), 0);
	assert_true(acl_allows(acl, &alice, STR("models/acme/x")));
	assert_true(acl_allows(acl, &alice, STR("datasets/acme/d")));
	assert_false(acl_allows(acl, &alice, STR("datasets/acme/e")));
	assert_false(acl_allows(acl, &bob, STR("models/acme/x")));
	acl_unref(acl);
	subject_done(&alice), subject_done(&bob);
}

static void lend_to(struct fixture *f, const char *client)
{
	const char *repos[] = { "models/acme/*", NULL }, *clients[] = { client, NULL };
	struct str key = STR("a-key-of-twenty-letters");
	struct lender *l = NULL;

	assert_int_equal(lender_new(&(struct lender_opts){ .token = STR("hf_service"),
							   .repos = repos,
							   .clients = clients,
							   .keys = &key,
							   .key_count = 1 },
				    &l),
			 0);
	auth_set_rules(f->auth, &(struct auth_rules){ .lender = l });
	lender_unref(l);
}

static void the_daemons_token_is_lent_for_its_repos_and_given_back(void **state)
{
	static const uint8_t nobody[SUBJECT_BYTES];
	struct fixture *f = *state;
	struct subject s, user;

	lend_to(f, "10.0.0.0/8");
	assert_int_equal(ask_as(f, NULL, "10.0.0.1", &s), 0);
	assert_null(s.token);
	auth_lend(f->auth, &s, STR("models/acme/x"));
	assert_true(s.is_lent);
	assert_true(str_eq(secret_value(s.token), STR("Bearer hf_service")));
	assert_true(auth_is_lent_for(f->auth, &s, STR("models/acme/y")));
	assert_false(auth_is_lent_for(f->auth, &s, STR("models/other/y")));
	/* a user with the same token is somebody else */
	assert_int_equal(ask_as(f, "hf_service", "10.0.0.1", &user), 0);
	assert_memory_not_equal(s.id, user.id, SUBJECT_BYTES);
	auth_lend(f->auth, &user, STR("models/acme/x"));
	assert_false(user.is_lent);
	/* an alias led elsewhere */
	auth_lend(f->auth, &s, STR("models/other/y"));
	assert_false(s.is_lent);
	assert_null(s.token);
	assert_memory_equal(s.id, nobody, SUBJECT_BYTES);
	subject_done(&s), subject_done(&user);
}

static void it_is_lent_to_nobody_else(void **state)
{
	struct fixture *f = *state;
	struct subject stranger, holder;

	lend_to(f, "10.0.0.0/8");
	assert_int_equal(ask_as(f, NULL, "192.0.2.1", &stranger), 0);
	auth_lend(f->auth, &stranger, STR("models/acme/x"));
	assert_false(stranger.is_lent);
	assert_int_equal(ask_as(f, "a-key-of-twenty-letters", "192.0.2.1", &holder), 0);
	assert_null(holder.token); /* a key never goes upstream */
	auth_lend(f->auth, &holder, STR("models/acme/x"));
	assert_true(holder.is_lent);
	/* taken out of the configuration: from the next look on */
	auth_set_rules(f->auth, &(struct auth_rules){ .lender = NULL });
	auth_lend(f->auth, &holder, STR("models/acme/x"));
	assert_false(holder.is_lent);
	assert_null(holder.token);
	subject_done(&stranger), subject_done(&holder);
}

static void a_lender_needs_repos_and_clients(void **state)
{
	const char *none[] = { NULL }, *repos[] = { "*", NULL }, *clients[] = { "10.0.0.1", NULL };
	struct str short_key = STR("short");
	struct lender *l = NULL;
	struct lender_opts opts = { .token = STR("hf_x"), .repos = none, .clients = clients };

	assert_int_equal(lender_new(&opts, &l), -EINVAL);
	opts.repos = repos;
	opts.clients = none;
	assert_int_equal(lender_new(&opts, &l), -EINVAL);
	opts.keys = &short_key;
	opts.key_count = 1;
	assert_int_equal(lender_new(&opts, &l), -EINVAL);
	opts.clients = clients;
	opts.key_count = 0;
	opts.token = STR("two words");
	assert_int_equal(lender_new(&opts, &l), -EINVAL);
	assert_null(l);
}

static void hear(struct fixture *f, const char *token, const char *client, int status)
{
	struct subject s;
	struct headers h;

	if (ask_as(f, token, client, &s) < 0)
		return;
	headers_init(&h);
	auth_heard(f->auth, &s, status, &h);
	headers_done(&h);
	subject_done(&s);
}

static int next(struct fixture *f, const char *token, const char *client)
{
	struct subject s = { .token = NULL };
	int r = ask_as(f, token, client, &s);

	subject_done(&s);
	return r;
}

static void too_many_invalid_tokens_close_an_address_for_a_minute(void **state)
{
	struct fixture *f = *state;

	hear(f, "known", "10.0.0.1", 200);
	for (int i = 0; i < KNOCKS_MAX; i++) {
		SCOPED_FREE char *token = xasprintf("guess%d", i);

		assert_int_equal(next(f, "new", "10.0.0.1"), 0);
		hear(f, token, "10.0.0.1", 401);
	}
	assert_int_equal(next(f, "new", "10.0.0.1"), -EBUSY);
	assert_int_equal(next(f, "guess0", "10.0.0.1"), -EBUSY);
	assert_int_equal(next(f, "known", "10.0.0.1"), 0);
	assert_int_equal(next(f, NULL, "10.0.0.1"), 0);
	assert_int_equal(next(f, "new", "10.0.0.2"), 0);
	f->now_ms += 60000;
	assert_int_equal(next(f, "new", "10.0.0.1"), 0);
}

static void one_invalid_token_counts_once(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 2 * KNOCKS_MAX; i++)
		hear(f, "expired", "10.0.0.1", 401);
	assert_int_equal(next(f, "new", "10.0.0.1"), 0);
	for (int i = 0; i < 2 * KNOCKS_MAX;
	     i++) { /* refusals of a repo, and trouble, are no word about the token */
		SCOPED_FREE char *token = xasprintf("fine%d", i);

		hear(f, token, "10.0.0.1", i % 2 ? 403 : 429);
	}
	assert_int_equal(next(f, "new", "10.0.0.1"), 0);
}

static void a_network_of_ipv6_is_one_address(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < KNOCKS_MAX; i++) {
		SCOPED_FREE char *token = xasprintf("guess%d", i), *client = xasprintf("2001:db8::%x", i + 1);

		hear(f, token, client, 401);
	}
	assert_int_equal(next(f, "new", "2001:db8::ffff"), -EBUSY);
	assert_int_equal(next(f, "new", "2001:db8:0:1::1"), 0);
}

static void tokens_in_the_clear_are_refused_where_that_is_said(void **state)
{
	struct fixture *f = *state;

	auth_set_rules(f->auth, &(struct auth_rules){ .refuses_clear_tokens = true });
	assert_int_equal(next(f, "hf_x", "10.0.0.1"), -EPERM);
	assert_int_equal(next(f, "hf_x", "2001:db8::1"), -EPERM);
	assert_int_equal(next(f, NULL, "10.0.0.1"), 0);
	assert_int_equal(next(f, "hf_x", "127.0.0.5"), 0);
	assert_int_equal(next(f, "hf_x", "::1"), 0);
	assert_int_equal(next(f, "hf_x", "unix:1000"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(subnets_take_in_their_addresses_and_no_other),
		TEST(words_that_mean_nobody_are_refused),
		TEST(patterns_match_whole_names),
		TEST(every_mistake_of_a_list_is_told_with_its_line),
		TEST(a_list_names_tokens_by_their_hash),
		TEST(the_daemons_token_is_lent_for_its_repos_and_given_back),
		TEST(it_is_lent_to_nobody_else),
		TEST(a_lender_needs_repos_and_clients),
		TEST(too_many_invalid_tokens_close_an_address_for_a_minute),
		TEST(one_invalid_token_counts_once),
		TEST(a_network_of_ipv6_is_one_address),
		TEST(tokens_in_the_clear_are_refused_where_that_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
