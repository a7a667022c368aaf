/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: with a real store and a real index in a folder of its own. What is done is durable at every step at which the
 * process may die; eviction takes the oldest and never passes the quota; a rebuilt index equals the lost one.
 */
#include "test_store.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/path.h"
#include "keeper/keeper.h"

#define C1 "1111111111111111111111111111111111111111"
#define C2 "2222222222222222222222222222222222222222"
#define REPO STR("models/acme/pub")

/* --- dying at a chosen step: every call that changes the disk is one, ours and SQLite's --- */

static _Atomic int steps, die_at;

static void step(void)
{
	if (atomic_fetch_add(&steps, 1) + 1 == atomic_load(&die_at))
		_exit(42);
}

/* Only processes die here, the kernel lives on: nothing is gained by waiting for the disk. */
int fsync(int fd)
{
	step();
	return 0;
}

int fdatasync(int fd)
{
	step();
	return 0;
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	step();
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	step();
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int unlinkat(int fd, const char *name, int flags)
{
	step();
	return (int)syscall(SYS_unlinkat, fd, name, flags);
}

/* Built with 64-bit offsets, these are ftruncate64 and pwrite64, which SQLite calls as well. */
int ftruncate(int fd, off_t length)
{
	step();
	return (int)syscall(SYS_ftruncate, fd, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	step();
	return syscall(SYS_pwrite64, fd, bytes, len, at);
}

/* --- a house --- */

struct house {
	struct fixture *f; /* has the store */
	struct index *index;
	struct keeper *keeper;
	bool was_rebuilt;
};

static struct keeper_opts opts_of(struct house *h)
{
	return (struct keeper_opts){
		.store = h->f->store, .index = h->index, .metrics = h->f->metrics, .clock = &h->f->clock
	};
}

static void open_index(struct house *h)
{
	struct index_opts opts = {
		.path = store_index_path(h->f->store),
		.memory_entries = 1000,
		.metrics = h->f->metrics,
		.clock = &h->f->clock,
	};
	const char *reason = NULL;
	int r = index_open(&opts, &h->index, &reason);

	if (r < 0)
		fail_msg("index_open: %d: %s", r, reason);
	h->was_rebuilt = r == 1;
}

static void start(struct house *h)
{
	struct keeper_opts opts;

	open_store(h->f);
	open_index(h);
	opts = opts_of(h);
	assert_int_equal(keeper_recover(&opts, h->was_rebuilt), 0);
	assert_int_equal(keeper_new(&opts, &h->keeper), 0);
}

static void stop(struct house *h)
{
	keeper_free(h->keeper);
	index_close(h->index);
	store_close(h->f->store);
	h->keeper = NULL;
	h->index = NULL;
	h->f->store = NULL;
}

static struct house *house_new(uint64_t size_max)
{
	struct house *h = xcalloc(1, sizeof(*h));

	h->f = fixture_new();
	h->f->size_max = size_max;
	start(h);
	return h;
}

/* Large enough for what the tests put in, small enough that the spare room of an eviction is less than one blob. */
#define QUOTA 4000000

static int set_up_house(void **state)
{
	*state = house_new(QUOTA);
	return 0;
}

static int tear_down_house(void **state)
{
	struct house *h = *state;

	if (h->keeper)
		stop(h);
	fixture_free(h->f);
	free(h);
	return 0;
}

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

static void on_done(void *ctx, int error)
{
	struct outcome *o = ctx;

	(void)pthread_mutex_lock(&o->mutex);
	o->is_done = true;
	o->error = error;
	(void)pthread_cond_signal(&o->cond);
	(void)pthread_mutex_unlock(&o->mutex);
}

static int wait_for(struct outcome *o)
{
	(void)pthread_mutex_lock(&o->mutex);
	while (!o->is_done)
		(void)pthread_cond_wait(&o->cond, &o->mutex);
	(void)pthread_mutex_unlock(&o->mutex);
	return o->error;
}

static int make_room(struct house *h, uint64_t bytes)
{
	struct outcome o = OUTCOME_INIT;

	keeper_make_room(h->keeper, bytes, on_done, &o);
	return wait_for(&o);
}

/* The part with room for all of it, evicting as a flight has it done. */
static int open_part(struct house *h, const struct content_id *id, struct part **ret_part)
{
	struct part *part = NULL;
	uint64_t missing = 0;
	int r = store_open_part(h->f->store, id, &part);

	if (r < 0)
		return r;
	while ((r = part_reserve(part, (struct byte_range){ 0, id->size }, &missing)) == -ENOSPC) {
		r = missing == UINT64_MAX ? -EDQUOT : make_room(h, missing);
		if (r < 0)
			break;
	}
	if (r < 0)
		part_drop(part);
	if (r < 0)
		part = part_unref(part);
	*ret_part = part;
	return r;
}

/* As a flight does: part, room, bytes, keeper. */
static int fill(struct house *h, const char *bytes, size_t len, struct blob_meta *ret_meta)
{
	struct outcome o = OUTCOME_INIT;
	struct blob_meta meta = meta_of(bytes, len);
	struct content_id id = lfs_id(&meta);
	struct part *part = NULL;
	int r = open_part(h, &id, &part);

	if (r < 0)
		return r;
	assert_int_equal(part_write(part, 0, bytes, len), 0);
	keeper_finish_part(h->keeper, part, &id, &meta, on_done, &o);
	(void)part_unref(part);
	r = wait_for(&o);
	*ret_meta = meta;
	return r;
}

static struct blob_meta fill_seed(struct house *h, size_t len, unsigned seed)
{
	SCOPED_FREE char *bytes = make_bytes(len, seed);
	struct blob_meta meta;

	assert_int_equal(fill(h, bytes, len, &meta), 0);
	return meta;
}

static bool index_has(struct house *h, const struct blob_meta *meta)
{
	struct content_id id = git_id(meta);
	struct digest d;

	return index_find_blob(h->index, &id, &d) == 0 && digest_eq(&d, &meta->sha256);
}

static int check_seed(struct house *h, const struct blob_meta *meta, unsigned seed)
{
	SCOPED_FREE char *bytes = make_bytes(meta->size, seed);

	return check_blob(h->f->store, &meta->sha256, bytes, meta->size);
}

/* --- facts --- */

static struct fact name_fact(const char *revision, const char *commit, int64_t at)
{
	struct fact f = { .kind = FACT_NAME, .repo = REPO, .revision = str_from(revision), .at = at };

	memcpy(f.commit, commit, COMMIT_HEX);
	return f;
}

static void learn_entry(struct house *h, const char *commit, const char *path,
			const struct content_id *content)
{
	struct fact f = {
		.kind = content ? FACT_ENTRY : FACT_ABSENT, .repo = REPO, .path = str_from(path), .at = 1000
	};

	memcpy(f.commit, commit, COMMIT_HEX);
	if (content)
		f.content = *content;
	index_learn(h->index, &f);
}

static void learn_tree(struct house *h, const char *commit)
{
	struct fact f = { .kind = FACT_TREE, .repo = REPO, .at = 1000 };

	memcpy(f.commit, commit, COMMIT_HEX);
	index_learn(h->index, &f);
}

static int learn_doc(struct house *h, const char *key, const char *text, size_t len)
{
	static char type[] = "application/json";
	struct doc doc = { .fetched_at = 1000, .content_type = type };
	struct blob_meta meta;
	int r = put_doc(h->f->store, text, len, &meta);

	if (r < 0)
		return r;
	doc.body = meta.sha256;
	doc.body_size = meta.size;
	index_learn(h->index,
		    &(struct fact){
			    .kind = FACT_DOC, .repo = REPO, .path = str_from(key), .doc = &doc, .at = 1000 });
	return 0;
}

static void learn_public(struct house *h, enum access_level level, int64_t at)
{
	index_learn(h->index, &(struct fact){ .kind = FACT_PUBLIC, .repo = REPO, .level = level, .at = at });
}

static enum access_level public_level(struct house *h)
{
	static const uint8_t anonymous[SUBJECT_BYTES];
	struct access_facts facts = { .wanted = ACCESS_META };

	index_find_access(h->index, REPO, anonymous, &facts);
	return facts.public_level;
}

static int find_doc(struct house *h, const char *key)
{
	struct doc doc;
	struct blob *blob = NULL;
	int r = index_find_doc(h->index, REPO, str_from(key), &doc);

	if (r < 0)
		return r;
	r = store_open_blob(h->f->store, &doc.body, &blob);
	(void)blob_unref(blob);
	doc_done(&doc);
	return r < 0 ? -EBADMSG : 0; /* a row without its body */
}

/* --- what is done is done --- */

static void a_finished_part_is_there_after_a_restart(void **state)
{
	struct house *h = *state;
	struct blob_meta meta = fill_seed(h, 100000, 1);

	assert_true(index_has(h, &meta));
	assert_int_equal(check_seed(h, &meta, 1), 0);
	stop(h);
	start(h);
	assert_false(h->was_rebuilt);
	assert_true(index_has(h, &meta));
	assert_int_equal(check_seed(h, &meta, 1), 0);
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
		assert_int_equal(open_part(h, &id, &part), 0);
		assert_int_equal(part_write(part, 0, bytes, 1000), 0);
		keeper_finish_part(h->keeper, part, &id, &metas[i], on_done, &outcomes[i]);
		(void)part_unref(part);
	}
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(wait_for(&outcomes[i]), 0);
		assert_true(index_has(h, &metas[i]));
	}
	stop(h);
	start(h);
	for (unsigned i = 0; i < 20; i++)
		assert_true(index_has(h, &metas[i]));
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
	stop(h);
	start(h);
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
	stop(h);
	start(h);
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

	assert_int_equal(open_part(h, &id, &part), 0);
	assert_int_equal(part_write(part, 0, bytes, 60000), 0);
	for (int i = 0; i < 100; i++)
		keeper_checkpoint_part(h->keeper, part);
	keeper_sync(h->keeper);
	(void)part_unref(part);
	stop(h);
	start(h);
	assert_int_equal(open_part(h, &id, &part), 0);
	assert_true(part_next_gap(part, 0, &gap));
	assert_int_equal(gap.first, 60000);
	(void)part_unref(part);
}

