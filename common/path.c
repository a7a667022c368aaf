/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path - file-system calls as the store needs them.
 *
 * Owns      nothing; descriptors it opens are the caller's.
 * Never     follows a symlink in a name relative to a directory descriptor. fs_open_dir() does: that path is
 *           the administrator's, and systemd itself makes state folders symlinks.
 * Threads   any; all of it may wait for the disk.
 */
#include "common/path.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "common/alloc.h"
#include "common/hash.h"

#include "common/banned.h"

#define FOLDER_MODE 0700

int fs_open(int dir_fd, const char *name, int flags, mode_t mode)
{
	int fd;

	do
		fd = openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static int open_folder(const char *path)
{
	int fd;

	do
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* Makes path's folders from the top, cutting it at each '/' in turn; restores it. */
static int make_folders(char *path)
{
	for (char *p = path + 1;; p++) {
		char cut_off = *p;
		int r;

		if (cut_off && cut_off != '/')
			continue;
		*p = 0;
		r = mkdir(path, FOLDER_MODE);
		*p = cut_off;
		if (r < 0 && errno != EEXIST)
			return -errno;
		if (!cut_off)
			return 0;
	}
}

int fs_open_dir(const char *path)
{
	SCOPED_FREE char *copy = NULL;
	int fd = open_folder(path);
	int r;

	if (fd != -ENOENT || !path[0])
		return fd;
	copy = xstrdup(path);
	r = make_folders(copy);
	if (r < 0)
		return r;
	return open_folder(path);
}

int fs_make_dir(int dir_fd, const char *name)
{
	struct stat st;

	if (mkdirat(dir_fd, name, FOLDER_MODE) == 0)
		return 1;
	if (errno != EEXIST)
		return -errno;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int fs_write_all(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len) {
		ssize_t put = write(fd, at, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += put;
		len -= (size_t)put;
	}
	return 0;
}

int fs_pwrite_all(int fd, const void *bytes, size_t len, uint64_t offset)
{
	const char *at = bytes;

	while (len) {
		ssize_t put = pwrite(fd, at, len, (off_t)offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += put;
		len -= (size_t)put;
		offset += (uint64_t)put;
	}
	return 0;
}

int fs_pread_all(int fd, void *bytes, size_t len, uint64_t offset)
{
	char *at = bytes;

	while (len) {
		ssize_t got = pread(fd, at, len, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -ENODATA;
		at += got;
		len -= (size_t)got;
		offset += (uint64_t)got;
	}
	return 0;
}

/* Reads to the end rather than to st_size: files in /proc and /sys say 0. */
static int read_to_end(int fd, struct buf *ret_bytes)
{
	char chunk[16 * 1024];
	ssize_t got;

	for (;;) {
		int r;

		got = read(fd, chunk, sizeof(chunk));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return 0;
		r = buf_append(ret_bytes, chunk, (size_t)got);
		if (r < 0)
			return r;
	}
}

int fs_read_file(int dir_fd, const char *name, struct buf *ret_bytes)
{
	/* O_NONBLOCK: a pipe that somebody put there must not hold us */
	SCOPED_FD int fd = fs_open(dir_fd, name, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return read_to_end(fd, ret_bytes);
}

int fs_sync(int fd)
{
	int r;

	do
		r = fsync(fd);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int fs_sync_dir(int dir_fd, const char *name)
{
	SCOPED_FD int fd = -1;

	if (!name)
		return fs_sync(dir_fd);
	fd = fs_open(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
	return fd < 0 ? fd : fs_sync(fd);
}

static int write_new_file(int dir_fd, const char *name, const void *bytes, size_t len, mode_t mode)
{
	SCOPED_FD int fd = fs_open(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, mode);
	int r;

	if (fd < 0)
		return fd;
	r = fs_write_all(fd, bytes, len);
	if (r < 0)
		return r;
	return fs_sync(fd);
}

int fs_replace_file(int dir_fd, const char *name, const void *bytes, size_t len, mode_t mode)
{
	char temporary[NAME_MAX + 1];
	uint64_t random;
	int r;

	random_bytes(&random, sizeof(random));
	r = snprintf(temporary, sizeof(temporary), "%s.tmp-%016" PRIx64, name, random);
	if (r < 0 || (size_t)r >= sizeof(temporary))
		return -ENAMETOOLONG;
	r = write_new_file(dir_fd, temporary, bytes, len, mode);
	if (r == 0 && renameat(dir_fd, temporary, dir_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, temporary, 0); /* the first error is the one to report */
	return r;
}

int fs_unlink(int dir_fd, const char *name)
{
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

int fs_room(int fd, uint64_t *ret_free, uint64_t *ret_total)
{
	struct statvfs st;
	int r;

	do
		r = fstatvfs(fd, &st);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	*ret_free = (uint64_t)st.f_bavail * st.f_frsize;
	*ret_total = (uint64_t)st.f_blocks * st.f_frsize;
	return 0;
}
