/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight/head - does an upstream answer speak of the bytes that we want? Pure.
 *
 * Identity comes from the Hub's own hops only (design 7): a storage host's ETag can be another 64 hex digits.
 */
#pragma once
#include "common/hash.h"
#include "common/http/range.h"
#include "fetch/fetch.h"

struct head_want {
	const struct content_id *id;
	struct str commit;   /* empty: any */
	bool is_ranged;      /* the request had a Range field */
	uint64_t first, end; /* what was asked for */
};

/*
 * A hop that is the Hub's own and not a refusal: object id, size and commit, where it tells them, must be
 * ours.
 * Returns 0 or -EBADMSG.
 */
int head_check_identity(const struct fetch_head *head, const struct head_want *want);
/*
 * The final 200 or 206. ret_body is what its body holds: all of the file for 200, else what Content-Range
 * says,
 * which begins where we asked and may end earlier.
 * Returns 0 or -EBADMSG.
 */
int head_check_body(const struct fetch_head *head, const struct head_want *want, struct byte_range *ret_body);
/* The strong ETag as it stands, quotes included; empty for a weak one or none. Borrowed from the head. */
struct str head_validator(const struct fetch_head *head);
/* 0 for an answer that brings bytes or leads on; -EACCES, -ENOENT: this hop of the Hub refuses; -EAGAIN:
 * policy decides. */
int head_verdict(const struct fetch_head *head);
