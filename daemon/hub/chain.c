/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/chain - the pages of a recursive listing, and the one text that they make together.
 *
 * Each stored page names the next one, so the chain is found again at any time, in any order of arrival and after a
 * restart. When it is whole, all entries of the commit are known (FACT_TREE); a plain one is also joined into one text,
 * which is kept as a document of its own: "c:whole/<commit>". Its items are the pages' own bytes, in the pages' order.
 *
 * Threads   whole_page_came() work threads; whole_join() any: reads the disk.
 * Promises  (1) a text is at most WHOLE_BYTES_MAX long: a longer tree stays in its pages.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define WHOLE_BYTES_MAX (48 * 1024 * 1024)
#define PAGES_MAX 20000
#define QUERY_MAX 4096

struct chain {
	struct digest *pages; /* owned */
	size_t count, room;
	uint64_t bytes;
	bool says_too_little, says_too_much; /* of Xet: in a page of it (xet.c) */
};

static void chain_done(struct chain *c)
{
	free(c->pages);
}
#define SCOPED_CHAIN __attribute__((cleanup(chain_done))) struct chain

int whole_key(struct buf *out, struct str commit)
{
	return doc_key(out, true, "whole", commit, STR(""), STR(""));
}

static void add_page(struct chain *c, const struct doc *doc)
{
	if (c->count == c->room) {
		c->room = c->room ? 2 * c->room : 16;
		c->pages = xrealloc(c->pages, c->room * sizeof(*c->pages));
	}
	c->pages[c->count++] = doc->body;
	c->bytes += doc->body_size;
}

/* From the first page to the one without a next. Returns 0; -ENODATA a page is missing. */
static int walk(struct hub *h, struct str repo, struct str commit, struct str first_query, struct chain *c)
{
	SCOPED_BUF query;
	int r = -EAGAIN;

	buf_init(&query, QUERY_MAX);
	buf_append_str(&query, first_query);
	c->count = 0;
	c->bytes = 0;
	c->says_too_little = c->says_too_much = false;
	while (r == -EAGAIN) {
		struct doc doc = { 0 };
		struct str path, next;
		SCOPED_BUF key;

		if (doc_key(&key, true, "tree", commit, STR(""), buf_str(&query)) < 0 ||
		    c->count == PAGES_MAX || index_find_doc(h->opts.index, repo, buf_str(&key), &doc) < 0)
			return -ENODATA;
		add_page(c, &doc);
		c->says_too_little |= xet_is_too_little(h, &doc, buf_str(&key));
		c->says_too_much |= xet_is_too_much(h, &doc);
		if (doc.link_next) {
			uri_split_target(str_from(doc.link_next), &path, &next);
			buf_reset(&query);
			r = buf_append_str(&query, next) < 0 ? -ENODATA : -EAGAIN;
		} else {
			r = 0;
		}
		doc_done(&doc);
	}
	return r;
}

static struct str trim_blanks(struct str s)
{
	while (s.len > 0 && strchr(" \t\r\n", s.ptr[0]))
		s.ptr++, s.len--;
	while (s.len > 0 && strchr(" \t\r\n", s.ptr[s.len - 1]))
		s.len--;
	return s;
}

/* Appends what stands between the brackets of a page. */
static int append_items(struct hub *h, const struct digest *page, struct buf *out)
{
	SCOPED(blob_unref) struct blob *blob = NULL;
	SCOPED_FREE char *text = NULL;
	struct str items;
	int r = store_open_blob(h->opts.store, page, &blob);

	if (r < 0)
		return r;
	text = xmalloc(blob_size(blob) + 1);
	r = blob_read(blob, 0, text, blob_size(blob));
	if (r < 0)
		return r;
	items = trim_blanks((struct str){ text, blob_size(blob) });
	if (items.len < 2 || items.ptr[0] != '[' || items.ptr[items.len - 1] != ']')
		return -EBADMSG;
	items = trim_blanks(str_from_range(items.ptr + 1, items.ptr + items.len - 1));
	if (items.len > 0 && out->len > 1)
		buf_append_char(out, ',');
	return buf_append_str(out, items);
}

static int join(struct hub *h, const struct chain *c, struct bytes **ret_bytes)
{
	SCOPED_BUF text = { 0 };
	size_t len;
	char *data;

	if (c->bytes > WHOLE_BYTES_MAX)
		return -E2BIG;
	buf_init(&text, WHOLE_BYTES_MAX + 2);
	buf_append_char(&text, '[');
	for (size_t i = 0; i < c->count; i++) {
		int r = append_items(h, &c->pages[i], &text);

		if (r < 0)
			return r;
	}
	buf_append_char(&text, ']');
	if (buf_error(&text))
		return -E2BIG;
	data = buf_take(&text, &len);
	*ret_bytes = bytes_new_take(data, len);
	return 0;
}

