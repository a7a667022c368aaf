/* SPDX-License-Identifier: Apache-2.0 */
/*
 * governor - the table in governor.h, and the reading of the fields that fill it.
 */
#include "fetch/governor.h"

#include <errno.h>

#include "common/hash.h"
#include "common/http/date.h"

#include "common/banned.h"

#define RETRY_AFTER_MS_CAP 600000
/* No window is longer; larger numbers are nonsense, and must not overflow. */
#define WINDOW_S_MAX 86400

void governor_init(struct governor *g)
{
	*g = (struct governor){ .count = 1 };
	random_bytes(g->key, sizeof(g->key));
}

struct principal governor_identify(const struct governor *g, struct str authorization)
{
	struct principal who = { 0 };
	struct digest digest;

	if (authorization.len == 0)
		return who;
	hmac_sha256(g->key, sizeof(g->key), authorization.ptr, authorization.len, &digest);
	memcpy(who.bytes, digest.bytes, sizeof(who.bytes));
	return who;
}

/* --- the table ------------------------------------------------------------------------------------------- */

static size_t find(const struct governor *g, const struct principal *who)
{
	for (size_t i = 0; i < g->count; i++)
		if (memcmp(&g->rows[i].who, who, sizeof(*who)) == 0)
			return i;
	return SIZE_MAX;
}

static bool has_to_wait(const struct governor *g, size_t row, uint64_t now)
{
	for (unsigned b = 0; b < RATE_BUCKET_COUNT; b++)
		if (policy_rate_wait_ms(&g->rows[row].budgets[b], now))
			return true;
	return false;
}

/* Who is forgotten: the one used longest ago, and sooner one that may go on anyway. Never the anonymous one. */
static size_t choose_victim(const struct governor *g, uint64_t now)
{
	size_t victim = 1;
	bool is_free = !has_to_wait(g, victim, now);

	for (size_t i = 2; i < g->count; i++) {
		bool is_this_free = !has_to_wait(g, i, now);

		if (is_this_free == is_free ? g->rows[i].used_mono_ms < g->rows[victim].used_mono_ms
					    : is_this_free) {
			victim = i;
			is_free = is_this_free;
		}
	}
	return victim;
}

static struct rate_budget *budget_of(struct governor *g, const struct principal *who, enum rate_bucket bucket,
				     uint64_t now)
{
	size_t row = find(g, who);

	if (row == SIZE_MAX) {
		row = g->count < GOVERNOR_PRINCIPALS_MAX ? g->count++ : choose_victim(g, now);
		memset(&g->rows[row], 0, sizeof(g->rows[row]));
		g->rows[row].who = *who;
	}
	g->rows[row].used_mono_ms = now;
	return &g->rows[row].budgets[bucket];
}

enum rate_pass governor_ask(struct governor *g, const struct principal *who, enum rate_bucket bucket,
			    uint64_t now, bool is_background, uint64_t *ret_wait_ms)
{
	return policy_rate_ask(budget_of(g, who, bucket, now), now, is_background, ret_wait_ms);
}

uint64_t governor_wait_ms(const struct governor *g, const struct principal *who, enum rate_bucket bucket,
			  uint64_t now)
{
	size_t row = find(g, who);

	return row == SIZE_MAX ? 0 : policy_rate_wait_ms(&g->rows[row].budgets[bucket], now);
}

void governor_unsure(struct governor *g, const struct principal *who, enum rate_bucket bucket)
{
	size_t row = find(g, who);

	if (row != SIZE_MAX)
		policy_rate_unsure(&g->rows[row].budgets[bucket]);
}

/* --- fields ---------------------------------------------------------------------------------------------- */

static struct str unquoted(struct str s)
{
	if (s.len >= 2 && s.ptr[0] == '"' && s.ptr[s.len - 1] == '"')
		return (struct str){ s.ptr + 1, s.len - 2 };
	return (struct str){ 0 };
}

