/* SPDX-License-Identifier: Apache-2.0 */
/* store: what a crash right after each step leaves, built by hand, and what a start makes of it. */
#include "test_store.h"

#define LEN 300000

struct seen {
	unsigned count;
	struct content_id id;
	struct blob_meta meta;
};

static int note_adopted(void *ctx, const struct content_id *id, const struct blob_meta *meta)
{
	struct seen *s = ctx;

	s->count++;
	s->id = *id;
	s->meta = *meta;
	return 0;
}

static void restart(struct fixture *f, struct seen *seen)
{
	store_close(f->store);
	open_store(f);
	*seen = (struct seen){ 0 };
	assert_int_equal(store_recover(f->store, note_adopted, seen), 0);
}

static void incoming_file(struct fixture *f, const struct content_id *id, const char *suffix,
			  char ret_path[PATH_MAX])
{
	char hex[CONTENT_HEX_MAX];

	content_id_hex(id, hex);
	(void)snprintf(ret_path, PATH_MAX, "%s/incoming/%c-%s%s", f->path,
		       id->kind == CONTENT_GIT ? 'g' : 's', hex, suffix);
}

/* The store's files must not be open when they are changed behind its back. */
static void stop(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
}

/* mtime of incoming/alive; blobs named ten minutes before it are not told again. */
static void set_alive(struct fixture *f, time_t at)
{
	struct timespec times[2] = { { .tv_sec = at }, { .tv_sec = at } };
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/incoming/alive", f->path);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static time_t now(void)
{
	return time(NULL);
}

static void adopt_whole_part(struct fixture *f, bool is_git)
{
	char *bytes = make_bytes(LEN, 1), path[PATH_MAX];
	struct blob_meta meta = meta_of(bytes, LEN);
	struct content_id id = is_git ? git_id(&meta) : lfs_id(&meta);
	struct seen seen;

	stop(f);
	incoming_file(f, &id, ".part", path);
	write_file(path, bytes, LEN);
	assert_int_equal(chmod(path, 0440), 0); /* S5 was done */
	restart(f, &seen);
	assert_int_equal(seen.count, 1);
	assert_true(content_id_eq(&seen.id, &id));
	assert_true(digest_eq(&seen.meta.sha256, &meta.sha256));
	assert_true(git_oid_eq(&seen.meta.git, &meta.git));
	assert_int_equal(seen.meta.size, LEN);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, LEN), 0);
	assert_false(file_exists(path));
	assert_int_equal(usage_of(f->store).objects, 1);
	assert_int_equal(usage_of(f->store).used, 303104 + 4096);
	free(bytes);
}

static void s5_adopts_a_whole_part_without_a_map(void **state)
{
	adopt_whole_part(*state, false);
}

static void s5_adopts_a_whole_part_of_a_git_file(void **state)
{
	adopt_whole_part(*state, true);
}

/* Leaves `held` bytes and a map of them; the file has its whole size. */
static struct content_id leave_part(struct fixture *f, const char *bytes, size_t held)
{
	struct blob_meta meta = meta_of(bytes, LEN);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;

	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_write(p, 0, bytes, held), 0);
	(void)part_unref(p);
	return id;
}

static void a_map_that_lags_behind_does_not_matter(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(LEN, 2), path[PATH_MAX];
	struct content_id id = leave_part(f, bytes, LEN / 2);
	struct seen seen;
	int fd;

	stop(f);
	incoming_file(f, &id, ".part", path);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, bytes + LEN / 2, LEN / 2, LEN / 2), LEN / 2);
	(void)close(fd);
	restart(f, &seen);
	assert_int_equal(seen.count, 1);
	assert_int_equal(check_blob(f->store, &id.sha256, bytes, LEN), 0);
	assert_int_equal(count_files(f, "incoming", ".map"), 0);
	free(bytes);
}

static void a_part_with_wrong_bytes_is_kept_by_its_map_only(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(LEN, 3), path[PATH_MAX];
	struct content_id id = leave_part(f, bytes, LEN / 2);
	struct part *p = NULL;
	struct seen seen;
	int fd;

	stop(f);
	incoming_file(f, &id, ".part", path);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, bytes, LEN / 2, LEN / 2),
			 LEN / 2); /* the size is right, the second half is not */
	(void)close(fd);
	restart(f, &seen);
	assert_int_equal(seen.count, 0);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_held_from(p, 0), LEN / 2);
	(void)part_unref(p);
	free(bytes);
}

