/* SPDX-License-Identifier: Apache-2.0 */
/* auth: a ticket stands for one subject, one repo and one thing, for a time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "auth/auth.h"
#include "common/alloc.h"
#include "common/clock.h"

#define REPO STR("models/acme/closed")
#define THING STR("sha256:11")
#define HOUR_MS (60 * 60 * 1000ULL)

struct fixture {
	struct auth *auth;
	struct clock clock;
	uint64_t now_ms;
	struct subject alice, bob;
};

static uint64_t fixture_now(void *ctx)
{
	return ((struct fixture *)ctx)->now_ms;
}

static void subject_of(struct fixture *f, const char *authorization, struct subject *ret)
{
	struct headers h;

	headers_init(&h);
	(void)headers_add(&h, STR("Authorization"), str_from(authorization));
	assert_int_equal(auth_subject(f->auth, &h, STR("192.0.2.1"), ret), 0);
	headers_done(&h);
}

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->now_ms = 5000;
	f->clock = (struct clock){ .mono_ms = fixture_now, .ctx = f };
	f->auth = auth_new(&(struct auth_opts){ .key = (const uint8_t *)"0123456789abcdef0123456789abcdef",
						.clock = &f->clock });
	auth_set_rules(f->auth, &(struct auth_rules){ .grant_ttl_ms = 1000 });
	subject_of(f, "Bearer alice", &f->alice);
	subject_of(f, "Bearer bob", &f->bob);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	subject_done(&f->alice);
	subject_done(&f->bob);
	auth_free(f->auth);
	free(f);
	return 0;
}

static int find(struct fixture *f, const char *ticket, struct str repo, struct str what,
		const struct subject *want)
{
	struct subject got = { 0 };
	int r = auth_ticket_find(f->auth, str_from(ticket), repo, what, &(struct peer){ 0 }, &got);

	if (r == 0) {
		assert_memory_equal(got.id, want->id, SUBJECT_BYTES);
		assert_string_equal(got.fingerprint, want->fingerprint);
		assert_true(str_eq(secret_value(got.token), secret_value(want->token)));
		subject_done(&got);
	}
	return r;
}

static void stands_for_its_subject_and_its_thing(void **state)
{
	struct fixture *f = *state;
	char ticket[TICKET_TEXT], other[TICKET_TEXT];

	auth_ticket_new(f->auth, &f->alice, REPO, THING, ticket);
	auth_ticket_new(f->auth, &f->bob, REPO, THING, other);
	assert_int_equal(strlen(ticket), TICKET_TEXT - 1);
	assert_string_not_equal(ticket, other);
	assert_int_equal(find(f, ticket, REPO, THING, &f->alice), 0);
	assert_int_equal(find(f, other, REPO, THING, &f->bob), 0);
	assert_int_equal(find(f, ticket, STR("models/acme/other"), THING, &f->alice), -ENODATA);
	assert_int_equal(find(f, ticket, REPO, STR("sha256:12"), &f->alice), -ENODATA);
	assert_int_equal(find(f, "", REPO, THING, &f->alice), -ENODATA);
	ticket[5] ^= 1;
	assert_int_equal(find(f, ticket, REPO, THING, &f->alice), -ENODATA);
}

static void is_the_same_for_who_asks_again(void **state)
{
	struct fixture *f = *state;
	char first[TICKET_TEXT], again[TICKET_TEXT];

	auth_ticket_new(f->auth, &f->alice, REPO, THING, first);
	f->now_ms += HOUR_MS / 2;
	auth_ticket_new(f->auth, &f->alice, REPO, THING, again);
	assert_string_equal(first, again);
	auth_ticket_new(f->auth, &f->alice, REPO, STR("sha256:12"), again);
	assert_string_not_equal(first, again);
}

static void ends_an_hour_after_its_last_use(void **state)
{
	struct fixture *f = *state;
	char ticket[TICKET_TEXT], next[TICKET_TEXT];

	auth_ticket_new(f->auth, &f->alice, REPO, THING, ticket);
	for (int i = 0; i < 5; i++) {
		f->now_ms += HOUR_MS - 1;
		assert_int_equal(find(f, ticket, REPO, THING, &f->alice), 0);
	}
	f->now_ms += HOUR_MS + 1;
	assert_int_equal(find(f, ticket, REPO, THING, &f->alice), -ENODATA);
	auth_ticket_new(f->auth, &f->alice, REPO, THING, next);
	assert_string_not_equal(ticket, next);
	assert_int_equal(find(f, next, REPO, THING, &f->alice), 0);
}

static void ends_after_a_day_however_it_is_used(void **state)
{
	struct fixture *f = *state;
	char ticket[TICKET_TEXT], next[TICKET_TEXT];
	int hours = 0;

	auth_ticket_new(f->auth, &f->alice, REPO, THING, ticket);
	while (hours < 100 && find(f, ticket, REPO, THING, &f->alice) == 0) {
		f->now_ms += HOUR_MS / 2;
		hours++;
		/* from its second half on, who asks is given another, while the old one goes on */
		auth_ticket_new(f->auth, &f->alice, REPO, THING, next);
		assert_int_equal(strcmp(ticket, next) == 0, hours <= 24);
	}
	assert_int_equal(hours, 49);
	assert_int_equal(find(f, next, REPO, THING, &f->alice), 0);
}

