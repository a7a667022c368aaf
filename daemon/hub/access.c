/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/access - the door: every handler passes it before it looks at anything of a repo.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* Who cannot be reached is one thing; a wrong answer or none in time is told as such. */
static int why_no_proof(int upstream_error)
{
	if (upstream_error == -EHOSTUNREACH)
		return -EACCES;
	return upstream_error == -EACCES
		       ? -EPERM
		       : upstream_error; /* fetch's word for a redirect that is not allowed */
}

/* One question that fails is no outage: its client may have brought that about. */
static enum upstream_state upstream_of(const struct hub *h, int upstream_error)
{
	if (upstream_error == 0)
		return UPSTREAM_ANSWERS;
	return fetch_is_down(h->opts.fetch) ? UPSTREAM_GONE : UPSTREAM_FAILED;
}

/* What is lent may be given for the very answer that is still to come. */
static void note_whose_right(struct hub *h, struct request *q, struct str repo, enum access_level level,
			     int upstream_error, enum access_verdict verdict)
{
	if ((verdict == ACCESS_ALLOW || q->subject.is_lent) &&
	    !auth_is_own_right(h->opts.auth, &q->subject, repo, (struct str){ 0 }, level,
			       upstream_of(h, upstream_error)))
		q->is_not_for_pages = true;
}

enum door hub_door(struct hub *h, struct request *q, struct str repo, enum access_level level,
		   enum endpoint_class class, int upstream_error, struct reply *r)
{
	struct refusal refusal;
	enum access_verdict verdict;

	if (!q->has_valid_subject) {
		reply_refuse(r, class, 401,
			     "malformed Authorization field: one Bearer or Basic token is expected");
		return DOOR_CLOSED;
	}
	auth_lend(h->opts.auth, &q->subject, repo);
	verdict = auth_may_read(h->opts.auth, &q->subject, repo, level, upstream_of(h, upstream_error),
				&refusal);
	note_whose_right(h, q, repo, level, upstream_error, verdict);
	if (verdict == ACCESS_ALLOW)
		return DOOR_OPEN;
	if (verdict == ACCESS_PROBE)
		return DOOR_ASK;

	if (refusal.status) {
		reply_refusal(r, class, &refusal);
		r->cache_status = q->used_upstream ? "fwd=miss" : "hit";
		q->result = q->used_upstream ? RESULT_MISS : RESULT_NEGATIVE_HIT;
	} else {
		reply_error(r, q, class, why_no_proof(upstream_error), STR(""));
		q->result = RESULT_OFFLINE_MISS;
	}
	refusal_done(&refusal);
	return DOOR_CLOSED;
}

bool hub_is_down(const struct hub *h, const struct request *q)
{
	return q->ask_count == 0 && fetch_is_down(h->opts.fetch);
}

int proof_error(const struct answer *a)
{
	return a->error == -EBUSY ? 0 : a->error;
}

bool is_commit(struct str revision)
{
	return revision.len == COMMIT_HEX && str_is_lower_hex(revision);
}

void hub_note(struct request *q, const struct hub_route *route)
{
	if (!q->log_repo && route->repo.len)
		q->log_repo = str_dup(route->repo);
	if (!q->log_revision && route->revision.len)
		q->log_revision = str_dup(route->revision);
}

/*
 * A name that somebody gave up can be taken by somebody else, and only a question under that name tells. So an alias that was not
 * seen for this long is not followed, and the answer renews or ends it. An hour: at most so long is a new owner not reached, and
 * an old name costs one question more in that time.
 */
#define ALIAS_S 3600

struct str hub_canonical(struct hub *h, const struct request *q, const struct hub_route *route,
			 struct buf *out)
{
	/* once asked it is as young as it can be, whatever came of the question; not if that is what misled the request */
	bool is_any = (q->ask_count > 0 && !q->has_restarted) || fetch_is_down(h->opts.fetch);

	buf_init(out, 1024);
	(void)index_canonical_repo(h->opts.index, route->repo,
				   is_any ? 0 : clock_wall_s(h->opts.clock) - ALIAS_S, out);
	return buf_str(out);
}

void hub_pass_headers(const struct request *q, struct headers *to)
{
	static const char *const passed[] = { "User-Agent", "X-Amzn-Trace-Id", "Accept-Language" };

	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
		struct str value = request_header(q, str_from(passed[i]));

		if (value.ptr)
			(void)headers_add(to, str_from(passed[i]), value);
	}
	if (q->id[0])
		(void)headers_set(to, STR("X-Request-Id"), str_from(q->id));
}
