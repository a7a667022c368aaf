/* SPDX-License-Identifier: Apache-2.0 */
/* tool: sizes, times, ids and filters as people write them; everything that is told follows from the table of verbs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tool/priv.h"

static void sizes_are_written_as_the_configuration_has_them(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0" },          { 1023, "1023" },       { 1024, "1.0K" },       { 1048524, "1023.9K" },
		{ 1048525, "1.0M" }, { 4ull << 30, "4.0G" }, { 5300000000, "4.9G" }, { UINT64_MAX, "16.0E" }
	};
	char text[SIZE_TEXT];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(size_text(cases[i].bytes, text), cases[i].text);
}

static void sizes_and_times_are_read_or_refused(void **state)
{
	static const char *const no_size[] = { "",    "g",  "-1", "1.g5", "1x", "1gg", "99999999999999999999",
					       "1 g", "1.", "1e3" };
	static const char *const no_span[] = {
		"", "d", "5", "5 days", "-5d", "5dd", "5mi", "9999999999999d"
	};
	uint64_t v = 0;

	assert_true(size_parse("30g", &v) && v == 30ull << 30);
	assert_true(size_parse("1.5GB", &v) && v == 3ull << 29);
	assert_true(size_parse("700", &v) && v == 700);
	assert_true(size_parse("2Mb", &v) && v == 2 << 20);
	assert_true(size_parse("12b", &v) && v == 12);
	for (size_t i = 0; i < sizeof(no_size) / sizeof(no_size[0]); i++)
		assert_false(size_parse(no_size[i], &v));
	assert_true(span_parse("30d", &v) && v == 30 * 86400);
	assert_true(span_parse("2w", &v) && v == 14 * 86400);
	assert_true(span_parse("1.5h", &v) && v == 5400);
	assert_true(span_parse("1mo", &v) && v == 30 * 86400);
	assert_true(span_parse("7m", &v) && v == 420);
	for (size_t i = 0; i < sizeof(no_span) / sizeof(no_span[0]); i++)
		assert_false(span_parse(no_span[i], &v));
}

static void ages_are_told_in_their_largest_unit(void **state)
{
	char text[AGE_TEXT];

	assert_string_equal(age_text(0, 1000, text), "never");
	assert_string_equal(age_text(1000, 1000, text), "just now");
	assert_string_equal(age_text(2000, 1000, text), "just now"); /* the clock was set back */
	assert_string_equal(age_text(1000, 1060, text), "1 minute ago");
	assert_string_equal(age_text(1000, 1000 + 3 * 86400, text), "3 days ago");
	assert_string_equal(age_text(1000, 1000 + 15 * 86400, text), "2 weeks ago");
	assert_string_equal(age_text(1, (int64_t)800 * 86400, text), "2 years ago");
	assert_string_equal(span_text(59, text), "59s");
	assert_string_equal(span_text(3 * 86400 + 4 * 3600, text), "3d 4h");
	assert_string_equal(span_text(7 * 86400 + 59, text), "7d");
	assert_string_equal(span_text(2 * 3600, text), "2h");
	assert_string_equal(span_text(2 * 3600 + 61, text), "2h 1m");
	assert_string_equal(span_text(UINT64_MAX, text), "106751991167300d 15h");
}

static void ids_are_read_as_the_hubs_own_command_writes_them(void **state)
{
	static const struct {
		const char *text, *kind, *id, *revision;
	} cases[] = { { "acme/pub", "models", "acme/pub", NULL },
		      { "model/acme/pub", "models", "acme/pub", NULL },
		      { "models/acme/pub", "models", "acme/pub", NULL },
		      { "Dataset/acme/table", "datasets", "acme/table", NULL },
		      { "spaces/acme/page", "spaces", "acme/page", NULL },
		      { "gpt2", "models", "gpt2", NULL },
		      { "dataset/squad", "datasets", "squad", NULL },
		      { "hf://acme/pub", "models", "acme/pub", NULL },
		      { "hf://datasets/acme/table@v1.0/data/x.csv", "datasets", "acme/table", "v1.0" },
		      { "hf://acme/pub/README.md", "models", "acme/pub", NULL },
		      { "inference", "inference", "", NULL },
		      { "models", "models", "models", NULL } };
	static const char *const none[] = { "",          "/",      "acme/", "/pub", "a/b/c", "model/a/b/c",
					    "acme//pub", "model/", "hf://" };
	struct repo_id id;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(repo_id_parse(cases[i].text, &id));
		assert_string_equal(id.kind, cases[i].kind);
		assert_string_equal(id.id, cases[i].id);
		assert_true(!id.revision == !cases[i].revision);
		if (id.revision)
			assert_string_equal(id.revision, cases[i].revision);
		repo_id_done(&id);
	}
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_false(repo_id_parse(none[i], &id));
}

