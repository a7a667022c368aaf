/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_files - what a file may look like, and each message about one with its file and line.
 */
#include "config_rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void a_value_keeps_its_comment_signs_and_equal_signs(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "[storage]\npath = /srv/a;b # c = d\n");
	assert_int_equal(load(w), 0);
	assert_string_equal(w->config->storage_path, "/srv/a;b # c = d");
}

static void takes_windows_line_ends_a_byte_order_mark_and_long_lines(void **state)
{
	struct world *w = *state;
	SCOPED_BUF text = { 0 };

	buf_init(&text, 65536);
	assert_int_equal(buf_appendf(&text, "\xef\xbb\xbf[log]\r\nlevel = debug\r\n[server]\r\nhosts ="), 0);
	for (int i = 0; i < 500; i++)
		assert_int_equal(buf_appendf(&text, " host%d.example", i), 0);
	put(w, "/etc/hfcached/hfcached.conf", buf_str(&text).ptr);
	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(w->config->server_hosts.count, 500);
	assert_string_equal(w->config->server_hosts.words[499], "host499.example");
}

static void a_section_may_be_taken_up_again(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[hub]\noffline = yes\n[log]\nlevel = debug\n[hub]\ndeny-ttl = 1m\n");
	assert_int_equal(load(w), 0);
	assert_true(w->config->hub_offline);
	assert_int_equal(w->config->hub_deny_ttl, 60000);
}

static void names_file_and_line_of_every_error_in_one_go(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[server]\nlisten = nowhere\nthreads = many\n\n[storage]\nmax-size = 80\ndisk-reserve = 1 G\n");
	put(w, "/etc/hfcached/conf.d/a.conf", "[hub]\nrevision-ttl = 30\noffline = perhaps\n");
	put(w, "/etc/hfcached/conf.d/b.conf", "[offline]\naccess = everybody\n[log]\nlevel = loud\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(
		messages(w),
		"/etc/hfcached/hfcached.conf:2: server.listen = nowhere: it has \"nowhere\", which is none "
		"of ADDRESS:PORT, "
		"[IPv6]:PORT and unix:/PATH\n"
		"/etc/hfcached/hfcached.conf:3: server.threads = many: it must be a whole number\n"
		"/etc/hfcached/hfcached.conf:6: storage.max-size = 80: it must be a size with its unit, such "
		"as 500G, or a "
		"percentage from 1% to 100%\n"
		"/etc/hfcached/hfcached.conf:7: storage.disk-reserve = 1 G: it must be a size with its unit, "
		"B K M G T or P, "
		"such as 500G\n"
		"/etc/hfcached/conf.d/a.conf:2: hub.revision-ttl = 30: it must be a time with its unit, ms s "
		"m h or d, such "
		"as 30s\n"
		"/etc/hfcached/conf.d/a.conf:3: hub.offline = perhaps: it must be yes or no\n"
		"/etc/hfcached/conf.d/b.conf:2: offline.access = everybody: it must be grants, public, acl "
		"or open\n"
		"/etc/hfcached/conf.d/b.conf:4: log.level = loud: it must be error, warning, info or "
		"debug\n");
}

static void names_the_nearest_known_option(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[server]\nlisen = 1\n[sever]\nlisten = 1\n[hub]\nmax-size = 1G\nofline = "
	    "yes\n[storage]\nmaxsize = 1G\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(
		messages(w),
		"/etc/hfcached/hfcached.conf:2: server.lisen is not known; did you mean server.listen?\n"
		"/etc/hfcached/hfcached.conf:4: sever.listen is not known, nor is its section; did you mean "
		"server.listen?\n"
		"/etc/hfcached/hfcached.conf:6: hub.max-size is not known; did you mean storage.max-size?\n"
		"/etc/hfcached/hfcached.conf:7: hub.ofline is not known; did you mean hub.offline?\n"
		"/etc/hfcached/hfcached.conf:9: storage.maxsize is not known; did you mean "
		"storage.max-size?\n");
}

