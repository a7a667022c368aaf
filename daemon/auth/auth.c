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
#include "common/log.h"

struct auth *auth_new(const struct auth_opts *opts)
{
	struct auth *a = xcalloc(1, sizeof(*a));

	a->index = opts->index;
	memcpy(a->key, opts->key, sizeof(a->key));
	a->clock = opts->clock;
	refusals_init(&a->refusals);
	metas_init(&a->metas);
	lock_init(&a->lock, LOCK_AUTH);
	knocks_init(&a->knocks);
	tickets_init(&a->tickets);
	return a;
}

#define SWAP(a, b)                                                                                           \
	do {                                                                                                 \
		__typeof__(a) swapped_ = (a);                                                                \
		(a) = (b);                                                                                   \
		(b) = swapped_;                                                                              \
	} while (0)

void auth_set_rules(struct auth *a, const struct auth_rules *rules)
{
	struct acl *acl = acl_ref(rules->acl);
	struct lender *lender = lender_ref(rules->lender);

	if (lender)
		lender_name(lender, a->key);
	lock_take(&a->lock);
	SWAP(a->acl, acl);
	SWAP(a->lender, lender);
	lock_drop(&a->lock);
	acl_unref(acl);
	lender_unref(lender);
	a->has_lender = rules->lender != NULL;
	a->refuses_clear_tokens = rules->refuses_clear_tokens;
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
	knocks_done(&a->knocks);
	acl_unref(a->acl);
	lender_unref(a->lender);
	lock_done(&a->lock);
	tickets_done(&a->tickets);
	secret_wipe(a->key, sizeof(a->key));
	free(a);
}

