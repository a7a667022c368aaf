/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shares - the rule in shares.h.
 */
#include "common/shares.h"

#include <assert.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

void shares_init(struct shares *s, unsigned max)
{
	*s = (struct shares){ .max = max, .by_who = map_new() };
}

void shares_done(struct shares *s)
{
	map_free(s->by_who, free);
	s->by_who = NULL;
}

bool shares_may_take(const struct shares *s, struct str who)
{
	const unsigned *count = who.len ? map_get(s->by_who, who) : NULL;

	return s->taken < s->max && (!count || *count < s->max - s->taken);
}

bool shares_take(struct shares *s, struct str who)
{
	unsigned *count;

	if (!shares_may_take(s, who))
		return false;
	s->taken++;
	if (!who.len)
		return true;
	count = map_get(s->by_who, who);
	if (!count) {
		count = xcalloc(1, sizeof(*count));
		(void)map_put(s->by_who, who, count);
	}
	++*count;
	return true;
}

void shares_give(struct shares *s, struct str who)
{
	unsigned *count = who.len ? map_get(s->by_who, who) : NULL;

	assert(s->taken > 0 && (!who.len || count));
	s->taken--;
	if (count && --*count == 0)
		free(map_take(s->by_who, who));
}
