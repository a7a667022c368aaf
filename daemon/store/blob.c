/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/blob - open blobs and the cache of those that nobody uses just now.
 *
 *   by_digest -> blob, refs > 0        in use
 *             -> blob, refs = 0        idle: in idle_files (descriptor) or idle_memory (bytes), least recently used first
 *             -> blob, pending         in memory until pending.c has written it
 *
 * Owns      every struct blob. One that was removed leaves the table at once and lives on until its last reference goes.
 * Never     hashes: a blob's size is checked when it is opened, its bytes were before it got its name.
 * Threads   any. The store's lock is held for table work only, never while a file is opened, read or closed.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "common/alloc.h"
#include "common/path.h"

#include "common/banned.h"

static struct blob *blob_new(struct store *s, const struct digest *sha256, uint64_t size)
{
	struct blob *b = xcalloc(1, sizeof(*b));

	b->store = s;
	b->sha256 = *sha256;
	b->size = size;
	b->fd = -1;
	list_init(&b->idle);
	return b;
}

static void blob_destroy(struct blob *b)
{
	if (b->fd >= 0)
		(void)close(b->fd); /* read only */
	(void)bytes_unref(b->bytes);
	free(b);
}

void blobs_destroy(struct list *doomed)
{
	LIST_EACH(it, doomed) {
		list_remove(it);
		blob_destroy(LIST_ENTRY(it, struct blob, idle));
	}
}

/* --- idle lists --- */

static struct lru *lru_of(struct blob *b)
{
	return b->fd >= 0 ? &b->store->idle_files : &b->store->idle_memory;
}

static uint64_t lru_cost(const struct blob *b)
{
	return b->size + BLOB_OVERHEAD;
}

static void lru_add_locked(struct blob *b)
{
	struct lru *l = lru_of(b);

	list_add_tail(&l->list, &b->idle);
	l->count++;
	l->bytes += lru_cost(b);
}

static void lru_remove_locked(struct blob *b)
{
	struct lru *l = lru_of(b);

	assert(l->count > 0);
	list_remove(&b->idle);
	l->count--;
	l->bytes -= lru_cost(b);
}

static bool is_idle_locked(const struct blob *b)
{
	return b->idle.next != &b->idle;
}

static void evict_oldest_locked(struct lru *l, struct list *doomed)
{
	struct blob *b = LIST_ENTRY(l->list.next, struct blob, idle);

	blob_uncache_locked(b, doomed);
}

static void evict_surplus_locked(struct store *s, struct list *doomed)
{
	while (s->idle_files.count > IDLE_DESCRIPTORS_MAX)
		evict_oldest_locked(&s->idle_files, doomed);
	while (s->idle_memory.bytes > IDLE_MEMORY_MAX)
		evict_oldest_locked(&s->idle_memory, doomed);
}

/* Out of the table; put on doomed if nobody uses it. */
void blob_uncache_locked(struct blob *b, struct list *doomed)
{
	assert(lock_is_mine(&b->store->lock));
	if (is_idle_locked(b))
		lru_remove_locked(b);
	if (b->is_cached) {
		(void)map_take(b->store->by_digest, digest_str(&b->sha256));
		b->is_cached = false;
	}
	if (b->refs == 0 && !b->pending)
		list_add_tail(doomed, &b->idle);
}

/* The last user has gone, or the bytes are on disk now: idle, or the end. */
void blob_settle_locked(struct blob *b, struct list *doomed)
{
	assert(lock_is_mine(&b->store->lock));
	if (b->refs || b->pending)
		return;
	/* large and in memory: it was a document just written; the next open finds it on disk */
	if (!b->is_cached || (b->fd < 0 && b->size > STORE_SMALL_MAX)) {
		blob_uncache_locked(b, doomed);
		return;
	}
	lru_add_locked(b);
	evict_surplus_locked(b->store, doomed);
}

static struct blob *ref_locked(struct blob *b)
{
	if (b->refs++ == 0 && is_idle_locked(b))
		lru_remove_locked(b);
	return b;
}

bool blobs_shed(struct store *s)
{
	struct list doomed = LIST_INIT(doomed);
	bool has_freed;

	lock_take(&s->lock);
	for (size_t n = (s->idle_files.count + 1) / 2; n; n--)
		evict_oldest_locked(&s->idle_files, &doomed);
	has_freed = !list_is_empty(&doomed);
	lock_drop(&s->lock);
	blobs_destroy(&doomed);
	return has_freed;
}

