/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/seen - what is known of a repo, through the eyes of who asks.
 *
 * The door says whether a subject may read the repo that has this name now. Whether something that is held is of that repo only
 * upstream can say, so nothing is told to who was not shown it (auth/shown.c): for him it is not known, and the question that
 * follows goes upstream with his own token. An answer to a token that changes a name or a document does not take the one before
 * from those who were shown only that: it is kept beside the new one, under a name that no ref can have.
 *
 * Threads   any.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* A request that has asked in vain runs again from its top, and upstream is still gone then. */
static enum upstream_state upstream_of(const struct sight *s)
{
	if (fetch_is_down(s->hub->opts.fetch))
		return UPSTREAM_GONE;
	return s->upstream_error == 0 ? UPSTREAM_ANSWERS : UPSTREAM_FAILED;
}

bool seen_may_tell(const struct sight *s, struct str what)
{
	struct auth *auth = s->hub->opts.auth;
	const struct subject *who = &s->request->subject;
	enum upstream_state upstream = upstream_of(s);

	if (!auth_may_see(auth, who, s->repo, what, s->level, upstream))
		return false;
	/* it may have been shown to the daemon's own token only, or to nobody */
	if ((who->is_lent || upstream == UPSTREAM_GONE) &&
	    !auth_is_own_right(auth, who, s->repo, what, s->level, upstream))
		s->request->is_not_for_pages = true;
	return true;
}

bool seen_is_open(struct hub *h, struct str repo, struct str what)
{
	static const uint8_t nobody[SUBJECT_BYTES];
	struct access_facts access = { 0 };

	index_find_access(h->opts.index, repo, nobody, &access);
	return access.public_level == ACCESS_FILES &&
	       auth_shown_to_all(h->opts.auth, repo, what) == ACCESS_FILES;
}

/* That a path is not there is seen in the listing. */
int seen_entry(const struct sight *s, struct str commit, struct str path, struct content_id *ret_content)
{
	int r = index_find_entry(s->hub->opts.index, s->repo, commit, path, ret_content);
	struct sight sight = *s;

	if (r == -ENOENT)
		sight.level = ACCESS_META;
	return r == -ENODATA || seen_may_tell(&sight, commit) ? r : -ENODATA;
}

/* --- one before --- */

static struct str name_before(struct str revision, struct buf *out)
{
	buf_init(out, 8192);
	buf_append_str(out, STR("refs/.before/"));
	buf_append_str(out, revision);
	return buf_str(out);
}

static struct str doc_before(struct str key, struct buf *out)
{
	buf_init(out, 65536);
	buf_append_str(out, STR("m:.before/"));
	buf_append_str(out, key);
	return buf_str(out);
}

static enum access_level open_level(struct hub *h, struct str repo, struct str what)
{
	return auth_shown_to_all(h->opts.auth, repo, what);
}

void seen_keep_name(struct hub *h, struct str repo, struct str revision, struct str commit)
{
	struct fact f = { .kind = FACT_NAME, .repo = repo };
	char before[COMMIT_TEXT];
	SCOPED_BUF name = { 0 };

	if (index_find_name(h->opts.index, repo, revision, f.commit, &f.at) < 0 ||
	    str_eq(str_from(f.commit), commit) || open_level(h, repo, commit) == ACCESS_FILES)
		return;
	f.revision = name_before(revision, &name);
	f.at = index_seen_at(f.at);
	/* what everybody may see stays until something else that everybody may see takes its place */
	if (index_find_name(h->opts.index, repo, f.revision, before, NULL) < 0 ||
	    open_level(h, repo, str_from(before)) <= open_level(h, repo, str_from(f.commit)))
		index_learn(h->opts.index, &f);
}

int seen_name(const struct sight *s, struct str revision, char ret_commit[COMMIT_TEXT],
	      int64_t *ret_checked_at)
{
	struct index *x = s->hub->opts.index;
	struct sight sight = *s;
	char commit[COMMIT_TEXT];
	SCOPED_BUF name = { 0 };
	int64_t at;

	/* Where a name stands is seen in listings; who saw it there is not told that it stands where it stood before. */
	sight.level = ACCESS_META;
	if (index_find_name(x, s->repo, revision, commit, &at) < 0)
		return -ENODATA;
	if (!seen_may_tell(&sight, str_from(commit))) {
		if (index_find_name(x, s->repo, name_before(revision, &name), commit, &at) < 0 ||
		    !seen_may_tell(&sight, str_from(commit)))
			return -ENODATA;
		at = -index_seen_at(at); /* it has moved since */
	}
	memcpy(ret_commit, commit, COMMIT_TEXT);
	if (ret_checked_at)
		*ret_checked_at = at;
	return 0;
}

/* --- documents --- */

bool seen_follows_from_commit(struct str key, const char *commit)
{
	return str_starts_with(key, STR("c:")) && !str_starts_with(key, STR("c:revision")) && commit[0];
}

