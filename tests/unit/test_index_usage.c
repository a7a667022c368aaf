/* SPDX-License-Identifier: Apache-2.0 */
/* index: what is held of each repo, each blob once a repo; and what nobody else names, of a repo and of a commit. */
#include "index_rig.h"

#define OTHER STR("models/acme/other")

static struct fact of(struct str repo, struct fact f)
{
	f.repo = repo;
	return f;
}

static void survey(struct fixture *f, struct usage **ret)
{
	commit(f);
	assert_int_equal(index_survey(f->index, &(struct usage_query){ .ctx = f }, ret), 0);
}

static const struct usage_row *row_of(const struct usage *u, const char *repo)
{
	for (size_t i = 0; i < u->count; i++)
		if (strcmp(u->rows[i].repo, repo) == 0)
			return &u->rows[i];
	return NULL;
}

static void hold(struct fixture *f, uint8_t sha256, uint8_t git, uint64_t size, int64_t used_at)
{
	learn(f, blob_fact(FACT_BLOB, sha256, git, size, used_at));
}

static void each_blob_counts_once_for_a_repo(void **state)
{
	struct fixture *f = *state;
	struct usage *u = NULL;
	const struct usage_row *row;

	hold(f, 1, 101, 1000, 50);
	hold(f, 2, 102, 20, 70);
	/* the same large file under two names, and in two commits; a small one; one that is not held; one that is absent */
	learn(f, entry_fact(C1, "a.bin", lfs_content(1, 1000)));
	learn(f, entry_fact(C1, "b.bin", lfs_content(1, 1000)));
	learn(f, entry_fact(C2, "a.bin", lfs_content(1, 1000)));
	learn(f, entry_fact(C2, "README.md", git_content(102, 20)));
	learn(f, entry_fact(C2, "far.bin", lfs_content(9, 5000)));
	learn(f, commit_fact(FACT_ABSENT, C2, "none.bin"));
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_FILES, f->now));
	survey(f, &u);
	assert_int_equal(u->count, 1);
	row = row_of(u, "models/acme/pub");
	assert_non_null(row);
	assert_int_equal(row->files, 2);
	assert_int_equal(row->bytes, 1020);
	assert_int_equal(row->shared_bytes, 0);
	assert_int_equal(row->commits, 2);
	assert_int_equal(row->used_at, 70);
	assert_true(row->is_public);
	assert_int_equal(u->bytes, 1020);
	assert_int_equal(u->unreferenced_bytes, 0);
	usage_free(u);
}

static void what_several_repos_name_is_shared_for_all_of_them(void **state)
{
	static const char *const repos[] = { "models/acme/a", "models/acme/b", "models/acme/c" };
	struct fixture *f = *state;
	struct usage *u = NULL;

	hold(f, 1, 101, 1000, 50);
	hold(f, 2, 102, 20, 70);
	hold(f, 3, 103, 300, 70);
	for (size_t i = 0; i < 3; i++)
		learn(f, of(str_from(repos[i]), entry_fact(C1, "a.bin", lfs_content(1, 1000))));
	/* the same bytes, as a large file here and as a small one there */
	learn(f, of(str_from(repos[0]), entry_fact(C1, "x", lfs_content(2, 20))));
	learn(f, of(str_from(repos[1]), entry_fact(C1, "y", git_content(102, 20))));
	survey(f, &u);
	assert_int_equal(u->count, 3);
	assert_int_equal(row_of(u, repos[0])->shared_bytes, 1020);
	assert_int_equal(row_of(u, repos[1])->shared_bytes, 1020);
	assert_int_equal(row_of(u, repos[2])->shared_bytes, 1000);
	assert_false(row_of(u, repos[0])->is_public);
	assert_int_equal(u->unreferenced_bytes, 300);
	assert_int_equal(u->bytes, 1320);
	usage_free(u);
}

static bool one_is_partial(void *ctx, const struct content_id *content)
{
	return content->kind == CONTENT_LFS && content->sha256.bytes[31] == 9;
}

static void unfinished_files_are_counted_once_and_empty_repos_left_out(void **state)
{
	struct fixture *f = *state;
	struct usage_query query = { .is_partial = one_is_partial };
	struct usage *u = NULL;

	learn(f, entry_fact(C1, "a.bin", lfs_content(9, 5000)));
	learn(f, entry_fact(C2, "a.bin", lfs_content(9, 5000)));
	learn(f, entry_fact(C2, "b.bin", lfs_content(8, 5000)));
	learn(f, of(OTHER, entry_fact(C1, "b.bin", lfs_content(8, 5000))));
	commit(f);
	assert_int_equal(index_survey(f->index, &query, &u), 0);
	assert_int_equal(u->count, 1);
	assert_int_equal(u->rows[0].partial_files, 1);
	assert_int_equal(u->rows[0].files, 0);
	usage_free(u);
}

