/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/decide - give, ask or refuse (inference-protocol 3.1, 3.5). Facts in, verdict out.
 */
#include "infer/priv.h"

/* Is the record good enough to be given while upstream could be asked? */
static bool is_good(const struct infer_facts *f)
{
	const struct infer_control *c = f->control;

	if (!f->is_held || c->no_lookup || f->mode == INFER_OFF || f->repeat == REPEAT_NEVER)
		return false;
	if (c->max_age_s >= 0 && f->age_s > c->max_age_s)
		return false;
	if (f->mode == INFER_REPLAY)
		return true;
	if (f->is_outdated)
		return c->max_stale_s >= 0 && f->age_s <= c->max_stale_s;
	return !f->is_sample && f->repeat != REPEAT_SAMPLE;
}

enum infer_verdict infer_decide(const struct infer_facts *f)
{
	bool can_ask = !f->upstream_is_down && f->mode != INFER_OFFLINE && !f->control->only_if_cached;
	bool may_look = f->mode != INFER_OFF && f->repeat != REPEAT_NEVER && !f->control->no_lookup;

	if (is_good(f))
		return f->is_sample || f->is_outdated ? INFER_GIVE_STALE : INFER_GIVE;
	if (can_ask)
		return INFER_ASK;
	/* an old answer is better than none, unless the client refused it */
	return f->is_held && may_look ? INFER_GIVE_STALE : INFER_REFUSE;
}

bool infer_may_keep(const struct infer_facts *f)
{
	if (f->control->no_store || f->mode == INFER_OFF || f->mode == INFER_OFFLINE)
		return false;
	if (f->repeat == REPEAT_NEVER)
		return false;
	return f->repeat != REPEAT_SAMPLE || f->mode == INFER_RECORD || f->mode == INFER_REPLAY;
}

bool infer_may_share(const struct infer_facts *f)
{
	return infer_may_keep(f) && f->repeat != REPEAT_SAMPLE && !f->control->no_lookup;
}
