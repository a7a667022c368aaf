/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_hook - see the header.
 */
#include "store_hook.h"

#include <sys/syscall.h>

struct hook hook;

static void note(enum call call, int fd, const char *name)
{
	char link[64], *ret = hook.names[hook.log_count];
	ssize_t len;

	if (hook.log_count == 256)
		return;
	hook.calls[hook.log_count++] = call;
	if (name) {
		(void)snprintf(ret, sizeof(hook.names[0]), "%s", name);
		return;
	}
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, ret, sizeof(hook.names[0]) - 1);
	ret[len > 0 ? len : 0] = 0;
}

static bool fails(enum call call, int fd, const char *name)
{
	if (!hook.is_on || !(hook.only >> call & 1))
		return false;
	if (hook.log)
		note(call, fd, name);
	if (++hook.count != hook.at)
		return false;
	if (hook.kills)
		_exit(99);
	errno = hook.error;
	return true;
}

#ifdef __USE_FILE_OFFSET64
#define WIDE "64"
#else
#define WIDE ""
#endif
#define CATCH(result, name, symbol, parameters, enumerator, fd, text, ...)                                   \
	result caught_##name parameters __asm__(symbol);                                                     \
	result caught_##name parameters                                                                      \
	{                                                                                                    \
		if (fails(enumerator, fd, text))                                                             \
			return -1;                                                                           \
		return (result)syscall(SYS_##name, __VA_ARGS__);                                             \
	}

/* A killed process loses nothing that the kernel has: what these two wait for does not matter here, and takes minutes. */
int caught_fsync(int fd) __asm__("fsync");
int caught_fsync(int fd)
{
	return fails(CALL_FSYNC, fd, NULL) ? -1 : 0;
}

int caught_fdatasync(int fd) __asm__("fdatasync");
int caught_fdatasync(int fd)
{
	return fails(CALL_FDATASYNC, fd, NULL) ? -1 : 0;
}

CATCH(ssize_t, write, "write", (int fd, const void *b, size_t n), CALL_WRITE, fd, NULL, fd, b, n)
CATCH(int, renameat, "renameat", (int a, const char *from, int b, const char *to), CALL_RENAMEAT, b, to, a,
      from, b, to)
CATCH(int, renameat2, "renameat2", (int a, const char *from, int b, const char *to, unsigned flags),
      CALL_RENAMEAT2, b, to, a, from, b, to, flags)
CATCH(int, mkdirat, "mkdirat", (int dir, const char *name, mode_t mode), CALL_MKDIRAT, dir, name, dir, name,
      mode)
CATCH(int, fchmod, "fchmod", (int fd, mode_t mode), CALL_FCHMOD, fd, NULL, fd, mode)
CATCH(int, unlinkat, "unlinkat", (int dir, const char *name, int flags), CALL_UNLINKAT, dir, name, dir, name,
      flags)
#undef SYS_pwrite
#define SYS_pwrite SYS_pwrite64
CATCH(ssize_t, pwrite, "pwrite" WIDE, (int fd, const void *b, size_t n, off_t at), CALL_PWRITE, fd, NULL, fd,
      b, n, at)
CATCH(int, fallocate, "fallocate" WIDE, (int fd, int mode, off_t at, off_t n), CALL_FALLOCATE, fd, NULL, fd,
      mode, at, n)
CATCH(int, ftruncate, "ftruncate" WIDE, (int fd, off_t n), CALL_FTRUNCATE, fd, NULL, fd, n)

int caught_openat(int dir, const char *name, int flags, ...) __asm__("openat" WIDE);
int caught_openat(int dir, const char *name, int flags, ...)
{
	mode_t mode = 0;
	va_list args;
	int fd;

	va_start(args, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	if (fails(CALL_OPENAT, dir, name))
		return -1;
	fd = (int)syscall(SYS_openat, dir, name, flags, mode);
	if (hook.meet && strcmp(name, hook.meet) == 0 && ++hook.meet_count == 2) {
		hook.meet = NULL;
		hook.then();
	}
	return fd;
}

/* --- contents --- */

void make_data(struct data *d)
{
	d->body = make_bytes(BODY_LEN, 1);
	d->half = make_bytes(HALF_LEN, 2);
	d->second = make_bytes(BODY_LEN, 3);
	d->wide = make_bytes(WIDE_LEN, 5);
	d->wide_meta = meta_of(d->wide, WIDE_LEN);
	d->body_meta = meta_of(d->body, BODY_LEN);
	d->half_meta = meta_of(d->half, HALF_LEN);
	d->second_meta = meta_of(d->second, BODY_LEN);
	for (int i = 0; i < DOCS; i++) {
		int len = snprintf(d->docs[i], sizeof(d->docs[i]), "{\"doc\":%d}", i);

		d->doc_metas[i] = meta_of(d->docs[i], (size_t)len);
	}
}

void done_data(struct data *d)
{
	free(d->body);
	free(d->half);
	free(d->wide);
	free(d->second);
}
