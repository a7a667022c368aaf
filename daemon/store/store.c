/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store - opening and closing; the format, the lock, the key.
 *
 * Never     writes a byte into a folder before it is known to be ours, or empty (M06).
 * Threads   open and close: main, with no other thread in the room.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

#include "common/alloc.h"
#include "common/path.h"

#include "common/banned.h"

#define FORMAT_FILE "FORMAT"
#define FORMAT_LINE STR("hfcached store 1\n")
#define FORMAT_FAMILY STR("hfcached store ")
#define FORMAT_BYTES_MAX 256
#define KEY_BYTES 32
#define INDEX_FILE "index.db"

static int say(const char **ret_reason, const char *reason, int r)
{
	*ret_reason = reason;
	return r;
}

static int explain_open(int r, const char **ret_reason)
{
	switch (r) {
	case -ENOTDIR:
		return say(ret_reason, "storage.path names a file: name a folder", r);
	case -EACCES:
	case -EPERM:
		return say(
			ret_reason,
			"storage.path cannot be made or read by this user: chown it, or name another folder",
			r);
	case -EROFS:
		return say(ret_reason,
			   "storage.path lies on a read-only file system: remount it, or name another folder",
			   r);
	case -ENOSPC:
	case -EDQUOT:
		return say(ret_reason, "storage.path cannot be made: its disk or quota is full", r);
	default:
		return say(ret_reason, "storage.path cannot be opened", r);
	}
}

static int explain_write(int r, const char **ret_reason)
{
	switch (r) {
	case -EACCES:
	case -EPERM:
		return say(
			ret_reason,
			"storage.path cannot be written by this user: chown -R it to the user of the daemon",
			r);
	case -EROFS:
		return say(ret_reason,
			   "storage.path lies on a read-only file system: remount it, or name another folder",
			   r);
	case -ENOSPC:
	case -EDQUOT:
		return say(ret_reason, "the disk or quota under storage.path is full: free some bytes", r);
	case -ENOTDIR:
	case -ELOOP:
		return say(ret_reason,
			   "a folder under storage.path is a file or a symbolic link: move it away", r);
	default:
		return say(ret_reason, "storage.path cannot be written", r);
	}
}

/* M03: others who can write here could swap what we serve. */
static int check_owner(int root_fd, const char **ret_reason)
{
	struct stat st;

	if (fstat(root_fd, &st) < 0)
		return explain_open(-errno, ret_reason);
	if (st.st_mode & S_IWOTH)
		return say(ret_reason, "every user may write to storage.path: chmod 700 it", -EACCES);
	if (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() != 0)
		return say(ret_reason,
			   "storage.path belongs to another user: chown it to the user of the daemon",
			   -EACCES);
	return 0;
}

/* Names that a start which was cut off before FORMAT may leave, or that a file system makes itself. */
static bool is_harmless(const char *name)
{
	return name[0] == '.' || strcmp(name, "lock") == 0 || strcmp(name, "lost+found") == 0 ||
	       str_starts_with(str_from(name), STR(FORMAT_FILE ".tmp-"));
}

static int check_empty(int root_fd, const char **ret_reason)
{
	SCOPED_NAMES names;
	int r = names_read(root_fd, ".", &names);

	if (r < 0)
		return explain_open(r, ret_reason);
	for (size_t i = 0; i < names.count; i++)
		if (!is_harmless(names.at[i]))
			return say(ret_reason,
				   "storage.path holds files but no FORMAT, so it is not a store: name an "
				   "empty folder",
				   -EPROTO);
	return 0;
}

/* Returns 1 our store; 0 a folder where one can be made. */
static int check_format(int root_fd, const char **ret_reason)
{
	SCOPED_BUF text;
	int r;

	buf_init(&text, FORMAT_BYTES_MAX);
	r = fs_read_file(root_fd, FORMAT_FILE, &text);
	if (r == -ENOENT)
		return check_empty(root_fd, ret_reason);
	if (r == -EACCES)
		return explain_open(r, ret_reason);
	if (r == 0 && str_starts_with(buf_str(&text), FORMAT_LINE))
		return 1;
	if (r == 0 && str_starts_with(buf_str(&text), FORMAT_FAMILY))
		return say(ret_reason,
			   "storage.path was made by a newer hfcached (this one knows format 1): upgrade, or "
			   "name another folder",
			   -EPROTO);
	return say(ret_reason, "the file FORMAT under storage.path is not of hfcached: name another folder",
		   -EPROTO);
}

static int take_lock(struct store *s, const char **ret_reason)
{
	s->lock_fd = fs_open(s->root_fd, "lock", O_RDWR | O_CREAT, 0600);
	if (s->lock_fd < 0)
		return explain_write(s->lock_fd, ret_reason);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return say(ret_reason, "another hfcached uses storage.path: stop it, or name another folder",
			   -EBUSY);
	return say(ret_reason,
		   "the file lock under storage.path cannot be locked: does its file system know flock()?",
		   -errno);
}

static int make_format(int root_fd)
{
	uint8_t random[16];
	char text[FORMAT_BYTES_MAX], uuid[2 * sizeof(random) + 1];
	int len;

	random_bytes(random, sizeof(random));
	format_hex(random, sizeof(random), uuid);
	len = snprintf(text, sizeof(text), "%s%.8s-%.4s-%.4s-%.4s-%s\n", FORMAT_LINE.ptr, uuid, uuid + 8,
		       uuid + 12, uuid + 16, uuid + 20);
	assert(len > 0 && (size_t)len < sizeof(text));
	return fs_replace_file(root_fd, FORMAT_FILE, text, (size_t)len, 0600);
}

