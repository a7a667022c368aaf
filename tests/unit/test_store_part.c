/* SPDX-License-Identifier: Apache-2.0 */
/* store: partial blobs; what is held, what is kept, what is resumed, and who has paid for it. */
#include "test_store.h"

#define MIB (UINT64_C(1) << 20)

static struct part *open_part(struct store *s, const struct content_id *id)
{
	struct part *p = NULL;

	assert_int_equal(open_whole(s, id, &p), 0);
	return p;
}

static void knows_what_is_held_and_where_the_gaps_are(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(100000, 1);
	struct blob_meta meta = meta_of(bytes, 100000);
	struct content_id id = lfs_id(&meta);
	struct part *p = open_part(f->store, &id);
	struct byte_range gap;
	struct stat st;
	char found[100];

	assert_int_equal(fstat(part_fd(p), &st), 0);
	assert_int_equal(st.st_size, 100000);      /* from the start, for sendfile */
	assert_int_equal(part_held_from(p, 0), 0); /* allocated is not held */
	assert_int_equal(part_write(p, 1000, bytes + 1000, 500), 0);
	assert_int_equal(part_write(p, 1500, bytes + 1500, 500), 0);
	assert_int_equal(part_held_from(p, 0), 0);
	assert_int_equal(part_held_from(p, 1200), 800);
	assert_int_equal(part_held_from(p, 2000), 0);
	assert_true(part_next_gap(p, 0, &gap));
	assert_int_equal(gap.first, 0);
	assert_int_equal(gap.end, 1000);
	assert_true(part_next_gap(p, 1300, &gap));
	assert_int_equal(gap.first, 2000);
	assert_int_equal(gap.end, 100000);
	assert_int_equal(pread(part_fd(p), found, 100, 1950), 100);
	assert_memory_equal(found, bytes + 1950, 50);
	assert_int_equal(part_write(p, 0, bytes, 1000), 0);
	assert_int_equal(part_write(p, 2000, bytes + 2000, 98000), 0);
	assert_false(part_next_gap(p, 0, &gap));
	assert_false(part_next_gap(p, 100000, &gap));
	assert_int_equal(usage_of(f->store).partial, 100000);
	assert_int_equal(store_finish_part(f->store, p, &meta), 0);
	assert_int_equal(usage_of(f->store).partial, 0);
	assert_int_equal(part_held_from(p, 0), 100000); /* readers go on */
	assert_int_equal(pread(part_fd(p), found, 100, 1950), 100);
	assert_int_equal(part_write(p, 0, bytes, 10), -EIO); /* a blob never changes */
	assert_int_equal(store_finish_part(f->store, p, &meta), -ECANCELED);
	(void)part_unref(p);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 100000), 0);
	free(bytes);
}

static void refuses_bytes_beyond_the_promised_size(void **state)
{
	struct fixture *f = *state;
	struct blob_meta meta = meta_of("abcdef", 6);
	struct content_id id = lfs_id(&meta);
	struct part *p = open_part(f->store, &id);

	assert_int_equal(part_write(p, 0, "abcdefg", 7), -EINVAL);
	assert_int_equal(part_write(p, 7, "", 0), -EINVAL);
	assert_int_equal(part_write(p, UINT64_MAX, "x", 1), -EINVAL);
	assert_int_equal(part_held_from(p, 0), 0);
	(void)part_unref(p);
	assert_int_equal(count_files(f, "incoming", ""), 0); /* nothing held: nothing kept */
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(usage_of(f->store).used, 0);
}

static void opens_a_content_once(void **state)
{
	struct fixture *f = *state;
	struct blob_meta meta = meta_of("abcdef", 6);
	struct content_id id = lfs_id(&meta), other = git_id(&meta), wrong = id;
	struct part *p = open_part(f->store, &id), *second = NULL;
	uint64_t reserved = usage_of(f->store).reserved;

	assert_int_equal(store_open_part(f->store, &id, &second), -EBUSY);
	assert_null(second);
	assert_int_equal(usage_of(f->store).reserved, reserved);
	wrong.size = 7; /* one of the two sizes is a lie: no use in waiting */
	assert_int_equal(store_open_part(f->store, &wrong, &second), -EEXIST);
	assert_null(second);
	assert_int_equal(usage_of(f->store).reserved, reserved);
	second = open_part(f->store, &other);
	(void)part_unref(second);
	assert_ptr_equal(part_ref(p), p);
	(void)part_unref(p);
	(void)part_unref(p);
	p = open_part(f->store, &id); /* free again */
	(void)part_unref(p);
	assert_int_equal(usage_of(f->store).reserved, 0);
}