static void a_corrupt_blob_is_forgotten_and_put_aside(void **state)
{
	struct house *h = *state;
	struct blob_meta meta = fill_seed(h, 5000, 1);

	keeper_report_corrupt(h->keeper, &meta.sha256);
	assert_false(index_has(h, &meta)); /* at once */
	keeper_sync(h->keeper);
	assert_int_equal(check_seed(h, &meta, 1), -ENODATA);
	assert_int_equal(count_files(h->f, "quarantine", ""), 1);
	assert_int_equal(metrics_value(h->f->metrics, METRIC_STORAGE_CORRUPT, 1, 0, 0), 1);
	meta = fill_seed(h, 5000, 1); /* fetched again */
	assert_true(index_has(h, &meta));
	stop(h);
	start(h);
	assert_true(index_has(h, &meta));
	assert_int_equal(check_seed(h, &meta, 1), 0);
}

static void is_alive_as_long_as_it_turns(void **state)
{
	struct house *h = *state;

	keeper_sync(h->keeper);
	assert_true(keeper_is_alive(h->keeper));
	h->f->mono_ms += 31000;
	assert_false(keeper_is_alive(h->keeper));
	keeper_sync(h->keeper);
	assert_true(keeper_is_alive(h->keeper));
}

/* --- room --- */

