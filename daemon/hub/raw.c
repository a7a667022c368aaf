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

/* Replaces the answer for the file by the one for its pointer; status and conditions are worked out anew. */
static void become_pointer(struct request *q, const struct content_id *content, struct reply *r)
{
	char hex[CONTENT_HEX_MAX], id[2 * SHA1_BYTES + 1];
	struct git_oid oid;
	SCOPED_BUF text;

	content_id_hex(content, hex);
	buf_init(&text, 512);
	buf_appendf(&text, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %llu\n", hex,
		    (unsigned long long)content->size);
	git_oid_of(buf_str(&text).ptr, buf_str(&text).len, &oid);
	format_hex(oid.bytes, SHA1_BYTES, id);

	headers_remove(&r->headers, STR("X-Linked-Etag"));
	headers_remove(&r->headers, STR("X-Linked-Size"));
	headers_remove(&r->headers, STR("Content-Range"));
	headers_remove(&r->headers, STR("ETag"));
	reply_text(r, 200, "text/plain; charset=utf-8", buf_str(&text));
	(void)headers_addf(&r->headers, "ETag", "\"%s\"", id);
}

int hub_raw(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct content_id content;
	struct str linked;
	bool was_head = q->is_head;
	int error;

	/* as a HEAD first: it finds out what the file is without touching its bytes */
	q->is_head = true;
	error = hub_resolve(h, q, route, r);
	q->is_head = was_head;
	if (error != 0)
		return error;
	linked = headers_get(&r->headers, STR("X-Linked-Etag"));
	if ((r->status == 200 || r->status == 304) && linked.len > 2 &&
	    content_id_parse((struct str){ linked.ptr + 1, linked.len - 2 }, 0, &content) == 0 &&
	    parse_u64(headers_get(&r->headers, STR("X-Linked-Size")), &content.size) == 0) {
		become_pointer(q, &content, r);
		return 0;
	}
	if (was_head || r->status != 200)
		return 0;
	reply_done(r);
	reply_init(r);
	return hub_resolve(h, q, route, r);
}
