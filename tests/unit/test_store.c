/* SPDX-License-Identifier: Apache-2.0 */
/* store: opening, finished blobs, documents, room; each promise and each error of the door. */
#include "test_store.h"

#include <sys/file.h>
#include <sys/resource.h>

/* --- opening --- */

static void expect_refusal(struct fixture *f, int error, const char *word)
{
	struct store *s = NULL;
	const char *reason = NULL;
	int r = try_open(f, &s, &reason);

	assert_int_equal(r, error);
	assert_null(s);
	assert_non_null(reason);
	if (!strstr(reason, word))
		fail_msg("\"%s\" does not say \"%s\"", reason, word);
}

static int set_up_closed(void **state)
{
	*state = fixture_new();
	return 0;
}

static void make_store_folder(struct fixture *f, mode_t mode)
{
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_int_equal(chmod(f->path, mode), 0);
}

static void makes_its_folders_and_keeps_its_key(void **state)
{
	struct fixture *f = *state;
	uint8_t key[32], again[32];
	char path[PATH_MAX];
	struct stat st;
	mode_t mask = umask(0);

	open_store(f);
	umask(mask);
	store_subject_key(f->store, key);
	store_close(f->store);
	open_store(f);
	store_subject_key(f->store, again);
	assert_memory_equal(key, again, 32);
	(void)snprintf(path, sizeof(path), "%s/key", f->path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 32);
	(void)snprintf(path, sizeof(path), "%s/blobs", f->path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_true(str_ends_with(str_from(store_index_path(f->store)), STR("/store/index.db")));
}

static void makes_a_new_key_when_it_was_cut(void **state)
{
	struct fixture *f = *state;
	uint8_t key[32], again[32];
	char path[PATH_MAX];

	open_store(f);
	store_subject_key(f->store, key);
	store_close(f->store);
	f->store = NULL;
	(void)snprintf(path, sizeof(path), "%s/key", f->path);
	write_file(path, key, 16);
	open_store(f);
	store_subject_key(f->store, again);
	assert_memory_not_equal(key, again, 16);
}

static void refuses_a_second_daemon(void **state)
{
	struct fixture *f = *state;

	open_store(f);
	expect_refusal(f, -EBUSY, "another hfcached");
}

static void refuses_a_file(void **state)
{
	struct fixture *f = *state;

	write_file(f->path, "x", 1);
	expect_refusal(f, -ENOTDIR, "names a file");
}

static void refuses_a_folder_that_all_may_write(void **state)
{
	struct fixture *f = *state;

	make_store_folder(f, 0777);
	expect_refusal(f, -EACCES, "chmod 700");
	assert_int_equal(count_files(f, "", ""), 0); /* nothing was written */
}

static void refuses_a_newer_format_and_writes_nothing(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];

	make_store_folder(f, 0700);
	(void)snprintf(path, sizeof(path), "%s/FORMAT", f->path);
	write_file(path, "hfcached store 2\n", 17);
	expect_refusal(f, -EPROTO, "newer");
	write_file(path, "something else\n", 15);
	expect_refusal(f, -EPROTO, "FORMAT");
	assert_int_equal(count_files(f, "", ""), 1);
}

static void refuses_a_folder_with_foreign_files(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];

	make_store_folder(f, 0700);
	(void)snprintf(path, sizeof(path), "%s/thesis.tex", f->path);
	write_file(path, "x", 1);
	expect_refusal(f, -EPROTO, "empty folder");
	assert_int_equal(count_files(f, "", ""), 1);
}

static void refuses_a_folder_it_cannot_write(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];

	if (geteuid() == 0) { /* root may write anywhere: a symlink in place of a folder is refused for all */
		open_store(f);
		store_close(f->store);
		f->store = NULL;
		(void)snprintf(path, sizeof(path), "%s/incoming", f->path);
		assert_int_equal(unlink(strcat(path, "/alive")), 0);
		(void)snprintf(path, sizeof(path), "%s/incoming", f->path);
		assert_int_equal(rmdir(path), 0);
		assert_int_equal(symlink("/", path), 0);
		expect_refusal(f, -ENOTDIR, "symbolic link");
		return;
	}
	make_store_folder(f, 0500);
	expect_refusal(f, -EACCES, "chown");
}

