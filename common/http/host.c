/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host - host names and patterns. Pure.
 */
#include "common/http/host.h"

#include "common/banned.h"

#define LABEL_MAX_BYTES 63

struct str host_without_port(struct str host)
{
	for (size_t i = host.len; i > 0 && host.ptr[i - 1] != ']'; i--)
		if (host.ptr[i - 1] == ':')
			return (struct str){ host.ptr, i - 1 };
	return host;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_label(struct str s)
{
	if (s.len == 0 || s.len > LABEL_MAX_BYTES || s.ptr[0] == '-' || s.ptr[s.len - 1] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' ||
		      c == '_'))
			return false;
	}
	return true;
}

static bool is_number(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_digit(s.ptr[i]))
			return false;
	return true;
}

static struct str without_final_dot(struct str s)
{
	return s.len > 0 && s.ptr[s.len - 1] == '.' ? (struct str){ s.ptr, s.len - 1 } : s;
}

bool host_is_name(struct str host)
{
	struct str rest = without_final_dot(host), label;

	if (rest.len == 0 || rest.len > HOST_NAME_MAX_BYTES)
		return false;
	for (bool more = true; more;) {
		more = str_cut(rest, '.', &label, &rest);
		if (!is_label(label))
			return false;
	}
	return !is_number(label);
}

static bool matches(struct str pattern, struct str name)
{
	struct str below;

	if (str_eq(pattern, STR("*")))
		return true;
	if (!str_starts_with(pattern, STR("*.")))
		return str_eq_nocase(pattern, name);
	below = (struct str){ pattern.ptr + 1, pattern.len - 1 };
	return name.len > below.len &&
	       str_eq_nocase(below, (struct str){ name.ptr + name.len - below.len, below.len });
}

bool host_matches(const char *const *patterns, struct str name)
{
	name = without_final_dot(name);
	for (const char *const *p = patterns; p && *p && name.len > 0; p++)
		if (matches(str_from(*p), name))
			return true;
	return false;
}
