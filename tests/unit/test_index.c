/* SPDX-License-Identifier: Apache-2.0 */
/* index: every question before and after the disk, forgetting, failures of the disk, journal lines, threads. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
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

static int64_t fixture_wall(void *ctx)
{
	return ((struct fixture *)ctx)->now;
}

static int try_open(struct fixture *f, const char **ret_reason)
{
	struct index_opts opts = {
		.path = f->path,
		.memory_entries = f->memory_entries,
		.metrics = f->metrics,
		.clock = &f->clock,
	};

	return index_open(&opts, &f->index, ret_reason);
}

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	const char *reason = NULL;

	(void)snprintf(f->dir, sizeof(f->dir), "%s/index-XXXXXX", tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	f->path = xasprintf("%s/index.db", f->dir);
	f->metrics = metrics_new();
	f->memory_entries = 10000;
	f->now = 1700000000;
	f->clock = (struct clock){ .wall_s = fixture_wall, .ctx = f };
	assert_int_equal(try_open(f, &reason), 1);
	assert_int_equal(index_rebuild_begin(f->index), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	*state = f;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	index_close(f->index);
	metrics_free(f->metrics);
	assert_int_equal(nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(f->path);
	free(f);
	return 0;
}

static void commit(struct fixture *f)
{
	assert_int_equal(index_apply(f->index, index_take_batch(f->index, EVERYTHING)), 0);
}

/* As a new run of the program: nothing but the disk is left. */
static void reopen(struct fixture *f)
{
	const char *reason = NULL;

	index_close(f->index);
	assert_int_equal(try_open(f, &reason), 0);
}

/* --- facts --- */

static void learn(struct fixture *f, struct fact fact)
{
	index_learn(f->index, &fact);
}

static struct fact name_fact(const char *revision, const char *commit, int64_t at)
{
	struct fact f = { .kind = FACT_NAME, .repo = REPO, .revision = str_from(revision), .at = at };

	memcpy(f.commit, commit, COMMIT_HEX);
	return f;
}

static struct content_id git_content(uint8_t seed, uint64_t size)
{
	struct content_id id = { .kind = CONTENT_GIT, .size = size };

	memset(id.git.bytes, seed, SHA1_BYTES);
	return id;
}

static struct content_id lfs_content(uint8_t seed, uint64_t size)
{
	struct content_id id = { .kind = CONTENT_LFS, .size = size };

	memset(id.sha256.bytes, seed, SHA256_BYTES);
	return id;
}

static struct fact entry_fact(const char *commit, const char *path, struct content_id content)
{
	struct fact f = {
		.kind = FACT_ENTRY, .repo = REPO, .path = str_from(path), .content = content, .at = 1700000000
	};

	memcpy(f.commit, commit, COMMIT_HEX);
	return f;
}

static struct fact commit_fact(enum fact_kind kind, const char *commit, const char *path)
{
	struct fact f = { .kind = kind, .repo = REPO, .path = str_from(path), .at = 1700000000 };

	memcpy(f.commit, commit, COMMIT_HEX);
	return f;
}

static struct fact blob_fact(enum fact_kind kind, uint8_t sha256, uint8_t git, uint64_t size, int64_t at)
{
	struct fact f = { .kind = kind, .size = size, .at = at };

	memset(f.sha256.bytes, sha256, SHA256_BYTES);
	memset(f.git.bytes, git, SHA1_BYTES);
	return f;
}

static struct fact right_fact(enum fact_kind kind, uint8_t subject, enum access_level level, int64_t at)
{
	struct fact f = { .kind = kind, .repo = REPO, .level = level, .at = at };

	memset(f.subject, subject, SUBJECT_BYTES);
	return f;
}

static struct doc make_doc(uint8_t body, int64_t fetched_at)
{
	static char type[] = "application/json", next[] = "/api/x?cursor=1";
	struct doc d = { .body_size = 7, .fetched_at = fetched_at, .content_type = type, .link_next = next };

	memset(d.body.bytes, body, SHA256_BYTES);
	memcpy(d.commit, C1, COMMIT_TEXT);
	return d;
}

static void learn_doc(struct fixture *f, const char *key, const struct doc *doc)
{
	learn(f, (struct fact){ .kind = FACT_DOC,
				.repo = REPO,
				.path = str_from(key),
				.doc = doc,
				.at = doc->fetched_at });
}

