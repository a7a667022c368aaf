/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/resolve - /{repo}/resolve/{revision}/{path}: the road that everything else is there for.
 *
 * One HEAD upstream, with the client's own token, answers three questions at once: may this token read it,
 * which commit is the
 * revision, what is the file called (hub-protocol 2.1). Afterwards the facts are in the index and no call
 * is made while they live.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* What is known about a revision before anything is asked. */
struct name_state {
	bool is_known;
	bool is_usable; /* fresh, a commit, or nobody can be asked */
	bool is_stale;  /* used only because nobody can be asked */
	int64_t checked_at;
	char commit[COMMIT_TEXT];
};

/* Who has written sees what it wrote: its pins from before are not found any more. */
static void pin_key(struct hub *h, const struct request *q, const struct hub_route *route, struct buf *out)
{
	SCOPED_BUF canonical = { 0 };

	buf_init(out, 8192);
	buf_append_str(out, str_from(q->client));
	buf_append_char(out, 0);
	buf_append(out, q->subject.id, SUBJECT_BYTES);
	buf_append_str(out, route->repo);
	buf_append_char(out, 0);
	buf_append_str(out, route->revision);
	if (atomic_load(&h->write_count))
		hub_write_mark(h, q, hub_canonical(h, q, route, &canonical), out);
}

/* A GET for one byte is what some clients send in HEAD's place. */
static bool is_probe(const struct request *q)
{
	return q->is_head || str_eq(request_header(q, STR("Range")), STR("bytes=0-0"));
}

static bool find_pin(struct hub *h, const struct request *q, const struct hub_route *route,
		     char ret_commit[COMMIT_TEXT])
{
	SCOPED_BUF key;

	pin_key(h, q, route, &key);
	return !is_probe(q) && pins_find(&h->names, buf_str(&key), clock_mono_ms(h->opts.clock), ret_commit);
}

static void put_pin(struct hub *h, const struct request *q, const struct hub_route *route,
		    const char commit[COMMIT_TEXT])
{
	SCOPED_BUF key;

	pin_key(h, q, route, &key);
	if (is_probe(q) && !is_commit(route->revision))
		pins_put(&h->names, buf_str(&key), str_from(commit), clock_mono_ms(h->opts.clock));
}

static struct name_state look_up_name(const struct sight *sight, const struct hub_route *route, bool is_down)
{
	struct sight listed = *sight; /* where a name leads is no more than the listing says */
	struct hub *h = sight->hub;
	const struct request *q = sight->request;
	struct name_state s = { .checked_at = clock_wall_s(h->opts.clock) };
	struct freshness_facts facts = { .now = s.checked_at,
					 .ttl_ms = h->name_ttl_ms,
					 .upstream_is_down = is_down };
	enum freshness fresh;

	if (is_commit(route->revision)) {
		memcpy(s.commit, route->revision.ptr, COMMIT_HEX);
		s.is_known = s.is_usable = true;
		return s;
	}
	if (find_pin(h, q, route, s.commit)) {
		s.is_known = s.is_usable = true;
		return s;
	}
	listed.level = ACCESS_META;
	s.is_known =
		seen_name(&listed, route->revision, s.commit, &s.checked_at) == 0 ||
		(is_down && index_find_commit(h->opts.index, sight->repo, route->revision, s.commit) == 0);
	facts.is_held = s.is_known;
	facts.checked_at = s.checked_at;
	fresh = policy_freshness(&facts);
	s.is_usable = s.is_known && fresh == FRESH_USE;
	s.is_stale = s.is_usable && facts.now - s.checked_at > (int64_t)(facts.ttl_ms / 1000);
	return s;
}

/* --- paths that are not there ---------------------------------------------------------------------------- */

/*
 * Of a path that is there upstream's refusal is told to who may not read it, so of one that is not there too: the two must not
 * differ, though the tree may be for all (reliability F.2 rules 1, 3, 7). Whom upstream itself told it, and only that subject, is
 * told again.
 */
static void absent_key(const struct request *q, struct str repo, struct str commit, struct str path,
		       struct buf *out)
{
	buf_init(out, 16384);
	buf_append_str(out, STR("absent "));
	buf_append(out, q->subject.id, SUBJECT_BYTES);
	buf_append_str(out, commit);
	buf_append_str(out, repo);
	buf_append_char(out, 0);
	buf_append_str(out, path);
}

