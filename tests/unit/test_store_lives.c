/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: one life of a store, run again and again with the n-th call into the kernel failing, or the process killed right
 * there, until a run needs no more calls than n. After each: what was acknowledged is there and right, nothing wrong has a
 * name, every reservation came back, and the books agree with a count of the files.
 */
#include "store_hook.h"

#include <sys/mman.h>
#include <sys/wait.h>

/* --- one life --- */

/* Shared with the child that is killed. */
struct acks {
	bool body, docs[DOCS], removed, half_saved, windows_saved, second_body;
	unsigned lines;
};

struct writing {
	struct acks *acks;
	struct data *data;
};

static void note_written(void *ctx, const struct blob_meta *meta)
{
	struct writing *w = ctx;

	for (int i = 0; i < DOCS; i++)
		if (digest_eq(&meta->sha256, &w->data->doc_metas[i].sha256))
			w->acks->docs[i] = true;
}

static void append_line(struct store *s, struct acks *acks)
{
	char text[32];
	struct str line = { text, (size_t)snprintf(text, sizeof(text), "line %u", acks->lines) };

	if (store_journal_append(s, STR("models/a/b"), &line, 1) == 0)
		acks->lines++;
}

/* Half a fill, then everybody leaves. */
static bool fetch_half(struct store *s, struct data *d)
{
	struct content_id id = lfs_id(&d->half_meta);
	struct part *p = NULL;
	int r;

	if (open_whole(s, &id, &p) < 0)
		return false;
	r = part_write(p, 0, d->half, HALF_LEN / 2);
	(void)part_unref(p);
	p = NULL;
	if (r < 0 || open_whole(s, &id, &p) < 0)
		return false;
	r = part_held_from(p, 0) == HALF_LEN / 2 ? 0 : -1;
	(void)part_unref(p);
	return r == 0;
}

static bool fetch_window(struct part *p, struct data *d, uint64_t first, uint64_t end)
{
	uint64_t missing = 0;

	return part_reserve(p, (struct byte_range){ first, end }, &missing) == 0 &&
	       part_write(p, first, d->wide + first, end - first) == 0;
}

/* Two windows of a sparse part; then, resumed, room for all of it, started over, and one window again. */
static bool fetch_windows(struct store *s, struct data *d)
{
	struct content_id id = lfs_id(&d->wide_meta);
	struct part *p = NULL;
	bool is_done;

	if (store_open_part(s, &id, &p) < 0)
		return false;
	is_done = fetch_window(p, d, 1000, 2000) && fetch_window(p, d, 200000, 210000);
	(void)part_unref(p);
	p = NULL;
	if (!is_done || open_whole(s, &id, &p) < 0)
		return false;
	is_done = part_held_from(p, 1000) == 1000 && part_held_from(p, 200000) == 10000 &&
		  part_reset(p) == 0 && fetch_window(p, d, 100000, 100001);
	(void)part_unref(p);
	p = NULL;
	if (!is_done || store_open_part(s, &id, &p) < 0)
		return false;
	is_done = part_held_from(p, 100000) == 1 && part_held_from(p, 1000) == 0;
	(void)part_unref(p);
	return is_done;
}

static void live(struct fixture *f, struct data *d, struct acks *acks)
{
	struct store *s = f->store;
	struct writing w = { acks, d };
	struct content_id body = lfs_id(&d->body_meta), second = git_id(&d->second_meta);

	acks->body = put_as(s, &body, d->body, &d->body_meta) == 0;
	append_line(s, acks);
	for (int i = 0; i < DOCS; i++) {
		struct blob_meta meta;

		(void)put_doc(s, d->docs[i], d->doc_metas[i].size, &meta);
	}
	(void)store_flush_pending(s, note_written, &w);
	append_line(s, acks);
	acks->half_saved = fetch_half(s, d);
	acks->windows_saved = fetch_windows(s, d);
	acks->second_body = put_as(s, &second, d->second, &d->second_meta) == 0;
	acks->removed = store_remove_blob(s, &d->doc_metas[0].sha256) == 0;
	append_line(s, acks);
	(void)store_check_writable(s);
}

