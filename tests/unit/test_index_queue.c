/* SPDX-License-Identifier: Apache-2.0 */
/* index: the queue of facts and the bounds of memory, with many threads at it. */
#include "index_rig.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

/* --- what the journal needs --- */

/* The flags of the batch: R refresh, J to be journaled, - a kind that is not. */
static void expect_batch(struct fixture *f, const char *expected)
{
	struct index_batch *b = index_take_batch(f->index, EVERYTHING);
	SCOPED_BUF out, line;

	buf_init(&out, 100);
	buf_init(&line, 10000);
	for (size_t i = 0; i < index_batch_count(b); i++) {
		bool is_journaled = fact_encode(index_batch_fact(b, i), &line) == 1;

		(void)buf_append_char(&out, index_batch_is_refresh(b, i) ? 'R' : is_journaled ? 'J' : '-');
	}
	assert_string_equal(buf_str(&out).ptr, expected);
	assert_int_equal(index_apply(f->index, b), 0);
}

static void a_name_checked_again_is_a_refresh(void **state)
{
	struct fixture *f = *state;
	int64_t at = 0;
	char commit_text[COMMIT_TEXT];

	learn(f, name_fact("main", C1, 100));
	learn(f, name_fact("main", C1, 130));
	expect_batch(f, "JR");
	learn(f, name_fact("main", C1, 160));
	expect_batch(f, "R");
	reopen(f); /* the disk knows it as well */
	learn(f, name_fact("main", C1, 190));
	learn(f, name_fact("main", C2, 220));
	learn(f, name_fact("main", C1, 250));
	expect_batch(f, "RJJ");
	reopen(f);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, &at), 0);
	assert_int_equal(at, 250);
	learn(f, name_fact("main", C1, 250 + 6 * 3600 - 1));
	learn(f, name_fact("main", C1, 250 + 6 * 3600));
	expect_batch(f, "RJ");
}

static void what_never_changes_is_not_even_queued_twice(void **state)
{
	struct fixture *f = *state;

	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	learn(f, commit_fact(FACT_ABSENT, C1, "b"));
	learn(f, commit_fact(FACT_ABSENT, C1, "b"));
	learn(f, commit_fact(FACT_TREE, C1, ""));
	learn(f, commit_fact(FACT_TREE, C1, ""));
	learn_alias(f, "models/a", "models/b");
	learn_alias(f, "models/a", "models/b"); /* it was looked at: that is remembered, but not journaled */
	expect_batch(f, "JJJJR");
	reopen(f);
	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	learn(f, commit_fact(FACT_TREE, C1, ""));
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_NONE, 60)); /* it never was public */
	expect_batch(f, "RRR");
}

static void what_the_journal_lacks_is_no_refresh(void **state)
{
	struct fixture *f = *state;
	struct index_batch *b;

	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	learn(f, name_fact("main", C1, 100));
	b = index_take_batch(f->index, EVERYTHING);
	index_batch_unjournaled(b, 0);
	index_batch_unjournaled(b, 1);
	assert_int_equal(index_apply(f->index, b), 0);
	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	expect_batch(f, "J");
	reopen(f);
	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	learn(f, name_fact("main", C1, 130));
	expect_batch(f, "RJ");
}

static void a_tree_counts_its_entries(void **state)
{
	struct fixture *f = *state;
	struct index_batch *b;

	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	learn(f, commit_fact(FACT_ABSENT, C1, "b"));
	commit(f);
	reopen(f);
	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	learn(f, entry_fact(C1, "b", git_content(1, 1)));
	learn(f, entry_fact(C1, "c", git_content(1, 1)));
	learn(f, entry_fact(C2, "d", git_content(1, 1)));
	learn(f, commit_fact(FACT_TREE, C1, ""));
	b = index_take_batch(f->index, EVERYTHING);
	assert_int_equal(index_batch_count(b), 5);
	assert_int_equal(index_batch_fact(b, 4)->size, 3);
	assert_int_equal(index_apply(f->index, b), 0);
}

