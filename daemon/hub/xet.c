/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/xet - hub.xet-above: files too large for plain HTTP keep what announces Xet.
 *
 * Python refuses files over 50 GB unless they come over Xet (hub-protocol 6.5). Where the administrator says so, files above a
 * size are announced as upstream announces them: in HEAD, and by xetHash in listings. Their bytes then go around this cache, and
 * cannot be had without upstream. Everything else stays without Xet.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

static const char *const stripped[] = { "xetHash" };
static const struct json_swap swapped = { "xetEnabled", "true", "false" };

/* --- listings --- */

static bool is_above(const struct hub *h, struct str element)
{
	struct str raw;
	uint64_t size;

	return json_find_member(element, "size", &raw) == 0 && parse_u64(raw, &size) == 0 &&
	       size > h->opts.xet_above;
}

/* The elements one by one, what stands between them as it is. Returns 0; -EINVAL the text is no list. */
static int edit_list(const struct hub *h, struct str text, struct buf *out)
{
	struct str rest = text, element;
	const char *done = text.ptr;
	int r;

	while (rest.len > 0 && *rest.ptr != '[')
		rest = str_from_range(rest.ptr + 1, rest.ptr + rest.len);
	if (rest.len == 0)
		return -EINVAL;
	rest = str_from_range(rest.ptr + 1, rest.ptr + rest.len);
	while ((r = json_next_element(&rest, &element)) == 1) {
		buf_append_str(out, str_from_range(done, element.ptr));
		if (is_above(h, element))
			r = buf_append_str(out, element);
		else
			r = json_edit_members(element, stripped, 1, &swapped, 1, out);
		if (r < 0)
			return r;
		done = element.ptr + element.len;
	}
	buf_append_str(out, str_from_range(done, text.ptr + text.len));
	return r < 0 ? r : buf_error(out);
}

static bool is_list(struct str text)
{
	text = str_trim(text);
	return text.len > 0 && *text.ptr == '[';
}

int hub_strip_xet(const struct hub *h, struct str text, struct buf *out)
{
	SCOPED(json_free) struct json *json = NULL;

	if (h->opts.xet_above == 0 || !is_list(text))
		return json_edit_members(text, stripped, 1, &swapped, 1, out);
	if (json_parse(text, &json) < 0)
		return -EINVAL;
	return edit_list(h, text, out);
}

/* --- one file --- */

/* Link with the addresses of the Hub turned into ours, everything else as it is. */
static void rewrite_link(const struct hub *h, const struct request *q, struct str link, struct buf *out)
{
	struct str before, url, rest;

	buf_init(out, 8192);
	while (str_cut(link, '<', &before, &rest)) {
		buf_append_str(out, before);
		if (!str_cut(rest, '>', &url, &link))
			return;
		buf_append_char(out, '<');
		link_location(h, q, url, out);
		buf_append_char(out, '>');
	}
	buf_append_str(out, link);
}

static void announce(const struct hub *h, const struct request *q, const struct answer *a, struct reply *r)
{
	struct str link = headers_get(&a->last, STR("Link")),
		   route = headers_get(&a->last, STR("X-Xet-Refresh-Route"));
	SCOPED_BUF value, ours;

	buf_init(&ours, 4096);
	rewrite_link(h, q, link, &value);
	hub_copy_xet(&a->last, r);
	if (link.ptr && !buf_error(&value))
		(void)headers_set(&r->headers, STR("Link"), buf_str(&value));
	if (route.ptr) {
		link_location(h, q, route, &ours);
		(void)headers_set(&r->headers, STR("X-Xet-Refresh-Route"), buf_str(&ours));
	}
}

static int ask_head(struct hub *h, struct request *q, const struct hub_route *route, struct str commit,
		    const struct answer **ret_answer)
{
	SCOPED_BUF canonical, target, key;
	struct str repo = hub_canonical(h, q, route, &canonical);
	struct headers extra;
	struct question question = { .method = "HEAD",
				     .token = q->subject.token,
				     .headers = &extra,
				     .follow = FETCH_FOLLOW_SAME_ORIGIN };
	int r;

	if (str_starts_with(repo, STR("models/")))
		repo = str_from_range(repo.ptr + strlen("models/"), repo.ptr + repo.len);
	buf_init(&target, 16384);
	buf_appendf(&target, "/%.*s/resolve/%.*s/", STR_ARGS(repo), STR_ARGS(commit));
	uri_encode_path(route->path, &target);
	question.target = buf_str(&target);
	buf_init(&key, 32768);
	buf_append_str(&key, STR("xet "));
	buf_append(&key, q->subject.id, SUBJECT_BYTES);
	buf_append_str(&key, buf_str(&target));
	headers_init(&extra);
	hub_pass_headers(q, &extra);
	r = request_ask(q, h->opts.asks, buf_str(&key), &question, ret_answer);
	headers_done(&extra);
	return r;
}

static bool is_wanted(const struct hub *h, const struct request *q, const struct reply *r)
{
	uint64_t size;

	return h->opts.xet_above > 0 && q->is_head && (r->status == 200 || r->status == 304) &&
	       parse_u64(headers_get(&r->headers, STR("X-Linked-Size")), &size) == 0 &&
	       size > h->opts.xet_above && !hub_is_down(h, q);
}

int hub_file(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	int error = hub_resolve(h, q, route, r);
	const struct answer *answer;

	if (error != 0 || !is_wanted(h, q, r))
		return error;
	error = ask_head(h, q, route, headers_get(&r->headers, STR("X-Repo-Commit")), &answer);
	if (error == -EAGAIN) {
		reply_done(r);
		reply_init(r);
		return -EAGAIN;
	}
	/* without upstream's word the file is announced as any other */
	if (error == 0 && answer->error == 0 && answer->status < 400 &&
	    str_eq(headers_get(&answer->last, STR("X-Linked-Etag")),
		   headers_get(&r->headers, STR("X-Linked-Etag"))))
		announce(h, q, answer, r);
	return 0;
}
