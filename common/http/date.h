/* SPDX-License-Identifier: Apache-2.0 */
/*
 * date - HTTP dates (RFC 9110 5.6.7). Pure; always GMT, independent of the locale.
 */
#pragma once
#include "common/str.h"

#define HTTP_DATE_MAX 30
void http_date_format(int64_t wall_s, char ret_text[HTTP_DATE_MAX]);
/* IMF-fixdate and the two obsolete forms. Returns 0 or -EINVAL. */
int http_date_parse(struct str value, int64_t *ret_wall_s);
/* Retry-After: seconds or a date. Returns the wait in ms (0 for the past), capped at max_ms; -EINVAL as a
 * negative. */
int64_t retry_after_ms(struct str value, int64_t now_wall_s, int64_t max_ms);
