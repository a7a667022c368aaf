/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/learn - lessons: what follows from an answer of the Hub. Runs on a work thread, once per answer.
 *
 * Never     believes an answer that contradicts itself: another commit than the one asked for, an identity
 *           that is no git or
 * SHA-256 digest, a body that is not JSON. Such an answer teaches nothing (abuse cases U02, U06, U15).
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/http/etag.h"
#include "common/json.h"

struct lesson *lesson_new(struct hub *h, const struct request *q, const struct hub_route *route,
			  struct str repo, struct str target, enum access_level proves)
{
	struct lesson *l = xcalloc(1, sizeof(*l));

	l->hub = h;
	l->asked_repo = str_dup(route->repo);
	l->repo = str_dup(repo);
	l->target = str_dup(target);
	l->revision = str_dup(route->revision);
	l->path = str_dup(route->path);
	l->subject = q->subject;
	if (l->subject.token)
		l->subject.token = secret_ref(l->subject.token);
	l->proves = proves;
	l->writes = atomic_load(&h->write_count);
	return l;
}

void lesson_free(void *p)
{
	struct lesson *l = p;

	if (!l)
		return;
	subject_done(&l->subject);
	free(l->asked_repo);
	free(l->repo);
	free(l->target);
	free(l->revision);
	free(l->path);
	free(l->key);
	free(l);
}

