/* SPDX-License-Identifier: Apache-2.0 */
/* index: names, entries, documents, blobs, before and after the disk. */
#include "index_rig.h"

#include "common/log.h"

/* --- names --- */

static void look_at_name(struct fixture *f)
{
	char commit[COMMIT_TEXT] = "untouched";
	int64_t checked_at = 5;

	assert_int_equal(index_find_name(f->index, REPO, STR("dev"), commit, &checked_at), -ENODATA);
	assert_string_equal(commit, "untouched");
	assert_int_equal(checked_at, 5);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit, &checked_at), 0);
	assert_string_equal(commit, C2);
	assert_int_equal(checked_at, 200);
	assert_int_equal(index_find_name(f->index, STR("models/acme/Pub"), STR("main"), commit, NULL),
			 -ENODATA);
}

static void finds_the_last_commit_of_a_name(void **state)
{
	learn(*state, name_fact("main", C1, 100));
	learn(*state, name_fact("main", C2, 200));
	in_every_phase(*state, look_at_name);
}

static void finds_a_name_learned_after_a_miss(void **state)
{
	struct fixture *f = *state;
	char commit[COMMIT_TEXT];

	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit, NULL), -ENODATA);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit, NULL), -ENODATA);
	learn(f, name_fact("main", C1, 100));
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit, NULL), 0);
}

static void look_at_aliases(struct fixture *f)
{
	SCOPED_BUF out;

	buf_init(&out, 100);
	(void)buf_append_str(&out, STR("before"));
	assert_int_equal(index_canonical_repo(f->index, STR("models/old"), 0, &out), 0);
	assert_string_equal(out.bytes, "models/acme/new");
	assert_int_equal(index_canonical_repo(f->index, STR("models/nobody/knows"), 0, &out), 0);
	assert_string_equal(out.bytes, "models/nobody/knows");
	assert_int_equal(index_canonical_repo(f->index, STR("models/circle/a"), 0, &out), 0);
	assert_string_equal(out.bytes, "models/circle/a");
	assert_int_equal(index_canonical_repo(f->index, STR("models/back"), 0, &out), 0);
	assert_string_equal(out.bytes, "models/back");
}

static void follows_aliases_and_survives_circles(void **state)
{
	learn_alias(*state, "models/old", "models/acme/mid");
	learn_alias(*state, "models/acme/mid", "models/acme/new");
	learn_alias(*state, "models/circle/a", "models/circle/b");
	learn_alias(*state, "models/circle/b", "models/circle/a");
	learn_alias(*state, "models/back", "models/acme/x");
	learn_alias(*state, "models/back", "models/back");
	in_every_phase(*state, look_at_aliases);
}

static void look_at_commits(struct fixture *f)
{
	char commit[COMMIT_TEXT] = "untouched";

	assert_int_equal(index_find_commit(f->index, REPO, STR("1111111"), commit), -ENODATA); /* two */
	assert_int_equal(index_find_commit(f->index, REPO, STR("111111"), commit), -ENODATA);  /* too short */
	assert_int_equal(index_find_commit(f->index, REPO, STR("11111111x"), commit), -ENODATA);
	assert_int_equal(index_find_commit(f->index, REPO, STR("3333333"), commit), -ENODATA);
	assert_int_equal(index_find_commit(f->index, STR("models/acme/other"), STR("11111112"), commit),
			 -ENODATA);
	assert_string_equal(commit, "untouched");
	assert_int_equal(index_find_commit(f->index, REPO, STR("11111112"), commit), 0);
	assert_string_equal(commit, C2);
	assert_int_equal(index_find_commit(f->index, REPO, STR(C1), commit), 0);
	assert_string_equal(commit, C1);
}

static void finds_a_commit_by_its_only_prefix(void **state)
{
	learn(*state, name_fact("main", C1, 100));
	learn(*state, entry_fact(C2, "a", git_content(1, 1)));
	in_every_phase(*state, look_at_commits);
}

/* --- entries --- */

