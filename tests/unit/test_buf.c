/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a buf never grows past its maximum, keeps its contents on failure, and remembers the failure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/bytes.h"

#include <errno.h>

static void assert_text(const struct buf *b, const char *text)
{
	assert_int_equal(b->len, strlen(text));
	assert_memory_equal(buf_str(b).ptr, text, strlen(text) + 1);
}

static void is_empty_text_before_the_first_append(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 10);
	assert_text(&b, "");
	assert_int_equal(buf_error(&b), 0);
}

static void appends_up_to_its_maximum_and_not_a_byte_more(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 8);
	assert_int_equal(buf_append_str(&b, STR("12345678")), 0);
	assert_text(&b, "12345678");
	assert_int_equal(buf_append_char(&b, '9'), -E2BIG);
	assert_text(&b, "12345678");
}

static void keeps_contents_and_stays_failed_after_a_failed_append(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 4);
	assert_int_equal(buf_append(&b, "abc", 3), 0);
	assert_int_equal(buf_append(&b, "de", 2), -E2BIG);
	assert_int_equal(buf_append(&b, "d", 1), -E2BIG); /* it would fit, but the chain is broken */
	assert_int_equal(buf_append(&b, "", 0), -E2BIG);
	assert_int_equal(buf_appendf(&b, "%d", 1), -E2BIG);
	assert_int_equal(buf_error(&b), -E2BIG);
	assert_text(&b, "abc");
	buf_reset(&b);
	assert_int_equal(buf_append(&b, "wxyz", 4), 0);
	assert_text(&b, "wxyz");
}

static void formats_text_longer_than_its_room(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 1000);
	for (int i = 0; i < 20; i++)
		assert_int_equal(buf_appendf(&b, "[%048d]", i), 0);
	assert_int_equal(b.len, 1000);
	assert_memory_equal(b.bytes + 949, "]", 1);
	assert_memory_equal(b.bytes + 998, "9]", 3);
}

static void failed_format_leaves_no_trace(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 100);
	buf_append_str(&b, STR("head"));
	assert_int_equal(buf_appendf(&b, "%0200d", 1), -E2BIG);
	assert_text(&b, "head");
}

static void format_may_fill_it_exactly(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 5);
	assert_int_equal(buf_appendf(&b, "%s", "12345"), 0);
	assert_text(&b, "12345");
}

static void refuses_lengths_that_would_overflow(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, SIZE_MAX);
	buf_append_str(&b, STR("x"));
	assert_int_equal(buf_append(&b, "", SIZE_MAX), -E2BIG);
	assert_text(&b, "x");
}

static void keeps_bytes_with_nul_inside(void **state)
{
	SCOPED_BUF b;

	buf_init(&b, 100);
	buf_append(&b, "a\0b", 3);
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.bytes, "a\0b", 4);
}

static void taken_bytes_are_the_callers_and_the_buf_starts_anew(void **state)
{
	SCOPED_FREE char *first = NULL, *second = NULL;
	SCOPED_BUF b;
	size_t len;

	buf_init(&b, 10);
	buf_append_str(&b, STR("abc"));
	first = buf_take(&b, &len);
	assert_string_equal(first, "abc");
	assert_int_equal(len, 3);
	assert_text(&b, "");
	second = buf_take(&b, NULL);
	assert_string_equal(second, "");
	assert_int_equal(buf_append_str(&b, STR("0123456789")), 0);
	assert_int_equal(buf_append_char(&b, 'x'), -E2BIG);
}

static void bytes_live_until_the_last_reference_goes(void **state)
{
	struct bytes *b = bytes_new_copy(STR("shared"));
	struct bytes *again = bytes_ref(b);

	b = bytes_unref(b);
	assert_null(b);
	assert_true(str_eq(bytes_str(again), STR("shared")));
	assert_null(bytes_unref(again));
	assert_int_equal(bytes_str(NULL).len, 0);
	assert_null(bytes_ref(NULL));
	assert_null(bytes_unref(NULL));
}

static void bytes_take_over_memory_without_a_copy(void **state)
{
	char *memory = xstrdup("mine");
	struct bytes *b = bytes_new_take(memory, 4);

	assert_ptr_equal(bytes_str(b).ptr, memory);
	bytes_unref(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_empty_text_before_the_first_append),
		cmocka_unit_test(appends_up_to_its_maximum_and_not_a_byte_more),
		cmocka_unit_test(keeps_contents_and_stays_failed_after_a_failed_append),
		cmocka_unit_test(formats_text_longer_than_its_room),
		cmocka_unit_test(failed_format_leaves_no_trace),
		cmocka_unit_test(format_may_fill_it_exactly),
		cmocka_unit_test(refuses_lengths_that_would_overflow),
		cmocka_unit_test(keeps_bytes_with_nul_inside),
		cmocka_unit_test(taken_bytes_are_the_callers_and_the_buf_starts_anew),
		cmocka_unit_test(bytes_live_until_the_last_reference_goes),
		cmocka_unit_test(bytes_take_over_memory_without_a_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
