/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool - see the header. The file is made when the first byte does not fit in memory any more; what is in memory then moves
 * there, so that the bytes are always in one place.
 */
#include "common/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "common/alloc.h"
#include "common/buf.h"

#include "common/banned.h"

struct spool {
	_Atomic int refs;
	const char *folder; /* borrowed until the end */
	size_t memory_max;
	uint64_t bytes_max, size;
	struct buf memory; /* all of it, while fd is -1 */
	int fd;            /* owned */
	int error;
	struct hasher *hasher; /* owned until the end */
	struct digest sha256;
	_Atomic(void *) map; /* owned, size bytes; set once */
};

struct spool *spool_new(const char *folder, size_t memory_max, uint64_t bytes_max)
{
	struct spool *s = xcalloc(1, sizeof(*s));

	s->refs = 1;
	s->folder = folder;
	s->memory_max = memory_max;
	s->bytes_max = bytes_max;
	s->fd = -1;
	buf_init(&s->memory, memory_max);
	s->hasher = hasher_new(0, false);
	return s;
}

struct spool *spool_ref(struct spool *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

struct spool *spool_unref(struct spool *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
		return NULL;
	if (s->map)
		(void)munmap(s->map, (size_t)s->size);
	if (s->fd >= 0)
		(void)close(s->fd);
	buf_done(&s->memory);
	hasher_free(s->hasher);
	free(s);
	return NULL;
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int move_to_file(struct spool *s)
{
	int r;

	s->fd = open(s->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->fd < 0)
		return -errno;
	r = write_all(s->fd, s->memory.bytes, s->memory.len);
	buf_done(&s->memory);
	buf_init(&s->memory, 0);
	return r;
}

static int append(struct spool *s, const void *bytes, size_t len)
{
	int r = 0;

	if (len > s->bytes_max - s->size)
		return -E2BIG;
	if (s->fd < 0 && len <= s->memory_max - s->memory.len)
		return buf_append(&s->memory, bytes, len);
	if (s->fd < 0)
		r = move_to_file(s);
	return r < 0 ? r : write_all(s->fd, bytes, len);
}

int spool_append(struct spool *s, const void *bytes, size_t len)
{
	if (s->error == 0)
		s->error = append(s, bytes, len);
	if (s->error < 0)
		return s->error;
	hasher_update(s->hasher, bytes, len);
	s->size += len;
	return 0;
}

int spool_end(struct spool *s)
{
	s->folder = NULL;
	hasher_final(s->hasher, &s->sha256, NULL);
	return s->error;
}

uint64_t spool_size(const struct spool *s)
{
	return s->size;
}

const struct digest *spool_sha256(const struct spool *s)
{
	return &s->sha256;
}

ssize_t spool_read(const struct spool *s, uint64_t offset, void *bytes, size_t len_max)
{
	ssize_t n;

	if (offset >= s->size)
		return 0;
	if (len_max > s->size - offset)
		len_max = (size_t)(s->size - offset);
	if (s->fd < 0) {
		memcpy(bytes, s->memory.bytes + offset, len_max);
		return (ssize_t)len_max;
	}
	do
		n = pread(s->fd, bytes, len_max, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n > 0 ? n : -EIO;
}

int spool_text(struct spool *s, struct str *ret_text)
{
	void *map, *first = NULL;

	if (s->fd < 0) {
		*ret_text = buf_str(&s->memory);
		return 0;
	}
	map = atomic_load(&s->map);
	if (!map) {
		map = mmap(NULL, (size_t)s->size, PROT_READ, MAP_PRIVATE, s->fd, 0);
		if (map == MAP_FAILED)
			return -ENOMEM;
		if (!atomic_compare_exchange_strong(&s->map, &first, map)) {
			(void)munmap(map, (size_t)s->size); /* somebody else was quicker */
			map = first;
		}
	}
	*ret_text = (struct str){ map, (size_t)s->size };
	return 0;
}
