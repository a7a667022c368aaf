/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_info - what the API says of Spaces: their host is here.
 *
 * Clients ask the Hub where a Space is, and then talk to that host. So that they talk to this cache, the host of a Space's
 * information, and nothing else of it, becomes its address here, with a slash at its end: clients join paths to it. Of a
 * Space that runs on a machine of one's own, all that is said is said here: that it is running, and where.
 */
#include "hub/space.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/hash.h"
#include "common/http/etag.h"

#define TEXT_BYTES_MAX ((size_t)32 << 20)
#define RUNNING                                                                                              \
	"{\"stage\":\"RUNNING\",\"hardware\":{\"current\":null,\"requested\":null},\"storage\":null,"        \
	"\"replicas\":{\"requested\":1,\"current\":1}}"

static void append_address(const struct request *q, struct str id, struct buf *out)
{
	buf_appendf(out, "%s/_space/", q->base);
	uri_encode_path(id, out);
	buf_append_char(out, '/');
}

static int write_address(const struct request *q, struct str id, struct buf *out)
{
	SCOPED_BUF url;

	buf_init(&url, 8192);
	append_address(q, id, &url);
	return buf_error(&url) ? -E2BIG : json_write_string(out, buf_str(&url));
}

/* The Hub's own rule; only for Spaces that the Hub does not name one for. */
static void append_subdomain(struct str id, struct buf *out)
{
	for (size_t i = 0; i < id.len; i++) {
		char c = id.ptr[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		buf_append_char(out, (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '-');
	}
}

/* --- tags: what is said depends on who asks, and by which name we are called --- */

static void set_text(const struct request *q, struct str text, const char *type, struct reply *r)
{
	struct str list = request_header(q, STR("If-None-Match"));
	char hex[2 * SHA256_BYTES + 1];
	struct digest digest;

	sha256_of(text.ptr, text.len, &digest);
	format_hex(digest.bytes, SHA256_BYTES, hex);
	hex[40] = 0;
	if (list.len && etag_list_matches(list, str_from(hex))) {
		reply_text(r, 304, NULL, STR(""));
		r->kind = REPLY_EMPTY;
	} else {
		reply_text(r, 200, type, text);
	}
	headers_remove(&r->headers, STR("ETag"));
	(void)headers_addf(&r->headers, "ETag", "\"%s\"", hex);
}

/* --- of the Hub's own --- */

/* The text of an object whose member "host", its own and not one further in, is our address of this id. */
static int edit_host(const struct request *q, struct str text, struct str id, struct buf *out)
{
	struct str rest, name, value;
	const char *copied = text.ptr;
	int r = json_members(text, &rest);

	if (r < 0)
		return r;
	while ((r = json_next_member(&rest, &name, &value)) == 1) {
		if (!json_is_name(name, "host") || value.len == 0 || value.ptr[0] != '"')
			continue;
		buf_append_str(out, str_from_range(copied, value.ptr));
		if (write_address(q, id, out) < 0)
			return -E2BIG;
		copied = value.ptr + value.len;
	}
	buf_append_str(out, str_from_range(copied, text.ptr + text.len));
	return r < 0 ? r : buf_error(out);
}

static int edit_reply(struct hub *h, struct request *q, struct str id, struct reply *r)
{
	SCOPED_BUF text, out;
	int error = space_read_text(r, &text);

	buf_init(&out, TEXT_BYTES_MAX);
	if (error == 0)
		error = edit_host(q, buf_str(&text), id, &out);
	if (error == 0)
		set_text(q, buf_str(&out), NULL, r);
	else
		reply_error(r, q, ENDPOINT_API, -EPROTO, id);
	return 0;
}

/* --- of one's own --- */

static void write_local_info(const struct request *q, struct str id, struct buf *out)
{
	struct str owner, name;
	SCOPED_BUF subdomain;

	buf_init(&subdomain, 1024);
	append_subdomain(id, &subdomain);
	(void)str_cut(id, '/', &owner, &name);
	buf_append_str(out, STR("{\"id\":"));
	json_write_string(out, id);
	buf_append_str(out, STR(",\"author\":"));
	json_write_string(out, owner);
	buf_append_str(out, STR(",\"private\":false,\"gated\":false,\"disabled\":false,\"sdk\":\"gradio\","
				"\"tags\":[\"gradio\"],"
				"\"likes\":0,\"siblings\":[],\"subdomain\":"));
	json_write_string(out, buf_str(&subdomain));
	buf_append_str(out, STR(",\"host\":"));
	(void)write_address(q, id, out);
	buf_append_str(out, STR(",\"runtime\":" RUNNING "}"));
}

static void give_local(struct request *q, struct str id, bool is_runtime, struct reply *r)
{
	SCOPED_BUF out;

	buf_init(&out, 16384);
	if (is_runtime)
		buf_append_str(&out, STR(RUNNING));
	else
		write_local_info(q, id, &out);
	set_text(q, buf_str(&out), "application/json; charset=utf-8", r);
	r->cache_status = "hit; detail=local";
	q->result = RESULT_HIT;
}

/* As the configuration writes it. */
static struct str local_id(const struct hub *h, int local)
{
	return str_from(h->opts.spaces[local].name);
}

/* --- handlers --- */

int space_info(struct hub *h, struct request *q, const struct hub_route *route, uint64_t ttl_ms,
	       struct reply *r)
{
	int local = route->revision.len ? -ENOENT : space_find_local(h, route->id), error;

	if (local >= 0) {
		hub_note(q, route);
		give_local(q, local_id(h, local), false, r);
		return 0;
	}
	error = hub_serve_info(h, q, route, ttl_ms, q->query, r);
	return error == 0 && r->status == 200 ? edit_reply(h, q, route->id, r) : error;
}

int hub_space_runtime(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF repo = { 0 };
	struct hub_route space = space_route(route, &repo);
	int local = space_find_local(h, route->id);

	if (local < 0)
		return hub_forward(h, q, &space, r);
	hub_note(q, &space);
	give_local(q, local_id(h, local), true, r);
	return 0;
}

/* {"subdomain", "host"}, out of the Space's information: so it is there without upstream as well. */
static int give_host(struct request *q, struct str id, struct str info, struct reply *r)
{
	SCOPED(json_free) struct json *json = NULL;
	struct str subdomain;
	SCOPED_BUF out;

	buf_init(&out, 16384);
	if (json_parse(info, &json) < 0)
		return -EPROTO;
	subdomain = json_string(json_get(json, "subdomain"));
	if (!subdomain.len || !json_string(json_get(json, "host")).len)
		return -ENODATA;
	buf_append_str(&out, STR("{\"subdomain\":"));
	json_write_string(&out, subdomain);
	buf_append_str(&out, STR(",\"host\":"));
	(void)write_address(q, id, &out);
	buf_append_char(&out, '}');
	set_text(q, buf_str(&out), "application/json; charset=utf-8", r);
	return 0;
}

int hub_space_host(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF repo = { 0 }, info = { 0 };
	struct hub_route space = space_route(route, &repo);
	int local = space_find_local(h, route->id), error;

	hub_note(q, &space);
	if (local >= 0) {
		buf_init(&info, 16384);
		write_local_info(q, local_id(h, local), &info);
		return give_host(q, local_id(h, local), buf_str(&info), r);
	}
	error = hub_serve_info(h, q, &space, h->doc_ttl_ms, STR(""), r);
	if (error != 0 || r->status != 200)
		return error;
	if (space_read_text(r, &info) < 0 || give_host(q, route->id, buf_str(&info), r) < 0)
		reply_refuse(r, ENDPOINT_API, 404, "the Hub names no host of this Space");
	return 0;
}

/* --- answers that are passed on, with addresses in them --- */

/* Returns 0 with the whole body in q->body and *ret; 1 with a reply; -EAGAIN. */
static int gather(struct hub *h, struct request *q, const struct hub_route *route, struct upstream_head *ret,
		  struct reply *r)
{
	int error = hub_forward_head(h, q, FETCH_HUB, route, ret, r);

	if (error != 0)
		return error;
	if (ret->status != 200 || q->is_head) {
		hub_forward_stream(h, q, ret, r);
		headers_remove(&r->headers, STR("ETag"));
		r->head_length = ret->status == 200 ? -1 : r->head_length;
		return 1;
	}
	error = hub_forward_gather(q);
	if (error == -EAGAIN)
		return error;
	if (error < 0) {
		relay_free(TAKE_PTR(q->relay));
		reply_error(r, q, ENDPOINT_API, error == -E2BIG ? -EPROTO : error, STR(""));
		return 1;
	}
	return 0;
}

static void give_gathered(struct hub *h, struct request *q, const struct upstream_head *head, struct str text,
			  struct reply *r)
{
	hub_forward_fields(h, q, head, r);
	headers_remove(&r->headers, STR("ETag"));
	set_text(q, text, NULL, r);
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	relay_free(TAKE_PTR(q->relay));
}

static int find_local_subdomain(const struct hub *h, struct str subdomain)
{
	for (unsigned i = 0; i < h->opts.space_count; i++) {
		SCOPED_BUF own;

		buf_init(&own, 1024);
		append_subdomain(str_from(h->opts.spaces[i].name), &own);
		if (str_eq_nocase(buf_str(&own), subdomain))
			return (int)i;
	}
	return -ENOENT;
}

int hub_space_by_subdomain(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED(json_free) struct json *json = NULL;
	int local = find_local_subdomain(h, route->revision), error;
	struct upstream_head head;
	struct str id;
	SCOPED_BUF out;

	buf_init(&out, TEXT_BYTES_MAX);
	if (local >= 0) {
		give_local(q, local_id(h, local), false, r);
		return 0;
	}
	error = gather(h, q, route, &head, r);
	if (error != 0)
		return error == 1 ? 0 : error;
	id = json_parse(buf_str(&q->body), &json) == 0 ? json_string(json_get(json, "id")) : STR("");
	if (id.len == 0 || edit_host(q, buf_str(&q->body), id, &out) < 0) {
		buf_reset(&out);
		buf_append_str(&out, buf_str(&q->body));
	}
	give_gathered(h, q, &head, buf_str(&out), r);
	return 0;
}

/* The text with each whole mention of an address replaced. */
static void replace_all(struct str text, struct str from, struct str to, struct buf *out)
{
	while (text.len) {
		const char *at = from.len ? memmem(text.ptr, text.len, from.ptr, from.len) : NULL;

		buf_append_str(out, str_from_range(text.ptr, at ? at : text.ptr + text.len));
		if (!at)
			return;
		buf_append_str(out, to);
		text = str_from_range(at + from.len, text.ptr + text.len);
	}
}

static void give_local_words(const struct request *q, struct str id, struct reply *r)
{
	SCOPED_BUF out;

	buf_init(&out, 16384);
	buf_appendf(&out, "# %.*s\n\nThis Space runs here: ", STR_ARGS(id));
	append_address(q, id, &out);
	buf_append_str(&out, STR("\n"));
	set_text(q, buf_str(&out), "text/markdown; charset=utf-8", r);
}

int hub_space_words(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF repo = { 0 }, to, out;
	struct hub_route space = space_route(route, &repo);
	int local = space_find_local(h, route->id), error;
	struct upstream_head head;
	struct space s;

	buf_init(&to, 8192);
	buf_init(&out, TEXT_BYTES_MAX);
	if (local >= 0) {
		give_local_words(q, local_id(h, local), r);
		return 0;
	}
	error = space_find(h, q, &space, &s, r);
	if (error == 0)
		error = gather(h, q, &space, &head, r);
	if (error == 0) {
		append_address(q, route->id, &to);
		to.len--; /* what follows has a slash of its own */
		replace_all(buf_str(&q->body), str_from(s.url ? s.url : ""), buf_str(&to), &out);
		give_gathered(h, q, &head, buf_str(&out), r);
	}
	space_done(&s);
	return error == 1 ? 0 : error;
}
