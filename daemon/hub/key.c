/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/key - the names of documents: one for all spellings of a question, different ones for different questions. Pure.
 *
 * Each kind of document has its list of parameters. A question with any other one may mean whatever it likes, and there
 * is no end of such: its answer gets no name, and so cannot be kept.
 */
#include "hub/priv.h"

#include <errno.h>

#define KEY_MAX 4096
#define PARAMS_MAX 64
#define LIST_MAX 32
#define LIST_VALUE_MAX 512
#define CURSOR_MAX 3072
#define NUMBER_MAX 9999

enum param_kind {
	PARAM_FLAG,   /* true or false, which is what it is without */
	PARAM_NUMBER, /* from 1 */
	PARAM_CURSOR,
	PARAM_LIST, /* may come again */
};

struct known {
	const char *name;
	enum param_kind kind;
};

static const struct known tree_params[] = { { "recursive", PARAM_FLAG },
					    { "expand", PARAM_FLAG },
					    { "limit", PARAM_NUMBER },
					    { "cursor", PARAM_CURSOR },
					    { NULL, 0 } };
static const struct known info_params[] = {
	{ "blobs", PARAM_FLAG },    { "securityStatus", PARAM_FLAG }, { "full", PARAM_FLAG },
	{ "config", PARAM_FLAG },   { "cardData", PARAM_FLAG },       { "expand", PARAM_LIST },
	{ "expand[]", PARAM_LIST }, { "expand%5B%5D", PARAM_LIST },   { NULL, 0 }
};
static const struct known refs_params[] = { { "include_prs", PARAM_FLAG }, { NULL, 0 } };
static const struct known paths_params[] = { { "expand", PARAM_FLAG }, { NULL, 0 } };
static const struct known commits_params[] = { { "p", PARAM_NUMBER },          { "limit", PARAM_NUMBER },
					       { "expand", PARAM_LIST },       { "expand[]", PARAM_LIST },
					       { "expand%5B%5D", PARAM_LIST }, { NULL, 0 } };
static const struct known no_params[] = { { NULL, 0 } };

static const struct known *params_of(const char *what)
{
	static const struct {
		const char *what;
		const struct known *params;
	} kinds[] = {
		{ "tree", tree_params }, { "info", info_params },        { "revision", info_params },
		{ "refs", refs_params }, { "paths-info", paths_params }, { "commits", commits_params }
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].what, what) == 0)
			return kinds[i].params;
	return no_params;
}

struct param {
	struct str name, value;
	const struct known *known; /* NULL: it is not */
};

static const struct known *find_known(const struct known *list, struct str name)
{
	for (; list->name; list++)
		if (str_eq(name, str_from(list->name)))
			return list;
	return NULL;
}

/* One spelling for what the Hub takes as the same: True, true and 1. */
static bool read_flag(struct str *value)
{
	if (str_eq_nocase(*value, STR("true")) || str_eq(*value, STR("1")))
		*value = STR("true");
	else if (str_eq_nocase(*value, STR("false")) || str_eq(*value, STR("0")))
		*value = STR("false");
	else
		return false;
	return true;
}

static bool is_number(struct str value)
{
	uint64_t number;

	return value.len > 0 && value.ptr[0] != '0' && parse_u64(value, &number) == 0 && number <= NUMBER_MAX;
}

static bool is_text(struct str value, size_t len_max, const char *marks)
{
	if (value.len == 0 || value.len > len_max)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		char c = value.ptr[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      (c && strchr(marks, c))))
			return false;
	}
	return true;
}

/* Is the value one that its parameter may have? A flag gets its one spelling. */
static bool read_value(struct param *p)
{
	switch (p->known->kind) {
	case PARAM_FLAG:
		return read_flag(&p->value);
	case PARAM_NUMBER:
		return is_number(p->value);
	case PARAM_CURSOR:
		return is_text(p->value, CURSOR_MAX, "_.-=%+/:~");
	case PARAM_LIST:
		return is_text(p->value, LIST_VALUE_MAX, "_.-=%");
	}
	return false;
}