static void a_survey_can_be_stopped(void **state)
{
	struct fixture *f = *state;
	atomic_bool is_stopping = true;
	struct usage_query query = { .is_stopping = &is_stopping };
	struct usage *u = NULL;
	struct alone a;

	learn(f, entry_fact(C1, "a.bin", lfs_content(1, 1000)));
	commit(f);
	assert_int_equal(index_survey(f->index, &query, &u), -ECANCELED);
	assert_int_equal(index_find_alone(f->index, REPO, NULL, &query, &a), -ECANCELED);
	assert_null(u);
}

struct seen {
	unsigned count;
	uint64_t files, bytes;
	char names[64];
};

static int see_commit(void *ctx, const struct usage_commit *commit)
{
	struct seen *s = ctx;

	s->count++;
	s->files += commit->files;
	s->bytes += commit->bytes;
	if (commit->names.len)
		(void)snprintf(s->names, sizeof(s->names), "%s", commit->names.ptr);
	return 0;
}

static void commits_are_visited_with_their_names(void **state)
{
	struct fixture *f = *state;
	struct seen s = { .count = 0 };

	hold(f, 1, 101, 1000, 50);
	learn(f, entry_fact(C1, "a.bin", lfs_content(1, 1000)));
	learn(f, entry_fact(C1, "b.bin", lfs_content(1, 1000)));
	learn(f, entry_fact(C2, "b.bin", lfs_content(7, 1000))); /* not held, and without a name */
	learn(f, name_fact("main", C1, f->now));
	learn(f, name_fact(C1, C1, f->now));
	commit(f);
	assert_int_equal(
		index_commits_each(f->index, REPO, &(struct usage_query){ .ctx = f }, see_commit, &s), 0);
	assert_int_equal(s.count, 1);
	assert_int_equal(s.files, 1);
	assert_int_equal(s.bytes, 1000);
	assert_string_equal(s.names, "main");
}

/* --- what nobody else names --- */

/* How many of its items are alone, and their sizes; -errno. */
static int64_t alone_bytes(struct fixture *f, struct str repo, const char *commit_hash, uint64_t *ret_others)
{
	struct usage_query query = { .is_partial = one_is_partial };
	struct alone a;
	int64_t bytes = 0;
	int r;

	*ret_others = 0;
	commit(f);
	r = index_find_alone(f->index, repo, commit_hash, &query, &a);
	if (r < 0)
		return r;
	for (size_t i = 0; i < a.count; i++)
		*(a.items[i].has_others ? ret_others : (uint64_t *)&bytes) += a.items[i].size;
	alone_done(&a);
	return bytes;
}

static void learn_doc_of(struct fixture *f, struct str repo, uint8_t body, const char *commit_hash)
{
	struct doc d = make_doc(body, f->now);

	memset(d.commit, 0, sizeof(d.commit));
	if (commit_hash)
		memcpy(d.commit, commit_hash, COMMIT_TEXT);
	learn(f,
	      (struct fact){ .kind = FACT_DOC, .repo = repo, .path = STR("m:x"), .doc = &d, .at = f->now });
}

static void every_way_to_name_a_blob_is_seen(void **state)
{
	struct fixture *f = *state;
	uint64_t others;

	for (uint8_t i = 1; i <= 6; i++)
		hold(f, i, (uint8_t)(100 + i), (uint64_t)1 << i, 50);
	learn(f, entry_fact(C1, "1", lfs_content(1, 2)));
	learn(f, entry_fact(C1, "2", git_content(102, 4)));
	learn(f, entry_fact(C1, "3", lfs_content(3, 8)));
	learn(f, entry_fact(C1, "4", git_content(104, 16)));
	learn(f, entry_fact(C1, "5", lfs_content(5, 32)));
	learn(f, entry_fact(C1, "6", lfs_content(6, 64)));
	assert_int_equal(alone_bytes(f, REPO, NULL, &others), 126);
	assert_int_equal(others, 0);
	/* by the other kind of entry, by the same, by a document, by an object */
	learn(f, of(OTHER, entry_fact(C1, "x", git_content(101, 2))));
	learn(f, of(OTHER, entry_fact(C1, "y", git_content(102, 4))));
	learn(f, of(OTHER, entry_fact(C2, "z", lfs_content(3, 8))));
	learn_doc_of(f, OTHER, 4, NULL);
	learn(f, (struct fact){
			 .kind = FACT_OBJECT, .repo = OTHER, .content = lfs_content(5, 32), .at = f->now });
	assert_int_equal(alone_bytes(f, REPO, NULL, &others), 64);
	assert_int_equal(others, 62);
	/* and the other way round: what it names is all named here */
	assert_int_equal(alone_bytes(f, OTHER, NULL, &others), 0);
	assert_int_equal(others, 62);
}

