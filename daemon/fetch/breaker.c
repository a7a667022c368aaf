/* SPDX-License-Identifier: Apache-2.0 */
/*
 * breaker - the state machine drawn in its header. No clock, no I/O.
 */
#include "fetch/breaker.h"

#include <assert.h>

#include "common/banned.h"

enum breaker_pass breaker_ask(struct breaker *b, uint64_t now_mono_ms)
{
	if (!b->is_open)
		return BREAKER_PASS;
	if (b->is_probing || now_mono_ms < b->probe_mono_ms)
		return BREAKER_STOP;
	b->is_probing = true;
	return BREAKER_PROBE;
}

static void wait_longer(struct breaker *b, uint64_t now_mono_ms)
{
	b->wait_ms = b->wait_ms > BREAKER_WAIT_MAX_MS / 2 ? BREAKER_WAIT_MAX_MS : b->wait_ms * 2;
	b->probe_mono_ms = now_mono_ms + b->wait_ms;
}

bool breaker_failed(struct breaker *b, uint64_t now_mono_ms, bool was_probe)
{
	if (b->is_open) {
		/* those that were on their way when it opened say nothing new */
		if (was_probe) {
			b->is_probing = false;
			wait_longer(b, now_mono_ms);
		}
		return false;
	}
	assert(b->failures < BREAKER_FAILURES_MAX);
	if (++b->failures < BREAKER_FAILURES_MAX)
		return false;
	b->is_open = true;
	b->is_probing = false;
	b->wait_ms = BREAKER_WAIT_MIN_MS;
	b->probe_mono_ms = now_mono_ms + b->wait_ms;
	return true;
}

bool breaker_answered(struct breaker *b)
{
	bool was_open = b->is_open;

	*b = (struct breaker){ 0 };
	return was_open;
}

void breaker_unsure(struct breaker *b)
{
	b->is_probing = false;
}

uint64_t breaker_probe_due(const struct breaker *b)
{
	return b->is_open && !b->is_probing ? b->probe_mono_ms : UINT64_MAX;
}
