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

bool link_is_repo_id(struct str s)
{
	size_t slashes = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		bool begins = i == 0 || s.ptr[i - 1] == '/';

		if ((c == '/' && (begins || i + 1 == s.len || ++slashes > 1)) ||
		    (begins && (c == '.' || c == '-')))
			return false;
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_' || c == '.' || c == '/'))
			return false;
	}
	return s.len > 0 && s.len <= 200;
}

/* "/api/models/", "/datasets/" or "/": what stands before the id in a path that asks about repo. */
static void prefix_of(struct str target, struct str kind, struct buf *out)
{
	buf_init(out, 64);
	buf_append_char(out, '/');
	if (str_starts_with(target, STR("/v2/")))
		buf_append_str(out, STR("v2/"));
	else if (str_starts_with(target, STR("/api/")))
		buf_appendf(out, "api/%.*s/", STR_ARGS(kind));
	else if (!str_eq(kind, STR("models")))
		buf_appendf(out, "%.*s/", STR_ARGS(kind));
}

struct str link_repo_of(const struct hub *h, struct str location, struct str target, struct str repo,
			struct buf *scratch)
{
	const struct str nothing = { NULL, 0 };
	struct str to = hub_target_of(h, location), path, query, kind, id, rest, new_id;
	SCOPED_BUF prefix;

	buf_init(scratch, 1024);
	str_cut(repo, '/', &kind, &id);
	prefix_of(target, kind, &prefix);
	if (!to.ptr)
		return nothing;
	uri_split_target(to, &path, &query);
	uri_split_target(target, &target, &query);
	if (target.len < prefix.len + id.len || !str_starts_with(path, buf_str(&prefix)))
		return nothing;
	rest = str_from_range(target.ptr + prefix.len + id.len, target.ptr + target.len);
	if (path.len <= prefix.len + rest.len || !str_ends_with(path, rest))
		return nothing;
	new_id = str_from_range(path.ptr + prefix.len, path.ptr + path.len - rest.len);
	if (!link_is_repo_id(new_id))
		return nothing;
	buf_appendf(scratch, "%.*s/%.*s", STR_ARGS(kind), STR_ARGS(new_id));
	return buf_error(scratch) ? nothing : buf_str(scratch);
}
