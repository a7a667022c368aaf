/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the store share: a folder of their own, a clock they set, short ways to put things in. */
#pragma once
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/buf.h"
#include "common/clock.h"
#include "metrics/metrics.h"
#include "store/store.h"

struct fixture {
	char root[256]; /* removed at the end */
	char path[300]; /* of the store, below root */
	_Atomic int64_t wall_s;
	_Atomic uint64_t mono_ms;
	struct clock clock;
	struct metrics *metrics;
	struct store *store;
	uint64_t size_max, disk_reserve;
};

static inline uint64_t fixture_mono(void *ctx)
{
	return ((struct fixture *)ctx)->mono_ms;
}

static inline int64_t fixture_wall(void *ctx)
{
	return ((struct fixture *)ctx)->wall_s;
}

static inline int try_open(struct fixture *f, struct store **ret_store, const char **ret_reason)
{
	struct store_opts opts = { .path = f->path,
				   .size_max = f->size_max,
				   .disk_reserve = f->disk_reserve,
				   .metrics = f->metrics,
				   .clock = &f->clock };

	return store_open(&opts, ret_store, ret_reason);
}

static inline void open_store(struct fixture *f)
{
	const char *reason = NULL;
	int r = try_open(f, &f->store, &reason);

	if (r < 0)
		fail_msg("store_open: %d: %s", r, reason);
}

static inline void reopen(struct fixture *f)
{
	store_close(f->store);
	open_store(f);
	assert_int_equal(store_recover(f->store, NULL, NULL), 0);
}

static inline struct fixture *fixture_new_below(const char *folder)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)snprintf(f->root, sizeof(f->root), "%s/store-test-XXXXXX", folder);
	assert_non_null(mkdtemp(f->root));
	(void)snprintf(f->path, sizeof(f->path), "%s/store", f->root);
	f->wall_s = time(NULL);
	f->mono_ms = 3600000;
	f->clock = (struct clock){ .mono_ms = fixture_mono, .wall_s = fixture_wall, .ctx = f };
	f->metrics = metrics_new();
	return f;
}

static inline struct fixture *fixture_new(void)
{
	const char *tmp = getenv("TMPDIR");

	return fixture_new_below(tmp ? tmp : "/tmp");
}

/* In memory where that is large enough: for thousands of files of which nobody asks whether they are on a disk. */
static inline struct fixture *fixture_new_in_memory(void)
{
	struct statvfs v;

	if (getenv("TMPDIR") || statvfs("/dev/shm", &v) < 0 || access("/dev/shm", W_OK) < 0 ||
	    (uint64_t)v.f_bavail * v.f_frsize < 48u << 20)
		return fixture_new();
	return fixture_new_below("/dev/shm");
}

static inline int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static inline void fixture_free(struct fixture *f)
{
	store_close(f->store);
	metrics_free(f->metrics);
	(void)nftw(f->root, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	free(f);
}

static inline int set_up(void **state)
{
	struct fixture *f = fixture_new();

	open_store(f);
	assert_int_equal(store_recover(f->store, NULL, NULL), 0);
	*state = f;
	return 0;
}

static inline int tear_down(void **state)
{
	fixture_free(*state);
	return 0;
}

/* --- contents --- */

/* Bytes that differ with the seed and along the file. The caller's. */
static inline char *make_bytes(size_t len, unsigned seed)
{
	char *bytes = malloc(len + 1);
	uint32_t x = seed * 2654435761u + 12345;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		bytes[i] = (char)(x >> 24);
	}
	return bytes;
}

static inline struct blob_meta meta_of(const char *bytes, size_t len)
{
	struct blob_meta meta = { .size = len };

	sha256_of(bytes, len, &meta.sha256);
	git_oid_of(bytes, len, &meta.git);
	return meta;
}

static inline struct content_id lfs_id(const struct blob_meta *meta)
{
	return (struct content_id){ .kind = CONTENT_LFS, .sha256 = meta->sha256, .size = meta->size };
}

static inline struct content_id git_id(const struct blob_meta *meta)
{
	return (struct content_id){ .kind = CONTENT_GIT, .git = meta->git, .size = meta->size };
}

static inline int reserve_all(struct part *p, const struct content_id *id)
{
	uint64_t missing = 0;

	return part_reserve(p, (struct byte_range){ 0, id->size }, &missing);
}

/* The part, with room for all of it. */
static inline int open_whole(struct store *s, const struct content_id *id, struct part **ret_part)
{
	struct part *p = NULL;
	int r = store_open_part(s, id, &p);

	if (r == 0)
		r = reserve_all(p, id);
	if (r < 0)
		p = part_unref(p);
	*ret_part = p;
	return r;
}

/* Through part, room, write, finish. */
static inline int put_as(struct store *s, const struct content_id *id, const char *bytes,
			 const struct blob_meta *meta)
{
	struct part *p = NULL;
	int r = open_whole(s, id, &p);

	if (r < 0)
		return r;
	r = part_write(p, 0, bytes, id->size);
	if (r == 0)
		r = store_finish_part(s, p, meta);
	(void)part_unref(p);
	return r;
}

static inline int put_blob(struct store *s, const char *bytes, size_t len, struct blob_meta *ret_meta)
{
	struct blob_meta meta = meta_of(bytes, len);
	struct content_id id = lfs_id(&meta);
	int r = put_as(s, &id, bytes, &meta);

	if (r == 0)
		*ret_meta = meta;
	return r;
}

static inline int put_doc(struct store *s, const char *text, size_t len, struct blob_meta *ret_meta)
{
	struct bytes *bytes = bytes_new_copy((struct str){ text, len });
	int r = store_put_bytes(s, bytes, ret_meta);

	(void)bytes_unref(bytes);
	return r;
}

/* 0 it opens and has exactly these bytes; -errno of the open; 1 other bytes. */
static inline int check_blob(struct store *s, const struct digest *sha256, const char *bytes, size_t len)
{
	struct blob *b = NULL;
	int r = store_open_blob(s, sha256, &b);
	char *found;

	if (r < 0)
		return r;
	if (blob_size(b) != len) {
		r = 1;
	} else if (blob_fd(b) >= 0) {
		found = malloc(len + 1);
		r = pread(blob_fd(b), found, len, 0) != (ssize_t)len || memcmp(found, bytes, len) != 0;
		free(found);
	} else {
		struct str held = bytes_str(blob_bytes(b));

		r = held.len != len || memcmp(held.ptr, bytes, len) != 0;
	}
	(void)blob_unref(b);
	return r;
}

static inline struct store_usage usage_of(struct store *s)
{
	struct store_usage u;

	store_usage(s, &u);
	return u;
}

/* --- the files below --- */

static inline void blob_file(struct fixture *f, const char *tree, const struct digest *d,
			     char ret_path[PATH_MAX])
{
	char hex[2 * SHA256_BYTES + 1];

	format_hex(d->bytes, SHA256_BYTES, hex);
	(void)snprintf(ret_path, PATH_MAX, "%s/%s/%.2s/%.2s/%s", f->path, tree, hex, hex + 2, hex);
}

static inline bool file_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static inline void write_file(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	assert_int_equal(close(fd), 0);
}

static inline unsigned count_files(struct fixture *f, const char *folder, const char *suffix)
{
	char path[PATH_MAX];
	unsigned count = 0;
	struct dirent *e;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/%s", f->path, folder);
	dir = opendir(path);
	assert_non_null(dir);
	while ((e = readdir(dir)))
		count += e->d_name[0] != '.' && str_ends_with(str_from(e->d_name), str_from(suffix));
	(void)closedir(dir);
	return count;
}
