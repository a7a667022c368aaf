/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/tunnel - /-/upload/{ticket}: bytes on their way to the Hub's storage (hub-protocol 8.2 rule 4).
 *
 * Upstream signs an address for each object, or each part of one, that is to be put somewhere. Where clients cannot reach that
 * storage they get an address of ours instead, and what they put there goes on to exactly that URL, byte for byte, as it comes.
 * The ticket is the whole authority, as the signature was: clients send no token to such an address. So it is as long
 * as a key, is kept in memory only, and is never written to the log.
 *
 * Never     sends a token there; keeps a byte; sends anything twice.
 * Promises  (1) a ticket stands for one URL, for TICKET_MS. (2) never more than TUNNELS_MAX of them, nor TUNNEL_BYTES_MAX of
 *           memory; when it is full nothing that still lives is dropped, an upload depends on it.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/hash.h"

#define TICKET_MS 3600000
#define TICKET_BYTES 16
#define TUNNEL_TICKET_TEXT (2 * TICKET_BYTES + 1)
#define URL_BYTES_MAX 16384
#define PREFIX "/-/upload/"

struct tunnel {
	struct list node;
	uint64_t until_mono_ms;
	char ticket[TUNNEL_TICKET_TEXT];
	uint8_t subject[SUBJECT_BYTES]; /* who was given the address */
	size_t url_len;
	char url[];
};

static size_t bytes_of(const struct tunnel *t)
{
	return sizeof(*t) + t->url_len + 128; /* and its place in the table */
}

static void tunnel_free(void *p)
{
	struct tunnel *t = p;

	list_remove(&t->node);
	secret_wipe(t, sizeof(*t) + t->url_len);
	free(t);
}

void tunnels_init(struct tunnels *s)
{
	lock_init(&s->lock, LOCK_REQUEST);
	s->by_ticket = map_new();
	s->shares = map_new();
	list_init(&s->oldest);
	s->bytes = 0;
}

void tunnels_done(struct tunnels *s)
{
	map_free(s->by_ticket, tunnel_free);
	map_free(s->shares, free);
	lock_done(&s->lock);
}

/* --- giving out ------------------------------------------------------------------------------------------ */

/* What one of them may have of it all: a batch of the largest kind, and others still have room. */
#define SHARE_MAX (TUNNELS_MAX / 2)
#define SHARE_BYTES_MAX (TUNNEL_BYTES_MAX / 4 * 3)

struct share {
	size_t count, bytes;
};

static struct str subject_of(const struct tunnel *t)
{
	return (struct str){ (const char *)t->subject, SUBJECT_BYTES };
}

/* Returns whether it has that much more. */
static bool take_share_locked(struct tunnels *s, const struct tunnel *t)
{
	struct share *share = map_get(s->shares, subject_of(t));

	if (share && (share->count >= SHARE_MAX || share->bytes + bytes_of(t) > SHARE_BYTES_MAX))
		return false;
	if (!share) {
		share = xcalloc(1, sizeof(*share));
		(void)map_put(s->shares, subject_of(t), share);
	}
	share->count++;
	share->bytes += bytes_of(t);
	return true;
}

static void give_share_back_locked(struct tunnels *s, const struct tunnel *t)
{
	struct share *share = map_get(s->shares, subject_of(t));

	share->bytes -= bytes_of(t);
	if (--share->count == 0)
		free(map_take(s->shares, subject_of(t)));
}

static void drop_old_locked(struct tunnels *s, uint64_t now_mono_ms)
{
	while (!list_is_empty(&s->oldest)) {
		struct tunnel *oldest = LIST_ENTRY(s->oldest.next, struct tunnel, node);

		if (oldest->until_mono_ms > now_mono_ms)
			return;
		(void)map_take(s->by_ticket, str_from(oldest->ticket));
		s->bytes -= bytes_of(oldest);
		give_share_back_locked(s, oldest);
		tunnel_free(oldest);
	}
}

static bool add(struct tunnels *s, struct tunnel *t, uint64_t now_mono_ms)
{
	SCOPED_LOCK(&s->lock);

	drop_old_locked(s, now_mono_ms);
	if (map_count(s->by_ticket) >= TUNNELS_MAX || s->bytes + bytes_of(t) > TUNNEL_BYTES_MAX ||
	    !take_share_locked(s, t))
		return false;
	(void)map_put(s->by_ticket, str_from(t->ticket), t);
	list_add_tail(&s->oldest, &t->node);
	s->bytes += bytes_of(t);
	return true;
}

static struct tunnel *tunnel_new(const struct request *q, struct str url, uint64_t now_mono_ms)
{
	struct tunnel *t = xcalloc(1, sizeof(*t) + url.len + 1);
	uint8_t bytes[TICKET_BYTES];

	list_init(&t->node);
	random_bytes(bytes, sizeof(bytes));
	format_hex(bytes, sizeof(bytes), t->ticket);
	t->until_mono_ms = now_mono_ms + TICKET_MS;
	memcpy(t->subject, q->subject.id, SUBJECT_BYTES);
	memcpy(t->url, url.ptr, url.len);
	t->url_len = url.len;
	return t;
}

