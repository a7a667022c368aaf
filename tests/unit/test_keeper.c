/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: what is done is there after a restart, also with many threads at once; what is corrupt is put aside.
 */
#include "keeper_rig.h"

#include <pthread.h>
#include <stdatomic.h>

/* --- what is done is done --- */

static void a_finished_part_is_there_after_a_restart(void **state)
{
	struct house *h = *state;
	struct blob_meta meta = house_fill_seed(h, 100000, 1);

	assert_true(house_has(h, &meta));
	assert_int_equal(house_check_seed(h, &meta, 1), 0);
	house_stop(h);
	house_start(h);
	assert_false(h->was_rebuilt);
	assert_true(house_has(h, &meta));
	assert_int_equal(house_check_seed(h, &meta, 1), 0);
}

static void many_parts_share_commits(void **state)
{
	struct house *h = *state;
	struct outcome outcomes[20];
	struct blob_meta metas[20];

	for (unsigned i = 0; i < 20; i++) {
		SCOPED_FREE char *bytes = make_bytes(1000, i);
		struct content_id id;
		struct part *part = NULL;

		outcomes[i] = (struct outcome)OUTCOME_INIT;
		metas[i] = meta_of(bytes, 1000);
		id = git_id(&metas[i]);
		assert_int_equal(house_open_part(h, &id, &part), 0);
		assert_int_equal(part_write(part, 0, bytes, 1000), 0);
		keeper_finish_part(h->keeper, part, &id, &metas[i], outcome_done, &outcomes[i]);
		(void)part_unref(part);
	}
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(outcome_wait(&outcomes[i]), 0);
		assert_true(house_has(h, &metas[i]));
	}
	house_stop(h);
	house_start(h);
	for (unsigned i = 0; i < 20; i++)
		assert_true(house_has(h, &metas[i]));
}

static void a_sync_makes_all_that_was_learned_durable(void **state)
{
	struct house *h = *state;
	char path[32], commit[COMMIT_TEXT];
	struct content_id content = { .kind = CONTENT_GIT, .size = 3 };

	for (int i = 0; i < 20000; i++) { /* more than one batch */
		(void)snprintf(path, sizeof(path), "p%d", i);
		learn_entry(h, C1, path, &content);
	}
	index_learn(
		h->index,
		&(struct fact){
			.kind = FACT_NAME, .repo = REPO, .revision = STR("main"), .commit = C1, .at = 5 });
	assert_int_equal(learn_doc(h, "m:info", "{}", 2), 0);
	keeper_sync(h->keeper);
	/* nobody is asked to write anything any more: what another process would see now is all there is */
	assert_int_equal(count_files(h->f, "journal", ""), 1);
	house_stop(h);
	house_start(h);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("p19999"), &content), 0);
	assert_int_equal(index_find_name(h->index, REPO, STR("main"), commit, NULL), 0);
	assert_int_equal(find_doc(h, "m:info"), 0);
}

static void what_is_queued_is_written_at_the_end(void **state)
{
	struct house *h = *state;
	char commit[COMMIT_TEXT];
	struct fact f = name_fact("main", C1, 5);

	index_learn(h->index, &f);
	assert_int_equal(learn_doc(h, "m:info", "{}", 2), 0);
	house_stop(h);
	house_start(h);
	assert_int_equal(index_find_name(h->index, REPO, STR("main"), commit, NULL), 0);
	assert_int_equal(find_doc(h, "m:info"), 0);
}

static void gives_parts_back_after_a_checkpoint(void **state)
{
	struct house *h = *state;
	SCOPED_FREE char *bytes = make_bytes(100000, 1);
	struct blob_meta meta = meta_of(bytes, 100000);
	struct content_id id = lfs_id(&meta);
	struct part *part = NULL;
	struct byte_range gap;

	assert_int_equal(house_open_part(h, &id, &part), 0);
	assert_int_equal(part_write(part, 0, bytes, 60000), 0);
	for (int i = 0; i < 100; i++)
		keeper_checkpoint_part(h->keeper, part);
	keeper_sync(h->keeper);
	(void)part_unref(part);
	house_stop(h);
	house_start(h);
	assert_int_equal(house_open_part(h, &id, &part), 0);
	assert_true(part_next_gap(part, 0, &gap));
	assert_int_equal(gap.first, 60000);
	(void)part_unref(part);
}

