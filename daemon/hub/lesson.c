/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/lesson - what any answer of the Hub says, whatever it is about: of which repo it speaks, whether it is still true, whom it
 * proves what, and what it shows to whom. What it says of files and documents is learn.c's.
 *
 * Threads   a work thread, once per answer.
 */
#include "hub/lesson.h"

#include <errno.h>
#include "common/alloc.h"

/* Microseconds since 1970, of a clock that gives each time once: after a restart it goes on from what is on disk (hub_new). */
static int64_t next_tick(struct hub *h)
{
	int64_t now = clock_wall_s(h->opts.clock) * 1000000, last = atomic_load(&h->tick), next;

	do
		next = now > last ? now : last + 1;
	while (!atomic_compare_exchange_weak(&h->tick, &last, next));
	return next;
}

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
	l->who = str_dup(str_from(q->client));
	l->proves = proves;
	l->writes = atomic_load(&h->write_count);
	l->asked = next_tick(h);
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
	free(l->accept);
	free(l->agent);
	free(l->who);
	free(l);
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
void lesson_follow_alias(struct lesson *l, const struct answer *a)
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
bool lesson_is_outdated(const struct lesson *l)
{
	return hub_was_written(l->hub, str_from(l->repo), l->writes);
}

/* It was asked while another repo had this name. */
bool lesson_is_of_another(const struct lesson *l)
{
	return hub_was_made_anew(l->hub, str_from(l->repo), l->writes);
}

/* The daemon's own token was lent for one repo, and the answer is about another: it must not be used (reliability F.2 rule 10). */
bool lesson_is_lent_elsewhere(const struct lesson *l)
{
	return !auth_is_lent_for(l->hub->opts.auth, &l->subject, str_from(l->repo));
}

/*
 * Does the answer, to somebody without a token, open a repo to all of which only tokens have shown anything so far? If it was
 * closed and is open now, all that it held is for all; if it is another repo, none of it is. The answer does not tell which; the
 * repo's id does (info.c).
 */
bool lesson_opens_what_was_closed(const struct lesson *l)
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

void lesson_tell_auth(struct lesson *l, const struct answer *a)
{
	struct str code = headers_get(&a->last, STR("X-Error-Code"));

	if (lesson_is_outdated(l) && a->status < 400)
		return;
	/* that the repo may be seen follows from these as well, but not which repo that is */
	if ((str_eq(code, STR("EntryNotFound")) || str_eq(code, STR("RevisionNotFound"))) &&
	    lesson_opens_what_was_closed(l))
		return;
	auth_learn(l->hub->opts.auth, &l->subject,
		   &(struct verdict_facts){ .repo = str_from(l->repo),
					    .proves = l->proves,
					    .status = a->status,
					    .headers = &a->last,
					    .body = a->status >= 400 ? buf_str(&a->body) : STR(""),
					    .asked_at = a->asked_at });
	if (a->status < 400)
		hub_ask_for_all(l, a);
}

/*
 * What only a token has shown so far need not be for everybody: the repo may have been closed since the public mark was set.
 * The mark becomes an old one, so that the next who has no proof of his own is asked about.
 */
void lesson_doubt_mark(const struct lesson *l, struct str commit)
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

int lesson_of_proof(struct lesson *l, const struct answer *a)
{
	if (a->status < 400)
		lesson_follow_alias(l, a);
	if (lesson_is_lent_elsewhere(l))
		return -EPROTO;
	if (lesson_is_of_another(l))
		return -ESTALE;
	/* good for who asked, just now, but no proof for all */
	if (a->status >= 400 || !lesson_opens_what_was_closed(l))
		lesson_tell_auth(l, a);
	return 0;
}

int lesson_of_check(void *ctx, const struct answer *a)
{
	struct lesson *l = ctx;

	if (a->error)
		return a->error;
	if (lesson_is_lent_elsewhere(l))
		return -EPROTO;
	/* who may read is told by a plain yes, or by a refusal: not by some page that says something else */
	if (a->status == 200 || a->status == 401 || a->status == 403 || a->status == 404 || a->status == 451)
		return lesson_of_proof(l, a);
	return 0;
}

/* --- what it shows, and to whom --------------------------------------------------------------------------------- */

static int64_t heard(struct lesson *l)
{
	if (l->heard == 0)
		l->heard = next_tick(l->hub);
	return l->heard;
}

void lesson_shows(struct lesson *l, struct str what, enum access_level level, int64_t at)
{
	struct auth *a = l->hub->opts.auth;

	auth_shown(a, &l->subject, str_from(l->repo), what, level, at);
	auth_may_belong(a, str_from(l->repo), what, l->asked, heard(l));
}

void lesson_opens(struct lesson *l, struct str what, enum access_level level, int64_t at)
{
	auth_shown(l->hub->opts.auth, NULL, str_from(l->repo), what, level, at);
}

void lesson_belongs(struct lesson *l, struct str what)
{
	auth_belongs(l->hub->opts.auth, str_from(l->repo), what, heard(l));
}

void lesson_identifies(struct lesson *l)
{
	auth_identity_seen(l->hub->opts.auth, str_from(l->repo), l->asked, heard(l));
}

void learn_object(struct lesson *l, const struct content_id *content, int64_t at)
{
	struct fact f = { .kind = FACT_OBJECT, .repo = str_from(l->repo), .content = *content, .at = at };
	char body[SEEN_BODY_TEXT];

	seen_body(&content->sha256, body);
	lesson_shows(l, str_from(body), ACCESS_FILES, at);
	index_learn(l->hub->opts.index, &f);
}
