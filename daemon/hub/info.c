/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/info - /api/{kind}/{id} and /api/{kind}/{id}/revision/{revision}.
 *
 * Repo information tells four more things: the canonical id, the commit of the revision, whether everybody may read the files
 * (a yes only when nobody in particular asked, a no whoever asked), and whether it is still the repo that it was.
 */
#include "hub/lesson.h"
#include "hub/space.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/json.h"

/* Of the Hub's own ids: 24 hex digits today. */
#define REPO_ID_MAX 128

/* An anonymous answer that says "neither private, gated nor disabled" opens the files to everybody
 * (hub-protocol 4.3 rule 2). */
static bool says_public(const struct lesson *l, const struct json *json)
{
	const struct json *disabled = json_get(json, "disabled");

	return !l->subject.token && json_is_false(json_get(json, "private")) &&
	       json_is_false(json_get(json, "gated")) && (!disabled || json_is_false(disabled));
}

/* What the answer, whoever asked, says that everybody may see at most. */
static enum access_level open_level(const struct json *json)
{
	const struct json *disabled = json_get(json, "disabled"), *gated = json_get(json, "gated");

	if (json_is_true(json_get(json, "private")) || json_is_true(disabled))
		return ACCESS_NONE;
	return gated && !json_is_false(gated) ? ACCESS_META : ACCESS_FILES;
}

/*
 * The Hub's word to one is good for all when it closes the repo: the public mark must not outlive it, offline least of all. The
 * mark becomes an old one, so that whoever has no token is asked about again.
 */
static void narrow_mark(const struct lesson *l, const struct json *json)
{
	enum access_level level = open_level(json);
	struct access_facts known = { 0 };

	index_find_access(l->hub->opts.index, str_from(l->repo), l->subject.id, &known);
	if (known.public_level > level ||
	    auth_shown_to_all(l->hub->opts.auth, str_from(l->repo), SHOWN_REPO) > level)
		auth_narrow(l->hub->opts.auth, str_from(l->repo), level);
}

/*
 * The repo itself was shown: with it, whatever is known to be of it, as far as who asked may read it. Of a gated one the answer
 * does not say whether he may read its files; if he did since the same repo was shown to him before, he may.
 */
static void show_repo(struct lesson *l, const struct json *json, int64_t at)
{
	struct index *x = l->hub->opts.index;
	struct access_facts known = { 0 };
	enum access_level level = ACCESS_META;
	int64_t shown_at = 0;

	if (json_is_false(json_get(json, "gated")) && !json_is_true(json_get(json, "disabled"))) {
		level = l->subject.token || says_public(l, json) ? ACCESS_FILES : ACCESS_META;
	} else if (index_find_shown(x, str_from(l->repo), l->subject.id, SHOWN_REPO, &shown_at)) {
		index_find_access(x, str_from(l->repo), l->subject.id, &known);
		if (l->subject.token && known.granted == ACCESS_FILES &&
		    known.granted_at > shown_at / 1000000 && known.granted_at < at)
			level = ACCESS_FILES;
	}
	lesson_identifies(l);
	lesson_shows(l, SHOWN_REPO, level, at);
	if (l->opens)
		lesson_opens(l, SHOWN_REPO, l->opens, at);
}

static bool is_plain_id(struct str id)
{
	for (size_t i = 0; i < id.len; i++)
		if (id.ptr[i] <= ' ' || id.ptr[i] >= 0x7f)
			return false;
	return id.len > 0 && id.len <= REPO_ID_MAX;
}

/*
 * A repo that was deleted and made anew has another id under the same name: what was proved about the old one is void, also to
 * those who will not ask for a while (reliability F.2 rule 5), and nothing that the old one held is to be had under its name, by
 * nobody: who may read the new one need not have been allowed to read that.
 */