static void opens_after_a_first_start_was_cut_off(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];

	make_store_folder(f, 0700);
	(void)snprintf(path, sizeof(path), "%s/lock", f->path);
	write_file(path, "", 0);
	(void)snprintf(path, sizeof(path), "%s/FORMAT.tmp-0123", f->path);
	write_file(path, "hfc", 3);
	open_store(f);
	assert_int_equal(store_recover(f->store, NULL, NULL), 0);
	assert_false(file_exists(path));
}

/* --- blobs --- */

static void serves_what_was_finished(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(300000, 1), path[PATH_MAX];
	struct blob_meta meta;
	struct store_usage u;
	struct stat st;

	assert_int_equal(put_blob(f->store, bytes, 300000, &meta), 0);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 300000), 0);
	u = usage_of(f->store);
	assert_int_equal(u.reserved, 0);
	assert_int_equal(u.objects, 1);
	assert_int_equal(u.used, 303104 + 4096); /* blocks of the file, one for the sidecar */
	blob_file(f, "blobs", &meta.sha256, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0440);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	reopen(f);
	assert_int_equal(usage_of(f->store).used, u.used);
	assert_int_equal(usage_of(f->store).objects, 1);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 300000), 0);
	free(bytes);
}

static void serves_an_empty_file(void **state)
{
	struct fixture *f = *state;
	struct blob_meta meta;

	assert_int_equal(put_blob(f->store, "", 0, &meta), 0);
	assert_int_equal(check_blob(f->store, &meta.sha256, "", 0), 0);
	reopen(f);
	assert_int_equal(check_blob(f->store, &meta.sha256, "", 0), 0);
}

static void says_no_data_for_what_is_not_stored(void **state)
{
	struct fixture *f = *state;
	struct blob_meta meta = meta_of("never put", 9);
	struct blob *b = NULL;

	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), -ENODATA);
	assert_null(b);
	assert_false(store_blob_is_open(f->store, &meta.sha256));
	assert_int_equal(store_remove_blob(f->store, &meta.sha256), 0);
	assert_int_equal(store_quarantine_blob(f->store, &meta.sha256), 0);
}

static void finishing_twice_is_success_and_is_charged_once(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(5000, 2);
	struct blob_meta meta;
	struct content_id id;
	uint64_t used;

	assert_int_equal(put_blob(f->store, bytes, 5000, &meta), 0);
	used = usage_of(f->store).used;
	id = git_id(&meta); /* the same bytes by their other name */
	assert_int_equal(put_as(f->store, &id, bytes, &meta), 0);
	assert_int_equal(usage_of(f->store).used, used);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(usage_of(f->store).objects, 1);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	free(bytes);
}

static void replaces_a_stranger_that_took_the_name(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(5000, 3), path[PATH_MAX];
	struct blob_meta meta, other;
	char *slash;

	other = meta_of(bytes, 5000);
	blob_file(f, "blobs", &other.sha256, path);
	for (slash = path + strlen(f->path) + strlen("/blobs/"); (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		(void)mkdir(path, 0700);
		*slash = '/';
	}
	write_file(path, "not these", 9);
	assert_int_equal(put_blob(f->store, bytes, 5000, &meta), 0);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 5000), 0);
	free(bytes);
}

static void keeps_the_descriptor_of_a_removed_blob(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(100000, 4), found[1000];
	struct blob_meta meta;
	struct blob *b = NULL, *other = NULL;

	assert_int_equal(put_blob(f->store, bytes, 100000, &meta), 0);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), 0);
	assert_true(store_blob_is_open(f->store, &meta.sha256));
	assert_int_equal(store_remove_blob(f->store, &meta.sha256), 0);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &other), -ENODATA);
	assert_int_equal(pread(blob_fd(b), found, 1000, 99000), 1000);
	assert_memory_equal(found, bytes + 99000, 1000);
	b = blob_unref(b);
	assert_null(b);
	assert_int_equal(usage_of(f->store).used, 0);
	assert_int_equal(usage_of(f->store).objects, 0);
	free(bytes);
}

static void opens_a_hot_blob_without_the_disk(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(100000, 5), path[PATH_MAX];
	struct blob_meta meta;

	assert_int_equal(put_blob(f->store, bytes, 100000, &meta), 0);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 100000), 0);
	assert_false(store_blob_is_open(f->store, &meta.sha256)); /* idle does not count */
	blob_file(f, "meta", &meta.sha256, path);
	assert_int_equal(unlink(path), 0);
	blob_file(f, "blobs", &meta.sha256, path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 100000), 0);
	free(bytes);
}

