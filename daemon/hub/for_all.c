/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/for_all - may everybody see what a token has been shown?
 *
 * Only upstream's answer to somebody without a token proves that a repo is public (reliability F.2 rule 2). Where everybody has a
 * token, nobody would ever hear it, and without upstream a public repo would be for those alone who had asked for it. So after a
 * good answer to a token the Hub is asked once more, without one, in the background: for a few members of the repo's information at
 * that commit, and for a document that names neither. What the answer teaches is what it would teach if a client had asked.
 *
 * Never     makes a client wait; asks about what is open already; uses the last of a rate limit.
 * Promises  (1) at most one such question a minute for a commit or a document, and none for an hour where the Hub said that
 *               the repo is not for everybody.
 * Threads   any; the lesson on a work thread.
 */
#include "hub/lesson.h"

#include <errno.h>
#include "common/alloc.h"

/* A Space can be asked for all of it only: one of these is unknown there, which the Hub does not take. */
static const char members[] =
	"?expand%5B%5D=sha&expand%5B%5D=private&expand%5B%5D=gated&expand%5B%5D=disabled";

void hub_is_not_for_all(struct hub *h, struct str repo, bool is_not)
{
	if (is_not)
		pins_put(&h->not_for_all, repo, STR(""), clock_mono_ms(h->opts.clock));
	else
		pins_drop(&h->not_for_all, repo);
}

static bool is_known_as_open(struct hub *h, struct str repo, struct str revision)
{
	static const uint8_t nobody[SUBJECT_BYTES];
	struct access_facts access = { 0 };
	char commit[COMMIT_TEXT];

	if (is_commit(revision))
		return seen_is_open(h, repo, revision);
	if (index_find_name(h->opts.index, repo, revision, commit, NULL) == 0)
		return seen_is_open(h, repo, str_from(commit));
	index_find_access(h->opts.index, repo, nobody, &access);
	return access.public_level == ACCESS_FILES;
}

/* Was it asked a moment ago? It is now. */
static bool was_asked(struct hub *h, struct str repo, struct str what)
{
	uint64_t now = clock_mono_ms(h->opts.clock);
	char ignored[COMMIT_TEXT];
	SCOPED_BUF key;
	bool is_new;

	buf_init(&key, 16384);
	buf_append_str(&key, STR("for all "));
	buf_append_str(&key, repo);
	buf_append_char(&key, 0);
	buf_append_str(&key, what);
	is_new = !buf_error(&key) && !pins_find(&h->names, buf_str(&key), now, ignored);
	if (is_new)
		pins_put(&h->names, buf_str(&key), STR(""), now);
	return !is_new;
}

static bool is_worth_asking(struct hub *h, struct str repo, struct str what)
{
	char ignored[COMMIT_TEXT];

	return !fetch_is_down(h->opts.fetch) &&
	       !pins_find(&h->not_for_all, repo, clock_mono_ms(h->opts.clock), ignored) &&
	       !was_asked(h, repo, what);
}

static bool is_refusal(const struct answer *a)
{
	return a->status == 401 || a->status == 403 || a->status == 451 ||
	       (a->status == 404 && str_eq(headers_get(&a->last, STR("X-Error-Code")), STR("RepoNotFound")));
}

/* By now it may be another repo, or for others than when it was asked. */
static bool is_old_word(const struct lesson *l)
{
	return lesson_is_of_another(l) || lesson_is_outdated(l);
}

/*
 * A refusal ends what was believed of the repo. Its words are not kept: nobody asked, and who asks next must not see by them that
 * somebody uses the repo.
 */
static void learn_refusal(struct lesson *l, const struct answer *a)
{
	bool is_gated = str_eq(headers_get(&a->last, STR("X-Error-Code")), STR("GatedRepo"));

	hub_is_not_for_all(l->hub, str_from(l->repo), true);
	auth_narrow(l->hub->opts.auth, str_from(l->repo), is_gated ? ACCESS_META : ACCESS_NONE);
}

/* One document that is refused says little about the repo. */
static int lesson_of_document_for_all(void *ctx, const struct answer *a)
{
	const struct lesson *l = ctx;

	if (a->error == 0 && is_refusal(a) && !is_old_word(l))
		hub_is_not_for_all(l->hub, str_from(l->repo), true);
	return a->error || a->status == 200 ? lesson_of_document(ctx, a) : 0;
}