static void evicts_the_least_recently_used_first(void **state)
{
	struct house *h = *state;
	struct blob_meta m[4];
	struct blob *open = NULL;

	for (unsigned i = 0; i < 4; i++) {
		h->f->wall_s++;
		m[i] = fill_seed(h, 100000, i);
	}
	index_touch_blob(h->index, &m[0].sha256, h->f->wall_s + 10);
	assert_int_equal(store_open_blob(h->f->store, &m[1].sha256, &open), 0);
	assert_int_equal(make_room(h, 50000), 0);
	assert_true(index_has(h, &m[0]));
	assert_true(index_has(h, &m[1])); /* the oldest, but open */
	assert_false(index_has(h, &m[2]));
	assert_true(index_has(h, &m[3]));
	assert_int_equal(check_seed(h, &m[2], 2), -ENODATA);
	assert_int_equal(metrics_value(h->f->metrics, METRIC_STORAGE_EVICTED_OBJECTS, 0, 0, 0), 1);
	assert_int_equal(metrics_value(h->f->metrics, METRIC_STORAGE_EVICTED_BYTES, 0, 0, 0), 100000);
	(void)blob_unref(open);
	assert_int_equal(make_room(h, 1), 0);
	assert_false(index_has(h, &m[1]));
	stop(h);
	start(h);
	assert_true(index_has(h, &m[0]));
	assert_false(index_has(h, &m[1]));
	assert_false(index_has(h, &m[2]));
	assert_true(index_has(h, &m[3]));
}

