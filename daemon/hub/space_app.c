/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_app - what the app of a Space answers.
 *
 * Bytes pass both ways as they come. What changes: addresses of the app in its answers become ours (space_text.c), its cookies are
 * renamed and bound to its folder here, so that no other app, and nothing else on this host, is ever sent them.
 * Never     follows a redirect; takes an app's word for the Hub's.
 */
#include "hub/space.h"

#include <errno.h>
#include "common/alloc.h"

/* What 16 KiB can become when they are addresses and nothing else. */
#define PIECE_BYTES_MAX ((size_t)1024 * 1024)

/* --- the answer ----------------------------------------------------------------------------------------- */

int space_form_of(struct str rest, struct str content_type)
{
	static const char *const edited[] = { "config", "info", "run/", "api/", "call/", "queue/" };
	struct str type, parameters;

	(void)str_cut(content_type, ';', &type, &parameters);
	type = str_trim(type);
	if (str_eq_nocase(type, STR("text/html")))
		return SPACE_HTML;
	if (str_eq_nocase(type, STR("text/event-stream")))
		return SPACE_JSON;
	if (!str_eq_nocase(type, STR("application/json")))
		return -ENOENT;
	if (str_starts_with(rest, STR("/gradio_api")))
		rest = str_from_range(rest.ptr + 11, rest.ptr + rest.len);
	if (rest.len)
		rest = str_from_range(rest.ptr + 1, rest.ptr + rest.len);
	for (size_t i = 0; i < sizeof(edited) / sizeof(edited[0]); i++) {
		struct str word = str_from(edited[i]);

		if (str_ends_with(word, STR("/")) ? str_starts_with(rest, word) : str_eq(rest, word))
			return SPACE_JSON;
	}
	return -ENOENT;
}

/* An answer that streams: its addresses are turned into ours, and it is gathered to be kept. */
struct stream {
	struct space_text text;
	bool is_edited;
	char *from[SPACE_FROM_MAX], *to; /* owned */
	struct space_keeping *keeping;   /* owned, or NULL */
	int64_t length, seen;            /* as promised (-1: not), and of it so far */
};

static int on_piece(void *ctx, struct str piece, struct buf *out)
{
	struct stream *s = ctx;

	if (s->keeping)
		space_keep_piece(s->keeping, piece);
	s->seen += (int64_t)piece.len;
	/* of a body whose length is known nobody reads on to see it end */
	if (s->keeping && s->seen == s->length)
		space_keep_end(TAKE_PTR(s->keeping));
	return s->is_edited ? space_text_feed(&s->text, piece, out) : buf_append_str(out, piece);
}

static int on_end(void *ctx, int error, struct buf *out)
{
	struct stream *s = ctx;

	if (s->keeping && error == 0)
		space_keep_end(TAKE_PTR(s->keeping));
	return s->is_edited ? space_text_end(&s->text, out) : 0;
}

static void stream_free(void *ctx)
{
	struct stream *s = ctx;

	space_keep_drop(TAKE_PTR(s->keeping));
	for (unsigned i = 0; i < SPACE_FROM_MAX; i++)
		free(s->from[i]);
	free(s->to);
	free(s);
}

static const struct relay_filter stream_filter = {
	.piece = on_piece, .end = on_end, .free_ctx = stream_free, .piece_bytes_max = PIECE_BYTES_MAX
};

/* form: or -ENOENT: not edited. */
static void filter(const struct space_call *c, struct relay *relay, int form, struct str type, int64_t length,
		   bool is_kept)
{
	struct stream *s = xcalloc(1, sizeof(*s));
	struct space_rule rule = { .to = c->rule.to };

	for (unsigned i = 0; i < SPACE_FROM_MAX; i++) {
		s->from[i] = str_dup(c->rule.from[i]);
		rule.from[i] = str_from(s->from[i]);
	}
	s->to = str_dup(c->rule.to);
	rule.to = str_from(s->to);
	s->length = length;
	s->is_edited = form >= 0;
	if (s->is_edited)
		space_text_init(&s->text, (enum space_form)form, &rule);
	if (is_kept)
		s->keeping = space_keep_begin(c->hub, c->route->repo, buf_str(&c->key), c->is_build, type);
	relay_set_filter(relay, &stream_filter, s);
}

