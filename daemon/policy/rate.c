/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rate - may another request go upstream, or has it asked for quiet? Pure; tests in tests/unit/test_rate.c.
 *
 *   open ---- r=0 ----> closed until the window ends ------------------------------------> open
 *   open ---- 429 ----> closed for the wait it names ---> one request goes alone ---+----> open
 *                            ^                                                      |
 *                            +------------------------------ 429 again -------------+
 */
#include "policy/policy.h"

#include "common/banned.h"

#define WAIT_MS_MIN 1000
#define WAIT_MS_MAX 600000
/* A 429 that names no wait: doubled with each further one. */
#define SILENT_WAIT_MS 1000
#define SILENT_WAIT_MS_MAX 60000
/* So that many caches behind one address do not come back in the same moment: a tenth, at most this much. */
#define JITTER_MS_MAX 5000
/* Below one of so many parts of the quota, background work waits. */
#define RESERVE_PART 10

static bool contains(struct str s, struct str what)
{
	for (size_t i = 0; i + what.len <= s.len; i++)
		if (memcmp(s.ptr + i, what.ptr, what.len) == 0)
			return true;
	return false;
}

enum rate_bucket policy_rate_bucket(struct str path)
{
	struct str before_query, query;

	(void)str_cut(path, '?', &before_query, &query);
	if (str_starts_with(before_query, STR("/api/resolve-cache/")))
		return RATE_RESOLVERS;
	if (str_starts_with(before_query, STR("/api/")))
		return RATE_API;
	return contains(before_query, STR("/resolve/")) ? RATE_RESOLVERS : RATE_PAGES;
}

const char *policy_rate_name(enum rate_bucket bucket)
{
	static const char *const names[RATE_BUCKET_COUNT] = { "api", "resolvers", "pages", "viewer" };

	return names[bucket];
}

uint64_t policy_rate_wait_ms(const struct rate_budget *b, uint64_t now)
{
	uint64_t wait_ms = b->closed_mono_ms > now ? b->closed_mono_ms - now : 0;

	if (wait_ms == 0 && b->was_refused && b->is_trying)
		return WAIT_MS_MIN;
	return wait_ms > 0 && wait_ms < WAIT_MS_MIN ? WAIT_MS_MIN : wait_ms;
}

static bool is_reserved(const struct rate_budget *b, uint64_t now)
{
	return b->is_told && now < b->window_mono_ms && b->quota && b->left < b->quota / RESERVE_PART;
}

enum rate_pass policy_rate_ask(struct rate_budget *b, uint64_t now, bool is_background, uint64_t *ret_wait_ms)
{
	*ret_wait_ms = policy_rate_wait_ms(b, now);
	if (*ret_wait_ms)
		return RATE_STOP;
	if (is_background && is_reserved(b, now)) {
		*ret_wait_ms = b->window_mono_ms - now + WAIT_MS_MIN;
		return RATE_STOP;
	}
	if (!b->was_refused)
		return RATE_PASS;
	b->is_trying = true;
	return RATE_TRY;
}

static uint64_t capped(int64_t ms)
{
	return ms > WAIT_MS_MAX ? WAIT_MS_MAX : ms < WAIT_MS_MIN ? WAIT_MS_MIN : (uint64_t)ms;
}

/* How long a 429 wants us to be quiet. The longer of its two words counts; both may be missing. */
static uint64_t wait_of_refusal(const struct rate_budget *b, const struct rate_told *told)
{
	int64_t wait_ms = told->retry_after_ms;
	uint64_t silent = SILENT_WAIT_MS << (b->refusals < 6 ? b->refusals : 6);

	if (told->left == 0 && told->window_ms > wait_ms)
		wait_ms = told->window_ms;
	if (wait_ms >= 0)
		return capped(wait_ms);
	return silent < SILENT_WAIT_MS_MAX ? silent : SILENT_WAIT_MS_MAX;
}

static uint64_t with_jitter(uint64_t wait_ms, uint32_t dice)
{
	uint64_t span = wait_ms / 10 < JITTER_MS_MAX ? wait_ms / 10 : JITTER_MS_MAX;

	return wait_ms + ((span * dice) >> 32);
}

static void close_until(struct rate_budget *b, uint64_t mono_ms)
{
	if (mono_ms > b->closed_mono_ms)
		b->closed_mono_ms = mono_ms;
}

static void note_numbers(struct rate_budget *b, const struct rate_told *told, uint64_t now)
{
	if (told->left < 0 || told->window_ms < 0)
		return;
	b->is_told = true;
	b->left = (uint64_t)told->left;
	b->window_mono_ms = now + (told->window_ms > WAIT_MS_MAX ? WAIT_MS_MAX : (uint64_t)told->window_ms);
	if (told->quota >= 0)
		b->quota = (uint64_t)told->quota;
}

void policy_rate_told(struct rate_budget *b, const struct rate_told *told, uint64_t now, bool was_try,
		      uint32_t dice)
{
	note_numbers(b, told, now);
	if (was_try)
		b->is_trying = false;
	if (told->is_refusal) {
		close_until(b, now + with_jitter(wait_of_refusal(b, told), dice));
		b->was_refused = true;
		b->refusals++;
		return;
	}
	/* those that were on their way when it closed say nothing about later */
	if (was_try || now >= b->closed_mono_ms) {
		b->was_refused = false;
		b->refusals = 0;
	}
	if (told->left == 0 && told->window_ms > 0)
		close_until(b, now + with_jitter(capped(told->window_ms), dice));
}

void policy_rate_unsure(struct rate_budget *b)
{
	b->is_trying = false;
}
