/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access - may this subject read this repo now (design P4)? Pure; truth table in tests/unit/test_policy.c.
 *
 * What counts, in this order:
 *   a refusal        ends every grant and mark that is not newer than itself; while young it is the verdict
 *   the public mark  for everybody; for an anonymous subject it is the only thing that counts
 *   the own grant    for whoever has a token
 * A name can come to stand for another repo without anybody saying so. A right is therefore good only for what upstream has shown:
 * what is open to all for what was shown without a token, the own one also for what was shown to that token.
 * Without a proof that counts: ask upstream, or, when it cannot be asked, refuse. Two policies put the administrator's word in
 * the place of upstream's, whatever that was; only while upstream is gone for everybody, so that no client opens a door by
 * making a question fail.
 */
#include <assert.h>

#include "policy/priv.h"

#include "common/banned.h"

/* On a tie the refusal wins: within one second nobody knows which came last. */
static bool is_outdone_by_refusal(const struct access_facts *f, int64_t learnt_at)
{
	return f->denied_at != 0 && learnt_at <= f->denied_at;
}

static bool was_shown_to_all(const struct access_facts *f)
{
	return !f->is_of_thing || f->shown_to_all >= f->wanted;
}

static bool was_shown_to_it(const struct access_facts *f)
{
	return was_shown_to_all(f) || f->shown_to_it >= f->wanted;
}

static bool is_public_enough(const struct access_facts *f)
{
	return f->public_at != 0 && f->public_level >= f->wanted && was_shown_to_all(f) &&
	       !is_outdone_by_refusal(f, f->public_at);
}

static bool is_granted_enough(const struct access_facts *f)
{
	/* what anonymous requests may do is the public mark's to say, so that there is one place to take it away */
	return !f->is_anonymous && f->granted_at != 0 && f->granted >= f->wanted && was_shown_to_it(f) &&
	       !is_outdone_by_refusal(f, f->granted_at);
}

const char *policy_offline_name(enum offline_access access)
{
	static const char *const names[] = {
		[OFFLINE_PUBLIC] = "public",
		[OFFLINE_GRANTS] = "grants",
		[OFFLINE_ACL] = "acl",
		[OFFLINE_OPEN] = "open",
	};

	assert((unsigned)access < sizeof(names) / sizeof(names[0]));
	return names[access];
}

static bool is_opened_by_administrator(const struct access_facts *f)
{
	if (!f->upstream_is_down || !f->upstream_is_gone)
		return false;
	return f->offline_access == OFFLINE_OPEN || (f->offline_access == OFFLINE_ACL && f->is_listed);
}

static enum access_verdict verdict_while_down(const struct access_facts *f)
{
	bool grants_count = f->offline_access == OFFLINE_GRANTS || f->offline_access == OFFLINE_OPEN;

	if (is_public_enough(f))
		return ACCESS_ALLOW; /* open to all when last seen: any age */
	if (grants_count && is_granted_enough(f) &&
	    policy_age_ms(f->granted_at, f->now) < f->offline_grace_ms)
		return ACCESS_ALLOW;
	return ACCESS_DENY; /* losing upstream never widens access */
}

static bool is_lately_refused(const struct access_facts *f)
{
	if (f->denied_at != 0 && f->denied_at >= f->granted_at && f->denied_at >= f->public_at)
		return policy_age_ms(f->denied_at, f->now) < f->deny_ttl_ms;
	/* a mark of "nothing" is upstream's refusal of the anonymous subject */
	return f->is_anonymous && f->public_at != 0 && f->public_level == ACCESS_NONE &&
	       policy_age_ms(f->public_at, f->now) < f->deny_ttl_ms;
}

static enum access_verdict verdict_while_up(const struct access_facts *f)
{
	if (is_public_enough(f) && policy_age_ms(f->public_at, f->now) < f->public_ttl_ms)
		return ACCESS_ALLOW;
	if (is_granted_enough(f) && policy_age_ms(f->granted_at, f->now) < f->grant_ttl_ms)
		return ACCESS_ALLOW;
	return is_lately_refused(f) ? ACCESS_DENY : ACCESS_PROBE;
}

enum access_verdict policy_access(const struct access_facts *f)
{
	assert(f->wanted == ACCESS_META || f->wanted == ACCESS_FILES);

	if (is_opened_by_administrator(f))
		return ACCESS_ALLOW;
	if (policy_is_from_future(f->public_at, f->now) || policy_is_from_future(f->granted_at, f->now) ||
	    policy_is_from_future(f->denied_at, f->now))
		return f->upstream_is_down ? ACCESS_DENY : ACCESS_PROBE;
	return f->upstream_is_down ? verdict_while_down(f) : verdict_while_up(f);
}