static void goes_on_where_it_stopped(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(3 * MIB, 2), found[1000];
	struct blob_meta meta = meta_of(bytes, 3 * MIB);
	struct content_id id = git_id(&meta);
	struct part *p = open_part(f->store, &id);
	struct store_usage u;
	struct byte_range gap;

	assert_int_equal(part_write(p, 0, bytes, MIB), 0);
	assert_int_equal(part_write(p, 2 * MIB, bytes + 2 * MIB, 1000), 0);
	part_set_validator(p, STR("\"abc\""));
	(void)part_unref(p);
	u = usage_of(f->store);
	assert_int_equal(u.reserved, 0);
	/* only what is held takes room, however much was allocated */
	assert_true(u.used >= MIB && u.used <= MIB + 64 * 1024);
	assert_int_equal(u.partial, u.used);
	reopen(f);
	assert_true(usage_of(f->store).used >= MIB && usage_of(f->store).used <= MIB + 64 * 1024);
	p = open_part(f->store, &id);
	assert_int_equal(usage_of(f->store).used, 0); /* the reservation stands for it now */
	assert_int_equal(usage_of(f->store).reserved, 3 * MIB + 4096);
	assert_int_equal(part_held_from(p, 0), MIB);
	assert_int_equal(part_held_from(p, 2 * MIB), 1000);
	assert_true(part_next_gap(p, 0, &gap));
	assert_int_equal(gap.first, MIB);
	assert_int_equal(gap.end, 2 * MIB);
	assert_true(str_eq(part_validator(p), STR("\"abc\"")));
	assert_int_equal(pread(part_fd(p), found, 1000, 2 * MIB), 1000);
	assert_memory_equal(found, bytes + 2 * MIB, 1000);
	assert_int_equal(part_write(p, MIB, bytes + MIB, MIB), 0);
	assert_int_equal(part_write(p, 2 * MIB + 1000, bytes + 2 * MIB + 1000, MIB - 1000), 0);
	assert_int_equal(store_finish_part(f->store, p, &meta), 0);
	(void)part_unref(p);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 3 * MIB), 0);
	assert_int_equal(usage_of(f->store).used, 3 * MIB + 4096);
	assert_int_equal(count_files(f, "incoming", ".map"), 0);
	free(bytes);
}

static void does_not_resume_what_has_another_size(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(MIB, 3);
	struct blob_meta meta = meta_of(bytes, MIB);
	struct content_id id = lfs_id(&meta);
	struct part *p = open_part(f->store, &id);

	assert_int_equal(part_write(p, 0, bytes, 1000), 0);
	(void)part_unref(p);
	id.size = MIB + 1;
	p = open_part(f->store, &id);
	assert_int_equal(part_held_from(p, 0), 0);
	(void)part_unref(p);
	assert_int_equal(usage_of(f->store).used, 0);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	free(bytes);
}

static void dropping_gives_everything_back_at_once(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(MIB, 4), found[100];
	struct blob_meta meta = meta_of(bytes, MIB);
	struct content_id id = lfs_id(&meta);
	struct part *p = open_part(f->store, &id), *next;

	assert_int_equal(part_write(p, 0, bytes, MIB), 0);
	part_drop(p);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(usage_of(f->store).partial, 0);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	assert_int_equal(pread(part_fd(p), found, 100, 500), 100); /* a reader may still be at it */
	assert_memory_equal(found, bytes + 500, 100);
	assert_int_equal(part_write(p, 0, bytes, 10), -EIO);
	assert_int_equal(store_finish_part(f->store, p, &meta), -ECANCELED);
	part_drop(p); /* once more is nothing */
	next = open_part(f->store, &id);
	assert_int_equal(part_held_from(next, 0), 0);
	(void)part_unref(p);
	(void)part_unref(next);
	assert_int_equal(usage_of(f->store).reserved, 0);
	free(bytes);
}

