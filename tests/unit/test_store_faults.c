/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: in which order it makes things durable, and what becomes of a part, a document or an open when a single call into
 * the kernel fails or something comes in between.
 */
#include "store_hook.h"

/* --- the order --- */

static unsigned find_event(unsigned from, enum call call, const char *part_of_name)
{
	for (unsigned i = from; i < hook.log_count; i++)
		if (hook.calls[i] == call && strstr(hook.names[i], part_of_name))
			return i + 1;
	fail_msg("no call %d about \"%s\" after event %u", call, part_of_name, from);
	return 0;
}

static void syncs_the_bytes_then_the_sidecar_then_names_then_folders(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;
	char hex[65], ab[8], abcd[8], blobs_ab[24], blobs_abcd[24], meta_abcd[24], part_name[80];
	unsigned at;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.body_meta);
	format_hex(id.sha256.bytes, 32, hex);
	(void)snprintf(ab, sizeof(ab), "%.2s", hex);
	(void)snprintf(abcd, sizeof(abcd), "%.2s/%.2s", hex, hex + 2);
	(void)snprintf(blobs_ab, sizeof(blobs_ab), "/blobs/%s", ab);
	(void)snprintf(blobs_abcd, sizeof(blobs_abcd), "/blobs/%s", abcd);
	(void)snprintf(meta_abcd, sizeof(meta_abcd), "/meta/%s", abcd);
	(void)snprintf(part_name, sizeof(part_name), "s-%s.part", hex);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_write(p, 0, d.body, BODY_LEN), 0);
	memset(&hook, 0, sizeof(hook));
	hook.log = hook.is_on = true;
	hook.only = ALL_CALLS;
	assert_int_equal(store_finish_part(f->store, p, &d.body_meta), 0);
	hook.is_on = false;

	at = find_event(0, CALL_FCHMOD, part_name);
	at = find_event(at, CALL_FSYNC, part_name); /* S5 */
	at = find_event(at, CALL_FSYNC, ".tmp");    /* S6 */
	at = find_event(at, CALL_RENAMEAT, hex);
	at = find_event(at, CALL_RENAMEAT2, hex);    /* S7 */
	at = find_event(at, CALL_FSYNC, blobs_abcd); /* S8 */
	at = find_event(at, CALL_FSYNC, blobs_ab);   /* and those above, just made */
	(void)find_event(at, CALL_FSYNC, meta_abcd);
	(void)part_unref(p);
	done_data(&d);
	fixture_free(f);
}

static void saves_the_map_only_after_its_bytes_are_synced(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;
	unsigned at;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.half_meta);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_write(p, 0, d.half, 1000), 0);
	memset(&hook, 0, sizeof(hook));
	hook.log = hook.is_on = true;
	hook.only = ALL_CALLS;
	(void)part_unref(p);
	hook.is_on = false;
	at = find_event(0, CALL_FDATASYNC, ".part");
	at = find_event(at, CALL_FSYNC, ".map.tmp");
	at = find_event(at, CALL_RENAMEAT, ".map");
	(void)find_event(at, CALL_FSYNC, "/incoming");
	done_data(&d);
	fixture_free(f);
}

/* --- single faults --- */

static void fail_next(enum call call, int error)
{
	memset(&hook, 0, sizeof(hook));
	hook.only = 1u << call;
	hook.error = error;
	hook.at = 1;
	hook.is_on = true;
}

static void a_file_system_without_fallocate_is_fine(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;
	struct stat st;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.half_meta);
	fail_next(CALL_FALLOCATE, EOPNOTSUPP);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	hook.is_on = false;
	assert_int_equal(usage_of(f->store).reserved, 200704 + 4096); /* the quota is kept all the same */
	assert_int_equal(fstat(part_fd(p), &st), 0);
	assert_int_equal(st.st_size, HALF_LEN);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(part_write(p, 0, d.half, HALF_LEN), 0);
	assert_int_equal(store_finish_part(f->store, p, &d.half_meta), 0);
	(void)part_unref(p);
	assert_int_equal(check_blob(f->store, &d.half_meta.sha256, d.half, HALF_LEN), 0);
	done_data(&d);
	fixture_free(f);
}

static void a_file_system_without_noreplace_is_fine(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.body_meta);
	fail_next(CALL_RENAMEAT2, EINVAL);
	assert_int_equal(put_as(f->store, &id, d.body, &d.body_meta), 0);
	hook.is_on = false;
	assert_int_equal(check_blob(f->store, &d.body_meta.sha256, d.body, BODY_LEN), 0);
	done_data(&d);
	fixture_free(f);
}