void blobs_close(struct store *s)
{
	struct list doomed = LIST_INIT(doomed);

	lock_take(&s->lock);
	while (s->idle_files.count)
		evict_oldest_locked(&s->idle_files, &doomed);
	while (s->idle_memory.count)
		evict_oldest_locked(&s->idle_memory, &doomed);
	assert(map_count(s->by_digest) == 0); /* every blob was given back */
	lock_drop(&s->lock);
	blobs_destroy(&doomed);
}

/* --- opening --- */

static struct blob *find_locked(struct store *s, const struct digest *sha256)
{
	return map_get(s->by_digest, digest_str(sha256));
}

static int open_file(struct store *s, const struct digest *sha256, struct stat *ret_stat)
{
	char path[FAN_PATH_TEXT];
	int fd, r;

	fan_path(sha256, path);
	fd = fs_open(s->blobs.fd, path, O_RDONLY | O_NONBLOCK, 0);
	if ((fd == -EMFILE || fd == -ENFILE) && blobs_shed(s))
		fd = fs_open(s->blobs.fd, path, O_RDONLY | O_NONBLOCK, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return -ENODATA;
	if (fd == -ELOOP || fd == -EACCES)
		return -EBADMSG; /* not what we put there (D02) */
	if (fd < 0 || fstat(fd, ret_stat) == 0)
		return fd;
	r = -errno;
	(void)close(fd);
	return r;
}

/* A sidecar that cannot be read leaves a blob that may be good: recovery or the next fill will tell. */
static int promised_size(struct store *s, const struct digest *sha256, uint64_t *ret_size)
{
	char path[FAN_PATH_TEXT];
	struct blob_meta meta;
	int r = sidecar_read(s, sha256, &meta);

	if (r == -EBADMSG) {
		fan_path(sha256, path);
		(void)fs_unlink(s->meta.fd, path); /* a missing one is looked into at the next start */
		return -ENODATA;
	}
	if (r == 0)
		*ret_size = meta.size;
	return r;
}

static int open_from_disk(struct store *s, const struct digest *sha256, struct blob **ret_blob)
{
	struct stat st;
	SCOPED_FD int fd = open_file(s, sha256, &st);
	uint64_t size = 0;
	int r;

	if (fd < 0)
		return store_error(s, fd);
	r = promised_size(s, sha256, &size);
	if ((r == -EMFILE || r == -ENFILE) && blobs_shed(s))
		r = promised_size(s, sha256, &size);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return -EBADMSG;
	*ret_blob = blob_new(s, sha256, size);
	(*ret_blob)->fd = TAKE_FD(fd);
	return 0;
}

/* Looks again under the claim: it may have been replaced by a good one meanwhile. */
static int open_or_quarantine(struct store *s, const struct digest *sha256, struct blob **ret_blob)
{
	int r;

	claim_take(s, digest_str(sha256));
	r = open_from_disk(s, sha256, ret_blob);
	if (r == -EBADMSG)
		(void)set_aside(s, sha256); /* if even that fails it stays, and stays unservable */
	claim_drop(s, digest_str(sha256));
	return r;
}

/* Two may have opened it at once: the second takes the first's. */
static struct blob *publish(struct store *s, struct blob *fresh, uint64_t removals_before)
{
	struct list doomed = LIST_INIT(doomed);
	struct blob *b;

	lock_take(&s->lock);
	b = find_locked(s, &fresh->sha256);
	if (b) {
		list_add_tail(&doomed, &fresh->idle);
	} else {
		b = fresh;
		/* a name that may just have been taken away must not come back through the cache */
		if (s->removals == removals_before) {
			(void)map_put(s->by_digest, digest_str(&b->sha256), b);
			b->is_cached = true;
		}
	}
	(void)ref_locked(b);
	lock_drop(&s->lock);
	blobs_destroy(&doomed);
	return b;
}

int store_open_blob(struct store *s, const struct digest *sha256, struct blob **ret_blob)
{
	struct blob *b;
	uint64_t removals;
	int r;

	lock_take(&s->lock);
	b = find_locked(s, sha256);
	if (b)
		(void)ref_locked(b);
	removals = s->removals;
	lock_drop(&s->lock);
	if (b) {
		*ret_blob = b;
		return 0;
	}
	r = open_from_disk(s, sha256, &b);
	if (r == -EBADMSG)
		r = open_or_quarantine(s, sha256, &b);
	if (r < 0)
		return r == -ENFILE ? -EMFILE : r;
	*ret_blob = publish(s, b, removals);
	return 0;
}

struct blob *blob_ref(struct blob *b)
{
	SCOPED_LOCK(&b->store->lock);

	assert(b->refs > 0);
	return ref_locked(b);
}

struct blob *blob_unref(struct blob *b)
{
	struct list doomed = LIST_INIT(doomed);
	struct store *s;
	int fd = -1;

	if (!b)
		return NULL;
	s = b->store;
	lock_take(&s->lock);
	assert(b->refs > 0);
	if (--b->refs == 0) {
		if (b->bytes)
			fd = TAKE_FD(b->fd); /* small: its bytes are enough from now on */
		blob_settle_locked(b, &doomed);
	}
	lock_drop(&s->lock);
	if (fd >= 0)
		(void)close(fd);
	blobs_destroy(&doomed);
	return NULL;
}

uint64_t blob_size(const struct blob *b)
{
	return b->size;
}

int blob_fd(const struct blob *b)
{
	return b->fd;
}

static struct bytes *read_file(struct blob *b)
{
	char *data = xmalloc(b->size + 1);
	int r = fs_pread_all(b->fd, data, b->size, 0);

	if (r < 0) {
		free(data);
		(void)store_error(b->store, r);
		return NULL;
	}
	data[b->size] = 0;
	return bytes_new_take(data, b->size);
}

struct bytes *blob_bytes(struct blob *b)
{
	struct bytes *bytes;

	lock_take(&b->store->lock);
	bytes = b->bytes;
	lock_drop(&b->store->lock);
	if (bytes || b->size > STORE_SMALL_MAX)
		return bytes;
	bytes = read_file(b);
	if (!bytes)
		return NULL;
	lock_take(&b->store->lock);
	if (!b->bytes)
		b->bytes = TAKE_PTR(bytes);
	lock_drop(&b->store->lock);
	(void)bytes_unref(bytes); /* another thread was first */
	return b->bytes;          /* set once, and we hold a reference */
}

int blob_read(struct blob *blob, uint64_t offset, char *to, size_t len)
{
	struct bytes *memory = blob_bytes(blob);

	if (offset > blob_size(blob) || len > blob_size(blob) - offset)
		return -EBADMSG;
	if (!memory)
		return fs_pread_all(blob_fd(blob), to, len, offset);
	memcpy(to, bytes_str(memory).ptr + offset, len);
	return 0;
}

bool store_blob_is_open(struct store *s, const struct digest *sha256)
{
	struct blob *b;
	SCOPED_LOCK(&s->lock);

	b = find_locked(s, sha256);
	return b && b->refs > 0;
}

bool blob_is_in_memory(struct store *s, const struct digest *sha256)
{
	SCOPED_LOCK(&s->lock);

	return find_locked(s, sha256) != NULL;
}

/* --- for pending.c and name.c --- */

bool blob_insert_pending(struct store *s, const struct digest *sha256, struct bytes *bytes, struct pending *p)
{
	struct blob *b;
	SCOPED_LOCK(&s->lock);

	if (find_locked(s, sha256))
		return false;
	b = blob_new(s, sha256, bytes_str(bytes).len);
	b->bytes = bytes_ref(bytes);
	b->is_cached = true;
	b->pending = p;
	(void)map_put(s->by_digest, digest_str(sha256), b);
	p->blob = b;
	list_add_tail(&s->pending, &p->node);
	s->pending_bytes += b->size;
	s->objects++;
	return true;
}

/* Called after the name has gone: an open that found it still has read an older count of removals, or is found here. */
void blob_forget(struct store *s, const struct digest *sha256)
{
	struct list doomed = LIST_INIT(doomed);
	struct blob *b;

	lock_take(&s->lock);
	s->removals++;
	b = find_locked(s, sha256);
	if (b)
		blob_uncache_locked(b, &doomed);
	lock_drop(&s->lock);
	blobs_destroy(&doomed);
}