static void reset_forgets_bytes_and_map_and_keeps_the_reservation(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(MIB, 5);
	struct blob_meta meta = meta_of(bytes, MIB);
	struct content_id id = lfs_id(&meta);
	struct part *p = open_part(f->store, &id);
	uint64_t reserved = usage_of(f->store).reserved;

	assert_int_equal(part_write(p, 0, bytes, 5000), 0);
	part_set_validator(p, STR("\"x\""));
	(void)part_unref(p); /* leaves a map */
	p = open_part(f->store, &id);
	assert_int_equal(part_reset(p), 0);
	assert_int_equal(part_held_from(p, 0), 0);
	assert_int_equal(part_validator(p).len, 0);
	assert_int_equal(usage_of(f->store).reserved, reserved);
	assert_int_equal(usage_of(f->store).partial, 0);
	assert_int_equal(count_files(f, "incoming", ".map"), 0);
	assert_int_equal(part_write(p, 0, bytes, MIB), 0);
	assert_int_equal(store_finish_part(f->store, p, &meta), 0);
	(void)part_unref(p);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, MIB), 0);
	free(bytes);
}

static void checkpoints_save_a_map_every_so_many_bytes(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(4 * MIB, 6);
	struct blob_meta meta = meta_of("key only", 8);
	struct content_id id = lfs_id(&meta);
	struct part *p;
	unsigned checkpoints = 0;

	id.size = 100 * MIB;
	p = open_part(f->store, &id);
	assert_int_equal(part_checkpoint(p), 0); /* nothing to do */
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(part_write(p, i * 4 * MIB, bytes, 4 * MIB), 0);
		if (!part_wants_checkpoint(p))
			continue;
		assert_int_equal(count_files(f, "incoming", ".map"), 0);
		checkpoints++;
		assert_int_equal(part_checkpoint(p), 0);
		assert_false(part_wants_checkpoint(p));
	}
	assert_int_equal(checkpoints, 4);                        /* one for 16 MiB */
	assert_int_equal(count_files(f, "incoming", ".map"), 1); /* one for 64 MiB */
	part_drop(p);
	assert_int_equal(part_checkpoint(p), 0);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	(void)part_unref(p);
	free(bytes);
}

static void a_long_validator_is_not_kept(void **state)
{
	struct fixture *f = *state;
	struct blob_meta meta = meta_of("abc", 3);
	struct content_id id = lfs_id(&meta);
	struct part *p = open_part(f->store, &id);
	char *text = make_bytes(2000, 7);

	part_set_validator(p, STR("\"x\""));
	part_set_validator(p, (struct str){ text, 2000 });
	assert_int_equal(part_validator(p).len, 0);
	(void)part_unref(p);
	free(text);
}

/* A part that waits is worth more than an old blob for an hour, and less than anything after that. */
static void parts_that_wait_make_room_when_they_are_old(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(4 * MIB, 8);
	struct blob_meta meta = meta_of(bytes, 4 * MIB), blob;
	struct content_id id = lfs_id(&meta);
	struct blob_meta key = meta_of("a key", 5);
	struct content_id other = lfs_id(&key);
	struct part *p;

	other.size = 6 * MIB;
	f->size_max = 12 * MIB;
	reopen(f);
	assert_int_equal(put_blob(f->store, bytes, 4 * MIB - 1, &blob), 0);
	p = open_part(f->store, &id);
	assert_int_equal(part_write(p, 0, bytes, 3 * MIB), 0);
	(void)part_unref(p);
	assert_int_equal(open_whole(f->store, &other, &p), -ENOSPC); /* the blob shall go first */
	assert_int_equal(count_files(f, "incoming", ".part"), 1);
	f->wall_s += 3601;
	p = open_part(f->store, &other);
	assert_int_equal(count_files(f, "incoming", ".part"), 1); /* its own */
	assert_int_equal(count_files(f, "incoming", ".map"), 0);
	assert_int_equal(usage_of(f->store).partial, 0);
	(void)part_unref(p);
	free(bytes);
}

static void parts_that_wait_make_room_when_nothing_else_can(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(4 * MIB, 9);
	struct blob_meta meta = meta_of(bytes, 4 * MIB);
	struct content_id id = lfs_id(&meta), other = git_id(&meta);
	struct part *p;

	f->size_max = 6 * MIB;
	reopen(f);
	p = open_part(f->store, &id);
	assert_int_equal(part_write(p, 0, bytes, 3 * MIB), 0);
	(void)part_unref(p);
	p = open_part(f->store, &other);
	assert_int_equal(count_files(f, "incoming", ".map"), 0);
	assert_int_equal(count_files(f, "incoming", ".part"), 1);
	(void)part_unref(p);
	free(bytes);
}