static int find_entry(struct fixture *f, const char *commit, const char *path, struct content_id *ret)
{
	return index_find_entry(f->index, REPO, str_from(commit), str_from(path), ret);
}

/* Runs a look three times: the fact is in memory only; it is in both; it is on the disk only. */
static void in_every_phase(struct fixture *f, void (*look)(struct fixture *f))
{
	look(f);
	commit(f);
	look(f);
	reopen(f);
	look(f);
	look(f); /* what the disk said is in memory now */
}

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
	assert_int_equal(index_canonical_repo(f->index, STR("models/old"), &out), 0);
	assert_string_equal(out.bytes, "models/acme/new");
	assert_int_equal(index_canonical_repo(f->index, STR("models/nobody/knows"), &out), 0);
	assert_string_equal(out.bytes, "models/nobody/knows");
	assert_int_equal(index_canonical_repo(f->index, STR("models/circle/a"), &out), 0);
	assert_string_equal(out.bytes, "models/circle/a");
	assert_int_equal(index_canonical_repo(f->index, STR("models/back"), &out), 0);
	assert_string_equal(out.bytes, "models/back");
}

static void learn_alias(struct fixture *f, const char *name, const char *to)
{
	learn(f, (struct fact){ .kind = FACT_ALIAS, .repo = str_from(name), .to = str_from(to), .at = 100 });
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

/* --- rights --- */

static struct access_facts rights_of(struct fixture *f, uint8_t subject)
{
	struct access_facts facts = { .wanted = ACCESS_FILES, .now = 42 };
	uint8_t id[SUBJECT_BYTES];

	memset(id, subject, sizeof(id));
	index_find_access(f->index, REPO, id, &facts);
	assert_int_equal(facts.wanted, ACCESS_FILES);
	assert_int_equal(facts.now, 42);
	return facts;
}

static void look_at_rights(struct fixture *f)
{
	struct access_facts a = rights_of(f, 1);

	assert_int_equal(a.public_level, ACCESS_META);
	assert_int_equal(a.public_at, 50);
	assert_int_equal(a.granted, ACCESS_FILES);
	assert_int_equal(a.granted_at, 60);
	assert_int_equal(a.denied_at, 0);
	a = rights_of(f, 2);
	assert_int_equal(a.public_level, ACCESS_META);
	assert_int_equal(a.granted, ACCESS_NONE);
	assert_int_equal(a.granted_at, 0);
	a = rights_of(f, 0);
	assert_int_equal(a.public_level, ACCESS_META);
	assert_int_equal(a.granted, ACCESS_NONE);
}

static void knows_each_subjects_own_rights(void **state)
{
	learn(*state, right_fact(FACT_PUBLIC, 0, ACCESS_META, 50));
	learn(*state, right_fact(FACT_GRANT, 1, ACCESS_FILES, 60));
	in_every_phase(*state, look_at_rights);
}

static void look_at_no_rights(struct fixture *f)
{
	struct access_facts a = rights_of(f, 1);

	assert_int_equal(a.public_level, ACCESS_NONE);
	assert_int_equal(a.public_at, 0);
	assert_int_equal(a.granted, ACCESS_NONE);
	assert_int_equal(a.granted_at, 0);
}

static void takes_rights_away(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_FILES, 50));
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	commit(f);
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_NONE, 60));
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_NONE, 60));
	in_every_phase(f, look_at_no_rights);
}

static void a_refusal_stands_until_a_newer_grant(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	learn(f, right_fact(FACT_DENY, 1, ACCESS_FILES, 60));
	assert_int_equal(rights_of(f, 1).denied_at, 60);
	assert_int_equal(rights_of(f, 2).denied_at, 0);
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 59)); /* asked for before the refusal */
	assert_int_equal(rights_of(f, 1).denied_at, 60);
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 70));
	assert_int_equal(rights_of(f, 1).denied_at, 0);
	learn(f, right_fact(FACT_DENY, 1, ACCESS_FILES, 80));
	commit(f);
	reopen(f);
	assert_int_equal(rights_of(f, 1).denied_at, 0); /* memory only */
}

static void look_at_forgotten_subject(struct fixture *f)
{
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	assert_int_equal(rights_of(f, 2).granted, ACCESS_FILES);
	assert_int_equal(rights_of(f, 1).public_level, ACCESS_META);
}