static void reads_a_small_blob_into_memory_and_a_large_one_not(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(STORE_SMALL_MAX + 1, 6);
	struct blob_meta small, large;
	struct blob *b = NULL;

	assert_int_equal(put_blob(f->store, bytes, STORE_SMALL_MAX, &small), 0);
	assert_int_equal(put_blob(f->store, bytes, STORE_SMALL_MAX + 1, &large), 0);
	assert_int_equal(store_open_blob(f->store, &large.sha256, &b), 0);
	assert_null(blob_bytes(b));
	(void)blob_unref(b);
	assert_int_equal(store_open_blob(f->store, &small.sha256, &b), 0);
	assert_true(blob_fd(b) >= 0);
	assert_int_equal(bytes_str(blob_bytes(b)).len, STORE_SMALL_MAX);
	assert_memory_equal(bytes_str(blob_bytes(b)).ptr, bytes, STORE_SMALL_MAX);
	assert_true(blob_fd(b) >= 0); /* not taken away from who may be using it */
	(void)blob_unref(b);
	assert_int_equal(store_open_blob(f->store, &small.sha256, &b), 0);
	assert_int_equal(blob_fd(b), -1); /* its bytes are enough */
	assert_ptr_equal(blob_ref(b), b);
	(void)blob_unref(b);
	assert_memory_equal(bytes_str(blob_bytes(b)).ptr, bytes, STORE_SMALL_MAX);
	(void)blob_unref(b);
	free(bytes);
}

static void quarantines_a_blob_of_wrong_size(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(200000, 7), path[PATH_MAX];
	struct blob_meta meta;
	struct blob *b = NULL;

	f->size_max = UINT64_C(100) << 20;
	reopen(f);
	assert_int_equal(put_blob(f->store, bytes, 200000, &meta), 0);
	blob_file(f, "blobs", &meta.sha256, path);
	assert_int_equal(truncate(path, 199999), 0);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), -EBADMSG);
	assert_null(b);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), -ENODATA);
	assert_int_equal(count_files(f, "quarantine", ""), 1);
	assert_int_equal(usage_of(f->store).used, 200704);
	/* and it heals */
	assert_int_equal(put_blob(f->store, bytes, 200000, &meta), 0);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 200000), 0);
	f->wall_s += 8 * 24 * 3600;
	reopen(f);
	assert_int_equal(count_files(f, "quarantine", ""), 0);
	assert_int_equal(usage_of(f->store).used, 200704 + 4096);
	free(bytes);
}

static void quarantines_a_symlink_in_a_blobs_place(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];
	struct blob_meta meta;
	struct blob *b = NULL;

	assert_int_equal(put_blob(f->store, "abc", 3, &meta), 0);
	blob_file(f, "blobs", &meta.sha256, path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), -EBADMSG);
	assert_false(file_exists(path));
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), -ENODATA);
}

static void keeps_little_in_quarantine(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(60000, 8);
	struct blob_meta meta;

	f->size_max = 10 << 20; /* so that one hundredth is 100 KiB: one of these and not two */
	reopen(f);
	for (size_t i = 0; i < 4; i++) {
		f->wall_s++;
		assert_int_equal(put_blob(f->store, bytes, 59000 + i, &meta), 0);
		assert_int_equal(store_quarantine_blob(f->store, &meta.sha256), 0);
		assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 59000 + i), -ENODATA);
	}
	assert_int_equal(count_files(f, "quarantine", ""), 1);
	assert_int_equal(usage_of(f->store).used, 61440);
	assert_int_equal(usage_of(f->store).objects, 0);
	free(bytes);
}

static void does_not_serve_a_blob_with_a_broken_sidecar(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];
	struct blob_meta meta;
	struct blob *b = NULL;

	assert_int_equal(put_blob(f->store, "abc", 3, &meta), 0);
	blob_file(f, "meta", &meta.sha256, path);
	assert_int_equal(chmod(path, 0600), 0);
	write_file(path, "hfcached meta 1\nsize=3\n", 23);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), -ENODATA);
	assert_int_equal(count_files(f, "quarantine", ""), 0); /* the blob may be good */
	reopen(f);
	assert_int_equal(check_blob(f->store, &meta.sha256, "abc", 3), 0); /* it was: recovery hashed it */
}