static void look_at_entries(struct fixture *f)
{
	struct content_id got = { .size = 99 }, git = git_content(1, 10),
			  lfs = lfs_content(2, UINT64_C(5000000000));

	assert_int_equal(find_entry(f, C1, "never heard", &got), -ENODATA);
	assert_int_equal(find_entry(f, C1, "gone.txt", &got), -ENOENT);
	assert_int_equal(find_entry(f, C2, "gone.txt", &got), -ENODATA);
	assert_int_equal(find_entry(f, "short", "a b/\xc3\xa9%.txt", &got), -ENODATA);
	assert_int_equal(got.size, 99);
	assert_int_equal(find_entry(f, C1, "a b/\xc3\xa9%.txt", &got), 0);
	assert_true(content_id_eq(&got, &git));
	assert_int_equal(find_entry(f, C1, "model.bin", &got), 0);
	assert_true(content_id_eq(&got, &lfs));
}

static void keeps_absence_and_ignorance_apart(void **state)
{
	learn(*state, entry_fact(C1, "a b/\xc3\xa9%.txt", git_content(1, 10)));
	learn(*state, entry_fact(C1, "model.bin", lfs_content(2, UINT64_C(5000000000))));
	learn(*state, commit_fact(FACT_ABSENT, C1, "gone.txt"));
	in_every_phase(*state, look_at_entries);
}

static void look_at_tree(struct fixture *f)
{
	struct content_id got;

	assert_true(index_tree_is_known(f->index, REPO, STR(C1)));
	assert_false(index_tree_is_known(f->index, REPO, STR(C2)));
	assert_int_equal(find_entry(f, C1, "a", &got), 0);
	assert_int_equal(find_entry(f, C1, "not in the tree", &got), -ENOENT);
	assert_int_equal(find_entry(f, C2, "not in the tree", &got), -ENODATA);
}

static void a_known_tree_says_what_it_lacks(void **state)
{
	learn(*state, entry_fact(C1, "a", git_content(1, 1)));
	learn(*state, entry_fact(C2, "a", git_content(1, 1)));
	learn(*state, commit_fact(FACT_TREE, C1, ""));
	in_every_phase(*state, look_at_tree);
}

static void an_entry_learned_later_is_not_absent(void **state)
{
	struct fixture *f = *state;
	struct content_id got;

	learn(f, commit_fact(FACT_ABSENT, C1, "a"));
	commit(f);
	learn(f, entry_fact(C1, "a", git_content(1, 1)));
	assert_int_equal(find_entry(f, C1, "a", &got), 0);
	commit(f);
	reopen(f);
	assert_int_equal(find_entry(f, C1, "a", &got), 0);
}

static int list_entry(void *ctx, struct str path, const struct content_id *content)
{
	struct buf *out = ctx;

	(void)buf_appendf(out, "%.*s:%u ", STR_ARGS(path), (unsigned)content->size);
	return out->len > 60 ? 7 : 0;
}

static void expect_tree(struct fixture *f, const char *expected)
{
	SCOPED_BUF out;

	buf_init(&out, 1000);
	assert_int_equal(index_tree_each(f->index, REPO, STR(C1), list_entry, &out), 0);
	assert_string_equal(out.bytes, expected);
}

static void lists_a_tree_in_byte_order_also_when_half_of_it_is_on_disk(void **state)
{
	struct fixture *f = *state;
	SCOPED_BUF out;

	buf_init(&out, 1000);
	assert_int_equal(index_tree_each(f->index, REPO, STR(C1), list_entry, &out), -ENODATA);
	learn(f, entry_fact(C1, "b", git_content(1, 2)));
	learn(f, entry_fact(C1, "a/z", git_content(1, 1)));
	learn(f, entry_fact(C1, "d", git_content(1, 4)));
	learn(f, commit_fact(FACT_ABSENT, C1, "aaa"));
	commit(f);
	learn(f, entry_fact(C1, "c", git_content(1, 3)));
	learn(f, entry_fact(C1, "d", git_content(1, 44)));
	learn(f, entry_fact(C1, "e", git_content(1, 5)));
	learn(f, commit_fact(FACT_ABSENT, C1, "b"));
	learn(f, commit_fact(FACT_TREE, C1, ""));
	expect_tree(f, "a/z:1 c:3 d:44 e:5 ");
	commit(f);
	expect_tree(f, "a/z:1 c:3 d:44 e:5 ");
	reopen(f);
	expect_tree(f, "a/z:1 c:3 d:44 e:5 ");
}

