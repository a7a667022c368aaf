/* SPDX-License-Identifier: Apache-2.0 */
/* hub/cursor: what the Hub, and those who imitate it, mean by "after this path". */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hub/priv.h"

static void assert_path(const char *parameter, const char *want)
{
	SCOPED_BUF path;
	int r = cursor_read(str_from(parameter), &path);

	assert_int_equal(r, want ? 0 : -EINVAL);
	if (want)
		assert_string_equal(path.bytes, want);
}

static void reads_the_hubs_form_and_a_forged_one(void **state)
{
	/* base64(base64({"file_name":"a/b.txt","tree_oid":"0123"}) + ":1000") */
	assert_path(
		"ZXlKbWFXeGxYMjVoYldVaU9pSmhMMkl1ZEhoMElpd2lkSEpsWlY5dmFXUWlPaUl3TVRJekluMD06MTAwMA%3D%3D",
		"a/b.txt");
	/* base64(base64({"file_name": "a"}) + ":50"), padding left out */
	assert_path("ZXlKbWFXeGxYMjVoYldVaU9pQWlZU0o5OjUw", "a");
}

static void refuses_what_names_no_file(void **state)
{
	static const char *const texts[] = { "",    "*",
					     "%3D", "bm90IGpzb24%3D",
					     "%ZZ", "ZTMwPTo1MA%3D%3D" /* {} */ };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_path(texts[i], NULL);
}

static void what_it_writes_it_reads(void **state)
{
	static const char *const paths[] = {
		"a", "ab", "abc", "odd/\"quoted\"\\", "gr\xc3\xbc\xc3\x9f/\xe4\xb8\x96", "a b+c%d"
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		SCOPED_BUF coded;

		buf_init(&coded, 1000);
		assert_int_equal(cursor_write(str_from(paths[i]), 50, &coded), 0);
		assert_null(strpbrk(coded.bytes, "&=+/, "));
		assert_path(coded.bytes, paths[i]);
	}
}

static void a_path_that_is_too_long_is_told(void **state)
{
	SCOPED_BUF path, coded;

	buf_init(&path, 20000);
	buf_init(&coded, 100000);
	for (int i = 0; i < 17000; i++)
		buf_append_char(&path, 'x');
	assert_int_equal(cursor_write(buf_str(&path), 50, &coded), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_hubs_form_and_a_forged_one),
		cmocka_unit_test(refuses_what_names_no_file),
		cmocka_unit_test(what_it_writes_it_reads),
		cmocka_unit_test(a_path_that_is_too_long_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