/* Each idle blob costs a descriptor; when they run out the idle ones are given up. */
static void gives_up_idle_descriptors_when_they_run_out(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(STORE_SMALL_MAX + 200, 9);
	struct rlimit old, few;
	struct blob_meta metas[100];
	struct blob *held[100];
	unsigned count = 0;
	int r = 0;

	for (size_t i = 0; i < 100; i++)
		assert_int_equal(put_doc(f->store, bytes, STORE_SMALL_MAX + 1 + i, &metas[i]), 0);
	assert_int_equal(store_flush_pending(f->store, NULL, NULL), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){ 64, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (size_t i = 0; i < 100 && r == 0; i++)
		r = check_blob(f->store, &metas[i].sha256, bytes, STORE_SMALL_MAX + 1 + i);
	while (r == 0 && count < 100 &&
	       (r = store_open_blob(f->store, &metas[count].sha256, &held[count])) == 0)
		count++;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(r, -EMFILE);
	assert_true(count > 30);
	while (count)
		(void)blob_unref(held[--count]);
	free(bytes);
}

/* --- documents --- */

struct told {
	unsigned count;
	struct blob_meta last;
};

static void note_written(void *ctx, const struct blob_meta *meta)
{
	struct told *t = ctx;

	t->count++;
	t->last = *meta;
}

static void serves_a_document_before_and_after_it_is_written(void **state)
{
	struct fixture *f = *state;
	struct told t = { 0 };
	struct blob_meta meta;
	struct blob *b = NULL;
	char path[PATH_MAX];

	assert_int_equal(put_doc(f->store, "{\"a\":1}", 7, &meta), 0);
	blob_file(f, "blobs", &meta.sha256, path);
	assert_false(file_exists(path));
	assert_int_equal(usage_of(f->store).used, 8192);
	assert_int_equal(usage_of(f->store).objects, 1);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), 0);
	assert_int_equal(blob_fd(b), -1);
	assert_memory_equal(bytes_str(blob_bytes(b)).ptr, "{\"a\":1}", 7);
	assert_int_equal(store_flush_pending(f->store, note_written, &t), 0);
	assert_int_equal(t.count, 1);
	assert_true(digest_eq(&t.last.sha256, &meta.sha256));
	assert_true(git_oid_eq(&t.last.git, &meta.git));
	assert_true(file_exists(path));
	assert_memory_equal(bytes_str(blob_bytes(b)).ptr, "{\"a\":1}", 7); /* still: we hold it */
	(void)blob_unref(b);
	assert_int_equal(usage_of(f->store).used, 8192);
	assert_int_equal(store_flush_pending(f->store, note_written, &t), 0);
	assert_int_equal(t.count, 1);
	reopen(f);
	assert_int_equal(check_blob(f->store, &meta.sha256, "{\"a\":1}", 7), 0);
	assert_int_equal(usage_of(f->store).used, 8192);
}

static void keeps_a_large_document_in_memory_while_somebody_has_it(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(1 << 20, 10);
	struct blob_meta meta;
	struct blob *b = NULL;

	assert_int_equal(put_doc(f->store, bytes, 1 << 20, &meta), 0);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), 0);
	assert_int_equal(store_flush_pending(f->store, NULL, NULL), 0);
	assert_int_equal(blob_fd(b), -1);
	assert_non_null(blob_bytes(b));
	(void)blob_unref(b);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), 0);
	assert_true(blob_fd(b) >= 0); /* from the disk now */
	assert_null(blob_bytes(b));
	(void)blob_unref(b);
	free(bytes);
}

static void putting_the_same_document_again_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct told t = { 0 };
	struct blob_meta meta;

	assert_int_equal(put_doc(f->store, "same", 4, &meta), 0);
	assert_int_equal(put_doc(f->store, "same", 4, &meta), 0);
	assert_int_equal(usage_of(f->store).used, 8192);
	reopen(f);
	assert_int_equal(put_doc(f->store, "same", 4, &meta), 0);
	assert_int_equal(usage_of(f->store).used, 8192);
	assert_int_equal(store_flush_pending(f->store, note_written, &t), 0);
	assert_int_equal(t.count, 1); /* told once more: the index may not have heard of it */
}