static void a_commit_is_alone_against_its_own_repo_too(void **state)
{
	struct fixture *f = *state;
	uint64_t others;

	for (uint8_t i = 1; i <= 4; i++)
		hold(f, i, (uint8_t)(100 + i), (uint64_t)1 << i, 50);
	learn(f, entry_fact(C1, "old.bin", lfs_content(1, 2)));
	learn(f, entry_fact(C1, "same.json", git_content(102, 4)));
	learn(f, entry_fact(C2, "same.json", git_content(102, 4)));
	learn(f, entry_fact(C2, "new.bin", lfs_content(3, 8)));
	learn_doc_of(f, REPO, 4, C1);
	assert_int_equal(alone_bytes(f, REPO, C1, &others), 2 + 16);
	assert_int_equal(others, 4);
	assert_int_equal(alone_bytes(f, REPO, C2, &others), 8);
	assert_int_equal(alone_bytes(f, REPO, NULL, &others), 2 + 4 + 8 + 16);
}

static void parts_are_among_it(void **state)
{
	struct fixture *f = *state;
	uint64_t others;

	learn(f, entry_fact(C1, "a.bin", lfs_content(9, 5000)));
	learn(f, entry_fact(C1, "b.bin", lfs_content(8, 5000))); /* nothing is there of it */
	assert_int_equal(alone_bytes(f, REPO, NULL, &others), 5000);
	learn(f, of(OTHER, entry_fact(C1, "a.bin", lfs_content(9, 5000))));
	assert_int_equal(alone_bytes(f, REPO, NULL, &others), 0);
	assert_int_equal(others, 5000);
}

static void what_was_forgotten_is_unknown(void **state)
{
	struct fixture *f = *state;
	uint64_t others;

	assert_int_equal(alone_bytes(f, REPO, NULL, &others), -ENODATA);
	learn(f, right_fact(FACT_GRANT, 7, ACCESS_FILES, f->now));
	assert_int_equal(alone_bytes(f, REPO, NULL, &others),
			 0); /* a right is something that can be forgotten */
	learn(f, (struct fact){ .kind = FACT_FORGET_GRANTS, .repo = REPO });
	learn(f, entry_fact(C1, "a.bin", lfs_content(1, 2)));
	assert_int_equal(alone_bytes(f, REPO, C1, &others), 0);
	assert_int_equal(alone_bytes(f, REPO, C2, &others), -ENODATA);
	learn(f, (struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO });
	assert_int_equal(alone_bytes(f, REPO, NULL, &others), -ENODATA);
}

static int count_alias(void *ctx, struct str name)
{
	assert_true(str_eq(name, STR("models/old/name")));
	++*(unsigned *)ctx;
	return 0;
}

static void the_names_that_lead_to_a_repo_are_found(void **state)
{
	struct fixture *f = *state;
	unsigned count = 0;

	learn_alias(f, "models/old/name", "models/acme/pub");
	learn_alias(f, "models/old/other", "models/acme/other");
	commit(f);
	assert_int_equal(index_aliases_each(f->index, REPO, count_alias, &count), 0);
	assert_int_equal(count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_blob_counts_once_for_a_repo),
		TEST(what_several_repos_name_is_shared_for_all_of_them),
		TEST(unfinished_files_are_counted_once_and_empty_repos_left_out),
		TEST(a_survey_can_be_stopped),
		TEST(commits_are_visited_with_their_names),
		TEST(every_way_to_name_a_blob_is_seen),
		TEST(a_commit_is_alone_against_its_own_repo_too),
		TEST(parts_are_among_it),
		TEST(what_was_forgotten_is_unknown),
		TEST(the_names_that_lead_to_a_repo_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
