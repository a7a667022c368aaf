/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth_rig - an auth on an index of its own, with a wall clock that the test sets.
 */
#pragma once
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/auth.h"
#include "common/clock.h"
#include "metrics/metrics.h"

#define TTL_S 300

struct fixture {
	char folder[64];
	struct metrics *metrics;
	struct index *index;
	struct auth *auth;
	struct clock clock;
	int64_t now;
};

int rig_set_up(void **state);
int rig_tear_down(void **state);
/* Who sends this Authorization, or none if it is NULL. What auth_subject() returns. */
int rig_subject(struct fixture *f, const char *authorization, struct subject *s);