static bool has_heard_absent(struct hub *h, const struct request *q, struct str repo,
			     const struct name_state *name, struct str path)
{
	char ignored[COMMIT_TEXT];
	SCOPED_BUF key;

	absent_key(q, repo, str_from(name->commit), path, &key);
	return !buf_error(&key) && pins_find(&h->names, buf_str(&key), clock_mono_ms(h->opts.clock), ignored);
}

static void note_absent(struct hub *h, const struct request *q, const struct hub_route *route,
			const struct answer *answer)
{
	struct str commit = headers_get(&answer->last, STR("X-Repo-Commit"));
	SCOPED_BUF canonical, key;
	struct str repo = hub_canonical(h, q, route, &canonical);

	absent_key(q, repo, commit, route->path, &key);
	if (answer->status == 404 && is_commit(commit) && !buf_error(&key) &&
	    str_eq(headers_get(&answer->last, STR("X-Error-Code")), STR("EntryNotFound")))
		pins_put(&h->names, buf_str(&key), commit, clock_mono_ms(h->opts.clock));
}

void content_target(struct str repo, struct str revision, struct str path, struct buf *out)
{
	buf_init(out, 16384);
	if (str_starts_with(repo, STR("models/")))
		repo = str_from_range(repo.ptr + strlen("models/"), repo.ptr + repo.len);
	buf_appendf(out, "/%.*s/resolve/", STR_ARGS(repo));
	uri_encode(revision, NULL, out);
	buf_append_char(out, '/');
	uri_encode_path(path, out);
}

static int serve(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
		 const struct name_state *name, const struct content_id *content, struct reply *r)
{
	SCOPED_BUF target;
	struct hub_file file = { .repo = repo, .path = route->path, .content = *content };

	content_target(repo, str_from(name->commit), route->path, &target);
	memcpy(file.commit, name->commit, COMMIT_TEXT);
	file.is_branch_url = !is_commit(route->revision);
	file.is_public = seen_is_open(h, repo, str_from(name->commit));
	file.was_stale = name->is_stale;
	file.name_checked_at = name->checked_at;
	file.target = buf_str(&target);
	put_pin(h, q, route, name->commit);
	return hub_serve_file(h, q, &file, r);
}

/* What upstream can be asked for, and what it has just said. */
struct situation {
	int access_error;  /* why nobody can be asked for a proof; 0: somebody can */
	bool name_is_down; /* nobody can be asked where the branch stands */
};

static int tell_absent(struct hub *h, struct request *q, struct str repo, const struct name_state *name,
		       struct reply *r)
{
	reply_entry_not_found(r, name->commit);
	doc_set_privacy(h, q, repo, ACCESS_FILES, r);
	r->cache_status = q->used_upstream ? "fwd=miss" : "hit";
	q->result = q->used_upstream ? RESULT_MISS : RESULT_NEGATIVE_HIT;
	return 0;
}

/* To who has heard it, though not that he may read the files that are there. 1: upstream must be asked. */
static int tell_absent_again(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
			     struct situation now, struct reply *r)
{
	struct sight sight = { h, q, repo, ACCESS_META, now.access_error };
	struct name_state name = look_up_name(&sight, route, now.name_is_down);

	if (!name.is_usable || !has_heard_absent(h, q, repo, &name, route->path) ||
	    hub_door(h, q, repo, ACCESS_META, ENDPOINT_FILE, now.access_error, r) != DOOR_OPEN)
		return 1;
	return tell_absent(h, q, repo, &name, r);
}

/* Tries to answer from what is known. Returns 0 with a reply, -EAGAIN, or 1: upstream must be asked. */
static int answer_from_index(struct hub *h, struct request *q, const struct hub_route *route,
			     struct situation now, struct reply *r)
{
	SCOPED_BUF canonical;
	struct str repo = hub_canonical(h, q, route, &canonical);
	struct content_id content;
	struct name_state name;
	struct sight sight = { h, q, repo, ACCESS_FILES, now.access_error };
	enum door door = hub_door(h, q, repo, ACCESS_FILES, ENDPOINT_FILE, now.access_error, r);
	int known;

