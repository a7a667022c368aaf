/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/object - bytes by SHA-256, within one repo: LFS objects and registry blobs.
 *
 * Knowing a digest opens nothing: the door is the repo's, and that the repo holds the object is known from upstream's own word
 * about that repo. Whether the store has such a blob for another one is not looked at before both are settled (reliability N10).
 * Clients of these addresses send their token with the first request only; the next ones carry a ticket.
 */
#include "hub/priv.h"

#include <errno.h>
#include <stdio.h>
#include "common/alloc.h"

#define WHAT_TEXT (sizeof("sha256:") + 2 * SHA256_BYTES)

/* What a ticket is for, and what an object is called where it has no path. */
static void what_of(const struct digest *sha256, char ret_text[WHAT_TEXT])
{
	char hex[2 * SHA256_BYTES + 1];

	format_hex(sha256->bytes, SHA256_BYTES, hex);
	(void)snprintf(ret_text, WHAT_TEXT, "sha256:%s", hex);
}

/* --- tickets --- */

static bool has_ticket(struct str query)
{
	return uri_param(query, STR("ticket")).ptr != NULL;
}

/* The request goes on as if it had never carried one. */
static void drop_ticket(struct request *q)
{
	struct str rest = q->query, name, value;
	SCOPED_BUF target;
	char separator = '?';

	buf_init(&target, 65536);
	buf_append_str(&target, q->path);
	while (uri_next_param(&rest, &name, &value)) {
		if (str_eq(name, STR("ticket")))
			continue;
		buf_append_char(&target, separator);
		buf_appendf(&target, value.ptr ? "%.*s=%.*s" : "%.*s", STR_ARGS(name), STR_ARGS(value));
		separator = '&';
	}
	free(q->target);
	q->target = str_dup(buf_str(&target));
	uri_split_target(str_from(q->target), &q->path, &q->query);
}

void hub_take_ticket(struct hub *h, struct request *q, struct str repo, const struct digest *sha256)
{
	struct subject subject;
	char what[WHAT_TEXT];

	if (!has_ticket(q->query))
		return;
	if (sha256 && q->has_valid_subject && !q->subject.token) {
		what_of(sha256, what);
		if (auth_ticket_find(h->opts.auth, uri_param(q->query, STR("ticket")), repo, str_from(what),
				     &q->subject.peer, &subject) == 0) {
			subject_done(&q->subject);
			q->subject = subject;
		}
	}
	drop_ticket(q);
}

/* Does somebody who sends no token need one? */
static bool needs_ticket(struct hub *h, const struct request *q, struct str repo, const struct digest *sha256)
{
	struct subject nobody = { .fingerprint = "-" };
	struct refusal refusal;
	enum access_verdict verdict;

	if (!q->subject.token || q->subject.borrows == BORROWS_BY_PEER)
		return false;
	verdict = auth_may_read(h->opts.auth, &nobody, repo, ACCESS_FILES,
				fetch_is_down(h->opts.fetch) ? UPSTREAM_GONE : UPSTREAM_ANSWERS, &refusal);
	refusal_done(&refusal);
	return verdict != ACCESS_ALLOW || !seen_object_is_open(h, repo, sha256);
}

static void append_url(struct hub *h, const struct request *q, struct str repo, const struct digest *sha256,
		       struct str path, struct buf *out)
{
	char what[WHAT_TEXT], ticket[TICKET_TEXT];

	buf_append_str(out, path);
	if (!needs_ticket(h, q, repo, sha256))
		return;
	what_of(sha256, what);
	auth_ticket_new(h->opts.auth, &q->subject, repo, str_from(what), ticket);
	buf_appendf(out, "%cticket=%s", memchr(path.ptr, '?', path.len) ? '&' : '?', ticket);
}

void hub_object_url(struct hub *h, struct request *q, struct str repo, const struct digest *sha256,
		    struct str path, struct buf *out)
{
	buf_init(out, 16384);
	buf_append_str(out, str_from(q->base));
	append_url(h, q, repo, sha256, path, out);
}

/* --- serving --- */

/* The digits alone. */
static struct str after_colon(struct str what)
{
	struct str kind, hex;

	return str_cut(what, ':', &kind, &hex) ? hex : what;
}