static void forgets_the_grants_of_a_subject(void **state)
{
	struct fixture *f = *state;
	struct fact forget = { .kind = FACT_FORGET_GRANTS };

	memset(forget.subject, 1, SUBJECT_BYTES);
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_META, 50));
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 60));
	learn(f, right_fact(FACT_GRANT, 2, ACCESS_FILES, 60));
	commit(f);
	reopen(f); /* they are on disk only */
	learn(f, forget);
	in_every_phase(f, look_at_forgotten_subject);
}

static void forgets_the_grants_of_a_repo_and_learns_new_ones(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 60));
	learn(f, right_fact(FACT_GRANT, 2, ACCESS_FILES, 60));
	commit(f);
	reopen(f);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_FILES); /* one in memory, one not */
	learn(f, (struct fact){ .kind = FACT_FORGET_GRANTS, .repo = REPO });
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	assert_int_equal(rights_of(f, 2).granted, ACCESS_NONE);
	learn(f, right_fact(FACT_GRANT, 2, ACCESS_META, 70));
	assert_int_equal(rights_of(f, 2).granted, ACCESS_META);
	commit(f);
	reopen(f);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	assert_int_equal(rights_of(f, 2).granted, ACCESS_META);
}

/* --- forgetting after a write --- */

static void look_at_forgotten(struct fixture *f)
{
	char commit[COMMIT_TEXT];
	struct content_id got;
	struct doc d;

	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit, NULL), -ENODATA);
	assert_int_equal(index_find_name(f->index, REPO, STR("dev"), commit, NULL), 0); /* learned after it */
	assert_int_equal(index_find_doc(f->index, REPO, STR("m:info"), &d), -ENODATA);
	assert_int_equal(index_find_doc(f->index, REPO, STR("c:tree"), &d), 0);
	doc_done(&d);
	assert_int_equal(find_entry(f, C1, "absent", &got), -ENODATA);
	assert_int_equal(find_entry(f, C1, "absent later", &got), -ENOENT);
	assert_int_equal(find_entry(f, C1, "held", &got), 0);
}

static void learn_before_forget(struct fixture *f)
{
	struct doc doc = make_doc(8, 200);

	learn(f, name_fact("main", C1, 100));
	learn(f, name_fact("dev", C1, 100));
	learn_doc(f, "m:info", &doc);
	learn_doc(f, "c:tree", &doc);
	learn(f, commit_fact(FACT_ABSENT, C1, "absent"));
	learn(f, commit_fact(FACT_ABSENT, C1, "absent later"));
	learn(f, entry_fact(C1, "held", git_content(1, 1)));
}

static void learn_forget(struct fixture *f)
{
	learn(f, (struct fact){ .kind = FACT_FORGET, .repo = REPO });
	learn(f, name_fact("dev", C2, 300));
	learn(f, commit_fact(FACT_ABSENT, C1, "absent later"));
}

static void forgets_what_is_queued_before_it_only(void **state)
{
	learn_before_forget(*state);
	learn_forget(*state);
	in_every_phase(*state, look_at_forgotten);
}

static void forgets_what_is_on_disk_and_in_memory(void **state)
{
	learn_before_forget(*state);
	commit(*state);
	learn_forget(*state);
	in_every_phase(*state, look_at_forgotten);
}

static void forgets_what_is_on_disk_only(void **state)
{
	learn_before_forget(*state);
	commit(*state);
	reopen(*state);
	learn_forget(*state);
	in_every_phase(*state, look_at_forgotten);
}

static void forgets_nothing_of_other_repos(void **state)
{
	struct fixture *f = *state;
	char commit_text[COMMIT_TEXT];

	learn_before_forget(f);
	learn(f, (struct fact){ .kind = FACT_FORGET, .repo = STR("models/acme/pub2") });
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), 0);
	commit(f);
	reopen(f);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), 0);
}

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
	learn_alias(f, "models/a", "models/b");
	expect_batch(f, "JJJJ");
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
	learn(f, right_fact(FACT_DENY, 1, ACCESS_FILES, 80)); /* nothing for the disk */
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

