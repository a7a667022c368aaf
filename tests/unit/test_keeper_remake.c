/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: a rebuilt index equals the lost one, believes no journal that lost a line, and one that is old or damaged is
 * mended.
 */
#include "keeper_rig.h"

#include <sqlite3.h>

#include "common/log.h"
#include "common/path.h"

/* All rows of a query as text. */
static void dump(const char *path, const char *query, struct buf *out)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;

	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, query, -1, &st, NULL), SQLITE_OK);
	while (sqlite3_step(st) == SQLITE_ROW) {
		for (int i = 0; i < sqlite3_column_count(st); i++)
			(void)buf_appendf(out, "%s|", (const char *)sqlite3_column_text(st, i));
		(void)buf_append_char(out, '\n');
	}
	(void)sqlite3_finalize(st);
	(void)sqlite3_close(db);
	assert_int_equal(buf_error(out), 0);
}

/* What can be rebuilt: all but grants, times of use, and when a name was last found unchanged. */
static void dump_rebuildable(struct house *h, struct buf *out)
{
	static const char *const queries[] = {
		"SELECT hex(name), hex(target), at FROM aliases ORDER BY 1",
		"SELECT hex(r.name), hex(revision), hex(hash) FROM names n JOIN repos r ON r.id = n.repo_id "
		"ORDER BY 1, 2",
		"SELECT hex(r.name), hex(c.hash), c.tree_at, c.tree_entries FROM commits c JOIN repos r ON "
		"r.id = c.repo_id"
		" ORDER BY 1, 2",
		"SELECT hex(r.name), hex(c.hash), hex(path), kind, hex(content), size, at FROM entries e"
		" JOIN commits c ON c.id = e.commit_id JOIN repos r ON r.id = c.repo_id ORDER BY 1, 2, 3",
		"SELECT hex(r.name), hex(key), hex(body), body_size, fetched_at, content_type, link_next, "
		"hex(hash) FROM docs d"
		" JOIN repos r ON r.id = d.repo_id ORDER BY 1, 2",
		"SELECT hex(r.name), hub_id FROM identities i JOIN repos r ON r.id = i.repo_id ORDER BY 1",
		"SELECT hex(r.name), level FROM publics p JOIN repos r ON r.id = p.repo_id ORDER BY 1",
		"SELECT hex(sha256), hex(git), size FROM blobs ORDER BY 1",
	};
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/index.db", h->f->path);
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++)
		dump(path, queries[i], out);
}

static void live_a_while(struct house *h)
{
	struct content_id content = { .kind = CONTENT_LFS, .size = 3 };
	uint8_t subject[SUBJECT_BYTES] = { 1 };
	struct fact grant = { .kind = FACT_GRANT, .repo = REPO, .level = ACCESS_FILES, .at = 1000 };
	char path[64], text[64];

	memcpy(grant.subject, subject, SUBJECT_BYTES);
	index_learn(h->index, &grant);
	index_learn(h->index,
		    &(struct fact){ .kind = FACT_ALIAS, .repo = STR("models/old"), .to = REPO, .at = 1000 });
	for (unsigned i = 0; i < 200; i++) {
		struct fact name;

		(void)snprintf(path, sizeof(path), "dir %u/\xc3\xa9%%=%u", i % 7, i);
		content.size = i;
		content.sha256.bytes[0] = (uint8_t)i;
		learn_entry(h, i % 2 ? C1 : C2, path, i % 5 ? &content : NULL);
		(void)snprintf(text, sizeof(text), "refs/pr/%u", i % 20);
		name = name_fact(text, i % 3 ? C1 : C2, 1000 + i);
		index_learn(h->index, &name);
		(void)snprintf(path, sizeof(path), "%s:%u", i % 2 ? "c" : "m", i % 30);
		(void)snprintf(text, sizeof(text), "{\"n\":%u}", i);
		assert_int_equal(learn_doc(h, path, text, strlen(text)), 0);
		learn_public(h, i % 4 == 0 ? ACCESS_NONE : i % 4 == 1 ? ACCESS_META : ACCESS_FILES, 1000 + i);
		if (i == 20) { /* another repo has the name; much of it is the same */
			index_learn(h->index,
				    &(struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 1000 });
			index_learn(h->index, &(struct fact){ .kind = FACT_IDENTITY,
							      .repo = REPO,
							      .to = STR("65a1"),
							      .at = 1000 });
		}
		if (i % 40 == 0)
			(void)house_fill_seed(h, 1000 + i, i);
	}
	learn_tree(h, C1);
	keeper_sync(h->keeper);
}

static void a_rebuilt_index_equals_the_lost_one(void **state)
{
	struct house *h = *state;
	SCOPED_BUF before, after;

	buf_init(&before, 16 << 20);
	buf_init(&after, 16 << 20);
	live_a_while(h);
	house_stop(h);
	dump_rebuildable(h, &before);
	assert_true(before.len > 10000);
	house_lose_index(h);
	house_start(h);
	assert_true(h->was_rebuilt);
	house_stop(h);
	dump_rebuildable(h, &after);
	assert_string_equal(before.bytes, after.bytes);
	house_start(h);
	assert_false(h->was_rebuilt);
}