static void a_corrupt_blob_is_forgotten_and_put_aside(void **state)
{
	struct house *h = *state;
	struct blob_meta meta = house_fill_seed(h, 5000, 1);

	keeper_report_corrupt(h->keeper, &meta.sha256);
	assert_false(house_has(h, &meta)); /* at once */
	keeper_sync(h->keeper);
	assert_int_equal(house_check_seed(h, &meta, 1), -ENODATA);
	assert_int_equal(count_files(h->f, "quarantine", ""), 1);
	assert_int_equal(metrics_value(h->f->metrics, METRIC_STORAGE_CORRUPT, 1, 0, 0), 1);
	meta = house_fill_seed(h, 5000, 1); /* fetched again */
	assert_true(house_has(h, &meta));
	house_stop(h);
	house_start(h);
	assert_true(house_has(h, &meta));
	assert_int_equal(house_check_seed(h, &meta, 1), 0);
}

static void is_alive_as_long_as_it_turns(void **state)
{
	struct house *h = *state;
	int tries = 0;

	keeper_sync(h->keeper);
	assert_true(keeper_is_alive(h->keeper));
	h->f->mono_ms += 31000;
	while (keeper_is_alive(h->keeper)) { /* the end of its turn may have seen the new time */
		assert_true(tries++ < 100);
		(void)usleep(10000);
		h->f->mono_ms += 31000;
	}
	keeper_sync(h->keeper);
	assert_true(keeper_is_alive(h->keeper));
}

/* --- threads --- */

struct crowd {
	struct house *house;
	atomic_uint learned;
	atomic_bool is_over;
};

static void *ask_all_the_time(void *ctx)
{
	struct crowd *c = ctx;
	char revision[32], commit[COMMIT_TEXT];

	while (!atomic_load(&c->is_over)) {
		unsigned n = atomic_load(&c->learned);

		if (n == 0)
			continue;
		(void)snprintf(revision, sizeof(revision), "r%u", n - 1);
		if (index_find_name(c->house->index, REPO, str_from(revision), commit, NULL) != 0)
			abort();
		if (!keeper_is_alive(c->house->keeper))
			abort();
	}
	return NULL;
}

static void *learn_all_the_time(void *ctx)
{
	struct crowd *c = ctx;
	char revision[32];

	for (unsigned i = 0; i < 2000; i++) {
		struct fact f;

		(void)snprintf(revision, sizeof(revision), "r%u", i);
		f = name_fact(revision, C1, 1000);
		index_learn(c->house->index, &f);
		atomic_store(&c->learned, i + 1);
		if (i % 500 == 0)
			keeper_sync(c->house->keeper);
	}
	atomic_store(&c->is_over, true);
	return NULL;
}

static void works_with_many_threads_at_once(void **state)
{
	struct house *h = *state;
	struct crowd crowd = { .house = h };
	pthread_t readers[4], learner;

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, ask_all_the_time, &crowd), 0);
	assert_int_equal(pthread_create(&learner, NULL, learn_all_the_time, &crowd), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct blob_meta meta = house_fill_seed(h, 10000 + i, i);

		assert_true(house_has(h, &meta));
		index_touch_blob(h->index, &meta.sha256, h->f->wall_s);
		if (i % 5 == 4)
			assert_int_equal(house_make_room(h, 10000), 0);
	}
	(void)pthread_join(learner, NULL);
	for (int i = 0; i < 4; i++)
		(void)pthread_join(readers[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_finished_part_is_there_after_a_restart),
		TEST(many_parts_share_commits),
		TEST(a_sync_makes_all_that_was_learned_durable),
		TEST(what_is_queued_is_written_at_the_end),
		TEST(gives_parts_back_after_a_checkpoint),
		TEST(a_corrupt_blob_is_forgotten_and_put_aside),
		TEST(is_alive_as_long_as_it_turns),
		TEST(works_with_many_threads_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
