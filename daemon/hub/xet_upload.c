/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/xet_upload - uploads over Xet, through us: /-/upload/xet/{path} (hub-protocol 8.2 rule 4).
 *
 * Clients that have Xet at hand send large files by it without asking anybody, straight to the storage that comes with the
 * token for writing. So that token is given on as it came, and the storage's address in the same answer becomes ours; what is
 * sent there goes on to the real one, byte for byte, as it comes. The token itself says which: it is the whole authority there,
 * and the answer of the Hub that it came with is the only place to have it from.
 * The newest clients ask the storage first for an address that is signed for one piece. They are told that there is no such
 * thing here, and send the piece to the storage itself, as they do where it is older.
 * Never     keeps a token, but what stands for it; keeps a byte; sends anything twice; sends a token elsewhere than to the storage
 *           it came with, or one that did not come with any. Tokens for reading are given on as they are: what they lead to is
 *           the storage's own signed addresses.
 * Threads   a server thread's.
 * Promises  (1) never more than XET_UPLOADS_MAX tokens, of one subject XET_UPLOADS_OF_ONE_MAX at most; a subject's oldest makes
 *           room for its next, and no other's does.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define PATH "/-/upload/xet"
#define ADDRESS_BYTES_MAX 512
/* What auth takes from a request, less its scheme. */
#define XET_TOKEN_BYTES_MAX 4000
/* A clock that is behind uses a token a little longer; nobody's clock makes it live for ever. */
#define SKEW_S 300
#define LIFE_MAX_S (24 * 3600)

struct xet_upload {
	struct list node;
	int64_t until; /* wall clock */
	uint8_t token[SUBJECT_BYTES], subject[SUBJECT_BYTES];
	char address[]; /* of the storage, without a slash at its end */
};

static struct str token_key(const uint8_t id[SUBJECT_BYTES])
{
	return (struct str){ (const char *)id, SUBJECT_BYTES };
}

static void upload_free(void *p)
{
	struct xet_upload *u = p;

	list_remove(&u->node);
	free(u);
}

void xet_uploads_init(struct xet_uploads *s)
{
	lock_init(&s->lock, LOCK_REQUEST);
	s->by_token = map_new();
	list_init(&s->oldest);
}

void xet_uploads_done(struct xet_uploads *s)
{
	map_free(s->by_token, upload_free);
	lock_done(&s->lock);
}

/* --- which storage a token is for ------------------------------------------------------------------------ */

static void drop_locked(struct xet_uploads *s, struct xet_upload *u)
{
	(void)map_take(s->by_token, token_key(u->token));
	upload_free(u);
}

/* Makes room for one more of this subject. false: there is none. */
static bool make_room_locked(struct xet_uploads *s, const uint8_t subject[SUBJECT_BYTES], int64_t now)
{
	struct xet_upload *oldest = NULL;
	size_t count = 0;

	LIST_EACH(it, &s->oldest) {
		struct xet_upload *u = LIST_ENTRY(it, struct xet_upload, node);

		if (u->until <= now) {
			drop_locked(s, u);
		} else if (memcmp(u->subject, subject, SUBJECT_BYTES) == 0) {
			oldest = oldest ? oldest : u;
			count++;
		}
	}
	if (oldest && count >= XET_UPLOADS_OF_ONE_MAX)
		drop_locked(s, oldest);
	return map_count(s->by_token) < XET_UPLOADS_MAX;
}

static bool add(struct xet_uploads *s, struct xet_upload *u, int64_t now)
{
	SCOPED_LOCK(&s->lock);
	struct xet_upload *known = map_get(s->by_token, token_key(u->token));

	if (known)
		drop_locked(s, known);
	if (!make_room_locked(s, u->subject, now))
		return false;
	list_add_tail(&s->oldest, &u->node);
	(void)map_put(s->by_token, token_key(u->token), u);
	return true;
}

/* Appends the address. -ENODATA: this token came with none, or its time is over. */
static int find(struct hub *h, const struct request *q, struct buf *out)
{
	struct xet_uploads *s = &h->xet_uploads;
	SCOPED_LOCK(&s->lock);
	const struct xet_upload *u = map_get(s->by_token, token_key(q->subject.id));

	if (!u || u->until <= clock_wall_s(h->opts.clock))
		return -ENODATA;
	return buf_append_str(out, str_from(u->address));
}

/* --- the token ------------------------------------------------------------------------------------------- */

static bool is_address(const struct hub *h, struct str url)
{
	struct origin origin;
	struct str rest;

	return url.len > 0 && url.len <= ADDRESS_BYTES_MAX && !memchr(url.ptr, '?', url.len) &&
	       !memchr(url.ptr, '#', url.len) && origin_parse(url, &origin, &rest) == 0 &&
	       fetch_may_begin_at(h->opts.fetch, FETCH_HUB, url);
}

/* Remembers where the token leads to. false: it is none that could go through us. */
static bool remember(struct hub *h, const struct request *q, const struct json *json)
{
	struct str token = json_string(json_get(json, "accessToken")),
		   url = json_string(json_get(json, "casUrl"));
	int64_t now = clock_wall_s(h->opts.clock);
	struct xet_upload *u;
	uint64_t until;

	while (url.len > 0 && url.ptr[url.len - 1] == '/')
		url.len--;
	if (token.len == 0 || token.len > XET_TOKEN_BYTES_MAX || !is_address(h, url) ||
	    json_u64(json_get(json, "exp"), &until) < 0)
		return false;
	u = xcalloc(1, sizeof(*u) + url.len + 1);
	list_init(&u->node);
	memcpy(u->address, url.ptr, url.len);
	memcpy(u->subject, q->subject.id, SUBJECT_BYTES);
	auth_id_of(h->opts.auth, token, u->token);
	u->until = until < (uint64_t)(now + LIFE_MAX_S) ? (int64_t)until + SKEW_S : now + LIFE_MAX_S;
	if (add(&h->xet_uploads, u, now))
		return true;
	log_warning("hub",
		    "too many uploads over Xet are under way: a client is told the storage's own address",
		    LOG_END);
	upload_free(u);
	return false;
}

