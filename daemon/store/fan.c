/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/fan - two levels of folders, ab/cd, under blobs/ and meta/: 65536 of them, so that none grows large.
 *
 * Owns      which of these folders are known to be durable themselves: each is synced once in a life of the program,
 *           with those above it, also when it was there before, for whoever made it may have been killed before the sync.
 * Threads   any.
 */
#include "store/priv.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/path.h"

#include "common/banned.h"

static void fan_dirs(const struct digest *d, char ret_ab[3], char ret_abcd[FAN_DIR_TEXT])
{
	(void)snprintf(ret_ab, 3, "%02x", d->bytes[0]);
	(void)snprintf(ret_abcd, FAN_DIR_TEXT, "%02x/%02x", d->bytes[0], d->bytes[1]);
}

void fan_path(const struct digest *d, char ret_path[FAN_PATH_TEXT])
{
	(void)snprintf(ret_path, FAN_PATH_TEXT, "%02x/%02x/", d->bytes[0], d->bytes[1]);
	format_hex(d->bytes, SHA256_BYTES, ret_path + FAN_DIR_TEXT);
}

static unsigned folder_number(const struct digest *d)
{
	return (unsigned)d->bytes[0] << 8 | d->bytes[1];
}

static void set_synced(struct store *s, struct fan *f, unsigned number, bool is_synced)
{
	SCOPED_LOCK(&s->lock);

	if (is_synced)
		f->synced[number / 8] |= (uint8_t)(1u << number % 8);
	else
		f->synced[number / 8] &= (uint8_t) ~(1u << number % 8);
}

static bool is_synced(struct store *s, struct fan *f, unsigned number)
{
	SCOPED_LOCK(&s->lock);

	return f->synced[number / 8] >> number % 8 & 1;
}

/* As fs_make_dir(), with the mode whatever the umask is. */
int make_dir(int dir_fd, const char *name)
{
	int r = fs_make_dir(dir_fd, name);

	if (r == 1 && fchmodat(dir_fd, name, 0700, 0) < 0)
		return -errno;
	return r;
}

int fan_make(struct store *s, struct fan *f, const struct digest *d)
{
	char ab[3], abcd[FAN_DIR_TEXT];
	int r;

	fan_dirs(d, ab, abcd);
	r = make_dir(f->fd, abcd);
	if (r == -ENOENT) {
		r = make_dir(f->fd, ab);
		if (r >= 0)
			r = make_dir(f->fd, abcd);
	}
	if (r < 0)
		return store_error(s, r);
	if (r == 1)
		set_synced(s, f, folder_number(d), false);
	return 0;
}

int fan_sync(struct store *s, struct fan *f, const struct digest *d)
{
	char ab[3], abcd[FAN_DIR_TEXT];
	int r;

	fan_dirs(d, ab, abcd);
	r = fs_sync_dir(f->fd, abcd);
	if (r < 0)
		return store_error(s, r);
	if (is_synced(s, f, folder_number(d)))
		return 0;
	r = fs_sync_dir(f->fd, ab);
	if (r == 0)
		r = fs_sync_dir(f->fd, NULL);
	if (r < 0)
		return store_error(s, r);
	set_synced(s, f, folder_number(d), true);
	return 0;
}

int fan_stat(const struct fan *f, const struct digest *d, uint64_t *ret_size)
{
	char path[FAN_PATH_TEXT];
	struct stat st;

	fan_path(d, path);
	if (fstatat(f->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

bool fan_name_parse(const char *name, unsigned ab, unsigned cd, struct digest *ret_digest)
{
	struct digest d;

	if (!str_is_lower_hex(str_from(name)) || parse_hex(str_from(name), d.bytes, SHA256_BYTES) < 0)
		return false;
	if (d.bytes[0] != ab || d.bytes[1] != cd)
		return false;
	*ret_digest = d;
	return true;
}

/* --- reading folders --- */

void names_done(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->at[i]);
	free(n->at);
	*n = (struct names){ .at = NULL };
}

static void names_add(struct names *n, size_t *room, const char *name)
{
	if (n->count == *room) {
		*room = *room ? 2 * *room : 16;
		n->at = xrealloc(n->at, *room * sizeof(*n->at));
	}
	n->at[n->count++] = xstrdup(name);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_all(DIR *dir, struct names *n)
{
	size_t room = 0;
	struct dirent *e;

	while (errno = 0, (e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			names_add(n, &room, e->d_name);
	return errno ? -errno : 0;
}

int names_read(int dir_fd, const char *name, struct names *ret_names)
{
	struct names n = { .at = NULL };
	int fd = fs_open(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
	DIR *dir;
	int r;

	*ret_names = n;
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	r = read_all(dir, &n);
	(void)closedir(dir);
	if (r < 0) {
		names_done(&n);
		return r;
	}
	if (n.count)
		qsort(n.at, n.count, sizeof(*n.at), compare_names);
	*ret_names = n;
	return 0;
}

/* Names of folders "00" to "ff" become marks. */
static void mark_folders(const struct fan *f, const char *folder, bool ret_is_there[256])
{
	SCOPED_NAMES names;
	uint8_t number;
	int r = names_read(f->fd, folder, &names);

	if (r < 0)
		log_warning("store", "a folder of the store cannot be read: what is in it is left out",
			    LOG_TEXT("folder", folder), LOG_ERR("error", r), LOG_END);
	for (size_t i = 0; i < names.count; i++)
		if (str_is_lower_hex(str_from(names.at[i])) &&
		    parse_hex(str_from(names.at[i]), &number, 1) == 0)
			ret_is_there[number] = true;
}

static int each_below(struct store *s, unsigned ab, int (*visit)(void *ctx, unsigned ab, unsigned cd),
		      void *ctx)
{
	bool is_there[256] = { false };
	char folder[3];
	int r = 0;

	format_hex(&(uint8_t){ (uint8_t)ab }, 1, folder);
	mark_folders(&s->blobs, folder, is_there);
	mark_folders(&s->meta, folder, is_there);
	for (unsigned cd = 0; cd < 256 && r == 0; cd++)
		if (is_there[cd])
			r = visit(ctx, ab, cd);
	return r;
}

int fans_each(struct store *s, int (*visit)(void *ctx, unsigned ab, unsigned cd), void *ctx)
{
	bool is_there[256] = { false };
	int r = 0;

	mark_folders(&s->blobs, ".", is_there);
	mark_folders(&s->meta, ".", is_there);
	for (unsigned ab = 0; ab < 256 && r == 0; ab++)
		if (is_there[ab])
			r = each_below(s, ab, visit, ctx);
	return r;
}