static void a_dropped_fact_is_known_no_more(void **state)
{
	struct fixture *f = *state;
	struct doc doc = make_doc(8, 200), d;
	struct index_batch *b;

	learn_doc(f, "m:a", &doc);
	learn_doc(f, "m:b", &doc);
	b = index_take_batch(f->index, EVERYTHING);
	index_batch_drop(b, 0);
	index_batch_drop(b, 1);
	learn_doc(f, "m:b", &doc); /* learned again meanwhile */
	assert_int_equal(index_apply(f->index, b), 0);
	assert_int_equal(index_find_doc(f->index, REPO, STR("m:a"), &d), -ENODATA);
	assert_int_equal(index_find_doc(f->index, REPO, STR("m:b"), &d), 0);
	doc_done(&d);
	commit(f);
	reopen(f);
	assert_int_equal(index_find_doc(f->index, REPO, STR("m:a"), &d), -ENODATA);
	assert_int_equal(index_find_doc(f->index, REPO, STR("m:b"), &d), 0);
	doc_done(&d);
}

static void takes_a_batch_from_the_front(void **state)
{
	struct fixture *f = *state;
	struct index_batch *b;
	struct fact blob = blob_fact(FACT_BLOB, 1, 1, 1, 1);

	for (int i = 0; i < 10; i++)
		learn(f, name_fact("main", i % 2 ? C1 : C2, 100 + i));
	b = index_take_batch(f->index, 4);
	assert_int_equal(index_batch_count(b), 4);
	assert_int_equal(index_batch_fact(b, 3)->at, 103);
	index_batch_learn(f->index, b, &blob);
	assert_int_equal(index_batch_count(b), 5);
	assert_int_equal(index_batch_fact(b, 4)->kind, FACT_BLOB);
	assert_int_equal(index_apply(f->index, b), 0);
	b = index_take_batch(f->index, EVERYTHING);
	assert_int_equal(index_batch_count(b), 6);
	assert_int_equal(index_apply(f->index, b), 0);
}

static void count_notice(void *ctx)
{
	++*(int *)ctx;
}

static void tells_when_the_queue_begins_to_fill(void **state)
{
	struct fixture *f = *state;
	int notices = 0;

	index_on_queue(f->index, count_notice, &notices);
	learn(f, name_fact("main", C1, 100));
	learn(f, name_fact("dev", C1, 100));
	assert_int_equal(notices, 1);
	commit(f);
	learn(f, (struct fact){ .kind = FACT_USE, .at = 80 }); /* nothing for the disk */
	assert_int_equal(notices, 1);
	learn(f, name_fact("main", C2, 130));
	assert_int_equal(notices, 2);
	index_on_queue(f->index, NULL, NULL);
	commit(f);
}

static void passes_over_facts_that_make_no_sense(void **state)
{
	struct fixture *f = *state;
	struct fact bad = name_fact("main", "1111111111111111111111111111111111111XYZ", 100);

	learn(f, bad);
	bad = name_fact("main", C1, 100);
	bad.repo = STR("");
	learn(f, bad);
	learn(f, (struct fact){ .kind = FACT_DOC, .repo = REPO });
	expect_batch(f, "");
}

/* --- memory --- */

static void memory_is_bounded_and_loses_nothing(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	struct content_id got;
	char path[32];

	index_close(f->index);
	f->memory_entries = 100;
	assert_int_equal(try_open(f, &reason), 0);
	for (int i = 0; i < 5000; i++) {
		(void)snprintf(path, sizeof(path), "p%d", i);
		learn(f, entry_fact(C1, path, git_content(1, (uint64_t)i)));
		if (i == 2500)
			commit(f);
	}
	for (int i = 0; i < 5000; i++) {
		(void)snprintf(path, sizeof(path), "p%d", i);
		assert_int_equal(find_entry(f, C1, path, &got), 0);
		assert_int_equal(got.size, i);
	}
	commit(f);
	for (int i = 0; i < 5000; i++) {
		(void)snprintf(path, sizeof(path), "p%d", i);
		assert_int_equal(find_entry(f, C1, path, &got), 0);
		assert_int_equal(got.size, i);
		(void)snprintf(path, sizeof(path), "q%d", i);
		assert_int_equal(find_entry(f, C1, path, &got), -ENODATA);
	}
}

