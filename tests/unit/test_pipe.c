/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the relay's queue keeps order across the ring's end and never holds more than it may.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "relay/pipe.h"

static void gives_back_what_was_put_in_order_around_the_end(void **state)
{
	struct pipe p;
	char out[8];
	unsigned char next_in = 0, next_out = 0;

	pipe_init(&p, 7);
	for (int round = 0; round < 100; round++) {
		unsigned char in[5];

		for (size_t i = 0; i < sizeof(in); i++)
			in[i] = next_in++;
		assert_int_equal(pipe_put(&p, in, sizeof(in)), sizeof(in));
		assert_int_equal(pipe_take(&p, out, sizeof(out)), sizeof(in));
		for (size_t i = 0; i < sizeof(in); i++)
			assert_int_equal((unsigned char)out[i], next_out++);
	}
	pipe_done(&p);
}

static void takes_only_what_fits(void **state)
{
	struct pipe p;

	pipe_init(&p, 4);
	assert_int_equal(pipe_put(&p, "abcdef", 6), 4);
	assert_int_equal(pipe_free_room(&p), 0);
	assert_int_equal(pipe_put(&p, "x", 1), 0);
	pipe_done(&p);
}

static void takes_all_or_nothing(void **state)
{
	struct pipe p;
	char out[8];

	pipe_init(&p, 4);
	assert_true(pipe_put_all(&p, "abc", 3));
	assert_false(pipe_put_all(&p, "de", 2));
	assert_int_equal(pipe_take(&p, out, sizeof(out)), 3);
	assert_memory_equal(out, "abc", 3);
	assert_true(pipe_put_all(&p, "de", 2));
	pipe_done(&p);
}

static void takes_a_piece_larger_than_itself_when_empty(void **state)
{
	struct pipe p;
	char out[16];

	pipe_init(&p, 4);
	assert_true(pipe_put_all(&p, "a", 1));
	assert_false(pipe_put_all(&p, "0123456789", 10));
	assert_int_equal(pipe_take(&p, out, 1), 1);
	assert_true(pipe_put_all(&p, "0123456789", 10));
	assert_int_equal(pipe_free_room(&p), 0);
	assert_int_equal(pipe_take(&p, out, 6), 6);
	assert_int_equal(pipe_free_room(&p), 0); /* four are left, which is all it may hold */
	assert_int_equal(pipe_take(&p, out + 6, 10), 4);
	assert_memory_equal(out, "0123456789", 10);
	assert_int_equal(pipe_put(&p, "abcdef", 6), 4); /* the old limit holds again */
	pipe_done(&p);
}

static void an_empty_one_gives_nothing(void **state)
{
	struct pipe p;
	char out[1];

	pipe_init(&p, 4);
	assert_int_equal(pipe_take(&p, out, 1), 0);
	assert_true(pipe_put_all(&p, "", 0));
	assert_int_equal(pipe_take(&p, out, 1), 0);
	pipe_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_what_was_put_in_order_around_the_end),
		cmocka_unit_test(takes_only_what_fits),
		cmocka_unit_test(takes_all_or_nothing),
		cmocka_unit_test(takes_a_piece_larger_than_itself_when_empty),
		cmocka_unit_test(an_empty_one_gives_nothing),
	};
	return cmocka_run_group_tests_name("pipe", tests, NULL, NULL);
}
