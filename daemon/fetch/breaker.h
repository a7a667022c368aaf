/* SPDX-License-Identifier: Apache-2.0 */
/*
 * breaker - is it worth asking the Hub at all? Pure: the caller gives the time.
 *
 *            3 failures in a row            probe due, one at a time
 *   CLOSED ----------------------> OPEN --------------------------> PROBING
 *      ^                            ^                                 |  |
 *      |                            +------- the probe failed --------+  |
 *      +--------- any answer, of whatever status; the probe connected ---+
 *
 * Counts    failures of the transport only (refused, no such name, no connection in time): who answers 500 is there.
 * Threads   the fetch thread's alone.
 * Promises  (1) while open, at most one asker is let through at a time, and none before the wait is over.
 *           (2) the wait starts at 2 s and doubles up to 30 s with each probe that fails.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define BREAKER_FAILURES_MAX 3
#define BREAKER_WAIT_MIN_MS 2000
#define BREAKER_WAIT_MAX_MS 30000

struct breaker {
	unsigned failures; /* in a row */
	bool is_open;
	bool is_probing;
	uint64_t wait_ms;
	uint64_t probe_mono_ms; /* not before */
};

enum breaker_pass {
	BREAKER_PASS, /* closed */
	BREAKER_PROBE, /* open, and this one finds out; its end goes to breaker_failed, _answered or _unsure */
	BREAKER_STOP,
};
enum breaker_pass breaker_ask(struct breaker *b, uint64_t now_mono_ms);
/* Returns true when this opened it. */
bool breaker_failed(struct breaker *b, uint64_t now_mono_ms, bool was_probe);
/* Returns true when this closed it. */
bool breaker_answered(struct breaker *b);
/* A probe ended without a verdict (it was cancelled): the next one may go at once. */
void breaker_unsure(struct breaker *b);
/* When a probe may go; UINT64_MAX when none is wanted now. */
uint64_t breaker_probe_due(const struct breaker *b);
