/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy/priv - how old a fact is, in the same way for every decision. Inside policy/ only.
 */
#pragma once
#include "policy/policy.h"

/* How far a fact may seem to lie ahead before the clock is taken to have run backwards (reliability B.4). */
#define POLICY_CLOCK_SLACK_S 300

static inline bool policy_is_from_future(int64_t learnt_at, int64_t now)
{
	int64_t ahead;

	if (__builtin_sub_overflow(learnt_at, now, &ahead))
		return learnt_at > now;
	return ahead > POLICY_CLOCK_SLACK_S;
}

/* 0 for what seems to lie ahead. */
static inline uint64_t policy_age_ms(int64_t learnt_at, int64_t now)
{
	uint64_t age_s, age_ms;

	if (learnt_at >= now)
		return 0;
	age_s = (uint64_t)now - (uint64_t)learnt_at; /* right also when the signed difference does not fit */
	return __builtin_mul_overflow(age_s, (uint64_t)1000, &age_ms) ? UINT64_MAX : age_ms;
}
