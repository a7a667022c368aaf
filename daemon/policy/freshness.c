/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freshness - may what we hold be used as it is? Pure; truth table in tests/unit/test_policy.c.
 */
#include "policy/priv.h"

#include "common/banned.h"

enum freshness policy_freshness(const struct freshness_facts *f)
{
	if (!f->is_held)
		return FRESH_FETCH;
	if (f->is_immutable || f->upstream_is_down)
		return FRESH_USE;
	/* a clock that ran backwards says nothing about the age */
	if (policy_is_from_future(f->checked_at, f->now))
		return FRESH_REVALIDATE;
	return policy_age_ms(f->checked_at, f->now) < f->ttl_ms ? FRESH_USE : FRESH_REVALIDATE;
}