static void the_limit_holds_while_parts_come_and_go(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(MIB, 10);
	struct part *parts[32] = { NULL };
	struct blob_meta metas[32];
	unsigned open_count = 0, refused = 0;

	f->size_max = 16 * MIB;
	reopen(f);
	for (unsigned i = 0; i < 32; i++) {
		struct content_id id;
		struct store_usage u;

		memcpy(bytes, &i, sizeof(i));
		metas[i] = meta_of(bytes, MIB);
		id = lfs_id(&metas[i]);
		if (open_whole(f->store, &id, &parts[i]) < 0) {
			refused++;
			continue;
		}
		open_count++;
		assert_int_equal(part_write(parts[i], 0, bytes, MIB), 0);
		if (i % 2)
			assert_int_equal(store_finish_part(f->store, parts[i], &metas[i]), 0);
		u = usage_of(f->store);
		assert_true(u.used + u.reserved <= u.limit);
	}
	assert_true(open_count >= 14 && refused > 10);
	for (unsigned i = 0; i < 32; i++)
		(void)part_unref(parts[i]);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_true(usage_of(f->store).used <= f->size_max);
	free(bytes);
}

/* --- windows --- */

#define GIB (UINT64_C(1) << 30)
#define WINDOW (256 * 1024)

static struct content_id large_id(const char *name, uint64_t size)
{
	struct blob_meta meta = meta_of(name, strlen(name));
	struct content_id id = lfs_id(&meta);

	id.size = size;
	return id;
}

static int take_window(struct part *p, uint64_t first, uint64_t len, const char *bytes)
{
	uint64_t missing = 0;
	int r = part_reserve(p, (struct byte_range){ first, first + len }, &missing);

	return r < 0 ? r : part_write(p, first, bytes, len);
}

