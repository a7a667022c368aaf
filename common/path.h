/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path - file-system calls as the store needs them: relative to a directory descriptor, no symlinks, errors
 * as -errno.
 */
#pragma once
#include <sys/stat.h>
#include "common/buf.h"
#include "common/str.h"

/* openat with O_CLOEXEC | O_NOFOLLOW, retried on EINTR. Returns the descriptor or -errno. */
int fs_open(int dir_fd, const char *name, int flags, mode_t mode);
/* Creates the folder and those above it (mode 0700), opens it O_PATH-less read only. Absolute or relative
 * to cwd. */
int fs_open_dir(const char *path);
/* mkdirat that is content with an existing folder; returns 1 if it was created, 0 if it existed, -errno. */
int fs_make_dir(int dir_fd, const char *name);
/* All bytes or -errno. */
int fs_write_all(int fd, const void *bytes, size_t len);
int fs_pwrite_all(int fd, const void *bytes, size_t len, uint64_t offset);
/* Exactly len bytes; -ENODATA at the end of the file. */
int fs_pread_all(int fd, void *bytes, size_t len, uint64_t offset);
/* Whole file, at most the buf's maximum (-E2BIG). */
int fs_read_file(int dir_fd, const char *name, struct buf *ret_bytes);
int fs_sync(int fd);                           /* fsync */
int fs_sync_dir(int dir_fd, const char *name); /* opens, fsyncs, closes; name NULL: dir_fd itself */
/*
 * Writes name durably: temporary file, fsync, rename. The folder is not synced: do it after a group. A
 * crash may leave the
 * temporary file behind: its name is name, ".tmp-" and 16 hex digits.
 */
int fs_replace_file(int dir_fd, const char *name, const void *bytes, size_t len, mode_t mode);
/* 0 also if it was not there. */
int fs_unlink(int dir_fd, const char *name);
/* Free bytes and all bytes of the file system for the owner of fd. */
int fs_room(int fd, uint64_t *ret_free, uint64_t *ret_total);
