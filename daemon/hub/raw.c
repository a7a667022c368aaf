/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/raw - /{repo}/raw/{revision}/{path}: what git holds. A regular file itself; of an LFS file the pointer.
 *
 * The pointer is made from the entry and needs no call: its text is fixed by size and digest, and its git
 * id stands in the tree
 * (hub-protocol 1.3, R11).
 */
#include "hub/priv.h"

#include "common/alloc.h"
#include "common/hash.h"
#include "common/http/etag.h"

void pointer_text(const struct content_id *content, struct buf *out, char ret_git_id[POINTER_ID_TEXT])
{
	char hex[CONTENT_HEX_MAX];
	struct git_oid oid;

	content_id_hex(content, hex);
	buf_init(out, 512);
	buf_appendf(out, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %llu\n", hex,
		    (unsigned long long)content->size);
	git_oid_of(buf_str(out).ptr, buf_str(out).len, &oid);
	format_hex(oid.bytes, SHA1_BYTES, ret_git_id);
}

/* The part that was asked for, or all; some clients ask for one byte to learn the size (hub-protocol 2.3). */
static void set_wanted_part(const struct request *q, struct str text, const char *id, struct reply *r)
{
	struct str value = request_header(q, STR("Range")), condition = request_header(q, STR("If-Range"));
	struct byte_range range = { 0, text.len };
	enum range_verdict kind = RANGE_NONE;

	if (!q->is_head && value.ptr && (!condition.ptr || etag_if_range_matches(condition, str_from(id))))
		kind = range_parse(value, text.len, &range);
	if (kind == RANGE_UNSATISFIABLE) {
		reply_text(r, 416, "text/plain; charset=utf-8", STR(""));
		(void)headers_addf(&r->headers, "Content-Range", "bytes */%zu", text.len);
	} else if (kind == RANGE_ONE) {
		reply_text(r, 206, "text/plain; charset=utf-8",
			   str_from_range(text.ptr + range.first, text.ptr + range.end));
		(void)headers_addf(&r->headers, "Content-Range", "bytes %llu-%llu/%zu",
				   (unsigned long long)range.first, (unsigned long long)range.end - 1,
				   text.len);
	} else {
		reply_text(r, 200, "text/plain; charset=utf-8", text);
	}
}

/* Replaces the answer for the file by the one for its pointer; status and conditions are worked out anew. */
static void become_pointer(const struct request *q, const struct content_id *content, struct reply *r)
{
	struct str list = request_header(q, STR("If-None-Match"));
	char id[POINTER_ID_TEXT];
	SCOPED_BUF text;

	pointer_text(content, &text, id);

	headers_remove(&r->headers, STR("X-Linked-Etag"));
	headers_remove(&r->headers, STR("X-Linked-Size"));
	headers_remove(&r->headers, STR("Content-Range"));
	headers_remove(&r->headers, STR("ETag"));
	set_wanted_part(q, buf_str(&text), id, r);
	(void)headers_addf(&r->headers, "ETag", "\"%s\"", id);
	if (list.ptr && etag_list_matches(list, str_from(id))) {
		headers_remove(&r->headers, STR("Content-Range"));
		r->status = 304; /* the length that is told is that of all of it */
		r->length = buf_str(&text).len;
	}
}

int hub_raw(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct content_id content;
	struct str linked;
	uint64_t size;
	bool was_head = q->is_head;
	int error;

	/* as a HEAD first: it finds out what the file is without touching its bytes */
	q->is_head = q->wants_pointer = true;
	error = hub_resolve(h, q, route, r);
	q->is_head = was_head;
	q->wants_pointer = false;
	if (error != 0)
		return error;
	linked = headers_get(&r->headers, STR("X-Linked-Etag"));
	if ((r->status == 200 || r->status == 304) && linked.len > 2 &&
	    parse_u64(headers_get(&r->headers, STR("X-Linked-Size")), &size) == 0 &&
	    content_id_parse((struct str){ linked.ptr + 1, linked.len - 2 }, size, &content) == 0) {
		become_pointer(q, &content, r);
		return 0;
	}
	if (was_head || r->status != 200)
		return 0;
	reply_done(r);
	reply_init(r);
	return hub_resolve(h, q, route, r);
}
