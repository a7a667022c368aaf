/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/pending - documents: bytes that are served from memory at once and written a moment later, many at a time.
 *
 * Owns      the list of what the next flush writes, and of what it only has to tell (written already).
 * Threads   store_put_bytes() any; the flush is the keeper's.
 * Promises  (1) what waits is charged to the quota from the moment it is taken.
 *           (2) at most 64 MiB wait; beyond that who brings more writes it himself.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>

#include "common/alloc.h"
#include "common/path.h"

#include "common/banned.h"

static struct pending *pending_new(const struct blob_meta *meta)
{
	struct pending *p = xcalloc(1, sizeof(*p));

	p->meta = *meta;
	return p;
}

/* It is on disk; the index may not know (it was written by a run that died before it could say so). */
static void tell_later(struct store *s, const struct blob_meta *meta)
{
	struct pending *p = pending_new(meta);
	SCOPED_LOCK(&s->lock);

	list_add_tail(&s->pending, &p->node);
}

static int write_temporary(struct store *s, struct naming *n, struct str text)
{
	int r;

	n->fd = make_temporary(s, n->from);
	if (n->fd < 0)
		return n->fd;
	r = fs_write_all(n->fd, text.ptr, text.len);
	if (r == 0)
		return 0;
	(void)fs_unlink(s->incoming_fd, n->from);
	(void)close(n->fd);
	n->fd = -1;
	return store_error(s, r);
}

/* Closes what write_temporary() opened. A file that got its name has no other left. */
static void close_temporary(struct store *s, struct naming *n)
{
	if (n->fd < 0)
		return;
	if (n->result < 0 || n->was_there)
		(void)fs_unlink(s->incoming_fd, n->from);
	(void)close(n->fd);
}

static bool has_room_in_memory(struct store *s, size_t len)
{
	SCOPED_LOCK(&s->lock);

	return s->pending_bytes + len <= PENDING_BYTES_MAX;
}

static int write_now(struct store *s, const struct blob_meta *meta, struct str text)
{
	struct naming n = { .meta = *meta };
	int r = write_temporary(s, &n, text);

	if (r < 0)
		return r;
	name_blobs(s, &n, 1);
	close_temporary(s, &n);
	if (n.result < 0)
		return n.result;
	if (n.was_there)
		return -EEXIST;
	lock_take(&s->lock);
	s->objects++;
	lock_drop(&s->lock);
	tell_later(s, meta);
	return 0;
}

static int keep_in_memory(struct store *s, const struct blob_meta *meta, struct bytes *bytes)
{
	struct pending *p = pending_new(meta);

	if (blob_insert_pending(s, &meta->sha256, bytes, p))
		return 0;
	free(p);
	return -EEXIST;
}

static bool is_on_disk(struct store *s, const struct digest *sha256)
{
	struct blob_meta meta;
	uint64_t size;

	return sidecar_read(s, sha256, &meta) == 0 && fan_stat(&s->blobs, sha256, &size) == 0 &&
	       size == meta.size;
}

static int put_claimed(struct store *s, const struct blob_meta *meta, struct bytes *bytes)
{
	uint64_t charge = blob_charge(meta->size);
	int r;

	if (blob_is_in_memory(s, &meta->sha256))
		return 0;
	if (is_on_disk(s, &meta->sha256)) {
		tell_later(s, meta);
		return 0;
	}
	r = room_take_document(s, charge);
	if (r < 0)
		return r;
	if (has_room_in_memory(s, meta->size))
		r = keep_in_memory(s, meta, bytes);
	else
		r = write_now(s, meta, bytes_str(bytes));
	if (r < 0)
		room_sub_used(s, charge);
	return r == -EEXIST ? 0 : r;
}

int store_put_bytes(struct store *s, struct bytes *bytes, struct blob_meta *ret_meta)
{
	struct str text = bytes_str(bytes);
	struct blob_meta meta = { .size = text.len };
	int r = 0;

	if (text.len > PENDING_BYTES_MAX)
		return -E2BIG;
	sha256_of(text.ptr, text.len, &meta.sha256);
	git_oid_of(text.ptr, text.len, &meta.git);
	if (!blob_is_in_memory(s, &meta.sha256)) {
		if (store_is_failing(s))
			return -EIO;
		claim_take(s, digest_str(&meta.sha256));
		r = put_claimed(s, &meta, bytes);
		claim_drop(s, digest_str(&meta.sha256));
	}
	if (r < 0)
		return r == -EDQUOT ? -ENOSPC : r;
	*ret_meta = meta;
	return 0;
}

/* --- flush --- */

