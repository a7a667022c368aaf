/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_rig - a folder that stands for the root of the system, an environment, and the configuration loaded from them.
 */
#pragma once
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "config/config.h"

struct world {
	char root[64];
	const char *file; /* --config */
	const char *sets[8];
	const char *environment[8];
	struct buf errors;
	struct config *config;
	int result;
};

int world_set_up(void **state);
int world_tear_down(void **state);

/* Makes the folders above it too. */
void put_bytes(struct world *w, const char *path, const char *text, size_t len);
void put(struct world *w, const char *path, const char *text);
int load(struct world *w);

/* The messages, without the folder that the test made up. */
const char *messages(struct world *w);
void assert_has(const char *text, const char *part);
void refuses_set(struct world *w, const char *set, const char *message);
void accepts_set(struct world *w, const char *set);

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up, world_tear_down)
