/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index_rig - an index in a folder of its own, and facts to teach it: for all tests of the room.
 *
 * A test gets a struct fixture, of which the database is new and complete. Its wall clock stands still until a test moves it.
 */
#pragma once
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "index/index.h"
#include "metrics/metrics.h"

#define C1 "1111111111111111111111111111111111111111"
#define C2 "1111111222222222222222222222222222222222"
#define REPO STR("models/acme/pub")
#define EVERYTHING 1000000

struct fixture {
	char dir[64];
	char *path;
	struct metrics *metrics;
	struct index *index;
	size_t memory_entries;
	int64_t now;
	struct clock clock;
};

/* With the options of the fixture, which may have changed. */
int try_open(struct fixture *f, const char **ret_reason);
int set_up(void **state);
int tear_down(void **state);
void commit(struct fixture *f);
/* As a new run of the program: nothing but the disk is left. */
void reopen(struct fixture *f);
void learn(struct fixture *f, struct fact fact);
struct fact name_fact(const char *revision, const char *commit, int64_t at);
struct content_id git_content(uint8_t seed, uint64_t size);
struct content_id lfs_content(uint8_t seed, uint64_t size);
struct fact entry_fact(const char *commit, const char *path, struct content_id content);
struct fact commit_fact(enum fact_kind kind, const char *commit, const char *path);
struct fact blob_fact(enum fact_kind kind, uint8_t sha256, uint8_t git, uint64_t size, int64_t at);
struct fact right_fact(enum fact_kind kind, uint8_t subject, enum access_level level, int64_t at);
struct doc make_doc(uint8_t body, int64_t fetched_at);
void learn_doc(struct fixture *f, const char *key, const struct doc *doc);
int find_entry(struct fixture *f, const char *commit, const char *path, struct content_id *ret);
/* Runs a look three times: the fact is in memory only; it is in both; it is on the disk only. */
void in_every_phase(struct fixture *f, void (*look)(struct fixture *f));
void learn_alias(struct fixture *f, const char *name, const char *to);
struct access_facts rights_of(struct fixture *f, uint8_t subject);

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
