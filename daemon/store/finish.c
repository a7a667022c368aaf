/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/finish - a complete and verified part becomes a blob.
 *
 * Threads   keeper.
 * Promises  (1) 0 means durable: bytes, sidecar, both names.
 *           (2) whatever it returns, the part has left the books and its reservation is used bytes, or free.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>

#include "common/path.h"

#include "common/banned.h"

static int name_part(struct store *s, struct part *p, const struct blob_meta *meta, bool *ret_was_there)
{
	struct naming n = { .meta = *meta, .fd = p->fd };

	if (part_is_broken(p))
		return -EIO;
	part_file_name(p->key, ".part", n.from);
	name_blobs(s, &n, 1);
	*ret_was_there = n.was_there;
	return n.result;
}

int store_finish_part(struct store *s, struct part *p, const struct blob_meta *meta)
{
	bool was_there = false;
	int r;

	assert(p->store == s);
	assert(meta->size == p->id.size);
	assert(part_is_complete(p));
	if (!part_begin_leaving(p))
		return -ECANCELED; /* dropped meanwhile */
	claim_take(s, digest_str(&meta->sha256));
	r = name_part(s, p, meta, &was_there);
	(void)part_unlink(s, p->key); /* the map; with an error, or when the blob was there, also the bytes */
	if (r == 0 && !was_there) {
		lock_take(&s->lock);
		s->objects++;
		lock_drop(&s->lock);
		part_end_leaving(p, blob_charge(p->id.size), 0);
	} else {
		part_end_leaving(p, 0, 0);
	}
	claim_drop(s, digest_str(&meta->sha256));
	return r == -EDQUOT ? -ENOSPC : r;
}
