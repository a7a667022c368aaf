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
	index_learn(a->index, &(struct fact){ .kind = FACT_FORGET_GRANTS, .repo = repo, .at = now });
	metas_forget_repo(&a->metas, repo);
	refusals_forget_repo(&a->refusals, repo);
}
