/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/xet - hub.xet-above: files too large for plain HTTP keep what announces Xet.
 *
 * Python refuses files over 50 GB unless they come over Xet (hub-protocol 6.5). Where the administrator says so, files above a
 * size are announced as upstream announces them: in HEAD, and by xetHash in listings. Their bytes then go around this cache, and
 * cannot be had without upstream. Everything else stays without Xet.
 *
 * A listing is kept as the option was when it came, and says so behind its type. When the option has changed since, what is too
 * much is taken out as it is served, and what is too little is asked for anew, if upstream can be asked.
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

/* --- listings that are kept --- */

#define KEPT "; x-xet-above="

void xet_mark(const struct hub *h, struct str text, struct doc *doc)
{
	SCOPED_FREE char *type = doc->content_type;

	doc->content_type = NULL;
	if (h->opts.xet_above > 0 && is_list(text))
		doc->content_type =
			xasprintf("%s" KEPT "%llu", type ? type : "application/json; charset=utf-8",
				  (unsigned long long)h->opts.xet_above);
	else
		doc->content_type = TAKE_PTR(type);
}

struct str xet_type_of(const struct doc *doc, uint64_t *ret_above)
{
	const char *mark = doc->content_type ? strstr(doc->content_type, KEPT) : NULL;

	*ret_above = 0;
	if (!mark)
		return doc->content_type ? str_from(doc->content_type) : (struct str){ NULL, 0 };
	(void)parse_u64(str_from(mark + strlen(KEPT)), ret_above);
	return str_from_range(doc->content_type, mark);
}

/* Without a mark nothing of Xet is in it. */
static bool has_more(uint64_t above, uint64_t than)
{
	return above > 0 && (than == 0 || above < than);
}

bool xet_is_too_little(const struct hub *h, const struct doc *doc, struct str key)
{
	uint64_t above;

	(void)xet_type_of(doc, &above);
	return has_more(h->opts.xet_above, above) &&
	       (str_starts_with(key, STR("c:tree/")) || str_starts_with(key, STR("c:paths-info/")) ||
		str_starts_with(key, STR("c:whole/")));
}

bool xet_is_too_much(const struct hub *h, const struct doc *doc)
{
	uint64_t above;

	(void)xet_type_of(doc, &above);
	return has_more(above, h->opts.xet_above);
}

static int read_body(const struct reply *r, struct buf *out)
{
	char piece[65536];
	int error = 0;

	buf_init(out, (size_t)r->length + 1);
	if (r->kind == REPLY_BYTES)
		return buf_append_str(out, bytes_str(r->bytes));
	for (uint64_t at = 0; at < r->length && error == 0;) {
		size_t n = r->length - at < sizeof(piece) ? (size_t)(r->length - at) : sizeof(piece);

		error = blob_read(r->blob, r->offset + at, piece, n);
		if (error == 0)
			error = buf_append(out, piece, n);
		at += n;
	}
	return error;
}

void xet_fit(const struct hub *h, const struct doc *doc, struct reply *r)
{
	SCOPED_BUF text = { 0 }, edited;

	buf_init(&edited, 0);
	if (!xet_is_too_much(h, doc) || (r->kind != REPLY_BYTES && r->kind != REPLY_BLOB))
		return;
	if (read_body(r, &text) == 0) {
		buf_init(&edited, text.len + text.len / 8 + 1);
		if (hub_strip_xet(h, buf_str(&text), &edited) == 0) {
			reply_text(r, r->status, NULL, buf_str(&edited));
			return;
		}
	}
	reply_text(r, 500, "text/plain; charset=utf-8", STR("a listing that is kept cannot be read\n"));
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
	SCOPED_BUF canonical, target;
	struct question question = { .method = "HEAD" };

	content_target(hub_canonical(h, q, route, &canonical), commit, route->path, &target);
	question.target = buf_str(&target);
	return hub_ask_plainly(h, q, "xet", &question, ret_answer);
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
