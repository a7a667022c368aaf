/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/learn - what answers of the Hub say of files and documents. Runs on a work thread, once per answer.
 *
 * Never     believes an answer that contradicts itself: another commit than the one asked for, an identity that is no git or
 *           SHA-256 digest, a body that is not JSON. Such an answer teaches nothing (abuse cases U02, U06, U15).
 */
#include "hub/lesson.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/http/etag.h"
#include "common/json.h"

void learn_name(struct hub *h, struct str repo, struct str revision, struct str commit, int64_t at)
{
	struct fact f = { .kind = FACT_NAME, .repo = repo, .revision = revision, .at = at };

	if (!is_commit(commit) || revision.len == 0 || is_commit(revision))
		return;
	memcpy(f.commit, commit.ptr, COMMIT_HEX);
	seen_keep_name(h, repo, revision, commit);
	index_learn(h->opts.index, &f);
}

void learn_alias(struct hub *h, struct str asked, struct str canonical, int64_t at)
{
	struct fact f = { .kind = FACT_ALIAS, .repo = asked, .to = canonical, .at = at };

	index_learn(h->opts.index, &f);
}

void learn_entry(struct hub *h, struct str repo, const char commit[COMMIT_TEXT], struct str path,
		 const struct content_id *content, int64_t at)
{
	struct fact f = { .kind = content ? FACT_ENTRY : FACT_ABSENT, .repo = repo, .path = path, .at = at };

	memcpy(f.commit, commit, COMMIT_TEXT);
	if (content)
		f.content = *content;
	index_learn(h->opts.index, &f);
}

/* What the Hub's own hop calls the file. */
static int identity_of(const struct answer *a, struct content_id *ret_content)
{
	struct str etag = headers_get(&a->last, STR("X-Linked-Etag"));
	struct str size = headers_get(&a->last, STR("X-Linked-Size"));
	uint64_t bytes;
	struct str hex;

	if (!etag.ptr)
		etag = headers_get(&a->last, STR("ETag"));
	if (etag_parse(etag, &hex, NULL) < 0)
		return -EPROTO;
	if (size.ptr) {
		if (parse_u64(size, &bytes) < 0)
			return -EPROTO;
	} else if (a->status == 200 && a->content_length >= 0) {
		bytes = (uint64_t)a->content_length;
	} else {
		return -EPROTO;
	}
	return content_id_parse(hex, bytes, ret_content) < 0 ? -EPROTO : 0;
}

static int learn_found(struct lesson *l, const struct answer *a, struct str commit)
{
	struct content_id content;
	char text[COMMIT_TEXT] = "";
	int r;

	if (!is_commit(commit) ||
	    (is_commit(str_from(l->revision)) && !str_eq(commit, str_from(l->revision))))
		return -EPROTO;
	r = identity_of(a, &content);
	if (r < 0)
		return r;
	if (hub_is_contradicted(l->hub, &content))
		return -EPROTO;
	memcpy(text, commit.ptr, COMMIT_HEX);
	lesson_doubt_mark(l, commit);
	lesson_shows(l, commit, ACCESS_FILES, a->asked_at);
	learn_entry(l->hub, str_from(l->repo), text, str_from(l->path), &content, a->asked_at);
	if (!lesson_is_outdated(l))
		learn_name(l->hub, str_from(l->repo), str_from(l->revision), commit, a->asked_at);
	return 0;
}

int lesson_of_resolve(void *ctx, const struct answer *a)
{
	struct lesson *l = ctx;
	struct str commit;
	int r = 0;

	if (a->error)
		return a->error;
	commit = headers_get(&a->last, STR("X-Repo-Commit"));
	if (is_commit(commit))
		lesson_follow_alias(l, a);
	if (lesson_is_lent_elsewhere(l))
		return -EPROTO;
	if (lesson_is_of_another(l))
		return -ESTALE;
	if (a->status >= 200 && a->status < 400) {
		if (lesson_opens_what_was_closed(l)) {
			hub_doubt_identity(l->hub, str_from(l->repo));
			return -EXDEV;
		}
		/* before the verdict: who waits must find the file when he finds the door open */
		r = learn_found(l, a, commit);
		if (r < 0)
			return r;
	} else if (a->status == 404 &&
		   str_eq(headers_get(&a->last, STR("X-Error-Code")), STR("EntryNotFound")) &&
		   is_commit(commit)) {
		char text[COMMIT_TEXT] = "";

		memcpy(text, commit.ptr, COMMIT_HEX);
		lesson_shows(l, commit, ACCESS_META, a->asked_at);
		learn_entry(l->hub, str_from(l->repo), text, str_from(l->path), NULL, a->asked_at);
		if (!lesson_is_outdated(l))
			learn_name(l->hub, str_from(l->repo), str_from(l->revision), commit, a->asked_at);
	}
	lesson_tell_auth(l, a);
	return 0;
}

/*
 * Does an LFS entry contradict itself (hub-protocol C06)? Its git id is that of the pointer, whose text follows from digest and
 * size. A pointer of another length was written by other rules and says nothing.
 */
static bool contradicts_itself(const struct json *item, const struct json *lfs,
			       const struct content_id *content)
{
	struct str oid = json_string(json_get(item, "oid"));
	char id[POINTER_ID_TEXT];
	uint64_t pointer_bytes;
	SCOPED_BUF text;

	pointer_text(content, &text, id);
	if (oid.len == 0 || (json_u64(json_get(lfs, "pointerSize"), &pointer_bytes) == 0 &&
			     pointer_bytes != buf_str(&text).len))
		return false;
	return !str_eq(oid, str_from(id));
}