static void stops_a_listing_when_the_visitor_says_so(void **state)
{
	struct fixture *f = *state;
	SCOPED_BUF out;
	char path[32];

	for (int i = 0; i < 20; i++) {
		(void)snprintf(path, sizeof(path), "path-%02d", i);
		learn(f, entry_fact(C1, path, git_content(1, 1)));
	}
	learn(f, commit_fact(FACT_TREE, C1, ""));
	buf_init(&out, 1000);
	assert_int_equal(index_tree_each(f->index, REPO, STR(C1), list_entry, &out), 7);
	commit(f);
	buf_reset(&out);
	assert_int_equal(index_tree_each(f->index, REPO, STR(C1), list_entry, &out), 7);
}

/* --- documents --- */

static void look_at_docs(struct fixture *f)
{
	struct doc d = { .body_size = 99 };

	assert_int_equal(index_find_doc(f->index, REPO, STR("m:other"), &d), -ENODATA);
	assert_int_equal(d.body_size, 99);
	assert_int_equal(index_find_doc(f->index, REPO, STR("m:info"), &d), 0);
	assert_int_equal(d.body.bytes[0], 9);
	assert_int_equal(d.fetched_at, 300);
	assert_string_equal(d.content_type, "application/json");
	assert_string_equal(d.link_next, "/api/x?cursor=1");
	assert_string_equal(d.commit, C1);
	doc_done(&d);
	assert_int_equal(index_find_doc(f->index, REPO, STR("c:bare"), &d), 0);
	assert_null(d.content_type);
	assert_null(d.link_next);
	assert_string_equal(d.commit, "");
	doc_done(&d);
}

static void keeps_a_document_with_what_to_send(void **state)
{
	struct doc first = make_doc(8, 200), second = make_doc(9, 300),
		   bare = { .body_size = 1, .fetched_at = 1 };

	learn_doc(*state, "m:info", &first);
	learn_doc(*state, "m:info", &second);
	learn_doc(*state, "c:bare", &bare);
	in_every_phase(*state, look_at_docs);
}

/* --- blobs --- */

static void look_at_blobs(struct fixture *f)
{
	struct content_id lfs = lfs_content(1, 10), git = git_content(2, 10), other = lfs_content(3, 10),
			  no_git = git_content(0, 5);
	struct digest got = { .bytes = { 77 } };

	assert_int_equal(index_find_blob(f->index, &other, &got), -ENODATA);
	other = git_content(3, 10);
	assert_int_equal(index_find_blob(f->index, &other, &got), -ENODATA);
	assert_int_equal(index_find_blob(f->index, &no_git, &got), -ENODATA);
	assert_int_equal(got.bytes[0], 77);
	assert_int_equal(index_find_blob(f->index, &lfs, &got), 0);
	assert_int_equal(got.bytes[31], 1);
	memset(&got, 0, sizeof(got));
	assert_int_equal(index_find_blob(f->index, &git, &got), 0);
	assert_int_equal(got.bytes[31], 1);
}

static void finds_a_blob_by_both_names(void **state)
{
	learn(*state, blob_fact(FACT_BLOB, 1, 2, 10, 100));
	learn(*state, blob_fact(FACT_BLOB, 5, 0, 5, 100)); /* its git id is not known */
	in_every_phase(*state, look_at_blobs);
}

static void look_at_gone_blob(struct fixture *f)
{
	struct content_id lfs = lfs_content(1, 10), git = git_content(2, 10);
	struct digest got;

	assert_int_equal(index_find_blob(f->index, &lfs, &got), -ENODATA);
	assert_int_equal(index_find_blob(f->index, &git, &got), -ENODATA);
}

static void a_blob_that_is_gone_is_found_by_neither(void **state)
{
	struct fixture *f = *state;

	learn(f, blob_fact(FACT_BLOB, 1, 2, 10, 100));
	commit(f);
	learn(f, blob_fact(FACT_BLOB_GONE, 1, 0, 0, 0));
	in_every_phase(f, look_at_gone_blob);
}

