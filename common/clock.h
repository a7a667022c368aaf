/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock - the only place that reads the time. A test owns it by giving a fixed clock.
 */
#pragma once
#include <stdint.h>

struct clock {
	/* NULL functions mean the system's clocks */
	uint64_t (*mono_ms)(void *ctx);
	int64_t (*wall_s)(void *ctx);
	void *ctx;
};

extern const struct clock clock_system;

uint64_t clock_mono_ms(const struct clock *c);
uint64_t clock_mono_us(const struct clock *c); /* for latencies; mono_ms * 1000 under a test clock */
/* Seconds since 1970. */
int64_t clock_wall_s(const struct clock *c);
int64_t clock_wall_ms(const struct clock *c); /* for time stamps; wall_s * 1000 under a test clock */
