/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth - verdicts: what upstream said to whom, and what follows from it.
 *
 * The rules are those of a shared cache for people with different rights: a grant belongs to one subject
 * and one repo, it
 * comes from upstream's answer to that subject's own token, and it ends by itself.
 */
#include "auth/priv.h"

#include <assert.h>
#include "common/alloc.h"
#include "common/clock.h"

struct auth *auth_new(const struct auth_opts *opts)
{
	struct auth *a = xcalloc(1, sizeof(*a));

	a->index = opts->index;
	memcpy(a->key, opts->key, sizeof(a->key));
	a->clock = opts->clock;
	refusals_init(&a->refusals);
	metas_init(&a->metas);
	return a;
}

void auth_set_rules(struct auth *a, const struct auth_rules *rules)
{
	a->offline_access = rules->offline_access;
	a->offline_grace_ms = rules->offline_grace_ms;
	a->grant_ttl_ms = rules->grant_ttl_ms;
	a->public_ttl_ms = rules->public_ttl_ms;
	a->deny_ttl_ms = rules->deny_ttl_ms;
}

void auth_free(struct auth *a)
{
	if (!a)
		return;
	refusals_done(&a->refusals);
	metas_done(&a->metas);
	secret_wipe(a->key, sizeof(a->key));
	free(a);
}

/* Metadata may have been shown later than the files were proven. */
static void renew_for_metadata(struct auth *a, const struct subject *s, struct str repo,
			       struct access_facts *facts)
{
	int64_t at = metas_find(&a->metas, s->id, repo);
	bool is_granted = s->token && facts->granted >= ACCESS_META;

	if (is_granted && at > facts->granted_at)
		facts->granted_at = at;
	if (!s->token && facts->public_level >= ACCESS_META && at > facts->public_at)
		facts->public_at = at;
}

enum access_verdict auth_may_read(struct auth *a, const struct subject *s, struct str repo,
				  enum access_level level, bool upstream_is_down, struct refusal *ret_refusal)
{
	struct access_facts facts = { 0 };
	enum access_verdict verdict;

	assert(level != ACCESS_NONE);
	index_find_access(a->index, repo, s->id, &facts);
	if (level == ACCESS_META)
		renew_for_metadata(a, s, repo, &facts);
	facts.wanted = level;
	facts.denied_at = refusals_find(&a->refusals, s->id, repo, level, NULL);
	facts.is_anonymous = s->token == NULL;
	facts.now = clock_wall_s(a->clock);
	facts.upstream_is_down = upstream_is_down;
	facts.offline_access = a->offline_access;
	facts.public_ttl_ms = a->public_ttl_ms;
	facts.grant_ttl_ms = a->grant_ttl_ms;
	facts.deny_ttl_ms = a->deny_ttl_ms;
	facts.offline_grace_ms = a->offline_grace_ms;

	verdict = policy_access(&facts);
	*ret_refusal = (struct refusal){ 0 };
	if (verdict == ACCESS_DENY && facts.denied_at)
		(void)refusals_find(&a->refusals, s->id, repo, level, ret_refusal);
	return verdict;
}

static void learn_access(struct auth *a, const struct subject *s, const struct verdict_facts *v,
			 enum access_level level, int64_t at)
{
	struct fact f = { .repo = v->repo, .level = level, .at = at };

	f.kind = s->token ? FACT_GRANT : FACT_PUBLIC;
	memcpy(f.subject, s->id, SUBJECT_BYTES);
	index_learn(a->index, &f);
}

static void learn_allowed(struct auth *a, const struct subject *s, const struct verdict_facts *v,
			  enum access_level level)
{
	struct access_facts known = { 0 };

	/* asked before the last refusal and answered after it: the refusal is the younger word */
	if (refusals_find(&a->refusals, s->id, v->repo, level, NULL) > v->asked_at)
		return;
	refusals_forget(&a->refusals, s->id, v->repo);
	index_find_access(a->index, v->repo, s->id, &known);
	/* an answer about metadata says nothing about the files that were proven before, neither for nor against */
	if ((s->token ? known.granted : known.public_level) > level)
		metas_put(&a->metas, s->id, v->repo, v->asked_at);
	else
		learn_access(a, s, v, level, v->asked_at);
}

/*
 * A gated repo refuses its files and goes on showing its card: what was known about metadata stays, no younger than it was.
 * Every other refusal is about the repo itself and ends all of it.
 */
static void learn_refused(struct auth *a, const struct subject *s, const struct verdict_facts *v)
{
	bool is_gated = v->proves == ACCESS_FILES &&
			str_eq(headers_get(v->headers, STR("X-Error-Code")), STR("GatedRepo"));
	enum access_level left = is_gated ? ACCESS_META : ACCESS_NONE;
	struct access_facts known = { 0 };
	enum access_level had;

	refusals_put(&a->refusals, s->id, v);
	if (!is_gated)
		metas_forget(&a->metas, s->id, v->repo);
	index_find_access(a->index, v->repo, s->id, &known);
	had = s->token ? known.granted : known.public_level;
	if (had > left)
		learn_access(a, s, v, left, s->token ? known.granted_at : known.public_at);
}

void auth_forget_subject(struct auth *a, const struct subject *s)
{
	struct fact f = { .kind = FACT_FORGET_GRANTS, .at = clock_wall_s(a->clock) };

	memcpy(f.subject, s->id, SUBJECT_BYTES);
	index_learn(a->index, &f);
	metas_forget_subject(&a->metas, s->id);
}

bool auth_is_bad_token(int status, const struct headers *answer)
{
	return status == 401 && str_starts_with(headers_get(answer, STR("X-Error-Message")),
						STR("Invalid credentials in Authorization"));
}

void auth_learn(struct auth *a, const struct subject *s, const struct verdict_facts *v)
{
	struct str code = headers_get(v->headers, STR("X-Error-Code"));

	if (v->status >= 200 && v->status < 400) {
		learn_allowed(a, s, v, v->proves);
	} else if (v->status == 404 &&
		   (str_eq(code, STR("EntryNotFound")) || str_eq(code, STR("RevisionNotFound")))) {
		/* the repo may be seen; whether its files may be read was not asked */
		learn_allowed(a, s, v, ACCESS_META);
	} else if (v->status == 401 || v->status == 403 || v->status == 451 ||
		   (v->status == 404 && str_eq(code, STR("RepoNotFound")))) {
		if (s->token && auth_is_bad_token(v->status, v->headers))
			auth_forget_subject(a, s);
		learn_refused(a, s, v);
	}
}