bool hub_tunnel_takes(const struct hub *h, struct str url)
{
	struct origin origin;
	struct str rest;

	return url.len <= URL_BYTES_MAX && origin_parse(url, &origin, &rest) == 0 &&
	       !origin_eq(&origin, fetch_hub_origin(h->opts.fetch)) &&
	       fetch_may_begin_at(h->opts.fetch, FETCH_HUB, url);
}

bool hub_tunnel_url(struct hub *h, const struct request *q, struct str url, struct buf *out)
{
	uint64_t now = clock_mono_ms(h->opts.clock);
	struct tunnel *t = NULL;
	char ticket[TUNNEL_TICKET_TEXT];

	if (hub_tunnel_takes(h, url)) {
		t = tunnel_new(q, url, now);
		memcpy(ticket, t->ticket, sizeof(ticket));
	}
	if (t && !add(&h->tunnels, t, now)) {
		log_warning("hub",
			    "too many uploads are under way: clients are told the storage's own addresses",
			    LOG_END);
		tunnel_free(t);
		t = NULL;
	}
	if (!t) {
		(void)buf_append_str(out, url);
		return false;
	}
	(void)buf_appendf(out, "%s" PREFIX "%s", q->base, ticket);
	secret_wipe(ticket, sizeof(ticket));
	return true;
}

/* --- taking in ------------------------------------------------------------------------------------------- */

/* Appends the URL. Returns 0; -ENODATA there is no such ticket; -EPERM it is somebody else's. */
static int find(struct hub *h, const struct request *q, struct str ticket, struct buf *out)
{
	uint64_t now = clock_mono_ms(h->opts.clock);
	SCOPED_LOCK(&h->tunnels.lock);
	const struct tunnel *t = map_get(h->tunnels.by_ticket, ticket);

	if (!t || t->until_mono_ms <= now)
		return -ENODATA;
	/* no token is sent with it as a rule; whose is, and is another's, has found the address somewhere */
	if (q->subject.token && memcmp(q->subject.id, t->subject, SUBJECT_BYTES) != 0)
		return -EPERM;
	return buf_append(out, t->url, t->url_len);
}

/* From here on the request is known by what it holds. */
static void hide_ticket(struct request *q)
{
	char *ticket = strstr(q->target, PREFIX);

	for (ticket = ticket ? ticket + strlen(PREFIX) : NULL; ticket && *ticket; ticket++)
		*ticket = '*';
}

static int start(struct hub *h, struct request *q, struct str ticket)
{
	struct headers fields;
	SCOPED_BUF url;
	struct relay_query query = { .who = str_from(q->client),
				     .method = "PUT",
				     .origin = FETCH_HUB,
				     .target = STR(""),
				     .location_headers = &fields,
				     .follow = FETCH_FOLLOW_NONE,
				     .has_body = q->body_bytes != 0,
				     .expects_continue = request_header(q, STR("Expect")).ptr,
				     .body_bytes = q->body_bytes };
	int r;

	buf_init(&url, URL_BYTES_MAX);
	r = find(h, q, ticket, &url);
	hide_ticket(q);
	if (r < 0)
		return r;
	query.location = buf_str(&url);
	headers_init(&fields);
	/* what the client would have sent there itself */
	request_forward_fields_abroad(q, &fields);
	r = relay_start(h->opts.relays, &query, &q->relay);
	headers_done(&fields);
	secret_wipe(url.bytes, url.len);
	q->used_upstream = true;
	return r;
}

static void refuse(struct request *q, int error, struct reply *r)
{
	if (error == -ENODATA || error == -EPERM)
		reply_refuse(r, ENDPOINT_API, 403,
			     "this upload address is not, or no longer, known to this cache, or was given to "
			     "somebody else; begin the upload anew");
	else
		reply_error(r, q, ENDPOINT_API, error == -EACCES ? -EPERM : error, STR("the Hub's storage"));
}

int hub_upload(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct upstream_head head;
	int error = 0;

	if (!str_eq(str_from(q->method), STR("PUT"))) {
		hide_ticket(q);
		reply_refuse(r, ENDPOINT_OWN, 405, "this path is written with PUT");
		(void)headers_set(&r->headers, STR("Allow"), STR("PUT, OPTIONS"));
		return 0;
	}
	if (!q->relay)
		error = start(h, q, route->path);
	if (error < 0) {
		refuse(q, error, r);
		return 0;
	}
	while ((error = relay_head(q->relay, &head.status, &head.headers, &head.content_length)) == -EAGAIN)
		if (request_park_relay(q, false) == -EAGAIN)
			return -EAGAIN;
	if (error < 0) {
		relay_free(TAKE_PTR(q->relay));
		refuse(q, error, r);
		return 0;
	}
	hub_forward_stream(h, q, &head, r);
	return 0;
}
