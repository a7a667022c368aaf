/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/name - how a verified file gets its name for ever, and how a blob loses it.
 *
 *   step                                       a crash right after it leaves            put right by
 *   S5 fsync the bytes (mode 0440 by then)     a whole part without a name              recovery: hashed and adopted
 *   S6 write, fsync, rename the sidecar        a sidecar without a blob                 recovery: removed
 *   S7 rename the bytes, never over another    a blob; its name may not be durable yet  blob or part: both are fine
 *   S8 fsync both folders                      a durable blob that the index ignores    recovery: told to the index
 *
 * and back: unlink the blob, unlink the sidecar, fsync the blob's folder.
 * After a failed fsync the file is dead: it is not tried again, for the kernel may have dropped the pages (D05).
 * Never     names bytes by itself: the caller has verified them and holds the claim on the digest.
 * Threads   keeper; server threads for a blob of wrong size, and for documents when too many wait.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/alloc.h"
#include "common/path.h"

#include "common/banned.h"

#define BLOB_MODE 0440
#define HASH_CHUNK (1u << 20)
/* Bad files are kept for whoever wants to look, within one hundredth of the store. */
#define QUARANTINE_SHARE 100

int make_temporary(struct store *s, char ret_name[INCOMING_NAME_TEXT])
{
	char name[INCOMING_NAME_TEXT];
	int fd;

	do { /* an older run may have left such a name when recovery was not asked for */
		uint64_t number = atomic_fetch_add_explicit(&s->temporaries, 1, memory_order_relaxed);

		(void)snprintf(name, sizeof(name), "%" PRIu64 ".tmp", number);
		fd = fs_open(s->incoming_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
		if (fd == -EMFILE && blobs_shed(s))
			fd = -EEXIST;
	} while (fd == -EEXIST);
	if (fd < 0)
		return store_error(s, fd);
	memcpy(ret_name, name, sizeof(name));
	return fd;
}

/* --- S5 to S8 --- */

/* Is a blob of this name there already, and whole as far as a look can tell? */
static bool is_there(struct store *s, const struct blob_meta *meta)
{
	struct blob_meta old;
	uint64_t size;

	return fan_stat(&s->blobs, &meta->sha256, &size) == 0 && size == meta->size &&
	       sidecar_read(s, &meta->sha256, &old) == 0 && old.size == meta->size;
}

/* What has the name without being our blob (M07) must make room; it is kept aside. */
static int clear_name(struct store *s, struct naming *n)
{
	uint64_t size;
	int r = fan_stat(&s->blobs, &n->meta.sha256, &size);

	if (r == -ENOENT)
		return 0;
	return r == 0 || r == -EBADMSG ? set_aside(s, &n->meta.sha256) : store_error(s, r);
}

static int write_sidecar(struct store *s, struct naming *n)
{
	SCOPED_BUF text;
	int r;

	buf_init(&text, SIDECAR_BYTES_MAX);
	r = sidecar_encode(&n->meta, &text);
	assert(r == 0);
	n->sidecar_fd = make_temporary(s, n->sidecar);
	if (n->sidecar_fd < 0)
		return n->sidecar_fd;
	r = fs_write_all(n->sidecar_fd, text.bytes, text.len);
	if (r == 0 && (fchmod(n->sidecar_fd, BLOB_MODE) < 0 || fchmod(n->fd, BLOB_MODE) < 0))
		r = -errno;
	/* gives both their blocks now, so that the first fsync of a batch commits for all */
	(void)sync_file_range(n->sidecar_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	(void)sync_file_range(n->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	return store_error(s, r);
}

static void prepare(struct store *s, struct naming *n)
{
	n->sidecar_fd = -1;
	n->sidecar[0] = 0;
	n->result = 0;
	n->was_there = is_there(s, &n->meta);
	if (n->was_there)
		return;
	n->result = clear_name(s, n);
	if (n->result == 0)
		n->result = write_sidecar(s, n);
}

static int sync_bytes(struct store *s, struct naming *n)
{
	int r = fs_sync(n->fd);

	if (r == 0)
		r = fs_sync(n->sidecar_fd);
	return store_error(s, r);
}

/* NFS and some FUSE file systems know no flags. The claim and the lock on the store keep all others away from the name. */
static int rename_noreplace(int from_dir, const char *from, int to_dir, const char *to)
{
	struct stat st;

	if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(from_dir, from, to_dir, to) < 0 ? -errno : 0;
}

static int rename_both(struct store *s, struct naming *n)
{
	char path[FAN_PATH_TEXT];
	int r;

	fan_path(&n->meta.sha256, path);
	if ((r = fan_make(s, &s->meta, &n->meta.sha256)) < 0 ||
	    (r = fan_make(s, &s->blobs, &n->meta.sha256)) < 0)
		return r;
	if (renameat(s->incoming_fd, n->sidecar, s->meta.fd, path) < 0)
		return store_error(s, -errno);
	n->sidecar[0] = 0;
	r = rename_noreplace(s->incoming_fd, n->from, s->blobs.fd, path);
	if (r < 0)
		(void)fs_unlink(s->meta.fd, path); /* else recovery does it */
	return store_error(s, r);
}

/* Also for a blob that was there: who named it may have been killed before its own S8. */
static int sync_folders(struct store *s, struct naming *n)
{
	int r = fan_sync(s, &s->blobs, &n->meta.sha256);

	return r < 0 ? r : fan_sync(s, &s->meta, &n->meta.sha256);
}

static void take_name_back(struct store *s, struct naming *n)
{
	char path[FAN_PATH_TEXT];

	fan_path(&n->meta.sha256, path);
	(void)fs_unlink(s->blobs.fd, path); /* on a disk that fails there is no more to do */
	(void)fs_unlink(s->meta.fd, path);
	blob_forget(s, &n->meta.sha256);
}

static void clean_up(struct store *s, struct naming *n)
{
	if (n->sidecar_fd >= 0)
		(void)close(n->sidecar_fd); /* synced, or given up */
	if (n->sidecar[0])
		(void)fs_unlink(s->incoming_fd, n->sidecar);
}

/* A part of many gigabytes must not be lost for want of a descriptor that an idle blob holds. */
static void spare_descriptors(struct store *s)
{
	SCOPED_FD int one = fcntl(s->root_fd, F_DUPFD_CLOEXEC, 0);
	SCOPED_FD int two = fcntl(s->root_fd, F_DUPFD_CLOEXEC, 0);

	if (one < 0 || two < 0)
		(void)blobs_shed(s);
}

void name_blobs(struct store *s, struct naming *items, size_t count)
{
	struct naming *end = items + count;

	spare_descriptors(s);
	for (struct naming *n = items; n < end; n++)
		prepare(s, n);
	for (struct naming *n = items; n < end; n++)
		if (n->result == 0 && !n->was_there)
			n->result = sync_bytes(s, n);
	for (struct naming *n = items; n < end; n++)
		if (n->result == 0 && !n->was_there)
			n->result = rename_both(s, n);
	for (struct naming *n = items; n < end; n++) {
		if (n->result == 0) {
			n->result = sync_folders(s, n);
			if (n->result < 0 && !n->was_there)
				take_name_back(s, n);
		}
		clean_up(s, n);
	}
}

/* --- hashing what lies there --- */

int hash_file(int fd, uint64_t size, struct digest *ret_sha256, struct git_oid *ret_git)
{
	SCOPED(hasher_free) struct hasher *h = hasher_new(size, true);
	SCOPED_FREE char *chunk = xmalloc(HASH_CHUNK);

	for (uint64_t at = 0; at < size;) {
		size_t len = size - at < HASH_CHUNK ? (size_t)(size - at) : HASH_CHUNK;
		int r = fs_pread_all(fd, chunk, len, at);

		if (r < 0)
			return r;
		hasher_update(h, chunk, len);
		at += len;
	}
	hasher_final(h, ret_sha256, ret_git);
	return 0;
}

int blob_file_check(struct store *s, const struct digest *sha256, uint64_t *budget,
		    struct blob_meta *ret_meta)
{
	char path[FAN_PATH_TEXT];
	SCOPED_FD int fd = -1;
	struct blob_meta meta;
	uint64_t size;
	int r = fan_stat(&s->blobs, sha256, &size);

	if (r < 0)
		return r;
	if (size > *budget)
		return -EINTR;
	*budget -= size;
	fan_path(sha256, path);
	fd = fs_open(s->blobs.fd, path, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return fd == -EACCES ? -EBADMSG : fd;
	meta.size = size;
	r = hash_file(fd, size, &meta.sha256, &meta.git);
	if (r == -ENODATA || (r == 0 && !digest_eq(&meta.sha256, sha256)))
		return -EBADMSG;
	if (r == 0)
		*ret_meta = meta;
	return r;
}

int sidecar_restore(struct store *s, const struct blob_meta *meta)
{
	char path[FAN_PATH_TEXT];
	SCOPED_BUF text;
	int r;

	buf_init(&text, SIDECAR_BYTES_MAX);
	r = sidecar_encode(meta, &text);
	assert(r == 0);
	r = fan_make(s, &s->meta, &meta->sha256);
	if (r < 0)
		return r;
	fan_path(&meta->sha256, path);
	r = fs_replace_file(s->meta.fd, path, text.bytes, text.len, BLOB_MODE);
	return store_error(s, r);
}

/* --- and back --- */

static void count_gone(struct store *s, uint64_t bytes)
{
	SCOPED_LOCK(&s->lock);

	if (s->objects)
		s->objects--;
	room_sub_used_locked(s, bytes);
}

int store_remove_blob(struct store *s, const struct digest *sha256)
{
	char path[FAN_PATH_TEXT];
	uint64_t size = 0;
	int r;

	fan_path(sha256, path);
	claim_take(s, digest_str(sha256));
	(void)pending_cancel(s, sha256);
	r = fan_stat(&s->blobs, sha256, &size);
	if ((r == 0 || r == -EBADMSG) && unlinkat(s->blobs.fd, path, 0) < 0)
		r = -errno;
	blob_forget(s, sha256);
	if (r == 0) {
		count_gone(s, blob_charge(size));
		(void)fs_unlink(s->meta.fd, path); /* recovery removes it if this fails */
		r = fan_sync(s, &s->blobs, sha256);
	} else if (r == -ENOENT) {
		(void)fs_unlink(s->meta.fd, path);
		r = 0;
	}
	claim_drop(s, digest_str(sha256));
	return store_error(s, r);
}

static uint64_t quarantine_budget(struct store *s)
{
	uint64_t free_bytes, total = 0;

	if (s->size_max)
		return s->size_max / QUARANTINE_SHARE;
	if (fs_room(s->root_fd, &free_bytes, &total) < 0)
		return 0;
	return total / QUARANTINE_SHARE;
}

static uint64_t quarantine_charge(struct store *s, const char *name)
{
	struct stat st;

	if (fstatat(s->quarantine_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return file_charge((uint64_t)st.st_size);
}

/* Names begin with the time, so the first is the oldest. */
int quarantine_trim(struct store *s)
{
	SCOPED_NAMES names;
	uint64_t held = 0, budget = quarantine_budget(s);
	int r = names_read(s->quarantine_fd, ".", &names);

	if (r < 0)
		return r;
	for (size_t i = 0; i < names.count; i++)
		held += quarantine_charge(s, names.at[i]);
	for (size_t i = 0; i < names.count && held > budget; i++) {
		uint64_t charge = quarantine_charge(s, names.at[i]);

		if (fs_unlink(s->quarantine_fd, names.at[i]) < 0)
			continue;
		room_sub_used(s, charge);
		held -= charge;
	}
	return 0;
}

int set_aside(struct store *s, const struct digest *sha256)
{
	char path[FAN_PATH_TEXT], name[32 + FAN_PATH_TEXT];
	uint64_t size = 0;
	int64_t now = clock_wall_s(s->clock);
	int r = fan_stat(&s->blobs, sha256, &size);

	if (r < 0 && r != -EBADMSG)
		return r;
	fan_path(sha256, path);
	(void)snprintf(name, sizeof(name), "%012" PRId64 "-%s", now > 0 ? now : 0, path + FAN_DIR_TEXT);
	if (renameat(s->blobs.fd, path, s->quarantine_fd, name) < 0)
		return store_error(s, -errno);
	(void)fs_unlink(s->meta.fd, path);
	blob_forget(s, sha256);
	count_gone(s, SIDECAR_CHARGE);
	r = fan_sync(s, &s->blobs, sha256); /* it must not come back under its name after a crash */
	(void)quarantine_trim(s);
	return r;
}

int store_quarantine_blob(struct store *s, const struct digest *sha256)
{
	int r;

	claim_take(s, digest_str(sha256));
	if (pending_cancel(s, sha256))
		r = 0;
	else
		r = set_aside(s, sha256);
	claim_drop(s, digest_str(sha256));
	return r == -ENOENT ? 0 : store_error(s, r);
}
