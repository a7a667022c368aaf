/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: threads that open, read and let go while others put, flush, evict and fill. Run under TSan it proves the locking;
 * anywhere it proves that nobody ever reads other bytes than the digest promises, and that the books are right at the end.
 */
#include "test_store.h"

#include <pthread.h>
#include <stdatomic.h>

#define BLOBS 24
#define ROUNDS 300

struct shared {
	struct store *store;
	char *bytes[BLOBS];
	size_t lens[BLOBS];
	struct blob_meta metas[BLOBS];
	atomic_uint wrong, opened, gone;
	atomic_bool ends;
	struct part *part;
	char *part_bytes;
	struct content_id part_id;
	struct blob_meta part_meta;
};

static uint32_t dice(uint32_t *x)
{
	*x = *x * 1664525u + 1013904223u;
	return *x >> 8;
}

static bool is_right(struct shared *sh, unsigned i, struct blob *b)
{
	char *found;
	bool is_same;
	struct bytes *bytes = blob_bytes(b);

	if (blob_size(b) != sh->lens[i])
		return false;
	if (bytes)
		return bytes_str(bytes).len == sh->lens[i] &&
		       memcmp(bytes_str(bytes).ptr, sh->bytes[i], sh->lens[i]) == 0;
	found = malloc(sh->lens[i]);
	is_same = pread(blob_fd(b), found, sh->lens[i], 0) == (ssize_t)sh->lens[i] &&
		  memcmp(found, sh->bytes[i], sh->lens[i]) == 0;
	free(found);
	return is_same;
}

static void *read_blobs(void *arg)
{
	struct shared *sh = arg;
	uint32_t x = 7;

	while (!atomic_load(&sh->ends)) {
		unsigned i = dice(&x) % BLOBS;
		struct blob *b = NULL;
		int r = store_open_blob(sh->store, &sh->metas[i].sha256, &b);

		if (r == -ENODATA) {
			atomic_fetch_add(&sh->gone, 1);
			continue;
		}
		atomic_fetch_add(&sh->opened, 1);
		if (r < 0 || !is_right(sh, i, b))
			atomic_fetch_add(&sh->wrong, 1);
		if (dice(&x) % 2) {
			(void)blob_ref(b);
			(void)blob_unref(b);
		}
		(void)store_blob_is_open(sh->store, &sh->metas[i].sha256);
		(void)blob_unref(b);
	}
	return NULL;
}

static void *put_blobs(void *arg)
{
	struct shared *sh = arg;
	uint32_t x = 11;

	for (unsigned n = 0; n < ROUNDS; n++) {
		unsigned i = dice(&x) % BLOBS;
		struct blob_meta meta;

		if (put_doc(sh->store, sh->bytes[i], sh->lens[i], &meta) < 0)
			atomic_fetch_add(&sh->wrong, 1);
		(void)usleep(100);
	}
	return NULL;
}

/* The keeper's place. */
static void *flush_and_evict(void *arg)
{
	struct shared *sh = arg;
	uint32_t x = 13;

	for (unsigned n = 0; n < ROUNDS / 4; n++) {
		unsigned i = dice(&x) % BLOBS;

		if (store_flush_pending(sh->store, NULL, NULL) < 0 ||
		    store_remove_blob(sh->store, &sh->metas[i].sha256) < 0)
			atomic_fetch_add(&sh->wrong, 1);
		if (part_checkpoint(sh->part) < 0)
			atomic_fetch_add(&sh->wrong, 1);
	}
	return NULL;
}

/* The fetch thread's place. */
static void *fill_part(void *arg)
{
	struct shared *sh = arg;
	uint64_t step = sh->part_id.size / 200;

	for (uint64_t at = 0; at < sh->part_id.size; at += step) {
		if (part_write(sh->part, at, sh->part_bytes + at, step) < 0)
			atomic_fetch_add(&sh->wrong, 1);
		if (at == 0)
			part_set_validator(sh->part, STR("\"v\""));
	}
	return NULL;
}