static void end_if_made_anew(struct lesson *l, const struct json *json, int64_t at)
{
	struct str id = json_string(json_get(json, "_id")), repo = str_from(l->repo);
	SCOPED_BUF known;

	buf_init(&known, REPO_ID_MAX);
	if (!is_plain_id(id))
		return;
	l->is_identified = true;
	if (index_find_identity(l->hub->opts.index, repo, &known) == 0 && !str_eq(buf_str(&known), id)) {
		log_warning("hub", "a repo was made anew under an old name: all that was known of it is void",
			    LOG_STR("repo", repo), LOG_END);
		hub_made_anew(l->hub, repo);
		l->writes = atomic_load(&l->hub->write_count); /* this answer is the younger word */
	}
	index_learn(l->hub->opts.index,
		    &(struct fact){ .kind = FACT_IDENTITY, .repo = repo, .to = id, .at = at });
}

/* Nothing is said, or it is a string of the right kind. A repo without a commit may have "sha": null. */
static bool is_sound(const struct json *json)
{
	const struct json *id = json_get(json, "id"), *sha = json_get(json, "sha");

	if (!json_is_object(json) || (id && !json_is_string(id)))
		return false;
	if (!json_is_string(sha))
		return !json_is_object(sha) && !json_is_array(sha);
	return is_commit(json_string(sha));
}

/*
 * The answer names the repo it is about. Another spelling or an old name becomes an alias; a name that stands for itself again,
 * because somebody else has taken it, stops being one.
 */
static int settle_name(struct lesson *l, struct str id, int64_t at)
{
	struct str kind, rest, asked = str_from(l->asked_repo);
	SCOPED_BUF named;

	buf_init(&named, 1024);
	str_cut(str_from(l->repo), '/', &kind, &rest);
	buf_appendf(&named, "%.*s/%.*s", STR_ARGS(kind), STR_ARGS(id));
	if (buf_error(&named) || !link_is_repo_id(id))
		return -EPROTO;
	if (!str_eq(buf_str(&named), str_from(l->repo))) {
		free(l->repo);
		l->repo = str_dup(buf_str(&named));
	}
	learn_alias(l->hub, asked, buf_str(&named), at);
	return 0;
}

int teach_info(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	struct str id = json_string(json_get(json, "id")), sha = json_string(json_get(json, "sha")),
		   revision = str_from(l->revision);

	if (!is_sound(json))
		return -EPROTO;
	if (is_commit(revision) && sha.len && !str_eq(sha, revision))
		return -EPROTO;
	if (id.len && settle_name(l, id, a->asked_at) < 0)
		return -EPROTO;
	/* by now it may be about another name than the one that was looked at first */
	if (hub_was_made_anew(l->hub, str_from(l->repo), l->writes))
		return -ESTALE;
	hub_saw_identity(l->hub, str_from(l->repo), l->writes);
	l->tells_identity = true;
	end_if_made_anew(l, json, a->asked_at);
	if (is_commit(sha))
		memcpy(l->commit, sha.ptr, COMMIT_HEX);
	narrow_mark(l, json);
	if (json_is_false(json_get(json, "private")))
		l->opens = open_level(json);
	if (open_level(json) != ACCESS_FILES || l->opens == ACCESS_FILES)
		hub_is_not_for_all(l->hub, str_from(l->repo), l->opens != ACCESS_FILES);
	if (l->is_identified)
		show_repo(l, json, a->asked_at);
	if (is_commit(sha)) {
		lesson_shows(l, sha, ACCESS_META, a->asked_at);
		if (l->opens)
			lesson_opens(l, sha, l->opens, a->asked_at);
		if (l->is_identified)
			lesson_belongs(l, sha);
	}
	learn_name(l->hub, str_from(l->repo), revision.len ? revision : STR("main"), sha, a->asked_at);
	if (says_public(l, json))
		l->proves = ACCESS_FILES;
	return 0;
}

