/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/recover - what the last run left: counted, adopted, or swept out.
 *
 * A start reads names and sizes only: one readdir per folder and one stat per blob, no sidecar but of the last blobs named.
 * What must be hashed is bounded, so that a start is short; what is left over heals when it is asked for.
 * Never     deletes a blob. What does not match its name goes to quarantine/.
 * Threads   start-up, no other thread in the room.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "common/log.h"
#include "common/path.h"

#include "common/banned.h"

/* About a second of SHA-256; a larger part goes on from its map, having lost 64 MiB at most. */
#define HASH_BYTES_MAX (UINT64_C(1) << 30)
/* Who named a blob tells the index within seconds; alive is rewritten each minute. Ten minutes cover a slow disk. */
#define TELL_AGAIN_S 600
#define QUARANTINE_KEEP_S (7 * 24 * 3600)
#define PART_KEEP_S (30 * 24 * 3600)

struct recovery {
	struct store *store;
	int (*adopted)(void *ctx, const struct content_id *id, const struct blob_meta *meta);
	void *ctx;
	uint64_t hash_budget;
	int64_t tell_since; /* blobs whose name is as young as this are told again */
};

static int tell(struct recovery *rec, const struct content_id *id, const struct blob_meta *meta)
{
	return rec->adopted ? rec->adopted(rec->ctx, id, meta) : 0;
}

static struct content_id id_of(const struct blob_meta *meta)
{
	return (struct content_id){ .kind = CONTENT_LFS, .sha256 = meta->sha256, .size = meta->size };
}

static void count_blob(struct store *s, uint64_t charge)
{
	SCOPED_LOCK(&s->lock);

	s->objects++;
	room_add_used_locked(s, charge);
}

static void count_used(struct store *s, uint64_t charge)
{
	SCOPED_LOCK(&s->lock);

	room_add_used_locked(s, charge);
}

/* --- blobs and sidecars --- */

/* Without a sidecar: it was taken from us, or the file was put there by hand (M07). The digest decides. */
static int look_into_stray(struct recovery *rec, const struct digest *sha256)
{
	struct blob_meta meta;
	struct content_id id;
	int r = blob_file_check(rec->store, sha256, &rec->hash_budget, &meta);

	if (r == -EBADMSG) {
		log_warning("store", "a file under blobs/ is not what its name says: moved to quarantine/",
			    LOG_END);
		(void)set_aside(rec->store, sha256);
		return 0;
	}
	if (r == 0)
		r = sidecar_restore(rec->store, &meta);
	if (r < 0)
		return 0; /* not served without a sidecar: a fill will replace it */
	id = id_of(&meta);
	return tell(rec, &id, &meta);
}