static void names_the_line_of_each_syntax_error(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "[server]\nlisten\n[hub\n= 5\n[]\nurl = http://ok.example\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), "/etc/hfcached/hfcached.conf:2: Equal sign is missing\n"
					 "/etc/hfcached/hfcached.conf:3: No closing bracket\n"
					 "/etc/hfcached/hfcached.conf:4: Property name is missing\n"
					 "/etc/hfcached/hfcached.conf:5: Section name is missing\n");
}

static void refuses_an_option_before_any_section(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "# x\n\nlisten = 127.0.0.1:1\n[server]\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), "/etc/hfcached/hfcached.conf:3: stands before any [section]\n");
}

static void refuses_an_option_that_is_set_twice_in_one_file(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[hub]\nurl = http://a.example\n[log]\nlevel = info\n[hub]\nurl = http://b.example\nURL = "
	    "http://c.example\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(
		messages(w),
		"/etc/hfcached/hfcached.conf:6: hub.url is set a second time; line 2 set it first\n"
		"/etc/hfcached/hfcached.conf:7: hub.url is set a second time; line 2 set it first\n");
}

static void refuses_bytes_that_are_not_text(void **state)
{
	struct world *w = *state;
	static const char nul[] = "[storage]\npath = /a\0/b\n";

	put_bytes(w, "/etc/hfcached/hfcached.conf", nul, sizeof(nul) - 1);
	put(w, "/etc/hfcached/conf.d/a.conf", "[storage]\n\npath = /\xff\n");
	put(w, "/etc/hfcached/conf.d/b.conf", "[storage]\npath = /a\x1b[31m\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), "/etc/hfcached/hfcached.conf:2: has a NUL byte\n"
					 "/etc/hfcached/conf.d/a.conf:3: has bytes that are not UTF-8\n"
					 "/etc/hfcached/conf.d/b.conf:2: storage.path = /a?[31m: it has "
					 "control characters or is not UTF-8\n");
}

static void refuses_a_file_that_everybody_may_change(void **state)
{
	struct world *w = *state;
	SCOPED_FREE char *path = xasprintf("%s/etc/hfcached/hfcached.conf", w->root);

	put(w, "/etc/hfcached/hfcached.conf", "[log]\nlevel = info\n");
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w),
			    "/etc/hfcached/hfcached.conf: may be changed by every user of this machine; take "
			    "that away: chmod o-w\n");
}

static void refuses_a_folder_and_a_file_of_more_than_a_mebibyte(void **state)
{
	struct world *w = *state;
	size_t len = (1 << 20) + 1;
	SCOPED_FREE char *text = xmalloc(len);

	memset(text, '\n', len);
	put_bytes(w, "/etc/hfcached/hfcached.conf", text, len);
	put(w, "/etc/hfcached/conf.d/a.conf/b", "");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), "/etc/hfcached/hfcached.conf: is larger than 1 MiB\n"
					 "/etc/hfcached/conf.d/a.conf: cannot be read (EISDIR)\n");
}

static void one_error_in_a_drop_in_gives_no_config_at_all(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "[log]\nlevel = debug\n");
	put(w, "/etc/hfcached/conf.d/a.conf", "[log]\nlevel = loud\n");
	assert_int_equal(load(w), -EINVAL);
	assert_null(w->config);
}

static void a_full_error_buffer_still_means_failure(void **state)
{
	struct world *w = *state;

	buf_done(&w->errors);
	buf_init(&w->errors, 8);
	w->sets[0] = "log.level=loud";
	assert_int_equal(load(w), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_value_keeps_its_comment_signs_and_equal_signs),
		TEST(takes_windows_line_ends_a_byte_order_mark_and_long_lines),
		TEST(a_section_may_be_taken_up_again),
		TEST(names_file_and_line_of_every_error_in_one_go),
		TEST(names_the_nearest_known_option),
		TEST(names_the_line_of_each_syntax_error),
		TEST(refuses_an_option_before_any_section),
		TEST(refuses_an_option_that_is_set_twice_in_one_file),
		TEST(refuses_bytes_that_are_not_text),
		TEST(refuses_a_file_that_everybody_may_change),
		TEST(refuses_a_folder_and_a_file_of_more_than_a_mebibyte),
		TEST(one_error_in_a_drop_in_gives_no_config_at_all),
		TEST(a_full_error_buffer_still_means_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
