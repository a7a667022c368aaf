/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/link - URLs of the Hub inside fields, turned into ours; by field, never by replacing text
 * (hub-protocol 5.2).
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* The Hub writes its public name into links even when it is reached by another. */
static bool is_hub_origin(const struct hub *h, const struct origin *o)
{
	struct str host = str_from(o->host);

	if (h->opts.fetch && origin_eq(o, fetch_hub_origin(h->opts.fetch)))
		return true;
	return str_eq(host, STR("huggingface.co")) || str_eq(host, STR("www.huggingface.co")) ||
	       str_eq(host, STR("hf.co"));
}

/* Path and query of an absolute URL of the Hub, or of a reference that starts with '/'. ptr NULL for
 * anything else. */
static struct str hub_target_of(const struct hub *h, struct str url)
{
	struct origin o;
	struct str rest;

	if (url.len > 0 && url.ptr[0] == '/' && !(url.len > 1 && url.ptr[1] == '/'))
		return url;
	if (origin_parse(url, &o, &rest) == 0 && is_hub_origin(h, &o))
		return rest;
	return (struct str){ NULL, 0 };
}

static bool is_next(struct str parameters)
{
	struct str part;

	while (parameters.len > 0) {
		str_cut(parameters, ';', &part, &parameters);
		part = str_trim(part);
		if (str_eq(part, STR("rel=\"next\"")) || str_eq(part, STR("rel=next")))
			return true;
	}
	return false;
}

char *link_next_of(const struct hub *h, struct str link_value)
{
	while (link_value.len > 0) {
		struct str before, url, after, parameters, rest;

		if (!str_cut(link_value, '<', &before, &after) || !str_cut(after, '>', &url, &after))
			return NULL;
		/* the next link, if any, starts at a comma behind this one's parameters */
		str_cut(after, ',', &parameters, &rest);
		if (is_next(parameters)) {
			struct str target = hub_target_of(h, url);

			return target.ptr ? str_dup(target) : NULL;
		}
		link_value = rest;
	}
	return NULL;
}

void link_location(const struct hub *h, const struct request *q, struct str location, struct buf *out)
{
	struct str target = hub_target_of(h, location);

	if (!target.ptr) {
		buf_append_str(out, location);
		return;
	}
	/* a relative one stays relative: clients keep their token on it */
	if (location.len == 0 || location.ptr[0] != '/')
		buf_append_str(out, str_from(q->base));
	buf_append_str(out, target);
}

void link_set_next(struct reply *r, const struct request *q, const char *target)
{
	SCOPED_BUF value;

	buf_init(&value, 16384);
	buf_appendf(&value, "<%s", q->base);
	/* some clients split the field at commas before they look for brackets (hub-protocol 5.1) */
	for (const char *c = target; *c; c++) {
		if (*c == ',')
			buf_append_str(&value, STR("%2C"));
		else
			buf_append_char(&value, *c);
	}
	buf_append_str(&value, STR(">; rel=\"next\""));
	if (!buf_error(&value))
		(void)headers_set(&r->headers, STR("Link"), buf_str(&value));
}

struct url_edit {
	const struct hub *hub;
	const struct request *request;
	const char *const *members;
};

static bool is_member(const char *const *members, struct str name)
{
	if (!members)
		return true;
	for (; *members; members++)
		if (str_eq(name, str_from(*members)))
			return true;
	return false;
}

/* Whole addresses only: a text that begins with one has blanks or line ends behind it, and is no URL. */
static bool edit_url(void *ctx, struct str member, struct str value, struct buf *out)
{
	const struct url_edit *e = ctx;
	struct str target;

	if (!is_member(e->members, member) || value.len == 0 || value.ptr[0] == '/')
		return false;
	target = hub_target_of(e->hub, value);
	if (!target.ptr)
		return false;
	buf_append_str(out, str_from(e->request->base));
	buf_append_str(out, target);
	return true;
}

int link_edit_urls(const struct hub *h, const struct request *q, struct str text, const char *const *members,
		   struct buf *out)
{
	struct url_edit e = { .hub = h, .request = q, .members = members };

	return json_edit_strings(text, edit_url, &e, out);
}

static bool is_kind(struct str s)
{
	return str_eq(s, STR("models")) || str_eq(s, STR("datasets")) || str_eq(s, STR("spaces")) ||
	       str_eq(s, STR("kernels"));
}

static bool is_verb(struct str s)
{
	static const char *const verbs[] = { "resolve",  "raw",        "tree",     "revision",
					     "refs",     "paths-info", "commits",  "blob",
					     "treesize", "parquet",    "croissant" };

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (str_eq(s, str_from(verbs[i])))
			return true;
	return s.len == 0;
}

struct str link_repo_of(const struct hub *h, struct str location, struct buf *scratch)
{
	struct str target = hub_target_of(h, location), path, query, segment, first, second;

	buf_init(scratch, 1024);
	if (!target.ptr)
		return target;
	uri_split_target(target, &path, &query);
	path.ptr++, path.len--;
	str_cut(path, '/', &segment, &path);
	if (str_eq(segment, STR("api")))
		str_cut(path, '/', &segment, &path);
	if (str_eq(segment, STR("resolve-cache")))
		return (struct str){ NULL, 0 };
	if (is_kind(segment)) {
		buf_append_str(scratch, segment);
		str_cut(path, '/', &first, &path);
	} else {
		buf_append_str(scratch, STR("models"));
		first = segment;
	}
	str_cut(path, '/', &second, &path);
	buf_append_char(scratch, '/');
	buf_append_str(scratch, first);
	if (!is_verb(second)) {
		buf_append_char(scratch, '/');
		buf_append_str(scratch, second);
	}
	return buf_error(scratch) || first.len == 0 ? (struct str){ NULL, 0 } : buf_str(scratch);
}