void space_set_cookies(const struct space_call *c, const struct headers *from, struct reply *r)
{
	bool is_tls = str_starts_with(str_from(c->q->base), STR("https:"));
	SCOPED_BUF path;

	buf_init(&path, 8192);
	buf_appendf(&path, "%.*s/", STR_ARGS(c->prefix));
	for (size_t i = 0; i < from->count; i++) {
		SCOPED_BUF value;

		buf_init(&value, 16384);
		if (str_eq_nocase(str_from(from->fields[i].name), STR("Set-Cookie")) &&
		    space_cookie_out(str_from(from->fields[i].value), buf_str(&c->tag), buf_str(&path),
				     is_tls, &value) == 0 &&
		    !buf_error(&value))
			(void)headers_add(&r->headers, STR("Set-Cookie"), buf_str(&value));
	}
}

/* Returns 0; -errno: it has one that the client is not told. */
static int set_location(const struct space_call *c, const struct headers *from, struct reply *r)
{
	struct str location = headers_get(from, STR("Location"));
	struct space_place place = { .app = str_from(c->s->url),
				     .rest = str_from_range(c->prefix.ptr + c->prefix.len,
							    c->q->target + strlen(c->q->target)),
				     .base = str_from(c->q->base),
				     .prefix = c->prefix,
				     .is_told_base = c->s->kind == SPACE_LOCAL,
				     .names = c->hub->opts.server_names };
	SCOPED_BUF value;
	int error;

	buf_init(&value, 65536);
	if (!location.ptr)
		return 0;
	error = space_map_location(&place, location, &value);
	return error < 0 ? error : headers_set(&r->headers, STR("Location"), buf_str(&value));
}

/* For the page that asks: it is nobody, so it asks as a stranger. */
static void set_fields(const struct space_call *c, struct reply *r)
{
	(void)headers_set(&r->headers, STR("Cross-Origin-Resource-Policy"), STR("cross-origin"));
	if (!headers_get(&r->headers, STR("Referrer-Policy")).ptr)
		(void)headers_set(&r->headers, STR("Referrer-Policy"), STR("no-referrer"));
	space_set_policy(c->q, SPACE_REACHES_WEB, r);
}

static void drop_tags(struct reply *r)
{
	static const char *const tags[] = { "ETag", "Last-Modified", "Accept-Ranges" };

	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		headers_remove(&r->headers, str_from(tags[i]));
}

static void pass_on(const struct space_call *c, int status, const struct headers *from, int64_t length,
		    struct reply *r)
{
	struct str type = headers_get(from, STR("Content-Type")),
		   coding = headers_get(from, STR("Content-Encoding"));
	bool is_plain = coding.len == 0 || str_eq_nocase(coding, STR("identity"));
	int form = status == 206 || !is_plain ? -ENOENT : space_form_of(c->rest, type);
	bool is_kept = c->key.len && status == 200 && is_plain && !c->q->is_head &&
		       space_may_keep(from, c->is_build);

	/* first: a redirect is passed on only with its address */
	if (set_location(c, from, r) < 0 && status >= 300 && status < 400) {
		relay_free(TAKE_PTR(c->q->relay));
		reply_refuse(
			r, ENDPOINT_FILE, 502,
			"the app of this Space sent a redirect that leads to other places of this server, or "
			"to an address that cannot be understood; it is not passed on");
		return;
	}
	reply_relay(r, c->q, status, from, form >= 0 ? -1 : length);
	if (r->kind != REPLY_RELAY)
		return;
	space_set_cookies(c, from, r);
	if (form >= 0)
		drop_tags(r);
	if (form >= 0 || is_kept)
		filter(c, r->relay, form, type, length, is_kept);
	set_fields(c, r);
	r->cache_status = is_kept ? "fwd=miss; stored" : is_write(c->q) ? "fwd=method" : "fwd=bypass";
	c->q->result = is_kept ? RESULT_MISS : RESULT_BYPASS;
}

/* --- without it ----------------------------------------------------------------------------------------- */