static void documents_go_with_their_body(void **state)
{
	struct fixture *f = *state;
	struct doc doc = make_doc(8, 200), d;

	learn(f, blob_fact(FACT_BLOB, 8, 1, 7, 100));
	learn_doc(f, "m:info", &doc);
	commit(f);
	learn(f, blob_fact(FACT_BLOB_GONE, 8, 0, 0, 0));
	commit(f);
	reopen(f);
	assert_int_equal(index_find_doc(f->index, REPO, STR("m:info"), &d), -ENODATA);
}

static void look_at_collision(struct fixture *f)
{
	struct content_id git = git_content(2, 10), second = lfs_content(6, 10);
	struct digest got;

	assert_int_equal(index_find_blob(f->index, &git, &got), 0);
	assert_int_equal(got.bytes[0], 1);
	assert_int_equal(index_find_blob(f->index, &second, &got), 0);
}

static void the_first_blob_keeps_a_git_id_that_two_have(void **state)
{
	uint64_t warnings = log_count(LOG_LEVEL_WARNING);

	learn(*state, blob_fact(FACT_BLOB, 1, 2, 10, 100));
	learn(*state, blob_fact(FACT_BLOB, 6, 2, 10, 100));
	assert_int_equal(log_count(LOG_LEVEL_WARNING), warnings + 1);
	in_every_phase(*state, look_at_collision);
	/* also when the first one is on disk only */
	learn(*state, blob_fact(FACT_BLOB, 6, 2, 10, 100));
	in_every_phase(*state, look_at_collision);
}

static int list_blob(void *ctx, const struct digest *sha256, uint64_t size, int64_t used_at)
{
	struct buf *out = ctx;

	(void)buf_appendf(out, "%u@%d ", sha256->bytes[0], (int)used_at);
	return size == 13;
}

static void expect_oldest(struct fixture *f, const char *expected)
{
	SCOPED_BUF out;

	buf_init(&out, 1000);
	assert_int_equal(index_oldest_blobs(f->index, list_blob, &out), 0);
	assert_string_equal(out.bytes, expected);
}

static void lists_blobs_by_their_last_use(void **state)
{
	struct fixture *f = *state;
	struct digest d;

	for (uint8_t i = 1; i <= 4; i++)
		learn(f, blob_fact(FACT_BLOB, i, i, 10, 100 + i));
	commit(f);
	expect_oldest(f, "1@101 2@102 3@103 4@104 ");
	memset(d.bytes, 1, sizeof(d.bytes));
	index_touch_blob(f->index, &d, 200);
	memset(d.bytes, 9, sizeof(d.bytes));
	index_touch_blob(f->index, &d, 200); /* not held: nothing happens */
	expect_oldest(f, "2@102 3@103 4@104 1@200 ");
	reopen(f);
	expect_oldest(f, "2@102 3@103 4@104 1@200 ");
	learn(f, blob_fact(FACT_BLOB, 5, 5, 13, 50));
	commit(f);
	expect_oldest(f, "5@50 "); /* the visitor stopped it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(finds_the_last_commit_of_a_name),
		TEST(finds_a_name_learned_after_a_miss),
		TEST(follows_aliases_and_survives_circles),
		TEST(finds_a_commit_by_its_only_prefix),
		TEST(keeps_absence_and_ignorance_apart),
		TEST(a_known_tree_says_what_it_lacks),
		TEST(an_entry_learned_later_is_not_absent),
		TEST(lists_a_tree_in_byte_order_also_when_half_of_it_is_on_disk),
		TEST(stops_a_listing_when_the_visitor_says_so),
		TEST(keeps_a_document_with_what_to_send),
		TEST(finds_a_blob_by_both_names),
		TEST(a_blob_that_is_gone_is_found_by_neither),
		TEST(documents_go_with_their_body),
		TEST(the_first_blob_keeps_a_git_id_that_two_have),
		TEST(lists_blobs_by_their_last_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