static int lesson_of_info_for_all(void *ctx, const struct answer *a)
{
	struct lesson *l = ctx;
	SCOPED(json_free) struct json *json = NULL;
	struct doc none = { 0 };
	int r;

	if (a->error)
		return a->error;
	if (is_old_word(l))
		return -ESTALE;
	if (is_refusal(a))
		learn_refusal(l, a);
	if (a->status != 200)
		return 0;
	if (json_parse(buf_str(&a->body), &json) < 0)
		return -EPROTO;
	lesson_follow_alias(l, a);
	if (is_old_word(l))
		return -ESTALE;
	r = teach_info(l, a, json, &none);
	if (r == 0)
		lesson_tell_auth(l, a);
	return r;
}

/* Takes the lesson. */
static void ask(struct lesson *for_all, int (*learn)(void *ctx, const struct answer *a))
{
	struct headers headers;
	struct question question = { .method = "GET",
				     .who = str_from(for_all->who),
				     .target = str_from(for_all->target),
				     .headers = &headers,
				     .follow = FETCH_FOLLOW_SAME_ORIGIN,
				     .is_background = true,
				     .learn = learn,
				     .learn_ctx = for_all,
				     .free_ctx = lesson_free };
	SCOPED_BUF key;

	headers_init(&headers);
	if (for_all->accept)
		(void)headers_set(&headers, STR("Accept"), str_from(for_all->accept));
	if (for_all->agent)
		(void)headers_set(&headers, STR("User-Agent"), str_from(for_all->agent));
	buf_init(&key, 32768);
	buf_append_str(&key, STR("for all "));
	buf_append_str(&key, str_from(for_all->agent ? for_all->agent : ""));
	buf_append_str(&key, question.target);
	ask_unref(ask_start(for_all->hub->opts.asks, buf_str(&key), &question));
	headers_done(&headers);
}

static struct lesson *lesson_of_nobody(const struct lesson *l, struct str revision, struct str target,
				       enum access_level proves)
{
	const struct request nobody = { .subject = { .fingerprint = "-" }, .client = l->who };
	const struct hub_route at = { .repo = str_from(l->repo), .revision = revision };

	return lesson_new(l->hub, &nobody, &at, at.repo, target, proves);
}

void hub_ask_for_all(const struct lesson *l, const struct answer *a)
{
	struct str commit = l->commit[0] ? str_from(l->commit) : headers_get(&a->last, STR("X-Repo-Commit"));
	struct str repo = str_from(l->repo), revision = is_commit(commit) ? commit : STR("main");
	SCOPED_BUF target = { 0 };

	if (!l->hub->asks_for_all || !l->subject.token || is_known_as_open(l->hub, repo, revision) ||
	    !is_worth_asking(l->hub, repo, revision))
		return;
	(void)was_asked(l->hub, repo, STR("main")); /* by this answer too, as far as the repo itself goes */
	buf_init(&target, 2048);
	buf_appendf(&target, "/api/%s/revision/%.*s%s", l->repo, STR_ARGS(revision),
		    str_starts_with(repo, STR("spaces/")) ? "" : members);
	if (!buf_error(&target))
		ask(lesson_of_nobody(l, revision, buf_str(&target), ACCESS_META), lesson_of_info_for_all);
}

/* What names no commit and no identity is for all only when it was shown without a token. */
void hub_ask_document_for_all(const struct lesson *l, const struct doc *doc)
{
	char body[SEEN_BODY_TEXT];
	struct lesson *same;

	seen_body(&doc->body, body);
	if (!l->hub->asks_for_all || !l->subject.token || !l->is_get || l->tells_identity ||
	    seen_follows_from_commit(str_from(l->key), l->commit) ||
	    auth_shown_to_all(l->hub->opts.auth, str_from(l->repo), str_from(body)) != ACCESS_NONE ||
	    !is_worth_asking(l->hub, str_from(l->repo), str_from(l->key)))
		return;
	same = lesson_of_nobody(l, str_from(l->revision), str_from(l->target), l->proves);
	same->key = str_dup(str_from(l->key));
	same->accept = l->accept ? xstrdup(l->accept) : NULL;
	same->agent = l->agent ? xstrdup(l->agent) : NULL;
	same->is_get = true;
	same->level = ACCESS_META; /* all that is known of nobody in particular */
	same->teach = l->teach;
	same->kept = l->kept;
	ask(same, lesson_of_document_for_all);
}
