/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shares - a fixed number of places, and how many of them one client may have. Not locked: the owner locks.
 *
 * The rule: nobody takes another place who has as many as are free. Alone a client gets half of them; n clients who want as many
 * as they can get have 1/(n+1) each, and as many stay free for who comes next. No number has to be chosen, and none is wasted on
 * clients that are not there.
 *
 * Who       is an address as a rule, so that tokens made up for the purpose do not help. All who come through one proxy are one.
 *           Empty: nobody in particular, as what we ask for ourselves; it takes any place that is free.
 */
#pragma once
#include "common/map.h"

struct shares {
	unsigned max, taken;
	struct map *by_who; /* of those who have any */
};

void shares_init(struct shares *s, unsigned max);
/* Whatever is taken is given back. */
void shares_done(struct shares *s);
bool shares_may_take(const struct shares *s, struct str who);
/* Returns whether there was a place for it. */
bool shares_take(struct shares *s, struct str who);
/* One of those that it took. */
void shares_give(struct shares *s, struct str who);