static void denials_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct fact deny = right_fact(FACT_DENY, 1, ACCESS_FILES, 80);
	struct access_facts facts;
	unsigned remembered = 0;

	for (uint32_t i = 0; i < 120000; i++) {
		memcpy(deny.subject, &i, sizeof(i));
		index_learn(f->index, &deny);
	}
	for (uint32_t i = 0; i < 120000; i++) {
		memcpy(deny.subject, &i, sizeof(i));
		index_find_access(f->index, REPO, deny.subject, &facts);
		remembered += facts.denied_at != 0;
	}
	assert_in_range(remembered, 90000, 100100);
	expect_batch(f, "");
}

/* --- a disk that fails --- */

/* Lets no file of this process grow beyond so many bytes: SQLite sees a disk that is full. */
static void limit_files(rlim_t bytes)
{
	struct rlimit limit = { bytes, RLIM_INFINITY };

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static int apply_queue(struct fixture *f)
{
	return index_apply(f->index, index_take_batch(f->index, EVERYTHING));
}

static void a_failed_batch_stays_in_memory_and_is_tried_once_more(void **state)
{
	struct fixture *f = *state;
	char commit_text[COMMIT_TEXT];

	learn(f, name_fact("main", C1, 100));
	limit_files(1024);
	assert_in_range(-apply_queue(f), 1, 200);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), 0);
	limit_files(RLIM_INFINITY);
	assert_int_equal(apply_queue(f), 0);
	assert_false(index_has_gaps(f->index));
	reopen(f);
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), 0);
}

static void facts_given_up_leave_a_gap_and_no_false_tree(void **state)
{
	struct fixture *f = *state;
	struct content_id got;

	learn(f, entry_fact(C1, "lost", git_content(1, 1)));
	limit_files(1024);
	assert_true(apply_queue(f) < 0);
	learn(f, entry_fact(C1, "kept", git_content(1, 1)));
	assert_true(apply_queue(f) < 0); /* the first is given up */
	limit_files(RLIM_INFINITY);
	learn(f, commit_fact(FACT_TREE, C1, ""));
	assert_int_equal(apply_queue(f), 0);
	assert_true(index_has_gaps(f->index));
	reopen(f);
	assert_true(index_has_gaps(f->index));
	assert_int_equal(find_entry(f, C1, "kept", &got), 0);
	assert_int_equal(find_entry(f, C1, "lost", &got), -ENODATA);
	assert_false(index_tree_is_known(f->index, REPO, STR(C1)));
	assert_int_equal(index_fill_gaps(f->index), 0);
	reopen(f);
	assert_false(index_has_gaps(f->index));
}

static void a_revocation_is_never_given_up(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	learn(f, right_fact(FACT_GRANT, 2, ACCESS_FILES, 50));
	commit(f);
	reopen(f);
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_META, 60));
	learn(f, (struct fact){ .kind = FACT_FORGET_GRANTS, .subject = { [0 ... SUBJECT_BYTES - 1] = 2 } });
	limit_files(1024);
	for (int i = 0; i < 5; i++) {
		learn(f, name_fact("main", i % 2 ? C1 : C2, 100 + i));
		assert_true(apply_queue(f) < 0);
		assert_int_equal(rights_of(f, 1).granted, ACCESS_META);
		assert_int_equal(rights_of(f, 2).granted, ACCESS_NONE);
	}
	limit_files(RLIM_INFINITY);
	assert_int_equal(apply_queue(f), 0);
	reopen(f);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_META);
	assert_int_equal(rights_of(f, 2).granted, ACCESS_NONE);
}

static void without_room_for_revocations_no_right_counts(void **state)
{
	struct fixture *f = *state;

	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	learn(f, right_fact(FACT_PUBLIC, 0, ACCESS_FILES, 50));
	commit(f);
	reopen(f);
	limit_files(1024);
	for (uint32_t i = 0; i < 10001; i++) {
		struct fact forget = { .kind = FACT_FORGET_GRANTS };

		memcpy(forget.subject, &i, sizeof(i));
		forget.subject[15] = 1;
		index_learn(f->index, &forget);
	}
	/* deleting nothing needs no room: this one does */
	learn(f, right_fact(FACT_GRANT, 3, ACCESS_META, 50));
	assert_true(apply_queue(f) < 0);
	assert_true(apply_queue(f) < 0);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	assert_int_equal(rights_of(f, 1).public_level, ACCESS_NONE);
	limit_files(RLIM_INFINITY);
	assert_int_equal(apply_queue(f), 0);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE);
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 70));
	commit(f);
	reopen(f);
	assert_int_equal(rights_of(f, 1).granted, ACCESS_FILES);
	assert_int_equal(rights_of(f, 1).public_level, ACCESS_NONE);
}