/* --- threads --- */

struct race {
	struct fixture *fixture;
	atomic_bool is_over;
	_Atomic int committed; /* names below this one were learned */
};

static void *read_along(void *ctx)
{
	struct race *r = ctx;
	struct index *x = r->fixture->index;
	char commit_text[COMMIT_TEXT], revision[32], path[32];
	struct content_id content, git = git_content(2, 10);
	struct digest sha256;

	for (unsigned i = 0; !atomic_load(&r->is_over); i++) {
		int limit = atomic_load(&r->committed), n;

		if (limit == 0)
			continue;
		n = (int)(i * 7919 % (unsigned)limit);
		(void)snprintf(revision, sizeof(revision), "r%d", n);
		(void)snprintf(path, sizeof(path), "p%d", n);
		assert(index_find_name(x, REPO, str_from(revision), commit_text, NULL) == 0);
		assert(index_find_entry(x, REPO, STR(C1), str_from(path), &content) == 0);
		assert(content.size == (uint64_t)n);
		assert(index_find_entry(x, REPO, STR(C2), str_from(path), &content) == -ENODATA);
		if (index_find_blob(x, &git, &sha256) == 0)
			index_touch_blob(x, &sha256, (int64_t)i);
		(void)rights_of(r->fixture, (uint8_t)(1 + i % 3));
	}
	return NULL;
}

static void *learn_along(void *ctx)
{
	struct race *r = ctx;
	char text[32];

	for (int i = 0; i < 1500; i++) {
		(void)snprintf(text, sizeof(text), "r%d", i);
		learn(r->fixture, name_fact(text, C1, 100));
		(void)snprintf(text, sizeof(text), "p%d", i);
		learn(r->fixture, entry_fact(C1, text, git_content(1, (uint64_t)i)));
		learn(r->fixture, right_fact(FACT_GRANT, (uint8_t)(1 + i % 3), ACCESS_FILES, i));
		if (i % 100 == 0)
			learn(r->fixture, (struct fact){ .kind = FACT_FORGET_GRANTS, .repo = REPO });
		if (i % 50 == 0)
			learn(r->fixture, blob_fact(i % 100 ? FACT_BLOB_GONE : FACT_BLOB, 1, 2, 10, 100));
		atomic_store(&r->committed, i + 1);
	}
	atomic_store(&r->is_over, true);
	return NULL;
}

static void what_was_learned_is_found_by_all_threads_at_any_time(void **state)
{
	struct fixture *f = *state;
	struct race race = { .fixture = f };
	pthread_t readers[4], learner;
	const char *reason = NULL;

	index_close(f->index);
	f->memory_entries = 200; /* so that rows come and go */
	assert_int_equal(try_open(f, &reason), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, read_along, &race), 0);
	assert_int_equal(pthread_create(&learner, NULL, learn_along, &race), 0);
	while (!atomic_load(&race.is_over)) {
		assert_int_equal(index_apply(f->index, index_take_batch(f->index, 100)), 0);
		assert_int_equal(index_flush_uses(f->index), 0);
		assert_int_equal(index_maintain(f->index), 0);
	}
	(void)pthread_join(learner, NULL);
	for (int i = 0; i < 4; i++)
		(void)pthread_join(readers[i], NULL);
	commit(f);
	reopen(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_name_checked_again_is_a_refresh),
		TEST(what_never_changes_is_not_even_queued_twice),
		TEST(what_the_journal_lacks_is_no_refresh),
		TEST(a_tree_counts_its_entries),
		TEST(a_dropped_fact_is_known_no_more),
		TEST(takes_a_batch_from_the_front),
		TEST(tells_when_the_queue_begins_to_fill),
		TEST(passes_over_facts_that_make_no_sense),
		TEST(memory_is_bounded_and_loses_nothing),
		TEST(what_was_learned_is_found_by_all_threads_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
