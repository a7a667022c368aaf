/* SPDX-License-Identifier: Apache-2.0 */
/*
 * date - HTTP dates (RFC 9110 5.6.7) and Retry-After. Pure.
 *
 * Never     reads the clock, the locale or the time zone: strptime() and friends would.
 * Threads   any.
 */
#include "common/http/date.h"

#include <assert.h>
#include <errno.h>

#include "common/banned.h"

#define DAY_S 86400
/* 9999-12-31T23:59:59Z: later ones have no four-digit year */
#define WALL_S_MAX 253402300799

static const char day_names[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char *const long_day_names[7] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
					       "Thursday", "Friday", "Saturday" };
static const char month_names[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

struct civil {
	int year, month, day, hour, minute, second; /* month and day from 1 */
};

static bool is_leap(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int days_in_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days from 1970-01-01. The year is made to start in March, so that the leap day is its last. */
static int64_t days_from_civil(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

/* The inverse, for days from 1970 on. */
static void civil_from_days(int64_t days, struct civil *ret)
{
	int64_t z = days + 719468;
	int64_t era = z / 146097;
	int64_t day_of_era = z - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t march_month = (5 * day_of_year + 2) / 153;

	ret->day = (int)(day_of_year - (153 * march_month + 2) / 5 + 1);
	ret->month = (int)(march_month < 10 ? march_month + 3 : march_month - 9);
	ret->year = (int)(year_of_era + era * 400 + (ret->month <= 2));
}

static char *put_number(char *at, int value, int digits)
{
	for (int i = digits - 1; i >= 0; i--, value /= 10)
		at[i] = (char)('0' + value % 10);
	return at + digits;
}

static char *put_text(char *at, const char *text)
{
	size_t len = strlen(text);

	memcpy(at, text, len);
	return at + len;
}

void http_date_format(int64_t wall_s, char ret_text[HTTP_DATE_MAX])
{
	struct civil t;
	char *at = ret_text;
	int64_t days;
	int rest;

	/* a clock before 1970 is a broken clock; nothing we date is older */
	wall_s = wall_s < 0 ? 0 : wall_s > WALL_S_MAX ? WALL_S_MAX : wall_s;
	days = wall_s / DAY_S;
	rest = (int)(wall_s % DAY_S);
	civil_from_days(days, &t);

	at = put_text(at, day_names[(days + 4) % 7]); /* 1970 began on a Thursday */
	at = put_text(at, ", ");
	at = put_number(at, t.day, 2);
	*at++ = ' ';
	at = put_text(at, month_names[t.month - 1]);
	*at++ = ' ';
	at = put_number(at, t.year, 4);
	*at++ = ' ';
	at = put_number(at, rest / 3600, 2);
	*at++ = ':';
	at = put_number(at, rest / 60 % 60, 2);
	*at++ = ':';
	at = put_number(at, rest % 60, 2);
	at = put_text(at, " GMT");
	*at = 0;
	assert(at - ret_text == HTTP_DATE_MAX - 1);
}

/* The take_ functions cut a piece off the front of *s, or return false. */
static bool take_text(struct str *s, struct str text)
{
	if (!str_starts_with(*s, text))
		return false;
	s->ptr += text.len;
	s->len -= text.len;
	return true;
}

static bool take_number(struct str *s, size_t digits, int *ret_value)
{
	uint64_t value;

	if (s->len < digits || parse_u64((struct str){ s->ptr, digits }, &value) < 0)
		return false;
	s->ptr += digits;
	s->len -= digits;
	*ret_value = (int)value;
	return true;
}

static bool take_month(struct str *s, int *ret_month)
{
	for (int i = 0; i < 12; i++)
		if (take_text(s, (struct str){ month_names[i], 3 })) {
			*ret_month = i + 1;
			return true;
		}
	return false;
}

static bool take_time(struct str *s, struct civil *t)
{
	return take_number(s, 2, &t->hour) && take_text(s, STR(":")) && take_number(s, 2, &t->minute) &&
	       take_text(s, STR(":")) && take_number(s, 2, &t->second);
}

/* Whether the name fits the date is not checked: senders get it wrong, and the date is what counts. */
static bool take_day_name(struct str *s)
{
	for (int i = 0; i < 7; i++)
		if (take_text(s, (struct str){ day_names[i], 3 }))
			return true;
	return false;
}

static bool take_long_day_name(struct str *s)
{
	for (int i = 0; i < 7; i++)
		if (take_text(s, str_from(long_day_names[i])))
			return true;
	return false;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool take_imf_fixdate(struct str *s, struct civil *t)
{
	return take_day_name(s) && take_text(s, STR(", ")) && take_number(s, 2, &t->day) &&
	       take_text(s, STR(" ")) && take_month(s, &t->month) && take_text(s, STR(" ")) &&
	       take_number(s, 4, &t->year) && take_text(s, STR(" ")) && take_time(s, t) &&
	       take_text(s, STR(" GMT"));
}

/* "Sunday, 06-Nov-94 08:49:37 GMT" */
static bool take_rfc850(struct str *s, struct civil *t)
{
	if (!take_long_day_name(s) || !take_text(s, STR(", ")) || !take_number(s, 2, &t->day) ||
	    !take_text(s, STR("-")) || !take_month(s, &t->month) || !take_text(s, STR("-")) ||
	    !take_number(s, 2, &t->year) || !take_text(s, STR(" ")) || !take_time(s, t) ||
	    !take_text(s, STR(" GMT")))
		return false;
	t->year += t->year < 70 ? 2000 : 1900; /* a fixed turn, as a pure function does not know today */
	return true;
}

/* "Sun Nov  6 08:49:37 1994" */
static bool take_asctime(struct str *s, struct civil *t)
{
	if (!take_day_name(s) || !take_text(s, STR(" ")) || !take_month(s, &t->month) ||
	    !take_text(s, STR(" ")))
		return false;
	if (take_text(s, STR(" ")) ? !take_number(s, 1, &t->day) : !take_number(s, 2, &t->day))
		return false;
	return take_text(s, STR(" ")) && take_time(s, t) && take_text(s, STR(" ")) &&
	       take_number(s, 4, &t->year);
}

static bool is_possible(const struct civil *t)
{
	/* second 60 is a leap second */
	return t->month >= 1 && t->day >= 1 && t->day <= days_in_month(t->year, t->month) && t->hour <= 23 &&
	       t->minute <= 59 && t->second <= 60;
}

int http_date_parse(struct str value, int64_t *ret_wall_s)
{
	static bool (*const forms[])(struct str *, struct civil *) = { take_imf_fixdate, take_rfc850,
								       take_asctime };

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct str rest = str_trim(value);
		struct civil t = { 0 };

		if (!forms[i](&rest, &t) || rest.len || !is_possible(&t))
			continue;
		*ret_wall_s = days_from_civil(t.year, t.month, t.day) * DAY_S + t.hour * 3600 +
			      t.minute * 60 + t.second;
		return 0;
	}
	return -EINVAL;
}

static bool is_all_digits(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
	return s.len > 0;
}

int64_t retry_after_ms(struct str value, int64_t now_wall_s, int64_t max_ms)
{
	struct str trimmed = str_trim(value);
	uint64_t seconds;
	int64_t at, wait_ms;

	if (is_all_digits(trimmed)) {
		/* more digits than fit mean a very long time */
		if (parse_u64(trimmed, &seconds) < 0 || seconds > (uint64_t)max_ms / 1000)
			return max_ms;
		return (int64_t)seconds * 1000;
	}
	if (http_date_parse(trimmed, &at) < 0)
		return -EINVAL;
	if (at <= now_wall_s)
		return 0;
	if (__builtin_sub_overflow(at, now_wall_s, &wait_ms) || wait_ms > max_ms / 1000)
		return max_ms;
	return wait_ms * 1000;
}