static void filters_are_read_and_applied(void **state)
{
	static const char *const none[] = { "",         "size",     "size>",   ">30g",    "colour=red",
					    "size>30d", "used>30g", "size!>3", "size>3>4" };
	struct filter f;

	assert_true(filter_parse("size>30g", &f) && f.key == FILTER_SIZE && f.op == OP_MORE &&
		    f.value == 30ull << 30);
	assert_true(filter_fits(&f, (30ull << 30) + 1, 0, 0, 0) && !filter_fits(&f, 30ull << 30, 0, 0, 0));
	assert_true(filter_parse("files <= 2", &f) && filter_fits(&f, 9, 2, 0, 0) &&
		    !filter_fits(&f, 0, 3, 0, 0));
	assert_true(filter_parse("used>30d", &f));
	assert_true(filter_fits(&f, 0, 0, 1, 31 * 86400) && !filter_fits(&f, 0, 0, 86400, 30 * 86400));
	assert_true(filter_fits(&f, 0, 0, 0, 100)); /* never */
	assert_true(filter_parse("accessed<1h", &f) && filter_fits(&f, 0, 0, 5000, 5100) &&
		    filter_fits(&f, 0, 0, 5100, 5000));
	assert_true(filter_parse("size==5", &f) && filter_fits(&f, 5, 0, 0, 0) &&
		    !filter_fits(&f, 6, 0, 0, 0));
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_false(filter_parse(none[i], &f));
}

static void foreign_bytes_steer_no_terminal(void **state)
{
	static const struct {
		struct str text;
		const char *plain;
	} cases[] = {
		{ STR("acme/pub"), "acme/pub" },
		{ STR("Grüße, \xe4\xb8\xad \xf0\x9f\xa4\x97"), "Grüße, \xe4\xb8\xad \xf0\x9f\xa4\x97" },
		{ STR("a\x1b[31mb\a\tc\r\nd\x7f"), "a\\x1B[31mb\\x07\\x09c\\x0D\\x0Ad\\x7F" },
		{ STR("a\0b"), "a\\x00b" },
		/* the same of Latin-1: a terminal takes U+009B for ESC [ */
		{ STR("a\xc2\x9b"
		      "31m\xc2\x85"),
		  "a\\xC2\\x9B31m\\xC2\\x85" },
		/* cut short, alone, too long, of a surrogate */
		{ STR("a\xc3"), "a\\xC3" },
		{ STR("\x9b"
		      "31m"),
		  "\\x9B31m" },
		{ STR("\xc0\xaf"), "\\xC0\\xAF" },
		{ STR("\xed\xa0\x80"), "\\xED\\xA0\\x80" },
		/* text that runs the other way, and ends of lines that are no control characters */
		{ STR("a\xe2\x80\xae"
		      "b\xe2\x81\xa6\xe2\x80\xa8"),
		  "a\\xE2\\x80\\xAEb\\xE2\\x81\\xA6\\xE2\\x80\\xA8" },
		{ STR(""), "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *got = NULL;
		size_t len = 0;
		FILE *out = open_memstream(&got, &len);

		print_plain(out, cases[i].text);
		assert_int_equal(fclose(out), 0);
		assert_string_equal(got, cases[i].plain);
		assert_true(is_plain_text(str_from(got)));
		assert_true(is_plain_text(cases[i].text) == (len == cases[i].text.len));
		free(got);
	}
	assert_true(is_plain_text(STR("it's ‘fine’")) && is_plain_text(STR("")) &&
		    !is_plain_text(STR("a\n")) && !is_plain_text(STR("a\xff")) &&
		    !is_plain_text(STR("\xc2\x9b")));
}

static void names_for_other_programs_mean_no_other(void **state)
{
	char *got = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&got, &len);

	print_word(out, STR("model/Acme/a-b_c.1\nmodel/x y'\"\\\x1b%\xc3\xbc"));
	(void)fputc('|', out);
	print_plain_lines(out, STR("a\x1b\nb\xff\n"));
	(void)fputc('|', out);
	print_answer(out, STR("{\"a\":\"\xc2\x9b\x7f\x1b\xff\\n\xc3\xbc\"}\r\n"));
	assert_int_equal(fclose(out), 0);
	assert_string_equal(got, "model/Acme/a-b_c.1%0Amodel/x%20y%27%22%5C%1B%25%C3%BC|a\\x1B\nb\\xFF\n|"
				 "{\"a\":\"\\u009b\\u007f\\u001b\\ufffd\\n\xc3\xbc\"}\n");
	free(got);
}

static void every_flag_belongs_to_a_verb_and_is_told(void **state)
{
	for (unsigned v = 0; v < VERB_COUNT; v++) {
		char *text = NULL;
		size_t len = 0;
		FILE *out = open_memstream(&text, &len);

		help_verb((enum verb)v, out);
		assert_int_equal(fclose(out), 0);
		assert_non_null(strstr(text, verb_rows[v].summary));
		for (unsigned f = 0; f < FLAG_COUNT; f++) {
			assert_true(flag_rows[f].verb < VERB_COUNT);
			if (flag_rows[f].verb == v)
				assert_non_null(strstr(text, flag_rows[f].help));
			/* no letter and no name twice in one verb */
			for (unsigned g = 0; g < f; g++)
				assert_false(flag_rows[g].verb == flag_rows[f].verb &&
					     ((flag_rows[f].letter &&
					       flag_rows[g].letter == flag_rows[f].letter) ||
					      strcmp(flag_rows[g].name, flag_rows[f].name) == 0));
		}
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_written_as_the_configuration_has_them),
		cmocka_unit_test(sizes_and_times_are_read_or_refused),
		cmocka_unit_test(ages_are_told_in_their_largest_unit),
		cmocka_unit_test(ids_are_read_as_the_hubs_own_command_writes_them),
		cmocka_unit_test(filters_are_read_and_applied),
		cmocka_unit_test(foreign_bytes_steer_no_terminal),
		cmocka_unit_test(names_for_other_programs_mean_no_other),
		cmocka_unit_test(every_flag_belongs_to_a_verb_and_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
