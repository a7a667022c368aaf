/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper_rig - a store, an index and a keeper of their own, in a folder of their own; and facts to learn.
 *
 * Every call that changes the disk, ours and SQLite's, is a step at which the process can be told to die. Nothing waits
 * for the disk.
 */
#pragma once
#include "test_store.h"

#include "keeper/keeper.h"

#define C1 "1111111111111111111111111111111111111111"
#define C2 "2222222222222222222222222222222222222222"
#define REPO STR("models/acme/pub")

/* --- dying at a chosen step: every call that changes the disk is one, ours and SQLite's --- */

/* The next steps are counted from 1; the process ends at this one with 42. */
void die_at_step(int at);

/* --- a house --- */

struct house {
	struct fixture *f; /* has the store */
	struct index *index;
	struct keeper *keeper;
	bool was_rebuilt;
};

struct keeper_opts house_opts(struct house *h);
void house_open_index(struct house *h);
void house_start(struct house *h);
void house_stop(struct house *h);
struct house *house_new(uint64_t size_max);

/* Large enough for what the tests put in, small enough that the spare room of an eviction is less than one blob. */
#define HOUSE_QUOTA 4000000

int house_set_up(void **state);
int house_tear_down(void **state);

/* --- waiting for a callback --- */

struct outcome {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool is_done;
	int error;
};

#define OUTCOME_INIT                                                                                         \
	{                                                                                                    \
		.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER                         \
	}

void outcome_done(void *ctx, int error);
int outcome_wait(struct outcome *o);
int house_make_room(struct house *h, uint64_t bytes);

/* The part with room for all of it, evicting as a flight has it done. */
int house_open_part(struct house *h, const struct content_id *id, struct part **ret_part);

/* As a flight does: part, room, bytes, keeper. */
int house_fill(struct house *h, const char *bytes, size_t len, struct blob_meta *ret_meta);
struct blob_meta house_fill_seed(struct house *h, size_t len, unsigned seed);
bool house_has(struct house *h, const struct blob_meta *meta);
int house_check_seed(struct house *h, const struct blob_meta *meta, unsigned seed);

/* --- facts --- */

struct fact name_fact(const char *revision, const char *commit, int64_t at);
void learn_entry(struct house *h, const char *commit, const char *path, const struct content_id *content);
void learn_tree(struct house *h, const char *commit);
int learn_doc(struct house *h, const char *key, const char *text, size_t len);
void learn_public(struct house *h, enum access_level level, int64_t at);
enum access_level public_level(struct house *h);
int find_doc(struct house *h, const char *key);

/* --- journals --- */

unsigned count_lines(struct house *h, const char *with);

/* Takes a line away from whoever rebuilds: the index's file. */
void house_lose_index(struct house *h);

#define TEST(name) cmocka_unit_test_setup_teardown(name, house_set_up, house_tear_down)