static int serve(struct hub *h, struct request *q, const struct hub_object_kind *kind,
		 const struct hub_object *o, const struct object *known, struct reply *r)
{
	char what[WHAT_TEXT];
	SCOPED_BUF target = { 0 }, self;
	struct hub_file file = { .repo = o->repo,
				 .content = known->content,
				 .is_object = true,
				 .target = buf_str(o->target),
				 .location = buf_str(o->location),
				 .name_checked_at = clock_wall_s(h->opts.clock),
				 .class = kind->class };

	what_of(&o->sha256, what);
	file.path = known->path ? str_from(known->path) : str_from(what);
	if (known->path) {
		content_target(o->repo, str_from(known->commit), str_from(known->path), &target);
		file.target = buf_str(&target);
		file.location = STR("");
		memcpy(file.commit, known->commit, COMMIT_TEXT);
	}
	file.is_public = known->path ? seen_is_open(h, o->repo, str_from(known->commit))
				     : seen_is_open(h, o->repo, after_colon(str_from(what)));
	buf_init(&self, 16384);
	if (kind->is_registry)
		append_url(h, q, o->repo, &o->sha256, q->path, &self);
	file.self = buf_str(&self);
	return hub_serve_file(h, q, &file, r);
}

/* A registry says where its blobs are without being asked: it may be needed once more, when there is no room for the blob. */
static bool is_at_hand(struct hub *h, const struct request *q, const struct hub_object_kind *kind,
		       const struct hub_object *o, const struct object *known)
{
	struct digest ignored;

	return known->path || (q->reader && !kind->is_registry) || q->relay || o->target->len ||
	       o->location->len || known->content.size == 0 ||
	       index_find_blob(h->opts.index, &known->content, &ignored) == 0;
}

/*
 * access_error  as in hub_door()
 * is_proved     this request's own question was answered well
 * Returns 0 with a reply; -EAGAIN; 1: find_source() has to say more.
 */
static int answer_known(struct hub *h, struct request *q, const struct hub_object_kind *kind,
			struct hub_object *o, int access_error, bool is_proved, struct reply *r)
{
	enum door door = hub_door(h, q, o->repo, ACCESS_FILES, kind->class, access_error, r);
	struct sight sight = { h, q, o->repo, ACCESS_FILES, access_error };
	struct object known = { 0 };
	int result = 1;

	if (door == DOOR_CLOSED)
		return 0;
	o->must_ask = (door == DOOR_ASK && !is_proved) || seen_object(&sight, &o->sha256, &known) < 0 ||
		      hub_is_contradicted(h, &known.content);
	if (!o->must_ask && is_at_hand(h, q, kind, o, &known))
		result = serve(h, q, kind, o, &known, r);
	object_done(&known);
	return result;
}

static bool is_no_help(const struct answer *a)
{
	return a && (a->error != 0 || a->status >= 500 || a->status == 429);
}

static int answer_without_upstream(struct hub *h, struct request *q, const struct hub_object_kind *kind,
				   struct hub_object *o, struct reply *r)
{
	const struct answer *a = o->answer;
	int verdict = answer_known(h, q, kind, o, proof_error(a), false, r);

	if (verdict != 1)
		return verdict;
	q->result = RESULT_OFFLINE_MISS;
	if (a->error)
		reply_error(r, q, kind->class, a->error == -EACCES ? -EPERM : a->error, o->repo);
	else
		reply_upstream_error(r, kind->class, a);
	return 0;
}

static int ask_and_answer(struct hub *h, struct request *q, const struct hub_route *route,
			  const struct hub_object_kind *kind, struct hub_object *o, struct reply *r)
{
	int error = kind->find_source(h, q, route, o, r);

	if (error == 1)
		return 0;
	if (error == -EAGAIN)
		return error;
	if (error == 0 && is_no_help(o->answer))
		return answer_without_upstream(h, q, kind, o, r);
	if (error == 0)
		error = answer_known(h, q, kind, o, 0, true, r);
	if (error == 0 || error == -EAGAIN)
		return error;
	reply_error(r, q, kind->class, error == 1 ? -EPROTO : error, o->repo);
	return 0;
}

int hub_serve_object(struct hub *h, struct request *q, const struct hub_route *route, struct str oid_hex,
		     const struct hub_object_kind *kind, struct reply *r)
{
	SCOPED_BUF canonical = { 0 }, target, location;
	struct hub_object o = { .target = &target, .location = &location };
	int verdict;

	hub_note(q, route);
	buf_init(&target, 16384);
	buf_init(&location, 16384);
	o.repo = hub_canonical(h, q, route, &canonical);
	if (oid_hex.len != 2 * SHA256_BYTES || !str_is_lower_hex(oid_hex) ||
	    parse_hex(oid_hex, o.sha256.bytes, SHA256_BYTES) < 0) {
		reply_refuse(r, kind->class, 400, "an object is named by 64 hex digits");
		return 0;
	}
	hub_take_ticket(h, q, o.repo, &o.sha256);
	verdict = answer_known(h, q, kind, &o, hub_is_down(h, q) ? -EHOSTUNREACH : 0, false, r);
	return verdict != 1 ? verdict : ask_and_answer(h, q, route, kind, &o, r);
}