/* What was kept of its page, so that at least that opens. Returns 0 with a reply; -ENODATA. */
static int serve_kept(const struct space_call *c, struct reply *r)
{
	bool is_build;
	SCOPED_BUF shared;
	int error = -ENODATA;

	buf_init(&shared, 8192);
	if (c->key.len)
		error = space_serve_kept(c->hub, c->q, c->route->repo, buf_str(&c->key), c->rest, &c->rule,
					 r);
	if (error < 0 && c->s->kind == SPACE_APP &&
	    space_keep_key(c->q, c->s, c->rest, true, &shared, &is_build))
		error = space_serve_kept(c->hub, c->q, c->route->repo, buf_str(&shared), c->rest, &c->rule,
					 r);
	if (error == 0)
		set_fields(c, r);
	return error;
}

void space_tell_trouble(struct hub *h, struct request *q, const struct hub_route *route,
			const struct space *s, int error, struct reply *r)
{
	struct fetch_view view;
	SCOPED_BUF text;

	buf_init(&text, 4096);
	buf_appendf(&text, "the app of the Space %.*s", STR_ARGS(route->id));
	q->result = RESULT_OFFLINE_MISS;
	if (error != -EHOSTUNREACH) {
		reply_error(r, q, ENDPOINT_FILE, error == -EACCES ? -EPERM : error, buf_str(&text));
		return;
	}
	fetch_look(h->opts.fetch, s->origin, &view);
	if (s->kind == SPACE_LOCAL)
		buf_appendf(&text, " cannot be reached at the url of [space %.*s] in the configuration%s%s",
			    STR_ARGS(route->id), view.reason ? ": " : "", view.reason ? view.reason : "");
	else
		buf_append_str(&text,
			       STR(" cannot be reached, and this part of it is not kept; try again later"));
	reply_refuse(r, ENDPOINT_FILE, 503,
		     buf_error(&text) ? "the app of this Space cannot be reached" : text.bytes);
}

static int refuse(const struct space_call *c, int error, struct reply *r)
{
	relay_free(TAKE_PTR(c->q->relay));
	if (serve_kept(c, r) == 0) {
		(void)headers_addf(&r->headers, "X-HF-Warning",
				   "hfcached; the app cannot be reached, this is what it said last");
		r->cache_status = "hit; fwd=stale";
		c->q->result = RESULT_STALE_HIT;
		return 0;
	}
	space_tell_trouble(c->hub, c->q, c->route, c->s, error, r);
	return 0;
}

/* The gate in front of the app says that there is nobody behind it. */
static bool is_gone(int status)
{
	return status == 502 || status == 503 || status == 504;
}

static int serve(const struct space_call *c, struct reply *r)
{
	struct request *q = c->q;
	const struct headers *fields;
	int status, error = 0;
	int64_t length;

	if (!q->relay && c->is_build && serve_kept(c, r) == 0) {
		r->cache_status = "hit";
		q->result = RESULT_HIT;
		return 0;
	}
	if (!q->relay)
		error = space_call_start(c);
	if (error < 0)
		return refuse(c, error, r);
	while ((error = relay_head(q->relay, &status, &fields, &length)) == -EAGAIN)
		if (request_park_relay(q, false) == -EAGAIN)
			return -EAGAIN;
	if (error < 0)
		return refuse(c, error, r);
	if (is_gone(status) && serve_kept(c, r) == 0) {
		relay_free(TAKE_PTR(q->relay));
		r->cache_status = "hit; fwd=stale";
		q->result = RESULT_STALE_HIT;
		return 0;
	}
	pass_on(c, status, fields, length, r);
	return 0;
}

int space_app(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
	      struct reply *r)
{
	struct space_call c;
	int error;

	/* the Hub's token is the Hub's matter; what an app of one's own takes is not looked at */
	if (!q->has_valid_subject && s->kind != SPACE_LOCAL) {
		reply_refuse(r, ENDPOINT_API, 401,
			     "malformed Authorization field: one Bearer or Basic token is expected");
		return 0;
	}
	space_call_init(&c, h, q, route, s);
	error = serve(&c, r);
	space_call_done(&c);
	return error;
}