static void a_full_disk_is_known_before_the_first_byte(void **state)
{
	struct fixture *f = fixture_new();
	struct blob_meta meta = meta_of("abc", 3);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;
	uint64_t missing = 0;

	open_store(f);
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	fail_next(CALL_FALLOCATE, ENOSPC);
	assert_int_equal(part_reserve(p, (struct byte_range){ 0, 3 }, &missing), -ENOSPC);
	hook.is_on = false;
	assert_true(missing == UINT64_MAX); /* to evict blobs would not help */
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(part_room_from(p, 0), 0);
	assert_int_equal(part_write(p, 0, "abc", 3), -ENOSPC);
	(void)part_unref(p);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	fixture_free(f);
}

/* Of several gaps the second cannot be taken: what the quota gave for all of them comes back. */
static void a_disk_that_fills_up_between_gaps_takes_nothing_from_the_quota(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;
	uint64_t missing = 0, reserved;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.half_meta);
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(part_reserve(p, (struct byte_range){ 50000, 60000 }, &missing), 0);
	reserved = usage_of(f->store).reserved;
	fail_next(CALL_FALLOCATE, EDQUOT);
	hook.at = 2;
	assert_int_equal(reserve_all(p, &id), -ENOSPC);
	hook.is_on = false;
	assert_int_equal(usage_of(f->store).reserved, reserved);
	assert_int_equal(part_room_from(p, 0), 0);
	assert_int_equal(part_write(p, 50000, d.half + 50000, 10000), 0);
	(void)part_unref(p);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_true(usage_of(f->store).used <= reserved);
	done_data(&d);
	fixture_free(f);
}

/* D05: after a failed sync the kernel may have dropped the pages; the part is dead and is not synced again. */
static void a_part_whose_sync_failed_is_dead(void **state)
{
	struct fixture *f = fixture_new();
	char *bytes = make_bytes(1 << 20, 4);
	struct blob_meta meta = meta_of("a key", 5);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;

	open_store(f);
	id.size = 65 << 20;
	meta.size = id.size;
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	for (unsigned i = 0; i < 65; i++)
		assert_int_equal(part_write(p, (uint64_t)i << 20, bytes, 1 << 20), 0);
	fail_next(CALL_FDATASYNC, EIO);
	assert_int_equal(part_checkpoint(p), -EIO);
	hook.is_on = false;
	assert_int_equal(part_held_from(p, 0), 0);
	assert_int_equal(part_write(p, 0, bytes, 10), -EIO);
	assert_int_equal(store_finish_part(f->store, p, &meta), -EIO);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	assert_int_equal(metrics_value(f->metrics, METRIC_STORAGE_IO_ERRORS, 0, 0, 0), 1);
	(void)part_unref(p);
	free(bytes);
	fixture_free(f);
}

static void a_dead_part_is_not_kept(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.half_meta);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_write(p, 0, d.half, 1000), 0);
	fail_next(CALL_FDATASYNC, EIO);
	(void)part_unref(p);
	hook.is_on = false;
	assert_int_equal(count_files(f, "incoming", ""), 0);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(usage_of(f->store).used, 0);
	done_data(&d);
	fixture_free(f);
}

static void three_disk_errors_stop_all_writing_for_ten_minutes(void **state)
{
	struct fixture *f = fixture_new();
	struct blob_meta meta = meta_of("abc", 3);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;
	struct str line = STR("x");
	uint64_t missing = 0;

	open_store(f);
	assert_int_equal(put_doc(f->store, "held", 4, &meta), 0);
	assert_int_equal(store_flush_pending(f->store, NULL, NULL), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(store_check_writable(f->store), 0);
		f->mono_ms += 60000;
		fail_next(CALL_FSYNC, EIO);
		assert_int_equal(store_journal_append(f->store, STR("r"), &line, 1), -EIO);
		hook.is_on = false;
	}
	assert_int_equal(metrics_value(f->metrics, METRIC_STORAGE_IO_ERRORS, 0, 0, 0), 3);
	assert_int_equal(store_check_writable(f->store), -EIO); /* readyz is red */
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(part_reserve(p, (struct byte_range){ 0, 1 }, &missing), -ENOSPC);
	assert_true(missing == UINT64_MAX); /* fills are streamed past us */
	(void)part_unref(p);
	assert_int_equal(put_doc(f->store, "new", 3, &meta), -EIO);
	assert_int_equal(put_doc(f->store, "held", 4, &meta), 0); /* and hits go on */
	assert_int_equal(check_blob(f->store, &meta.sha256, "held", 4), 0);
	f->mono_ms += 600000;
	assert_int_equal(store_check_writable(f->store), 0);
	assert_int_equal(put_doc(f->store, "new", 3, &meta), 0);
	fixture_free(f);
}

