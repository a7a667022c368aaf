/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retry - is another try of a failed transfer worth it, and when? Pure; tests in tests/unit/test_policy.c.
 */
#include <errno.h>

#include "policy/policy.h"

#include "common/banned.h"

/* Three retries within about ten seconds: the patience of the clients that wait (hub-protocol 0.3). */
#define RETRIES_MAX 3
static const uint64_t back_off_ms[RETRIES_MAX] = { 500, 2000, 8000 };
#define BACK_OFF_MS_MIN 500
#define BACK_OFF_MS_MAX 8000
/* After a cut in a transfer that went well: a moment, so that many cut at once do not come back at once. */
#define AFTER_PROGRESS_MS 100
/* Somebody waits for bytes, at most 60 s in all (U12): a longer Retry-After is an answer, not a pause. */
#define RETRY_AFTER_MS_MAX 50000

static const struct retry_verdict give_up = { false, 0 };

/* Between 0 and span, as the dice fell. */
static uint64_t share(uint64_t span, uint32_t dice)
{
	return (span * dice) >> 32;
}

static struct retry_verdict after_pause(const struct retry_facts *f, uint32_t dice)
{
	uint64_t base, wait_ms;

	if (f->attempts > RETRIES_MAX)
		return give_up;
	if (f->made_progress)
		return (struct retry_verdict){ true, AFTER_PROGRESS_MS + share(AFTER_PROGRESS_MS, dice) };
	base = back_off_ms[f->attempts > 0 ? f->attempts - 1 : 0];
	wait_ms = base - base / 4 + share(base / 2, dice);
	if (wait_ms < BACK_OFF_MS_MIN)
		wait_ms = BACK_OFF_MS_MIN;
	if (wait_ms > BACK_OFF_MS_MAX)
		wait_ms = BACK_OFF_MS_MAX;
	return (struct retry_verdict){ true, wait_ms };
}

bool policy_is_own_limit(int error)
{
	return error == -EMFILE || error == -ENOBUFS || error == -EADDRNOTAVAIL || error == -ENETDOWN;
}

static bool is_transport_failure(int error)
{
	return policy_is_own_limit(error) || error == -EHOSTUNREACH || error == -ETIMEDOUT ||
	       error == -ECONNRESET || error == -EPROTO;
}

static bool is_passing_status(int status)
{
	return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
	       status == 504;
}

struct retry_verdict policy_retry(const struct retry_facts *f, uint32_t dice)
{
	struct retry_verdict verdict;

	/* a body that broke off after a good head failed in transport, whatever the head said */
	if (f->error != 0 && (f->status == 0 || (f->status >= 200 && f->status < 300)))
		return is_transport_failure(f->error) ? after_pause(f, dice) : give_up;
	if (is_passing_status(f->status)) {
		verdict = after_pause(f, dice);
		if (f->retry_after_ms > RETRY_AFTER_MS_MAX)
			return give_up;
		if (verdict.again && f->retry_after_ms > (int64_t)verdict.wait_ms)
			verdict.wait_ms = (uint64_t)f->retry_after_ms;
		return verdict;
	}
	/* The signature expired, or this edge dislikes the range: the Hub gives a new address, at once, once. */
	if (f->is_signed_hop && f->status >= 400 && f->status < 500 && f->attempts <= 1)
		return (struct retry_verdict){ true, 0 };
	return give_up;
}