static int scan_blob(struct recovery *rec, const struct digest *sha256, bool has_sidecar)
{
	char path[FAN_PATH_TEXT];
	struct blob_meta meta;
	struct content_id id;
	struct stat st;

	fan_path(sha256, path);
	if (fstatat(rec->store->blobs.fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	count_blob(rec->store, blob_charge(S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0));
	if (!has_sidecar)
		return look_into_stray(rec, sha256);
	if (st.st_ctim.tv_sec < rec->tell_since)
		return 0;
	if (sidecar_read(rec->store, sha256, &meta) < 0 || meta.size != (uint64_t)st.st_size)
		return 0; /* found out when it is opened */
	id = id_of(&meta);
	return tell(rec, &id, &meta);
}

static void drop_orphan(struct store *s, unsigned ab, unsigned cd, const char *name)
{
	char path[FAN_DIR_TEXT + 1 + NAME_MAX];

	(void)snprintf(path, sizeof(path), "%02x/%02x/%s", ab, cd, name);
	(void)fs_unlink(s->meta.fd, path);
}

/* Both lists are sorted: they are walked side by side. */
static int scan_folder(void *ctx, unsigned ab, unsigned cd)
{
	struct recovery *rec = ctx;
	SCOPED_NAMES blobs = { .at = NULL };
	SCOPED_NAMES sidecars = { .at = NULL };
	char folder[FAN_DIR_TEXT];
	size_t j = 0;
	int r;

	(void)snprintf(folder, sizeof(folder), "%02x/%02x", ab & 0xff, cd & 0xff);
	r = names_read(rec->store->blobs.fd, folder, &blobs);
	if (r == 0)
		r = names_read(rec->store->meta.fd, folder, &sidecars);
	if (r < 0) { /* without both lists nothing here may be called an orphan */
		log_warning("store", "a folder of blobs cannot be read: what is in it is left out",
			    LOG_TEXT("folder", folder), LOG_ERR("error", r), LOG_END);
		return 0;
	}
	for (size_t i = 0; i < blobs.count; i++) {
		struct digest d;
		bool has_sidecar;

		if (!fan_name_parse(blobs.at[i], ab, cd, &d))
			continue; /* not ours; not touched */
		while (j < sidecars.count && strcmp(sidecars.at[j], blobs.at[i]) < 0)
			drop_orphan(rec->store, ab, cd, sidecars.at[j++]);
		has_sidecar = j < sidecars.count && strcmp(sidecars.at[j], blobs.at[i]) == 0;
		j += has_sidecar;
		r = scan_blob(rec, &d, has_sidecar);
		if (r)
			return r;
	}
	while (j < sidecars.count)
		drop_orphan(rec->store, ab, cd, sidecars.at[j++]);
	return 0;
}

/* --- parts --- */

/* "s-<64 hex>.part" -> key and id; false for any other name. */
static bool parse_incoming(const char *name, struct str suffix, char ret_key[PART_KEY_TEXT],
			   struct content_id *ret_id)
{
	struct str s = str_from(name);
	struct content_id id;

	if (!str_ends_with(s, suffix) || s.len - suffix.len >= PART_KEY_TEXT || s.len - suffix.len < 2)
		return false;
	s.len -= suffix.len;
	if (!str_is_lower_hex((struct str){ s.ptr + 2, s.len - 2 }) ||
	    content_id_parse((struct str){ s.ptr + 2, s.len - 2 }, 0, &id) < 0)
		return false;
	part_key_of(&id, ret_key);
	*ret_id = id;
	return str_eq(s, str_from(ret_key));
}

/* Preallocated blocks that were never written are holes for this call, also after a kill -9. */
static bool has_holes(int fd, uint64_t size)
{
	off_t hole = lseek(fd, 0, SEEK_HOLE);

	return hole >= 0 && (uint64_t)hole < size;
}

static bool is_what_it_says(const struct content_id *id, const struct blob_meta *meta)
{
	return id->kind == CONTENT_LFS ? digest_eq(&id->sha256, &meta->sha256)
				       : git_oid_eq(&id->git, &meta->git);
}

/* All bytes may have come though the map lags behind: their digest proves it. Returns 1 adopted; 0 not whole. */
static int adopt(struct recovery *rec, int fd, uint64_t size, const char *key, struct content_id *id)
{
	struct naming n = { .fd = fd, .meta = { .size = size } };
	int r;

	if (size == 0 || size > rec->hash_budget || has_holes(fd, size))
		return 0;
	rec->hash_budget -= size;
	if (hash_file(fd, size, &n.meta.sha256, &n.meta.git) < 0 || !is_what_it_says(id, &n.meta))
		return 0;
	part_file_name(key, ".part", n.from);
	claim_take(rec->store, digest_str(&n.meta.sha256));
	name_blobs(rec->store, &n, 1);
	claim_drop(rec->store, digest_str(&n.meta.sha256));
	if (n.result < 0)
		return 0; /* kept by its map */
	if (!n.was_there)
		count_blob(rec->store, blob_charge(size));
	(void)part_unlink(rec->store, key);
	id->size = size;
	r = tell(rec, id, &n.meta);
	return r < 0 ? r : 1;
}

/* Returns whether it stays. */
static bool keep(struct recovery *rec, int fd, const struct stat *st, const char *key)
{
	struct store *s = rec->store;
	SCOPED_PART_MAP map = { .size = 0 };
	uint64_t charge;

	if (part_map_load(s, key, &map) < 0 || map.size != (uint64_t)st->st_size || !map.held.count)
		return false;
	if (clock_wall_s(s->clock) - st->st_mtim.tv_sec > PART_KEEP_S)
		return false;
	charge = part_punch(fd, &map.held, map.size);
	lock_take(&s->lock);
	idle_part_add_locked(s, key, charge, st->st_mtim.tv_sec);
	lock_drop(&s->lock);
	return true;
}

static int recover_part(struct recovery *rec, const char *name, const char *key, struct content_id *id)
{
	struct store *s = rec->store;
	SCOPED_FD int fd = -1;
	struct stat st;
	int r;

	if (fchmodat(s->incoming_fd, name, 0600, 0) == 0) /* S5 makes it read only */
		fd = fs_open(s->incoming_fd, name, O_RDWR | O_NONBLOCK, 0);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		r = adopt(rec, fd, (uint64_t)st.st_size, key, id);
		if (r)
			return r < 0 ? r : 0;
		if (keep(rec, fd, &st, key))
			return 0;
	}
	(void)part_unlink(s, key);
	return 0;
}

static bool has_part(struct store *s, const char *key)
{
	char name[INCOMING_NAME_TEXT];
	struct stat st;

	part_file_name(key, ".part", name);
	return fstatat(s->incoming_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int recover_incoming(struct recovery *rec)
{
	struct store *s = rec->store;
	SCOPED_NAMES names;
	int r = names_read(s->incoming_fd, ".", &names);

	for (size_t i = 0; i < names.count && r == 0; i++) {
		char key[PART_KEY_TEXT];
		struct content_id id;

		if (strcmp(names.at[i], ALIVE_FILE) == 0)
			continue;
		if (parse_incoming(names.at[i], STR(".part"), key, &id))
			r = recover_part(rec, names.at[i], key, &id);
		else if (!parse_incoming(names.at[i], STR(".map"), key, &id) || !has_part(s, key))
			(void)fs_unlink(s->incoming_fd, names.at[i]);
	}
	return r;
}

/* --- the rest --- */

static void recover_quarantine(struct store *s)
{
	SCOPED_NAMES names;
	int64_t now = clock_wall_s(s->clock);

	(void)names_read(s->quarantine_fd, ".", &names);
	for (size_t i = 0; i < names.count; i++) {
		struct str at, rest;
		uint64_t time = 0;
		struct stat st;

		(void)str_cut(str_from(names.at[i]), '-', &at, &rest);
		if (parse_u64(at, &time) == 0 && (int64_t)time < now - QUARANTINE_KEEP_S) {
			(void)fs_unlink(s->quarantine_fd, names.at[i]);
			continue;
		}
		if (fstatat(s->quarantine_fd, names.at[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			count_used(s, file_charge((uint64_t)st.st_size));
	}
}

static void sweep_root(struct store *s)
{
	SCOPED_NAMES names;

	(void)names_read(s->root_fd, ".", &names);
	for (size_t i = 0; i < names.count; i++)
		if (str_starts_with(str_from(names.at[i]), STR("FORMAT.tmp-")) ||
		    str_starts_with(str_from(names.at[i]), STR("key.tmp-")))
			(void)fs_unlink(s->root_fd, names.at[i]);
}

static int64_t last_alive(struct store *s)
{
	struct stat st;

	if (fstatat(s->incoming_fd, ALIVE_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return INT64_MIN;
	return st.st_mtim.tv_sec - TELL_AGAIN_S;
}

static void start_counting(struct store *s)
{
	SCOPED_LOCK(&s->lock);

	assert(map_count(s->parts) == 0 && list_is_empty(&s->pending));
	s->used = s->objects = s->idle_part_bytes = 0;
	map_free(s->idle_parts, free);
	s->idle_parts = map_new();
}

int store_recover(struct store *s,
		  int (*adopted)(void *ctx, const struct content_id *id, const struct blob_meta *meta),
		  void *ctx)
{
	struct recovery rec = { .store = s, .adopted = adopted, .ctx = ctx, .hash_budget = HASH_BYTES_MAX };
	int r;

	rec.tell_since = last_alive(s);
	start_counting(s);
	sweep_root(s);
	recover_quarantine(s); /* first: blobs that are set aside below keep their charge */
	r = fans_each(s, scan_folder, &rec);
	if (r == 0)
		r = recover_incoming(&rec);
	count_used(s, journals_scan(s));
	return r;
}

/* --- every blob, for a rebuild --- */

struct each {
	struct store *store;
	int (*visit)(void *ctx, const struct blob_meta *meta);
	void *ctx;
	uint64_t hash_budget;
};

static int visit_sidecar(struct each *e, const struct digest *sha256)
{
	struct store *s = e->store;
	struct blob_meta meta;
	uint64_t size;
	int r;

	if (fan_stat(&s->blobs, sha256, &size) < 0)
		return 0;
	r = sidecar_read(s, sha256, &meta);
	if (r == -EBADMSG) { /* the sidecar has rotted, the blob perhaps not */
		r = blob_file_check(s, sha256, &e->hash_budget, &meta);
		if (r == 0)
			r = sidecar_restore(s, &meta);
	}
	return r == 0 && meta.size == size ? e->visit(e->ctx, &meta) : 0;
}

static int each_folder(void *ctx, unsigned ab, unsigned cd)
{
	struct each *e = ctx;
	SCOPED_NAMES names;
	char folder[FAN_DIR_TEXT];
	struct digest d;
	int r;

	(void)snprintf(folder, sizeof(folder), "%02x/%02x", ab & 0xff, cd & 0xff);
	r = names_read(e->store->meta.fd, folder, &names);
	if (r < 0)
		log_warning("store", "a folder of sidecars cannot be read: what is in it is left out",
			    LOG_TEXT("folder", folder), LOG_ERR("error", r), LOG_END);
	r = 0;
	for (size_t i = 0; i < names.count && r == 0; i++)
		if (fan_name_parse(names.at[i], ab, cd, &d))
			r = visit_sidecar(e, &d);
	return r;
}

int store_blob_each(struct store *s, int (*visit)(void *ctx, const struct blob_meta *meta), void *ctx)
{
	struct each e = { .store = s, .visit = visit, .ctx = ctx, .hash_budget = HASH_BYTES_MAX };

	return fans_each(s, each_folder, &e);
}
