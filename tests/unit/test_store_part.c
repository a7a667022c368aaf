/* SPDX-License-Identifier: Apache-2.0 */
/* store: partial blobs; what is held, what is kept, what is resumed, and who has paid for it. */
#include "test_store.h"

#define MIB (UINT64_C(1) << 20)

static struct part *open_part(struct store *s, const struct content_id *id)
{
	struct part *p = NULL;

	assert_int_equal(reserve(s, id->size), 0);
	assert_int_equal(store_open_part(s, id, &p), 0);
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
	struct content_id id = lfs_id(&meta), other = git_id(&meta);
	struct part *p = open_part(f->store, &id), *second = NULL;
	uint64_t reserved = usage_of(f->store).reserved;

	assert_int_equal(reserve(f->store, 6), 0);
	assert_int_equal(store_open_part(f->store, &id, &second), -EBUSY);
	assert_null(second);
	assert_int_equal(usage_of(f->store).reserved, reserved); /* given back */
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
	struct part *p;
	uint64_t missing = 0;

	f->size_max = 12 * MIB;
	reopen(f);
	assert_int_equal(put_blob(f->store, bytes, 4 * MIB - 1, &blob), 0);
	p = open_part(f->store, &id);
	assert_int_equal(part_write(p, 0, bytes, 3 * MIB), 0);
	(void)part_unref(p);
	assert_int_equal(store_reserve(f->store, 6 * MIB, &missing), -ENOSPC); /* the blob shall go first */
	assert_int_equal(count_files(f, "incoming", ".part"), 1);
	f->wall_s += 3601;
	assert_int_equal(store_reserve(f->store, 6 * MIB, &missing), 0);
	assert_int_equal(count_files(f, "incoming", ".part"), 0);
	assert_int_equal(count_files(f, "incoming", ".map"), 0);
	assert_int_equal(usage_of(f->store).partial, 0);
	store_unreserve(f->store, 6 * MIB);
	free(bytes);
}

static void parts_that_wait_make_room_when_nothing_else_can(void **state)
{
	struct fixture *f = *state;
	char *bytes = make_bytes(4 * MIB, 9);
	struct blob_meta meta = meta_of(bytes, 4 * MIB);
	struct content_id id = lfs_id(&meta);
	struct part *p;
	uint64_t missing = 0;

	f->size_max = 6 * MIB;
	reopen(f);
	p = open_part(f->store, &id);
	assert_int_equal(part_write(p, 0, bytes, 3 * MIB), 0);
	(void)part_unref(p);
	assert_int_equal(store_reserve(f->store, 4 * MIB, &missing), 0);
	assert_int_equal(count_files(f, "incoming", ".part"), 0);
	store_unreserve(f->store, 4 * MIB);
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
		if (reserve(f->store, MIB) < 0) {
			refused++;
			continue;
		}
		assert_int_equal(store_open_part(f->store, &id, &parts[i]), 0);
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
	};

	return cmocka_run_group_tests_name("store_part", tests, NULL, NULL);
}