static void a_part_without_a_use_is_removed(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(LEN, 4), path[PATH_MAX], map[PATH_MAX];
	struct content_id id = leave_part(f, bytes, 1000);
	struct seen seen;

	stop(f);
	incoming_file(f, &id, ".part", path);
	incoming_file(f, &id, ".map", map);
	assert_int_equal(unlink(map), 0); /* S1 or S2: nothing synced */
	restart(f, &seen);
	assert_false(file_exists(path));

	id = leave_part(f, bytes, 1000);
	stop(f);
	write_file(map, "torn", 4);
	restart(f, &seen);
	assert_false(file_exists(path));
	assert_false(file_exists(map));

	id = leave_part(f, bytes, 1000);
	stop(f);
	assert_int_equal(truncate(path, 500), 0); /* shorter than its map says */
	restart(f, &seen);
	assert_false(file_exists(path));

	id = leave_part(f, bytes, 1000);
	f->wall_s += 31 * 24 * 3600;
	restart(f, &seen);
	assert_false(file_exists(path));

	id = leave_part(f, bytes, 1000);
	stop(f);
	assert_int_equal(unlink(path), 0);
	restart(f, &seen);
	assert_false(file_exists(map));
	assert_int_equal(seen.count, 0);
	assert_int_equal(usage_of(f->store).used, 0);
	free(bytes);
}

/* A map of another fill of this content must not vouch for the next one's blocks. */
static void a_map_of_bytes_that_have_gone_is_not_believed(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(LEN, 5), path[PATH_MAX];
	struct content_id id = leave_part(f, bytes, LEN / 2);
	struct part *p = NULL;

	incoming_file(f, &id, ".part", path);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_held_from(p, 0), 0);
	incoming_file(f, &id, ".map", path);
	assert_false(file_exists(path)); /* or a crash now would make it true of zeros */
	(void)part_unref(p);
	free(bytes);
}

static void s6_removes_a_sidecar_without_a_blob(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];
	struct blob_meta meta;
	struct seen seen;

	assert_int_equal(put_blob(f->store, "abc", 3, &meta), 0);
	stop(f);
	blob_file(f, "blobs", &meta.sha256, path);
	assert_int_equal(unlink(path), 0);
	restart(f, &seen);
	blob_file(f, "meta", &meta.sha256, path);
	assert_false(file_exists(path));
	assert_int_equal(seen.count, 0);
	assert_int_equal(usage_of(f->store).used, 0);
}

static void s8_tells_of_blobs_that_got_their_name_last(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];
	struct blob_meta meta;
	struct content_id id;
	struct seen seen;

	assert_int_equal(put_blob(f->store, "abc", 3, &meta), 0);
	stop(f);
	set_alive(f, now());
	id = lfs_id(&meta);
	incoming_file(f, &id, ".map", path);
	write_file(path, "left over", 9);
	restart(f, &seen);
	assert_int_equal(seen.count, 1);
	assert_true(content_id_eq(&seen.id, &id));
	assert_true(git_oid_eq(&seen.meta.git, &meta.git));
	assert_false(file_exists(path));
	stop(f);
	set_alive(f, now() + 3600); /* we have been alive for an hour since: the index knows */
	restart(f, &seen);
	assert_int_equal(seen.count, 0);
	assert_int_equal(usage_of(f->store).objects, 1);
}

static void a_stray_blob_is_adopted_or_quarantined_by_its_digest(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];
	struct blob_meta good, bad;
	struct seen seen;

	assert_int_equal(put_blob(f->store, "good", 4, &good), 0);
	assert_int_equal(put_blob(f->store, "bad", 3, &bad), 0);
	stop(f);
	set_alive(f, now() + 3600);
	blob_file(f, "meta", &good.sha256, path);
	assert_int_equal(unlink(path), 0);
	blob_file(f, "meta", &bad.sha256, path);
	assert_int_equal(unlink(path), 0);
	blob_file(f, "blobs", &bad.sha256, path);
	assert_int_equal(chmod(path, 0600), 0);
	write_file(path, "BAD", 3);
	restart(f, &seen);
	assert_int_equal(seen.count, 1);
	assert_true(digest_eq(&seen.meta.sha256, &good.sha256));
	assert_int_equal(check_blob(f->store, &good.sha256, "good", 4), 0);
	assert_int_equal(check_blob(f->store, &bad.sha256, "bad", 3), -ENODATA);
	assert_int_equal(count_files(f, "quarantine", ""), 1);
	assert_int_equal(usage_of(f->store).objects, 1);
	assert_int_equal(usage_of(f->store).used, 8192 + 4096);
}

