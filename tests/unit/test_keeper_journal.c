/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: what journals hold of that which was checked again, taken away, forgotten or evicted, and what a full disk
 * does to it.
 */
#include "keeper_rig.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>

static uint64_t journal_bytes(struct house *h)
{
	return usage_of(h->f->store).used;
}

static void rechecks_do_not_make_journals_grow(void **state)
{
	struct house *h = *state;
	uint64_t before;

	for (int i = 0; i < 50; i++) {
		struct fact f = name_fact("main", C1, 1000 + i * 30);

		index_learn(h->index, &f);
		learn_public(h, ACCESS_FILES, 1000 + i * 30);
		assert_int_equal(learn_doc(h, "m:info", "{}", 2), 0);
		keeper_sync(h->keeper);
		if (i == 0)
			before = journal_bytes(h);
		else
			assert_int_equal(journal_bytes(h), before);
	}
	assert_int_equal(count_lines(h, "\n"), 3);
	assert_int_equal(count_lines(h, "name rev=main"), 1);
}

static void limit_files(rlim_t bytes)
{
	struct rlimit limit = { bytes, RLIM_INFINITY };

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_mark_taken_away_reaches_the_journal_after_the_disk_was_full(void **state)
{
	struct house *h = *state;
	struct fact f = name_fact("main", C1, 1000);

	learn_public(h, ACCESS_FILES, 1000);
	keeper_sync(h->keeper);
	limit_files(1);
	learn_public(h, ACCESS_NONE, 2000);
	keeper_sync(h->keeper);
	assert_int_equal(public_level(h), ACCESS_NONE);
	limit_files(RLIM_INFINITY);
	index_learn(h->index, &f);
	keeper_sync(h->keeper);
	assert_int_equal(count_lines(h, "public level=none"), 1);
	house_stop(h);
	house_lose_index(h);
	house_start(h);
	assert_true(h->was_rebuilt);
	assert_int_equal(public_level(h), ACCESS_NONE);
}

static void a_repo_that_was_forgotten_stays_so_after_the_disk_was_full(void **state)
{
	struct house *h = *state;
	struct content_id content = { .kind = CONTENT_GIT, .size = 3 }, got;
	struct fact name = name_fact("main", C2, 3000);

	learn_entry(h, C1, "old", &content);
	keeper_sync(h->keeper);
	limit_files(1);
	index_learn(h->index, &(struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 2000 });
	keeper_sync(h->keeper);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("old"), &got), -ENODATA);
	limit_files(RLIM_INFINITY);
	index_learn(h->index, &name);
	learn_entry(h, C2, "new", &content);
	keeper_sync(h->keeper);
	assert_int_equal(count_lines(h, "forget-all"), 1);
	house_stop(h);
	house_lose_index(h);
	house_start(h);
	assert_true(h->was_rebuilt);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("old"), &got), -ENODATA);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C2), STR("new"), &got), 0);
}

static void expect_forgotten(struct house *h)
{
	struct content_id got;

	assert_int_equal(count_lines(h, "old"), 0);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("old"), &got), -ENODATA);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C2), STR("new"), &got), 0);
	assert_int_equal(public_level(h), ACCESS_FILES);
}

/* Names of private files among it: they are not to stay on the disk after their repo was deleted. */
static void what_is_forgotten_as_a_whole_leaves_the_journal(void **state)
{
	struct house *h = *state;
	struct content_id content = { .kind = CONTENT_GIT, .size = 3 };
	uint64_t used;

	learn_public(h, ACCESS_META, 900);
	learn_entry(h, C1, "old", &content);
	keeper_sync(h->keeper);
	learn_public(h, ACCESS_FILES, 1000);
	assert_int_equal(learn_doc(h, "m:old", "{}", 2), 0);
	keeper_sync(h->keeper);
	assert_int_equal(count_lines(h, "old"), 2);
	learn_entry(h, C2, "old", &content);
	index_learn(h->index, &(struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 2000 });
	learn_entry(h, C2, "new", &content);
	keeper_sync(h->keeper);
	assert_int_equal(count_lines(h, "public"), 1);
	expect_forgotten(h);
	used = usage_of(h->f->store).used;
	house_stop(h);
	house_lose_index(h);
	house_start(h);
	expect_forgotten(h);
	assert_int_equal(usage_of(h->f->store).used, used);
}