/* What stands for a document. */
static struct str doc_what(struct str key, const struct doc *doc, char text[SEEN_BODY_TEXT])
{
	if (seen_follows_from_commit(key, doc->commit))
		return str_from(doc->commit);
	seen_body(&doc->body, text);
	return str_from(text);
}

static bool may_tell_doc(const struct sight *s, struct str key, const struct doc *doc)
{
	char text[SEEN_BODY_TEXT];

	return seen_may_tell(s, doc_what(key, doc, text));
}

bool seen_doc_is_open(const struct sight *s, struct str key, const struct doc *doc)
{
	char text[SEEN_BODY_TEXT];

	return open_level(s->hub, s->repo, doc_what(key, doc, text)) >= s->level;
}

void seen_keep_doc(struct hub *h, struct str repo, struct str key, const struct doc *doc)
{
	struct doc old = { 0 }, before = { 0 };
	char text[SEEN_BODY_TEXT];
	SCOPED_BUF name = { 0 };
	enum access_level level;

	if (!str_starts_with(key, STR("m:")) || index_find_doc(h->opts.index, repo, key, &old) < 0)
		return;
	level = open_level(h, repo, doc_what(key, &old, text));
	if (!digest_eq(&old.body, &doc->body) &&
	    open_level(h, repo, doc_what(key, doc, text)) != ACCESS_FILES &&
	    (index_find_doc(h->opts.index, repo, doc_before(key, &name), &before) < 0 ||
	     open_level(h, repo, doc_what(key, &before, text)) <= level))
		index_learn(h->opts.index, &(struct fact){ .kind = FACT_DOC,
							   .repo = repo,
							   .path = buf_str(&name),
							   .at = index_seen_at(old.fetched_at),
							   .doc = &old });
	doc_done(&before);
	doc_done(&old);
}

int seen_doc(const struct sight *s, struct str key, struct doc *ret_doc)
{
	struct index *x = s->hub->opts.index;
	struct doc doc = { 0 };
	SCOPED_BUF name = { 0 };
	bool may_tell;

	if (index_find_doc(x, s->repo, key, &doc) < 0)
		return -ENODATA;
	may_tell = may_tell_doc(s, key, &doc);
	if (!may_tell && str_starts_with(key, STR("m:"))) {
		doc_done(&doc);
		if (index_find_doc(x, s->repo, doc_before(key, &name), &doc) < 0)
			return -ENODATA;
		may_tell = may_tell_doc(s, key, &doc);
		doc.fetched_at = -index_seen_at(doc.fetched_at);
	}
	if (!may_tell) {
		doc_done(&doc);
		return -ENODATA;
	}
	*ret_doc = doc;
	return 0;
}

/* --- objects --- */

void seen_body(const struct digest *sha256, char ret_text[SEEN_BODY_TEXT])
{
	format_hex(sha256->bytes, SHA256_BYTES, ret_text);
}

struct place_search {
	const struct sight *sight; /* NULL: what everybody has been shown */
	struct hub *hub;
	struct str repo;
	struct object found;
};

/* Has who asks been shown a commit that has it? */
static int look_at_place(void *ctx, const struct object *o)
{
	struct place_search *s = ctx;
	bool is_shown = s->sight ? seen_may_tell(s->sight, str_from(o->commit))
				 : open_level(s->hub, s->repo, str_from(o->commit)) == ACCESS_FILES;

	if (!is_shown)
		return 0;
	s->found = *o;
	s->found.path = xstrdup(o->path);
	return 1;
}

/* Who was shown only the object is not told where it lies. */
int seen_object(const struct sight *s, const struct digest *sha256, struct object *ret_object)
{
	struct place_search search = { .sight = s };
	struct index *x = s->hub->opts.index;
	char text[SEEN_BODY_TEXT];
	struct object found = { 0 };

	if (index_find_object(x, s->repo, sha256, &found) < 0)
		return -ENODATA;
	seen_body(sha256, text);
	if (found.path && seen_may_tell(s, str_from(found.commit))) {
		*ret_object = found;
		return 0;
	}
	object_done(&found);
	found.commit[0] = 0;
	if (seen_may_tell(s, str_from(text))) {
		*ret_object = found;
		return 0;
	}
	if (index_object_each(x, s->repo, sha256, look_at_place, &search) == 0)
		return -ENODATA;
	*ret_object = search.found;
	return 0;
}

bool seen_object_is_open(struct hub *h, struct str repo, const struct digest *sha256)
{
	struct place_search search = { .hub = h, .repo = repo };
	char text[SEEN_BODY_TEXT];
	struct object found = { 0 };
	bool is_open;

	seen_body(sha256, text);
	is_open = index_find_object(h->opts.index, repo, sha256, &found) == 0 && found.path &&
		  open_level(h, repo, str_from(found.commit)) == ACCESS_FILES;
	is_open = is_open || open_level(h, repo, str_from(text)) == ACCESS_FILES ||
		  index_object_each(h->opts.index, repo, sha256, look_at_place, &search) != 0;
	object_done(&found);
	object_done(&search.found);
	return is_open;
}
