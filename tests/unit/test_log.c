/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that one event is one line whatever the values hold, and that lines and levels are as promised.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Sends stderr to a file for one call of `write_lines`, and reads it back. */
static void capture(struct buf *ret_text, bool as_journal, void (*write_lines)(void))
{
	FILE *file = tmpfile();
	int before = dup(STDERR_FILENO);
	char chunk[4096];
	struct stat st;
	size_t got;

	assert_non_null(file);
	assert_true(before >= 0);
	assert_int_equal(fstat(fileno(file), &st), 0);
	snprintf(chunk, sizeof(chunk), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino + (as_journal ? 0 : 1));
	setenv("JOURNAL_STREAM", chunk, 1);
	dup2(fileno(file), STDERR_FILENO);
	write_lines();
	dup2(before, STDERR_FILENO);
	close(before);
	unsetenv("JOURNAL_STREAM");
	rewind(file);
	buf_init(ret_text, 1 << 20);
	while ((got = fread(chunk, 1, sizeof(chunk), file)) > 0)
		buf_append(ret_text, chunk, got);
	fclose(file);
}

static void plain_line(void)
{
	log_info("server", "landed", LOG_TEXT("repo", "acme/pub"), LOG_U64("bytes", UINT64_MAX),
		 LOG_I64("delta", -5), LOG_ERR("error", -ENOSPC), LOG_END);
}

static void writes_a_time_stamp_first_when_not_on_the_journal(void **state)
{
	SCOPED_BUF text;

	capture(&text, false, plain_line);
	/* 2026-11-25T17:00:00.123Z */
	assert_true(text.len > 25);
	for (int i = 0; i < 24; i++) {
		const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";

		if (form[i] == 'd')
			assert_in_range(text.bytes[i], '0', '9');
		else
			assert_int_equal(text.bytes[i], form[i]);
	}
	assert_string_equal(text.bytes + 24, " level=info room=server msg=landed repo=acme/pub "
					     "bytes=18446744073709551615 delta=-5 error=ENOSPC\n");
}

static void writes_the_priority_first_on_the_journal(void **state)
{
	SCOPED_BUF text;

	capture(&text, true, plain_line);
	assert_true(str_starts_with(buf_str(&text), STR("<6>level=info room=server ")));
}

static struct str hostile;

static void hostile_line(void)
{
	log_warning("server", "odd value", LOG_STR("v", hostile), LOG_U64("after", 1), LOG_END);
}

static void assert_value(struct str value, const char *expected)
{
	SCOPED_BUF text, line;

	hostile = value;
	capture(&text, true, hostile_line);
	buf_init(&line, 20000);
	buf_appendf(&line, "<4>level=warning room=server msg=\"odd value\" v=%s after=1\n", expected);
	assert_string_equal(text.bytes, line.bytes);
}

static void quotes_and_escapes_what_could_forge_a_line_or_move_a_cursor(void **state)
{
	assert_value(STR("plain/path-1.0"), "plain/path-1.0");
	assert_value(STR(""), "\"\"");
	assert_value((struct str){ NULL, 0 }, "\"\"");
	assert_value(STR("a b"), "\"a b\"");
	assert_value(STR("a=b"), "\"a=b\"");
	assert_value(STR("x\nlevel=error\r\t"), "\"x\\nlevel=error\\r\\t\"");
	assert_value(STR("say \"hi\" \\"), "\"say \\\"hi\\\" \\\\\"");
	assert_value(STR("\033[31mred\0\x7f"), "\"\\x1b[31mred\\x00\\x7f\"");
	assert_value(STR("caf\xc3\xa9"), "\"caf\xc3\xa9\"");
	assert_value(STR("\xc2\x9b"
			 "31m"),
		     "\"\\u{9b}31m\""); /* a control sequence in one character */
	assert_value(STR("\xe2\x80\xae"
			 "txt"),
		     "\"\\u{202e}txt\""); /* right to left */
	assert_value(STR("\xff\xfe"), "\"\\xff\\xfe\"");
}