static void fill_with_documents(struct house *h, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char key[192], text[64];
		int r;

		(void)snprintf(key, sizeof(key), "m:%0128u", i);
		(void)snprintf(text, sizeof(text), "{\"n\":%u}", i);
		r = learn_doc(h, key, text, strlen(text));
		if (r == -ENOSPC && house_make_room(h, 262144) == 0) /* each takes a turn of the keeper */
			r = learn_doc(h, key, text, strlen(text));
		assert_int_equal(r, 0);
		if (i % 100 == 0)
			keeper_sync(h->keeper);
	}
	keeper_sync(h->keeper);
}

static int64_t count_docs(struct house *h)
{
	sqlite3_stmt *st = NULL;
	sqlite3 *db = NULL;
	char path[PATH_MAX];
	int64_t count;

	(void)snprintf(path, sizeof(path), "%s/index.db", h->f->path);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM docs", -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	count = sqlite3_column_int64(st, 0);
	(void)sqlite3_finalize(st);
	(void)sqlite3_close(db);
	return count;
}

static unsigned count_held(struct house *h, unsigned count)
{
	unsigned held = 0;

	for (unsigned i = 0; i < count; i++) {
		char key[192];

		(void)snprintf(key, sizeof(key), "m:%0128u", i);
		held += find_doc(h, key) == 0;
	}
	return held;
}

/* Row and journal line go after a document's bytes (P10), and nothing goes that is held (P3). */
static void documents_that_went_leave_no_rows_and_no_long_journal(void **state)
{
	enum { COUNT = 3000 };
	struct house *h = *state;
	unsigned held;

	h->f->wall_s = 1000 + 8 * 3600; /* no refresh relies on the lines any more */
	fill_with_documents(h, COUNT);
	keeper_sync(h->keeper); /* the last turn has made room for its successor by now */
	held = (unsigned)count_docs(h);
	assert_true(held > 100 && held < HOUSE_QUOTA / 8192);
	assert_int_equal(usage_of(h->f->store).objects, held);
	assert_int_equal(count_held(h, COUNT), held);
	assert_true(store_journal_size(h->f->store, REPO) <= 512 << 10); /* of 790 */
	house_stop(h);
	house_lose_index(h);
	house_start(h);
	assert_int_equal(count_held(h, COUNT), held);
}

static void a_document_goes_with_bytes_that_could_not_be_written(void **state)
{
	struct house *h = *state;
	SCOPED_FREE char *bytes = make_bytes(600000, 1);

	limit_files(500000); /* enough for the database */
	assert_int_equal(learn_doc(h, "m:small", "{}", 2), 0);
	assert_int_equal(learn_doc(h, "m:large", bytes, 600000), 0);
	keeper_sync(h->keeper);
	limit_files(RLIM_INFINITY);
	assert_int_equal(find_doc(h, "m:small"), 0);
	assert_int_equal(find_doc(h, "m:large"), -ENODATA);
	house_stop(h);
	house_start(h);
	assert_int_equal(find_doc(h, "m:small"), 0);
	assert_int_equal(find_doc(h, "m:large"), -ENODATA);
}

static void blobs_stored_while_the_index_could_not_be_written_are_found_again(void **state)
{
	struct house *h = *state;
	struct blob_meta m[3];
	char path[PATH_MAX];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/index.db-wal", h->f->path);
	/* a WAL that is long already cannot grow; small files can be written */
	for (int i = 0; i < 400; i++) {
		struct fact f = name_fact("main", i % 2 ? C1 : C2, i);

		index_learn(h->index, &f);
		keeper_sync(h->keeper);
		if (stat(path, &st) == 0 && st.st_size > 200000)
			break;
	}
	assert_true(st.st_size > 200000);
	limit_files(100000);
	for (unsigned i = 0; i < 3; i++)
		m[i] = house_fill_seed(h, 50000, i);
	limit_files(RLIM_INFINITY);
	for (unsigned i = 0; i < 3; i++)
		assert_true(house_has(h, &m[i]));
	house_stop(h);
	house_start(h);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(house_has(h, &m[i]));
		assert_int_equal(house_check_seed(h, &m[i], i), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rechecks_do_not_make_journals_grow),
		TEST(a_mark_taken_away_reaches_the_journal_after_the_disk_was_full),
		TEST(what_is_forgotten_as_a_whole_leaves_the_journal),
		TEST(documents_that_went_leave_no_rows_and_no_long_journal),
		TEST(a_repo_that_was_forgotten_stays_so_after_the_disk_was_full),
		TEST(a_document_goes_with_bytes_that_could_not_be_written),
		TEST(blobs_stored_while_the_index_could_not_be_written_are_found_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