static void forgets_a_document_that_is_removed_before_it_is_written(void **state)
{
	struct fixture *f = *state;
	struct told t = { 0 };
	struct blob_meta a, b;
	struct blob *blob = NULL;

	assert_int_equal(put_doc(f->store, "one", 3, &a), 0);
	assert_int_equal(put_doc(f->store, "two", 3, &b), 0);
	assert_int_equal(store_remove_blob(f->store, &a.sha256), 0);
	assert_int_equal(store_quarantine_blob(f->store, &b.sha256), 0);
	assert_int_equal(store_open_blob(f->store, &a.sha256, &blob), -ENODATA);
	assert_int_equal(store_flush_pending(f->store, note_written, &t), 0);
	assert_int_equal(t.count, 0);
	assert_int_equal(usage_of(f->store).used, 0);
	assert_int_equal(usage_of(f->store).objects, 0);
}

static void does_not_tell_of_a_document_that_was_evicted_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct told t = { 0 };
	struct blob_meta meta;

	assert_int_equal(put_doc(f->store, "one", 3, &meta), 0);
	reopen(f);
	assert_int_equal(put_doc(f->store, "one", 3, &meta), 0);
	assert_int_equal(store_remove_blob(f->store, &meta.sha256), 0);
	assert_int_equal(store_flush_pending(f->store, note_written, &t), 0);
	assert_int_equal(t.count, 0);
}

static void writes_itself_what_does_not_fit_in_memory(void **state)
{
	struct fixture *f = *state;
	size_t len = 40 << 20;
	char *bytes = make_bytes((64 << 20) + 1, 11), path[PATH_MAX];
	struct told t = { 0 };
	struct blob_meta first, second;

	assert_int_equal(put_doc(f->store, bytes, len, &first), 0);
	assert_int_equal(put_doc(f->store, bytes, len - 1, &second), 0);
	blob_file(f, "blobs", &second.sha256, path);
	assert_true(file_exists(path));
	blob_file(f, "blobs", &first.sha256, path);
	assert_false(file_exists(path));
	assert_int_equal(store_flush_pending(f->store, note_written, &t), 0);
	assert_int_equal(t.count, 2);
	assert_int_equal(usage_of(f->store).objects, 2);
	assert_int_equal(put_doc(f->store, bytes, (64 << 20) + 1, &first), -E2BIG);
	free(bytes);
}

static void closing_writes_what_waits(void **state)
{
	struct fixture *f = *state;
	struct blob_meta metas[70];
	char text[32];

	for (int i = 0; i < 70; i++) /* more than one batch */
		assert_int_equal(
			put_doc(f->store, text, (size_t)snprintf(text, sizeof(text), "doc %d", i), &metas[i]),
			0);
	reopen(f);
	for (int i = 0; i < 70; i++) {
		size_t len = (size_t)snprintf(text, sizeof(text), "doc %d", i);

		assert_int_equal(check_blob(f->store, &metas[i].sha256, text, len), 0);
	}
	assert_int_equal(usage_of(f->store).objects, 70);
	assert_int_equal(count_files(f, "incoming", ".tmp"), 0);
}

/* --- room --- */

static void says_how_much_is_missing(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(1 << 20, 12);
	struct blob_meta meta, key = meta_of("a key", 5);
	struct content_id id = git_id(&key), large = lfs_id(&key);
	struct part *p = NULL, *q = NULL;
	uint64_t missing = 0;

	f->size_max = 6 << 20;
	reopen(f);
	assert_int_equal(put_blob(f->store, bytes, 1 << 20, &meta), 0);
	id.size = 4 << 20;
	large.size = 6 << 20;
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(store_open_part(f->store, &large, &q), 0);
	assert_int_equal(part_reserve(q, (struct byte_range){ 5, 1 << 20 }, &missing), -ENOSPC);
	/* 1 MiB + 4 MiB + 1 MiB and a block each for the sidecars, of 6 MiB less one 64th */
	assert_int_equal(missing, 3 * 4096 + (6 << 20) / 64);
	assert_int_equal(part_reserve(q, (struct byte_range){ 0, 6 << 20 }, &missing), -ENOSPC);
	assert_true(missing == UINT64_MAX);
	(void)part_unref(q);
	(void)part_unref(p);
	assert_int_equal(usage_of(f->store).reserved, 0);
	large.size = UINT64_MAX;
	assert_int_equal(store_open_part(f->store, &large, &q), -ENOSPC);
	large.size = INT64_MAX;
	assert_int_equal(open_whole(f->store, &large, &q), -ENOSPC);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(count_files(f, "incoming", ".part"), 0);
	free(bytes);
}