static void evicts_nothing_when_it_would_not_help(void **state)
{
	struct house *h = *state;
	struct blob_meta a = fill_seed(h, 100000, 1), b = fill_seed(h, 100000, 2);
	struct blob *open = NULL;

	assert_int_equal(make_room(h, 1000000), -ENOSPC);
	assert_int_equal(make_room(h, UINT64_MAX), -ENOSPC);
	assert_int_equal(store_open_blob(h->f->store, &a.sha256, &open), 0);
	assert_int_equal(make_room(h, 150000), -ENOSPC);
	(void)blob_unref(open);
	assert_true(index_has(h, &a));
	assert_true(index_has(h, &b));
	assert_int_equal(metrics_value(h->f->metrics, METRIC_STORAGE_EVICTED_OBJECTS, 0, 0, 0), 0);
}

static void never_passes_the_quota(void **state)
{
	struct house *h = house_new(2000000);
	unsigned filled = 0;

	*state = h;
	for (unsigned i = 0; i < 60; i++) {
		size_t len = 20000 + i * 7919 % 200000;
		SCOPED_FREE char *bytes = make_bytes(len, i);
		struct blob_meta meta;
		struct store_usage u;
		char key[16];

		h->f->wall_s++;
		filled += fill(h, bytes, len, &meta) == 0;
		(void)snprintf(key, sizeof(key), "m:%u", i);
		(void)learn_doc(h, key, bytes, 3000);
		keeper_sync(h->keeper);
		u = usage_of(h->f->store);
		assert_true(u.used + u.reserved <= 2000000);
	}
	assert_int_equal(filled, 60);
	assert_true(metrics_value(h->f->metrics, METRIC_STORAGE_EVICTED_OBJECTS, 0, 0, 0) > 20);
}

static void evicts_down_to_a_smaller_limit_at_start(void **state)
{
	struct house *h = *state;
	struct blob_meta m[5];

	for (unsigned i = 0; i < 5; i++) {
		h->f->wall_s++;
		m[i] = fill_seed(h, 100000, i);
	}
	stop(h);
	h->f->size_max = 250000;
	start(h);
	assert_true(usage_of(h->f->store).used <= 250000);
	assert_false(index_has(h, &m[0]));
	assert_true(index_has(h, &m[4]));
}

/* --- journals --- */

static uint64_t journal_bytes(struct house *h)
{
	return usage_of(h->f->store).used;
}

struct lines {
	struct buf buf;
};

static int note_line(void *ctx, struct str repo, struct str line)
{
	struct lines *l = ctx;

	(void)buf_append_str(&l->buf, line);
	return buf_append_char(&l->buf, '\n');
}