/* --- what must hold after it --- */

static unsigned adopted_count;

static int note_adopted(void *ctx, const struct content_id *id, const struct blob_meta *meta)
{
	(void)ctx, (void)id, (void)meta;
	adopted_count++;
	return 0;
}

static int check_one(void *ctx, const struct blob_meta *meta)
{
	struct fixture *f = ctx;
	struct blob *b = NULL;
	struct blob_meta found;
	char *bytes = malloc(meta->size + 1);

	assert_int_equal(store_open_blob(f->store, &meta->sha256, &b), 0);
	if (blob_fd(b) >= 0)
		assert_int_equal(pread(blob_fd(b), bytes, meta->size, 0), meta->size);
	else
		memcpy(bytes, bytes_str(blob_bytes(b)).ptr, meta->size);
	found = meta_of(bytes, meta->size);
	assert_true(digest_eq(&found.sha256, &meta->sha256));
	(void)blob_unref(b);
	free(bytes);
	return 0;
}

static int count_line(void *ctx, struct str repo, struct str line)
{
	unsigned *count = ctx;
	char text[32];

	assert_true(str_eq(repo, STR("models/a/b")));
	/* what was not acknowledged may be there too, once: a sync that failed says nothing about the bytes */
	(void)snprintf(text, sizeof(text), "line %u", *count);
	if (str_eq(line, str_from(text)))
		++*count;
	return 0;
}

static void check_acknowledged(struct fixture *f, struct data *d, const struct acks *acks)
{
	unsigned lines = 0;
	uint64_t broken;
	int r;

	if (acks->body)
		assert_int_equal(check_blob(f->store, &d->body_meta.sha256, d->body, BODY_LEN), 0);
	if (acks->second_body)
		assert_int_equal(check_blob(f->store, &d->second_meta.sha256, d->second, BODY_LEN), 0);
	for (int i = 1; i < DOCS; i++)
		if (acks->docs[i])
			assert_int_equal(check_blob(f->store, &d->doc_metas[i].sha256, d->docs[i],
						    d->doc_metas[i].size),
					 0);
	if (acks->removed) {
		r = check_blob(f->store, &d->doc_metas[0].sha256, d->docs[0], d->doc_metas[0].size);
		assert_int_equal(r, -ENODATA);
	}
	assert_int_equal(store_journal_each(f->store, count_line, &lines, &broken), 0);
	assert_true(lines >= acks->lines);
	assert_true(count_files(f, "incoming", ".part") >= (unsigned)acks->half_saved + acks->windows_saved);
	assert_int_equal(store_blob_each(f->store, check_one, f), 0);
}

/* As after a start: recovered, everything checked, and a second recovery finds nothing more to do. */
static void check_after_start(struct fixture *f, struct data *d, const struct acks *acks)
{
	struct store_usage first, second;

	f->store = NULL;
	open_store(f);
	adopted_count = 0;
	assert_int_equal(store_recover(f->store, note_adopted, NULL), 0);
	first = usage_of(f->store);
	assert_int_equal(first.reserved, 0);
	assert_int_equal(count_files(f, "incoming", ".tmp"), 0);
	assert_true(count_files(f, "incoming", ".map") <= count_files(f, "incoming", ".part"));
	assert_true(adopted_count >= first.objects); /* none is left that the index will never hear of */
	check_acknowledged(f, d, acks);
	assert_int_equal(store_recover(f->store, NULL, NULL), 0);
	second = usage_of(f->store);
	assert_int_equal(second.used, first.used);
	assert_int_equal(second.objects, first.objects);
}

static void forget_alive(struct fixture *f)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/incoming/alive", f->path);
	(void)unlink(path);
}

