/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/lfs - what the handlers of Git-LFS share: how they ask, and how they say no.
 */
#pragma once
#include "hub/lfs_text.h"
#include "hub/priv.h"

#define BATCH_BYTES_MAX (64 * 1024 * 1024)

/* The last step of every reply: git-lfs sends its token after a Basic challenge only, and shows "message" of JSON only. */
int lfs_finish(struct reply *r);
/* All: 0 with a reply. */
int lfs_fail(struct request *q, int error, struct str detail, struct reply *r);
int lfs_pass_error(const struct answer *a, struct reply *r);

/* "/acme/pub.git/info/lfs/objects/": where the Hub has it. *out is initialised here, the caller's. */
void lfs_objects_path(struct str repo, struct buf *out);
/*
 * Asks for a download and learns what is given. what: makes this question of this subject about this repo another than the
 * others. As request_ask().
 */
int lfs_ask(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
	    const struct digest *what, struct str body, const struct answer **ret_answer);

/* lfs_upload.c: an upload, and what only upstream understands. 0 with a reply, or -EAGAIN. */
int lfs_pass_batch(struct hub *h, struct request *q, struct str repo, struct reply *r);
