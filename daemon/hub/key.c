/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/key - the names of documents: one for all spellings of a question, different ones for different questions. Pure.
 */
#include "hub/priv.h"

#include <errno.h>

#define KEY_MAX 4096
#define PARAMS_MAX 64

struct param {
	struct str name, value;
};

static bool is_boolean_name(struct str name)
{
	static const char *const names[] = { "recursive", "blobs",          "full",       "config",
					     "cardData",  "securityStatus", "include_prs" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (str_eq(name, str_from(names[i])))
			return true;
	return false;
}

/* One spelling for what the Hub takes as the same: True, true and 1. expand is a list or a boolean. */
static struct str normal_value(struct param p)
{
	bool may_be_number = is_boolean_name(p.name);

	if (str_eq_nocase(p.value, STR("true")) || (may_be_number && str_eq(p.value, STR("1"))))
		return STR("true");
	if (str_eq_nocase(p.value, STR("false")) || (may_be_number && str_eq(p.value, STR("0"))))
		return STR("false");
	return p.value;
}

static bool is_default(struct param p)
{
	return str_eq(p.value, STR("false")) && (is_boolean_name(p.name) || str_eq(p.name, STR("expand")));
}

/* Sorts by name and keeps the order of equal ones. */
static void insert_param(struct param *params, size_t count, struct param p)
{
	size_t i = count;

	while (i > 0) {
		size_t n = p.name.len < params[i - 1].name.len ? p.name.len : params[i - 1].name.len;
		int order = memcmp(params[i - 1].name.ptr, p.name.ptr, n);

		if (order < 0 || (order == 0 && params[i - 1].name.len <= p.name.len))
			break;
		params[i] = params[i - 1];
		i--;
	}
	params[i] = p;
}

int doc_key(struct buf *out, bool is_pinned, const char *what, struct str revision, struct str path,
	    struct str query)
{
	struct param params[PARAMS_MAX], p;
	size_t count = 0;

	buf_init(out, KEY_MAX);
	while (uri_next_param(&query, &p.name, &p.value)) {
		p.value = normal_value(p);
		if (p.name.len == 0 || is_default(p))
			continue;
		if (count == PARAMS_MAX)
			return -E2BIG;
		insert_param(params, count++, p);
	}
	buf_appendf(out, "%c:%s/%.*s/%.*s", is_pinned ? 'c' : 'm', what, STR_ARGS(revision), STR_ARGS(path));
	for (size_t i = 0; i < count; i++)
		buf_appendf(out, "%c%.*s=%.*s", i ? '&' : '?', STR_ARGS(params[i].name),
			    STR_ARGS(params[i].value));
	return buf_error(out);
}