int rate_field_param(struct str value, char param, struct str *ret_name, uint64_t *ret_value)
{
	struct str item, part, rest, number = { 0 };

	*ret_name = (struct str){ 0 };
	(void)str_cut(value, ',', &item, &rest);
	while (item.len > 0) {
		(void)str_cut(item, ';', &part, &item);
		part = str_trim(part);
		if (unquoted(part).ptr)
			*ret_name = unquoted(part);
		else if (part.len > 2 && part.ptr[0] == param && part.ptr[1] == '=')
			number = (struct str){ part.ptr + 2, part.len - 2 };
	}
	return number.ptr ? parse_u64(number, ret_value) : -EINVAL;
}

static int64_t number_of(struct str field, char param, uint64_t max)
{
	struct str name;
	uint64_t value;

	if (!field.ptr || rate_field_param(field, param, &name, &value) < 0)
		return -1;
	return (int64_t)(value < max ? value : max);
}

static enum rate_bucket named_bucket(struct str field, enum rate_bucket otherwise)
{
	struct str name = { 0 };
	uint64_t ignored;

	if (otherwise == RATE_VIEWER || !field.ptr)
		return otherwise;
	(void)rate_field_param(field, 'r', &name, &ignored);
	for (unsigned b = 0; b < RATE_VIEWER; b++)
		if (str_eq(name, str_from(policy_rate_name(b))))
			return b;
	return otherwise;
}

void governor_told(struct governor *g, const struct principal *who, enum rate_bucket bucket, int status,
		   const struct headers *fields, uint64_t now, int64_t now_wall_s, bool was_try)
{
	struct str limit = headers_get(fields, STR("RateLimit"));
	struct str policy = headers_get(fields, STR("RateLimit-Policy"));
	struct str after = headers_get(fields, STR("Retry-After"));
	struct rate_told told = { .is_refusal = status == 429, .retry_after_ms = -1 };
	enum rate_bucket named = named_bucket(limit, bucket);
	uint32_t dice;

	told.left = number_of(limit, 'r', INT32_MAX);
	told.window_ms = number_of(limit, 't', WINDOW_S_MAX);
	if (told.window_ms > 0)
		told.window_ms *= 1000;
	told.quota = number_of(policy, 'q', INT32_MAX);
	if (after.ptr)
		told.retry_after_ms = retry_after_ms(after, now_wall_s, RETRY_AFTER_MS_CAP);
	random_bytes(&dice, sizeof(dice));
	if (named != bucket) {
		policy_rate_told(budget_of(g, who, named, now), &told, now, false, dice);
		told.left = told.window_ms = told.quota = -1; /* said of the other one */
	}
	policy_rate_told(budget_of(g, who, bucket, now), &told, now, was_try, dice);
}

/* --- to be shown ----------------------------------------------------------------------------------------- */

bool governor_least(const struct governor *g, enum rate_bucket bucket, uint64_t now, uint64_t *ret_left,
		    uint64_t *ret_quota, uint64_t *ret_window_ms)
{
	const struct rate_budget *least = NULL;

	for (size_t i = 0; i < g->count; i++) {
		const struct rate_budget *b = &g->rows[i].budgets[bucket];

		if (b->is_told && now < b->window_mono_ms && (!least || b->left < least->left))
			least = b;
	}
	if (!least)
		return false;
	*ret_left = least->left;
	*ret_quota = least->quota;
	*ret_window_ms = least->window_mono_ms - now;
	return true;
}

uint64_t governor_longest_wait_ms(const struct governor *g, enum rate_bucket bucket, uint64_t now,
				  unsigned *ret_count)
{
	uint64_t longest = 0;

	*ret_count = 0;
	for (size_t i = 0; i < g->count; i++) {
		uint64_t wait_ms = policy_rate_wait_ms(&g->rows[i].budgets[bucket], now);

		*ret_count += wait_ms > 0;
		longest = wait_ms > longest ? wait_ms : longest;
	}
	return longest;
}
