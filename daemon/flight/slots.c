/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots - how many transfers run at once over all flights, and whose turn it is when there are too many.
 *
 * A flight that finds no free slot stands in line, once. A slot that becomes free is given to the first in
 * line whose client has not its share yet, and which goes to the end if it wants another: so eight ranges of one file do not
 * keep seven other files waiting, and many files of one client not those of others.
 * Owns      flights->running and flights->line, flight->slots.
 * Threads   the fetch thread; is_in_line is written under the flight's lock, for flight_post_turn().
 * Promises  (1) a slot is taken by a running transfer, or by a flight in whose next turn it is used or given
 *               on.
 */
#include <assert.h>

#include "flight/priv.h"

#include "common/banned.h"

/* Returns whether it changed; an ended flight does not enter. */
static bool set_in_line(struct flight *fl, bool is_in_line)
{
	SCOPED_LOCK(&fl->lock);

	if (fl->is_in_line == is_in_line || (is_in_line && flight_is_over_locked(fl)))
		return false;
	fl->is_in_line = is_in_line;
	return true;
}

static void enter_line(struct flight *fl)
{
	if (!set_in_line(fl, true))
		return;
	list_add_tail(&fl->all->line, &flight_ref(fl)->in_line);
	flights_busy(fl->all);
}

/* The line's reference is the caller's then. */
static void leave_line(struct flight *fl)
{
	list_remove(&fl->in_line);
	(void)set_in_line(fl, false);
	flights_not_busy(fl->all);
}

static struct str who_of(const struct flight *fl)
{
	return str_from(fl->who);
}

/* What is free goes to those in line. After it nobody in line could have one. */
static void serve_line(struct flights *f)
{
	LIST_EACH(node, &f->line) {
		struct flight *fl = LIST_ENTRY(node, struct flight, in_line);

		if (!shares_take(&f->running, who_of(fl)))
			continue;
		leave_line(fl);
		fl->slots++;
		fetch_call(f->opts.fetch, 0, flight_on_turn, fl);
	}
}

bool slot_take(struct flight *fl)
{
	fl->wants_slot = true;
	if (fl->slots > 0) {
		fl->slots--;
		return true;
	}
	if (shares_take(&fl->all->running, who_of(fl)))
		return true;
	enter_line(fl);
	return false;
}

void slot_free(struct flight *fl)
{
	shares_give(&fl->all->running, who_of(fl));
	serve_line(fl->all);
}

void slots_end_turn(struct flight *fl)
{
	struct flights *f = fl->all;
	bool is_leaving = !fl->wants_slot && fl->is_in_line;

	fl->wants_slot = false;
	if (is_leaving)
		leave_line(fl);
	for (; fl->slots > 0; fl->slots--)
		shares_give(&f->running, who_of(fl));
	serve_line(f);
	if (is_leaving)
		flight_unref(fl);
}