static int keep_whole(struct hub *h, struct store_put put, struct str repo, struct str commit,
		      const struct chain *c)
{
	struct doc doc = { .fetched_at = clock_wall_s(h->opts.clock) };
	SCOPED(bytes_unref) struct bytes *bytes = NULL;
	struct blob_meta meta;
	SCOPED_BUF key;
	int r = c->says_too_little ? -ENODATA : join(h, c, &bytes);

	buf_init(&key, 0);
	if (r == 0 && c->says_too_much) {
		struct bytes *fitting = document_bytes(h, bytes_str(bytes));

		bytes_unref(bytes);
		bytes = fitting;
		r = bytes ? 0 : -EBADMSG;
	}
	if (r == 0)
		r = store_put_making_room(put, bytes, &meta);
	if (r < 0 || whole_key(&key, commit) < 0)
		return r < 0 ? r : -E2BIG;
	doc.body = meta.sha256;
	doc.body_size = meta.size;
	xet_mark(h, bytes_str(bytes), &doc);
	memcpy(doc.commit, commit.ptr, COMMIT_HEX);
	index_learn(h->opts.index, &(struct fact){ .kind = FACT_DOC,
						   .repo = repo,
						   .path = buf_str(&key),
						   .at = doc.fetched_at,
						   .doc = &doc });
	doc_done(&doc);
	return 0;
}

static bool is_whole_held(struct hub *h, struct str repo, struct str commit)
{
	struct doc doc = { 0 };
	SCOPED_BUF key;
	bool is_held = whole_key(&key, commit) == 0 &&
		       index_find_doc(h->opts.index, repo, buf_str(&key), &doc) == 0 &&
		       !xet_is_too_little(h, &doc, buf_str(&key));

	doc_done(&doc);
	return is_held;
}

int whole_join(struct hub *h, struct str repo, struct str commit)
{
	/* what clients ask first */
	struct store_put put = {
		.store = h->opts.store
	}; /* a thread that serves connections: it never waits */
	static const char *const queries[] = { "recursive=true", "recursive=true&limit=1000" };

	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		SCOPED_CHAIN c = { 0 };

		if (walk(h, repo, commit, str_from(queries[i]), &c) == 0)
			return keep_whole(h, put, repo, commit, &c);
	}
	return -ENODATA;
}

/*
 * What the first page of this page's listing was asked with. Returns false when it does not list the whole tree for
 * sure: not recursive, or asked with something that is not understood.
 */
static bool first_query(struct str query, bool with_limit, struct buf *out, bool *ret_is_plain)
{
	bool is_recursive = false;
	struct str name, value;

	buf_init(out, QUERY_MAX);
	*ret_is_plain = true;
	while (uri_next_param(&query, &name, &value)) {
		bool is_limit = str_eq(name, STR("limit")), is_cursor = str_eq(name, STR("cursor"));

		if (str_eq(name, STR("recursive")))
			is_recursive = str_eq(value, STR("true"));
		else if (str_eq(name, STR("expand")))
			*ret_is_plain = false;
		else if (!is_limit && !is_cursor)
			return false;
		if (!is_cursor && (!is_limit || with_limit))
			buf_appendf(out, "%s%.*s=%.*s", out->len ? "&" : "", STR_ARGS(name), STR_ARGS(value));
	}
	return is_recursive && !buf_error(out);
}

static bool is_next_held(const struct lesson *l, const struct doc *doc)
{
	struct doc next = { 0 };
	struct str path, query;
	SCOPED_BUF key;
	bool is_held;

	uri_split_target(str_from(doc->link_next), &path, &query);
	is_held = doc_key(&key, true, "tree", str_from(l->commit), STR(""), query) == 0 &&
		  index_find_doc(l->hub->opts.index, str_from(l->repo), buf_str(&key), &next) == 0;
	doc_done(&next);
	return is_held;
}

static void chain_is_whole(struct lesson *l, const struct answer *a, const struct chain *c, bool is_plain)
{
	struct hub *h = l->hub;
	struct str repo = str_from(l->repo), commit = str_from(l->commit);
	struct fact f = { .kind = FACT_TREE, .repo = repo, .at = a->asked_at };
	int r;

	memcpy(f.commit, l->commit, COMMIT_TEXT);
	if (!index_tree_is_known(h->opts.index, repo, commit))
		index_learn(h->opts.index, &f);
	if (!is_plain || is_whole_held(h, repo, commit))
		return;
	r = keep_whole(h, hub_put_of(h), repo, commit, c);
	if (r < 0 && r != -ENODATA)
		log_info("hub", "a tree stays in pages", LOG_STR("repo", repo), LOG_STR("commit", commit),
			 LOG_ERR("error", r), LOG_END);
}

void whole_page_came(struct lesson *l, const struct answer *a, const struct doc *doc)
{
	struct str path, query;

	if (l->path[0])
		return;
	/* only a page that may have been the missing one is worth a walk */
	if (doc->link_next && !is_next_held(l, doc))
		return;
	uri_split_target(str_from(l->key), &path, &query);
	/* the Hub adds the limit to the links of a listing that was asked for without one */
	for (int with_limit = 0; with_limit < 2; with_limit++) {
		SCOPED_CHAIN c = { 0 };
		SCOPED_BUF first;
		bool is_plain;

		if (first_query(query, with_limit, &first, &is_plain) &&
		    walk(l->hub, str_from(l->repo), str_from(l->commit), buf_str(&first), &c) == 0) {
			chain_is_whole(l, a, &c, is_plain);
			return;
		}
	}
}
