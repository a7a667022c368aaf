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

static struct name_state look_up_name(struct hub *h, const struct request *q, const struct hub_route *route,
				      struct str repo, bool is_down)
{
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
	s.is_known = index_find_name(h->opts.index, repo, route->revision, s.commit, &s.checked_at) == 0 ||
		     (is_down && index_find_commit(h->opts.index, repo, route->revision, s.commit) == 0);
	facts.is_held = s.is_known;
	facts.checked_at = s.checked_at;
	fresh = policy_freshness(&facts);
	s.is_usable = s.is_known && fresh == FRESH_USE;
	s.is_stale = s.is_usable && facts.now - s.checked_at > (int64_t)(facts.ttl_ms / 1000);
	return s;
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
	struct access_facts access = { 0 };
	SCOPED_BUF target;
	struct hub_file file = { .repo = repo, .path = route->path, .content = *content };

	content_target(repo, str_from(name->commit), route->path, &target);
	index_find_access(h->opts.index, repo, q->subject.id, &access);
	memcpy(file.commit, name->commit, COMMIT_TEXT);
	file.is_branch_url = !is_commit(route->revision);
	file.is_public = access.public_level == ACCESS_FILES;
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
	bool is_just_proved; /* this request's own question was answered well: that is the proof, however short its life */
};

/* Tries to answer from what is known. Returns 0 with a reply, -EAGAIN, or 1: upstream must be asked. */
static int answer_from_index(struct hub *h, struct request *q, const struct hub_route *route,
			     struct situation now, struct reply *r)
{
	SCOPED_BUF canonical;
	struct str repo = hub_canonical(h, q, route, &canonical);
	struct content_id content;
	struct name_state name;
	enum door door = hub_door(h, q, repo, ACCESS_FILES, ENDPOINT_FILE, now.access_error, r);
	int known;

	if (door == DOOR_CLOSED)
		return 0;
	name = look_up_name(h, q, route, repo, now.name_is_down);
	if (!name.is_usable)
		return 1;
	known = index_find_entry(h->opts.index, repo, str_from(name.commit), route->path, &content);
	if (known == 0 && (q->distrusts_entries || hub_is_contradicted(h, &content)))
		return 1; /* upstream may have another word by now */
	if (known == 0 && door == DOOR_OPEN)
		return serve(h, q, route, repo, &name, &content, r);
	/* that a path does not exist is metadata: whoever may list the tree may know it */
	if (known == -ENOENT && (door == DOOR_OPEN || hub_door(h, q, repo, ACCESS_META, ENDPOINT_FILE,
							       now.access_error, r) == DOOR_OPEN)) {
		reply_entry_not_found(r, name.commit);
		doc_set_privacy(h, q, repo, ACCESS_META, r);
		r->cache_status = q->used_upstream ? "fwd=miss" : "hit";
		q->result = q->used_upstream ? RESULT_MISS : RESULT_NEGATIVE_HIT;
		return 0;
	}
	return 1;
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

/* One list of refusals, and one wording, whether this one was heard just now or before (reliability F.2 rule 7). */
static void refuse(struct hub *h, struct request *q, const struct hub_route *route,
		   const struct answer *answer, struct reply *r)
{
	SCOPED_BUF canonical;
	struct str repo = hub_canonical(h, q, route, &canonical);

	if (hub_door(h, q, repo, ACCESS_FILES, ENDPOINT_FILE, 0, r) != DOOR_CLOSED)
		reply_upstream_error(r, ENDPOINT_FILE, answer);
}

int hub_resolve(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
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
			refuse(h, q, route, answer, r);
			return 0;
		}
		verdict = answer->learned == 0
				  ? answer_from_index(h, q, route, (struct situation){ .name_is_down = true },
						      r)
				  : 1;
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

int hub_resolve_cache(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	if (!is_commit(route->revision)) {
		reply_refuse(r, ENDPOINT_FILE, 400, "a resolve-cache URL holds a commit of 40 hex digits");
		return 0;
	}
	return hub_resolve(h, q, route, r);
}
