/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_ask - what the app of a Space is sent.
 *
 * Whose secrets go where. A request to /_space/o/n goes to the app of o/n and nowhere else, also when that answers with a redirect:
 * the client is told of it and goes there itself. So what its client put into this very request, Authorization, X-HF-Authorization
 * or a signature in its query, was meant for that app. Nothing is added: the token of no other request, no token that is lent,
 * no cookie that the app did not set through us. An app on a machine of one's own is sent no token of the Hub at all: here this
 * cache stands in for the Hub's gate, which needs it, while the app does not.
 * Never     sends anything twice.
 */
#include "hub/space.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/hash.h"

#define URL_BYTES_MAX 65536

static void make_tag(struct str id, struct buf *out)
{
	SCOPED_FREE char *lower = str_dup(id);
	char hex[2 * SHA256_BYTES + 1];
	struct digest digest;

	for (char *c = lower; *c; c++)
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
	sha256_of(lower, id.len, &digest);
	format_hex(digest.bytes, SHA256_BYTES, hex);
	buf_init(out, 64);
	buf_appendf(out, "hfs-%.12s-", hex);
}

/* Those that the app set itself, as it named them. *own is initialised here. */
static void find_cookies(const struct space_call *c, struct buf *own)
{
	buf_init(own, 65536);
	for (size_t i = 0; i < c->q->headers.count; i++)
		if (str_eq_nocase(str_from(c->q->headers.fields[i].name), STR("Cookie")))
			(void)space_cookie_in(str_from(c->q->headers.fields[i].value), buf_str(&c->tag), own);
}

static bool has_cookies(const struct space_call *c)
{
	SCOPED_BUF own;

	find_cookies(c, &own);
	return own.len > 0 || buf_error(&own);
}

void space_call_init(struct space_call *c, struct hub *h, struct request *q, const struct hub_route *route,
		     const struct space *s)
{
	*c = (struct space_call){ .hub = h, .q = q, .route = route, .s = s, .prefix = space_prefix(q) };
	c->rest = str_from_range(c->prefix.ptr + c->prefix.len, q->path.ptr + q->path.len);
	buf_init(&c->to, 8192);
	buf_appendf(&c->to, "%s%.*s", q->base, STR_ARGS(c->prefix));
	make_tag(route->id, &c->tag);
	buf_init(&c->key, 8192);
	if (s->kind == SPACE_APP && (has_cookies(c) || !space_is_common(q, s) ||
				     !space_keep_key(q, s, c->rest, false, &c->key, &c->is_build)))
		buf_reset(&c->key);
	c->rule = (struct space_rule){ .from = { str_from(s->url) }, .to = buf_str(&c->to) };
	/* it was told that this is its host */
	if (s->kind == SPACE_LOCAL)
		c->rule.from[1] = str_from(q->base);
}

void space_call_done(struct space_call *c)
{
	buf_done(&c->to);
	buf_done(&c->tag);
	buf_done(&c->key);
}

/* --- the request ---------------------------------------------------------------------------------------- */

static void add_cookies(const struct space_call *c, struct headers *to)
{
	SCOPED_BUF own;

	find_cookies(c, &own);
	if (own.len && !buf_error(&own))
		(void)headers_set(to, STR("Cookie"), buf_str(&own));
}

/* The client's own, if it stands where every client puts it. */
static struct str authorization_of(const struct space_call *c)
{
	const struct request *q = c->q;

	if (!q->subject.token || q->subject.is_lent || c->s->asks_by_field)
		return (struct str){ NULL, 0 };
	return secret_value(q->subject.token);
}

static void add_secrets(const struct space_call *c, struct headers *to)
{
	struct str own = authorization_of(c);
	bool is_local = c->s->kind == SPACE_LOCAL;

	if (is_local || c->s->drops_field)
		headers_remove(to, STR("X-HF-Authorization"));
	if (own.len)
		(void)headers_set(to, STR("Authorization"), own);
	if (is_local)
		space_drop_tokens(c->q, to);
}

