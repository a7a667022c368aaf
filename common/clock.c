/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock - the only place that reads the time.
 *
 * Threads   any.
 */
#include "common/clock.h"

#include <stddef.h>
#include <time.h>

#include "common/banned.h"

const struct clock clock_system = { 0 };

static uint64_t read_us(clockid_t id)
{
	struct timespec now;

	/* cannot fail: both clocks exist on every Linux and `now` is ours */
	(void)clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_mono_ms(const struct clock *c)
{
	return c->mono_ms ? c->mono_ms(c->ctx) : read_us(CLOCK_MONOTONIC) / 1000;
}

uint64_t clock_mono_us(const struct clock *c)
{
	return c->mono_ms ? c->mono_ms(c->ctx) * 1000 : read_us(CLOCK_MONOTONIC);
}

int64_t clock_wall_s(const struct clock *c)
{
	return c->wall_s ? c->wall_s(c->ctx) : (int64_t)(read_us(CLOCK_REALTIME) / 1000000);
}

int64_t clock_wall_ms(const struct clock *c)
{
	return c->wall_s ? c->wall_s(c->ctx) * 1000 : (int64_t)(read_us(CLOCK_REALTIME) / 1000);
}
