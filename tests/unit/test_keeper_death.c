/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: what is done is durable at every step at which the process may die. A life of its own for each step.
 */
#include "keeper_rig.h"

#include <stdatomic.h>
#include <sys/wait.h>

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

	house_start(h);
	meta = house_fill_seed(h, LEN_A, 1);
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
	assert_int_equal(house_make_room(h, LEN_A), 0);
	say(fd, SAYS_EVICTED);
	learn_public(h, ACCESS_NONE, 2000);
	(void)house_fill_seed(h, LEN_Z, 2);
	say(fd, SAYS_LAST);
	house_stop(h);
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

	assert_true(house_has(h, meta));
	return 0;
}

static void check_seed_is_there(struct house *h, size_t len, unsigned seed)
{
	SCOPED_FREE char *bytes = make_bytes(len, seed);
	struct blob_meta meta = meta_of(bytes, len);

	assert_true(house_has(h, &meta));
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
	house_open_index(h);
	opts = house_opts(h);
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

/* Most of a life is waiting for the keeper's turns: so many of them go on at once. */
#define LIVES 8

struct life {
	struct house house;
	pid_t pid;
	int said_fd;
};

static void life_begin(struct life *l, int at)
{
	int pipe_fds[2];

	*l = (struct life){ .house.f = fixture_new_in_memory() };
	assert_int_equal(pipe(pipe_fds), 0);
	l->pid = fork();
	assert_true(l->pid >= 0);
	if (l->pid == 0) {
		(void)close(pipe_fds[0]);
		die_at_step(at);
		live(&l->house, pipe_fds[1]);
		_exit(0);
	}
	(void)close(pipe_fds[1]);
	l->said_fd = pipe_fds[0];
}

/* Returns false when the life ended before the step came. */
static bool life_end(struct life *l, bool loses_index)
{
	char said[16];
	int status;

	read_all(l->said_fd, said);
	(void)close(l->said_fd);
	assert_int_equal(waitpid(l->pid, &status, 0), l->pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 42 || WEXITSTATUS(status) == 0);
	if (loses_index) {
		char path[PATH_MAX];

		(void)snprintf(path, sizeof(path), "%s/index.db", l->house.f->path);
		(void)unlink(path);
	}
	check_survivor(&l->house, said);
	fixture_free(l->house.f);
	return WEXITSTATUS(status) == 42;
}

/* Returns the first step that no life came to. */
static int die_at_each(int stride, bool loses_index)
{
	struct life lives[LIVES];
	int last = 0;

	for (int at = 1; last == 0; at += LIVES * stride) {
		for (int i = 0; i < LIVES; i++)
			life_begin(&lives[i], at + i * stride);
		for (int i = 0; i < LIVES; i++)
			if (!life_end(&lives[i], loses_index) && last == 0)
				last = at + i * stride;
	}
	return last;
}

/* A life that forgets a repo, dying at this step. Returns false when it ended before. */
static bool die_forgetting(int at)
{
	struct house h = { .f = fixture_new_in_memory() };
	struct content_id content = { .kind = CONTENT_GIT, .size = 3 }, got;
	char path[PATH_MAX], said[16];
	int pipe_fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	house_start(&h);
	learn_public(&h, ACCESS_FILES, 1000);
	learn_entry(&h, C1, "old", &content);
	house_stop(&h);
	pid = fork();
	if (pid == 0) {
		(void)close(pipe_fds[0]);
		house_start(&h);
		die_at_step(at);
		index_learn(h.index, &(struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 2000 });
		keeper_sync(h.keeper);
		say(pipe_fds[1], SAYS_SYNCED);
		house_stop(&h);
		_exit(0);
	}
	(void)close(pipe_fds[1]);
	read_all(pipe_fds[0], said);
	(void)close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	(void)snprintf(path, sizeof(path), "%s/index.db", h.f->path);
	(void)unlink(path);
	house_start(&h);
	assert_int_equal(public_level(&h), ACCESS_FILES);
	/* the whole of the old journal, or nothing of it */
	assert_int_equal(count_lines(&h, "old") + count_lines(&h, "forget-all"), 1);
	assert_int_equal(index_find_entry(h.index, REPO, STR(C1), STR("old"), &got),
			 count_lines(&h, "old") ? 0 : -ENODATA);
	if (strchr(said, SAYS_SYNCED))
		assert_int_equal(count_lines(&h, "old"), 0);
	assert_int_equal(count_files(h.f, "journal", "tmp"), 0);
	house_stop(&h);
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
	assert_true(die_at_each(STRIDE, false) > 80); /* or the steps were not counted */
}

static void survives_death_at_every_step_and_the_loss_of_the_index(void **state)
{
	assert_true(die_at_each(3 * STRIDE, true) > 80);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survives_death_at_every_step),
		cmocka_unit_test(forgets_a_repo_wholly_or_not_at_all_at_every_step),
		cmocka_unit_test(survives_death_at_every_step_and_the_loss_of_the_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