/* A reader of the growing file: what it was told is held must be the true bytes. */
static void *follow_part(void *arg)
{
	struct shared *sh = arg;
	uint64_t at = 0;
	char chunk[8192];

	while (at < sh->part_id.size) {
		uint64_t held = part_held_from(sh->part, at);
		size_t len = held < sizeof(chunk) ? (size_t)held : sizeof(chunk);

		if (len == 0) {
			sched_yield();
			continue;
		}
		if (pread(part_fd(sh->part), chunk, len, (off_t)at) != (ssize_t)len ||
		    memcmp(chunk, sh->part_bytes + at, len) != 0)
			atomic_fetch_add(&sh->wrong, 1);
		at += len;
	}
	return NULL;
}

static void make_shared(struct shared *sh, struct store *s)
{
	for (unsigned i = 0; i < BLOBS; i++) {
		sh->lens[i] = i % 3 ? 500 + i : STORE_SMALL_MAX + 1 + i; /* small ones and large ones */
		sh->bytes[i] = make_bytes(sh->lens[i], i + 1);
		sh->metas[i] = meta_of(sh->bytes[i], sh->lens[i]);
	}
	sh->store = s;
	sh->part_bytes = make_bytes(2000000, 99);
	sh->part_meta = meta_of(sh->part_bytes, 2000000);
	sh->part_id = lfs_id(&sh->part_meta);
	assert_int_equal(open_whole(s, &sh->part_id, &sh->part), 0);
}

static void many_threads_see_true_bytes_only(void **state)
{
	struct fixture *f = *state;
	static void *(*const jobs[])(void *) = { put_blobs,   put_blobs,  flush_and_evict, fill_part,
						 follow_part, read_blobs, read_blobs };
	enum { JOBS = sizeof(jobs) / sizeof(jobs[0]), READERS = 2 };
	struct shared sh = { 0 };
	pthread_t threads[JOBS];
	uint64_t used = 0, objects = 0;

	make_shared(&sh, f->store);
	for (unsigned i = 0; i < JOBS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, jobs[i], &sh), 0);
	for (unsigned i = 0; i < JOBS - READERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	atomic_store(&sh.ends, true);
	for (unsigned i = JOBS - READERS; i < JOBS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&sh.wrong), 0);
	assert_true(atomic_load(&sh.opened) > 0 && atomic_load(&sh.gone) > 0);
	assert_int_equal(store_finish_part(f->store, sh.part, &sh.part_meta), 0);
	(void)part_unref(sh.part);
	assert_int_equal(store_flush_pending(f->store, NULL, NULL), 0);
	used = usage_of(f->store).used;
	objects = usage_of(f->store).objects;
	assert_int_equal(usage_of(f->store).reserved, 0);
	reopen(f);
	assert_int_equal(usage_of(f->store).used, used);
	assert_int_equal(usage_of(f->store).objects, objects);
	for (unsigned i = 0; i < BLOBS; i++)
		free(sh.bytes[i]);
	free(sh.part_bytes);
}

/* Many want one content at once: one gets the part, the others are told so, and no byte of room is lost. */
static void *want_part(void *arg)
{
	struct shared *sh = arg;

	for (unsigned n = 0; n < 100; n++) {
		struct part *p = NULL;
		int r;

		r = open_whole(sh->store, &sh->part_id, &p);
		if (r == -EBUSY)
			continue;
		if (r < 0) {
			atomic_fetch_add(&sh->wrong, 1);
			continue;
		}
		atomic_fetch_add(&sh->opened, 1);
		if (part_write(p, 100 * n, sh->part_bytes + 100 * n, 100) < 0)
			atomic_fetch_add(&sh->wrong, 1);
		if (n % 10 == 0)
			part_drop(p);
		(void)part_unref(p);
	}
	return NULL;
}

static void one_content_is_filled_by_one(void **state)
{
	struct fixture *f = *state;
	struct shared sh = { 0 };
	pthread_t threads[3];

	sh.store = f->store;
	sh.part_bytes = make_bytes(20000, 5);
	sh.part_meta = meta_of(sh.part_bytes, 20000);
	sh.part_id = lfs_id(&sh.part_meta);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, want_part, &sh), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&sh.wrong), 0);
	assert_true(atomic_load(&sh.opened) > 0);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(usage_of(f->store).used, usage_of(f->store).partial);
	free(sh.part_bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(many_threads_see_true_bytes_only, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_content_is_filled_by_one, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("store_threads", tests, NULL, NULL);
}