/* "c:revision/<commit>?<the query of key>" */
static int pinned_key(struct str key, struct str commit, struct buf *out)
{
	struct str path, query;

	uri_split_target(key, &path, &query);
	return doc_key(out, true, "revision", commit, STR(""), query);
}

/* What a branch says is what its commit says: who asks for the commit later need not ask upstream again. */
static void keep_pinned(struct lesson *l, const struct answer *a, const struct doc *doc)
{
	struct doc held = { 0 };
	SCOPED_BUF key = { 0 };

	if (!l->commit[0] || str_starts_with(str_from(l->key), STR("c:")) ||
	    pinned_key(str_from(l->key), str_from(l->commit), &key) < 0)
		return;
	if (index_find_doc(l->hub->opts.index, str_from(l->repo), buf_str(&key), &held) < 0)
		index_learn(l->hub->opts.index, &(struct fact){ .kind = FACT_DOC,
								.repo = str_from(l->repo),
								.path = buf_str(&key),
								.at = a->asked_at,
								.doc = doc });
	doc_done(&held);
}

/* The key of what is known about the commit that a name is taken for. *out is initialised here; empty: none. */
static struct str stand_in_of(struct hub *h, struct request *q, const struct doc_spec *spec,
			      struct str revision, struct buf *out)
{
	struct sight sight = { h, q, spec->repo, ACCESS_META, -EHOSTUNREACH };
	char commit[COMMIT_TEXT];

	buf_init(out, 0);
	if (spec->is_pinned || spec->is_unkept)
		return STR("");
	if (seen_name(&sight, revision.len ? revision : STR("main"), commit, NULL) < 0 &&
	    index_find_commit(h->opts.index, spec->repo, revision, commit) < 0)
		return STR("");
	return pinned_key(spec->key, str_from(commit), out) < 0 ? STR("") : buf_str(out);
}

static int serve_info(struct hub *h, struct request *q, const struct hub_route *route, uint64_t ttl_ms,
		      struct str query, const struct answer **ret_misfit, struct reply *r)
{
	SCOPED_BUF canonical, key, target, stand_in;
	struct doc_spec spec = { .class = ENDPOINT_API,
				 .method = "GET",
				 .ttl_ms = ttl_ms,
				 .teach = teach_info,
				 .asks_old_name = true,
				 .kept = keep_pinned,
				 .ret_misfit = ret_misfit };
	bool has_revision = route->revision.len > 0;

	hub_note(q, route);
	spec.repo = hub_canonical(h, q, route, &canonical);
	spec.is_pinned = is_commit(route->revision);
	buf_init(&stand_in, 0);
	buf_init(&target, 16384);
	buf_appendf(&target, "/api/%.*s", STR_ARGS(route->repo));
	if (has_revision) {
		buf_append_str(&target, STR("/revision/"));
		uri_encode(route->revision, NULL, &target);
	}
	if (doc_question(&spec, has_revision ? "revision" : "info", route->revision, STR(""), query, &key,
			 &target, r) != 0)
		return 0;
	spec.stand_in = stand_in_of(h, q, &spec, route->revision, &stand_in);
	if (spec.is_pinned)
		memcpy(spec.commit, route->revision.ptr, COMMIT_HEX);
	return hub_serve_document(h, q, route, &spec, r);
}

/* The commit that the answer to a question for another one is about. */
static bool commit_told(const struct answer *a, char ret_commit[COMMIT_TEXT])
{
	SCOPED(json_free) struct json *json = NULL;
	struct str sha =
		json_parse(buf_str(&a->body), &json) == 0 ? json_string(json_get(json, "sha")) : STR("");

	if (a->status != 200 || !is_commit(sha))
		return false;
	memcpy(ret_commit, sha.ptr, COMMIT_HEX);
	ret_commit[COMMIT_HEX] = 0;
	return true;
}

/*
 * Asked for a commit, upstream told of another one: wrong, unless there is a branch of that name (resolve.c says why). Then what
 * it stands at is asked for by its commit, and nothing is kept under the name.
 */