static void a_tree_whose_journal_lost_a_line_is_not_believed(void **state)
{
	struct house *h = *state;
	struct content_id content = { .kind = CONTENT_GIT, .size = 3 }, got;
	char path[PATH_MAX], folder[PATH_MAX];
	struct dirent **names = NULL;
	char *at;

	learn_entry(h, C1, "first", &content);
	learn_entry(h, C1, "second", &content);
	learn_tree(h, C1);
	keeper_sync(h->keeper);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("third"), &got), -ENOENT);
	house_stop(h);
	(void)snprintf(folder, sizeof(folder), "%s/journal", h->f->path);
	for (int level = 0; level < 2; level++) { /* the only folder in it, the only file in that */
		int count = scandir(folder, &names, NULL, alphasort);

		assert_int_equal(count, 3);
		(void)snprintf(path, sizeof(path), "%.1000s/%.200s", folder, names[2]->d_name);
		memcpy(folder, path, sizeof(folder));
		while (count-- > 0)
			free(names[count]);
		free(names);
	}
	{
		int fd = open(path, O_RDWR);
		char bytes[4096];
		ssize_t len = read(fd, bytes, sizeof(bytes));

		assert_true(len > 0);
		at = memmem(bytes, (size_t)len, "path=first", 10);
		assert_non_null(at);
		at[5] = 'F'; /* a flipped bit: the line's check does not fit */
		assert_int_equal(pwrite(fd, bytes, (size_t)len, 0), len);
		assert_int_equal(close(fd), 0);
	}
	house_lose_index(h);
	house_start(h);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("second"), &got), 0);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("first"), &got), -ENODATA);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("third"), &got), -ENODATA);
}

static void copy_file(const char *from, const char *to)
{
	SCOPED_BUF bytes = { 0 };

	buf_init(&bytes, 64 << 20);
	assert_int_equal(fs_read_file(AT_FDCWD, from, &bytes), 0);
	write_file(to, bytes.bytes, bytes.len);
}

static void an_older_copy_of_the_index_is_brought_up_to_date(void **state)
{
	struct house *h = *state;
	char path[PATH_MAX], copy[PATH_MAX];
	struct blob_meta old, newer, newest;

	old = house_fill_seed(h, 100000, 1);
	house_stop(h);
	(void)snprintf(path, sizeof(path), "%s/index.db", h->f->path);
	(void)snprintf(copy, sizeof(copy), "%s/copy.db", h->f->root);
	copy_file(path, copy);
	house_start(h);
	h->f->wall_s += 3600;
	newer = house_fill_seed(h, 10000, 2);
	newest = house_fill_seed(h, 10000, 3);
	assert_int_equal(house_make_room(h, 1000), 0);
	assert_false(house_has(h, &old));
	house_stop(h);
	copy_file(copy, path);
	house_start(h);
	assert_false(h->was_rebuilt);
	assert_false(house_has(h, &old));
	assert_true(house_has(h, &newer));
	assert_true(house_has(h, &newest));
}

static void heals_an_index_that_is_damaged_while_it_runs(void **state)
{
	struct house *h = *state;
	struct content_id content = { .kind = CONTENT_GIT, .size = 3 }, got;
	struct blob_meta meta = house_fill_seed(h, 1000, 1);
	uint64_t errors = log_count(LOG_LEVEL_ERROR);
	char path[PATH_MAX], name[32];
	uint8_t junk[4096];
	struct stat st;
	int fd;

	for (int i = 0; i < 5000; i++) {
		(void)snprintf(name, sizeof(name), "p%d", i);
		learn_entry(h, C1, name, &content);
	}
	house_stop(h);
	house_start(h); /* nothing is in memory */
	(void)snprintf(path, sizeof(path), "%s/index.db", h->f->path);
	fd = open(path, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	memset(junk, 0x5a, sizeof(junk));
	for (off_t at = 8192; at < st.st_size; at += 4096)
		assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
	assert_int_equal(close(fd), 0);
	for (int i = 0; i < 5000; i += 7) {
		(void)snprintf(name, sizeof(name), "p%d", i);
		assert_int_not_equal(index_find_entry(h->index, REPO, STR(C1), str_from(name), &got),
				     -ENOENT);
	}
	assert_true(log_count(LOG_LEVEL_ERROR) > errors || index_is_damaged(h->index));
	/* a turn of the keeper, and the timers after it */
	for (int i = 0; i < 2; i++) {
		learn_entry(h, C2, i ? "one" : "two", &content);
		keeper_sync(h->keeper);
	}
	for (int i = 0; index_is_damaged(h->index) && i < 1000; i++)
		(void)usleep(10000);
	keeper_sync(h->keeper);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("p4999"), &got), 0);
	assert_true(house_has(h, &meta));
	house_stop(h);
	house_start(h);
	assert_false(h->was_rebuilt);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("p4999"), &got), 0);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C2), STR("one"), &got), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_rebuilt_index_equals_the_lost_one),
		TEST(a_tree_whose_journal_lost_a_line_is_not_believed),
		TEST(an_older_copy_of_the_index_is_brought_up_to_date),
		TEST(heals_an_index_that_is_damaged_while_it_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