static void the_one_not_used_for_longest_goes_when_there_are_too_many(void **state)
{
	struct fixture *f = *state;
	char first[TICKET_TEXT], second[TICKET_TEXT], ticket[TICKET_TEXT], what[32];

	auth_ticket_new(f->auth, &f->alice, REPO, STR("first"), first);
	auth_ticket_new(f->auth, &f->alice, REPO, STR("second"), second);
	assert_int_equal(find(f, first, REPO, STR("first"), &f->alice), 0);
	for (int i = 0; i < 65535; i++) {
		struct subject s = { .id = { 7, (uint8_t)(i % 5) } };

		(void)snprintf(what, sizeof(what), "%d", i);
		auth_ticket_new(f->auth, &s, REPO, str_from(what), ticket);
	}
	assert_int_equal(find(f, first, REPO, STR("first"), &f->alice), 0);
	assert_int_equal(find(f, second, REPO, STR("second"), &f->alice), -ENODATA);
}

static void who_wants_very_many_takes_none_from_others(void **state)
{
	struct fixture *f = *state;
	char hers[TICKET_TEXT], first[TICKET_TEXT], ticket[TICKET_TEXT], what[32];

	auth_ticket_new(f->auth, &f->alice, REPO, THING, hers);
	auth_ticket_new(f->auth, &f->bob, REPO, STR("first"), first);
	for (int i = 0; i < 70000; i++) {
		(void)snprintf(what, sizeof(what), "%d", i);
		auth_ticket_new(f->auth, &f->bob, REPO, str_from(what), ticket);
	}
	assert_int_equal(find(f, hers, REPO, THING, &f->alice), 0);
	assert_int_equal(find(f, first, REPO, STR("first"), &f->bob), -ENODATA);
	assert_int_equal(find(f, ticket, REPO, STR("69999"), &f->bob), 0);
}

static void comes_from_where_its_holder_comes_from(void **state)
{
	struct fixture *f = *state;
	struct subject s = f->alice, got;
	struct peer from = { .kind = PEER_UNIX, .uid = 7 };
	char ticket[TICKET_TEXT];

	s.peer = (struct peer){ .kind = PEER_UNIX, .uid = 1 };
	auth_ticket_new(f->auth, &s, REPO, THING, ticket);
	assert_int_equal(auth_ticket_find(f->auth, str_from(ticket), REPO, THING, &from, &got), 0);
	assert_int_equal(got.peer.uid, 7);
	subject_done(&got);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stands_for_its_subject_and_its_thing),
		TEST(is_the_same_for_who_asks_again),
		TEST(ends_an_hour_after_its_last_use),
		TEST(ends_after_a_day_however_it_is_used),
		TEST(the_one_not_used_for_longest_goes_when_there_are_too_many),
		TEST(who_wants_very_many_takes_none_from_others),
		TEST(comes_from_where_its_holder_comes_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