static unsigned count_lines(struct house *h, const char *with)
{
	struct lines l;
	uint64_t broken = 0;
	unsigned count = 0;

	buf_init(&l.buf, 1 << 20);
	assert_int_equal(store_journal_each(h->f->store, note_line, &l, &broken), 0);
	assert_int_equal(broken, 0);
	for (const char *at = l.buf.bytes; at && (at = strstr(at, with)) != NULL; at++)
		count++;
	buf_done(&l.buf);
	return count;
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

/* Takes a line away from whoever rebuilds: the index's file. */
static void lose_index(struct house *h)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/index.db", h->f->path);
	assert_int_equal(unlink(path), 0);
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
	stop(h);
	lose_index(h);
	start(h);
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
	stop(h);
	lose_index(h);
	start(h);
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
	stop(h);
	lose_index(h);
	start(h);
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
		if (r == -ENOSPC && make_room(h, 65536) == 0)
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
	assert_true(held > 100 && held < QUOTA / 8192);
	assert_int_equal(usage_of(h->f->store).objects, held);
	assert_int_equal(count_held(h, COUNT), held);
	assert_true(store_journal_size(h->f->store, REPO) <= 512 << 10); /* of 790 */
	stop(h);
	lose_index(h);
	start(h);
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
	stop(h);
	start(h);
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
		m[i] = fill_seed(h, 50000, i);
	limit_files(RLIM_INFINITY);
	for (unsigned i = 0; i < 3; i++)
		assert_true(index_has(h, &m[i]));
	stop(h);
	start(h);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(index_has(h, &m[i]));
		assert_int_equal(check_seed(h, &m[i], i), 0);
	}
}

/* --- an index that is lost --- */

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
			(void)fill_seed(h, 1000 + i, i);
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
	stop(h);
	dump_rebuildable(h, &before);
	assert_true(before.len > 10000);
	lose_index(h);
	start(h);
	assert_true(h->was_rebuilt);
	stop(h);
	dump_rebuildable(h, &after);
	assert_string_equal(before.bytes, after.bytes);
	start(h);
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
	stop(h);
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
	lose_index(h);
	start(h);
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

	old = fill_seed(h, 100000, 1);
	stop(h);
	(void)snprintf(path, sizeof(path), "%s/index.db", h->f->path);
	(void)snprintf(copy, sizeof(copy), "%s/copy.db", h->f->root);
	copy_file(path, copy);
	start(h);
	h->f->wall_s += 3600;
	newer = fill_seed(h, 10000, 2);
	newest = fill_seed(h, 10000, 3);
	assert_int_equal(make_room(h, 1000), 0);
	assert_false(index_has(h, &old));
	stop(h);
	copy_file(copy, path);
	start(h);
	assert_false(h->was_rebuilt);
	assert_false(index_has(h, &old));
	assert_true(index_has(h, &newer));
	assert_true(index_has(h, &newest));
}

static void heals_an_index_that_is_damaged_while_it_runs(void **state)
{
	struct house *h = *state;
	struct content_id content = { .kind = CONTENT_GIT, .size = 3 }, got;
	struct blob_meta meta = fill_seed(h, 1000, 1);
	uint64_t errors = log_count(LOG_LEVEL_ERROR);
	char path[PATH_MAX], name[32];
	uint8_t junk[4096];
	struct stat st;
	int fd;

	for (int i = 0; i < 5000; i++) {
		(void)snprintf(name, sizeof(name), "p%d", i);
		learn_entry(h, C1, name, &content);
	}
	stop(h);
	start(h); /* nothing is in memory */
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
	assert_true(index_has(h, &meta));
	stop(h);
	start(h);
	assert_false(h->was_rebuilt);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("p4999"), &got), 0);
	assert_int_equal(index_find_entry(h->index, REPO, STR(C2), STR("one"), &got), 0);
}

/* --- dying anywhere --- */

enum { SAYS_FIRST = 'a', SAYS_SYNCED = 's', SAYS_EVICTING = 'e', SAYS_EVICTED = 'E', SAYS_LAST = 'z' };
#define LEN_A 50000
#define LEN_Z 70000

static void say(int fd, char word)
{
	assert_int_equal(write(fd, &word, 1), 1);
}

/* One life, telling what was acknowledged when it was. */
static void live(struct house *h, int fd)
{
	struct content_id content;
	struct blob_meta meta;
	struct fact name = name_fact("main", C1, 1000);

	start(h);
	meta = fill_seed(h, LEN_A, 1);
	say(fd, SAYS_FIRST);
	content = lfs_id(&meta);
	learn_entry(h, C1, "a.bin", &content);
	learn_tree(h, C1);
	index_learn(h->index, &name);
	assert_int_equal(learn_doc(h, "m:info", "{\"a\":1}", 7), 0);
	learn_public(h, ACCESS_FILES, 1000);
	keeper_sync(h->keeper);
	say(fd, SAYS_SYNCED);
	say(fd, SAYS_EVICTING);
	assert_int_equal(make_room(h, LEN_A), 0);
	say(fd, SAYS_EVICTED);
	learn_public(h, ACCESS_NONE, 2000);
	(void)fill_seed(h, LEN_Z, 2);
	say(fd, SAYS_LAST);
	stop(h);
}

