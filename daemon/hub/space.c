/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space - /_space/{owner}/{name}/{path}: a Space, whatever it is.
 *
 * What is shown there is foreign code, on an address that it shares with this cache and with all other Spaces. So each page is in
 * a sandbox in which scripts run but the page is nobody: an origin that is equal to no other. It has no storage and no cookies of
 * its own that scripts could read, no page can look into another, and of this cache it reads what every page on the web may read.
 * A static Space reaches nothing else, as in a closed network; an app's page also other hosts over TLS, as it is used to.
 * Never     lets a page reach our own pages with the user's browser: they are for no page but their own.
 */
#include "hub/space.h"

#include <errno.h>
#include "common/alloc.h"

#define SANDBOX                                                                                              \
	"sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads allow-pointer-lock"

struct str space_prefix(const struct request *q)
{
	unsigned slashes = 0;
	size_t i = 0;

	for (; i < q->path.len; i++)
		if (q->path.ptr[i] == '/' && ++slashes == 4)
			break;
	return (struct str){ q->path.ptr, i };
}

/* Policies cannot name an IPv6 address: then all of this server stands in for the page's own folder. */
static void append_own(const struct request *q, struct buf *out)
{
	struct str prefix = space_prefix(q);

	if (strchr(q->base, '['))
		buf_append_str(out, STR("'self'"));
	else
		buf_appendf(out, "%s%.*s/", q->base, STR_ARGS(prefix));
}

/* The same address for a WebSocket. */
static void append_own_socket(const struct request *q, struct buf *out)
{
	struct str prefix = space_prefix(q), base = str_from(q->base);

	if (strchr(q->base, '[') || !str_starts_with(base, STR("http")))
		return;
	buf_appendf(out, " ws%.*s%.*s/", (int)(base.len - 4), base.ptr + 4, STR_ARGS(prefix));
}

void space_set_policy(const struct request *q, enum space_reach reach, struct reply *r)
{
	const char *web = reach == SPACE_REACHES_WEB ? " https:" : "";
	SCOPED_BUF own, policy;

	buf_init(&own, 4096);
	append_own(q, &own);
	buf_init(&policy, 16384);
	buf_appendf(&policy, SANDBOX "; default-src %.*s data: blob:%s 'unsafe-inline' 'unsafe-eval'",
		    STR_ARGS(buf_str(&own)), web);
	if (reach == SPACE_REACHES_WEB) {
		buf_appendf(&policy, "; connect-src %.*s", STR_ARGS(buf_str(&own)));
		append_own_socket(q, &policy);
		buf_append_str(&policy, STR(" data: blob: https: wss:"));
	} else {
		buf_appendf(&policy,
			    "; connect-src %s data: blob:", strchr(q->base, '[') ? "'self'" : q->base);
	}
	buf_appendf(&policy, "; base-uri %.*s; form-action %.*s%s; object-src 'none'",
		    STR_ARGS(buf_str(&own)), STR_ARGS(buf_str(&own)), web);
	if (!buf_error(&policy) && !buf_error(&own))
		(void)headers_set(&r->headers, STR("Content-Security-Policy"), buf_str(&policy));
}

void space_send_to_folder(const struct request *q, struct reply *r)
{
	SCOPED_BUF location;

	buf_init(&location, 16384);
	buf_appendf(&location, "%.*s/", STR_ARGS(q->path));
	if (q->query.len)
		buf_appendf(&location, "?%.*s", STR_ARGS(q->query));
	reply_done(r);
	reply_init(r);
	reply_text(r, 307, "text/plain; charset=utf-8", STR(""));
	if (buf_error(&location) || headers_add(&r->headers, STR("Location"), buf_str(&location)) < 0)
		reply_refuse(r, ENDPOINT_FILE, 414, "the address is too long");
}

static void memo_free(void *p)
{
	space_done(p);
	free(p);
}

/* As the usual field is refused before any handler. */
static int refuse_asker(int error, struct reply *r)
{
	if (error == -EBUSY) {
		reply_refuse(
			r, ENDPOINT_FILE, 429,
			"too many invalid tokens came from this address; tokens that are not known here are "
			"refused for a minute");
		(void)headers_set(&r->headers, STR("Retry-After"), STR("60"));
	} else if (error == -EPERM) {
		reply_refuse(
			r, ENDPOINT_FILE, 403,
			"this server takes no tokens in the clear (server.strict); use its https address");
	} else {
		reply_refuse(r, ENDPOINT_FILE, 400,
			     "the X-HF-Authorization field is malformed, repeated or too long");
	}
	return 1;
}

/* What it is is found out once for a request: it must not become another Space while its answer comes. */
static int find(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct space *s = q->memo, found;
	int error;

	if (!s) {
		s = xcalloc(1, sizeof(*s));
		q->memo = s;
		q->free_memo = memo_free;
		error = space_take_asker(h, q, s);
		if (error < 0)
			return refuse_asker(error, r);
	}
	if (s->is_found)
		return 0;
	error = space_find(h, q, route, &found, r);
	if (error != 0)
		return error;
	found.asks_by_field = s->asks_by_field;
	found.drops_field = s->drops_field;
	found.has_two_askers = s->has_two_askers;
	found.is_found = true;
	*s = found;
	return 0;
}

int hub_space(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	const struct space *s;
	struct hub_route space;
	SCOPED_BUF repo = { 0 };
	int error;

	space = space_route(route, &repo);
	hub_note(q, &space);
	if (space.path.len == 0 && !str_ends_with(q->path, STR("/"))) {
		space_send_to_folder(q, r);
		return 0;
	}
	error = find(h, q, &space, r);
	if (error != 0)
		return error == 1 ? 0 : error;
	s = q->memo;
	if (s->kind != SPACE_STATIC && !s->url) {
		reply_refuse(r, ENDPOINT_FILE, 503,
			     "the Hub names no address where this Space runs, or one that is not in "
			     "hub.space-hosts; "
			     "[space OWNER/NAME] url says where it runs on a machine of one's own");
		return 0;
	}
	if (space_is_socket(q))
		return space_socket(h, q, &space, s, r);
	return s->kind == SPACE_STATIC ? space_static(h, q, &space, s, r) : space_app(h, q, &space, s, r);
}