struct batch {
	struct pending *items[PENDING_BATCH]; /* owned; claimed while they have a blob */
	size_t count;
	int first_error;
	void (*written)(void *ctx, const struct blob_meta *meta);
	void *ctx;
};

/* Those whose name somebody else holds just now stay for the next round. */
static void take_batch_locked(struct store *s, struct batch *b, size_t count_max)
{
	LIST_EACH(it, &s->pending) {
		struct pending *p = LIST_ENTRY(it, struct pending, node);

		if (b->count == count_max || b->count == PENDING_BATCH)
			return;
		if (p->blob && !claim_try_locked(s, digest_str(&p->meta.sha256)))
			continue;
		list_remove(it);
		b->items[b->count++] = p;
	}
}

static bool take_batch(struct store *s, struct batch *b, size_t count_max)
{
	SCOPED_LOCK(&s->lock);

	b->count = 0;
	take_batch_locked(s, b, count_max);
	while (b->count == 0 && !list_is_empty(&s->pending)) {
		(void)pthread_cond_wait(&s->freed, &s->lock.mutex);
		take_batch_locked(s, b, count_max);
	}
	return b->count > 0;
}

/* Written, or given up: from now on it is a blob like any other, or none. */
static void settle(struct store *s, struct pending *p, const struct naming *n)
{
	struct list doomed = LIST_INIT(doomed);
	struct blob *b = TAKE_PTR(p->blob);

	lock_take(&s->lock);
	b->pending = NULL;
	s->pending_bytes -= b->size;
	if (n->result < 0 || n->was_there) {
		s->objects--; /* it was counted when it was taken */
		room_sub_used_locked(s, blob_charge(b->size));
	}
	if (n->result < 0)
		blob_uncache_locked(b, &doomed);
	else
		blob_settle_locked(b, &doomed);
	lock_drop(&s->lock);
	blobs_destroy(&doomed);
}

static void end_one(struct store *s, struct batch *b, struct pending *p, const struct naming *n)
{
	settle(s, p, n);
	claim_drop(s, digest_str(&p->meta.sha256));
	if (n->result == 0)
		return;
	p->is_lost = true;
	if (b->first_error == 0)
		b->first_error = n->result;
}

static void write_batch(struct store *s, struct batch *b)
{
	struct naming items[PENDING_BATCH];
	struct pending *with_file[PENDING_BATCH];
	size_t count = 0;

	for (size_t i = 0; i < b->count; i++) {
		struct pending *p = b->items[i];
		struct naming *n = &items[count];

		*n = (struct naming){ .meta = p->meta };
		if (!p->blob) {
			p->is_lost = !is_on_disk(s, &p->meta.sha256); /* evicted before we came to tell */
			continue;
		}
		n->result = write_temporary(s, n, bytes_str(p->blob->bytes));
		if (n->result == 0)
			with_file[count++] = p;
		else
			end_one(s, b, p, n);
	}
	name_blobs(s, items, count);
	for (size_t i = 0; i < count; i++) {
		close_temporary(s, &items[i]);
		end_one(s, b, with_file[i], &items[i]);
	}
}

static void tell_batch(struct batch *b)
{
	for (size_t i = 0; i < b->count; i++) {
		if (!b->items[i]->is_lost && b->written)
			b->written(b->ctx, &b->items[i]->meta);
		free(b->items[i]);
	}
}

static size_t count_pending(struct store *s)
{
	size_t count = 0;
	SCOPED_LOCK(&s->lock);

	LIST_EACH(it, &s->pending)
		count++;
	return count;
}

int store_flush_pending(struct store *s, void (*written)(void *ctx, const struct blob_meta *meta), void *ctx)
{
	struct batch b = { .written = written, .ctx = ctx };
	/* what comes while we write is for the next flush: else a busy day would keep us here */
	size_t left = count_pending(s);

	while (left && take_batch(s, &b, left)) {
		left -= b.count;
		write_batch(s, &b);
		tell_batch(&b);
	}
	return b.first_error == -EDQUOT ? -ENOSPC : b.first_error;
}

bool pending_cancel(struct store *s, const struct digest *sha256)
{
	struct list doomed = LIST_INIT(doomed);
	struct pending *p;
	struct blob *b;

	lock_take(&s->lock);
	b = map_get(s->by_digest, digest_str(sha256));
	p = b ? b->pending : NULL;
	if (p) {
		list_remove(&p->node);
		b->pending = NULL;
		s->pending_bytes -= b->size;
		s->objects--;
		room_sub_used_locked(s, blob_charge(b->size));
		blob_uncache_locked(b, &doomed);
	}
	lock_drop(&s->lock);
	blobs_destroy(&doomed);
	free(p);
	return p != NULL;
}
