/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/control - what a request says about caching (inference-protocol 3.5; RFC 9111 5.2.1).
 */
#include "infer/priv.h"

static bool says_no(struct str value)
{
	value = str_trim(value);
	return str_eq_nocase(value, STR("false")) || str_eq(value, STR("0")) ||
	       str_eq_nocase(value, STR("no"));
}

static bool says_yes(struct str value)
{
	value = str_trim(value);
	return str_eq_nocase(value, STR("true")) || str_eq(value, STR("1")) ||
	       str_eq_nocase(value, STR("yes"));
}

static int64_t seconds_of(struct str argument)
{
	uint64_t seconds;

	argument = str_trim(argument);
	if (argument.len >= 2 && argument.ptr[0] == '"')
		argument = (struct str){ argument.ptr + 1, argument.len - 2 };
	/* what cannot be read is as strict as can be (RFC 9111 4.2.1) */
	return parse_u64(argument, &seconds) == 0 && seconds < INT32_MAX ? (int64_t)seconds : 0;
}

static void read_directive(struct str word, struct infer_control *c)
{
	struct str name, argument;
	bool has_argument = str_cut(word, '=', &name, &argument);

	name = str_trim(name);
	if (str_eq_nocase(name, STR("no-cache"))) {
		c->no_lookup = true;
	} else if (str_eq_nocase(name, STR("no-store"))) {
		c->no_lookup = c->no_store = true;
	} else if (str_eq_nocase(name, STR("only-if-cached"))) {
		c->only_if_cached = true;
	} else if (str_eq_nocase(name, STR("max-age"))) {
		c->max_age_s = seconds_of(argument);
	} else if (str_eq_nocase(name, STR("min-fresh"))) {
		c->min_fresh_s = seconds_of(argument);
	} else if (str_eq_nocase(name, STR("max-stale"))) {
		c->max_stale_s = has_argument ? seconds_of(argument) : INT64_MAX;
	}
}

void control_read(const struct request *q, const struct call_facts *facts, struct infer_control *ret)
{
	struct str list = request_header(q, STR("Cache-Control")), word;

	*ret = (struct infer_control){ .max_age_s = -1, .min_fresh_s = -1, .max_stale_s = -1 };
	if (!list.ptr && str_eq_nocase(str_trim(request_header(q, STR("Pragma"))), STR("no-cache")))
		ret->no_lookup = true;
	while (list.len) {
		(void)str_cut(list, ',', &word, &list);
		read_directive(str_trim(word), ret);
	}
	if (facts->refuses_cache || says_no(request_header(q, STR("X-Use-Cache"))))
		ret->no_lookup = ret->no_store = true;
	ret->waits_for_model = facts->waits || says_yes(request_header(q, STR("X-Wait-For-Model")));
}