static int check_row_has_blob(void *ctx, const struct digest *sha256, uint64_t size, int64_t used_at)
{
	struct house *h = ctx;
	struct blob *b = NULL;

	assert_int_equal(store_open_blob(h->f->store, sha256, &b), 0);
	assert_int_equal(blob_size(b), size);
	(void)blob_unref(b);
	return 0;
}

static int check_blob_has_row(void *ctx, const struct blob_meta *meta)
{
	struct house *h = ctx;

	assert_true(index_has(h, meta));
	return 0;
}

static void check_seed_is_there(struct house *h, size_t len, unsigned seed)
{
	SCOPED_FREE char *bytes = make_bytes(len, seed);
	struct blob_meta meta = meta_of(bytes, len);

	assert_true(index_has(h, &meta));
	assert_int_equal(check_blob(h->f->store, &meta.sha256, bytes, len), 0);
}

/* After any death: I3, I4, I5 of what was said. */
static void check_survivor(struct house *h, const char *said)
{
	struct keeper_opts opts;
	struct content_id got;
	char commit[COMMIT_TEXT];
	int doc;

	open_store(h->f);
	open_index(h);
	opts = opts_of(h);
	/* also before anything is mended: the order of writing alone must see to it */
	assert_int_equal(index_oldest_blobs(h->index, check_row_has_blob, h), 0);
	assert_int_equal(keeper_recover(&opts, h->was_rebuilt), 0);
	assert_int_equal(index_oldest_blobs(h->index, check_row_has_blob, h), 0);
	assert_int_equal(store_blob_each(h->f->store, check_blob_has_row, h), 0);
	if (strchr(said, SAYS_FIRST) && !strchr(said, SAYS_EVICTING))
		check_seed_is_there(h, LEN_A, 1);
	if (strchr(said, SAYS_LAST))
		check_seed_is_there(h, LEN_Z, 2);
	doc = find_doc(h, "m:info");
	assert_int_not_equal(doc, -EBADMSG);
	if (strchr(said, SAYS_SYNCED)) {
		assert_int_equal(index_find_name(h->index, REPO, STR("main"), commit, NULL), 0);
		assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("a.bin"), &got), 0);
		assert_int_equal(index_find_entry(h->index, REPO, STR(C1), STR("b.bin"), &got), -ENOENT);
		if (!strchr(said, SAYS_EVICTING))
			assert_int_equal(doc, 0);
	}
	index_close(h->index);
	store_close(h->f->store);
	h->index = NULL;
	h->f->store = NULL;
}

static void read_all(int fd, char said[16])
{
	size_t len = 0;
	ssize_t n;

	while (len < 15 && (n = read(fd, said + len, 15 - len)) > 0)
		len += (size_t)n;
	said[len] = 0;
}

/* Returns false when the life ended before the step came. */
static bool die_and_recover(int at, bool loses_index)
{
	struct house h = { .f = fixture_new() };
	char said[16];
	int pipe_fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	if (pid == 0) {
		(void)close(pipe_fds[0]);
		atomic_store(&steps, 0);
		atomic_store(&die_at, at);
		live(&h, pipe_fds[1]);
		_exit(0);
	}
	(void)close(pipe_fds[1]);
	read_all(pipe_fds[0], said);
	(void)close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 42 || WEXITSTATUS(status) == 0);
	if (loses_index) {
		char path[PATH_MAX];

		(void)snprintf(path, sizeof(path), "%s/index.db", h.f->path);
		(void)unlink(path);
	}
	check_survivor(&h, said);
	fixture_free(h.f);
	return WEXITSTATUS(status) == 42;
}