int hub_serve_info(struct hub *h, struct request *q, const struct hub_route *route, uint64_t ttl_ms,
		   struct str query, struct reply *r)
{
	const struct answer *misfit = NULL;
	int error = serve_info(h, q, route, ttl_ms, query, &misfit, r);
	char stands_at[COMMIT_TEXT], ignored[COMMIT_TEXT];
	struct hub_route at = *route;

	if (error != 0 || !misfit || !is_commit(route->revision) || r->status < 500 ||
	    !commit_told(misfit, stands_at))
		return error;
	error = hub_find_odd_name(h, q, route, ignored);
	if (error < 0 && error != -EAGAIN)
		return 0;
	reply_done(r);
	reply_init(r);
	if (error == -EAGAIN)
		return error;
	at.revision = str_from(stands_at);
	return serve_info(h, q, &at, ttl_ms, query, NULL, r);
}

/* A name that moves: when it was last looked at counts, unless nobody can be asked. */
static bool find_name(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
		      bool is_down, int upstream_error, char ret_commit[COMMIT_TEXT])
{
	struct sight sight = { h, q, repo, ACCESS_META, upstream_error };
	struct freshness_facts facts = { .now = clock_wall_s(h->opts.clock),
					 .ttl_ms = h->name_ttl_ms,
					 .upstream_is_down = is_down };

	facts.is_held = seen_name(&sight, route->revision, ret_commit, &facts.checked_at) == 0;
	if (facts.is_held)
		return policy_freshness(&facts) == FRESH_USE;
	return is_down && index_find_commit(h->opts.index, repo, route->revision, ret_commit) == 0;
}

int hub_commit_of(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
		  char ret_commit[COMMIT_TEXT], struct reply *r)
{
	bool is_down = fetch_is_down(h->opts.fetch);
	SCOPED_BUF canonical;
	int error;

	buf_init(&canonical, 0);
	if (is_commit(route->revision)) {
		memcpy(ret_commit, route->revision.ptr, COMMIT_HEX);
		ret_commit[COMMIT_HEX] = 0;
		return 0;
	}
	if (find_name(h, q, route, repo, is_down, is_down ? -EHOSTUNREACH : 0, ret_commit))
		return 0;
	error = hub_serve_info(h, q, route, h->name_ttl_ms, STR(""), r);
	if (error == -EAGAIN)
		return -EAGAIN;
	/* the document itself is not wanted, only what it taught; or, when upstream was no help, what was known before.
	 * Who may see what follows from it, the door decides. */
	if (r->status != 200 && q->result != RESULT_OFFLINE_MISS)
		return 1;
	if (find_name(h, q, route, hub_canonical(h, q, route, &canonical), true,
		      r->status == 200 ? 0 : -EHOSTUNREACH, ret_commit)) {
		reply_done(r);
		reply_init(r);
		return 0;
	}
	if (r->status == 200) {
		reply_done(r);
		reply_init(r);
		reply_error(r, q, ENDPOINT_API, -EPROTO, route->revision);
	}
	return 1;
}

int hub_ask_identity(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct hub_route repo = { .kind = route->kind, .id = route->id, .repo = route->repo };
	int error = hub_serve_info(h, q, &repo, h->doc_ttl_ms, STR(""), r);

	if (error == -EAGAIN)
		return -EAGAIN;
	if (r->status != 200)
		return 1;
	reply_done(r);
	reply_init(r);
	return 0;
}

int hub_repo_info(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	if (str_eq(route->kind, STR("spaces")))
		return space_info(h, q, route, h->doc_ttl_ms, r);
	return hub_serve_info(h, q, route, h->doc_ttl_ms, q->query, r);
}

int hub_revision_info(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	if (str_eq(route->kind, STR("spaces")))
		return space_info(h, q, route, h->name_ttl_ms, r);
	return hub_serve_info(h, q, route, h->name_ttl_ms, q->query, r);
}
