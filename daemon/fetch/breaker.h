/* SPDX-License-Identifier: Apache-2.0 */
/*
 * breaker - is it worth asking upstream at all? Pure: the caller gives the time.
 *
 *             3 failures of the transport in a row
 *   CLOSED ----------------------------------------> OPEN --- connected -----> CLOSED
 *     |                                               (probes: connections)
 *     | 3 answers of 500, 502, 503, 504 in a row,
 *     | or one request that hears nothing
 *     v           our own question fails too
 *   DOUBTED ---------------------------------------> OPEN and SICK --- answered --> CLOSED
 *     |                                               (probes: our own question)
 *     +--- our own question is answered --> CLOSED
 *
 * Errors and silence open it only when a question of ours, that no client chose, meets the same: else whoever finds
 * a path that makes the Hub fail could take the Hub away from all others.
 * At first nobody knows: one connection of our own finds out, and if it cannot be made that is as good as three failures.
 * Threads   the fetch thread's alone.
 * Promises  (1) while open, nothing passes but our own probes, one at a time.
 *           (2) the wait between probes starts at 2 s and doubles up to 30 s; a Retry-After makes it longer, up to
 *               ten minutes.
 *           (3) doubts cost one question in 2 s at most.
 *           (4) what began before upstream came back, and failed of that outage, does not open it again.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define BREAKER_FAILURES_MAX 3
#define BREAKER_WAIT_MIN_MS 2000
#define BREAKER_WAIT_MAX_MS 30000
#define BREAKER_WAIT_ASKED_MAX_MS 600000

struct breaker {
	unsigned failures, troubles; /* in a row */
	bool is_open;
	bool is_sick;    /* a connection would prove nothing */
	bool is_doubted; /* closed, and our own question is wanted */
	bool is_untried; /* closed, and nobody has heard of it yet: our own connection is wanted */
	bool is_probing;
	uint64_t wait_ms;
	uint64_t probe_mono_ms; /* not before */
	uint64_t back_mono_ms;  /* when it was last closed; 0: it never was open */
};

/* A breaker of zeroes is closed; this one wants to be tried. */
void breaker_try_first(struct breaker *b);
/* For transfers: false while it is open. */
bool breaker_lets(const struct breaker *b);
/* A transfer that began then could not reach upstream. Returns true when this opened it. */
bool breaker_failed(struct breaker *b, uint64_t began_mono_ms, uint64_t now_mono_ms);
/* A transfer got an answer that speaks of trouble; or (is_silence) has heard nothing for too long. */
void breaker_troubled(struct breaker *b, bool is_silence);
/* Any other answer, to whom ever. Returns true when this closed it. */
bool breaker_answered(struct breaker *b, uint64_t now_mono_ms);

/* Our own connection was made. Returns true when this closed it. */
bool breaker_connected(struct breaker *b, uint64_t now_mono_ms);

enum breaker_probe { BREAKER_NO_PROBE, BREAKER_CONNECT, BREAKER_QUESTION };
/* Is one due? Then it is under way, and its end goes to breaker_connected(), _answered(),
 * _probe_failed() or _unsure(). */
enum breaker_probe breaker_probe(struct breaker *b, uint64_t now_mono_ms);
/* retry_after_ms: 0 when not said. Returns true when this opened it. */
bool breaker_probe_failed(struct breaker *b, uint64_t now_mono_ms, uint64_t retry_after_ms);
/* It ended without a verdict (it was cancelled): the next one may go at once. */
void breaker_unsure(struct breaker *b);
/* When a probe may go; UINT64_MAX when none is wanted now. */
uint64_t breaker_probe_due(const struct breaker *b);