static void sweeps_out_what_it_does_not_know_in_incoming(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = {
		"7.tmp",
		"s-00.part",
		"x.part",
		"g-zz.map",
		"alive.tmp-0123",
		"s-.part",
		"S-0000000000000000000000000000000000000000000000000000000000000000.part"
	};
	char path[PATH_MAX];
	struct seen seen;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/incoming/%s", f->path, names[i]);
		write_file(path, "x", 1);
	}
	restart(f, &seen);
	assert_int_equal(count_files(f, "incoming", ""), 1);
	assert_int_equal(count_files(f, "incoming", "alive"), 1);
}

static void leaves_foreign_names_under_blobs_alone(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX];
	struct seen seen;

	(void)snprintf(path, sizeof(path), "%s/blobs/README", f->path);
	write_file(path, "x", 1);
	restart(f, &seen);
	assert_true(file_exists(path));
	assert_int_equal(seen.count, 0);
	assert_int_equal(usage_of(f->store).used, 0);
}

static int stop_with_error(void *ctx, const struct content_id *id, const struct blob_meta *meta)
{
	return -EIO;
}

static void passes_on_what_the_callback_says(void **state)
{
	struct fixture *f = *state;
	struct blob_meta meta;

	assert_int_equal(put_blob(f->store, "abc", 3, &meta), 0);
	stop(f);
	set_alive(f, now());
	open_store(f);
	assert_int_equal(store_recover(f->store, stop_with_error, NULL), -EIO);
}

/* --- rebuild --- */

struct walk {
	unsigned count;
	uint64_t size;
};

static int note_blob(void *ctx, const struct blob_meta *meta)
{
	struct walk *w = ctx;

	w->count++;
	w->size += meta->size;
	return 0;
}

static void visits_each_blob_once_and_heals_rotten_sidecars(void **state)
{
	struct fixture *f = *state;
	char text[16], path[PATH_MAX];
	struct blob_meta metas[20];
	struct walk w = { 0 };
	uint64_t size = 0;

	for (int i = 0; i < 20; i++) {
		int len = snprintf(text, sizeof(text), "blob %d", i);

		size += (uint64_t)len;
		assert_int_equal(put_doc(f->store, text, (size_t)len, &metas[i]), 0);
	}
	assert_int_equal(store_flush_pending(f->store, NULL, NULL), 0);
	blob_file(f, "meta", &metas[3].sha256, path);
	assert_int_equal(chmod(path, 0600), 0);
	write_file(path, "rot", 3);
	assert_int_equal(store_blob_each(f->store, note_blob, &w), 0);
	assert_int_equal(w.count, 20);
	assert_int_equal(w.size, size);
	blob_file(f, "blobs", &metas[3].sha256, path);
	assert_int_equal(unlink(path), 0);
	w = (struct walk){ 0 };
	assert_int_equal(store_blob_each(f->store, note_blob, &w), 0);
	assert_int_equal(w.count, 19);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(s5_adopts_a_whole_part_without_a_map),
		TEST(s5_adopts_a_whole_part_of_a_git_file),
		TEST(a_map_that_lags_behind_does_not_matter),
		TEST(a_part_with_wrong_bytes_is_kept_by_its_map_only),
		TEST(a_part_without_a_use_is_removed),
		TEST(a_map_of_bytes_that_have_gone_is_not_believed),
		TEST(s6_removes_a_sidecar_without_a_blob),
		TEST(s8_tells_of_blobs_that_got_their_name_last),
		TEST(a_stray_blob_is_adopted_or_quarantined_by_its_digest),
		TEST(sweeps_out_what_it_does_not_know_in_incoming),
		TEST(leaves_foreign_names_under_blobs_alone),
		TEST(passes_on_what_the_callback_says),
		TEST(visits_each_blob_once_and_heals_rotten_sidecars),
	};

	return cmocka_run_group_tests_name("store_crash", tests, NULL, NULL);
}
