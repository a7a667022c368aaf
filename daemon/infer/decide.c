/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/decide - give, ask or refuse (inference-protocol 3.1, 3.5). Facts in, verdict out.
 */
#include "infer/priv.h"

/* Is it younger than what it is good for? What repeats is good for ever, until its model moves. */
static bool is_fresh(const struct infer_facts *f)
{
	const struct infer_control *c = f->control;
	bool has_end = f->is_sample || f->is_seeded;
	int64_t left = has_end ? SAMPLE_TTL_S - f->age_s : INT64_MAX;

	if (f->is_outdated)
		left = -1;
	if (c->max_age_s >= 0 && c->max_age_s - f->age_s < left)
		left = c->max_age_s - f->age_s;
	return left >= (c->min_fresh_s > 0 ? c->min_fresh_s : 0);
}

/* Old, but the client takes old ones too; how old a moved model's answer is counts from its beginning. */
static bool is_allowed_stale(const struct infer_facts *f)
{
	const struct infer_control *c = f->control;
	int64_t stale;

	if (c->max_stale_s < 0)
		return false;
	if (c->max_stale_s == INT64_MAX)
		return true;
	stale = f->age_s;
	if (!f->is_outdated)
		stale -= c->max_age_s >= 0 ? c->max_age_s : SAMPLE_TTL_S;
	return stale <= c->max_stale_s;
}

/* Is the record good enough to be given while somebody could be asked? */
static bool is_good(const struct infer_facts *f)
{
	if (!f->is_held || f->control->no_lookup || f->mode == INFER_OFF || f->repeat == REPEAT_NEVER ||
	    f->is_closed || f->lacks_usage)
		return false;
	if (f->mode == INFER_REPLAY)
		return f->control->max_age_s < 0 || f->age_s <= f->control->max_age_s;
	if (f->is_sample || f->repeat == REPEAT_SAMPLE)
		return false;
	return is_fresh(f) || is_allowed_stale(f);
}

enum infer_verdict infer_decide(const struct infer_facts *f)
{
	bool can_ask = !f->upstream_is_down && !f->control->only_if_cached;
	bool may_look =
		f->mode != INFER_OFF && f->repeat != REPEAT_NEVER && !f->control->no_lookup && !f->is_closed;

	if (is_good(f))
		return f->is_sample || f->is_outdated || !is_fresh(f) ? INFER_GIVE_STALE : INFER_GIVE;
	if (can_ask)
		return INFER_ASK;
	if (!f->is_held || !may_look)
		return INFER_REFUSE;
	/* one that merely does not tell of tokens is as good as any */
	if (f->lacks_usage && !f->is_sample && is_fresh(f))
		return INFER_GIVE;
	/* an old answer is better than none, unless the client refused it */
	return INFER_GIVE_STALE;
}

bool infer_may_keep(const struct infer_facts *f)
{
	/* in mode offline only backends are asked, and what they say is kept like upstream's */
	if (f->control->no_store || f->mode == INFER_OFF)
		return false;
	if (f->repeat == REPEAT_NEVER)
		return false;
	return f->repeat != REPEAT_SAMPLE || f->mode == INFER_RECORD || f->mode == INFER_REPLAY;
}

bool infer_may_share(const struct infer_facts *f)
{
	return infer_may_keep(f) && f->repeat != REPEAT_SAMPLE && !f->control->no_lookup;
}
