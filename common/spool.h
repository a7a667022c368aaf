/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool - bytes that come once and are needed more than once: a request's body that is looked at, hashed and sent on, maybe
 * twice. In memory while it is short, then in a file without a name.
 *
 * Owns      its memory, its file (which is gone with the last reference, and with the process).
 * Threads   spool_append() and spool_end() from one thread; after spool_end() everything else from any.
 * Promises  (1) memory is bounded by memory_max, whatever comes. (2) nothing is left on disk after a crash.
 */
#pragma once
#include "common/hash.h"

struct spool;

/*
 * folder      where the file goes when one is needed; borrowed until spool_end()
 * memory_max  how much stays in memory
 * bytes_max   how much may come
 */
struct spool *spool_new(const char *folder, size_t memory_max, uint64_t bytes_max);
struct spool *spool_ref(struct spool *s);
struct spool *spool_unref(struct spool *s); /* returns NULL */
/* Returns 0; -E2BIG over bytes_max; -ENOSPC, -EIO and the like. An error stays. */
int spool_append(struct spool *s, const void *bytes, size_t len);
/* Nothing more comes. Returns 0, or the error that stayed. */
int spool_end(struct spool *s);

/* --- after spool_end() --- */
uint64_t spool_size(const struct spool *s);
const struct digest *spool_sha256(const struct spool *s);
/* How many bytes from offset on were copied; 0 at the end; -EIO. */
ssize_t spool_read(const struct spool *s, uint64_t offset, void *bytes, size_t len_max);
/* All of it, borrowed for the spool's life. Returns 0; -ENOMEM it cannot be mapped. */
int spool_text(struct spool *s, struct str *ret_text);
DEFINE_SCOPE(struct spool *, spool_unref);
