/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/part - a partial blob while it is open.
 *
 * Owns      its file in incoming/. Its room is in grant.c, its bytes in held.c.
 * Threads   any but fetch, for they may wait for the disk; references and part_drop() any.
 * Life      OPEN -> LEAVING (finish, drop or the last unref is at work; who wants the same content waits) ->
 * GONE. Promises  (1) what was reserved is given back exactly once, by part_end_leaving().
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/alloc.h"
#include "common/path.h"

#include "common/banned.h"

void part_key_of(const struct content_id *id, char ret_key[PART_KEY_TEXT])
{
	ret_key[0] = id->kind == CONTENT_LFS ? 's' : 'g';
	ret_key[1] = '-';
	content_id_hex(id, ret_key + 2);
}

/* --- opening --- */

static int open_part_file(struct store *s, const char *name)
{
	int fd = fs_open(s->incoming_fd, name, O_RDWR | O_CREAT | O_NONBLOCK, 0600);

	/* read only: a run was cut off while it gave the file its name */
	if (fd == -EACCES && fchmodat(s->incoming_fd, name, 0600, 0) == 0)
		fd = fs_open(s->incoming_fd, name, O_RDWR | O_NONBLOCK, 0);
	if ((fd == -EMFILE || fd == -ENFILE) && blobs_shed(s))
		fd = fs_open(s->incoming_fd, name, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
	return fd == -ENFILE ? -EMFILE : fd;
}

int part_make_sparse(int fd, uint64_t size)
{
	if (size > INT64_MAX)
		return -ENOSPC;
	if (ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)size) == 0)
		return 0;
	return errno == EFBIG ? -ENOSPC : -errno;
}

/* Is all that the map speaks of in the books? What was never paid for is not taken over. */
static bool is_paid(struct store *s, const char *key, const struct ranges *held)
{
	SCOPED_RANGES blocks;

	grant_blocks(held, &blocks);
	return held->count > 0 && idle_part_charge(s, key) >= grant_charge(&blocks);
}

/* The map goes first: it must never speak of bytes that are not there. */
static int start_empty(struct store *s, int fd, const char *key, uint64_t size, struct part_map *ret_map)
{
	char name[INCOMING_NAME_TEXT];
	int r;

	*ret_map = (struct part_map){ .size = size, .validator = xstrdup("") };
	part_file_name(key, ".map", name);
	r = fs_unlink(s->incoming_fd, name);
	if (r < 0)
		return r;
	return part_make_sparse(fd, size);
}

/* What a former run left, as far as its map vouches for it. Anything else is emptied. */
static int resume(struct store *s, int fd, const char *key, uint64_t size, struct part_map *ret_map)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EIO;
	if (size == 0 || (uint64_t)st.st_size != size)
		return start_empty(s, fd, key, size, ret_map);
	r = part_map_load(s, key, ret_map);
	if (r == 0 && ret_map->size == size && is_paid(s, key, &ret_map->held))
		return 0;
	if (r == 0)
		part_map_done(ret_map);
	else if (r != -ENODATA && r != -EBADMSG)
		return r;
	return start_empty(s, fd, key, size, ret_map);
}

static struct part *part_new(struct store *s, const struct content_id *want, int fd, struct part_map *map)
{
	struct part *p = xcalloc(1, sizeof(*p));

	p->store = s;
	p->id = *want;
	part_key_of(want, p->key);
	p->fd = fd;
	p->refs = 1;
	lock_init(&p->lock, LOCK_STORE);
	p->held = map->held;
	grant_blocks(&p->held, &p->granted);
	p->validator = map->validator;
	p->has_map = p->held.count > 0;
	*map = (struct part_map){ .size = 0 };
	return p;
}

static void part_free(struct part *p)
{
	(void)close(p->fd);
	ranges_done(&p->held);
	ranges_done(&p->granted);
	free(p->validator);
	lock_done(&p->lock);
	free(p);
}

/* Into the books: what the idle file was charged with is the first of its reservation. */
static void publish(struct part *p)
{
	struct store *s = p->store;
	uint64_t charge;

	atomic_fetch_add_explicit(&s->held_bytes, p->held.bytes, memory_order_relaxed);
	lock_take(&s->lock);
	charge = idle_part_take_locked(s, p->key);
	if (p->held.count)
		room_take_over_locked(p, charge);
	(void)map_put(s->parts, str_from(p->key), p);
	store_show_locked(s);
	lock_drop(&s->lock);
}

static int open_claimed(struct store *s, const struct content_id *want, const char *key,
			struct part **ret_part)
{
	char name[INCOMING_NAME_TEXT];
	SCOPED_PART_MAP map = { .size = 0 };
	SCOPED_FD int fd = -1;
	struct part *p;
	int r;

