/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/lfs_upload - a batch that makes an upload ready, and whatever else only upstream understands.
 *
 * Upstream says where the bytes are to be put and where to tell that they are there. What leads to the Hub itself leads to us
 * afterwards, since some clients use addresses as they stand; what leads to its stores goes through a tunnel (tunnel.c).
 * Never     asks twice: each question may make something upstream.
 *           Rewrites some of the addresses that bytes are put to, and leaves the others.
 */
#include "hub/lfs.h"

#include <errno.h>
#include "common/alloc.h"

#include "common/banned.h"

/* Uploads are made ready upstream, part by part. */
#define UPLOAD_DEADLINE_MS 60000

/* Over Xet the bytes would go past us; who knows that way knows the basic one too. */
static bool edit_transfer(void *ctx, struct str member, struct str value, struct buf *out)
{
	if (!str_eq(member, STR("transfers")) || !str_eq(value, STR("xet")))
		return false;
	(void)buf_append_str(out, STR("basic"));
	return true;
}

/* Each client's own call, never shared: it may make something upstream. */
static int ask_for_one(struct hub *h, struct request *q, struct str repo, const struct answer **ret_answer)
{
	SCOPED_BUF target, key, edited;
	struct headers extra;
	struct question question = { .method = "POST",
				     .token = q->subject.token,
				     .headers = &extra,
				     .body = buf_str(&q->body),
				     .follow = FETCH_FOLLOW_SAME_ORIGIN,
				     .answer_bytes_max = BATCH_BYTES_MAX,
				     .deadline_ms = UPLOAD_DEADLINE_MS };
	int r;

	buf_init(&edited, 2 * REQUEST_BODY_MAX);
	if (json_edit_strings(question.body, edit_transfer, NULL, &edited) == 0)
		question.body = buf_str(&edited);
	lfs_objects_path(repo, &target);
	buf_append_str(&target, STR("batch"));
	question.target = buf_str(&target);
	buf_init(&key, 2048);
	buf_appendf(&key, "lfs of %p at %llu", (void *)q, (unsigned long long)q->began_mono_us);
	headers_init(&extra);
	request_forward_fields(q, &extra);
	r = request_ask(q, h->opts.asks, buf_str(&key), &question, ret_answer);
	headers_done(&extra);
	return r;
}

/* Where bytes are to be put: actions.upload.href, or, of an upload in parts, the numbered members of its header. */
static void find_places(const struct json *root, struct map *places)
{
	for (const struct json *o = json_first(json_get(root, "objects")); o; o = json_next(o)) {
		const struct json *action = json_get(json_get(o, "actions"), "upload"),
				  *header = json_get(action, "header");
		uint64_t number;

		if (!json_get(header, "chunk_size") && json_string(json_get(action, "href")).len)
			(void)map_put(places, json_string(json_get(action, "href")), places);
		for (const struct json *f = json_first(header); f; f = json_next(f))
			if (parse_u64(json_name(f), &number) == 0 && json_string(f).len)
				(void)map_put(places, json_string(f), places);
	}
}

struct upload_edit {
	struct hub *hub;
	const struct request *request;
	const struct map *places; /* that go through us; NULL: none do */
	bool has_failed;
};

/* Clients put bytes to the Hub itself, or to a host we may go to. */
static int find_closed(void *ctx, struct str url, void *value)
{
	const struct upload_edit *e = ctx;
	SCOPED_BUF ours;

	buf_init(&ours, 2 * url.len + 1024);
	link_location(e->hub, e->request, url, &ours);
	return str_eq(buf_str(&ours), url) && !hub_tunnel_takes(e->hub, url);
}

static bool edit_upload_url(void *ctx, struct str member, struct str value, struct buf *out)
{
	struct upload_edit *e = ctx;
	bool is_href = str_eq(member, STR("href"));
	uint64_t number;

	if (value.len == 0 || (!is_href && parse_u64(member, &number) < 0))
		return false;
	link_location(e->hub, e->request, value, out);
	if (!str_eq(buf_str(out), value))
		return is_href || (e->places && map_get(e->places, value));
	if (!e->places || !map_get(e->places, value))
		return false;
	buf_reset(out);
	e->has_failed |= !hub_tunnel_url(e->hub, e->request, value, out);
	return true;
}

/*
 * Addresses of the Hub become ours, since some clients use them as they stand; those of its stores too, all of them or none:
 * a client that reaches only some of them would leave half an upload behind.
 */
static int edit_upload(struct hub *h, struct request *q, struct str text, struct buf *out)
{
	SCOPED(json_free) struct json *root = NULL;
	struct upload_edit e = { .hub = h, .request = q };
	struct map *places; /* a set: its values mean nothing */
	int r = json_parse(text, &root);

	if (r < 0)
		return r;
	places = map_new();
	find_places(root, places);
	if (map_each(places, find_closed, &e) == 0)
		e.places = places;
	r = json_edit_strings(text, edit_upload_url, &e, out);
	if (r == 0 && e.has_failed) {
		e.places = NULL;
		buf_reset(out);
		r = json_edit_strings(text, edit_upload_url, &e, out);
	}
	map_free(places, NULL);
	return r;
}

static int pass_edited(struct hub *h, struct request *q, const struct answer *a, struct reply *r)
{
	SCOPED_BUF out;

	buf_init(&out, BATCH_BYTES_MAX);
	if (edit_upload(h, q, buf_str(&a->body), &out) < 0)
		return lfs_fail(q, -EPROTO, STR(""), r);
	reply_copy_allowed(&r->headers, &a->last);
	headers_remove(&r->headers, STR("ETag"));
	reply_text(r, 200, NULL, buf_str(&out));
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	return 0;
}

int lfs_pass_batch(struct hub *h, struct request *q, struct str repo, struct reply *r)
{
	const struct answer *answer;
	int error;

	if (hub_is_down(h, q))
		return lfs_fail(q, -EHOSTUNREACH, repo, r);
	error = ask_for_one(h, q, repo, &answer);
	if (error < 0)
		return error == -EAGAIN ? error : lfs_fail(q, error, repo, r);
	if (answer->error)
		return lfs_fail(q, answer->error, repo, r);
	auth_heard(h->opts.auth, &q->subject, answer->status, &answer->last);
	error = answer->status == 200 ? pass_edited(h, q, answer, r) : lfs_pass_error(answer, r);
	r->cache_status = "fwd=method";
	q->result = RESULT_BYPASS;
	return error;
}