static void keeps_the_reserve_of_the_disk_free(void **state)
{
	struct fixture *f = *state;
	struct blob_meta meta = meta_of("x", 1);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;
	uint64_t missing = 0;

	f->disk_reserve = UINT64_C(1) << 60;
	reopen(f);
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(part_reserve(p, (struct byte_range){ 0, 1 }, &missing), -ENOSPC);
	assert_true(missing == UINT64_MAX);
	(void)part_unref(p);
	assert_int_equal(put_doc(f->store, "x", 1, &meta), -ENOSPC);
	assert_int_equal(usage_of(f->store).used, 0);
}

static void documents_and_journals_stop_at_the_limit(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(4096, 13);
	struct str line = { bytes, 3000 };
	struct blob_meta meta;
	struct store_usage u;
	int r = 0;

	for (size_t i = 0; i < 4096; i++)
		bytes[i] = 'a';
	f->size_max = 512 << 10;
	reopen(f);
	for (unsigned i = 0; i < 40 && r == 0; i++) {
		bytes[0] = (char)i;
		r = put_doc(f->store, bytes, 4096, &meta);
	}
	assert_int_equal(r, 0);
	for (unsigned i = 0; i < 100 && r == 0; i++)
		r = store_journal_append(f->store, STR("models/a/b"), &line, 1);
	assert_int_equal(r, -ENOSPC);
	u = usage_of(f->store);
	assert_true(u.used <= 512 << 10);
	assert_int_equal(put_doc(f->store, bytes + 1, 4095, &meta), -ENOSPC);
	assert_int_equal(usage_of(f->store).used, u.used);
	reopen(f);
	assert_int_equal(usage_of(f->store).used, u.used); /* counted as charged */
	free(bytes);
}

static void shows_what_it_holds_as_metrics(void **state)
{
	struct fixture *f = *state;
	struct blob_meta meta;

	assert_int_equal(put_blob(f->store, "abc", 3, &meta), 0);
	assert_int_equal(metrics_value(f->metrics, METRIC_STORAGE_USED, 0, 0, 0), 8192);
	assert_int_equal(metrics_value(f->metrics, METRIC_STORAGE_OBJECTS, 0, 0, 0), 1);
	assert_true(metrics_value(f->metrics, METRIC_STORAGE_FREE, 0, 0, 0) > 0);
	assert_int_equal(store_check_writable(f->store), 0);
}

#define OPENED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define CLOSED(test) cmocka_unit_test_setup_teardown(test, set_up_closed, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLOSED(makes_its_folders_and_keeps_its_key),
		CLOSED(makes_a_new_key_when_it_was_cut),
		CLOSED(refuses_a_second_daemon),
		CLOSED(refuses_a_file),
		CLOSED(refuses_a_folder_that_all_may_write),
		CLOSED(refuses_a_newer_format_and_writes_nothing),
		CLOSED(refuses_a_folder_with_foreign_files),
		CLOSED(refuses_a_folder_it_cannot_write),
		CLOSED(opens_after_a_first_start_was_cut_off),
		OPENED(serves_what_was_finished),
		OPENED(serves_an_empty_file),
		OPENED(says_no_data_for_what_is_not_stored),
		OPENED(finishing_twice_is_success_and_is_charged_once),
		OPENED(replaces_a_stranger_that_took_the_name),
		OPENED(keeps_the_descriptor_of_a_removed_blob),
		OPENED(opens_a_hot_blob_without_the_disk),
		OPENED(reads_a_small_blob_into_memory_and_a_large_one_not),
		OPENED(quarantines_a_blob_of_wrong_size),
		OPENED(quarantines_a_symlink_in_a_blobs_place),
		OPENED(keeps_little_in_quarantine),
		OPENED(does_not_serve_a_blob_with_a_broken_sidecar),
		OPENED(gives_up_idle_descriptors_when_they_run_out),
		OPENED(serves_a_document_before_and_after_it_is_written),
		OPENED(keeps_a_large_document_in_memory_while_somebody_has_it),
		OPENED(putting_the_same_document_again_costs_nothing),
		OPENED(forgets_a_document_that_is_removed_before_it_is_written),
		OPENED(does_not_tell_of_a_document_that_was_evicted_meanwhile),
		OPENED(writes_itself_what_does_not_fit_in_memory),
		OPENED(closing_writes_what_waits),
		OPENED(says_how_much_is_missing),
		OPENED(keeps_the_reserve_of_the_disk_free),
		OPENED(documents_and_journals_stop_at_the_limit),
		OPENED(shows_what_it_holds_as_metrics),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