	part_file_name(key, ".part", name);
	fd = open_part_file(s, name);
	if (fd < 0)
		return fd;
	r = resume(s, fd, key, want->size, &map);
	if (r < 0) {
		/* bytes that are held, or may be, stay, and stay in the books as they were */
		if (!map.held.count && r != -EMFILE) {
			lock_take(&s->lock);
			(void)idle_part_take_locked(s, key);
			lock_drop(&s->lock);
			(void)part_unlink(s, key);
		}
		return r;
	}
	p = part_new(s, want, TAKE_FD(fd), &map);
	publish(p);
	*ret_part = p;
	return 0;
}

/* Waits for one that is leaving: its map is being saved, or its name given. */
static int claim_key(struct store *s, struct str key, uint64_t size)
{
	SCOPED_LOCK(&s->lock);

	for (;;) {
		struct part *p = map_get(s->parts, key);

		if (p && p->state == PART_OPEN)
			return p->id.size == size ? -EBUSY : -EEXIST;
		if (!p && claim_try_locked(s, key))
			return 0;
		(void)pthread_cond_wait(&s->freed, &s->lock.mutex);
	}
}

int store_open_part(struct store *s, const struct content_id *want, struct part **ret_part)
{
	char key[PART_KEY_TEXT];
	int r;

	part_key_of(want, key);
	r = claim_key(s, str_from(key), want->size);
	if (r == 0) {
		r = open_claimed(s, want, key, ret_part);
		claim_drop(s, str_from(key));
	}
	return r == -EDQUOT ? -ENOSPC : store_error(s, r);
}

bool store_has_part(struct store *s, const struct content_id *want)
{
	char key[PART_KEY_TEXT];
	SCOPED_LOCK(&s->lock);

	part_key_of(want, key);
	return map_get(s->parts, str_from(key)) || map_get(s->idle_parts, str_from(key));
}

/* --- references and the end --- */

struct part *part_ref(struct part *p)
{
	SCOPED_LOCK(&p->store->lock);

	assert(p->refs > 0);
	p->refs++;
	return p;
}

static void close_writes(struct part *p)
{
	SCOPED_LOCK(&p->lock);

	p->is_closed = true;
}

bool part_begin_leaving(struct part *p)
{
	bool is_first;

	lock_take(&p->store->lock);
	is_first = p->state == PART_OPEN;
	if (is_first)
		p->state = PART_LEAVING;
	lock_drop(&p->store->lock);
	if (is_first)
		close_writes(p);
	return is_first;
}

static uint64_t held_bytes(struct part *p)
{
	SCOPED_LOCK(&p->lock);

	return p->held.bytes;
}

void part_end_leaving(struct part *p, uint64_t used, uint64_t kept_charge)
{
	struct store *s = p->store;

	atomic_fetch_sub_explicit(&s->held_bytes, held_bytes(p), memory_order_relaxed);
	lock_take(&s->lock);
	assert(p->state == PART_LEAVING);
	p->state = PART_GONE;
	(void)map_take(s->parts, str_from(p->key));
	assert(used <= p->reserved);
	if (kept_charge > p->reserved)
		kept_charge = p->reserved; /* the file system's own blocks must not pass the limit */
	room_leave_locked(p);
	room_add_used_locked(s, used);
	if (kept_charge)
		idle_part_add_locked(s, p->key, kept_charge, clock_wall_s(s->clock));
	(void)pthread_cond_broadcast(&s->freed);
	lock_drop(&s->lock);
}

/* Is there, on disk, all that a later run needs to go on from here? */
static bool save_for_later(struct part *p)
{
	bool is_empty, is_stale, is_broken, has_map;

	lock_take(&p->lock);
	is_empty = p->held.bytes == 0;
	is_broken = p->is_broken;
	is_stale = p->is_map_stale;
	lock_drop(&p->lock);
	if (is_empty || is_broken)
		return false;
	if (is_stale)
		(void)part_map_save(p); /* if it fails the older map is true as far as it goes */
	lock_take(&p->lock);
	has_map = p->has_map && !p->is_broken;
	lock_drop(&p->lock);
	return has_map;
}

static void retire(struct part *p)
{
	uint64_t charge = 0;

	close_writes(p);
	if (save_for_later(p))
		charge = part_punch(p->fd, &p->held, p->id.size);
	else
		(void)part_unlink(p->store, p->key); /* recovery removes what stays */
	part_end_leaving(p, 0, charge);
}

struct part *part_unref(struct part *p)
{
	bool is_last, is_open;

	if (!p)
		return NULL;
	lock_take(&p->store->lock);
	assert(p->refs > 0);
	is_last = --p->refs == 0;
	is_open = p->state == PART_OPEN;
	if (is_last && is_open)
		p->state = PART_LEAVING;
	lock_drop(&p->store->lock);
	if (!is_last)
		return NULL;
	if (is_open)
		retire(p);
	part_free(p);
	return NULL;
}

void part_drop(struct part *p)
{
	if (!part_begin_leaving(p))
		return;
	(void)part_unlink(p->store, p->key); /* recovery removes what stays */
	part_end_leaving(p, 0, 0);
}