	if (door == DOOR_CLOSED)
		return 0;
	name = look_up_name(&sight, route, now.name_is_down);
	if (!name.is_usable)
		return tell_absent_again(h, q, route, repo, now, r);
	known = seen_entry(&sight, str_from(name.commit), route->path, &content);
	if (known == 0 && (q->distrusts_entries || hub_is_contradicted(h, &content)))
		return 1; /* upstream may have another word by now */
	if (known == 0 && door == DOOR_OPEN)
		return serve(h, q, route, repo, &name, &content, r);
	if (known == -ENOENT && door == DOOR_OPEN)
		return tell_absent(h, q, repo, &name, r);
	return known < 0 ? tell_absent_again(h, q, route, repo, now, r) : 1;
}

/* is_again: the first answer could not be used before it was known which repo it is about. */
static int ask_upstream(struct hub *h, struct request *q, const struct hub_route *route, bool is_again,
			const struct answer **ret_answer)
{
	SCOPED_BUF canonical, target, key;
	struct str repo = hub_canonical(h, q, route, &canonical);
	struct headers extra;
	struct question question = { .method = "HEAD",
				     .token = q->subject.token,
				     .headers = &extra,
				     .follow = FETCH_FOLLOW_SAME_ORIGIN,
				     .learn = lesson_of_resolve,
				     .learn_ctx = NULL,
				     .free_ctx = lesson_free };
	int r;

	/* under the name that the answer is booked on: the old one may be somebody else's by now */
	content_target(repo, route->revision, route->path, &target);
	question.target = buf_str(&target);
	question.learn_ctx = lesson_new(h, q, route, repo, buf_str(&target), ACCESS_FILES);
	buf_init(&key, 32768);
	buf_append_str(&key, STR("resolve "));
	buf_append(&key, q->subject.id, SUBJECT_BYTES);
	buf_append_str(&key, buf_str(&target));
	if (is_again)
		buf_append_str(&key, STR(" again"));
	hub_write_mark(h, NULL, repo, &key);
	headers_init(&extra);
	hub_pass_headers(q, &extra);
	r = request_ask(q, h->opts.asks, buf_str(&key), &question, ret_answer);
	headers_done(&extra);
	return r;
}

/*
 * The repo that an old name stands for is no more, or not for this subject: the old name may have been taken by another repo, and
 * is asked for itself, once. The alias is not ended: it counts as one that was not seen for long, so the answer under the old name
 * renews or ends it, and without upstream it is followed as ever.
 */
static bool is_misled_by_alias(struct hub *h, struct request *q, const struct hub_route *route,
			       struct reply *r)
{
	struct str code = headers_get(&r->headers, STR("X-Error-Code"));
	SCOPED_BUF canonical = { 0 };
	struct str repo = hub_canonical(h, q, route, &canonical);

	/*
	 * Heard just now, not remembered: so often only as upstream is asked. And not where the daemon's own token would be lent
	 * for the old name: it would go to where that leads.
	 */
	if (q->has_restarted || q->ask_count == 0 || q->subject.borrows || str_eq(repo, route->repo) ||
	    (r->status != 401 && r->status != 404) || str_eq(code, STR("GatedRepo")) ||
	    str_eq(code, STR("EntryNotFound")) || str_eq(code, STR("RevisionNotFound")))
		return false;
	learn_alias(h, route->repo, repo, 1);
	q->has_restarted = true;
	reply_done(r);
	reply_init(r);
	return true;
}

/* One list of refusals, and one wording, whether this one was heard just now or before (reliability F.2 rule 7). */
static void refuse(struct hub *h, struct request *q, const struct hub_route *route,
		   const struct answer *answer, struct reply *r)
{
	SCOPED_BUF canonical;
	struct str repo = hub_canonical(h, q, route, &canonical);

	if (hub_door(h, q, repo, ACCESS_FILES, ENDPOINT_FILE, 0, r) != DOOR_CLOSED)
		reply_upstream_error(r, ENDPOINT_FILE, answer);
}

static bool is_of_another_commit(const struct hub_route *route, const struct answer *answer)
{
	struct str commit = headers_get(&answer->last, STR("X-Repo-Commit"));

	return is_commit(route->revision) && is_commit(commit) && !str_eq(commit, route->revision);
}