static void cuts_a_long_value_and_keeps_the_fields_after_it(void **state)
{
	static char big[100000];
	SCOPED_BUF text;

	memset(big, 'a', sizeof(big));
	hostile = (struct str){ big, sizeof(big) };
	capture(&text, true, hostile_line);
	assert_true(text.len < 8192);
	assert_true(str_ends_with(buf_str(&text), STR("aaa\xe2\x80\xa6\" after=1\n")));
}

static void keeps_a_path_of_4096_bytes_whole(void **state)
{
	static char path[4097];

	memset(path, 'p', 4096);
	assert_value(str_from(path), path);
}

static struct log_field many[50];

static void long_line(void)
{
	log_line_fields(LOG_LEVEL_ERROR, "server", "much", many);
}

static void cuts_a_long_line_with_a_visible_mark(void **state)
{
	/* from one escape too many to one byte too many: the cut falls everywhere in a value */
	for (size_t shift = 0; shift < 40; shift++) {
		char value[300];
		SCOPED_BUF text;

		memset(value, '\n', sizeof(value));
		memset(value, 'v', shift);
		for (size_t i = 0; i < 49; i++)
			many[i] = LOG_STR("k", ((struct str){ value, sizeof(value) - (i % 3) }));
		many[49] = LOG_END;
		capture(&text, true, long_line);
		assert_true(text.len <= 8192);
		assert_true(text.len > 8000);
		assert_ptr_equal(memchr(text.bytes, '\n', text.len), text.bytes + text.len - 1);
		assert_true(str_ends_with(buf_str(&text), STR("\" cut=yes\n")) ||
			    str_ends_with(buf_str(&text), STR(" k= cut=yes\n")) ||
			    str_ends_with(buf_str(&text), STR(" k cut=yes\n")) ||
			    str_ends_with(buf_str(&text), STR("  cut=yes\n")));
	}
}

static void debug_line(void)
{
	log_debug("x", "quiet", LOG_END);
	log_info("x", "quiet", LOG_END);
	log_error("x", "loud", LOG_END);
}

static void writes_and_counts_only_lines_up_to_the_level(void **state)
{
	uint64_t info = log_count(LOG_LEVEL_INFO), error = log_count(LOG_LEVEL_ERROR);
	SCOPED_BUF text;

	log_set_level(LOG_LEVEL_WARNING);
	capture(&text, true, debug_line);
	log_set_level(LOG_LEVEL_INFO);
	assert_string_equal(text.bytes, "<3>level=error room=x msg=loud\n");
	assert_int_equal(log_count(LOG_LEVEL_INFO), info);
	assert_int_equal(log_count(LOG_LEVEL_ERROR), error + 1);
}

static int errno_after;

static void line_with_errno(void)
{
	errno = EXDEV;
	plain_line();
	errno_after = errno;
}

static void leaves_errno_as_it_was(void **state)
{
	SCOPED_BUF text;

	capture(&text, false, line_with_errno);
	assert_int_equal(errno_after, EXDEV);
}

static void knows_the_names_of_levels_and_errors(void **state)
{
	enum log_level level = LOG_LEVEL_INFO;

	assert_int_equal(log_level_parse(STR("debug"), &level), 0);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse(STR("Debug"), &level), -EINVAL);
	assert_int_equal(log_level_parse(STR(""), &level), -EINVAL);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_string_equal(log_errno_name(-EBADMSG), "EBADMSG");
	assert_string_equal(log_errno_name(ENOENT), "ENOENT");
	assert_string_equal(log_errno_name(-99999), "EUNKNOWN");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_a_time_stamp_first_when_not_on_the_journal),
		cmocka_unit_test(writes_the_priority_first_on_the_journal),
		cmocka_unit_test(quotes_and_escapes_what_could_forge_a_line_or_move_a_cursor),
		cmocka_unit_test(cuts_a_long_value_and_keeps_the_fields_after_it),
		cmocka_unit_test(keeps_a_path_of_4096_bytes_whole),
		cmocka_unit_test(cuts_a_long_line_with_a_visible_mark),
		cmocka_unit_test(writes_and_counts_only_lines_up_to_the_level),
		cmocka_unit_test(leaves_errno_as_it_was),
		cmocka_unit_test(knows_the_names_of_levels_and_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