/* --- the file --- */

static void overwrite(const char *path, off_t offset, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, offset), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static bool has_bad_copy(struct fixture *f)
{
	SCOPED_FREE char *bad = xasprintf("%s.bad-%lld", f->path, (long long)f->now);

	return access(bad, F_OK) == 0;
}

static void puts_a_file_aside_that_is_no_database(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	char commit_text[COMMIT_TEXT];

	learn(f, name_fact("main", C1, 100));
	commit(f);
	index_close(f->index);
	overwrite(f->path, 0, "this is no database at all, but somebody's diary", 48);
	assert_int_equal(try_open(f, &reason), 1);
	assert_true(has_bad_copy(f));
	assert_int_equal(index_find_name(f->index, REPO, STR("main"), commit_text, NULL), -ENODATA);
	learn(f, name_fact("main", C2, 100));
	commit(f);
	index_close(f->index);
	assert_int_equal(try_open(f, &reason), 1); /* still nobody has rebuilt it */
	assert_int_equal(index_rebuild_begin(f->index), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	reopen(f);
}

static void puts_a_damaged_database_aside_and_keeps_one_copy(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	char path[32];
	uint8_t junk[4096];
	struct stat st;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 2000; i++) {
			(void)snprintf(path, sizeof(path), "p%d", i);
			learn(f, entry_fact(C1, path, git_content(1, 1)));
		}
		commit(f);
		index_close(f->index);
		assert_int_equal(stat(f->path, &st), 0);
		memset(junk, 0x5a, sizeof(junk));
		for (off_t at = 4096; at < st.st_size; at += 4096)
			overwrite(f->path, at, junk, sizeof(junk));
		f->now += 10;
		assert_int_equal(try_open(f, &reason), 1);
		assert_true(has_bad_copy(f));
		f->now -= 10;
		assert_false(has_bad_copy(f));
		f->now += 10;
	}
}