static void a_document_that_cannot_be_written_is_dropped(void **state)
{
	struct fixture *f = fixture_new();
	struct blob_meta meta;
	struct blob *held = NULL, *b = NULL;

	open_store(f);
	assert_int_equal(put_doc(f->store, "text", 4, &meta), 0);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &held), 0);
	fail_next(CALL_WRITE, ENOSPC);
	assert_int_equal(store_flush_pending(f->store, NULL, NULL), -ENOSPC);
	hook.is_on = false;
	assert_memory_equal(bytes_str(blob_bytes(held)).ptr, "text", 4); /* who has it has it */
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), -ENODATA);
	(void)blob_unref(held);
	assert_int_equal(usage_of(f->store).used, 0);
	assert_int_equal(usage_of(f->store).objects, 0);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	fixture_free(f);
}

static void a_document_that_must_be_written_at_once_and_cannot_is_refused(void **state)
{
	struct fixture *f = fixture_new();
	size_t len = 40 << 20;
	char *bytes = make_bytes(len, 6);
	struct blob_meta meta;
	uint64_t used;

	open_store(f);
	assert_int_equal(put_doc(f->store, bytes, len, &meta), 0);
	used = usage_of(f->store).used;
	fail_next(CALL_WRITE, ENOSPC);
	assert_int_equal(put_doc(f->store, bytes, len - 1, &meta), -ENOSPC);
	fail_next(CALL_FSYNC, EIO);
	assert_int_equal(put_doc(f->store, bytes, len - 1, &meta), -EIO);
	hook.is_on = false;
	assert_int_equal(usage_of(f->store).used, used);
	assert_int_equal(usage_of(f->store).objects, 1);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	meta = meta_of(bytes, len);
	assert_int_equal(store_remove_blob(f->store, &meta.sha256), 0);
	free(bytes);
	fixture_free(f);
}

static struct {
	struct store *store;
	struct digest sha256;
} victim;

static void remove_victim(void)
{
	assert_int_equal(store_remove_blob(victim.store, &victim.sha256), 0);
}

/* The reader has its bytes; the cache must not bring back what was evicted while it was opening. */
static void an_open_that_meets_a_removal_is_not_kept(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct blob *b = NULL;
	char hex[65], name[80];

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.body_meta);
	assert_int_equal(put_as(f->store, &id, d.body, &d.body_meta), 0);
	format_hex(id.sha256.bytes, 32, hex);
	(void)snprintf(name, sizeof(name), "%.2s/%.2s/%s", hex, hex + 2, hex);
	memset(&hook, 0, sizeof(hook));
	victim.store = f->store;
	victim.sha256 = id.sha256;
	hook.then = remove_victim;
	hook.meet = name; /* the blob, then its sidecar by the same name */
	assert_int_equal(store_open_blob(f->store, &id.sha256, &b), 0);
	assert_null(hook.meet);
	assert_int_equal(blob_size(b), BODY_LEN);
	(void)blob_unref(b);
	assert_int_equal(store_open_blob(f->store, &id.sha256, &b), -ENODATA);
	done_data(&d);
	fixture_free(f);
}

static void says_why_it_cannot_be_opened(void **state)
{
	static const struct {
		enum call call;
		int error;
		const char *word;
	} cases[] = {
		{ CALL_OPENAT, EACCES, "chown" },         { CALL_WRITE, ENOSPC, "full" },
		{ CALL_WRITE, EDQUOT, "full" },           { CALL_MKDIRAT, EROFS, "read-only" },
		{ CALL_FSYNC, EIO, "cannot be written" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *f = fixture_new();
		const char *reason = NULL;
		int r;

		fail_next(cases[i].call, cases[i].error);
		r = try_open(f, &f->store, &reason);
		hook.is_on = false;
		assert_int_equal(r, -cases[i].error);
		assert_non_null(reason);
		if (!strstr(reason, cases[i].word))
			fail_msg("\"%s\" does not say \"%s\"", reason, cases[i].word);
		open_store(f); /* and the next start is not spoilt by what the failed one left */
		fixture_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(syncs_the_bytes_then_the_sidecar_then_names_then_folders),
		cmocka_unit_test(saves_the_map_only_after_its_bytes_are_synced),
		cmocka_unit_test(a_file_system_without_fallocate_is_fine),
		cmocka_unit_test(a_file_system_without_noreplace_is_fine),
		cmocka_unit_test(a_full_disk_is_known_before_the_first_byte),
		cmocka_unit_test(a_disk_that_fills_up_between_gaps_takes_nothing_from_the_quota),
		cmocka_unit_test(a_part_whose_sync_failed_is_dead),
		cmocka_unit_test(a_dead_part_is_not_kept),
		cmocka_unit_test(three_disk_errors_stop_all_writing_for_ten_minutes),
		cmocka_unit_test(a_document_that_cannot_be_written_is_dropped),
		cmocka_unit_test(a_document_that_must_be_written_at_once_and_cannot_is_refused),
		cmocka_unit_test(an_open_that_meets_a_removal_is_not_kept),
		cmocka_unit_test(says_why_it_cannot_be_opened),
	};

	/* some hundred lives of a store: in memory they take seconds */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
