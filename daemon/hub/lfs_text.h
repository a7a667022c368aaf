/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/lfs_text - the texts of Git-LFS: what a batch asks, what upstream answers, and the edit between the two. Pure.
 *
 * Owns      nothing beyond a call.
 * Never     believes a name of bytes that is no lower case SHA-256.
 * Threads   any. Foreign bytes: fuzzed (tests/fuzz/fuzz_lfs.c).
 */
#pragma once
#include "common/buf.h"
#include "common/hash.h"

#define LFS_JSON_TYPE "application/vnd.git-lfs+json"

struct lfs_wanted {
	struct digest oid;
	uint64_t size;
};
struct lfs_question {
	enum lfs_operation {
		LFS_OTHER,    /* only upstream can say something to it */
		LFS_DOWNLOAD, /* of SHA-256 names */
		LFS_UPLOAD,
	} operation;
	struct lfs_wanted *objects; /* owned; those of a download that can be read */
	size_t count;
	bool is_plain;           /* all of them can */
	struct str ref, written; /* as the client wrote them, borrowed from the text: "ref", "objects" */
};
/* Always answers; what cannot be read is LFS_OTHER. lfs_question_done() in any case. */
void lfs_question_read(struct str text, struct lfs_question *ret_question);
void lfs_question_done(struct lfs_question *q);
/* The same question to upstream, for the one way of transfer that is served here. Returns 0; -E2BIG. */
int lfs_question_write(const struct lfs_question *q, struct buf *out);
/* For one object; size 0 when nobody knows it. */
int lfs_question_write_one(const struct digest *oid, uint64_t size, struct buf *out);

/* One object of an answer to a download; strings are borrowed for the visit. */
struct lfs_given {
	struct digest oid;
	uint64_t size;
	struct str href;    /* ptr NULL: it is not given */
	int64_t expires_at; /* wall clock; INT64_MAX: it does not say */
	int error_code;     /* 400 to 599, or 0 */
	struct str error_message;
};
/*
 * Visits the objects whose name and size can be read, in order; visit non-zero stops and is returned.
 * Returns 0; -EINVAL: no answer to a download in the basic way.
 */
int lfs_answer_each(struct str text, int64_t now, int (*visit)(void *ctx, const struct lfs_given *given),
		    void *ctx);
/*
 * Copies the answer; the href of each download becomes what url() appends for its object (size 0: it does not say), and the
 * fields that were to go with upstream's are left out. All other bytes stay. Returns 0; -EINVAL; -E2BIG.
 */
int lfs_answer_edit(struct str text, void (*url)(void *ctx, const struct lfs_wanted *object, struct buf *out),
		    void *ctx, struct buf *out);

/* "2026-11-25T12:00:00.5+01:00" (RFC 3339) as wall clock. Returns 0 or -EINVAL. */
int lfs_time_parse(struct str s, int64_t *ret_at);