/* A key that is lost or cut makes every grant worthless, which is the safe side: all is proved again. */
static int read_key(struct store *s)
{
	SCOPED_BUF key;
	int r;

	buf_init(&key, KEY_BYTES);
	r = fs_read_file(s->root_fd, "key", &key);
	if (r == 0 && key.len == KEY_BYTES) {
		memcpy(s->key, key.bytes, KEY_BYTES);
		secret_wipe(key.bytes, KEY_BYTES);
		return fchmodat(s->root_fd, "key", 0600, 0) < 0 ? -errno : 0;
	}
	if (r < 0 && r != -ENOENT && r != -E2BIG)
		return r;
	random_bytes(s->key, KEY_BYTES);
	r = fs_replace_file(s->root_fd, "key", s->key, KEY_BYTES, 0600);
	if (r == 0 && fchmodat(s->root_fd, "key", 0600, 0) < 0)
		r = -errno;
	return r;
}

static int open_folder(struct store *s, const char *name, int *ret_fd)
{
	int fd, r = make_dir(s->root_fd, name);

	if (r < 0)
		return r;
	fd = fs_open(s->root_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

/* An open folder of another user that cannot be written shows here, not at the first fill. */
static int probe(struct store *s)
{
	char name[INCOMING_NAME_TEXT];
	int fd = make_temporary(s, name);

	if (fd < 0)
		return fd;
	(void)close(fd);
	return fs_unlink(s->incoming_fd, name);
}

static int open_contents(struct store *s)
{
	int r;

	if ((r = open_folder(s, "blobs", &s->blobs.fd)) < 0 ||
	    (r = open_folder(s, "meta", &s->meta.fd)) < 0 ||
	    (r = open_folder(s, "incoming", &s->incoming_fd)) < 0 ||
	    (r = open_folder(s, "journal", &s->journal_fd)) < 0 ||
	    (r = open_folder(s, "quarantine", &s->quarantine_fd)) < 0)
		return r;
	r = read_key(s);
	if (r < 0)
		return r;
	r = probe(s);
	if (r < 0)
		return r;
	return fs_sync_dir(s->root_fd, NULL);
}

static int open_locked_store(struct store *s, const char **ret_reason)
{
	int r = check_owner(s->root_fd, ret_reason);

	if (r < 0)
		return r;
	r = check_format(s->root_fd, ret_reason);
	if (r < 0)
		return r;
	r = take_lock(s, ret_reason);
	if (r < 0)
		return r;
	r = check_format(s->root_fd, ret_reason); /* again: another may have made it before we had the lock */
	if (r < 0)
		return r;
	if (r == 0)
		r = make_format(s->root_fd);
	if (r >= 0)
		r = open_contents(s);
	return r < 0 ? explain_write(r, ret_reason) : 0;
}

static struct store *store_new(const struct store_opts *opts)
{
	struct store *s = xcalloc(1, sizeof(*s));

	s->root_fd = s->lock_fd = s->incoming_fd = s->journal_fd = s->quarantine_fd = s->blobs.fd =
		s->meta.fd = -1;
	s->size_max = opts->size_max;
	s->disk_reserve = opts->disk_reserve;
	s->metrics = opts->metrics;
	s->clock = opts->clock;
	lock_init(&s->lock, LOCK_STORE);
	(void)pthread_cond_init(&s->freed, NULL);
	s->claims = map_new();
	s->by_digest = map_new();
	s->parts = map_new();
	s->idle_parts = map_new();
	list_init(&s->idle_files.list);
	list_init(&s->idle_memory.list);
	list_init(&s->pending);
	return s;
}

int store_open(const struct store_opts *opts, struct store **ret_store, const char **ret_reason)
{
	struct store *s = store_new(opts);
	SCOPED_FREE char *real_path = NULL;
	int r;

	s->root_fd = fs_open_dir(opts->path);
	if (s->root_fd < 0) {
		r = explain_open(s->root_fd, ret_reason);
	} else {
		real_path = realpath(opts->path, NULL); /* the program may change its folder later */
		s->index_path = xasprintf("%s/" INDEX_FILE, real_path ? real_path : opts->path);
		r = open_locked_store(s, ret_reason);
	}
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret_store = s;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd); /* folders, and the lock: nothing to lose */
}

static void close_contents(struct store *s)
{
	(void)store_flush_pending(s, NULL, NULL); /* what cannot be written is lost, as the door says */
	(void)store_check_writable(s);
	blobs_close(s);
	assert(map_count(s->parts) == 0); /* every part was given back */
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->quarantine_fd >= 0)
		close_contents(s);
	map_free(s->idle_parts, free);
	map_free(s->parts, NULL);
	map_free(s->by_digest, NULL);
	map_free(s->claims, NULL);
	close_fd(s->blobs.fd);
	close_fd(s->meta.fd);
	close_fd(s->incoming_fd);
	close_fd(s->journal_fd);
	close_fd(s->quarantine_fd);
	close_fd(s->root_fd);
	close_fd(s->lock_fd);
	(void)pthread_cond_destroy(&s->freed);
	lock_done(&s->lock);
	secret_wipe(s->key, sizeof(s->key));
	free(s->index_path);
	free(s);
}

const char *store_index_path(const struct store *s)
{
	return s->index_path;
}

void store_subject_key(const struct store *s, uint8_t ret_key[32])
{
	memcpy(ret_key, s->key, KEY_BYTES);
}

int store_check_writable(struct store *s)
{
	char text[32];
	int r, len = snprintf(text, sizeof(text), "%lld\n", (long long)clock_wall_s(s->clock));

	r = fs_replace_file(s->incoming_fd, ALIVE_FILE, text, (size_t)len, 0600);
	if (r < 0)
		return store_error(s, r);
	return store_is_failing(s) ? -EIO : 0;
}
