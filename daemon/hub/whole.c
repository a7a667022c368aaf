/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/whole - listings out of a tree that is wholly known: nobody is asked, whether the Hub can be reached or not.
 *
 *   the recursive listing of the root     one page, the stored text itself
 *   after a cursor, with a limit, or      the items that belong to it, in the order of the whole, at most
 *   of a folder                           PAGE_ITEMS_MAX a page, with a Link to the next
 *   a folder that is not in it            404 EntryNotFound
 *   some paths                            their items, in the order of the question
 *
 * Never     answers a question it does not understand to the last parameter: that is the Hub's to answer.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define PAGE_ITEMS_MAX 1000 /* the Hub's own */

struct whole {
	struct str repo;
	struct doc doc;
	struct blob *blob;     /* owned */
	struct layout *layout; /* owned; NULL until it is needed */
};

static void whole_done(struct whole *w)
{
	doc_done(&w->doc);
	blob_unref(w->blob);
	layout_unref(w->layout);
}
#define SCOPED_WHOLE __attribute__((cleanup(whole_done))) struct whole

static int find_whole(struct hub *h, struct str repo, struct str commit, struct whole *w)
{
	SCOPED_BUF key;
	int r = whole_key(&key, commit);

	if (r == 0)
		r = index_find_doc(h->opts.index, repo, buf_str(&key), &w->doc);
	return r < 0 ? r : store_open_blob(h->opts.store, &w->doc.body, &w->blob);
}

/* Returns 0: the whole tree is at hand; 1: it is not; 2: the reply is a refusal. */
static int open_whole(struct hub *h, struct request *q, struct str repo, struct str commit, struct whole *w,
		      struct reply *r)
{
	bool is_down = hub_is_down(h, q);
	struct sight sight = { h, q, repo, ACCESS_META, is_down ? -EHOSTUNREACH : 0 };
	enum door door = hub_door(h, q, repo, ACCESS_META, ENDPOINT_API, sight.upstream_error, r);

	if (door == DOOR_CLOSED)
		return 2;
	if (door == DOOR_ASK || !seen_may_tell(&sight, commit))
		return 1;
	w->repo = repo;
	if (find_whole(h, repo, commit, w) == 0)
		return !is_down && xet_is_too_little(h, &w->doc, STR("c:whole/")) ? 1 : 0;
	doc_done(&w->doc);
	w->doc = (struct doc){ 0 };
	if (!index_tree_is_known(h->opts.index, repo, commit) || whole_join(h, repo, commit) < 0)
		return 1;
	return find_whole(h, repo, commit, w) == 0 ? 0 : 1;
}

static bool open_layout(struct hub *h, struct whole *w)
{
	if (!w->layout)
		w->layout = layout_of(&h->layouts, w->blob, &w->doc.body);
	return w->layout != NULL;
}

static void set_fields(struct hub *h, struct request *q, struct whole *w, struct reply *r)
{
	index_touch_blob(h->opts.index, &w->doc.body, clock_wall_s(h->opts.clock));
	doc_set_fields(h, q, &w->doc, true, r);
	doc_set_privacy(h, q, w->repo, ACCESS_META, r);
}

/* --- what is asked --- */

struct listing {
	bool is_recursive;
	bool has_cursor;
	struct buf after; /* the path of the cursor */
	uint64_t limit;   /* 0: none was given */
	uint32_t folder;  /* in the layout */
};

static bool read_flag(struct str value, bool *ret_flag)
{
	*ret_flag = str_eq_nocase(value, STR("true")) || str_eq(value, STR("1"));
	return *ret_flag || str_eq_nocase(value, STR("false")) || str_eq(value, STR("0"));
}

