/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a spool gives back what came, wherever it lay, and keeps to its limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/spool.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#define MEMORY 1000
#define MOST 100000

static const char *folder(void)
{
	const char *dir = getenv("TMPDIR");

	return dir ? dir : "/tmp";
}

static void fill(char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(i * 7 + i / 251);
}

/* Appends len bytes in pieces and reads them in others. */
static void expect_back(size_t len, size_t piece)
{
	SCOPED(spool_unref) struct spool *s = spool_new(folder(), MEMORY, MOST);
	SCOPED_FREE char *bytes = xmalloc(len + 1), *got = xmalloc(len + 1);
	struct digest want;
	struct str text;
	size_t at;

	fill(bytes, len);
	for (at = 0; at < len; at += piece)
		assert_int_equal(spool_append(s, bytes + at, len - at < piece ? len - at : piece), 0);
	assert_int_equal(spool_end(s), 0);
	assert_int_equal(spool_size(s), len);
	sha256_of(bytes, len, &want);
	assert_true(digest_eq(spool_sha256(s), &want));
	for (at = 0; at < len;) {
		ssize_t n = spool_read(s, at, got + at, 333);

		assert_true(n > 0);
		at += (size_t)n;
	}
	assert_memory_equal(got, bytes, len);
	assert_int_equal(spool_read(s, len, got, 1), 0);
	assert_int_equal(spool_text(s, &text), 0);
	assert_true(str_eq(text, (struct str){ bytes, len }));
}

static void gives_back_what_came(void **state)
{
	expect_back(0, 1);
	expect_back(MEMORY, 100);
	expect_back(MEMORY + 1, 100);
	expect_back(50000, 999);
	expect_back(MOST, MOST);
}

static void more_than_may_come_is_refused_and_stays_so(void **state)
{
	SCOPED(spool_unref) struct spool *s = spool_new(folder(), MEMORY, 10);

	assert_int_equal(spool_append(s, "0123456789", 10), 0);
	assert_int_equal(spool_append(s, "x", 1), -E2BIG);
	assert_int_equal(spool_append(s, "", 0), -E2BIG);
	assert_int_equal(spool_end(s), -E2BIG);
}

static void a_folder_that_is_not_there_is_told(void **state)
{
	SCOPED(spool_unref) struct spool *s = spool_new("/nowhere/at/all", 4, MOST);

	assert_int_equal(spool_append(s, "0123", 4), 0);
	assert_int_equal(spool_append(s, "4", 1), -ENOENT);
}

static void lives_until_the_last_reference(void **state)
{
	struct spool *s = spool_new(folder(), 2, MOST), *other = spool_ref(s);
	char byte;

	assert_int_equal(spool_append(s, "abc", 3), 0);
	assert_int_equal(spool_end(s), 0);
	assert_null(spool_unref(s));
	assert_int_equal(spool_read(other, 2, &byte, 1), 1);
	assert_int_equal(byte, 'c');
	assert_null(spool_unref(other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_what_came),
		cmocka_unit_test(more_than_may_come_is_refused_and_stays_so),
		cmocka_unit_test(a_folder_that_is_not_there_is_told),
		cmocka_unit_test(lives_until_the_last_reference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