static uint64_t blocks_on_disk(struct part *p)
{
	struct stat st;

	assert_int_equal(fstat(part_fd(p), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void a_window_of_a_file_larger_than_the_quota_costs_what_it_holds(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(WINDOW, 11);
	struct content_id id = large_id("large", 50 * GIB);
	struct blob_meta blob;
	struct part *p = NULL;
	struct stat st;
	uint64_t missing = 0, used;

	f->size_max = GIB;
	reopen(f);
	assert_int_equal(put_blob(f->store, bytes, 1000, &blob), 0);
	used = usage_of(f->store).used;
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(fstat(part_fd(p), &st), 0);
	assert_int_equal(st.st_size, 50 * GIB); /* for sendfile */
	assert_int_equal(blocks_on_disk(p), 0);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(part_write(p, 0, "x", 1), -ENOSPC); /* not before it was reserved */
	assert_int_equal(take_window(p, 30 * GIB + 5, 1, "x"), 0);
	assert_int_equal(usage_of(f->store).reserved, 2 * 4096);
	assert_int_equal(part_room_from(p, 30 * GIB + 5), 4096 - 5);
	assert_int_equal(part_room_from(p, 30 * GIB + 4096), 0);
	assert_int_equal(part_reserve(p, (struct byte_range){ 0, id.size }, &missing), -ENOSPC);
	assert_true(missing == UINT64_MAX);
	assert_int_equal(usage_of(f->store).reserved, 2 * 4096);
	(void)part_unref(p);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_true(usage_of(f->store).used - used <= 2 * 4096);
	assert_int_equal(check_blob(f->store, &blob.sha256, bytes, 1000), 0);
	free(bytes);
}

static void what_is_reserved_is_taken_from_the_disk_and_counted_once(void **state)
{
	struct fixture *f = *state;
	struct content_id id = large_id("large", 100 * MIB + 1);
	struct part *p = NULL;
	uint64_t missing = 0;

	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	for (unsigned i = 0; i < 2; i++) { /* the second time it is there */
		assert_int_equal(part_reserve(p, (struct byte_range){ MIB, 2 * MIB }, &missing), 0);
		assert_int_equal(usage_of(f->store).reserved, MIB + 4096);
		assert_true(blocks_on_disk(p) >= MIB && blocks_on_disk(p) < 2 * MIB);
	}
	assert_int_equal(part_held_from(p, MIB), 0);
	assert_int_equal(part_reserve(p, (struct byte_range){ MIB - 1, 2 * MIB + 1 }, &missing), 0);
	assert_int_equal(usage_of(f->store).reserved, MIB + 3 * 4096);
	assert_int_equal(part_reserve(p, (struct byte_range){ 0, id.size }, &missing), 0);
	assert_int_equal(usage_of(f->store).reserved, 100 * MIB + 2 * 4096);
	assert_int_equal(part_room_from(p, 0), id.size);
	assert_int_equal(part_room_from(p, id.size), 0);
	assert_true(blocks_on_disk(p) >= 100 * MIB);
	part_drop(p);
	assert_int_equal(part_reserve(p, (struct byte_range){ 0, 1 }, &missing), -ECANCELED);
	assert_int_equal(usage_of(f->store).reserved, 0);
	(void)part_unref(p);
}

static void windows_add_up_until_something_must_go(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(WINDOW, 12);
	struct content_id id = large_id("large", 50 * GIB);
	struct blob_meta blob;
	struct part *p = NULL;
	struct store_usage u;
	uint64_t missing = 0;
	unsigned taken = 0;
	int r;

	f->size_max = 8 * MIB;
	reopen(f);
	assert_int_equal(put_blob(f->store, bytes, WINDOW, &blob), 0);
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	while ((r = take_window(p, taken * GIB, WINDOW, bytes)) == 0) {
		u = usage_of(f->store);
		taken++;
		assert_int_equal(u.reserved, taken * WINDOW + 4096);
		assert_true(u.used + u.reserved <= u.limit);
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(taken, 30); /* of 8 MiB less one 64th and the blob */
	r = part_reserve(p, (struct byte_range){ taken * GIB, taken * GIB + WINDOW }, &missing);
	assert_int_equal(r, -ENOSPC);
	assert_true(missing > 0 && missing <= WINDOW); /* just that */
	assert_int_equal(store_remove_blob(f->store, &blob.sha256), 0);
	assert_int_equal(take_window(p, taken * GIB, WINDOW, bytes), 0);
	(void)part_unref(p);
	u = usage_of(f->store);
	assert_int_equal(u.reserved, 0);
	assert_in_range(u.used, 31 * WINDOW, 31 * WINDOW + 4096);
	free(bytes);
}

static void windows_then_the_rest_make_the_file(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(4 * MIB, 13);
	struct blob_meta meta = meta_of(bytes, 4 * MIB);
	struct content_id id = lfs_id(&meta);
	struct byte_range gap = { 0, 0 };
	struct part *p = NULL;

	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(take_window(p, 1000, 5000, bytes + 1000), 0);
	assert_int_equal(take_window(p, 3 * MIB, WINDOW, bytes + 3 * MIB), 0);
	assert_int_equal(reserve_all(p, &id), 0);
	assert_int_equal(usage_of(f->store).reserved, 4 * MIB + 4096);
	while (part_next_gap(p, gap.end, &gap))
		assert_int_equal(part_write(p, gap.first, bytes + gap.first, gap.end - gap.first), 0);
	assert_int_equal(store_finish_part(f->store, p, &meta), 0);
	(void)part_unref(p);
	assert_int_equal(usage_of(f->store).used, 4 * MIB + 4096);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(check_blob(f->store, &meta.sha256, bytes, 4 * MIB), 0);
	free(bytes);
}

static void a_windowed_part_is_resumed_with_its_bytes_and_its_bill(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(4 * MIB, 14);
	struct blob_meta meta = meta_of(bytes, 4 * MIB);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;
	struct store_usage u;

	f->size_max = 8 * MIB;
	reopen(f);
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(take_window(p, 5, 1, bytes + 5), 0);
	assert_int_equal(take_window(p, 2 * MIB, WINDOW, bytes + 2 * MIB), 0);
	assert_int_equal(part_reserve(p, (struct byte_range){ 3 * MIB, 4 * MIB }, &(uint64_t){ 0 }), 0);
	(void)part_unref(p); /* what was reserved and did not come is not kept */
	assert_int_equal(usage_of(f->store).used, WINDOW + 2 * 4096);
	reopen(f);
	u = usage_of(f->store);
	assert_int_equal(u.used, WINDOW + 2 * 4096);
	assert_int_equal(u.partial, u.used);
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	u = usage_of(f->store);
	assert_int_equal(u.used, 0);
	assert_int_equal(u.reserved, WINDOW + 2 * 4096);
	assert_int_equal(part_room_from(p, 2 * MIB), WINDOW);
	assert_int_equal(part_room_from(p, 3 * MIB), 0);
	assert_int_equal(part_held_from(p, 5), 1);
	assert_int_equal(take_window(p, 0, 5, bytes), 0); /* in a block that is paid for */
	assert_int_equal(usage_of(f->store).reserved, WINDOW + 2 * 4096);
	assert_int_equal(take_window(p, 4096, 1, bytes + 4096), 0);
	assert_int_equal(usage_of(f->store).reserved, WINDOW + 3 * 4096);
	part_drop(p);
	(void)part_unref(p);
	assert_int_equal(usage_of(f->store).used + usage_of(f->store).reserved, 0);
	free(bytes);
}

/* Very many pieces: the file system takes blocks for its own lists, and the idle file is charged with these. */
static void a_scattered_part_is_charged_within_what_it_reserved(void **state)
{
	struct fixture *f = *state;
	struct content_id id = large_id("scattered", 64 * MIB);
	struct part *p = NULL;
	uint64_t most = 64 * MIB + 4096;
	struct store_usage u;

	for (unsigned run = 0; run < 3; run++) {
		assert_int_equal(store_open_part(f->store, &id, &p), 0);
		if (run == 0)
			assert_int_equal(reserve_all(p, &id), 0);
		for (unsigned i = 0; i < 600; i++)
			assert_int_equal(take_window(p, (run * 600 + i) * 16384, 1, "x"), 0);
		assert_true(usage_of(f->store).reserved <= most);
		most = usage_of(f->store).reserved + 600 * 4096;
		(void)part_unref(p);
		u = usage_of(f->store);
		assert_int_equal(u.reserved, 0);
		assert_in_range(u.used, (run + 1) * 600 * 4096, (run + 1) * 600 * 4096 + 20 * 4096);
	}
}

/* Its file was to be deleted and could not be: it left the books, so nothing pays for what is in it. */
static void a_part_that_is_not_in_the_books_is_not_resumed(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(MIB, 15);
	struct blob_meta meta = meta_of(bytes, MIB);
	struct content_id id = lfs_id(&meta);
	struct part *p = open_part(f->store, &id);

	assert_int_equal(part_write(p, 0, bytes, MIB / 2), 0);
	(void)part_unref(p);
	store_close(f->store);
	open_store(f); /* without store_recover() nothing is in the books */
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(part_held_from(p, 0), 0);
	assert_int_equal(blocks_on_disk(p), 0);
	assert_int_equal(usage_of(f->store).reserved, 0);
	(void)part_unref(p);
	free(bytes);
}

static void a_reset_part_keeps_its_room_and_no_other(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(WINDOW, 16);
	struct content_id id = large_id("large", 50 * GIB);
	struct part *p = NULL;

	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(take_window(p, GIB, WINDOW, bytes), 0);
	assert_int_equal(part_reset(p), 0);
	assert_int_equal(usage_of(f->store).reserved, WINDOW + 4096);
	assert_in_range(blocks_on_disk(p), WINDOW, WINDOW + 4096);
	assert_int_equal(part_held_from(p, GIB), 0);
	assert_int_equal(part_write(p, GIB, bytes, WINDOW), 0);
	assert_int_equal(part_write(p, 0, bytes, 1), -ENOSPC);
	(void)part_unref(p);
	free(bytes);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(knows_what_is_held_and_where_the_gaps_are),
		TEST(refuses_bytes_beyond_the_promised_size),
		TEST(opens_a_content_once),
		TEST(goes_on_where_it_stopped),
		TEST(does_not_resume_what_has_another_size),
		TEST(dropping_gives_everything_back_at_once),
		TEST(reset_forgets_bytes_and_map_and_keeps_the_reservation),
		TEST(checkpoints_save_a_map_every_so_many_bytes),
		TEST(a_long_validator_is_not_kept),
		TEST(parts_that_wait_make_room_when_they_are_old),
		TEST(parts_that_wait_make_room_when_nothing_else_can),
		TEST(the_limit_holds_while_parts_come_and_go),
		TEST(a_window_of_a_file_larger_than_the_quota_costs_what_it_holds),
		TEST(what_is_reserved_is_taken_from_the_disk_and_counted_once),
		TEST(windows_add_up_until_something_must_go),
		TEST(windows_then_the_rest_make_the_file),
		TEST(a_windowed_part_is_resumed_with_its_bytes_and_its_bill),
		TEST(a_scattered_part_is_charged_within_what_it_reserved),
		TEST(a_part_that_is_not_in_the_books_is_not_resumed),
		TEST(a_reset_part_keeps_its_room_and_no_other),
	};

	return cmocka_run_group_tests_name("store_part", tests, NULL, NULL);
}