static int learn_tree_item(struct hub *h, struct str repo, const char commit[COMMIT_TEXT],
			   const struct json *item, int64_t at)
{
	struct str type = json_string(json_get(item, "type")), path = json_string(json_get(item, "path"));
	const struct json *lfs = json_get(item, "lfs");
	struct content_id content;
	uint64_t size;
	struct str oid;

	if (!json_is_object(item) || path.len == 0)
		return -EPROTO;
	if (!str_eq(type, STR("file")))
		return 0;
	oid = json_string(json_get(json_is_object(lfs) ? lfs : item, "oid"));
	if (json_u64(json_get(json_is_object(lfs) ? lfs : item, "size"), &size) < 0 ||
	    content_id_parse(oid, size, &content) < 0 || !content_id_is_sound(&content))
		return -EPROTO;
	if ((content.kind == CONTENT_LFS) != json_is_object(lfs))
		return -EPROTO;
	if (content.kind == CONTENT_LFS && contradicts_itself(item, lfs, &content))
		return -EPROTO;
	learn_entry(h, repo, commit, path, &content, at);
	return 0;
}

int learn_tree_items(struct lesson *l, const struct answer *a, const struct json *json)
{
	if (!json_is_array(json))
		return -EPROTO;
	for (const struct json *item = json_first(json); item; item = json_next(item)) {
		int r = learn_tree_item(l->hub, str_from(l->repo), l->commit, item, a->asked_at);

		if (r < 0)
			return r;
	}
	return 0;
}

struct bytes *document_bytes(const struct hub *h, struct str text)
{
	SCOPED_BUF out;
	size_t len;
	char *data;

	buf_init(&out, text.len + text.len / 8 + 1); /* false is longer than true */
	if (hub_strip_xet(h, text, &out) < 0)
		return NULL;
	data = buf_take(&out, &len);
	return data ? bytes_new_take(data, len) : bytes_new_copy(STR(""));
}

/*
 * Who fetched it has seen it, and the commit that it is about. What it says of itself goes further: that all may see it, and that
 * it is of the repo whose identity it names. Not if it was asked for with an eye to who asks.
 */
static void show_document(struct lesson *l, const struct answer *a, const struct doc *doc)
{
	bool is_special = strstr(l->key, "expand") != NULL;
	char body[SEEN_BODY_TEXT];

	if (l->commit[0])
		lesson_shows(l, str_from(l->commit), l->level > l->proves ? l->level : l->proves,
			     a->asked_at);
	if (seen_follows_from_commit(str_from(l->key), l->commit))
		return;
	seen_body(&doc->body, body);
	lesson_shows(l, str_from(body), ACCESS_FILES, a->asked_at);
	if (l->opens && !is_special)
		lesson_opens(l, str_from(body), ACCESS_FILES, a->asked_at);
	if (l->is_identified && !is_special)
		lesson_belongs(l, str_from(body));
}

static int keep_document(struct lesson *l, const struct answer *a, struct doc *doc)
{
	SCOPED(bytes_unref) struct bytes *bytes = document_bytes(l->hub, buf_str(&a->body));
	struct blob_meta meta;
	int r;

	if (!bytes)
		return -EPROTO;
	r = store_put_making_room(hub_put_of(l->hub), bytes, &meta);
	if (r < 0)
		return r;
	doc->body = meta.sha256;
	doc->body_size = meta.size;
	doc->fetched_at = a->asked_at;
	memcpy(doc->commit, l->commit, COMMIT_TEXT);
	doc->content_type = doc_type_of(a);
	xet_mark(l->hub, bytes_str(bytes), doc);
	show_document(l, a, doc);
	seen_keep_doc(l->hub, str_from(l->repo), str_from(l->key), doc);
	index_learn(l->hub->opts.index, &(struct fact){ .kind = FACT_DOC,
							.repo = str_from(l->repo),
							.path = str_from(l->key),
							.at = a->asked_at,
							.doc = doc });
	return 0;
}

static bool is_json(const struct answer *a)
{
	struct str type = headers_get(&a->last, STR("Content-Type"));

	return str_starts_with(type, STR("application/json")) ||
	       str_starts_with(type, STR("application/vnd.docker.distribution.manifest.")) ||
	       str_starts_with(type, STR("application/vnd.oci.image.")) ||
	       str_starts_with(type, STR("application/ld+json"));
}

int lesson_of_document(void *ctx, const struct answer *a)
{
	struct lesson *l = ctx;
	SCOPED(json_free) struct json *json = NULL;
	struct doc doc = { 0 };
	bool is_doubtful;
	int r;

	if (a->error)
		return a->error;
	if (a->status != 200) {
		lesson_tell_auth(l, a);
		return 0;
	}
	if (!is_json(a) || json_parse(buf_str(&a->body), &json) < 0)
		return -EPROTO;
	lesson_follow_alias(l, a);
	if (lesson_is_lent_elsewhere(l))
		return -EPROTO;
	if (lesson_is_of_another(l) || (!l->commit[0] && lesson_is_outdated(l)))
		return -ESTALE;
	is_doubtful = lesson_opens_what_was_closed(l);
	doc.link_next = link_next_of(l->hub, headers_get(&a->last, STR("Link")));
	r = l->teach ? l->teach(l, a, json, &doc) : 0;
	if (r == 0 && lesson_is_lent_elsewhere(l))
		r = -EPROTO;
	if (r == 0)
		r = keep_document(l, a, &doc);
	if (r == 0 && l->kept)
		l->kept(l, a, &doc);
	if ((!is_doubtful || l->tells_identity) && (r == 0 || r == -ENOSPC || r == -EIO))
		lesson_tell_auth(l, a);
	if (r == 0)
		hub_ask_document_for_all(l, &doc);
	doc_done(&doc);
	return r;
}