void learn_name(struct hub *h, struct str repo, struct str revision, struct str commit, int64_t at)
{
	struct fact f = { .kind = FACT_NAME, .repo = repo, .revision = revision, .at = at };

	if (!is_commit(commit) || revision.len == 0 || is_commit(revision))
		return;
	memcpy(f.commit, commit.ptr, COMMIT_HEX);
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

/*
 * What was asked under the client's own name was answered there: the name stands for itself now, whatever it was an old name of.
 * Not so if the answer is about a commit that the other name has too: some old names are answered in place (hub-protocol 5.3). Then
 * it stays an alias; what the answer proves is booked on the name that was asked all the same, so that nobody who copies a
 * repo opens it.
 */
static void settle_alias(const struct lesson *l, const struct answer *a)
{
	struct index *x = l->hub->opts.index;
	struct str asked = str_from(l->asked_repo);
	char ignored[COMMIT_TEXT];
	SCOPED_BUF other;

	buf_init(&other, 1024);
	if (!str_eq(asked, str_from(l->repo)) || index_canonical_repo(x, asked, 0, &other) < 0 ||
	    str_eq(buf_str(&other), asked))
		return;
	if (index_find_commit(x, buf_str(&other), headers_get(&a->last, STR("X-Repo-Commit")), ignored) < 0)
		buf_reset(&other);
	learn_alias(l->hub, asked, buf_str(&other), a->asked_at);
}

/*
 * The first hop sent us to another name of the repo, and the answer there was good: from here on the lesson is about that repo.
 * Only for good answers: what a login page or an outage redirects to is nobody's name.
 */
static void follow_alias(struct lesson *l, const struct answer *a)
{
	SCOPED_BUF scratch = { 0 };
	struct str to;

	if (a->first_status >= 200 && a->first_status < 300)
		settle_alias(l, a);
	if (a->first_status < 300 || a->first_status > 399)
		return;
	to = link_repo_of(l->hub, headers_get(&a->first, STR("Location")), str_from(l->target),
			  str_from(l->repo), &scratch);
	if (!to.ptr && is_commit(headers_get(&a->last, STR("X-Repo-Commit"))))
		settle_alias(l, a); /* to where its bytes are: of a file, the plain answer */
	if (!to.ptr || str_eq(to, str_from(l->repo)))
		return;
	learn_alias(l->hub, str_from(l->repo), to, a->asked_at);
	if (!str_eq(str_from(l->asked_repo), str_from(l->repo)) && !str_eq(str_from(l->asked_repo), to))
		learn_alias(l->hub, str_from(l->asked_repo), to, a->asked_at);
	free(l->repo);
	l->repo = str_dup(to);
}

/* It was asked before a write to the repo that has been answered since: what it says may have been true then. */
static bool is_outdated(const struct lesson *l)
{
	return hub_was_written(l->hub, str_from(l->repo), l->writes);
}

/* It was asked while another repo had this name. */
static bool is_of_another(const struct lesson *l)
{
	return hub_was_made_anew(l->hub, str_from(l->repo), l->writes);
}

/* The daemon's own token was lent for one repo, and the answer is about another: it must not be used (reliability F.2 rule 10). */
static bool is_lent_elsewhere(const struct lesson *l)
{
	return !auth_is_lent_for(l->hub->opts.auth, &l->subject, str_from(l->repo));
}

/*
 * Does the answer, to somebody without a token, open a repo to all of which only tokens have shown anything so far? If it was
 * closed and is open now, all that it held is for all; if it is another repo, none of it is. The answer does not tell which; the
 * repo's id does (info.c).
 */
static bool opens_what_was_closed(const struct lesson *l)
{
	struct index *x = l->hub->opts.index;
	struct str repo = str_from(l->repo);
	struct access_facts known = { 0 };
	SCOPED_BUF id;

	buf_init(&id, 1024);
	if (l->subject.token || index_find_identity(x, repo, &id) < 0)
		return false;
	index_find_access(x, repo, l->subject.id, &known);
	return known.public_level == ACCESS_NONE && !hub_has_seen_identity(l->hub, repo);
}

static void tell_auth(struct lesson *l, const struct answer *a)
{
	struct str code = headers_get(&a->last, STR("X-Error-Code"));

	if (is_outdated(l) && a->status < 400)
		return;
	/* that the repo may be seen follows from these as well, but not which repo that is */
	if ((str_eq(code, STR("EntryNotFound")) || str_eq(code, STR("RevisionNotFound"))) &&
	    opens_what_was_closed(l))
		return;
	auth_learn(l->hub->opts.auth, &l->subject,
		   &(struct verdict_facts){ .repo = str_from(l->repo),
					    .proves = l->proves,
					    .status = a->status,
					    .headers = &a->last,
					    .body = a->status >= 400 ? buf_str(&a->body) : STR(""),
					    .asked_at = a->asked_at });
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

/*
 * What only a token has shown so far need not be for everybody: the repo may have been closed since the public mark was set.
 * The mark becomes an old one, so that the next who has no proof of his own is asked about.
 */
static void doubt_mark(const struct lesson *l, struct str commit)
{
	struct index *x = l->hub->opts.index;
	struct access_facts known = { 0 };
	char ignored[COMMIT_TEXT];

	if (!l->subject.token || index_find_commit(x, str_from(l->repo), commit, ignored) == 0)
		return;
	index_find_access(x, str_from(l->repo), l->subject.id, &known);
	if (known.public_level > ACCESS_NONE)
		index_learn(x, &(struct fact){ .kind = FACT_PUBLIC,
					       .repo = str_from(l->repo),
					       .level = known.public_level,
					       .at = 1 });
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
	doubt_mark(l, commit);
	learn_entry(l->hub, str_from(l->repo), text, str_from(l->path), &content, a->asked_at);
	if (!is_outdated(l))
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
		follow_alias(l, a);
	if (is_lent_elsewhere(l))
		return -EPROTO;
	if (is_of_another(l))
		return -ESTALE;
	if (a->status >= 200 && a->status < 400) {
		if (opens_what_was_closed(l)) {
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
		learn_entry(l->hub, str_from(l->repo), text, str_from(l->path), NULL, a->asked_at);
		if (!is_outdated(l))
			learn_name(l->hub, str_from(l->repo), str_from(l->revision), commit, a->asked_at);
	}
	tell_auth(l, a);
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

static int keep_document(struct lesson *l, const struct answer *a, struct doc *doc)
{
	SCOPED(bytes_unref) struct bytes *bytes = document_bytes(l->hub, buf_str(&a->body));
	struct blob_meta meta;
	int r;

	if (!bytes)
		return -EPROTO;
	r = store_put_bytes(l->hub->opts.store, bytes, &meta);
	if (r < 0)
		return r;
	doc->body = meta.sha256;
	doc->body_size = meta.size;
	doc->fetched_at = a->asked_at;
	memcpy(doc->commit, l->commit, COMMIT_TEXT);
	doc->content_type = doc_type_of(a);
	index_learn(l->hub->opts.index, &(struct fact){ .kind = FACT_DOC,
							.repo = str_from(l->repo),
							.path = str_from(l->key),
							.at = a->asked_at,
							.doc = doc });
	return 0;
}

int lesson_of_proof(struct lesson *l, const struct answer *a)
{
	if (a->status < 400)
		follow_alias(l, a);
	if (is_lent_elsewhere(l))
		return -EPROTO;
	if (is_of_another(l))
		return -ESTALE;
	/* good for who asked, just now, but no proof for all */
	if (a->status >= 400 || !opens_what_was_closed(l))
		tell_auth(l, a);
	return 0;
}

int lesson_of_check(void *ctx, const struct answer *a)
{
	struct lesson *l = ctx;

	if (a->error)
		return a->error;
	if (is_lent_elsewhere(l))
		return -EPROTO;
	/* who may read is told by a plain yes, or by a refusal: not by some page that says something else */
	if (a->status == 200 || a->status == 401 || a->status == 403 || a->status == 404 || a->status == 451)
		return lesson_of_proof(l, a);
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
		tell_auth(l, a);
		return 0;
	}
	if (!is_json(a) || json_parse(buf_str(&a->body), &json) < 0)
		return -EPROTO;
	follow_alias(l, a);
	if (is_lent_elsewhere(l))
		return -EPROTO;
	if (is_of_another(l) || (!l->commit[0] && is_outdated(l)))
		return -ESTALE;
	is_doubtful = opens_what_was_closed(l);
	doc.link_next = link_next_of(l->hub, headers_get(&a->last, STR("Link")));
	r = l->teach ? l->teach(l, a, json, &doc) : 0;
	if (r == 0 && is_lent_elsewhere(l))
		r = -EPROTO;
	if (r == 0)
		r = keep_document(l, a, &doc);
	if (r == 0 && l->kept)
		l->kept(l, a, &doc);
	if ((!is_doubtful || l->tells_identity) && (r == 0 || r == -ENOSPC || r == -EIO))
		tell_auth(l, a);
	doc_done(&doc);
	return r;
}