static bool read_parameter(struct listing *l, struct str name, struct str value)
{
	bool is_expanded;

	if (str_eq(name, STR("recursive")))
		return read_flag(value, &l->is_recursive);
	if (str_eq(name, STR("expand")))
		return read_flag(value, &is_expanded) && !is_expanded;
	if (str_eq(name, STR("limit")))
		return parse_u64(value, &l->limit) == 0 && l->limit > 0;
	if (str_eq(name, STR("cursor")) && !l->has_cursor) {
		l->has_cursor = true;
		return cursor_read(value, &l->after) == 0;
	}
	return name.len == 0;
}

/* false: the Hub must say what this means, or it is to be refused. */
static bool read_query(struct str query, struct listing *l)
{
	struct str name, value, rest;
	SCOPED_BUF normal;

	if (doc_query("tree", query, &normal) < 0)
		return false;
	rest = buf_str(&normal);
	while (uri_next_param(&rest, &name, &value))
		if (!read_parameter(l, name, value))
			return false;
	return true;
}

/* --- pages --- */

struct page {
	struct buf text;
	uint32_t run_first, run_end; /* bytes that stand side by side and are not copied yet */
};

static int copy_run(struct page *p, struct blob *blob)
{
	size_t len = p->run_end - p->run_first;
	SCOPED_FREE char *text = NULL;
	int r;

	if (len == 0)
		return 0;
	text = xmalloc(len);
	r = blob_read(blob, p->run_first, text, len);
	if (r < 0)
		return r;
	if (p->text.len > 1)
		buf_append_char(&p->text, ',');
	return buf_append(&p->text, text, len);
}

static int add_item(struct page *p, struct blob *blob, const struct layout_item *item)
{
	int r = 0;

	if (p->run_end > 0 && item->offset == p->run_end + 1) { /* a comma between them */
		p->run_end += 1 + item->length;
		return 0;
	}
	r = copy_run(p, blob);
	p->run_first = item->offset;
	p->run_end = item->offset + item->length;
	return r;
}

static void page_init(struct page *p)
{
	*p = (struct page){ 0 };
	buf_init(&p->text, 64 * 1024 * 1024);
	buf_append_char(&p->text, '[');
}

static int page_reply(struct page *p, struct blob *blob, struct reply *r)
{
	int error = copy_run(p, blob);

	buf_append_char(&p->text, ']');
	if (error < 0 || buf_error(&p->text))
		return error < 0 ? error : -E2BIG;
	reply_text(r, 200, "application/json; charset=utf-8", buf_str(&p->text));
	return 0;
}

/* Returns how many items the page got, -errno; *ret_last is the last of them, *ret_is_end: nothing is left. */
static int fill_page(struct whole *w, const struct listing *l, uint32_t first, uint64_t limit, struct page *p,
		     uint32_t *ret_last, bool *ret_is_end)
{
	uint64_t count = 0;

	*ret_is_end = true;
	for (uint32_t i = first; i < w->layout->count; i++) {
		int r;

		if (!layout_is_below(w->layout, i, l->folder, l->is_recursive))
			continue;
		if (count == limit) {
			*ret_is_end = false;
			break;
		}
		r = add_item(p, w->blob, &w->layout->items[i]);
		if (r < 0)
			return r;
		*ret_last = i;
		count++;
	}
	return 0;
}

static void set_next(struct request *q, const struct hub_route *route, struct whole *w,
		     const struct listing *l, uint64_t limit, uint32_t last, struct reply *r)
{
	SCOPED_BUF target, path;

	buf_init(&target, 32768);
	if (layout_path(w->layout, w->blob, last, &path) < 0)
		return;
	buf_appendf(&target, "/api/%.*s/tree/%s", STR_ARGS(route->repo), w->doc.commit);
	if (route->path.len) {
		buf_append_char(&target, '/');
		uri_encode_path(route->path, &target);
	}
	buf_appendf(&target, "?%slimit=%llu&cursor=", l->is_recursive ? "recursive=true&" : "",
		    (unsigned long long)limit);
	if (cursor_write(buf_str(&path), limit, &target) == 0 && !buf_error(&target))
		link_set_next(r, q, target.bytes);
}

