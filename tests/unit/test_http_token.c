/* SPDX-License-Identifier: Apache-2.0 */
/* token: a secret in a target is found in every spelling; what only looks a little like one is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/http/token.h"

#define LETTERS_20 "abcdefghijABCDEF0123"

static void finds_a_token_anywhere_in_a_target(void **state)
{
	static const char *const targets[] = {
		"/a/b/resolve/hf_" LETTERS_20 "/x",       "/api/models?search=hf_" LETTERS_20,
		"/api/models?hf_" LETTERS_20 "=1",        "/a/b/resolve/%68f%5f" LETTERS_20,
		"/a/b/resolve/hf_%61bcdefghijABCDEF0123", "/x?a=%zz%hf_" LETTERS_20 "more",
	};

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		assert_true(target_holds_token(str_from(targets[i])));
	assert_true(text_holds_token(STR("/a/hf_" LETTERS_20)));
}

static void finds_parameters_that_carry_a_token(void **state)
{
	static const char *const targets[] = { "/x?token=a", "/x?a=1&access_token=b", "/x?Authorization=c",
					       "/x?api_key", "/x?API%5fKEY=d",        "/x?&&token" };

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		assert_true(target_holds_token(str_from(targets[i])));
}

static void leaves_other_targets_alone(void **state)
{
	static const char *const targets[] = {
		"/",
		"",
		"/token/token?tokens=1&x=token",
		"/acme/tokenizer/resolve/main/token",
		"/a/hf_transfer/resolve/main/x?token_type=a",
		"/a/hf_abcdefghijABCDEF012/x",
		"/a/hf_abcdefghij_ABCDEF0123/x",
		"/x?hf_",
		"/x?a=hf",
		"/x?a=%",
		"/x?a=%6",
	};

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		assert_false(target_holds_token(str_from(targets[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_a_token_anywhere_in_a_target),
		cmocka_unit_test(finds_parameters_that_carry_a_token),
		cmocka_unit_test(leaves_other_targets_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