/* A life that forgets a repo, dying at this step. Returns false when it ended before. */
static bool die_forgetting(int at)
{
	struct house h = { .f = fixture_new() };
	struct content_id content = { .kind = CONTENT_GIT, .size = 3 }, got;
	char path[PATH_MAX], said[16];
	int pipe_fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	start(&h);
	learn_public(&h, ACCESS_FILES, 1000);
	learn_entry(&h, C1, "old", &content);
	stop(&h);
	pid = fork();
	if (pid == 0) {
		(void)close(pipe_fds[0]);
		start(&h);
		atomic_store(&steps, 0);
		atomic_store(&die_at, at);
		index_learn(h.index, &(struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 2000 });
		keeper_sync(h.keeper);
		say(pipe_fds[1], SAYS_SYNCED);
		stop(&h);
		_exit(0);
	}
	(void)close(pipe_fds[1]);
	read_all(pipe_fds[0], said);
	(void)close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	(void)snprintf(path, sizeof(path), "%s/index.db", h.f->path);
	(void)unlink(path);
	start(&h);
	assert_int_equal(public_level(&h), ACCESS_FILES);
	/* the whole of the old journal, or nothing of it */
	assert_int_equal(count_lines(&h, "old") + count_lines(&h, "forget-all"), 1);
	assert_int_equal(index_find_entry(h.index, REPO, STR(C1), STR("old"), &got),
			 count_lines(&h, "old") ? 0 : -ENODATA);
	if (strchr(said, SAYS_SYNCED))
		assert_int_equal(count_lines(&h, "old"), 0);
	assert_int_equal(count_files(h.f, "journal", "tmp"), 0);
	stop(&h);
	fixture_free(h.f);
	return WEXITSTATUS(status) == 42;
}

static void forgets_a_repo_wholly_or_not_at_all_at_every_step(void **state)
{
	int at = 1;

	while (die_forgetting(at))
		at++;
	assert_true(at > 5);
}

/* ThreadSanitizer makes a fork so slow that not every step can be tried. */
#ifdef __SANITIZE_THREAD__
#define STRIDE 11
#else
#define STRIDE 1
#endif

static void survives_death_at_every_step(void **state)
{
	int at = 1;

	while (die_and_recover(at, false))
		at += STRIDE;
	assert_true(at > 80); /* or the steps were not counted */
}

static void survives_death_at_every_step_and_the_loss_of_the_index(void **state)
{
	int at = 1;

	while (die_and_recover(at, true))
		at += 3 * STRIDE;
	assert_true(at > 80);
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
		struct blob_meta meta = fill_seed(h, 10000 + i, i);

		assert_true(index_has(h, &meta));
		index_touch_blob(h->index, &meta.sha256, h->f->wall_s);
		if (i % 5 == 4)
			assert_int_equal(make_room(h, 10000), 0);
	}
	(void)pthread_join(learner, NULL);
	for (int i = 0; i < 4; i++)
		(void)pthread_join(readers[i], NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_house, tear_down_house)

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
		TEST(evicts_the_least_recently_used_first),
		TEST(evicts_nothing_when_it_would_not_help),
		cmocka_unit_test_setup_teardown(never_passes_the_quota, NULL, tear_down_house),
		TEST(evicts_down_to_a_smaller_limit_at_start),
		TEST(rechecks_do_not_make_journals_grow),
		TEST(a_mark_taken_away_reaches_the_journal_after_the_disk_was_full),
		TEST(what_is_forgotten_as_a_whole_leaves_the_journal),
		TEST(documents_that_went_leave_no_rows_and_no_long_journal),
		TEST(a_repo_that_was_forgotten_stays_so_after_the_disk_was_full),
		TEST(a_document_goes_with_bytes_that_could_not_be_written),
		TEST(blobs_stored_while_the_index_could_not_be_written_are_found_again),
		TEST(a_rebuilt_index_equals_the_lost_one),
		TEST(a_tree_whose_journal_lost_a_line_is_not_believed),
		TEST(an_older_copy_of_the_index_is_brought_up_to_date),
		TEST(heals_an_index_that_is_damaged_while_it_runs),
		cmocka_unit_test(survives_death_at_every_step),
		cmocka_unit_test(forgets_a_repo_wholly_or_not_at_all_at_every_step),
		cmocka_unit_test(survives_death_at_every_step_and_the_loss_of_the_index),
		TEST(works_with_many_threads_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