static bool is_default(const struct param *p)
{
	return p->known->kind == PARAM_FLAG && str_eq(p->value, STR("false"));
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

static bool is_there(const struct param *params, size_t count, const struct known *known)
{
	for (size_t i = 0; i < count; i++)
		if (params[i].known == known)
			return true;
	return false;
}

/* Known parameters, sorted. Returns 0; -ENOTSUP; -EINVAL. */
static int read_params(const struct known *list, struct str query, struct param params[PARAMS_MAX],
		       size_t *ret_count)
{
	size_t count = 0, in_lists = 0;
	bool is_strange = false;
	struct param p;

	while (uri_next_param(&query, &p.name, &p.value)) {
		p.known = find_known(list, p.name);
		if (!p.known) {
			is_strange = true;
			continue;
		}
		if (p.known->kind != PARAM_LIST && is_there(params, count, p.known))
			return -EINVAL;
		in_lists += p.known->kind == PARAM_LIST;
		if (!read_value(&p) || in_lists > LIST_MAX)
			is_strange = true;
		/* those that are no list come once: there is always room for them */
		if (p.known->kind != PARAM_LIST || in_lists <= LIST_MAX)
			insert_param(params, count++, p);
	}
	*ret_count = count;
	return is_strange ? -ENOTSUP : 0;
}

int doc_query(const char *what, struct str query, struct buf *out)
{
	struct param params[PARAMS_MAX];
	size_t count = 0;
	int r = read_params(params_of(what), query, params, &count);

	buf_init(out, KEY_MAX);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		if (!is_default(&params[i]))
			buf_appendf(out, "%s%.*s=%.*s", out->len ? "&" : "", STR_ARGS(params[i].name),
				    STR_ARGS(params[i].value));
	return buf_error(out);
}

int doc_key(struct buf *out, bool is_pinned, const char *what, struct str revision, struct str path,
	    struct str query)
{
	SCOPED_BUF normal;
	int r = doc_query(what, query, &normal);

	buf_init(out, KEY_MAX);
	if (r < 0)
		return r;
	buf_appendf(out, "%c:%s/%.*s/%.*s", is_pinned ? 'c' : 'm', what, STR_ARGS(revision), STR_ARGS(path));
	if (normal.len)
		buf_appendf(out, "?%.*s", STR_ARGS(buf_str(&normal)));
	return buf_error(out);
}

/* Two clients that ask the same at the same time may share one answer, kept or not. */
static int name_unkept(const struct doc_spec *spec, const char *what, struct str revision, struct str path,
		       struct str query, struct buf *out)
{
	buf_done(out);
	buf_init(out, QUESTION_KEY_MAX);
	return buf_appendf(out, "u:%s:%s/%.*s/%.*s?%.*s", spec->method, what, STR_ARGS(revision),
			   STR_ARGS(path), STR_ARGS(query));
}

int doc_question(struct doc_spec *spec, const char *what, struct str revision, struct str path,
		 struct str query, struct buf *key, struct buf *target, struct reply *r)
{
	SCOPED_BUF normal;
	int error = doc_query(what, query, &normal);

	buf_init(key, 0);
	if (error == -EINVAL) {
		reply_refuse(r, spec->class, 400, "a parameter of the query is there twice");
		return 1;
	}
	spec->is_unkept = error == -ENOTSUP;
	if (spec->is_unkept) {
		error = name_unkept(spec, what, revision, path, query, key);
	} else if (error == 0) {
		buf_done(key);
		error = doc_key(key, spec->is_pinned, what, revision, path, query);
		query = buf_str(&normal); /* what is kept under a name was asked for by that name */
	}
	if (query.len)
		buf_appendf(target, "?%.*s", STR_ARGS(query));
	if (error < 0 || buf_error(target)) {
		reply_refuse(r, spec->class, 414, "the query is too long");
		return 1;
	}
	spec->key = buf_str(key);
	spec->target = buf_str(target);
	return 0;
}
