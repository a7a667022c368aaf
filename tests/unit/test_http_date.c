/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves HTTP dates both ways in all three forms, and the reading of Retry-After.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/http/date.h"

#include <errno.h>
#include <time.h>

static void assert_date(const char *text, int64_t expected)
{
	int64_t wall_s = -1;

	assert_int_equal(http_date_parse(str_from(text), &wall_s), 0);
	assert_int_equal(wall_s, expected);
}

static void reads_the_three_forms_of_the_rfc(void **state)
{
	assert_date("Sun, 06 Nov 1994 08:49:37 GMT", 784111777);
	assert_date("Sunday, 06-Nov-94 08:49:37 GMT", 784111777);
	assert_date("Sun Nov  6 08:49:37 1994", 784111777);
	assert_date("Wed Nov 16 08:49:37 1994", 784975777);
	assert_date("  Sun, 06 Nov 1994 08:49:37 GMT\t", 784111777);
}

static void reads_edges_of_the_calendar(void **state)
{
	assert_date("Thu, 01 Jan 1970 00:00:00 GMT", 0);
	assert_date("Tue, 29 Feb 2000 23:59:59 GMT", 951868799);
	assert_date("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800);
	assert_date("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799);
	assert_date("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800); /* a leap second */
	assert_date("Wed, 31 Dec 1969 23:59:59 GMT", -1);
	assert_date("Saturday, 01-Jan-00 00:00:00 GMT", 946684800);
}

static void refuses_dates_that_are_none(void **state)
{
	static const char *const bad[] = {
		"",
		"0",
		"-1",
		"Sun, 06 Nov 1994 08:49:37",
		"Sun, 06 Nov 1994 08:49:37 CET",
		"Sun, 06 Nov 1994 08:49:37 GMT x",
		"Sun, 6 Nov 1994 08:49:37 GMT",
		"sun, 06 nov 1994 08:49:37 gmt",
		"Sun, 06 Foo 1994 08:49:37 GMT",
		"Sun, 30 Feb 1994 08:49:37 GMT",
		"Wed, 29 Feb 2023 00:00:00 GMT",
		"Thu, 29 Feb 1900 00:00:00 GMT",
		"Sun, 00 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 24:00:00 GMT",
		"Sun, 06 Nov 1994 08:60:37 GMT",
		"Sun, 06 Nov 1994 08:49:61 GMT",
		"Sun, 06 Nov 1994 08:49:+7 GMT",
		"Sun Nov 6 08:49:37 1994",
		"2024-11-06T08:49:37Z",
	};
	int64_t wall_s = 5;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (http_date_parse(str_from(bad[i]), &wall_s) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(wall_s, 5);
}

static void writes_the_fixed_form(void **state)
{
	char text[HTTP_DATE_MAX];

	http_date_format(784111777, text);
	assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
	http_date_format(0, text);
	assert_string_equal(text, "Thu, 01 Jan 1970 00:00:00 GMT");
	http_date_format(-5, text);
	assert_string_equal(text, "Thu, 01 Jan 1970 00:00:00 GMT");
	http_date_format(INT64_MAX, text);
	assert_string_equal(text, "Fri, 31 Dec 9999 23:59:59 GMT");
}

/* Steps of a day and an odd second over 130 years, against the C library. */
static void agrees_with_the_c_library_and_with_itself(void **state)
{
	for (int64_t t = 0; t < 130 * 365 * 86400LL; t += 86400 + 3607) {
		char ours[HTTP_DATE_MAX], theirs[64];
		time_t copy = (time_t)t;
		int64_t back = -1;
		struct tm tm;

		http_date_format(t, ours);
		strftime(theirs, sizeof(theirs), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&copy, &tm));
		assert_string_equal(ours, theirs);
		assert_int_equal(http_date_parse(str_from(ours), &back), 0);
		assert_int_equal(back, t);
	}
}

static void reads_retry_after_in_seconds_and_as_a_date(void **state)
{
	assert_int_equal(retry_after_ms(STR("120"), 0, 600000), 120000);
	assert_int_equal(retry_after_ms(STR(" 0 "), 0, 600000), 0);
	assert_int_equal(retry_after_ms(STR("601"), 0, 600000), 600000);
	assert_int_equal(retry_after_ms(STR("99999999999999999999999"), 0, 600000), 600000);
	assert_int_equal(retry_after_ms(STR("18446744073709551615"), 0, INT64_MAX), INT64_MAX);
	assert_int_equal(retry_after_ms(STR("Sun, 06 Nov 1994 08:49:37 GMT"), 784111767, 600000), 10000);
	assert_int_equal(retry_after_ms(STR("Sun, 06 Nov 1994 08:49:37 GMT"), 784111999, 600000), 0);
	assert_int_equal(retry_after_ms(STR("Sun, 06 Nov 1994 08:49:37 GMT"), 0, 600000), 600000);
	assert_int_equal(retry_after_ms(STR("Sun, 06 Nov 1994 08:49:37 GMT"), INT64_MIN, 600000), 600000);
}

static void refuses_a_retry_after_that_is_neither(void **state)
{
	assert_int_equal(retry_after_ms(STR(""), 0, 1000), -EINVAL);
	assert_int_equal(retry_after_ms(STR("-1"), 0, 1000), -EINVAL);
	assert_int_equal(retry_after_ms(STR("1.5"), 0, 1000), -EINVAL);
	assert_int_equal(retry_after_ms(STR("soon"), 0, 1000), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_three_forms_of_the_rfc),
		cmocka_unit_test(reads_edges_of_the_calendar),
		cmocka_unit_test(refuses_dates_that_are_none),
		cmocka_unit_test(writes_the_fixed_form),
		cmocka_unit_test(agrees_with_the_c_library_and_with_itself),
		cmocka_unit_test(reads_retry_after_in_seconds_and_as_a_date),
		cmocka_unit_test(refuses_a_retry_after_that_is_neither),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