/* Returns false when the life needed fewer calls than n. */
static bool live_with_fault(unsigned n, unsigned only, int error)
{
	struct fixture *f = fixture_new_in_memory();
	struct acks acks = { .body = false };
	struct store_usage u, found;
	struct data d;
	bool was_hit;

	f->size_max = 100 << 20;
	make_data(&d);
	open_store(f);
	assert_int_equal(store_recover(f->store, NULL, NULL), 0);
	memset(&hook, 0, sizeof(hook));
	hook.only = only;
	hook.error = error;
	hook.at = n;
	hook.is_on = true;
	live(f, &d, &acks);
	hook.is_on = false;
	was_hit = hook.count >= n;
	/* without a restart: all came back, and what counts is what is there */
	u = usage_of(f->store);
	assert_int_equal(u.reserved, 0);
	check_acknowledged(f, &d, &acks);
	store_close(f->store);
	forget_alive(f);
	check_after_start(f, &d, &acks);
	/* but for blocks of a part that could not be given back then, and were now */
	u.used -= u.partial;
	found = usage_of(f->store);
	found.used -= found.partial;
	if (u.used != found.used || u.objects != found.objects)
		fail_msg("call %u, error %d: the books say %llu in %llu, the files %llu in %llu", n, error,
			 (unsigned long long)u.used, (unsigned long long)u.objects,
			 (unsigned long long)found.used, (unsigned long long)found.objects);
	if (!was_hit) {
		/* the last run had no fault: it must have done everything */
		assert_true(acks.body && acks.second_body && acks.docs[0] && acks.docs[1] && acks.docs[2] &&
			    acks.removed && acks.half_saved && acks.windows_saved);
		assert_int_equal(acks.lines, 3);
	}
	done_data(&d);
	fixture_free(f);
	return was_hit;
}

static void sweep_errors(unsigned only, int error)
{
	unsigned n = 1;

	while (live_with_fault(n, only, error))
		n++;
	assert_true(n > 5);
}

static void survives_each_call_failing_with_eio(void **state)
{
	sweep_errors(FAILING_CALLS, EIO);
}

static void survives_a_full_disk_at_each_call(void **state)
{
	sweep_errors(FAILING_CALLS & ~(1u << CALL_FSYNC | 1u << CALL_FDATASYNC | 1u << CALL_FTRUNCATE |
				       1u << CALL_FCHMOD),
		     ENOSPC);
}

static void survives_a_full_quota_at_each_write(void **state)
{
	sweep_errors(1u << CALL_WRITE | 1u << CALL_PWRITE | 1u << CALL_FALLOCATE | 1u << CALL_OPENAT |
			     1u << CALL_MKDIRAT,
		     EDQUOT);
}

static void survives_running_out_of_descriptors(void **state)
{
	sweep_errors(1u << CALL_OPENAT, EMFILE);
}

static bool live_until_killed(unsigned n)
{
	struct fixture *f = fixture_new_in_memory();
	struct acks *acks =
		mmap(NULL, sizeof(*acks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct data d;
	int status = 0;
	pid_t pid;

	assert_true(acks != MAP_FAILED);
	make_data(&d);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		open_store(f);
		if (store_recover(f->store, NULL, NULL) != 0)
			_exit(1);
		memset(&hook, 0, sizeof(hook));
		hook.only = ALL_CALLS;
		hook.at = n;
		hook.kills = hook.is_on = true;
		live(f, &d, acks);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 99 || WEXITSTATUS(status) == 0));
	if (WEXITSTATUS(status) == 0)
		forget_alive(f);
	check_after_start(f, &d, acks);
	done_data(&d);
	fixture_free(f);
	(void)munmap(acks, sizeof(*acks));
	return WEXITSTATUS(status) == 99;
}

static void survives_being_killed_at_each_call(void **state)
{
	unsigned n = 1;

	while (live_until_killed(n))
		n++;
	assert_true(n > 80);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survives_each_call_failing_with_eio),
		cmocka_unit_test(survives_a_full_disk_at_each_call),
		cmocka_unit_test(survives_a_full_quota_at_each_write),
		cmocka_unit_test(survives_running_out_of_descriptors),
		cmocka_unit_test(survives_being_killed_at_each_call),
	};

	/* some hundred lives of a store: in memory they take seconds */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
