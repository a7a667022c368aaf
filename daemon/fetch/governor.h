/* SPDX-License-Identifier: Apache-2.0 */
/*
 * governor - one budget per bucket and principal for everything that goes upstream (hub-protocol 5.4).
 *
 * A principal is the anonymous client, or a token: known here by a keyed digest only, under a key that lives as
 * long as the process.
 * Owns      the table of principals, bounded; the one that was used longest ago gives way.
 * Never     holds a token; decides (policy/rate.c does).
 * Threads   not locked: the owner locks. governor_identify() needs no lock.
 */
#pragma once
#include "common/http/header.h"
#include "policy/policy.h"

/* As many tokens as a large site uses within one window. */
#define GOVERNOR_PRINCIPALS_MAX 256

struct principal {
	uint8_t bytes[16]; /* all zero: anonymous */
};

struct governor {
	uint8_t key[32]; /* constant */
	size_t count;
	struct {
		struct principal who;
		uint64_t used_mono_ms;
		struct rate_budget budgets[RATE_BUCKET_COUNT];
	} rows[GOVERNOR_PRINCIPALS_MAX]; /* 0: anonymous */
};

void governor_init(struct governor *g);
/* authorization: the field's value; empty: anonymous. */
struct principal governor_identify(const struct governor *g, struct str authorization);
/* May a request go? As policy_rate_ask(). */
enum rate_pass governor_ask(struct governor *g, const struct principal *who, enum rate_bucket bucket,
			    uint64_t now, bool is_background, uint64_t *ret_wait_ms);
uint64_t governor_wait_ms(const struct governor *g, const struct principal *who, enum rate_bucket bucket,
			  uint64_t now);
/* An answer came. bucket: what was asked from; the answer may name another, which is closed as well. */
void governor_told(struct governor *g, const struct principal *who, enum rate_bucket bucket, int status,
		   const struct headers *fields, uint64_t now, int64_t now_wall_s, bool was_try);
/* The one that was to find out ended without an answer. */
void governor_unsure(struct governor *g, const struct principal *who, enum rate_bucket bucket);

/* "left" of the principal that has least; false when nobody was told anything that still holds. */
bool governor_least(const struct governor *g, enum rate_bucket bucket, uint64_t now, uint64_t *ret_left,
		    uint64_t *ret_quota, uint64_t *ret_window_ms);
/* The longest that anybody has to wait, and how many have to. */
uint64_t governor_longest_wait_ms(const struct governor *g, enum rate_bucket bucket, uint64_t now,
				  unsigned *ret_count);

/*
 * The first item of a RateLimit or RateLimit-Policy value: its (last) name and one parameter. Pure.
 * "api";r=485;t=163    "fixed window";"api";q=500;w=300
 * Returns 0; -EINVAL without such a parameter.
 */
int rate_field_param(struct str value, char param, struct str *ret_name, uint64_t *ret_value);