static int reply_page(struct hub *h, struct request *q, const struct hub_route *route, struct whole *w,
		      const struct listing *l, uint32_t first, struct reply *r)
{
	uint64_t limit = l->limit && l->limit < PAGE_ITEMS_MAX ? l->limit : PAGE_ITEMS_MAX;
	uint32_t last = 0;
	struct page p;
	bool is_end;
	int error;

	page_init(&p);
	error = fill_page(w, l, first, limit, &p, &last, &is_end);
	if (error == 0)
		error = page_reply(&p, w->blob, r);
	buf_done(&p.text);
	if (error < 0)
		return 1;
	set_fields(h, q, w, r);
	if (!is_end)
		set_next(q, route, w, l, limit, last, r);
	return 0;
}

static int reply_all(struct hub *h, struct request *q, struct whole *w, struct reply *r)
{
	struct blob *blob = TAKE_PTR(w->blob);

	reply_blob(r, 200, blob, 0, blob_size(blob));
	set_fields(h, q, w, r);
	return 0;
}

static int reply_listing(struct hub *h, struct request *q, const struct hub_route *route, struct whole *w,
			 struct listing *l, struct reply *r)
{
	bool is_root = route->path.len == 0;
	uint32_t first = 0;

	if (is_root && l->is_recursive && !l->has_cursor && !l->limit)
		return reply_all(h, q, w, r);
	if (!open_layout(h, w))
		return 1;
	if (is_root && l->is_recursive && !l->has_cursor && l->limit >= w->layout->count)
		return reply_all(h, q, w, r);
	if (!(is_root && l->is_recursive) && !w->layout->has_folders)
		return 1;
	l->folder = is_root ? LAYOUT_ROOT : layout_find(w->layout, w->blob, route->path);
	if (!is_root && (l->folder == LAYOUT_ROOT || !w->layout->items[l->folder].is_folder)) {
		reply_entry_not_found(r, w->doc.commit);
		r->cache_status = q->used_upstream ? "fwd=miss" : "hit";
		q->result = q->used_upstream ? RESULT_MISS : RESULT_NEGATIVE_HIT;
		return 0;
	}
	if (l->has_cursor) {
		first = layout_find(w->layout, w->blob, buf_str(&l->after));
		if (first == LAYOUT_ROOT)
			return 1; /* it is not of this tree: the Hub may know more */
		first++;
	}
	return reply_page(h, q, route, w, l, first, r);
}

int whole_serve_tree(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
		     struct str commit, struct reply *r)
{
	struct listing l = { 0 };
	SCOPED_WHOLE w = { 0 };
	int error = read_query(q->query, &l) ? open_whole(h, q, repo, commit, &w, r) : 1;

	if (error == 0)
		error = reply_listing(h, q, route, &w, &l, r);
	buf_done(&l.after);
	return error == 2 ? 0 : error;
}

/* --- some paths --- */

int whole_serve_paths(struct hub *h, struct request *q, struct str repo, struct str commit,
		      const struct paths_asked *asked, struct reply *r)
{
	SCOPED_WHOLE w = { 0 };
	struct page p;
	int error = open_whole(h, q, repo, commit, &w, r);

	if (error)
		return error == 2 ? 0 : 1;
	if (!open_layout(h, &w))
		return 1;
	page_init(&p);
	for (size_t i = 0; error == 0 && i < asked->count; i++) {
		uint32_t at = layout_find(w.layout, w.blob, asked->paths[i]);

		if (at != LAYOUT_ROOT)
			error = add_item(&p, w.blob, &w.layout->items[at]);
	}
	if (error == 0)
		error = page_reply(&p, w.blob, r);
	buf_done(&p.text);
	if (error < 0)
		return 1;
	set_fields(h, q, &w, r);
	return 0;
}
