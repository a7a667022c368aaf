/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a lock taken out of order ends the program, and that the right order does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct lock outer, inner;

/* Runs it in a child and says whether that aborted. */
static bool aborts(void (*run)(void))
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		const struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void take_in_order(void)
{
	SCOPED_LOCK(&outer);
	{
		struct lock *held = &inner;

		lock_take(held);
		lock_drop(held);
	}
}

static void take_out_of_order(void)
{
	lock_take(&inner);
	lock_take(&outer);
}

static void take_twice(void)
{
	lock_take(&inner);
	lock_take(&inner);
}

static void drop_what_is_not_held(void)
{
	lock_drop(&inner);
}

static void nests_locks_in_the_order_of_their_ranks(void **state)
{
	assert_false(aborts(take_in_order));
}

static void ends_the_program_on_a_wrong_order(void **state)
{
	assert_true(aborts(take_out_of_order));
	assert_true(aborts(take_twice));
	assert_true(aborts(drop_what_is_not_held));
}

static void knows_what_a_thread_holds_whatever_the_order_of_dropping(void **state)
{
	lock_take(&outer);
	lock_take(&inner);
	lock_drop(&outer);
	assert_false(lock_is_mine(&outer));
	assert_true(lock_is_mine(&inner));
	lock_drop(&inner);
	assert_false(lock_is_mine(&inner));
	lock_take(&outer); /* nothing of the former is remembered */
	assert_true(lock_is_mine(&outer));
	lock_drop(&outer);
}

static int init_locks(void **state)
{
	lock_init(&outer, LOCK_FLIGHT);
	lock_init(&inner, LOCK_WAITER);
	return 0;
}

static int done_locks(void **state)
{
	lock_done(&outer);
	lock_done(&inner);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nests_locks_in_the_order_of_their_ranks),
		cmocka_unit_test(ends_the_program_on_a_wrong_order),
		cmocka_unit_test(knows_what_a_thread_holds_whatever_the_order_of_dropping),
	};

	return cmocka_run_group_tests(tests, init_locks, done_locks);
}
