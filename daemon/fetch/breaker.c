/* SPDX-License-Identifier: Apache-2.0 */
/*
 * breaker - the state machine drawn in its header. No clock, no I/O.
 */
#include "fetch/breaker.h"

#include <assert.h>

#include "common/banned.h"

void breaker_try_first(struct breaker *b)
{
	*b = (struct breaker){ .is_untried = true };
}

bool breaker_lets(const struct breaker *b)
{
	return !b->is_open;
}

static void open_it(struct breaker *b, uint64_t now_mono_ms)
{
	b->is_open = true;
	b->is_doubted = b->is_untried = b->is_probing = false;
	b->wait_ms = BREAKER_WAIT_MIN_MS;
	b->probe_mono_ms = now_mono_ms + b->wait_ms;
}

bool breaker_failed(struct breaker *b, uint64_t began_mono_ms, uint64_t now_mono_ms)
{
	/* those that were on their way when it opened, or still are when it closes, say nothing new */
	if (b->is_open || began_mono_ms < b->back_mono_ms)
		return false;
	assert(b->failures < BREAKER_FAILURES_MAX);
	if (++b->failures < BREAKER_FAILURES_MAX)
		return false;
	open_it(b, now_mono_ms);
	return true;
}

void breaker_troubled(struct breaker *b, bool is_silence)
{
	if (b->is_open)
		return;
	if (!is_silence)
		(void)breaker_connected(b, 0); /* who answers is there */
	if (is_silence || ++b->troubles >= BREAKER_FAILURES_MAX) {
		b->is_doubted = true;
		b->troubles = 0;
	}
}

bool breaker_answered(struct breaker *b, uint64_t now_mono_ms)
{
	bool was_open = b->is_open;

	*b = (struct breaker){ .probe_mono_ms = was_open ? 0 : b->probe_mono_ms,
			       .back_mono_ms = was_open ? now_mono_ms : b->back_mono_ms };
	return was_open;
}

/* It says nothing about answers: what is doubted stays so. */
bool breaker_connected(struct breaker *b, uint64_t now_mono_ms)
{
	if (b->is_open)
		return breaker_answered(b, now_mono_ms);
	if (b->is_untried)
		b->is_untried = b->is_probing = false;
	b->failures = 0;
	return false;
}

enum breaker_probe breaker_probe(struct breaker *b, uint64_t now_mono_ms)
{
	if (now_mono_ms < breaker_probe_due(b))
		return BREAKER_NO_PROBE;
	b->is_probing = true;
	if (b->is_untried || (b->is_open && !b->is_sick))
		return BREAKER_CONNECT;
	if (!b->is_open)
		b->probe_mono_ms = now_mono_ms + BREAKER_WAIT_MIN_MS; /* the next doubt waits */
	return BREAKER_QUESTION;
}

static uint64_t next_wait(uint64_t wait_ms, uint64_t retry_after_ms)
{
	wait_ms = wait_ms > BREAKER_WAIT_MAX_MS / 2 ? BREAKER_WAIT_MAX_MS : wait_ms * 2;
	if (retry_after_ms > BREAKER_WAIT_ASKED_MAX_MS)
		retry_after_ms = BREAKER_WAIT_ASKED_MAX_MS;
	return wait_ms > retry_after_ms ? wait_ms : retry_after_ms;
}

bool breaker_probe_failed(struct breaker *b, uint64_t now_mono_ms, uint64_t retry_after_ms)
{
	if (!b->is_probing)
		return false; /* somebody's answer was quicker */
	b->is_probing = false;
	if (!b->is_open) {
		b->is_sick = !b->is_untried; /* a connection that cannot be made proves what it is for */
		open_it(b, now_mono_ms);
		if (retry_after_ms > b->wait_ms)
			b->probe_mono_ms = now_mono_ms + next_wait(0, retry_after_ms);
		return true;
	}
	b->probe_mono_ms = now_mono_ms + next_wait(b->wait_ms, retry_after_ms);
	b->wait_ms = next_wait(b->wait_ms, 0);
	return false;
}

void breaker_unsure(struct breaker *b)
{
	b->is_probing = false;
}

uint64_t breaker_probe_due(const struct breaker *b)
{
	return (b->is_open || b->is_doubted || b->is_untried) && !b->is_probing ? b->probe_mono_ms
										: UINT64_MAX;
}