static int resolve(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);

/*
 * Asked for a commit, upstream answered about another one. It is wrong, unless there is a branch of that name: then what it says
 * is asked for by that commit, so that nothing is ever kept under the name; and the name is asked for each time, and without
 * upstream not known. 1: there is no such branch.
 */
static int resolve_odd_name(struct hub *h, struct request *q, const struct hub_route *route,
			    const struct answer *answer, struct reply *r)
{
	struct hub_route at = *route;
	char stood_at[COMMIT_TEXT];
	int error = hub_find_odd_name(h, q, route, stood_at);

	if (error != 0)
		return error == -EAGAIN ? error : 1;
	at.revision = headers_get(&answer->last, STR("X-Repo-Commit"));
	error = resolve(h, q, &at, r);
	if (error == 0 && str_starts_with(headers_get(&r->headers, STR("Cache-Control")), STR("public")))
		(void)headers_set(&r->headers, STR("Cache-Control"), STR("no-cache"));
	return error;
}

/* What was learned well is old again before the bytes have come, where its life is a second: it is asked for a second time. */
static int answer_once_more(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	const struct answer *answer;
	int error = ask_upstream(h, q, route, true, &answer);

	if (error < 0)
		return error == -EAGAIN ? error : 1;
	if (answer->error || answer->status >= 400 || answer->learned < 0)
		return 1;
	return answer_from_index(h, q, route, (struct situation){ .name_is_down = true }, r);
}

static int resolve(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	bool is_down = hub_is_down(h, q);
	const struct answer *answer;
	int verdict, error;

	hub_note(q, route);
	verdict = answer_from_index(
		h, q, route,
		(struct situation){ .access_error = is_down ? -EHOSTUNREACH : 0, .name_is_down = is_down },
		r);
	if (verdict != 1)
		return verdict;

	error = ask_upstream(h, q, route, false, &answer);
	if (error == 0 && answer->learned == -EXDEV) {
		error = hub_ask_identity(h, q, route, r);
		if (error != 0)
			return error < 0 ? error : 0;
		error = ask_upstream(h, q, route, true, &answer);
	}
	if (error < 0)
		return error == -EAGAIN ? -EAGAIN : (reply_error(r, q, ENDPOINT_FILE, error, route->path), 0);
	q->distrusts_entries = false;
	if (answer->error == 0 && answer->status < 500 && answer->status != 429) {
		if (answer->status >= 400) {
			note_absent(h, q, route, answer);
			refuse(h, q, route, answer, r);
			return 0;
		}
		if (answer->learned == -EPROTO && is_of_another_commit(route, answer)) {
			verdict = resolve_odd_name(h, q, route, answer, r);
			if (verdict != 1)
				return verdict;
		}
		verdict = answer->learned == 0
				  ? answer_from_index(h, q, route, (struct situation){ .name_is_down = true },
						      r)
				  : 1;
		if (verdict == 1 && answer->learned == 0)
			verdict = answer_once_more(h, q, route, r);
		if (verdict != 1)
			return verdict;
		reply_error(r, q, ENDPOINT_FILE, answer->learned ? answer->learned : -EPROTO, route->path);
		return 0;
	}
	/* upstream is no help: what is held is served to those whose right is known */
	verdict = answer_from_index(
		h, q, route, (struct situation){ .access_error = proof_error(answer), .name_is_down = true },
		r);
	if (verdict != 1)
		return verdict;
	q->result = RESULT_OFFLINE_MISS;
	if (answer->error)
		reply_error(r, q, ENDPOINT_FILE, answer->error == -EACCES ? -EPERM : answer->error,
			    route->path);
	else
		reply_upstream_error(r, ENDPOINT_FILE, answer);
	return 0;
}

int hub_resolve(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	int error = resolve(h, q, route, r);

	return error == 0 && is_misled_by_alias(h, q, route, r) ? -ERESTART : error;
}

int hub_resolve_cache(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	if (!is_commit(route->revision)) {
		reply_refuse(r, ENDPOINT_FILE, 400, "a resolve-cache URL holds a commit of 40 hex digits");
		return 0;
	}
	return hub_resolve(h, q, route, r);
}
