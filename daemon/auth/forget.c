/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/forget - what is over when somebody has written: a repo was made, moved, deleted, or shown to others than before.
 */
#include "auth/priv.h"

#include "common/clock.h"

void auth_forget_repo(struct auth *a, struct str repo)
{
	int64_t now = clock_wall_s(a->clock);

	index_learn(a->index,
		    &(struct fact){ .kind = FACT_PUBLIC, .repo = repo, .level = ACCESS_NONE, .at = now });
	shown_hide(a->index, NULL, repo, ACCESS_NONE, now);
	index_learn(a->index, &(struct fact){ .kind = FACT_FORGET_GRANTS, .repo = repo, .at = now });
	metas_forget_repo(&a->metas, repo);
	refusals_forget_repo(&a->refusals, repo);
}

void auth_narrow(struct auth *a, struct str repo, enum access_level level)
{
	static const uint8_t nobody[SUBJECT_BYTES];
	struct access_facts known = { 0 };

	index_find_access(a->index, repo, nobody, &known);
	if (known.public_level > level)
		index_learn(a->index,
			    &(struct fact){ .kind = FACT_PUBLIC, .repo = repo, .level = level, .at = 1 });
	shown_hide(a->index, NULL, repo, level, clock_wall_s(a->clock));
}