/* What an app behind a server in front of it wants to know; the Hub's own apps have another one in front of them. */
static void add_forwarded(const struct space_call *c, struct headers *to)
{
	struct str base = str_from(c->q->base), scheme, host;

	(void)str_cut(base, ':', &scheme, &host);
	host = str_starts_with(host, STR("//")) ? str_from_range(host.ptr + 2, host.ptr + host.len) : host;
	(void)headers_set(to, STR("X-Forwarded-Host"), host);
	(void)headers_set(to, STR("X-Forwarded-Proto"), scheme);
	(void)headers_set(to, STR("X-Forwarded-Prefix"), c->prefix);
	if (!str_starts_with(str_from(c->q->client), STR("unix")))
		(void)headers_set(to, STR("X-Forwarded-For"), str_from(c->q->client));
}

/* What the client says of servers in front of us is not for the app to believe. */
static void drop_forwarded(struct headers *to)
{
	struct str prefix = STR("X-Forwarded-");

	for (size_t i = to->count; i-- > 0;) {
		struct str name = str_from(to->fields[i].name);

		if (name.len > prefix.len && str_eq_nocase((struct str){ name.ptr, prefix.len }, prefix)) {
			SCOPED_FREE char *copy = str_dup(name);

			headers_remove(to, str_from(copy));
			i = i < to->count ? i : to->count;
		}
	}
}

/* What is edited has no tag, and no part of it can be asked for. */
static void drop_conditions(struct headers *to)
{
	static const char *const conditions[] = { "Range", "If-Range", "If-None-Match", "If-Modified-Since" };

	for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++)
		headers_remove(to, str_from(conditions[i]));
}

static void make_fields(const struct space_call *c, struct headers *to)
{
	headers_init(to);
	request_forward_fields(c->q, to);
	drop_forwarded(to);
	add_cookies(c, to);
	add_secrets(c, to);
	if (c->s->kind == SPACE_LOCAL)
		add_forwarded(c, to);
	if (c->key.len || space_form_of(c->rest, STR("application/json")) >= 0)
		drop_conditions(to);
}

void space_request_fields(struct hub *h, struct request *q, const struct hub_route *route,
			  const struct space *s, struct headers *to)
{
	struct space_call c;

	space_call_init(&c, h, q, route, s);
	make_fields(&c, to);
	space_call_done(&c);
}

/* Where in the app it is. */
static struct str rest_of(const struct request *q)
{
	struct str prefix = space_prefix(q),
		   rest = str_from_range(prefix.ptr + prefix.len, q->path.ptr + q->path.len);

	return rest.len ? rest : STR("/");
}

void space_append_target(const struct request *q, const struct space *s, struct buf *out)
{
	struct str rest = rest_of(q), inner;
	struct origin origin;

	buf_append_str(out, STR("GET "));
	if (origin_parse(str_from(s->url), &origin, &inner) == 0 && inner.len > 1)
		buf_append_str(out, inner);
	buf_append_str(out, rest);
	if (q->query.len)
		buf_appendf(out, "?%.*s", STR_ARGS(q->query));
	buf_append_str(out, STR(" HTTP/1.1\r\n"));
}

bool space_is_near(const struct hub *h, const struct space *s, const struct origin *origin)
{
	return s->kind == SPACE_LOCAL || strcmp(origin->host, fetch_hub_origin(h->opts.fetch)->host) == 0;
}

int space_call_start(const struct space_call *c)
{
	struct request *q = c->q;
	struct headers fields;
	SCOPED_BUF url;
	struct relay_query query = { .who = str_from(q->client),
				     .method = q->method,
				     .origin = c->s->origin,
				     .location_headers = &fields,
				     .is_space = true,
				     .follow = FETCH_FOLLOW_NONE,
				     .has_body = q->body_bytes != 0,
				     .expects_continue = request_header(q, STR("Expect")).ptr,
				     .body_bytes = q->body_bytes };
	int r;

	buf_init(&url, URL_BYTES_MAX);
	buf_appendf(&url, "%s%.*s", c->s->url, STR_ARGS(rest_of(q)));
	if (q->query.len)
		buf_appendf(&url, "?%.*s", STR_ARGS(q->query));
	if (buf_error(&url))
		return -EINVAL;
	query.location = buf_str(&url);
	make_fields(c, &fields);
	r = relay_start(c->hub->opts.relays, &query, &q->relay);
	headers_done(&fields);
	q->used_upstream = true;
	return r;
}