static bool is_listed(struct auth *a, const struct subject *s, struct str repo)
{
	struct acl *acl;
	bool allows;

	lock_take(&a->lock);
	acl = acl_ref(a->acl);
	lock_drop(&a->lock);
	allows = acl_allows(acl, s, repo);
	acl_unref(acl);
	return allows;
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

static bool is_young(const struct auth *a, int64_t refused_at)
{
	int64_t age_s = clock_wall_s(a->clock) - refused_at;

	return age_s < 0 || (uint64_t)age_s * 1000 < a->deny_ttl_ms;
}

/* what.ptr NULL: the repo itself. */
static struct access_facts facts_of(struct auth *a, const struct subject *s, struct str repo, struct str what,
				    enum access_level level, enum upstream_state upstream)
{
	struct access_facts facts = { 0 };

	assert(level != ACCESS_NONE);
	index_find_access(a->index, repo, s->id, &facts);
	if (level == ACCESS_META)
		renew_for_metadata(a, s, repo, &facts);
	facts.wanted = level;
	facts.denied_at = refusals_find(&a->refusals, s->id, repo, level, NULL);
	facts.is_anonymous = s->token == NULL;
	facts.now = clock_wall_s(a->clock);
	facts.upstream_is_down = upstream != UPSTREAM_ANSWERS;
	facts.upstream_is_gone = upstream == UPSTREAM_GONE;
	facts.offline_access = a->offline_access;
	facts.is_listed =
		facts.upstream_is_gone && facts.offline_access == OFFLINE_ACL && is_listed(a, s, repo);
	facts.public_ttl_ms = a->public_ttl_ms;
	facts.grant_ttl_ms = a->grant_ttl_ms;
	facts.deny_ttl_ms = a->deny_ttl_ms;
	facts.offline_grace_ms = a->offline_grace_ms;
	if (what.ptr)
		shown_find(a->index, s, repo, what, &facts);
	return facts;
}

enum access_verdict auth_may_read(struct auth *a, const struct subject *s, struct str repo,
				  enum access_level level, enum upstream_state upstream,
				  struct refusal *ret_refusal)
{
	struct access_facts facts = facts_of(a, s, repo, (struct str){ 0 }, level, upstream);
	enum access_verdict verdict = policy_access(&facts);

	*ret_refusal = (struct refusal){ 0 };
	/* an old one is no knowledge: without upstream nobody can say that it still holds */
	if (verdict == ACCESS_DENY && facts.denied_at && is_young(a, facts.denied_at))
		(void)refusals_find(&a->refusals, s->id, repo, level, ret_refusal);
	return verdict;
}

bool auth_may_see(struct auth *a, const struct subject *s, struct str repo, struct str what,
		  enum access_level level, enum upstream_state upstream)
{
	struct access_facts facts = facts_of(a, s, repo, what, level, upstream);

	return policy_access(&facts) == ACCESS_ALLOW;
}

/* A line of the list that names the token is about what the page sent; one that names an address is not. */
bool auth_is_own_right(struct auth *a, const struct subject *s, struct str repo, struct str what,
		       enum access_level level, enum upstream_state upstream)
{
	struct subject bare = { .token = s->is_lent ? NULL : s->token };
	struct access_facts facts;

	if (bare.token)
		memcpy(bare.id, s->id, SUBJECT_BYTES);
	facts = facts_of(a, &bare, repo, what, level, upstream);
	if (facts.offline_access == OFFLINE_OPEN)
		facts.offline_access = OFFLINE_GRANTS;
	return policy_access(&facts) == ACCESS_ALLOW;
}

static void learn_access(struct auth *a, const struct subject *s, const struct verdict_facts *v,
			 enum access_level level, int64_t at)
{
	struct fact f = { .repo = v->repo, .level = level, .at = at };

	f.kind = s->token ? FACT_GRANT : FACT_PUBLIC;
	memcpy(f.subject, s->id, SUBJECT_BYTES);
	index_learn(a->index, &f);
}

/* It has ended: what was shown for it is no reason to show it again when somebody else has the name and opens it. */
static void learn_fallen(struct auth *a, const struct subject *s, const struct verdict_facts *v,
			 enum access_level level, int64_t at)
{
	if (at)
		learn_access(a, s, v, level, at);
	shown_hide(a->index, s, v->repo, level, clock_wall_s(a->clock));
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
	if (had > left || index_find_shown(a->index, v->repo, s->id, SHOWN_REPO, NULL) > left)
		learn_fallen(a, s, v, left, s->token ? known.granted_at : known.public_at);
}

static void forget_subject(struct auth *a, const struct subject *s)
{
	struct fact f = { .kind = FACT_FORGET_GRANTS, .at = clock_wall_s(a->clock) };

	memcpy(f.subject, s->id, SUBJECT_BYTES);
	index_learn(a->index, &f);
	metas_forget_subject(&a->metas, s->id);
}

/* The daemon's own token is no good: the administrator is told, and nobody is held up by it. */
static void lent_token_is_bad(struct auth *a, const struct subject *s)
{
	struct lender *l = lender_now(a);

	if (l && memcmp(l->id, s->id, SUBJECT_BYTES) == 0) {
		lender_refused(l, clock_mono_ms(a->clock));
		log_warning("auth", "upstream does not take the token of hub.token-credential", LOG_END);
	}
	lender_unref(l);
}

static void lent_token_is_good(struct auth *a, const struct subject *s)
{
	struct lender *l = lender_now(a);

	if (l && memcmp(l->id, s->id, SUBJECT_BYTES) == 0)
		atomic_store(&l->is_bad, false);
	lender_unref(l);
}

bool auth_own_token_is_bad(struct auth *a)
{
	struct lender *l = lender_now(a);
	bool is_bad = l && atomic_load(&l->is_bad);

	lender_unref(l);
	return is_bad;
}

void auth_heard(struct auth *a, const struct subject *s, int status, const struct headers *answer)
{
	bool is_bad = status == 401 && str_starts_with(headers_get(answer, STR("X-Error-Message")),
						       STR("Invalid credentials in Authorization"));

	if (!s->token)
		return;
	if (is_bad)
		forget_subject(a, s);
	if (s->is_lent) {
		if (is_bad)
			lent_token_is_bad(a, s);
		else if (status >= 200 && status < 400)
			lent_token_is_good(a, s);
	} else if (status == 401) {
		knocks_bad(&a->knocks, s, clock_mono_ms(a->clock));
	} else if (status >= 200 && status < 500 && status != 429) {
		knocks_good(&a->knocks, s);
	}
}

void auth_refused(struct auth *a, const struct subject *s, struct str repo)
{
	struct access_facts known = { 0 };
	struct verdict_facts v = { .repo = repo, .asked_at = clock_wall_s(a->clock) };

	index_find_access(a->index, repo, s->id, &known);
	if (s->token && known.granted == ACCESS_FILES)
		learn_fallen(a, s, &v, ACCESS_META, known.granted_at);
	if (!s->token && known.public_level == ACCESS_FILES)
		learn_fallen(a, s, &v, ACCESS_META, known.public_at);
}

void auth_learn(struct auth *a, const struct subject *s, const struct verdict_facts *v)
{
	struct str code = headers_get(v->headers, STR("X-Error-Code"));

	auth_heard(a, s, v->status, v->headers);
	if (!auth_is_lent_for(a, s, v->repo))
		return; /* the question went on to another repo than the one that the token was lent for */
	if (v->status >= 200 && v->status < 400) {
		learn_allowed(a, s, v, v->proves);
	} else if (v->status == 404 &&
		   (str_eq(code, STR("EntryNotFound")) || str_eq(code, STR("RevisionNotFound")))) {
		/* the repo may be seen; whether its files may be read was not asked */
		learn_allowed(a, s, v, ACCESS_META);
	} else if (v->status == 401 || v->status == 403 || v->status == 451 ||
		   (v->status == 404 && str_eq(code, STR("RepoNotFound")))) {
		learn_refused(a, s, v);
	}
}