static void refuses_a_database_of_a_newer_program_and_leaves_it(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	uint8_t version[4] = { 0, 0, 0, 99 };
	struct stat before, after;
	struct index *none = NULL;

	commit(f);
	index_close(f->index);
	f->index = NULL;
	overwrite(f->path, 60, version, sizeof(version)); /* user_version in the header */
	assert_int_equal(stat(f->path, &before), 0);
	assert_int_equal(try_open(f, &reason), -EPROTO);
	assert_ptr_equal(f->index, none);
	assert_non_null(strstr(reason, "newer"));
	assert_int_equal(stat(f->path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(before.st_size, after.st_size);
	version[3] = 1;
	overwrite(f->path, 60, version, sizeof(version));
	assert_int_equal(try_open(f, &reason), 0);
}

static void makes_tables_in_an_empty_database(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;

	index_close(f->index);
	assert_int_equal(unlink(f->path), 0);
	overwrite(f->path, 0, "", 0); /* version 0: what sqlite3_open() alone leaves */
	assert_int_equal(try_open(f, &reason), 1);
	assert_false(has_bad_copy(f));
	learn(f, name_fact("main", C1, 100));
	commit(f);
}

static void says_why_it_cannot_be_opened(void **state)
{
	struct fixture *f = *state;
	struct index_opts opts = { .path = "/nonexistent/index.db", .memory_entries = 1, .clock = &f->clock };
	const char *reason = NULL;
	struct index *x = NULL;

	assert_true(index_open(&opts, &x, &reason) < 0);
	assert_null(x);
	assert_non_null(reason);
}

/* --- rebuilding --- */

static void a_rebuild_takes_what_it_is_given(void **state)
{
	struct fixture *f = *state;
	struct doc with_body = make_doc(1, 100), without = make_doc(9, 100), d;
	struct fact facts[] = {
		blob_fact(FACT_BLOB, 1, 2, 10, 100),
		{ .kind = FACT_DOC, .repo = REPO, .path = STR("m:a"), .doc = &with_body },
		{ .kind = FACT_DOC, .repo = REPO, .path = STR("m:b"), .doc = &without },
		entry_fact(C1, "a", git_content(2, 10)),
		commit_fact(FACT_TREE, C1, ""),
		entry_fact(C2, "a", git_content(2, 10)),
		commit_fact(FACT_TREE, C2, ""),
		right_fact(FACT_PUBLIC, 0, ACCESS_FILES, 70),
	};
	struct content_id got, git = git_content(2, 10);
	struct digest sha256;

	facts[4].size = 1;
	facts[6].size = 2; /* its journal lost a line */
	learn(f, right_fact(FACT_GRANT, 1, ACCESS_FILES, 50));
	learn(f, name_fact("main", C1, 100));
	commit(f);
	assert_int_equal(index_rebuild_begin(f->index), 0);
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		assert_int_equal(index_rebuild_add(f->index, &facts[i]), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(index_find_doc(f->index, REPO, STR("m:a"), &d), 0);
		doc_done(&d);
		assert_int_equal(index_find_doc(f->index, REPO, STR("m:b"), &d), -ENODATA);
		assert_int_equal(index_find_blob(f->index, &git, &sha256), 0);
		assert_int_equal(find_entry(f, C1, "b", &got), -ENOENT);
		assert_int_equal(find_entry(f, C2, "b", &got), -ENODATA);
		assert_int_equal(find_entry(f, C2, "a", &got), 0);
		assert_int_equal(rights_of(f, 1).granted, ACCESS_NONE); /* grants are not rebuilt */
		assert_int_equal(rights_of(f, 1).public_level, ACCESS_FILES);
		reopen(f);
	}
}

static void a_rebuild_cut_short_begins_again_at_the_next_start(void **state)
{
	struct fixture *f = *state;
	const char *reason = NULL;
	struct fact blob = blob_fact(FACT_BLOB, 1, 2, 10, 100);

	assert_int_equal(index_rebuild_begin(f->index), 0);
	for (int i = 0; i < 25000; i++)
		assert_int_equal(index_rebuild_add(f->index, &blob), 0);
	index_rebuild_cancel(f->index);
	learn(f, name_fact("main", C1, 100)); /* it can be used all the same */
	commit(f);
	index_close(f->index);
	assert_int_equal(try_open(f, &reason), 1);
}

static void finds_damage_while_it_runs_and_heals(void **state)
{
	struct fixture *f = *state;
	struct content_id got;
	uint8_t junk[4096];
	char path[32];
	struct stat st;

	for (int i = 0; i < 20000; i++) {
		(void)snprintf(path, sizeof(path), "p%d", i);
		learn(f, entry_fact(C1, path, git_content(1, 1)));
	}
	commit(f);
	assert_int_equal(index_maintain(f->index), 0);
	reopen(f);
	assert_int_equal(stat(f->path, &st), 0);
	memset(junk, 0x5a, sizeof(junk));
	for (off_t at = 8192; at < st.st_size; at += 4096)
		overwrite(f->path, at, junk, sizeof(junk));
	for (int i = 0; i < 20000; i += 97) {
		(void)snprintf(path, sizeof(path), "p%d", i);
		assert_int_not_equal(find_entry(f, C1, path, &got), -ENOENT);
	}
	assert_true(index_is_damaged(f->index));
	learn(f, entry_fact(C1, "fresh", git_content(1, 1)));
	assert_int_equal(index_rebuild_begin(f->index), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	assert_false(index_is_damaged(f->index));
	assert_int_equal(find_entry(f, C1, "p1", &got), -ENODATA);
	assert_int_equal(find_entry(f, C1, "fresh", &got), 0);
	(void)index_apply(f->index, index_take_batch(f->index, EVERYTHING));
	reopen(f);
	assert_int_equal(find_entry(f, C1, "fresh", &got), 0);
}

static void bounds_what_clients_can_name(void **state)
{
	struct fixture *f = *state;
	struct content_id got;
	char path[32];

	for (int i = 0; i < 100500; i++) {
		struct fact fact;

		(void)snprintf(path, sizeof(path), "p%d", i);
		fact = commit_fact(FACT_ABSENT, C1, path);
		fact.at = 1000 + i;
		learn(f, fact);
	}
	commit(f);
	assert_int_equal(index_maintain(f->index), 0);
	reopen(f);
	assert_int_equal(find_entry(f, C1, "p499", &got), -ENODATA);
	assert_int_equal(find_entry(f, C1, "p500", &got), -ENOENT);
}

/* --- journal lines --- */

static void expect_same_doc(const struct doc *a, const struct doc *b)
{
	assert_memory_equal(&a->body, &b->body, SHA256_BYTES);
	assert_int_equal(a->body_size, b->body_size);
	assert_int_equal(a->fetched_at, b->fetched_at);
	assert_string_equal(a->commit, b->commit);
	assert_true(str_eq(str_from(a->content_type), str_from(b->content_type)));
	assert_true(str_eq(str_from(a->link_next), str_from(b->link_next)));
}

static void expect_round_trip(const struct fact *f)
{
	SCOPED_BUF line, scratch;
	struct doc doc;
	struct fact got;

	buf_init(&line, 100000);
	buf_init(&scratch, 100000);
	assert_int_equal(fact_encode(f, &line), 1);
	for (size_t i = 0; i < line.len; i++)
		assert_in_range((unsigned char)line.bytes[i], ' ', '~');
	assert_int_equal(fact_decode(f->repo, buf_str(&line), &scratch, &got, &doc), 0);
	assert_int_equal(got.kind, f->kind);
	assert_true(str_eq(got.repo, f->repo));
	assert_true(str_eq(got.revision, f->revision));
	assert_true(str_eq(got.path, f->path));
	assert_true(str_eq(got.to, f->to));
	assert_string_equal(got.commit, f->commit);
	assert_int_equal(got.level, f->level);
	assert_int_equal(got.size, f->size);
	if (f->kind == FACT_DOC)
		expect_same_doc(got.doc, f->doc);
	else
		assert_int_equal(got.at, f->at);
	if (f->kind == FACT_ENTRY)
		assert_true(content_id_eq(&got.content, &f->content));
}

static void facts_survive_the_way_through_a_line(void **state)
{
	char every_byte[256];
	struct fact f;
	struct doc doc = make_doc(3, 1700000000), bare = { .fetched_at = 1 };

	for (int i = 0; i < 256; i++)
		every_byte[i] = (char)i;
	f = name_fact("refs/pr/1", C1, 1700000000);
	expect_round_trip(&f);
	f.revision = (struct str){ every_byte, 256 };
	expect_round_trip(&f);
	f = entry_fact(C1, "", lfs_content(7, INT64_MAX));
	f.path = (struct str){ every_byte, 256 };
	expect_round_trip(&f);
	f.content = git_content(7, 0);
	expect_round_trip(&f);
	f = commit_fact(FACT_ABSENT, C2, "a=b c%20d");
	expect_round_trip(&f);
	f = commit_fact(FACT_TREE, C2, "");
	f.size = 12345;
	expect_round_trip(&f);
	f = (struct fact){ .kind = FACT_ALIAS, .repo = REPO, .to = STR("models/b"), .at = 5 };
	expect_round_trip(&f);
	for (enum access_level level = ACCESS_NONE; level <= ACCESS_FILES; level++) {
		f = right_fact(FACT_PUBLIC, 0, level, 77);
		expect_round_trip(&f);
	}
	f = (struct fact){ .kind = FACT_DOC, .repo = REPO, .path = STR("m:x y?a=1&b=%"), .doc = &doc };
	expect_round_trip(&f);
	f.doc = &bare;
	expect_round_trip(&f);
}

static void kinds_that_are_not_journaled_make_no_line(void **state)
{
	static const enum fact_kind kinds[] = { FACT_GRANT, FACT_DENY,   FACT_BLOB,         FACT_BLOB_GONE,
						FACT_USE,   FACT_FORGET, FACT_FORGET_GRANTS };
	SCOPED_BUF line;

	buf_init(&line, 1000);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct fact f = { .kind = kinds[i], .repo = REPO };

		assert_int_equal(fact_encode(&f, &line), 0);
		assert_int_equal(line.len, 0);
	}
}

static void a_line_that_does_not_fit_leaves_the_buffer_as_it_was(void **state)
{
	struct fact f = name_fact("main", C1, 1);
	SCOPED_BUF line;

	buf_init(&line, 20);
	(void)buf_append_str(&line, STR("before"));
	assert_int_equal(fact_encode(&f, &line), -E2BIG);
	assert_string_equal(line.bytes, "before");
}

static int decode(const char *text, struct fact *ret)
{
	static struct doc doc;
	SCOPED_BUF scratch;

	buf_init(&scratch, 1000);
	return fact_decode(REPO, str_from(text), &scratch, ret, &doc);
}

static void refuses_lines_that_are_none(void **state)
{
	static const char *const bad[] = {
		"",
		"name",
		"name rev=main",
		"name commit=" C1 " at=1",
		"name rev=main commit=123 at=1",
		"name rev=main commit=111111111111111111111111111111111111111G at=1",
		"name rev=main commit=" C1 " at=-1",
		"name rev=main commit=" C1 " at=99999999999999999999",
		"name rev=%zz commit=" C1,
		"name rev=%2 commit=" C1,
		"name rev=a\tb commit=" C1,
		"name rev commit=" C1,
		"name  rev=main commit=" C1,
		"entry commit=" C1 " path=a size=1",
		"entry commit=" C1 " path=a git=" C1,
		"entry commit=" C1 " path=a git=" C1 "11 size=1",
		"entry commit=" C1 " path=a git=" C1 " sha256=" C1 "111111111111111111111111 size=1",
		"entry commit=" C1 " path=a git=" C1 " size=9223372036854775808",
		"public level=all",
		"doc key=a size=1",
		"doc key=a size=1 body=" C1 "111111111111111111111111 type=a%00b",
		"frobnicate a=b",
	};
	struct fact f = { .kind = FACT_USE };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (decode(bad[i], &f) != -EINVAL)
			fail_msg("taken: \"%s\"", bad[i]);
	assert_int_equal(f.kind, FACT_USE); /* untouched */
}

static void passes_over_fields_of_newer_programs(void **state)
{
	struct fact f;

	assert_int_equal(decode("name colour=%XX rev=main commit=" C1 " at=5 shape=", &f), 0);
	assert_int_equal(f.at, 5);
	assert_int_equal(decode("tree commit=" C1, &f), 0);
	assert_int_equal(f.size, 0);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
		TEST(knows_each_subjects_own_rights),
		TEST(takes_rights_away),
		TEST(a_refusal_stands_until_a_newer_grant),
		TEST(forgets_the_grants_of_a_subject),
		TEST(forgets_the_grants_of_a_repo_and_learns_new_ones),
		TEST(forgets_what_is_queued_before_it_only),
		TEST(forgets_what_is_on_disk_and_in_memory),
		TEST(forgets_what_is_on_disk_only),
		TEST(forgets_nothing_of_other_repos),
		TEST(a_name_checked_again_is_a_refresh),
		TEST(what_never_changes_is_not_even_queued_twice),
		TEST(what_the_journal_lacks_is_no_refresh),
		TEST(a_tree_counts_its_entries),
		TEST(a_dropped_fact_is_known_no_more),
		TEST(takes_a_batch_from_the_front),
		TEST(tells_when_the_queue_begins_to_fill),
		TEST(passes_over_facts_that_make_no_sense),
		TEST(memory_is_bounded_and_loses_nothing),
		TEST(denials_are_bounded),
		TEST(a_failed_batch_stays_in_memory_and_is_tried_once_more),
		TEST(facts_given_up_leave_a_gap_and_no_false_tree),
		TEST(a_revocation_is_never_given_up),
		TEST(without_room_for_revocations_no_right_counts),
		TEST(puts_a_file_aside_that_is_no_database),
		TEST(puts_a_damaged_database_aside_and_keeps_one_copy),
		TEST(refuses_a_database_of_a_newer_program_and_leaves_it),
		TEST(makes_tables_in_an_empty_database),
		TEST(says_why_it_cannot_be_opened),
		TEST(a_rebuild_takes_what_it_is_given),
		TEST(a_rebuild_cut_short_begins_again_at_the_next_start),
		TEST(finds_damage_while_it_runs_and_heals),
		TEST(bounds_what_clients_can_name),
		TEST(facts_survive_the_way_through_a_line),
		TEST(kinds_that_are_not_journaled_make_no_line),
		TEST(a_line_that_does_not_fit_leaves_the_buffer_as_it_was),
		TEST(refuses_lines_that_are_none),
		TEST(passes_over_fields_of_newer_programs),
		TEST(what_was_learned_is_found_by_all_threads_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