static bool edit_address(void *ctx, struct str member, struct str value, struct buf *out)
{
	const struct request *q = ctx;

	if (!str_eq(member, STR("casUrl")))
		return false;
	buf_appendf(out, "%s" PATH, q->base);
	return true;
}

/* Older clients read the fields, newer ones the text. */
static void tell_token(struct hub *h, struct request *q, const struct upstream_head *head, struct reply *r)
{
	SCOPED(json_free) struct json *json = NULL;
	struct str text = buf_str(&q->body);
	SCOPED_BUF edited;
	bool is_ours = false;

	buf_init(&edited, 2 * REQUEST_BODY_MAX);
	if (head->status == 200 && json_parse(text, &json) == 0 && remember(h, q, json) &&
	    json_edit_strings(text, edit_address, q, &edited) == 0) {
		text = buf_str(&edited);
		is_ours = true;
	}
	hub_forward_fields(h, q, head, r);
	hub_copy_xet(head->headers, r);
	if (is_ours) {
		headers_remove(&r->headers, STR("ETag")); /* of other bytes */
		headers_remove(&r->headers, STR("X-Xet-Cas-Url"));
		(void)headers_addf(&r->headers, "X-Xet-Cas-Url", "%s" PATH, q->base);
	}
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	reply_text(r, head->status, NULL, text);
	relay_free(TAKE_PTR(q->relay));
}

int hub_xet_write_token(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct upstream_head head;
	int error;

	if (q->is_head)
		return hub_forward(h, q, route, r); /* which tells neither token nor address */
	error = hub_forward_head(h, q, FETCH_HUB, route, &head, r);
	if (error != 0)
		return error < 0 ? error : 0;
	q->body.bytes_max = REQUEST_BODY_MAX;
	error = hub_forward_gather(q);
	if (error == -EAGAIN)
		return -EAGAIN;
	if (error == 0) {
		tell_token(h, q, &head, r);
		return 0;
	}
	relay_free(TAKE_PTR(q->relay));
	reply_error(r, q, ENDPOINT_API, error == -E2BIG ? -EPROTO : error, STR(""));
	return 0;
}

/* --- what is sent with it -------------------------------------------------------------------------------- */

static int start(struct hub *h, struct request *q)
{
	struct headers fields;
	SCOPED_BUF url;
	struct relay_query query = { .who = str_from(q->client),
				     .method = q->method,
				     .origin = FETCH_HUB,
				     .target = STR(""),
				     .location_headers = &fields,
				     .follow = FETCH_FOLLOW_NONE,
				     .has_body = q->body_bytes != 0,
				     .expects_continue = request_header(q, STR("Expect")).ptr,
				     .body_bytes = q->body_bytes };
	int r;

	buf_init(&url, 65536);
	r = q->subject.token ? find(h, q, &url) : -ENODATA;
	if (r < 0)
		return r;
	/* as it was written, but for where it leads */
	buf_append_str(&url, str_from(q->target + strlen(PATH)));
	if (buf_error(&url))
		return -E2BIG;
	query.location = buf_str(&url);
	headers_init(&fields);
	request_forward_fields_abroad(q, &fields);
	(void)headers_set(&fields, STR("Authorization"), secret_value(q->subject.token));
	r = relay_start(h->opts.relays, &query, &q->relay);
	headers_done(&fields);
	q->used_upstream = true;
	return r;
}

static int refuse(struct request *q, int error, struct reply *r)
{
	relay_free(TAKE_PTR(q->relay));
	if (error == -ENODATA)
		reply_refuse(
			r, ENDPOINT_API, 401,
			"this Xet token is not, or no longer, known to this cache; begin the upload anew");
	else
		reply_error(r, q, ENDPOINT_API, error == -EACCES ? -EPERM : error, STR("the Hub's storage"));
	return 0;
}

/* Its answer would lead past us. */
static bool asks_for_address(const struct hub_route *route)
{
	return str_starts_with(route->path, STR("v1/xorb-grants"));
}

int hub_xet_upload(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct upstream_head head;
	int error = 0;

	if (asks_for_address(route)) {
		reply_refuse(r, ENDPOINT_API, 404, "no addresses are given out here; send it to /v1/xorbs");
		return 0;
	}
	if (!q->relay)
		error = str_starts_with(str_from(q->target), STR(PATH "/")) ? start(h, q) : -ENODATA;
	if (error < 0)
		return refuse(q, error, r);
	while ((error = relay_head(q->relay, &head.status, &head.headers, &head.content_length)) == -EAGAIN)
		if (request_park_relay(q, false) == -EAGAIN)
			return -EAGAIN;
	if (error < 0)
		return refuse(q, error, r);
	hub_forward_stream(h, q, &head, r);
	return 0;
}

/* Clients tell the root of the storage's host how it went, and do not look at the answer. Nobody else needs to know. */
int hub_xet_telemetry(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	reply_text(r, 200, "application/json; charset=utf-8", STR("{}"));
	return 0;
}
