/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer - the room's rules.
 */
#include "infer/priv.h"

#include "common/alloc.h"

struct infer *infer_new(const struct infer_opts *opts)
{
	struct infer *i = xcalloc(1, sizeof(*i));

	i->opts = *opts;
	lock_init(&i->lock, LOCK_REQUEST);
	shelf_init(&i->shelf);
	return i;
}

void infer_free(struct infer *i)
{
	if (!i)
		return;
	shelf_done(&i->shelf);
	lock_done(&i->lock);
	free(i);
}

void infer_set_rules(struct infer *i, const struct infer_rules *rules)
{
	SCOPED_LOCK(&i->lock);

	i->rules = *rules;
}

struct infer_rules infer_rules_of(struct infer *i)
{
	SCOPED_LOCK(&i->lock);

	return i->rules;
}
