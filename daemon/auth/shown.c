/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/shown - what upstream has shown to whom.
 *
 * A right is one thing, and what it is good for another. A repo can be deleted and made anew under its name while nobody asks about
 * the repo itself; who may read the new one need not have been allowed to read the old one. So what is held is given to who was
 * shown that very commit, document or object, and what was shown without a token to all who may read. Where the Hub's own id of
 * the repo is known, and a thing is known to be of that repo, it is enough to have been shown the repo.
 *
 * Never     is a right: policy_access() wants both.
 * Threads   any; the state is the index's.
 */
#include "auth/priv.h"

static const uint8_t anybody[SUBJECT_BYTES];

static enum access_level higher(enum access_level a, enum access_level b)
{
	return a > b ? a : b;
}

static bool is_of_repo(struct index *x, struct str repo, struct str what)
{
	int64_t at = 0, last = 0;
	enum access_level level = index_find_shown(x, repo, SHOWN_ITSELF, what, &at);

	if (level != ACCESS_META)
		return level == ACCESS_FILES;
	return index_find_shown(x, repo, SHOWN_ITSELF, SHOWN_REPO, &last) != ACCESS_NONE && at < last;
}

void shown_find(struct index *x, const struct subject *s, struct str repo, struct str what,
		struct access_facts *facts)
{
	bool is_its;

	facts->is_of_thing = true;
	facts->shown_to_all = index_find_shown(x, repo, anybody, what, NULL);
	if (facts->shown_to_all >= facts->wanted)
		return;
	is_its = is_of_repo(x, repo, what);
	if (is_its)
		facts->shown_to_all =
			higher(facts->shown_to_all, index_find_shown(x, repo, anybody, SHOWN_REPO, NULL));
	if (!s->token)
		return;
	facts->shown_to_it = index_find_shown(x, repo, s->id, what, NULL);
	if (is_its)
		facts->shown_to_it =
			higher(facts->shown_to_it, index_find_shown(x, repo, s->id, SHOWN_REPO, NULL));
}

enum access_level auth_shown_to_all(struct auth *a, struct str repo, struct str what)
{
	struct access_facts facts = { .wanted = ACCESS_FILES };
	struct subject nobody = { .token = NULL };

	shown_find(a->index, &nobody, repo, what, &facts);
	return facts.shown_to_all;
}

void shown_hide(struct index *x, const struct subject *s, struct str repo, enum access_level level,
		int64_t now)
{
	struct fact f = { .kind = FACT_HIDE, .repo = repo, .level = level, .at = now };

	if (s && s->token)
		memcpy(f.subject, s->id, SUBJECT_BYTES);
	index_learn(x, &f);
}

void auth_shown(struct auth *a, const struct subject *s, struct str repo, struct str what,
		enum access_level level, int64_t at)
{
	struct fact f = {
		.kind = FACT_SHOWN, .repo = repo, .path = what, .level = level, .at = at * 1000000
	};

	if (s && s->token)
		memcpy(f.subject, s->id, SUBJECT_BYTES);
	if (level != ACCESS_NONE && index_find_shown(a->index, repo, f.subject, what, NULL) < level)
		index_learn(a->index, &f);
}

/* --- of which repo it is -------------------------------------------------------------------------------------- */

static void learn_of_itself(struct auth *a, struct str repo, struct str what, enum access_level level,
			    int64_t at)
{
	struct fact f = { .kind = FACT_SHOWN, .repo = repo, .path = what, .level = level, .at = at };

	memcpy(f.subject, SHOWN_ITSELF, SUBJECT_BYTES);
	index_learn(a->index, &f);
}

void auth_identity_seen(struct auth *a, struct str repo, int64_t asked, int64_t heard)
{
	int64_t last = 0;

	if (index_find_shown(a->index, repo, SHOWN_ITSELF, SHOWN_SINCE, NULL) == ACCESS_NONE)
		learn_of_itself(a, repo, SHOWN_SINCE, ACCESS_FILES, heard);
	(void)index_find_shown(a->index, repo, SHOWN_ITSELF, SHOWN_REPO, &last);
	if (asked > last)
		learn_of_itself(a, repo, SHOWN_REPO, ACCESS_FILES, asked);
}

void auth_belongs(struct auth *a, struct str repo, struct str what, int64_t heard)
{
	if (index_find_shown(a->index, repo, SHOWN_ITSELF, what, NULL) != ACCESS_FILES)
		learn_of_itself(a, repo, what, ACCESS_FILES, heard);
}

void auth_may_belong(struct auth *a, struct str repo, struct str what, int64_t asked, int64_t heard)
{
	int64_t since;

	if (index_find_shown(a->index, repo, SHOWN_ITSELF, SHOWN_SINCE, &since) == ACCESS_NONE ||
	    since > asked || index_find_shown(a->index, repo, SHOWN_ITSELF, what, NULL) != ACCESS_NONE)
		return;
	learn_of_itself(a, repo, what, ACCESS_META, heard);
}
